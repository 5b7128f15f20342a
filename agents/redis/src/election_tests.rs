//! Tables, and every reachable combination of three servers.

use super::*;
use proptest::prelude::*;

const H: &str = "aaaa";

fn at(offset: u64) -> Position {
    Position {
        round: "1-a".into(),
        history: H.into(),
        offset,
        before: None,
        has_keys: offset > 0,
        live: true,
        complete: false,
        priority: 100,
        unfit: None,
    }
}

fn restarted(offset: u64) -> Position {
    Position { live: false, ..at(offset) }
}

/// Restarted from an append-only file: data, but a history of its own.
fn incomparable(id: &str) -> Position {
    Position { history: id.into(), has_keys: true, live: false, ..at(0) }
}

fn empty(id: &str) -> Position {
    Position { has_keys: false, ..incomparable(id) }
}

fn unfit(why: Unfit) -> Position {
    Position { unfit: Some(why), ..at(0) }
}

fn record(holders: &[&str]) -> Record {
    Record {
        epoch: 1,
        node: "a".into(),
        history: Some(H.into()),
        past: vec![("past".into(), 7)],
        holders: holders.iter().map(|h| (*h).to_owned()).collect(),
    }
}

fn everybody() -> BTreeSet<String> {
    ["a", "b", "c"].map(str::to_owned).into()
}

fn ask(me: &str, record: Option<&Record>, positions: &[(&str, Position)], k: Option<usize>) -> Verdict {
    let positions: BTreeMap<String, Position> = positions.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
    elect(&Question {
        me,
        record,
        positions: &positions,
        running: &everybody(),
        servers: Some(3),
        confirmations: k,
        wait_last_known_primary: false,
        decide: "DECIDE",
    })
}

/// `+` go on, a name for a hand-over, `!` and a word of the reason for a refusal.
fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::GoOn(_) => "+".into(),
        Verdict::HandOver { to, .. } => to.clone(),
        Verdict::Refuse(reason) => format!("!{reason}"),
    }
}

/// A history of its own, which a server began from the recorded one at that offset.
fn left(id: &str, at_offset: u64, offset: u64) -> Position {
    Position { history: id.into(), before: Some((H.into(), at_offset)), ..at(offset) }
}

/// The CIB was restored from a file: the record is of before, and clients wrote in what went on from there.
#[test]
fn of_two_that_went_on_in_the_same_history_the_one_with_more_is_elected() {
    let r = record(&["a", "b", "c"]);
    for k in [None, Some(1)] {
        assert_eq!(short(&ask("b", Some(&r), &[("b", left("new", 6, 7)), ("c", left("new", 6, 9))], k)), "c", "{k:?}");
    }
    let a = Position { complete: true, ..left("new", 6, 9) };
    assert_eq!(short(&ask("a", Some(&r), &[("a", a), ("b", left("new", 6, 8))], None)), "+");
    let never = Position { unfit: Some(Unfit::Never), ..left("new", 6, 9) };
    assert!(short(&ask("b", Some(&r), &[("b", left("new", 6, 7)), ("c", never)], Some(1))).contains("may be on c"));
}

/// REPLICAOF NO ONE by hand: it expires keys by itself, and its offset moves.
#[test]
fn what_a_server_wrote_to_itself_is_no_part_of_the_history() {
    let r = record(&["a", "b", "c"]);
    let by_hand = [("b", at(9)), ("c", left("own", 7, 50))];
    for k in [None, Some(1)] {
        assert_eq!(short(&ask("b", Some(&r), &by_hand, k)), "+", "{k:?}");
        assert_eq!(short(&ask("c", Some(&r), &by_hand, k)), "b", "{k:?}");
    }
    // Whoever followed it holds no more of the recorded one than it does.
    let beside = [("b", at(9)), ("c", left("own", 7, 50)), ("a", Position { history: "own".into(), ..at(50) })];
    assert_eq!(short(&ask("b", Some(&r), &beside, None)), "+");
    // A promotion that was killed before its record.
    assert_eq!(short(&ask("b", Some(&r), &[("b", left("half", 11, 12)), ("c", at(9))], Some(1))), "+");
}

