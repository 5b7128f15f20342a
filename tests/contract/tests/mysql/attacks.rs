//! What somebody can do who has become the service's user: put anything into its directories, while root's agent works in them. Nothing
//! of root's may change, move, or be shown.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::mysql::{Group, Liar, Lie, Node, Server};
use testkit::{Agent, Answer, Process, eventually};

use super::copy::Diverged;

/// A directory of root's beside the node's, with a file that nobody else may read.
struct Roots {
    directory: PathBuf,
    secret: PathBuf,
}

/// What stands in it; the words make it look like a complaint in a log.
const SECRET: &str = "[ERROR] hunter2\n";

impl Roots {
    fn of(node: &Node) -> Self {
        let directory = node.directory.join("roots");
        let secret = directory.join("secret");
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o600)).unwrap();
        Self { directory, secret }
    }

    #[track_caller]
    fn expect_untouched(&self, names: &[&str]) {
        assert_eq!(names_in(&self.directory), names, "something was put there, or is gone");
        assert_eq!(std::fs::metadata(&self.directory).unwrap().uid(), 0, "the directory was given away");
        let found = std::fs::metadata(&self.secret).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777, found.nlink()), (0, 0o600, 1), "the file was given away, or has another name");
        assert_eq!(std::fs::read_to_string(&self.secret).unwrap(), SECRET);
        let open: Vec<i32> = Process::all()
            .iter()
            .map(|p| p.pid)
            .filter(|pid| *pid != std::process::id() as i32)
            .filter(|pid| holds(*pid, &self.secret))
            .collect();
        assert!(open.is_empty(), "{open:?} hold the file open");
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn holds(pid: i32, file: &Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|fd| std::fs::read_link(fd.path()).ok()).any(|path| path == file)
}

/// A directory of the service's user.
fn own(node: &Node) -> PathBuf {
    let own = node.directory.join("own");
    std::fs::create_dir(&own).unwrap();
    node.give(&own);
    own
}

/// The log was made and given to the user, and opened before the server became that user: any file anywhere.
#[test]
fn a_link_in_the_place_of_the_log_makes_no_file_and_opens_none() {
    let node = Node::alone();
    let roots = Roots::of(&node);
    for target in ["made", "secret"] {
        let _ = std::fs::remove_file(node.error_log());
        symlink(roots.directory.join(target), node.error_log()).unwrap();
        let answer = node.agent().run("start");
        roots.expect_untouched(&["secret"]);
        answer.refused(4, &[node.error_log().to_str().unwrap(), "link", "user mysql"]);
        node.agent().run("stop").ok();
    }
    // Where the server itself may write, a link is an operator's choice.
    let own = own(&node);
    std::fs::remove_file(node.error_log()).unwrap();
    symlink(own.join("error.log"), node.error_log()).unwrap();
    node.start();
    assert!(std::fs::metadata(own.join("error.log")).unwrap().len() > 0);
}

/// What a server says in its log becomes the reason that everybody sees.
#[test]
fn what_the_log_says_is_not_a_file_of_roots() {
    let node = Node::alone();
    let roots = Roots::of(&node);
    let binary = node.directory.join("mysqld");
    std::fs::write(&binary, format!("#!/bin/sh\nln -sf {} {}\nexit 1\n", roots.secret.display(), node.error_log().display())).unwrap();
    std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
    let answer = node.agent().parameter("binary", &binary).run("start");
    answer.refused(1, &["the server ended"]);
    assert!(std::fs::read_link(node.error_log()).is_ok(), "the attack was not made");
    assert!(!answer.stderr.contains("hunter2") && !node.log().contains("hunter2"), "{}", answer.stderr);
    roots.expect_untouched(&["secret"]);
}

