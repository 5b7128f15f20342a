//! `rejoin=clone`: the copy is made beside all actions, because the cluster begins no failover while one runs.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use testkit::mysql::{Group, Server};
use testkit::{Agent, Lists, Process, Signal, eventually};

/// What a program that copies for a long time is recognised by.
const LONG: &str = "4711";

/// A primary `a`, and `b` with data that are half a copy and a program that makes the next one.
struct Half {
    group: Group,
    lists: Lists,
}

impl Half {
    fn with(program: &str) -> Self {
        Self::among(&["a", "b"], program)
    }

    /// The same beside others.
    fn among(names: &[&'static str], program: &str) -> Self {
        let group = Group::established(names);
        let b = group.node("b");
        b.agent().run("stop").ok();
        let path = b.directory.join("copy");
        std::fs::write(&path, format!("#!/bin/sh\n{program}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let kept = b.data().with_file_name(format!("{}.systole-kept", b.data().file_name().unwrap().to_string_lossy()));
        std::fs::create_dir_all(&kept).unwrap();
        std::fs::write(kept.join("copy-is-not-complete"), "program\n").unwrap();
        Self { group, lists: Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() } }
    }

    fn agent(&self) -> Agent {
        let b = self.group.node("b");
        b.agent().parameter("rejoin", "clone").parameter("copy_program", b.directory.join("copy")).lists(&self.lists, self.group.spelling)
    }

    /// What the operator's command on another node is told of b.
    fn told(&self) -> String {
        self.here("copying")
    }

    /// What it is answered on b: by the program that is installed, which reads the state where agents have it.
    fn here(&self, question: &str) -> String {
        let b = self.group.node("b");
        let agent = self.agent().command(&["monitor"]);
        let given = agent.get_envs().filter_map(|(name, value)| Some((name.to_str()?.strip_prefix("OCF_RESKEY_")?, value?.to_str()?)));
        let pairs: String = given
            .filter(|(name, _)| !name.starts_with("CRM_meta"))
            .map(|(name, value)| format!(r#"<nvpair id="{name}" name="{name}" value="{value}"/>"#))
            .collect();
        let cib = format!(
            r#"<cib><configuration><resources><primitive id="db" class="ocf" provider="systole" type="mysql"><instance_attributes id="given">
            {pairs}</instance_attributes></primitive></resources></configuration><status/></cib>"#
        );
        let tool = b.directory.join("cibadmin");
        std::fs::write(&tool, format!("#!/bin/sh\ncat <<'CIB'\n{cib}\nCIB\n")).unwrap();
        std::fs::set_permissions(&tool, PermissionsExt::from_mode(0o755)).unwrap();
        let places = format!(
            "mkdir -p /run/resource-agents; mount --bind {} /run/resource-agents; mount --bind {} /usr/sbin/cibadmin",
            b.state().display(),
            tool.display()
        );
        let mut command = std::process::Command::new("/usr/sbin/systole");
        command.args(["here", question, "db"]);
        let done = testkit::after(&places, &command).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn note(&self) -> String {
        std::fs::read_to_string(self.group.node("b").data().with_file_name("data.systole-kept").join("copy-is-not-complete")).unwrap()
    }

    /// What the program has started.
    fn copiers(&self) -> Vec<Process> {
        let here = self.group.node("b").data().display().to_string();
        let ours =
            |p: &Process| p.name == "sleep" && p.arguments.contains(LONG) && p.environment.contains(&here) || p.arguments.contains(&here);
        Process::all().into_iter().filter(|p| p.name == "sleep" || p.name == "copy").filter(ours).collect()
    }

    fn worker(&self) -> i32 {
        let text = std::fs::read_to_string(self.group.node("b").state().join("systole-db.copy")).unwrap();
        let digits = text.split("\"pid\":").nth(1).unwrap().chars().take_while(char::is_ascii_digit);
        digits.collect::<String>().parse().unwrap()
    }
}

#[test]
fn no_action_waits_for_a_copy() {
    let half = Half::with(&format!("sleep {LONG} & wait"));
    let quick = |what: &str, statuses: &[i32]| {
        let answer = half.agent().run(what);
        answer.expect(statuses);
        assert!(answer.counted < Duration::from_secs(2), "{what}: {answer:?}");
        answer
    };
    quick("start", &[0]);
    eventually("the program runs", || !half.copiers().is_empty());
    assert!(quick("monitor", &[190]).reason().contains("the data of a are being copied here"));
    quick("start", &[0]);
    assert_eq!(half.copiers().iter().filter(|p| p.name == "copy").count(), 1, "one copy at a time");
    quick("promote", &[1]);
    quick("demote", &[0]);
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], ..Lists::default() };
    half.group.notify("b", "post", "demote", &lists);
    quick("stop", &[0]);
    eventually("nothing goes on writing", || half.copiers().is_empty());
    quick("monitor", &[7]);
}

/// A copy takes hours. Whoever an election would have to hear must not be one that can say nothing.
#[test]
fn a_member_whose_data_are_copied_leaves_the_record() {
    if !Server::here().is_lossless() {
        return;
    }
    let half = Half::among(&["a", "b", "c"], &format!("sleep {LONG} & wait"));
    let (group, a) = (&half.group, half.group.node("a"));
    assert!(group.record().contains(" active=b,c"), "{}", group.record());
    half.agent().run("start").ok();
    eventually("the program runs", || !half.copiers().is_empty());
    eventually("b leaves", || {
        half.agent().run("monitor").expect(&[190]);
        a.agent().run("monitor").expect(&[8, 191]);
        group.record().contains(" active=c ")
    });
    a.write("since then").unwrap();
    group.wait_caught_up("a", "c");
    a.kill_server();
    group.demote("a", &["b", "c"], &["c"]).ok();
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["c"], ..Lists::default() };
    group.notify("c", "post", "demote", &lists);
    // What it said of itself before is in the state; it says nothing now.
    group.notify("c", "pre", "promote", &Lists::promoting("c", &["a", "b", "c"]));
    group.node("c").agent().lists(&Lists::promoting("c", &["a", "b", "c"]), group.spelling).run("promote").ok();
    half.agent().run("stop").ok();
    eventually("nothing goes on writing", || half.copiers().is_empty());
}

/// Pacemaker keeps what the monitor said first. The node knows how far the copy is.
#[test]
fn how_far_a_copy_is_its_node_says() {
    let half = Half::with(&format!(
        "[ \"$1\" != --check ] || {{ echo 10240; exit; }}; head -c 3145728 /dev/zero > \"$2/ibdata1\"; sleep {LONG} & wait"
    ));
    half.agent().run("start").ok();
    eventually("it says so", || half.told().contains("so far: 30 %, 3 of 10 MB"));
    half.agent().run("stop").ok();
    eventually("nothing goes on writing", || half.copiers().is_empty());
    assert!(half.told().contains("\"told\":null"), "{}", half.told());
}

/// The next start began a server without data, and made no copy for ever.
#[test]
fn an_order_to_copy_leaves_the_note_that_there_are_no_data() {
    let half = Half::with("exit 1");
    assert!(half.here("copy").contains("\"ordered\":true"));
    assert_eq!(half.note(), "program\n");
}

/// It went on with those of the time when it began, for hours: `refuse` did not stop it, and a program that was corrected was not run.
#[test]
fn a_copy_that_waits_hears_of_changed_parameters() {
    let half = Half::with("echo no route to host >&2; exit 255");
    let b = half.group.node("b");
    std::fs::create_dir(b.directory.join("corrected")).unwrap();
    let corrected = b.directory.join("corrected/copy");
    std::fs::write(&corrected, format!("#!/bin/sh\nsleep {LONG} & wait\n")).unwrap();
    std::fs::set_permissions(&corrected, PermissionsExt::from_mode(0o755)).unwrap();
    half.agent().run("start").ok();
    eventually("it waits", || half.agent().run("monitor").reason().contains("failed 1 times"));
    let waiting = half.worker();
    half.agent().parameter("copy_program", &corrected).run("reload-agent").ok();
    eventually("the other program runs", || !half.copiers().is_empty());
    assert_ne!(half.worker(), waiting);
    // One that is under way knows what it needs.
    let copies = half.worker();
    half.agent().parameter("rejoin", "refuse").run("reload-agent").ok();
    assert!(half.worker() == copies && !half.copiers().is_empty());
    half.agent().run("stop").ok();
    eventually("nothing goes on writing", || half.copiers().is_empty());
}

#[test]
fn a_copy_that_waits_for_its_turn_ends_with_rejoin_set_back() {
    let half = Half::with(&format!("sleep {LONG} & wait"));
    half.group.cluster.set_attribute("systole-db-copying", "c", Some("copies"));
    half.agent().run("start").ok();
    eventually("it waits", || half.agent().run("monitor").reason().contains("after those on c: one copy at a time"));
    half.agent().parameter("rejoin", "refuse").run("reload-agent").ok();
    assert!(!half.group.node("b").state().join("systole-db.copy").exists());
    assert_eq!(half.group.cluster.attribute("systole-db-copying", "b").as_deref(), Some("no"));
    half.agent().run("stop").ok();
}

/// Whatever becomes of the process that makes it: what it has started is gone before the next copy begins.
#[test]
fn a_copy_that_was_broken_off_is_begun_anew() {
    let half = Half::with(&format!("sleep {LONG} & wait"));
    half.agent().run("start").ok();
    eventually("the program runs", || !half.copiers().is_empty());
    let before: Vec<i32> = half.copiers().iter().map(|p| p.pid).collect();
    testkit::signal(half.worker(), Signal::SIGKILL);
    eventually("the monitor says so", || half.agent().run("monitor").reason().contains("broken off; it is begun anew"));
    half.agent().probing().run("monitor").expect(&[7]);
    half.agent().run("start").ok();
    eventually("the program runs again", || !half.copiers().is_empty());
    assert!(half.copiers().iter().all(|p| !before.contains(&p.pid)), "{before:?}");
    half.agent().run("stop").ok();
    eventually("nothing goes on writing", || half.copiers().is_empty());
}

#[test]
fn a_copy_that_fails_says_why_and_is_tried_again() {
    let half = Half::with("echo no route to host >&2; exit 255");
    for _ in 0..2 {
        half.agent().run("start").ok();
        eventually("the monitor says why", || {
            half.agent().run("monitor").reason().contains("no route to host; correct that, it is tried again")
        });
        half.agent().run("stop").ok();
        half.agent().run("monitor").expect(&[7]);
    }
}

/// After a restart of all nobody is promoted yet. The recorded node's data are the right ones.
#[test]
fn without_a_primary_the_recorded_nodes_data_are_copied() {
    let half = Half::with(&format!("sleep {LONG} & wait"));
    let b = half.group.node("b");
    let agent = b.agent().parameter("rejoin", "clone").parameter("copy_program", b.directory.join("copy"));
    agent.run("start").ok();
    assert!(agent.run("monitor").reason().contains("the data of a are being copied here"));
    agent.run("stop").ok();
    // Its own it cannot copy.
    half.group.cluster.set_record("db", "epoch=1 node=b");
    agent.run("start").refused(1, &["holds no complete data", "when there is a primary"]);
}

/// Its monitors are far apart, and every write waits for it.
#[test]
fn a_copied_server_acknowledges_without_a_monitor() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let half = Half::with(r#"cp -a "$(dirname "$0")/saved/." "$2""#);
    let (a, b) = (half.group.node("a"), half.group.node("b"));
    let saved = b.directory.join("saved");
    let copied = std::process::Command::new("cp").arg("-a").args([b.data(), saved.clone()]).status().unwrap();
    assert!(copied.success());
    let position = a.administer("SELECT @@GLOBAL.gtid_binlog_pos").unwrap();
    std::fs::write(saved.join("mariadb_backup_binlog_info"), format!("binlog.000001\t1\t{position}\n")).unwrap();
    let waiting = a.write_and_wait("in between");
    half.agent().run("start").ok();
    let answer = testkit::within(Duration::from_secs(20), || {
        a.agent().run("monitor").expect(&[8, 191]);
        waiting.answer(Duration::from_millis(300))
    });
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}: {}\n{}", a.log(), b.log());
    assert!(b.log().contains("acknowledging under record"), "{}", b.log());
    assert!(b.has("in between"));
}

/// A replica that has diverged and runs, and a program that is to copy the primary's data: `saved` is what they were when `b` had not.
pub(crate) struct Diverged {
    pub(crate) group: Group,
    lists: Lists,
}

impl Diverged {
    /// `options` are those of `b`; its own directory stands for DIR.
    pub(crate) fn with(program: &str, options: &str) -> Self {
        let group = Group::of(&["a", "b"]);
        let (a, b) = (group.node("a"), group.node("b"));
        std::fs::create_dir(b.directory.join("logs")).unwrap();
        b.give(&b.directory.join("logs"));
        b.configure(&options.replace("DIR", &b.directory.display().to_string()));
        group.start_all();
        group.promote("a", &["a", "b"]).ok();
        group.wait_attached("b");
        a.write("first").unwrap();
        group.wait_caught_up("a", "b");
        let lists = Lists { promoted: vec!["a"], start: vec!["b"], ..Lists::default() };
        let diverged = Self { group, lists };
        let (a, b) = (diverged.group.node("a"), diverged.group.node("b"));
        b.agent().run("stop").ok();
        let saved = b.directory.join("saved");
        assert!(std::process::Command::new("cp").arg("-a").args([b.data(), saved.clone()]).status().unwrap().success());
        // A backup does not hold whom its server follows.
        for name in ["master.info", "relay-log.info", "multi-master.info"] {
            let _ = std::fs::remove_file(saved.join(name));
        }
        if b.server == Server::MariaDb {
            let position = a.administer("SELECT @@GLOBAL.gtid_binlog_pos").unwrap();
            std::fs::write(saved.join("mariadb_backup_binlog_info"), format!("binlog.000001\t1\t{position}\n")).unwrap();
        }
        let path = b.directory.join("copy");
        std::fs::write(&path, format!("#!/bin/sh\nhere=$(dirname \"$0\")\necho \"$1\" >> $here/runs\n{program}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        diverged.agent().run("start").ok();
        diverged.group.wait_attached("b");
        b.write_behind_the_agents_back("of b alone");
        diverged
    }

    pub(crate) fn agent(&self) -> Agent {
        let b = self.group.node("b");
        b.agent().parameter("rejoin", "clone").parameter("copy_program", b.directory.join("copy")).lists(&self.lists, self.group.spelling)
    }

    /// What the cluster does when the monitor finds it.
    pub(crate) fn restart(&self) {
        self.agent().run("monitor").refused(1, &["transactions that the primary does not have"]);
        self.agent().run("stop").ok();
        self.agent().run("start").ok();
    }

    /// Until its data were replaced so many times, and it follows.
    #[track_caller]
    fn copied(&self, times: usize) {
        let b = self.group.node("b");
        let done = testkit::within(Duration::from_secs(60), || (b.log().matches("the data are a copy of").count() >= times).then_some(()));
        assert!(done.is_some(), "{}", b.log());
        self.group.wait_attached("b");
        eventually("the monitor is content", || {
            // Degraded until the only replica acknowledges again.
            self.group.node("a").agent().run("monitor").expect(&[8, 191]);
            self.agent().run("monitor").status == 0
        });
    }

    /// The primary lets its plugin send the data, where there is one.
    fn let_clone(&self) {
        let a = self.group.node("a");
        if a.server.clones() {
            a.must(&["SET SESSION sql_log_bin=0", "GRANT BACKUP_ADMIN ON *.* TO replication@'%'"]);
            a.agent().parameter("rejoin", "clone").run("reload-agent").ok();
        }
    }

    fn kept(&self) -> std::path::PathBuf {
        self.group.node("b").data().with_file_name("data.systole-kept")
    }

    fn runs(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.group.node("b").directory.join("runs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Copies what the data were before they diverged.
const AS_BEFORE: &str = r#"[ "$1" = --check ] || cp -a "$here/saved/." "$2""#;

/// It keeps its server_id, and counts on from a position that is before what it wrote: a third server may have received that.
#[test]
fn a_copied_mariadb_gives_no_name_again() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let diverged = Diverged::with(AS_BEFORE, "");
    let (a, b) = (diverged.group.node("a"), diverged.group.node("b"));
    let own = format!("0-{}-", b.number());
    let name = b.executed().split(',').find(|name| name.starts_with(&own)).map(str::to_owned).unwrap();
    diverged.restart();
    diverged.copied(1);
    assert!(!b.executed().split(',').any(|held| held == name), "{}", b.executed());
    let note = std::fs::read_to_string(diverged.kept().join("names-that-were-taken-back")).unwrap();
    assert!(note.split(',').any(|noted| noted == name), "{name}: {note}");
    let flags = || {
        let _ = std::fs::remove_file(b.directory.join("ha.log"));
        diverged.group.notify("b", "pre", "promote", &Lists::promoting("b", &["a", "b"]));
        let log = b.log();
        let position = log.lines().find_map(|line| line.split_once("position for the next promotion: ")).map(|(_, text)| text.to_owned());
        position.unwrap_or_else(|| panic!("{log}")).split('|').nth(1).unwrap_or_default().to_owned()
    };
    a.kill_server();
    assert!(flags().contains('r'), "it would write {name} again");
    diverged.agent().run("stop").ok();
}

/// It begins its logs with the same names.
#[test]
fn a_second_copy_replaces_no_log_of_the_first() {
    if Server::here() != Server::MariaDb && !Server::here().clones() {
        return;
    }
    let diverged = Diverged::with(AS_BEFORE, "");
    let b = diverged.group.node("b");
    diverged.let_clone();
    for (time, name) in [(1, "of b alone"), (2, "of b once more")] {
        if time > 1 {
            b.write_behind_the_agents_back(name);
        }
        diverged.restart();
        diverged.copied(time);
        assert!(!b.has(name), "{name}");
    }
    let holds = |time: usize, name: &str| {
        let logs = std::fs::read_dir(diverged.kept().join(format!("logs-{time:04}"))).unwrap().flatten();
        let part =
            |entry: std::fs::DirEntry| std::fs::read(entry.path()).is_ok_and(|log| log.windows(name.len()).any(|w| w == name.as_bytes()));
        logs.into_iter().any(part)
    };
    assert!(holds(1, "of b alone"), "what only it had the first time");
    assert!(holds(2, "of b once more"), "what only it had the second time");
    diverged.agent().run("stop").ok();
}

/// The attempt after it emptied the data directory under the server of the first, and waited for that one's answers for ever.
#[test]
fn a_copy_whose_position_the_server_refuses_is_made_again() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let program = r#"[ "$1" != --check ] || exit 0
cp -a "$here/saved/." "$2"
[ -e "$here/again" ] || printf 'binlog.000001\t1\tno position\n' > "$2/mariadb_backup_binlog_info"
touch "$here/again""#;
    let diverged = Diverged::with(program, "");
    let b = diverged.group.node("b");
    diverged.restart();
    eventually("the monitor says why", || diverged.agent().run("monitor").reason().contains("failed 1 times"));
    assert_eq!(b.servers().len(), 1, "it runs with what was copied");
    // Otherwise the next attempt begins in half a minute.
    diverged.agent().run("reload-agent").ok();
    diverged.copied(1);
    assert!(!b.has("of b alone") && b.has("first"));
    diverged.agent().run("stop").ok();
}

/// Whose data are right may be those that would be replaced.
#[test]
fn what_an_operator_has_decided_is_not_replaced() {
    if Server::here() != Server::MariaDb && !Server::here().clones() {
        return;
    }
    let diverged = Diverged::with(AS_BEFORE, "");
    let (cluster, b) = (&diverged.group.cluster, diverged.group.node("b"));
    diverged.let_clone();
    cluster.set_attribute("systole-db-copying", "c", Some("copies"));
    diverged.restart();
    eventually("it waits", || diverged.agent().run("monitor").reason().contains("after those on c: one copy at a time"));
    cluster.set_record("db", "epoch=9 node=a");
    cluster.set_attribute("systole-db-copying", "c", Some("no"));
    eventually("it says so", || diverged.agent().run("monitor").reason().contains("an operator has decided which data are right"));
    assert!(b.has("of b alone"));
    assert!(diverged.runs().is_empty() && !diverged.kept().join("copy-is-not-complete").exists());
    // With rejoin=refuse nobody tries again, and the server runs on.
    let server = b.process().pid;
    diverged.agent().parameter("rejoin", "refuse").run("reload-agent").ok();
    assert!(!b.state().join("systole-db.copy").exists());
    assert_eq!(b.process().pid, server);
    diverged.agent().run("stop").ok();
}

/// With a key that is missing the last other copy of the data was gone, and no copy came for ever.
#[test]
fn nothing_is_emptied_before_the_copy_is_sure_to_come() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let diverged = Diverged::with("[ \"$1\" != --check ] || { echo 'root cannot log in by ssh' >&2; exit 1; }", "");
    let b = diverged.group.node("b");
    diverged.restart();
    eventually("the monitor says why", || {
        let answer = diverged.agent().run("monitor");
        answer.status == 190 && answer.reason().contains("root cannot log in by ssh; nothing was changed")
    });
    let answer = diverged.agent().run("monitor");
    assert!(answer.reason().contains("failed 1 times") && answer.reason().contains("next attempt in 1 min"), "{}", answer.reason());
    assert_eq!(diverged.runs(), ["--check"]);
    assert!(b.has("of b alone"), "the server and its data are as they were");
    // An operator who has corrected it does not wait.
    diverged.agent().run("stop").ok();
    diverged.agent().run("start").ok();
    eventually("it is asked again", || diverged.runs().len() == 2);
    diverged.agent().run("stop").ok();
    assert!(b.servers().is_empty());
}

/// The logs of the data that are gone named what only they had, so the copy counted as diverged: a whole copy with every monitor.
#[test]
fn logs_outside_of_the_data_directory_go_with_the_data() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let program = r#"[ "$1" = --check ] || cp -a "$here/saved/." "$2""#;
    let diverged = Diverged::with(program, "log-bin=DIR/logs/binlog\nrelay-log=DIR/logs/relay\n");
    let b = diverged.group.node("b");
    diverged.restart();
    eventually("it is whole", || b.log().contains("the data are a copy of"));
    diverged.group.wait_attached("b");
    for _ in 0..4 {
        eventually("the monitor is content", || diverged.agent().run("monitor").status == 0);
        // Degraded until the only replica acknowledges again.
        diverged.group.node("a").agent().run("monitor").expect(&[8, 191]);
    }
    assert!(!b.has("of b alone") && b.has("first"));
    assert_eq!(diverged.runs().iter().filter(|run| *run != "--check").count(), 1, "{:?}", diverged.runs());
    let kept = b.data().with_file_name("data.systole-kept");
    let logs = std::fs::read_dir(kept.join("logs-0001"))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("binlog."))
        .count();
    assert!(logs > 0, "what only it had is kept");
    assert!(!kept.join("copy-is-not-complete").exists());
}

/// What the program does not fill would stay what it was.
#[test]
fn data_outside_of_the_data_directory_are_not_replaced() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let diverged = Diverged::with("", "innodb_undo_directory=DIR/logs\ninnodb_undo_tablespaces=2\n");
    assert!(diverged.group.node("b").variable("innodb_undo_directory").ends_with("logs"));
    diverged.restart();
    eventually("the monitor says why", || diverged.agent().run("monitor").reason().contains("innodb_undo_directory is"));
    assert_eq!(diverged.runs(), Vec::<String>::new());
    assert!(diverged.group.node("b").has("of b alone"));
}

