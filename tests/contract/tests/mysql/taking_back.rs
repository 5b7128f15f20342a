//! `rejoin=rewind`: a primary that died takes back what nobody was told of, and follows.

use std::time::Duration;

use testkit::mysql::{FAULTY_AGENT, Group, Node, Server};
use testkit::{Lists, eventually, within};

/// A tail that changes, adds and removes rows.
const TAIL: [&str; 4] = [
    "BEGIN",
    "REPLACE INTO t.k (name, value) VALUES ('of the tail', 'x')",
    "UPDATE t.k SET value='changed' WHERE name='first'",
    "DELETE FROM t.k WHERE name='goes'",
];

/// A primary `a` and a replica `b`, with these parameters.
fn reign(parameters: &[(&'static str, &str)]) -> Group {
    reign_after(parameters, |_| {})
}

/// The same, after this was done to each node.
fn reign_after(parameters: &[(&'static str, &str)], prepare: impl Fn(&Node)) -> Group {
    let mut group = Group::of(&["a", "b"]);
    for node in &mut group.nodes {
        node.configure("binlog_format=ROW\n");
        node.parameters = parameters.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        prepare(node);
    }
    group.start_all();
    group.nodes.iter().for_each(answers);
    group.promote("a", &["a", "b"]).ok();
    group.wait_attached("b");
    for name in ["first", "goes"] {
        group.node("a").write(name).unwrap();
    }
    group.settle();
    group
}

/// What `primary` alone writes then waits for ever; it dies, and `replica` reigns.
fn diverge(group: &Group, primary: &'static str, replica: &'static str, before: &[&str], last: &str) {
    let (old, new) = (group.node(primary), group.node(replica));
    group.wait_caught_up(primary, replica);
    new.cut_off();
    let waiting = old.ask_and_wait(before, last);
    eventually("it waits", || old.waiting_commits() > 0);
    old.kill_server();
    assert!(!matches!(waiting.answer(Duration::from_secs(5)), Some(Ok(_))), "nobody was told");
    old.agent().run("stop").ok();
    group.promote(replica, &[replica]).ok();
}

fn lists(primary: &'static str, started: &'static str) -> Lists {
    Lists { promoted: vec![primary], start: vec![started], ..Lists::default() }
}

/// A start does not wait for a server for ever.
#[track_caller]
fn answers(node: &Node) {
    eventually("the server answers", || node.administer("SELECT 1").is_ok());
}

fn start(group: &Group, node: &'static str, primary: &'static str) {
    group.node(node).agent().lists(&lists(primary, node), group.spelling).run("start").ok();
}

/// The process that takes back, which a start begins, is killed at this step.
#[track_caller]
fn start_and_die(group: &Group, node: &'static str, primary: &'static str, step: &str) {
    let file = group.node(node).state().join("systole-fault-point");
    std::fs::write(&file, step).unwrap();
    let agent = group.node(node).agent_at(FAULTY_AGENT).variable("OCF_RESOURCE_TYPE", "mysql");
    agent.lists(&lists(primary, node), group.spelling).run("start").ok();
    eventually(&format!("it dies at {step}"), || !file.exists());
}

/// Until it follows and acknowledges, with the monitors of both.
#[track_caller]
fn whole(group: &Group, node: &'static str, primary: &'static str) {
    let (it, primary) = (group.node(node), group.node(primary));
    let done = within(Duration::from_secs(60), || {
        primary.agent().run("monitor").expect(&[8, 191]);
        let status = it.agent().run("monitor").status;
        (status == 0 && it.log().contains("and all their rows are as on")).then_some(())
    });
    assert!(done.is_some(), "{}: {}\n{}", node, it.agent().run("monitor").reason(), it.log());
    // Another one each time: what changes nothing is logged nowhere, and a MariaDB would give the names again that were taken back.
    let count = primary.administer("SELECT COUNT(*) FROM t.k").unwrap();
    // It waits until this replica acknowledges, which the monitors bring about.
    let writing = primary.ask_and_wait(&[], &format!("REPLACE INTO t.k (name, value) VALUES ('after {}', 'x')", count.trim()));
    let answer = within(Duration::from_secs(60), || {
        let answer = writing.answer(Duration::from_millis(200));
        if answer.is_none() {
            it.agent().run("monitor").expect(&[0, 190]);
            primary.agent().run("monitor").expect(&[8, 191]);
        }
        answer
    });
    assert!(matches!(answer, Some(Ok(_))), "{answer:?}\n{}", it.log());
    group.wait_caught_up(&primary.name, node);
    assert_eq!(rows(it), rows(primary));
}

fn rows(node: &Node) -> String {
    node.administer("SELECT * FROM t.k ORDER BY name").unwrap()
}

fn kept(node: &Node) -> Vec<String> {
    let directory = node.data().with_file_name("data.systole-kept");
    std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Until the monitor says so.
#[track_caller]
fn says(node: &Node, words: &str) {
    let said = within(Duration::from_secs(30), || {
        let answer = node.agent().run("monitor");
        (answer.status == 190 && answer.reason().contains(words)).then_some(())
    });
    assert!(said.is_some(), "{}\n{}", node.agent().run("monitor").reason(), node.log());
}

fn identity(node: &Node) -> String {
    node.variable(if node.server == Server::MySql { "server_uuid" } else { "server_id" })
}

#[test]
fn a_killed_primary_takes_back_what_nobody_was_told_of_whenever_it_is_killed_again() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let mut names = [("a", "b"), ("b", "a")].into_iter().cycle();
    // From the second on, whoever takes back was a replica before, and has written since what was acknowledged: its position of then is not in
    // what it has in common with the others.
    for step in [
        "",
        "rewind-noted",
        "rewind-prepared",
        "rewind-committed",
        "rewind-forgotten",
        "rewind-finished",
        "rewind-renamed",
        "rewind-follows",
    ] {
        let (old, new) = names.next().unwrap();
        let node = group.node(old);
        let before = identity(node);
        diverge(&group, old, new, &TAIL, "COMMIT");
        let _ = std::fs::remove_file(node.directory.join("ha.log"));
        if step.is_empty() {
            start(&group, old, new);
        } else {
            start_and_die(&group, old, new, step);
            eventually("the monitor says so", || node.agent().run("monitor").reason().contains("was broken off; it is begun anew"));
            node.agent().run("stop").ok();
            start(&group, old, new);
        }
        whole(&group, old, new);
        assert!(!node.has("of the tail") && node.has("goes"), "{step}");
        let kept = kept(node);
        assert!(kept.iter().any(|name| name.starts_with("taken-back-")), "{step}: {kept:?}");
        assert!(!kept.iter().any(|name| name.contains("not-complete")), "{step}: {kept:?}");
        assert!(node.server == Server::MariaDb || before != identity(node), "{step}: names are given once");
        group.settle();
    }
}

#[test]
fn what_cannot_be_taken_back_exactly_is_refused_or_copied() {
    if !Server::here().is_lossless() {
        return;
    }
    for rejoin in ["rewind", "rewind-or-clone"] {
        let group = reign(&[("rejoin", rejoin), ("copy_program", "/nonexistent/copy")]);
        diverge(&group, "a", "b", &[], "CREATE TABLE t.more (id INT PRIMARY KEY)");
        let a = group.node("a");
        start(&group, "a", "b");
        if rejoin == "rewind" {
            says(a, "CREATE TABLE is among the transactions, which cannot be taken back");
            says(a, "does not follow");
            assert!(a.administer("SELECT COUNT(*) FROM t.more").is_ok(), "nothing was changed");
        } else {
            eventually("it is copied", || {
                a.log().contains("CREATE TABLE is among the transactions, which cannot be taken back): copying b's data")
            });
        }
        a.agent().run("stop").ok();
    }
}

/// The agent logs in with the account that the shipped file makes, and with nothing else.
fn reign_of_the_documented_account() -> Group {
    const PASSWORD: &str = "Amsel-Agent-7";
    let own_account = |node: &Node| {
        let file = match node.server {
            Server::MariaDb => include_str!("../../../../crm-snippets/server/mysql-accounts-mariadb.sql"),
            Server::MySql | Server::MySql80 => include_str!("../../../../crm-snippets/server/mysql-accounts-mysql.sql"),
            Server::MySql57 | Server::MySql56 => include_str!("../../../../crm-snippets/server/mysql-accounts-mysql57.sql"),
        };
        let text: Vec<&str> = file.lines().filter(|line| !line.starts_with("--")).collect();
        let text = text.join(" ").replace("ANOTHER PASSWORD", PASSWORD);
        node.run_by_hand();
        if node.server != Server::MariaDb {
            // As the option file of the site has them: the account may not.
            let words = if node.server.says_source() { ["source", "replica"] } else { ["master", "slave"] };
            let install = |word: &&str| format!("INSTALL PLUGIN rpl_semi_sync_{word} SONAME 'semisync_{word}.so'");
            words.iter().for_each(|word| node.must(&[&install(word)]));
        }
        node.must(&text.split(';').map(str::trim).filter(|statement| !statement.is_empty()).collect::<Vec<_>>());
        testkit::signal(node.process().pid, testkit::Signal::SIGTERM);
        eventually("it has ended", || node.servers().is_empty());
    };
    reign_after(&[("rejoin", "rewind"), ("test_user", "systole"), ("test_passwd", PASSWORD)], own_account)
}

#[test]
fn a_rewind_needs_no_more_than_the_documented_account() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign_of_the_documented_account();
    let (a, b) = (group.node("a"), group.node("b"));
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    start(&group, "a", "b");
    whole(&group, "a", "b");
    assert!(!a.has("of the tail") && a.has("goes"));
    a.agent().variable("OCF_CHECK_LEVEL", "10").run("validate-all").ok();
    // What an account may not see would look as if it were not there: rows of another table that went with these.
    b.must(&[
        "CREATE TABLE t.parent (n INT PRIMARY KEY)",
        "CREATE TABLE t.child (n INT PRIMARY KEY, f INT, FOREIGN KEY (f) REFERENCES t.parent (n) ON DELETE CASCADE)",
        "INSERT INTO t.parent VALUES (1)",
        "INSERT INTO t.child VALUES (1, 1)",
    ]);
    diverge(&group, "b", "a", &[], "DELETE FROM t.parent");
    start(&group, "b", "a");
    says(b, "rows of t.child may have changed with those of t.parent");
}

/// It began, and the server refused a statement in the middle of it.
#[test]
fn without_a_privilege_nothing_is_touched() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign_of_the_documented_account();
    let a = group.node("a");
    let replay = if a.server == Server::MariaDb { "BINLOG REPLAY" } else { "BINLOG_ADMIN" };
    let ours = r"ON `systole\_rewind`.*";
    a.must(&[
        "SET SESSION sql_log_bin=0",
        &format!("REVOKE {replay} ON *.* FROM systole@localhost"),
        &format!("REVOKE DROP {ours} FROM systole@localhost"),
    ]);
    let grants = [format!("GRANT {replay} ON *.* TO systole@localhost"), format!("GRANT DROP {ours} TO systole@localhost")];
    let words = ["the account systole lacks what taking back needs", &grants[0], &grants[1]];
    a.agent().variable("OCF_CHECK_LEVEL", "10").run("validate-all").refused(5, &words);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    start(&group, "a", "b");
    words.iter().for_each(|words| says(a, words));
    assert!(
        a.has("of the tail") && !kept(a).iter().any(|name| name.contains("taken-back") || name.contains("not-complete")),
        "{:?}",
        kept(a)
    );
    let open = if a.server.closes_for_administrators() { "SET GLOBAL super_read_only=0" } else { "DO 1" };
    let close = if a.server.closes_for_administrators() { "SET GLOBAL super_read_only=1" } else { "DO 1" };
    a.must(&[open, "SET SESSION sql_log_bin=0", &grants[0], &grants[1], close]);
    a.agent().run("stop").ok();
    start(&group, "a", "b");
    whole(&group, "a", "b");
}

/// Whoever wrote it was told that it is done.
#[test]
fn what_was_written_by_hand_is_not_taken_back() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let b = group.node("b");
    b.write_behind_the_agents_back("by hand");
    says(b, "this server has noted no reign in which it wrote them");
    assert!(b.has("by hand"));
    // A primary that is dead, and was written to before anybody reigned again.
    let group = reign(&[("rejoin", "rewind")]);
    let a = group.node("a");
    a.kill_server();
    a.agent().run("stop").ok();
    group.node("b").cut_off();
    a.start();
    answers(a);
    a.write_behind_the_agents_back("by hand");
    a.agent().run("stop").ok();
    group.promote("b", &["b"]).ok();
    start(&group, "a", "b");
    says(a, "they were not written while this server was the primary");
    assert!(a.has("by hand"));
}

#[test]
fn what_an_operator_gave_up_is_not_taken_back() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let (a, b) = (group.node("a"), group.node("b"));
    group.wait_caught_up("a", "b");
    b.cut_off();
    let _waiting = a.ask_and_wait(&TAIL, "COMMIT");
    eventually("it waits", || a.waiting_commits() > 0);
    a.kill_server();
    a.agent().run("stop").ok();
    group.cluster.set_record("db", "epoch=1 node=b");
    group.promote("b", &["b"]).ok();
    start(&group, "a", "b");
    says(a, "an operator decided, or a primary acknowledged without a replica");
    assert!(a.has("of the tail"));
}

