//! Runs that came due while the resource was on no node, or that a lost node may have begun.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{Agent, FakeCluster, within};

use crate::{Site, ago, minute};

impl Site {
    /// Its only job was due so many minutes ago; and what another node left behind, `{}` minutes ago.
    fn due(name: &str, minutes: i64, mark: &str) -> Self {
        let site = Self::with(name, &format!("{} wpsite echo ran >> {{}}/ran\n", ago(minutes)));
        site.set_mark(&mark.replace("{}", &(minute() - 10).to_string()));
        site
    }

    fn due_text(&self) -> String {
        fs::read_to_string(self.due_file()).unwrap_or_default()
    }

    fn ran(&self) -> usize {
        fs::read_to_string(self.directory().join("ran")).unwrap_or_default().lines().count()
    }

    /// Does what cron does with the file of runs that are made up for.
    fn let_cron_run_what_is_due(&self) {
        let text = self.due_text();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned();
        let done = self.job(&value("SYSTOLE_JOB"), "echo ran >> {}/ran").env("SYSTOLE_DUE", value("SYSTOLE_DUE")).status().unwrap();
        assert!(done.success());
    }
}

/// The whole way, with cron's own minute.
#[test]
fn a_run_that_came_due_during_a_move_is_made_up_for_once() {
    let due = minute() - 3;
    let site = Site::due("moved", 3, "4;b;{};closed;");
    site.agent().run("start").ok();
    assert!(site.due_text().contains(&format!("SYSTOLE_DUE={due}\n")), "{}", site.due_text());
    assert_eq!(site.mark()[0], "5", "another reign");
    assert!(site.mark()[4].ends_with(&format!("@{due}")), "{:?}", site.mark());
    within(Duration::from_secs(130), || site.has("ran").then_some(())).expect("cron runs it within two minutes");
    // It stands there for every minute until a monitor has seen that it has begun.
    site.let_cron_run_what_is_due();
    site.agent().run("monitor").ok();
    assert!(!site.due_file().exists());
    assert_eq!(site.mark()[4], "");
    assert_eq!(site.ran(), 1);
    assert!(site.history().iter().any(|line| line.contains("started") && line.contains(&due.to_string())), "{:?}", site.history());
    // The next move has nothing to make up for.
    site.agent().run("stop").ok();
    site.agent().run("start").ok();
    assert!(!site.due_file().exists());
    assert_eq!(site.missed(), "");
    site.agent().run("stop").ok();
}

#[test]
fn what_is_not_wanted_is_told() {
    let site = Site::due("unwanted", 3, "4;b;{};closed;");
    site.agent().parameter("catch_up", "none").run("start").ok();
    assert!(!site.due_file().exists());
    assert!(site.missed().contains("catch_up=none"), "{}", site.missed());
    site.agent().run("stop").ok();
}

#[test]
fn what_a_lost_node_may_have_begun_is_told_and_repeated_only_on_demand() {
    let site = Site::due("lost", 3, "4;b;{};open;");
    let answer = site.agent().run("start");
    answer.ok();
    assert!(answer.stderr.contains("may have run on a node that was lost"), "{answer:?}");
    assert!(!site.due_file().exists());
    assert!(site.missed().contains("at_most_once"), "{}", site.missed());
    let deeper = site.agent().variable("OCF_CHECK_LEVEL", "10").run("monitor");
    deeper.expect(&[190]);
    assert!(deeper.reason().contains("of line 1 did not begin"), "{deeper:?}");
    site.agent().run("stop").ok();
    let site = Site::due("lost-2", 3, "4;b;{};open;");
    site.agent().parameter("guarantee", "at_least_once").run("start").ok();
    assert!(site.due_file().exists());
    site.agent().run("stop").ok();
    assert!(!site.due_file().exists());
}

/// A stop that comes before cron does leaves it to the next start.
#[test]
fn what_has_not_begun_goes_on_to_the_next_node() {
    let due = minute() - 3;
    let site = Site::due("onwards", 3, "4;b;{};closed;");
    for _ in 0..2 {
        site.agent().run("start").ok();
        assert!(site.due_text().contains(&due.to_string()));
        site.agent().run("stop").ok();
        assert!(!site.due_file().exists());
        assert!(site.mark()[3..].join(";").starts_with("closed;") && site.mark()[4].ends_with(&format!("@{due}")), "{:?}", site.mark());
    }
    site.agent().run("start").ok();
    site.let_cron_run_what_is_due();
    site.agent().run("stop").ok();
    assert_eq!((site.mark()[4].as_str(), site.ran()), ("", 1));
}

