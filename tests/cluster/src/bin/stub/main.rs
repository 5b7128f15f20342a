//! `ocf:bench:stub`: a promotable agent that does nothing, and its server, which stores nothing. For the benchmark: what is left of a failover
//! when agent and database cost nothing. It is never packaged.
//!
//! What the cluster needs of an agent is there: a server that can be killed and is watched as ours are, a promotion score, and a server that
//! takes writes while it is promoted and refuses them otherwise.

mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use pacemaker::{Cluster, Membership, Score, Watcher};
use process::{Capabilities, Daemon, Identity};

const METADATA: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
<resource-agent name="stub" version="1.0">
<version>1.1</version>
<longdesc lang="en">Does nothing, as fast as it can.</longdesc>
<shortdesc lang="en">A promotable agent that does nothing</shortdesc>
<parameters>
<parameter name="port"><longdesc lang="en">Where its server listens</longdesc><shortdesc lang="en">Port</shortdesc><content type="integer" default="6379"/></parameter>
</parameters>
<actions>
<action name="start" timeout="20s"/>
<action name="stop" timeout="20s"/>
<action name="promote" timeout="20s"/>
<action name="demote" timeout="20s"/>
<action name="notify" timeout="20s"/>
<action name="monitor" role="Promoted" interval="10s" timeout="20s"/>
<action name="monitor" role="Unpromoted" interval="11s" timeout="20s"/>
<action name="meta-data" timeout="5s"/>
</actions>
</resource-agent>
"#;

/// What Pacemaker takes an exit code for.
const OK: u8 = 0;
const GENERIC: u8 = 1;
const UNIMPLEMENTED: u8 = 3;
const NOT_RUNNING: u8 = 7;
const PROMOTED: u8 = 8;
const FAILED_PROMOTED: u8 = 9;

/// The nodes are equal: what is promoted stays so by its stickiness.
const SCORE: i32 = 100;
/// How long its server may need until it listens.
const START: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let code = match words[..] {
        ["serve", port, promoted] => server::serve(port, promoted.into()),
        ["meta-data"] => {
            print!("{METADATA}");
            Ok(OK)
        }
        [action] => Stub::of_environment().act(action),
        _ => Err("usage: stub ACTION | stub serve PORT FILE".to_owned()),
    };
    ExitCode::from(code.unwrap_or_else(|why| {
        eprintln!("stub: {why}");
        GENERIC
    }))
}

/// The resource on this node.
struct Stub {
    membership: Membership,
    port: String,
}

impl Stub {
    fn of_environment() -> Self {
        let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let instance = get("OCF_RESOURCE_INSTANCE").unwrap_or_else(|| "stub".to_owned());
        let membership = Membership {
            resource: instance.split(':').next().unwrap_or_default().to_owned(),
            node: get("OCF_RESKEY_CRM_meta_on_node"),
            present: true,
            state_directory: get("HA_RSCTMP").unwrap_or_else(|| "/run/resource-agents".to_owned()).into(),
        };
        Self { membership, port: get("OCF_RESKEY_port").unwrap_or_else(|| "6379".to_owned()) }
    }

    fn act(&self, action: &str) -> Result<u8, String> {
        match action {
            "start" => self.start(),
            "stop" => self.stop(),
            "monitor" => self.monitor(),
            "promote" => self.promote(),
            "demote" => self.demote(),
            "notify" | "validate-all" => Ok(OK),
            _ => Ok(UNIMPLEMENTED),
        }
    }

    fn file(&self, what: &str) -> PathBuf {
        self.membership.state_directory.join(format!("stub-{}.{what}", self.membership.resource))
    }

    /// It is there while the server takes writes.
    fn promoted_file(&self) -> PathBuf {
        self.file("promoted")
    }

    fn server(&self) -> Option<Identity> {
        let known: Identity = serde_json::from_slice(&std::fs::read(self.file("server")).ok()?).ok()?;
        known.runs().then_some(known)
    }

    fn watcher(&self) -> Watcher {
        Watcher::new("/usr/libexec/systole/systole-watch".as_ref(), self.membership.clone())
    }

    fn start(&self) -> Result<u8, String> {
        if self.server().is_none() {
            remove(&self.promoted_file())?;
            self.launch()?;
            let begun = Instant::now();
            while std::net::TcpStream::connect(format!("127.0.0.1:{}", self.port)).is_err() {
                if begun.elapsed() > START {
                    return Err(format!("nobody listens on port {}", self.port));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            // The address of the readers goes by it (crm-snippets/mysql.crm).
            Cluster::new(self.membership.clone(), |_| {}).publish_attribute("readable", "1").map_err(|e| e.to_string())?;
        }
        self.monitor()?;
        Ok(OK)
    }

    /// Nobody takes writes when this has ended. A server that died is there again, as after a demotion of ours: the monitor that follows would
    /// find a failure, and the cluster would plan anew while the address comes up elsewhere.
    fn demote(&self) -> Result<u8, String> {
        remove(&self.promoted_file())?;
        if self.server().is_none() {
            self.launch()?;
        }
        Ok(OK)
    }

    fn launch(&self) -> Result<Identity, String> {
        let daemon = Daemon {
            program: std::env::current_exe().map_err(|e| e.to_string())?,
            arguments: vec!["serve".to_owned(), self.port.clone(), self.promoted_file().display().to_string()],
            account: None,
            directory: "/".into(),
            open_files: None,
            may_gain: Capabilities::empty(),
            environment: vec![],
            log: None,
        };
        let file = self.file("server");
        let remember = |server: &Identity| {
            let text = serde_json::to_vec(server).map_err(|e| e.to_string())?;
            process::write_atomically(&file, &text, 0o600).map_err(|e| format!("{}: {e}", file.display()))
        };
        daemon.spawn_remembered(remember).map(|spawned| spawned.identity).map_err(|e| e.to_string())
    }

    fn stop(&self) -> Result<u8, String> {
        self.watcher().end();
        if let Some(server) = self.server() {
            server.kill();
            server.wait_gone(START);
        }
        remove(&self.promoted_file())?;
        remove(&self.file("server"))
    }

    /// A server that runs is watched and a candidate; nothing is done when it is both already.
    fn monitor(&self) -> Result<u8, String> {
        let promoted = self.promoted_file().exists();
        let Some(server) = self.server() else { return Ok(if promoted { FAILED_PROMOTED } else { NOT_RUNNING }) };
        let cluster = Cluster::new(self.membership.clone(), |_| {});
        self.watcher().ensure(&server, cluster.node().map_err(|e| e.to_string())?)?;
        cluster.publish_score(Score::new(SCORE)).map_err(|e| e.to_string())?;
        Ok(if promoted { PROMOTED } else { OK })
    }

    fn promote(&self) -> Result<u8, String> {
        let file = self.promoted_file();
        std::fs::write(&file, "").map(|()| OK).map_err(|e| format!("{}: {e}", file.display()))
    }
}

fn remove(file: &std::path::Path) -> Result<u8, String> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", file.display())),
        _ => Ok(OK),
    }
}
