//! Runs that came due while the resource was on no node, or that a lost node may have begun.

use std::fs;
use std::path::Path;
use std::time::Duration;

use testkit::{Agent, FakeCluster, within};

use crate::{Site, WRAPPER, ago, minute, running, started};

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

    /// A variable in that file.
    fn due_value(&self, name: &str) -> String {
        self.due_text().lines().find_map(|line| line.strip_prefix(&format!("{name}="))).unwrap().to_owned()
    }

    /// Does what cron does with the file of runs that are made up for.
    fn let_cron_run_what_is_due(&self) {
        let done = self
            .job(&self.due_value("SYSTOLE_JOB"), "echo ran >> {}/ran")
            .env("SYSTOLE_DUE", self.due_value("SYSTOLE_DUE"))
            .status()
            .unwrap();
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

/// Begins a start just before a minute does, with a cluster that takes its time to answer, so that it ends in the minute after. Returns the
/// minute in which it ended.
fn start_across_a_minute(site: &Site, agent: &Agent) -> i64 {
    let since = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() % 60_000;
    within(Duration::from_secs(65), || (57_500..58_500).contains(&since()).then_some(())).unwrap();
    let next = minute() + 1;
    site.write(&format!("{} wpsite echo ran >> {{}}/ran\n", ago(-1)));
    let started = agent.spawn("start");
    assert!(minute() < next && since() < 59_500, "this machine was too busy to begin it in time");
    started.answer().ok();
    assert_eq!(minute(), next, "it has ended in the minute after");
    next
}

/// Until the jobs may run, cron begins nothing of them.
#[test]
fn a_run_that_comes_due_while_the_resource_is_started_is_made_up_for() {
    let site = Site::with("across", "0 0 30 2 * wpsite true\n");
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    cluster.set_partition("a");
    cluster.behave("case \"$*\" in *cron-mark*--query*) sleep 3;; esac");
    let agent = site.agent().parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path());
    let agent = agent.variable("HA_LOGFILE", site.directory().join("log"));
    let due = start_across_a_minute(&site, &agent);
    assert!(site.due_text().contains(&format!("SYSTOLE_DUE={due}\n")), "{:?}", site.mark());
    assert!(site.mark()[4].ends_with(&format!("@{due}")), "{:?}", site.mark());
    assert_eq!(cluster.attribute("systole-across-cron-mark", "a"), Some(site.mark().join(";")));
    // Once, whether cron has begun it in the meantime or not.
    site.let_cron_run_what_is_due();
    site.let_cron_run_what_is_due();
    agent.run("monitor").ok();
    assert_eq!((site.ran(), site.missed().as_str(), site.due_file().exists()), (1, "", false));
    agent.run("stop").ok();
    // It is told for what it is where it is not wanted.
    let agent = agent.parameter("catch_up", "none");
    start_across_a_minute(&site, &agent);
    assert!(!site.due_file().exists());
    // As in the minute after.
    let mark = site.mark();
    site.set_mark(&format!("{};{};{};open;", mark[0], mark[1], minute() - 1441));
    agent.run("monitor").ok();
    assert!(site.missed().contains("catch_up=none") && !site.missed().contains("cron has not started it"), "{}", site.missed());
    agent.run("stop").ok();
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

/// What changes something, or says that it is changed.
const STEPS: &str = "openat,write,rename,unlink,mkdir,chown,fsync,flock,execve,clone,vfork";

/// The agent is killed at each step of a start, of a monitor and of a stop, and run again: nothing runs twice, and nothing is lost
/// in silence.
#[test]
fn killed_at_each_step_it_keeps_the_books() {
    let mut alive = [false; 3];
    let mut step = 0;
    while alive != [true; 3] {
        step += 1;
        assert!(step < 1000, "a start does not take so many steps");
        let site = Site::due(&format!("killed-{step}"), 3, "4;b;{};closed;");
        // The first is the one that strace begins with.
        let mut dies = |which: usize, action: &str| alive[which] = alive[which] || !site.agent().killed_at(action, STEPS, step + 1);
        dies(0, "start");
        site.agent().run("start").ok();
        // Unless the first one came so far that the second cannot know what it has run.
        if site.due_file().exists() {
            site.let_cron_run_what_is_due();
        } else {
            assert!(site.missed().contains("may have run"), "start, step {step}: neither made up for nor told: {:?}", site.mark());
        }
        dies(1, "monitor");
        site.agent().run("monitor").ok();
        assert!(!site.due_file().exists(), "monitor, step {step}: it has run");
        assert_eq!(site.mark()[4], "", "monitor, step {step}: {:?}", site.mark());
        dies(2, "stop");
        site.agent().run("stop").ok();
        assert_eq!(site.mark()[3], "closed", "stop, step {step}: {:?}", site.mark());
        assert_eq!(site.mark()[4], "", "stop, step {step}: {:?}", site.mark());
        assert!(!site.installed().exists(), "stop, step {step}");
        assert!(site.ran() <= 1);
    }
    assert!(step > 20, "strace has killed it at {step} steps only");
}

/// After an outage of a day each of them has runs to make up for: not all at once, and the rest is told.
#[test]
fn a_thousand_jobs() {
    let lines: String = (0..1000).map(|n| format!("*/{} * * * * wpsite true {n}\n", 1 + n % 7)).collect();
    let site = Site::with("many", &lines);
    site.set_mark(&format!("4;b;{};closed;", minute() - 60));
    let answer = site.agent().parameter("catch_up", "all").run("start");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(10), "{answer:?}");
    assert_eq!(site.due_text().matches("SYSTOLE_DUE=").count(), 1000);
    assert!(site.missed().contains("only the last 1000"), "{}", site.missed().len());
    for _ in 0..3 {
        let answer = site.agent().run("monitor");
        answer.ok();
        assert!(answer.counted < Duration::from_secs(2), "{answer:?}");
    }
    site.agent().run("stop").ok();
    assert_eq!(site.mark()[3], "closed");
    // What had not begun goes on to the next node, in a line that the cluster can carry.
    assert!(site.mark().join(";").len() < 64 * 1024);
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

/// An attribute manager that does not answer at that moment. Should this node be lost later, the others would go by what they have.
#[test]
fn what_the_other_nodes_could_not_be_told_they_are_told_later() {
    let site = Site::due("untold", 3, "1;b;{};closed;");
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    cluster.set_partition("a b c");
    let agent = site.agent().variable("HA_LOGFILE", site.directory().join("log"));
    let agent = agent.parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path());
    let published = |node: &str| cluster.attribute("systole-untold-cron-mark", node);
    let told = || site.mark().join(";");
    // What fails for one of them keeps it from no other.
    cluster.behave("case \"$*\" in *cron-mark*'--node a') echo no >&2; exit 102;; esac");
    agent.run("start").ok();
    assert_eq!((published("a"), published("b"), published("c")), (None, Some(told()), Some(told())), "{:?}", cluster.calls());
    // As long as that lasts, each monitor tries, and the jobs run.
    cluster.behave("echo no >&2; exit 102");
    site.let_cron_run_what_is_due();
    agent.run("monitor").ok();
    assert_ne!(published("c"), Some(told()), "the run is not to be made up for any more");
    agent.run("monitor").ok();
    cluster.behave("");
    agent.run("monitor").ok();
    for node in ["a", "b", "c"] {
        assert_eq!(published(node), Some(told()), "{node}");
    }
    cluster.calls();
    agent.run("monitor").ok();
    assert_eq!(cluster.calls(), Vec::<String>::new(), "once is enough");
    agent.run("stop").ok();
}