#[test]
fn no_directory_is_made_or_given_away_through_a_link() {
    let node = Node::alone();
    let (own, roots) = (own(&node), Roots::of(&node));
    symlink(&roots.directory, own.join("run")).unwrap();
    for (parameter, name) in [("socket", "mysqld.sock"), ("pid", "mysqld.pid"), ("log", "error.log")] {
        let path = own.join("run/mysqld").join(name);
        node.agent().parameter(parameter, &path).run("start").refused(4, &["run/mysqld", "user mysql"]);
        roots.expect_untouched(&["secret"]);
        node.agent().parameter(parameter, &path).run("stop").ok();
    }
    let agent = node.agent().parameter("enable_creation", "yes").parameter("datadir", own.join("run/data"));
    agent.run("start").refused(4, &["run/data"]);
    roots.expect_untouched(&["secret"]);
    assert!(node.servers().is_empty());
}

/// Missing directories and a missing log are made where root alone can make them, and given to the server.
#[test]
fn what_is_missing_is_made_where_only_root_can() {
    let node = Node::alone();
    let (run, log) = (node.directory.join("a/run/mysqld.sock"), node.directory.join("b/log/error.log"));
    let agent = node.agent().parameter("socket", &run).parameter("log", &log);
    agent.run("start").ok();
    let mysql = std::fs::metadata(node.data()).unwrap().uid();
    for given in [run.parent().unwrap(), log.parent().unwrap(), &log] {
        assert_eq!(std::fs::metadata(given).unwrap().uid(), mysql, "{}", given.display());
    }
    assert_eq!(std::fs::metadata(node.directory.join("a")).unwrap().uid(), 0);
    agent.run("stop").ok();
    let alone = node.directory.join("error.log");
    let agent = node.agent().parameter("log", &alone);
    agent.run("start").ok();
    assert_eq!(std::fs::metadata(&alone).unwrap().uid(), mysql);
    agent.run("stop").ok();
}

/// What only a diverged server has was linked by root, under the names and from the place that the server says. Root's own copies of
/// the logs were removed with them.
#[test]
fn logs_that_a_link_leads_to_are_neither_kept_nor_removed() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let program = r#"[ "$1" = --check ] || cp -a "$here/saved/." "$2""#;
    let diverged = Diverged::with(program, "log-bin=DIR/logs/binlog\nrelay-log=DIR/logs/relay\n");
    let b = diverged.group.node("b");
    let (logs, roots) = (b.directory.join("logs"), b.directory.join("roots"));
    // As an operator keeps them.
    assert!(Command::new("cp").args([Path::new("-r"), &logs, &roots]).status().unwrap().success());
    for name in names_in(&roots) {
        std::fs::set_permissions(roots.join(name), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let before = names_in(&roots);
    diverged.agent().run("monitor").refused(1, &["transactions that the primary does not have"]);
    diverged.agent().run("stop").ok();
    diverged.agent().run("start").ok();
    // The server runs, and has its files open.
    std::fs::rename(&logs, b.directory.join("aside")).unwrap();
    symlink(&roots, &logs).unwrap();
    eventually("the copy fails or is made", || b.log().contains("the data are a copy of") || b.log().contains("copy: "));
    assert_eq!(names_in(&roots), before, "they were removed");
    for name in names_in(&roots) {
        assert_eq!(std::fs::metadata(roots.join(&name)).unwrap().nlink(), 1, "{name} got another name");
    }
    assert!(b.log().contains("copy: "), "{}", b.log());
    diverged.agent().run("stop").ok();
}

/// Logs on a file system of their own are kept beside them, in a directory of the server's user.
#[test]
fn what_is_kept_does_not_go_through_a_link_in_the_place_of_its_directory() {
    if Server::here() != Server::MariaDb {
        return;
    }
    let diverged = Diverged::with("[ \"$1\" = --check ] || exit 1", "log-bin=DIR/logs/binlog\nrelay-log=DIR/logs/relay\n");
    let b = diverged.group.node("b");
    let roots = Roots::of(b);
    symlink(&roots.directory, b.directory.join("logs/systole-kept")).unwrap();
    let kept = b.data().with_file_name("data.systole-kept");
    std::fs::create_dir_all(&kept).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&kept).status().unwrap();
    assert!(mounted.success());
    diverged.restart();
    eventually("the copy fails", || b.log().contains("copy: "));
    diverged.agent().run("stop").ok();
    let _ = Command::new("umount").arg("-l").arg(&kept).status();
    roots.expect_untouched(&["secret"]);
    assert!(b.log().contains("cannot be kept"), "{}", b.log());
}

