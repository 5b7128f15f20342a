//! State files that are whole at any time, and a lock between actions that run at once.

use std::fs::{File, OpenOptions};
use std::io::Write;
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
    let directory = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
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
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
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

/// Bytes that an ordinary user can still write on the file system of `path`; `None` when that cannot be found out.
pub fn room(path: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    Some(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// A file that somebody else may write, opened without waiting where a FIFO stands in its place, and what it is.
///
/// # Errors
/// What the file system says, or that it is no regular file.
pub fn open_file(path: &Path) -> std::io::Result<(File, std::fs::Metadata)> {
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(std::io::Error::other("it is no regular file")) }
}

/// The bytes of such a file, at most `most` of them: without an end of memory, where a device stands in its place.
///
/// # Errors
/// As [`open_file`], or that it is too large.
pub fn read_file(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let (file, _) = open_file(path)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(std::io::Error::other(format!("it is larger than {most} bytes"))) } else { Ok(bytes) }
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
    fn a_write_replaces_the_whole_file_and_leaves_no_other() {
        let directory = scratch("write");
        let path = directory.join("state");
        write_atomically(&path, b"a long first content", 0o600).unwrap();
        write_atomically(&path, b"short", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"short");
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

    #[test]
    fn only_a_file_is_read_and_no_more_than_was_asked_for() {
        let directory = std::env::temp_dir().join(format!("systole-read-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (fifo, file) = (directory.join("fifo"), directory.join("file"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&file, "12345").unwrap();
        for path in [&fifo, &directory, Path::new("/dev/zero"), Path::new("/no/such/file")] {
            assert!(read_file(path, 9).is_err(), "{}", path.display());
        }
        assert_eq!(read_file(&file, 5).unwrap(), b"12345");
        assert!(read_file(&file, 4).unwrap_err().to_string().contains("larger than 4"));
        std::fs::remove_dir_all(directory).unwrap();
    }
}
