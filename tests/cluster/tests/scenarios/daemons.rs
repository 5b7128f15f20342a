//! The questions that the agents put to Pacemaker's daemons themselves, held against its tools: crates/pacemaker. Each generation of
//! nodes has its own daemons.
//!
//! What asks runs in the nodes: it is this program again, which the scenario copies there. Those tests are the ignored ones.

use std::time::Duration;

use cluster_scenarios::{MARIADB, REDIS, Server, Setup, expect, finish, lab_name, recipe, scenario};
use lab::{Lab, LabOptions, Node, Result};

/// This program in a node.
const PROGRAM: &str = "/root/scenarios";

/// Runs an ignored test of this file in a node.
fn in_node(node: &Node, test: &str, begin: &str) -> Result<()> {
    let said = node.sh(&format!("{begin} {PROGRAM} --exact --ignored --nocapture daemons::in_a_node::{test} 2>&1"))?;
    println!("{}: {}", node.name, said.stdout);
    expect(said.stdout.contains("1 passed"), &format!("{test} was run"))
}

fn put_program(node: &Node) -> Result<()> {
    let program = std::env::current_exe().map_err(|e| lab::Error::Refused(e.to_string()))?;
    node.copy(&program, PROGRAM)?;
    node.sh(&format!("chmod +x {PROGRAM}")).map(drop)
}

fn steps(lab: &Lab) -> Result<()> {
    let nodes = lab.nodes();
    let controller = nodes[0].sh("crmadmin -D")?.stdout;
    expect(nodes.iter().any(|node| controller.contains(&node.name)), "there is a controller")?;
    // The controller's node and another one.
    for node in nodes.iter().take(2) {
        put_program(node)?;
        in_node(node, "the_daemons_answer_as_the_tools_do", "")?;
        in_node(node, "what_it_takes", "")?;
        in_node(node, "a_daemon_that_stands_still_takes_no_longer_than_a_tool", "")?;
    }
    in_node(&nodes[1], "a_daemon_that_was_killed_is_asked_again", "")?;
    // The other way in which the daemons can be spoken to, and a buffer of another size.
    let other = &nodes[2];
    other.sh("printf 'PCMK_ipc_type=socket\\nPCMK_ipc_buffer=3000000\\n' > /etc/default/pacemaker; systemctl restart pacemaker")?;
    lab.wait_online()?;
    put_program(other)?;
    in_node(other, "the_daemons_answer_as_the_tools_do", "")?;
    in_node(other, "a_daemon_that_stands_still_takes_no_longer_than_a_tool", "")?;
    // Abstract sockets are the network's: in one of its own there are no daemons, and whoever is first has their names.
    in_node(&nodes[0], "who_only_serves_the_name_of_a_daemon_is_not_asked", "unshare -n")?;
    // Its own tools need the library: they run where it is.
    let tools = "mkdir -p /root/tools && for tool in attrd_updater cibadmin crm_attribute crm_node; do \
                 printf '#!/bin/sh\\nexec nsenter -t 1 -m /usr/sbin/%s \"$@\"\\n' $tool > /root/tools/$tool; chmod +x /root/tools/$tool; done";
    nodes[0].sh(tools)?;
    let hidden = "unshare -m sh -c 'mount --bind /dev/null $(ldconfig -p | sed -n \"s/.*libqb.so.100 .*=> //p\") && \
                  PATH=/root/tools:$PATH exec \"$@\"' sh";
    in_node(&nodes[0], "without_the_library_the_tools_are_asked", hidden)
}

#[test]
fn the_daemons_answer_as_the_tools_do() {
    let options = LabOptions { name: lab_name("daemons"), ..LabOptions::default() };
    let lab = recipe::in_a_cluster(options).unwrap_or_else(|e| panic!("{e}"));
    finish(&lab, steps(&lab));
}

