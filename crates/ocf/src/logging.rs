//! Speaking to the operator: syslog, the cluster's log file, stderr without a cluster, the trace.
//!
//! One datagram to the syslog socket costs microseconds where a forked `logger` costs a millisecond, and it never
//! blocks: an agent must not hang because the log does.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::Environment;

/// Syslog severities that agents use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Debug = 7,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
        }
    }
}

/// The log of one run of an agent.
#[derive(Debug)]
pub struct Log {
    tag: String,
    facility: Option<u8>,
    socket: RefCell<Option<UnixDatagram>>,
    file: Option<PathBuf>,
    to_stderr: bool,
    debug: bool,
    trace: Option<RefCell<File>>,
    start: Instant,
}

impl Log {
    /// Opens the log as the environment asks for it. Nothing is opened before there is something to say, except a
    /// trace that was asked for.
    pub fn open(agent: &str, action: &str, environment: &Environment) -> Self {
        let any = |names: &[&str]| names.iter().find_map(|n| environment.non_empty(n)).map(str::to_owned);
        let facility = any(&["HA_LOGFACILITY", "HA_logfacility", "PCMK_logfacility"]);
        let file = any(&["HA_LOGFILE", "HA_logfile", "PCMK_logfile"]).filter(|f| f.starts_with('/') && f != "/dev/null");
        Self {
            tag: format!("{agent}({})[{}]", environment.instance(), std::process::id()),
            facility: facility_number(facility.as_deref().unwrap_or("daemon")),
            socket: RefCell::new(None),
            file: file.map(PathBuf::from),
            to_stderr: !environment.under_pacemaker(),
            debug: environment.get("HA_debug").is_some_and(|v| !v.is_empty() && v != "0"),
            trace: open_trace(agent, action, environment).map(RefCell::new),
            start: Instant::now(),
        }
    }

    /// Something failed, and an operator has to know.
    pub fn error(&self, text: impl AsRef<str>) {
        self.write(Severity::Error, text.as_ref());
    }

    /// Something is not as it should be, and the agent goes on.
    pub fn warning(&self, text: impl AsRef<str>) {
        self.write(Severity::Warning, text.as_ref());
    }

    /// A decision or a change that an operator wants to find in the log.
    pub fn notice(&self, text: impl AsRef<str>) {
        self.write(Severity::Notice, text.as_ref());
    }

    /// Details for whoever set `HA_debug`, and for the trace.
    pub fn debug(&self, text: impl AsRef<str>) {
        if self.debug {
            self.write(Severity::Debug, text.as_ref());
        } else {
            self.trace(text.as_ref());
        }
    }

    /// One line of the trace, with the milliseconds since the agent began.
    pub fn trace(&self, text: &str) {
        if let Some(file) = &self.trace {
            let line = format!("{:9.3} {}\n", self.start.elapsed().as_secs_f64() * 1000.0, one_line(text, LONGEST_LINE));
            // A trace that cannot be written (a full disk) must not fail the action.
            let _ = file.borrow_mut().write_all(line.as_bytes());
        }
    }

    fn write(&self, severity: Severity, text: &str) {
        let text = one_line(text, LONGEST_LINE);
        self.trace(&format!("{} {text}", severity.word()));
        if self.to_stderr {
            let _ = writeln!(std::io::stderr(), "{}: {text}", severity.word());
        } else if let Some(facility) = self.facility {
            self.datagram(&format!("<{}>{}: {}: {text}", facility * 8 + severity as u8, self.tag, severity.word()));
        }
        if let Some(path) = &self.file {
            let line = format!("{} {}: {}: {text}\n", utc(SystemTime::now()), self.tag, severity.word());
            // One write of one line, so that agents which run at once do not mix theirs.
            if let Ok(mut file) = OpenOptions::new().append(true).create(true).mode(0o640).open(path) {
                let _ = file.write_all(line.as_bytes());
            }
        }
    }

