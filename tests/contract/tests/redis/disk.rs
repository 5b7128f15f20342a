//! The disks: full, read-only, gone. What must work all the same is stop.

use std::process::Command;

use testkit::{Group, Node, eventually};

use crate::shared::disk::{Full, mount};

promised!(disk(): a_start_that_cannot_remember_its_server_leaves_none);
promised!(disk(): a_demotion_with_a_full_state_directory_leaves_nothing_writable, monitor_answers_when_the_state_directory_is_full);

#[test]
fn stop_succeeds_when_the_state_directory_is_full() {
    for promoted in [false, true] {
        let node = Node::alone();
        if promoted {
            node.start_promoted();
        } else {
            node.start();
        }
        let state = std::fs::read(node.state_file()).unwrap();
        let directory = node.state();
        // Over the old one: what was remembered is not there. Then with it there.
        {
            let _full = Full::on(&directory);
            node.agent().run("stop").ok();
            assert!(node.servers().is_empty());
        }
        node.start();
        drop(state);
        let kept = std::fs::read(node.state_file()).unwrap();
        mount(&directory, "8k");
        std::fs::write(node.state_file(), kept).unwrap();
        std::fs::write(directory.join("filler"), vec![b'x'; 4096]).unwrap();
        let answer = node.agent().run("stop");
        let _ = Command::new("umount").args(["-l"]).arg(&directory).status();
        answer.ok();
        assert!(node.servers().is_empty(), "the server still runs");
    }
}

/// MISCONF: the server itself refuses writes; the operator is told, and the monitor does not call it dead.
#[test]
fn a_data_disk_that_is_full_degrades() {
    let node = Node::alone();
    node.configure("save 3600 1");
    let data = node.data();
    mount(&data, "64k");
    node.give(&data);
    node.start_promoted();
    node.write("k").unwrap();
    let big = "incompressible".repeat(20);
    let script = "for i = 1, 3000 do redis.call('SET', i, ARGV[1] .. i) end return 1";
    node.ask(&["EVAL", script, "0", &big]).unwrap();
    node.ask(&["BGSAVE"]).unwrap();
    let answer = testkit::within(std::time::Duration::from_secs(5), || Some(node.agent().run("monitor")).filter(|a| a.status != 8));
    let answer = answer.unwrap_or_else(|| node.agent().run("monitor"));
    let stopped = node.agent().timeout(std::time::Duration::from_secs(8)).run("stop");
    let _ = Command::new("umount").args(["-l"]).arg(&data).status();
    assert_eq!((answer.status, stopped.status), (191, 0), "{} {}", answer.stderr, stopped.stderr);
    assert!(answer.reason().contains("free space"), "{}", answer.reason());
}

/// By the server's default it kills itself when the primary's next write comes: a full disk would be a dead replica, and a primary
/// that is moved away from one would not survive its demotion.
#[test]
fn a_replica_whose_data_disk_is_full_goes_on() {
    let group = Group::of(&["a", "b"]);
    let replica = group.node("b");
    replica.configure("save 3600 1");
    let data = replica.data();
    mount(&data, "64k");
    let _unmounted = Full(&data);
    replica.give(&data);
    group.start_all();
    group.promote("a", &["a", "b"]).ok();
    group.wait_attached("b");
    let _ = std::fs::write(data.join("filler"), vec![b'x'; 65536]);
    let server = replica.process().pid;
    replica.ask(&["BGSAVE"]).unwrap();
    eventually("the save to fail", || replica.ask(&["INFO", "persistence"]).unwrap().contains("rdb_last_bgsave_status:err"));
    group.node("a").write("k").unwrap();
    group.wait_caught_up("a", "b");
    assert_eq!(replica.process().pid, server, "the replica goes on with the writes");
    let answer = replica.agent().run("monitor");
    answer.expect(&[190]);
    assert!(answer.reason().contains("free space"), "{}", answer.reason());
}
