//! Who is promoted, with real servers and what they really hold. The cluster's tools are stand-ins.

use std::time::Duration;

use testkit::mysql::{Group, Server};
use testkit::{Lists, Signal, eventually};

const ALL: &[&str] = &["a", "b", "c"];
const DECISION: &str = "systole decide db NODE";

/// The post-demote notifications of the primary's death.
fn after_death(group: &Group, candidate: &'static str, unpromoted: &[&'static str]) {
    let lists =
        Lists { promoted: vec!["a"], unpromoted: unpromoted.to_vec(), demote: vec!["a"], promote: vec![candidate], ..Lists::default() };
    for name in unpromoted {
        group.notify(name, "post", "demote", &lists);
    }
}

#[test]
fn the_first_promotion_of_empty_servers_is_recorded_and_the_others_follow() {
    let group = Group::of(ALL);
    group.start_all();
    group.promote("a", ALL).ok();
    let record = group.record();
    let durability = if group.nodes[0].server.is_lossless() { "lossless" } else { "async-allowed" };
    assert!(record.starts_with("epoch=1 change=0 node=a server=") && record.contains(&format!("durability={durability} ")), "{record}");
    assert!(record.contains(" active=b,c"), "{record}");
    for replica in ["b", "c"] {
        group.wait_attached(replica);
        assert_eq!(group.node(replica).source(), group.node("a").address);
        group.node(replica).agent().run("monitor").expect(&[0]);
    }
    group.node("a").write("first").unwrap();
    for replica in ["b", "c"] {
        group.wait_caught_up("a", replica);
        assert!(group.node(replica).has("first"));
        group.node(replica).write("k").expect_err("a replica takes no writes");
    }
    assert_eq!(group.writable(), ["a"]);
}

/// Starts beside a promotion do not wait for their servers. What they leave undone must not keep the replicas from acknowledging
/// Starts beside a promotion do not wait for their servers. What they leave undone must not keep the replica from acknowledging
/// from the first write on, nor the primary after it was demoted: there is nobody else.
#[test]
fn servers_that_nobody_waited_for_acknowledge_at_once() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::of(&["a", "b"]);
    let lists = Lists { start: vec!["a", "b"], promote: vec!["a"], ..Lists::default() };
    for name in ["b", "a"] {
        group.node(name).agent().lists(&lists, group.spelling).run("start").ok();
        eventually("the server answers", || group.node(name).administer("SELECT 1").is_ok());
    }
    assert!(group.node("b").log().contains("not waiting for the server's recovery"), "{}", group.node("b").log());
    group.promote("a", &["a", "b"]).ok();
    assert!(group.node("b").log().contains("following a, acknowledging"), "{}", group.node("b").log());
    group.node("a").write("first").unwrap();
    group.demote("a", &["b"], &["b"]).ok();
    group.promote("b", &["a", "b"]).ok();
    assert!(group.node("a").log().contains("following b, acknowledging"), "{}", group.node("a").log());
    group.node("b").write("second").unwrap();
}

#[test]
fn a_death_of_the_primary_is_followed_by_a_promotion_and_the_old_one_follows() {
    let group = Group::established(ALL);
    group.node("a").kill_server();
    group.node("a").agent().run("monitor").refused(9, &["gone"]);
    group.demote("a", &["b", "c"], &["b"]).ok();
    group.node("a").wait_restarted();
    after_death(&group, "b", &["b", "c"]);
    group.promote("b", ALL).ok();
    assert_eq!(group.writable(), ["b"]);
    group.node("b").write("second").unwrap();
    for replica in ["a", "c"] {
        group.node(replica).agent().run("monitor").expect(&[0]);
        group.wait_attached(replica);
        group.wait_caught_up("b", replica);
        assert!(group.node(replica).has("first") && group.node(replica).has("second"));
    }
    assert!(group.record().starts_with("epoch=2 change=0 node=b "), "{}", group.record());
}

