//! Faults, and what must hold: no acknowledged write lost (L), never two writers (W), data converge (C), the outage is
//! bounded (T), a refusal says what to do (R).
//!
//! The bounds of T here are not the figures (`make bench` measures those): they are generous, so that a machine that is
//! busy with something else fails no test, and still far below what the stock agent takes.

use std::time::Duration;

use cluster_scenarios::{Agent, Durability, Setup, Site, VALKEY, expect, held};
use lab::{Cut, Result};
use nix::sys::signal::Signal;

/// A crash of the server's process, or a planned move.
const SHORT: Duration = Duration::from_secs(4);
/// The loss of a node: token (1 s), consensus (1.2 s), fencing, and what follows.
const NODE_LOSS: Duration = Duration::from_secs(12);

/// Runs a scenario with Redis of the distribution.
fn scenario(name: &str, durability: Durability, steps: impl FnOnce(&Site) -> Result<()>) {
    cluster_scenarios::scenario(name, Setup { durability, ..Setup::default() }, steps);
}

/// The same where a power cut loses what was not synced.
fn on_disks(name: &str, durability: Durability, steps: impl FnOnce(&Site) -> Result<()>) {
    cluster_scenarios::scenario(name, Setup { durability, ..Setup::default() }.on_disks(), steps);
}

#[test]
fn kill_9_of_an_idle_primary() {
    scenario("kill-idle", Durability::Async, |site| {
        site.primary()?.sh("redis-cli set before 1")?;
        std::thread::sleep(Duration::from_millis(500));
        let dead = site.kill_primary()?;
        site.wait_settled()?;
        let primary = site.primary()?;
        expect(primary.name != dead.name, "another node is promoted")?;
        expect(primary.sh("redis-cli get before")?.stdout.trim() == "1", "the write is there")
    });
}

#[test]
fn kill_9_under_load_loses_no_confirmed_write() {
    scenario("kill-load", Durability::Quorum, |site| {
        let load = site.load()?;
        site.kill_primary()?;
        held(site, load, SHORT, "")
    });
}

#[test]
fn valkey_under_pacemaker_3_survives_a_kill_and_a_move() {
    // With IPaddr2, so that one scenario has it.
    let setup = Setup { server: VALKEY, durability: Durability::Quorum, stock_address: true, ..Setup::default() };
    cluster_scenarios::scenario("valkey", setup, |site| {
        let load = site.load()?;
        site.kill_primary()?;
        site.wait_settled()?;
        site.move_primary()?;
        site.wait_settled()?;
        held(site, load, SHORT, "")
    });
}

/// The kernel kills the database for want of memory. Its node goes on with everything else: it is in no control group of Pacemaker's.
#[test]
fn a_server_without_memory_costs_its_node_nothing_else() {
    scenario("no-memory", Durability::Quorum, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let group = primary.sh("cat /proc/$(pidof redis-server)/cgroup")?.stdout;
        expect(group.contains("/system.slice/systole-redis-") && !group.contains("pacemaker.service"), &group)?;
        primary.exhaust_memory("redis-server")?;
        primary.sh("head -c 64000000 /dev/zero | redis-cli -x set large 2>&1 || true")?;
        site.wait_moved(&primary, NODE_LOSS)?;
        expect(primary.sh("systemctl is-active pacemaker")?.stdout.trim() == "active", "Pacemaker lives")?;
        site.wait_settled()?;
        held(site, load, SHORT, "")
    });
}

#[test]
fn replication_over_tls() {
    let settings = "tls-port 6380\ntls-replication yes\ntls-cert-file /etc/redis/node.pem\ntls-key-file /etc/redis/node.pem\n\
                    tls-ca-cert-file /etc/redis/node.pem\ntls-auth-clients no";
    let setup = Setup { durability: Durability::Quorum, settings: settings.into(), certificate: true, ..Setup::default() };
    cluster_scenarios::scenario("tls", setup, |site| {
        let load = site.load()?;
        site.kill_primary()?;
        held(site, load, SHORT, "")?;
        site.wait_settled()?;
        let replica = site.replicas()?.remove(0);
        expect(replica.sh("redis-cli info replication")?.stdout.contains("master_port:6380"), "replication uses the TLS port")
    });
}

