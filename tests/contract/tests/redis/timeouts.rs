//! Every action answers before its time is used up, whatever the server does.

use std::time::Duration;

use testkit::{Node, Signal, eventually};

const SHORT: Duration = Duration::from_secs(4);

/// A server that does not run and does not die: it is stopped by a signal.
#[track_caller]
fn freeze(node: &Node) {
    node.process().freeze();
    eventually("the server is frozen", || node.process().state == 'T');
}

#[test]
fn monitor_finds_a_frozen_replica_in_time() {
    let node = Node::alone();
    node.start();
    freeze(&node);
    let answer = node.agent().timeout(SHORT).run("monitor");
    answer.refused(1, &["stuck"]);
    assert!(answer.counted < SHORT, "{answer:?}");
}

#[test]
fn monitor_finds_a_frozen_primary_in_time() {
    let node = Node::alone();
    node.start_promoted();
    freeze(&node);
    let answer = node.agent().timeout(SHORT).run("monitor");
    answer.refused(9, &["stuck"]);
    // The kernel says that it is stopped: nobody has to wait for an answer.
    assert!(answer.counted < Duration::from_secs(1), "{answer:?}");
}

#[test]
fn a_server_that_thaws_is_well_again() {
    let node = Node::alone();
    node.start_promoted();
    freeze(&node);
    node.agent().run("monitor").expect(&[9]);
    node.process().signal(Signal::SIGCONT);
    node.agent().run("monitor").expect(&[8]);
}

/// A busy server is alive: killing it would lose what it has in memory.
#[test]
fn monitor_does_not_take_a_busy_server_for_a_dead_one() {
    let node = Node::alone();
    node.configure("busy-reply-threshold 200\n");
    node.start_promoted();
    let port = node.port;
    let script = std::thread::spawn(move || {
        let endless = "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 5 do end return 1";
        testkit::Client::tcp(port).unwrap().ask(&["EVAL", endless, "0"])
    });
    eventually("the server is busy", || node.ask(&["PING"]).is_err_and(|e| e.contains("BUSY")));
    node.agent().run("monitor").expect(&[8]);
    let _ = node.ask(&["SCRIPT", "KILL"]);
    let _ = script.join();
}

#[test]
fn stop_kills_a_frozen_server_in_time() {
    for promoted in [false, true] {
        let node = Node::alone();
        if promoted {
            node.start_promoted();
        } else {
            node.start();
        }
        freeze(&node);
        let answer = node.agent().timeout(SHORT).run("stop");
        answer.ok();
        assert!(answer.counted < SHORT, "{answer:?}");
        assert!(node.servers().is_empty(), "the server still runs");
    }
}

/// From 7.0 on a primary waits at SIGTERM for replicas that lag, up to shutdown-timeout (30 s here).
#[test]
fn stop_kills_a_server_that_waits_for_a_lagging_replica() {
    let group = testkit::Group::established(&["a", "b"]);
    freeze(group.node("b"));
    group.node("a").write("not replicated").unwrap();
    let answer = group.node("a").agent().timeout(Duration::from_secs(8)).run("stop");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(8), "{answer:?}");
    assert!(group.node("a").servers().is_empty(), "the server still runs");
    assert!(group.node("a").log().contains("killing it"), "{}", group.node("a").log());
}

#[test]
fn demote_of_a_frozen_primary_kills_it_in_time() {
    let node = Node::alone();
    node.start_promoted();
    let frozen = node.process().pid;
    freeze(&node);
    let answer = node.agent().timeout(SHORT).run("demote");
    answer.ok();
    assert!(answer.counted < SHORT, "{answer:?}");
    assert!(node.servers().iter().all(|p| p.pid != frozen), "a frozen primary wakes up as a primary");
}

#[test]
fn promote_of_a_frozen_server_fails_in_time() {
    let node = Node::alone();
    node.start();
    freeze(&node);
    let answer = node.agent().timeout(SHORT).run("promote");
    answer.expect(&[1]);
    assert!(answer.counted < SHORT, "{answer:?}");
    assert!(!answer.reason().is_empty());
}

#[test]
fn start_finds_a_frozen_server_in_time() {
    let node = Node::alone();
    node.start();
    freeze(&node);
    let answer = node.agent().timeout(SHORT).run("start");
    answer.refused(1, &["stuck"]);
    assert!(answer.counted < SHORT, "{answer:?}");
}

/// What a node without the packages answers: nothing runs, and there is nothing to stop.
#[test]
fn stop_and_probe_need_nothing_installed() {
    for (name, value) in [("bin", "/no/such/server"), ("config", "/no/such/file"), ("user", "nosuchuser"), ("rundir", "/no/such/dir")] {
        let node = Node::alone();
        let agent = node.agent().parameter(name, value);
        agent.run("stop").ok();
        agent.clone().probing().run("monitor").expect(&[5, 7]);
    }
}

/// A package removed under a running server: the server still has to go.
#[test]
fn stop_finds_the_server_when_everything_else_is_gone() {
    let node = Node::alone();
    node.start();
    std::fs::remove_file(node.config()).unwrap();
    let agent = node.agent().parameter("bin", "/no/such/server").parameter("user", "nosuchuser");
    agent.clone().probing().run("monitor").expect(&[0]);
    agent.run("stop").ok();
    assert!(node.servers().is_empty(), "the server still runs");
}

/// Makes the server hang as on a dead disk: it sleeps, is not stopped, uses no processor time, and accepts nobody.
fn hang(node: &Node) {
    let mut client = node.client();
    std::thread::spawn(move || client.ask(&["DEBUG", "SLEEP", "120"]));
    eventually("the server hangs", || {
        let mut probe = node.client();
        let (told, answer) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(probe.ask(&["PING"])));
        answer.recv_timeout(Duration::from_millis(300)).is_err()
    });
}