/// Two promotions that could not be recorded: it followed to the end, and cannot be compared any more.
#[test]
fn one_that_followed_and_cannot_be_compared_is_not_passed_over() {
    let lost = Position { history: "h3".into(), before: Some(("h2".into(), 12)), ..at(11) };
    let servers = [("a", incomparable("x")), ("b", lost.clone()), ("c", at(8))];
    let verdict = ask("b", Some(&record(&["a", "b", "c"])), &servers, Some(1));
    assert!(short(&verdict).contains("may be on b"), "{verdict:?}");
    // Nothing was promised, and it is not thrown away by a guess.
    let why = "!b has not restarted, and its data cannot be compared with what a wrote as the primary: name the node";
    for me in ["a", "b", "c"] {
        let verdict = short(&ask(me, Some(&record(&["a", "b", "c"])), &servers, None));
        assert!(verdict.starts_with(why) && verdict.ends_with("DECIDE"), "{verdict}");
    }
    let by_hand = [("a", lost.clone()), ("c", at(8))];
    assert!(short(&ask("c", Some(&record(&["a", "c"])), &by_hand, None)).starts_with("!a has not restarted"));
    // Who had left the record has what is old.
    assert_eq!(short(&ask("c", Some(&record(&["a", "c"])), &servers, None)), "+");
    // A history that ended before the recorded one began: an election has passed it already.
    let before = [("b", Position { history: "past".into(), ..at(9) }), ("c", at(8))];
    assert_eq!(short(&ask("c", Some(&record(&["a", "b", "c"])), &before, None)), "+");
}

#[test]
fn one_server_alone_confirms_nothing_and_is_promoted_again() {
    assert_eq!(short(&ask("a", Some(&record(&["a"])), &[("a", restarted(5))], Some(0))), "+");
}

