//! Which process, and is it still that one: pid and start time, and signals through a pidfd.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// What the kernel says a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Alive.
    Alive,
    /// Alive, and stopped by a signal or a debugger: it cannot answer.
    Frozen,
    /// Killed: nothing of it runs any more, but a thread of it is still in the kernel, on a disk that hangs perhaps, and what it had
    /// asked for there may yet be done.
    Doomed,
    /// Not there, or a zombie, or ending: it asks the kernel for nothing any more. Memory, files and locks may still be its own, since
    /// giving 8 GiB of memory back takes the kernel about a second; [`Identity::wait_gone`] waits for that.
    Gone,
}

/// A thread that ends (`PF_EXITING`), or that a signal is ending (`PF_SIGNALED`: it may still write a core dump): field 9 of its stat.
/// Neither comes back from there.
const ENDING: u64 = 0x4 | 0x400;
/// SIGKILL among the signals that wait for a thread, field 31.
const KILL: u64 = 1 << (9 - 1);

/// What a thread can still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thread {
    Runs,
    Stopped,
    /// It never returns from the kernel, where it is at something.
    Doomed,
    Over,
}

/// What the kernel says of a process or a thread of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    letter: char,
    flags: u64,
    /// When it started, in clock ticks since boot.
    start: u64,
    /// The signals that wait for this thread alone. A signal that kills the whole process is put there for each.
    pending: u64,
}

impl Stat {
    fn thread(self) -> Thread {
        match self.letter {
            'Z' | 'X' | 'x' => Thread::Over,
            _ if self.flags & ENDING != 0 => Thread::Over,
            // The kernel looks for it before it lets a thread out, and a thread that is only stopped is woken for it.
            _ if self.pending & KILL != 0 => Thread::Doomed,
            'T' | 't' => Thread::Stopped,
            _ => Thread::Runs,
        }
    }
}

/// The nice value of who gets what nobody else wants.
const LAST: i32 = 19;

/// What the kernel counts as one tick of processor time (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// How often a process is looked at that is to die at once.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// A process: its number and when it started, in clock ticks since boot. The pair is unique until the next boot;
/// the boot's id makes a record from before it recognisable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The process number.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat.
    pub start_ticks: u64,
    /// /proc/sys/kernel/random/boot_id
    pub boot: String,
}

impl Identity {
    /// The process that has this number now, `None` when none has.
    pub fn of(pid: i32) -> Option<Self> {
        let start_ticks = stat(&first_thread(pid))?.start;
        Some(Self { pid, start_ticks, boot: this_boot() })
    }

