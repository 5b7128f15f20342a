//! `systole history`: what the nodes remember of promotions, put together. Pure.

use std::collections::{BTreeMap, BTreeSet};

use promotable::history::{Kind, Part, Promotion};
use serde_json::{Value, json};

use crate::table::{Table, shortened};

/// Views of two nodes are of one promotion when their clocks are no further apart. Seconds.
const APART: u64 = 6 * 3600;
/// How wide a reason may be for people; the other formats have all of it.
const REASON_WIDTH: usize = 110;

/// A promotion, and who remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// What all of them know of it.
    pub promotion: Promotion,
    /// Who does.
    pub nodes: BTreeSet<String>,
}

/// What the nodes remember of a database's promotions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The promotions, the oldest first.
    pub promotions: Vec<Remembered>,
    /// The nodes that did not say what they remember, and why.
    pub unanswered: BTreeMap<String, String>,
}

impl History {
    /// Puts together what the nodes have said: a JSON object a line.
    #[must_use]
    pub fn of(answers: &BTreeMap<String, Result<String, String>>) -> Self {
        let mut history = Self::default();
        for (node, answer) in answers {
            match answer {
                Err(why) => drop(history.unanswered.insert(node.clone(), why.clone())),
                Ok(text) => {
                    text.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|seen| history.add(node, seen));
                }
            }
        }
        history.promotions.sort_by_key(|remembered| (remembered.promotion.at, remembered.promotion.epoch));
        history
    }

    fn add(&mut self, node: &str, seen: Promotion) {
        if seen.to.is_empty() {
            return;
        }
        let same = |known: &Promotion| known.epoch == seen.epoch && known.to == seen.to && known.at.abs_diff(seen.at) <= APART;
        match self.promotions.iter_mut().find(|known| same(&known.promotion)) {
            None => self.promotions.push(Remembered { promotion: seen, nodes: BTreeSet::from([node.to_owned()]) }),
            Some(known) => {
                join(&mut known.promotion, seen, node);
                known.nodes.insert(node.to_owned());
            }
        }
    }

    /// The one with this epoch, the latest of several; without an epoch the last one.
    #[must_use]
    pub fn find(&self, epoch: Option<u64>) -> Option<&Promotion> {
        self.promotions.iter().rev().map(|remembered| &remembered.promotion).find(|known| epoch.is_none_or(|epoch| known.epoch == epoch))
    }

    fn table(&self, people: bool) -> Table {
        let mut table = Table::new(&["EPOCH", "WHEN", "FROM", "TO", "KIND", "OUTAGE", "PHASES", "REASON"]);
        for Remembered { promotion, .. } in &self.promotions {
            let reason = reason(promotion);
            table.row(vec![
                promotion.epoch.to_string(),
                utc(promotion.at),
                promotion.from.clone().unwrap_or_default(),
                promotion.to.clone(),
                promotion.kind.words().to_owned(),
                promotion.outage_ms.map(seconds).unwrap_or_default(),
                phases(&promotion.phases),
                if people { shortened(&reason, REASON_WIDTH) } else { reason },
            ]);
        }
        table
    }

    /// For people.
    #[must_use]
    pub fn pretty(&self) -> String {
        if self.promotions.is_empty() {
            return "no promotion is remembered\n".to_owned();
        }
        self.table(true).pretty()
    }

    /// For scripts, a line for each promotion.
    #[must_use]
    pub fn tsv(&self) -> String {
        self.table(false).tsv()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let promotions = self.promotions.iter().map(|Remembered { promotion, nodes }| {
            let mut value = json!(promotion);
            if let Some(object) = value.as_object_mut() {
                object.insert("known_to".to_owned(), json!(nodes));
            }
            value
        });
        json!({ "promotions": promotions.collect::<Vec<_>>(), "unanswered": self.unanswered })
    }
}

/// Adds what another node knows of the same promotion. The new primary was there from the election on, so its times are taken.
fn join(known: &mut Promotion, seen: Promotion, node: &str) {
    let knows_better = node == known.to;
    known.kind = known.kind.min(seen.kind);
    known.from = known.from.take().or(seen.from);
    known.cause = known.cause.take().or(seen.cause);
    known.election = known.election.take().or(seen.election);
    if knows_better || known.phases.is_empty() {
        known.phases = if seen.phases.is_empty() { std::mem::take(&mut known.phases) } else { seen.phases };
        known.at = seen.at;
    }
    // Who noticed it first knows how long it was.
    known.outage_ms = known.outage_ms.max(seen.outage_ms);
    if known.kind == Kind::FirstStart {
        known.from = None;
    }
}