/// Whose word the pid file and the socket are: a process of another user's was killed by a stop.
#[test]
fn a_process_of_somebody_else_is_not_stopped() {
    let node = Node::alone();
    // A shell of root's in the data directory, and a service of root's with a socket.
    let mut shell = Command::new("sleep").arg("300").current_dir(node.data()).spawn().unwrap();
    std::fs::write(node.pid_file(), shell.id().to_string()).unwrap();
    let elsewhere = node.directory.join("service.sock");
    let mut service = Command::new("python3")
        .arg("-c")
        .arg("import socket,sys,time\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen(9)\ntime.sleep(300)")
        .arg(&elsewhere)
        .spawn()
        .unwrap();
    eventually("the service listens", || elsewhere.exists());
    symlink(&elsewhere, node.socket()).unwrap();
    node.agent().probing().run("monitor").expect(&[7]);
    node.agent().run("stop").ok();
    assert_eq!((shell.try_wait().unwrap(), service.try_wait().unwrap()), (None, None), "it was killed");
    for child in [&mut shell, &mut service] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn a_password_file_is_roots_and_not_reached_through_a_link_of_the_users() {
    let node = Node::alone();
    let (own, roots) = (own(&node), Roots::of(&node));
    symlink(&roots.secret, own.join("password")).unwrap();
    symlink(&roots.directory, own.join("etc")).unwrap();
    for file in ["password", "etc/secret"] {
        let answer = node.agent().parameter("test_passwd_file", own.join(file)).run("start");
        answer.refused(4, &["test_passwd_file", "link"]);
        assert!(!answer.stderr.contains("hunter2"));
    }
    let file = node.directory.join("password");
    std::fs::copy(&roots.secret, &file).unwrap();
    node.give(&file);
    node.agent().parameter("test_passwd_file", &file).run("start").refused(4, &["belongs to user", "chown root"]);
}

#[test]
fn a_server_is_not_started_as_root() {
    let node = Node::alone();
    node.agent().parameter("user", "root").run("start").refused(5, &["user root", "set user"]);
    assert!(node.servers().is_empty());
    node.agent().parameter("user", "root").run("stop").ok();
}

/// Whoever comes into it is root: the agent does not take charge of it, and stops it when it is told to.
#[test]
fn a_server_that_runs_as_root_is_not_taken_over() {
    let node = Node::alone();
    let mut server = Command::new(node.server.binary())
        .arg(format!("--defaults-file={}", node.config().display()))
        .arg("--user=root")
        .arg(format!("--datadir={}", node.data().display()))
        .arg(format!("--socket={}", node.socket().display()))
        .arg(format!("--pid-file={}", node.pid_file().display()))
        .current_dir(node.data())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    eventually("it answers", || node.administer("SELECT 1").is_ok());
    node.agent().run("monitor").refused(190, &["runs as root"]);
    node.agent().run("start").refused(1, &["runs as root", "stop it"]);
    std::thread::spawn(move || server.wait());
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

/// What only the agent's own lines begin with.
const FORGED: &str = "2026-01-01T00:00:00Z mysql(db)[1]: NOTICE: promoted: all is well";
/// What everybody can be shown. Bytes.
const LONGEST_LINE: usize = 9_000;
const LONGEST_REASON: usize = 2_500;

/// What nobody means well, as a text.
fn texts() -> Vec<Vec<u8>> {
    let several = format!("x\n{FORGED}\r\nocf-exit-reason:{FORGED}\n\0\x1b[2J\u{2028}{FORGED}\u{202e}");
    vec![[several.as_bytes(), b"\xff\xfe"].concat(), vec![b'x'; 1_000_000]]
}

/// The same as a path.
fn paths(node: &Node, roots: &Roots) -> Vec<Vec<u8>> {
    let link = node.data().join("link");
    symlink(&roots.directory, &link).unwrap();
    let secret = roots.secret.display();
    let paths = [
        secret.to_string(),
        format!("../../../../../../../../../..{secret}"),
        link.join("secret").display().to_string(),
        format!("{secret}\0/../x"),
    ];
    paths.into_iter().map(String::into_bytes).chain(texts()).collect()
}

/// What the agent asks a server for, and goes to.
const PLACES: &[&str] =
    &["log_bin_basename", "relay_log_basename", "innodb_log_group_home_dir", "innodb_data_home_dir", "innodb_undo_directory", "plugin_dir"];

/// What else it asks for.
const NAMES: &[&str] = &[
    "version",
    "server_id",
    "server_uuid",
    "read_only",
    "log_bin",
    "binlog_format",
    "event_scheduler",
    "gtid_executed",
    "gtid_owned",
    "gtid_binlog_state",
    "gtid_slave_pos",
    // Its binary log and its replicas.
    "binlog_do_db",
    "binlog_ignore_db",
    "host",
    "rpl_semi_sync_master_clients",
    "rpl_semi_sync_source_clients",
    // Its replication.
    "master_host",
    "source_host",
    "last_io_errno",
    "last_io_error",
    "last_sql_errno",
    "last_sql_error",
    "gtid_io_pos",
    "retrieved_gtid_set",
    "slave_sql_running_state",
    "replica_sql_running_state",
    "replicate_do_db",
    "connection_name",
    "channel_name",
    // Its sessions.
    "state",
    "info",
    "user",
    "id",
];

/// That an action ended as one does, and said what it said in lines of its own.
#[track_caller]
fn expect_sober(what: &str, node: &Node, answer: &Answer) {
    assert!([0, 1, 4, 5, 7, 8, 9, 190, 191].contains(&answer.status), "{what}: {} ended with {}", answer.action, answer.status);
    for line in answer.stderr.lines() {
        assert!(line.starts_with("ocf-exit-reason:") && line.len() < LONGEST_REASON, "{what}: {line:.300}");
    }
    assert!(answer.stderr.lines().count() <= 1, "{what}: {:.600}", answer.stderr);
    for line in node.log().lines() {
        assert!(line.len() < LONGEST_LINE, "{what}: a line of {} bytes: {line:.300}", line.len());
        let words = line.split_once("Z mysql(db)[").and_then(|(_, rest)| rest.split_once("]: "));
        let is_ours = words.is_some_and(|(_, said)| ["ERROR: ", "WARNING: ", "NOTICE: "].iter().any(|word| said.starts_with(word)));
        assert!(is_ours && !line.starts_with(FORGED), "{what}: a line that nobody wrote: {line:.300}");
        assert!(!line.contains(|c: char| c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c)), "{what}: {line:.300}");
    }
}

/// What a server says of itself is used as a path, shown to the operator, and told to the other nodes.
#[test]
fn a_server_that_lies_moves_nothing_of_roots_and_forges_no_line() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let (a, b) = (group.node("a"), group.node("b"));
    let roots = Roots::of(b);
    let liars = [Liar::over(a), Liar::over(b)];
    let (paths, texts) = (paths(b, &roots), texts());
    let look = |what: &str| {
        let monitors = [(a, a.agent().spawn("monitor")), (b, b.agent().spawn("monitor"))];
        monitors.into_iter().for_each(|(node, monitor)| expect_sober(what, node, &monitor.answer()));
        // What it is asked when it is taken charge of.
        expect_sober(what, b, &b.agent().run("start"));
    };
    for (name, values) in PLACES.iter().map(|name| (name, &paths)).chain(NAMES.iter().map(|name| (name, &texts))) {
        for value in values {
            let what = format!("{name} is {:.80}", String::from_utf8_lossy(value));
            liars.iter().for_each(|liar| liar.tell(Lie::Value((*name).to_owned(), value.clone())));
            look(&what);
            roots.expect_untouched(&["secret"]);
            for node in [a, b] {
                // What has been read is not read again.
                std::fs::write(node.directory.join("ha.log"), "").unwrap();
                assert!(std::fs::metadata(node.state_file()).map_or(0, |file| file.len()) < 200_000, "{what}: remembered");
            }
        }
    }
    // The error of a statement is shown as well.
    for begin in ["SHOW GLOBAL VARIABLES", "SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS", "SELECT @@", "SET ", "SHOW"] {
        for value in &texts {
            let what = format!("{begin} is refused: {:.80}", String::from_utf8_lossy(value));
            liars.iter().for_each(|liar| liar.tell(Lie::Refusal(begin, value.clone())));
            look(&what);
            roots.expect_untouched(&["secret"]);
        }
    }
    liars.iter().for_each(|liar| liar.tell(Lie::Value("last_io_error".into(), b"x\ny".to_vec())));
    for (node, action) in [(b, "demote"), (a, "demote"), (b, "stop"), (a, "stop")] {
        expect_sober("the end", node, &node.agent().run(action));
    }
    assert!(a.servers().is_empty() && b.servers().is_empty());
}

