//! What clients of lists and registers were told, judged: as a history for stateright's tester of linearizability, and as one that Elle
//! reads. Pure but for the order of the records, which is that of their times.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use lab::journal::Outcome;
use lab::operation::{Object, Operation};
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

/// How many steps the tester may try for one list or register: some thousands are enough where it is in order. Where it is not, there may be
/// more than anybody can wait for.
const STEPS: u64 = 3_000_000;

/// A list or a register, as it should be.
#[derive(Clone, Debug)]
struct Reference {
    object: Object,
    values: Vec<u64>,
    /// The longest list that anybody has read: no append that it contradicts has to be tried.
    longest: Rc<[u64]>,
    /// Steps that are left.
    steps: Rc<Cell<u64>>,
}

impl SequentialSpec for Reference {
    /// What is appended or written; a read without it.
    type Op = Option<u64>;
    /// What a read sees.
    type Ret = Option<Vec<u64>>;

    fn invoke(&mut self, change: &Self::Op) -> Self::Ret {
        let Some(value) = change else { return Some(self.values.clone()) };
        if self.object == Object::Register {
            self.values.clear();
        }
        self.values.push(*value);
        None
    }

    fn is_valid_step(&mut self, change: &Self::Op, seen: &Self::Ret) -> bool {
        let left = self.steps.get();
        self.steps.set(left.saturating_sub(1));
        let fits = |value| self.object == Object::Register || self.longest.get(self.values.len()).is_none_or(|there| *there == value);
        left > 0 && change.is_none_or(fits) && self.invoke(change) == *seen
    }
}

/// What a history says of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is done.
    Done,
    /// It is not, or it read nothing: as if it had never been.
    Nothing,
    /// Nobody knows, now or later.
    Unknown,
}

fn told(operation: &Operation) -> Told {
    match (operation.outcome, operation.change) {
        (Outcome::Ok, _) => Told::Done,
        (Outcome::Refused | Outcome::NotSent, _) | (_, None) => Told::Nothing,
        (Outcome::Unknown | Outcome::Unconfirmed, Some(_)) => Told::Unknown,
    }
}

/// A beginning or an end of an operation.
struct Moment<'a> {
    at: u64,
    end: bool,
    operation: &'a Operation,
}

/// Beginnings and ends in their order. What happens in the same microsecond happens at once, so beginnings come first.
fn moments<'a>(operations: impl Iterator<Item = &'a Operation>) -> Vec<Moment<'a>> {
    let both = |operation: &'a Operation| {
        [Moment { at: operation.sent, end: false, operation }, Moment { at: operation.done, end: true, operation }]
    };
    let mut moments: Vec<Moment<'a>> = operations.flat_map(both).collect();
    moments.sort_by_key(|moment| (moment.at, moment.end));
    moments
}

/// What the tester says of a history.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// A sentence for each list or register that is not linearizable, of which nobody can tell, or that was not read in the end.
    pub violations: Vec<String>,
    /// How many could not be judged in the time; each is a violation.
    pub undecided: usize,
}

/// Judges each list and register by itself, which is what linearizability allows.
#[must_use]
pub fn judge(operations: &[&Operation]) -> Judgement {
    judge_in(STEPS, operations)
}

fn judge_in(steps: u64, operations: &[&Operation]) -> Judgement {
    let mut objects: BTreeMap<(Object, u64), Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        objects.entry((operation.object, operation.key)).or_default().push(operation);
    }
    let mut judgement = Judgement::default();
    for ((object, key), operations) in objects {
        if !is_read_in_the_end(&operations) {
            judgement
                .violations
                .push(format!("{} {key} was not read after its last change: what is lost of it cannot be seen", object.name()));
        }
        match is_linearizable(steps, object, &operations) {
            Some(true) => {}
            Some(false) => judgement.violations.push(complaint(steps, object, key, &operations)),
            None => {
                judgement.undecided += 1;
                let of = operations.len();
                judgement.violations.push(format!("{} {key} could not be judged: {of} operations, too many orders to try", object.name()));
            }
        }
    }
    judgement
}

