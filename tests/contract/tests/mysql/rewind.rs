//! Taking back the end of a server's log: whatever was changed, after it everything is as it was before.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use process::Account;
use systole_mysql::rewind::{self, Family, Limits, Plan, Progress, Refusal, Tail, Touched};
use testkit::mysql::{Client, Node, Server};

/// More than the tests write.
const PLENTY: Limits = Limits { transactions: 10_000, bytes: 64 << 20, rows: 1_000_000 };

/// A session that is what the agent's is.
struct Session {
    client: Client,
    kill: Option<Kill>,
    /// It was, so nothing is answered any more.
    killed: bool,
}

/// The server is killed while it carries out a statement.
struct Kill {
    pid: i32,
    /// Which.
    after: usize,
    /// How long it has been at it.
    pause: Duration,
}

impl rewind::Session for Session {
    fn rows(&mut self, sql: &str) -> Result<Vec<BTreeMap<String, String>>, String> {
        if self.killed {
            return Err("lost: it was killed".into());
        }
        match &mut self.kill {
            Some(Kill { after: 0, pid, pause }) => {
                let (pid, pause) = (*pid, *pause);
                let killer = std::thread::spawn(move || {
                    std::thread::sleep(pause);
                    testkit::signal(pid, testkit::Signal::SIGKILL);
                });
                let _ = self.client.rows(sql);
                killer.join().unwrap();
                self.killed = true;
                Err("lost: it was killed".into())
            }
            Some(kill) => {
                kill.after -= 1;
                self.client.rows(sql)
            }
            None => self.client.rows(sql),
        }
    }
}

fn family() -> Family {
    match Server::here() {
        Server::MariaDb => Family::MariaDb,
        Server::MySql | Server::MySql80 | Server::MySql57 | Server::MySql56 => Family::MySql,
    }
}

/// A server by itself, whose log can be read.
struct Bed {
    node: Node,
}

/// Everything at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Point {
    gtids: String,
    data: String,
}

impl Bed {
    fn with(options: &str) -> Self {
        let node = Node::alone();
        node.configure(&format!("binlog_format=ROW\n{options}"));
        node.run_by_hand();
        Self { node }
    }

    fn new() -> Self {
        Self::with("")
    }

    fn client(&self) -> Client {
        Client::patient_root(&self.node.socket()).unwrap()
    }

    fn session(&self) -> Session {
        Session { client: self.client(), kill: None, killed: false }
    }

