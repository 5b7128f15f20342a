//! What somebody can do who has become the service's user: put anything into its directories, while root's agent works in them. Nothing
//! of root's may change, move, or be shown.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Group, Lists, Node, eventually};

/// A directory of root's beside the node's, with a file that nobody else may read.
struct Roots {
    directory: PathBuf,
    secret: PathBuf,
}

/// What stands in it; the words make it look like a complaint in a log.
const SECRET: &str = "1:M # Can't be told: hunter2\n";

impl Roots {
    fn of(node: &Node) -> Self {
        let directory = node.directory.join("roots");
        let secret = directory.join("secret");
        std::fs::create_dir(&directory).unwrap();
        write_secret(&secret, SECRET);
        Self { directory, secret }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(&self.directory).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[track_caller]
    fn expect_untouched(&self, names: &[&str]) {
        assert_eq!(self.names(), names, "something was put there, or is gone");
        assert_eq!(std::fs::metadata(&self.directory).unwrap().uid(), 0, "the directory was given away");
        let found = std::fs::metadata(&self.secret).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o7777, found.nlink()), (0, 0o600, 1), "the file was given away, or has another name");
        assert_eq!(std::fs::read_to_string(&self.secret).unwrap(), SECRET);
    }
}

fn write_secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A directory of the service's user.
fn own(node: &Node) -> PathBuf {
    let own = node.directory.join("own");
    std::fs::create_dir(&own).unwrap();
    node.give(&own);
    own
}

/// A primary that died with a write that only it has comes back, so that its data files are kept.
fn come_back_with_data_of_its_own(prepare: impl FnOnce(&Node)) -> Group {
    let group = Group::established(&["a", "b"]);
    let (a, b) = (group.node("a"), group.node("b"));
    b.ask(&["REPLICAOF", "127.0.0.1", "1"]).unwrap();
    a.write("only here").unwrap();
    a.ask(&["SAVE"]).unwrap();
    a.kill_server();
    a.agent().run("stop").ok();
    group.promote("b", &["b"]).ok();
    prepare(a);
    let lists = Lists { promoted: vec!["b"], start: vec!["a"], ..Lists::default() };
    a.agent().lists(&lists, group.spelling).run("start").ok();
    group.wait_attached("a");
    group
}

/// Root made directories and links in any directory, and removed what was called `new` there.
#[test]
fn what_is_kept_does_not_go_through_a_link_in_the_place_of_its_directory() {
    let mut roots = None;
    let group = come_back_with_data_of_its_own(|a| {
        let there = Roots::of(a);
        std::fs::create_dir(there.directory.join("new")).unwrap();
        std::fs::write(there.directory.join("new/precious"), "").unwrap();
        symlink(&there.directory, a.data().join("systole-kept")).unwrap();
        roots = Some(there);
    });
    let roots = roots.unwrap();
    roots.expect_untouched(&["new", "secret"]);
    assert!(roots.directory.join("new/precious").exists());
    let log = group.node("a").log();
    assert!(log.contains("its data files are not kept") && log.contains("systole-kept"), "{log}");
}

/// A look before the use is worth nothing: between the two there is always a moment.
#[test]
fn a_directory_that_is_exchanged_again_and_again_leads_nowhere() {
    let mut roots = None;
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (mut exchanging, mut saved) = (None, vec![]);
    let group = come_back_with_data_of_its_own(|a| {
        let there = Roots::of(a);
        std::fs::create_dir(there.directory.join("new")).unwrap();
        saved = std::fs::read(a.data().join("dump.rdb")).unwrap();
        let (kept, aside, link) = (a.data().join("systole-kept"), a.data().join("aside"), a.data().join("link"));
        std::fs::create_dir(&kept).unwrap();
        a.give(&kept);
        symlink(&there.directory, &link).unwrap();
        roots = Some(there);
        let done = std::sync::Arc::clone(&done);
        exchanging = Some(std::thread::spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                for (from, to) in [(&kept, &aside), (&link, &kept), (&kept, &link), (&aside, &kept)] {
                    let _ = std::fs::rename(from, to);
                }
            }
        }));
    });
    // With every start another moment.
    let a = group.node("a");
    for _ in 0..20 {
        a.agent().run("stop").ok();
        std::fs::write(a.data().join("dump.rdb"), &saved).unwrap();
        a.give(&a.data().join("dump.rdb"));
        let lists = Lists { promoted: vec!["b"], start: vec!["a"], ..Lists::default() };
        a.agent().lists(&lists, group.spelling).run("start").ok();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    exchanging.unwrap().join().unwrap();
    roots.unwrap().expect_untouched(&["new", "secret"]);
    let log = a.log();
    let tried = log.matches("kept its data files").count() + log.matches("its data files are not kept").count();
    assert!(tried > 10, "the attack was not made: {log}");
}