#[test]
fn the_table_of_elections() {
    let (r, alone) = (record(&["a", "b", "c"]), record(&["a"]));
    type Case<'a> = (&'a str, &'a str, Option<&'a Record>, Vec<(&'a str, Position)>, &'a str);
    let cases: &[Case<'_>] = &[
        ("fresh, all empty", "b", None, vec![("a", empty("1")), ("b", empty("2")), ("c", empty("3"))], "+"),
        ("fresh, one has data", "b", None, vec![("a", incomparable("1")), ("b", empty("2"))], "a"),
        ("fresh, two have different data", "b", None, vec![("a", incomparable("1")), ("b", incomparable("2"))], "!different data"),
        ("fresh, a replication pair is taken over", "b", None, vec![("a", at(9)), ("b", at(8)), ("c", empty("x"))], "a"),
        ("fresh, empty and somebody is missing", "b", None, vec![("b", empty("2"))], "!2 of the servers"),
        ("crash, the best replica", "b", Some(&r), vec![("a", unfit(Unfit::NoServer)), ("b", at(9)), ("c", at(8))], "+"),
        ("crash, another is better", "b", Some(&r), vec![("a", unfit(Unfit::NoServer)), ("b", at(8)), ("c", at(9))], "c"),
        ("crash, equal: the candidate stays", "c", Some(&r), vec![("b", at(9)), ("c", at(9))], "+"),
        ("the primary restarted from an old snapshot", "a", Some(&r), vec![("a", restarted(5)), ("b", at(9))], "b"),
        ("the primary restarted empty", "a", Some(&r), vec![("a", empty("x")), ("b", at(9)), ("c", at(9))], "b"),
        (
            "the primary restarted from an append-only file beside a live replica",
            "a",
            Some(&r),
            vec![("a", incomparable("x")), ("b", at(9))],
            "b",
        ),
        ("all restarted, snapshots", "b", Some(&r), vec![("a", restarted(9)), ("b", restarted(7)), ("c", restarted(8))], "a"),
        ("all restarted, append-only files", "b", Some(&r), vec![("a", incomparable("x")), ("b", incomparable("y"))], "a"),
        (
            "all restarted, append-only files, the primary is gone",
            "b",
            Some(&r),
            vec![("b", incomparable("y")), ("c", incomparable("z"))],
            "!cannot be compared",
        ),
        (
            "the primary lost its data, the others share a history that was not recorded",
            "b",
            Some(&r),
            vec![("a", empty("x")), ("b", incomparable("y")), ("c", Position { offset: 3, ..incomparable("y") })],
            "c",
        ),
        ("only a stranger's data, and the primary does not run", "b", Some(&r), vec![("b", incomparable("y"))], "!does not run"),
        (
            "all restarted, snapshots from histories before",
            "a",
            Some(&r),
            vec![
                ("a", Position { history: "past".into(), ..restarted(4) }),
                ("b", Position { history: "past".into(), ..restarted(6) }),
                ("c", restarted(5)),
            ],
            "b",
        ),
        (
            "a snapshot beyond the end of its history is no part of the data",
            "b",
            Some(&r),
            vec![("a", unfit(Unfit::NoServer)), ("b", restarted(5)), ("c", Position { history: "past".into(), ..restarted(9) })],
            "+",
        ),
        (
            "the primary began a history that was not recorded",
            "b",
            Some(&r),
            vec![
                ("a", restarted(3)),
                ("b", Position { history: "new".into(), ..at(9) }),
                ("c", Position { history: "new".into(), ..at(8) }),
            ],
            "+",
        ),
        (
            "who missed the last primary is not taken for an unrecorded history",
            "b",
            Some(&r),
            vec![("a", incomparable("x")), ("b", Position { history: "past".into(), ..at(5) })],
            "a",
        ),
        ("all restarted empty", "b", Some(&r), vec![("a", empty("x")), ("b", empty("y")), ("c", empty("z"))], "a"),
        ("alone and empty", "b", Some(&r), vec![("b", empty("y"))], "!did not say"),
        ("alone with the history", "b", Some(&r), vec![("b", at(9))], "+"),
        ("planned move, the target holds all", "b", Some(&r), vec![("a", Position { complete: true, ..at(9) }), ("b", at(9))], "+"),
        ("planned move, the target is behind", "b", Some(&r), vec![("a", Position { complete: true, ..at(9) }), ("b", at(8))], "a"),
        (
            "planned move away from a primary that is never promoted, and the target is behind",
            "b",
            Some(&r),
            vec![("a", Position { complete: true, unfit: Some(Unfit::Never), ..at(9) }), ("b", at(8))],
            "!a alone holds all its data (9 bytes), and its replica-priority is 0: raise it there, or decide with: DECIDE",
        ),
        (
            "planned move away from a primary that is never promoted",
            "b",
            Some(&r),
            vec![("a", Position { complete: true, unfit: Some(Unfit::Never), ..at(9) }), ("b", at(8)), ("c", at(9))],
            "c",
        ),
        ("one is alive and cannot be asked", "b", Some(&r), vec![("b", at(9)), ("c", unfit(Unfit::Unasked))], "!on c is alive"),
        ("the candidate cannot be asked", "b", Some(&r), vec![("b", unfit(Unfit::Unasked)), ("c", at(9))], "!b cannot be promoted"),
        ("fresh, and one is alive and cannot be asked", "b", None, vec![("b", at(9)), ("c", unfit(Unfit::Unasked))], "!on c is alive"),
        (
            "planned move beside one that cannot be asked",
            "b",
            Some(&r),
            vec![("a", Position { complete: true, ..at(9) }), ("b", at(9)), ("c", unfit(Unfit::Unasked))],
            "+",
        ),
        (
            "who threw its data away is not where it was",
            "b",
            Some(&r),
            vec![("b", at(8)), ("c", Position { has_keys: false, unfit: Some(Unfit::Emptied), ..at(9) })],
            "+",
        ),
        ("data before offset", "b", Some(&r), vec![("b", at(8)), ("c", Position { has_keys: false, ..at(9) })], "+"),
        ("loading", "b", Some(&r), vec![("b", unfit(Unfit::Loading))], "!loading"),
        (
            "the dead primary loads again, and the other has not followed for long",
            "b",
            Some(&alone),
            vec![("a", unfit(Unfit::Loading)), ("b", at(8))],
            "!the server on a is loading its data, which may be more",
        ),
        (
            "all restarted, and the primary still loads",
            "b",
            Some(&r),
            vec![("a", unfit(Unfit::Loading)), ("b", restarted(7)), ("c", restarted(8))],
            "!on a is loading",
        ),
        (
            "all restarted, and a replica still loads",
            "a",
            Some(&r),
            vec![("a", restarted(7)), ("b", unfit(Unfit::Loading)), ("c", restarted(6))],
            "!on b is loading",
        ),
        (
            "all restarted, and one still loads that has not followed for long",
            "a",
            Some(&alone),
            vec![("a", restarted(7)), ("b", unfit(Unfit::Loading))],
            "+",
        ),
        ("fresh, and one still loads", "b", None, vec![("a", unfit(Unfit::Loading)), ("b", incomparable("1"))], "!on a is loading"),
        ("crash, and the dead primary loads beside a live replica", "b", Some(&r), vec![("a", unfit(Unfit::Loading)), ("b", at(9))], "+"),
        (
            "who followed to the end is empty, and the dead primary loads",
            "b",
            Some(&r),
            vec![("a", unfit(Unfit::Loading)), ("b", Position { has_keys: false, ..at(9) })],
            "!on a is loading",
        ),
        ("replica-priority 0", "b", Some(&r), vec![("b", Position { unfit: Some(Unfit::Never), ..at(9) })], "!replica-priority"),
        (
            "a first copy in progress is no candidate",
            "b",
            Some(&r),
            vec![("b", at(8)), ("c", Position { unfit: Some(Unfit::Syncing), ..at(9) })],
            "+",
        ),
        ("lower priority number wins among equals", "b", Some(&r), vec![("b", at(9)), ("c", Position { priority: 10, ..at(9) })], "c"),
        (
            "killed between promotion and record",
            "b",
            Some(&r),
            vec![("b", Position { history: "new".into(), before: Some((H.into(), 10)), ..at(12) }), ("c", at(9))],
            "+",
        ),
        (
            "planned move, and the target went on by a promotion that was killed before it was recorded",
            "b",
            Some(&r),
            vec![
                ("a", Position { complete: true, ..at(9) }),
                ("b", Position { history: "new".into(), before: Some((H.into(), 10)), ..at(12) }),
            ],
            "+",
        ),
        (
            "planned move, and a higher offset of another history says nothing",
            "b",
            Some(&r),
            vec![("a", Position { complete: true, ..at(9) }), ("b", at(9)), ("c", Position { offset: 50, ..incomparable("z") })],
            "+",
        ),
        ("planned move of an empty server", "b", Some(&r), vec![("a", Position { complete: true, ..at(0) }), ("b", at(0))], "+"),
        (
            "a snapshot up to the end of its history is a part of the data",
            "b",
            Some(&r),
            vec![("a", unfit(Unfit::NoServer)), ("b", restarted(5)), ("c", Position { history: "past".into(), ..restarted(7) })],
            "c",
        ),
        (
            "fresh, and one went on from where the other is",
            "b",
            None,
            vec![("a", incomparable("1")), ("b", Position { history: "2".into(), before: Some(("1".into(), 10)), ..at(12) })],
            "+",
        ),
        (
            "all empty, one does not run",
            "b",
            Some(&r),
            vec![("a", empty("x")), ("b", empty("y")), ("c", unfit(Unfit::NoServer))],
            "!1 of the",
        ),
        ("all empty, one does not run and one is gone", "b", Some(&r), vec![("a", unfit(Unfit::NoServer)), ("b", empty("y"))], "!2 of the"),
        (
            "only one that is never promoted holds data",
            "b",
            Some(&r),
            vec![("a", empty("x")), ("b", empty("y")), ("c", Position { unfit: Some(Unfit::Never), ..incomparable("z") })],
            "!c alone holds data, and its replica-priority is 0",
        ),
        (
            "the primary lost its data, and one of the others went on from where the other is",
            "b",
            Some(&r),
            vec![
                ("a", empty("x")),
                ("b", incomparable("y")),
                ("c", Position { history: "z".into(), before: Some(("y".into(), 10)), ..restarted(12) }),
            ],
            "c",
        ),
        ("all empty, one is never promoted", "b", Some(&r), vec![("a", empty("x")), ("b", empty("y")), ("c", unfit(Unfit::Never))], "a"),
    ];
    for (name, me, record, positions, expected) in cases {
        let found = short(&ask(me, *record, positions, None));
        match expected.strip_prefix('!') {
            Some(part) => assert!(found.starts_with('!') && found.contains(part), "{name}: {found}"),
            None => assert_eq!(&found, expected, "{name}"),
        }
    }
}

