//! A directory that an account controls, held open, and what is in it by plain names.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, Result};
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, fchmod, linkat, mkdirat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::files::{CAREFUL, Files, is_directory, plain_name, regular, unpredictable, whole, write_all};

/// More names than a directory of a server's has that is worked on as a whole.
const MOST_NAMES: usize = 200_000;

/// Nobody can put another directory in its place. Names in it lead nowhere else: they have no slash, and no link is followed.
#[derive(Debug)]
pub struct Directory<'a> {
    fd: OwnedFd,
    /// It is worked in only by who acts for the account.
    acting: PhantomData<&'a Files<'a>>,
}

impl Directory<'_> {
    pub(crate) fn of(fd: OwnedFd) -> Self {
        Self { fd, acting: PhantomData }
    }

    /// What is in it, in the order of the names.
    ///
    /// # Errors
    /// What the file system says, or that there is no end of names.
    pub fn names(&self) -> Result<Vec<OsString>> {
        let mut names = self.some_names()?;
        if names.len() >= MOST_NAMES {
            return Err(Error::other(format!("it holds more than {MOST_NAMES} names")));
        }
        names.sort();
        Ok(names)
    }

    fn some_names(&self) -> Result<Vec<OsString>> {
        let mut names = Vec::new();
        self.visit(|name| {
            names.push(name.to_owned());
            names.len() < MOST_NAMES
        })?;
        Ok(names)
    }

    /// Tells `look` each name in it, in no order, as long as that returns `true`: for who must not miss one, however many there are.
    ///
    /// # Errors
    /// What the file system says.
    pub fn visit(&self, mut look: impl FnMut(&OsStr) -> bool) -> Result<()> {
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if plain_name(name).is_ok() && !look(name) {
                break;
            }
        }
        Ok(())
    }

    /// A directory in it.
    ///
    /// # Errors
    /// What the file system says, or that it is none.
    pub fn directory(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        let name = plain_name(name.as_ref())?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | CAREFUL;
        Ok(Self::of(openat(&self.fd, name, flags, Mode::empty())?))
    }

    /// Makes a directory in it, unless it is there.
    ///
    /// # Errors
    /// What the file system says, or that something else is there.
    pub fn make_directory(&self, name: impl AsRef<OsStr>) -> Result<Self> {
        match mkdirat(&self.fd, plain_name(name.as_ref())?, Mode::from_raw_mode(0o750)) {
            Err(e) if e != Errno::EXIST => Err(e.into()),
            _ => self.directory(name),
        }
    }

    /// The length of a regular file, `None` when there is none of that name.
    ///
    /// # Errors
    /// What the file system says.
    pub fn length(&self, name: impl AsRef<OsStr>) -> Result<Option<u64>> {
        match statat(&self.fd, plain_name(name.as_ref())?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                let regular = rustix::fs::FileType::from_raw_mode(found.st_mode).is_file();
                Ok(regular.then(|| u64::try_from(found.st_size).unwrap_or_default()))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The bytes of a file, at most `most`.
    ///
    /// # Errors
    /// What the file system says, that it is no regular file, or that it is too large.
    pub fn read(&self, name: impl AsRef<OsStr>, most: u64) -> Result<Vec<u8>> {
        whole(self.open(name.as_ref())?, most)
    }

    /// A file to read piece by piece: one that is too large to be held.
    ///
    /// # Errors
    /// What the file system says, or that it is no regular file.
    pub fn reader(&self, name: impl AsRef<OsStr>) -> Result<File> {
        self.open(name.as_ref())
    }

    fn open(&self, name: &OsStr) -> Result<File> {
        regular(openat(&self.fd, plain_name(name)?, OFlags::RDONLY | OFlags::NOFOLLOW | CAREFUL, Mode::empty())?.into())
    }

    /// A new file, that was not there.
    fn create(&self, name: &OsStr, mode: u32) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CAREFUL;
        Ok(openat(&self.fd, plain_name(name)?, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Replaces a file so that a reader, and the next boot, sees the old or the new one and never a part: a temporary file beside it,
    /// fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// What the file system says; the old file is untouched then.
    pub fn write(&self, name: impl AsRef<OsStr>, content: &[u8], mode: u32) -> Result<()> {
        let name = plain_name(name.as_ref())?;
        let temporary = unpredictable(name);
        let mut file = self.create(&temporary, mode)?;
        let written = write_all(&mut file, content)
            .and_then(|()| self.rename(&temporary, name))
            .and_then(|()| rustix::fs::fsync(&self.fd).map_err(Error::from));
        if written.is_err() {
            let _ = self.remove(&temporary);
        }
        written
    }

    /// Gives a file a second name in another directory, in the place of what has it there, or where that is not possible (another file
    /// system, another owner) puts a copy there. Whoever looks sees the whole file or none.
    ///
    /// # Errors
    /// What the file system says, or that it is no regular file.
    pub fn keep(&self, name: impl AsRef<OsStr>, in_directory: &Self) -> Result<()> {
        let name = plain_name(name.as_ref())?;
        if self.length(name)?.is_none() {
            return Err(Error::other(format!("{} is no regular file", name.to_string_lossy())));
        }
        let unfinished = unpredictable(name);
        let kept = match linkat(&self.fd, name, &in_directory.fd, &unfinished, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(_) => self.copy(name, in_directory, &unfinished),
        };
        let kept = kept.and_then(|()| in_directory.rename(&unfinished, name));
        // Two names of one file: a rename leaves both.
        let _ = in_directory.remove(&unfinished);
        kept
    }

    fn copy(&self, name: &OsStr, in_directory: &Self, as_name: &OsStr) -> Result<()> {
        let mut from = self.open(name)?;
        let mut to = in_directory.create(as_name, 0o600)?;
        std::io::copy(&mut from, &mut to)?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&from.metadata()?.permissions()) & 0o777;
        fchmod(&to, Mode::from_raw_mode(mode | 0o400))?;
        to.sync_all()
    }

    /// Gives something in it another name in it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rename(&self, from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) -> Result<()> {
        Ok(renameat(&self.fd, plain_name(from.as_ref())?, &self.fd, plain_name(to.as_ref())?)?)
    }

    /// Removes a file; a link itself, and no directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, name: impl AsRef<OsStr>) -> Result<()> {
        Ok(unlinkat(&self.fd, plain_name(name.as_ref())?, AtFlags::empty())?)
    }

    /// Removes a file, so that it does not come back with a power cut.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_durably(&self, name: impl AsRef<OsStr>) -> Result<()> {
        self.remove(name)?;
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Removes something with all that is in it. A name that is not there is good.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_all(&self, name: impl AsRef<OsStr>) -> Result<()> {
        let name = plain_name(name.as_ref())?;
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e.into()),
            Ok(found) if !is_directory(found.st_mode) => return self.remove(name),
            Ok(_) => {}
        }
        // An empty directory of somebody else's can be removed, and not looked into.
        let emptied = self.directory(name).and_then(|inside| inside.empty());
        match unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(()),
            Err(e) => emptied.and(Err(e.into())),
        }
    }

    /// Removes all that is in it. It may be a mount point itself.
    ///
    /// # Errors
    /// What the file system says.
    pub fn empty(&self) -> Result<()> {
        loop {
            let names = self.some_names()?;
            names.iter().try_for_each(|name| self.remove_all(name))?;
            if names.len() < MOST_NAMES {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Account;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("systole-directory-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_no_other() {
        let path = scratch("write");
        Account::own()
            .act(|files| {
                let directory = files.directory(&path)?;
                directory.write("state", b"a long first content", 0o600)?;
                directory.write("state", b"short", 0o600)?;
                assert_eq!(directory.read("state", 9)?, b"short");
                assert_eq!(directory.names()?, ["state"]);
                Ok(())
            })
            .unwrap();
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn what_is_kept_is_the_same_file_or_its_copy_and_never_what_a_link_names() {
        let path = scratch("keep");
        std::fs::create_dir(path.join("kept")).unwrap();
        std::fs::write(path.join("log"), "one").unwrap();
        std::fs::write(path.join("kept/log"), "old").unwrap();
        symlink(path.join("log"), path.join("link")).unwrap();
        let elsewhere = PathBuf::from("/dev/shm").join(format!("systole-keep-{}", std::process::id()));
        let _ = std::fs::create_dir(&elsewhere);
        Account::own()
            .act(|files| {
                let (directory, kept) = (files.directory(&path)?, files.directory(&path.join("kept"))?);
                directory.keep("log", &kept)?;
                directory.keep("log", &kept)?;
                assert_eq!(kept.names()?, ["log"]);
                for wrong in ["link", "kept", "../log", "/etc/passwd", "no-such"] {
                    assert!(directory.keep(wrong, &kept).is_err(), "{wrong}");
                }
                if let Ok(other) = files.directory(&elsewhere) {
                    directory.keep("log", &other)?;
                    assert_eq!(other.read("log", 9)?, b"one");
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(std::fs::metadata(path.join("log")).unwrap().nlink(), 2);
        std::fs::remove_dir_all(path).unwrap();
        let _ = std::fs::remove_dir_all(elsewhere);
    }

    #[test]
    fn a_directory_is_emptied_and_stays_and_links_are_not_followed() {
        let path = scratch("empty");
        std::fs::create_dir_all(path.join("in/a/b")).unwrap();
        std::fs::write(path.join("in/c"), "").unwrap();
        std::fs::write(path.join("out"), "").unwrap();
        symlink(&path, path.join("in/a/link")).unwrap();
        Account::own().act(|files| files.directory(&path.join("in"))?.empty()).unwrap();
        assert_eq!(std::fs::read_dir(path.join("in")).unwrap().count(), 0);
        assert!(path.join("out").exists());
        std::fs::remove_dir_all(path).unwrap();
    }
}
