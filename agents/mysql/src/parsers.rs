//! The parsers, for the fuzz targets.

use crate::dialect::{Dialect, Row};
use crate::gtid::{Flavour, Gtids};
use crate::membership::Membership;
use crate::observation::Replica;
use crate::params::{self, Params};

/// Reads a GTID set of MySQL's, prints it and reads it back.
pub fn mysql_set(text: &str) {
    set(text, Flavour::MySql);
}

/// Reads a GTID state of MariaDB's, prints it and reads it back.
pub fn mariadb_state(text: &str) {
    set(text, Flavour::MariaDb);
}

fn set(text: &str, flavour: Flavour) {
    let Ok(set) = Gtids::parse(text, flavour) else { return };
    assert_eq!(Gtids::parse_any(&set.to_string()).as_ref(), Ok(&set), "what was printed reads back");
    assert!(set.contains(&set) && set.difference(&set).is_none() && set.union(&set) == set, "a set is itself: {set}");
}

/// Reads the record of the CIB, prints it and reads it back.
pub fn record(text: &str) {
    let Ok(record) = crate::record::Record::parse(text) else { return };
    assert_eq!(crate::record::Record::parse(&record.to_string()), Ok(record), "what was printed reads back");
}

/// Reads a published position, prints it and reads it back.
pub fn position(text: &str) {
    let Some(position) = crate::election::Position::parse(text) else { return };
    assert_eq!(crate::election::Position::parse(&position.print()), Some(position), "what was printed reads back");
}

/// Reads what a node publishes of its membership, prints it and reads it back.
pub fn membership(text: &str) {
    let Some(membership) = Membership::parse(text) else { return };
    assert_eq!(Membership::parse(&membership.print()), Some(membership), "what was printed reads back");
}

/// Reads the answers of a server: its variables up to an empty line, then the state of its replication; a name, a tab and a value in
/// each line.
pub fn answers(text: &str) {
    let (variables, status) = text.split_once("\n\n").unwrap_or((text, ""));
    let pairs = |text: &str| -> Vec<(String, String)> {
        text.lines().filter_map(|line| line.split_once('\t')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let row = |(name, value)| Row::from([("variable_name".to_owned(), name), ("value".to_owned(), value)]);
    let rows: Vec<Row> = pairs(variables).into_iter().map(row).collect();
    let status: Row = pairs(status).into_iter().collect();
    for dialect in [Dialect::of(&rows), Some(Dialect::unknown())].into_iter().flatten() {
        if let Ok(Some(replica)) = Replica::of(&dialect, std::slice::from_ref(&status)) {
            let _ = (replica.broken(), replica.in_order(), replica.attached());
        }
    }
}

/// Reads the bytes of a binary log as the end of one, turns it round twice and has what it was.
pub fn binary_log(bytes: &[u8]) {
    crate::rewind::read_and_turn(bytes);
}

/// Reads the parameters of a resource: a name and a value in turn.
pub fn parameters(text: &str) {
    let lines: Vec<&str> = text.split('\n').collect();
    let pairs = lines.chunks_exact(2).map(|pair| (format!("OCF_RESKEY_{}", pair[0]), pair[1].to_owned()));
    if let Ok(values) = ocf::Values::read(params::ALL, &ocf::Environment::from_pairs(pairs)) {
        let _ = Params::new(&values);
    }
}