/// Also where it was begun before: whose data are right may be those that would be taken back.
#[test]
fn what_an_operator_has_decided_meanwhile_is_not_taken_back() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let a = group.node("a");
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    start_and_die(&group, "a", "b", "rewind-noted");
    a.agent().run("stop").ok();
    group.cluster.set_record("db", "epoch=1 node=b");
    start(&group, "a", "b");
    says(a, "an operator has decided which data are right, and nobody was promoted since");
    assert!(a.has("of the tail"));
    assert!(kept(a).iter().any(|name| name == "taking-back-is-not-complete"), "{:?}", kept(a));
    assert!(!a.log().contains("were taken back, and all"), "{}", a.log());
}

/// An orderly shutdown from outside answers the clients that wait.
#[test]
fn what_a_shutdown_answered_is_not_taken_back() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let (a, b) = (group.node("a"), group.node("b"));
    group.wait_caught_up("a", "b");
    b.cut_off();
    let _waiting = a.ask_and_wait(&TAIL, "COMMIT");
    eventually("it waits", || a.waiting_commits() > 0);
    let _ = a.administer("SHUTDOWN");
    eventually("it has ended", || a.servers().is_empty());
    a.agent().run("stop").ok();
    group.promote("b", &["b"]).ok();
    start(&group, "a", "b");
    says(a, "the server was shut down behind them, which answers clients that wait");
    assert!(a.has("of the tail"));
}

