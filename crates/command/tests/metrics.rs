//! `systole metrics` of clusters that were recorded (recorded/NAME/metrics.txt), and that alerts, dashboard and page speak of metrics that there
//! are. `make monitoring` has promtool look at the same files.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use systole_command::metrics::text;

#[path = "recorded/clusters.rs"]
mod clusters;

use clusters::{compare, recorded};

const CLUSTERS: [&str; 7] = ["in-order", "moved", "degraded", "lost", "unfenced", "blocked", "nobody"];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
}

/// Names of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("systole_")).collect()
}

/// All that is ever told, by the command and by the monitors.
fn told() -> BTreeSet<String> {
    let (command, monitors) = (read("crates/command/src/metrics/text.rs"), read("crates/ocf/src/textfile.rs"));
    let named = command.split('"').filter(|literal| literal.starts_with("systole_"));
    let typed = monitors.match_indices("# TYPE ").filter_map(|(at, what)| monitors[at + what.len()..].split(' ').next());
    named.chain(typed).map(str::to_owned).collect()
}

#[test]
fn the_metrics_of_clusters_that_were_recorded() {
    for name in CLUSTERS {
        compare(name, "metrics.txt", &text::of(Some(&recorded(name))));
    }
}

#[test]
fn without_an_answer_that_is_what_is_said() {
    let said = text::of(None);
    assert!(said.contains("\nsystole_scrape_success 0\n") && said.ends_with("\n# EOF\n"), "{said}");
    assert!(!said.contains("systole_role"), "{said}");
}

#[test]
fn what_is_not_known_has_no_series() {
    let series = |page: &str, name: &str| page.lines().filter(|line| line.starts_with(&format!("{name}{{resource=\"mysql\""))).count();
    let (heard, unheard) = (recorded("in-order"), recorded("in-order").unheard_of("it does not answer".into()));
    let [heard, unheard] = [heard, unheard].map(|picture| text::of(Some(&picture)));
    for name in ["systole_acknowledging", "systole_acknowledging_members"] {
        assert!(series(&heard, name) > 0 && series(&unheard, name) == 0, "{name}");
    }
    // Of three servers, one on a node that is lost and may run all the same.
    let page = text::of(Some(&recorded("unfenced")));
    assert_eq!(series(&page, "systole_role"), 6, "{page}");
    assert!(!page.contains("node=\"lxc2\",role="), "{page}");
}

#[test]
fn each_series_stands_once() {
    for name in CLUSTERS {
        let page = text::of(Some(&recorded(name)));
        let series: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{name}");
    }
}

#[test]
fn alerts_dashboard_and_page_speak_of_what_is_told() {
    let told = told();
    for file in [
        "docs/monitoring/systole.rules.yml",
        "docs/monitoring/systole.rules.test.yml",
        "docs/monitoring/grafana.json",
        "docs/monitoring.md",
    ] {
        let text = read(file);
        let is_file = |name: &str| matches!(name, "systole_mysql" | "systole_redis" | "systole_NAME" | "systole_");
        let unknown: Vec<&str> = names(&text).into_iter().filter(|name| !is_file(name) && !told.contains(*name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} are not among {told:?}");
    }
    let page = read("docs/monitoring.md");
    let untold: Vec<&String> = told.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/monitoring.md does not say what these are: {untold:?}");
    let rules = read("docs/monitoring/systole.rules.yml");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("| {alert} |")), "docs/monitoring.md does not say what to do at {alert}");
        assert!(read("docs/monitoring/systole.rules.test.yml").contains(&format!("alertname: {alert}")), "{alert} is not tested");
    }
}