/// The CIB was restored from a file. The primary of then was demoted in order and has followed another since, to which clients have written.
#[test]
fn a_record_that_was_put_back_makes_nobody_complete() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(ALL);
    let before = group.record();
    group.demote("a", &["b", "c"], &["b"]).ok();
    after_death(&group, "b", &["b", "c"]);
    group.promote("b", ALL).ok();
    for replica in ["a", "c"] {
        group.node(replica).agent().run("monitor").expect(&[0]);
        group.wait_attached(replica);
    }
    group.settle();
    group.node("a").cut_off();
    group.node("b").write("of b").unwrap();
    group.wait_caught_up("b", "c");
    group.cluster.set_record("db", &before);
    group.node("b").kill_server();
    group.node("b").agent().run("stop").ok();
    let answer = group.promote("a", &["a", "c"]);
    assert!(answer.status != 0 && group.writable().is_empty(), "{answer:?}");
}

/// The data of the primary are gone, and its server is started on an empty directory.
fn made_anew(options: &str) -> Group {
    let group = Group::established(ALL);
    let a = group.node("a");
    a.kill_server();
    a.agent().run("stop").ok();
    std::fs::remove_dir_all(a.data()).unwrap();
    assert!(std::process::Command::new("cp").arg("-a").arg(a.server.template()).arg(a.data()).status().unwrap().success());
    a.configure(options);
    a.start();
    group
}

/// It is the one that the cluster asks first, and it is empty.
#[test]
fn a_primary_that_lost_its_data_is_never_promoted_over_its_replicas() {
    // MySQL skips transactions that bear its own server_id.
    let group = made_anew("server_id=99");
    group.promote("a", ALL).expect(&[1]);
    for replica in ["b", "c"] {
        assert!(group.node(replica).has("first"), "{replica} was wiped");
    }
    assert_eq!(group.writable(), Vec::<&str>::new());
    // A candidate that has everything.
    group.promote("b", ALL).ok();
    group.wait_attached("a");
    group.wait_caught_up("b", "a");
    assert!(group.node("a").has("first"));
}

/// MySQL skips transactions that bear its own server_id: such a server follows, and lacks for ever what it once wrote.
#[test]
fn a_server_made_anew_with_its_old_server_id_is_not_called_complete() {
    if Server::here() != Server::MariaDb {
        // MySQL's has another server_uuid, by which its agent does not know it (decision 0050).
        return;
    }
    let group = made_anew("");
    group.promote("b", ALL).ok();
    group.node("a").agent().run("monitor").refused(190, &["has lost what it wrote itself", "rejoin=clone"]);
    for _ in 0..2 {
        for name in ALL {
            group.node(name).agent().run("monitor").expect(&[0, 8, 190]);
        }
    }
    assert!(!group.record().contains("active=a"), "{}", group.record());
}

/// Its disk has lost the end of what it wrote, which clients were told of. No replica is sent its own.
#[test]
fn a_primary_whose_disk_has_lost_its_end_does_not_follow() {
    let group = Group::established(ALL);
    let a = group.node("a");
    for name in ["b", "c", "a"] {
        group.node(name).agent().run("stop").ok();
    }
    let saved = a.directory.join("saved");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(done.success());
    };
    copy(&a.data(), &saved);
    group.start_all();
    group.promote("a", ALL).ok();
    for replica in ["b", "c"] {
        group.wait_attached(replica);
    }
    group.settle();
    a.write("late").unwrap();
    for replica in ["b", "c"] {
        group.wait_caught_up("a", replica);
    }
    a.kill_server();
    a.agent().run("stop").ok();
    std::fs::remove_dir_all(a.data()).unwrap();
    copy(&saved, &a.data());
    group.promote("b", &["b", "c"]).ok();
    let lists = Lists { promoted: vec!["b"], start: vec!["a"], ..Lists::default() };
    a.agent().lists(&lists, group.spelling).run("start").ok();
    a.agent().run("monitor").refused(190, &["has lost what it wrote itself", "rejoin=clone"]);
    group.notify("b", "post", "start", &lists);
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            group.node(name).agent().run("monitor").expect(&[0, 8, 190]);
        }
    }
    assert!(!group.record().contains("active=a"), "{}", group.record());
}

#[test]
fn an_empty_server_alone_does_not_become_the_primary_while_others_may_have_data() {
    let group = Group::of(ALL);
    group.node("a").start();
    let answer = group.promote("a", &["a"]);
    answer.refused(1, &["b", DECISION]);
    assert_eq!(group.node("a").score(), "-INFINITY", "the cluster must not ask it again at once");
    assert_eq!(group.writable(), Vec::<&str>::new());
    group.cluster.set_record("db", "node=a");
    group.promote("a", &["a"]).ok();
}