/// The agent is killed at any moment of a start or of a stop, and run again: nothing runs twice, and nothing is lost in silence.
#[test]
fn a_start_and_a_stop_that_are_killed_keep_the_books() {
    for millis in 0..12 {
        let site = Site::due(&format!("killed-{millis}"), 3, "4;b;{};closed;");
        let running = site.agent().spawn("start");
        std::thread::sleep(Duration::from_millis(millis));
        running.kill();
        site.agent().run("start").ok();
        // Unless the first one came so far that the second cannot know what it has run.
        if site.due_file().exists() {
            site.let_cron_run_what_is_due();
        } else {
            assert!(site.missed().contains("may have run"), "{millis} ms: neither made up for nor told: {:?}", site.mark());
        }
        let running = site.agent().spawn("stop");
        std::thread::sleep(Duration::from_millis(millis));
        running.kill();
        site.agent().run("stop").ok();
        assert_eq!(site.mark()[3], "closed", "{millis} ms: {:?}", site.mark());
        assert_eq!(site.mark()[4], "", "{millis} ms: {:?}", site.mark());
        assert!(site.ran() <= 1);
    }
}

#[test]
fn jobs_at_reboot_run_after_a_takeover_when_that_is_wanted() {
    let site = Site::with("takeover", "@reboot wpsite echo ran >> {}/ran\n0 0 1 1 * wpsite true\n");
    site.agent().run("start").refused(5, &["line 1: @reboot", "reboot_jobs=takeover"]);
    let agent = || site.agent().parameter("reboot_jobs", "takeover");
    agent().run("start").ok();
    assert!(site.due_text().contains("* * * * * wpsite echo ran"));
    site.let_cron_run_what_is_due();
    // Idempotent: a second start is no takeover.
    agent().run("start").ok();
    agent().run("monitor").ok();
    assert!(!site.due_file().exists());
    assert_eq!(site.ran(), 1);
    agent().run("stop").ok();
}

#[test]
fn the_other_nodes_know_it_when_this_one_is_lost() {
    let site = Site::due("known", 3, "1;b;{};closed;");
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    cluster.set_partition("a b c");
    let agent = |node: &str| -> Agent {
        let log = site.directory().join("log");
        let agent = site.agent().meta("on_node", node).variable("HA_LOGFILE", log);
        agent.parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path())
    };
    agent("a").run("start").ok();
    let published = |node: &str| cluster.attribute("systole-known-cron-mark", node).unwrap_or_default();
    assert!(published("c").starts_with("2;a;") && published("b") == published("c"), "{}", published("c"));
    // Nothing came due: nobody is told anything.
    site.let_cron_run_what_is_due();
    agent("a").run("monitor").ok();
    cluster.calls();
    let answer = agent("a").run("monitor");
    answer.ok();
    assert_eq!(cluster.calls(), Vec::<String>::new(), "a steady monitor starts no process");
    agent("a").run("stop").ok();
    assert!(published("b").contains(";closed;"));
    // Another node has no file of its own.
    fs::remove_file(site.mark_file()).unwrap();
    agent("b").run("start").ok();
    assert_eq!(site.mark()[..2], ["3".to_owned(), "b".to_owned()]);
    assert!(!site.due_file().exists(), "it was run on a");
    // A cluster that does not answer keeps nobody from running the jobs.
    agent("b").run("stop").ok();
    cluster.behave("echo no >&2; exit 102");
    agent("b").run("start").ok();
    let log = fs::read_to_string(site.directory().join("log")).unwrap();
    assert!(log.contains("the other nodes cannot be told which runs are settled"), "{log}");
    agent("b").run("stop").ok();
}

#[test]
fn a_job_that_fails_is_seen_by_who_looks_closer() {
    let site = Site::with("failing", "0 0 1 1 * wpsite exit 3\n");
    site.agent().run("start").ok();
    let installed = fs::read_to_string(site.installed()).unwrap();
    let job = installed.lines().find_map(|line| line.strip_prefix("SYSTOLE_JOB=")).unwrap();
    assert_eq!(site.job(job, "exit 3").status().unwrap().code(), Some(3));
    site.agent().run("monitor").ok();
    let deeper = || site.agent().variable("OCF_CHECK_LEVEL", "10").run("monitor");
    assert!(deeper().expect(&[190]).reason().contains("of line 1 ended with status 3"));
    // What a user writes into their history keeps nobody waiting.
    let history = crate::user_directory("/var/lib/systole/cron", "failing");
    fs::remove_file(Path::new(&history).join("history.jsonl")).unwrap();
    crate::run("mkfifo", &[&format!("{history}/history.jsonl")]);
    let begin = Instant::now();
    deeper().ok();
    assert!(begin.elapsed() < Duration::from_secs(2));
    site.agent().run("stop").ok();
}
