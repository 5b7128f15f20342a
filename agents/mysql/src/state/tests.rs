use serde_json::Value;

use super::*;
use crate::record::Stamp;

/// A situation and what an agent wrote in it whose memory was flat, line by line.
const BEFORE: &str = include_str!("files_before.txt");

fn file_before(situation: &str) -> &'static str {
    BEFORE.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == situation)).unwrap().1
}

fn before(situation: &str) -> State {
    serde_json::from_str(file_before(situation)).unwrap()
}

/// The same file with some of its parts replaced.
fn changed(situation: &str, parts: &Value) -> State {
    let mut file: Value = serde_json::from_str(file_before(situation)).unwrap();
    file.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    serde_json::from_value(file).unwrap()
}

fn written(state: &State) -> Value {
    serde_json::to_value(state).unwrap()
}

fn resting(state: &State) -> (&str, bool, Option<u64>) {
    let rest = state.rest().unwrap();
    (&rest.round, rest.elected.is_some(), rest.claim.as_ref().map(|claim| claim.epoch))
}

#[test]
fn a_file_of_an_agent_before_is_read() {
    let primary = before("primary");
    let process = primary.process.as_ref().unwrap();
    assert!(process.ours && process.answered && process.dialect.is_some() && process.disks.is_some());
    let role = primary.primary().unwrap();
    assert_eq!((role.epoch, role.claim.is_some(), role.opened, role.server_ids.len()), (Some(1), true, Some(Duration::from_secs(990)), 3));
    assert!(primary.reigns(primary.record.as_ref().unwrap()));
    assert_eq!(primary.told.server_id, Some(("11".to_owned(), Duration::from_secs(1000))));

    let replica = before("replica");
    assert_eq!((replica.following(), replica.acknowledges()), (Some("a"), true));
    assert!(replica.process.as_ref().unwrap().linked && replica.memory.acknowledging.is_some());

    let demoted = before("demoted");
    assert_eq!(resting(&demoted), ("1.0-a", false, None));
    let record = demoted.record.as_ref().unwrap();
    assert!(demoted.reign_is_over() && demoted.reigned(record) && !demoted.reigns(record));

    assert_eq!(resting(&before("resting")), ("1.0-a", false, None));
    assert_eq!(resting(&before("elected")), ("1.0-a", true, None));
    let claiming = before("claiming");
    assert_eq!(resting(&claiming), ("1.0-a", true, Some(2)));
    assert!(claiming.reigns(claiming.claim().unwrap()));
    let over = before("claim-demoted");
    assert_eq!((resting(&over), over.reign_is_over()), (("1.0-a", true, None), true));

    let held = before("held");
    assert_eq!((held.unpromoted().map(|u| &u.link), held.held_until()), (Some(&Link::Nobody), Some(Duration::from_secs(1008))));
    assert!(held.ours() && !held.answered() && !held.was_demoted());
}

/// What an agent before this one reads of it is what it would have written itself, but for what was true of a situation before.
#[test]
fn what_is_written_can_be_read_by_an_agent_before() {
    for line in BEFORE.lines() {
        let (situation, text) = line.split_once(' ').unwrap();
        let state: State = serde_json::from_str(text).unwrap();
        let (old, new): (Value, Value) = (serde_json::from_str(text).unwrap(), written(&state));
        assert_eq!(serde_json::from_value::<State>(new.clone()).unwrap(), state, "{situation}");
        let keys = |file: &Value| file.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&old), keys(&new), "{situation}");
        let other: Vec<String> = keys(&old).into_iter().filter(|key| old[key] != new[key]).collect();
        let expected: &[&str] = match situation {
            // The election before: no record has that round any more.
            "primary" | "replica" => &["rested"],
            "demoted" => &["opened", "server_ids"],
            _ => &[],
        };
        assert_eq!(other, expected, "{situation}");
    }
}