/// The record could not be written just when somebody had switched the waiting off: nobody sees that afterwards.
#[test]
fn a_primary_that_told_clients_alone_forgets_its_reign_at_once() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let a = group.node("a");
    a.agent().run("monitor").expect(&[8]);
    let noted = a.data().with_file_name("data.systole-kept").join("reign");
    assert!(noted.exists(), "{:?}", kept(a));
    a.must(&[&format!("SET GLOBAL {}_enabled=0", a.server.source())]);
    group.cluster.behave("exit 102");
    a.agent().run("monitor").expect(&[8, 191]);
    assert!(!noted.exists(), "it stays, and nothing is recorded");
    group.cluster.behave("");
    a.agent().run("monitor").expect(&[8, 191]);
    let record = group.cluster.record("db").unwrap();
    let epoch: u64 = record.split_once("epoch=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok()).unwrap();
    assert!(record.contains(&format!("unbroken={}:", epoch + 1)), "{record}");
    a.agent().run("monitor").expect(&[8, 191]);
    assert!(!noted.exists(), "what it writes in this epoch is not taken back any more");
}

/// A mark that came with data from elsewhere says nothing of this server.
#[test]
fn the_mark_of_another_rewind_destroys_nothing() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let a = group.node("a");
    a.must(&[
        "SET SESSION sql_log_bin=0",
        "CREATE DATABASE systole_rewind",
        "CREATE TABLE systole_rewind.marker (id INT PRIMARY KEY, tail LONGTEXT NOT NULL, common LONGTEXT NOT NULL) ENGINE=InnoDB",
        "INSERT INTO systole_rewind.marker VALUES (1, '', '')",
    ]);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    let held = |node: &Node| node.administer(node.server.executed()).unwrap();
    start(&group, "a", "b");
    says(a, "holds the mark of another server's rewind");
    assert!(a.has("of the tail") && held(a) != held(group.node("b")));
}

