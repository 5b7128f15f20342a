//! What somebody can do who has become the service's user: put anything into its directories, while root's agent works in them. Nothing
//! of root's may change, move, or be shown.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::mysql::{Node, Server};
use testkit::{Process, eventually};

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
