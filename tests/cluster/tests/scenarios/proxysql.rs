//! A ProxySQL on each node in front of the MariaDB of mysql.crm, set up as docs/proxysql.md has it. Debian has no package of ProxySQL, so
//! the program is given: `make cluster-proxysql PROXYSQL=/usr/bin/proxysql`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster_scenarios::{MARIADB, Setup, Site, expect, held, on_all, snippet};
use lab::{LoadOptions, Node, Result};

/// Planned moves with and without draining.
const MOVES: usize = 5;
/// Longer than what is drained stays so by itself.
const UNDONE: Duration = Duration::from_secs(18);
/// How long a client may be without an acknowledgement.
const SHORT: Duration = Duration::from_secs(10);

const UNIT: &str = "[Unit]\nDescription=ProxySQL\n[Service]\n\
                    ExecStart=/usr/bin/proxysql --idle-threads -f -c /dev/null -D /var/lib/proxysql --no-version-check\n";
const ADMIN: &str = "mariadb --defaults-file=/root/proxysql.cnf";

/// What the page has an operator do on each node.
fn install(site: &Site) -> Result<()> {
    let account = snippet("server/proxysql-monitor-mariadb.sql")?.replace("'PASSWORD'", "'for the monitor'");
    site.sql(&site.primary()?, &account)?;
    let program = PathBuf::from(std::env::var_os("SYSTOLE_PROXYSQL").expect("make cluster-proxysql PROXYSQL=..."));
    on_all(&site.lab.nodes(), |node| {
        // The lab's clients are on no node, so each ProxySQL listens at its node's own address as well.
        let interfaces = format!("127.0.0.1:6033;{}:6033", node.address());
        let statements = snippet("server/proxysql.sql")?
            .replace("'PASSWORD'", "'for the monitor'")
            .replace("'127.0.0.1:6033'", &format!("'{interfaces}'"))
            .replace("'ANOTHER PASSWORD'", "'lastwort'")
            .replace("'wpsite'", "'load'");
        node.copy(&program, "/usr/bin/proxysql")?;
        node.write("/etc/systemd/system/proxysql.service", UNIT)?;
        node.write("/root/proxysql.sql", &statements)?;
        let cnf = |password: &str| format!("[client]\nhost = 127.0.0.1\nport = 6032\nuser = admin\npassword = {password}\n");
        node.write("/root/proxysql.cnf", &cnf("admin"))?;
        node.sh(&format!(
            "chmod 600 /root/proxysql.cnf; chmod 755 /usr/bin/proxysql; mkdir -p /var/lib/proxysql; systemctl daemon-reload; \
             systemctl start proxysql; for n in $(seq 50); do {ADMIN} -e 'SELECT 1' > /dev/null 2>&1 && break; sleep 0.2; done; \
             grep -v '^--' /root/proxysql.sql | {ADMIN}; systemctl stop proxysql"
        ))?;
        node.write("/root/proxysql.cnf", &cnf("A THIRD PASSWORD"))?;
        node.sh("chmod 600 /root/proxysql.cnf").map(drop)
    })?;
    site.lab.load_crm(&snippet("proxysql.crm")?)?;
    site.lab.wait_idle()?;
    wait_agreed(site)
}

fn ask(node: &Node, statement: &str) -> Result<String> {
    Ok(node.sh(&format!("{ADMIN} -N -e \"{statement}\""))?.stdout)
}

/// Waits until each ProxySQL has the promoted server, and no other one, in the writer's group.
fn wait_agreed(site: &Site) -> Result<()> {
    let writers = "SELECT hostname, status FROM runtime_mysql_servers WHERE hostgroup_id = 10";
    site.lab.wait_for("every ProxySQL at the promoted server", Duration::from_secs(30), || {
        site.primary().is_ok_and(|primary| {
            let right = format!("{}\tONLINE\n", primary.name);
            site.lab.live_nodes().iter().all(|node| ask(node, writers).is_ok_and(|said| said == right))
        })
    })
}

/// Clients on each node that keep their connection to its ProxySQL: one that writes a row after the other, and one with a transaction of
/// two statements.
struct Sessions {
    nodes: Vec<Node>,
}

impl Sessions {
    fn start(site: &Site) -> Result<Self> {
        site.sql(&site.primary()?, "CREATE TABLE IF NOT EXISTS `load`.sessions (name VARCHAR(40), n BIGINT)")?;
        let nodes = site.lab.live_nodes();
        on_all(&nodes, |node| {
            let client = "env MYSQL_PWD=lastwort mariadb --no-defaults --force --unbuffered -h127.0.0.1 -P6033 -uload load";
            node.sh(&format!(
                "rm -f /root/enough /root/sessions.*; for what in single transaction; do (n=0; while [ ! -e /root/enough ]; do n=$((n + 1)); \
                 case $what in transaction) echo 'BEGIN;' ;; esac; echo \"INSERT INTO sessions VALUES ('{}-$what', $n);\"; \
                 case $what in transaction) sleep 0.01; echo 'COMMIT;' ;; esac; echo $n > /root/sessions.$what; sleep 0.02; done \
                 | {client} 2> /root/sessions.$what.err > /dev/null &) > /dev/null 2>&1 < /dev/null; done",
                node.name
            ))
            .map(drop)
        })?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(Self { nodes })
    }

