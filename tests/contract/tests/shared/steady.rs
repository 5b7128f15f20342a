//! The monitor runs hundreds of times an hour: with nothing changed it starts no process and says nothing.

use std::process::Command;
use std::time::Duration;

use testkit::{GroupOf, Kind, NodeOf};

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

/// Names, sizes and inodes: a file that is replaced has another inode.
pub(crate) fn files(directory: &std::path::Path) -> Vec<(String, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.metadata().unwrap().len(), e.metadata().unwrap().ino()))
        .collect();
    files.sort();
    files
}

pub(crate) fn a_score_that_vanished_is_published_again_by_the_monitor_of_another_boot<K: Kind>() {
    let group = GroupOf::<K>::established(&["a", "b"]);
    let b = group.node("b");
    b.agent().run("monitor").expect(&[0]);
    assert_eq!(b.score(), "100");
    group.cluster.forget_node(K::RESOURCE, "b");
    // The memory of the score lives in the state directory, which a boot clears.
    std::fs::remove_file(b.remembered("score")).unwrap();
    b.agent().run("monitor").expect(&[0]);
    assert_eq!(b.score(), "100");
}

/// Not a benchmark: a shared machine. What it bounds is a wait that should not be there.
pub(crate) fn a_monitor_does_not_wait<K: Kind>(limit: Duration) {
    let node = NodeOf::<K>::alone();
    node.start_promoted();
    let mut times: Vec<Duration> = (0..20).map(|_| node.agent().run("monitor").elapsed).collect();
    times.sort();
    println!("monitor of a primary: a quarter took at most {:?}, the slowest {:?}", times[5], times[19]);
    assert!(times[5] < limit, "three quarters took longer than {:?}", times[5]);
}

pub(crate) fn a_steady_monitor_starts_no_process<K: Kind>(settle: impl Fn(&GroupOf<K>)) {
    let group = GroupOf::<K>::established(&["a", "b", "c"]);
    settle(&group);
    for (name, status) in [("a", 8), ("b", 0), ("c", 0)] {
        let agent = group.node(name).agent();
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

/// What a steady monitor costs, beside another build of the agent where SYSTOLE_OTHER_AGENT names one; both by turns, on one server.
pub(crate) fn what_a_monitor_costs<K: Kind>(settle: impl Fn(&GroupOf<K>)) {
    let group = GroupOf::<K>::established(&["a", "b", "c"]);
    settle(&group);
    let other = std::env::var("SYSTOLE_OTHER_AGENT").ok();
    for name in ["a", "b"] {
        let node = group.node(name);
        let agents: Vec<_> = std::iter::once(node.agent()).chain(other.as_deref().map(|path| node.agent_at(path))).collect();
        for (which, costs) in testkit::by_turns(&agents, "monitor", 200).into_iter().enumerate() {
            println!("{name}, {}: {costs}", if which == 0 { "this build" } else { "the other build" });
        }
    }
}
