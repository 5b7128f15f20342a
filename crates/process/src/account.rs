//! Accounts of this machine, and work on files with an account's rights.
//!
//! The agents run as root beside servers that somebody may have broken into. In whatever a server's account can change (its data, its
//! run directory, its log, the names that it reports) a path that was looked at is another one a moment later. So nothing is looked at:
//! the kernel checks each access as if the account itself made it. What the account may do it could do without us, and more is refused.

use std::ffi::CString;
use std::io::{Error, ErrorKind, Result};

use nix::unistd::{Gid, Uid, User, getgrouplist, getgroups, setfsgid, setfsuid};
use rustix::thread::{CapabilitySet, capabilities, set_thread_groups};

use crate::DaemonError;
use crate::files::Files;

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its main group.
    pub gid: u32,
    /// All its groups.
    pub(crate) groups: Vec<Gid>,
}

impl Account {
    /// Looks a user up.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn find(name: &str) -> std::result::Result<Self, DaemonError> {
        let user = User::from_name(name)
            .map_err(|errno| DaemonError::Lookup(name.to_owned(), errno))?
            .ok_or_else(|| DaemonError::NoSuchUser(name.to_owned()))?;
        let groups = CString::new(name).ok().and_then(|c| getgrouplist(&c, user.gid).ok()).unwrap_or_else(|| vec![user.gid]);
        Ok(Self { name: name.to_owned(), uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups })
    }

    /// One whose name nobody has to know, for its own files: without the groups that it has besides.
    pub fn numbered(uid: u32, gid: u32) -> Self {
        Self { name: uid.to_string(), uid, gid, groups: vec![] }
    }

    /// Who this process runs as.
    pub fn own() -> Self {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
        Self { name, uid: uid.as_raw(), gid: gid.as_raw(), groups: getgroups().unwrap_or_default() }
    }

    /// Works on files with this account's rights and no others: what is opened, made, linked or removed is so as if the account did it.
    ///
    /// Only the calling thread has these rights, for as long as `work` runs, and they are the file system's alone: who we are for signals
    /// and for the other end of a socket stays. `work` must start neither threads nor processes.
    ///
    /// # Errors
    /// What `work` says, or that the rights cannot be taken: only root can take another's.
    pub fn act<T>(&self, work: impl FnOnce(&Files<'_>) -> Result<T>) -> Result<T> {
        let _rights = Rights::of(self)?;
        work(&Files::of(self))
    }
}

/// Without any of these the kernel looks at owner and mode.
const PAST_MODES: CapabilitySet =
    CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::DAC_READ_SEARCH).union(CapabilitySet::FOWNER);

/// The file system rights of an account, until this is dropped.
struct Rights(Option<Before>);

/// What the thread had before.
struct Before {
    user: Uid,
    group: Gid,
    groups: Vec<Gid>,
}

impl Rights {
    fn of(account: &Account) -> Result<Self> {
        let (user, group) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
        if (file_user(), file_group()) == (user, group) {
            return Ok(Self(None));
        }
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::new(ErrorKind::PermissionDenied, format!("only root can act for user {}", account.name)));
        }
        // From here on they are given back, whatever fails.
        let rights = Self(Some(Before { user: file_user(), group: file_group(), groups: getgroups()? }));
        take(user, group, &account.groups)?;
        // With the user the kernel takes what passes over modes, unless somebody told it not to (SECBIT_NO_SETUID_FIXUP).
        if !user.is_root() && capabilities(None)?.effective.intersects(PAST_MODES) {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("root's rights to files cannot be given up for those of {}", account.name),
            ));
        }
        Ok(rights)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let Some(before) = &self.0 else { return };
        if let Err(e) = take(before.user, before.group, &before.groups) {
            // Whatever came next would be done as somebody else.
            eprintln!("the rights to files cannot be taken back: {e}");
            std::process::abort();
        }
    }
}

