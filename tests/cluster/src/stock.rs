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

/// What our snippets set and no stock agent has: a dead primary of theirs is stopped and started, as Pacemaker does by default.
pub(crate) const WITHOUT: &str = " on-fail=demote";
const DEFAULT: &str = "without `on-fail=demote` of its monitor and of promote: Pacemaker stops and starts a dead primary before it promotes anybody, \
                       as it does where nobody sets that";

/// What of the snippet of Redis is another one for each agent, in the words of the page; a test compares.
pub(crate) fn words_of_redis() -> String {
    format!(
        "ocf:systole:redis has `open_network` in it, because the servers have no password; ocf:heartbeat:redis has it without `durability`, which \
         is a parameter of ours, and {DEFAULT}."
    )
}

/// The same of MariaDB.
pub(crate) fn words_of_mysql() -> String {
    let mut names: Vec<String> = parameters(Agent::StockByPosition).iter().map(|(name, _)| format!("`{name}`")).collect();
    names.push("`node_list` of ocf:heartbeat:mariadb".to_owned());
    format!(
        "Both stock agents have it with their own parameters ({}) in the place of ours (`config`, `rejoin`, `replication_user`, \
         `replication_passwd_file`), and {DEFAULT}.",
        names.join(", ")
    )
}

/// The snippet with another agent's primitive.
pub(crate) fn edited(snippet: &str, agent: Agent) -> String {
    let name = if agent == Agent::Stock { "ocf:heartbeat:mariadb" } else { "ocf:heartbeat:mysql" };
    let parameters: Vec<String> = parameters(agent).iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
    let edit = |line: &str| {
        if line.trim_start().starts_with("params config=") {
            return format!("    params {} \\", parameters.join(" "));
        }
        line.replace("ocf:systole:mysql", name).replace(WITHOUT, "")
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{Durability, Kind, mysql, read, redis, repository};

    /// How often each word stands in what crmsh is told.
    fn words(snippet: &str) -> BTreeMap<&str, usize> {
        let told = snippet.lines().filter(|line| !line.starts_with('#'));
        let mut words = BTreeMap::new();
        // Without what is in quotes, which are values.
        let told = told.flat_map(|line| line.split('"').step_by(2)).flat_map(str::split_whitespace);
        told.filter(|word| *word != "\\").for_each(|word| *words.entry(word).or_default() += 1);
        words
    }

    /// The names of what stands in one of them and not, or not as often, in the other one.
    fn differences(a: &str, b: &str) -> BTreeSet<String> {
        let (a, b) = (words(a), words(b));
        let differs = |word: &&&str| a.get(**word) != b.get(**word);
        let all: BTreeSet<&str> = a.keys().chain(b.keys()).filter(differs).copied().collect();
        all.into_iter().map(|word| word.split('=').next().unwrap().to_owned()).collect()
    }

    /// What a page names.
    fn named(page: &str) -> BTreeSet<String> {
        page.split('`').skip(1).step_by(2).map(|word| word.split('=').next().unwrap().to_owned()).collect()
    }

    fn snippet(name: &str) -> String {
        read(&repository().join("crm-snippets").join(name)).unwrap()
    }

    /// Whoever reads "the same snippet" has to read what is not the same.
    #[test]
    fn what_differs_from_the_snippet_is_what_the_page_names() {
        let shipped = snippet("redis.crm");
        let of = |agent| differences(&shipped, &redis::edited(&shipped, agent, Durability::Async));
        let agents = ["ocf:systole:redis", "ocf:heartbeat:redis"].map(str::to_owned);
        let both: BTreeSet<String> = of(Agent::Systole).into_iter().chain(of(Agent::Stock)).collect();
        assert_eq!(both, named(&words_of_redis()).into_iter().chain(agents).collect());

        let shipped = snippet("mysql.crm");
        let of = |agent| differences(&shipped, &mysql::edited(&shipped, agent, Kind::MariaDb, Durability::Quorum, "rejoin=clone"));
        let agents = ["ocf:systole:mysql", "ocf:heartbeat:mariadb", "ocf:heartbeat:mysql"].map(str::to_owned);
        let both: BTreeSet<String> = of(Agent::Stock).into_iter().chain(of(Agent::StockByPosition)).collect();
        assert_eq!(both, named(&words_of_mysql()).into_iter().chain(agents).collect());
        assert!(!of(Agent::StockByPosition).contains("node_list"));
        // Of ours the page says rejoin=clone.
        assert_eq!(of(Agent::Systole), BTreeSet::from(["rejoin".to_owned()]));
    }
}
