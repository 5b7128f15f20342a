//! What is said of a real failover: recorded/failover holds what the nodes remembered, their journals, and what Pacemaker's tools printed.
//! `UPDATE=1 cargo test -p systole-command --test failover` writes what the command says of it; read the difference. With SYSTOLE_REPORT=FILE
//! the page is written there, to be looked at: `make report-screenshot`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use systole_command::cib::Cib;
use systole_command::crm_mon::Monitor;
use systole_command::history::History;
use systole_command::picture::{Attributes, Picture};
use systole_command::report::{Material, page};
use systole_command::secrets::Secrets;
use systole_command::timeline::{Timeline, Wanted};

/// The failover that is told: lxc3, the primary, was killed.
const EPOCH: Option<u64> = Some(3);
/// The nodes' clocks are this one's.
const ASKED: (u64, u64) = (0, u64::MAX);

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/failover")
}

fn read(file: &str) -> String {
    let path = directory().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn picture() -> Picture {
    let (cib, monitor) = (Cib::parse(&read("cib.xml")).unwrap(), Monitor::parse(&read("crm_mon.xml")).unwrap());
    Picture::new(&cib, &monitor, &Attributes::new(), &BTreeMap::new())
}

/// What the nodes answered.
fn answers(kind: &str) -> BTreeMap<String, Result<String, String>> {
    ["lxc1", "lxc2", "lxc3"].map(|node| (node.to_owned(), Ok(read(&format!("{node}.{kind}"))))).into()
}

fn timeline(history: &History, epoch: Option<u64>) -> Timeline {
    let promotion = history.find(epoch);
    let (over, from) = (promotion.map(|promotion| promotion.at), promotion.and_then(|promotion| promotion.from.as_deref()));
    Timeline::of(&answers("journal"), ASKED, &Wanted { resource: Some("redis"), over, from, ..Wanted::default() })
}

/// Compares with what is kept, or writes it.
fn compare(file: &str, said: &str) {
    let path = directory().join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, said).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == said, "{}:\n{said}\nand not\n{kept}", path.display());
}

