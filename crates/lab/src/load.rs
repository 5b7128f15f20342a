//! The load: writers through the address that clients use, probers through each node's own, all in one child process in
//! the clients' network namespace. Owns the process and its journal file; what the journal means is in `journal`.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::host;
use crate::journal::{Journal, Outcome, Record};
use crate::network;
use crate::redis_client::Session;
use crate::state::{LabPaths, LabSpec};

/// What the load shall be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadOptions {
    /// Address of the writers, `host:port`.
    pub address: String,
    /// Number of writers.
    pub writers: u32,
    /// Every write is followed by `WAIT wait timeout` and counts as acknowledged when that many replicas confirmed.
    pub wait: u32,
    /// Timeout of `WAIT` in milliseconds.
    pub wait_ms: u32,
    /// Pause of a writer after each write, microseconds.
    pub pause_us: u64,
    /// Pause of a prober after each write, microseconds; 0 for no probers.
    pub probe_pause_us: u64,
    /// Port of the probers.
    pub probe_port: u16,
    /// Time to connect, milliseconds.
    pub connect_ms: u64,
    /// Time to answer, milliseconds.
    pub answer_ms: u64,
    /// File with the password.
    pub password_file: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            address: "192.0.2.100:6379".to_owned(),
            writers: 4,
            wait: 0,
            wait_ms: 300,
            pause_us: 1_000,
            probe_pause_us: 10_000,
            probe_port: 6379,
            connect_ms: 100,
            answer_ms: 300,
            password_file: None,
        }
    }
}

impl LoadOptions {
    /// The password, without the line's end.
    pub(crate) fn password(&self) -> Result<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

/// Key of a write; the value is `t:n` as well.
pub(crate) fn key(run: &str, t: u32, n: u64) -> String {
    format!("w:{run}:{t}:{n}")
}

/// Value of a write.
pub(crate) fn value(t: u32, n: u64) -> String {
    format!("{t}:{n}")
}

/// What the child process is told, in a file of the lab's run directory.
#[derive(Serialize, Deserialize)]
struct Order {
    run: String,
    journal: PathBuf,
    nodes: Vec<(String, String)>,
    options: LoadOptions,
}

/// A load that runs. Dropping it stops it.
#[derive(Debug)]
pub struct Load {
    child: Option<Child>,
    journal: PathBuf,
}

impl Load {
    /// Starts the writers; returns when the journal exists.
    pub(crate) fn start(paths: &LabPaths, spec: &LabSpec, options: &LoadOptions) -> Result<Load> {
        if running(paths).is_some() {
            return Err(Error::Refused(format!("lab {} has a load already; stop it first", paths.name)));
        }
        let run = format!("{:x}", host::monotonic_us());
        let journal = paths.load_dir().join(format!("{run}.jsonl"));
        let nodes = (1..=spec.nodes).map(|n| (format!("lxc{n}"), network::node_address(n))).collect();
        let order = Order { run, journal: journal.clone(), nodes, options: options.clone() };
        let text = serde_json::to_vec_pretty(&order).context(|| "write the load's order".to_owned())?;
        host::write_atomically(&order_file(paths), &text)?;
        let log_path = paths.load_dir().join("worker.log");
        let log = std::fs::File::create(&log_path).context(|| format!("make {}", log_path.display()))?;
        let mut command = network::in_clients_namespace(paths, spec.program.as_os_str());
        command.arg("load-worker").arg(order_file(paths)).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(log).spawn().context(|| "start the load".to_owned())?;
        host::write_atomically(&pid_file(paths), child.id().to_string().as_bytes())?;
        host::poll("start of the load", Duration::from_secs(5), Duration::from_millis(10), || {
            if let Ok(Some(status)) = child.try_wait() {
                let said = std::fs::read_to_string(&log_path).unwrap_or_default();
                return Err(format!("it ended with exit code {}: {said}", host::exit_code(status)));
            }
            if journal.exists() { Ok(()) } else { Err("no journal yet".to_owned()) }
        })?;
        paths.record_event("lab", &format!("load starts: {} writers to {}", options.writers, options.address))?;
        Ok(Load { child: Some(child), journal })
    }