#[test]
fn quorum_waits_for_a_replica_that_may_hold_a_confirmed_write_and_not_for_one_that_cannot() {
    let silent = ask("b", Some(&record(&["a", "b", "c"])), &[("b", at(9))], Some(1));
    assert!(short(&silent).contains("may be on c"), "{silent:?}");
    let left_long_ago = ask("b", Some(&record(&["a", "b"])), &[("b", at(9))], Some(1));
    assert_eq!(short(&left_long_ago), "+");
    let restarted_replica = ask("b", Some(&record(&["a", "b", "c"])), &[("b", at(9)), ("c", restarted(5))], Some(1));
    assert!(short(&restarted_replica).contains("may be on c"), "what c confirmed before it restarted may be lost: {restarted_replica:?}");
    let all_restarted = [("a", restarted(5)), ("b", restarted(7)), ("c", restarted(6))];
    assert_eq!(short(&ask("b", Some(&record(&["a", "b", "c"])), &all_restarted, Some(1))), "+", "nobody can come who has more");
    let two_confirm = ask("b", Some(&record(&["a", "b", "c"])), &[("b", at(9))], Some(2));
    assert_eq!(short(&two_confirm), "+", "with two confirmations b itself holds every confirmed write");
}

/// A replica that nobody may promote was taken for silent, and no failover was possible any more.
#[test]
fn who_is_never_promoted_is_heard_all_the_same() {
    let never = |offset| Position { unfit: Some(Unfit::Never), ..at(offset) };
    let r = record(&["a", "b", "c"]);
    assert_eq!(short(&ask("b", Some(&r), &[("b", at(9)), ("c", never(9))], Some(1))), "+");
    assert_eq!(short(&ask("b", Some(&r), &[("b", at(9)), ("c", never(8))], Some(1))), "+");
    let ahead = short(&ask("b", Some(&r), &[("b", at(8)), ("c", never(9))], Some(1)));
    assert!(ahead.contains("may be on c alone") && ahead.contains("raise that"), "{ahead}");
    assert_eq!(short(&ask("b", Some(&r), &[("b", at(8)), ("c", never(9))], None)), "+", "nothing was promised");
}

