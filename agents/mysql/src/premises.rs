//! What the promise of a replication group rests on: settings of a server, checked at start, before a promotion and with each monitor.
//! Pure.

use crate::dialect::{Dialect, Row};
use crate::gtid::Flavour;
use crate::observation::Observation;

/// What becomes of a server that does not meet one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Weight {
    /// Nobody could follow it, or nobody could be elected: it does not start and is not promoted.
    Needed,
    /// With durability=lossless an acknowledged write could be lost: the same then. Otherwise it is shown.
    Promise,
    /// It goes on, and its monitor says so.
    Shown,
}

/// A premise that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) weight: Weight,
    /// What is wrong, and the line to write.
    pub(crate) text: String,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// durability=lossless, in a cluster.
    pub(crate) lossless: bool,
    /// How many replicas must have a write.
    pub(crate) acknowledgements: usize,
}

/// What does not hold, the weightiest first. `filters`: what the server leaves out of its binary log, empty for nothing.
pub(crate) fn findings(dialect: &Dialect, seen: &Observation, filters: &str, wanted: Wanted) -> Vec<Finding> {
    let value = |name: &str| seen.variables.get(name).map(String::as_str).unwrap_or_default();
    let on = |name: &str| matches!(value(name), "1" | "ON");
    let mut findings = Vec::new();
    let mut wants = |fine: bool, weight: Weight, line: &str, why: &str| {
        if !fine {
            findings.push(Finding { weight, text: format!("{why}: write `{line}` into the option file") });
        }
    };
    let (updates, line) = if seen.variables.contains_key("log_replica_updates") {
        ("log_replica_updates", "log_replica_updates=ON")
    } else {
        ("log_slave_updates", "log_slave_updates=ON")
    };
    wants(on("log_bin"), Weight::Needed, "log_bin=binlog", "the server writes no binary log, so nobody can follow it");
    wants(on(updates), Weight::Needed, line, "a replica does not log what it applies, so nobody could follow it after a promotion");
    wants(!matches!(value("server_id"), "0" | ""), Weight::Needed, "server_id=N, another number on each node", "the server has no id");
    match dialect.flavour {
        Flavour::MySql => {
            wants(value("gtid_mode") == "ON", Weight::Needed, "gtid_mode=ON", "transactions have no GTIDs");
            wants(
                on("enforce_gtid_consistency"),
                Weight::Needed,
                "enforce_gtid_consistency=ON",
                "statements are possible that GTIDs cannot name",
            );
        }
        Flavour::MariaDb => {
            wants(
                on("gtid_strict_mode"),
                Weight::Shown,
                "gtid_strict_mode=ON",
                "transactions that went different ways can get the same number",
            );
            wants(
                value("server_id") != "1",
                Weight::Shown,
                "server_id=N, another number on each node",
                "the server has the id that every server has by default",
            );
        }
    }
    wants(value("sync_binlog") == "1", Weight::Shown, "sync_binlog=1", "a power cut loses committed transactions from the binary log");
    wants(
        value("innodb_flush_log_at_trx_commit") == "1",
        Weight::Shown,
        "innodb_flush_log_at_trx_commit=1",
        "a power cut loses committed transactions from the tables",
    );
    wants(value("binlog_format") != "STATEMENT", Weight::Shown, "binlog_format=ROW", "statements can have another effect on a replica");
    for name in dialect.settings.iter().filter(|name| name.ends_with("_exec_mode")) {
        wants(
            value(name) == "STRICT",
            Weight::Promise,
            &format!("{name}=STRICT"),
            "a replica passes over rows that are missing, and acknowledges all the same",
        );
    }
    for name in dialect.settings.iter().filter(|name| name.ends_with("_skip_errors")) {
        wants(
            matches!(value(name), "OFF" | ""),
            Weight::Promise,
            &format!("{name}=OFF"),
            "a replica passes over transactions that fail, and acknowledges all the same",
        );
    }
    if dialect.settings.iter().any(|name| name == "port") && on("skip_networking") {
        wants(false, Weight::Needed, "skip_networking=OFF", "the server does not listen for replicas");
    }
    let replicated = dialect.settings.iter().filter(|name| name.starts_with("replicate_") && !value(name).is_empty());
    // Some are in a replica's status only: those of MySQL, and what CHANGE MASTER of MariaDB was told.
    let channel = seen.replica.as_ref().map(|r| r.filters.clone()).filter(|f| !f.is_empty());
    let left_out: Vec<String> = channel
        .into_iter()
        .chain(replicated.map(|name| format!("{name}={}", value(name))))
        .chain((!filters.is_empty()).then(|| filters.to_owned()))
        .collect();
    if !left_out.is_empty() {
        findings.push(Finding {
            weight: Weight::Promise,
            text: format!(
                "a filter keeps writes from the replicas, which acknowledge them all the same: take `{}` out of the option file, or off the replication",
                left_out.join("`, `")
            ),
        });
    }
    findings.extend(promise(dialect, wanted));
    findings.sort_by_key(|finding| finding.weight);
    findings
}

/// What the server has to be able to do.
fn promise(dialect: &Dialect, wanted: Wanted) -> Option<Finding> {
    let text = if !wanted.lossless {
        return None;
    } else if !dialect.can_be_lossless() {
        format!(
            "server {} cannot be lossless, which durability is by default: load its semi-synchronous plugins (MySQL 5.7 or newer), or set \
             durability=async-allowed and lose what no replica has when a primary dies",
            dialect.version
        )
    } else if wanted.acknowledgements > 1 && !dialect.counts_acknowledgements() {
        format!("server {} waits for one replica only: set acknowledgements=1", dialect.version)
    } else {
        return None;
    };
    Some(Finding { weight: Weight::Promise, text })
}

/// The first finding for which a server is not started or promoted.
pub(crate) fn forbidding(findings: &[Finding], wanted: Wanted) -> Option<&Finding> {
    findings.iter().find(|f| f.weight == Weight::Needed || f.weight == Weight::Promise && wanted.lossless)
}

/// The first finding that a monitor shows.
pub(crate) fn shown(findings: &[Finding]) -> Option<&str> {
    findings.first().map(|finding| finding.text.as_str())
}

/// What the binary log leaves out, from the answer to `Dialect::binary_log`.
pub(crate) fn filters(rows: &[Row]) -> String {
    let of = |column: &str| rows.first().and_then(|row| row.get(column)).filter(|value| !value.is_empty());
    let named = ["binlog_do_db", "binlog_ignore_db"].into_iter().filter_map(|name| Some(format!("{name}={}", of(name)?)));
    named.collect::<Vec<_>>().join(" ")
}

/// What is not as [`Dialect::wait_for_replicas`] sets it, on a primary whose commits are to wait: with that, they do not, or not for ever.
pub(crate) fn wait_is_weakened(dialect: &Dialect, seen: &Observation, acknowledgements: usize) -> Option<String> {
    let wrong = dialect.waiting(acknowledgements).into_iter().find(|(name, wanted)| {
        let found = seen.variables.get(name).map(String::as_str).unwrap_or_default();
        let same = found.eq_ignore_ascii_case(wanted) || matches!((found, wanted.as_str()), ("ON", "1") | ("1", "1"));
        !same
    });
    wrong.map(|(name, wanted)| {
        format!("somebody set {name}={}, and it must be {wanted}", seen.variables.get(&name).map(String::as_str).unwrap_or("?"))
    })
}