#[test]
fn one_node_copies_at_a_time() {
    let half = Half::with(&format!("sleep {LONG} & wait"));
    half.group.cluster.set_attribute("systole-db-copying", "c", Some("copies"));
    half.agent().run("start").ok();
    eventually("it waits", || half.agent().run("monitor").reason().contains("after those on c: one copy at a time"));
    assert!(half.copiers().is_empty());
    half.group.cluster.set_attribute("systole-db-copying", "c", Some("no"));
    eventually("it copies", || !half.copiers().is_empty());
    assert_eq!(half.group.cluster.attribute("systole-db-copying", "b").as_deref(), Some("copies"));
    half.agent().run("stop").ok();
    assert_eq!(
        half.group.cluster.attribute("systole-db-copying", "b").as_deref(),
        Some("no"),
        "nobody waits for a copy that was broken off"
    );
}

/// The clone plugin: the server ends with the connection, as it does when it dies.
#[test]
fn a_clone_of_mysql_is_believed_when_the_server_says_that_it_is_complete() {
    if !Server::here().clones() {
        return;
    }
    let diverged = Diverged::with("", "");
    let (a, b) = (diverged.group.node("a"), diverged.group.node("b"));
    a.must(&["SET SESSION sql_log_bin=0", "GRANT BACKUP_ADMIN ON *.* TO replication@'%'"]);
    a.agent().parameter("rejoin", "clone").run("reload-agent").ok();
    diverged.restart();
    let whole = testkit::within(Duration::from_secs(60), || b.log().contains("the data are a copy of").then_some(()));
    assert!(whole.is_some(), "{}", b.log());
    diverged.group.wait_attached("b");
    eventually("the monitor is content", || diverged.agent().run("monitor").status == 0);
    assert!(!b.has("of b alone") && b.has("first"));
}

