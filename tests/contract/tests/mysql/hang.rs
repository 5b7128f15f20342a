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

/// Everything that a monitor asks for is answered from memory, while each commit waits for the disk.
#[test]
fn a_primary_whose_disk_hangs_is_found_and_its_successor_promoted() {
    let (group, disk) = established(&["a", "b", "c"]);
    let a = group.node("a");
    disk.hang();
    let write = a.write_and_wait("in the air");
    // The cluster's monitors come every ten seconds, and at the third it has to be found.
    let hung = testkit::within(Duration::from_secs(30), || {
        std::thread::sleep(Duration::from_secs(1));
        let answer = a.agent().run("monitor");
        (answer.status != 8).then_some(answer)
    });
    hung.expect("the monitor finds it").refused(9, &["the disk of", "hangs"]);
    assert_eq!(a.score(), "-INFINITY");
    let demoted = group.demote("a", &["b", "c"], &["b"]);
    demoted.ok();
    assert!(demoted.counted < Duration::from_secs(8), "{:?}", demoted.elapsed);
    a.agent().run("monitor").expect(&[190]);
    let lists = Lists { promoted: vec!["a"], unpromoted: vec!["b", "c"], demote: vec!["a"], promote: vec!["b"], ..Lists::default() };
    group.notify_all("post", "demote", &lists);
    group.promote("b", &["a", "b", "c"]).ok();
    group.node("b").write("second").unwrap();
    assert!(write.answer(Duration::ZERO).is_none_or(|answer| answer.is_err()), "nobody was told that it succeeded");
    disk.go_on();
    eventually("another server answers", || a.administer("SELECT 1").is_ok());
    assert!(!a.is_writable());
}

/// Nobody waits for its end, and it is no reason to move anything: a snapshot is taken, or the disk has much to do.
#[test]
fn a_disk_that_goes_on_in_time_moves_nothing() {
    let (group, disk) = established(&["a", "b"]);
    let a = group.node("a");
    disk.hang();
    let write = a.write_and_wait("waits");
    std::thread::sleep(Duration::from_secs(8));
    a.agent().run("monitor").expect(&[8]);
    disk.go_on();
    assert!(write.answer(Duration::from_secs(10)).expect("it goes on").is_ok());
    a.agent().run("monitor").expect(&[8]);
    assert_eq!(a.score(), "1000");
}

/// A replica is no candidate meanwhile, and nobody is fenced for it. It returns by itself.
#[test]
fn a_replica_whose_disk_hangs_is_degraded_until_it_goes_on() {
    let group = Group::of(&["a", "b", "c"]);
    let b = group.node("b");
    let disk = Disk::under(&b.data());
    group.start_all();
    group.promote("a", &["a", "b", "c"]).ok();
    group.settle();
    disk.hang();
    eventually_in(Duration::from_secs(30), "the watcher finds it", || b.score() == "-INFINITY");
    b.agent().run("monitor").refused(190, &["the disk of", "hangs"]);
    disk.go_on();
    eventually("it is in order again", || b.agent().run("monitor").status == 0);
    assert_eq!(b.score(), "100");
}

/// What the disk refuses is an answer: it is full, or somebody has put something else there.
#[test]
fn what_the_writer_is_refused_is_no_hang_and_a_link_is_not_followed() {
    let group = Group::of(&["a", "b"]);
    let a = group.node("a");
    let aside = a.directory.join("aside");
    std::fs::write(&aside, "not written").unwrap();
    std::os::unix::fs::symlink(&aside, a.data().join(".systole-disk")).unwrap();
    a.give(&aside);
    group.start_all();
    let writer = || a.disk_writers().pop();
    eventually("it writes", || writer().is_some());
    std::thread::sleep(Duration::from_secs(20));
    assert_eq!(std::fs::read_to_string(&aside).unwrap(), "not written");
    a.agent().run("monitor").expect(&[0]);
    // As the server's user, and not longer than the server is there.
    assert!(!writer().unwrap().status("Uid").split_whitespace().any(|user| user == "0"));
    a.agent().run("stop").ok();
    assert!(writer().is_none(), "it would keep the file system from being unmounted");
}

