//! A server that says nothing and uses the processor: busy, or hung with somebody's query still running. Nobody can tell, so it has an end.

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

use testkit::mysql::{Group, Node, Waiting};

/// Somebody who listens in the server's place and says nothing, until this is let go.
struct Silence {
    socket: PathBuf,
    aside: PathBuf,
    _listener: UnixListener,
}

impl Silence {
    fn over(node: &Node) -> Self {
        let socket = node.socket();
        let aside = socket.with_extension("aside");
        std::fs::rename(&socket, &aside).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        node.give(&socket);
        Self { _listener: listener, socket, aside }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = std::fs::rename(&self.aside, &self.socket);
    }
}

/// A query that uses the processor for ever.
fn work(node: &Node) -> Waiting {
    let working = node.ask_and_wait(&[], "SELECT BENCHMARK(1000000000000, SHA2('x', 512))");
    testkit::eventually("it works", || node.administer("SHOW PROCESSLIST").unwrap().contains("BENCHMARK"));
    working
}

#[test]
fn a_primary_that_works_and_says_nothing_is_stuck_after_a_minute() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let a = group.node("a");
    let _working = work(a);
    let quick = |status: i32| {
        let answer = a.agent().run("monitor");
        answer.expect(&[status]);
        assert!(answer.counted < Duration::from_millis(4500), "a limit of 3 s is 3 s: {:?}", answer.elapsed);
    };
    let silence = Silence::over(a);
    (0..3).for_each(|_| quick(8));
    drop(silence);
    // It answers again, and the count begins anew.
    quick(8);
    let silence = Silence::over(a);
    (0..5).for_each(|_| quick(8));
    assert_eq!(a.score(), "1000");
    a.agent().run("monitor").refused(9, &["stuck", "in 6 looks"]);
    assert_eq!(a.score(), "-INFINITY");
    drop(silence);
}

/// A replica keeps nobody waiting: it is shown, and goes on.
#[test]
fn a_replica_that_works_and_says_nothing_is_degraded_after_a_minute() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let b = group.node("b");
    let _working = work(b);
    let _silence = Silence::over(b);
    for _ in 0..5 {
        b.agent().run("monitor").expect(&[0]);
    }
    b.agent().run("monitor").refused(190, &["busy"]);
}