/// The server dies in the middle. The connection breaks as it does at the end, its schemas are gone, and its GTIDs are there.
#[test]
fn a_clone_whose_server_died_is_no_copy_and_is_made_again() {
    if !Server::here().clones() {
        return;
    }
    // So few data are copied within a second, whatever the bandwidth.
    let diverged = Diverged::with("", "loose_clone_delay_after_data_drop=30");
    let (a, b) = (diverged.group.node("a"), diverged.group.node("b"));
    a.must(&["SET SESSION sql_log_bin=0", "GRANT BACKUP_ADMIN ON *.* TO replication@'%'"]);
    a.agent().parameter("rejoin", "clone").run("reload-agent").ok();
    diverged.restart();
    eventually("the clone is under way", || {
        let dropped = "SELECT state FROM performance_schema.clone_progress WHERE stage='DROP DATA'";
        b.administer(dropped).is_ok_and(|state| state == "In Progress")
    });
    // What `systole status --live` makes per cent of.
    b.administer(systole_mysql::operator::CLONE_STAGES).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    b.configure("");
    b.process().signal(Signal::SIGKILL);
    let found = testkit::within(Duration::from_secs(60), || b.log().contains("the copy is not whole").then_some(()));
    assert!(found.is_some() && !b.log().contains("the data are a copy of"), "{}", b.log());
    eventually("the monitor says so", || {
        let answer = diverged.agent().run("monitor");
        answer.status == 190
            && answer.reason().contains("failed 1 times: the copy is not whole")
            && answer.reason().contains("next attempt")
    });
    // An operator does not wait.
    diverged.agent().run("stop").ok();
    diverged.agent().run("start").ok();
    let whole = testkit::within(Duration::from_secs(90), || b.log().contains("the data are a copy of").then_some(()));
    assert!(whole.is_some(), "{}", b.log());
    diverged.group.wait_attached("b");
    assert!(b.has("first"));
    // The server of the second attempt began its logs with the names of those that were kept at the first.
    let kept = std::fs::read_dir(b.data().with_file_name("data.systole-kept").join("logs-0001")).unwrap().flatten();
    let holds = |entry: std::fs::DirEntry| std::fs::read(entry.path()).is_ok_and(|log| log.windows(10).any(|part| part == b"of b alone"));
    assert!(kept.into_iter().any(holds), "what only it had is kept");
    assert!(!diverged.kept().join("logs-0002").exists(), "an attempt after another keeps nothing anew");
}

