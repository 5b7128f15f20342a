//! Tables, and every combination of three servers.

use super::*;
use crate::gtid::Flavour;
use crate::record::Unbroken;
use crate::reign::broken;
use proptest::prelude::*;

const A: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const B: &str = "bbbbbbbb-0000-0000-0000-000000000002";
const C: &str = "cccccccc-0000-0000-0000-000000000003";

/// `A:1-5,B:1`, or MariaDB's notation.
fn set(text: &str) -> Gtids {
    let expand = |part: &str| part.replace("A:", &format!("{A}:")).replace("B:", &format!("{B}:")).replace("C:", &format!("{C}:"));
    Gtids::parse_any(&expand(text)).unwrap()
}

fn names(nodes: &[&str]) -> BTreeSet<String> {
    nodes.iter().map(|n| (*n).to_owned()).collect()
}

/// Epoch 1, change 2: `a` wrote A:1-5 until then.
fn record(active: &[&str]) -> Record {
    Record {
        relaxed: false,
        unbroken: None,
        epoch: 1,
        change: 2,
        node: "a".into(),
        server: Some(A.into()),
        durability: Durability::Lossless,
        acknowledgements: 1,
        active: names(active),
        set: Some(set("A:1-5")),
    }
}

fn stamp(epoch: u64, change: u64) -> Stamp {
    Stamp { epoch, change }
}

/// A server that came back and did not acknowledge since.
fn back(executed: &str) -> Position {
    Position {
        round: "1.2-a".into(),
        complete: false,
        kept: false,
        untouched: false,
        cramped: false,
        reuses: false,
        priority: 100,
        acknowledging: None,
        executed: set(executed),
        received: None,
        unfit: None,
    }
}

/// A server that acknowledged, and has not applied everything that it received.
fn at(executed: &str, received: &str) -> Position {
    Position {
        received: Some(set(received)),
        acknowledging: Some(Acknowledging { stamp: stamp(1, 1), mark: set("A:1-3") }),
        ..back(executed)
    }
}

fn untouched(executed: &str) -> Position {
    Position { untouched: true, ..back(executed) }
}

fn kept(executed: &str) -> Position {
    Position { kept: true, ..back(executed) }
}

fn complete(executed: &str) -> Position {
    Position { complete: true, ..kept(executed) }
}

fn cramped(position: Position) -> Position {
    Position { cramped: true, ..position }
}

fn unfit(why: Unfit, position: Position) -> Position {
    Position { unfit: Some(why), ..position }
}

fn ask(me: &str, record: Option<&Record>, positions: &[(&str, Position)]) -> Verdict {
    let round = Record::round(record);
    let positions: BTreeMap<String, Position> =
        positions.iter().map(|(n, p)| ((*n).to_owned(), Position { round: round.clone(), ..p.clone() })).collect();
    let running = positions.keys().cloned().collect();
    elect(&Question { me, record, positions: &positions, running: &running, servers: Some(3), decide: "DECIDE" })
}

/// `+` go on, a name for a hand-over, `!` and the reason for a refusal.
fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::GoOn(_) => "+".into(),
        Verdict::HandOver { to, .. } => to.clone(),
        Verdict::Refuse(reason) => format!("!{}", reason.replace(A, "A").replace(B, "B").replace(C, "C")),
    }
}

type Case<'a> = (&'a str, &'a str, Vec<(&'a str, Position)>, &'a str);

