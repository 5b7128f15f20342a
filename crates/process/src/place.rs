//! Places where root acts as root: the run directory below /run, a log in /var/log, a password that is root's word.
//!
//! The way there is walked directory by directory, each held open. A link counts only where nobody else can have put it, and root makes
//! something or gives it away only where nobody else can exchange it meanwhile.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, Stat, accessat, fchown, fstat, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::Account;
use crate::files::{CAREFUL, regular};

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Who might have put something on the way, or exchange it.
#[derive(Clone, Copy)]
enum Others<'a> {
    /// One account.
    Account(&'a Account),
    /// Everybody but root, and who we are.
    All,
}

impl Others<'_> {
    fn owns(self, status: &Stat) -> bool {
        match self {
            Self::Account(account) => status.st_uid == account.uid,
            Self::All => status.st_uid != 0 && status.st_uid != nix::unistd::geteuid().as_raw(),
        }
    }

    fn may_write(self, directory: &OwnedFd, status: &Stat) -> bool {
        match self {
            // The kernel knows of access lists.
            Self::Account(account) => {
                let writes = account.act(|_| match accessat(directory, ".", Access::WRITE_OK, AtFlags::EACCESS) {
                    Ok(()) => Ok(true),
                    Err(Errno::ACCESS | Errno::ROFS) => Ok(false),
                    Err(e) => Err(e.into()),
                });
                writes.unwrap_or(true)
            }
            Self::All => status.st_mode & 0o022 != 0,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Account(account) => format!("user {}", account.name),
            Self::All => "others than root".to_owned(),
        }
    }

    /// Whether they can put something else in the place of an entry. In a directory with the sticky bit only who owns one of the two can.
    fn may_exchange(self, directory: &OwnedFd, status: &Stat, entry: Option<&Stat>) -> bool {
        let sticky = status.st_mode & 0o1000 != 0 && entry.is_none_or(|entry| !self.owns(entry));
        self.owns(status) || (!sticky && self.may_write(directory, status))
    }
}

/// A name in a directory that is held open.
struct Place {
    directory: OwnedFd,
    name: OsString,
    /// Whether there is something of that name.
    exists: bool,
    /// Whether others can exchange it, or anything on the way.
    exchangeable: bool,
}

impl Place {
    /// Walks to it. Directories that are missing are made where `make` is set, by root and where nobody can exchange them.
    fn of(path: &Path, others: Others<'_>, make: bool) -> Result<Self> {
        let mut directory = open_directory(rustix::fs::CWD, OsStr::new("/"))?;
        let mut walked = PathBuf::from("/");
        let mut left = names(path);
        let (mut exchangeable, mut links) = (false, 0);
        while let Some(name) = left.pop() {
            let status = fstat(&directory)?;
            let entry = match statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(entry) => Some(entry),
                Err(Errno::NOENT) => None,
                Err(e) => return Err(e.into()),
            };
            let here = others.may_exchange(&directory, &status, entry.as_ref());
            match entry {
                Some(entry) if FileType::from_raw_mode(entry.st_mode).is_symlink() => {
                    links += 1;
                    if here || exchangeable || links > MOST_LINKS {
                        let link = walked.join(&name);
                        return Err(Error::new(
                            ErrorKind::PermissionDenied,
                            format!("{} is a link that {} can change", link.display(), others.name()),
                        ));
                    }
                    let target = readlinkat(&directory, &name, Vec::new())?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    if target.is_absolute() {
                        directory = open_directory(rustix::fs::CWD, OsStr::new("/"))?;
                        walked = PathBuf::from("/");
                    }
                    left.extend(names(&target));
                    continue;
                }
                None if !left.is_empty() => {
                    if !make {
                        return Err(ErrorKind::NotFound.into());
                    }
                    if here || exchangeable {
                        return Err(exchanged(&walked, others));
                    }
                    mkdirat(&directory, &name, Mode::from_raw_mode(0o755))?;
                }
                _ => {}
            }
            exchangeable |= here;
            if left.is_empty() {
                return Ok(Self { directory, name, exists: entry.is_some(), exchangeable });
            }
            directory = open_directory(&directory, &name)?;
            walked.push(&name);
        }
        Err(Error::other("it names no file"))
    }
}