/// A data directory that is a mount of its own: what is kept goes to another file system, which others need as well.
#[test]
fn what_is_kept_fills_no_disk() {
    let diverged = Diverged::with("exit 1", "");
    let b = diverged.group.node("b");
    let kept = b.data().with_file_name("data.systole-kept");
    std::fs::create_dir_all(&kept).unwrap();
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&kept).status().unwrap();
    assert!(mounted.success());
    // An old MySQL has nothing to copy with.
    if b.server == Server::MariaDb || b.server.clones() {
        diverged.restart();
        eventually("the monitor says why", || diverged.agent().run("monitor").reason().contains("the binary logs cannot be kept"));
        assert!(b.has("of b alone"));
        assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 0, "nothing is left half");
    }
    diverged.agent().run("stop").ok();
    let _ = std::process::Command::new("umount").arg("-l").arg(&kept).status();
}

/// The programs of the package that copy a MariaDB, and a stand-in for ssh in front of them: it does what sshd does with a key that is
/// bound to systole-send-backup.
struct Shipped {
    node: testkit::mysql::Node,
    tools: std::path::PathBuf,
}

impl Shipped {
    /// `behaviour`: shell lines that ssh does before, with the client's command in `$command`.
    fn with(behaviour: &str) -> Self {
        let node = testkit::mysql::Node::alone();
        let tools = node.directory.join("tools");
        std::fs::create_dir(&tools).unwrap();
        let shipped = Self { node, tools };
        let log = shipped.tools.join("asked").display().to_string();
        shipped.tool(
            "ssh",
            &format!(
                "echo \"$*\" >> {log}\nwhile [ \"$1\" != -- ]; do shift; done\nexport command=\"$3\"\n\
                 [ \"$2\" = root@lxc1 ] || {{ echo 'no route to host' >&2; exit 255; }}\n{behaviour}\n\
                 SSH_ORIGINAL_COMMAND=\"$command\" exec /usr/libexec/systole/systole-send-backup"
            ),
        );
        shipped
    }

