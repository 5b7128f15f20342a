//! `systole check`: one line for a monitoring system, with figures. Pure.

use crate::notices::{self, Level};
use crate::picture::{Condition, Database, Picture};

/// The line, as Nagios and Icinga read it, and how bad it is.
#[must_use]
pub fn line(picture: &Picture, database: &Database) -> (String, Level) {
    let notices = notices::of(picture, &[database]);
    let level = notices::level(&notices);
    let word = match level {
        Level::Good => "OK",
        Level::Degraded => "WARNING",
        Level::Broken => "CRITICAL",
        Level::Unknown => "UNKNOWN",
    };
    let text = if notices.is_empty() {
        let primary = database.promoted().first().map_or("nobody", |member| member.node.as_str()).to_owned();
        let replicas = database.members.len().saturating_sub(1);
        let able = database.acknowledging().map_or(0, |able| able.len());
        format!("{primary} is promoted, {able} of {replicas} replicas acknowledge")
    } else {
        notices.iter().map(|notice| notice.text.as_str()).collect::<Vec<_>>().join("; ")
    };
    // What stands behind the bar are figures, and a line has one.
    let text = text.replace('|', "/").replace('\n', " ");
    (format!("{word} {}: {text} | {}", database.clone, figures(database)), level)
}

fn figures(database: &Database) -> String {
    let record = database.recorded();
    let epoch = record.map_or(0, |record| record.epoch);
    let needed = database.needed().unwrap_or(0);
    let running = database.members.iter().filter(|member| member.runs()).count();
    let degraded =
        database.members.iter().filter(|member| matches!(member.condition, Condition::Degraded(_) | Condition::Failed(_))).count();
    let failures: u64 = database.members.iter().map(|member| member.failures).sum();
    let servers = database.servers.unwrap_or(database.members.len());
    // What is not known is no figure.
    let able = database.acknowledging().map_or_else(String::new, |able| format!(" acknowledging={};;;0;{servers}", able.len()));
    format!(
        "promoted={} running={running};;;0;{servers}{able} acknowledgements_required={needed} degraded={degraded} failures={failures} \
         epoch={epoch}c",
        database.promoted().len(),
    )
}