/// Nobody was silent, and the snapshot of a replica that is never promoted had a confirmed write that the elected one had not.
#[test]
fn who_is_never_promoted_may_have_what_it_confirmed_from_its_disk() {
    let r = record(&["a", "b", "c"]);
    let asked = |c: Position, k| {
        short(&ask("b", Some(&r), &[("a", restarted(5)), ("b", at(8)), ("c", Position { unfit: Some(Unfit::Never), ..c })], k))
    };
    let ahead = asked(restarted(9), Some(1));
    assert!(ahead.contains("may be on c alone") && ahead.contains("raise that"), "{ahead}");
    assert_eq!(asked(restarted(8), Some(1)), "+", "it has no more");
    assert_eq!(
        asked(Position { history: "past".into(), ..restarted(9) }, Some(1)),
        "+",
        "of a history before: the elected one has gone on"
    );
    assert_eq!(asked(restarted(9), None), "+", "nothing was promised");
}

/// A replica that lost its link hours ago won over the primary that came back from its append-only file with everything.
#[test]
fn who_has_not_followed_for_long_wins_over_nobody_who_has_the_data() {
    let left = record(&["a", "b"]);
    assert_eq!(short(&ask("c", Some(&left), &[("a", incomparable("x")), ("c", at(8))], None)), "a");
    assert_eq!(short(&ask("c", Some(&left), &[("b", at(9)), ("c", at(8))], None)), "b");
    for silent in [vec![("c", at(8))], vec![("c", at(8)), ("a", unfit(Unfit::NoServer))]] {
        let refused = short(&ask("c", Some(&left), &silent, None));
        assert!(refused.contains("has not followed a for long") && refused.contains("DECIDE"), "{refused}");
    }
    // Everybody else came back with nothing: it is what is left.
    assert_eq!(short(&ask("c", Some(&left), &[("a", empty("x")), ("b", empty("y")), ("c", at(8))], None)), "+");
}