/// Whoever calls a tool is heard from now on, the watcher as well.
const LISTEN: &str = r#"rm -rf /var/lib/heartbeat/trace_ra/*; umask 0; : > /run/calls
for tool in attrd_updater cibadmin crm_attribute crm_node; do
    mv /usr/sbin/$tool /usr/sbin/real-$tool
    {
        echo '#!/bin/sh'
        echo 'read -r caller < /proc/$PPID/comm; echo "$caller calls ${0##*/} $*" >> /run/calls'
        echo "exec /usr/sbin/real-$tool \"\$@\""
    } > /usr/sbin/$tool && chmod 755 /usr/sbin/$tool
done"#;
/// The traces in the order in which the actions began, up to the end of the promotion.
const TRACES: &str = r#"cd /var/lib/heartbeat/trace_ra/* && for file in $(ls -tr --time=birth); do
    echo "== $file"; cat $file
    case $file in *promote*) break ;; esac
done"#;

/// A failover is no time to start programs: neither the watcher of the dead server nor the agent that is promoted calls a tool. What was asked
/// instead, and how long that took, stands in the traces.
fn no_tool_is_called_in_a_failover(name: &str, server: Server) {
    scenario(name, Setup::of(server), |site| {
        let trace = format!("crm_resource --resource {} --set-parameter trace_ra --parameter-value 1", server.resource);
        site.lab.quorate_node()?.sh(&trace)?;
        site.lab.wait_idle()?;
        site.wait_settled()?;
        for node in site.lab.nodes() {
            node.sh(LISTEN)?;
        }
        // Without writers: what a dead primary has that nobody else has is another matter.
        let dead = site.kill_primary()?;
        site.wait_moved(&dead, Duration::from_secs(30))?;
        site.wait_settled()?;
        let said = site.primary()?.sh(TRACES)?.stdout;
        println!("{}", said.lines().filter(|line| line.starts_with("==") || line.contains(" ms")).collect::<Vec<_>>().join("\n"));
        expect(said.contains("promote"), "the promotion was traced")?;
        for node in [dead, site.primary()?] {
            let calls = node.sh("cat /run/calls")?.stdout;
            // The scenario asks as well.
            let programs = ["redis", "mysql", "systole-watch"];
            let ours: Vec<_> =
                calls.lines().filter(|line| programs.iter().any(|program| line.starts_with(&format!("{program} calls")))).collect();
            expect(ours.is_empty(), &format!("no tool was started on {}: {ours:#?}", node.name))?;
        }
        Ok(())
    });
}

#[test]
fn redis_fails_over_without_a_tool() {
    no_tool_is_called_in_a_failover("daemons-redis", REDIS);
}

#[test]
fn mariadb_fails_over_without_a_tool() {
    no_tool_is_called_in_a_failover("daemons-mariadb", MARIADB);
}

mod in_a_node {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io::Write as _;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::process::Command;
    use std::rc::Rc;
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    use nix::sys::resource::{UsageWho, getrusage};
    use pacemaker::{Cluster, Error, Membership, Score};

    const TOOLS: [&str; 4] = ["attrd_updater", "cibadmin", "crm_attribute", "crm_node"];
    const RESOURCE: &str = "probe";
    /// What a call may take at most, of these actions.
    const LIMIT: Duration = Duration::from_secs(2);

    /// A cluster, and what it told of its calls.
    struct Asked {
        cluster: Cluster,
        trace: Rc<RefCell<Vec<String>>>,
    }

    fn node_name() -> String {
        static NAME: OnceLock<String> = OnceLock::new();
        NAME.get_or_init(|| tool("crm_node", &["-n"]).trim().to_owned()).clone()
    }

    impl Asked {
        fn within(time: Duration) -> Self {
            let trace = Rc::new(RefCell::new(vec![]));
            let lines = Rc::clone(&trace);
            let membership =
                Membership { resource: RESOURCE.into(), node: Some(node_name()), present: true, state_directory: std::env::temp_dir() };
            let cluster = Cluster::new(membership, move |line| {
                println!("{line}");
                lines.borrow_mut().push(line.to_owned());
            })
            .answering_by(Instant::now() + time);
            cluster.forget_score();
            Self { cluster, trace }
        }