/// Whether somebody has read it since the last change was answered or given up. A change that was refused is none.
fn is_read_in_the_end(operations: &[&Operation]) -> bool {
    let changes = operations.iter().filter(|operation| operation.change.is_some() && told(operation) != Told::Nothing);
    let Some(last) = changes.map(|operation| operation.done).max() else { return true };
    operations.iter().any(|operation| operation.change.is_none() && told(operation) == Told::Done && operation.sent >= last)
}

/// The operations that took effect, or may have, each with an end. One that nobody knows of and nobody has seen may as well never have been;
/// one that was seen took effect before the first read that saw it ended. (No value is written twice.)
fn effective(operations: &[&Operation]) -> Vec<Operation> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for read in operations.iter().filter(|operation| told(operation) == Told::Done) {
        for value in read.seen.iter().flatten() {
            let end = seen.entry(*value).or_insert(read.done);
            *end = read.done.min(*end);
        }
    }
    let of = |operation: &&Operation| match told(operation) {
        Told::Done => Some((*operation).clone()),
        Told::Nothing => None,
        Told::Unknown => {
            let end = seen.get(&operation.change?)?;
            Some(Operation { done: operation.sent.max(*end), ..(*operation).clone() })
        }
    };
    operations.iter().filter_map(of).collect()
}

/// `None` when there was too much to try.
fn is_linearizable(steps: u64, object: Object, operations: &[&Operation]) -> Option<bool> {
    let effective = effective(operations);
    let longest = effective.iter().filter_map(|operation| operation.seen.as_ref()).max_by_key(|seen| seen.len());
    let longest = longest.map_or_else(|| [].into(), |seen| seen.as_slice().into());
    let steps = Rc::new(Cell::new(steps));
    let mut tester = LinearizabilityTester::new(Reference { object, values: Vec::new(), longest, steps: Rc::clone(&steps) });
    for moment in moments(effective.iter()) {
        let Operation { client, change, seen, .. } = moment.operation;
        let heard = match moment.end {
            true => tester.on_return(*client, seen.clone()).map(drop),
            false => tester.on_invoke(*client, *change).map(drop),
        };
        // A client that does two things at once is none.
        if heard.is_err() {
            return Some(false);
        }
    }
    match tester.is_consistent() {
        true => Some(true),
        false => (steps.get() > 0).then_some(false),
    }
}

/// The smallest part of the history that shows it: up to the end of the first operation with which it is not linearizable.
fn complaint(steps: u64, object: Object, key: u64, operations: &[&Operation]) -> String {
    let mut sorted: Vec<&Operation> = operations.to_vec();
    sorted.sort_by_key(|operation| operation.done);
    // One that nobody knows of, or that ends later, may have taken effect before: it stays, without its end.
    let until = |end: u64| -> Vec<Operation> {
        let of = |operation: &&Operation| {
            let later = operation.done > end;
            (operation.sent <= end && !(later && operation.change.is_none()))
                .then(|| Operation { outcome: if later { Outcome::Unknown } else { operation.outcome }, ..(*operation).clone() })
        };
        sorted.iter().filter_map(of).collect()
    };
    let broken = |end: u64| {
        let part = until(end);
        is_linearizable(steps, object, &part.iter().collect::<Vec<_>>()) == Some(false)
    };
    let at = sorted.partition_point(|operation| !broken(operation.done)).min(sorted.len().saturating_sub(1));
    let mut text = format!("{} {key} is not linearizable: at its end stand", object.name());
    for operation in &sorted[at.saturating_sub(4)..=at] {
        let _ = write!(text, "; {}", words(operation));
    }
    text
}

fn words(operation: &Operation) -> String {
    let Operation { client, change, sent, done, outcome, seen, .. } = operation;
    let what = match (change, seen) {
        (Some(value), _) => format!("change {value}"),
        (None, Some(seen)) => format!("read {:?} (of {})", &seen[seen.len().saturating_sub(5)..], seen.len()),
        (None, None) => "read".to_owned(),
    };
    format!("client {client} {what} {outcome:?} {:.3} to {:.3} s", *sent as f64 / 1e6, *done as f64 / 1e6)
}

