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

#[test]
fn redis_metadata_man_page_and_parameter_table() {
    let agent = systole_redis::agent();
    compare("ocf-metadata/redis.xml", &agent.metadata());
    compare("docs/man/ocf_systole_redis.7", &agent.man_page());
    let page = std::fs::read_to_string(repository().join("docs/redis.md")).unwrap();
    compare("docs/redis.md", &with_table(&page, &ocf::markdown_table(&systole_redis::Redis::DESCRIPTION)));
}
