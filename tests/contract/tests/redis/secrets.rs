//! Passwords are where they are needed and nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use testkit::{Agent, Client, Group, Node, Process};

/// Everything that shells, Redis and XML could stumble over, and a word to search for.
const PASSWORD: &str = r#"hunter2 "quoted" 'single' $(id) `id` \ ; & < > % é"#;
const NEEDLE: &str = "hunter2";

/// What arrives at /dev/log. One listener for all tests of this program.
fn syslog() -> &'static Mutex<String> {
    static LINES: OnceLock<Mutex<String>> = OnceLock::new();
    static LISTENING: OnceLock<()> = OnceLock::new();
    let lines = LINES.get_or_init(Mutex::default);
    LISTENING.get_or_init(|| {
        let _ = std::fs::remove_file("/dev/log");
        let socket = UnixDatagram::bind("/dev/log").expect("/dev/log can be bound in the sandbox");
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut buffer) {
                lines.lock().unwrap().push_str(&format!("{}\n", String::from_utf8_lossy(&buffer[..length])));
            }
        });
    });
    lines
}

/// Looks at the arguments and environments of all processes until it is told to stop.
fn scan(stop: Arc<AtomicBool>, agents: Vec<String>) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut found = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            for process in Process::all() {
                if process.pid == me {
                    continue;
                }
                if process.arguments.contains(NEEDLE) {
                    found.push(format!("arguments of {}: {}", process.name, process.arguments));
                }
                // A thread of this test is a moment from being the agent, and
                // the agent itself gets its parameters in its environment: that is how Pacemaker hands them over.
                if process.environment.contains(NEEDLE) && !agents.contains(&process.name) && !process.name.starts_with("secrets::") {
                    found.push(format!("environment of {}: {}", process.name, process.environment));
                }
            }
        }
        found
    })
}

fn secret_file(node: &Node, text: &str) -> std::path::PathBuf {
    let path = node.directory.join("secret");
    std::fs::write(&path, format!("{text}\nnot this line\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// As the server reads it between double quotes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[track_caller]
fn expect_nowhere(directory: &Path, except: &[&str]) {
    for entry in walk(directory) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read(&entry).unwrap_or_default();
        if name == "systole-redis.login" {
            // The login that worked last: root's alone.
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", entry.display());
        } else if !except.contains(&name.as_str()) {
            assert!(!String::from_utf8_lossy(&text).contains(NEEDLE), "the password stands in {}", entry.display());
        }
    }
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(walk(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

/// All actions with everything that logs switched on; returns what was said and found.
#[track_caller]
fn all_actions(node: &Node, agent: &Agent) {
    let syslog = syslog();
    let stop = Arc::new(AtomicBool::new(false));
    let scanner = scan(Arc::clone(&stop), vec!["redis".to_owned()]);
    let traced = agent
        .clone()
        .variable("HA_debug", "1")
        .variable("OCF_TRACE_FILE", node.directory.join("trace"))
        .variable("HA_LOGFACILITY", "daemon")
        .parameter("pasword", PASSWORD)
        .parameter("crm_feature_set", "3.16.2");
    let mut said = String::new();
    for (action, status) in [
        ("validate-all", 0),
        ("start", 0),
        ("monitor", 0),
        ("promote", 0),
        ("monitor", 8),
        ("reload-agent", 0),
        ("demote", 0),
        ("monitor", 0),
        ("stop", 0),
        ("monitor", 7),
    ] {
        let answer = traced.run(action);
        answer.expect(&[status]);
        said.push_str(&format!("{}{}", answer.stdout, answer.stderr));
    }
    stop.store(true, Ordering::Relaxed);
    let found = scanner.join().unwrap();
    assert!(found.is_empty(), "the password is to be seen: {found:#?}");
    assert!(!said.contains(NEEDLE), "the agent says the password: {said}");
    assert!(!syslog.lock().unwrap().contains(NEEDLE), "the password is in syslog");
    assert!(syslog.lock().unwrap().contains("started the server"), "syslog was not captured at all");
    let trace = std::fs::read_to_string(node.directory.join("trace")).unwrap();
    assert!(trace.contains("OCF_RESKEY_config=") && !trace.contains(NEEDLE), "{trace}");
    expect_nowhere(&node.directory, &["secret", "redis.conf", "users.acl"]);
}

#[test]
fn a_password_in_the_configuration() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    all_actions(node, &alone(node));
}

/// A clone of one: every action can succeed without the others.
fn alone(node: &Node) -> Agent {
    let lists = testkit::Lists::promoting("a", &["a"]);
    let agent = node.agent().meta("clone_max", "1").lists(&lists, testkit::Spelling::Both);
    node.cluster.as_ref().unwrap().set_position("redis", "a", "0-:aa:0:-:0:100:-");
    agent
}

#[test]
fn a_password_in_a_file() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    all_actions(node, &alone(node).parameter("password_file", secret_file(node, PASSWORD)));
}

#[test]
fn a_password_as_a_parameter() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    all_actions(node, &alone(node).parameter("password", PASSWORD));
}

#[test]
fn an_acl_user() {
    let group = Group::of(&["a"]);
    let node = group.node("a");
    let acl = node.directory.join("users.acl");
    // The sum of what docs/redis.md lists belongs here; `+@all` would hide a command that is missing there.
    std::fs::write(
        &acl,
        "user default off\nuser pacemaker on >hunter2 +info +config|get +config|set +replicaof +client|pause +client|unpause \
         +client|kill +ping +select +auth +hello\n",
    )
    .unwrap();
    node.give(&acl);
    node.configure(&format!("aclfile {}", acl.display()));
    all_actions(node, &alone(node).parameter("acl_user", "pacemaker").parameter("password_file", secret_file(node, "hunter2")));
}

/// Replication's login is set after the server came up: an agent killed in between leaves it unset.
#[test]
fn a_start_that_was_killed_and_repeated_sets_the_login_of_replication() {
    let node = Node::alone();
    node.configure("requirepass hunter2");
    node.start();
    // As the killed start leaves it: the server runs, and was not told.
    let mut client = node.client();
    client.ask(&["AUTH", "hunter2"]).unwrap();
    client.ask(&["CONFIG", "SET", "masterauth", ""]).unwrap();
    node.start();
    assert_eq!(client.ask(&["CONFIG", "GET", "masterauth"]).unwrap(), "masterauth\nhunter2");
}

/// Replication's password gets to the server without standing on its command line, and replication works with it.
#[test]
fn replication_logs_in_with_the_agents_password() {
    let group = Group::of(&["a", "b"]);
    for node in &group.nodes {
        node.configure(&format!("requirepass {}", quoted(PASSWORD)));
    }
    group.start_all();
    group.promote("a", &["a", "b"]).ok();
    testkit::eventually("b is attached", || {
        let mut client = Client::tcp(group.node("b").port).unwrap();
        client.ask(&["AUTH", PASSWORD]).unwrap();
        client.ask(&["INFO", "replication"]).unwrap().contains("master_link_status:up")
    });
    for node in &group.nodes {
        assert!(!node.process().arguments.contains(NEEDLE) && !node.process().environment.contains(NEEDLE), "{:?}", node.process());
    }
}
