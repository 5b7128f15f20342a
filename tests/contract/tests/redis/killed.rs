//! What dies half-way: the server, the agent. And what happens twice at once.

use std::time::Duration;

use testkit::{Group, Lists, Node, Redis, Signal, User, eventually};

use crate::shared::killed::{self as shared, kill_after, moments};

promised!(killed(): a_dead_replica_is_not_running, a_dead_primary_is_a_failed_primary_but_a_probe_finds_nothing);
promised!(killed(): the_death_of_the_server_lowers_the_score_at_once, the_monitor_of_a_dead_primary_lowers_the_score);
promised!(killed(): two_stops_at_once_both_succeed);
promised!(killed((30, 40_000)): an_agent_killed_at_any_moment_of_start_is_started_again_to_the_same_end);
promised!(killed((30, 40_000), Duration::from_millis(30)): an_agent_killed_at_any_moment_of_start_leaves_nothing_that_stop_does_not_find);
promised!(killed(5): two_starts_at_once_make_one_server);
promised!(killed(8): start_and_stop_at_once_end_in_one_of_both);
promised!(killed(Duration::from_secs(5)): stop_does_not_wait_for_a_lock_for_longer_than_it_has);

#[test]
fn a_stop_lowers_no_score_and_leaves_no_watcher() {
    shared::a_stop_leaves_no_score_and_no_watcher::<Redis>();
}

/// It was root for all of its life, for the one call at the end.
#[test]
fn the_watcher_is_the_clusters_user_and_the_agent_knows_what_it_published() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    let watcher = a.watchers().remove(0);
    let is = |what: &str| watcher.status(what);
    let cluster = User::from_name("hacluster").unwrap().expect("the image has the cluster's user");
    eventually("it is not root", || is("Uid") == vec![cluster.uid.to_string(); 4].join("\t"));
    assert_eq!(is("Gid"), vec![cluster.gid.to_string(); 4].join("\t"));
    assert_eq!((is("CapEff"), is("NoNewPrivs")), ("0".repeat(16), "1".to_owned()));
    assert!(!is("Groups").split_whitespace().any(|group| group == "0"), "{}", is("Groups"));
    a.kill_server();
    eventually("the score is lowered", || a.score() == "-INFINITY");
    let told = a.state().join("systole-redis.told");
    eventually("it is remembered", || std::fs::read_to_string(&told).unwrap().contains("score"));
    group.cluster.calls();
    a.agent().run("monitor").expect(&[9]);
    let calls = group.cluster.calls();
    assert!(!calls.iter().any(|call| call.contains("--promotion")), "told twice: {calls:?}");
    // Nor does the agent take its own score of before for the one that stands there.
    a.agent().run("demote").ok();
    a.agent().run("stop").ok();
    a.start();
    a.agent().run("monitor").expect(&[0]);
    assert_ne!(a.score(), "-INFINITY");
}

/// A watcher that was killed is started again by the next monitor.
#[test]
fn the_monitor_starts_a_watcher_that_is_missing() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    b.watchers().iter().for_each(|w| w.signal(Signal::SIGKILL));
    eventually("the watcher is gone", || b.watchers().is_empty());
    b.agent().run("monitor").expect(&[0]);
    assert_eq!(b.watchers().len(), 1);
    b.agent().run("monitor").expect(&[0]);
    assert_eq!(b.watchers().len(), 1);
}

/// It holds a write that nobody else has, and throws it away when it attaches to its successor.
#[test]
fn the_data_of_a_dead_primary_are_kept_when_it_comes_back_after_its_successor() {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    a.write("only here").unwrap();
    a.ask(&["SAVE"]).unwrap();
    let saved = std::fs::read(a.data().join("dump.rdb")).unwrap();
    a.kill_server();
    a.agent().run("stop").ok();
    group.promote("b", &["b"]).ok();
    let lists = Lists { promoted: vec!["b"], start: vec!["a"], ..Lists::default() };
    a.agent().lists(&lists, group.spelling).run("start").ok();
    group.wait_attached("a");
    let kept: Vec<_> = std::fs::read_dir(a.data().join("systole-kept")).unwrap().flatten().map(|e| e.path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let name = kept[0].file_name().unwrap().to_string_lossy().into_owned();
    assert!(name.starts_with("0001-at-most-") && name.ends_with("-bytes"), "{name}");
    assert_eq!(std::fs::read(kept[0].join("dump.rdb")).unwrap(), saved);
}

#[test]
fn an_agent_killed_at_any_moment_of_promote_is_promoted_again() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let lists = Lists::promoting("a", &["a"]);
    let agent = node.agent().meta("clone_max", "1").lists(&lists, group.spelling);
    node.start();
    group.before_promotion(&lists);
    for micros in moments(30, 60_000) {
        kill_after(&agent, "promote", micros);
        // Nobody but a whole promotion opens it: either it takes writes and says so, or it takes none.
        let open = node.write("early").is_ok();
        let status = node.agent().run("monitor").status;
        assert_eq!(open, status == 8, "promote killed after {micros} us: writes {open}, monitor {status}");
        group.notify("a", "pre", "promote", &lists);
        agent.run("promote").ok();
        node.write("promoted").expect("a promoted server takes writes");
        node.agent().run("monitor").expect(&[8]);
        node.agent().run("demote").ok();
        node.write("demoted").expect_err("a demoted server takes none");
        group.notify("a", "pre", "promote", &lists);
    }
}

