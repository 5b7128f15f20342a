//! The disks: full. What must work all the same is stop.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use testkit::mysql::Node;

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
        let directory = node.state();
        let _full = Full::on(&directory);
        node.agent().run("stop").ok();
        assert!(node.servers().is_empty());
    }
}

/// A node whose data are on a disk of their own, to be filled.
struct Small {
    node: Node,
    data: PathBuf,
}

impl Small {
    fn new() -> Self {
        let node = Node::alone();
        let data = node.data();
        let aside = node.directory.join("aside");
        std::fs::rename(&data, &aside).unwrap();
        std::fs::create_dir(&data).unwrap();
        mount(&data, "400m");
        node.give(&data);
        assert!(
            Command::new("sh")
                .args(["-c", "cp -a --sparse=always \"$1\"/. \"$2\"/", "sh"])
                .arg(&aside)
                .arg(&data)
                .status()
                .unwrap()
                .success()
        );
        std::fs::remove_dir_all(&aside).unwrap();
        Self { node, data }
    }

    /// Leaves nothing.
    fn fill(&self) {
        let _ = Command::new("sh").args(["-c", "cat /dev/zero > \"$1\" 2>/dev/null", "sh"]).arg(self.data.join("filler")).status();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        for server in self.node.servers() {
            server.signal(testkit::Signal::SIGKILL);
        }
        let _ = Command::new("umount").args(["-l"]).arg(&self.data).status();
    }
}

#[test]
fn a_data_disk_that_is_full_degrades_and_can_be_demoted_and_stopped() {
    let small = Small::new();
    let node = &small.node;
    node.start_promoted();
    node.write("k").unwrap();
    small.fill();
    node.agent().run("monitor").refused(191, &["free space"]);
    // A write hangs in the server now, until there is room: it waits and retries.
    let waiting = node.ask_and_wait(&[], "REPLACE INTO t.k (name, value) VALUES ('big', REPEAT('x', 1000000))");
    std::thread::sleep(Duration::from_millis(500));
    let answer = node.agent().timeout(Duration::from_secs(15)).run("monitor");
    answer.expect(&[191, 9]);
    assert!(answer.counted < Duration::from_secs(8), "{:?}", answer.elapsed);
    let demoted = node.agent().timeout(Duration::from_secs(20)).run("demote");
    demoted.ok();
    assert!(demoted.counted < Duration::from_secs(15), "{:?}", demoted.elapsed);
    assert!(!node.is_writable());
    let stopped = node.agent().timeout(Duration::from_secs(20)).run("stop");
    stopped.ok();
    assert!(stopped.counted < Duration::from_secs(20), "{:?}", stopped.elapsed);
    assert!(node.servers().is_empty());
    drop(waiting);
}

#[test]
fn a_start_on_a_full_disk_answers_with_what_the_server_said_and_leaves_none() {
    let small = Small::new();
    small.fill();
    let answer = small.node.agent().timeout(Duration::from_secs(20)).run("start");
    assert!(answer.counted < Duration::from_secs(20), "{:?}", answer.elapsed);
    if answer.status != 0 {
        assert!(answer.reason().len() > 30, "{}", answer.reason());
    }
    small.node.agent().timeout(Duration::from_secs(20)).run("stop").ok();
    assert!(small.node.servers().is_empty());
}
