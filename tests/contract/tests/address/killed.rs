//! Pacemaker kills an agent whose time is over: between any two of its system calls.

use crate::{Net, VIP};

/// What changes something, of the agent's system calls.
const CALLS: &str = "sendto,bind,setns,clone,fork,vfork";

#[test]
fn a_start_that_was_killed_anywhere_is_finished_by_the_next() {
    let net = Net::new("killed1");
    let agent = net.agent("a");
    let mut n = 1;
    while agent.killed_at("start", CALLS, n) {
        agent.run("start").ok();
        agent.run("monitor").ok();
        assert!(net.answers(VIP), "killed at {n}");
        agent.run("stop").ok();
        n += 1;
    }
    assert!(n > 7, "only {n} calls were seen");
}

#[test]
fn a_stop_that_was_killed_anywhere_is_finished_by_the_next_or_undone_by_a_start() {
    let net = Net::new("killed2");
    let agent = net.agent("a");
    for then in ["stop", "start"] {
        let mut n = 1;
        loop {
            agent.run("start").ok();
            if !agent.killed_at("stop", CALLS, n) {
                break;
            }
            // Whatever it has left is nothing that looks as if clients were served.
            let found = agent.run("monitor").status;
            assert_eq!(found == 0, net.answers(VIP), "killed at {n}: the monitor answers {found}");
            agent.run(then).ok();
            let barrier = net.ip("a", "route show table local type blackhole");
            assert_eq!(barrier, "", "killed at {n}, then {then}");
            agent.run("monitor").expect(&[if then == "stop" { 7 } else { 0 }]);
            assert_eq!(net.answers(VIP), then == "start", "killed at {n}, then {then}");
            n += 1;
        }
        assert!(n > 8, "only {n} calls were seen");
    }
}

/// A stop was killed, somebody has removed the address by hand, and where nothing runs Pacemaker makes no other stop.
#[test]
fn what_a_killed_stop_has_left_without_the_address_is_cleared_by_a_probe() {
    let net = Net::new("killed3");
    let barrier = || net.ip("a", "route show table local type blackhole");
    net.ip("a", "route add blackhole 192.0.2.10 table local proto 115");
    net.agent("a").run("monitor").expect(&[7]);
    net.agent("a").probing().run("monitor").expect(&[7]);
    assert_eq!(barrier(), "");
    // Somebody else's is not touched.
    net.ip("a", "route add blackhole 192.0.2.10 table local proto static");
    net.agent("a").probing().run("monitor").expect(&[7]);
    assert!(barrier().contains("192.0.2.10"));
}