        /// How many tools were run, and how often a daemon was of no use.
        fn counts(&self) -> (usize, usize) {
            let trace = self.trace.borrow();
            let tools = trace.iter().filter(|line| TOOLS.iter().any(|tool| line.starts_with(tool))).count();
            (tools, trace.iter().filter(|line| line.contains("the tool is asked")).count())
        }
    }

    /// What a tool says, run by us.
    fn tool(program: &str, arguments: &[&str]) -> String {
        let done = Command::new(program).args(arguments).env("OCF_RESOURCE_INSTANCE", RESOURCE).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn until(what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition() {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn property(name: &str) -> String {
        let name = format!("systole-{RESOURCE}-{name}");
        tool("crm_attribute", &["--type", "crm_config", "--set-name", "systole", "--name", &name, "--query", "--quiet"])
            .trim_end()
            .to_owned()
    }

    fn forget_property(name: &str) {
        let name = format!("systole-{RESOURCE}-{name}");
        tool("crm_attribute", &["--type", "crm_config", "--set-name", "systole", "--name", &name, "--delete"]);
    }

    fn named() {
        // SAFETY: this is the only thread of a program that runs one test.
        #[allow(unsafe_code, reason = "as Pacemaker does for an agent")]
        unsafe {
            std::env::set_var("OCF_RESOURCE_INSTANCE", RESOURCE);
        }
    }

    /// All that an agent asks.
    fn ask_everything(asked: &Asked) {
        let (cluster, own) = (&asked.cluster, node_name());
        let other = if own == "lxc3" { "lxc2" } else { "lxc3" };

        // Attributes: of this node and of another one, with all that XML has to write in another way, and none.
        let odd = "1:a&b<c>'d e";
        for value in [odd, "", "2026-11-29"] {
            cluster.publish_private("odd", value).unwrap();
            let values = || cluster.private_values("odd").unwrap();
            until("the value comes round", || values().get(&own).map(String::as_str) == Some(value));
            let name = format!("systole-{RESOURCE}-odd");
            assert!(tool("attrd_updater", &["--name", &name, "--query", "--all"]).contains(&format!("value=\"{value}\"")));
        }
        assert_eq!(cluster.private_values("nobody-has-it").unwrap(), BTreeMap::new());
        let name = format!("systole-{RESOURCE}-told");
        for node in [&own, other] {
            tool("attrd_updater", &["--name", &name, "--update", &format!("of {node}"), "--private", "--node", node]);
        }
        let told = BTreeMap::from([(own.clone(), format!("of {own}")), (other.to_owned(), format!("of {other}"))]);
        until("what a tool sets is read", || {
            let values = cluster.private_values("told").unwrap();
            told.iter().all(|(node, value)| values.get(node) == Some(value))
        });
        cluster.publish_attribute("readable", "1").unwrap();
        until("and by all", || tool("attrd_updater", &["--name", "readable", "--query", "--node", &own]).contains("value=\"1\""));

        // Scores: the tool reads them from the CIB.
        let score = |node: &str| tool("crm_attribute", &["--promotion", "--lifetime", "reboot", "--node", node, "--query", "--quiet"]);
        cluster.publish_score(Score::new(7)).unwrap();
        until("a score", || score(&own).trim() == "7");
        cluster.publish_score_of(other, Score::NEVER).unwrap();
        until("another node's", || score(other).trim() == "-INFINITY");
        cluster.withdraw_score().unwrap();
        until("none", || score(&own).trim().is_empty());
        cluster.withdraw_score().unwrap();
        tool("crm_attribute", &["--promotion", "--lifetime", "reboot", "--node", other, "--delete"]);

        // What administrators set: in no set of ours, and of a node.
        assert!(!cluster.fencing_is_off(), "the lab has a fence device");
        let address =
            |update: &[&str]| tool("crm_attribute", &[&["--type", "nodes", "--node", other, "--name", "probe_IP"], update].concat());
        assert_eq!(cluster.node_attribute(other, "probe_IP").unwrap(), None);
        address(&["--update", "192.0.2.7"]);
        assert_eq!(cluster.node_attribute(other, "probe_IP").unwrap().as_deref(), Some("192.0.2.7"));
        assert_eq!(cluster.node_attribute(&own, "probe_IP").unwrap(), None);
        assert_eq!(cluster.node_attribute("nobody", "probe_IP").unwrap(), None);
        address(&["--delete"]);

        // A property: absent, present, and another one than was thought.
        forget_property("primary");
        assert_eq!(cluster.property("primary").unwrap(), None);
        let first = "node=a's \"<b>\" & c";
        cluster.replace_property("primary", None, first).unwrap();
        assert_eq!(property("primary"), first);
        assert_eq!(cluster.property("primary").unwrap().as_deref(), Some(first));
        let changed = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Changed { found: Some(found), .. }) if found == first);
        assert!(changed(cluster.replace_property("primary", None, "lost")));
        assert!(changed(cluster.replace_property("primary", Some("node=b"), "lost")));
        cluster.replace_property("primary", Some(first), "node=b").unwrap();
        assert_eq!(property("primary"), "node=b");
        // A write that was carried out although nobody said so.
        cluster.replace_property("primary", Some(first), "node=b").unwrap();
        // Empty is none, and so is what is gone.
        tool("crm_attribute", &["--type", "crm_config", "--set-name", "systole", "--name", "systole-probe-primary", "--update", ""]);
        assert_eq!(cluster.property("primary").unwrap(), None);
        cluster.replace_property("primary", None, "node=c").unwrap();
        assert_eq!(property("primary"), "node=c");
        forget_property("primary");
        let gone = cluster.replace_property("primary", Some("node=c"), "lost");
        assert!(matches!(gone, Err(Error::Changed { found: None, .. })), "{gone:?}");
    }

    #[test]
    #[ignore = "a scenario runs it in a node"]
    fn the_daemons_answer_as_the_tools_do() {
        named();
        let asked = Asked::within(Duration::from_secs(100));
        ask_everything(&asked);
        assert_eq!(asked.counts(), (0, 0), "tools, and daemons of no use");
    }

    #[test]
    #[ignore = "a scenario runs it in a node"]
    fn without_the_library_the_tools_are_asked() {
        named();
        let asked = Asked::within(Duration::from_secs(100));
        ask_everything(&asked);
        let (tools, in_vain) = asked.counts();
        assert_eq!(in_vain, 2, "each daemon is tried once");
        assert!(tools > 20, "{tools}");
    }

    #[test]
    #[ignore = "a scenario runs it in a node"]
    fn a_daemon_that_stands_still_takes_no_longer_than_a_tool() {
        named();
        let stop = |signal: &str| Command::new("pkill").args([signal, "-x", "pacemaker-attrd"]).status().unwrap();
        for connected in [false, true] {
            let asked = Asked::within(2 * LIMIT);
            if connected {
                asked.cluster.private_values("told").unwrap();
            }
            stop("-STOP");
            let begin = Instant::now();
            let answer = asked.cluster.private_values("told");
            let took = begin.elapsed();
            stop("-CONT");
            assert!(answer.is_err(), "{answer:?}");
            assert!(took < LIMIT + Duration::from_millis(500), "{took:?}");
            println!("connected: {connected}: {took:?}");
            until("it answers again", || Asked::within(2 * LIMIT).cluster.private_values("told").is_ok());
        }
    }

    /// Pacemaker starts it anew. A connection to the one before is of no use, and does no harm.
    #[test]
    #[ignore = "a scenario runs it in a node"]
    fn a_daemon_that_was_killed_is_asked_again() {
        named();
        let answers = |asked: &Asked| asked.cluster.private_values("told").is_ok();
        let asked = Asked::within(Duration::from_secs(100));
        assert!(answers(&asked), "before its death");
        // Not the CIB manager: without it the controller ends, and the node may be fenced.
        assert!(Command::new("pkill").args(["-KILL", "-x", "pacemaker-attrd"]).status().unwrap().success());
        until("it answers after its death", || answers(&asked));
        // The next action.
        until("not through the tools", || {
            let next = Asked::within(2 * LIMIT);
            answers(&next) && next.counts() == (0, 0)
        });
    }

    #[test]
    #[ignore = "a scenario runs it in a node"]
    fn who_only_serves_the_name_of_a_daemon_is_not_asked() {
        named();
        // As libqb makes it: filled up.
        let mut name = [0; 107];
        name[..5].copy_from_slice(b"attrd");
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        let ask = || {
            let (asked, begin) = (Asked::within(2 * LIMIT), Instant::now());
            let answer = asked.cluster.private_values("told");
            assert!(answer.is_err(), "{answer:?}");
            assert!(begin.elapsed() < LIMIT + Duration::from_millis(500), "{:?}", begin.elapsed());
            let trace = asked.trace.borrow();
            trace[0].clone()
        };
        assert!(ask().contains("it is served by"), "another process");
        // Root may take a daemon's name, so this is none of an attack but of a daemon that has lost its mind.
        std::fs::write(format!("/proc/self/task/{0}/comm", std::process::id()), "pacemaker-attrd").unwrap();
        assert!(ask().contains("no connection in time"));
        listener.set_nonblocking(true).unwrap();
        while listener.accept().is_ok() {}
        listener.set_nonblocking(false).unwrap();
        let answers: [&[u8]; 3] = [b"", b"x", &[0xff; 1 << 16]];
        for answer in answers {
            std::thread::scope(|scope| {
                let serving = scope.spawn(|| {
                    // The daemon's own client, and the tool's.
                    for _ in 0..2 {
                        let (mut client, _) = listener.accept().unwrap();
                        let _ = client.write_all(answer);
                    }
                });
                assert!(ask().contains("the tool is asked"), "{} bytes", answer.len());
                let _ = serving.join();
            });
        }
    }

    fn processor() -> Duration {
        let used = |who| {
            let usage = getrusage(who).unwrap();
            let time = |t: nix::sys::time::TimeVal| Duration::from_micros((t.tv_sec() * 1_000_000 + t.tv_usec()).try_into().unwrap());
            time(usage.user_time()) + time(usage.system_time())
        };
        used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN)
    }