/// Why there was another primary, and why this one.
#[must_use]
pub fn reason(promotion: &Promotion) -> String {
    let parts = [promotion.cause.clone(), promotion.election.clone()];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What took how long, for a cell.
#[must_use]
pub fn phases(parts: &[Part]) -> String {
    parts.iter().map(|part| format!("{} {}", part.what, seconds(part.ms))).collect::<Vec<_>>().join(", ")
}

/// A duration for people.
#[must_use]
pub fn seconds(ms: u64) -> String {
    format!("{}.{:02} s", ms / 1000, ms % 1000 / 10)
}

/// A time of day for people: `2026-11-30 00:24:52Z`, from seconds since 1970 (Howard Hinnant's days_from_civil, backwards).
#[must_use]
pub fn utc(at: u64) -> String {
    let (days, seconds) = (at / 86_400 + 719_468, at % 86_400);
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(promotions: &[Promotion]) -> Result<String, String> {
        Ok(promotions.iter().map(|p| serde_json::to_string(p).unwrap() + "\n").collect())
    }

    fn seen(kind: Kind, outage_ms: u64, at: u64) -> Promotion {
        let part = Part { what: "promotion".into(), ms: outage_ms / 2 };
        let (from, to) = (Some("a".to_owned()), "b".to_owned());
        Promotion { epoch: 7, from, to, kind, phases: vec![part], outage_ms: Some(outage_ms), at, ..Promotion::default() }
    }

    #[test]
    fn whoever_knows_more_of_a_promotion_is_believed() {
        let old = Promotion { cause: Some("it died".into()), ..seen(Kind::Crash, 700, 1_000) };
        let new = Promotion { election: Some("b holds all".into()), ..seen(Kind::Demotion, 600, 1_001) };
        let answers = [
            ("a", said(&[old])),
            ("b", said(&[new, Promotion { epoch: 8, to: "a".into(), at: 2_000, ..Promotion::default() }])),
            ("c", said(&[seen(Kind::Demotion, 640, 1_003)])),
            ("d", Err("does not answer over ssh: nothing came".into())),
        ];
        let history = History::of(&answers.map(|(node, answer)| (node.to_owned(), answer)).into());
        let found = history.find(Some(7)).unwrap();
        assert_eq!((found.kind, found.outage_ms, found.at, found.phases[0].ms), (Kind::Crash, Some(700), 1_001, 300));
        assert_eq!((reason(found).as_str(), history.promotions[0].nodes.len()), ("it died; b holds all", 3));
        assert_eq!((history.find(None).unwrap().epoch, history.find(Some(9))), (8, None));
        assert!(history.unanswered["d"].contains("nothing came"));
        let pretty = history.pretty();
        assert!(pretty.lines().nth(1).unwrap().starts_with("7      1970-01-01 00:16:41Z  a     b   crash     0.70 s"), "{pretty}");
    }

    /// An operator's decision, or a record that was taken away, lets the count begin anew.
    #[test]
    fn the_same_epoch_long_after_is_another_promotion() {
        let all = said(&[seen(Kind::Crash, 1, 1_000), seen(Kind::Crash, 1, 1_000 + APART * 2)]);
        let history = History::of(&BTreeMap::from([("a".to_owned(), all)]));
        assert_eq!((history.promotions.len(), history.find(Some(7)).unwrap().at), (2, 1_000 + APART * 2));
    }

    #[test]
    fn nonsense_is_passed_over() {
        let history = History::of(&BTreeMap::from([("a".to_owned(), Ok("nonsense\n{\"epoch\":\"x\"}\n[]\n".to_owned()))]));
        assert_eq!(history.pretty(), "no promotion is remembered\n");
    }

    #[test]
    fn a_time_of_day_is_that_of_the_calendar() {
        for (at, text) in [(0, "1970-01-01 00:00:00Z"), (951_827_696, "2000-02-29 12:34:56Z"), (1_796_083_199, "2026-11-30 23:59:59Z")] {
            assert_eq!(utc(at), text);
        }
        assert!(!utc(u64::MAX / 2).is_empty());
    }
}
