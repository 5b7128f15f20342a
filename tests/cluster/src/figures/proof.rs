//! The page of the soak: made of the numbers that runs have left. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::page::Page;
use super::{percentile, seconds};
use crate::rejoin::Rejoined;

/// Name of the page's file, and of that of its numbers.
pub const PAGE: &str = "proof";

/// All runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Proof {
    /// One for each server, generation, seed and state of the code.
    pub runs: Vec<Run>,
}

/// A run, which may have been interrupted any number of times.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// What was soaked, as the command line calls it.
    pub server: String,
    /// The generation of the nodes.
    pub image: String,
    /// Of the schedules.
    pub seed: u64,
    /// The parts of the commit that make a difference: a run goes on while they are the same.
    pub code: String,
    /// The commit.
    pub commit: String,
    /// What ran on the nodes.
    pub versions: String,
    /// Where.
    pub machine: String,
    /// The schedule that is next, or begun.
    pub schedule: u64,
    /// Its round that is next.
    pub round: usize,
    /// How often each kind of fault was had.
    pub faults: BTreeMap<String, usize>,
    /// The longest time without an acknowledged write of each round, by the round's name: milliseconds, as on a machine at rest.
    pub outages_ms: BTreeMap<String, Vec<u64>>,
    /// Writes that clients were told are done; of jobs the runs.
    pub acknowledged: usize,
    /// Acknowledged writes that were missing.
    pub lost: usize,
    /// Operations on lists and registers whose history was judged.
    pub operations: usize,
    /// Lists and registers whose history could not be judged in the time: each is among the violations.
    #[serde(default)]
    pub undecided: usize,
    /// How often servers that had what the primary does not have have rejoined.
    /// `None` in a run in which that was not counted.
    #[serde(default)]
    pub rejoined: Option<Rejoined>,
    /// Promises that were broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
}

/// A promise that was broken.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Of the run.
    pub schedule: u64,
    /// Of the schedule, from 1.
    pub round: usize,
    /// What was done.
    pub faults: String,
    /// What the checkers said.
    pub said: String,
    /// What it came from, once somebody has looked into it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
}

/// What a round has shown.
#[derive(Debug, Default)]
pub struct Found {
    /// The kinds of the faults that were had.
    pub faults: Vec<&'static str>,
    /// The longest time without an acknowledged write, milliseconds; none where nobody writes.
    pub outage_ms: Option<u64>,
    /// Acknowledged writes, or runs of jobs.
    pub acknowledged: usize,
    /// Those that were missing.
    pub lost: usize,
    /// Operations whose history was judged.
    pub operations: usize,
    /// Lists and registers whose history could not be judged in the time.
    pub undecided: usize,
    /// How often servers that had what the primary does not have have rejoined.
    pub rejoined: Rejoined,
    /// What the checkers said against it.
    pub violations: Vec<String>,
}

impl Proof {
    /// The run that goes on, begun if there is none: the same server, generation, seed and code.
    pub fn run(&mut self, like: &Run) -> &mut Run {
        let same = |run: &Run| (&run.server, &run.image, run.seed, &run.code) == (&like.server, &like.image, like.seed, &like.code);
        let at = self.runs.iter().position(same).unwrap_or_else(|| {
            self.runs.push(like.clone());
            self.runs.len() - 1
        });
        &mut self.runs[at]
    }
}

impl Run {
    /// How many faults there were.
    #[must_use]
    pub fn total(&self) -> usize {
        self.faults.values().sum()
    }

    /// Adds what a round has shown. After a violation the next schedule begins, on a new cluster.
    pub fn add(&mut self, name: &str, said: &str, found: &Found, rounds: usize) {
        for kind in &found.faults {
            *self.faults.entry((*kind).to_owned()).or_default() += 1;
        }
        if let (Some(outage), false) = (found.outage_ms, found.faults.is_empty()) {
            self.outages_ms.entry(name.to_owned()).or_default().push(outage);
        }
        self.acknowledged += found.acknowledged;
        self.lost += found.lost;
        self.operations += found.operations;
        self.undecided += found.undecided;
        self.rejoined = Some(self.rejoined.unwrap_or_default() + found.rejoined);
        self.round += 1;
        if !found.violations.is_empty() {
            let violation = Violation {
                schedule: self.schedule,
                round: self.round,
                faults: said.to_owned(),
                said: found.violations.join("; "),
                cause: String::new(),
            };
            self.violations.push(violation);
        }
        if self.round >= rounds || !found.violations.is_empty() {
            self.schedule += 1;
            self.round = 0;
        }
    }
}