    #[track_caller]
    fn must(&self, statements: &[&str]) {
        let mut client = self.client();
        for statement in statements {
            client.ask(statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
        }
    }

    fn gtids(&self) -> String {
        self.client().ask(self.node.server.executed()).unwrap().replace('\n', "")
    }

    fn point(&self) -> Point {
        Point { gtids: self.gtids(), data: dump(&mut self.client()) }
    }

    fn tail(&self, common: &str, limits: Limits) -> Result<Tail, Refusal> {
        let client = std::cell::RefCell::new(self.client());
        let is_common = |gtid: &str| is_in(&mut client.borrow_mut(), gtid, common);
        let account = Account::find("mysql").unwrap();
        account.act(|files| Ok(Tail::read(files, &self.node.data().join("binlog.index"), limits, &is_common))).unwrap()
    }

    /// All of it, as the agent is going to do it.
    fn rewind(&self, session: &mut Session, common: &str) -> Result<Vec<Touched>, Refusal> {
        if let Progress::Committed { common, .. } = rewind::progress(session)? {
            rewind::finish(session, family(), &common)?;
            return Ok(vec![]);
        }
        let tail = self.tail(common, PLENTY)?;
        let plan = Plan::of(&tail, PLENTY)?;
        assert_eq!(rewind::common_point(session, family(), &tail)?, common, "it is all that is errant");
        rewind::check(session, &plan)?;
        let touched = rewind::prepare(session, &plan)?;
        rewind::take_back(session, &plan, common)?;
        rewind::finish(session, family(), common)?;
        Ok(touched)
    }

    /// What is written by these statements is taken back.
    #[track_caller]
    fn comes_back(&self, statements: &[&str]) {
        let before = self.point();
        self.must(statements);
        let after = self.point();
        assert_ne!(before, after, "something was written");
        self.rewind(&mut self.session(), &before.gtids).unwrap();
        same(&self.point(), &before);
    }

    /// What is written by these statements is not taken back, and nothing is changed.
    #[track_caller]
    fn is_refused(&self, statements: &[&str]) -> Refusal {
        let common = self.gtids();
        self.must(statements);
        let before = self.point();
        let refusal = self.rewind(&mut self.session(), &common).expect_err("it cannot be taken back");
        rewind::abandon(&mut self.session()).unwrap();
        same(&self.point(), &before);
        assert!(!refusal.to_string().is_empty());
        refusal
    }
}

#[track_caller]
fn same(is: &Point, should: &Point) {
    if is == should {
        return;
    }
    let only = |these: &Point, others: &Point| {
        let count = |of: &Point, line| of.data.lines().filter(|other| *other == line).count();
        let lines: Vec<&str> = these.data.lines().filter(|line| count(these, *line) != count(others, *line)).collect();
        lines.iter().map(|line| line.chars().take(500).collect::<String>()).collect::<Vec<_>>().join("\n")
    };
    panic!("is {}\n{}\nshould be {}\n{}", is.gtids, only(is, should), should.gtids, only(should, is));
}

/// Whether a transaction is in a set: MySQL says so itself, of MariaDB the tests have one server and one domain.
fn is_in(client: &mut Client, gtid: &str, set: &str) -> bool {
    if Server::here() != Server::MariaDb {
        return client.ask(&format!("SELECT GTID_SUBSET('{gtid}','{set}')")).unwrap() == "1";
    }
    let number = |text: &str| text.rsplit('-').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default();
    number(gtid) <= number(set)
}

/// All tables of all users: how they are made, each row, the server's own checksum.
fn dump(client: &mut Client) -> String {
    let system = "'mysql','sys','information_schema','performance_schema'";
    let sql = format!(
        "SELECT table_schema AS s, table_name AS t FROM information_schema.tables WHERE table_schema NOT IN ({system}) AND \
         table_type='BASE TABLE' ORDER BY 1, 2"
    );
    let mut all = String::new();
    for row in client.rows(&sql).unwrap() {
        let name = format!("`{}`.`{}`", row["s"], row["t"].replace('`', "``"));
        let made = client.ask(&format!("SHOW CREATE TABLE {name}")).unwrap();
        // MariaDB's checksum of a table with a computed column may be another each time, of the same rows, and so may that of MySQL 5.7 of
        // one with a JSON column. The values are all below.
        let unsteady = (is_mariadb() && made.contains("GENERATED ALWAYS")) || (Server::here() == Server::MySql57 && made.contains(" json"));
        let checksum = if unsteady { String::new() } else { client.ask(&format!("CHECKSUM TABLE {name}")).unwrap() };
        let made: Vec<&str> = made.split_whitespace().filter(|word| !word.starts_with("AUTO_INCREMENT=")).collect();
        let _ = writeln!(all, "{}", made.join(" "));
        let sql = format!(
            "SELECT column_name AS c, data_type AS k FROM information_schema.columns WHERE table_schema='{}' AND table_name='{}' ORDER BY \
             ordinal_position",
            row["s"],
            row["t"].replace('\'', "''")
        );
        let columns = client.rows(&sql).unwrap();
        let value = |row: &BTreeMap<String, String>| match row["k"].as_str() {
            "float" | "double" | "decimal" | "bit" => format!("`{}`{}", row["c"], if row["k"] == "decimal" { "" } else { "+0" }),
            _ => format!("HEX(`{}`)", row["c"]),
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let rows = client.ask(&format!("SELECT {} FROM {name}", values.join(","))).unwrap();
        let mut rows: Vec<&str> = rows.lines().collect();
        rows.sort_unstable();
        let _ = writeln!(all, "{checksum}\n{}", rows.join("\n"));
    }
    all
}

fn is_mariadb() -> bool {
    Server::here() == Server::MariaDb
}

#[test]
fn rows_of_a_simple_table_come_back() {
    let bed = Bed::new();
    bed.must(&["INSERT INTO t.k VALUES ('a', 'one'), ('b', 'two'), ('c', NULL)"]);
    bed.comes_back(&[
        "INSERT INTO t.k VALUES ('d', 'four')",
        "UPDATE t.k SET value='changed' WHERE name IN ('a','c','d')",
        "DELETE FROM t.k WHERE name='b'",
        "UPDATE t.k SET name=CONCAT(name,'x')",
    ]);
    bed.comes_back(&["INSERT INTO t.k VALUES ('z', 'and once more')"]);
}

/// Columns of every type that the server has, and those that are not simply stored.
fn all_types() -> Vec<String> {
    let mut columns = vec![
        "id INT PRIMARY KEY",
        "ti TINYINT UNSIGNED",
        "si SMALLINT",
        "mi MEDIUMINT UNSIGNED",
        "bi BIGINT UNSIGNED",
        "fl FLOAT",
        "do DOUBLE",
        "de DECIMAL(38,17)",
        "d2 DECIMAL(5,0)",
        "b1 BIT(1)",
        "b13 BIT(13)",
        "b64 BIT(64)",
        "en ENUM('one','zwei','drei')",
        "se SET('a','b','c','d','e','f','g','h','i')",
        "da DATE",
        "ye YEAR",
        "t0 TIME",
        "t6 TIME(6)",
        "dt DATETIME",
        "d3 DATETIME(3)",
        "ts TIMESTAMP(6) NULL",
        "c1 CHAR(10) CHARACTER SET latin1",
        "c4 CHAR(255) CHARACTER SET utf8mb4",
        "v1 VARCHAR(63) CHARACTER SET utf8mb4",
        "v2 VARCHAR(300) CHARACTER SET utf16",
        "bn BINARY(16)",
        "vb VARBINARY(500)",
        "tt TINYTEXT",
        "tx TEXT CHARACTER SET latin1",
        "mt MEDIUMTEXT",
        "lt LONGTEXT",
        "tb TINYBLOB",
        "bl BLOB",
        "mb MEDIUMBLOB",
        "lb LONGBLOB",
        "ge GEOMETRY",
        "po POINT",
    ];
    if Server::here() != Server::MySql56 {
        columns.extend([
            "js JSON",
            "gs INT GENERATED ALWAYS AS (id * 2) STORED",
            "gv VARCHAR(20) GENERATED ALWAYS AS (CONCAT('v', ti)) VIRTUAL",
            "KEY (gv)",
        ]);
    }
    if !matches!(Server::here(), Server::MySql56 | Server::MySql57) {
        columns.push("iv INT INVISIBLE DEFAULT 7");
    }
    match Server::here() {
        Server::MariaDb => columns.extend(["i6 INET6", "uu UUID", "co BLOB COMPRESSED", "cv VARCHAR(900) COMPRESSED"]),
        Server::MySql => columns.extend(["ve VECTOR(3)", "KEY ((si + 1))"]),
        Server::MySql80 => columns.push("KEY ((si + 1))"),
        Server::MySql57 | Server::MySql56 => {}
    }
    columns.into_iter().map(str::to_owned).collect()
}

fn values(id: i32) -> String {
    let mut all = format!(
        "id={id}, ti=200, si=-5, mi=16000000, bi=18446744073709551615, fl=0.1, do=-1.0000000000000002, de=-123456789012345678901.12345678901234567, \
         d2=12345, b1=1, b13=4097, b64=X'FFEEDDCCBBAA9988', en='zwei', se='a,c,i', da='2024-02-29', ye=2155, t0='-838:59:59', \
         t6='-12:34:56.000001', dt='1000-01-01 00:00:00', d3='9999-12-31 23:59:59.999', ts='2038-01-19 03:14:07.5', c1=_latin1 X'E4F6FC', \
         c4=_utf8mb4 X'F09F9880', v1=_utf8mb4 X'C3A4F09F9880', v2=_utf16 X'00E4', bn=X'00FF00', vb=REPEAT(X'00FE',200), tt='', \
         tx=_latin1 X'DF', mt=REPEAT('x',70000), lt='long', tb=X'00', bl=REPEAT(X'00',300), mb=REPEAT(X'FF',66000), lb=X'', \
         ge=ST_GeomFromText('LINESTRING(0 0,1.5 -2.25)'), po=POINT(0.1,{id})"
    );
    if Server::here() != Server::MySql56 {
        all.push_str(", js='{\"a\": [1, 2.5, \"\\u00e4\", null, true], \"b\": {\"c\": 1e300}}'");
    }
    match Server::here() {
        Server::MariaDb => all.push_str(", i6='fe80::1', uu=UUID(), co=REPEAT('c',5000), cv=REPEAT('v',800)"),
        Server::MySql => all.push_str(", ve=STRING_TO_VECTOR('[1.5,-2,0.1]')"),
        Server::MySql80 | Server::MySql57 | Server::MySql56 => {}
    }
    all
}

/// Floats, character sets, JSON, what is computed and what nobody sees, with a key and without one.
#[test]
fn rows_of_every_type_come_back() {
    let bed = Bed::new();
    bed.must(&["SET GLOBAL sql_mode=''"]);
    let columns = all_types().join(", ");
    let bare = columns.replace("id INT PRIMARY KEY", "id INT");
    bed.must(&[
        &format!("CREATE TABLE t.typed ({columns}) ENGINE=InnoDB"),
        &format!("CREATE TABLE t.bare ({bare}) ENGINE=InnoDB"),
        &format!("INSERT INTO t.typed SET {}", values(1)),
        "INSERT INTO t.typed (id) VALUES (2)",
        &format!("INSERT INTO t.bare SET {}", values(1)),
        &format!("INSERT INTO t.bare SET {}", values(1)),
        "INSERT INTO t.bare (id) VALUES (2), (2), (NULL)",
    ]);
    for table in ["typed", "bare"] {
        bed.comes_back(&[
            &format!("INSERT INTO t.{table} SET {}", values(3)),
            &format!("UPDATE t.{table} SET fl=fl*3, do=do/7, de=de+1, b64=b64-1, c1='a', c4='b', po=NULL, mb='', ti=7 WHERE id=1 LIMIT 1"),
            &format!("DELETE FROM t.{table} WHERE id=2 LIMIT 1"),
            &format!("UPDATE t.{table} SET id=id+100 ORDER BY id DESC"),
            &format!("INSERT INTO t.{table} (id) VALUES (-1)"),
        ]);
        bed.comes_back(&[&format!("DELETE FROM t.{table}")]);
    }
}

/// A row that becomes another's value within one statement, and rows that take each other's keys.
#[test]
fn chains_of_changes_come_back() {
    let bed = Bed::new();
    bed.must(&[
        "CREATE TABLE t.chain (a INT PRIMARY KEY, b INT, UNIQUE (b)) ENGINE=InnoDB",
        "INSERT INTO t.chain VALUES (1,10),(2,20),(3,30),(4,NULL)",
        "CREATE TABLE t.twins (a INT, b INT) ENGINE=InnoDB",
        "INSERT INTO t.twins VALUES (1,1),(1,1),(2,2)",
    ]);
    bed.comes_back(&[
        "UPDATE t.chain SET a=a-1 ORDER BY a",
        "UPDATE t.chain SET a=a+5, b=b+1 ORDER BY a DESC",
        "REPLACE INTO t.chain VALUES (100,11),(5,31)",
        "INSERT INTO t.chain VALUES (5,99) ON DUPLICATE KEY UPDATE b=77",
        "UPDATE t.twins SET a=2, b=2 WHERE a=1 LIMIT 1",
        "UPDATE t.twins SET a=1, b=1 WHERE a=2",
        "DELETE FROM t.twins LIMIT 1",
        "UPDATE t.chain c JOIN t.twins w ON w.a=1 SET c.b=c.b+1000, w.b=w.b+5",
    ]);
}

/// One transaction with many statements and a savepoint, a row of a megabyte, partitions, a trigger and an event's worth of rows.
#[test]
fn large_transactions_partitions_and_triggers_come_back() {
    let bed = Bed::new();
    bed.must(&[
        "SET GLOBAL max_allowed_packet=16777216",
        "CREATE TABLE t.parted (a INT, b VARCHAR(50), PRIMARY KEY (a)) ENGINE=InnoDB PARTITION BY HASH (a) PARTITIONS 5",
        "CREATE TABLE t.seen (n INT AUTO_INCREMENT PRIMARY KEY, a INT) ENGINE=InnoDB",
        "CREATE TRIGGER t.tr AFTER INSERT ON t.parted FOR EACH ROW INSERT INTO t.seen (a) VALUES (NEW.a)",
        "CREATE TRIGGER t.td AFTER DELETE ON t.parted FOR EACH ROW INSERT INTO t.seen (a) VALUES (-OLD.a)",
        "INSERT INTO t.parted VALUES (1,'a'),(2,'b'),(3,'c')",
        "CREATE TABLE t.n (n INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO t.n VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
    ]);
    bed.comes_back(&[
        "BEGIN",
        "INSERT INTO t.parted SELECT 100+a.n+10*b.n+100*c.n, 'many' FROM t.n a, t.n b, t.n c",
        "SAVEPOINT here",
        "INSERT INTO t.k VALUES ('gone', 'x')",
        "ROLLBACK TO here",
        "DELETE FROM t.parted WHERE a%3=0",
        "UPDATE t.parted SET a=a+5000 WHERE a%7=0",
        "INSERT INTO t.k VALUES ('large', REPEAT('x', 3000000))",
        "UPDATE t.k SET value=REPEAT('y', 2000000) WHERE name='large'",
        "COMMIT",
    ]);
}

/// What the servers write when they compress, when they write no checksums, and when there are several files.
#[test]
fn logs_of_every_form_are_read() {
    let options = match Server::here() {
        Server::MariaDb => "log_bin_compress=ON\nlog_bin_compress_min_len=10\nbinlog_annotate_row_events=ON",
        Server::MySql | Server::MySql80 => "binlog_transaction_compression=ON\nbinlog_rows_query_log_events=ON\nbinlog_row_metadata=FULL",
        Server::MySql57 | Server::MySql56 => "binlog_rows_query_log_events=ON\nlog_bin_use_v1_row_events=ON",
    };
    let bed = Bed::with(options);
    bed.must(&["INSERT INTO t.k VALUES ('a', REPEAT('one ', 1000))"]);
    let write = [
        "INSERT INTO t.k VALUES ('b', REPEAT('two ', 1000)), ('c', 'three')",
        "FLUSH BINARY LOGS",
        "UPDATE t.k SET value=CONCAT(value, REPEAT('x', 500))",
        "DELETE FROM t.k WHERE name='a'",
        "FLUSH BINARY LOGS",
        "FLUSH BINARY LOGS",
    ];
    let first = bed.client().ask("SHOW BINARY LOGS").unwrap().lines().last().unwrap().split('\t').next().unwrap().to_owned();
    bed.must(&write[..1]);
    let events = bed.client().ask(&format!("SHOW BINLOG EVENTS IN '{first}'")).unwrap();
    let form = match Server::here() {
        Server::MariaDb => "Write_rows_compressed_v1",
        Server::MySql | Server::MySql80 => "Transaction_payload",
        Server::MySql57 | Server::MySql56 => "Write_rows_v1",
    };
    assert!(events.contains(form), "{events}");
    bed.must(&["DELETE FROM t.k WHERE name>'a'"]);
    bed.comes_back(&write);
    bed.must(&["SET GLOBAL binlog_checksum=NONE"]);
    bed.comes_back(&write);
}

/// After a crash the tail is in a file that nobody closed, and the server began another.
#[test]
fn the_tail_of_a_killed_server_is_taken_back() {
    let bed = Bed::new();
    bed.must(&["INSERT INTO t.k VALUES ('a', 'one')"]);
    let before = bed.point();
    bed.must(&["INSERT INTO t.k VALUES ('b', 'two')", "UPDATE t.k SET value='changed'"]);
    let process = bed.node.process();
    testkit::signal(process.pid, testkit::Signal::SIGKILL);
    testkit::eventually("it is gone", || bed.node.servers().is_empty());
    bed.node.run_by_hand();
    bed.rewind(&mut bed.session(), &before.gtids).unwrap();
    same(&bed.point(), &before);
}

/// A COMMIT that is on its way when its client is gone must not be taken for one that never came.
#[test]
fn nobody_says_how_far_it_came_while_another_session_is_at_it() {
    let bed = Bed::new();
    let mut first = bed.session();
    assert_eq!(rewind::progress(&mut first).unwrap(), Progress::Nothing);
    let said = rewind::progress(&mut bed.session());
    assert!(matches!(&said, Err(Refusal::Failed(what, _)) if what == "another session"), "{said:?}");
    drop(first);
    assert_eq!(rewind::progress(&mut bed.session()).unwrap(), Progress::Nothing);
}

#[test]
fn what_cannot_be_taken_back_exactly_is_refused() {
    let bed = Bed::new();
    bed.must(&[
        "INSERT INTO t.k VALUES ('a', 'one')",
        "CREATE TABLE t.parent (a INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE t.child (a INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES t.parent (a) ON DELETE CASCADE) ENGINE=InnoDB",
        "INSERT INTO t.parent VALUES (1),(2)",
        "INSERT INTO t.child VALUES (1,1),(2,2)",
        "CREATE TABLE t.old (a INT PRIMARY KEY) ENGINE=MyISAM",
        "CREATE TABLE t.half (a INT, UNIQUE (a)) ENGINE=InnoDB",
    ]);
    assert_eq!(bed.is_refused(&["CREATE TABLE t.new (a INT)"]), Refusal::Ddl("CREATE TABLE".into()));
    assert_eq!(bed.is_refused(&["TRUNCATE t.k"]), Refusal::Ddl("TRUNCATE".into()));
    assert_eq!(
        bed.is_refused(&["SET SESSION binlog_format=STATEMENT", "INSERT INTO t.k VALUES ('s', 'x')"]),
        Refusal::Statement("INSERT".into())
    );
    assert_eq!(
        bed.is_refused(&[
            "SET SESSION binlog_row_image=MINIMAL",
            "INSERT INTO t.k VALUES ('m','x')",
            "UPDATE t.k SET value='y' WHERE name='m'"
        ]),
        Refusal::PartialImage("t.k".into())
    );
    assert!(
        matches!(bed.is_refused(&["DELETE FROM t.parent WHERE a=1"]), Refusal::Cascades(table, by) if table == "t.parent" && by == "t.child")
    );
    assert!(matches!(bed.is_refused(&["INSERT INTO t.old VALUES (1)"]), Refusal::Engine(table, _) if table == "t.old"));
    assert_eq!(bed.is_refused(&["INSERT INTO t.half VALUES (1)"]), Refusal::NoKey("t.half".into()));
    // 5.6 writes what was prepared as any other transaction, and says only by its end that it was none.
    if Server::here() == Server::MySql56 {
        return;
    }
    assert_eq!(
        bed.is_refused(&["XA START 'x'", "INSERT INTO t.k VALUES ('xa','x')", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"]),
        Refusal::Xa
    );
}

/// A row of a parent that is only added takes no other with it, and a row of a child takes none.
#[test]
fn foreign_keys_that_do_nothing_are_in_nobodys_way() {
    let bed = Bed::new();
    bed.must(&[
        "CREATE TABLE t.parent (a INT PRIMARY KEY) ENGINE=InnoDB",
        "CREATE TABLE t.child (a INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES t.parent (a) ON DELETE CASCADE) ENGINE=InnoDB",
        "CREATE TABLE t.other (a INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES t.parent (a)) ENGINE=InnoDB",
        "INSERT INTO t.parent VALUES (1)",
        "INSERT INTO t.child VALUES (1,1)",
    ]);
    bed.comes_back(&[
        "INSERT INTO t.parent VALUES (2)",
        "INSERT INTO t.child VALUES (2,2)",
        "INSERT INTO t.other VALUES (1,2)",
        "DELETE FROM t.child WHERE a=1",
        "UPDATE t.other SET p=1",
    ]);
}

/// What only one family has.
#[test]
fn what_only_mariadb_has_is_refused() {
    if !is_mariadb() {
        return;
    }
    let bed = Bed::new();
    bed.must(&[
        "CREATE TABLE t.versioned (a INT PRIMARY KEY) ENGINE=InnoDB WITH SYSTEM VERSIONING",
        "CREATE SEQUENCE t.numbers",
        "CREATE TABLE t.aria (a INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=1",
    ]);
    assert!(matches!(bed.is_refused(&["INSERT INTO t.versioned VALUES (1)"]), Refusal::Kind(table, _) if table == "t.versioned"));
    assert!(matches!(bed.is_refused(&["INSERT INTO t.aria VALUES (1)"]), Refusal::Engine(table, _) if table == "t.aria"));
    let common = bed.gtids();
    bed.must(&["SELECT NEXTVAL(t.numbers)"]);
    let refusal = bed.rewind(&mut bed.session(), &common).err();
    assert!(matches!(&refusal, Some(Refusal::Kind(table, _) | Refusal::Engine(table, _)) if table == "t.numbers"), "{refusal:?}");
}

#[test]
fn an_encrypted_log_of_mariadb_is_refused() {
    if !is_mariadb() {
        return;
    }
    let keys = std::path::Path::new("/tmp/contract/rewind-keys");
    std::fs::create_dir_all("/tmp/contract").unwrap();
    std::fs::write(keys, format!("1;{}\n", "a7".repeat(32))).unwrap();
    let bed = Bed::with("plugin-load-add=file_key_management\nfile_key_management_filename=/tmp/contract/rewind-keys\nencrypt_binlog=ON");
    assert!(matches!(bed.is_refused(&["INSERT INTO t.k VALUES ('a','b')"]), Refusal::Encrypted(_)));
}

#[test]
fn what_only_mysql_has_is_read_or_refused() {
    if !Server::here().says_source() {
        return;
    }
    let bed = Bed::new();
    bed.must(&[
        "CREATE TABLE t.j (a INT PRIMARY KEY, j JSON) ENGINE=InnoDB",
        "INSERT INTO t.j VALUES (1, JSON_OBJECT('a', REPEAT('x',500), 'b', 2))",
        "SET SESSION sql_generate_invisible_primary_key=1",
        "CREATE TABLE t.hidden (v INT) ENGINE=InnoDB",
        "INSERT INTO t.hidden VALUES (1),(2)",
    ]);
    let tagged = if Server::here().has_tags() { "SET SESSION gtid_next='AUTOMATIC:a_tag_1'" } else { "DO 0" };
    bed.comes_back(&[
        tagged,
        "INSERT INTO t.k VALUES ('a','b')",
        "UPDATE t.hidden SET v=v+1",
        "SET SESSION gtid_next='AUTOMATIC'",
        "DELETE FROM t.hidden",
        "UPDATE t.j SET j=JSON_SET(j, '$.b', 3)",
    ]);
    let refusal = bed.is_refused(&["SET SESSION binlog_row_value_options=PARTIAL_JSON", "UPDATE t.j SET j=JSON_SET(j, '$.b', 4)"]);
    assert_eq!(refusal, Refusal::PartialJson);
}

#[test]
fn statements_that_load_a_file_are_refused() {
    let bed = Bed::with("secure_file_priv=\nlocal_infile=1");
    std::fs::write("/tmp/contract/rewind-rows", "loaded\tx\n").unwrap();
    let load = "LOAD DATA INFILE '/tmp/contract/rewind-rows' INTO TABLE t.k";
    bed.comes_back(&[load]);
    assert_eq!(bed.is_refused(&["SET SESSION binlog_format=STATEMENT", load]), Refusal::LoadData);
}

/// A row that somebody changed without a log is not as the log says.
#[test]
fn a_row_that_is_not_as_the_log_says_is_refused() {
    let bed = Bed::new();
    bed.must(&["CREATE TABLE t.bare (a INT, b INT) ENGINE=InnoDB", "INSERT INTO t.bare VALUES (1,1),(2,2)"]);
    let refusal = bed.is_refused(&["INSERT INTO t.k VALUES ('a','b')", "SET sql_log_bin=0", "UPDATE t.k SET value='c'"]);
    assert_eq!(refusal, Refusal::Differs("t.k".into()));
    let refusal = bed.is_refused(&["INSERT INTO t.k VALUES ('d','e')", "SET sql_log_bin=0", "DELETE FROM t.k WHERE name='d'"]);
    assert_eq!(refusal, Refusal::Differs("t.k".into()));
    let refusal = bed.is_refused(&["UPDATE t.bare SET b=3 WHERE a=1", "SET sql_log_bin=0", "UPDATE t.bare SET b=4 WHERE a=1"]);
    assert!(matches!(refusal, Refusal::Failed(table, _) if table == "t.bare"));
    let refusal = bed.is_refused(&["DELETE FROM t.k WHERE name='a'", "SET sql_log_bin=0", "INSERT INTO t.k VALUES ('a','again')"]);
    assert!(matches!(refusal, Refusal::Failed(table, _) if table == "t.k"));
}

#[test]
fn settings_lengths_and_gaps_are_refused() {
    let bed = Bed::new();
    let common = bed.gtids();
    bed.must(&["INSERT INTO t.k VALUES ('a','1')", "INSERT INTO t.k VALUES ('b','2')", "INSERT INTO t.k VALUES ('c','3')"]);
    let few = |transactions, bytes| bed.tail(&common, Limits { transactions, bytes, rows: 9 }).err();
    assert_eq!(few(2, 1 << 20), Some(Refusal::TooLong(2, "transactions")));
    assert_eq!(few(9, 100), Some(Refusal::TooLong(100, "bytes of transactions")));
    assert_eq!(few(3, 1 << 20), None);
    let tail = bed.tail(&common, PLENTY).unwrap();
    let last = tail.transactions[2].gtid.clone();
    let account = Account::find("mysql").unwrap();
    let gap = account.act(|files| Ok(Tail::read(files, &bed.node.data().join("binlog.index"), PLENTY, &|gtid| gtid == last).err()));
    assert_eq!(gap.unwrap(), Some(Refusal::Gap(last)));
    let name = if Server::here().says_source() { "replica_exec_mode" } else { "slave_exec_mode" };
    bed.must(&[&format!("SET GLOBAL {name}=IDEMPOTENT")]);
    let plan = Plan::of(&tail, PLENTY).unwrap();
    assert!(matches!(rewind::check(&mut bed.session(), &plan), Err(Refusal::Setting(..))));
    bed.must(&[&format!("SET GLOBAL {name}=STRICT")]);
    assert_eq!(rewind::check(&mut bed.session(), &plan), Ok(()));
}

/// What is kept is what the server's own tool reads, and nobody else's to read.
#[test]
fn each_transaction_is_kept_as_a_log_of_its_own() {
    let bed = Bed::new();
    let common = bed.gtids();
    bed.must(&["INSERT INTO t.k VALUES ('Rotkehlchen','1')", "UPDATE t.k SET value='Amsel'"]);
    let tail = bed.tail(&common, PLENTY).unwrap();
    let directory = bed.node.directory.join("kept");
    std::fs::create_dir(&directory).unwrap();
    bed.node.give(&directory);
    let account = Account::find("mysql").unwrap();
    let keep = || account.act(|files| Ok(rewind::keep(files, &directory, &tail))).unwrap().unwrap();
    let kept: Vec<PathBuf> = keep();
    assert_eq!(keep(), kept, "again after a crash");
    assert_eq!(kept.len(), 2);
    for (path, word) in kept.iter().zip(["Rotkehlchen", "Amsel"]) {
        let content = std::fs::read(path).unwrap();
        assert!(content.windows(word.len()).any(|part| part == word.as_bytes()));
        let about = std::fs::metadata(path).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o777, 0o600);
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&about), account.uid);
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2);
}

/// Two servers are asked the same, and say the same when the rows are the same.
#[test]
fn touched_rows_are_compared_by_what_servers_say_of_them() {
    let bed = Bed::new();
    bed.must(&[
        "SET GLOBAL sql_mode=''",
        &format!("CREATE TABLE t.typed ({}) ENGINE=InnoDB", all_types().join(", ")),
        &format!("INSERT INTO t.typed SET {}", values(1)),
        "CREATE TABLE t.bare (a FLOAT, b VARCHAR(9)) ENGINE=InnoDB",
        "INSERT INTO t.bare VALUES (0.1,'x'),(0.1,'x'),(2,'z')",
        "CREATE TABLE t.keys (a VARCHAR(20) CHARACTER SET latin1, b DATETIME(3), c BINARY(4), d BIT(9), e DOUBLE, v INT, PRIMARY KEY (a,b,c,d,e)) \
         ENGINE=InnoDB",
        "INSERT INTO t.keys VALUES (_latin1 X'E4', '2024-01-01 00:00:00.123', X'00FF', 300, 0.1, 1), ('b', NOW(3), 'x', 1, 1e300, 2)",
    ]);
    let before = bed.point();
    bed.must(&[
        "UPDATE t.typed SET fl=2",
        "DELETE FROM t.bare WHERE a<1 LIMIT 1",
        "UPDATE t.keys SET v=v+1",
        "DELETE FROM t.keys WHERE a='b'",
    ]);
    let touched = bed.rewind(&mut bed.session(), &before.gtids).unwrap();
    let say = |touched: &Touched| rewind::fingerprint(&mut bed.session(), touched).unwrap();
    assert_eq!(touched.len(), 3);
    let said: Vec<String> = touched.iter().map(say).collect();
    assert_eq!(said.iter().map(|text| text.lines().count()).collect::<Vec<_>>(), [1, 1, 2], "{touched:?}");
    for (number, change) in
        ["UPDATE t.typed SET fl=0.3", "DELETE FROM t.bare LIMIT 1", "UPDATE t.keys SET v=9 LIMIT 1"].into_iter().enumerate()
    {
        bed.must(&[change]);
        assert_ne!(say(&touched[number]), said[number], "{change}");
    }
}

/// How many schemas are made up: some daily, thousands by `make rewind-property CASES=2000`.
fn cases() -> u64 {
    std::env::var("SYSTOLE_REWIND_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// Numbers that are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.roll(all.len())]
    }
}

/// Types of columns, each with values of it.
fn random_types() -> Vec<(&'static str, &'static [&'static str])> {
    let mut all: Vec<(&str, &[&str])> = vec![
        ("TINYINT", &["-128", "0", "127"]),
        ("BIGINT UNSIGNED", &["0", "18446744073709551615", "42"]),
        ("MEDIUMINT", &["-8388608", "5"]),
        ("FLOAT", &["0.1", "-3e38", "1e-38", "RAND()"]),
        ("DOUBLE", &["0.1", "1e300", "RAND()", "-0.0"]),
        ("DECIMAL(20,7)", &["-1234567890123.1234567", "0.0000001"]),
        ("DECIMAL(65,30)", &["99999999999999999999999999999999999.999999999999999999999999999999"]),
        ("BIT(9)", &["0", "511", "300"]),
        ("ENUM('a','b','c')", &["'a'", "'c'"]),
        ("SET('x','y','z')", &["'x,z'", "''"]),
        ("DATE", &["'2024-02-29'", "'0001-01-01'"]),
        ("TIME(3)", &["'-838:59:58.999'", "'00:00:00.001'"]),
        ("DATETIME(6)", &["'2024-12-31 23:59:59.999999'", "NOW(6)"]),
        ("TIMESTAMP NULL", &["'2001-01-01 00:00:01'", "NOW()"]),
        ("YEAR", &["1901", "2155"]),
        ("CHAR(7) CHARACTER SET latin1", &["_latin1 X'E4'", "''", "'1234567'"]),
        ("CHAR(200) CHARACTER SET utf8mb4", &["_utf8mb4 X'F09F9880'", "REPEAT('z',200)"]),
        ("VARCHAR(100) CHARACTER SET utf8mb4", &["_utf8mb4 X'C3A4'", "REPEAT('v',100)", "UUID()"]),
        ("VARCHAR(999) CHARACTER SET utf16", &["REPEAT('w',500)", "''"]),
        ("BINARY(5)", &["X'00'", "X'0102030405'"]),
        ("VARBINARY(300)", &["X''", "REPEAT(X'00',300)"]),
        ("TEXT", &["REPEAT('t',9000)", "''", "'short'"]),
        ("MEDIUMBLOB", &["REPEAT(X'FF00',50000)", "X''"]),
        ("GEOMETRY", &["POINT(0.1,2)", "ST_GeomFromText('LINESTRING(0 0,1 1,2 -5.5)')"]),
    ];
    if Server::here() != Server::MySql56 {
        all.push(("JSON", &["'{\"a\": [1, 2.5, null]}'", "'[]'", "'\"x\"'"]));
    }
    match Server::here() {
        Server::MariaDb => all.extend([
            ("INET6", &["'::1'", "'fe80::2'"] as &[&str]),
            ("UUID", &["UUID()"]),
            ("BLOB COMPRESSED", &["REPEAT('c',5000)", "''"]),
        ]),
        Server::MySql => all.push(("VECTOR(2)", &["STRING_TO_VECTOR('[0.5,-1]')"])),
        Server::MySql80 | Server::MySql57 | Server::MySql56 => {}
    }
    all
}

/// A table that was made up.
struct Made {
    name: String,
    columns: Vec<(String, &'static [&'static str])>,
}

impl Made {
    fn of(dice: &mut Dice, case: u64, number: usize) -> (Self, String) {
        let types = random_types();
        let mut columns: Vec<(String, &'static [&'static str])> = vec![("id".to_owned(), &[])];
        let mut words = vec![(*dice.of(&["id INT", "id BIGINT", "id DECIMAL(9,2)", "id VARCHAR(20)", "id BINARY(8)"])).to_owned()];
        for at in 0..1 + dice.roll(7) {
            let (kind, values) = dice.of(&types);
            words.push(format!("c{at} {kind}"));
            columns.push((format!("c{at}"), values));
        }
        let key = match dice.roll(6) {
            0 => None,
            1 => Some("KEY (id)"),
            2 => Some("n INT NOT NULL DEFAULT 3, PRIMARY KEY (n, id)"),
            _ => Some("PRIMARY KEY (id)"),
        };
        words.extend(key.map(str::to_owned));
        if Server::here() != Server::MySql56 && dice.roll(3) == 0 {
            words.insert(1, format!("gs INT GENERATED ALWAYS AS (7) {}", dice.of(&["STORED", "VIRTUAL"])));
        }
        let name = format!("t.`made {case} {number}`");
        let keyed_by_id = words.iter().any(|word| word.contains("PRIMARY KEY (id)"));
        // Neither family partitions a table with a geometry.
        let whole = words.iter().any(|word| word.contains("GEOMETRY"));
        let partitions = if keyed_by_id && !whole && dice.roll(4) == 0 { " PARTITION BY KEY (id) PARTITIONS 3" } else { "" };
        let made = format!("CREATE TABLE {name} ({}) ENGINE=InnoDB{partitions}", words.join(", "));
        (Self { name, columns }, made)
    }

