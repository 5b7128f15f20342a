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
        let (articles, lost) = self.drills.iter().fold((0, 0), |(all, lost), d| (all + d.tally.articles, lost + d.tally.lost));
        let forgotten: usize = self.drills.iter().map(|d| d.tally.forgotten).sum();
        let _ = writeln!(
            text,
            "Of {articles} articles that visitors were told are published, {lost} are missing on some node. {forgotten} requests came with a session that had forgotten something."
        );
        text
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

/// A time for a reader.
fn seconds(milliseconds: f64) -> String {
    if milliseconds.is_finite() { format!("{:.2} s", milliseconds / 1000.0) } else { "all the time".to_owned() }
}
