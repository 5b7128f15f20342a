//! Passwords are where they are needed and nowhere else.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use testkit::mysql::{Group, Node, REPLICATION_PASSWORD, Server};
use testkit::{Agent, Lists, Process};

/// Everything that shells, SQL and XML could stumble over, and a word to search for. MySQL takes 32 characters.
const PASSWORD: &str = r#"hunter2 "q" 's' $(id) ` \ ; & <"#;
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
fn scan(stop: Arc<AtomicBool>, needles: &'static [&'static str]) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut found = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            for process in Process::all().into_iter().filter(|p| p.pid != me) {
                let holds = |text: &str| needles.iter().any(|needle| text.contains(needle));
                if holds(&process.arguments) {
                    found.push(format!("arguments of {}: {}", process.name, process.arguments));
                }
                // The agent itself gets its parameters in its environment: that is how Pacemaker hands them over. A thread
                // of this test is a moment from being the agent.
                let agent = process.name == "mysql" || process.name.contains("::") || process.name.starts_with("mysql-");
                if holds(&process.environment) && !agent {
                    found.push(format!("environment of {}: {}", process.name, process.environment));
                }
            }
        }
        found
    })
}

fn secret_file(node: &Node, name: &str, text: &str) -> std::path::PathBuf {
    let path = node.directory.join(name);
    std::fs::write(&path, format!("{text}\nnot this line\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The files that may hold it: what the server itself keeps, and what the test wrote.
#[track_caller]
fn expect_nowhere(directory: &Path) {
    for entry in walk(directory) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if entry.starts_with(directory.join("data")) || name.starts_with("secret") {
            continue;
        }
        if name == "systole-db.login" {
            // What worked last is remembered, for root's eyes only.
            let mode = std::fs::metadata(&entry).map(|m| m.permissions().mode() & 0o777).unwrap_or(0o600);
            assert_eq!(mode, 0o600, "{}", entry.display());
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&entry).unwrap_or_default()).into_owned();
        assert!(!text.contains(NEEDLE), "the password stands in {}", entry.display());
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

/// An account with a password for the agent, and that password for replication, on a server at rest.
fn give_passwords(node: &Node) {
    node.start();
    let literal = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'");
    let replication = if node.server == Server::MySql {
        format!("ALTER USER replication@'%' IDENTIFIED BY '{literal}'")
    } else {
        format!("SET PASSWORD FOR replication@'%' = PASSWORD('{literal}')")
    };
    let mut statements = vec![
        "SET sql_log_bin=0".to_owned(),
        format!("CREATE USER pacemaker@localhost IDENTIFIED BY '{literal}'"),
        "GRANT ALL ON *.* TO pacemaker@localhost WITH GRANT OPTION".to_owned(),
        replication,
    ];
    if node.server.closes_for_administrators() {
        statements.insert(0, "SET GLOBAL super_read_only=0".to_owned());
        statements.push("SET GLOBAL super_read_only=1".to_owned());
    }
    node.must(&statements.iter().map(String::as_str).collect::<Vec<_>>());
    node.agent().run("stop").ok();
}

/// All actions of a primary and of a replica with everything that logs switched on.
#[track_caller]
fn all_actions(with: impl Fn(&Node, Agent) -> Agent) {
    let syslog = syslog();
    let group = Group::of(&["a", "b"]);
    group.nodes.iter().for_each(give_passwords);
    let agent = |name: &str| {
        let node = group.node(name);
        let agent =
            node.agent().without("OCF_RESKEY_replication_passwd").parameter("test_user", "pacemaker").parameter("pasword", PASSWORD);
        with(node, agent)
            .variable("HA_debug", "1")
            .variable("OCF_TRACE_FILE", node.directory.join("trace"))
            .variable("HA_LOGFACILITY", "daemon")
    };
    let lists = Lists::promoting("a", &["a", "b"]);
    let stop = Arc::new(AtomicBool::new(false));
    let scanner = scan(Arc::clone(&stop), &[NEEDLE]);
    let mut said = String::new();
    let mut run = |agent: Agent, action: &str, statuses: &[i32]| {
        let answer = agent.run(action);
        answer.expect(statuses);
        said.push_str(&format!("{}{}", answer.stdout, answer.stderr));
    };
    for name in ["a", "b"] {
        run(agent(name), "validate-all", &[0]);
        run(agent(name), "start", &[0]);
        run(agent(name).notifying("pre", "promote", &lists, group.spelling), "notify", &[0]);
    }
    run(agent("a").lists(&lists, group.spelling), "promote", &[0]);
    for name in ["b", "a"] {
        run(agent(name).notifying("post", "promote", &lists, group.spelling), "notify", &[0]);
    }
    group.wait_attached("b");
    for name in ["b", "a"] {
        run(agent(name), "monitor", &[0, 8]);
        run(agent(name).variable("OCF_CHECK_LEVEL", "10"), "validate-all", &[0]);
        run(agent(name), "reload-agent", &[0]);
        // A statement with the password that the server does not take.
        run(agent(name).parameter("replication_user", "x".repeat(300)), "reload-agent", &[0, 1]);
    }
    let server_arguments = group.nodes.iter().map(|n| n.process().arguments).collect::<String>();
    for name in ["a", "b"] {
        run(agent(name), "demote", &[0]);
        run(agent(name), "stop", &[0]);
    }
    stop.store(true, Ordering::Relaxed);
    let found = scanner.join().unwrap();
    assert!(found.is_empty(), "the password is to be seen: {found:#?}");
    assert!(!server_arguments.contains(NEEDLE));
    assert!(!said.contains(NEEDLE), "the agent says the password: {said}");
    assert!(!syslog.lock().unwrap().contains(NEEDLE), "the password is in syslog");
    assert!(syslog.lock().unwrap().contains("started the server"), "syslog was not captured at all");
    for node in &group.nodes {
        let trace = std::fs::read_to_string(node.directory.join("trace")).unwrap();
        assert!(trace.contains("OCF_RESKEY_config=") && !trace.contains(NEEDLE), "{trace}");
        expect_nowhere(&node.directory);
    }
}

#[test]
fn passwords_as_parameters() {
    all_actions(|_, agent| agent.parameter("test_passwd", PASSWORD).parameter("replication_passwd", PASSWORD));
}

#[test]
fn passwords_in_files() {
    all_actions(|node, agent| {
        agent
            .parameter("test_passwd_file", secret_file(node, "secret-test", PASSWORD))
            .parameter("replication_passwd_file", secret_file(node, "secret-replication", PASSWORD))
    });
}

/// MariaDB takes 96 characters, MySQL 32, and both say a part of what they do not take.
#[test]
fn a_replication_password_that_is_too_long_is_refused_at_start_and_never_shown() {
    let group = Group::of(&["a", "b"]);
    let a = group.node("a");
    let long = "Nachtigall".repeat(13);
    let answer = a.agent().parameter("replication_passwd", &long).run("start");
    answer.refused(5, &["replication_user", "characters", "choose a shorter one"]);
    assert!(!answer.stderr.contains("Nachtig") && !a.log().contains("Nachtig"));
    // Changed while it runs.
    let group = Group::established(&["a", "b"]);
    let b = group.node("b");
    group.settle();
    b.must(&[&format!("STOP {}", b.server.replica()), &format!("RESET {} ALL", b.server.replica())]);
    let answer = b.agent().parameter("replication_passwd", &long).run("monitor");
    assert!(!answer.stderr.contains("Nachtig") && !b.log().contains("Nachtig"), "{}", b.log());
}

/// The server refuses the statement and quotes it: what the agent passes on is without the password.
#[test]
fn the_error_of_a_statement_that_names_the_source_holds_no_password() {
    let group = Group::established(&["a", "b"]);
    group.settle();
    let b = group.node("b");
    b.must(&[&format!("STOP {}", b.server.replica()), &format!("RESET {} ALL", b.server.replica())]);
    // Too long for the server, quoted or not.
    for (name, value) in [("replication_user", "x".repeat(300)), ("replication_master_ssl_ca", format!("/{}", "y".repeat(3000)))] {
        let answer = b.agent().parameter(name, value).parameter("replication_require_ssl", "yes").run("monitor");
        for text in [answer.stderr.as_str(), answer.stdout.as_str(), b.log().as_str()] {
            assert!(!text.contains(REPLICATION_PASSWORD), "{text}");
        }
    }
}
