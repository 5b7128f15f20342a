//! The contract of `ocf:systole:address`: the agent as Pacemaker runs it, with the real kernel, in networks of their own.
//!
//! These tests make network namespaces, so they run in a sandbox only; `make contract/address`. Each test has two nodes, a client and the
//! switch between them, so they do not meet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this is tests")]

mod actions;
mod announced;
mod connections;
mod forwarded;
mod killed;
mod six;
mod stock;
mod tester;

use std::fs::File;
use std::process::Command;
use std::sync::Mutex;

use nix::sched::{CloneFlags, setns};
use testkit::{Agent, begin_to_count, require, say_whether_the_machine_kept_up};

/// The agent.
const AGENT: &str = "/usr/lib/ocf/resource.d/systole/address";
/// The one that it takes the place of.
const STOCK: &str = "/usr/lib/ocf/resource.d/heartbeat/IPaddr2";
/// The address that moves.
const VIP: &str = "192.0.2.10";

/// `ip` makes the directory of namespaces when it is not there; two at once would mount it twice.
static MAKING: Mutex<()> = Mutex::new(());

/// Three hosts on a switch: a (192.0.2.1, 2001:db8::1) and b (.2), on which the address may be, and c (.3), which uses it.
struct Net {
    name: &'static str,
}

impl Net {
    fn new(name: &'static str) -> Self {
        require();
        begin_to_count();
        let net = Self { name };
        let _made = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        net.remove();
        ip(&format!("netns add {name}-s"));
        ip(&format!("-n {name}-s link add br0 type bridge forward_delay 0 mcast_snooping 0"));
        ip(&format!("-n {name}-s link set br0 up"));
        for (n, host) in ["a", "b", "c"].iter().enumerate() {
            let n = n + 1;
            ip(&format!("netns add {name}-{host}"));
            ip(&format!("-n {name}-s link add to-{host} type veth peer name eth0 netns {name}-{host}"));
            ip(&format!("-n {name}-s link set to-{host} master br0 up"));
            ip(&format!("-n {name}-{host} link set lo up"));
            ip(&format!("-n {name}-{host} link set eth0 up"));
            ip(&format!("-n {name}-{host} address add 192.0.2.{n}/24 brd + dev eth0"));
            ip(&format!("-n {name}-{host} address add 2001:db8::{n}/64 dev eth0 nodad"));
        }
        net
    }

    fn remove(&self) {
        for host in ["s", "a", "b", "c"] {
            let _ = Command::new("ip").args(["netns", "delete", &format!("{}-{host}", self.name)]).output();
        }
    }

    /// The name of a host's network namespace.
    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.name)
    }

    /// The agent on a host, for the address and with nothing else said.
    fn agent(&self, host: &str) -> Agent {
        self.with(AGENT, host)
    }

    /// An agent on a host.
    fn with(&self, agent: &str, host: &str) -> Agent {
        let instance = format!("{}-{host}", self.name);
        Agent::new(agent, &instance).parameter("ip", VIP).parameter("network_namespace", self.namespace(host)).meta("interval", "10000")
    }

    /// Runs `ip` on a host, and returns what it prints.
    #[track_caller]
    fn ip(&self, host: &str, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.namespace(host)))
    }

    /// Runs a program on a host.
    #[track_caller]
    fn run(&self, host: &str, program: &[&str]) -> bool {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host)]).args(program);
        command.output().unwrap().status.success()
    }

    /// Whether c reaches the address.
    fn answers(&self, address: &str) -> bool {
        self.run("c", &["ping", "-c", "1", "-W", "1", address])
    }

    /// How the interface of a host has an address: the line of `ip`; empty when it has not.
    fn has(&self, host: &str, address: &str) -> String {
        let all = self.ip(host, "-o address show");
        all.lines().find(|line| line.split_whitespace().any(|word| word.starts_with(&format!("{address}/")))).unwrap_or_default().to_owned()
    }

    /// The hardware address of a host.
    fn hardware(&self, host: &str) -> String {
        let shown = self.ip(host, "-o link show eth0");
        shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned()
    }

    /// The hardware address under which c knows the address; empty when it knows none.
    fn known_to_c(&self, address: &str) -> String {
        let shown = self.ip("c", &format!("neigh show {address}"));
        shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).unwrap_or_default().to_owned()
    }

    /// Does something in the network of a host, in a thread of its own.
    fn inside<T: Send + 'static>(&self, host: &str, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say_whether_the_machine_kept_up();
        }
        self.remove();
    }
}

/// Runs `ip`, and returns what it prints.
#[track_caller]
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