/// What is new in the source was not due before, and a job that was changed is not run again for that.
#[test]
fn a_job_that_is_changed_does_not_run_at_once() {
    let site = Site::with("edited", "0 0 30 2 * wpsite true\n");
    site.agent().run("start").ok();
    // As if nothing had been due for half an hour.
    let mark = site.mark();
    site.set_mark(&format!("{};{};{};open;", mark[0], mark[1], minute() - 30));
    site.write(&format!("{} wpsite echo ran >> {{}}/ran\n", ago(3)));
    let answer = site.agent().run("monitor");
    answer.expect(&[190]);
    assert!(answer.reason().contains("crm resource restart edited"), "{answer:?}");
    // Nor is it installed before the restart.
    site.agent().run("start").ok();
    assert!(!fs::read_to_string(site.installed()).unwrap().contains("echo ran"));
    site.agent().run("stop").ok();
    assert_eq!(site.mark()[3..], ["closed".to_owned(), String::new()]);
    site.agent().run("start").ok();
    assert!(fs::read_to_string(site.installed()).unwrap().contains("echo ran"));
    assert!(!site.due_file().exists() && site.missed().is_empty(), "{}", site.missed());
    site.agent().run("monitor").ok();
    site.agent().run("stop").ok();
}

/// Its attributes are lost with a node, and what its file says may have been outdated while it was away.
#[test]
fn a_node_that_joins_takes_over_what_the_others_know() {
    let attribute = |name: &str| format!("systole-{name}-cron-mark");
    let prepared = |name: &str| {
        let site = Site::due(name, 3, "4;b;{};closed;");
        let cluster = FakeCluster::at(&site.directory().join("cluster"));
        cluster.set_partition("b c");
        let agent = site.agent().meta("on_node", "b").variable("HA_LOGFILE", site.directory().join("log"));
        let agent = agent.parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path());
        (site, cluster, agent)
    };
    let (site, cluster, agent) = prepared("joined");
    let theirs = format!("5;a;{};open;", minute() - 5);
    cluster.set_attribute(&attribute("joined"), "a", Some(&theirs));
    agent.clone().probing().run("monitor").expect(&[7]);
    assert_eq!(cluster.attribute(&attribute("joined"), "b"), Some(theirs));
    cluster.set_attribute(&attribute("joined"), "a", None);
    agent.run("start").ok();
    assert!(!site.due_file().exists() && site.missed().contains("may have run"), "a has had it since: {}", site.missed());
    agent.run("stop").ok();
    // The cluster was shut down as a whole: what is certain depends on who is there.
    for (name, absent, made_up_for) in [("whole", "", true), ("partial", "a", false)] {
        let (site, cluster, agent) = prepared(name);
        cluster.set_absent(absent);
        agent.clone().probing().run("monitor").expect(&[7]);
        agent.run("start").ok();
        assert_eq!(site.due_file().exists(), made_up_for, "{name}: {}", site.missed());
        assert_eq!(site.missed().is_empty(), made_up_for, "{name}");
        agent.run("stop").ok();
    }
}

