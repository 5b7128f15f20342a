//! Tables, round trips, and the algebra against sets that list every transaction.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const A: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const B: &str = "bbbbbbbb-0000-0000-0000-000000000002";

fn mysql(text: &str) -> Gtids {
    Gtids::parse(&text.replace("A:", &format!("{A}:")).replace("B:", &format!("{B}:")), Flavour::MySql).unwrap()
}

fn mariadb(text: &str) -> Gtids {
    Gtids::parse(text, Flavour::MariaDb).unwrap()
}

fn short(set: &Gtids) -> String {
    set.to_string().replace(A, "A").replace(B, "B")
}

#[test]
fn mysql_sets_are_printed_in_one_form() {
    for (text, printed) in [
        ("", ""),
        (" \n", ""),
        (",,", ""),
        ("A:1", "A:1"),
        ("A:1-1", "A:1"),
        ("A:1-5:7-9", "A:1-5:7-9"),
        ("A:6-9:1-5", "A:1-9"),
        ("A:1-5:3-9:2", "A:1-9"),
        ("B:1,\n A:1-2", "A:1-2,B:1"),
        (" A:1 - 3 : 5 ", "A:1-3:5"),
        ("A:1,A:2", "A:1-2"),
        ("A:1-5:tag:1-3:other:7", "A:1-5:other:7:tag:1-3"),
        ("A:Tag:1:3", "A:tag:1:3"),
        ("A:tag:1,A:4", "A:4:tag:1"),
        ("A:9223372036854775807", "A:9223372036854775807"),
        ("A:1-9223372036854775807:5", "A:1-9223372036854775807"),
    ] {
        assert_eq!(short(&mysql(text)), printed, "{text:?}");
    }
    let tag = |length| Gtids::parse(&format!("{A}:{}:1", "t".repeat(length)), Flavour::MySql).is_ok();
    assert_eq!([tag(32), tag(33)], [true, false], "as long as a tag can be");
    let upper = Gtids::parse(&format!("{}:1", A.to_uppercase()), Flavour::MySql).unwrap();
    assert_eq!(short(&upper), "A:1");
}

#[test]
fn what_is_no_mysql_set_is_an_error() {
    for text in [
        "x",
        "A",
        "A:",
        "A:0",
        "A:0-4",
        "A:5-3",
        "A:9223372036854775808",
        "A:99999999999999999999",
        "A:-1",
        "A:1-",
        "A:1--2",
        "A:+1",
        "A:1::2",
        "A:tag",
        "A:tag:",
        "A:tag:other:1",
        "A:1:tag",
        "A:1tag:1",
        "A:täg:1",
        "A:1;B:1",
        "0-1-100",
        "aaaaaaaa-0000-0000-0000-00000000000:1",
        "aaaaaaaa00000000000000000000000000001:1",
        "aaaaaaaa-0000-0000-0000-0000000000é:1",
    ] {
        let text = text.replace("A:", &format!("{A}:"));
        let error = Gtids::parse(&text, Flavour::MySql).expect_err(&text);
        assert!(error.contains("uuid:1-5 was expected"), "{error}");
    }
    let long = Gtids::parse(&"x".repeat(100_000), Flavour::MySql).unwrap_err();
    assert!(long.len() < 400 && long.contains("xxxx"), "a message shows its cause, and is not as long: {long}");
}

