//! `systole timeline`: the lines of the nodes' journals that tell a failover, in one order, with what they mean. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ::timeline::{Event, Moment, STEPS, Story, TELLING, meanings, of_stories, steps, without_echoes};
use serde_json::{Value, json};

use crate::history::utc;
use crate::table::Table;

/// Steps of a planned move follow each other within this. Microseconds. A node that has to be fenced is waited for in silence, for much
/// longer.
const APART_US: u64 = 5_000_000;
/// How long after the promotion something belongs to it. Microseconds.
const AFTERWARDS_US: u64 = 10_000_000;
/// What begins a line about a promotion that has ended.
const PROMOTED: &str = "Result of promote operation for ";
/// A line that tells the reader nothing but that something is going to be done.
const PLANNED: &str = "Calculated transition";

/// What the lines mean, for people.
pub const LEGEND: &str = "\
Seconds since the first sign of it, by the nodes' own clocks. What Pacemaker, corosync or an agent on a node wrote into its journal:
`Setting master-NAME` is how much the agent wants the primary there; `Result of promote operation`: an action has ended; `Fencing`,
`Operation 'reboot'`: the others make sure that a lost node is off; `A new membership`: corosync counts who is there.
";

/// The lines of some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// What counts as its beginning: microseconds since 1970.
    pub zero: u64,
    /// The lines, in order, by the nodes' clocks.
    pub events: Vec<Event>,
    /// All lines of those who tell it, whatever they say, in order.
    pub all: Vec<Event>,
    /// The nodes whose journals are missing, and why.
    pub unanswered: BTreeMap<String, String>,
    /// The nodes whose clocks differ from that of the node that asks, and by how many seconds at least.
    pub clocks: BTreeMap<String, f64>,
    /// The nodes in whose journals lines could not be read, and how many.
    pub left_out: BTreeMap<String, usize>,
}

/// Which failover, and of which database.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// The database.
    pub resource: Option<&'a str>,
    /// The other ones, whose lines are left out.
    pub others: Vec<&'a str>,
    /// Seconds since 1970 at which it was over; without it all lines are of interest.
    pub over: Option<u64>,
    /// The primary before: what is said of its loss is the beginning.
    pub from: Option<&'a str>,
}

/// What a node answers: the time there, and its lines.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Now {
    /// Microseconds since 1970.
    pub now: u64,
    /// How many lines of those who tell it could not be read.
    #[serde(default)]
    pub left_out: usize,
}

impl Timeline {
    /// Puts the nodes' answers together: each a [`Now`], then a line of the journal a line. `asked`: when that was, from and to.
    #[must_use]
    pub fn of(answers: &BTreeMap<String, Result<String, String>>, asked: (u64, u64), wanted: &Wanted<'_>) -> Self {
        let mut found = Self::default();
        for (node, answer) in answers {
            match answer {
                Err(why) => drop(found.unanswered.insert(node.clone(), why.clone())),
                Ok(text) => found.add(node, text, asked),
            }
        }
        found.all.retain(|event| concerns(event, wanted));
        // A sort that keeps the order of lines with the same time.
        found.all.sort_by_key(|event| event.at_us);
        let tells = |event: &Event| STEPS.iter().chain(TELLING).any(|word| event.text.contains(word)) || is_ours(event);
        let telling: Vec<Event> = found.all.iter().filter(|event| tells(event)).cloned().collect();
        found.events = without_echoes(telling);
        found.restrict(wanted);
        found
    }

    fn add(&mut self, node: &str, text: &str, (from, to): (u64, u64)) {
        let mut lines = text.lines();
        if let Some(now) = lines.next().and_then(|line| serde_json::from_str::<Now>(line).ok()) {
            let apart = if now.now > to { (now.now - to) as f64 } else { -(from.saturating_sub(now.now) as f64) };
            if apart != 0.0 {
                self.clocks.insert(node.to_owned(), apart / 1e6);
            }
            self.left_out.extend(Some((node.to_owned(), now.left_out)).filter(|(_, left_out)| *left_out > 0));
        }
        // Whoever answers does not say who it is.
        let events = lines.filter_map(|line| serde_json::from_str::<Event>(line).ok());
        // Anybody who has an account there writes into a journal, and this is root's terminal.
        let plain = |text: &str| text.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        self.all.extend(events.map(|event| Event { by: node.to_owned(), text: plain(&event.text), ..event }));
    }

