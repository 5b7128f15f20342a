//! Redis: beside ocf:heartbeat:redis and the floor.

use cluster_scenarios::figures::{CRASH, FLOOR, REDIS};
use cluster_scenarios::{Agent, Durability, Setup, Site, stub};
use lab::Result;

use crate::fault::Bed;
use crate::page::{self, Book};
use crate::series::{self, BUSY_TOO, Kind};
use crate::{Options, cost};

const PLAIN: &str = ", plain acknowledgements";
const CONFIRMED: Kind = Kind { fault: CRASH, with: ", durability=quorum, WAIT 1", busy: false };

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut book = Book::open(&REDIS, options, "agents/redis")?;
    let plain = series::both(PLAIN);
    let ours: Vec<Kind> = [plain, BUSY_TOO].concat();
    for runs in series::turns(options.runs) {
        measure(Agent::Systole, Durability::Async, &ours, &mut book, runs, options)?;
        measure(Agent::Systole, Durability::Quorum, &[CONFIRMED], &mut book, runs, options)?;
        measure(Agent::Stock, Durability::Async, &plain, &mut book, options.of_stock(runs), options)?;
        series::floor(stub::IN_PLACE_OF_REDIS, FLOOR, &[series::both(""), BUSY_TOO].concat(), &mut book, runs, options)?;
    }
    book.close()
}

fn measure(agent: Agent, durability: Durability, kinds: &[Kind], book: &mut Book<'_>, runs: usize, options: &Options) -> Result<()> {
    let name = if agent == Agent::Systole { REDIS.ours } else { REDIS.stock[0] };
    let kinds = series::left(book, name, kinds, runs, options);
    if kinds.is_empty() {
        return Ok(());
    }
    let layer = cost::layer()?;
    let make = || Site::with(&options.lab, Setup { agent, durability, layer: Some(layer.clone()), ..Setup::default() });
    let bed = Bed::new(name, make, Site::wait_settled_within)?;
    if book.numbers.of(name).versions.is_empty() {
        let monitor = cost::monitors(bed.site(), agent, name, options)?;
        let versions = page::versions(&bed.site().primary()?, "redis-server")?;
        let results = book.numbers.of(name);
        (results.monitor, results.versions) = (Some(monitor), versions);
    }
    series::run(bed, book, name, &kinds, runs)
}