#[test]
fn mysql_sets_are_sets() {
    for (a, b, contains, union, difference) in [
        ("A:1-5", "A:2-3", true, "A:1-5", "A:1:4-5"),
        ("A:1-5", "A:1-6", false, "A:1-6", ""),
        ("A:1-5:8-9", "A:5-8", false, "A:1-9", "A:1-4:9"),
        ("A:1-3:5-7:9-11", "A:2-10", false, "A:1-11", "A:1:11"),
        ("A:1-10", "A:2:4:6-7:10", true, "A:1-10", "A:1:3:5:8-9"),
        ("A:1-5", "B:1", false, "A:1-5,B:1", "A:1-5"),
        ("A:1-5", "A:tag:1", false, "A:1-5:tag:1", "A:1-5"),
        ("A:1-5:tag:1-2", "A:tag:1", true, "A:1-5:tag:1-2", "A:1-5:tag:2"),
        ("A:1-5", "", true, "A:1-5", "A:1-5"),
        ("", "A:1", false, "A:1", ""),
        ("", "", true, "", ""),
    ] {
        let (x, y) = (mysql(a), mysql(b));
        assert_eq!(x.contains(&y), contains, "{a} contains {b}");
        assert_eq!(short(&x.union(&y)), union, "{a} and {b}");
        let rest = x.difference(&y).unwrap_or_default();
        assert_eq!(short(&mysql(&rest)), difference, "{a} without {b}");
    }
    let set = MySqlSet::parse(&format!("{A}:1-5:tag:1,{B}:1")).unwrap();
    assert_eq!(set.by(&A.to_uppercase()).to_string(), format!("{A}:1-5:tag:1"));
    assert!(set.by("somebody").is_empty());
}

#[test]
fn a_set_with_the_whole_range_costs_nothing() {
    let (all, one) = (mysql("A:1-9223372036854775807"), mysql("A:4611686018427387904"));
    assert!(all.contains(&one) && !one.contains(&all));
    let rest = all.difference(&one).unwrap();
    assert_eq!(rest.replace(A, "A"), "A:1-4611686018427387903:4611686018427387905-9223372036854775807");
}

#[test]
fn mariadb_states_are_printed_in_one_form() {
    for (text, printed) in [
        ("", ""),
        ("0-1-100", "0-1-100"),
        ("0-2-105,0-1-100", "0-1-100,0-2-105"),
        ("0-1-100, 0-2-105\n", "0-1-100,0-2-105"),
        ("1-1-7,0-1-3", "0-1-3,1-1-7"),
        ("0-1-3,0-1-9,0-1-5", "0-1-9"),
        // Equal numbers: the last one is the newest, and stays the last.
        ("0-2-5,0-1-5", "0-2-5,0-1-5"),
        ("0-1-5,0-2-5", "0-1-5,0-2-5"),
        ("4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615"),
    ] {
        assert_eq!(mariadb(text).to_string(), printed, "{text:?}");
    }
}

#[test]
fn what_is_no_mariadb_state_is_an_error() {
    for text in
        ["x", "0", "0-1", "0-1-", "0-1-2-3", "-1-2-3", "0-1-x", "0-+1-2", "4294967296-1-1", "0-1-18446744073709551616", &format!("{A}:1")]
    {
        let error = Gtids::parse(text, Flavour::MariaDb).expect_err(text);
        assert!(error.contains("domain-server-sequence"), "{error}");
    }
}

#[test]
fn a_mariadb_server_that_holds_the_newest_of_another_holds_all_of_it() {
    for (mine, other, contains) in [
        ("0-1-100", "0-1-99", true),
        ("0-1-100", "0-1-101", false),
        // Server 2 took over at 101.
        ("0-1-100,0-2-105", "0-1-100", true),
        ("0-1-100,0-2-105", "0-1-101", false),
        // Seeded from a backup: it knows its newest alone, which is enough for the other to contain it.
        ("0-1-100,0-2-105", "0-2-103", true),
        ("0-2-105", "0-1-100", false),
        // Each domain by itself.
        ("0-1-5,1-1-5", "0-1-5", true),
        ("0-1-5", "0-1-5,1-1-1", false),
        ("0-1-5,1-1-4", "0-1-4,1-1-5", false),
        ("0-1-5", "", true),
        ("", "0-1-1", false),
        // The same number, another transaction.
        ("0-1-5", "0-2-5", false),
    ] {
        assert_eq!(mariadb(mine).contains(&mariadb(other)), contains, "{mine} contains {other}");
    }
    assert_eq!(mariadb("0-1-5,1-1-5,2-3-1").difference(&mariadb("0-1-5,1-1-4")).as_deref(), Some("1-1-5,2-3-1"));
    assert_eq!(mariadb("0-1-4").difference(&mariadb("0-1-5")), None);
}