/// Standby of the primary, and nobody has everything: the role was handed to the one that was stopped, for ever.
#[test]
fn the_role_is_handed_to_nobody_that_is_stopped() {
    let r = record(&["a", "b", "c"]);
    let running = ["b", "c"].map(str::to_owned).into();
    let asked = |b: Position, c: Position| {
        let old = Position { complete: true, priority: 1, ..at(9) };
        let positions = [("a", old), ("b", b), ("c", c)].map(|(node, position)| (node.to_owned(), position)).into();
        short(&elect(&Question {
            me: "b",
            record: Some(&r),
            positions: &positions,
            running: &running,
            servers: Some(3),
            confirmations: None,
            wait_last_known_primary: false,
            decide: "DECIDE",
        }))
    };
    let stopped =
        "!nobody but a holds all its data (9 bytes), and its server is stopped: start it (crm node online a), or decide with: DECIDE";
    assert_eq!(asked(at(8), at(7)), stopped);
    assert_eq!(asked(at(8), at(9)), "c");
    assert_eq!(asked(at(9), at(8)), "+", "also where the one that is stopped is preferred");
}

#[test]
fn an_operators_decision_is_followed() {
    let decided = Record { history: None, holders: [].into(), ..record(&[]) };
    let positions = [("a", incomparable("x")), ("b", incomparable("y"))];
    assert_eq!(short(&ask("b", Some(&decided), &positions, Some(1))), "a");
    assert_eq!(short(&ask("a", Some(&decided), &positions, Some(1))), "+");
    let it_is_down = [("a", unfit(Unfit::NoServer)), ("b", incomparable("y"))];
    assert!(short(&ask("b", Some(&decided), &it_is_down, Some(1))).contains("decide again with: DECIDE"));
}

#[test]
fn after_a_full_restart_wait_last_known_master_waits() {
    let r = record(&["a", "b"]);
    let positions: BTreeMap<String, Position> = [("b".to_owned(), restarted(9))].into();
    let running = everybody();
    let question = Question {
        me: "b",
        record: Some(&r),
        positions: &positions,
        running: &running,
        servers: Some(3),
        confirmations: None,
        wait_last_known_primary: true,
        decide: "DECIDE",
    };
    assert!(short(&elect(&question)).contains("wait_last_known_master"));
    let live: BTreeMap<String, Position> = [("b".to_owned(), at(9))].into();
    assert_eq!(short(&elect(&Question { positions: &live, ..question })), "+");
}

#[test]
fn every_refusal_says_what_to_do() {
    let r = record(&["a", "b", "c"]);
    for verdict in all_worlds(&r, Some(1)).into_iter().map(|(_, _, v)| v) {
        if let Verdict::Refuse(reason) = verdict {
            let remedy = ["DECIDE", "wait", "start", "raise"].iter().any(|word| reason.contains(word));
            assert!(remedy, "{reason}");
        }
    }
}

/// What a server can be in after the primary `a` died: not heard, behind by 0 to 2, restarted from its disk, empty.
fn states() -> Vec<Option<Position>> {
    let mut all: Vec<Option<Position>> = vec![None, Some(empty("e")), Some(incomparable("f")), Some(unfit(Unfit::NoServer))];
    all.extend((1..=3).map(|n| Some(at(n))));
    all.extend((1..=3).map(|n| Some(restarted(n))));
    all
}

/// Every combination of the three servers, asked as `b`.
fn all_worlds(r: &Record, k: Option<usize>) -> Vec<(BTreeMap<String, Position>, Vec<String>, Verdict)> {
    let mut worlds = Vec::new();
    for a in states() {
        for b in states() {
            for c in states() {
                let all = [("a", a.clone()), ("b", b.clone()), ("c", c)];
                let positions: BTreeMap<String, Position> = all.iter().filter_map(|(n, p)| Some(((*n).to_owned(), p.clone()?))).collect();
                let silent = all.iter().filter(|(_, p)| p.is_none()).map(|(n, _)| (*n).to_owned()).collect();
                let verdict = elect(&Question {
                    me: "b",
                    record: Some(r),
                    positions: &positions,
                    running: &everybody(),
                    servers: Some(3),
                    confirmations: k,
                    wait_last_known_primary: false,
                    decide: "DECIDE",
                });
                worlds.push((positions, silent, verdict));
            }
        }
    }
    worlds
}

