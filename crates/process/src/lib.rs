//! Processes: the only place of the agents that spawns, signals or waits for one.
//!
//! Commands have a deadline and keep their stderr. Servers are started as their user, in a session of their own.
//! A process is named by its pid *and* its start time, so that no record can ever name a foreign process.

mod command;
mod daemon;
mod detach;
mod disk;
mod file;
mod identity;
mod lookup;
mod reaper;
mod socket;

pub use command::{CommandError, Finished, run};
pub use daemon::{Account, Daemon, DaemonError, Spawned};
pub use detach::{detach, kill_session};
pub use disk::{Disks, one_each, write_for_ever};
pub use file::{Locked, lock, open_file, read_file, room, write_atomically};
pub use identity::{Identity, State, boot_id, since_boot};
pub use lookup::{UnknownAccount, find_account};
pub use reaper::{Tell, run_with_orphans, until_told};
pub use socket::{connect, listener, listens};