    /// From the first sign of the failover that was over then to a moment after it.
    fn restrict(&mut self, wanted: &Wanted<'_>) {
        self.zero = self.events.first().map_or(0, |event| event.at_us);
        let Some(over) = wanted.over else { return };
        let promoted = |event: &&Event| {
            event.text.contains(PROMOTED) && wanted.resource.is_none_or(|name| event.text.contains(&format!("{PROMOTED}{name} on ")))
        };
        let distance = |event: &&Event| event.at_us.abs_diff(over.saturating_mul(1_000_000));
        let Some(end) = self.events.iter().filter(promoted).min_by_key(distance).map(|event| event.at_us) else { return };
        let since = self.events.iter().filter(promoted).map(|event| event.at_us).filter(|at| *at < end).max().unwrap_or(0);
        let sign = |event: &&Event| (since..=end).contains(&event.at_us) && tells_loss(event, wanted);
        let mut begin = self.events.iter().find(sign).map_or(end, |event| event.at_us);
        let before = since + 1..=begin;
        for event in self.events.iter().rev().filter(|event| before.contains(&event.at_us)) {
            if begin - event.at_us > APART_US {
                break;
            }
            begin = event.at_us;
        }
        self.zero = begin;
        let inside = |event: &Event| (begin..=end + AFTERWARDS_US).contains(&event.at_us);
        self.events.retain(inside);
        self.all.retain(inside);
    }

    /// The lines with milliseconds since the beginning.
    fn moments(&self) -> Vec<Moment> {
        let since = |at: u64| (at as f64 - self.zero as f64) / 1000.0;
        self.events.iter().map(|e| Moment { at_ms: since(e.at_us), by: e.by.clone(), text: e.text.clone() }).collect()
    }

    /// The steps: when each had been done, milliseconds, and its name.
    #[must_use]
    pub fn steps(&self) -> Vec<(f64, String)> {
        steps(&self.moments())
    }

    /// The steps as a drawing, if there are any.
    #[must_use]
    pub fn svg(&self, heading: &str) -> Option<String> {
        of_stories(heading, &[Story { heading: heading.to_owned(), class: "ours", steps: self.steps() }])
    }

    /// Seconds since the beginning, who says it, and what it says and means; for each line.
    #[must_use]
    pub fn rows(&self) -> Vec<(f64, String, String, String)> {
        let moments = self.moments();
        let told = meanings(&moments).into_iter().filter(|(moment, _)| !moment.text.contains(PLANNED));
        told.map(|(moment, meaning)| (moment.at_ms / 1000.0, moment.by.clone(), moment.text.clone(), meaning)).collect()
    }

