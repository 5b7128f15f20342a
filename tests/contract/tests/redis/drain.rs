//! A planned move behind HAProxy: the old primary is drained before it is demoted, and nobody who comes meanwhile fails. HAProxy is
//! asked a favour only: whatever becomes of it, the demotion goes on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use testkit::{Agent, Client, Group, Haproxy, Lists, Process, Signal, eventually};

/// As operators have it.
const CONFIGURATION: &str = include_str!("../../../../crm-snippets/server/haproxy-redis.cfg");

fn moving() -> Lists {
    Lists { promoted: vec!["a"], unpromoted: vec!["b"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() }
}

/// `a` promoted, `b` attached, and an HAProxy that has seen it.
fn behind(configuration: &str) -> (Group, Haproxy) {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    let haproxy =
        Haproxy::start(&a.directory, configuration, "redis", a.port + 5000, &[("a", "127.0.0.1", a.port), ("b", "127.0.0.1", b.port)]);
    haproxy.wait_status("a", "UP");
    haproxy.wait_status("b", "DOWN");
    (group, haproxy)
}

/// The agent of a node, whose HAProxy this is.
fn told(group: &Group, node: &str, haproxy: &Haproxy, seconds: &str) -> Agent {
    group.node(node).agent().parameter("haproxy_drain", format!("{} redis {seconds}", haproxy.socket.display()))
}

fn before(agent: &Agent, lists: &Lists) -> Duration {
    let begun = Instant::now();
    agent.clone().notifying("pre", "demote", lists, testkit::Spelling::Both).run("notify").ok();
    begun.elapsed()
}

fn mark(group: &Group, node: &str) -> PathBuf {
    group.node(node).state().join("systole-redis.drain")
}

/// Who waits to undo it.
fn undoers(group: &Group, node: &str) -> usize {
    let state = group.node(node).state().display().to_string();
    Process::all().iter().filter(|p| p.arguments.contains("notify") && p.environment.contains(&state)).count()
}

#[test]
fn no_client_fails_in_a_planned_move() {
    let (group, haproxy) = behind(CONFIGURATION);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        // A connection for each request.
        let clients: Vec<_> = (0..4)
            .map(|n| {
                let (stop, done, port) = (&stop, &done, haproxy.port);
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let said =
                            Client::tcp(port).map_err(|e| e.to_string()).and_then(|mut client| client.ask(&["SET", &format!("k{n}"), "v"]));
                        match said {
                            Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
                            Err(e) => failed.push(e),
                        }
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    failed
                })
            })
            .collect();
        let many = |more: usize| {
            let until = done.load(Ordering::Relaxed) + more;
            eventually("requests are answered", || done.load(Ordering::Relaxed) > until);
        };
        many(100);
        let lists = moving();
        before(&told(&group, "b", &haproxy, ""), &lists);
        assert_eq!(haproxy.status("a"), "DRAIN");
        group.demote("a", &["b"], &["b"]).ok();
        group.notify_all("post", "demote", &lists);
        group.before_promotion(&lists);
        group.node("b").agent().lists(&lists, group.spelling).run("promote").ok();
        told(&group, "b", &haproxy, "").notifying("post", "promote", &lists, group.spelling).run("notify").ok();
        group.notify("a", "post", "promote", &lists);
        // Its own check keeps it out now. It was ready before that, and clients were passed on to a replica.
        haproxy.wait_status("a", "DOWN");
        eventually("it is undone", || !mark(&group, "b").exists() && undoers(&group, "b") == 0);
        haproxy.wait_status("b", "UP");
        many(100);
        stop.store(true, Ordering::Relaxed);
        let failed: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        assert!(failed.is_empty(), "{} of {} requests failed: {failed:?}", failed.len(), done.load(Ordering::Relaxed));
    });
    assert!(!haproxy.is_drained("a"));
    assert!(group.node("b").log().contains("HAProxy passes nobody on to redis/a any more; sessions there: 0"), "{}", group.node("b").log());
}

/// A session that stays is waited for no longer than the limit, and goes on until the demotion ends it.
#[test]
fn a_session_that_does_not_end_holds_nobody_up() {
    let (group, haproxy) = behind(CONFIGURATION);
    let mut client = Client::tcp(haproxy.port).unwrap();
    client.ask(&["SET", "k", "1"]).unwrap();
    let took = before(&told(&group, "a", &haproxy, ""), &moving());
    assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(haproxy.status("a"), "DRAIN");
    client.ask(&["SET", "k", "2"]).unwrap();
}

/// Nobody comes back to undo it: the transition was aborted, or the node's Pacemaker ended. The lock is free meanwhile.
#[test]
fn it_is_undone_by_itself_when_nobody_comes_back() {
    let (group, haproxy) = behind(CONFIGURATION);
    let agent = told(&group, "a", &haproxy, "3");
    before(&agent, &moving());
    assert_eq!(haproxy.status("a"), "DRAIN");
    assert!(mark(&group, "a").exists() && undoers(&group, "a") == 1);
    let locked = agent.run("reload-agent");
    locked.ok();
    assert!(locked.counted < Duration::from_secs(2), "{locked:?}");
    haproxy.wait_status("a", "UP");
    eventually("who undid it is gone", || !mark(&group, "a").exists() && undoers(&group, "a") == 0);
}