/// Writes that reach the primary's disk and no replica: the network drops them without a word.
fn write_only_here(site: &Site) -> Result<lab::Node> {
    let primary = site.primary()?;
    site.lab.cut(&Cut { port: Some(6379), ..Cut::cable(&primary.name) })?;
    primary.sh("for i in $(seq 100); do redis-cli set only-here-$i 1; done; redis-cli save")?;
    Ok(primary)
}

#[test]
fn a_dead_primary_whose_snapshot_has_the_most_is_elected_again() {
    scenario("snapshot", Durability::Async, |site| {
        let primary = write_only_here(site)?;
        primary.kill("redis-server", Signal::SIGKILL)?;
        std::thread::sleep(Duration::from_secs(1));
        site.lab.heal(None)?;
        site.wait_settled()?;
        let now = site.primary()?;
        expect(now.sh("redis-cli get only-here-100")?.stdout.trim() == "1", "nothing is lost that stands on a disk which can be read")
    });
}

#[test]
fn what_only_a_lost_primary_has_is_counted_and_kept_when_it_returns() {
    on_disks("kept", Durability::Async, |site| {
        let primary = write_only_here(site)?;
        primary.power_off()?;
        site.lab.wait_for("another primary", Duration::from_secs(30), || site.primary().is_ok_and(|p| p.name != primary.name))?;
        site.lab.heal(None)?;
        site.lab.power_back(&primary)?;
        site.lab.wait_for("the old primary following", Duration::from_secs(60), || {
            primary.sh("redis-cli info replication").is_ok_and(|o| o.stdout.contains("master_link_status:up"))
        })?;
        let log = site.log_of(&primary)?;
        expect(log.contains("on this server only, and are given up"), &format!("the loss is counted: {log}"))?;
        expect(primary.sh("ls -R /var/lib/redis/systole-kept")?.stdout.contains("dump.rdb"), "the snapshot is kept")
    });
}

/// A plain acknowledgement is asynchronous: what is lost is not asserted, but bounded and said.
#[test]
fn kill_9_under_load_with_plain_acknowledgements() {
    scenario("kill-async", Durability::Async, |site| {
        let load = site.load()?;
        site.kill_primary()?;
        held(site, load, SHORT, "L")
    });
}

#[test]
fn a_frozen_primary_is_found_by_the_monitor_and_killed() {
    scenario("frozen", Durability::Quorum, |site| {
        let load = site.load()?;
        site.freeze_primary_for_good(Duration::from_secs(40))?;
        held(site, load, Duration::from_secs(16), "")
    });
}

#[test]
fn power_cut_of_the_primary() {
    on_disks("power-primary", Durability::Quorum, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.power_off()?;
        std::thread::sleep(Duration::from_secs(8));
        site.wait_settled()?;
        expect(site.primary()?.name != primary.name, "another node is promoted")?;
        held(site, load, NODE_LOSS, "")
    });
}

#[test]
fn power_cut_of_a_replica_is_not_noticed_by_clients() {
    scenario("power-replica", Durability::Quorum, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        site.replicas()?[0].power_off()?;
        std::thread::sleep(Duration::from_secs(8));
        site.wait_settled()?;
        expect(site.primary()?.name == primary.name, "the primary stays")?;
        held(site, load, Duration::from_secs(1), "")
    });
}

#[test]
fn a_primary_whose_cable_is_pulled_is_fenced() {
    scenario("partition", Durability::Quorum, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        site.lab.cut(&Cut::cable(&primary.name))?;
        std::thread::sleep(Duration::from_secs(8));
        site.lab.heal(None)?;
        site.wait_settled()?;
        expect(site.primary()?.name != primary.name, "another node is promoted")?;
        held(site, load, NODE_LOSS, "")
    });
}

#[test]
fn without_fencing_nobody_is_promoted_beside_a_lost_primary() {
    scenario("fence-dead", Durability::Quorum, |site| {
        site.lab.fence_device_works(false)?;
        let primary = site.primary()?;
        site.lab.cut(&Cut::cable(&primary.name))?;
        std::thread::sleep(Duration::from_secs(10));
        let others: Vec<_> = site.lab.nodes().into_iter().filter(|n| n.name != primary.name).collect();
        for node in &others {
            let role = node.sh("redis-cli info replication")?.stdout;
            expect(role.contains("role:slave"), &format!("{} is a replica while the lost primary is not known to be dead", node.name))?;
        }
        site.lab.fence_device_works(true)?;
        site.lab.heal(None)?;
        site.wait_settled()
    });
}