    /// What is missing or doubtful, a sentence each.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let missing = self.unanswered.iter().map(|(node, why)| format!("the journal of {node} is missing: it {why}"));
        let clocks = self.clocks.iter().map(|(node, by)| {
            let (by, word) = (by.abs(), if *by > 0.0 { "ahead" } else { "behind" });
            format!("the clock of {node} is now {by:.1} s {word}: its lines stand at the wrong place by as much, unless it was set since")
        });
        let unread =
            self.left_out.iter().map(|(node, many)| format!("{many} lines of the journal of {node} cannot be read, and are left out"));
        missing.chain(unread).chain(clocks).collect()
    }

    /// For people.
    #[must_use]
    pub fn pretty(&self) -> String {
        if self.events.is_empty() {
            return "the journals say nothing of that time\n".to_owned();
        }
        let mut out = format!("{LEGEND}0 is {}\n\n", utc(self.zero / 1_000_000));
        let width = self.events.iter().map(|event| event.by.len()).max().unwrap_or_default();
        for (seconds, who, text, meaning) in self.rows() {
            let meaning = if meaning.is_empty() { meaning } else { format!("  [{meaning}]") };
            let _ = writeln!(out, "{seconds:+9.3} s  {who:<width$}  {text}{meaning}");
        }
        let steps = self.steps();
        if !steps.is_empty() {
            out.push_str("\nThe steps, and when each had been done:\n");
        }
        for (at, what) in steps {
            let _ = writeln!(out, "{at:>9.0} ms  {what}");
        }
        out
    }

    /// For scripts, a line for each line.
    #[must_use]
    pub fn tsv(&self) -> String {
        let mut table = Table::new(&["SECONDS", "NODE", "LINE", "MEANING"]);
        for (seconds, who, text, meaning) in self.rows() {
            table.row(vec![format!("{seconds:.3}"), who, text, meaning]);
        }
        table.tsv()
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let rows =
            self.rows().into_iter().map(|(s, node, line, meaning)| json!({ "s": s, "node": node, "line": line, "meaning": meaning }));
        let steps = self.steps().into_iter().map(|(ms, what)| json!({ "ms": ms, "what": what }));
        json!({
            "zero_us": self.zero, "lines": rows.collect::<Vec<_>>(), "steps": steps.collect::<Vec<_>>(),
            "unanswered": self.unanswered, "clocks_s": self.clocks,
        })
    }
}

/// Whether it is a line of an agent of a database, or of its watcher. They say little, and all of it matters.
fn is_ours(event: &Event) -> bool {
    let Some((teller, _)) = event.text.split_once(": ") else { return false };
    teller.starts_with("systole") || ["mysql(", "redis(", "address("].iter().any(|agent| teller.starts_with(agent))
}

/// What is said of a node that is lost or fenced.
const LOSSES: &[&str] =
    &["Requesting fencing", "Fencing cluster", "Scheduling Node", "Operation 'reboot'", "Operation 'off'", "was terminated"];
/// What an agent or Pacemaker says of a server that is.
const DEATHS: &[&str] = &["is gone: it died or was killed", "process failed"];

/// Whether a line is a sign that the primary before is lost: its score is lowered, its node is fenced, its server is dead.
fn tells_loss(event: &Event, wanted: &Wanted<'_>) -> bool {
    let Some(from) = wanted.from else { return false };
    let names = |text: &str| text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).any(|word| word == from);
    let holds = |words: &[&str]| words.iter().any(|word| event.text.contains(word));
    lowers(&event.text, from) || (holds(LOSSES) && names(&event.text)) || (holds(DEATHS) && (event.by == from || names(&event.text)))
}

/// Whether the promotion score of a node is lowered or taken away: `Setting master-NAME[NODE]: 1000 -> -INFINITY`.
fn lowers(text: &str, node: &str) -> bool {
    let Some((_, rest)) = text.split_once("Setting master-") else { return false };
    // Later releases say here in which set of attributes.
    let Some((_, change)) = rest.split_once(&format!("[{node}]")).and_then(|(_, rest)| rest.split_once(": ")) else { return false };
    let Some((before, after)) = change.split_once(" -> ") else { return false };
    let number = |text: &str| match text.split_whitespace().next() {
        Some("INFINITY") => 1_000_000,
        Some(word) => word.parse::<i64>().unwrap_or(-1_000_000),
        None => -1_000_000,
    };
    number(after) < number(before)
}

/// How Pacemaker goes on behind the name of a resource when it names an operation.
const OPERATIONS: &[&str] = &["pre_notify_", "post_notify_", "notify_", "start_", "stop_", "promote_", "demote_", "monitor_"];