/// Every situation comes back from the file as it was.
#[test]
fn each_situation_reads_back() {
    let claim = Record::parse("epoch=2 change=0 node=b server=12 active=a set=0-11-7").unwrap();
    let mut all = vec![State::default(), before("replica").of_stopped(), before("primary").of_new_process(vec![])];
    let mut state = before("elected");
    all.push(state.clone());
    state.lay_claim(claim.clone(), "1.0-a".to_owned());
    all.push(state.clone());
    state.become_primary(&claim, Duration::from_secs(7));
    all.push(state.clone());
    // Somebody has closed it, and it is promoted once more.
    let mut closed = state.clone();
    closed.lay_claim(Record { epoch: 3, ..claim.clone() }, "2.0-b".to_owned());
    all.push(closed);
    state.end_reign();
    assert!(state.was_demoted() && state.reign_is_over() && state.claim().is_none());
    all.push(state.clone());
    state.take_over();
    all.push(state.clone());
    let mut alone = before("held");
    alone.lay_claim(claim, "0.0-".to_owned());
    all.push(alone);
    for state in all {
        assert_eq!(serde_json::from_value::<State>(written(&state)).unwrap(), state);
    }
}

/// What cannot be is read as what promises least: no promotion goes on, and nothing counts as held.
#[test]
fn nonsense_in_a_file_is_read_as_what_promises_least() {
    let other = serde_json::json!({"pid": 9, "start_ticks": 9, "boot": ""});
    let state = changed("demoted", &serde_json::json!({"reign": {"epoch": 1, "server": other, "stage": "Over"}}));
    assert!(!state.reigned(state.record.as_ref().unwrap()), "it was another process's");
    // Somebody else was promoted before the promotion of this one was over.
    let state = changed("claiming", &serde_json::json!({"following": "c"}));
    assert_eq!((state.following(), state.claim()), (Some("c"), None));
    let state = changed("claiming", &serde_json::json!({"reign": null}));
    assert_eq!(resting(&state), ("1.0-a", true, None));
    let record = Record::parse("epoch=1 change=0 node=a server=11 active=b set=").unwrap();
    let state = changed("primary", &serde_json::json!({"promoted": false}));
    assert!(!state.reigned(&record) && !state.reign_is_over(), "whether it ended in order is not known");
    let state = changed("primary", &serde_json::json!({"server": null}));
    assert!(state.promoted() && !state.reigns(&record) && !state.ours());
}

/// A release before, and words that this one does not know in what can be found out anew.
#[test]
fn what_can_be_found_out_anew_need_not_be_understood() {
    let state = changed("primary", &serde_json::json!({"dialect": {"words": "Newest"}}));
    assert_eq!((state.promoted(), state.dialect()), (true, None));
    let state: State = serde_json::from_str(r#"{"promoted":true,"dialect":{"words":"Newest"}}"#).unwrap();
    assert!(state.promoted());
}

#[test]
fn another_process_of_the_server_has_acknowledged_nothing() {
    let mut state = State::default();
    let record = Record::parse("epoch=2 change=3 node=a server=11 active=b set=0-11-7").unwrap();
    state.memory.learn(Stamp::default());
    state.memory.acknowledge(&record);
    let anew = state.of_new_process(vec![]).memory;
    assert_eq!((anew.acknowledging, anew.not_before), (None, None));
}

/// A diverged server whose data an operator declares right is a primary like any other.
#[test]
fn what_kept_a_replica_away_is_not_true_of_a_primary() {
    let mut state = before("resting");
    state.as_unpromoted(|unpromoted| unpromoted.errant = Some("0-13-7".to_owned()));
    assert_eq!(state.errant(), Some("0-13-7"));
    let record = Record::parse("epoch=2 change=0 node=c server=13 active=a set=0-13-7").unwrap();
    state.lay_claim(record.clone(), "1.0-a".to_owned());
    state.become_primary(&record, Duration::ZERO);
    assert_eq!(state.errant(), None);
    state.end_reign();
    assert_eq!(state.errant(), None);
}

/// A demotion that was told by nobody's notification: whom the next record names is followed.
#[test]
fn only_a_primary_becomes_a_demoted_one() {
    for situation in ["replica", "resting", "elected", "held"] {
        let mut state = before(situation);
        let link = state.unpromoted().unwrap().link.clone();
        state.end_reign();
        assert_eq!(state.unpromoted().unwrap().link, link, "{situation}");
    }
    let mut state = before("primary");
    state.end_reign();
    assert!(state.was_demoted());
    assert_eq!(state.come_to_rest("1.0-a"), None);
    assert!(state.rests_for("1.0-a") && !state.was_demoted());
}
