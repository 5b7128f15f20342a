//! The addresses: what start, monitor and stop take beside ocf:heartbeat:IPaddr2, and what a client sees of them. In a container, by the
//! program `measure-address`.

use std::collections::BTreeMap;

use cluster_scenarios::figures::{Results, percentile};
use cluster_scenarios::package;
use lab::{Bind, Error, Result, SandboxOptions, image, package_layers, sandbox};

use crate::{Options, page};

const OURS: &str = "ocf:systole:address";

/// Of each agent: what was measured, and its numbers.
type Numbers = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

/// What is measured, in the order of the page; whether it is a number of processes.
const ROWS: [(&str, bool); 9] = [
    ("start: until the address answers", false),
    ("start: until the agent has answered", false),
    ("start: processes", true),
    ("monitor", false),
    ("monitor: processes", true),
    ("stop", false),
    ("stop: processes", true),
    ("stop: until a client with an open connection is told", false),
    ("clients told", true),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    let io = |e: std::io::Error| Error::Refused(format!("the measuring program: {e}; run this by `make bench-address`"));
    let directory = std::env::temp_dir().join(format!("systole-bench-address-{}", std::process::id()));
    std::fs::create_dir_all(&directory).map_err(io)?;
    let program = std::env::current_exe().map_err(io)?.with_file_name("measure-address");
    std::fs::copy(program, directory.join("measure-address")).map_err(io)?;
    let script = format!(
        "dpkg-query -W -f '${{Package}} ${{Version}}, ' resource-agents iproute2 > /bench/versions; \
         . /etc/os-release; echo \"$PRETTY_NAME\" >> /bench/versions; exec /bench/measure-address {} /bench/numbers",
        options.runs
    );
    let words = ["sh", "-ec", &script].map(str::to_owned);
    let container = SandboxOptions {
        layers: package_layers(&image::usual(), &[package()?], &[])?,
        image: image::usual(),
        binds: vec![Bind { source: directory.clone(), target: "/bench".into() }],
        env: vec![],
        chdir: None,
    };
    let code = sandbox(&container, &words)?;
    if code != 0 {
        return Err(Error::Refused(format!("measure-address ended with {code}")));
    }
    let read = |file: &str| std::fs::read_to_string(directory.join(file)).map_err(io);
    let numbers: Numbers = serde_json::from_str(&read("numbers")?).map_err(|e| Error::Refused(e.to_string()))?;
    let versions = read("versions")?.trim().to_owned();
    std::fs::remove_dir_all(&directory).map_err(io)?;
    write(options, &numbers, versions)
}

fn write(options: &Options, numbers: &Numbers, versions: String) -> Result<()> {
    let results = [Results { agent: OURS.to_owned(), versions, ..Results::default() }];
    let mut page = page::begin(
        "Benchmarks: addresses",
        "Written by `make bench-address` and not by hand, in a container with a node, a client and a cable between them. Both agents in turn, \
         with `ip` and `cidr_netmask` and nothing else said. The address answers when the client, which asks every 0.2 ms and knows the \
         hardware address, has its first echo. An agent has answered when it has ended; what it leaves in the background (IPaddr2 sends \
         its packets of ARP from there, for a second) is not waited for. The raw numbers are in benchmarks-address.json.",
        &results,
    );
    page.add(&format!(
        "\n## Start, monitor and stop of an IPv4 address\n\n{} runs each, five monitors in each run. Processes: the lowest count (other \
         processes on the machine start some too); of ours a start and a stop have two, of which one keeps nobody waiting: it \
         announces the address again, or passes on attempts to connect. A client with an open connection was watched for 3 s.",
        options.runs
    ));
    let agents: Vec<(&String, &BTreeMap<String, Vec<f64>>)> = numbers.iter().rev().collect();
    let mut heads = vec!["what"];
    let columns: Vec<String> = agents.iter().map(|(name, _)| format!("{name}, p50 / worst")).collect();
    heads.extend(columns.iter().map(String::as_str));
    let cell = |what: &str, counts: bool, of: &BTreeMap<String, Vec<f64>>| match of.get(what) {
        _ if what == "clients told" => {
            let told = of.get("stop: until a client with an open connection is told").map_or(0, Vec::len);
            format!("{told} of {}", options.runs)
        }
        None => "never".to_owned(),
        Some(values) if counts => format!("{:.0}", percentile(values, 0.0)),
        Some(values) => format!("{:.1} ms / {:.1} ms", percentile(values, 0.5), percentile(values, 1.0)),
    };
    let rows: Vec<Vec<String>> = ROWS
        .iter()
        .map(|(what, counts)| std::iter::once((*what).to_owned()).chain(agents.iter().map(|(_, of)| cell(what, *counts, of))).collect())
        .collect();
    page.table(&heads, &rows);
    page::write(&page, options, "benchmarks-address", numbers)
}
