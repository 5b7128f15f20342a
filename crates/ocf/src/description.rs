//! What an agent says about itself.

use crate::Parameter;

/// The static description of an agent. Everything that is generated comes from here.
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// `redis` in `ocf:systole:redis`.
    pub name: &'static str,
    /// The agent's own version.
    pub version: &'static str,
    /// One line.
    pub short: &'static str,
    /// Paragraphs, separated by an empty line.
    pub long: &'static str,
    /// The parameters, in the order of the documentation.
    pub parameters: &'static [Parameter],
    /// The timeouts and intervals to advertise.
    pub timeouts: Timeouts,
}

/// Advertised timeouts and monitor intervals, in seconds. Snippets must not go below the timeouts.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// start
    pub start: u32,
    /// stop
    pub stop: u32,
    /// monitor of every role
    pub monitor: u32,
    /// interval of the monitor of a promoted instance, or of the only one
    pub interval: u32,
    /// interval of the monitor of an unpromoted instance; Pacemaker wants it to differ
    pub interval_unpromoted: u32,
    /// promote
    pub promote: u32,
    /// demote
    pub demote: u32,
    /// notify
    pub notify: u32,
}
