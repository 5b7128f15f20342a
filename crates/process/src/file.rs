//! Root's own files: state files that are whole at any time, and a lock between actions that run at once.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// Replaces `path` by `content` so that a reader, and the next boot, sees the old or the new file and never a part:
/// temporary file beside it, fsync, rename, fsync of the directory.
///
/// # Errors
/// What the file system says; the old file is untouched then.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    replace(path, content, mode, crate::files::write_all)?;
    File::open(directory_of(path))?.sync_all()
}

/// The same for a file that no boot keeps, in /run: no reader sees a part of it, and no disk is waited for.
///
/// # Errors
/// As there.
pub fn write_for_this_boot(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    replace(path, content, mode, |file, content| file.write_all(content))
}

/// Where a file is. A bare name is in the working directory, for which `parent` has the empty path, that no call opens.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    }
}

fn replace(path: &Path, content: &[u8], mode: u32, write: impl Fn(&mut File, &[u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let directory = directory_of(path);
    let temporary = directory.join(crate::files::unpredictable(path.file_name().unwrap_or_default()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        write(&mut file, content)?;
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// A lock that is held until it is dropped, or its holder dies.
#[derive(Debug)]
pub struct Locked(#[allow(dead_code, reason = "held for its lifetime only")] Flock<File>);

/// Takes the lock file at `path`, waiting at most for `limit`. `None` when somebody else has it for longer.
///
/// # Errors
/// What the file system says.
pub fn lock(path: &Path, limit: Duration) -> std::io::Result<Option<Locked>> {
    let until = Instant::now() + limit;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW).open(path)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok(Some(Locked(held))),
            Err((_, errno)) if errno != nix::errno::Errno::EWOULDBLOCK => return Err(errno.into()),
            Err(_) if Instant::now() >= until => return Ok(None),
            Err((back, _)) => file = back,
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("systole-file-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_file_by_its_bare_name_is_written_into_the_working_directory() {
        let name = format!("systole-file-bare-{}", std::process::id());
        let (path, before) = (Path::new(&name), std::fs::read_dir(".").unwrap().count());
        write_atomically(path, b"content", 0o600).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"content");
        std::fs::remove_file(path).unwrap();
        write_for_this_boot(path, b"other", 0o600).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"other");
        std::fs::remove_file(path).unwrap();
        assert_eq!(std::fs::read_dir(".").unwrap().count(), before, "no other file is left");
    }

    #[test]
    fn a_write_replaces_the_whole_file_and_leaves_no_other() {
        let directory = scratch("write");
        let path = directory.join("state");
        for write in [write_atomically, write_for_this_boot] {
            std::fs::write(&path, "a long first content").unwrap();
            write(&path, b"short", 0o600).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"short");
        }
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_second_holder_waits_and_gives_up() {
        let directory = scratch("lock");
        let path = directory.join("lock");
        let first = lock(&path, Duration::ZERO).unwrap();
        assert!(first.is_some());
        assert!(lock(&path, Duration::from_millis(20)).unwrap().is_none());
        drop(first);
        assert!(lock(&path, Duration::ZERO).unwrap().is_some());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
