//! Galera with its arbitrator: the page docs/recipes/galera.md to the letter, and what is said there.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster_scenarios::galera::{ADDRESS, Galera, SERVER, scenario};
use cluster_scenarios::{expect, haproxy, snippet};
use lab::journal::{Outcome, Record};
use lab::{Journal, Node, Result};
use nix::sys::signal::Signal;

/// Galera gives a lost member up after 5 s; the machine may be busy.
const MEMBER_LOST: Duration = Duration::from_secs(14);
/// A member that says goodbye costs nothing but the move of the address.
const PLANNED: Duration = Duration::from_secs(6);

/// Which servers have acknowledged writes.
fn writers(journal: &Journal) -> BTreeSet<String> {
    let server = |record: &Record| match record {
        Record::Write { outcome: Outcome::Ok, server: Some(server), .. } => Some(server.split(':').next().unwrap_or_default().to_owned()),
        _ => None,
    };
    journal.records.iter().filter_map(server).collect()
}

/// One address of each server, for writers on both at once.
fn both(site: &Galera) -> String {
    site.servers().map(|node| format!("{}:3306", node.address())).join(",")
}

fn begun_with_the_data_of_lxc1(site: &Galera) -> Result<()> {
    for node in site.servers() {
        let databases = site.sql(&node, "SHOW DATABASES")?;
        expect(databases.contains("seed") && !databases.contains("other"), &format!("the data of lxc1 on {}: {databases}", node.name))?;
    }
    Ok(())
}

/// Writers on both servers; one is killed.
fn kill_under_writers_on_both(site: &Galera, node: &Node) -> Result<()> {
    let load = site.load(&both(site))?;
    node.kill(SERVER, Signal::SIGKILL)?;
    site.wait_settled()?;
    let journal = site.held(load, MEMBER_LOST)?;
    let wrote = writers(&journal);
    expect(wrote == site.servers().map(|node| node.name).into(), &format!("both servers take writes: {wrote:?}"))
}

/// Planned: a node is taken out, and put back.
fn standby_and_back(site: &Galera, node: &Node) -> Result<()> {
    let load = site.load(ADDRESS)?;
    site.lab.crm(&format!("node standby {}", node.name))?;
    site.wait_size(2, &[site.other(node)])?;
    site.lab.wait_idle()?;
    expect(site.addressed()?.name != node.name, "the address has left")?;
    site.lab.crm(&format!("node online {}", node.name))?;
    site.wait_settled()?;
    site.held(load, PLANNED).map(drop)
}

#[test]
fn losses_one_at_a_time() {
    scenario("galera-losses", "debian12", |site| {
        begun_with_the_data_of_lxc1(site)?;
        let first = site.addressed()?;

        kill_under_writers_on_both(site, &site.other(&first))?;

        // The power of the node with the address. garbd and the other server are two of three.
        let load = site.load(ADDRESS)?;
        first.power_off()?;
        let left = site.other(&first);
        site.wait_size(2, std::slice::from_ref(&left))?;
        site.lab.wait_for("the address at the other server", Duration::from_secs(30), || {
            site.addressed().is_ok_and(|node| node.name == left.name)
        })?;
        site.lab.power_back(&first)?;
        site.wait_settled()?;
        site.held(load, MEMBER_LOST)?;

        // garbd, as a process and with its node.
        let load = site.load(ADDRESS)?;
        site.arbitrator().kill("garbd", Signal::SIGKILL)?;
        site.wait_size(2, &site.servers())?;
        site.wait_settled()?;
        site.held(load, MEMBER_LOST)?;
        let load = site.load(ADDRESS)?;
        site.arbitrator().power_off()?;
        site.wait_size(2, &site.servers())?;
        site.lab.power_back(&site.arbitrator())?;
        site.wait_settled()?;
        site.held(load, MEMBER_LOST)?;

        for node in site.servers() {
            standby_and_back(site, &node)?;
        }
        Ok(())
    });
}

