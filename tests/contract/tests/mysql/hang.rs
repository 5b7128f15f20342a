//! A disk that hangs: whoever writes to it waits in the kernel, where no signal reaches it. Everything that needs no disk goes on.

use std::time::Duration;

use testkit::mysql::{Group, Node};
use testkit::{Disk, Lists, Signal, eventually};

/// A group whose primary has its data on a disk that can hang.
fn established(names: &[&'static str]) -> (Group, Disk) {
    let group = Group::of(names);
    let disk = Disk::under(&group.node("a").data());
    group.start_all();
    group.promote("a", names).ok();
    for name in &names[1..] {
        group.wait_attached(name);
    }
    group.node("a").write("first").expect("a promoted primary takes writes");
    for name in &names[1..] {
        group.wait_caught_up("a", name);
    }
    group.settle();
    (group, disk)
}

/// Which threads of the server wait in the kernel.
fn stuck_threads(node: &Node) -> usize {
    let stuck = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('D'));
    let threads = std::fs::read_dir(format!("/proc/{}/task", node.process().pid)).unwrap();
    threads.flatten().filter(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(stuck)).count()
}

/// Whether anything is left of a process; its first thread may be a zombie.
fn is_held(pid: i32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}/task")).exists()
}

/// The process is there for as long as the disk hangs. It is dead all the same, and its data are nobody else's meanwhile.
#[test]
fn a_killed_server_that_its_disk_holds_is_dead_and_no_other_is_started_on_its_data() {
    let (group, disk) = established(&["a", "b", "c"]);
    let a = group.node("a");
    let killed = a.process().pid;
    disk.hang();
    let write = a.write_and_wait("in the air");
    eventually("the write hangs in the kernel", || stuck_threads(a) > 0);
    testkit::signal(killed, Signal::SIGKILL);
    eventually("the watcher lowers the score", || a.score() == "-INFINITY");
    assert!(is_held(killed), "the disk holds it");
    a.agent().run("monitor").refused(9, &["gone"]);
    let demoted = group.demote("a", &["b", "c"], &["b"]);
    demoted.ok();
    assert!(demoted.counted < Duration::from_secs(3), "{:?}", demoted.elapsed);
    // What the cluster does before it promotes another one.
    a.agent().run("monitor").refused(190, &["hangs in the kernel, probably on its disk"]);
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.notify_all("post", "demote", &lists);
    group.promote("b", &["a", "b", "c"]).ok();
    group.node("b").write("second").unwrap();
    assert!(write.answer(Duration::ZERO).is_none_or(|answer| answer.is_err()), "nobody was told that it succeeded");
    assert_eq!(a.servers().iter().filter(|p| p.pid != killed).count(), 0, "started on data that the dying server holds");
    let again = group.demote("a", &["c"], &[]);
    again.ok();
    a.agent().run("monitor").expect(&[190]);
    // A stop cannot succeed: what comes after it may use the data.
    a.agent().timeout(Duration::from_secs(4)).run("stop").refused(1, &["hangs in the kernel"]);
    disk.go_on();
    eventually("the disk lets go of it", || !is_held(killed));
    a.agent().run("stop").ok();
    assert!(a.servers().is_empty());
}

#[test]
fn the_next_server_starts_by_itself_when_the_dying_one_is_gone() {
    let (group, disk) = established(&["a", "b", "c"]);
    let a = group.node("a");
    let killed = a.process().pid;
    disk.hang();
    let _write = a.write_and_wait("in the air");
    eventually("the write hangs in the kernel", || stuck_threads(a) > 0);
    testkit::signal(killed, Signal::SIGKILL);
    group.demote("a", &["b", "c"], &["b"]).ok();
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.notify_all("post", "demote", &lists);
    group.promote("b", &["a", "b", "c"]).ok();
    // No action holds a lock for as long as it waits.
    a.agent().run("monitor").expect(&[190]);
    assert!(group.notify("a", "post", "promote", &Lists::promoting("b", &["a", "b", "c"])).counted < Duration::from_secs(5));
    disk.go_on();
    eventually("another server runs", || a.servers().iter().any(|p| p.pid != killed));
    eventually("it answers", || a.administer("SELECT 1").is_ok());
    assert!(!a.is_writable());
    a.agent().run("monitor").expect(&[0, 190, 1]);
    assert_eq!(a.servers().len(), 1);
    assert_eq!(a.watchers().len(), 1, "it is watched");
}