/// The page.
#[must_use]
pub fn page(proof: &Proof) -> String {
    let mut page = Page { text: format!("# Proof\n\n{WORDS}\n") };
    page.add("\n## What was run");
    page.table(
        &[
            "server",
            "nodes",
            "seed",
            "faults",
            "rounds",
            "acknowledged",
            "lost",
            "operations judged",
            "undecided",
            "taken back",
            "copied",
            "violations",
            "commit",
        ],
        &proof.runs.iter().map(row).collect::<Vec<_>>(),
    );
    for server in servers(proof) {
        let runs: Vec<&Run> = proof.runs.iter().filter(|run| run.server == server).collect();
        page.add(&format!("\n## {server}"));
        for versions in unique(runs.iter().map(|run| run.versions.clone())) {
            page.add(&format!("\n{versions}."));
        }
        for (heads, rows) in
            [(&["round", "rounds", "p50", "p90", "longest"][..], outages(&runs)), (&["fault", "how often"][..], faults(&runs))]
        {
            if !rows.is_empty() {
                page.table(heads, &rows);
            }
        }
    }
    violations(&mut page, proof);
    let machines = unique(proof.runs.iter().map(|run| run.machine.clone()));
    if !machines.is_empty() {
        page.add(&format!("\nMachine: {}.", machines.join("; ")));
    }
    page.text
}

fn row(run: &Run) -> Vec<String> {
    let rounds: usize = run.outages_ms.values().map(Vec::len).sum();
    let rounds = if rounds == 0 { "-".to_owned() } else { rounds.to_string() };
    let of_rejoined = |count: fn(Rejoined) -> usize| run.rejoined.map_or("-".to_owned(), |rejoined| count(rejoined).to_string());
    let numbers = [run.acknowledged, run.lost, run.operations, run.undecided].map(|n| n.to_string());
    let numbers = numbers.into_iter().chain([of_rejoined(|r| r.taken_back), of_rejoined(|r| r.copied), run.violations.len().to_string()]);
    [run.server.clone(), run.image.clone(), run.seed.to_string(), run.total().to_string(), rounds]
        .into_iter()
        .chain(numbers)
        .chain([run.commit.clone()])
        .collect()
}

fn outages(runs: &[&Run]) -> Vec<Vec<String>> {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, outages) in runs.iter().flat_map(|run| &run.outages_ms) {
        all.entry(name).or_default().extend(outages.iter().map(|ms| *ms as f64));
    }
    let of = |(name, outages): (&str, Vec<f64>)| {
        let shares = [0.5, 0.9, 1.0].map(|share| seconds(percentile(&outages, share)));
        [name.to_owned(), outages.len().to_string()].into_iter().chain(shares).collect()
    };
    all.into_iter().map(of).collect()
}

fn faults(runs: &[&Run]) -> Vec<Vec<String>> {
    let mut all: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, count) in runs.iter().flat_map(|run| &run.faults) {
        *all.entry(name).or_default() += count;
    }
    all.into_iter().map(|(name, count)| vec![name.to_owned(), count.to_string()]).collect()
}

fn violations(page: &mut Page, proof: &Proof) {
    page.add("\n## Violations\n");
    let mut none = true;
    for run in &proof.runs {
        for Violation { schedule, round, faults, said, cause } in &run.violations {
            none = false;
            let cause = if cause.is_empty() { "not looked into yet" } else { cause };
            page.add(&format!(
                "- {}, {}, seed {}, schedule {schedule}, round {round} ({faults}): {said}. Cause: {cause}.",
                run.server, run.image, run.seed
            ));
        }
    }
    if none {
        page.add("None.");
    }
}

fn servers(proof: &Proof) -> Vec<String> {
    unique(proof.runs.iter().map(|run| run.server.clone()))
}

