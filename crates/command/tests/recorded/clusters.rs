//! Clusters as Pacemaker's tools showed them, for the tests of what is said of them.

#![allow(dead_code, reason = "not each test needs all of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use systole_command::cib::Cib;
use systole_command::crm_mon::Monitor;
use systole_command::picture::{Attributes, MEMBERSHIP, POSITION, Picture, WRITES};

/// Where the cluster of this name is kept.
pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name)
}

/// Lines of `attrd_updater --query --all`.
pub(crate) fn attributes(text: &str) -> Attributes {
    let mut all = Attributes::new();
    for line in text.lines() {
        let [_, name, _, host, _, value, _] = line.split('"').collect::<Vec<_>>()[..] else { panic!("{line}") };
        for attribute in [POSITION, MEMBERSHIP, WRITES] {
            if let Some(resource) = name.strip_prefix("systole-").and_then(|rest| rest.strip_suffix(&format!("-{attribute}"))) {
                all.entry((resource.to_owned(), attribute)).or_default().insert(host.to_owned(), value.to_owned());
            }
        }
    }
    all
}

pub(crate) fn recorded(name: &str) -> Picture {
    let read = |file: &str| std::fs::read_to_string(directory(name).join(file)).unwrap();
    let (cib, monitor) = (Cib::parse(&read("cib.xml")).unwrap(), Monitor::parse(&read("crm_mon.xml")).unwrap());
    let watched = BTreeMap::from([("mysql".to_owned(), ("lxc1".to_owned(), true))]);
    Picture::new(&cib, &monitor, &attributes(&read("attributes")), &watched)
}

/// Compares with what is kept, or writes it.
pub(crate) fn compare(name: &str, file: &str, said: &str) {
    let path = directory(name).join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, said).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == said, "{}:\n{said}\nand not\n{kept}", path.display());
}