#[test]
fn what_was_received_lies_on_top_of_what_was_executed() {
    for (executed, received, have) in [
        ("0-1-5", "0-1-9", "0-1-9"),
        ("0-1-5", "", "0-1-5"),
        ("", "0-1-9", "0-1-9"),
        // Everything received has been executed.
        ("0-1-5,0-2-8", "0-2-7", "0-1-5,0-2-8"),
        ("0-1-5", "0-2-6", "0-1-5,0-2-6"),
        ("0-1-5", "1-2-1", "0-1-5,1-2-1"),
        // A number twice: the received one is the newest, unless it was executed before.
        ("0-3-6", "0-1-6", "0-3-6,0-1-6"),
        ("0-1-6,0-3-6", "0-1-6", "0-1-6,0-3-6"),
    ] {
        assert_eq!(mariadb(executed).union(&mariadb(received)).to_string(), have, "{received} on {executed}");
    }
}

#[test]
fn errant_is_what_the_primary_neither_had_nor_wrote() {
    for (name, set, base, errant, explained) in [
        ("the primary's own", "A:1-9", "A:1-5", None, "A:1-9"),
        ("known to the primary", "A:1-9,B:1-3", "A:1-5,B:1-3", None, "A:1-9,B:1-3"),
        ("a replica's", "A:1-9,B:1-4", "A:1-5,B:1-3", Some("B:4"), "A:1-9,B:1-3"),
        ("with a tag", "A:1-9,B:tag:1", "A:1-5,B:1", Some("B:tag:1"), "A:1-9"),
        ("nothing", "", "A:1", None, ""),
        ("all of it", "B:1", "", Some("B:1"), ""),
    ] {
        let (set, base) = (mysql(set), mysql(base));
        assert_eq!(set.errant(&base, A).map(|e| e.replace(A, "A").replace(B, "B")).as_deref(), errant, "{name}");
        assert_eq!(short(&set.explained(&base, A)), explained, "{name}");
    }
    for (name, set, base, errant, explained) in [
        ("the primary's own", "0-1-9", "0-1-5", None, "0-1-9"),
        ("known to the primary", "0-2-4", "0-2-4,0-1-5", None, "0-2-4"),
        ("a replica's newest", "0-1-5,0-2-6", "0-1-5", Some("0-2-6"), "0-1-5"),
        ("a replica's newest, of a server that the primary knows", "0-2-4,0-1-7,0-2-8", "0-2-3,0-1-5", Some("0-2-8"), "0-2-3,0-1-7"),
        ("a replica's newest, under a number of the primary's", "0-2-5", "0-1-5", Some("0-2-5"), ""),
        ("hidden below it, of a server that the primary knows", "0-2-4,0-1-7", "0-2-3,0-1-5", Some("0-2-4"), "0-2-3,0-1-7"),
        ("hidden below what was received since", "0-2-6,0-1-7", "0-1-5", Some("0-2-6"), "0-1-7"),
        ("hidden below what was received since, under a number of the primary's", "0-2-5,0-1-7", "0-1-5", Some("0-2-5"), "0-1-7"),
        ("older than the backup that the primary was seeded from", "0-2-3,0-1-7", "0-1-5", None, "0-2-3,0-1-7"),
        ("a domain of its own", "0-1-7,9-2-1", "0-1-5", Some("9-2-1"), "0-1-7"),
    ] {
        let (set, base) = (mariadb(set), mariadb(base));
        assert_eq!(set.errant(&base, "1").as_deref(), errant, "{name}");
        assert_eq!(set.explained(&base, "1").to_string(), explained, "{name}");
    }
}