/// Beside MySQL it was root for all of its life, to start what writes to the disks.
#[test]
fn the_watcher_is_the_clusters_user_and_its_writer_the_servers() {
    let (group, disk) = established(&["a", "b"]);
    let a = group.node("a");
    let (watcher, cluster) = (a.watchers().remove(0), account("hacluster"));
    eventually("it is not root", || watcher.status("Uid") == four_times(cluster.uid.as_raw()));
    assert_eq!(watcher.status("Gid"), four_times(cluster.gid.as_raw()));
    eventually("it writes", || !a.disk_writers().is_empty());
    let (writer, mysql) = (a.disk_writers().remove(0), account("mysql"));
    assert_eq!(writer.status("Uid"), four_times(mysql.uid.as_raw()));
    assert_eq!((writer.status("Gid"), writer.status("Groups")), (four_times(mysql.gid.as_raw()), String::new()));
    for process in [&watcher, &writer] {
        assert_eq!((process.status("CapEff"), process.status("NoNewPrivs")), ("0".repeat(16), "1".to_owned()), "{process:?}");
        assert!(!process.status("Groups").split_whitespace().any(|group| group == "0"), "{}", process.status("Groups"));
    }
    // Not being root it tells both, and takes back what it told the agent.
    disk.hang();
    eventually_in(Duration::from_secs(30), "the watcher finds it", || a.score() == "-INFINITY");
    a.agent().run("monitor").refused(9, &["the disk of", "hangs"]);
    group.cluster.calls();
    a.agent().run("monitor").expect(&[9]);
    let calls = group.cluster.calls();
    assert!(!calls.iter().any(|call| call.contains("--promotion")), "told twice: {calls:?}");
    disk.go_on();
    eventually("it is in order again", || a.agent().run("monitor").status == 8);
    assert_eq!(a.score(), "1000");
}

/// Only root can start another one, and the monitor is root.
#[test]
fn a_disk_writer_that_was_killed_is_replaced_by_the_next_monitor() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    a.agent().run("monitor").expect(&[8]);
    eventually("it writes", || a.disk_writers().len() == 1);
    let (watcher, writer) = (a.watchers().remove(0), a.disk_writers().remove(0));
    writer.signal(Signal::SIGKILL);
    eventually("the watcher says so", || std::fs::read(a.state().join("systole-db.hang")).is_ok_and(|report| !report.is_empty()));
    assert!(watcher.is_there(), "the server is watched all the same");
    for _ in 0..3 {
        a.agent().run("monitor").expect(&[8]);
        eventually("another one writes", || a.disk_writers().len() == 1 && a.disk_writers()[0].pid != writer.pid);
        assert_eq!(a.watchers().len(), 1);
    }
    assert_eq!(a.score(), "1000");
}

/// The kernel tells nobody of the end of a parent that runs as another user.
#[test]
fn a_disk_writer_does_not_outlive_its_watcher() {
    let group = Group::established(&["a", "b"]);
    let a = group.node("a");
    a.agent().run("monitor").expect(&[8]);
    eventually("it writes", || a.disk_writers().len() == 1);
    eventually("the watcher is not root", || !a.watchers()[0].status("Uid").starts_with('0'));
    a.watchers()[0].signal(Signal::SIGKILL);
    assert!(testkit::within(Duration::from_secs(1), || a.disk_writers().is_empty().then_some(())).is_some(), "{:?}", a.disk_writers());
}

fn account(name: &str) -> testkit::User {
    testkit::User::from_name(name).unwrap().expect("the image has this user")
}

/// As /proc has it: real, effective, saved and of the file system.
fn four_times(number: u32) -> String {
    vec![number.to_string(); 4].join("\t")
}

#[track_caller]
fn eventually_in(limit: Duration, what: &str, mut is: impl FnMut() -> bool) {
    assert!(testkit::within(limit, || is().then_some(())).is_some(), "did not come true: {what}");
}