/// Sets these of the calling thread. The system calls themselves: those of the C library change all threads where they can.
fn take(user: Uid, group: Gid, groups: &[Gid]) -> Result<()> {
    let groups: Vec<_> = groups.iter().map(|gid| rustix::process::Gid::from_raw(gid.as_raw())).collect();
    set_thread_groups(&groups)?;
    setfsgid(group);
    setfsuid(user);
    // They do not say whether they succeeded.
    if (file_user(), file_group()) == (user, group) { Ok(()) } else { Err(Error::from(ErrorKind::PermissionDenied)) }
}

/// Nobody has this number, so that it changes nothing; what holds is the answer.
fn file_user() -> Uid {
    setfsuid(Uid::from_raw(u32::MAX))
}

fn file_group() -> Gid {
    setfsgid(Gid::from_raw(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    /// An account that is nobody's, where the tests run as root.
    pub(crate) fn nobody() -> Option<Account> {
        nix::unistd::geteuid().is_root().then(|| Account { name: "stranger".into(), uid: 54_321, gid: 54_321, groups: vec![] })
    }

    #[test]
    fn a_user_that_does_not_exist_is_named() {
        let error = Account::find("no-such-user").unwrap_err();
        assert!(error.to_string().starts_with("user no-such-user does not exist"), "{error}");
    }

    #[test]
    fn who_we_are_needs_no_rights() {
        assert!(Account::own().act(|files| files.is_directory(&std::env::temp_dir())).unwrap());
    }

    #[test]
    fn nobody_but_root_acts_for_another() {
        let other = Account { name: "other".into(), uid: 1, gid: 1, groups: vec![] };
        let acted = other.act(|_| Ok(()));
        assert_eq!(acted.is_ok(), nix::unistd::geteuid().is_root());
    }

    #[test]
    fn what_is_made_belongs_to_the_account_and_root_is_root_again() {
        let Some(nobody) = nobody() else { return };
        let directory = std::env::temp_dir().join(format!("systole-act-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("secret"), "hunter2").unwrap();
        std::fs::set_permissions(directory.join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let groups = getgroups().unwrap();
        assert!(nobody.act(|files| files.read(&directory.join("secret"), 9)).is_err(), "a file of root's was read");
        assert!(nobody.act(|files| files.remove(&directory.join("secret"))).is_err(), "a file of root's was removed");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
        nobody.act(|files| files.make_directories(&directory.join("a/b"))).unwrap();
        let made = std::fs::metadata(directory.join("a/b")).unwrap();
        assert_eq!((made.uid(), made.gid()), (54_321, 54_321));
        // One for another, and back.
        let other = Account { uid: 54_322, ..nobody.clone() };
        nobody
            .act(|_| {
                other.act(|_| Ok(()))?;
                assert_eq!(file_user(), Uid::from_raw(54_321));
                Ok(())
            })
            .unwrap();
        let panicked = std::panic::catch_unwind(|| nobody.act(|_| -> Result<()> { panic!("on purpose") }));
        assert!(panicked.is_err());
        assert_eq!((file_user(), file_group(), getgroups().unwrap()), (Uid::from_raw(0), Gid::from_raw(0), groups));
        assert!(capabilities(None).unwrap().effective.contains(CapabilitySet::DAC_OVERRIDE));
        std::fs::remove_dir_all(directory).unwrap();
    }

    fn wait(pause: std::time::Duration) -> Result<()> {
        std::thread::sleep(pause);
        Ok(())
    }

    /// Another thread keeps what is its own.
    #[test]
    fn other_threads_are_who_they_were() {
        let Some(nobody) = nobody() else { return };
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (seen, told) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            while stopped.recv_timeout(std::time::Duration::from_millis(1)).is_err() {
                let _ = seen.send(file_user());
            }
        });
        for _ in 0..20 {
            nobody.act(|_| wait(std::time::Duration::from_millis(1))).unwrap();
        }
        stop.send(()).unwrap();
        other.join().unwrap();
        assert!(told.iter().all(|user| user.is_root()));
    }
}
