//! The cluster, as an agent sees it: promotion score, attributes, CIB properties, quorum.
//!
//! The only place that asks Pacemaker. What is on the way of a failover is asked of its daemons over a connection (ipc.rs), which costs
//! a tenth of a millisecond of a processor; whatever is unexpected there, and the rest, is asked with the command line tools, which are
//! a process of 10 ms each. So what is asked for again and again is remembered. Nothing is linked: the sonames of Pacemaker's libraries
//! differ between Pacemaker 2 and 3, and libqb is opened when it is needed.
//!
//! Who answers is behind the trait [`Pacemaker`]: the daemons and tools of this node (local.rs), or, in tests, a cluster in memory that
//! several nodes share (in_memory.rs). How a resource's names are made, what is remembered, and what a replaced property has to read as
//! afterwards is the same for both: [`Cluster`].
//!
//! Without a cluster (`ocf-tester`, a person at the shell) everything here succeeds quietly and knows nothing.

mod cluster;
#[cfg(feature = "in-memory")]
mod in_memory;
mod ipc;
mod local;
mod score;
mod tools;
mod watch;

pub use cluster::{Cluster, Error, FENCING, Membership, Pacemaker};
#[cfg(feature = "in-memory")]
pub use in_memory::InMemory;
pub use local::longest_call;
pub use score::Score;
pub use watch::{Disks, WATCHER_ENDING, Watcher, watch};

/// The parsers, for the fuzz targets.
pub mod parsers {
    /// Reads what `attrd_updater --query` prints.
    pub fn attributes(text: &str) {
        let _ = crate::tools::attribute_values(text);
    }

    /// Reads what a daemon answers, as the answer to each kind of question.
    pub fn answers(bytes: &[u8]) {
        crate::ipc::read_as_anything(bytes);
    }
}