#[test]
fn planned_moves_under_load_lose_nothing() {
    scenario("moves", Durability::Async, |site| {
        let load = site.load()?;
        for _ in 0..3 {
            let to = site.move_primary()?;
            site.wait_settled()?;
            // The ban is taken back as soon as the role has arrived; it has to stay where it is.
            std::thread::sleep(Duration::from_secs(3));
            expect(site.primary()?.name == to, "the role stays where it was moved to")?;
        }
        held(site, load, SHORT, "")
    });
}

#[test]
fn rolling_standby_under_load_loses_nothing() {
    scenario("rolling", Durability::Async, |site| {
        let load = site.load()?;
        for node in site.lab.nodes() {
            site.lab.crm(&format!("node standby {}", node.name))?;
            site.lab.wait_idle()?;
            site.lab.crm(&format!("node online {}", node.name))?;
            site.wait_settled()?;
        }
        held(site, load, SHORT, "")
    });
}

/// A primary that cannot save refuses writes; a replica that can takes over in an orderly move.
#[test]
fn a_full_disk_moves_the_primary() {
    let setup = Setup { durability: Durability::Quorum, disk_mib: Some(64), ..Setup::default() };
    cluster_scenarios::scenario("full-disk", setup, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let server = primary.pids("redis-server");
        primary.fill_disk("/var/lib/redis", true)?;
        primary.sh("redis-cli bgsave")?;
        site.lab.wait_for("another primary", Duration::from_secs(40), || site.primary().is_ok_and(|p| p.name != primary.name))?;
        // Until somebody makes room, the old primary may not be able to take a copy.
        primary.fill_disk("/var/lib/redis", false)?;
        site.wait_settled()?;
        // There may be others for a moment: what saves is a copy of the server.
        let now = primary.pids("redis-server");
        expect(server.iter().all(|pid| now.contains(pid)), "the server with the full disk outlives its demotion")?;
        held(site, load, Duration::from_secs(20), "")
    });
}

/// R1: the server comes back empty on a node that was the primary a moment ago.
#[test]
fn a_primary_that_lost_its_disk_wipes_nobody() {
    scenario("empty-primary", Durability::Quorum, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.sh("rm -rf /var/lib/redis/*")?;
        primary.kill("redis-server", Signal::SIGKILL)?;
        held(site, load, SHORT, "")
    });
}

#[test]
fn all_servers_restarted_empty_serve_again() {
    on_disks("empty-all", Durability::Async, |site| {
        for node in site.lab.nodes() {
            node.power_off()?;
        }
        for node in site.lab.nodes() {
            node.power_on()?;
        }
        site.wait_settled()?;
        let load = site.load()?;
        held(site, load, SHORT, "")
    });
}

#[test]
fn after_a_power_cut_of_all_the_latest_snapshot_is_served() {
    on_disks("cold", Durability::Async, |site| {
        // The primary moves on, and the node that was the first one keeps an old snapshot.
        site.primary()?.sh("redis-cli set old 1 && redis-cli save")?;
        let first = site.primary()?;
        site.move_primary()?;
        site.wait_settled()?;
        site.primary()?.sh("redis-cli set new 1")?;
        std::thread::sleep(Duration::from_millis(300));
        for node in site.replicas()? {
            if node.name != first.name {
                node.sh("redis-cli save")?;
            }
        }
        for node in site.lab.nodes() {
            node.power_off()?;
        }
        for node in site.lab.nodes() {
            node.power_on()?;
        }
        site.wait_settled()?;
        expect(site.primary()?.sh("redis-cli get new")?.stdout.trim() == "1", "the latest snapshot was elected")
    });
}