/// All power at once. The agent begins with the server that has the most, whoever that is, and only when it has seen both.
#[test]
fn a_power_cut_of_everything() {
    scenario("galera-dark", "debian12", |site| {
        let load = site.load(&both(site))?;
        // The second one misses the last writes.
        let [first, second] = site.servers();
        second.power_off()?;
        site.wait_size(2, std::slice::from_ref(&first))?;
        std::thread::sleep(Duration::from_secs(3));
        first.power_off()?;
        site.arbitrator().power_off()?;
        let journal = load.stop()?;
        expect(journal.writes(Outcome::Ok).len() > 100, "there was something to lose")?;
        for node in [second, site.arbitrator()] {
            node.power_on()?;
        }
        // A majority of the cluster, and the server that lacks writes: it does not begin.
        std::thread::sleep(Duration::from_secs(45));
        expect(
            site.lab.view()?.with_role("galera", "Promoted").is_empty(),
            "who does not know whether it has all waits for the other one",
        )?;
        first.power_on()?;
        site.wait_settled()?;
        site.judge(&journal, None)
    });
}

/// Two of three at once: who is left takes no writes, and nothing has to be decided when they come back.
#[test]
fn the_last_member_takes_no_writes() {
    scenario("galera-last", "debian12", |site| {
        let left = site.addressed()?;
        let load = site.load(ADDRESS)?;
        let lost = [site.other(&left), site.arbitrator()];
        for node in &lost {
            node.power_off()?;
        }
        std::thread::sleep(Duration::from_secs(20));
        expect(!load.writing(), "no write is acknowledged by one of three")?;
        for node in &lost {
            node.power_on()?;
        }
        site.wait_settled()?;
        site.held(load, Duration::from_secs(240)).map(drop)
    });
}

/// HAProxy on every node: one server takes all writes, the same one for all, and a server that is out of step takes none.
#[test]
fn behind_haproxy_one_server_takes_the_writes() {
    scenario("galera-haproxy", "debian12", |site| {
        let front = haproxy::GALERA;
        let [first, second] = site.servers();
        site.sql(&first, &snippet("server/haproxy-mariadb.sql")?)?;
        front.install(&site.lab)?;
        let passing = |names: &[&str]| {
            let agreed = || site.lab.live_nodes().iter().all(|node| front.passing(node).is_ok_and(|up| up == names));
            site.lab.wait_for(&format!("every HAProxy at {names:?}"), Duration::from_secs(30), agreed)
        };
        passing(&["lxc1", "lxc2"])?;
        let before = haproxy::processes(&site.lab);

        let load = site.load(&front.address(&site.arbitrator()))?;
        std::thread::sleep(Duration::from_secs(2));
        let journal = site.held(load, PLANNED)?;
        expect(writers(&journal) == BTreeSet::from(["lxc1".to_owned()]), "one server takes all writes")?;

        // Out of step by hand, and back.
        let load = site.load(&front.address(&site.arbitrator()))?;
        site.sql(&first, "SET GLOBAL wsrep_desync = ON")?;
        passing(&["lxc2"])?;
        std::thread::sleep(Duration::from_secs(2));
        site.sql(&first, "SET GLOBAL wsrep_desync = OFF")?;
        passing(&["lxc1", "lxc2"])?;
        std::thread::sleep(Duration::from_secs(2));
        let journal = site.held(load, PLANNED)?;
        expect(writers(&journal).len() == 2, "the other one has taken over in between")?;

        // Killed. It comes back, and the writers with it.
        let load = site.load(&front.address(&site.arbitrator()))?;
        first.kill(SERVER, Signal::SIGKILL)?;
        passing(&["lxc2"])?;
        site.wait_settled()?;
        passing(&["lxc1", "lxc2"])?;
        site.held(load, MEMBER_LOST)?;

        expect(haproxy::processes(&site.lab) == before, "no HAProxy was restarted")?;

        // Nothing of it is left: it gets a copy of everything, and the one who gives it is all there is.
        let load = site.load(&front.address(&site.arbitrator()))?;
        site.lab.crm("node standby lxc1")?;
        site.wait_size(2, std::slice::from_ref(&second))?;
        first.sh("rm -rf /var/lib/mysql/*")?;
        site.lab.crm("node online lxc1")?;
        site.wait_settled()?;
        passing(&["lxc1", "lxc2"])?;
        site.held(load, PLANNED)?;
        let copied = second.sh("grep -c 'wsrep_sst_mariabackup.*donor' /var/log/mysql/error.log")?.stdout;
        expect(copied.trim() != "0", "it was a copy of everything")
    });
}

/// Pacemaker 3, MariaDB 11.8, the next version of the agent.
#[test]
fn on_debian_13() {
    scenario("galera-13", "debian13", |site| {
        begun_with_the_data_of_lxc1(site)?;
        let node = site.other(&site.addressed()?);
        kill_under_writers_on_both(site, &node)?;
        standby_and_back(site, &site.addressed()?)
    });
}