/// Whether a line is of the database that is meant, or of none.
fn concerns(event: &Event, wanted: &Wanted<'_>) -> bool {
    let operation = |rest: &str| OPERATIONS.iter().any(|operation| rest.starts_with(operation));
    let about = |name: &str| {
        // The name of another database may begin with this one.
        let begin = format!(" {name}_");
        [format!("({name})"), format!("({name}:"), format!(" for {name} on "), format!("master-{name}[")]
            .iter()
            .any(|word| event.text.contains(word))
            || event.text.match_indices(&begin).any(|(at, _)| operation(&event.text[at + begin.len()..]))
    };
    !wanted.others.iter().any(|other| about(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(now: u64, lines: &[(u64, &str)]) -> Result<String, String> {
        let lines = lines.iter().map(|(at, text)| json!({ "at_us": at, "by": "", "text": text }).to_string() + "\n");
        Ok(format!("{{\"now\":{now}}}\n") + &lines.collect::<String>())
    }

    fn failover() -> BTreeMap<String, Result<String, String>> {
        let s = 1_000_000;
        let a = [
            (100 * s, "controld: Result of monitor operation for mysql on a: ok"),
            (200 * s, "attrd: Setting master-mysql[a]: 1000 -> -INFINITY"),
        ];
        let b = [
            (200 * s + 300, "attrd: Setting master-mysql[a]: 1000 -> -INFINITY"),
            (200 * s + 20_000, "schedulerd: Calculated transition 7"),
            (200 * s + 60_000, "attrd: Setting master-redis[a]: 1 -> 2"),
            (200 * s + 90_000, "mysql(mysql): NOTICE: going on with the promotion: b holds all of a"),
            (200 * s + 95_000, "based: something that nobody needs"),
            (200 * s + 300_000, "controld: Result of promote operation for mysql on b: ok"),
            (400 * s, "controld: Result of promote operation for mysql on b: ok"),
        ];
        [("a".to_owned(), answer(1_000, &a)), ("b".to_owned(), answer(9_000, &b)), ("c".to_owned(), Err("does not answer".into()))].into()
    }

    #[test]
    fn the_lines_of_one_failover_stand_in_one_order_and_count_from_its_first_sign() {
        let wanted = Wanted { resource: Some("mysql"), others: vec!["redis"], over: Some(201), from: Some("a") };
        let timeline = Timeline::of(&failover(), (900, 2_000), &wanted);
        let rows: Vec<(String, String)> =
            timeline.rows().into_iter().map(|(s, who, text, _)| (format!("{s:.3}"), who + " " + &text)).collect();
        let expected = [
            ("0.000", "a attrd: Setting master-mysql[a]: 1000 -> -INFINITY"),
            ("0.090", "b mysql(mysql): NOTICE: going on with the promotion: b holds all of a"),
            ("0.300", "b controld: Result of promote operation for mysql on b: ok"),
        ];
        assert_eq!(rows, expected.map(|(at, text)| (at.to_owned(), text.to_owned())));
        let steps: Vec<String> = timeline.steps().into_iter().map(|(_, what)| what).collect();
        assert_eq!(steps, ["score lowered by the watcher", "transition calculated", "promote of mysql on b"]);
        assert!(timeline.pretty().contains("-INFINITY  [score lowered by the watcher]\n"), "{}", timeline.pretty());
        assert!(timeline.all.iter().any(|event| event.text.contains("nobody needs")), "the logs have all");
        let remarks = timeline.remarks();
        assert!(remarks[0].contains("journal of c is missing") && remarks[1].contains("clock of b is now 0.0 s ahead"), "{remarks:?}");
        assert_eq!(remarks.len(), 2);
    }

    /// Fencing takes as long as it takes, and nobody says anything meanwhile: the failover seemed to begin when that was over.
    #[test]
    fn a_failover_begins_with_the_loss_however_long_nothing_is_said_after_it() {
        let s = 1_000_000;
        let lines = [
            (100 * s, "controld: Result of promote operation for mysql on a: ok"),
            (100 * s + 1, "attrd: Setting master-mysql[a]: 100 -> 1000"),
            (150 * s, "attrd: Setting master-mysql[c]: 100 -> -INFINITY"),
            (198 * s, "corosync: [TOTEM ] A processor failed, forming new configuration."),
            (200 * s, "fenced: Requesting fencing (reboot) of node a"),
            (200 * s + 20_000, "schedulerd: Calculated transition 7"),
            (222 * s, "fenced: Operation 'reboot' targeting a by b for pacemaker-controld.1@b: OK"),
            (223 * s, "controld: Result of promote operation for mysql on b: ok"),
        ];
        let told = BTreeMap::from([("b".to_owned(), answer(1_000, &lines))]);
        let zero = |from: Option<&str>, over: u64| {
            let wanted = Wanted { resource: Some("mysql"), over: Some(over), from, ..Wanted::default() };
            Timeline::of(&told, (0, u64::MAX), &wanted).zero
        };
        assert_eq!(zero(Some("a"), 223), 198 * s, "from the line before the loss that belongs to it");
        assert_eq!(zero(Some("b"), 223), 222 * s, "a planned move, whose steps follow each other");
        assert_eq!(zero(None, 223), 222 * s);
        assert_eq!(zero(None, 100), 100 * s);
    }

    #[test]
    fn lines_that_a_node_could_not_read_are_counted() {
        let told = BTreeMap::from([
            ("a".to_owned(), Ok("{\"now\":5,\"left_out\":3}\n".to_owned())),
            ("b".to_owned(), Ok("{\"now\":5}\n".to_owned())),
        ]);
        let remarks = Timeline::of(&told, (0, 9), &Wanted::default()).remarks();
        assert_eq!(remarks, ["3 lines of the journal of a cannot be read, and are left out"]);
    }

    #[test]
    fn a_score_that_is_lowered_is_no_score_that_is_raised() {
        for (text, expected) in [
            ("attrd: Setting master-mysql[a]: 1000 -> -INFINITY", true),
            ("attrd: Setting master-mysql[a] in instance_attributes: 1000 -> (unset)", true),
            ("attrd: Setting master-mysql[a]: 1000 -> (unset) from b", true),
            ("attrd: Setting master-mysql[a]: 100 -> 1000", false),
            ("attrd: Setting master-mysql[a]: (unset) -> 100", false),
            ("attrd: Setting master-mysql[b]: 1000 -> -INFINITY", false),
        ] {
            assert_eq!(lowers(text, "a"), expected, "{text}");
        }
    }

    #[test]
    fn without_a_failover_in_mind_all_that_tells_is_shown() {
        let timeline = Timeline::of(&failover(), (0, u64::MAX), &Wanted::default());
        assert_eq!((timeline.zero, timeline.events.len()), (100_000_000, 7));
        assert_eq!(Timeline::of(&BTreeMap::new(), (0, 0), &Wanted::default()).pretty(), "the journals say nothing of that time\n");
    }

    #[test]
    fn what_somebody_wrote_into_a_journal_does_nothing_to_the_terminal() {
        let told = BTreeMap::from([("a".to_owned(), answer(1, &[(5, "redis(redis): NOTICE: \u{1b}[2J\nforged\u{7}")]))]);
        let timeline = Timeline::of(&told, (0, u64::MAX), &Wanted::default());
        assert!(timeline.pretty().contains("NOTICE: ?[2J?forged?") && !timeline.tsv().contains('\u{1b}'), "{}", timeline.pretty());
    }

    #[test]
    fn a_name_that_begins_like_another_is_another() {
        let event = |text: &str| Event { at_us: 1, by: "a".into(), text: text.into() };
        let wanted = Wanted { resource: Some("redis_cache"), others: vec!["redis"], ..Wanted::default() };
        assert!(concerns(&event("controld: Initiating notify operation redis_cache_pre_notify_demote_0 on a"), &wanted));
        assert!(!concerns(&event("controld: Initiating notify operation redis_pre_notify_demote_0 on a"), &wanted));
    }
}