/// A primary without a backlog begins a new history when its first replica attaches; a crash right after that must not
/// find the record without it. In the first version it did, and an old snapshot was elected over two living replicas.
#[test]
fn a_crash_right_after_the_first_replica_attached() {
    scenario("late", Durability::Async, |site| {
        for node in site.lab.nodes() {
            node.power_off()?;
            site.lab.cut(&Cut { port: Some(6379), ..Cut::cable(&node.name) })?;
        }
        for node in site.lab.nodes() {
            node.power_on()?;
        }
        site.lab.wait_for("a primary", Duration::from_secs(60), || site.primary().is_ok())?;
        site.lab.wait_idle()?;
        site.lab.heal(None)?;
        let primary = site.primary()?;
        site.lab.wait_for("both replicas attached", Duration::from_secs(60), || {
            primary.sh("redis-cli info replication").is_ok_and(|o| o.stdout.matches("state=online").count() == 2)
        })?;
        primary.sh("redis-cli set early 1 && redis-cli save")?;
        // In one connection: WAIT is about the writes of its own.
        let confirmed = primary.sh("printf 'set late 1\nwait 2 5000\n' | redis-cli")?.stdout;
        expect(confirmed.trim().ends_with('2'), "both replicas have confirmed the write")?;
        primary.kill("redis-server", Signal::SIGKILL)?;
        site.lab.wait_for("another primary", Duration::from_secs(30), || site.primary().is_ok_and(|p| p.name != primary.name))?;
        site.wait_settled()?;
        expect(site.primary()?.sh("redis-cli get late")?.stdout.trim() == "1", "the write after the snapshot is there")
    });
}

#[test]
fn a_replica_with_a_wrong_password_is_named_and_never_promoted() {
    scenario("password", Durability::Async, |site| {
        let stranger = site.replicas()?.remove(0);
        let primary = site.primary()?;
        primary.sh("redis-cli set before 1")?;
        for node in site.lab.nodes().iter().filter(|n| n.name != stranger.name) {
            node.sh("redis-cli config set masterauth right; redis-cli config set requirepass right; printf 'requirepass right\\nmasterauth right\\n' >> /etc/redis/site.conf")?;
        }
        stranger.sh("printf 'requirepass right\\nmasterauth wrong\\n' >> /etc/redis/site.conf")?;
        stranger.kill("redis-server", Signal::SIGKILL)?;
        site.lab.wait_for("the reason in crm_mon", Duration::from_secs(60), || {
            stranger.sh("crm_mon -1").is_ok_and(|shown| shown.stdout.contains("the primary refuses its login; correct masterauth"))
        })?;
        expect(site.primary()?.name == primary.name, "the primary is untouched")?;
        site.kill_primary()?;
        site.lab.wait_for("another primary", Duration::from_secs(30), || site.primary().is_ok_and(|p| p.name != primary.name))?;
        let elected = site.primary()?;
        expect(elected.name != stranger.name, "the one that could not attach is not promoted")?;
        expect(elected.sh("redis-cli -a right get before 2>/dev/null")?.stdout.trim() == "1", "the write is there")?;
        let logs: String = site.lab.nodes().iter().filter_map(|n| site.log_of(n).ok()).collect();
        expect(!logs.contains("right,") && !logs.contains("requirepass right"), "no password in a log")
    });
}

#[test]
fn with_quorum_a_primary_without_replicas_acknowledges_nothing() {
    scenario("lonely", Durability::Quorum, |site| {
        site.lab.crm("configure property maintenance-mode=true")?;
        for node in site.replicas()? {
            node.kill("redis-server", Signal::SIGKILL)?;
        }
        std::thread::sleep(Duration::from_secs(5));
        let refused = site.primary()?.sh("redis-cli set lonely 1")?.stdout;
        expect(refused.contains("NOREPLICAS"), &format!("a write without replicas answers {refused}"))?;
        site.lab.crm("configure property maintenance-mode=false")?;
        site.wait_settled()?;
        let load = site.load()?;
        held(site, load, SHORT, "")
    });
}

#[test]
fn a_killed_watcher_is_replaced_and_an_unmanaged_crash_moves_nothing() {
    scenario("watcher", Durability::Async, |site| {
        let primary = site.primary()?;
        primary.kill("systole-watch", Signal::SIGKILL)?;
        site.lab.wait_for("a new watcher", Duration::from_secs(30), || !primary.pids("systole-watch").is_empty())?;
        site.lab.crm("configure property maintenance-mode=true")?;
        primary.kill("redis-server", Signal::SIGKILL)?;
        std::thread::sleep(Duration::from_secs(4));
        expect(site.primary().is_ok_and(|p| p.name == primary.name), "nothing moves while Pacemaker's hands are off")?;
        site.lab.crm("configure property maintenance-mode=false")?;
        site.wait_settled()
    });
}

#[test]
fn a_frozen_corosync_makes_no_second_writer() {
    scenario("corosync", Durability::Quorum, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        primary.freeze("corosync")?;
        std::thread::sleep(Duration::from_secs(10));
        site.wait_settled()?;
        held(site, load, NODE_LOSS, "")
    });
}

