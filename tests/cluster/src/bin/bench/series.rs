//! The agents in turns, each with its faults: what Redis' and MySQL's benchmarks have in common.

use cluster_scenarios::figures::{BUSY, CRASH, MOVE};
use cluster_scenarios::{Server, Site, stub};
use lab::Result;

use crate::busy::Loop;
use crate::fault::{Bed, crash, planned_move};
use crate::page::{self, Book};
use crate::{Options, cost};

/// The agents take turns of so many runs: hours differ, and an interrupted benchmark has as many of each.
const TURN: usize = 10;

/// How many runs of each series there are after each turn.
pub(crate) fn turns(runs: usize) -> impl Iterator<Item = usize> {
    (1..=runs.div_ceil(TURN)).map(move |turn| (turn * TURN).min(runs))
}

/// A series: what is done, what stands behind its name, whether a core is kept busy meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) fault: &'static str,
    pub(crate) with: &'static str,
    pub(crate) busy: bool,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        format!("{}{}{}", self.fault, self.with, if self.busy { BUSY } else { "" })
    }
}

/// Crash and move.
pub(crate) const fn both(with: &'static str) -> [Kind; 2] {
    [Kind { fault: CRASH, with, busy: false }, Kind { fault: MOVE, with, busy: false }]
}

/// The same beside something that keeps a core busy.
pub(crate) const BUSY_TOO: [Kind; 2] = [Kind { fault: CRASH, with: "", busy: true }, Kind { fault: MOVE, with: "", busy: true }];

/// The series of an agent that are wanted and not complete yet.
pub(crate) fn left(book: &mut Book<'_>, label: &str, kinds: &[Kind], runs: usize, options: &Options) -> Vec<Kind> {
    let wanted = |kind: &Kind| options.wants(&format!("{label}, {}", kind.name()));
    let results = book.numbers.of(label);
    kinds.iter().copied().filter(|kind| wanted(kind) && !results.series(&kind.name()).is_complete(runs)).collect()
}

/// These faults until there are so many of each; written after each series.
pub(crate) fn run(mut bed: Bed<'_>, book: &mut Book<'_>, label: &str, kinds: &[Kind], runs: usize) -> Result<()> {
    for kind in kinds {
        let beside = kind.busy.then(Loop::start);
        let fault: fn(&Site) -> Result<()> = if kind.fault == CRASH { crash } else { planned_move };
        bed = bed.run(book.numbers.of(label).series(&kind.name()), runs, fault)?;
        drop(beside);
        book.keep()?;
    }
    Ok(())
}

/// An agent that does nothing, in the place of this one's snippet.
pub(crate) fn floor(server: Server, label: &str, kinds: &[Kind], book: &mut Book<'_>, runs: usize, options: &Options) -> Result<()> {
    let kinds = left(book, label, kinds, runs, options);
    if kinds.is_empty() {
        return Ok(());
    }
    let layer = cost::layer()?;
    let make = || {
        let setup = cluster_scenarios::Setup { server, layer: Some(layer.clone()), ..cluster_scenarios::Setup::default() };
        Site::with(&options.lab, setup)
    };
    let bed = Bed::new(label, make, Site::wait_settled_within)?;
    if book.numbers.of(label).versions.is_empty() {
        let monitor = cost::monitors(bed.site(), cluster_scenarios::Agent::Systole, stub::AGENT, options)?;
        let versions = page::versions(&bed.site().primary()?, "")?;
        let results = book.numbers.of(label);
        (results.monitor, results.versions) = (Some(monitor), versions);
    }
    run(bed, book, label, &kinds, runs)
}