#[test]
fn the_superset_wins_whoever_is_asked() {
    for (candidate, successor) in [("b", "c"), ("c", "c")] {
        let group = Group::established(ALL);
        group.node("b").cut_off();
        group.node("a").write("only on c").unwrap();
        group.wait_caught_up("a", "c");
        group.node("a").kill_server();
        let answer = group.promote(candidate, &["b", "c"]);
        if candidate != successor {
            answer.refused(1, &["c is to be promoted instead"]);
            assert_eq!((group.node("b").score().as_str(), group.node("c").score().as_str()), ("1", "500"));
            group.promote(successor, &["b", "c"]).ok();
        }
        group.wait_attached("b");
        group.wait_caught_up("c", "b");
        assert!(group.node("b").has("only on c"));
        assert!(group.record().starts_with("epoch=2 change=0 node=c"), "{}", group.record());
        group.node("c").write("more").unwrap();
    }
}

/// Received and not applied counts as held, and is applied before anybody can write.
#[test]
fn what_was_received_is_applied_before_writes_open() {
    let group = Group::established(ALL);
    let b = group.node("b");
    // The applier waits for this.
    let mut root = testkit::mysql::Client::root(&b.socket()).unwrap();
    root.ask("LOCK TABLES t.k READ").unwrap();
    group.node("c").cut_off();
    group.node("a").write("received").unwrap();
    eventually("b has received it", || {
        let status = b.replication();
        let received = status.get("retrieved_gtid_set").or_else(|| status.get("gtid_io_pos")).cloned().unwrap_or_default();
        let all = group.node("a").executed();
        received.split([':', '-']).next_back() == all.split([':', '-']).next_back()
    });
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b", "c"]);
    group.before_promotion(&lists);
    let promoting = b.agent().lists(&lists, group.spelling).spawn("promote");
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(!b.is_writable());
    drop(root);
    promoting.answer().ok();
    assert!(b.has("received"));
    assert_eq!(group.writable(), ["b"]);
}

/// With one acknowledgement and two members, the one that does not speak may be the only one that has the last write.
#[test]
fn a_silent_member_is_waited_for_and_the_operator_can_decide() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(ALL);
    group.node("b").cut_off();
    group.node("a").write("only on c").unwrap();
    // Acknowledged is not applied, and MariaDB throws away at its next start what it has received.
    eventually("c has applied it", || group.node("c").has("only on c"));
    group.node("a").kill_server();
    group.node("c").process().signal(Signal::SIGKILL);
    eventually("c is gone", || group.node("c").servers().is_empty());
    let lists = Lists::promoting("b", &["b"]);
    group.promote_by(&lists).refused(1, &["c", DECISION]);
    assert_eq!(group.node("b").score(), "-INFINITY");
    // The cluster says the same after a promotion that failed as after one that did not.
    group.notify_all("post", "promote", &lists);
    assert_eq!(group.node("b").score(), "-INFINITY", "it must not be asked again at once");
    assert_eq!(group.writable(), Vec::<&str>::new());
    // The operator accepts the loss.
    group.cluster.set_record("db", "epoch=1 node=b");
    group.promote("b", &["b"]).ok();
    assert_eq!(group.writable(), ["b"]);
    assert!(group.record().starts_with("epoch=2 change=0 node=b "), "{}", group.record());
    // Whoever has what was given up does not follow silently.
    let lists = Lists { promoted: vec!["b"], start: vec!["c"], ..Lists::default() };
    group.node("c").agent().run("stop").ok();
    group.node("c").agent().lists(&lists, group.spelling).run("start").ok();
    group.node("c").agent().run("monitor").refused(190, &["transactions that the primary does not have"]);
    assert!(group.node("c").has("only on c"), "what it has is kept");
}

/// Two servers with data of their own, and no promotion recorded.
#[test]
fn neither_contains_the_other_is_refused_with_both_differences_and_the_command_that_decides() {
    let group = Group::of(&["a", "b"]);
    group.start_all();
    for name in ["a", "b"] {
        group.node(name).write_behind_the_agents_back(&format!("of {name}"));
    }
    let answer = group.promote("a", &["a", "b"]);
    answer.refused(1, &[DECISION]);
    for name in ["a", "b"] {
        let set = group.node(name).executed();
        let reason = answer.reason();
        assert!(reason.contains(set.split(',').next().unwrap().trim_end_matches("-1")), "{set} is not in {reason}");
    }
    // The operator does it.
    group.cluster.set_record("db", "node=b");
    group.promote("a", &["a", "b"]).refused(1, &["b is to be promoted instead"]);
    group.promote("b", &["a", "b"]).ok();
    assert!(group.record().contains("node=b server="), "{}", group.record());
    assert!(group.node("b").has("of b"));
    let a = group.node("a");
    a.agent().run("monitor").refused(190, &["transactions that the primary does not have"]);
    assert!(!a.is_attached() && a.has("of a"));
}