/// The parts of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned()).collect()
}

fn open_directory(at: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd> {
    Ok(openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn exchanged(directory: &Path, others: Others<'_>) -> Error {
    let why = format!("{} can exchange what is in {}", others.name(), directory.display());
    Error::new(ErrorKind::PermissionDenied, why)
}

/// A file that is root's word: it is reached through no link but root's. Whose it is and who can read it are for the caller to see from what
/// is returned of it, which is of what was opened.
///
/// # Errors
/// What the file system says, or that it is no regular file.
pub fn open_by_roots_word(path: &Path) -> Result<(File, Metadata)> {
    let place = Place::of(path, Others::All, false)?;
    let file = openat(&place.directory, &place.name, OFlags::RDONLY | OFlags::NOFOLLOW | CAREFUL, Mode::empty())?;
    let file = regular(file.into())?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

impl Account {
    /// Makes sure that there is a directory. What the account cannot make is made by root, and given to it.
    ///
    /// # Errors
    /// When it cannot be made, or only where the account could exchange it.
    pub fn make_directory(&self, path: &Path) -> Result<()> {
        self.directory_of(path, false)
    }

    /// The same, and the account may make files in it: an existing one is given to it if need be.
    ///
    /// # Errors
    /// As there.
    pub fn give_directory(&self, path: &Path) -> Result<()> {
        self.directory_of(path, true)
    }

    fn directory_of(&self, path: &Path, to_change: bool) -> Result<()> {
        let made = self.act(|files| files.make_directories(path).map(|()| !to_change || files.may_change(path)));
        if made.is_ok_and(|enough| enough) {
            return Ok(());
        }
        let place = Place::of(path, Others::Account(self), true)?;
        if place.exchangeable {
            return Err(exchanged(path.parent().unwrap_or(Path::new("/")), Others::Account(self)));
        }
        if !place.exists {
            mkdirat(&place.directory, &place.name, Mode::from_raw_mode(0o755))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | CAREFUL;
        let directory = openat(&place.directory, &place.name, flags, Mode::empty())?;
        if !place.exists || to_change {
            self.give(&directory)?;
        }
        Ok(())
    }

    /// Makes sure that there is a file that the account can append to. Where it cannot make one, root does, and gives it to it.
    ///
    /// # Errors
    /// As [`Self::make_directory`], or that there is one of somebody else's.
    pub fn make_file(&self, path: &Path) -> Result<()> {
        let Err(own) = self.act(|files| files.make_file(path, 0o640)) else { return Ok(()) };
        if own.kind() != ErrorKind::PermissionDenied {
            return Err(own);
        }
        let place = Place::of(path, Others::Account(self), false)?;
        if place.exists || place.exchangeable {
            return Err(own);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CAREFUL;
        self.give(&openat(&place.directory, &place.name, flags, Mode::from_raw_mode(0o640))?)
    }

    fn give(&self, what: &OwnedFd) -> Result<()> {
        let (user, group) = (rustix::process::Uid::from_raw(self.uid), rustix::process::Gid::from_raw(self.gid));
        Ok(fchown(what, Some(user), Some(group))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    const STRANGER: u32 = 54_321;

    /// A directory of root's and one of an account's, where the tests run as root.
    fn scratch(name: &str) -> Option<(Account, PathBuf, PathBuf)> {
        if !nix::unistd::geteuid().is_root() {
            return None;
        }
        let base = std::env::temp_dir().join(format!("systole-place-{name}-{}", std::process::id()));
        let (roots, own) = (base.join("roots"), base.join("own"));
        std::fs::create_dir_all(&roots).unwrap();
        std::fs::create_dir_all(&own).unwrap();
        chown(&own, Some(STRANGER), Some(STRANGER)).unwrap();
        Some((Account { name: "stranger".into(), uid: STRANGER, gid: STRANGER, groups: vec![] }, roots, own))
    }

    fn owner(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn directories_are_made_and_given_where_nobody_can_exchange_them() {
        let Some((stranger, roots, own)) = scratch("give") else { return };
        stranger.make_directory(&roots.join("a/b")).unwrap();
        assert_eq!((owner(&roots.join("a")), owner(&roots.join("a/b"))), (0, STRANGER));
        // By the account itself.
        stranger.make_directory(&own.join("a/b")).unwrap();
        assert_eq!(owner(&own.join("a")), STRANGER);
        // One that is there stays whose it is, unless it is to be changed.
        std::fs::create_dir(roots.join("there")).unwrap();
        stranger.make_directory(&roots.join("there")).unwrap();
        assert_eq!(owner(&roots.join("there")), 0);
        stranger.give_directory(&roots.join("there")).unwrap();
        assert_eq!(owner(&roots.join("there")), STRANGER);
        // A link of root's is a way like any other.
        symlink(&roots, roots.join("link")).unwrap();
        stranger.give_directory(&roots.join("link/c")).unwrap();
        assert_eq!(owner(&roots.join("c")), STRANGER);
        // In a directory of everybody's root's own stay root's.
        std::fs::create_dir(roots.join("tmp")).unwrap();
        std::fs::set_permissions(roots.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
        std::fs::create_dir(roots.join("tmp/root")).unwrap();
        stranger.give_directory(&roots.join("tmp/root/run")).unwrap();
        assert_eq!(owner(&roots.join("tmp/root/run")), STRANGER);
        std::fs::remove_dir_all(roots.parent().unwrap()).unwrap();
    }

    #[test]
    fn nothing_is_made_or_given_through_a_link_of_the_accounts() {
        let Some((stranger, roots, own)) = scratch("link") else { return };
        symlink(&roots, own.join("link")).unwrap();
        std::fs::create_dir(own.join("roots")).unwrap();
        std::fs::create_dir(own.join("roots/in")).unwrap();
        for path in ["link", "link/new", "link/new/new", "roots", "roots/in", "roots/in/new"] {
            let error = stranger.give_directory(&own.join(path)).unwrap_err().to_string();
            assert!(error.contains("user stranger can"), "{path}: {error}");
        }
        for path in ["link/log", "roots/log"] {
            assert!(stranger.make_file(&own.join(path)).is_err(), "{path}");
        }
        symlink(roots.join("log"), own.join("log")).unwrap();
        assert!(stranger.make_file(&own.join("log")).is_err());
        assert_eq!((owner(&roots), std::fs::read_dir(&roots).unwrap().count(), owner(&own.join("roots"))), (0, 0, 0));
        std::fs::remove_dir_all(roots.parent().unwrap()).unwrap();
    }

    #[test]
    fn a_file_is_made_by_the_account_or_given_to_it_and_none_is_taken_from_somebody() {
        let Some((stranger, roots, own)) = scratch("file") else { return };
        for path in [roots.join("log"), own.join("log")] {
            stranger.make_file(&path).unwrap();
            stranger.make_file(&path).unwrap();
            assert_eq!(owner(&path), STRANGER);
        }
        std::fs::write(roots.join("secret"), "").unwrap();
        assert!(stranger.make_file(&roots.join("secret")).is_err());
        assert_eq!(owner(&roots.join("secret")), 0);
        std::fs::remove_dir_all(roots.parent().unwrap()).unwrap();
    }

    #[test]
    fn roots_word_goes_through_no_link_of_others() {
        let Some((_, roots, own)) = scratch("word") else { return };
        std::fs::write(roots.join("secret"), "x").unwrap();
        std::fs::write(own.join("secret"), "x").unwrap();
        symlink(roots.join("secret"), roots.join("link")).unwrap();
        symlink(roots.join("secret"), own.join("link")).unwrap();
        symlink(&roots, own.join("directory")).unwrap();
        for path in [roots.join("secret"), roots.join("link"), own.join("secret"), roots.join("../roots/secret")] {
            assert!(open_by_roots_word(&path).is_ok(), "{}", path.display());
        }
        for path in [own.join("link"), own.join("directory/secret")] {
            let error = open_by_roots_word(&path).unwrap_err().to_string();
            assert!(error.contains("is a link that others than root can change"), "{error}");
        }
        let missing = [own.join("missing"), roots.join("no/such")];
        assert!(missing.iter().all(|path| open_by_roots_word(path).unwrap_err().kind() == ErrorKind::NotFound));
        std::fs::remove_dir_all(roots.parent().unwrap()).unwrap();
    }
}
