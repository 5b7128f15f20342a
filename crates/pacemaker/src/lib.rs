//! The cluster, as an agent sees it: promotion score, attributes, CIB properties, quorum.
//!
//! The only place that calls Pacemaker's command line tools. Each call is a process of about 10 ms, so what is asked
//! for again and again is remembered. The tools are called rather than the libraries linked, because the libraries'
//! sonames differ between Pacemaker 2 and 3.
//!
//! Without a cluster (`ocf-tester`, a person at the shell) everything here succeeds quietly and knows nothing.

mod cluster;
mod ipc;
mod score;
mod tools;
mod watch;

pub use cluster::{Cluster, Error, Membership, longest_call};
pub use score::Score;
pub use watch::{Disks, WATCHER_ENDING, Watcher, watch};

/// The parsers, for the fuzz targets.
pub mod parsers {
    /// Reads what `attrd_updater --query` prints.
    pub fn attributes(text: &str) {
        let _ = crate::tools::attribute_values(text);
    }
}