/// It was told to start a server that ran.
#[test]
fn an_election_says_that_it_is_in_the_middle() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let (a, b) = (group.node("a"), group.node("b"));
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    start_and_die(&group, "a", "b", "rewind-finished");
    b.kill_server();
    b.agent().run("stop").ok();
    // Its node has lost its power since, and nobody is there whom it could follow.
    a.agent().run("stop").ok();
    a.start();
    answers(a);
    group.promote("a", &["a"]).refused(1, &["is not ended there; wait: systole status shows how far it is"]);
}

/// One transaction of all rows of a site would be taken back for hours.
#[test]
fn more_rows_than_rewind_rows_are_not_taken_back() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind"), ("rewind_rows", "2")]);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    start(&group, "a", "b");
    let a = group.node("a");
    says(a, "3 rows would have to be taken back, and rewind_rows allows 2");
    assert!(a.has("of the tail") && !kept(a).iter().any(|name| name.contains("taken-back")), "{:?}", kept(a));
    a.agent().run("stop").ok();
    let allowed = a.agent().parameter("rewind_rows", "3");
    allowed.clone().lists(&lists("b", "a"), group.spelling).run("start").ok();
    whole(&group, "a", "b");
}

/// Another server may hold what had these names, whatever the parameter says by now.
#[test]
fn names_that_were_taken_back_count_when_rejoin_is_set_back() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let mut group = reign(&[("rejoin", "rewind")]);
    group.node("a").agent().run("monitor").expect(&[8]);
    let names = group.node("a").data().with_file_name("data.systole-kept").join("names-that-were-taken-back");
    let server = group.node("a").variable("server_id");
    std::fs::write(&names, format!("0-{server}-9999")).unwrap();
    group.node("a").give(&names);
    group.node("a").kill_server();
    group.node("a").agent().run("stop").ok();
    group.node("b").kill_server();
    group.node("b").agent().run("stop").ok();
    for node in &mut group.nodes {
        node.parameters = vec![("rejoin", "refuse".to_owned())];
    }
    let a = group.node("a");
    a.start();
    answers(a);
    let _ = std::fs::remove_file(a.directory.join("ha.log"));
    let _ = group.promote("a", &["a"]);
    let log = a.log();
    let position = log.lines().find_map(|line| line.split_once("position for the next promotion: ")).map(|(_, text)| text.to_owned());
    assert!(position.as_ref().is_some_and(|text| text.split('|').nth(1).is_some_and(|flags| flags.contains('r'))), "{position:?}\n{log}");
}

