//! Passwords are where they are needed and nowhere else: where one could be seen while actions run.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use testkit::{Agent, Kind, NodeOf, Process};

/// The word of a password to search for.
pub(crate) const NEEDLE: &str = "hunter2";

/// What arrives at /dev/log. One listener for all tests of this program.
pub(crate) fn syslog() -> &'static Mutex<String> {
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

/// Looks at the arguments and environments of all processes, and at what is said, while actions run.
pub(crate) struct Lookout {
    stop: Arc<AtomicBool>,
    scanner: std::thread::JoinHandle<Vec<String>>,
    said: String,
}

impl Lookout {
    /// The agent itself gets its parameters in its environment: that is how Pacemaker hands them over. A thread of this test is a
    /// moment from being the agent.
    pub(crate) fn begin(is_agent: fn(&str) -> bool) -> Self {
        syslog();
        let stop = Arc::new(AtomicBool::new(false));
        Self { stop: Arc::clone(&stop), scanner: scan(stop, is_agent), said: String::new() }
    }

    #[track_caller]
    pub(crate) fn run(&mut self, agent: &Agent, action: &str, statuses: &[i32]) {
        let answer = agent.run(action);
        answer.expect(statuses);
        self.said.push_str(&format!("{}{}", answer.stdout, answer.stderr));
    }

    #[track_caller]
    pub(crate) fn expect_nothing(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (found, said) = (self.scanner.join().unwrap(), self.said);
        assert!(found.is_empty(), "the password is to be seen: {found:#?}");
        assert!(!said.contains(NEEDLE), "the agent says the password: {said}");
        assert!(!syslog().lock().unwrap().contains(NEEDLE), "the password is in syslog");
        assert!(syslog().lock().unwrap().contains("started the server"), "syslog was not captured at all");
    }
}

fn scan(stop: Arc<AtomicBool>, is_agent: fn(&str) -> bool) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let me = i32::try_from(std::process::id()).unwrap();
        let mut found = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            for process in Process::all().into_iter().filter(|p| p.pid != me) {
                if process.arguments.contains(NEEDLE) {
                    found.push(format!("arguments of {}: {}", process.name, process.arguments));
                }
                if process.environment.contains(NEEDLE) && !is_agent(&process.name) {
                    found.push(format!("environment of {}: {}", process.name, process.environment));
                }
            }
        }
        found
    })
}

/// With everything that logs switched on.
pub(crate) fn loud<K: Kind>(node: &NodeOf<K>, agent: Agent) -> Agent {
    agent.variable("HA_debug", "1").variable("OCF_TRACE_FILE", node.directory.join("trace")).variable("HA_LOGFACILITY", "daemon")
}

#[track_caller]
pub(crate) fn expect_clean_trace<K: Kind>(node: &NodeOf<K>) {
    let trace = std::fs::read_to_string(node.directory.join("trace")).unwrap();
    assert!(trace.contains("OCF_RESKEY_config=") && !trace.contains(NEEDLE), "{trace}");
}

/// All files below a directory.
pub(crate) fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
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