    #[test]
    #[ignore = "a scenario runs it in a node"]
    fn what_it_takes() {
        named();
        node_name();
        let measure = |what: &str, times: u32, mut call: Box<dyn FnMut()>| {
            let (begin, before) = (Instant::now(), processor());
            (0..times).for_each(|_| call());
            let each = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(times);
            println!("{what}: {:.2} ms, {:.2} ms of a processor", each(begin.elapsed()), each(processor() - before));
        };
        measure("the first question", 1, Box::new(|| drop(Asked::within(2 * LIMIT).cluster.private_values("told").unwrap())));
        measure("connected anew", 50, Box::new(|| drop(Asked::within(2 * LIMIT).cluster.private_values("told").unwrap())));
        let kept = Asked::within(2 * LIMIT);
        measure("kept: attributes", 50, Box::new(move || drop(kept.cluster.private_values("told").unwrap())));
        let kept = Asked::within(2 * LIMIT);
        measure("kept: property", 50, Box::new(move || drop(kept.cluster.property("primary").unwrap())));
        measure("attrd_updater", 50, Box::new(|| drop(tool("attrd_updater", &["--name", "systole-probe-told", "--query", "--all"]))));
        measure("crm_attribute", 50, Box::new(|| drop(property("primary"))));
    }
}