#[test]
fn the_promotions_and_the_last_failover_are_told() {
    let history = History::of(&answers("history"));
    compare("history.txt", &history.pretty());
    compare("history.tsv", &history.tsv());
    let timeline = timeline(&history, EPOCH);
    compare("timeline.txt", &timeline.pretty());
    let names: Vec<String> = timeline.steps().into_iter().map(|(_, what)| what).collect();
    for step in ["score lowered by the watcher", "transition calculated"] {
        assert!(names.iter().any(|name| name == step), "{step}: {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("promote of redis on ")), "{names:?}");
}

/// What stands below a command on docs/command.md.
fn example(command: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command.md")).unwrap();
    let rest = text.split_once(&format!("    # {command}\n")).unwrap_or_else(|| panic!("{command} is on the page")).1.to_owned();
    let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| line.strip_prefix("    ").unwrap_or(line).to_owned()).collect()
}

#[test]
fn the_examples_of_the_page_are_what_the_command_says() {
    let history = History::of(&answers("history"));
    assert_eq!(example("systole history redis").join("\n").trim_end(), history.pretty().trim_end());
    // It is shortened there.
    let said = timeline(&history, EPOCH).pretty();
    for line in example("systole timeline redis --epoch 3").iter().filter(|line| *line != "...") {
        let begin = line.strip_suffix('…').unwrap_or(line);
        assert!(said.lines().any(|said| said.starts_with(begin)), "{line}");
    }
}

/// The page of the recorded failover, with a configuration that has something foreign in it.
fn report(history: &History, timeline: &Timeline, configuration: &str) -> String {
    let picture = picture();
    let database = picture.database("redis").unwrap();
    let secrets = Secrets::of(configuration, |_| Ok("the-secret-in-a-file\n".into())).unwrap();
    page(&Material { picture: &picture, database, history, promotion: history.find(EPOCH), timeline, made: 1_796_083_199 }, &secrets)
}

const CONFIGURATION: &str = r#"<configuration><nvpair id="1" name="password" value="pass&lt;word&gt;1"/><nvpair id="2" name="site-token" value="t0ken&amp;x"/>
    <nvpair id="3" name="masterauth_file" value="/etc/systole/secret"/><nvpair id="4" name="test_passwd_file" value="/etc/systole/p"/>
    <nvpair id="5" name="note" value="&lt;script&gt;alert(1)&lt;/script&gt;"/></configuration>"#;

#[test]
fn the_page_has_all_of_it_and_asks_for_nothing_else() {
    let history = History::of(&answers("history"));
    let html = report(&history, &timeline(&history, EPOCH), CONFIGURATION);
    if let Some(file) = std::env::var_os("SYSTOLE_REPORT") {
        let whole = report(&history, &timeline(&history, EPOCH), &read("cib.xml"));
        std::fs::write(file, whole).unwrap();
    }
    for part in
        ["<svg ", "promote of redis on ", "going on with the promotion", "crash in epoch", "lxc1, ", "lxc3, ", "(masked)", "holders="]
    {
        assert!(html.contains(part), "{part}");
    }
    for foreign in ["src=", "href=", "@import", "url(", "<script", "https:"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.contains("default-src 'none'") && html.contains("prefers-color-scheme"));
    // What a browser mends silently is a mistake all the same: but for these it is XML.
    let xml = html.replace("<!doctype html>", "").replace("<meta charset=\"utf-8\">", "");
    let xml: String = xml.lines().map(|line| if line.contains("<meta ") { "\n".to_owned() } else { line.to_owned() + "\n" }).collect();
    roxmltree::Document::parse(&xml).unwrap();
}

#[test]
fn no_secret_stands_on_the_page_wherever_it_is_repeated() {
    let mut told = answers("journal");
    let secrets = ["pass<word>1", "t0ken&x", "the-secret-in-a-file"];
    let history = History::of(&answers("history"));
    let at = history.find(EPOCH).unwrap().at * 1_000_000;
    for secret in secrets {
        let line = serde_json::json!({ "at_us": at, "by": "", "text": format!("redis(redis): NOTICE: login with {secret} failed") });
        told.insert("lxc1".into(), Ok(told["lxc1"].clone().unwrap() + &line.to_string() + "\n"));
    }
    let mut history = history;
    history.promotions[2].promotion.cause = Some(format!("login with {} failed", secrets.join(" ")));
    let over = Some(at / 1_000_000);
    let timeline = Timeline::of(&told, ASKED, &Wanted { resource: Some("redis"), over, ..Wanted::default() });
    let html = report(&history, &timeline, CONFIGURATION);
    assert!(html.contains("login with (masked) failed"), "the lines are there");
    for secret in ["pass<word>1", "pass&lt;word", "t0ken&x", "t0ken&amp;x", "the-secret-in-a-file"] {
        assert!(!html.contains(secret), "{secret}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Whatever stands in a journal or a history, nothing of it is markup.
    #[test]
    fn whatever_a_line_says_it_stays_text(text in "[<>&\"'/a-z!\\-\u{202e}\u{7}=:()]{0,40}") {
        let line = serde_json::json!({ "at_us": 5, "by": "", "text": format!("redis(redis): {text}") });
        let told = BTreeMap::from([("lxc1".to_owned(), Ok(format!("{{\"now\":1}}\n{line}\n"))), (text.clone(), Err(text.clone()))]);
        let timeline = Timeline::of(&told, ASKED, &Wanted::default());
        let promotion = serde_json::json!({ "epoch": 7, "to": format!("b{text}"), "kind": "crash", "cause": text, "phases": [{ "what": text, "ms": 1 }] });
        let history = History::of(&BTreeMap::from([(text.clone(), Ok(promotion.to_string()))]));
        let html = report(&history, &timeline, CONFIGURATION);
        let plain = report(&History::default(), &Timeline::default(), CONFIGURATION);
        for tag in ["<script", "<b>", "</pre>", "</table>", "<!"] {
            let more = if tag.starts_with("</t") { 3 } else { 0 };
            prop_assert!(html.matches(tag).count() <= plain.matches(tag).count() + more, "{tag}: {text}");
        }
        let forges = html.contains(['\u{202e}', '\u{7}']);
        prop_assert!(!forges);
    }
}