/// What is compared afterwards has to be there.
#[test]
fn what_cannot_be_compared_with_the_primarys_is_not_taken_back() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    group.node("b").must(&["SET SESSION sql_log_bin=0", "ALTER TABLE t.k DROP COLUMN value"]);
    start(&group, "a", "b");
    let a = group.node("a");
    says(a, "rows of t.k cannot be compared");
    assert!(a.has("of the tail"), "nothing was changed");
    assert!(!kept(a).iter().any(|name| name.contains("not-complete")), "{:?}", kept(a));
}

/// The primary is asked for the rows first, which may take long.
#[test]
fn whether_they_may_go_is_looked_at_right_before_they_go() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    let (a, b) = (group.node("a"), group.node("b"));
    let mut lock = b.client();
    lock.ask("LOCK TABLES t.k WRITE").unwrap();
    start(&group, "a", "b");
    eventually("it asks the primary for the rows", || {
        b.administer("SELECT COUNT(*) FROM information_schema.processlist WHERE state LIKE 'Waiting for table metadata lock%'")
            .is_ok_and(|waiting| waiting != "0")
    });
    group.cluster.set_record("db", "epoch=9 node=a");
    lock.ask("UNLOCK TABLES").unwrap();
    eventually("it says so", || a.log().contains("another primary was recorded meanwhile"));
    assert!(a.has("of the tail"), "nothing was changed");
}

/// Between the transaction and the end of the log, an administrator writes.
#[test]
fn what_is_written_by_hand_meanwhile_is_not_forgotten() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    let a = group.node("a");
    start_and_die(&group, "a", "b", "rewind-committed");
    a.write_behind_the_agents_back("by hand");
    a.agent().run("stop").ok();
    start(&group, "a", "b");
    says(a, "was written here by hand while transactions were taken back");
    assert!(a.has("by hand"));
}

/// Whoever writes by hand after that is told that it is done, and the parameter may come back.
#[test]
fn a_demoted_primary_forgets_its_reign_whatever_rejoin_says_now() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let a = group.node("a");
    a.agent().run("monitor").expect(&[8]);
    let noted = a.data().with_file_name("data.systole-kept").join("reign");
    assert!(noted.exists(), "{:?}", kept(a));
    a.agent().parameter("rejoin", "refuse").run("demote").ok();
    assert!(!noted.exists());
}

/// Nobody knows any more what is to be compared.
#[test]
fn a_note_that_is_damaged_proves_nothing() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    let a = group.node("a");
    start_and_die(&group, "a", "b", "rewind-finished");
    a.agent().run("stop").ok();
    let note = a.data().with_file_name("data.systole-kept").join("taking-back-is-not-complete");
    std::fs::write(&note, "{").unwrap();
    start(&group, "a", "b");
    says(a, "the note of what is damaged");
    assert!(note.exists(), "it is not whole");
}

/// Somebody changed the primary's row without a log: what is here is what was there, and not what is there.
#[test]
fn rows_that_are_not_the_primarys_afterwards_are_told_loudly() {
    if !Server::here().is_lossless() {
        return;
    }
    let group = reign(&[("rejoin", "rewind")]);
    let (a, b) = (group.node("a"), group.node("b"));
    diverge(&group, "a", "b", &TAIL, "COMMIT");
    b.must(&["SET SESSION sql_log_bin=0", "UPDATE t.k SET value='another' WHERE name='first'"]);
    start(&group, "a", "b");
    says(a, "after taking back, rows of t.k are not as on the primary");
    for _ in 0..2 {
        a.agent().run("stop").ok();
        start(&group, "a", "b");
        says(a, "rows of t.k are not as on the primary");
    }
    assert!(!a.is_attached(), "it follows nobody");
}
