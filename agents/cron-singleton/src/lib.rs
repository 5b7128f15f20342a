//! `ocf:systole:cron-singleton`: the cron jobs of a user run on exactly one node.

pub mod crontab;
pub mod installed;
pub mod schedule;