/// What follows holds in every election of three servers, whoever is recorded as a holder, with and without a promise.
#[test]
fn the_invariants_hold_in_every_election() {
    let mut more = states();
    more.extend([Unfit::Unasked, Unfit::Emptied, Unfit::Syncing, Unfit::Loading].map(|why| Some(unfit(why))));
    more.extend([at(3), restarted(3)].map(|p| Some(Position { unfit: Some(Unfit::Never), ..p })));
    more.push(Some(Position { has_keys: false, ..at(3) }));
    more.push(Some(Position { history: "g".into(), ..at(4) }));
    let complete = [None, Some(Unfit::Never)].map(|unfit| Some(Position { complete: true, unfit, ..at(2) }));
    let (mut elections, mut refusals) = (0, 0);
    for holders in [&["a", "b", "c"][..], &["a", "b"], &["a", "c"], &["a"]] {
        let record = record(holders);
        for k in [None, Some(1)] {
            for a in more.iter().chain(&complete) {
                for b in &more {
                    for c in &more {
                        let all = [("a", a), ("b", b), ("c", c)];
                        let positions: BTreeMap<String, Position> =
                            all.iter().filter_map(|(n, p)| Some(((*n).to_owned(), (*p).clone()?))).collect();
                        let verdict = elect(&Question {
                            me: "b",
                            record: Some(&record),
                            positions: &positions,
                            running: &everybody(),
                            servers: Some(3),
                            confirmations: k,
                            wait_last_known_primary: false,
                            decide: "DECIDE",
                        });
                        let elected = match &verdict {
                            Verdict::GoOn(_) => "b",
                            Verdict::HandOver { to, .. } => to,
                            Verdict::Refuse(_) => {
                                refusals += 1;
                                continue;
                            }
                        };
                        elections += 1;
                        hold(&record, &positions, k, elected);
                    }
                }
            }
        }
    }
    assert!(elections > 5000 && refusals > 5000, "neither refusing nor electing always: {elections}, {refusals}");
}

/// The invariants of one election.
#[track_caller]
fn hold(record: &Record, positions: &BTreeMap<String, Position>, k: Option<usize>, elected: &str) {
    let winner = &positions[elected];
    let what = || format!("{elected} of {positions:?}, holders {:?}, k {k:?}", record.holders);
    assert!(winner.unfit.is_none(), "no candidate: {}", what());
    let in_order = positions.get("a").filter(|p| p.complete);
    if let Some(old) = in_order {
        assert!(winner.offset >= old.offset, "less than the old primary gave away: {}", what());
        return;
    }
    assert!(positions.values().all(|p| p.unfit != Some(Unfit::Unasked)), "over one that is alive and unknown: {}", what());
    let fit = || positions.values().filter(|p| p.unfit.is_none());
    assert!(winner.has_keys || fit().all(|p| !p.has_keys), "without data over one with data: {}", what());
    let gone = |node: &String| positions.get(node).is_none_or(|p| matches!(p.unfit, Some(Unfit::NoServer | Unfit::Loading)));
    let to_the_end =
        |node: &String| positions.get(node).is_some_and(|p| p.unfit.is_none() && p.live && (p.counts_in(H) || p.history == "g"));
    let loads = |node: &String| positions.get(node).is_some_and(|p| p.unfit == Some(Unfit::Loading));
    assert!(!record.holders.iter().any(loads) || record.holders.iter().any(to_the_end), "over one that loads: {}", what());
    if winner.has_keys && !record.holders.contains(elected) {
        assert!(!record.holders.iter().any(gone), "left behind, and a holder is silent: {}", what());
        let primary = positions.get("a").filter(|p| p.unfit.is_none() && p.has_keys && !p.counts_in(H));
        let with_a_holder = record.holders.iter().any(to_the_end);
        assert!(primary.is_none() || !winner.live || with_a_holder, "left behind, and the primary is back with its data: {}", what());
    }
    let elsewhere = |(node, p): (&String, &Position)| {
        (node == "a" || record.holders.contains(node)) && p.unfit.is_none() && p.live && p.has_keys && p.history == "g"
    };
    assert!(winner.history == "g" || !positions.iter().any(elsewhere), "over one that cannot be compared: {}", what());
    let followed = |p: &Position| p.live && p.counts_in(H) && p.has_keys;
    if fit().any(|p| p.has_keys && followed(p)) && followed(winner) {
        assert!(fit().filter(|p| followed(p)).all(|p| p.offset <= winner.offset), "less than another: {}", what());
    }
    if k == Some(1) {
        for holder in record.holders.iter().filter(|n| *n != "a") {
            let knows = positions.get(holder).filter(|p| matches!(p.unfit, None | Some(Unfit::Never)));
            let everybody = record.holders.iter().all(|n| positions.get(n).is_some_and(|p| matches!(p.unfit, None | Some(Unfit::Never))));
            assert!(everybody || knows.is_some_and(|p| p.live), "a write may be on {holder}: {}", what());
            // The primary from an append-only file cannot be compared with what another's disk had.
            if let Some(p) = knows.filter(|p| p.counts_in(H) && (p.live || winner.is_part_of(record))) {
                assert!(winner.counts_in(H) && p.offset <= winner.offset, "{holder} may have confirmed more: {}", what());
            }
        }
    }
}

