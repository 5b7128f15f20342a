//! What came of the drills, in words and tables.

use std::fmt::Write as _;

use lab::{Journal, Report};

use super::{Kind, Outcome};

/// Articles come every 167 ms or so. A time without one that is shorter than this is no outage.
pub const BETWEEN_ARTICLES_US: u64 = 500_000;

/// What came of it.
pub struct Verdict {
    /// Each drill, in order.
    pub drills: Vec<Outcome>,
    /// What the visitors saw.
    pub journal: Journal,
    /// The checker's verdict on the writers that went past the site.
    pub reports: Vec<(&'static str, Report)>,
}

impl Verdict {
    /// Whether no article that was acknowledged is missing anywhere, and the checker has nothing to complain of. How long
    /// anything took is no part of it.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.drills.iter().all(|drill| drill.tally.lost == 0) && self.reports.iter().all(|(_, report)| report.kept())
    }

    /// The heads of the table.
    pub const HEADS: [&'static str; 9] =
        ["drill", "where", "no article for", "no reading for", "no session for", "requests", "failed", "articles", "lost"];

    /// A row for each drill.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |Outcome { drill, place, tally, .. }: &Outcome| {
            let lost = if tally.doubled > 0 { format!("{} ({} twice)", tally.lost, tally.doubled) } else { tally.lost.to_string() };
            vec![
                drill.clone(),
                place.clone(),
                seconds(tally.writing_ms),
                seconds(tally.reading_ms),
                seconds(tally.session_ms),
                tally.requests.to_string(),
                tally.failed.to_string(),
                tally.articles.to_string(),
                lost,
            ]
        };
        self.drills.iter().map(row).collect()
    }

    /// The table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let rows: Vec<Vec<String>> = std::iter::once(Self::HEADS.map(str::to_owned).to_vec()).chain(self.rows()).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for row in &rows {
            let cells: Vec<String> = row.iter().enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column))).collect();
            let _ = writeln!(text, "{}", cells.join("  ").trim_end());
        }
        let (articles, lost) = self.articles();
        let forgotten: usize = self.drills.iter().map(|d| d.tally.forgotten).sum();
        let _ = writeln!(
            text,
            "Of {articles} articles that visitors were told are published, {lost} are missing on some node. {forgotten} requests came with a session that had forgotten something."
        );
        text
    }

    /// All of it on one screen, for somebody who has never seen this: what happened, what was lost, what it cost. `jobs`: the
    /// sentence on the cron jobs, or what was wrong with them.
    #[must_use]
    pub fn screen(&self, jobs: &Result<String, String>) -> String {
        let mut text = String::from("WHAT HAPPENED, AND WHAT IT COST                         nobody could publish   nobody could read\n");
        for Outcome { drill, place, tally, .. } in &self.drills {
            let what = format!("{drill} ({place})");
            let _ = writeln!(text, "  {what:<52}  {:>20}   {:>17}", pause(tally.writing_ms), pause(tally.reading_ms));
        }
        let (articles, lost) = self.articles();
        text.push_str("\nWHAT WAS LOST\n");
        let missing = |n: usize| if n == 0 { "none is missing".to_owned() } else { format!("{n} ARE MISSING") };
        let _ = writeln!(text, "  of {articles} articles that visitors were told are published, {} on any node", missing(lost));
        for (database, report) in &self.reports {
            let name = if *database == "redis" { "Redis" } else { "MySQL" };
            let acknowledged = report.acknowledged;
            let _ = writeln!(text, "  of {acknowledged} writes that {name} acknowledged besides, {} on any node", missing(report.missing));
        }
        let (Ok(sentence) | Err(sentence)) = jobs;
        let _ = writeln!(text, "  {}", sentence.split(": ").next().unwrap_or_default());
        text.push_str("\nPROMISES                                                                 MySQL      Redis\n");
        for (letter, promise) in PROMISES {
            let verdict = |wanted: &str| {
                let report = self.reports.iter().find(|(database, _)| *database == wanted);
                report.and_then(|(_, report)| report.of(letter)).map_or("-", |v| if v.kept { "kept" } else { "VIOLATED" })
            };
            let _ = writeln!(text, "  {letter}  {promise:<66}  {:<9}  {}", verdict("mysql"), verdict("redis"));
        }
        for (database, report) in &self.reports {
            for verdict in report.verdicts.iter().filter(|v| !v.kept) {
                let _ = writeln!(text, "  {database}: {verdict}");
            }
        }
        text
    }

    /// How many articles were acknowledged, and how many of them some node lacks.
    fn articles(&self) -> (usize, usize) {
        self.drills.iter().fold((0, 0), |(all, lost), drill| (all + drill.tally.articles, lost + drill.tally.lost))
    }

    /// The longest times without an article of the drills of a kind, milliseconds.
    #[must_use]
    pub fn outages(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<f64> {
        self.drills.iter().filter(|drill| wanted(drill)).map(|drill| drill.tally.writing_ms).collect()
    }

    /// Outages of a kind of drill.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> Vec<f64> {
        self.outages(|drill| drill.kind == kind)
    }
}

