//! The distribution's agents for MariaDB, set up as well as they can be: for the benchmark beside ours.
//! Owns their parameters and what they need on the servers beforehand.

use lab::Result;

use crate::site::Site;
use crate::{Agent, on_all};

/// Lines for the servers' option file. Both agents take a replica for drained when its applier has read the relay log, which
/// parallel appliers have not carried out then: they get one. ocf:heartbeat:mariadb switches semi-synchronous replication on
/// by itself; the other one gets it here. It replicates by file and position, where strictness about GTIDs would only break
/// its replicas.
#[must_use]
pub fn settings(agent: Agent) -> &'static str {
    match agent {
        Agent::Systole => "",
        Agent::Stock => "slave_parallel_threads=0",
        Agent::StockByPosition => {
            "slave_parallel_threads=0\ngtid_strict_mode=0\nrpl_semi_sync_master_enabled=1\nrpl_semi_sync_slave_enabled=1\n\
             rpl_semi_sync_master_wait_point=AFTER_SYNC"
        }
    }
}

/// The primitive's parameters. Their default binary is mysqld_safe, which would start a dead server again behind
/// Pacemaker's back, and take writes on it.
fn parameters(agent: Agent) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        ("binary", "/usr/sbin/mariadbd"),
        ("config", "/etc/mysql/site.cnf"),
        ("datadir", "/var/lib/mysql"),
        ("pid", "/run/mysqld/mysqld.pid"),
        ("socket", "/run/mysqld/mysqld.sock"),
        ("log", "/var/log/mysql/error.log"),
        ("replication_user", "stock"),
        ("replication_passwd", "vorrat"),
    ];
    if agent == Agent::Stock {
        all.push(("node_list", "lxc1 lxc2 lxc3"));
    }
    all
}

/// The snippet with another agent's primitive.
pub(crate) fn edited(snippet: &str, agent: Agent) -> String {
    let name = if agent == Agent::Stock { "ocf:heartbeat:mariadb" } else { "ocf:heartbeat:mysql" };
    let parameters: Vec<String> = parameters(agent).iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let edit = |line: &str| {
        if line.trim_start().starts_with("params config=") {
            return format!("    params {} \\", parameters.join(" "));
        }
        line.replace("ocf:systole:mysql", name).replace(" on-fail=demote", "")
    };
    // The parameters go on in a second line, which is ours alone.
    snippet.lines().filter(|line| !line.trim_start().starts_with("replication_user=")).map(edit).collect::<Vec<_>>().join("\n") + "\n"
}

/// They ask and change everything with the account of replication. ocf:heartbeat:mariadb promotes only a server that has
/// a transaction, so all get the same first one.
pub(crate) fn prepare(site: &Site) -> Result<()> {
    const SQL: &str = "SET sql_log_bin=0;\n\
         CREATE USER 'stock'@'%' IDENTIFIED BY 'vorrat';\n\
         GRANT ALL PRIVILEGES ON *.* TO 'stock'@'%';\n\
         SET sql_log_bin=1;\n\
         SET SESSION server_id=1;\n\
         SET SESSION gtid_seq_no=1;\n\
         CREATE TABLE `load`.beginning (id INT PRIMARY KEY);\n\
         SET GLOBAL gtid_slave_pos='0-1-1';\n\
         SHUTDOWN;\n";
    on_all(&site.lab.nodes(), |node| {
        node.write("/run/mysqld/beginning.sql", SQL)?;
        node.sh("timeout 60 mysqld --defaults-file=/etc/mysql/site.cnf --user=mysql --skip-networking --socket=/run/mysqld/setup.sock \
             --rpl-semi-sync-master-enabled=0 --init-file=/run/mysqld/beginning.sql >/root/beginning.log 2>&1 || { tail -5 /root/beginning.log >&2; exit 1; }")
            .map(drop)
    })
}
