//! The agent of addresses in the place of the distribution's: what docs/address.md says, its commands run as they stand there.

use std::time::Duration;

use cluster_scenarios::{expect, finish, lab_name, recipe, snippet};
use lab::{Lab, LabOptions, Result};

/// The commands for moving over, and for the way back, for the resource of the snippet.
fn commands() -> [Vec<String>; 2] {
    const PAGE: &str = include_str!("../../../../docs/address.md");
    let section = PAGE.split("\n## ").find(|section| section.starts_with("Moving over")).unwrap().replace("mysql-ip", "public-ip-1");
    // The list of steps indents them once more.
    let over: Vec<String> = section.lines().filter_map(|line| line.strip_prefix("       crm")).map(|line| format!("crm{line}")).collect();
    let change = section.lines().find_map(|line| line.strip_prefix("    crm configure filter")).unwrap();
    let edit = |line: &String| if line.contains("filter") { format!("crm configure filter{change}") } else { line.clone() };
    let back = over.iter().map(edit).collect();
    [over, back]
}

fn steps(lab: &Lab) -> Result<()> {
    const OURS: &str = "ocf:systole:address";
    const STOCK: &str = "ocf:heartbeat:IPaddr2";
    lab.load_crm(&snippet("public-addresses.crm")?.replace(OURS, STOCK))?;
    lab.wait_idle()?;
    let place = || lab.view().map(|view| view.with_role("public-ip-1", "Started").concat()).unwrap_or_default();
    lab.wait_for("the address on lxc1", Duration::from_secs(30), || place() == "lxc1")?;
    let (holder, client) = (lab.node_named("lxc1")?, lab.node_named("lxc3")?);
    holder.sh("ip monitor address > /root/changes 2>&1 & echo $! > /root/monitor.pid")?;
    client.sh("ping -n -i 0.1 198.51.100.101 > /root/answers 2>&1 & echo $! > /root/ping.pid")?;

    let [over, back] = commands();
    expect(over.len() == 7, &format!("the page has seven commands: {over:?}"))?;
    for (commands, agent) in [(&over, OURS), (&back, STOCK), (&over, OURS)] {
        for command in commands {
            println!("{command}");
            holder.sh(command)?;
        }
        lab.wait_idle()?;
        let shown = holder.sh("crm_mon -1")?.stdout;
        let ours = shown.lines().find(|line| line.contains("public-ip-1")).unwrap_or_default();
        expect(ours.contains(agent) && !shown.contains("Failed"), &shown)?;
        // Two monitors of the agent that has it now.
        std::thread::sleep(Duration::from_secs(21));
        expect(place() == "lxc1", "it is where it was")?;
    }
    holder.sh("kill $(cat /root/monitor.pid)")?;
    let changes = holder.sh("cat /root/changes")?.stdout;
    expect(!changes.contains("198.51.100.101"), &format!("the address was touched: {changes}"))?;
    client.sh("kill -INT $(cat /root/ping.pid); sleep 0.5")?;
    let answers = client.sh("tail -n 3 /root/answers")?.stdout;
    println!("{answers}");
    expect(answers.contains(" 0% packet loss"), &answers)?;

    // And from now on it moves.
    lab.crm("resource move public-ip-1 lxc3")?;
    lab.wait_for("the address on lxc3", Duration::from_secs(30), || place() == "lxc3")?;
    lab.wait_idle()?;
    let left = holder.sh("ip -br address")?.stdout;
    expect(!left.contains("198.51.100.101"), &left)
}

#[test]
fn moving_over_from_ipaddr2_and_back() {
    let lab = recipe::in_a_cluster(LabOptions { name: lab_name("over"), ..LabOptions::default() }).unwrap_or_else(|e| panic!("{e}"));
    finish(&lab, steps(&lab));
}
