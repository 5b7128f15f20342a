//! What stands between clients and the MariaDB of mysql.crm: HAProxy for writers, Pen for readers. What
//! docs/recipes/mariadb-behind-haproxy.md and docs/recipes/pen.md say of them.

use std::time::Duration;

use cluster_scenarios::{MARIADB, Setup, Site, expect, haproxy, held, held_after, snippet};
use lab::{Error, Node, Result};
use nix::sys::signal::Signal;

/// A crash of the server's process, or a planned move: what the same faults are allowed without HAProxy (tests/mysql).
const SHORT: Duration = Duration::from_secs(10);

/// MariaDB with HAProxy in front of it on every node. rejoin=clone: a killed primary may come back with a transaction that nobody has.
fn behind_haproxy(name: &str, steps: impl FnOnce(&Site) -> Result<()>) {
    let setup = Setup { parameters: "rejoin=clone".to_owned(), ..Setup::of(MARIADB) };
    cluster_scenarios::scenario(&format!("balancers-{name}"), setup, |site| {
        haproxy::install(site)?;
        steps(site)
    });
}

#[test]
fn a_crash_and_a_planned_move_through_haproxy() {
    behind_haproxy("short", |site| {
        haproxy::crash_and_move(site, SHORT)?;
        // Thousands of checks, most of servers that do not pass. (Aborted_connects also counts the load's clients, who wait for 100 ms only.)
        for node in site.lab.nodes() {
            node.sh("test -s /var/log/mysql/error.log && ! grep \"user: 'haproxy'\" /var/log/mysql/error.log")?;
        }
        Ok(())
    });
}

/// The application on the primary's own node loses its node; one on another node goes on.
#[test]
fn power_cut_of_the_primary_behind_haproxy() {
    behind_haproxy("power", |site| {
        let load = haproxy::load_through(site, &site.replicas()?[0])?;
        let primary = site.primary()?;
        primary.power_off()?;
        site.wait_moved(&primary, Duration::from_secs(30))?;
        haproxy::wait_agreed(site)?;
        held_after(site, load, Duration::from_secs(12), "", Duration::from_secs(10))
    });
}

#[test]
fn a_frozen_primary_is_left_when_another_one_is_promoted() {
    behind_haproxy("frozen", |site| {
        let load = haproxy::load_through(site, &site.replicas()?[0])?;
        site.freeze_primary_for_good(Duration::from_secs(90))?;
        site.wait_settled()?;
        haproxy::wait_agreed(site)?;
        held(site, load, Duration::from_secs(60), "")
    });
}

/// Answers of lxc1, lxc2 and lxc3, and what was said in the place of an answer.
type Told = ([usize; 3], Vec<String>);

/// Readers through Pen: how many got an answer of which server, and how many got none.
struct Readers<'a> {
    node: &'a Node,
}

impl<'a> Readers<'a> {
    /// Begins a connection for each read, one after the other.
    fn begin(node: &'a Node) -> Result<Self> {
        node.sh(
            "rm -f /root/reads /root/enough; (while [ ! -e /root/enough ]; do \
             timeout 5 mariadb --no-defaults --user=load --password=lastwort --host=127.0.0.1 --port=3308 --skip-column-names \
             --connect-timeout=3 --execute='SELECT @@hostname' >> /root/reads 2>&1 || true; sleep 0.05; done </dev/null >/dev/null 2>&1 &)",
        )?;
        Ok(Self { node })
    }

    fn end(self) -> Result<Told> {
        let said = self.node.sh("touch /root/enough; sleep 1; cat /root/reads")?.stdout;
        let count = |name: &str| said.lines().filter(|line| *line == name).count();
        let answers = ["lxc1", "lxc2", "lxc3"].map(count);
        Ok((answers, said.lines().filter(|line| !line.starts_with("lxc")).map(str::to_owned).collect()))
    }
}

/// pen.crm on the replicated servers: a dead server costs its readers one attempt, a killed Pen the time of a monitor.
#[test]
fn readers_through_pen() {
    cluster_scenarios::scenario("balancers-pen", Setup::of(MARIADB), |site| {
        site.lab.load_crm(&snippet("pen.crm")?)?;
        site.lab.wait_idle()?;
        let node = site.primary()?;
        let [first, second]: [Node; 2] = site.replicas()?.try_into().map_err(|_| Error::Refused("two replicas".into()))?;
        let told = |what: &str, readers: Readers<'_>| -> Result<Told> {
            let (answers, errors) = readers.end()?;
            println!("{what}: {answers:?}, {} without an answer {:?}", errors.len(), errors.first());
            Ok((answers, errors))
        };

        let readers = Readers::begin(&node)?;
        std::thread::sleep(Duration::from_secs(5));
        let (answers, errors) = told("all up", readers)?;
        expect(errors.is_empty() && answers.iter().all(|count| *count > 3), "every server answers")?;

        let readers = Readers::begin(&node)?;
        site.lab.crm(&format!("node standby {}", first.name))?;
        site.lab.wait_idle()?;
        std::thread::sleep(Duration::from_secs(5));
        let (_, errors) = told("a node taken out", readers)?;
        expect(errors.len() <= 1, "readers go on")?;
        site.lab.crm(&format!("node online {}", first.name))?;
        site.wait_settled()?;

        let readers = Readers::begin(&node)?;
        second.power_off()?;
        std::thread::sleep(Duration::from_secs(10));
        let (_, errors) = told("a node without power", readers)?;
        expect(errors.len() <= 5, "readers go on")?;
        site.lab.power_back(&second)?;
        site.wait_settled()?;

        let readers = Readers::begin(&node)?;
        node.kill("pen", Signal::SIGKILL)?;
        std::thread::sleep(Duration::from_secs(16));
        let (answers, errors) = told("Pen killed", readers)?;
        expect(!errors.is_empty() && answers.iter().sum::<usize>() > 20, "it is back within the monitor's interval")?;
        // It has not said anything about writes: two of three connections are refused them.
        let write = "for i in 1 2 3 4 5 6; do mariadb --no-defaults --user=load --password=lastwort --host=127.0.0.1 --port=3308 \
                     --execute='CREATE TABLE IF NOT EXISTS `load`.pen (n INT)' 2>&1; done; true";
        let refused = node.sh(write)?.stdout.matches("read-only").count();
        expect(refused == 4, &format!("two of three writers are refused: {refused} of 6"))
    });
}
