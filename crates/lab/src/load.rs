//! The load: writers through the address that clients use, probers through each node's own, all in one child process in
//! the clients' network namespace. Owns the process and its journal file; what the journal means is in `journal`.

use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::client;
use crate::database::{Access, Database, Session, Write};
use crate::error::{Context, Error, Result};
use crate::host;
use crate::journal::{Journal, Outcome, Record};
use crate::mysql_client;
use crate::network;
use crate::operation::{self, Operation, Place, Task};
use crate::state::{LabPaths, LabSpec};

/// What the load shall be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadOptions {
    /// What the writers speak. A lab can have one load of each at a time.
    pub database: Database,
    /// Address of the writers, `host:port`. Several, with commas between them, are shared out among the writers: for servers that all
    /// take writes.
    pub address: String,
    /// Number of writers.
    pub writers: u32,
    /// Number of further writers with the system's own patience: no limit of their own to connect, none to speak of for an answer, and
    /// another attempt at once after an error. They see what most applications see; the others, who try again soon, the outage alone.
    #[serde(default)]
    pub patient: u32,
    /// Number of further clients that operate on lists and registers, for a checker of histories.
    #[serde(default)]
    pub clients: u32,
    /// Redis: every write is followed by `WAIT wait timeout` and counts as acknowledged when that many replicas confirmed.
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
    /// MySQL: the user; what it must be granted is in the module `mysql_client`.
    pub user: String,
    /// File with the password.
    pub password_file: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions::of(Database::Redis)
    }
}

impl LoadOptions {
    /// The usual load of a database.
    #[must_use]
    pub fn of(database: Database) -> LoadOptions {
        LoadOptions {
            database,
            address: database.address().to_owned(),
            writers: 4,
            patient: 0,
            clients: 0,
            wait: 0,
            wait_ms: 300,
            pause_us: 1_000,
            probe_pause_us: 10_000,
            probe_port: database.port(),
            connect_ms: 100,
            answer_ms: u64::try_from(database.answer().as_millis()).unwrap_or(u64::MAX),
            user: "load".to_owned(),
            password_file: None,
        }
    }

    /// Where writer `t` writes.
    fn address_of(&self, t: u32) -> &str {
        let addresses: Vec<&str> = self.address.split(',').collect();
        addresses[t as usize % addresses.len()]
    }

    /// How the writers and probers reach the servers.
    pub(crate) fn access(&self) -> Result<Access> {
        Ok(Access {
            database: self.database,
            user: self.user.clone(),
            password: self.password()?,
            connect: Some(Duration::from_millis(self.connect_ms)),
            answer: Duration::from_millis(self.answer_ms),
            wait: (self.wait, self.wait_ms),
        })
    }

