//! The watcher: lowers this node's promotion score the moment the server dies.
//!
//! The fastest detection of a crash is no monitor at all. A score change alone makes the cluster demote the dead
//! instance and promote the best other one, about 150 ms later, whatever the monitor interval. The watcher decides
//! nothing else and starts nothing: with Pacemaker away, or the resource unmanaged, a lowered score does no harm, and
//! the monitor raises it again when the server is fit.

use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{Daemon, Identity};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Membership};
use crate::score::Score;

/// How often it looks at a server whose process is still there. The process is gone only when the kernel has taken its memory back, which
/// takes about a second for 8 GiB; that it was killed can be seen at once. A look is one read in /proc.
const LOOKS: Duration = Duration::from_millis(100);

/// The watcher of one server, as its state file knows it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    watcher: Identity,
    server: Identity,
}

/// Starts, finds and ends the watcher of a resource on this node.
#[derive(Debug)]
pub struct Watcher {
    program: PathBuf,
    membership: Membership,
}

impl Watcher {
    /// The watcher for a member; `program` is `systole-watch`.
    pub fn new(program: &Path, membership: Membership) -> Self {
        Self { program: program.to_owned(), membership }
    }

    /// Makes sure that `server` is watched. Without a cluster there is nobody to tell.
    ///
    /// # Errors
    /// When the watcher cannot be started. The monitor still finds a dead server, only later.
    pub fn ensure(&self, server: &Identity, node: &str) -> Result<(), String> {
        if !self.membership.present {
            return Ok(());
        }
        if let Some(record) = self.record() {
            if record.server == *server && record.watcher.is_alive() {
                return Ok(());
            }
            record.watcher.kill();
        }
        let spawned = Daemon {
            program: self.program.clone(),
            arguments: vec![
                server.pid.to_string(),
                server.start_ticks.to_string(),
                self.membership.resource.clone(),
                node.to_owned(),
                self.membership.state_directory.display().to_string(),
            ],
            account: None,
            directory: "/".into(),
            open_files: None,
            environment: vec![("OCF_RESOURCE_INSTANCE".into(), self.membership.resource.clone())],
            log: None,
        }
        .spawn()
        .map_err(|e| format!("{e}: is systole installed completely?"))?;
        let record = serde_json::to_vec(&Record { watcher: spawned.identity, server: server.clone() }).map_err(|e| e.to_string())?;
        process::write_atomically(&self.path(), &record, 0o600).map_err(|e| format!("{}: {e}", self.path().display()))
    }

    /// Ends the watcher, if there is one: the server is going to be stopped on purpose.
    pub fn end(&self) {
        if let Some(record) = self.record() {
            record.watcher.kill();
            record.watcher.wait_gone(Duration::from_secs(1));
        }
        let _ = std::fs::remove_file(self.path());
    }

    /// Whether `server` is watched.
    pub fn is_watching(&self, server: &Identity) -> bool {
        self.record().is_some_and(|r| r.server == *server && r.watcher.is_alive())
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.path()).ok()?).ok()
    }

    fn path(&self) -> PathBuf {
        self.membership.state_directory.join(format!("systole-{}.watch", self.membership.resource))
    }
}

/// What `systole-watch` does: waits for the server, then tells the cluster. Returns the process's exit status.
///
/// Arguments: pid, start time in ticks, resource, node, state directory.
pub fn watch(arguments: &[String]) -> u8 {
    let [pid, start_ticks, resource, node, state_directory] = arguments else {
        eprintln!("usage: systole-watch PID START_TICKS RESOURCE NODE STATE_DIRECTORY (it is started by the resource agents)");
        return 2;
    };
    let (Ok(pid), Ok(start_ticks)) = (pid.parse::<i32>(), start_ticks.parse::<u64>()) else {
        eprintln!("systole-watch: pid and start time must be numbers");
        return 2;
    };
    let cluster = Cluster::new(
        Membership { resource: resource.clone(), node: Some(node.clone()), present: true, state_directory: state_directory.into() },
        |_| {},
    );
    // Another process under this number means that ours is dead already.
    if let Some(server) = Identity::of(pid).filter(|p| p.start_ticks == start_ticks) {
        server.wait_dead_forever(LOOKS);
    }
    // Pacemaker may be restarting: try for a while. After that its own monitors will have found the dead server.
    for _ in 0..10 {
        cluster.forget_score();
        if cluster.publish_score(Score::NEVER).is_ok() {
            return 0;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    1
}
