//! The figures of primaries that were lost under load and rejoined: by taking back what only they had, and by a copy of the data.

use serde::{Deserialize, Serialize};

use super::page::Page;
use super::{Results, percentile, seconds, times};

/// Name of the page's file, and of that of its numbers.
pub const PAGE: &str = "benchmarks-rewind";
/// How the tables call the way that takes back.
pub const REWIND: &str = "rewind-or-clone";
/// The one beside it.
pub const CLONE: &str = "clone";
/// How much data a server has, MB.
pub const DATA: [u64; 2] = [10, 2048];

/// A primary that was lost and came back.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Return {
    /// Whether it had transactions that nobody else has.
    pub diverged: bool,
    /// How many of them it has taken back.
    pub taken_back: usize,
    /// Whether its data were replaced by a copy.
    pub copied: bool,
    /// From the node's return, or the kill, until a primary takes writes and both others acknowledge. Milliseconds; none if that never came.
    pub back_ms: Option<f64>,
    /// Writes that clients were told are done.
    pub acknowledged: usize,
    /// Acknowledged writes that a server does not have in the end, of the server that lacks the most.
    pub lost: usize,
    /// Whether two servers took writes at once.
    pub two_writers: bool,
    /// Whether all servers hold the same: the same writes at the same position, and the same checksum of every table.
    pub equal: bool,
    /// What went wrong, in words.
    pub problems: Vec<String>,
}

impl Return {
    fn rewound(&self) -> bool {
        self.taken_back > 0 && !self.copied
    }

    fn back(&self) -> f64 {
        self.back_ms.unwrap_or(f64::INFINITY)
    }
}

/// The same again and again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Series {
    /// The server, as the tables call it.
    pub server: String,
    /// How the primary was lost.
    pub loss: String,
    /// How much data it had, MB.
    pub megabytes: u64,
    /// The parameter `rejoin`.
    pub rejoin: String,
    /// One after the other.
    pub returns: Vec<Return>,
}

impl Series {
    /// In one line, as it is looked for.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}, {}, {} MB, {}", self.server, self.loss, self.megabytes, self.rejoin)
    }

    fn count(&self, wanted: impl Fn(&Return) -> bool) -> usize {
        self.returns.iter().filter(|r| wanted(r)).count()
    }

    fn backs(&self, wanted: impl Fn(&Return) -> bool) -> Vec<f64> {
        self.returns.iter().filter(|r| wanted(r)).map(Return::back).collect()
    }
}

/// Everything that the page is made of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Numbers {
    /// Where it was measured.
    pub machine: String,
    /// Of what.
    pub commit: String,
    /// The parts of that commit which are measured.
    pub code: String,
    /// How many of each.
    pub runs: usize,
    /// What ran on the nodes, of each server.
    pub versions: Vec<String>,
    /// The series.
    pub series: Vec<Series>,
}

impl Numbers {
    /// The series that is like this one, begun if there is none.
    pub fn series(&mut self, like: &Series) -> &mut Series {
        let at = self.series.iter().position(|s| s.name() == like.name()).unwrap_or_else(|| {
            self.series.push(Series { returns: vec![], ..like.clone() });
            self.series.len() - 1
        });
        &mut self.series[at]
    }
}

/// The page.
#[must_use]
pub fn page(numbers: &Numbers) -> String {
    let nodes: Vec<Results> =
        numbers.versions.iter().map(|versions| Results { versions: versions.clone(), ..Results::default() }).collect();
    let mut page = Page::new("Benchmarks: a primary that returns", &words(numbers.runs), &numbers.machine, &numbers.commit, &nodes);
    returns(&mut page, &numbers.series);
    growth(&mut page, &numbers.series);
    problems(&mut page, &numbers.series);
    page.text
}

fn words(runs: usize) -> String {
    format!(
        "Written by `make bench-rewind RUNS={runs}` and not by hand. Three nodes on one machine, 8 writers with a pause of 1 ms after each write, \
         the snippet mysql.crm and the option files that go with it (durability=lossless). The primary is lost, and comes back: by `kill -9` of its \
         server, or by a power cut of its node whose network was cut 0.25 s before, so that its log ends with commits that nobody received. The \
         power comes back as soon as the node is fenced. `rejoin` takes turns from one loss to the next in the same cluster. The raw numbers are \
         in {PAGE}.json."
    )
}