    fn statement(&self, dice: &mut Dice) -> String {
        let (column, values) = &self.columns[1 + dice.roll(self.columns.len() - 1)];
        let value = if dice.roll(6) == 0 { "NULL" } else { *dice.of(values) };
        let name = &self.name;
        let id = dice.roll(40);
        match dice.roll(9) {
            0..=3 => {
                let all =
                    |of: &(String, &[&'static str])| if of.1.is_empty() { id.to_string() } else { (*of.1.first().unwrap()).to_owned() };
                let mut row: Vec<String> = self.columns.iter().map(all).collect();
                let at = self.columns.iter().position(|(known, _)| known == column).unwrap();
                row[at] = value.to_owned();
                let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
                format!("{} INTO {name} ({}) VALUES ({})", dice.of(&["INSERT", "INSERT", "REPLACE"]), names.join(","), row.join(","))
            }
            4 | 5 => format!("UPDATE {name} SET {column}={value} WHERE id>{id} LIMIT 5"),
            6 => format!("UPDATE {name} SET id=id+1 ORDER BY id DESC LIMIT 7"),
            7 => format!("DELETE FROM {name} WHERE id<{id} LIMIT 3"),
            _ => format!("DELETE FROM {name} LIMIT 1"),
        }
    }
}

/// Statements, each by itself or several as a transaction. Some are refused by a key: that is no matter.
fn write(client: &mut Client, dice: &mut Dice, tables: &[Made], count: usize) -> Result<(), String> {
    for _ in 0..count {
        let several = dice.roll(3) == 0;
        if several {
            client.ask("BEGIN")?;
        }
        for _ in 0..if several { 1 + dice.roll(6) } else { 1 } {
            let statement = dice.of(tables).statement(dice);
            match client.ask(&statement) {
                Err(gone) if gone.starts_with("lost") || gone.starts_with("no answer") => return Err(gone),
                _ => {}
            }
        }
        if several {
            client.ask(if dice.roll(8) == 0 { "ROLLBACK" } else { "COMMIT" })?;
        }
    }
    Ok(())
}

/// Whatever was in the tables, whatever was written, whenever the server is killed: after it all is as it was at the common point.
#[test]
fn made_up_transactions_come_back_whenever_the_server_is_killed() {
    let seed = std::env::var("SYSTOLE_REWIND_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1_u64);
    let bed = Bed::new();
    bed.must(&["SET GLOBAL sql_mode=''"]);
    for case in seed..seed + cases() {
        eprintln!("SYSTOLE_REWIND_SEED={case} SYSTOLE_REWIND_CASES=1");
        one_case(&bed, case);
    }
}

fn one_case(bed: &Bed, case: u64) {
    let mut dice = Dice(case);
    let (tables, made): (Vec<Made>, Vec<String>) = (0..1 + dice.roll(3)).map(|number| Made::of(&mut dice, case, number)).unzip();
    bed.must(&made.iter().map(String::as_str).collect::<Vec<_>>());
    bed.must(&["SET GLOBAL sql_mode=''"]);
    let count = dice.roll(40);
    write(&mut bed.client(), &mut dice, &tables, count).unwrap();
    let before = bed.point();
    let count = 1 + dice.roll(60);
    if dice.roll(3) == 0 {
        let (pid, pause) = (bed.node.process().pid, dice.roll(60) as u64);
        let mut client = bed.client();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(pause));
            testkit::signal(pid, testkit::Signal::SIGKILL);
        });
        let _ = write(&mut client, &mut dice, &tables, 10 * count);
        killer.join().unwrap();
        again(bed);
    } else {
        write(&mut bed.client(), &mut dice, &tables, count).unwrap();
    }
    // Killed again and again until once it is not.
    for attempt in 0.. {
        let kill = (attempt < 2 && dice.roll(2) == 0).then(|| Kill {
            pid: bed.node.process().pid,
            after: dice.roll(60),
            pause: Duration::from_micros(dice.roll(4000) as u64),
        });
        let mut session = Session { client: bed.client(), kill, killed: false };
        match bed.rewind(&mut session, &before.gtids) {
            Ok(_) => break,
            Err(Refusal::Failed(..)) if session.killed => again(bed),
            Err(refusal) => panic!("case {case}: {refusal}"),
        }
    }
    same(&bed.point(), &before);
    bed.must(
        &tables.iter().map(|table| format!("DROP TABLE {}", table.name)).collect::<Vec<_>>().iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

fn again(bed: &Bed) {
    testkit::eventually("it is gone", || bed.node.servers().is_empty());
    bed.node.run_by_hand();
    bed.must(&["SET GLOBAL sql_mode=''"]);
}