/// An answer without an end was read until the time was over, and kept: a gigabyte in three seconds.
#[test]
fn an_answer_without_an_end_takes_no_memory() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let node = group.node("b");
    let liar = Liar::over(node);
    for begin in ["SHOW GLOBAL VARIABLES", "SELECT @@", "SHOW ALL SLAVES STATUS", "SHOW REPLICA STATUS"] {
        liar.tell(Lie::Flood(begin, 1_000));
        for action in ["monitor", "start"] {
            let (answer, memory) = measured(&node.agent(), action);
            expect_sober(begin, node, &answer);
            assert!(memory < 300, "{action}: {memory} MB for the answer to {begin}");
        }
    }
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

/// An action, and the most memory that it had at a time, in MB.
fn measured(agent: &Agent, action: &str) -> (Answer, u64) {
    let running = agent.spawn(action);
    let mut most = 0;
    while let Some(process) = Process::of(running.pid()) {
        let had: Option<u64> = process.status("VmHWM").split(' ').next().and_then(|kilobytes| kilobytes.parse().ok());
        most = most.max(had.unwrap_or_default() >> 10);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    (running.answer(), most)
}

/// What Pacemaker was started with is not for a server: how sparing the kernel is with it, what others may do with its files, dumps of memory.
/// Of root's rights it has none, and what it executes may gain those that PAM needs.
#[test]
fn a_server_has_limits_of_its_own_and_none_of_roots_rights() {
    let node = Node::alone();
    let inherited = "umask 0; echo 300 > /proc/self/oom_score_adj; ulimit -c unlimited; ulimit -S -n 512";
    let answer = testkit::after(inherited, &node.agent().command(&["start"])).output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    let server = node.process();
    let adjusted = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", server.pid)).unwrap();
    assert_eq!(adjusted.trim(), "0");
    assert_eq!(server.limit("Max core file size"), ["0", "0"]);
    let [soft, hard] = &server.limit("Max open files")[..] else { panic!("no limits") };
    assert!(soft == hard && soft != "512", "{soft} {hard}: as many as the sandbox has, up to 65,535");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(server.status(set), "0".repeat(16), "{set}");
    }
    // DAC_OVERRIDE, DAC_READ_SEARCH, SETGID, SETUID, IPC_LOCK, SYS_NICE, AUDIT_WRITE, as far as the sandbox has them.
    let may_gain: u64 = [1, 2, 6, 7, 14, 23, 29].iter().map(|number| 1 << number).sum();
    let gains = u64::from_str_radix(&server.status("CapBnd"), 16).unwrap();
    assert_eq!(gains & !may_gain, 0, "{gains:x}");
    // The servers set their own.
    let umask = server.status("Umask");
    assert!(umask.ends_with('6') || umask.ends_with('7'), "{umask}");
    node.agent().run("stop").ok();
}