#[test]
fn a_server_with_transactions_of_its_own_does_not_follow_and_says_which() {
    let group = Group::established(ALL);
    group.settle();
    let b = group.node("b");
    b.write_behind_the_agents_back("errant");
    let own = b.administer(if b.server == Server::MariaDb { "SELECT @@last_gtid" } else { "SELECT @@server_uuid" }).unwrap();
    let own = if own.is_empty() { format!("-{}-", b.number()) } else { own };
    let answer = b.agent().run("monitor");
    answer.refused(190, &["transactions that the primary does not have"]);
    assert!(answer.reason().contains(&own), "{own} is not in {}", answer.reason());
    assert_eq!(b.score(), "-INFINITY");
    assert!(!b.is_attached(), "it must acknowledge nothing");
    // The primary goes on, with the other one.
    group.node("a").agent().run("monitor").expect(&[8]);
    group.node("a").write("second").unwrap();
    // And it is no candidate, whoever asks it.
    group.wait_caught_up("a", "c");
    group.node("a").kill_server();
    group.promote("b", &["b", "c"]).expect(&[1]);
    assert_eq!(group.writable(), Vec::<&str>::new());
    group.promote("c", &["b", "c"]).ok();
    assert_eq!(group.writable(), ["c"]);
    assert!(group.node("c").has("second"));
    b.agent().run("monitor").expect(&[190]);
    assert!(!b.is_attached());
}

#[test]
fn a_record_that_makes_no_sense_promotes_nobody() {
    let group = Group::of(&["a"]);
    group.node("a").start();
    for nonsense in ["who knows", "epoch=1 node=a server=1", "epoch=x node=a", "node="] {
        group.cluster.set_record("db", nonsense);
        group.promote("a", &["a"]).refused(1, &["systole decide db NODE"]);
        assert_eq!(group.writable(), Vec::<&str>::new());
    }
}

/// A position that was published for an earlier election, or by nobody, says nothing.
#[test]
fn a_position_of_another_round_or_of_nonsense_is_not_counted() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let good = group.node("b").executed();
    for text in ["", "x", "1.0-a|||||||", &format!("0.0-|c|100|-|-|{good}|-"), "1.0-a||100|-|-|not-a-set|-", "$(reboot)"] {
        group.cluster.set_position("db", "c", text);
    }
    group.promote("b", &["b"]).ok();
    assert!(group.record().starts_with("epoch=2 change=0 node=b"), "{}", group.record());
}

#[test]
fn an_election_won_before_does_not_count_when_one_was_lost_since() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = Group::established(ALL);
    group.node("b").cut_off();
    group.node("a").write("only on c").unwrap();
    group.wait_caught_up("a", "c");
    group.node("a").kill_server();
    let lists = Lists::promoting("b", &["b", "c"]);
    // The notification waits for 0.1 s only; on a busy machine what c says comes later, and is heard in the next one.
    eventually("the role is handed to c", || {
        group.before_promotion(&lists);
        group.node("c").score() == "500"
    });
    group.node("b").agent().lists(&lists, group.spelling).run("promote").refused(1, &["c is to be promoted instead"]);
}

#[test]
fn promote_without_any_notification_holds_an_election() {
    let group = Group::established(&["a", "b"]);
    group.node("a").kill_server();
    let answer = group.node("b").agent().lists(&Lists::promoting("b", &["b"]), group.spelling).run("promote");
    answer.expect(&[0, 1]);
    if answer.status == 0 {
        assert!(group.node("b").has("first"));
    } else {
        assert!(!answer.reason().is_empty());
    }
}