/// The operations on lists as Elle reads them (list-append): an operation in a transaction of its own.
#[must_use]
pub fn elle(operations: &[&Operation]) -> String {
    let mut text = String::new();
    let lists = operations.iter().copied().filter(|operation| operation.object == Object::List);
    for (index, moment) in moments(lists).iter().enumerate() {
        let Operation { client, key, change, seen, .. } = moment.operation;
        let kind = match (moment.end, told(moment.operation)) {
            (false, _) => ":invoke",
            (true, Told::Done) => ":ok",
            (true, Told::Nothing) => ":fail",
            (true, Told::Unknown) => ":info",
        };
        let action = match (change, seen) {
            (Some(value), _) => format!("[:append {key} {value}]"),
            (None, Some(seen)) if kind == ":ok" => {
                format!("[:r {key} [{}]]", seen.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
            }
            (None, _) => format!("[:r {key} nil]"),
        };
        let time = moment.at.saturating_mul(1000);
        let _ = writeln!(text, "{{:index {index}, :type {kind}, :process {client}, :f :txn, :value [{action}], :time {time}}}");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use super::*;

    fn operation(client: u32, change: Option<u64>, (sent, done): (u64, u64), outcome: Outcome, seen: Option<&[u64]>) -> Operation {
        let seen = seen.map(<[u64]>::to_vec);
        Operation { client, object: Object::List, key: 0, change, sent, done, outcome, seen }
    }

    fn append(client: u32, value: u64, span: (u64, u64), outcome: Outcome) -> Operation {
        operation(client, Some(value), span, outcome, None)
    }

    fn read(client: u32, span: (u64, u64), seen: &[u64]) -> Operation {
        operation(client, None, span, Outcome::Ok, Some(seen))
    }

    fn of(operations: &[Operation], object: Object) -> Vec<String> {
        let operations: Vec<Operation> = operations.iter().map(|o| Operation { object, ..o.clone() }).collect();
        let judgement = judge(&operations.iter().collect::<Vec<_>>());
        assert_eq!(judgement.undecided, 0, "{judgement:?}");
        judgement.violations
    }

    #[test]
    fn a_list_that_keeps_what_it_was_given_is_in_order() {
        let all = [
            append(0, 1, (0, 10), Outcome::Ok),
            append(1, 2, (5, 20), Outcome::Unknown),
            append(2, 3, (5, 20), Outcome::Refused),
            read(0, (30, 40), &[1]),
            read(0, (50, 60), &[1, 2]),
        ];
        assert_eq!(of(&all, Object::List), Vec::<String>::new());
    }

    #[test]
    fn a_lost_append_is_seen() {
        let all = [append(0, 1, (0, 10), Outcome::Ok), append(0, 2, (20, 30), Outcome::Ok), read(1, (40, 50), &[2])];
        assert_eq!(of(&all, Object::List).len(), 1);
    }

    #[test]
    fn a_write_that_was_refused_and_is_there_is_seen() {
        assert_eq!(of(&[append(0, 1, (0, 10), Outcome::Refused), read(1, (20, 30), &[1])], Object::List).len(), 1);
    }

    #[test]
    fn a_doubled_append_is_seen() {
        assert_eq!(of(&[append(0, 1, (0, 10), Outcome::Ok), read(1, (20, 30), &[1, 1])], Object::List).len(), 1);
    }

    #[test]
    fn a_stale_read_is_seen_and_said_with_its_operations() {
        let all = [
            append(0, 1, (0, 10), Outcome::Ok),
            append(0, 2, (20, 30), Outcome::Ok),
            read(1, (40, 50), &[1]),
            append(0, 3, (60, 70), Outcome::Ok),
            read(1, (80, 90), &[1, 2, 3]),
        ];
        let said = of(&all, Object::List);
        assert!(said.len() == 1 && said[0].contains("client 1 read [1] (of 1)") && !said[0].contains("change 3"), "{said:?}");
    }

    #[test]
    fn a_read_that_was_taken_back_is_seen() {
        let all = [append(0, 1, (0, 10), Outcome::Unknown), read(1, (20, 30), &[1]), read(2, (40, 50), &[])];
        assert_eq!(of(&all, Object::List).len(), 1);
        // It may come later, but not go.
        let late = [append(0, 1, (0, 10), Outcome::Unknown), read(1, (20, 30), &[]), read(2, (40, 50), &[1])];
        assert_eq!(of(&late, Object::List), Vec::<String>::new());
    }

    /// A primary that was cut off answers nobody for a while: twelve appends may be there or not, and their order is anybody's.
    #[test]
    fn many_operations_of_which_nobody_knows_are_judged_at_once() {
        let mut all: Vec<Operation> = (0..12).map(|n| append(n, u64::from(n), (0, 10), Outcome::Unknown)).collect();
        all.extend((20..60).map(|n| append(20, n, (n * 10, n * 10 + 5), Outcome::Ok)));
        let mut there: Vec<u64> = [7, 3, 11, 0, 5].into_iter().chain(20..60).collect();
        all.push(read(20, (900, 910), &there));
        assert_eq!(of(&all, Object::List), Vec::<String>::new());
        there.swap(30, 31);
        all.push(read(20, (920, 930), &there));
        assert_eq!(of(&all, Object::List).len(), 1);
    }

    #[test]
    fn a_register_has_one_value() {
        let all = [append(0, 1, (0, 10), Outcome::Ok), append(1, 2, (20, 30), Outcome::Ok), read(0, (40, 50), &[2])];
        assert_eq!(of(&all, Object::Register), Vec::<String>::new());
        let stale = [append(0, 1, (0, 10), Outcome::Ok), append(1, 2, (20, 30), Outcome::Ok), read(0, (40, 50), &[1])];
        assert_eq!(of(&stale, Object::Register).len(), 1);
    }

    /// Whatever is not known to be in order is not in order: a history with too many orders to try may hide a value that came back.
    #[test]
    fn what_could_not_be_judged_is_a_violation() {
        let write = |client, value, group: u64| append(client, value, (group * 100, group * 100 + 50), Outcome::Ok);
        let groups = (0..12).flat_map(|group| (0..4).map(move |n| write(u32::try_from(n).unwrap(), group * 4 + n, group)));
        let all: Vec<Operation> =
            groups.chain([read(5, (2_000, 2_010), &[1])]).map(|operation| Operation { object: Object::Register, ..operation }).collect();
        // A hundredth of the steps that a real history gets: the number of orders is that of 4! by itself twelve times.
        let judgement = judge_in(STEPS / 100, &all.iter().collect::<Vec<_>>());
        assert!(judgement.violations.len() == 1 && judgement.violations[0].contains("could not be judged"), "{judgement:?}");
    }

    #[test]
    fn a_list_that_nobody_read_in_the_end_is_a_violation() {
        let change = append(0, 1, (0, 10), Outcome::Ok);
        assert_eq!(of(&[change.clone(), read(1, (20, 30), &[1])], Object::List), Vec::<String>::new());
        let unread = |last: Operation| {
            let said = of(&[read(1, (0, 5), &[]), change.clone(), last], Object::List);
            assert!(said.len() == 1 && said[0].contains("was not read after its last change"), "{said:?}");
        };
        // Begun too early, and not answered.
        unread(read(2, (5, 30), &[1]));
        unread(operation(1, None, (20, 30), Outcome::Unknown, None));
        // What was refused has changed nothing.
        let refused = append(0, 2, (40, 50), Outcome::Refused);
        assert_eq!(of(&[change.clone(), read(1, (20, 30), &[1]), refused], Object::List), Vec::<String>::new());
        // What nobody knows of may have.
        unread(append(0, 2, (40, 50), Outcome::Unknown));
    }

    #[test]
    fn elle_reads_each_operation_as_a_transaction() {
        let all = [append(0, 1, (1, 4), Outcome::Ok), append(5, 2, (2, 9), Outcome::Unknown), read(1, (5, 6), &[1])];
        let text = elle(&all.iter().collect::<Vec<_>>());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "{:index 0, :type :invoke, :process 0, :f :txn, :value [[:append 0 1]], :time 1000}");
        assert_eq!(lines[4], "{:index 4, :type :ok, :process 1, :f :txn, :value [[:r 0 [1]]], :time 6000}");
        assert_eq!(lines[5], "{:index 5, :type :info, :process 5, :f :txn, :value [[:append 0 2]], :time 9000}");
    }
}