    /// Lets it run on after this process: the command line's `load start`.
    pub(crate) fn leave(mut self) -> PathBuf {
        self.child = None;
        self.journal.clone()
    }

    /// The journal's file.
    #[must_use]
    pub fn journal_path(&self) -> &Path {
        &self.journal
    }

    /// Whether a write was acknowledged in the last 200 ms. Reads the journal's end only: cheap enough to poll.
    #[must_use]
    pub fn writing(&self) -> bool {
        last_acknowledgement(&self.journal).is_some_and(|at| host::monotonic_us().saturating_sub(at) < 200_000)
    }

    /// The journal as far as it is written (some 50 ms behind).
    pub fn so_far(&self) -> Result<Journal> {
        Journal::read(&self.journal)
    }

    /// Ends the load in order and reads its journal.
    pub fn stop(mut self) -> Result<Journal> {
        self.end()?;
        Journal::read(&self.journal)
    }

    fn end(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)), Signal::SIGTERM);
            child.wait().context(|| "wait for the load".to_owned())?;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The newest acknowledgement in the last lines of a journal.
fn last_acknowledgement(journal: &Path) -> Option<u64> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(journal).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(32 << 10))).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| match serde_json::from_str(line).ok()? {
            Record::Write { done, outcome: Outcome::Ok, .. } => Some(done),
            _ => None,
        })
        .max()
}

fn order_file(paths: &LabPaths) -> PathBuf {
    paths.run_dir().join("load.json")
}

fn pid_file(paths: &LabPaths) -> PathBuf {
    paths.run_dir().join("load.pid")
}

/// Process id of the lab's load, if one runs.
fn running(paths: &LabPaths) -> Option<i32> {
    let pid: i32 = std::fs::read_to_string(pid_file(paths)).ok()?.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains("load-worker").then_some(pid)
}

/// Ends a load that another command started.
pub(crate) fn stop(paths: &LabPaths) -> Result<PathBuf> {
    if let Some(pid) = running(paths) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        host::poll("end of the load", Duration::from_secs(10), Duration::from_millis(10), || {
            if running(paths).is_none() { Ok(()) } else { Err(format!("process {pid}")) }
        })?;
    }
    last_journal(paths)
}

/// The journal of the last load.
pub(crate) fn last_journal(paths: &LabPaths) -> Result<PathBuf> {
    let text = std::fs::read_to_string(order_file(paths))
        .map_err(|_| Error::Refused(format!("lab {} has had no load yet; start one with: systole-lab load start", paths.name)))?;
    let order: Order = serde_json::from_str(&text).context(|| "read the load's order".to_owned())?;
    Ok(order.journal)
}

/// The child process: runs until SIGTERM.
pub(crate) fn worker(order: &Path) -> Result<()> {
    let text = std::fs::read_to_string(order).context(|| format!("read {}", order.display()))?;
    let order: Order = serde_json::from_str(&text).context(|| "read the load's order".to_owned())?;
    let password = order.options.password()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context(|| "listen for the end".to_owned())?;
    }
    let file = std::fs::File::create(&order.journal).context(|| format!("make {}", order.journal.display()))?;
    let (records, inbox) = mpsc::channel::<Record>();
    let writer = std::thread::spawn(move || write_journal(file, &inbox));
    let start = Record::Start {
        run: order.run.clone(),
        at: host::monotonic_us(),
        target: format!("redis {}", order.options.address),
        wait: order.options.wait,
    };
    let _ = records.send(start);
    std::thread::scope(|scope| {
        for t in 0..order.options.writers {
            let (records, stop, order, password) = (records.clone(), &stop, &order, password.as_deref());
            scope.spawn(move || write_on(order, t, password, &records, stop));
        }
        if order.options.probe_pause_us > 0 {
            for (node, address) in &order.nodes {
                let (records, stop, order, password) = (records.clone(), &stop, &order, password.as_deref());
                scope.spawn(move || probe_on(order, node, address, password, &records, stop));
            }
        }
    });
    let _ = records.send(Record::End { at: host::monotonic_us() });
    drop(records);
    writer.join().unwrap_or_else(|_| Err(Error::Refused("the journal's thread panicked".to_owned())))
}

