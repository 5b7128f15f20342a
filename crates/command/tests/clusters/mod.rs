//! Clusters that were recorded, with changes.

use std::collections::BTreeMap;
use std::path::Path;

use systole_command::cib::Cib;
use systole_command::crm_mon::Monitor;
use systole_command::picture::{Attributes, POSITION, Picture};

/// What a file of a recorded cluster holds.
pub(crate) fn text(name: &str, file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name).join(file)).unwrap()
}

/// The cluster in which nobody is promoted, with this record of MySQL's and these positions: lxc1 and lxc3 run, lxc2 does not.
pub(crate) fn nobody(record: &str, positions: &[(&str, &str)]) -> Picture {
    let cib = text("nobody", "cib.xml").replace("epoch=9 node=lxc9", record);
    let values: BTreeMap<String, String> = positions.iter().map(|(node, value)| ((*node).to_owned(), (*value).to_owned())).collect();
    of(&cib, &text("nobody", "crm_mon.xml"), &Attributes::from([(("mysql".to_owned(), POSITION), values)]))
}

/// What is known by these answers.
pub(crate) fn of(cib: &str, monitor: &str, attributes: &Attributes) -> Picture {
    Picture::new(&Cib::parse(cib).unwrap(), &Monitor::parse(monitor).unwrap(), attributes, &BTreeMap::new())
}
