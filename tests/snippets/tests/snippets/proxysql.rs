//! ProxySQL in front of MySQL.

use snippets::{Bed, Snippet, Step};

use crate::{apart, assert_taken, dying, files, on_every_image, readable, scores};

/// ProxySQL follows by its own checks: nothing that happens to the servers stops, moves or holds it up, nor it them.
#[test]
fn proxysql_runs_on_every_living_node_whatever_the_servers_do() {
    on_every_image(|bed| {
        let all = files(&["base.crm", "mysql.crm", "proxysql.crm"]);
        let moved = Step { scores: vec![("mysql", "lxc2", -1_000_000)], ..Step::default() };
        let back = Step { up: vec!["lxc1"], ..Step::default() };
        let nobody = Step {
            scores: ["lxc1", "lxc2", "lxc3"].map(|node| ("mysql", node, -1_000_000)).into(),
            attributes: readable(&[]),
            ..back.clone()
        };
        let rehearsal = bed.rehearse(&all, &[Step::default(), scores("mysql"), moved, dying(&["lxc1"]), back, nobody]);
        assert_taken(&rehearsal, "proxysql.crm");
        let living: [&[&str]; 6] = [
            &["lxc1", "lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
            &["lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
            &["lxc1", "lxc2", "lxc3"],
        ];
        for (number, (step, living)) in rehearsal.steps.iter().zip(living).enumerate() {
            let mut on = step.nodes_of("proxysql");
            on.sort_unstable();
            assert_eq!(on, living, "step {number}");
            if number != 3 {
                assert_eq!(step.when("stop", "proxysql"), None, "step {number}: {step:?}");
            }
        }
        for (number, primary) in [(1, Some("lxc2")), (2, Some("lxc1")), (3, Some("lxc3")), (5, None)] {
            assert_eq!(rehearsal.steps[number].promoted("mysql"), primary.into_iter().collect::<Vec<_>>(), "step {number}");
        }
        // All is stopped, and all is started: neither waits for the other.
        let start = &rehearsal.steps[0];
        assert!(!start.waits_for(("start", "proxysql"), ("start", "mysql")) && !start.waits_for(("start", "mysql"), ("start", "proxysql")));
        let lost = bed.rehearse(&all, &[scores("mysql"), Step { no_quorum: true, ..Step::default() }]);
        assert_eq!(lost.steps[1].nodes_of("proxysql"), Vec::<&str>::new());
    });
}

/// What the file proposes in its last comment.
#[test]
fn the_public_addresses_can_be_kept_where_proxysql_runs() {
    let snippet = Snippet::of("proxysql.crm");
    let proposed: String = snippet.text.lines().filter_map(|line| Some(line.strip_prefix("#     ")?.to_owned() + "\n")).collect();
    assert_eq!(proposed.matches("colocation ").count(), 2, "{proposed}");
    on_every_image(|bed| {
        let mut all = files(&["base.crm", "public-addresses.crm", "mysql.crm", "proxysql.crm"]);
        let stopped = Snippet { name: "not-on-lxc1.crm".into(), text: "location no-proxysql proxysql-clone -inf: lxc1\n".into() };
        all.push(Snippet { name: "with-proxysql.crm".into(), text: proposed.clone() });
        let rehearsal = bed.rehearse(&all, &[Step::default()]);
        assert_taken(&rehearsal, "the colocations");
        assert_eq!((rehearsal.steps[0].nodes_of("public-ip-1"), rehearsal.steps[0].nodes_of("public-ip-2")), (vec!["lxc1"], vec!["lxc2"]));
        all.push(stopped);
        let rehearsal = bed.rehearse(&all, &[Step::default(), dying(&["lxc3"])]);
        apart(&rehearsal.steps[0], 3).unwrap();
        assert_eq!(rehearsal.steps[0].nodes_of("public-ip-1"), ["lxc3"]);
        assert_eq!((rehearsal.steps[1].nodes_of("public-ip-1"), rehearsal.steps[1].nodes_of("public-ip-2")), (vec!["lxc2"], vec!["lxc2"]));
    });
}

/// proxysql.sql as it is loaded: without its comments. With the option at its end, that also.
fn proxysql_sql(with_the_option: bool) -> String {
    let text = Snippet::server_file("proxysql.sql");
    let lines = text.lines().map(|line| {
        let option = ["-- DELETE", "-- INSERT", "--     (", "-- LOAD", "-- SAVE"].iter().any(|begin| line.starts_with(begin));
        if with_the_option && option { &line[3..] } else { line }
    });
    lines.filter(|line| !line.starts_with("--")).map(|line| format!("{line}\n")).collect()
}

/// ProxySQL is not here; its tables are.
#[test]
fn proxysql_sql_fits_the_tables_that_it_is_for() {
    let bed = Bed::new("debian12");
    let wrong =
        |sql: &str| -> Vec<String> { bed.administer(sql, "SELECT 1").into_iter().filter(|line| line.starts_with("wrong:")).collect() };
    // It can be loaded again.
    for sql in [proxysql_sql(false), proxysql_sql(true), proxysql_sql(true).repeat(2)] {
        assert_eq!(wrong(&sql), Vec::<String>::new());
    }
    // What belongs together. Nobody is written to before he was asked.
    let ask = |question: &str| bed.administer(&proxysql_sql(false), question).join("\n");
    let value = |name: &str| -> i64 {
        let value = ask(&format!("SELECT variable_value FROM global_variables WHERE variable_name = '{name}'"));
        value.parse().unwrap_or_else(|e| panic!("{name}: {value}: {e}"))
    };
    let groups = "JOIN mysql_replication_hostgroups ON hostgroup_id =";
    assert_eq!(ask(&format!("SELECT hostname FROM mysql_servers {groups} reader_hostgroup")), "lxc1\nlxc2\nlxc3");
    assert_eq!(ask(&format!("SELECT hostname FROM mysql_servers {groups} writer_hostgroup")), "");
    assert_eq!(ask("SELECT default_hostgroup - writer_hostgroup FROM mysql_users, mysql_replication_hostgroups"), "0");
    // A replica that does not replicate is too far behind; three proxies and both groups fit into what a server takes.
    assert!(ask("SELECT MAX(max_replication_lag) FROM mysql_servers").parse::<i64>().unwrap() < value("mysql-monitor_slave_lag_when_null"));
    assert!(ask("SELECT MAX(max_connections) * 6 FROM mysql_servers").parse::<i64>().unwrap() < 151);
    // A failover takes no replica for one that does not replicate.
    assert!(value("mysql-monitor_replication_lag_interval") * (value("mysql-monitor_replication_lag_count") - 1) >= 5000);
    // Only reads are sent again.
    assert_eq!(value("mysql-query_retries_on_failure"), 0);
    assert_eq!(ask("SELECT match_digest FROM mysql_query_rules WHERE retries > 0"), "^SELECT");
    // A check ends before the next one. A server that was shunned is tried again before its clients have given up.
    assert!(value("mysql-monitor_read_only_timeout") <= value("mysql-monitor_read_only_interval"));
    assert!(value("mysql-shun_recovery_time_sec") * 1000 < value("mysql-connect_timeout_server_max"));
    // What cannot change while ProxySQL runs is set back by LOAD, and a SAVE behind it writes that: 6033 stayed open to the network.
    let sql = proxysql_sql(false);
    for variables in ["MYSQL", "ADMIN"] {
        let at = |command: &str| sql.find(&format!("{command} {variables} VARIABLES")).unwrap_or_else(|| panic!("{command} {variables}"));
        assert!(at("SAVE") < at("LOAD"), "{variables} VARIABLES are saved before they are loaded");
    }
    // Nobody of the network, nobody with a password that everybody knows.
    for (name, wrong) in [("mysql-interfaces", "0.0.0.0"), ("admin-mysql_ifaces", "0.0.0.0"), ("admin-admin_credentials", "admin:admin")]
        .into_iter()
        .chain([("admin-stats_credentials", "stats:stats"), ("mysql-server_version", "5.5.30"), ("mysql-default_charset", "utf8\n")])
    {
        let value = ask(&format!("SELECT variable_value FROM global_variables WHERE variable_name = '{name}'")) + "\n";
        assert!(!value.contains(wrong), "{name}: {value}");
    }
    // Each of these is found.
    for (from, to, seen) in [
        ("max_replication_lag, max", "max_replica_lag, max", "no column named max_replica_lag"),
        ("'read_only', 'mysql", "'readonly', 'mysql", "CHECK constraint failed"),
        ("mysql-monitor_read_only_interval", "mysql-monitor_readonly_interval", "0 rows changed"),
        ("SET variable_value = '300'", "SET variable_value = '30'", "beyond its bounds"),
        ("SET variable_value = '300'", "SET variable_value = '300 ms'", "beyond its bounds"),
        ("LOAD MYSQL SERVERS TO RUNTIME", "LOAD MYSQL SERVER TO RUNTIME", "no such command"),
        ("LOAD ADMIN VARIABLES TO RUNTIME;", "LOAD ADMIN VARIABLES TO RUNTIME", "not ended"),
    ] {
        let sql = proxysql_sql(true);
        assert!(sql.contains(from), "{from}: correct the test");
        let found = wrong(&sql.replace(from, to)).join("\n");
        assert!(found.contains(seen), "{to:?} in place of {from:?} is not found: {found}");
    }
}
