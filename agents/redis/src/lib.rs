//! `ocf:systole:redis`: Redis and Valkey replication as a promotable clone.
//!
//! What an instance does in each action is in `protocol`, which does nothing by itself: `engine` carries out what it asks for. Who may be
//! promoted is decided in `election`; what is said to the server is in `server`; what is remembered, locally and in the CIB, is in `state`
//! and `record`.

mod agent;
mod conf;
mod election;
mod engine;
mod exposure;
mod info;
mod lifecycle;
mod limits;
pub mod operator;
mod params;
mod preference;
mod protocol;
mod record;
mod resp;
mod said;
mod sequences;
mod server;
mod state;
mod validate;

pub use agent::Redis;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<Redis> {
    ocf::Agent::new().promotable().reloadable()
}

/// The parsers, for the fuzz targets.
pub mod parsers {
    use std::time::{Duration, Instant};

    /// Reads a server configuration, and what is made of it.
    pub fn configuration(text: &str) {
        let Ok(conf) = crate::conf::Conf::from_text(text) else { return };
        let _ = (conf.addresses(), conf.log_file(), conf.check_passwords(), conf.renamed_commands().count());
        let _ = crate::exposure::exposure(&conf, std::path::Path::new("/x"), false);
    }

    /// Reads replies until those who sent them have said all.
    pub fn replies(bytes: &[u8]) {
        let Ok((ours, mut theirs)) = std::os::unix::net::UnixStream::pair() else { return };
        if std::io::Write::write_all(&mut theirs, bytes).is_err() {
            return;
        }
        drop(theirs);
        let until = Instant::now() + Duration::from_secs(1);
        let mut connection = crate::resp::Connection::from(ours);
        let mut read = 0;
        while connection.next(until).is_ok() {
            read += 1;
            assert!(read <= bytes.len(), "a reply out of nothing");
        }
    }

    /// Reads the parameters of a resource: a name and a value in turn.
    pub fn parameters(text: &str) {
        let lines: Vec<&str> = text.split('\n').collect();
        let pairs = lines.chunks_exact(2).map(|pair| (format!("OCF_RESKEY_{}", pair[0]), pair[1].to_owned()));
        if let Ok(values) = ocf::Values::read(crate::params::ALL, &ocf::Environment::from_pairs(pairs)) {
            let _ = crate::params::Params::new(&values).address_of("a");
        }
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
