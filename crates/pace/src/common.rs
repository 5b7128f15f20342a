//! What one process has counted, for the others of the same user and priority on this machine. It stands in a file in memory; who has its
//! lock is the one that looks. When that process ends, the next one has the lock.
//!
//! Whoever only reads goes on between two looks as fast as the last one was, so that it does not matter when it reads. When there was no
//! look for long (the process that has the lock is stopped), it looks for itself.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::time::{ClockId, clock_gettime};

use crate::{NAP, WORK};

/// After so long without a look nobody looks.
const SILENT: Duration = Duration::from_secs(1);

/// The last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// All that was counted so far.
    total: Duration,
    /// When it ended, by the clock of the machine.
    at: Duration,
    /// What it counted itself, for the nap before it.
    worth: Duration,
}

impl Look {
    /// What is counted at a later moment: a nap goes on as the last one was, and no longer than one lasts.
    fn counted_at(&self, now: Duration) -> Duration {
        let whole = NAP + WORK;
        let since = now.saturating_sub(self.at).min(whole);
        self.total + self.worth.mul_f64(since.as_secs_f64() / whole.as_secs_f64())
    }

    fn bytes(&self) -> Vec<u8> {
        [self.total, self.at, self.worth].iter().flat_map(|d| u64::try_from(d.as_micros()).unwrap_or(0).to_ne_bytes()).collect()
    }

    fn read(bytes: [u8; 24]) -> Self {
        let number = |n: usize| bytes[n..n + 8].try_into().map_or(0, u64::from_ne_bytes);
        let [total, at, worth] = [0, 8, 16].map(|n| Duration::from_micros(number(n)));
        Self { total, at, worth }
    }
}

/// The file, held or not.
#[derive(Debug)]
enum Held {
    Mine(Flock<File>),
    Others(File),
}

/// The count of all.
#[derive(Debug)]
pub(crate) struct Common {
    held: Option<Held>,
    /// What this process has taken from it.
    taken: Duration,
}

impl Common {
    /// `None` when there is no such file to be had: everybody looks for himself then.
    pub(crate) fn open() -> Option<Self> {
        let user = nix::unistd::geteuid().as_raw();
        let path = format!("/dev/shm/systole-pace-{user}-{}", priority()?);
        Self::at(&path, user)
    }

    fn at(path: &str, user: u32) -> Option<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path).ok()?;
        let known = file.metadata().ok()?;
        let taken = last(&file).counted_at(clock());
        (known.is_file() && known.uid() == user).then_some(Self { held: Some(Held::Others(file)), taken })
    }

    /// What has counted since the last call: by a look of this process, when it has the lock, or by those of the one that has it. `None`
    /// when that one does not look.
    pub(crate) fn next(&mut self, look: impl FnOnce() -> Duration) -> Option<Duration> {
        let held = match self.held.take()? {
            Held::Others(file) => {
                Flock::lock(file, FlockArg::LockExclusiveNonblock).map_or_else(|(file, _)| Held::Others(file), Held::Mine)
            }
            mine @ Held::Mine(_) => mine,
        };
        let counted = match &held {
            Held::Mine(file) => {
                let worth = look();
                let next = Look { total: last(file).total.max(self.taken) + worth, at: clock(), worth };
                self.taken = next.total;
                file.write_all_at(&next.bytes(), 0).is_ok().then_some(worth)
            }
            Held::Others(file) => {
                let (look, now) = (last(file), clock());
                let total = look.counted_at(now).max(self.taken);
                let counted = total - std::mem::replace(&mut self.taken, total);
                (now.saturating_sub(look.at) < SILENT).then_some(counted)
            }
        };
        self.held = Some(held);
        counted
    }
}

fn last(file: &File) -> Look {
    let mut bytes = [0; 24];
    file.read_exact_at(&mut bytes, 0).map_or_else(|_| Look::default(), |()| Look::read(bytes))
}

fn clock() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// The nice value. Who stands back for others is not as fast as they are.
fn priority() -> Option<i32> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_looks_it_goes_on_as_fast_as_before_and_no_longer_than_a_nap() {
        let (whole, second) = (NAP + WORK, Duration::from_secs(1));
        let look = Look { total: second, at: second * 5, worth: whole / 2 };
        assert_eq!(Look::read(look.bytes().try_into().expect("three numbers")), look);
        assert_eq!(look.counted_at(second * 5), second);
        assert_eq!(look.counted_at(second * 5 + whole / 2), second + whole / 4);
        assert_eq!(look.counted_at(second * 9), second + whole / 2);
        assert_eq!(look.counted_at(second), second);
    }

    #[test]
    fn one_looks_for_all_and_the_next_one_when_it_is_gone() {
        let path = std::env::temp_dir().join(format!("systole-pace-test-{}", std::process::id())).display().to_string();
        let user = nix::unistd::geteuid().as_raw();
        let open = || Common::at(&path, user).expect("a file of its own");
        let (mut one, mut other) = (open(), open());
        let looks = std::cell::Cell::new(0);
        let look = || {
            looks.set(looks.get() + 1);
            NAP + WORK
        };
        assert_eq!(one.next(look), Some(NAP + WORK));
        std::thread::sleep(NAP);
        one.next(look);
        // Before it looked, nobody had.
        assert!(other.next(look).is_some_and(|heard| heard >= NAP + WORK && heard <= (NAP + WORK) * 3), "what the first has counted");
        assert_eq!(looks.get(), 2, "the second has only read");
        drop(one);
        assert_eq!(other.next(look), Some(NAP + WORK));
        assert_eq!(looks.get(), 3, "the second looks when the first is gone");
        // Somebody who has the lock and does not look.
        let mut third = open();
        if let Some(Held::Mine(file)) = &other.held {
            let silent = Look { at: clock().saturating_sub(SILENT * 2), ..last(file) };
            file.write_all_at(&silent.bytes(), 0).expect("a file of its own");
        }
        assert_eq!(third.next(look), None);
        std::fs::remove_file(&path).expect("it is there");
    }
}
