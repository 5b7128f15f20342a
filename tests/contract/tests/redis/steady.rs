//! The monitor runs hundreds of times an hour: with nothing changed it starts no process and says nothing.

use std::process::Command;
use std::time::Duration;

use testkit::{Group, Node};

/// Runs a monitor under strace and returns every call that makes a process or runs a program.
fn traced(agent: &testkit::Agent) -> (i32, Vec<String>) {
    let monitor = agent.command(&["monitor"]);
    let output = Command::new("strace")
        .args(["-f", "-qq", "-e", "trace=fork,vfork,clone,clone3,execve", "--"])
        .arg(monitor.get_program())
        .args(monitor.get_args())
        .env_clear()
        .envs(monitor.get_envs().filter_map(|(k, v)| Some((k, v?))))
        .output()
        .expect("strace is in the image");
    let text = String::from_utf8_lossy(&output.stderr);
    // The first execve is strace's own start of the agent.
    (output.status.code().unwrap_or(-1), text.lines().skip(1).map(str::to_owned).collect())
}

#[test]
fn a_steady_monitor_starts_no_process() {
    let group = Group::established(&["a", "b", "c"]);
    for (name, status) in [("a", 8), ("b", 0), ("c", 0)] {
        let agent = group.node(name).agent();
        agent.run("monitor").expect(&[status]);
        agent.run("monitor").expect(&[status]);
        group.cluster.calls();
        let answer = agent.run("monitor");
        answer.expect(&[status]);
        assert_eq!(group.cluster.calls(), Vec::<String>::new(), "{name}: a steady monitor calls no tool");
        assert_eq!(answer.stderr, "", "{name}: a steady monitor says nothing");
        let (traced_status, calls) = traced(&agent);
        assert_eq!(traced_status, status);
        assert!(calls.is_empty(), "{name}: {calls:#?}");
    }
}

#[test]
fn a_steady_monitor_writes_nothing() {
    let group = Group::established(&["a", "b"]);
    for name in ["a", "b"] {
        let node = group.node(name);
        node.agent().run("monitor");
        node.agent().run("monitor");
        let before = files(&node.state());
        node.agent().run("monitor");
        assert_eq!(files(&node.state()), before, "{name}: the state directory changed");
    }
}

/// Names, sizes and inodes: a file that is replaced has another inode.
fn files(directory: &std::path::Path) -> Vec<(String, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().unwrap().len(), e.metadata().unwrap().ino()))
        .collect();
    files.sort();
    files
}

/// Not a benchmark: a dev build on a shared machine. What it bounds is a wait that should not be there.
#[test]
fn a_monitor_does_not_wait() {
    let node = Node::alone();
    node.start_promoted();
    let mut times: Vec<Duration> = (0..20).map(|_| node.agent().run("monitor").elapsed).collect();
    times.sort();
    println!("monitor of a primary, dev build: a quarter took at most {:?}, the slowest {:?}", times[5], times[19]);
    assert!(times[5] < Duration::from_millis(50), "three quarters took longer than {:?}", times[5]);
}

#[test]
fn a_score_that_vanished_is_published_again_by_the_monitor_of_another_boot() {
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    b.agent().run("monitor").expect(&[0]);
    assert_eq!(b.score(), "100");
    group.cluster.forget_node("redis", "b");
    // The memory of the score lives in the state directory, which a boot clears.
    std::fs::remove_file(b.state().join("systole-redis.score")).unwrap();
    b.agent().run("monitor").expect(&[0]);
    assert_eq!(b.score(), "100");
}

/// What a steady monitor costs, beside another build of the agent where SYSTOLE_OTHER_AGENT names one; both by turns, on one server.
/// `make contract/redis TEST='--ignored --nocapture steady::what_a_monitor_costs'`
#[test]
#[ignore = "a figure, to be measured on a machine at rest"]
fn what_a_monitor_costs() {
    let group = Group::established(&["a", "b", "c"]);
    for name in ["a", "b"] {
        let node = group.node(name);
        node.agent().run("monitor");
        let other = std::env::var("SYSTOLE_OTHER_AGENT").ok();
        let agents: Vec<_> = std::iter::once(node.agent()).chain(other.map(|path| node.agent().at(path))).collect();
        for (which, costs) in testkit::by_turns(&agents, "monitor", 200).into_iter().enumerate() {
            println!("{name}, {}: {costs}", if which == 0 { "this build" } else { "the other build" });
        }
    }
}
