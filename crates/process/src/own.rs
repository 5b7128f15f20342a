//! Files in places that nobody but root and who we are can change: what root keeps in /run and /var/lib, what belongs to the system in
//! /etc, what the kernel shows in /proc and /sys; and for a program that a user runs, that user's own.
//!
//! Paths are taken as they are. In what an account controls that we are not, [`crate::Account::act`] is the way.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::unistd::{getegid, geteuid};

use crate::Account;
pub use crate::file::write_for_this_boot;

/// The bytes of a file.
///
/// # Errors
/// What the file system says.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
}

/// The text of a file.
///
/// # Errors
/// What the file system says, or that it is not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
}

/// The end of a file: no more than the last `most` bytes of it. What is not UTF-8 is replaced.
///
/// # Errors
/// What the file system says, or that it is no regular file.
pub fn tail(path: &Path, most: u64) -> Result<String> {
    Account::numbered(geteuid().as_raw(), getegid().as_raw()).act(|files| files.tail(path, 0, most))
}

/// What is in a directory, in no order; nothing where there is none.
pub fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// What the file system says of a file, or of a link itself.
///
/// # Errors
/// What the file system says.
pub fn metadata(path: &Path) -> Result<Metadata> {
    std::fs::symlink_metadata(path)
}

/// What is left on the file system of a path.
///
/// # Errors
/// What the file system says.
pub fn space(path: &Path) -> Result<crate::Space> {
    crate::Space::of(path)
}

/// Whether there is a file, perhaps through a link.
pub fn is_file(path: &Path) -> bool {
    path.is_file()
}

/// Whether there is a directory, and no link to one.
pub fn is_directory(path: &Path) -> bool {
    metadata(path).is_ok_and(|found| found.is_dir())
}

/// Replaces a file so that a reader, and the next boot, sees the old or the new one.
///
/// # Errors
/// What the file system says; the old file is untouched then.
pub fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    crate::write_atomically(path, content, mode)
}

/// Removes a file. Returns whether it was there.
///
/// # Errors
/// What the file system says.
pub fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Gives a file another name.
///
/// # Errors
/// What the file system says.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to)
}

/// Makes a directory, and those on the way to it, through which everybody gets: others have theirs beside it. One that is there already is good.
///
/// # Errors
/// What the file system says.
pub fn make_directories(path: &Path, mode: u32) -> Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Lets everybody get through a directory of ours to what is in it.
///
/// # Errors
/// What the file system says.
pub fn let_through(path: &Path) -> Result<()> {
    let mode = metadata(path)?.mode();
    if mode & 0o111 == 0o111 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777 | 0o111))
}

/// Makes a directory for an account, which nobody else may look into, in one of ours.
///
/// # Errors
/// What the file system says.
pub fn make_directory_for(uid: u32, gid: u32, path: &Path) -> Result<()> {
    make_directories(path, 0o700)?;
    lchown(path, Some(uid), Some(gid))
}

/// A file to which lines are appended, for us alone. It is made when it is not there.
///
/// # Errors
/// What the file system says.
pub fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Opens a file for a lock, for us alone. It is made when it is not there.
///
/// # Errors
/// What the file system says.
pub fn open_lock(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Sets the time at which a file or directory was changed last. A link is not followed, and nothing is waited for.
///
/// # Errors
/// What the file system says.
pub fn set_modified(path: &Path, time: SystemTime) -> Result<()> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path)?.set_modified(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_and_what_is_not() {
        let directory = std::env::temp_dir().join(format!("systole-own-{}", std::process::id()));
        make_directories(&directory.join("a"), 0o700).unwrap();
        let file = directory.join("file");
        append_to(&file).unwrap();
        append_to(&file).and_then(|mut file| std::io::Write::write_all(&mut file, b"x")).unwrap();
        std::os::unix::fs::symlink(directory.join("a"), directory.join("link")).unwrap();
        assert_eq!((text(&file).unwrap(), read(&file).unwrap(), tail(&file, 9).unwrap()), ("x".into(), b"x".to_vec(), "x".into()));
        assert!(is_directory(&directory.join("a")) && !is_directory(&directory.join("link")) && is_file(&file));
        assert!(set_modified(&directory.join("link"), SystemTime::now()).is_err(), "a link was followed");
        set_modified(&directory.join("a"), SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(metadata(&directory.join("a")).unwrap().modified().unwrap(), SystemTime::UNIX_EPOCH);
        rename(&file, &directory.join("b")).unwrap();
        assert_eq!(entries(&directory).count(), 3);
        assert_eq!((remove(&directory.join("b")).unwrap(), remove(&directory.join("b")).unwrap()), (true, false));
        assert!(remove(&directory.join("a")).is_err() && entries(&directory.join("none")).next().is_none());
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_on_the_way_to_a_private_directory_is_not_private() {
        let directory = std::env::temp_dir().join(format!("systole-own-way-{}", std::process::id()));
        let mode = |path: &Path| metadata(path).unwrap().mode() & 0o777;
        make_directories(&directory.join("way/private"), 0o700).unwrap();
        assert_eq!((mode(&directory.join("way")) & 0o111, mode(&directory.join("way/private"))), (0o111, 0o700));
        make_directories(&directory.join("way/private"), 0o755).unwrap();
        assert_eq!(mode(&directory.join("way/private")), 0o700, "it is left as it is");
        let_through(&directory.join("way/private")).unwrap();
        assert_eq!(mode(&directory.join("way/private")), 0o711);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