fn returns(page: &mut Page, series: &[Series]) {
    page.add(
        "\n## Until three acknowledge again\n\nFrom the return of the node's power, or the kill, until a primary takes writes and both others \
         acknowledge them: p50 and the worst, of all, and of those that had diverged. Diverged: the old primary had transactions that nobody else \
         has. Rewound: it took them back, and needed no copy. Lost: acknowledged, and not on every server in the end. Equal: the same position, and \
         the same checksum of every table on all three.",
    );
    let row = |s: &Series| {
        let both = |values: Vec<f64>| match values.is_empty() {
            true => "-".to_owned(),
            false => format!("{} / {}", shown(percentile(&values, 0.5)), shown(percentile(&values, 1.0))),
        };
        let all = s.returns.len();
        vec![
            s.server.clone(),
            s.loss.clone(),
            format!("{} MB", s.megabytes),
            s.rejoin.clone(),
            all.to_string(),
            s.count(|r| r.diverged).to_string(),
            s.count(Return::rewound).to_string(),
            s.count(|r| r.copied).to_string(),
            both(s.backs(|_| true)),
            both(s.backs(|r| r.diverged)),
            format!("{} of {}", s.returns.iter().map(|r| r.lost).sum::<usize>(), s.returns.iter().map(|r| r.acknowledged).sum::<usize>()),
            s.count(|r| r.two_writers).to_string(),
            format!("{} of {all}", s.count(|r| r.equal)),
        ]
    };
    let heads = [
        "server",
        "loss",
        "data",
        "rejoin",
        "runs",
        "diverged",
        "rewound",
        "copied",
        "all back, p50 / worst",
        "diverged and back, p50 / worst",
        "writes lost",
        "runs with two writers",
        "equal",
    ];
    page.table(&heads, &series.iter().filter(|s| !s.returns.is_empty()).map(row).collect::<Vec<_>>());
}

/// What more data cost.
fn growth(page: &mut Page, series: &[Series]) {
    let [few, many] = DATA;
    let median = |like: &Series, megabytes: u64| {
        let same = Series { megabytes, returns: vec![], ..like.clone() }.name();
        let found = series.iter().find(|s| s.name() == same)?;
        let backs = found.backs(|r| r.diverged);
        (!backs.is_empty()).then(|| percentile(&backs, 0.5))
    };
    let row = |s: &Series| {
        let (little, much) = (median(s, few)?, median(s, many)?);
        let rejoin = s.rejoin.clone();
        Some(vec![s.server.clone(), s.loss.clone(), rejoin, shown(little), shown(much), times(much, little)])
    };
    let rows: Vec<Vec<String>> = series.iter().filter(|s| s.megabytes == few).filter_map(row).collect();
    if rows.is_empty() {
        return;
    }
    page.add("\n## With the data\n\nOf those that had diverged, p50.");
    let (little, much) = (format!("{few} MB"), format!("{many} MB"));
    page.table(&["server", "loss", "rejoin", &little, &much, "times"], &rows);
}

fn problems(page: &mut Page, series: &[Series]) {
    let told = series.iter().flat_map(|s| s.returns.iter().flat_map(|r| &r.problems).map(|problem| (s.name(), problem)));
    let lines: Vec<String> = told.map(|(name, problem)| format!("- {name}: {}", problem.lines().next().unwrap_or_default())).collect();
    if !lines.is_empty() {
        page.add(&format!("\n## What went wrong\n\n{}", lines.join("\n")));
    }
}

fn shown(milliseconds: f64) -> String {
    if milliseconds.is_infinite() { "never".to_owned() } else { seconds(milliseconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(back_ms: f64, taken_back: usize, copied: bool) -> Return {
        let diverged = taken_back > 0 || copied;
        Return { diverged, taken_back, copied, back_ms: Some(back_ms), acknowledged: 1000, equal: true, ..Return::default() }
    }

    fn series(megabytes: u64, rejoin: &str, returns: Vec<Return>) -> Series {
        Series { server: "MariaDB".into(), loss: "network cut, power cut".into(), megabytes, rejoin: rejoin.into(), returns }
    }

    #[test]
    fn those_that_had_diverged_stand_beside_all() {
        let of = |megabytes, rejoin: &str, returns| series(megabytes, rejoin, returns);
        let never = Return { diverged: true, acknowledged: 10, problems: vec!["it hangs\nmore".into()], ..Return::default() };
        let all = vec![
            of(10, REWIND, vec![back(4000.0, 3, false), back(6000.0, 1, false), back(2000.0, 0, false)]),
            of(2048, REWIND, vec![back(6100.0, 2, false)]),
            of(10, CLONE, vec![back(9000.0, 0, true), never]),
        ];
        let numbers = Numbers { runs: 3, series: all, ..Numbers::default() };
        let text = page(&numbers);
        for line in [
            "| MariaDB | network cut, power cut | 10 MB | rewind-or-clone | 3 | 2 | 2 | 0 | 4.00 s / 6.00 s | 4.00 s / 6.00 s | 0 of 3000 | 0 | 3 of 3 |",
            "| MariaDB | network cut, power cut | 10 MB | clone | 2 | 2 | 0 | 1 | 9.00 s / never | 9.00 s / never | 0 of 1010 | 0 | 1 of 2 |",
            "| MariaDB | network cut, power cut | rewind-or-clone | 4.00 s | 6.10 s | 1.5 |",
            "- MariaDB, network cut, power cut, 10 MB, clone: it hangs\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_series_is_found_by_what_was_done() {
        let mut numbers = Numbers::default();
        for megabytes in [10, 2048, 10] {
            numbers.series(&series(megabytes, CLONE, vec![])).returns.push(back(1.0, 0, false));
        }
        assert_eq!(numbers.series.iter().map(|s| s.returns.len()).collect::<Vec<_>>(), [2, 1]);
    }
}
