//! `validate-all`, and settings without which the clone cannot work.

use testkit::mysql::{Group, Node};

promised!(validate(): validate_at_level_0_looks_at_this_node_only, validate_at_level_10_demands_notify);

/// A running server whose settings are right, and with each of them wrong.
#[test]
fn validate_at_level_10_names_the_line_to_write() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let deep = node.agent().variable("OCF_CHECK_LEVEL", "10");
    node.start();
    deep.run("validate-all").ok();
    node.agent().run("stop").ok();
    let wrong = [
        ("sync_binlog=0", "sync_binlog=1"),
        ("innodb_flush_log_at_trx_commit=2", "innodb_flush_log_at_trx_commit=1"),
        ("binlog_format=STATEMENT", "binlog_format=ROW"),
    ];
    for (line, right) in wrong {
        node.configure(line);
        node.start();
        let answer = deep.run("validate-all");
        answer.expect(&[5]);
        let said = format!("{}{}", answer.stderr, node.log());
        assert!(said.contains(&format!("`{right}")), "{line}: {right} is not named: {}", answer.stderr);
        // What does not keep a server from starting is seen in crm_mon.
        node.agent().run("monitor").refused(190, &[right]);
        node.agent().run("stop").ok();
    }
    node.configure("");
    node.start();
    deep.clone().parameter("replication_port", "3307").run("validate-all").refused(5, &["3307", "replication_port"]);
}

/// What cannot be taken back is known before it has to be: a setting that rules it out is refused, tables that do are told.
#[test]
fn validate_at_level_10_says_beforehand_what_a_rewind_cannot_do() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let refusing = node.agent().variable("OCF_CHECK_LEVEL", "10");
    let rewinding = refusing.clone().parameter("rejoin", "rewind-or-clone");
    let open = if node.server.closes_for_administrators() { "SET GLOBAL super_read_only=0" } else { "SET GLOBAL read_only=0" };
    node.configure("binlog_format=ROW");
    node.start();
    node.must(&[
        open,
        "CREATE TABLE t.fine (n INT PRIMARY KEY, k INT NULL UNIQUE)",
        "CREATE TABLE t.bare (n INT)",
        "CREATE TABLE t.child (n INT PRIMARY KEY, f INT, FOREIGN KEY (f) REFERENCES t.fine (n) ON DELETE CASCADE)",
        "CREATE TABLE t.restricted (n INT PRIMARY KEY, f INT, FOREIGN KEY (f) REFERENCES t.fine (n))",
        "CREATE TABLE t.old (n INT PRIMARY KEY) ENGINE=MyISAM",
        "CREATE TABLE t.perhaps (k INT NULL UNIQUE)",
    ]);
    rewinding.run("validate-all").ok();
    let said = node.log();
    let told =
        ["rows of t.child may have changed with those of t.fine", "t.old is in MyISAM", "t.perhaps has no key that tells its rows apart"];
    told.iter().for_each(|words| assert!(said.contains(words), "{words} is not told:\n{said}"));
    let fine = ["t.bare", "t.restricted", "t.fine has no key", "mysql."];
    fine.iter().for_each(|words| assert!(!said.contains(words), "{words} is no obstacle:\n{said}"));
    refusing.run("validate-all").ok();
    let more = node.log().replacen(&said, "", 1);
    assert!(!more.contains("taken back"), "nobody wants that:\n{more}");
    node.agent().run("stop").ok();
    node.configure("binlog_format=ROW\nbinlog_row_image=MINIMAL");
    node.start();
    rewinding.run("validate-all").refused(5, &["binlog_row_image is MINIMAL: set it to FULL"]);
    refusing.run("validate-all").ok();
    // Who is promised nothing was told of everything.
    rewinding.clone().parameter("durability", "async-allowed").run("validate-all");
    assert!(node.log().contains("nothing is taken back with durability=async-allowed"), "{}", node.log());
}

/// The account files of crm-snippets, run as they are, gave replication a password that everybody knows.
#[test]
fn the_placeholder_of_the_shipped_files_is_no_password() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let words = ["placeholder", "replication_user", "openssl rand -hex 16", "replication_passwd_file"];
    let known = node.agent().parameter("replication_passwd", "PASSWORD");
    for action in ["validate-all", "start"] {
        known.run(action).refused(5, &words);
        node.agent().parameter("test_passwd", "ANOTHER PASSWORD").run(action).refused(5, &["placeholder", "test_passwd_file"]);
    }
    known.run("stop").ok();
    known.run("monitor").expect(&[7]);
    node.agent().parameter("user", "root").run("start").refused(5, &["user root", "set user"]);
    assert!(node.servers().is_empty());
    // A server that runs is shown, and never stopped for it.
    node.start();
    known.run("monitor").refused(190, &words);
    known.run("start").ok();
    known.clone().probing().run("monitor").expect(&[0, 190]);
    known.run("stop").ok();
}

#[test]
fn what_is_missing_on_this_node_bans_the_node_and_not_the_cluster() {
    let node = Node::alone();
    for (name, value, words) in [
        ("binary", "/no/such/mysqld", &["/no/such/mysqld", "install"][..]),
        ("user", "nosuchuser", &["nosuchuser", "create it"]),
        ("datadir", "/no/such/data", &["/no/such/data"]),
        ("test_passwd_file", "/no/such/secret", &["/no/such/secret", "mode 600"]),
    ] {
        for action in ["validate-all", "start"] {
            node.agent().parameter(name, value).run(action).refused(5, words);
        }
    }
    let agent = node.agent().without("OCF_RESKEY_replication_passwd").parameter("replication_passwd_file", "/no/such/secret");
    agent.run("start").refused(5, &["/no/such/secret", "mode 600"]);
    node.agent().parameter("binary", "/etc/passwd").run("start").refused(4, &["/etc/passwd", "not an executable"]);
    assert!(node.servers().is_empty());
}

/// An option file that the server does not take: what it said is the reason.
#[test]
fn a_server_that_does_not_come_up_says_why() {
    let node = Node::alone();
    node.configure("no_such_variable=1");
    let answer = node.agent().run("start");
    answer.refused(1, &["no_such_variable"]);
    // Said by the library that reads the file, before there is a log.
    let text = std::fs::read_to_string(node.config()).unwrap();
    std::fs::write(node.config(), format!("port=1\n{text}")).unwrap();
    node.agent().run("start").refused(1, &["group", node.config().to_str().unwrap()]);
    assert!(node.servers().is_empty());
    node.agent().run("stop").ok();
}

#[test]
fn lossless_is_refused_where_it_is_impossible() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let answer = node.agent().parameter("durability", "lossless").run("start");
    if node.server.is_lossless() {
        answer.ok();
        return;
    }
    answer.refused(5, &["lossless", "async-allowed"]);
    testkit::eventually("the server has ended", || node.servers().is_empty());
}
