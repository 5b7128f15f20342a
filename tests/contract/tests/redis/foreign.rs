//! Files that lie: a number in a file never kills a process that is not ours.

use std::process::{Child, Command};

use testkit::{Node, Process, eventually};

struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(Command::new("sleep").arg("300").spawn().unwrap())
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }

    #[track_caller]
    fn expect_unharmed(&mut self) {
        assert_eq!(self.0.try_wait().unwrap(), None, "a process that is not ours was killed");
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_pid_file_that_names_a_foreign_process() {
    let node = Node::alone();
    let mut bystander = Bystander::new();
    std::fs::write(node.pid_file(), bystander.pid().to_string()).unwrap();
    node.agent().run("monitor").expect(&[7]);
    node.agent().run("stop").ok();
    bystander.expect_unharmed();
    std::fs::write(node.pid_file(), bystander.pid().to_string()).unwrap();
    node.start();
    assert_ne!(node.process().pid, bystander.pid());
    node.agent().run("stop").ok();
    bystander.expect_unharmed();
}

/// The numbers of processes are used again, and on a database node often for a database.
#[test]
fn a_pid_file_that_names_the_server_of_another_resource() {
    let (node, other) = (Node::alone(), Node::alone());
    other.start();
    let theirs = other.process();
    std::fs::write(node.pid_file(), theirs.pid.to_string()).unwrap();
    node.agent().probing().run("monitor").expect(&[7]);
    node.agent().run("stop").ok();
    assert!(theirs.is_there(), "the server of another resource was killed");
    std::fs::write(node.pid_file(), theirs.pid.to_string()).unwrap();
    node.start();
    assert_ne!(node.process().pid, theirs.pid);
    other.agent().run("monitor").expect(&[0]);
}

#[test]
fn a_pid_file_with_nonsense() {
    let node = Node::alone();
    for text in ["", "-1", "0", "1", "99999999999999999999", "12 34", "x\n"] {
        std::fs::write(node.pid_file(), text).unwrap();
        node.agent().run("monitor").expect(&[7]);
        node.agent().run("stop").ok();
    }
    assert!(Process::of(1).is_some());
}

#[test]
fn a_state_file_with_garbage_is_as_good_as_none() {
    let node = Node::alone();
    node.start();
    let server = node.process().pid;
    for garbage in [&b""[..], b"{", b"[1,2]", b"{\"server\":{\"pid\":\"x\"}}", b"\xff\xfe\0", b"{\"server\":null,\"unknown\":{}}"] {
        std::fs::write(node.state_file(), garbage).unwrap();
        node.agent().run("monitor").expect(&[0]);
        assert_eq!(node.process().pid, server);
    }
    std::fs::write(node.state_file(), b"{{{{").unwrap();
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

/// The state of a server that ran before, whose number another process has now.
#[test]
fn a_state_file_whose_number_was_used_again() {
    let node = Node::alone();
    node.start_promoted();
    node.kill_server();
    let mut bystander = Bystander::new();
    let state = std::fs::read_to_string(node.state_file()).unwrap();
    let begin = state.find("\"pid\":").unwrap() + 6;
    let end = begin + state[begin..].find(',').unwrap();
    let old = state[begin..end].to_owned();
    std::fs::write(node.state_file(), state.replace(&format!("\"pid\":{old}"), &format!("\"pid\":{}", bystander.pid()))).unwrap();
    node.agent().run("monitor").expect(&[9]);
    node.agent().run("demote").ok();
    node.agent().run("stop").ok();
    bystander.expect_unharmed();
}

#[test]
fn a_state_file_from_before_the_boot_is_not_believed() {
    let node = Node::alone();
    node.start_promoted();
    let state = std::fs::read_to_string(node.state_file()).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    node.agent().run("stop").ok();
    std::fs::write(node.state_file(), state.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    node.agent().probing().run("monitor").expect(&[7]);
    node.start();
    node.agent().run("monitor").expect(&[0]);
}

/// The pid file is deleted, the socket too: the state file knows the process.
#[test]
fn a_server_without_pid_file_and_socket_is_still_found_by_stop() {
    let node = Node::alone();
    node.start();
    std::fs::remove_file(node.pid_file()).unwrap();
    std::fs::remove_file(node.socket()).unwrap();
    node.agent().run("stop").ok();
    eventually("the server is gone", || node.servers().is_empty());
}

/// What a server says of itself named root's own processes, and a stop killed them.
#[test]
fn a_server_that_names_a_foreign_process_as_its_own() {
    use std::io::{Read, Write};
    let node = Node::alone();
    let mut bystander = Bystander::new();
    let socket = std::os::unix::net::UnixListener::bind(node.socket()).unwrap();
    let info = format!("process_id:{}\r\nrole:slave\r\n", bystander.pid());
    std::thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {
                let _ = write!(stream, "${}\r\n{info}\r\n*2\r\n$1\r\nx\r\n$1\r\n0\r\n", info.len());
            }
        }
    });
    node.agent().probing().run("monitor").expect(&[7]);
    node.agent().run("stop").ok();
    bystander.expect_unharmed();
}

/// Nothing is remembered of it, there is no pid file, and it refuses the login: the kernel knows whose socket it is.
#[test]
fn a_server_that_refuses_the_agent_is_found_by_its_socket() {
    let node = Node::alone();
    node.start();
    let server = node.process();
    node.ask(&["CONFIG", "SET", "requirepass", "x"]).unwrap();
    std::fs::remove_file(node.state_file()).unwrap();
    std::fs::remove_file(node.pid_file()).unwrap();
    node.agent().probing().run("monitor").expect(&[190]);
    node.agent().run("stop").ok();
    assert!(!server.is_there(), "it was passed over");
}

/// A FIFO held up the monitor and the stop, which gets the node fenced, and a device took all memory.
#[test]
fn a_pid_file_or_an_include_that_is_no_file_holds_nothing_up() {
    use std::os::unix::fs::symlink;
    let fifo = |path: &std::path::Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let device = |path: &std::path::Path| symlink("/dev/zero", path).unwrap();
    for make in [&fifo as &dyn Fn(&std::path::Path), &device] {
        let node = Node::alone();
        node.start();
        let _ = std::fs::remove_file(node.pid_file());
        make(&node.pid_file());
        std::fs::remove_file(node.state_file()).unwrap();
        let included = node.directory.join("included.conf");
        node.configure(&format!("include {}", included.display()));
        make(&included);
        for (action, status) in [("monitor", 190), ("start", 5), ("stop", 0)] {
            let answer = node.agent().timeout(std::time::Duration::from_secs(8)).run(action);
            answer.expect(&[status]);
            assert!(answer.counted < std::time::Duration::from_secs(4), "{answer:?}");
        }
        assert!(node.servers().is_empty());
    }
}