    /// The password, without the line's end.
    pub(crate) fn password(&self) -> Result<Option<String>> {
        let Some(file) = &self.password_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).context(|| format!("read {}", file.display()))?;
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }
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
        let database = options.database;
        if options.wait > 0 && database != Database::Redis {
            return Err(Error::Refused("WAIT is a command of Redis: MySQL confirms by semi-synchronous replication".to_owned()));
        }
        if running(paths, database).is_some() {
            return Err(Error::Refused(format!("lab {} has a {} load already; stop it first", paths.name, database.name())));
        }
        let run = format!("{:x}", host::monotonic_us());
        let journal = paths.load_dir().join(format!("{}-{run}.jsonl", database.name()));
        let nodes = (1..=spec.members()).map(|n| (format!("lxc{n}"), network::node_address(n))).collect();
        let order = Order { run, journal: journal.clone(), nodes, options: options.clone() };
        let text = serde_json::to_vec_pretty(&order).context(|| "write the load's order".to_owned())?;
        // Its place is taken only when the load has started: until then `check` means the one before.
        let order_file = journal.with_extension("order");
        host::write_atomically(&order_file, &text)?;
        let load = Load::spawn(paths, spec, database.name(), "load-worker", &order_file, journal, Duration::from_secs(30))?;
        std::fs::rename(&order_file, self::order_file(paths, database)).context(|| format!("rename {}", order_file.display()))?;
        paths.record_event("lab", &format!("load starts: {} writers to {} {}", options.writers, database.name(), options.address))?;
        Ok(load)
    }

    /// Starts a worker of this program where the clients are; returns when its journal exists. `name`: what it loads;
    /// `limit`: how long its preparations may take.
    pub(crate) fn spawn(
        paths: &LabPaths,
        spec: &LabSpec,
        name: &str,
        verb: &str,
        order: &Path,
        journal: PathBuf,
        limit: Duration,
    ) -> Result<Load> {
        let log_path = paths.load_dir().join(format!("worker-{name}.log"));
        let log = std::fs::File::create(&log_path).context(|| format!("make {}", log_path.display()))?;
        let mut command = network::in_clients_namespace(paths, spec.program.as_os_str());
        command.arg(verb).arg(order).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(log).spawn().context(|| "start the load".to_owned())?;
        host::write_atomically(&pid_file(paths, name), child.id().to_string().as_bytes())?;
        host::poll("start of the load", limit, Duration::from_millis(10), || {
            if let Ok(Some(status)) = child.try_wait() {
                let said = std::fs::read_to_string(&log_path).unwrap_or_default();
                let ended = format!("the load ended with exit code {}: {}", host::exit_code(status), said.trim_end());
                return Ok(Err(Error::Refused(ended)));
            }
            if journal.exists() { Ok(Ok(())) } else { Err("no journal yet".to_owned()) }
        })??;
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
        self.acknowledged_just_now(|_| true)
    }

    /// The same of one writer; those with the system's own patience have the numbers after the others.
    #[must_use]
    pub fn writing_of(&self, writer: u32) -> bool {
        self.acknowledged_just_now(|t| t == writer)
    }

    fn acknowledged_just_now(&self, of: impl Fn(u32) -> bool) -> bool {
        last_acknowledgement(&self.journal, of).is_some_and(|at| host::monotonic_us().saturating_sub(at) < 200_000)
    }

    /// The journal as far as it is written (some 50 ms behind).
    pub fn so_far(&self) -> Result<Journal> {
        Journal::read(&self.journal)
    }

    /// Ends the load in order and reads its journal. One that has died, or could not write all that it saw, is an error: what its clients were
    /// told is not known.
    pub fn stop(mut self) -> Result<Journal> {
        if let Some(status) = self.end()? {
            if !status.success() {
                let journal = self.journal.display();
                return Err(Error::Refused(format!("the load ended with exit code {}; its journal is {journal}", host::exit_code(status))));
            }
        }
        Journal::of_ended(&self.journal)
    }

    /// How its process ended, where this one has started it.
    fn end(&mut self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or(0)), Signal::SIGTERM);
        child.wait().map(Some).context(|| "wait for the load".to_owned())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The newest acknowledgement of such writers in the last lines of a journal.
fn last_acknowledgement(journal: &Path, of: impl Fn(u32) -> bool) -> Option<u64> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(journal).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(32 << 10))).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    String::from_utf8_lossy(&text)
        .lines()
        .filter_map(|line| match serde_json::from_str(line).ok()? {
            Record::Write { t, done, outcome: Outcome::Ok, .. } if of(t) => Some(done),
            _ => None,
        })
        .max()
}

fn order_file(paths: &LabPaths, database: Database) -> PathBuf {
    paths.run_dir().join(format!("load-{}.json", database.name()))
}

fn pid_file(paths: &LabPaths, name: &str) -> PathBuf {
    paths.run_dir().join(format!("load-{name}.pid"))
}

/// Process id of the lab's load, if one runs.
fn running(paths: &LabPaths, database: Database) -> Option<i32> {
    let pid: i32 = std::fs::read_to_string(pid_file(paths, database.name())).ok()?.trim().parse().ok()?;
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    String::from_utf8_lossy(&line).contains("load-worker").then_some(pid)
}

/// A load that was started at some time, by whichever command.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) journal: PathBuf,
    pub(crate) options: LoadOptions,
}

/// The load of this database, or the last one that was started.
pub(crate) fn started(paths: &LabPaths, database: Option<Database>) -> Result<Started> {
    let read =
        |database: Database| -> Option<Order> { serde_json::from_str(&std::fs::read_to_string(order_file(paths, database)).ok()?).ok() };
    let orders = Database::ALL.into_iter().filter(|one| database.is_none_or(|wanted| wanted == *one)).filter_map(read);
    // A run's name is the time of its start.
    let last = orders.max_by_key(|order| u64::from_str_radix(&order.run, 16).unwrap_or(0));
    let kind = database.map_or_else(String::new, |database| format!(" {}", database.name()));
    let order = last
        .ok_or_else(|| Error::Refused(format!("lab {} has had no{kind} load yet; start one with: systole-lab load start", paths.name)))?;
    Ok(Started { journal: order.journal, options: order.options })
}