/// An HAProxy that hangs while it should be undone is told later.
#[test]
fn an_haproxy_that_hangs_when_it_should_be_undone_is_told_again() {
    let (group, haproxy) = behind(CONFIGURATION);
    let agent = told(&group, "a", &haproxy, "1");
    before(&agent, &moving());
    testkit::signal(haproxy.pid(), Signal::SIGSTOP);
    agent.clone().notifying("post", "promote", &moving(), group.spelling).run("notify").ok();
    assert!(group.node("a").log().contains("no answer in time: a is still drained there; it is tried again"), "{}", group.node("a").log());
    // A second move is not held up twice by the same.
    assert!(before(&agent, &moving()) < Duration::from_secs(1));
    std::thread::sleep(Duration::from_millis(1500));
    testkit::signal(haproxy.pid(), Signal::SIGCONT);
    eventually("it is undone", || !haproxy.is_drained("a"));
    eventually("who undid it is gone", || !mark(&group, "a").exists() && undoers(&group, "a") == 0);
}

/// Who should have undone it was killed, and HAProxy knows the server no more: that is over, and keeps no later move from being drained.
#[test]
fn a_mark_of_a_server_that_haproxy_does_not_know_any_more_is_forgotten() {
    let (group, haproxy) = behind(CONFIGURATION);
    let agent = told(&group, "a", &haproxy, "3");
    before(&agent, &moving());
    let text = std::fs::read_to_string(mark(&group, "a")).unwrap();
    haproxy.wait_status("a", "UP");
    eventually("it is undone", || !mark(&group, "a").exists() && undoers(&group, "a") == 0);
    std::fs::write(mark(&group, "a"), text.replace("redis/a", "redis/gone")).unwrap();
    before(&agent, &moving());
    assert_eq!(haproxy.status("a"), "DRAIN");
}

#[test]
fn only_a_planned_move_drains_and_only_a_server_that_serves() {
    let (group, haproxy) = behind(CONFIGURATION);
    let agent = told(&group, "b", &haproxy, "");
    for not_planned in [
        Lists { promote: vec![], ..moving() },
        Lists { promote: vec!["a"], ..moving() },
        Lists { promoted: vec![], unpromoted: vec!["a", "b"], ..moving() },
    ] {
        before(&agent, &not_planned);
        assert_eq!(haproxy.status("a"), "UP", "{not_planned:?}");
    }
    // What an operator has drained is his.
    haproxy.ask("set server redis/a state drain").unwrap();
    before(&agent, &moving());
    agent.clone().notifying("post", "promote", &moving(), group.spelling).run("notify").ok();
    assert_eq!(haproxy.status("a"), "DRAIN");
    haproxy.ask("set server redis/a state ready").unwrap();
    // A primary that died needs no draining.
    group.node("a").kill_server();
    haproxy.wait_status("a", "DOWN");
    before(&agent, &moving());
    assert_eq!(haproxy.status("a"), "DOWN");
    assert!(!mark(&group, "b").exists() && undoers(&group, "b") == 0);
}

#[test]
fn an_haproxy_that_is_dead_hangs_or_refuses_holds_nothing_up() {
    let (group, haproxy) = behind(&CONFIGURATION.replace("level admin", "level operator"));
    let log = || group.node("a").log();
    let agent = told(&group, "a", &haproxy, "");
    let untouched = |what: &str| {
        let took = before(&agent, &moving());
        assert!(took < Duration::from_secs(1), "{what}: {took:?}");
        assert!(!mark(&group, "a").exists() && undoers(&group, "a") == 0, "{what}");
    };
    untouched("refused");
    assert_eq!(haproxy.status("a"), "UP");
    assert!(log().contains("HAProxy refused (Permission denied)") && log().contains("needs level admin"), "{}", log());
    testkit::signal(haproxy.pid(), Signal::SIGSTOP);
    untouched("hangs");
    assert!(log().contains("no answer in time: a is not drained before the move"), "{}", log());
    testkit::signal(haproxy.pid(), Signal::SIGCONT);
    drop(haproxy);
    untouched("dead");
    group.demote("a", &["b"], &["b"]).ok();
}

#[test]
fn a_server_of_another_name_and_another_users_socket_are_told() {
    let (group, haproxy) = behind(CONFIGURATION);
    let log = || group.node("a").log();
    let elsewhere = |value: String| {
        before(&group.node("a").agent().parameter("haproxy_drain", value), &moving());
        assert!(!mark(&group, "a").exists());
    };
    elsewhere(format!("{} other", haproxy.socket.display()));
    assert!(log().contains("HAProxy has no server a in other: a is not drained before the move"), "{}", log());
    // As whoever broke into HAProxy could make one.
    let socket = group.node("a").directory.join("foreign.sock");
    let script = format!(
        "import socket,os,time\nos.setuid({})\ns=socket.socket(socket.AF_UNIX)\ns.bind('{}')\ns.listen()\ntime.sleep(600)",
        testkit::User::from_name("nobody").unwrap().unwrap().uid,
        socket.display()
    );
    std::process::Command::new("chmod").arg("777").arg(&group.node("a").directory).status().unwrap();
    let mut foreign = std::process::Command::new("python3").args(["-c", &script]).spawn().unwrap();
    eventually("the foreign socket", || socket.exists());
    elsewhere(format!("{} redis", socket.display()));
    let _ = foreign.kill();
    let _ = foreign.wait();
    assert!(log().contains("another user than root listens there"), "{}", log());
}

#[test]
fn a_value_of_another_form_is_named() {
    let group = Group::of(&["a"]);
    let answer = group.node("a").agent().parameter("haproxy_drain", "redis").run("validate-all");
    answer.refused(6, &["haproxy_drain (redis) is not of the form SOCKET BACKEND"]);
}
