//! The parsers, for the fuzz targets.

use crate::gtid::{Flavour, Gtids};

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