/// Ends a load that another command started.
pub(crate) fn stop(paths: &LabPaths, database: Option<Database>) -> Result<Started> {
    let load = started(paths, database)?;
    let database = load.options.database;
    if let Some(pid) = running(paths, database) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        host::poll("end of the load", (End::LIMIT + LAST_READS) * 2, Duration::from_millis(10), || {
            if running(paths, database).is_none() { Ok(()) } else { Err(format!("process {pid}")) }
        })?;
    }
    Ok(load)
}

/// Fills a table of MySQL through the clients' address up to this size, in MiB: ballast for failovers.
pub(crate) fn fill(paths: &LabPaths, options: &LoadOptions, megabytes: u64) -> Result<()> {
    let access = options.access()?;
    let mut shown = std::time::Instant::now();
    let say = |filled| {
        if filled == megabytes || shown.elapsed() > Duration::from_secs(5) {
            host::progress(&format!("ballast: {filled} of {megabytes} MiB"));
            shown = std::time::Instant::now();
        }
    };
    let filled = network::from_clients(paths, || mysql_client::fill(&access, &options.address, megabytes, say))?;
    filled.map_err(|why| Error::Refused(format!("ballast through {}: {why}", options.address)))
}

/// The child process: runs until SIGTERM.
pub(crate) fn worker(order: &Path) -> Result<()> {
    let text = std::fs::read_to_string(order).context(|| format!("read {}", order.display()))?;
    let order: Order = serde_json::from_str(&text).context(|| "read the load's order".to_owned())?;
    let access = order.options.access()?;
    prepare(&access, order.options.address_of(0), order.options.clients > 0)?;
    let stop = until_told()?;
    let (records, writer) = journal_of(&order.journal)?;
    let start = Record::Start {
        run: order.run.clone(),
        at: host::monotonic_us(),
        target: format!("{} {}", order.options.database.name(), order.options.address),
        wait: order.options.wait,
    };
    let _ = records.send(start);
    let end = End { told: &stop, written: AtomicBool::new(false), again: AtomicBool::new(false), limit: OnceLock::new() };
    let operations = AtomicU64::new(0);
    std::thread::scope(|scope| {
        note_pace(scope, &records, &stop);
        for client in 0..order.options.clients {
            let (records, end, order, access, operations) = (records.clone(), &end, &order, &access, &operations);
            scope.spawn(move || operate_on(order, client, access, &records, end, operations));
        }
        for t in 0..order.options.writers + order.options.patient {
            let (records, end, order) = (records.clone(), &end, &order);
            let access = if t < order.options.writers { access.clone() } else { access.patient() };
            scope.spawn(move || write_on(order, t, &access, &records, end));
        }
        if order.options.probe_pause_us > 0 {
            for (node, address) in &order.nodes {
                let (records, stop, order, access) = (records.clone(), &stop, &order, &access);
                scope.spawn(move || probe_on(order, node, address, access, &records, stop));
            }
        }
    });
    read_at_last(&order, &access, &records, operations.into_inner());
    let _ = records.send(Record::End { at: host::monotonic_us() });
    drop(records);
    writer.join().unwrap_or_else(|_| Err(Error::Refused("the journal's thread panicked".to_owned())))
}

/// When the writers may end: they were told to, and one more write was acknowledged since. Otherwise the moment at which somebody says
/// "enough" would decide whether an outage is over, and on a busy machine any write may take a second.
struct End<'a> {
    told: &'a AtomicBool,
    /// Whether any write was ever acknowledged.
    written: AtomicBool,
    /// Whether one was that was begun when the end was told.
    again: AtomicBool,
    limit: OnceLock<pace::Limit>,
}

impl End<'_> {
    /// How long writers go on that are told to end and get no answer.
    const LIMIT: Duration = Duration::from_secs(10);

    fn told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    fn acknowledged(&self, begun_after_the_end_was_told: bool) {
        self.written.store(true, Ordering::Relaxed);
        self.again.fetch_or(begun_after_the_end_was_told, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.told()
            && (!self.written.load(Ordering::Relaxed)
                || self.again.load(Ordering::Relaxed)
                || self.limit.get_or_init(|| pace::Limit::of(Self::LIMIT)).is_over())
    }
}

