//! `ocf:systole:cron-singleton`: the cron jobs of a user run on exactly one node.

mod agent;
mod agreement;
pub mod claims;
pub mod command;
pub mod command_page;
pub mod crontab;
mod daemon;
mod drain;
pub mod history;
pub mod import;
pub mod installed;
pub mod mark;
mod params;
pub mod place;
pub mod plan;
pub mod schedule;
mod settling;
pub mod source;
mod systemd;
mod target;
mod timers;
pub mod wrapper;

pub use agent::CronSingleton;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<CronSingleton> {
    ocf::Agent::new()
}
