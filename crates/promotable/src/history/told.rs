//! What a node's notes tell of a promotion. Pure.

use serde::{Deserialize, Serialize};

use super::{Kind, Part, Promotion};

/// How long before the demotion a failure may have been noticed. Milliseconds.
const NOTICED_BEFORE: u64 = 600_000;

/// The record that a promotion replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Before {
    pub(super) epoch: u64,
    pub(super) node: String,
    pub(super) decided: bool,
}

/// What a node heard or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// Somebody is about to be demoted.
    PreDemote { node: Option<String> },
    /// Somebody has been demoted, or is dead.
    PostDemote,
    /// Somebody is about to be promoted.
    PrePromote,
    /// Somebody has been promoted, while these ran.
    PostPromote { node: String, running: Vec<String> },
    /// The server here was promoted and failed.
    Failed(String),
    /// The server here is demoted.
    Demoting { alive: bool },
    /// The record that was found before.
    Record(Option<Before>),
    /// An election was won here.
    Elected(String),
}

/// One of its notes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Milliseconds since the boot.
    pub(super) at: u64,
    /// Seconds since 1970, for people.
    pub(super) time: u64,
    pub(super) what: What,
}

/// How the primary before ended, by what its own node says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) crashed: bool,
    pub(super) cause: String,
}

impl Ended {
    /// As text, for the other nodes.
    pub(super) fn print(&self) -> String {
        format!("{}|{}", if self.crashed { "crash" } else { "move" }, self.cause)
    }

    /// Reads that.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (kind, cause) = text.split_once('|')?;
        Some(Self { crashed: kind == "crash", cause: cause.to_owned() })
    }
}

/// The notes of the last promotion that has ended, and who was promoted.
pub(super) fn last(notes: &[Note]) -> Option<(&[Note], &str)> {
    let [before @ .., Note { what: What::PostPromote { node, .. }, .. }] = notes else { return None };
    let begin = before.iter().rposition(|note| matches!(note.what, What::PostPromote { .. })).map_or(0, |at| at + 1);
    Some((&notes[begin..], node))
}

/// The notes since the last promotion.
pub(super) fn since_then(notes: &[Note]) -> &[Note] {
    let begin = notes.iter().rposition(|note| matches!(note.what, What::PostPromote { .. })).map_or(0, |at| at + 1);
    notes.get(begin..).unwrap_or_default()
}

/// How this node's server ended, if it was the primary.
pub(super) fn ended_here(notes: &[Note]) -> Option<Ended> {
    let failed = notes.iter().find_map(|note| if let What::Failed(why) = &note.what { Some(why.clone()) } else { None });
    let demoted = notes.iter().find_map(|note| if let What::Demoting { alive } = note.what { Some(alive) } else { None });
    match (failed, demoted) {
        (Some(cause), _) => Some(Ended { crashed: true, cause }),
        (None, Some(false)) => Some(Ended { crashed: true, cause: "the server had died".to_owned() }),
        (None, Some(true)) => Some(Ended { crashed: false, cause: String::new() }),
        (None, None) => None,
    }
}

/// Who was demoted for it.
pub(super) fn demoted(notes: &[Note]) -> Option<&str> {
    notes.iter().rev().find_map(|note| if let What::PreDemote { node } = &note.what { node.as_deref() } else { None })
}

/// The promotion that the notes tell of. `epoch`: by the record that is there now. `ended`: what is said of the end of the one before.
pub(super) fn promotion(notes: &[Note], to: &str, epoch: u64, ended: Option<Ended>) -> Promotion {
    let before = notes.iter().rev().find_map(|note| if let What::Record(before) = &note.what { Some(before.as_ref()) } else { None });
    let election = notes.iter().rev().find_map(|note| if let What::Elected(why) = &note.what { Some(why.clone()) } else { None });
    let recorded = before.flatten().filter(|before| !before.decided).map(|before| before.node.as_str());
    let from = demoted(notes).or(recorded);
    let kind = kind(notes, before, from, ended.as_ref());
    let begun = notes.iter().find(|note| is_beginning(notes, note));
    let end = notes.last();
    Promotion {
        epoch,
        from: from.filter(|_| kind != Kind::FirstStart).map(str::to_owned),
        to: to.to_owned(),
        kind,
        cause: ended.map(|ended| ended.cause).filter(|cause| !cause.is_empty()),
        election,
        phases: phases(notes),
        outage_ms: begun.zip(end).map(|(begun, end)| end.at.saturating_sub(begun.at)),
        at: end.map_or(0, |note| note.time),
    }
}

fn kind(notes: &[Note], before: Option<Option<&Before>>, from: Option<&str>, ended: Option<&Ended>) -> Kind {
    let gone = |node: &str| match notes.last().map(|note| &note.what) {
        Some(What::PostPromote { running, .. }) => !running.iter().any(|running| running == node),
        _ => false,
    };
    match (before, ended) {
        (Some(None), _) => Kind::FirstStart,
        (Some(Some(before)), _) if before.decided => Kind::OperatorsDecision,
        (_, Some(Ended { crashed: true, .. })) => Kind::Crash,
        (_, Some(Ended { crashed: false, .. })) => Kind::PlannedMove,
        _ if demoted(notes).is_none() => Kind::Start,
        _ if from.is_some_and(gone) => Kind::LostNode,
        _ => Kind::Demotion,
    }
}

/// Whether the primary was noticed to fail, or about to be demoted. A failure that was followed by no demotion for long was not the beginning of
/// it.
fn is_beginning(notes: &[Note], note: &Note) -> bool {
    let demotion = notes.iter().find(|note| matches!(note.what, What::PreDemote { .. })).map_or(u64::MAX, |note| note.at);
    match note.what {
        What::Failed(_) => note.at.saturating_add(NOTICED_BEFORE) >= demotion,
        What::PreDemote { .. } => true,
        _ => false,
    }
}

