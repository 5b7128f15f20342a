//! Sandboxes that run scripts: started when they are first needed, used again by whoever needs one of the same image,
//! and gone with this process. To start one for each script would cost as much as what most scripts do.
//!
//! Owns the processes and what is said to them. What the scripts are is the bed's.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

/// The other side, which says what goes over the pipes.
const SERVE: &str = include_str!("../files/sandbox.sh");

/// What became of a script.
#[derive(Debug)]
pub(crate) struct Output {
    /// Exit status.
    pub(crate) status: i32,
    /// What it wrote.
    pub(crate) out: String,
    /// What it complained.
    pub(crate) err: String,
    /// The CIB file that it left; empty when it left none.
    pub(crate) cib: String,
}

/// A sandbox that waits for a script. It ends when its input does: with this value, or with the process, however that
/// ends.
struct Sandbox {
    image: &'static str,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    // Nobody waits for it: it cleans up after itself, and nothing depends on when.
    _process: Child,
}

/// Those that nobody uses at the moment. There are never more than threads that ran scripts at the same time.
static IDLE: Mutex<Vec<Sandbox>> = Mutex::new(Vec::new());

/// Runs a script in a sandbox of the image that `prepare` has been run in.
pub(crate) fn run(image: &'static str, prepare: &str, script: &str) -> Output {
    let idle = {
        let mut idle = IDLE.lock().unwrap();
        idle.iter().position(|sandbox| sandbox.image == image).map(|at| idle.swap_remove(at))
    };
    let mut sandbox = idle.unwrap_or_else(|| Sandbox::start(image, prepare));
    let output = sandbox.run(script);
    IDLE.lock().unwrap().push(sandbox);
    output
}

/// What an environment variable names.
pub(crate) fn named_by(variable: &str, what: &str) -> PathBuf {
    let value = std::env::var_os(variable).filter(|value| !value.is_empty());
    PathBuf::from(value.unwrap_or_else(|| panic!("{variable} is not set: it names {what}; `make snippets` sets it")))
}

impl Sandbox {
    fn start(image: &'static str, prepare: &str) -> Self {
        let (lab, package) =
            (named_by("SYSTOLE_LAB_BIN", "the program systole-lab"), named_by("SYSTOLE_PACKAGE", "systole's Debian package"));
        assert!(package.is_file(), "{} is not there: make stage", package.display());
        let mut process = Command::new(&lab)
            .args(["sandbox", "--image", image, "--package"])
            .arg(&package)
            .args(["--", "sh", "-c", SERVE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}: cargo build -p lab", lab.display()));
        let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut sandbox = Self { image, to, from, _process: process };
        sandbox.send(prepare);
        sandbox
    }

    fn send(&mut self, script: &str) {
        let sent = write!(self.to, "{}\n{script}", script.len()).and_then(|()| self.to.flush());
        sent.unwrap_or_else(|e| panic!("the sandbox of {} takes no script ({e}); it says above why", self.image));
    }

    fn run(&mut self, script: &str) -> Output {
        self.send(script);
        let mut head = String::new();
        self.from.read_line(&mut head).unwrap();
        let numbers: Vec<usize> = head.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let [status, out, err, cib] = numbers[..] else {
            panic!("the sandbox of {} has ended, or it says above why it cannot go on: {head:?}", self.image)
        };
        let mut text = |length: usize| {
            let mut bytes = vec![0; length];
            self.from.read_exact(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Output { status: i32::try_from(status).unwrap(), out: text(out), err: text(err), cib: text(cib) }
    }
}
