//! `ocf:systole:redis`: Redis and Valkey replication as a promotable clone.
//!
//! An action observes, decides, applies. What it decides is in `election` and needs no server; what it says to the
//! server is in `server`; what it remembers, locally and in the CIB, is in `state` and `record`.

mod agent;
mod conf;
mod election;
mod exposure;
mod info;
mod lifecycle;
mod monitor;
mod params;
mod preference;
mod record;
mod resp;
mod role;
mod server;
mod state;
mod succession;
mod validate;

pub use agent::Redis;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<Redis> {
    ocf::Agent::new().promotable().reloadable()
}

/// The parsers, for the fuzz targets.
pub mod parsers {
    /// Reads a server configuration.
    pub fn configuration(text: &str) {
        let _ = crate::conf::directives(text);
    }

    /// Reads an `INFO` reply.
    pub fn info(text: &str) {
        let _ = crate::info::Info::parse(text);
    }

    /// Reads a published position.
    pub fn position(text: &str) {
        let _ = crate::election::Position::parse(text);
    }

    /// Reads the record of the CIB.
    pub fn record(text: &str) {
        let _ = crate::record::Record::parse(text);
    }
}