/// A wrapper that waits for the run before it has begun nothing yet.
#[test]
fn a_run_that_waits_for_its_turn_is_not_lost() {
    let due = minute() - 3;
    let site = Site::due("turn", 3, "4;b;{};closed;");
    site.agent().run("start").ok();
    let job = &site.due_value("SYSTOLE_JOB");
    let mut long = site.job(job, "sleep 4848").spawn().unwrap();
    testkit::eventually("it runs", || !started("sleep 4848").is_empty());
    let mut waiting = site.job(job, "echo ran >> {}/ran").env("SYSTOLE_DUE", due.to_string()).spawn().unwrap();
    testkit::eventually("it waits", || running(WRAPPER).len() >= 4);
    std::thread::sleep(Duration::from_millis(200));
    site.agent().run("monitor").ok();
    assert!(!site.due_file().exists(), "cron has started it");
    assert!(site.mark()[4].ends_with(&format!("@{due}")), "{:?}", site.mark());
    site.agent().parameter("drain", "kill").run("stop").ok();
    for child in [&mut long, &mut waiting] {
        let _ = child.wait();
    }
    assert!(site.mark()[4].contains(&format!("@{due}")) && site.ran() == 0, "{:?}", site.mark());
}

/// Both come due in the same minute of cron's, and with overlap=skip the later one would be left out for the sake of the other.
#[test]
fn a_run_that_is_made_up_for_takes_no_other_ones_place() {
    let due = minute() - 3;
    let site = Site::due("place", 3, "4;b;{};closed;");
    site.agent().run("start").ok();
    let job = &site.due_value("SYSTOLE_JOB");
    let mut late = site.job(job, "sleep 1.7373; echo late >> {}/ran").env("SYSTOLE_DUE", due.to_string()).spawn().unwrap();
    testkit::eventually("it runs", || !started("sleep 1.7373").is_empty());
    assert!(site.job(job, "echo regular >> {}/ran").status().unwrap().success());
    assert!(late.wait().unwrap().success());
    assert_eq!(fs::read_to_string(site.directory().join("ran")).unwrap(), "late\nregular\n");
    site.agent().run("stop").ok();
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
    assert!(deeper().ok().counted < Duration::from_secs(2));
    site.agent().run("stop").ok();
}