    /// How many statements there were, and of each kind of client the first error of each that had one.
    fn stop(self) -> Result<(usize, [Vec<String>; 2])> {
        std::thread::sleep(Duration::from_secs(1));
        let (mut done, mut errors) = (0, [Vec::new(), Vec::new()]);
        for node in &self.nodes {
            node.sh("touch /root/enough; sleep 1")?;
            for (what, errors) in ["single", "transaction"].iter().zip(&mut errors) {
                done += node.sh(&format!("cat /root/sessions.{what}"))?.stdout.trim().parse().unwrap_or(0);
                let said = node.sh(&format!("cat /root/sessions.{what}.err"))?.stdout;
                errors.extend(said.lines().find(|line| line.starts_with("ERROR")).map(str::to_owned));
            }
        }
        Ok((done, errors))
    }
}

#[test]
#[ignore = "Debian has no ProxySQL: make cluster-proxysql PROXYSQL=/usr/bin/proxysql"]
fn planned_moves_and_crashes_through_proxysql() {
    cluster_scenarios::scenario("proxysql", Setup { parameters: "rejoin=rewind-or-clone".to_owned(), ..Setup::of(MARIADB) }, |site| {
        install(site)?;
        let through = site.replicas()?[0].clone();
        let options = LoadOptions { address: format!("{}:6033", through.address()), ..site.gentle_load_options()? };
        let load = site.lab.start_load(&options)?;
        site.lab.wait_for("writes through ProxySQL", Duration::from_secs(20), || load.writing())?;
        for drained in [false, true] {
            if drained {
                let parameter = "crm_resource --resource mysql --set-parameter proxysql_drain --parameter-value '/root/proxysql.cnf 10'";
                site.lab.nodes()[0].sh(parameter)?;
                site.lab.wait_idle()?;
                // What an operator has written and not loaded yet is his.
                tell_all(site, "INSERT INTO mysql_replication_hostgroups VALUES (30, 40, 'read_only', 'not loaded yet');")?;
            }
            for number in 1..=MOVES {
                let configured: Vec<String> = configured(site)?;
                let sessions = Sessions::start(site)?;
                site.move_primary()?;
                site.wait_settled()?;
                wait_agreed(site)?;
                let (done, [single, transaction]) = sessions.stop()?;
                println!(
                    "move {number}, drained {drained}: {done} done; clients that failed: {single:?}, in transactions: {transaction:?}"
                );
                expect(configured == self::configured(site)?, "the configuration is as it was before the move")?;
                if drained {
                    expect(done > 0 && single.is_empty() && transaction.is_empty(), "no client fails")?;
                }
            }
        }
        // Who is asked for nothing while it is drained would come back as a second writer when that is undone.
        tell_all(site, "SET mysql-monitor_writer_is_also_reader='false'; LOAD MYSQL VARIABLES TO RUNTIME;")?;
        std::thread::sleep(Duration::from_secs(2));
        site.move_primary()?;
        site.wait_settled()?;
        wait_agreed(site)?;
        one_writer_for(site, UNDONE)?;
        site.kill_primary()?;
        site.wait_settled()?;
        wait_agreed(site)?;
        held(site, load, SHORT, "")
    });
}

/// For so long no ProxySQL takes two servers for writers.
fn one_writer_for(site: &Site, time: Duration) -> Result<()> {
    let begin = Instant::now();
    let writers = "SELECT hostname FROM runtime_mysql_servers WHERE hostgroup_id = 10 AND status = 'ONLINE'";
    while begin.elapsed() < time {
        for node in site.lab.live_nodes() {
            let said = ask(&node, writers)?;
            expect(said.lines().count() == 1, &format!("one writer at {}: {said:?}", node.name))?;
        }
    }
    Ok(())
}

fn tell_all(site: &Site, statements: &str) -> Result<()> {
    site.lab.live_nodes().iter().try_for_each(|node| ask(node, statements).map(drop))
}

/// What each ProxySQL would be given with the next LOAD, and what it starts with.
fn configured(site: &Site) -> Result<Vec<String>> {
    let one = |node: &Node| {
        let tables = ["mysql_servers", "mysql_replication_hostgroups", "disk.mysql_servers"]
            .map(|table| format!("SELECT * FROM {table} ORDER BY 1, 2;"));
        ask(node, &tables.concat())
    };
    site.lab.live_nodes().iter().map(one).collect()
}