    fn tool(&self, name: &str, script: &str) {
        let path = self.tools.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// An empty directory of the server's.
    fn empty(&self) -> std::path::PathBuf {
        let directory = self.node.directory.join("copied");
        std::fs::create_dir(&directory).unwrap();
        self.node.give(&directory);
        directory
    }

    /// Runs a program with these variables and arguments. Whether it succeeded, and what it said.
    fn run(&self, program: &str, variables: &[(&str, &str)], arguments: &[&str]) -> (bool, String) {
        let answer = std::process::Command::new(format!("/usr/libexec/systole/{program}"))
            .args(arguments)
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.tools.display()))
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        (answer.status.success(), String::from_utf8_lossy(&answer.stderr).trim().to_owned())
    }

    fn copy(&self, arguments: &[&str]) -> (bool, String) {
        self.run("systole-copy-mariadb", &[], arguments)
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.tools.join("asked")).unwrap_or_default()
    }
}

/// Everything below a directory, with the numbers of the owners.
fn owners(directory: &std::path::Path) -> Vec<(std::path::PathBuf, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            found.push((entry.path(), metadata.uid()));
            if metadata.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    found
}

/// It was unpacked as root, and the key that it took was one for everything.
#[test]
fn the_shipped_copy_goes_over_a_bound_key_and_is_unpacked_as_the_servers_account() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let shipped = Shipped::with("");
    let directory = shipped.empty();
    let to = directory.to_str().unwrap();
    let (possible, said) = shipped.copy(&["--check", "lxc1", to]);
    assert!(!possible && said.contains("root cannot log in at MariaDB on"), "its server does not run: {said}");
    shipped.node.start();
    // Where the distribution's option file says that the server of this machine is.
    std::fs::create_dir_all("/run/mysqld").unwrap();
    std::os::unix::fs::symlink(shipped.node.socket(), "/run/mysqld/mysqld.sock").unwrap();
    let users = shipped.tools.join("users");
    std::fs::write(&users, "").unwrap();
    std::fs::set_permissions(&users, PermissionsExt::from_mode(0o666)).unwrap();
    for name in ["mbstream", "mariadb-backup"] {
        shipped.tool(name, &format!("case \"$*\" in *--version*) ;; *) id -u >> {} ;; esac\nexec /usr/bin/{name} \"$@\"", users.display()));
    }
    assert_eq!(shipped.copy(&["--check", "lxc1", to]), (true, String::new()));
    assert!(owners(&directory).is_empty(), "a check changes nothing");
    let (copied, said) = shipped.copy(&["lxc1", to]);
    assert!(copied, "{said}");
    let mysql = owners(&shipped.node.directory).into_iter().find(|(path, _)| *path == directory).unwrap().1;
    assert_ne!(mysql, 0);
    let found = owners(&directory);
    let position = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"].map(|name| directory.join(name));
    assert!(found.iter().any(|(path, _)| position.contains(path)), "without a position: {} files", found.len());
    let others: Vec<_> = found.iter().filter(|(_, owner)| *owner != mysql).collect();
    assert!(others.is_empty(), "{others:?}");
    let users = std::fs::read_to_string(users).unwrap();
    assert_eq!(users.lines().collect::<Vec<_>>(), [mysql.to_string(), mysql.to_string()], "who unpacked and prepared it");
    std::fs::remove_file("/run/mysqld/mysqld.sock").unwrap();
    // Two questions, each with a word of its own and nothing before it that could be an option.
    let asked = shipped.asked();
    assert!(asked.lines().all(|line| line.contains("-- root@lxc1 /usr/libexec/systole/systole-send-backup ")), "{asked}");
}