    fn datagram(&self, message: &str) {
        let mut socket = self.socket.borrow_mut();
        if socket.is_none() {
            *socket = UnixDatagram::unbound().ok().filter(|s| s.set_nonblocking(true).is_ok() && s.connect("/dev/log").is_ok());
        }
        if let Some(socket) = &*socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// More than an operator reads of a line. What a server says may have megabytes. Bytes.
const LONGEST_LINE: usize = 8_000;

/// A text that somebody else may have a part in, as one line of at most so many bytes. Control characters would let a server's error text
/// forge log lines, and what ends a line or turns it around (Unicode) forges them on a screen.
pub(crate) fn one_line(text: &str, longest: usize) -> String {
    let forges = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let text = without_numbers(text.trim_end());
    // Where a letter ends.
    let shown = (0..=longest.min(text.len())).rev().find_map(|at| text.get(..at)).unwrap_or_default();
    let line: String = shown.chars().map(|c| if forges(c) { ' ' } else { c }).collect();
    match text.len() - shown.len() {
        0 => line,
        more => format!("{line}... ({more} bytes more)"),
    }
}

/// Without the number that an error of the system has behind its words, ` (os error 2)`: who looks for the sentence in a page does not find
/// it otherwise.
fn without_numbers(text: &str) -> String {
    let mut pieces = text.split(" (os error ");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(')') {
            Some(rest) if piece.starts_with(|c: char| c.is_ascii_digit()) => out.push_str(rest),
            _ => out.extend([" (os error ", piece]),
        }
    }
    out
}

/// Opens the trace when `OCF_TRACE_RA` or `OCF_TRACE_FILE` asks for one, or the parameters `trace_ra`, `trace_file` and `trace_dir`, which
/// `crm resource trace` gives to an operation.
fn open_trace(agent: &str, action: &str, environment: &Environment) -> Option<File> {
    let yes = |v: &str| matches!(v.to_ascii_lowercase().as_str(), "1" | "yes" | "true" | "on");
    let asked = environment.get("OCF_TRACE_RA").or_else(|| environment.parameter("trace_ra")).is_some_and(yes);
    let given =
        environment.non_empty("OCF_TRACE_FILE").or_else(|| environment.parameter("trace_file").filter(|file| asked && !file.is_empty()));
    let path = match given {
        Some(path) if path.starts_with('/') => PathBuf::from(path),
        // A number is a file descriptor in the shell agents; ours traces to stderr then.
        Some(_) => PathBuf::from("/dev/stderr"),
        None if asked => {
            let base = Path::new(environment.non_empty("HA_VARLIB").unwrap_or("/var/lib/heartbeat")).join("trace_ra");
            let base = environment.parameter("trace_dir").filter(|path| path.starts_with('/')).map_or(base, PathBuf::from);
            let directory = base.join(agent);
            std::fs::create_dir_all(&directory).ok()?;
            directory.join(format!("{}.{action}.{}.{}", environment.instance(), utc(SystemTime::now()), std::process::id()))
        }
        None => return None,
    };
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).ok()
}

/// The syslog facility of a name; `None` for `none`.
fn facility_number(name: &str) -> Option<u8> {
    const NAMES: [&str; 12] = ["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"];
    if name == "none" {
        return None;
    }
    if let Some(n) = name.strip_prefix("local").and_then(|n| n.parse::<u8>().ok()).filter(|n| *n < 8) {
        return Some(16 + n);
    }
    Some(NAMES.iter().position(|n| *n == name).map_or(3, |i| i as u8))
}

/// `2026-11-20T22:52:20Z`; only ever written, never compared.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count: years begin in March, so that the leap day is the last of its year.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = String::new();
    let _ = write!(text, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_right_around_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_215_140, "2026-11-20T22:52:20Z"),
        ] {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_server_cannot_forge_a_log_line() {
        assert_eq!(one_line("ERR x\nredis: all is well\n", 99), "ERR x redis: all is well");
        assert_eq!(one_line("a\u{2028}b\u{202e}c", 99), "a b c");
    }

    /// A search for the sentence as the page quotes it found nothing.
    #[test]
    fn an_error_of_the_system_has_no_number() {
        let missing = std::io::Error::from_raw_os_error(2);
        assert_eq!(one_line(&format!("config /a: {missing}; write it"), 99), "config /a: No such file or directory; write it");
        assert_eq!(one_line("a (os error 2), b (os error 13)", 99), "a, b");
        for other in ["a (os error )", "a (os error x)", "a (os error 2"] {
            assert_eq!(one_line(other, 99), other);
        }
    }

    /// `crm resource trace NAME` gives these to the resource's operations.
    #[test]
    fn an_operation_that_crmsh_traces_is_traced() {
        let directory = std::env::temp_dir().join(format!("systole-trace-{}", std::process::id()));
        let environment = |pairs: &[(&str, &str)]| Environment::from_pairs(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let place = directory.display().to_string();
        assert!(open_trace("redis", "monitor", &environment(&[("OCF_RESKEY_trace_dir", &place)])).is_none(), "nobody asked");
        assert!(open_trace("redis", "monitor", &environment(&[("OCF_RESKEY_trace_ra", "1"), ("OCF_RESKEY_trace_dir", &place)])).is_some());
        let found: Vec<_> = std::fs::read_dir(directory.join("redis")).unwrap().flatten().map(|f| f.file_name()).collect();
        assert!(found.len() == 1 && found[0].to_string_lossy().starts_with("default.monitor."), "{found:?}");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn facilities_by_name() {
        assert_eq!(facility_number("daemon"), Some(3));
        assert_eq!(facility_number("local7"), Some(23));
        assert_eq!(facility_number("none"), None);
        assert_eq!(facility_number("nonsense"), Some(3));
    }

    #[test]
    fn a_line_that_nobody_reads_to_its_end_is_cut_where_a_letter_ends() {
        assert_eq!(one_line(&"ü".repeat(10), 5), "üü... (16 bytes more)");
        assert_eq!(one_line(&"ü".repeat(10), 20), "ü".repeat(10));
        assert_eq!(one_line("", 0), "");
    }
}