/// All nodes were switched off in order, and come back.
#[test]
fn after_a_planned_rest_everything_is_there() {
    let group = Group::established(ALL);
    group.node("a").write("last").unwrap();
    for replica in ["b", "c"] {
        group.wait_caught_up("a", replica);
    }
    group.demote("a", &["b", "c"], &[]).ok();
    for name in ALL {
        group.node(name).agent().run("stop").ok();
        group.cluster.forget_node("db", name);
    }
    group.start_all();
    for name in ALL {
        group.node(name).agent().run("monitor").expect(&[0]);
    }
    assert_eq!(group.writable(), Vec::<&str>::new());
    group.promote("b", ALL).ok();
    for name in ALL {
        assert!(group.node(name).has("last"), "{name}");
    }
    for replica in ["a", "c"] {
        group.wait_attached(replica);
    }
    group.node("b").write("after").unwrap();
}

/// All nodes lost their power at once.
#[test]
fn after_a_power_cut_of_all_nothing_acknowledged_is_lost() {
    let group = Group::established(ALL);
    group.node("b").cut_off();
    for n in 0..20 {
        group.node("a").write(&format!("key {n}")).unwrap();
    }
    for name in ALL {
        group.node(name).kill_server();
    }
    for name in ALL {
        let _ = std::fs::remove_file(group.node(name).state_file());
        group.node(name).agent().run("stop").ok();
        group.cluster.forget_node("db", name);
    }
    group.start_all();
    for name in ALL {
        group.node(name).agent().run("monitor").expect(&[0]);
    }
    // Whoever is asked: it is promoted with everything, or says who is to be.
    let mut promoted = None;
    for candidate in ["b", "c", "a"] {
        let answer = group.promote(candidate, ALL);
        if answer.status == 0 {
            promoted = Some(candidate);
            break;
        }
        assert!(group.writable().is_empty());
    }
    let promoted = promoted.expect("with all servers there, one can be promoted");
    assert_eq!(group.node(promoted).administer("SELECT COUNT(*) FROM t.k WHERE name LIKE 'key %'").unwrap(), "20");
    for replica in ALL.iter().filter(|n| **n != promoted) {
        group.wait_attached(replica);
        group.wait_caught_up(promoted, replica);
    }
}

/// Transactions of several domains, or with tags: no set is one number.
#[test]
fn histories_of_more_than_one_kind_survive_a_failover() {
    let group = Group::established(ALL);
    let a = group.node("a");
    match a.server {
        Server::MariaDb => a.must(&["SET SESSION gtid_domain_id=7", "REPLACE INTO t.k (name) VALUES ('of a domain')"]),
        Server::MySql => a.must(&["SET gtid_next='AUTOMATIC:tag'", "REPLACE INTO t.k (name) VALUES ('of a domain')"]),
        Server::MySql80 | Server::MySql57 | Server::MySql56 => return,
    }
    a.write("plain").unwrap();
    eventually("b and c have it", || ["b", "c"].iter().all(|n| group.node(n).has("plain") && group.node(n).has("of a domain")));
    a.kill_server();
    group.demote("a", &["b", "c"], &["b"]).ok();
    a.wait_restarted();
    after_death(&group, "b", &["b", "c"]);
    group.promote("b", ALL).ok();
    group.node("b").write("second").unwrap();
    for replica in ["a", "c"] {
        group.node(replica).agent().run("monitor").expect(&[0]);
        group.wait_attached(replica);
        eventually(&format!("{replica} goes on"), || group.node(replica).has("second") && group.node(replica).has("of a domain"));
    }
}

/// A report reads on the candidate and holds a lock. What the applier has to change waits for it, and the promotion for the applier.
#[test]
fn a_readers_lock_does_not_stop_a_promotion() {
    for lock in ["LOCK TABLES t.k READ", "FLUSH TABLES WITH READ LOCK"] {
        let group = Group::established(&["a", "b", "c"]);
        let b = group.node("b");
        let mut reader = testkit::mysql::Client::root(&b.socket()).unwrap();
        reader.ask(lock).unwrap();
        group.node("a").write("behind the lock").unwrap();
        group.node("a").kill_server();
        let lists = Lists::promoting("b", &["b", "c"]);
        group.before_promotion(&lists);
        let answer = b.agent().timeout(Duration::from_secs(30)).lists(&lists, group.spelling).run("promote");
        answer.ok();
        assert!(answer.counted < Duration::from_secs(8), "{lock}: {:?}", answer.elapsed);
        assert!(b.has("behind the lock"), "{lock}");
        reader.ask("SELECT 1").expect_err("its session was ended");
    }
}