/// Lines reach the file at least every 50 ms, so that a killed load has lost next to nothing.
fn write_journal(file: std::fs::File, inbox: &mpsc::Receiver<Record>) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    let mut dirty = std::time::Instant::now();
    loop {
        match inbox.recv_timeout(Duration::from_millis(50)) {
            Ok(record) => {
                serde_json::to_writer(&mut out, &record).context(|| "write the journal".to_owned())?;
                out.write_all(b"\n").context(|| "write the journal".to_owned())?;
                if dirty.elapsed() < Duration::from_millis(50) {
                    continue;
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return out.flush().context(|| "write the journal".to_owned()),
        }
        out.flush().context(|| "write the journal".to_owned())?;
        dirty = std::time::Instant::now();
    }
}

const RETRY: Duration = Duration::from_millis(10);

fn write_on(order: &Order, t: u32, password: Option<&str>, records: &mpsc::Sender<Record>, stop: &AtomicBool) {
    let options = &order.options;
    let mut session: Option<Session> = None;
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let sent = host::monotonic_us();
        let mut current = match session.take() {
            Some(session) => session,
            None => match Session::connect(&options.address, password, options.connect_ms, options.answer_ms) {
                Ok(session) => session,
                Err(error) => {
                    let done = host::monotonic_us();
                    let error = Some(error.text);
                    let _ = records.send(Record::Write { t, n, sent, done, outcome: Outcome::NotSent, server: None, error });
                    std::thread::sleep(RETRY);
                    continue;
                }
            },
        };
        n += 1;
        let sent = host::monotonic_us();
        let (outcome, error) = current.write(&key(&order.run, t, n), &value(t, n), options.wait, options.wait_ms);
        let done = host::monotonic_us();
        let server = Some(current.server.clone());
        let _ = records.send(Record::Write { t, n, sent, done, outcome, server, error });
        // An unanswered connection is of no more use; a server that refuses may have just been demoted, and the address
        // may lead elsewhere already.
        if matches!(outcome, Outcome::Ok | Outcome::Unconfirmed) {
            session = Some(current);
            std::thread::sleep(Duration::from_micros(options.pause_us));
        } else {
            std::thread::sleep(RETRY);
        }
    }
}

/// Tries writes on one node throughout: the witness of "never two writers". Its key is its own and harmless.
fn probe_on(order: &Order, node: &str, address: &str, password: Option<&str>, records: &mpsc::Sender<Record>, stop: &AtomicBool) {
    let options = &order.options;
    let address = format!("{address}:{}", options.probe_port);
    let key = format!("probe:{}:{node}", order.run);
    let mut session: Option<Session> = None;
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let sent = host::monotonic_us();
        let mut current = match session.take() {
            Some(session) => session,
            None => match Session::connect(&address, password, options.connect_ms, options.answer_ms) {
                Ok(session) => {
                    let id = session.server.clone();
                    let _ = records.send(Record::Server { node: node.to_owned(), id, at: host::monotonic_us() });
                    session
                }
                Err(error) => {
                    let done = host::monotonic_us();
                    let _ = records.send(Record::Probe { node: node.to_owned(), sent, done, ok: false, error: Some(error.text) });
                    std::thread::sleep(Duration::from_micros(options.probe_pause_us));
                    continue;
                }
            },
        };
        n += 1;
        let sent = host::monotonic_us();
        let (outcome, error) = current.write(&key, &n.to_string(), 0, 0);
        let done = host::monotonic_us();
        let ok = outcome == Outcome::Ok;
        let _ = records.send(Record::Probe { node: node.to_owned(), sent, done, ok, error });
        if outcome != Outcome::Unknown {
            session = Some(current);
        }
        std::thread::sleep(Duration::from_micros(options.probe_pause_us));
    }
}
