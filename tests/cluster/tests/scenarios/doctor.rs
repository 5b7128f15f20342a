//! `systole doctor` and the metrics, in a cluster with MariaDB: docs/command.md, docs/monitoring.md. What it makes of facts is tested where it is
//! made (crates/command/tests/doctor.rs); here nodes are asked over ssh, one of them is sick, and Pacemaker runs the monitors.

use std::time::Duration;

use cluster_scenarios::{MARIADB, Setup, Site, expect, scenario};
use lab::{Node, Result};

const LATE: Duration = Duration::from_secs(60);
const PASSWORD_FILE: &str = "/etc/mysql/replication.password";

/// root logs in from this node to each other one with a key.
fn let_in(site: &Site, node: &Node) -> Result<()> {
    let key =
        node.sh("install -d -m 700 /root/.ssh; ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519; cat /root/.ssh/id_ed25519.pub")?;
    for other in site.lab.nodes() {
        other.sh("install -d -m 700 /root/.ssh; systemctl start ssh")?;
        other.write("/root/.ssh/authorized_keys", &key.stdout)?;
    }
    let names: Vec<String> = site.lab.nodes().iter().map(|node| node.name.clone()).collect();
    node.sh(&format!("ssh-keyscan -t ed25519 {} > /root/.ssh/known_hosts", names.join(" "))).map(drop)
}

/// What it says; it has to end with this.
fn doctor(node: &Node, line: &str, code: u8) -> Result<String> {
    let said = node
        .sh(&format!(
            "begin=$(date +%s%N); systole doctor {line} 2>&1; echo \"ended with $? after $((($(date +%s%N) - begin) / 1000000)) ms\""
        ))?
        .stdout;
    println!("{}: systole doctor {line}\n{said}", node.name);
    expect(said.contains(&format!("ended with {code} after")), &format!("systole doctor {line} ends with {code}: {said}"))?;
    Ok(said)
}

/// One thing wrong of each kind that only a node knows, with the line to write.
fn differences_are_found(site: &Site, node: &Node, other: &Node) -> Result<()> {
    other.sh(&format!("cp -p {PASSWORD_FILE} /root/right; echo quite-another-one > {PASSWORD_FILE}; systemctl enable mariadb"))?;
    let said = doctor(node, "", 2)?;
    for found in ["the password mysql replication_passwd_file is not the same everywhere", "systemctl disable mariadb"] {
        expect(said.contains(found), &format!("{found} is found: {said}"))?;
    }
    expect(!said.contains("quite-another-one"), "no password is said")?;
    other.sh(&format!("cp -p /root/right {PASSWORD_FILE}; systemctl disable mariadb"))?;
    let stop =
        "op_id=$(cibadmin --query --xpath \"//primitive[@id='mysql']//op[@name='stop']\" | sed -n 's/.* id=\"\\([^\"]*\\)\".*/\\1/p')";
    node.sh(&format!("{stop}; cibadmin --modify --xml-text \"<op id='$op_id' timeout='60s'/>\""))?;
    let said = doctor(node, "", 1)?;
    expect(said.contains("op stop interval=0 timeout=120s"), &format!("the line to write is there: {said}"))?;
    node.sh(&format!("{stop}; cibadmin --modify --xml-text \"<op id='$op_id' timeout='120s'/>\""))?;
    site.lab.wait_idle()?;
    doctor(node, "", 0).map(drop)
}

/// Each server says where it stands, and no replica is behind a primary that nobody writes to.
fn replicas_are_not_behind(node: &Node, servers: usize) -> Result<()> {
    let said = node.sh("systole status mysql --live --format json")?.stdout;
    let count = |words: &str| said.matches(words).count();
    let behind = (count("\"asked\": true"), count("\"lag\": 0,"), count("\"lag_seconds\": 0,"));
    expect(behind == (servers, servers - 1, servers - 1), &format!("all are asked, and none is behind ({behind:?}): {said}"))
}

/// A node whose sshd does not answer is named, and the others are examined all the same.
fn a_sick_node_is_named(node: &Node, other: &Node) -> Result<()> {
    other.freeze("sshd")?;
    let (said, live) = (doctor(node, "", 1), node.sh("systole status mysql --live; true"));
    other.thaw("sshd")?;
    let (said, live) = (said?, live?.stdout);
    let asked = live.matches("  asked  ").count();
    expect(
        asked == 2 && live.contains(&format!("{}: where its server stands now is not known", other.name)),
        &format!("two say where they stand, and {} is named: {live}", other.name),
    )?;
    let named = said.contains(&format!("{}: does not answer over ssh", other.name)) && said.contains("degraded: 2 of 3 nodes");
    expect(named, &format!("{} is named: {said}", other.name))
}

/// What the agents' monitors write is there within two intervals of a monitor, and what is served is what is printed.
fn metrics_are_told(site: &Site, node: &Node) -> Result<()> {
    for node in site.lab.nodes() {
        node.sh("install -d /run/systole-metrics")?;
    }
    let primary = site.primary()?;
    let series = format!("systole_role{{resource=\"mysql\",node=\"{}\",role=\"promoted\"}} 1", primary.name);
    let file = "cat /run/systole-metrics/systole_mysql.prom";
    site.lab.wait_for("the file of the primary's monitor", LATE, || primary.sh(file).is_ok_and(|said| said.stdout.contains(&series)))?;
    let get = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9756/metrics').read().decode())";
    let served = node.sh(&format!("systole metrics --listen 9756 & pid=$!; sleep 1; python3 -c \"{get}\"; kill $pid"))?.stdout;
    expect(served.contains(&series) && served.contains("# EOF"), &format!("{series} is served: {served}"))?;
    expect(node.sh("systole metrics")?.stdout.contains(&series), &format!("{series} is printed"))
}

#[test]
fn all_nodes_are_examined_and_metrics_are_told() {
    scenario("doctor", Setup::of(MARIADB), |site| {
        let node = site.lab.quorate_node()?;
        let others: Vec<Node> = site.lab.nodes().into_iter().filter(|other| other.name != node.name).collect();
        let_in(site, &node)?;
        site.lab.wait_idle()?;
        doctor(&node, "", 0)?;
        replicas_are_not_behind(&node, site.lab.nodes().len())?;
        let names: Vec<String> = site.lab.nodes().iter().map(|node| node.name.clone()).collect();
        let said = doctor(&node, &format!("--nodes {}", names.join(",")), 1)?;
        let not_looked_at = said.matches("it is in a cluster, of which nothing was looked at").count();
        expect(not_looked_at == names.len() && !said.contains("disable --now"), "a cluster that runs is none that is to be")?;
        for other in others.iter().take(1) {
            differences_are_found(site, &node, other)?;
            a_sick_node_is_named(&node, other)?;
        }
        metrics_are_told(site, &node)
    });
}