/// The way that docs/install.md describes: running servers come under the new agent without a restart.
#[test]
fn moving_over_from_the_stock_agent_under_load() {
    let setup = Setup { agent: Agent::Stock, ..Setup::default() };
    cluster_scenarios::scenario("moving-over", setup, |site| {
        let load = site.load()?;
        let pids = |site: &Site| -> Vec<i32> { site.lab.nodes().iter().flat_map(|n| n.pids("redis-server")).collect() };
        let before = pids(site);
        site.lab.crm("configure property maintenance-mode=true")?;
        site.lab.load_crm(&site.snippet(Agent::Systole)?)?;
        site.lab.crm("resource refresh redis-clone")?;
        site.lab.wait_for("the primary probed", Duration::from_secs(30), || site.primary().is_ok())?;
        site.lab.crm("configure property maintenance-mode=false")?;
        let record = "crm_attribute --type crm_config --set-name systole --name systole-redis-primary --query --quiet || true";
        site.lab.wait_for("a record with all three names", Duration::from_secs(60), || {
            site.primary().is_ok_and(|p| p.sh(record).is_ok_and(|o| o.stdout.contains("holders=lxc1,lxc2,lxc3")))
        })?;
        expect(pids(site) == before, "no server was restarted")?;
        site.move_primary()?;
        site.wait_settled()?;
        held(site, load, SHORT, "")
    });
}

/// The comparison is fair and repeatable: the same scenario, with the agent that the distribution ships and its default
/// durability, loses what ours keeps.
#[test]
fn the_stock_agent_loses_every_write_after_one_kill() {
    let site = Site::with("stock", Setup { agent: Agent::Stock, ..Setup::default() }).unwrap();
    let load = site.load().unwrap();
    site.kill_primary().unwrap();
    let (report, _) = site.verdict(load, Duration::from_secs(60)).unwrap();
    println!("{report}");
    let lost = report.of('L').unwrap();
    assert!(!lost.kept, "the stock agent has become better, so the documentation has to: {report}");
}

/// A password is written into the file on all nodes and nothing is restarted, and a node comes back with a wrong port in its file: nobody
/// who serves is stopped, and no key is lost.
#[test]
fn an_edited_configuration_stops_nobody() {
    scenario("edited", Durability::Async, |site| {
        let load = site.load()?;
        let primary = site.primary()?;
        let pids = || -> Vec<i32> { site.lab.nodes().iter().flat_map(|n| n.pids("redis-server")).collect() };
        let before = pids();
        primary.sh("for i in $(seq 2000); do echo set k$i 1; done | redis-cli > /dev/null")?;
        for node in site.lab.nodes() {
            node.sh("printf 'requirepass S3cret\\nmasterauth S3cret\\n' >> /etc/redis/site.conf")?;
        }
        std::thread::sleep(Duration::from_secs(25));
        expect(pids() == before && site.primary()?.name == primary.name, "nobody was restarted, and the role is where it was")?;
        for node in site.lab.nodes() {
            node.sh("sed -i '/S3cret/d' /etc/redis/site.conf")?;
        }
        let replica = site.replicas()?.remove(0);
        site.lab.crm(&format!("node standby {}", replica.name))?;
        site.lab.wait_for("it is stopped", Duration::from_secs(60), || replica.pids("redis-server").is_empty())?;
        replica.sh("echo 'port 6380' >> /etc/redis/site.conf")?;
        site.lab.crm(&format!("node online {}", replica.name))?;
        let refused = || primary.sh("crm_mon -1").is_ok_and(|o| o.stdout.contains("6380"));
        site.lab.wait_for("its start is refused", Duration::from_secs(60), refused)?;
        expect(site.primary()?.name == primary.name, "the others serve")?;
        replica.sh("sed -i '/^port 6380/d' /etc/redis/site.conf")?;
        site.lab.crm(&format!("resource cleanup redis {}", replica.name))?;
        site.wait_settled()?;
        for node in site.lab.nodes() {
            let kept = node.sh("redis-cli exists $(for i in $(seq 2000); do echo k$i; done)")?.stdout;
            expect(kept.trim() == "2000", &format!("{} has {} of 2000 keys", node.name, kept.trim()))?;
        }
        held(site, load, Duration::from_secs(2), "")
    });
}
