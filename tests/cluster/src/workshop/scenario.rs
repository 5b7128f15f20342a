//! The site as a scenario: brought up by its page, drilled, judged.

use lab::{LabOptions, Result};

use super::{Drills, Kind, Workshop};
use crate::{keep_logs, lab_name};

/// Far above the figures, so that a machine that is busy with something else fails no test.
fn longest_ms(kind: Kind) -> f64 {
    match kind {
        Kind::Crash | Kind::Planned => 5_000.0,
        Kind::PowerCut => 15_000.0,
    }
}

/// Three empty servers become the site by `up`; `steps` lets visitors come, who write at least so many articles, and does something.
/// Nothing that they were told may get lost, no outage be long, no job run twice or be lost.
///
/// # Panics
/// When it fails: this is for tests.
#[allow(clippy::panic, reason = "a test says what it saw by panicking")]
pub fn scenario(
    name: &str,
    up: impl FnOnce(LabOptions) -> Result<Workshop>,
    at_least: usize,
    steps: impl FnOnce(&Workshop) -> Result<Drills<'_>>,
) {
    let options = LabOptions { name: lab_name(name), ..LabOptions::default() };
    let site = up(options).unwrap_or_else(|e| panic!("{e}"));
    let run = || {
        let verdict = steps(&site)?.end()?;
        println!("{}\n{}", verdict.table(), site.jobs_verdict()?);
        Ok::<_, lab::Error>(verdict)
    };
    let verdict = run().unwrap_or_else(|e| panic!("{e}\nlogs: {}", keep_logs(&site.lab)));
    for (database, report) in &verdict.reports {
        println!("{database}\n{report}");
    }
    let slow: Vec<_> = verdict.drills.iter().filter(|drill| drill.tally.writing_counted_ms > longest_ms(drill.kind)).collect();
    assert!(verdict.kept() && slow.is_empty(), "{slow:?}\nlogs: {}", keep_logs(&site.lab));
    let articles: usize = verdict.drills.iter().map(|drill| drill.tally.articles).sum();
    assert!(articles > at_least, "only {articles} articles were written: nothing was tested");
}