/// Links by root made a second name for any file on the same disk.
#[test]
fn files_of_roots_are_not_kept_as_data() {
    let mut roots = None;
    let group = come_back_with_data_of_its_own(|a| {
        let there = Roots::of(a);
        symlink(&there.directory, a.data().join("appendonlydir")).unwrap();
        roots = Some(there);
    });
    roots.unwrap().expect_untouched(&["secret"]);
    assert!(group.node("a").log().contains("its data files are not kept"), "{}", group.node("a").log());
}

/// The run directory is made, and given to the user. Through a link it was any directory.
#[test]
fn no_directory_is_given_away_through_a_link() {
    let node = Node::alone();
    let (own, roots) = (own(&node), Roots::of(&node));
    symlink(&roots.directory, own.join("run")).unwrap();
    for rundir in ["run", "run/redis"] {
        let agent = node.agent().parameter("rundir", own.join(rundir));
        agent.run("start").refused(4, &["rundir"]);
        roots.expect_untouched(&["secret"]);
        agent.run("stop").ok();
    }
}

/// What a server says in its log becomes the reason that everybody sees.
#[test]
fn a_file_of_roots_is_not_shown_as_the_servers_log() {
    let node = Node::alone();
    let roots = Roots::of(&node);
    let bin = node.directory.join("redis-server");
    let log = node.data().join("redis.log");
    std::fs::write(&bin, format!("#!/bin/sh\nln -sf {} {}\nexit 1\n", roots.secret.display(), log.display())).unwrap();
    std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).unwrap();
    let answer = node.agent().parameter("bin", &bin).run("start");
    answer.refused(1, &["the server ended"]);
    assert!(std::fs::read_link(&log).is_ok(), "the attack was not made");
    assert!(!answer.stderr.contains("hunter2") && !node.log().contains("hunter2"), "{}", answer.stderr);
}

/// Its directives would be the server's, the password would go to whoever listens on the socket.
#[test]
fn what_the_server_cannot_read_is_no_configuration() {
    let node = Node::alone();
    let roots = Roots::of(&node);
    node.configure(&format!("include {}", roots.secret.display()));
    node.agent().run("start").refused(4, &[roots.secret.to_str().unwrap(), "ermission"]);
}

/// A stop that does not end gets the node fenced.
#[test]
fn a_configuration_without_an_end_holds_nothing_up() {
    let node = Node::alone();
    node.start();
    let name = |level: usize| node.directory.join(format!("{level}.conf"));
    for level in 0..12 {
        std::fs::write(name(level), format!("include {}\n", name(level + 1).display()).repeat(50)).unwrap();
    }
    std::fs::write(name(12), "maxclients 77\n").unwrap();
    node.configure(&format!("include {}", name(0).display()));
    std::fs::remove_file(node.state_file()).unwrap();
    for (action, status) in [("monitor", 190), ("stop", 0)] {
        let answer = node.agent().timeout(std::time::Duration::from_secs(8)).run(action);
        answer.expect(&[status]);
        assert!(answer.counted < std::time::Duration::from_secs(4), "{answer:?}");
    }
    assert!(node.servers().is_empty());
    node.agent().run("start").refused(5, &["more than 1000 files"]);
}

/// The server reads it from the directory that it is started in, or from `dir`. Another file of that name is another file.
#[test]
fn an_include_with_a_relative_path_is_the_servers() {
    let node = Node::alone();
    std::fs::write(node.directory.join("more.conf"), "dir /no/such/directory\n").unwrap();
    std::fs::write(node.data().join("more.conf"), "maxclients 77\n").unwrap();
    node.configure("include more.conf");
    node.start();
    assert_eq!(node.ask(&["CONFIG", "GET", "maxclients"]).unwrap().split_whitespace().last(), Some("77"));
    node.agent().run("monitor").expect(&[0]);
}

