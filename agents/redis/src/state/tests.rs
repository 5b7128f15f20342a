use serde_json::Value;

use super::*;

/// A situation and what an agent wrote in it whose memory was flat, line by line.
const BEFORE: &str = include_str!("files_before.txt");

fn file_before(situation: &str) -> Value {
    let text = BEFORE.lines().find_map(|line| line.split_once(' ').filter(|(name, _)| *name == situation)).unwrap().1;
    serde_json::from_str(text).unwrap()
}

fn before(situation: &str) -> State {
    serde_json::from_value(file_before(situation)).unwrap()
}

/// The same file with some of its parts replaced.
fn changed(situation: &str, parts: &Value) -> State {
    let mut file = file_before(situation);
    file.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    serde_json::from_value(file).unwrap()
}

fn written(state: &State) -> Value {
    serde_json::to_value(state).unwrap()
}

fn link(state: &State) -> &Link {
    &state.unpromoted().unwrap().link
}

fn nodes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn process(pid: i32) -> Identity {
    Identity { pid, start_ticks: 7, boot: String::new() }
}

fn record(epoch: u64) -> Record {
    Record::parse(&format!("epoch={epoch} node=b history=h{epoch} holders=a,b")).unwrap()
}

#[test]
fn a_file_of_an_agent_before_is_read() {
    let primary = before("primary");
    let reign = primary.reign().unwrap();
    assert_eq!((reign.round.as_str(), reign.history.as_str(), &reign.holders), ("1-a", "h9", &nodes(&["a", "b", "c"])));
    assert!(reign.reviewed.is_some() && primary.ours() && primary.linked() && primary.reigned("1-a"));
    assert_eq!((primary.version, primary.record.as_ref().map(|record| record.epoch)), (1, Some(1)));

    let alone = before("primary-alone");
    let role = alone.primary().unwrap();
    assert_eq!((role.short_since.is_some(), &role.leaving, alone.reign().unwrap().away.len()), (true, &nodes(&["c"]), 2));

    let replica = before("replica");
    assert_eq!((replica.following(), replica.linked(), replica.may_part_with_data()), (Some("a"), true, false));
    assert_eq!((link(&before("resting")), &before("resting").record), (&Link::Following("a".to_owned()), &None));

    let elected = before("elected");
    assert!(elected.is_elected("epoch=1 node=a history=h9 past=h3:1 holders=a,b,c") && !elected.is_elected(""));
    assert_eq!(elected.following(), Some("a"));

    let demoted = before("demoted");
    assert_eq!((link(&demoted), demoted.promoted()), (&Link::Nobody, false));
    assert!(demoted.reigned("1-a") && demoted.may_part_with_data());

    let held = before("held");
    assert!(held.held_until().is_some() && held.ours() && !held.linked() && !held.reigned("2-b"));
    assert_eq!(before("stands-back").unpromoted().unwrap().stands_back.unwrap().0, Score::new(1));
    let refused = before("refused");
    let unpromoted = refused.unpromoted().unwrap();
    assert!(unpromoted.refused.is_some() && unpromoted.detached_since.is_some() && unpromoted.stands_back.is_some());
}

/// What an agent before this one reads of it is what it would have written itself, but for what was true of a situation before.
#[test]
fn what_is_written_can_be_read_by_an_agent_before() {
    for situation in BEFORE.lines().map(|line| line.split(' ').next().unwrap()) {
        let (old, state) = (file_before(situation), before(situation));
        let new = written(&state);
        assert_eq!(serde_json::from_value::<State>(new.clone()).unwrap(), state, "{situation}");
        let keys = |file: &Value| file.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&old), keys(&new), "{situation}");
        let other: Vec<String> = keys(&old).into_iter().filter(|key| old[key] != new[key]).collect();
        let expected: &[&str] = if situation == "demoted" { &["history", "reviewed"] } else { &[] };
        assert_eq!(other, expected, "{situation}");
    }
}