fn unique(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for one in all.filter(|one| !one.is_empty()) {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

const WORDS: &str = "\
Random faults in the rehearsal cluster, one at a time, two at once, and a second one during the recovery from the first.
`make soak SERVER=mariadb SEED=1 FAULTS=100 IMAGE=debian13` runs them, goes on where it was interrupted, and writes this
page; the same command with `SCHEDULE=N` repeats one schedule of ten rounds on a new cluster. A schedule is a function of
the seed and its number. In each round there are writers, a prober for each node, and clients that append to lists and
write and read registers. After the faults of a round all is healed, the nodes without power get it back, and the cluster
has to be well by itself: one primary with its address, all others attached to it. Then it is judged:

- no acknowledged write is missing on any node (MySQL and MariaDB: lossless; Redis: confirmed by `WAIT 1`), none is there
  that nobody sent, all nodes hold the same data, and never did two nodes take writes at once: the lab's checker;
- what clients read and were told is linearizable: the tester of [stateright](https://docs.rs/stateright). The lists are
  kept in the form that [Elle](https://github.com/jepsen-io/elle) reads (list-append, target/soak/*.edn), for whoever
  wants a second opinion. A list or register with too many orders to try (undecided), and one that could not be read
  after its last change, count as violations;
- of cron's jobs: none ran on two nodes at once, none twice for a minute, and each minute has its run or is told to have
  none. Their runs stand in the column of the acknowledged writes.

Redis promises that a confirmed write survives the loss of one server of three. So no more than one fault of a round can
cost a server its memory there. MySQL and MariaDB run with `rejoin=rewind-or-clone`: as in the snippet, what nobody was
told of is taken back, and where that would wait for an operator the server gets a copy; the table says how often. A
node without power or cable stays so for 40 to 60 seconds, and a round whose only fault leaves two whole nodes may have
no outage over 30: whoever waits for the lost node does not pass for a slow failover. A power cut loses what was not
synced of the servers' data and of what the agents keep beside them, which are on file systems of their own; the rest of
a node's disk survives in the page cache of the machine. An agent that shall be killed or frozen counts when one was
caught. Faults beside cron's jobs are over the beginning of a minute. Not among the faults: jumps of the clock (the
nodes share that of the machine). A slow disk is a file system that is frozen for 0.2 s, again and again. The outage of
a round is the longest time without an acknowledged write of any writer, in the time of a machine at rest
([0023](decisions/0023-limits-count-the-time-of-a-machine-at-rest.md)); it includes the time for which the fault itself
stops all writes, as when the power of all nodes is cut. A row with - in the place of how often was run before these
rules: with `rejoin=clone`, shorter losses of power or cable, which took nothing that was not synced, and no bound.";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use super::super::compare;
    use super::*;

    #[test]
    fn the_page_is_what_the_numbers_say() {
        let text = std::fs::read_to_string(super::super::repository("docs/proof.json")).unwrap();
        compare("docs/proof.md", &page(&serde_json::from_str(&text).unwrap()));
    }

    fn found(outage_ms: u64, violations: &[&str]) -> Found {
        let violations = violations.iter().map(|said| (*said).to_owned()).collect();
        Found {
            faults: vec!["power cut"],
            outage_ms: Some(outage_ms),
            acknowledged: 100,
            operations: 10,
            rejoined: Rejoined { taken_back: 1, copied: 2 },
            violations,
            ..Found::default()
        }
    }

    #[test]
    fn a_run_goes_on_where_it_was_and_after_a_violation_with_the_next_schedule() {
        let mut proof = Proof::default();
        let like = Run { server: "redis".into(), code: "a".into(), ..Run::default() };
        for outage in [500, 700] {
            proof.run(&like).add("power cut", "power cut (primary)", &found(outage, &[]), 10);
        }
        assert_eq!((proof.runs[0].schedule, proof.runs[0].round, proof.runs[0].total()), (0, 2, 2));
        proof.run(&like).add("power cut", "power cut (primary)", &found(900, &["L VIOLATED: gone"]), 10);
        assert_eq!((proof.runs[0].schedule, proof.runs[0].round), (1, 0));
        (0..10).for_each(|_| proof.run(&like).add("power cut", "power cut", &found(500, &[]), 10));
        assert_eq!((proof.runs[0].schedule, proof.runs[0].round), (2, 0));
        // Other code proves itself anew.
        proof.run(&Run { code: "b".into(), ..like }).add("power cut", "power cut", &found(500, &[]), 10);
        assert_eq!(proof.runs.len(), 2);
        let text = page(&proof);
        for line in [
            "| redis |  | 0 | 13 | 13 | 1300 | 0 | 130 | 0 | 13 | 26 | 1 |  |",
            "| power cut | 14 | 0.50 s | 0.70 s | 0.90 s |",
            "- redis, , seed 0, schedule 0, round 3 (power cut (primary)): L VIOLATED: gone. Cause: not looked into yet.",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_round_without_its_fault_counts_for_nothing() {
        let mut run = Run::default();
        run.add("power cut", "power cut", &Found { outage_ms: Some(1), ..Found::default() }, 10);
        assert_eq!((run.total(), run.outages_ms.len()), (0, 0));
    }
}
