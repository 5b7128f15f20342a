//! Whether a disk still takes what is written to it. Nothing else tells: a server whose disk hangs answers from its memory.
//!
//! Who writes to a disk that hangs waits in the kernel, where no signal reaches him. So it is a process of its own that writes, and nobody
//! waits for it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};

/// The file that is written, in each directory. Servers pass over files whose names begin so.
const FILE: &str = ".systole-disk";
/// How often.
const EVERY: Duration = Duration::from_secs(2);
/// What is written: the smallest block that a disk takes.
const BLOCK: [u8; 512] = [0; 512];
/// What the writer says when it is through with all directories.
const THROUGH: u8 = u8::MAX;
/// How long a block may be on its way, in looks of a tenth of a second: longer than a file system is frozen for a snapshot (ten
/// seconds is what those that do it allow themselves) and than a disk under load takes. Looks are counted and not the clock, which
/// goes on while a virtual machine is held.
const PATIENCE: u32 = 150;

/// How far the writer is, from what it says.
#[derive(Debug, Default)]
struct Progress {
    at: Option<u8>,
    looks: u32,
}

impl Progress {
    /// One look: what it said since the last. Returns the number of the directory whose disk hangs.
    fn look(&mut self, said: &[u8]) -> Option<usize> {
        match said.last() {
            Some(last) => *self = Self { at: Some(*last).filter(|last| *last != THROUGH), looks: 0 },
            None => self.looks = self.looks.saturating_add(1),
        }
        self.at.filter(|_| self.looks >= PATIENCE).map(usize::from)
    }
}

/// What a look at a writer shows.
#[derive(Debug, PartialEq, Eq)]
pub enum Disk<'a> {
    /// Each disk takes what is written to it, as far as anybody can tell.
    Answers,
    /// The disk of this directory does not.
    Hangs(&'a Path),
    /// Nobody writes: the writer was killed, or could not be started. Nothing is known of the disks any more.
    Unwatched,
}

/// A writer, as whoever looks at it every tenth of a second sees it.
#[derive(Debug)]
pub struct Disks {
    directories: Vec<PathBuf>,
    writer: Option<(Child, ChildStdout)>,
    progress: Progress,
}

impl Disks {
    /// Starts a writer to the disks of these directories, as this user: whoever is not that user has to be root for it. `program` with
    /// `arguments` has to call [`write_for_ever`] with the directories that follow.
    pub fn write(program: &Path, arguments: &[&str], directories: &[PathBuf], uid: u32, gid: u32) -> Self {
        use std::os::unix::process::CommandExt as _;
        let mut command = Command::new(program);
        command.args(arguments).args(directories).env_clear().current_dir("/").uid(uid).gid(gid);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let writer = command.spawn().ok().and_then(|mut child| {
            let said = child.stdout.take()?;
            fcntl(&said, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).ok()?;
            Some((child, said))
        });
        Self { directories: directories.to_vec(), writer, progress: Progress::default() }
    }

    /// A look.
    pub fn look(&mut self) -> Disk<'_> {
        let Some((child, said)) = self.writer.as_mut() else { return Disk::Unwatched };
        let mut buffer = [0; 64];
        let read = match std::io::Read::read(said, &mut buffer) {
            Ok(0) => {
                let _ = child.try_wait();
                self.writer = None;
                return Disk::Unwatched;
            }
            Ok(read) => read,
            Err(_) => 0,
        };
        let hanging = self.progress.look(&buffer[..read]).and_then(|number| self.directories.get(number));
        hanging.map_or(Disk::Answers, |directory| Disk::Hangs(directory))
    }
}

/// What the writer does, until whoever started it is gone: a block to the disk of each directory, and a byte to standard output before each.
///
/// What the file system refuses (a full disk, a mode, a link in the place of the file) is an answer: such a disk does not hang.
pub fn write_for_ever(directories: &[&OsStr]) {
    let mut out = std::io::stdout();
    let mut say = |byte: u8| out.write_all(&[byte]).and_then(|()| out.flush()).is_ok();
    loop {
        for (number, directory) in (0..THROUGH).zip(directories) {
            if !say(number) {
                return;
            }
            // Opened anew: a file that is kept open keeps its file system from being unmounted.
            let flags = OFlag::O_DSYNC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(flags.bits())
                .open(Path::new(directory).join(FILE));
            let _ = file.and_then(|file| file.write_all_at(&BLOCK, 0));
        }
        if !say(THROUGH) || nobody_reads_within(EVERY) {
            return;
        }
    }
}

/// Waits. Whoever started the writer is gone when nobody reads what it says any more, which ends the waiting. The kernel's word for the end
/// of a parent (`PR_SET_PDEATHSIG`) does not come from one that runs as another user.
fn nobody_reads_within(limit: Duration) -> bool {
    let out = std::io::stdout();
    let limit = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
    poll(&mut [PollFd::new(out.as_fd(), PollFlags::empty())], limit).is_ok_and(|ready| ready > 0)
}

/// One of the directories for each file system that they are on, those that are not there left out.
pub fn one_each(directories: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let mut seen = Vec::new();
    let mut chosen = Vec::new();
    for directory in directories {
        let Ok(found) = std::fs::metadata(&directory) else { continue };
        if found.is_dir() && !seen.contains(&found.dev()) {
            seen.push(found.dev());
            chosen.push(directory);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found with what it says in each look.
    fn after(said: impl IntoIterator<Item = &'static [u8]>) -> Option<usize> {
        let mut progress = Progress::default();
        said.into_iter().fold(None, |_, said| progress.look(said))
    }

    const QUIET: &[u8] = &[];

    #[test]
    fn a_block_that_is_on_its_way_for_long_hangs() {
        let begun: &[u8] = &[0, THROUGH, 0, 1];
        let quiet = |looks: u32| std::iter::once(begun).chain((0..looks).map(|_| QUIET));
        assert_eq!(after(quiet(PATIENCE - 1)), None);
        assert_eq!(after(quiet(PATIENCE)), Some(1), "the second directory");
        assert_eq!(after(quiet(PATIENCE).chain([&[THROUGH] as &[u8]])), None, "it came back");
    }

    #[test]
    fn a_writer_that_sleeps_or_never_began_says_nothing_of_the_disk() {
        assert_eq!(after((0..1000).map(|_| QUIET)), None);
        assert_eq!(after(std::iter::once(&[0, THROUGH] as &[u8]).chain((0..1000).map(|_| QUIET))), None);
    }

    #[test]
    fn one_directory_of_each_file_system() {
        let own = std::env::temp_dir();
        assert_eq!(one_each([own.clone(), own.clone(), PathBuf::from("/proc"), PathBuf::from("/no/such")]), [own, PathBuf::from("/proc")]);
    }
}