fn check(record: Option<&Record>, cases: &[Case<'_>]) {
    for (name, me, positions, expected) in cases {
        let found = short(&ask(me, record, positions));
        match expected.strip_prefix('!') {
            Some(part) => assert!(found.starts_with('!') && found.contains(part), "{name}: {found}"),
            None => assert_eq!(&found, expected, "{name}"),
        }
        if found.starts_with('!') {
            assert!(["DECIDE", "wait", "start", "write"].iter().any(|word| found.contains(word)), "{name}: no remedy: {found}");
        }
    }
}

#[test]
fn the_first_promotion() {
    let nothing = unfit(Unfit::NoServer, back(""));
    check(
        None,
        &[
            ("all empty", "b", vec![("a", back("")), ("b", back("")), ("c", back(""))], "+"),
            ("all empty, one absent", "b", vec![("a", back("")), ("b", back(""))], "!b is empty and 1 of the servers"),
            ("all empty, one does not run", "b", vec![("a", back("")), ("b", back("")), ("c", nothing.clone())], "!1 of the servers"),
            ("one has data", "b", vec![("a", back("A:1")), ("b", back("")), ("c", back(""))], "a"),
            ("one has all data", "b", vec![("a", back("A:1")), ("b", back("A:1-2,B:1")), ("c", back(""))], "+"),
            (
                "the data differ",
                "b",
                vec![("a", back("A:1-4")), ("b", back("A:1-2,B:1")), ("c", back(""))],
                "!a alone holds A:3-4 and b alone holds B:1",
            ),
            ("a replication is taken over", "b", vec![("a", back("A:1-4")), ("b", at("A:1-2", "A:3-4")), ("c", nothing)], "+"),
            ("the one with data is excluded", "b", vec![("a", unfit(Unfit::Unsound, back("A:1"))), ("b", back(""))], "!settings break"),
            (
                "the one with most data is excluded, and the others' are a part of it",
                "b",
                vec![("a", unfit(Unfit::Unsound, back("A:1-2"))), ("b", back("A:1"))],
                "!the servers that hold all data cannot be promoted (a: its settings break",
            ),
            ("MariaDB, two domains", "b", vec![("a", back("0-1-5,1-1-5")), ("b", back("0-1-5,1-1-4"))], "a"),
            (
                "MariaDB, each domain on another",
                "b",
                vec![("a", back("0-1-5,1-1-4")), ("b", back("0-1-4,1-1-5"))],
                "!a alone holds 0-1-5 and b alone holds 1-1-5",
            ),
        ],
    );
    let positions: BTreeMap<String, Position> = [("b".to_owned(), Position { round: "0.0-".into(), ..back("B:1") })].into();
    let question =
        Question { me: "b", record: None, positions: &positions, running: &names(&["a", "b"]), servers: Some(3), decide: "DECIDE" };
    assert!(short(&elect(&question)).contains("a did not say"), "{:?}", elect(&question));
}

#[test]
fn after_a_demotion_in_order() {
    check(
        Some(&record(&["b", "c"])),
        &[
            ("the target holds all", "b", vec![("a", complete("A:1-9")), ("b", at("A:1-5", "A:6-9"))], "+"),
            ("the target is behind", "b", vec![("a", complete("A:1-9")), ("b", at("A:1-5", "A:6-8"))], "a"),
            (
                "the target is behind by what was promised to nobody",
                "b",
                vec![("a", complete("A:1-9")), ("b", at("A:1-8", "")), ("c", at("A:1-7", ""))],
                "a",
            ),
            (
                "another holds all, and so does the old primary: the one that need not wait",
                "b",
                vec![("a", complete("A:1-9")), ("b", at("A:1-5", "A:6-8")), ("c", Position { priority: 9, ..at("A:1-9", "") })],
                "c",
            ),
            (
                "nobody else, and the old primary may not",
                "b",
                vec![("a", unfit(Unfit::Unsound, complete("A:1-9"))), ("b", at("A:1-8", ""))],
                "!a alone holds A:9 (a cannot be promoted: its settings break",
            ),
            ("a server outside of active that holds all", "d", vec![("a", complete("A:1-9")), ("d", back("A:1-9"))], "+"),
            ("with an errant transaction", "b", vec![("a", complete("A:1-9")), ("b", at("A:1-9,B:1", ""))], "a"),
            ("its disk is full, and a replica holds all", "a", vec![("a", cramped(complete("A:1-9"))), ("b", at("A:1-5", "A:6-9"))], "b"),
            (
                "its disk is full, and what it alone holds was promised to nobody",
                "b",
                vec![("a", cramped(complete("A:1-9"))), ("b", at("A:1-8", "")), ("c", at("A:1-7", ""))],
                "+",
            ),
            (
                "its disk is full, and a silent member may hold more than this one",
                "b",
                vec![("a", cramped(complete("A:1-9"))), ("b", at("A:1-8", ""))],
                "a",
            ),
            ("all disks are full", "b", vec![("a", cramped(complete("A:1-9"))), ("b", cramped(at("A:1-9", "")))], "+"),
            ("the old primary itself again", "a", vec![("a", complete("A:1-9")), ("b", at("A:1-9", ""))], "+"),
        ],
    );
}

#[test]
fn after_a_crash() {
    let dead = || unfit(Unfit::NoServer, back(""));
    check(
        Some(&record(&["b", "c"])),
        &[
            ("the best replica", "b", vec![("a", dead()), ("b", at("A:1-5", "A:6-9")), ("c", at("A:1-8", ""))], "+"),
            ("another is better", "b", vec![("a", dead()), ("b", at("A:1-8", "")), ("c", at("A:1-5", "A:6-9"))], "c"),
            ("equal: the candidate stays", "c", vec![("b", at("A:1-9", "")), ("c", at("A:1-9", ""))], "+"),
            (
                "one is silent",
                "b",
                vec![("b", at("A:1-9", ""))],
                "!only on c (not heard), and the last primary a, whose disk alone would do, was not heard",
            ),
            ("one restarted", "b", vec![("b", at("A:1-9", "")), ("c", back("A:1-8"))], "!only on c (which restarted since"),
            ("one has not got back what it may have acknowledged", "b", vec![("b", at("A:1-9", "")), ("c", at("A:1-2", ""))], "!only on c"),
            ("one has just joined", "b", vec![("b", at("A:1-9", "")), ("c", untouched("A:1-2"))], "+"),
            ("one has just joined, and asks", "c", vec![("b", at("A:1-9", "")), ("c", untouched("A:1-2"))], "b"),
            ("nobody has acknowledged yet", "b", vec![("b", untouched("A:1-5")), ("c", untouched("A:1-2"))], "+"),
            (
                "nobody has acknowledged yet, and nobody has what was before",
                "b",
                vec![("b", untouched("A:1-4")), ("c", untouched("A:1-2"))],
                "!the record alone holds A:5",
            ),
            ("an excluded member speaks", "b", vec![("b", at("A:1-9", "")), ("c", unfit(Unfit::Unsound, at("A:1-8", "")))], "+"),
            (
                "an excluded member holds more",
                "b",
                vec![("b", at("A:1-8", "")), ("c", unfit(Unfit::Unsound, at("A:1-9", "")))],
                "!c alone holds A:9 (c cannot be promoted: its settings",
            ),
            ("an errant member is heard and not elected", "c", vec![("b", at("A:1-9", "")), ("c", at("A:1-9,C:1", ""))], "b"),
            ("an errant member's own transactions are nobody's debt", "b", vec![("b", at("A:1-9", "")), ("c", at("A:1-9,C:1", ""))], "+"),
            (
                "an errant member has more of the primary's",
                "b",
                vec![("b", at("A:1-8", "")), ("c", at("A:1-9,C:1", ""))],
                "!c alone holds A:9",
            ),
            (
                "neither contains the other",
                "b",
                vec![("b", at("A:1-8", "")), ("c", at("A:1-7:9", ""))],
                "!b alone holds A:8 and c alone holds A:9",
            ),
            ("the primary kept all", "a", vec![("a", kept("A:1-9"))], "+"),
            ("the primary kept all, and a replica has it", "b", vec![("a", kept("A:1-9")), ("b", back("A:1-9"))], "+"),
            ("the primary kept all, and the replica has not got it", "b", vec![("a", kept("A:1-9")), ("b", at("A:1-8", ""))], "a"),
            ("an empty disk keeps nothing", "b", vec![("a", kept("")), ("b", back("A:1-9"))], "!the last primary a has less than it had"),
            ("an old backup keeps nothing", "a", vec![("a", kept("A:1-4")), ("b", back("A:1-9"))], "!the last primary a has less"),
            (
                "the primary cut its tail and comes back behind",
                "a",
                vec![("a", back("A:1-8")), ("b", at("A:1-9", "")), ("c", at("A:1-8", ""))],
                "b",
            ),
            (
                "the primary cut its tail, one is silent",
                "a",
                vec![("a", back("A:1-8")), ("b", at("A:1-9", ""))],
                "!may have lost transactions",
            ),
            (
                "the primary may have cut its tail, and a replica need not ask",
                "a",
                vec![("a", back("A:1-9")), ("b", at("A:1-9", "")), ("c", at("A:1-8", ""))],
                "b",
            ),
            (
                "the primary may have cut its tail, and nobody has it",
                "a",
                vec![("a", back("A:1-9")), ("b", unfit(Unfit::Unsound, at("A:1-9", ""))), ("c", at("A:1-8", ""))],
                "+",
            ),
            (
                "the primary cut its tail, and one that is no member has it",
                "a",
                vec![
                    ("a", back("A:1-9")),
                    ("b", unfit(Unfit::Unsound, at("A:1-9", ""))),
                    ("c", at("A:1-8", "")),
                    ("d", unfit(Unfit::Unsound, back("A:1-10"))),
                ],
                "!a may have lost its newest transactions in its crash",
            ),
            (
                "the primary cut its tail, and a third may have it",
                "a",
                vec![("a", back("A:1-9")), ("b", at("A:1-9", "")), ("c", unfit(Unfit::NoServer, back("")))],
                "!may have lost",
            ),
            ("everybody restarted and is here", "c", vec![("a", back("A:1-8")), ("b", back("A:1-9")), ("c", back("A:1-7"))], "b"),
            (
                "everybody is here, and what was recorded is gone",
                "c",
                vec![("a", back("A:1-4")), ("b", back("A:1-3")), ("c", back(""))],
                "!a alone holds A:1-4",
            ),
            (
                "everybody is here, and what was recorded is gone: asked where it is most",
                "a",
                vec![("a", back("A:1-4")), ("b", back("A:1-3")), ("c", back(""))],
                "!the record alone holds A:5",
            ),
            ("does not run", "b", vec![("b", dead())], "!does not run"),
            ("recovers", "b", vec![("b", unfit(Unfit::Recovering, back("")))], "!wait"),
            (
                "is made to follow again, and asks",
                "b",
                vec![("b", unfit(Unfit::Rejoining, at("A:1-9", ""))), ("c", at("A:1-9", ""))],
                "!b cannot be promoted: a copy of the primary's data, or taking back",
            ),
            (
                "is made to follow again: its sets say nothing",
                "b",
                vec![("a", dead()), ("b", at("A:1-8", "")), ("c", unfit(Unfit::Rejoining, at("A:1-9", "")))],
                "!only on c (a copy of the primary's data, or taking back what that one does not have, is not ended there; wait",
            ),
            (
                "is made to follow again: nobody is owed what it holds",
                "b",
                vec![("a", kept("A:1-9")), ("b", at("A:1-9", "")), ("c", unfit(Unfit::Rejoining, at("A:1-10", "")))],
                "+",
            ),
            ("not heard itself", "b", vec![("c", at("A:1-9", ""))], "!the position of b itself"),
            ("preference 0", "b", vec![("b", unfit(Unfit::Unsound, at("A:1-9", ""))), ("c", at("A:1-9", ""))], "!settings break"),
            (
                "preference among equals, when the candidate is none",
                "d",
                vec![("b", at("A:1-9", "")), ("c", Position { priority: 5, ..at("A:1-9", "") }), ("d", back(""))],
                "c",
            ),
            (
                "of two candidates, the one that contains the other",
                "d",
                vec![("a", kept("A:1-10")), ("b", at("A:1-9", "")), ("c", at("A:1-9", "")), ("d", back(""))],
                "a",
            ),
        ],
    );
}

#[test]
fn more_acknowledgements_need_fewer_voices() {
    let two = Record { acknowledgements: 2, ..record(&["b", "c", "d"]) };
    check(
        Some(&two),
        &[
            ("two of three", "b", vec![("b", at("A:1-9", "")), ("c", at("A:1-8", ""))], "+"),
            ("one of three", "b", vec![("b", at("A:1-9", ""))], "!only on c (not heard) or d (not heard)"),
        ],
    );
    let too_few = Record { acknowledgements: 2, ..record(&["b"]) };
    check(
        Some(&too_few),
        &[
            ("nobody could acknowledge", "d", vec![("d", back("A:1-5"))], "+"),
            (
                "nobody could acknowledge, and this one lacks what was before",
                "d",
                vec![("d", back("A:1-4"))],
                "!the record alone holds A:5",
            ),
        ],
    );
    check(Some(&record(&[])), &[("a reign without replicas", "b", vec![("b", back("A:1-5"))], "+")]);
}

#[test]
fn an_operators_decision_is_followed() {
    let decided = Record::parse("epoch=1 node=b").unwrap();
    check(
        Some(&decided),
        &[
            ("the node itself", "b", vec![("a", back("A:1-9")), ("b", back("B:1"))], "+"),
            ("another asks", "a", vec![("a", back("A:1-9")), ("b", back("B:1"))], "b"),
            ("it does not run", "a", vec![("a", back("A:1-9")), ("b", unfit(Unfit::NoServer, back("")))], "!decide again with: DECIDE"),
            ("it is not heard", "a", vec![("a", back("A:1-9"))], "!nothing was heard of it"),
            (
                "it is made to follow again",
                "a",
                vec![("a", back("A:1-9")), ("b", unfit(Unfit::Rejoining, back("B:1")))],
                "!cannot be promoted (a copy of the primary's data, or taking back",
            ),
        ],
    );
}

#[test]
fn when_loss_is_allowed_the_most_is_elected() {
    let loose = Record { durability: Durability::AsyncAllowed, ..record(&["b", "c"]) };
    check(
        Some(&loose),
        &[
            ("alone", "b", vec![("b", at("A:1-7", ""))], "+"),
            ("another has more", "b", vec![("b", at("A:1-7", "")), ("c", back("A:1-8"))], "c"),
            ("alone and empty", "b", vec![("b", back(""))], "!the record alone holds A:1-5"),
            ("everybody is here", "c", vec![("a", back("A:1-2")), ("b", back("")), ("c", back("A:1-3"))], "+"),
            ("errant ones do not count", "b", vec![("b", at("A:1-7", "")), ("c", back("A:1-8,C:1"))], "+"),
            ("incomparable", "b", vec![("b", at("A:1-7", "")), ("c", back("A:1-6:8"))], "!b alone holds A:7 and c alone holds A:8"),
            ("planned", "b", vec![("a", complete("A:1-9")), ("b", at("A:1-7", ""))], "a"),
        ],
    );
}

#[test]
fn mariadb_compares_by_lineage() {
    let r = Record { server: Some("1".into()), set: Some(set("0-3-90,0-1-100")), ..record(&["b", "c"]) };
    let marked = |executed: &str, received: &str| Position {
        acknowledging: Some(Acknowledging { stamp: stamp(1, 1), mark: set("0-3-90,0-1-95") }),
        received: Some(set(received)),
        ..back(executed)
    };
    check(
        Some(&r),
        &[
            ("further", "b", vec![("b", marked("0-3-90,0-1-100", "0-1-109")), ("c", marked("0-3-90,0-1-108", "0-1-108"))], "+"),
            ("behind", "b", vec![("b", marked("0-3-90,0-1-100", "0-1-107")), ("c", marked("0-3-90,0-1-108", "0-1-108"))], "c"),
            (
                "the same number by another server is errant",
                "b",
                vec![("b", marked("0-3-90,0-1-100,0-2-101", "0-1-101")), ("c", marked("0-3-90,0-1-101", ""))],
                "c",
            ),
            (
                "a server that was seeded from a backup",
                "b",
                vec![("b", marked("0-1-100", "0-1-109")), ("c", marked("0-3-90,0-1-108", ""))],
                "+",
            ),
        ],
    );
}

#[test]
fn a_position_of_another_round_does_not_count() {
    let r = record(&["b", "c"]);
    let stale = Position { round: "1.1-a".into(), ..at("A:1-9", "") };
    let positions: BTreeMap<String, Position> = [("b".to_owned(), at("A:1-9", "")), ("c".to_owned(), stale)].into();
    let q = Question { me: "b", record: Some(&r), positions: &positions, running: &names(&["b", "c"]), servers: Some(3), decide: "DECIDE" };
    assert!(short(&elect(&q)).contains("only on c (not heard)"));
}

#[test]
fn who_may_acknowledge() {
    let r = record(&["b", "c"]);
    for (name, record, me, following, not_before, may) in [
        ("a member", &r, "b", "a", Some(stamp(1, 1)), true),
        ("a member of an epoch before", &r, "b", "a", Some(stamp(0, 9)), true),
        ("since this very record", &r, "b", "a", Some(stamp(1, 2)), false),
        ("it is not known since when", &r, "b", "a", None, false),
        ("no member", &r, "d", "a", Some(stamp(1, 1)), false),
        ("of another primary", &r, "b", "c", Some(stamp(1, 1)), false),
        ("the primary itself", &r, "a", "a", Some(stamp(1, 1)), false),
        ("nobody is primary by a decision", &Record::parse("epoch=2 node=a active=b").unwrap(), "b", "a", Some(stamp(1, 1)), false),
    ] {
        assert_eq!(may_acknowledge(record, me, following, not_before), may, "{name}");
    }
}

#[test]
fn a_server_that_started_again_waits_for_a_newer_record() {
    let r = record(&["b", "c"]);
    let mut memory = Memory::default();
    memory.start_over(Some(stamp(0, 4)));
    assert!(memory.untouched(&r) && may_acknowledge(&r, "b", "a", memory.not_before));
    memory.acknowledge(&r);
    assert!(!memory.untouched(&r));
    // The CIB of this node is behind: what was known before keeps counting.
    memory.start_over(Some(stamp(0, 4)));
    assert_eq!((memory.not_before, memory.acknowledging.is_none()), (Some(stamp(1, 2)), true));
    assert!(!may_acknowledge(&r, "b", "a", memory.not_before) && !memory.untouched(&r));
    let again = joined(&r, "b", &set("A:1-7"));
    assert!(may_acknowledge(&again, "b", "a", memory.not_before));
    memory.acknowledge(&again);
    assert_eq!(memory.acknowledging.as_ref().map(|a| (a.stamp, a.mark.clone())), Some((stamp(1, 3), set("A:1-7"))));
    // Later records of the epoch do not move the mark: a member that lags is live all the same.
    memory.acknowledge(&joined(&again, "d", &set("A:1-9")));
    assert_eq!(memory.acknowledging.as_ref().map(|a| a.stamp), Some(stamp(1, 3)));
    memory.start_over(None);
    assert!(!memory.untouched(&r) && !may_acknowledge(&again, "b", "a", memory.not_before));
    memory.learn(stamp(1, 3));
    assert!(!may_acknowledge(&again, "b", "a", memory.not_before));
    assert!(may_acknowledge(&joined(&again, "b", &set("A:1-7")), "b", "a", memory.not_before), "it is known now since when");
    // Who resigned keeps what it has, and waits for a newer record too.
    memory.acknowledge(&again);
    assert_eq!((memory.resign(&again), memory.acknowledging.is_some()), (stamp(1, 3), true));
    assert!(!may_acknowledge(&again, "b", "a", memory.not_before));
}

#[test]
fn a_server_that_acknowledged_in_a_new_reign_of_the_same_node_without_its_agent_is_not_untouched() {
    let mut memory = Memory::default();
    memory.start_over(Some(stamp(0, 0)));
    memory.acknowledge(&record(&["b"]));
    let again = Record { epoch: 2, change: 0, ..record(&["b"]) };
    memory.found_on(&Record { node: "c".into(), ..again.clone() }, "a");
    assert!(memory.untouched(&again), "of another primary");
    memory.found_on(&again, "a");
    assert!(!memory.untouched(&again) && !may_acknowledge(&again, "b", "a", memory.not_before));
    assert!(may_acknowledge(&joined(&again, "b", &set("A:1-7")), "b", "a", memory.not_before));
}

#[test]
fn who_may_leave() {
    let r = record(&["b", "c"]);
    let gone = |nodes: &[(&str, Stamp)]| nodes.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect::<BTreeMap<_, _>>();
    let now = r.stamp();
    let after = left(&r, &gone(&[("c", now)]), &set("A:1-8")).unwrap();
    assert_eq!((after.stamp(), &after.active, &after.set), (stamp(1, 3), &names(&["b"]), &Some(set("A:1-8"))));
    assert_eq!(left(&after, &gone(&[("b", after.stamp())]), &set("A:1-8")), None, "the last one stays");
    let of_three = left(&record(&["b", "c", "d"]), &gone(&[("d", now)]), &set("A:1-8")).map(|r| r.active);
    assert_eq!(of_three, Some(names(&["b", "c"])), "more than enough are left");
    assert_eq!(left(&r, &gone(&[("b", now), ("c", now)]), &set("A:1-8")), None, "all at once");
    assert_eq!(left(&r, &gone(&[("c", stamp(1, 1))]), &set("A:1-8")), None, "the record may have readmitted it since");
    assert_eq!(left(&r, &gone(&[("d", now)]), &set("A:1-8")), None, "not a member");
    assert_eq!(left(&r, &gone(&[]), &set("A:1-8")), None, "nobody");
    let two = Record { acknowledgements: 2, ..r.clone() };
    assert_eq!(left(&two, &gone(&[("c", now)]), &set("A:1-8")), None, "two acknowledgements need two members");
    let loose = Record { durability: Durability::AsyncAllowed, ..r };
    let after = left(&loose, &gone(&[("b", now), ("c", now)]), &set("A:1-8")).unwrap();
    assert_eq!((after.active.len(), after.set), (0, Some(set("A:1-5"))), "with async-allowed the set of the promotion stays");
}

#[test]
fn a_reign_begins() {
    let r = record(&["b", "c"]);
    let mine = set("A:1-9,B:1");
    let reign = Reign {
        durable: true,
        node: "b",
        server: B,
        set: &mine,
        durability: Durability::Lossless,
        acknowledgements: 1,
        running: &names(&["a", "b", "c", "h", "i"]),
        waits: true,
        keeps_account: false,
        remembered: 0,
    };
    let positions: BTreeMap<String, Position> = [
        ("a", kept("A:1-9")),
        ("b", at("A:1-9", "")),
        ("c", at("A:1-7", "A:8-9")),
        ("d", at("A:1-9,C:1", "")),
        ("e", at("A:1-9", "A:10")),
        ("f", unfit(Unfit::NoServer, back(""))),
        ("g", unfit(Unfit::Unsound, back("A:1"))),
        ("h", Position { round: "1.1-a".into(), ..back("A:1") }),
    ]
    .into_iter()
    .map(|(n, p)| (n.to_owned(), p))
    .collect();
    let next = successor(Some(&r), &reign, &positions);
    assert_eq!((next.stamp(), next.node.as_str(), next.server.as_deref()), (stamp(2, 0), "b", Some(B)));
    assert_eq!((next.active, next.set), (names(&["a", "c", "g", "h", "i"]), Some(mine.clone())), "h and i run and were not heard");
    assert!(!next.relaxed && successor(Some(&r), &Reign { durable: false, ..reign.clone() }, &positions).relaxed);
    // The same node again: a member that was not heard may still be acknowledging to it.
    let again = successor(Some(&record(&["z"])), &Reign { node: "a", ..reign.clone() }, &BTreeMap::new());
    assert!(again.active.contains("z") && !again.active.contains("a"));
    // An operator's decision without an epoch does not begin the count anew.
    let decided = Record::parse("node=b").unwrap();
    assert_eq!(successor(Some(&decided), &reign, &positions).epoch, 2);
    assert_eq!(successor(Some(&decided), &Reign { remembered: 7, ..reign.clone() }, &BTreeMap::new()).epoch, 8);
    assert_eq!(successor(None, &reign, &BTreeMap::new()).stamp(), stamp(1, 0));
}

/// From which epoch on nothing was given up, by the record before and how the next reign begins.
#[test]
fn account_is_kept_as_long_as_nothing_is_given_up() {
    let mine = set("A:1-9");
    let begins = |before: Option<&Record>, durability, waits, keeps_account| {
        let running = names(&[]);
        let reign = Reign {
            durable: true,
            node: "b",
            server: B,
            set: &mine,
            durability,
            acknowledgements: 1,
            running: &running,
            waits,
            keeps_account,
            remembered: 6,
        };
        successor(before, &reign, &BTreeMap::new()).unbroken
    };
    let (lossless, loose) = (Durability::Lossless, Durability::AsyncAllowed);
    let anew = |since| Some(Unbroken::begin(since, &mine));
    let stands = Some(Unbroken { since: 3, mark: 7 });
    let kept = Record { unbroken: stands, ..record(&["b"]) };
    let told = Record { unbroken: Some(Unbroken { since: 1, mark: 7 }), ..kept.clone() };
    let decided = Record::parse("epoch=6 node=b").unwrap();
    let of_loss = Record { durability: loose, ..kept.clone() };
    assert_eq!(begins(Some(&kept), lossless, true, true), stands, "elected by what was acknowledged");
    assert_eq!(begins(Some(&kept), loose, true, true), stands, "what it tells of itself is its successor's matter");
    assert_eq!(begins(Some(&kept), lossless, false, true), anew(8), "it tells of what nobody has before it begins to wait");
    assert_eq!(begins(Some(&of_loss), lossless, true, true), anew(7), "loss was allowed");
    assert_eq!(begins(Some(&decided), lossless, true, true), anew(7), "an operator has decided");
    assert_eq!(begins(None, lossless, true, true), anew(7), "nobody was recorded");
    assert_eq!(begins(Some(&record(&["b"])), lossless, true, true), anew(7), "nobody kept account");
    assert_eq!(begins(Some(&kept), lossless, true, false), None);
    let told = broken(&told, &mine).unwrap();
    assert_eq!((told.unbroken, told.stamp(), told.set.as_ref()), (Some(Unbroken::begin(2, &mine)), stamp(1, 3), Some(&mine)));
    assert_eq!((broken(&told, &mine), broken(&record(&["b"]), &mine)), (None, None), "it is said once");
}

/// It would give names again that another server may hold, so it is as one that has lost its newest transactions.
#[test]
fn who_would_give_names_again_is_promoted_only_over_everybody() {
    let r = record(&["b", "c"]);
    let reuses = |position: Position| Position { reuses: true, ..position };
    let verdict = |positions: &[(&str, Position)]| {
        let positions: BTreeMap<String, Position> = positions.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
        let running = names(&["a", "b", "c"]);
        elect(&Question { me: "b", record: Some(&r), positions: &positions, running: &running, servers: Some(3), decide: "DECIDE" })
    };
    let whole = [("a", back("A:1-5")), ("b", reuses(at("A:1-5", ""))), ("c", unfit(Unfit::Unsound, at("A:1-5", "")))];
    assert!(matches!(verdict(&whole), Verdict::GoOn(_)), "{:?}", verdict(&whole));
    assert!(!matches!(verdict(&whole[1..]), Verdict::GoOn(_)), "who is not heard may hold them");
    let clean = [("b", at("A:1-5", "")), ("c", unfit(Unfit::Unsound, at("A:1-5", "")))];
    assert!(matches!(verdict(&clean), Verdict::GoOn(_)));
}

/// What it had received of the primary before is thrown away, and with it what it has acknowledged.
#[test]
fn a_server_that_is_pointed_elsewhere_waits_for_a_newer_record_of_the_same_epoch() {
    let pointed = |record_now| {
        let mut memory = Memory::default();
        memory.start_over(Some(stamp(1, 1)));
        memory.acknowledge(&record(&["b"]));
        memory.point(record_now);
        assert!(memory.acknowledging.is_none());
        memory.not_before
    };
    assert_eq!(pointed(stamp(1, 4)), Some(stamp(1, 4)), "under the next one, in which the primary counts it anew");
    assert_eq!(pointed(stamp(1, 0)), Some(stamp(1, 2)), "the CIB of this node is behind what it acknowledged under");
    assert_eq!(pointed(stamp(2, 0)), Some(stamp(1, 2)), "in a new epoch it has acknowledged nothing");
    let mut memory = Memory { acknowledging: None, not_before: Some(stamp(1, 1)) };
    memory.point(stamp(1, 4));
    assert_eq!(memory.not_before, Some(stamp(1, 1)), "it had acknowledged nothing that could be lost");
}

#[test]
fn a_record_that_was_put_back_begins_another_mark() {
    let r = record(&["b"]);
    let mut memory = Memory::default();
    memory.acknowledge(&Record::parse("epoch=1 node=a").unwrap());
    assert_eq!(memory.acknowledging, None, "nobody acknowledges under an operator's decision");
    memory.acknowledge(&joined(&r, "c", &set("A:1-7")));
    memory.acknowledge(&r);
    assert_eq!(memory.acknowledging, Some(Acknowledging { stamp: stamp(1, 2), mark: set("A:1-5") }));
    memory.acknowledge(&Record { epoch: 2, change: 0, ..r });
    assert_eq!(memory.acknowledging.as_ref().map(|a| a.stamp), Some(stamp(2, 0)));
}

#[test]
fn who_acknowledged_under_this_record_is_found_on_by_right() {
    let r = record(&["b"]);
    let mut memory = Memory { acknowledging: None, not_before: Some(stamp(1, 1)) };
    memory.acknowledge(&r);
    memory.found_on(&r, "a");
    assert_eq!(memory.not_before, Some(stamp(1, 1)), "it was allowed to, and may again");
}

/// The count of epochs goes on from it.
#[test]
fn the_highest_epoch_is_remembered_from_whatever_named_it() {
    let under = |epoch| Some(Acknowledging { stamp: stamp(epoch, 9), mark: set("A:1") });
    let epoch = |acknowledging, not_before| Memory { acknowledging, not_before }.epoch();
    assert_eq!(
        [
            epoch(None, None),
            epoch(under(3), None),
            epoch(None, Some(stamp(4, 0))),
            epoch(under(3), Some(stamp(4, 0))),
            epoch(under(5), Some(stamp(4, 0)))
        ],
        [0, 3, 4, 4, 5]
    );
}

/// A stamp of another epoch, or a later one than the record's, speaks of a record that is not the one in the CIB.
#[test]
fn an_acknowledgement_counts_under_the_record_that_allowed_it() {
    let under = |stamp| Position { acknowledging: Some(Acknowledging { stamp, mark: set("A:1-3") }), ..back("A:1-9") };
    let r = record(&["b", "c"]);
    let others = [stamp(0, 1), stamp(2, 0), stamp(1, 3)].map(|s| live(&under(s), &r));
    assert_eq!((live(&under(stamp(1, 1)), &r), live(&under(stamp(1, 2)), &r), others), (true, true, [false; 3]));
    assert!(!live(&unfit(Unfit::Unasked, under(stamp(1, 1))), &r), "it did not say what it holds");
    check(
        Some(&r),
        &[(
            "the record was put back",
            "b",
            vec![("b", under(stamp(1, 3))), ("c", under(stamp(1, 3)))],
            "!b has acknowledged under 1.3: the CIB was put back",
        )],
    );
}

#[test]
fn the_reason_names_whose_transactions_the_elected_holds() {
    let reason = |positions: &[(&str, Position)]| match ask("b", Some(&record(&["b"])), positions) {
        Verdict::GoOn(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(&[("a", complete("A:1-9")), ("b", at("A:1-9", ""))]), "b holds all of a");
    assert_eq!(reason(&[("b", at("A:1-9", ""))]), "b holds everything that was acknowledged by a");
}

/// A member that cannot be missed is not named as one to be waited for.
#[test]
fn who_is_waited_for_is_named_and_nobody_else() {
    let r = record(&["b", "c", "d", "e"]);
    let positions = [("b", at("A:1-9", "")), ("c", untouched("A:1-2")), ("d", unfit(Unfit::Recovering, untouched("A:1-2")))];
    let refusal = short(&ask("b", Some(&r), &positions));
    assert!(refusal.contains("only on d (it recovers from a crash; wait) or e (not heard), and"), "{refusal}");
}

/// Transactions that came to the primary from elsewhere are recorded as its own: all it has, and with `async-allowed` these alone.
#[test]
fn what_came_from_elsewhere_is_recorded() {
    let r = record(&["b"]);
    let foreign = format!("{B}:1");
    let renewed_as = |record: &Record, foreign: &str| {
        let next = renewed(record, &set("A:1-9,B:1-2"), foreign);
        (next.stamp(), next.set.unwrap())
    };
    assert_eq!(renewed_as(&r, &foreign), (stamp(1, 3), set("A:1-9,B:1-2")));
    let loose = Record { durability: Durability::AsyncAllowed, ..r };
    assert_eq!(renewed_as(&loose, &foreign), (stamp(1, 3), set("A:1-5,B:1")));
    assert_eq!(renewed_as(&loose, "nonsense"), (stamp(1, 3), set("A:1-5")), "what cannot be read is not recorded");
    let both = format!("{B}:1,{C}:1");
    let elsewhere =
        [(&foreign[..], C), (&foreign, B), (&both, C), ("nonsense", C)].map(|(errant, server)| came_from_elsewhere(errant, server));
    assert_eq!(elsewhere, [true, false, false, false], "a server's own transactions are nobody else's");
}

/// As many as there may be, or as many as there are when nobody has said how many.
#[test]
fn an_empty_server_begins_when_everybody_was_heard() {
    let asked = |servers, positions: &[(&str, Position)]| {
        let positions: BTreeMap<String, Position> =
            positions.iter().map(|(n, p)| ((*n).to_owned(), Position { round: "0.0-".into(), ..p.clone() })).collect();
        let running = positions.keys().cloned().collect();
        short(&elect(&Question { me: "b", record: None, positions: &positions, running: &running, servers, decide: "DECIDE" }))
    };
    let two = [("a", back("")), ("b", back(""))];
    assert_eq!([None, Some(1), Some(2)].map(|servers| asked(servers, &two)), ["+", "+", "+"]);
    assert!(asked(Some(3), &two).starts_with("!b is empty and 1 of the servers"));
    assert!(asked(Some(5), &two).starts_with("!b is empty and 3 of the servers"));
    let one_is_gone = [("a", unfit(Unfit::NoServer, back(""))), ("b", back(""))];
    assert!(asked(None, &one_is_gone).starts_with("!b is empty and 1 of the servers"));
    let one_is_silent = [("a", unfit(Unfit::Unasked, back(""))), ("b", back("B:1"))];
    assert!(asked(None, &one_is_silent).starts_with("!a did not say what it holds"));
}

#[test]
fn a_primary_does_not_acknowledge_to_itself() {
    assert_eq!(joined(&record(&["b"]), "a", &set("A:1-7")).active, names(&["b"]));
    assert_eq!(joined(&record(&["b"]), "c", &set("A:1-7")).active, names(&["b", "c"]));
    let relaxed = relaxed(&record(&["b"]), &set("A:1-7"));
    assert_eq!((relaxed.relaxed, relaxed.stamp(), relaxed.set), (true, stamp(1, 3), Some(set("A:1-7"))));
}

#[test]
fn a_killed_promotion_goes_on_only_with_its_own_record() {
    let r = record(&["b"]);
    assert!(may_resume(Some(&r), Some(&r)));
    assert!(!may_resume(Some(&r), None) && !may_resume(None, None));
    assert!(!may_resume(Some(&joined(&r, "c", &set("A:1-5"))), Some(&r)));
}

/// What the history of one epoch can leave behind, enumerated: a wrote A:1 to A:3 after A:1 was recorded; `b` and `c` each took no part, joined
/// late, or acknowledged up to some point, then restarted with a part of it, or did not; everybody is heard or not. A transaction
/// that either acknowledged was seen by a client: no election may lose it.
#[test]
fn no_acknowledged_transaction_is_outside_of_the_elected_set() {
    #[derive(Clone, Copy, Debug)]
    enum Replica {
        /// Up to n, and it has not acknowledged.
        Untouched(usize),
        /// Acknowledged up to n.
        Acknowledged(usize),
        /// Acknowledged up to n, restarted and has up to m.
        Restarted(usize, usize),
        /// Acknowledged up to n, restarted with m, and was allowed again when p had been logged; it has got up to q.
        Again(usize, usize, usize),
    }
    let executed = |n: usize| if n == 0 { String::new() } else { format!("A:1-{n}") };
    let mut replicas = Vec::new();
    for n in 0..=3 {
        replicas.push(Replica::Untouched(n));
        if n > 0 {
            replicas.push(Replica::Acknowledged(n));
            replicas.extend((0..=n).map(|m| Replica::Restarted(n, m)));
            replicas.extend((0..=3).flat_map(|q| (n..=3).map(move |p| Replica::Again(n, p, q))));
        }
    }
    let acknowledged = |r: Replica| match r {
        Replica::Untouched(_) => 0,
        Replica::Acknowledged(n) | Replica::Restarted(n, _) => n,
        Replica::Again(n, p, q) if q > p => n.max(q),
        Replica::Again(n, ..) => n,
    };
    let has = |r: Replica| match r {
        Replica::Untouched(n) | Replica::Acknowledged(n) => n,
        Replica::Restarted(_, m) => m,
        Replica::Again(_, _, q) => q,
    };
    let position = |r: Replica| {
        let mark = |p: usize, stamp| Some(Acknowledging { stamp, mark: set(&executed(p)) });
        match r {
            Replica::Untouched(n) => untouched(&executed(n)),
            Replica::Acknowledged(n) => Position { acknowledging: mark(1, stamp(1, 1)), ..back(&executed(n)) },
            Replica::Restarted(_, m) => back(&executed(m)),
            Replica::Again(_, p, q) => Position { acknowledging: mark(p, stamp(1, 2)), ..back(&executed(q)) },
        }
    };
    let primaries =
        [None, Some(kept("A:1-3")), Some(complete("A:1-3")), Some(cramped(complete("A:1-3"))), Some(unfit(Unfit::NoServer, back("")))];
    let (mut elections, mut refusals) = (0, 0);
    for active in [&["b", "c"][..], &["b"]] {
        let r = Record { set: Some(set("A:1")), ..record(active) };
        for (b, c) in replicas.iter().flat_map(|b| replicas.iter().map(move |c| (*b, *c))) {
            // Who is not in active has not acknowledged in this epoch, or left, and then b has everything that it had acknowledged.
            let seen = acknowledged(b).max(acknowledged(c));
            let b_held_all = matches!(b, Replica::Acknowledged(n) if n >= acknowledged(c));
            if active.len() == 1 && acknowledged(c) > 0 && !b_held_all {
                continue;
            }
            for primary in &primaries {
                for (b_heard, c_heard) in [(true, true), (true, false), (false, true)] {
                    let me = if b_heard { "b" } else { "c" };
                    let mut positions: Vec<(&str, Position)> = primary.iter().map(|p| ("a", p.clone())).collect();
                    positions.extend(b_heard.then(|| ("b", position(b))));
                    positions.extend(c_heard.then(|| ("c", position(c))));
                    let elected = match ask(me, Some(&r), &positions) {
                        Verdict::GoOn(_) => me.to_owned(),
                        Verdict::HandOver { to, .. } => to,
                        Verdict::Refuse(_) => {
                            refusals += 1;
                            continue;
                        }
                    };
                    elections += 1;
                    let held = match elected.as_str() {
                        "a" => 3,
                        "b" => has(b),
                        _ => has(c),
                    };
                    assert!(held >= seen.max(1), "{elected} with {held} of {seen}: active {active:?}, b {b:?}, c {c:?}, {positions:#?}");
                }
            }
        }
    }
    assert!(
        elections > 1000 && refusals > 1000,
        "the test must not pass by refusing everything: {elections} elections, {refusals} refusals"
    );
}

fn gtids() -> impl Strategy<Value = Gtids> {
    prop_oneof![
        Just(Gtids::Empty),
        (1..99_u64).prop_map(|n| set(&format!("A:1-{n}:tag:7,B:5"))),
        (1..99_u64).prop_map(|n| Gtids::parse(&format!("0-1-{n},0-2-100,5-1-1"), Flavour::MariaDb).unwrap()),
    ]
}

proptest! {
    #[test]
    fn a_position_reads_back(
        round in "[0-9]{1,5}\\.[0-9]{1,5}-[0-9a-z.-]{0,12}", complete: bool, kept: bool, untouched: bool, cramped: bool, reuses: bool, priority: u32,
        acknowledging in proptest::option::of((any::<(u64, u64)>(), gtids())), executed in gtids(), received in proptest::option::of(gtids()),
        unfit in proptest::option::of(prop_oneof![Just(Unfit::NoServer), Just(Unfit::Recovering), Just(Unfit::Unsound), Just(Unfit::Unasked), Just(Unfit::Rejoining)]),
    ) {
        let acknowledging = acknowledging.map(|((epoch, change), mark)| Acknowledging { stamp: stamp(epoch, change), mark });
        let position = Position { round, complete, kept, untouched, cramped, reuses, priority, acknowledging, executed, received, unfit };
        prop_assert_eq!(Position::parse(&position.print()), Some(position));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[0-9a-fckufDRNXW|.:-]{0,80}|([0-9.a-]{0,6}\\|){6}[0-9-]{0,9}|\\PC{0,40}") {
        crate::parsers::position(&text);
    }
}