#[test]
fn the_empty_set_is_the_same_in_both_notations_and_the_notations_do_not_mix() {
    assert_eq!(mysql(""), mariadb(""));
    assert_eq!(Gtids::parse_any(" \n"), Ok(Gtids::Empty));
    let (one, other) = (mysql("A:1"), mariadb("0-1-1"));
    assert!(!one.contains(&other) && !other.contains(&one) && one.contains(&Gtids::Empty));
    assert_eq!(one.difference(&other), Some(format!("{A}:1")));
    assert_eq!(one.union(&other), one);
    assert_eq!((Gtids::Empty.difference(&one), one.difference(&Gtids::Empty)), (None, Some(format!("{A}:1"))));
    assert_eq!(other.errant(&one, "2").as_deref(), Some("0-1-1"));
    assert!(other.explained(&one, "2").is_empty());
}

/// Every transaction by itself.
type Naive = BTreeSet<(u8, u8, u64)>;

fn naive() -> impl Strategy<Value = Naive> {
    proptest::collection::btree_set((0..2_u8, 0..3_u8, 1..20_u64), 0..40)
}

fn text(set: &Naive) -> String {
    let part = |(server, tag, n): &(u8, u8, u64)| format!("{}{}:{n}", [A, B][usize::from(*server)], ["", ":t", ":u"][usize::from(*tag)]);
    set.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn read(set: &Naive) -> MySqlSet {
    MySqlSet::parse(&text(set)).unwrap()
}

/// A domain as a sequence that several servers wrote in turn: who wrote each transaction.
fn sequence() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(1..4_u32, 0..12)
}

fn state(sequence: &[u32]) -> MariaDbState {
    let gtids: Vec<String> = sequence.iter().zip(1..).map(|(server, n)| format!("0-{server}-{n}")).collect();
    MariaDbState::parse(&gtids.join(",")).unwrap()
}

proptest! {
    #[test]
    fn mysql_sets_agree_with_sets_of_single_transactions(a in naive(), b in naive()) {
        let (x, y) = (read(&a), read(&b));
        prop_assert_eq!(x.union(&y), read(&a.union(&b).copied().collect()));
        prop_assert_eq!(x.difference(&y), read(&a.difference(&b).copied().collect()));
        prop_assert_eq!(x.contains(&y), b.is_subset(&a));
        prop_assert_eq!(x.is_empty(), a.is_empty());
        prop_assert_eq!(x.by(B), read(&a.iter().filter(|t| t.0 == 1).copied().collect()));
        prop_assert_eq!(MySqlSet::parse(&x.to_string()), Ok(x.clone()));
        // What is explained and what is errant are the set.
        let (have, base) = (Gtids::from(x), Gtids::from(y));
        let errant: Naive = a.difference(&b).filter(|t| t.0 != 0).copied().collect();
        prop_assert_eq!(have.errant(&base, A), Some(read(&errant).to_string()).filter(|e| !e.is_empty()));
        prop_assert_eq!(have.explained(&base, A), read(&a.difference(&errant).copied().collect()).into());
    }

    #[test]
    fn a_mariadb_state_contains_just_the_beginnings_of_its_sequence(whole in sequence(), other in sequence(), cut in 0..12_usize) {
        let cut = cut.min(whole.len());
        let (mine, beginning) = (state(&whole), state(&whole[..cut]));
        prop_assert!(mine.contains(&beginning));
        prop_assert_eq!(beginning.contains(&mine), cut == whole.len());
        prop_assert_eq!(beginning.merge(&mine), mine.clone());
        prop_assert_eq!(mine.merge(&beginning), mine.clone());
        prop_assert_eq!(MariaDbState::parse(&mine.to_string()), Ok(mine.clone()));
        // Two servers that went on by themselves after a common beginning, as server 8 and server 9: neither has the other.
        let fork = |server: u32, more: usize| state(&whole[..cut].iter().copied().chain(std::iter::repeat_n(server, more)).collect::<Vec<_>>());
        let (x, y) = (fork(8, 1 + other.len()), fork(9, 1));
        prop_assert!(!x.contains(&y) && !y.contains(&x));
        prop_assert!(x.contains(&beginning) && y.contains(&beginning));
        // With 8 as the primary, 9's transactions are errant; the rest is explained.
        let (x, y, base) = (Gtids::from(x), Gtids::from(y), Gtids::from(beginning));
        prop_assert!(x.errant(&base, "8").is_none());
        prop_assert_eq!(y.errant(&base, "8"), Some(format!("0-9-{}", cut + 1)));
        prop_assert_eq!(&y.explained(&base, "8"), &base);
        prop_assert!(y.union(&x).errant(&base, "8").is_some(), "what was received hides no errant transaction");
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,60}|[0-9a-f:,t-]{0,80}|[0-9,-]{0,40}") {
        crate::parsers::mysql_set(&text);
        crate::parsers::mariadb_state(&text);
    }

    #[test]
    fn a_mangled_set_is_read_without_a_panic(set in naive(), at in 0..200_usize, with in "[0-9a-z:,. -]") {
        let mut text = text(&set);
        if at < text.len() {
            text.replace_range(at..=at, &with);
        }
        crate::parsers::mysql_set(&text);
    }
}

