//! Files, with the rights of the account that controls them: see [`Account::act`].
//!
//! Beside the kernel's check, whatever the account puts there must not hold up or exhaust who works for it: nothing waits for a FIFO or
//! for a lease, only regular files are read, and only so much of them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Error, Read as _, Result, Seek as _, SeekFrom, Write as _};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, accessat, openat};

use crate::Account;
use crate::directory::Directory;

/// What is left on a file system, and what there is in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Space {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// All bytes.
    pub bytes: u64,
    /// Inodes that can still be made. 0 like all of them where the file system does not count them.
    pub free_inodes: u64,
    /// All inodes.
    pub inodes: u64,
}

impl Space {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            free_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            bytes: found.f_blocks.saturating_mul(found.f_frsize),
            free_inodes: found.f_favail,
            inodes: found.f_files,
        })
    }
}

/// What only who acts for an account has: its files by their paths.
///
/// Links on the way are followed, since they lead nowhere but to what the account can reach. A link in the place of the file itself is
/// followed where the server opens the same file, and operators put links: in configurations and logs.
#[derive(Debug)]
pub struct Files<'a> {
    account: &'a Account,
    /// The rights are those of one thread.
    thread: PhantomData<*const ()>,
}

/// What is opened is not waited for, is passed on to nobody, and makes no terminal ours.
pub(crate) const CAREFUL: OFlags = OFlags::NONBLOCK.union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

impl<'a> Files<'a> {
    pub(crate) fn of(account: &'a Account) -> Self {
        Self { account, thread: PhantomData }
    }

    /// Whose rights they are.
    pub fn account(&self) -> &Account {
        self.account
    }

    /// The bytes of a file that is no link, at most `most` of them.
    ///
    /// # Errors
    /// What the file system says, that it is no regular file, or that it is too large.
    pub fn read(&self, path: &Path, most: u64) -> Result<Vec<u8>> {
        whole(regular(openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::NOFOLLOW | CAREFUL, Mode::empty())?.into())?, most)
    }

    /// The same, through a link: for what the server reads as well.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_through_links(&self, path: &Path, most: u64) -> Result<Vec<u8>> {
        whole(self.open_through_links(path)?, most)
    }

    /// The end of a file, through a link: what begins at `from`, and no more than the last `most` bytes of it. Not UTF-8 is replaced.
    ///
    /// # Errors
    /// What the file system says, or that it is no regular file.
    pub fn tail(&self, path: &Path, from: u64, most: u64) -> Result<String> {
        let mut file = self.open_through_links(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.min(length).max(length.saturating_sub(most))))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn open_through_links(&self, path: &Path) -> Result<File> {
        regular(openat(rustix::fs::CWD, path, OFlags::RDONLY | CAREFUL, Mode::empty())?.into())
    }

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// What the file system says.
    pub fn length(&self, path: &Path) -> Result<u64> {
        std::fs::metadata(path).map(|found| found.len())
    }

    /// The mode of a file, its kind left out.
    ///
    /// # Errors
    /// What the file system says.
    pub fn mode(&self, path: &Path) -> Result<u32> {
        std::fs::metadata(path).map(|found| std::os::unix::fs::PermissionsExt::mode(&found.permissions()) & 0o7777)
    }

    /// Whether there is anything of that name; a link that leads nowhere is something.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn exists(&self, path: &Path) -> Result<bool> {
        found(std::fs::symlink_metadata(path)).map(|found| found.is_some())
    }

    /// Whether there is a directory.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn is_directory(&self, path: &Path) -> Result<bool> {
        found(std::fs::metadata(path)).map(|found| found.is_some_and(|found| found.is_dir()))
    }

    /// Whether the account may make and remove names in a directory.
    pub fn may_change(&self, directory: &Path) -> bool {
        accessat(rustix::fs::CWD, directory, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).is_ok()
    }

    /// The path without links.
    ///
    /// # Errors
    /// What the file system says.
    pub fn real_path(&self, path: &Path) -> Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    /// Bytes that can still be written on the file system of a path.
    ///
    /// # Errors
    /// What the file system says.
    pub fn room(&self, path: &Path) -> Result<u64> {
        Space::of(path).map(|space| space.free_bytes)
    }

    /// What is left on the file system of a path.
    ///
    /// # Errors
    /// What the file system says.
    pub fn space(&self, path: &Path) -> Result<Space> {
        Space::of(path)
    }

    /// Makes a directory and those on the way to it. One that is there already is good.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make_directories(&self, path: &Path) -> Result<()> {
        std::fs::create_dir_all(path)
    }

    /// A directory, held open.
    ///
    /// # Errors
    /// What the file system says, or that it is none.
    pub fn directory(&self, path: &Path) -> Result<Directory<'_>> {
        Ok(Directory::of(openat(rustix::fs::CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | CAREFUL, Mode::empty())?))
    }

    /// The directory of a file, and the file's name in it.
    fn place<'p>(&self, path: &'p Path) -> Result<(Directory<'_>, &'p OsStr)> {
        let name = path.file_name().ok_or_else(|| Error::other("it names no file"))?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    /// Removes a file; a link itself, and no directory.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let (directory, name) = self.place(path)?;
        directory.remove(name)
    }

    /// The same, so that it does not come back with a power cut.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remove_durably(&self, path: &Path) -> Result<()> {
        let (directory, name) = self.place(path)?;
        directory.remove_durably(name)
    }

    /// Replaces a file, so that whoever looks sees the old or the new one.
    ///
    /// # Errors
    /// What the file system says; the old file is untouched then.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<()> {
        let (directory, name) = self.place(path)?;
        directory.write(name, content, mode)
    }

    /// Makes sure that there is a file that the account can append to.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make_file(&self, path: &Path, mode: u32) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | CAREFUL;
        openat(rustix::fs::CWD, path, flags, Mode::from_raw_mode(mode))?;
        Ok(())
    }

    /// Connects to a Unix socket within `limit`. Who we are for the other end stays.
    ///
    /// # Errors
    /// What the kernel says; [`std::io::ErrorKind::TimedOut`] at the end of the limit.
    pub fn connect(&self, path: &Path, limit: Duration) -> Result<UnixStream> {
        crate::socket::connect(path, limit)
    }
}