/// Writes into the journal how much time counts, until the end is told.
pub(crate) fn note_pace<'scope>(scope: &'scope std::thread::Scope<'scope, '_>, records: &mpsc::Sender<Record>, stop: &'scope AtomicBool) {
    let records = records.clone();
    scope.spawn(move || {
        let mut last = None;
        while !stop.load(Ordering::Relaxed) {
            let counted = u64::try_from(pace::now().as_micros()).unwrap_or(u64::MAX);
            if last.replace(counted) != Some(counted) {
                let _ = records.send(Record::Pace { at: host::monotonic_us(), counted });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// What becomes true when the worker is to end.
pub(crate) fn until_told() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context(|| "listen for the end".to_owned())?;
    }
    Ok(stop)
}

/// Begins a journal. The thread ends when all senders are gone.
pub(crate) fn journal_of(path: &Path) -> Result<(mpsc::Sender<Record>, std::thread::JoinHandle<Result<()>>)> {
    let file = std::fs::File::create(path).context(|| format!("make {}", path.display()))?;
    let (records, inbox) = mpsc::channel::<Record>();
    Ok((records, std::thread::spawn(move || write_journal(file, &inbox))))
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

/// When a writer tries again that could not connect.
const RETRY: Duration = Duration::from_millis(10);
/// The same of one that tries again at once: so much that a refusing server is not asked without end.
const AT_ONCE: Duration = Duration::from_millis(1);

/// Once, before the first write: a load whose every write would be refused for want of a table or a password shall not start.
fn prepare(access: &Access, address: &str, objects: bool) -> Result<()> {
    if access.database == Database::Redis {
        return Ok(());
    }
    let patient = Access { answer: Duration::from_secs(3), ..access.clone() };
    host::poll(&format!("tables for the load at {address}"), Duration::from_secs(3), Duration::from_millis(100), || {
        let mut session = client::connect(&patient, address)?;
        session.prepare()?;
        if objects { session.prepare_objects() } else { Ok(()) }
    })
}

fn retry_of(access: &Access) -> Duration {
    if access.connect.is_some() { RETRY } else { AT_ONCE }
}

fn write_on(order: &Order, t: u32, access: &Access, records: &mpsc::Sender<Record>, end: &End<'_>) {
    let options = &order.options;
    let address = options.address_of(t);
    let mut session: Option<Box<dyn Session>> = None;
    let mut n = 0;
    let mut unanswered = 0;
    while !end.is_over() {
        let told = end.told();
        let sent = host::monotonic_us();
        let mut current = match session.take() {
            Some(session) => session,
            None => match client::connect(access, address) {
                Ok(session) => session,
                Err(error) => {
                    let done = host::monotonic_us();
                    let error = Some(error);
                    let _ = records.send(Record::Write { t, n, sent, done, outcome: Outcome::NotSent, server: None, error });
                    std::thread::sleep(retry_of(access));
                    continue;
                }
            },
        };
        n += 1;
        let sent = host::monotonic_us();
        let (outcome, error) = current.write(&Write { run: &order.run, t, n });
        let done = host::monotonic_us();
        let server = Some(current.server().to_owned());
        let _ = records.send(Record::Write { t, n, sent, done, outcome, server, error });
        unanswered = if outcome == Outcome::Unknown { unanswered + 1 } else { 0 };
        // An unanswered connection is of no more use; a server that refuses may have just been demoted, and the address
        // may lead elsewhere already.
        if outcome == Outcome::Ok {
            end.acknowledged(told);
        }
        if matches!(outcome, Outcome::Ok | Outcome::Unconfirmed) {
            session = Some(current);
            std::thread::sleep(Duration::from_micros(options.pause_us));
        } else {
            drop(current);
            let away = if access.connect.is_some() { options.database.patience(unanswered) } else { AT_ONCE };
            pause(away, end.told);
        }
    }
}

/// Pause of a client after each operation: a checker needs more than twice as long for twice as many.
const OPERATE: Duration = Duration::from_millis(40);

/// Carries out one operation after the other. One that gets no answer may be done or not, and now or later: so whoever asked goes on as
/// somebody else, as a client that operates on one thing at a time.
fn operate_on(order: &Order, client: u32, access: &Access, records: &mpsc::Sender<Record>, end: &End<'_>, operations: &AtomicU64) {
    let options = &order.options;
    let mut session: Option<Box<dyn Session>> = None;
    let mut client = client;
    let mut unanswered = 0;
    while !end.is_over() {
        let Some(mut current) = session.take().or_else(|| client::connect(access, options.address_of(0)).ok()) else {
            std::thread::sleep(RETRY);
            continue;
        };
        let task = operation::task(operations.fetch_add(1, Ordering::Relaxed));
        let done = operate(&mut *current, &order.run, client, task);
        let outcome = done.outcome;
        let _ = records.send(Record::Operation(done));
        unanswered = if outcome == Outcome::Unknown { unanswered + 1 } else { 0 };
        if matches!(outcome, Outcome::Unknown | Outcome::Unconfirmed) {
            client += options.clients;
        }
        if matches!(outcome, Outcome::Ok | Outcome::Unconfirmed) {
            session = Some(current);
            pause(OPERATE, end.told);
        } else {
            drop(current);
            pause(options.database.patience(unanswered).max(OPERATE), end.told);
        }
    }
}

fn operate(session: &mut dyn Session, run: &str, client: u32, task: Task) -> Operation {
    let Task { object, key, change } = task;
    let place = Place { run, object, key };
    let sent = host::monotonic_us();
    let (outcome, seen) = match change {
        Some(value) => (session.change(&place, value), None),
        None => session.look(&place),
    };
    Operation { client, object, key, change, sent, done: host::monotonic_us(), outcome, seen }
}

/// How long the last reads may take. Whoever judges the history insists on them.
const LAST_READS: Duration = Duration::from_secs(30);

/// Reads each list and register once more when nobody writes any longer: what is lost of the last changes shows in that.
fn read_at_last(order: &Order, access: &Access, records: &mpsc::Sender<Record>, operations: u64) {
    let patient = Access { answer: Duration::from_secs(5), ..access.clone() };
    let limit = pace::Limit::of(LAST_READS);
    let mut session: Option<Box<dyn Session>> = None;
    // A number that no client has: those go up from 0.
    let client = u32::MAX;
    for task in operation::last_reads(operations) {
        while !limit.is_over() {
            let Some(mut current) = session.take().or_else(|| client::connect(&patient, order.options.address_of(0)).ok()) else {
                std::thread::sleep(RETRY);
                continue;
            };
            let done = operate(&mut *current, &order.run, client, task);
            let answered = done.outcome == Outcome::Ok;
            let _ = records.send(Record::Operation(done));
            if answered {
                session = Some(current);
                break;
            }
        }
    }
}

/// Sleeps, but not beyond the load's end.
fn pause(length: Duration, stop: &AtomicBool) {
    let start = std::time::Instant::now();
    loop {
        std::thread::sleep(RETRY.min(length));
        if start.elapsed() >= length || stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

/// Tries writes on one node throughout: the witness of "never two writers". Its key is its own and harmless.
fn probe_on(order: &Order, node: &str, address: &str, access: &Access, records: &mpsc::Sender<Record>, stop: &AtomicBool) {
    let options = &order.options;
    let address = format!("{address}:{}", options.probe_port);
    let between = Duration::from_micros(options.probe_pause_us);
    let mut session: Option<Box<dyn Session>> = None;
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let sent = host::monotonic_us();
        let mut current = match session.take() {
            Some(session) => session,
            None => match client::connect(access, &address) {
                Ok(session) => {
                    let id = session.server().to_owned();
                    let _ = records.send(Record::Server { node: node.to_owned(), id, at: host::monotonic_us() });
                    session
                }
                Err(error) => {
                    let done = host::monotonic_us();
                    let _ = records.send(Record::Probe { node: node.to_owned(), sent, done, ok: false, error: Some(error) });
                    std::thread::sleep(between);
                    continue;
                }
            },
        };
        n += 1;
        let sent = host::monotonic_us();
        let (outcome, error) = current.probe(&order.run, node, n);
        let done = host::monotonic_us();
        let ok = outcome == Outcome::Ok;
        let _ = records.send(Record::Probe { node: node.to_owned(), sent, done, ok, error });
        if outcome == Outcome::Unknown {
            drop(current);
            pause(between.max(options.database.probers_patience()), stop);
        } else {
            session = Some(current);
            std::thread::sleep(between);
        }
    }
}