#[test]
fn a_server_made_from_a_backup_learns_what_came_before() {
    let copy = MariaDbState::parse("0-13-50").unwrap();
    let primary = MariaDbState::parse("0-11-28,0-12-70,0-13-60,1-11-4").unwrap();
    assert!(!copy.contains(&MariaDbState::parse("0-11-28").unwrap()));
    let whole = copy.with_history(&primary);
    // Not what is newer than the copy, and no domain that the copy has not.
    assert_eq!(whole.to_string(), "0-11-28,0-13-50");
    assert!(whole.contains(&MariaDbState::parse("0-11-28").unwrap()));
    let forked = MariaDbState::parse("0-12-50,0-13-60").unwrap();
    assert_eq!(copy.with_history(&forked), copy, "its number again, and another transaction");
    assert_eq!(Gtids::from(copy).with_history(&primary.into()), Gtids::from(whole));
    assert_eq!(mysql("A:1").with_history(&mysql("B:1")), mysql("A:1"), "MySQL's sets need none");
}

#[test]
fn a_mariadb_counts_on_from_what_it_holds() {
    let set = |text: &str| Gtids::parse_any(text).unwrap();
    let given_up = set("0-1-103");
    assert!(set("0-1-100").may_give_again(&given_up, 0) && Gtids::Empty.may_give_again(&given_up, 0));
    assert!(set("1-1-200").may_give_again(&given_up, 0), "another domain");
    assert!(!set("0-1-100,0-2-103").may_give_again(&given_up, 0), "the next number is 104");
    assert!(!set("0-2-950").may_give_again(&set("0-2-900,7-1-3"), 0), "nobody writes in that domain");
    assert!(set("0-2-950").may_give_again(&set("7-1-3"), 7), "this server does");
}

#[test]
fn how_far_one_is_behind_is_counted_where_it_can_be() {
    let set = |text: &str| if text.contains(':') { mysql(text) } else { mariadb(text) };
    for (mine, other, count) in [
        ("A:1-5:8", "A:2-3", Some(4)),
        ("A:1-5,B:tag:2-3", "", Some(7)),
        ("A:1-5", "A:1-9", Some(0)),
        ("", "A:1", Some(0)),
        ("0-1-100", "0-1-90", Some(10)),
        ("0-1-100,0-2-105", "0-1-100", Some(5)),
        ("0-1-90", "0-1-100", Some(0)),
        // Each domain by itself.
        ("0-1-5,1-1-7", "0-1-3", Some(9)),
        ("0-1-5", "", Some(5)),
        // They went different ways.
        ("0-1-5", "0-2-4", None),
        ("A:1", "0-1-1", None),
    ] {
        assert_eq!(set(mine).count_beyond(&set(other)), count, "{mine} beyond {other}");
    }
}
