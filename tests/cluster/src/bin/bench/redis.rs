//! Redis: beside ocf:heartbeat:redis.

use cluster_scenarios::{Agent, Durability, Setup, Site};
use lab::Result;

use crate::fault::{Bed, crash, planned_move};
use crate::page::{self, Page};
use crate::{Options, Results, cost};

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut results = Vec::new();
    for (agent, name) in [(Agent::Systole, "ocf:systole:redis"), (Agent::Stock, "ocf:heartbeat:redis")] {
        if options.wants(name) {
            results.push(measure(agent, name, options)?);
        }
    }
    let mut page = Page::new(
        "Benchmarks: Redis",
        &format!(
            "Written by `make bench-redis RUNS={}` and not by hand. Both agents ran in the same rehearsal cluster (three nodes on one machine), \
             with the same snippet (monitor intervals 10 s and 11 s), the same load (4 writers, a pause of 1 ms after each write) and the \
             distribution's server settings; the raw numbers are in benchmarks.json.",
            options.runs
        ),
        &results,
    );
    page.monitors(&results, options.monitors);
    page.faults(&results);
    page.write(options, "benchmarks", &results)
}

fn measure(agent: Agent, name: &str, options: &Options) -> Result<Results> {
    let layer = cost::layer()?;
    let up = |durability| Site::with(&options.lab, Setup { agent, durability, layer: Some(layer.clone()), ..Setup::default() });
    let bed = Bed::new(name, || up(Durability::Async), Site::wait_settled_within)?;
    let monitor = cost::monitors(bed.site(), agent, name, options)?;
    let versions = page::versions(&bed.site().primary()?, "redis-server")?;
    let mut results = Results { agent: name.to_owned(), versions, monitor: Some(monitor), faults: Vec::new() };
    let bed = bed.run(results.series("kill -9 of the primary, plain acknowledgements"), options.runs, crash)?;
    let bed = bed.run(results.series("planned move, plain acknowledgements"), options.runs, planned_move)?;
    drop(bed);
    if agent == Agent::Systole {
        let bed = Bed::new(name, || up(Durability::Quorum), Site::wait_settled_within)?;
        bed.run(results.series("kill -9 of the primary, durability=quorum, WAIT 1"), options.runs, crash)?;
    }
    Ok(results)
}