/// `None` for what is not there.
fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What was opened, if it is a file and no device, FIFO or directory.
pub(crate) fn regular(file: File) -> Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(Error::other("it is no regular file")) }
}

/// All bytes of a file, at most `most`.
pub(crate) fn whole(file: File, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(Error::other(format!("it is larger than {most} bytes"))) } else { Ok(bytes) }
}

/// The bytes of a file that an operator named, with the rights that we have anyway, through links, at most `most` of them. Nothing is waited
/// for. In what a server's account controls, [`Account::act`] is the way.
///
/// # Errors
/// What the file system says, that it is no regular file, or that it is too large.
pub fn read_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    whole(regular(openat(rustix::fs::CWD, path, OFlags::RDONLY | CAREFUL, Mode::empty())?.into())?, most)
}

/// A name that leads nowhere else: what a file or a server says must not become a path.
///
/// # Errors
/// When it is empty, `.`, `..`, or has a slash in it.
pub fn plain_name(name: &OsStr) -> Result<&OsStr> {
    if name.is_empty() || name == "." || name == ".." || name.as_bytes().iter().any(|byte| matches!(byte, b'/' | 0)) {
        return Err(Error::other(format!("{:?} is not the plain name of a file", name.to_string_lossy())));
    }
    Ok(name)
}

/// A name for a temporary file that nobody can know beforehand.
pub(crate) fn unpredictable(name: &OsStr) -> OsString {
    use std::hash::BuildHasher as _;
    // Its keys are the kernel's random numbers.
    let number = std::hash::RandomState::new().hash_one(std::process::id());
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{number:016x}"));
    temporary
}

/// Writes all and waits until it is on the disk.
pub(crate) fn write_all(file: &mut File, content: &[u8]) -> Result<()> {
    file.write_all(content)?;
    file.sync_all()
}

/// Whether a kind of file is a directory.
pub(crate) fn is_directory(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_is_read_and_no_more_than_was_asked_for() {
        let directory = std::env::temp_dir().join(format!("systole-read-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (fifo, file, link) = (directory.join("fifo"), directory.join("file"), directory.join("link"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "12345").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let own = Account::own();
        own.act(|files| {
            for path in [&fifo, &directory, &link, Path::new("/dev/zero"), Path::new("/no/such/file")] {
                assert!(files.read(path, 9).is_err(), "{}", path.display());
            }
            for path in [&fifo, &directory, Path::new("/dev/zero")] {
                assert!(files.read_through_links(path, 9).is_err() && files.tail(path, 0, 9).is_err(), "{}", path.display());
            }
            assert_eq!(files.read(&file, 5)?, b"12345");
            assert_eq!(files.read_through_links(&link, 5)?, b"12345");
            assert!(files.read(&file, 4).unwrap_err().to_string().contains("larger than 4"));
            for (from, most, expected) in [(0, 99, "12345"), (3, 99, "45"), (0, 2, "45"), (99, 99, "")] {
                assert_eq!(files.tail(&file, from, most)?, expected);
            }
            Ok(())
        })
        .unwrap();
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_name_is_no_path() {
        for wrong in ["", ".", "..", "../x", "/etc/x", "a/b", "a/"] {
            assert!(plain_name(OsStr::new(wrong)).is_err(), "{wrong}");
        }
        assert!(plain_name(OsStr::new("binlog.000001")).is_ok() && plain_name(OsStr::new("..x")).is_ok());
    }
}