/// The password is sent to whoever listens on the socket. It is root's to say which file holds it.
#[test]
fn a_password_file_is_not_taken_through_a_link_of_the_users() {
    let node = Node::alone();
    let (own, roots) = (own(&node), Roots::of(&node));
    symlink(&roots.secret, own.join("password")).unwrap();
    symlink(&roots.directory, own.join("etc")).unwrap();
    for file in ["password", "etc/secret"] {
        let answer = node.agent().parameter("password_file", own.join(file)).run("start");
        answer.refused(4, &["password_file", "link"]);
        assert!(!answer.stderr.contains("hunter2"));
    }
    // A link of root's is root's word.
    symlink(&roots.secret, node.directory.join("password")).unwrap();
    node.agent().parameter("password_file", node.directory.join("password")).run("validate-all").ok();
}

#[test]
fn a_password_file_of_the_service_user_is_refused() {
    let node = Node::alone();
    let file = node.directory.join("password");
    write_secret(&file, "hunter2\n");
    node.give(&file);
    node.agent().parameter("password_file", &file).run("start").refused(4, &["belongs to user", "chown root"]);
}

#[test]
fn a_server_is_not_started_as_root() {
    let node = Node::alone();
    let answer = node.agent().parameter("user", "root").run("start");
    answer.refused(5, &["user root", "set user"]);
    assert!(node.servers().is_empty());
    node.agent().parameter("user", "root").run("stop").ok();
}

/// Whoever comes into it is root: the agent does not take charge of it, and stops it when it is told to.
#[test]
fn a_server_that_runs_as_root_is_not_taken_over() {
    let node = Node::alone();
    let started = Command::new("redis-server")
        .arg(node.config())
        .args(["--daemonize", "yes", "--pidfile"])
        .arg(node.pid_file())
        .arg("--unixsocket")
        .arg(node.socket())
        .status()
        .unwrap();
    assert!(started.success());
    eventually("it answers", || testkit::Client::tcp(node.port).is_ok());
    node.agent().run("monitor").refused(190, &["runs as root"]);
    node.agent().run("start").refused(1, &["runs as root", "stop it"]);
    node.agent().run("stop").ok();
    assert!(node.servers().is_empty());
}

/// What Pacemaker was started with is not for a server: how sparing the kernel is with it, what others may do with its files, dumps of memory.
/// Of root's rights it has none, and nothing that it executes ever gains one.
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
    assert_eq!((server.status("CapBnd"), server.status("NoNewPrivs")), ("0".repeat(16), "1".to_owned()));
    assert_eq!(server.status("Umask"), "0007");
    node.agent().run("stop").ok();
}

/// Somebody in the server's place who passes everything on, but another id of its history, of the same length.
fn lie_of_history(node: &Node, lie: &'static [u8; 40]) {
    let socket = node.socket();
    let aside = socket.with_extension("aside");
    std::fs::rename(&socket, &aside).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    node.give(&socket);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = std::os::unix::net::UnixStream::connect(&aside).unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || pass_on(server, client, lie));
        }
    });
}

fn pass_on(mut server: std::os::unix::net::UnixStream, mut client: std::os::unix::net::UnixStream, lie: &[u8]) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = std::io::Read::read(&mut server, &mut buffer)?;
        let said = &mut buffer[..read];
        const NAME: &[u8] = b"master_replid:";
        if let Some(at) = said.windows(NAME.len()).position(|word| word == NAME) {
            said[at + NAME.len()..][..lie.len()].copy_from_slice(lie);
        }
        if read == 0 {
            return client.shutdown(std::net::Shutdown::Both);
        }
        std::io::Write::write_all(&mut client, said)?;
    }
}

/// The text stood in the CIB, and its words counted as the record's: another node for the primary, other holders of its writes.
#[test]
fn the_history_that_a_server_tells_puts_no_words_into_the_record() {
    let group = testkit::Group::established(&["a", "b"]);
    let b = group.node("b");
    group.node("a").kill_server();
    lie_of_history(b, b"aa node=evil holders=evil past=evil:7 x ");
    b.agent().run("monitor").expect(&[190, 1]);
    // Nobody has to be elected by what it says.
    group.cluster.set_record("redis", "node=b");
    group.promote("b", &["b"]).expect(&[1]);
    assert_eq!(group.record(), "node=b");
    assert!(!group.cluster.position("redis", "b").unwrap_or_default().contains("evil"));
}
