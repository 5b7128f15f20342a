//! Processes and files: the only place of the agents that spawns, signals or waits for a process, or touches a file of somebody else.
//!
//! Commands have a deadline and keep their stderr. Servers are started as their user, in a session of their own.
//! A process is named by its pid *and* its start time, so that no record can ever name a foreign process.

mod account;
mod command;
mod daemon;
mod detach;
mod directory;
mod disk;
mod file;
mod files;
mod identity;
mod lookup;
pub mod own;
mod packet;
mod place;
mod reaper;
mod scope;
mod socket;

pub use account::Account;
pub use command::{CommandError, Finished, run, run_as, run_bounded, run_heard};
pub use daemon::{Daemon, DaemonError, Spawned};
pub use detach::{detach, kill_session};
pub use directory::Directory;
pub use disk::{Disk, Disks, one_each, write_for_ever};
pub use file::{Locked, lock, write_atomically};
pub use files::{Files, Space, plain_name, read_file};
pub use identity::{Identity, State, boot_id, since_boot};
pub use lookup::{UnknownAccount, find_account};
pub use packet::PacketSocket;
pub use place::open_by_roots_word;
pub use reaper::{Tell, run_with_orphans, until_told};
/// Rights of root, as a set.
pub use rustix::thread::CapabilitySet as Capabilities;
pub use scope::{control_group, enclose};
pub use socket::{connect, listener, listens, loopback_listeners};
