//! Asking nodes of the cluster: this one itself, the others over ssh, all at once. Each has the same limit and none delays another.
//!
//! What changes something on a node says so where it is asked (`reclone`, `cron`); the rest only reads. Nobody is asked for a password and
//! nothing is forwarded: a node at which root cannot log in with a key, by a host key that is known, does not answer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// What one question may take, where nothing else is said.
pub(crate) const LIMIT: Duration = Duration::from_secs(2);
/// What a node may answer. More is taken for a node that is out of order.
const MOST: usize = 16 << 20;
/// The status with which ssh says that it did not get there.
const NO_CONNECTION: i32 = 255;
/// The status with which timeout(1) says that it ended the command.
const OUT_OF_TIME: i32 = 124;

/// What is said of who has said nothing.
pub(crate) const NOTHING_SAID: &str = "it says nothing";

/// What a node answered, and between which moments of this node's clock.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) said: Result<String, String>,
    pub(crate) begun: SystemTime,
    pub(crate) ended: SystemTime,
}

/// Runs a program on each node and returns what it printed, or why that is not known. `argv` has no secret: everybody can read it.
pub(crate) fn ask(nodes: &[String], argv: &[&str], limit: Duration) -> BTreeMap<String, Result<String, String>> {
    ask_timed(nodes, argv, limit).into_iter().map(|(node, answer)| (node, answer.said)).collect()
}

/// The same, with when each answered.
pub(crate) fn ask_timed(nodes: &[String], argv: &[&str], limit: Duration) -> BTreeMap<String, Answer> {
    ask_by("ssh", this_node(nodes).as_deref(), nodes, argv, limit)
}

/// Which of them this node is. The name in the cluster need not be that of the host, which may be that of another node: so the cluster is
/// asked first, once.
pub(crate) fn this_node(nodes: &[String]) -> Option<String> {
    let host = || process::own::text(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let name = named().cloned().unwrap_or_else(host);
    nodes.iter().find(|node| node.as_str() == name.trim()).cloned()
}

/// This node's name in the cluster, where there is one.
pub(crate) fn named() -> Option<&'static String> {
    static NAMED: OnceLock<String> = OnceLock::new();
    kept(&NAMED, || crate::ask::tool("crm_node", &["--name"]).ok())
}

/// What was answered once. That there was no answer is not kept: who serves metrics is there before Pacemaker.
fn kept(name: &'static OnceLock<String>, ask: impl FnOnce() -> Option<String>) -> Option<&'static String> {
    if name.get().is_none() {
        let _ = name.set(ask()?);
    }
    name.get()
}

fn ask_by(ssh: &str, this: Option<&str>, nodes: &[String], argv: &[&str], limit: Duration) -> BTreeMap<String, Answer> {
    std::thread::scope(|scope| {
        let ask = |node: &str| {
            let begun = SystemTime::now();
            let said = if this == Some(node) { locally(argv, limit) } else { over_ssh(ssh, node, argv, limit) };
            Answer { said, begun, ended: SystemTime::now() }
        };
        let asked: Vec<_> = nodes.iter().map(|node| (node, scope.spawn(move || ask(node)))).collect();
        let nobody = || Answer { said: Err("could not be asked".to_owned()), begun: SystemTime::now(), ended: SystemTime::now() };
        asked.into_iter().map(|(node, thread)| (node.clone(), thread.join().unwrap_or_else(|_| nobody()))).collect()
    })
}

/// Runs a program on each node until `goes_on` says no, and has `hear` told each line as it comes, by node. Returns what each said at its end
/// to stderr, or why it could not be heard. `argv` has no secret: everybody can read it.
pub(crate) fn listen(
    nodes: &[String],
    argv: &(dyn Fn(&str) -> Vec<String> + Sync),
    limit: Duration,
    goes_on: &(dyn Fn() -> bool + Sync),
    hear: &(dyn Fn(&str, &str) + Sync),
) -> BTreeMap<String, String> {
    let this = this_node(nodes);
    let run = |node: &str| {
        let argv = argv(node);
        let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
        let mut told = |line: &str| hear(node, line);
        let ended = if this.as_deref() == Some(node) {
            let (program, rest) = argv.split_first().ok_or("nothing was asked")?;
            process::run_heard(&crate::ask::path_of(program), rest, limit, goes_on, &mut told)
        } else if is_name(node) {
            let arguments = arguments(node, &argv, limit);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            process::run_heard("ssh", &arguments, limit, goes_on, &mut told)
        } else {
            return Err(format!("{node:?} is no name of a host"));
        };
        ended.map(|errors| first_line(&errors)).map_err(|e| e.to_string())
    };
    std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = nodes.iter().map(|node| (node, scope.spawn(move || run(node)))).collect();
        let ended = |(node, thread): (&String, std::thread::ScopedJoinHandle<'_, Result<String, String>>)| {
            let said = thread.join().unwrap_or_else(|_| Err("could not be heard".to_owned()));
            (node.clone(), said.unwrap_or_else(|why| why))
        };
        running.into_iter().map(ended).collect()
    })
}