/// Every situation comes back from the file as it was.
#[test]
fn each_situation_reads_back() {
    let mut state = before("replica");
    let mut all = vec![State::default(), state.clone(), state.before_launch(None), before("held").before_launch(Some("c".to_owned()))];
    all.push(before("primary").of_found_process(process(8)));
    state.of_process(|process| process.unheard = Unheard { busy_for: 3, working_for: 1, still_for: 2 });
    state.of_process(|process| process.settings_before = vec![("repl-diskless-sync-delay".to_owned(), "5".to_owned())]);
    state.win_election(record(1).to_string());
    all.push(state.clone());
    state.forget_election();
    assert_eq!(state.following(), Some("a"));
    state.win_election(String::new());
    all.push(state.clone());
    state.become_primary(record(2), Duration::from_secs(7));
    all.push(state.clone());
    state.end_reign();
    assert!(state.reigned("2-b") && state.following().is_none());
    all.push(state.clone());
    // Somebody made it a primary again, and the record is gone.
    state.take_over(None);
    assert!(state.promoted() && state.reign().is_none() && state.may_part_with_data());
    all.push(state.clone());
    state.reign_under(&record(3));
    assert!(state.reigned("3-b") && !state.reigned("2-b"));
    all.push(state.clone());
    state.become_demoted(Some("c".to_owned()));
    all.push(state.clone());
    state.follow_promoted("a".to_owned());
    all.push(state);
    for state in all {
        assert_eq!(serde_json::from_value::<State>(written(&state)).unwrap(), state);
    }
}

/// A part that cannot be true in the situation is left out.
#[test]
fn nonsense_in_a_file_is_of_a_situation_before() {
    let other = serde_json::json!({"round": "1-a", "server": {"pid": 9, "start_ticks": 9, "boot": ""}});
    let state = changed("demoted", &serde_json::json!({ "reign": other }));
    assert!(!state.reigned("1-a"), "it was another process's");
    let state = changed("primary", &serde_json::json!({ "reign": other }));
    assert!(state.promoted() && state.reign().is_none());
    let state =
        changed("primary", &serde_json::json!({"following": "c", "elected": "", "refused": "why", "held_until": {"secs": 1, "nanos": 0}}));
    assert_eq!(state, before("primary"));
    let state = changed("replica", &serde_json::json!({"holders": ["a"], "leaving": ["a"], "away": {"a": {"secs": 1, "nanos": 0}}}));
    assert_eq!(state, before("replica"));
    let state = changed("primary", &serde_json::json!({"server": null}));
    assert!(state.promoted() && !state.ours() && !state.reigned("1-a"));
    assert_eq!(changed("replica", &serde_json::json!({"record": "?"})).record, None);
    // Of a release before, which wrote less.
    let state: State = serde_json::from_str(r#"{"promoted":true}"#).unwrap();
    assert!(state.promoted());
}

#[test]
fn what_kept_a_replica_from_the_role_is_not_true_of_a_primary() {
    let mut state = before("refused");
    state.become_primary(record(3), Duration::ZERO);
    assert_eq!((state.following(), state.held_until(), state.unpromoted()), (None, None, None));
    state.end_reign();
    assert_eq!(state.role, Role::default());
    assert!(state.linked() && state.reigned("3-b"));
}

#[test]
fn a_demotion_changes_nothing_of_who_is_no_primary() {
    for situation in ["replica", "elected", "held", "stands-back", "refused"] {
        let mut state = before(situation);
        state.end_reign();
        assert_eq!(state, before(situation), "{situation}");
    }
}

/// Whom it follows from now on has what counts, whatever it won before.
#[test]
fn who_follows_the_next_one_has_won_nothing() {
    let mut state = before("elected");
    state.follow_promoted("c".to_owned());
    assert_eq!((link(&state), &state.record), (&Link::Following("c".to_owned()), &None));
    let mut state = before("refused");
    state.follow_promoted("c".to_owned());
    let unpromoted = state.unpromoted().unwrap();
    assert_eq!((&unpromoted.refused, unpromoted.stands_back), (&None, None));
}
