//! Meta-data, man pages and parameter tables are generated from the declarations and committed, so that they can be read
//! without a build. This compares them; `UPDATE=1 cargo test -p generated` writes them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::path::{Path, PathBuf};

use ocf::ResourceAgent;

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
fn metadata_man_page_and_parameter_table_of_cron_singleton() {
    compare_agent(&systole_cron_singleton::agent());
}

#[test]
fn man_page_of_systole_cron() {
    compare("docs/man/systole-cron.8", &systole_cron_singleton::command_page::man_page());
}

#[test]
fn metadata_man_page_and_parameter_table_of_mysql() {
    compare_agent(&systole_mysql::agent());
}