/// What the server says of a setting.
fn setting(node: &Node, name: &str) -> String {
    node.ask(&["CONFIG", "GET", name]).unwrap().lines().last().unwrap_or_default().to_owned()
}

/// Every replica that needed a copy waited for a minute, on a server that nobody had told to.
#[test]
fn what_a_promotion_sets_for_a_moment_is_given_back_by_whoever_comes_after_a_killed_one() {
    const DELAY: &str = "repl-diskless-sync-delay";
    for next in ["monitor", "demote", "promote"] {
        let group = Group::of(&["a"]);
        let node = group.node("a");
        let lists = Lists::promoting("a", &["a"]);
        let agent = node.agent().meta("clone_max", "1").lists(&lists, group.spelling);
        // The step takes some milliseconds, and is sometimes over before it is seen.
        let killed = (0..20).any(|_| {
            node.start();
            node.ask(&["CONFIG", "SET", "repl-diskless-sync", "no"]).unwrap();
            node.ask(&["CONFIG", "SET", DELAY, "7"]).unwrap();
            group.before_promotion(&lists);
            let mut client = node.client();
            let promotion = agent.spawn("promote");
            let until = std::time::Instant::now() + Duration::from_secs(1);
            let seen = std::iter::from_fn(|| client.ask(&["CONFIG", "GET", DELAY]).ok())
                .take_while(|_| std::time::Instant::now() < until)
                .any(|answer| answer.lines().last() == Some("60"));
            promotion.kill();
            let left = seen && setting(node, DELAY) == "60";
            if !left {
                node.agent().run("stop").ok();
                group.cluster.forget_record("redis");
            }
            left
        });
        assert!(killed, "the step was never met");
        group.notify("a", "pre", "promote", &lists);
        agent.run(next);
        assert_eq!((setting(node, DELAY), setting(node, "repl-diskless-sync")), ("7".to_owned(), "no".to_owned()), "after {next}");
    }
}

#[test]
fn an_agent_killed_at_any_moment_of_demote_is_demoted_again() {
    let node = Node::alone();
    node.start();
    for micros in moments(30, 30_000) {
        node.agent().run("promote").ok();
        node.write("promoted").expect("a promoted server takes writes");
        kill_after(&node.agent(), "demote", micros);
        node.agent().run("demote").ok();
        node.write("demoted").expect_err("a demoted server takes none");
        node.agent().run("monitor").expect(&[0]);
    }
}

/// The next step after a demotion that was killed is a stop, or a promotion of the same node.
#[test]
fn a_demotion_that_was_killed_can_be_followed_by_a_promotion() {
    let node = Node::alone();
    node.start_promoted();
    for micros in moments(20, 30_000) {
        kill_after(&node.agent(), "demote", micros);
        node.agent().run("promote").ok();
        node.agent().run("monitor").expect(&[8]);
        node.write("promoted").expect("neither a gate nor a pause is left over");
    }
}

/// The pause of a demotion that was killed would hold the new primary's clients for seconds.
#[test]
fn promote_ends_the_pause_that_a_killed_demotion_left() {
    let node = Node::alone();
    node.start_promoted();
    node.ask(&["CLIENT", "PAUSE", "20000", "WRITE"]).unwrap();
    node.agent().run("promote").ok();
    node.write("promoted").expect("the pause is over");
}

#[test]
fn a_server_that_somebody_else_started_is_taken_over() {
    let node = Node::alone();
    node.give(&node.directory.join("run"));
    let by_hand = std::process::Command::new("runuser")
        .args(["-u", "redis", "--", "/usr/bin/redis-server"])
        .arg(node.config())
        .args(["--daemonize", "yes", "--unixsocket"])
        .arg(node.socket())
        .arg("--pidfile")
        .arg(node.pid_file())
        .status()
        .unwrap();
    // The rundir has to be the server's for that.
    assert!(by_hand.success());
    eventually("it answers", || testkit::Client::tcp(node.port).is_ok_and(|mut c| c.ask(&["PING"]).is_ok()));
    let server = node.process().pid;
    node.start();
    assert_eq!(node.process().pid, server, "the running server is kept");
    node.agent().run("monitor").expect(&[0]);
    node.write("x").expect_err("it was a primary by its own opinion, and is closed now");
    node.process().signal(Signal::SIGCONT);
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

/// Hardened machines mount /proc so that an ordinary user sees none of the others' processes. The watcher stays root there, and does not take what
/// it cannot see for dead.
#[test]
fn a_watcher_that_cannot_see_the_server_as_another_user_stays_root() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    let watcher = a.watchers().remove(0);
    let environment = std::fs::read(format!("/proc/{}/environ", watcher.pid)).unwrap();
    let environment: Vec<(String, String)> = String::from_utf8(environment)
        .unwrap()
        .split('\0')
        .filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let program = std::fs::read_link(format!("/proc/{}/exe", watcher.pid)).unwrap();
    watcher.signal(Signal::SIGKILL);
    eventually("the watcher is gone", || a.watchers().is_empty());
    let mut hidden = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc && exec \"$@\"", "sh"])
        .arg(program)
        .args(watcher.arguments.split(' ').skip(1))
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .envs(environment)
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(hidden.try_wait().unwrap(), None, "it took the server for dead");
    assert_eq!(a.score(), "1000");
    hidden.kill().unwrap();
    hidden.wait().unwrap();
}