    /// This process, `None` without /proc. It has few threads, so the file that adds up what all of them have used is the shorter way.
    pub fn own() -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        Some(Self { pid, start_ticks: stat(Path::new("/proc/self/stat"))?.start, boot: this_boot() })
    }

    /// What it does now. Another process under the same number counts as gone.
    ///
    /// The first thread speaks for all as long as it is neither ending nor killed. After that the others are asked: a first thread may
    /// end by itself (`pthread_exit`) while the others run on, and then nothing has happened to the process. When a process is killed, or
    /// ends, every thread of it gets a SIGKILL in the same moment, so all of them are found doomed or over, and none can begin another.
    ///
    /// A process that begins to die in the very moment of the look may still be called alive: the kernel writes the flags of a thread
    /// before its signals, and takes the SIGKILL from the signals before it sets the flag. The next look is right. Nobody who has killed
    /// it may therefore look only once: [`Identity::wait_dead`].
    pub fn state(&self) -> State {
        match stat(&first_thread(self.pid)).filter(|first| self.is_of(first)).map(Stat::thread) {
            None => State::Gone,
            Some(Thread::Runs) => State::Alive,
            Some(Thread::Stopped) => State::Frozen,
            Some(first @ (Thread::Doomed | Thread::Over)) => others(self.pid, first),
        }
    }

    /// Whether it is there, frozen or not, or may at least come to the end of what it is at in the kernel.
    pub fn is_alive(&self) -> bool {
        self.state() != State::Gone
    }

    /// Whether it will ever run again: answer a client, begin to write something.
    pub fn runs(&self) -> bool {
        matches!(self.state(), State::Alive | State::Frozen)
    }

    fn is_of(&self, first: &Stat) -> bool {
        first.start == self.start_ticks && self.boot == this_boot()
    }

    /// Processor time that it has used, user and system, in clock ticks; `None` when it is gone.
    pub fn cpu_ticks(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    }

    /// Processor time that its first thread has used: in nanoseconds, so that also what hardly works is seen to. In clock ticks where the
    /// kernel does not count that (`CONFIG_SCHED_INFO`). `None` when it is gone.
    pub fn first_thread_time(&self) -> Option<Duration> {
        let thread = first_thread(self.pid);
        let exact = std::fs::read_to_string(thread.with_file_name("schedstat")).ok().and_then(|text| parse_time(&text));
        exact.or_else(|| parse_ticks(&std::fs::read_to_string(thread).ok()?))
    }

    /// Who it runs as, `None` when that cannot be told. From /proc/PID/status: /proc/PID belongs to root for whoever changed its user.
    pub fn user(&self) -> Option<u32> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
    }

    /// The program that it runs. After an upgrade its file may be gone, and the path is what it was.
    pub fn program(&self) -> Option<PathBuf> {
        let program = std::fs::read_link(format!("/proc/{}/exe", self.pid)).ok()?;
        Some(program.to_string_lossy().trim_end_matches(" (deleted)").into())
    }

    /// Its working directory.
    pub fn directory(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()
    }

    /// Asks it to end. Nothing happens when it is gone.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends it. Nothing happens when it is gone.
    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits until it is gone with all that was its own, memory and locks of files, at most for `limit`. Returns whether it is.
    pub fn wait_gone(&self, limit: Duration) -> bool {
        self.pidfd().is_none_or(|fd| is_ready(&fd, limit))
    }

    /// The same, however long that takes.
    pub fn wait_gone_forever(&self) {
        while !self.wait_gone(Duration::from_secs(86_400)) {}
    }

    /// Waits until it will never run again, at most for `limit`. Returns whether that is so. It may still hold files and their locks.
    pub fn wait_dead(&self, limit: Duration) -> bool {
        let Some(fd) = self.pidfd() else { return true };
        let until = Instant::now() + limit;
        while self.runs() {
            let left = until.saturating_duration_since(Instant::now());
            if is_ready(&fd, left.min(BETWEEN_LOOKS)) {
                return true;
            }
            if left.is_zero() {
                return false;
            }
        }
        true
    }

    /// Waits until it will never run again, however long that takes. It is known at most `every` later, when `look` was called as well.
    pub fn wait_dead_forever(&self, every: Duration, mut look: impl FnMut()) {
        let Some(fd) = self.pidfd() else { return };
        // Opened once: it stays with this process, whoever gets its number later. In .../task, because the file above adds up what all
        // threads have used, and a server has thousands.
        let first = File::open(first_thread(self.pid)).ok();
        // Longer than the line ever is.
        let mut line = [0; 1024];
        while !is_ready(&fd, every) {
            let length = first.as_ref().and_then(|file| file.read_at(&mut line, 0).ok()).unwrap_or_default();
            let seen = std::str::from_utf8(&line[..length]).ok().and_then(parse_stat).map(Stat::thread);
            if !matches!(seen, Some(Thread::Runs | Thread::Stopped)) && !self.runs() {
                return;
            }
            look();
        }
    }

    /// Has its threads stand back where others want the processor as well, and what it starts from then on. Nothing happens when it is gone.
    pub fn stand_back(&self) {
        self.renice(|_| true, LAST);
    }

    /// Has those that stand back come forward, to where this process stands. Where somebody else has put a thread, it stays.
    pub fn come_forward(&self) {
        let usual = rustix::process::getpriority_process(None).unwrap_or(0);
        self.renice(|nice| nice == LAST, usual);
    }

    fn renice(&self, which: impl Fn(i32) -> bool, nice: i32) {
        // Twice: a thread may have begun another one while this went through them.
        for _ in 0..2 {
            if !stat(&first_thread(self.pid)).is_some_and(|first| self.is_of(&first)) {
                return;
            }
            for thread in std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten() {
                let number = thread.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
                // It may have ended meanwhile.
                if number.is_some_and(|number| rustix::process::getpriority_process(Some(number)).is_ok_and(&which)) {
                    let _ = rustix::process::setpriority_process(number, nice);
                }
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(fd) = self.pidfd() {
            // ESRCH: it went in between, which is what was wanted.
            let _ = pidfd_send_signal(&fd, signal);
        }
    }

    /// A descriptor of exactly this process, which may be dying. The start time is compared *after* opening: what the descriptor
    /// holds cannot be reused any more.
    fn pidfd(&self) -> Option<OwnedFd> {
        let fd = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        stat(&first_thread(self.pid)).is_some_and(|first| self.is_of(&first)).then_some(fd)
    }
}

/// Whether the process behind the descriptor is gone within `limit`.
fn is_ready(fd: &OwnedFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = rustix::time::Timespec::try_from(until.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::new(&fd.as_fd(), PollFlags::IN)], left.as_ref()) {
            Ok(0) => return false,
            // A signal handler ran; nothing of ours installs one, so ask again.
            Err(rustix::io::Errno::INTR) => {}
            // A descriptor that cannot be polled is no process.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// What is left of a process whose first thread never comes back.
fn others(pid: i32, first: Thread) -> State {
    let mut doomed = first == Thread::Doomed;
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        // One that cannot be read has ended in between.
        match stat(&entry.path().join("stat")).map_or(Thread::Over, Stat::thread) {
            Thread::Runs | Thread::Stopped => return State::Alive,
            Thread::Doomed => doomed = true,
            Thread::Over => {}
        }
    }
    if doomed { State::Doomed } else { State::Gone }
}

fn first_thread(pid: i32) -> PathBuf {
    format!("/proc/{pid}/task/{pid}/stat").into()
}

fn stat(path: &Path) -> Option<Stat> {
    parse_stat(&std::fs::read_to_string(path).ok()?)
}

/// The command name stands in parentheses and may hold anything, parentheses too: the fields begin after the last.
fn parse_stat(text: &str) -> Option<Stat> {
    // They are numbered from 1, and the third is the first of these.
    let mut fields = (3..).zip(text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace());
    let mut field = |wanted: u32| fields.find(|(number, _)| *number == wanted).map(|(_, text)| text);
    Some(Stat {
        letter: field(3)?.chars().next()?,
        flags: field(9)?.parse().ok()?,
        start: field(22)?.parse().ok()?,
        pending: field(31)?.parse().ok()?,
    })
}

/// The first field of a thread's schedstat. All are 0 where the kernel does not count.
fn parse_time(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().filter(|time| *time > 0).map(Duration::from_nanos)
}

/// Fields 14 and 15 of a thread's stat, user and system time.
fn parse_ticks(text: &str) -> Option<Duration> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(TICK * u32::try_from(ticks).ok()?)
}