#[test]
fn with_the_key_for_copies_nothing_else_can_be_asked_for() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let shipped = Shipped::with("");
    let victim = shipped.node.directory.join("victim");
    let touch = format!("touch {}", victim.display());
    let program = "/usr/libexec/systole/systole-send-backup";
    for request in [
        String::new(),
        "true".to_owned(),
        touch.clone(),
        format!("{program} check; {touch}"),
        format!("{program} backup $({touch})"),
        format!("{program} \n{touch}"),
        format!("$({touch})"),
        "scp -f /etc/shadow".to_owned(),
        format!("{program} check backup"),
    ] {
        let (sent, said) = shipped.run("systole-send-backup", &[("SSH_ORIGINAL_COMMAND", &request)], &[]);
        assert!(!sent && said.contains("this key is for systole-copy-mariadb"), "{request:?}: {said}");
    }
    assert!(!victim.exists());
}

#[test]
fn the_shipped_copy_says_what_is_missing_and_takes_no_option_for_a_host() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let shipped = Shipped::with("[ ! -e $(dirname $0)/answer ] || { . $(dirname $0)/answer; }");
    let directory = shipped.empty();
    let to = directory.to_str().unwrap();
    for host in ["-oProxyCommand=touch /tmp/pwned", "--", "", "lxc1 true", "$(true)", "lxc1;true", "root@lxc1"] {
        for arguments in [vec!["--check", host, to], vec![host, to]] {
            let (done, said) = shipped.copy(&arguments);
            assert!(!done && said.contains("is no name or address of a host"), "{host:?}: {said}");
        }
    }
    assert_eq!(shipped.asked(), "", "nobody was asked");
    let check = |host: &str| shipped.copy(&["--check", host, to]);
    let refused = |answer: &str, words: &str| {
        std::fs::write(shipped.tools.join("answer"), answer).unwrap();
        let (done, said) = check("lxc1");
        assert!(!done && said.lines().last().is_some_and(|line| line.contains(words)), "{answer:?}: {said}");
    };
    assert!(check("lxc9").1.contains("root cannot log in at lxc9 by ssh with a key: no route to host"));
    refused("exit 127", "install the same version of systole there");
    refused("echo hello; exit 0", "look at the key in its authorized_keys");
    refused("echo 5.5 100; exit 0", "mariadb-backup is of version");
    let series = "$(mariadb-backup --version 2>&1 | sed -n 's/.*MariaDB server \\([0-9]*\\.[0-9]*\\)\\..*/\\1/p')";
    refused(&format!("echo {series} 999999999999; exit 0"), "no room in");
    std::fs::write(shipped.tools.join("answer"), format!("echo Welcome; echo {series} 10; exit 0")).unwrap();
    assert_eq!(check("lxc1"), (true, String::new()));
    std::os::unix::fs::chown(&directory, Some(0), Some(0)).unwrap();
    assert!(check("lxc1").1.contains("belongs to root"));
}