/// What took how long. A step that was made several times counts from its first beginning.
fn phases(notes: &[Note]) -> Vec<Part> {
    let first = |wanted: fn(&What) -> bool| notes.iter().find(|note| wanted(&note.what)).map(|note| note.at);
    let marks = [
        ("detection", notes.iter().find(|note| is_beginning(notes, note) && matches!(note.what, What::Failed(_))).map(|note| note.at)),
        ("demotion", first(|what| matches!(what, What::PreDemote { .. }))),
        ("election", first(|what| matches!(what, What::PostDemote))),
        ("promotion", first(|what| matches!(what, What::PrePromote))),
        ("", first(|what| matches!(what, What::PostPromote { .. }))),
    ];
    let heard: Vec<(&str, u64)> = marks.into_iter().filter_map(|(what, at)| Some((what, at?))).collect();
    let pairs = heard.windows(2).filter_map(|pair| Some((pair.first()?, pair.last()?)));
    pairs.map(|((what, from), (_, to))| Part { what: (*what).to_owned(), ms: to.saturating_sub(*from) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(all: Vec<(u64, What)>) -> Vec<Note> {
        all.into_iter().map(|(at, what)| Note { at, time: 1_000 + at / 1000, what }).collect()
    }

    fn failover(more: Vec<(u64, What)>, running: &[&str]) -> Vec<Note> {
        let mut all = vec![(100, What::PreDemote { node: Some("a".into()) }), (250, What::PostDemote), (300, What::PrePromote)];
        all.extend(more);
        let running = running.iter().map(|node| (*node).to_owned()).collect();
        all.push((520, What::PostPromote { node: "b".into(), running }));
        all.sort_by_key(|(at, _)| *at);
        notes(all)
    }

    fn told(notes: &[Note], ended: Option<Ended>) -> Promotion {
        let (notes, to) = last(notes).unwrap();
        let ended = ended.or_else(|| ended_here(notes));
        promotion(notes, to, 7, ended)
    }

    fn recorded(decided: bool) -> What {
        What::Record(Some(Before { epoch: 6, node: "a".into(), decided }))
    }

    #[test]
    fn the_kind_follows_from_what_was_heard() {
        let all = ["a", "b", "c"];
        let crash = Ended { crashed: true, cause: "killed".into() };
        let planned = Ended { crashed: false, cause: String::new() };
        let alone = |what: Vec<(u64, What)>| notes([what, vec![(9, What::PostPromote { node: "b".into(), running: Vec::new() })]].concat());
        for (notes, ended, kind, from) in [
            (failover(vec![], &all), Some(crash), Kind::Crash, Some("a")),
            (failover(vec![], &all), Some(planned), Kind::PlannedMove, Some("a")),
            (failover(vec![(50, What::Failed("hangs".into()))], &all), None, Kind::Crash, Some("a")),
            (failover(vec![(120, What::Demoting { alive: true })], &all), None, Kind::PlannedMove, Some("a")),
            (failover(vec![(120, What::Demoting { alive: false })], &all), None, Kind::Crash, Some("a")),
            (failover(vec![], &all), None, Kind::Demotion, Some("a")),
            (failover(vec![], &["b", "c"]), None, Kind::LostNode, Some("a")),
            (failover(vec![(310, recorded(true))], &all), None, Kind::OperatorsDecision, Some("a")),
            (alone(vec![(1, What::Record(None))]), None, Kind::FirstStart, None),
            (alone(vec![(1, recorded(false))]), None, Kind::Start, Some("a")),
            (alone(vec![(1, recorded(true))]), None, Kind::OperatorsDecision, None),
        ] {
            let told = told(&notes, ended);
            assert_eq!((told.kind, told.from.as_deref(), told.to.as_str(), told.epoch), (kind, from, "b", 7), "{notes:?}");
        }
    }

    #[test]
    fn phases_and_outage_count_from_the_first_that_was_noticed() {
        let told = told(&failover(vec![(40, What::Failed("x".into())), (310, What::Elected("b holds all".into()))], &["a", "b"]), None);
        let phases: Vec<(&str, u64)> = told.phases.iter().map(|part| (part.what.as_str(), part.ms)).collect();
        assert_eq!(phases, [("detection", 60), ("demotion", 150), ("election", 50), ("promotion", 220)]);
        assert_eq!((told.outage_ms, told.cause.as_deref(), told.election.as_deref()), (Some(480), Some("x"), Some("b holds all")));
    }

    #[test]
    fn only_a_promotion_that_has_ended_is_told_and_only_the_last() {
        let mut all = failover(vec![], &["b"]);
        assert!(last(&all[..3]).is_none() && last(&[]).is_none());
        all.extend(failover(vec![], &["b", "c"]));
        assert_eq!(last(&all).unwrap().0.len(), 4);
    }

    #[test]
    fn what_a_node_says_of_its_end_reads_back() {
        let ended = Ended { crashed: true, cause: "it | died".into() };
        assert_eq!((Ended::parse(&ended.print()), Ended::parse("")), (Some(ended), None));
    }

    #[test]
    fn a_node_says_how_its_server_ended_this_time_and_not_the_time_before() {
        let mut all = failover(vec![(120, What::Demoting { alive: false })], &["b"]);
        assert_eq!(ended_here(since_then(&all)), None);
        all.extend(notes(vec![(900, What::Demoting { alive: true })]));
        assert_eq!(ended_here(since_then(&all)), Some(Ended { crashed: false, cause: String::new() }));
    }
}