/// What each letter of the checker says, for somebody who reads it for the first time.
const PROMISES: [(char, &str); 5] = [
    ('L', "lost: no write that was acknowledged is missing on any node"),
    ('W', "writers: never did two servers take writes at the same time"),
    ('C', "converged: all nodes hold the same data at the end"),
    ('E', "errant: nothing is there that was refused or never written"),
    ('T', "time: after each fault writes went on"),
];

/// A time without something, for a reader. Articles and readings come some six times a second.
fn pause(milliseconds: f64) -> String {
    if milliseconds * 1000.0 < BETWEEN_ARTICLES_US as f64 { "not noticed".to_owned() } else { format!("for {}", seconds(milliseconds)) }
}

/// A time for a reader.
fn seconds(milliseconds: f64) -> String {
    if milliseconds.is_finite() { format!("{:.2} s", milliseconds / 1000.0) } else { "all the time".to_owned() }
}

#[cfg(test)]
mod tests {
    use lab::check::Verdict as Letter;

    use super::*;
    use crate::workshop::Tally;

    fn verdict(lost: usize, kept: bool) -> Verdict {
        let tally = Tally { writing_ms: 1_040.0, reading_ms: 210.0, articles: 120, lost, ..Tally::default() };
        let drill = Outcome { drill: "the primary of mysql: kill -9".into(), kind: Kind::Crash, place: "lxc1".into(), span: (0, 1), tally };
        let letters = ['L', 'W', 'C', 'E', 'T'].map(|letter| Letter { letter, kept: kept || letter != 'C', text: "words".into() });
        let report = Report { verdicts: letters.into(), acknowledged: 4_512, ..Report::default() };
        Verdict { drills: vec![drill], journal: Journal::default(), reports: vec![("mysql", report.clone()), ("redis", report)] }
    }

    #[test]
    fn one_screen_says_what_happened_what_was_lost_and_what_it_cost() {
        let text = verdict(0, true).screen(&Ok("The cron job of every minute has run 5 times: 10:01 UTC on lxc1".into()));
        for words in [
            "the primary of mysql: kill -9 (lxc1)",
            "for 1.04 s",
            "not noticed",
            "of 120 articles that visitors were told are published, none is missing on any node",
            "of 4512 writes that MySQL acknowledged besides, none is missing",
            "The cron job of every minute has run 5 times\n",
            "L  lost: no write",
        ] {
            assert!(text.contains(words), "{words:?}: {text}");
        }
        assert!(!text.contains("VIOLATED") && text.lines().count() <= 24 && text.lines().all(|line| line.len() <= 110), "{text}");
    }

    #[test]
    fn what_was_violated_stands_on_the_screen() {
        let text = verdict(2, false).screen(&Err("the job has run twice for [10:01 UTC]".into()));
        for words in ["2 ARE MISSING on any node", "VIOLATED   VIOLATED", "mysql: C VIOLATED: words", "run twice for [10:01 UTC]"] {
            assert!(text.contains(words), "{words:?}: {text}");
        }
    }
}