/// This boot. Any user may read it, also where /proc hides the processes of others (`hidepid`).
///
/// # Errors
/// What the file system says: without /proc nothing is known of any process.
pub fn boot_id() -> std::io::Result<String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    // It stays what it is for as long as a process lives, and every record of a process asks for it.
    static KNOWN: OnceLock<String> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let read = std::fs::read_to_string(FILE).map_err(|e| std::io::Error::new(e.kind(), format!("{FILE}: {e}")))?;
    Ok(KNOWN.get_or_init(|| read.trim().to_owned()).clone())
}

/// The same for the identity of a process, which is nothing without it.
fn this_boot() -> String {
    boot_id().unwrap_or_default()
}

/// The time since boot, suspended time included: what ages of records are measured with. The wall clock can step.
pub fn since_boot() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not_it() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(me.state(), State::Alive);
        assert_eq!(Identity::own(), Some(me.clone()));
        let other = Identity { start_ticks: me.start_ticks + 1, ..me.clone() };
        assert_eq!(other.state(), State::Gone);
        let before_reboot = Identity { boot: "another".into(), ..me };
        assert_eq!(before_reboot.state(), State::Gone);
    }

    #[test]
    fn a_foreign_process_is_never_signalled() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let mut identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.start_ticks -= 1;
        identity.kill();
        assert!(child.try_wait().unwrap().is_none());
        identity.start_ticks += 1;
        identity.kill();
        assert!(identity.wait_gone(Duration::from_secs(5)));
        let _ = child.wait();
    }

    #[test]
    fn all_threads_stand_back_and_come_back() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let nice = || {
            let text = std::fs::read_to_string(first_thread(identity.pid)).unwrap();
            text[text.rfind(')').unwrap() + 1..].split_ascii_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let usual = nice();
        identity.stand_back();
        assert_eq!(nice(), 19);
        let other = Identity { start_ticks: identity.start_ticks + 1, ..identity.clone() };
        other.come_forward();
        assert_eq!(nice(), 19, "that is another process");
        if rustix::process::geteuid().is_root() {
            identity.come_forward();
            assert_eq!(nice(), usual);
            identity.renice(|_| true, usual + 3);
            identity.come_forward();
            assert_eq!(nice(), usual + 3, "somebody else has put it there");
        }
        child.kill().unwrap();
        let _ = child.wait();
    }

    #[test]
    fn a_frozen_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        identity.signal(Signal::STOP);
        while identity.state() == State::Alive {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(identity.state(), State::Frozen);
        identity.kill();
        assert!(identity.wait_dead(Duration::from_secs(5)));
        let _ = child.wait();
        assert_eq!(identity.state(), State::Gone);
    }

    /// The kernel gives the memory of a killed process back for a long time, and its files and locks only after that.
    #[test]
    fn a_killed_process_is_dead_before_its_memory_is_free() {
        // The kernel may be done with that before this thread has its turn again, so it is tried more than once.
        assert!((0..20).any(|_| dead_before_its_memory_was_free()), "it is never known to be dead before its memory is free");
    }

    fn dead_before_its_memory_was_free() -> bool {
        let mut child = std::process::Command::new("dd")
            .args(["if=/dev/zero", "of=/dev/null", "bs=1G"])
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let identity = Identity::of(i32::try_from(child.id()).unwrap()).unwrap();
        let resident = || std::fs::read_to_string(format!("/proc/{}/statm", child.id())).ok()?.split(' ').nth(1)?.parse::<u64>().ok();
        while resident().unwrap() < 200_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(identity.runs());
        identity.kill();
        assert!(identity.wait_dead(Duration::from_secs(20)), "killed, and {:?}", identity.state());
        identity.wait_dead_forever(Duration::from_millis(1), || ());
        let still_there = !identity.wait_gone(Duration::ZERO);
        assert!(identity.wait_gone(Duration::from_secs(20)));
        let _ = child.wait();
        still_there
    }

    /// Its first thread has ended by itself and is a zombie; the process lives.
    #[test]
    #[allow(unsafe_code, reason = "there is no safe way to end only the first thread of a process")]
    fn a_process_whose_first_thread_has_ended_is_alive() {
        // SAFETY: the child allocates and starts a thread, for which glibc keeps its locks right over a fork.
        let child = match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                std::thread::spawn(|| std::thread::sleep(Duration::from_secs(30)));
                // SAFETY: it ends this thread alone, whose stack stays; nothing is unwound or dropped.
                unsafe { nix::libc::syscall(nix::libc::SYS_exit, 0) };
                unreachable!()
            }
            nix::unistd::ForkResult::Parent { child } => child,
        };
        let identity = Identity::of(child.as_raw()).unwrap();
        while stat(&first_thread(child.as_raw())).unwrap().letter != 'Z' {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(identity.state(), State::Alive);
        assert!(!identity.wait_dead(Duration::from_millis(20)));
        identity.kill();
        assert!(identity.wait_dead(Duration::from_secs(5)) && identity.wait_gone(Duration::from_secs(5)));
        assert_eq!(identity.state(), State::Gone);
        let _ = nix::sys::wait::waitpid(child, None);
    }

    /// In clock ticks it does nothing for seconds.
    #[test]
    #[allow(unsafe_code, reason = "another process than this one is looked at")]
    fn a_process_that_hardly_works_is_seen_to_work_and_one_that_sleeps_is_not() {
        let while_it_sleeps = |each: Duration| {
            // SAFETY: the child sleeps and does nothing else.
            let child = match unsafe { nix::unistd::fork() }.unwrap() {
                nix::unistd::ForkResult::Child => loop {
                    std::thread::sleep(each);
                },
                nix::unistd::ForkResult::Parent { child } => child,
            };
            let identity = Identity::of(child.as_raw()).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            let before = identity.first_thread_time().unwrap();
            std::thread::sleep(Duration::from_millis(200));
            let worked = identity.first_thread_time().unwrap() - before;
            identity.kill();
            let _ = nix::sys::wait::waitpid(child, None);
            assert_eq!(identity.first_thread_time(), None);
            worked
        };
        let little = while_it_sleeps(Duration::from_millis(5));
        assert!(little > Duration::ZERO && little < Duration::from_millis(50), "{little:?}");
        assert_eq!(while_it_sleeps(Duration::from_secs(60)), Duration::ZERO);
    }

    #[test]
    fn where_the_kernel_does_not_count_nanoseconds_ticks_are_counted() {
        assert_eq!(
            parse_time(
                "4200 17 3
"
            ),
            Some(Duration::from_nanos(4200))
        );
        assert_eq!(
            parse_time(
                "0 0 0
"
            ),
            None
        );
        assert_eq!(parse_ticks("12 (a) S 1 12 12 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 777"), Some(Duration::from_millis(70)));
    }

    #[test]
    fn what_a_thread_can_still_do() {
        let thread = |letter, flags, pending| Stat { letter, flags, start: 1, pending }.thread();
        assert_eq!(thread('S', 0x0040_0140, 0), Thread::Runs);
        assert_eq!(thread('D', 0x0040_0140, 0), Thread::Runs, "it may come back");
        assert_eq!(thread('D', 0x0040_0140, 1 << 14), Thread::Runs, "SIGTERM alone ends nobody");
        assert_eq!(thread('T', 0x0040_0140, 0), Thread::Stopped);
        assert_eq!(thread('T', 0x0040_0140, KILL), Thread::Doomed);
        assert_eq!(thread('D', 0x0040_0140, KILL), Thread::Doomed, "the disk hangs; when it answers, the thread ends");
        assert_eq!(thread('R', 0x0040_0144, 0), Thread::Over, "it gives its memory back");
        assert_eq!(thread('D', 0x0040_0540, 0), Thread::Over, "it writes a core dump");
        assert_eq!(thread('Z', 0, 0), Thread::Over);
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse_the_fields() {
        let text = "12 (a) R 1 (b) S 1 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 1 1 1 1 1 1 1 256 0";
        assert_eq!(parse_stat(text), Some(Stat { letter: 'S', flags: 4_194_560, start: 777, pending: 256 }));
        assert_eq!(parse_stat("12 (a"), None);
        assert_eq!(parse_stat("12 (a) S 1"), None);
    }
}