/// Fills the queue of those who wait for the server to accept them, as the clients of a hung server soon do.
fn fill_the_queue(node: &Node) {
    for _ in 0..9 {
        let socket = node.socket();
        std::thread::spawn(move || {
            let waiting = std::os::unix::net::UnixStream::connect(socket);
            std::thread::sleep(Duration::from_secs(60));
            drop(waiting);
        });
    }
    std::thread::sleep(Duration::from_millis(300));
}

/// 3 s are 3 s: they were waited for each reply of the exchange, and without an end for a connection that nobody accepts.
#[test]
fn a_hung_primary_is_found_within_the_limit_whether_or_not_it_can_be_connected_to() {
    for full in [false, true] {
        let node = Node::alone();
        node.configure("enable-debug-command yes\ntcp-backlog 2");
        node.start_promoted();
        let hung = node.process().pid;
        hang(&node);
        if full {
            fill_the_queue(&node);
        }
        let answer = node.agent().run("monitor");
        println!("monitor of a hung primary, queue full: {full}: {:?}", answer.elapsed);
        answer.refused(9, &["stuck"]);
        assert!(answer.counted < Duration::from_secs(4), "{answer:?}");
        let answer = node.agent().run("demote");
        println!("demote of a hung primary, queue full: {full}: {:?}", answer.elapsed);
        answer.ok();
        assert!(answer.counted < Duration::from_secs(3), "{answer:?}");
        assert!(node.servers().iter().all(|p| p.pid != hung), "a hung primary wakes up as a primary");
    }
}

/// Busy has an end: a server that says nothing in thirty monitors and works is stuck.
#[test]
fn a_server_that_only_works_is_busy_for_long_and_not_for_ever() {
    let node = Node::alone();
    node.configure("busy-reply-threshold 60000");
    node.start_promoted();
    let port = node.port;
    let script = std::thread::spawn(move || {
        let endless = "local t = redis.call('TIME')[1] while redis.call('TIME')[1] - t < 9 do end return 1";
        testkit::Client::tcp(port).unwrap().ask(&["EVAL", endless, "0"])
    });
    std::thread::sleep(Duration::from_millis(300));
    node.agent().run("monitor").expect(&[8]);
    let state = std::fs::read_to_string(node.state_file()).unwrap();
    assert!(state.contains("\"working_for\":1,"), "{state}");
    std::fs::write(node.state_file(), state.replace("\"working_for\":1,", "\"working_for\":29,")).unwrap();
    node.agent().run("monitor").refused(9, &["stuck", "in 30 monitors"]);
    let _ = script.join();
    node.agent().run("monitor").expect(&[8]);
    assert!(std::fs::read_to_string(node.state_file()).unwrap().contains("\"working_for\":0,"), "counted anew");
}

/// The agent's own commands are held back as well, and the server has next to nothing to do: it was taken for stuck, and killed with what it
/// had in memory.
#[test]
fn a_server_whose_clients_are_paused_is_not_taken_for_a_stuck_one() {
    let node = Node::alone();
    node.start_promoted();
    let server = node.process().pid;
    node.ask(&["CLIENT", "PAUSE", "8000"]).unwrap();
    for _ in 0..3 {
        node.agent().run("monitor").expect(&[8]);
    }
    node.ask(&["CLIENT", "PAUSE", "8000"]).unwrap();
    node.agent().run("demote").ok();
    assert_eq!(node.process().pid, server, "a healthy server was ended");
}

/// It waits for a name server, say, and serves reads in between.
#[test]
fn a_silent_replica_is_ended_after_some_monitors_and_not_by_the_first() {
    let node = Node::alone();
    node.configure("enable-debug-command yes");
    node.start();
    hang(&node);
    for monitors in 1..3 {
        let answer = node.agent().run("monitor");
        answer.expect(&[190]);
        assert!(answer.reason().contains("the server says nothing: no answer and no work done in"), "{}", answer.reason());
        let state = std::fs::read_to_string(node.state_file()).unwrap();
        assert!(state.contains(&format!("\"still_for\":{monitors},")), "{state}");
    }
    node.agent().run("monitor").refused(1, &["stuck", "in 3 monitors, no answer and no work done in"]);
}

/// It was shown as well, for ever.
#[test]
fn a_server_that_is_busy_for_long_is_shown_with_what_ends_it_and_is_never_ended() {
    let node = Node::alone();
    node.configure("busy-reply-threshold 200\n");
    node.start_promoted();
    let port = node.port;
    let script =
        std::thread::spawn(move || testkit::Client::tcp(port).unwrap().ask(&["EVAL", "while true do redis.call('TIME') end", "0"]));
    eventually("the server is busy", || node.ask(&["PING"]).is_err_and(|e| e.contains("BUSY")));
    node.agent().run("monitor").expect(&[8]);
    node.agent().run("monitor").expect(&[8]);
    let said = |words: &str| {
        let answer = node.agent().run("monitor");
        answer.expect(&[191]);
        let told = answer.reason().contains(words) && answer.reason().ends_with("end it with: redis-cli script kill, or function kill");
        assert!(told, "{}", answer.reason());
    };
    said("the server has been busy for 3 monitors: ");
    let state = std::fs::read_to_string(node.state_file()).unwrap();
    std::fs::write(node.state_file(), state.replace("\"busy_for\":3,", "\"busy_for\":300,")).unwrap();
    said("the server has been busy for 301 monitors: ");
    eventually("the script is ended", || node.ask(&["SCRIPT", "KILL"]).is_ok());
    let _ = script.join();
    node.agent().run("monitor").expect(&[8]);
    assert!(!std::fs::read_to_string(node.state_file()).unwrap().contains("busy_for"), "counted anew");
}
