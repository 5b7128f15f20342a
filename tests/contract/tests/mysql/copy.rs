//! `rejoin=clone`: the copy is made beside all actions, because the cluster begins no failover while one runs.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use testkit::mysql::{Group, Server};
use testkit::{Agent, Lists, Process, Signal, eventually, while_the_machine_keeps_up};

/// What a program that copies for a long time is recognised by.
const LONG: &str = "4711";

/// A primary `a`, and `b` with data that are half a copy and a program that makes the next one.
struct Half {
    group: Group,
    lists: Lists,
}

impl Half {
    fn with(program: &str) -> Self {
        let group = Group::established(&["a", "b"]);
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
    while_the_machine_keeps_up(|| {
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
    });
}
