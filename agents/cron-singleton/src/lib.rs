//! `ocf:systole:cron-singleton`: the cron jobs of a user run on exactly one node.

pub mod crontab;
pub mod history;
pub mod installed;
pub mod place;
pub mod schedule;
pub mod wrapper;