fn locally(argv: &[&str], limit: Duration) -> Result<String, String> {
    let Some((program, arguments)) = argv.split_first() else { return Err("nothing was asked".to_owned()) };
    let done = process::run_bounded(&crate::ask::path_of(program), arguments, limit, MOST).map_err(|e| e.to_string())?;
    judged(program, &done)
}

fn over_ssh(ssh: &str, node: &str, argv: &[&str], limit: Duration) -> Result<String, String> {
    if !is_name(node) {
        return Err(format!("does not answer over ssh: {node:?} is no name of a host"));
    }
    let arguments = arguments(node, argv, limit);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let unanswered = |why: &str| Err(format!("does not answer over ssh: {why}"));
    match process::run_bounded(ssh, &arguments, limit, MOST) {
        Err(process::CommandError::TimedOut { limit, .. }) => unanswered(&format!("nothing came within {} ms", limit.as_millis())),
        Err(why) => unanswered(&why.to_string()),
        Ok(done) if done.status.code() == Some(NO_CONNECTION) => unanswered(&first_line(&done.stderr)),
        Ok(done) => judged(argv.first().copied().unwrap_or_default(), &done),
    }
}

fn judged(program: &str, done: &process::Finished) -> Result<String, String> {
    match done.status.code() {
        Some(0) => Ok(done.stdout.clone()),
        Some(OUT_OF_TIME) => Err(format!("{program} did not end in time")),
        code => Err(format!("{program} failed (status {}): {}", code.unwrap_or(-1), first_line(&done.stderr))),
    }
}

/// Whether that is the answer of a command that ended by itself and refused, and not that nobody heard how it ended.
pub(crate) fn is_refusal(why: &str) -> bool {
    why.contains(" failed (status ") && !why.contains(" failed (status -1)")
}

fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or(NOTHING_SAID).to_owned()
}

/// Whether it can be the name of a host or its address, and nothing that ssh takes for an option, a user or a port.
pub(crate) fn is_name(node: &str) -> bool {
    let first = node.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b':');
    first && node.len() <= 253 && node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:".contains(&byte))
}

/// The command line of ssh. The other end's shell splits the last one again, so each word is quoted. timeout(1) ends what would go on there when
/// nobody listens any more.
fn arguments(node: &str, argv: &[&str], limit: Duration) -> Vec<String> {
    let seconds = limit.as_secs().max(1);
    // A node that is not there is found sooner than one that works for long is given up.
    let connect = format!("ConnectTimeout={}", seconds.min(LIMIT.as_secs()));
    let options = [
        "BatchMode=yes",
        &connect,
        "ClearAllForwardings=yes",
        "ControlPath=none",
        "ForwardAgent=no",
        "ForwardX11=no",
        "LogLevel=ERROR",
        "PermitLocalCommand=no",
    ];
    let mut all = vec!["-n".to_owned(), "-T".to_owned()];
    all.extend(options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]));
    let ended = format!("{}", seconds + 1);
    let command: Vec<String> = ["timeout", "--kill-after=1", &ended].iter().chain(argv).map(|word| quoted(word)).collect();
    all.extend(["--".to_owned(), node.to_owned(), command.join(" ")]);
    all
}

/// A word that a POSIX shell leaves as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
