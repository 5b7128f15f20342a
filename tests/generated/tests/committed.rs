//! Meta-data, man pages, parameter tables and crmsh's wizards are generated from the declarations and committed, so that they can
//! be read without a build. This compares them; `UPDATE=1 cargo test -p generated` writes them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::path::{Path, PathBuf};

use ocf::ResourceAgent;
use snippets::{Kind, Parameter, Part, WIZARDS, Wizard};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares one file, or writes it.
fn compare(path: &str, generated: &str) {
    let file = repository().join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{path}: {e}; run UPDATE=1 cargo test -p generated"));
    assert!(
        committed == generated,
        "{path} is not what the declarations say: run UPDATE=1 cargo test -p generated, and read the difference"
    );
}

/// The page with the table between its markers replaced.
fn with_table(page: &str, table: &str) -> String {
    let (begin, end) = ("<!-- parameters -->\n", "<!-- /parameters -->");
    let from = page.find(begin).expect("the page has the marker <!-- parameters -->") + begin.len();
    let to = page.find(end).expect("the page has the marker <!-- /parameters -->");
    format!("{}\n{table}\n{}", &page[..from], &page[to..])
}

/// Meta-data, man page and parameter table of one agent.
fn compare_agent<A: ResourceAgent>(agent: &ocf::Agent<A>) {
    let name = A::DESCRIPTION.name;
    compare(&format!("ocf-metadata/{name}.xml"), &agent.metadata());
    compare(&format!("docs/man/ocf_systole_{name}.7"), &agent.man_page());
    let path = format!("docs/{name}.md");
    let page = std::fs::read_to_string(repository().join(&path)).unwrap();
    compare(&path, &with_table(&page, &ocf::markdown_table(&A::DESCRIPTION)));
}

#[test]
fn metadata_man_page_and_parameter_table_of_redis() {
    compare_agent(&systole_redis::agent());
}

#[test]
fn metadata_man_page_and_parameter_table_of_address() {
    compare_agent(&systole_address::agent());
}

#[test]
fn metadata_man_page_and_parameter_table_of_cron_singleton() {
    compare_agent(&systole_cron_singleton::agent());
}

#[test]
fn man_page_of_systole_cron() {
    compare("docs/man/systole-cron.8", &systole_cron_singleton::command_page::man_page());
}

#[test]
fn man_page_of_systole() {
    compare("docs/man/systole.8", &systole_command::page::man_page().unwrap());
}

#[test]
fn metadata_man_page_and_parameter_table_of_mysql() {
    compare_agent(&systole_mysql::agent());
}

#[test]
fn wizards() {
    for wizard in WIZARDS {
        compare(&format!("crm-scripts/{}/main.yml", wizard.name), &wizard.script().unwrap());
    }
    let committed = std::fs::read_dir(repository().join("crm-scripts")).unwrap();
    let unknown: Vec<_> =
        committed.map(|entry| entry.unwrap().file_name()).filter(|name| !WIZARDS.iter().any(|w| name == w.name)).collect();
    assert!(unknown.is_empty(), "crm-scripts/ holds what no declaration says: {unknown:?}");
}

#[test]
fn a_wizard_that_its_snippet_has_outgrown_is_refused() {
    const REDIS_IP: Parameter =
        Parameter { name: "redis-ip", kind: Kind::Address, place: "192.0.2.100", required: true, description: "The address" };
    const PLACES: [Part; 2] = [
        // A piece of the address that is there, and a value that only a comment has.
        Part { snippet: "redis.crm", parameters: &[Parameter { place: "192.0.2.10", ..REDIS_IP }] },
        Part { snippet: "redis.crm", parameters: &[Parameter { place: "durability=quorum", ..REDIS_IP }] },
    ];
    const NOW: Part = Part { snippet: "redis.crm", parameters: &[REDIS_IP] };
    const WIZARD: Wizard = Wizard { name: "systole-redis", title: "Redis", before: "", parts: &[&NOW], edits: &[] };
    let script = WIZARD.script().unwrap();
    assert!(script.contains("params ip={{redis-ip}} cidr_netmask=24\n"), "{script}");
    for (wizard, place) in
        [(Wizard { parts: &[&PLACES[0]], ..WIZARD }, "192.0.2.10"), (Wizard { parts: &[&PLACES[1]], ..WIZARD }, "durability=quorum")]
    {
        let said = wizard.script().unwrap_err();
        assert!(
            said.contains(&format!("no command of crm-snippets/redis.crm holds {place:?} any more: correct the parameter redis-ip")),
            "{said}"
        );
    }
    let said = Wizard { edits: &[("replication_user=", "")], ..WIZARD }.script().unwrap_err();
    assert!(said.contains("do not hold \"replication_user=\" any more"), "{said}");
}
