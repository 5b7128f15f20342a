//! The disks: full. What must work all the same is stop.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testkit::{Kind, NodeOf};

/// A file system of one page that is full. It is unmounted with this.
pub(crate) struct Full<'a>(pub(crate) &'a Path);

impl<'a> Full<'a> {
    pub(crate) fn on(directory: &'a Path) -> Self {
        mount(directory, "4k");
        std::fs::write(directory.join("filler"), vec![b'x'; 4096]).unwrap();
        std::fs::write(directory.join("more"), b"x").expect_err("the disk should be full");
        Self(directory)
    }
}

impl Drop for Full<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.0).status();
    }
}

/// Mounts an empty file system of this size.
pub(crate) fn mount(directory: &Path, size: &str) {
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(directory).status().unwrap();
    assert!(mounted.success(), "a tmpfs cannot be mounted in this sandbox");
}

pub(crate) fn a_start_that_cannot_remember_its_server_leaves_none<K: Kind>() {
    let node = NodeOf::<K>::alone();
    let directory = node.state();
    let _full = Full::on(&directory);
    node.agent().run("start").refused(1, &[&format!("systole-{}.state", K::RESOURCE), "free space"]);
    std::thread::sleep(Duration::from_millis(100));
    assert!(node.servers().is_empty(), "a failed start leaves {:?}", node.servers());
}

pub(crate) fn a_demotion_with_a_full_state_directory_leaves_nothing_writable<K: Kind>() {
    let node = NodeOf::<K>::alone();
    node.start_promoted();
    let directory = node.state();
    let _full = Full::on(&directory);
    let _ = node.agent().run("demote");
    assert!(!node.is_writable(), "it was demoted, or should have been killed");
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

pub(crate) fn monitor_answers_when_the_state_directory_is_full<K: Kind>() {
    let node = NodeOf::<K>::alone();
    node.start();
    let directory = node.state();
    let _full = Full::on(&directory);
    // A healthy server is not ended for that.
    node.agent().run("monitor").expect(&[0, 190]);
    node.agent().probing().run("monitor").expect(&[0, 190]);
}