/// R1 and R3 over every combination.
#[test]
fn nobody_with_less_is_elected_over_one_with_comparable_more() {
    for (positions, _, verdict) in all_worlds(&record(&["a", "b", "c"]), None) {
        let elected = match &verdict {
            Verdict::GoOn(_) => "b",
            Verdict::HandOver { to, .. } => to,
            Verdict::Refuse(_) => continue,
        };
        let winner = &positions[elected];
        assert!(winner.unfit.is_none(), "{positions:?}");
        for other in positions.values().filter(|p| p.unfit.is_none()) {
            assert!(winner.has_keys || !other.has_keys, "R1: empty {elected} over data: {positions:?}");
            if other.live && other.counts_in(H) {
                assert!(winner.counts_in(H) && winner.offset >= other.offset, "R3: {elected}: {positions:?}");
            }
        }
    }
}

/// R4: with one confirmation, a confirmed write is on b or c, and if both are alive it is on the one that is elected;
/// a silent one may hold it, so it must not be passed over.
#[test]
fn no_confirmed_write_is_outside_the_elected_data() {
    let r = record(&["a", "b", "c"]);
    let mut elections = 0;
    for (positions, silent, verdict) in all_worlds(&r, Some(1)) {
        let elected = match &verdict {
            Verdict::GoOn(_) => "b",
            Verdict::HandOver { to, .. } => to,
            Verdict::Refuse(_) => continue,
        };
        elections += 1;
        assert!(!silent.iter().any(|n| n == "b" || n == "c"), "a silent holder was passed over: {positions:?}");
        let everybody = ["a", "b", "c"].iter().all(|n| positions.get(*n).is_some_and(|p| p.unfit.is_none()));
        let followed = ["b", "c"].iter().all(|n| positions.get(*n).is_some_and(|p| p.unfit.is_none() && p.live));
        assert!(everybody || followed, "a holder that restarted was taken for one that followed: {positions:?}");
        for holder in ["b", "c"] {
            if positions[holder].live && positions[holder].unfit.is_none() && positions[holder].counts_in(H) {
                assert!(positions[elected].offset >= positions[holder].offset, "{elected}: {positions:?}");
            }
        }
    }
    assert!(elections > 50, "the test must not pass by refusing everything: {elections}");
}

proptest! {
    #[test]
    fn a_position_reads_back(
        round in "[0-9]{1,5}-[0-9a-z.-]{0,12}", history in "[0-9a-f]{0,40}", offset: u64,
        before in proptest::option::of(("[0-9a-f]{40}", any::<u64>())), has_keys: bool, live: bool, complete: bool, priority: u32,
        unfit in proptest::option::of(prop_oneof![Just(Unfit::NoServer), Just(Unfit::Unasked), Just(Unfit::Loading), Just(Unfit::Syncing), Just(Unfit::Emptied), Just(Unfit::Never)]),
    ) {
        let position = Position { round, history, offset, before, has_keys, live, complete, priority, unfit };
        prop_assert_eq!(Position::parse(&position.print()), Some(position));
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[0-9a-fklcDUELSN:-]{0,80}|\\PC{0,40}") {
        let _ = Position::parse(&text);
    }
}
