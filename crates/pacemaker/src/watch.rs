//! The watcher: lowers this node's promotion score the moment the server dies, or the disk under it hangs.
//!
//! The fastest detection of a crash is no monitor at all. A score change alone makes the cluster demote the dead
//! instance and promote the best other one, about 150 ms later, whatever the monitor interval. The watcher decides
//! nothing else, and starts nothing but the process that writes to the disks: with Pacemaker away, or the resource unmanaged, a lowered score
//! does no harm, and the monitor raises it again when the server is fit.
//!
//! It begins as root, and ends as the cluster's user: what only root can do (the writer under the server's account, the files of the state
//! directory) is done before it looks for the first time.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{User, getegid, getgrouplist, getgroups, getuid, setegid, seteuid, setgroups, setresgid, setresuid};
use process::{Capabilities, Daemon, Disk, Identity};
use serde::{Deserialize, Serialize};

use crate::cluster::{Cluster, Membership};
use crate::ipc::CLUSTER;
use crate::score::{Score, Told};

/// How often it looks at a server whose process is still there. The process is gone only when the kernel has taken its memory back, which
/// takes about a second for 8 GiB; that it was killed can be seen at once. A look is one read in /proc.
const LOOKS: Duration = Duration::from_millis(100);

/// How long a watcher and what it has started may take to be gone.
pub const WATCHER_ENDING: Duration = Duration::from_secs(1);
/// What the watcher's program is called with to write to the disks.
const WRITER: &str = "write-to-disks";

/// Directories whose disks the server needs to take a write, and who may write there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Disks {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// One on each disk.
    pub directories: Vec<PathBuf>,
}

/// The watcher of one server, as its state file knows it.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    watcher: Identity,
    server: Identity,
    #[serde(default)]
    disks: Option<Disks>,
}

/// What the watcher has to say to this node's agent of the disks under a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Report {
    server: Identity,
    /// The directory whose disk hangs. `None`: what wrote to the disks is gone, and another one is root's to start, which the agent is.
    directory: Option<PathBuf>,
}

/// Where the watcher reports, opened while it was root. Nothing stands there while there is no trouble.
#[derive(Debug)]
struct Reports(File);

impl Reports {
    fn of(membership: &Membership) -> std::io::Result<Self> {
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        File::options().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(report_file(membership)).map(Self)
    }

    /// Half of a report, or two of them, read as none.
    fn write(&self, report: Option<&Report>) -> std::io::Result<()> {
        self.0.set_len(0)?;
        report.map_or(Ok(()), |report| self.0.write_all_at(&serde_json::to_vec(report)?, 0))
    }
}

/// Starts, finds and ends the watcher of a resource on this node.
#[derive(Debug)]
pub struct Watcher {
    program: PathBuf,
    membership: Membership,
    disks: Option<Disks>,
    ending: Duration,
}

impl Watcher {
    /// The watcher for a member; `program` is `systole-watch`.
    pub fn new(program: &Path, membership: Membership) -> Self {
        Self { program: program.to_owned(), membership, disks: None, ending: WATCHER_ENDING }
    }

    /// The same, which waits no longer than this for the end of the watcher before.
    pub fn ending_within(self, limit: Duration) -> Self {
        Self { ending: limit, ..self }
    }

    /// The same, which watches these disks as well.
    pub fn of_disks(self, disks: Option<Disks>) -> Self {
        Self { disks, ..self }
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
            if self.does_it(&record, server) {
                return Ok(());
            }
            process::kill_session(&record.watcher, self.ending);
        }
        let _ = std::fs::remove_file(report_file(&self.membership));
        let mut arguments = vec![
            server.pid.to_string(),
            server.start_ticks.to_string(),
            self.membership.resource.clone(),
            node.to_owned(),
            self.membership.state_directory.display().to_string(),
        ];
        if let Some(disks) = &self.disks {
            arguments.extend([disks.uid.to_string(), disks.gid.to_string()]);
            arguments.extend(disks.directories.iter().map(|directory| directory.display().to_string()));
        }
        let daemon = Daemon {
            program: self.program.clone(),
            arguments,
            account: None,
            directory: "/".into(),
            open_files: None,
            may_gain: Capabilities::empty(),
            environment: vec![("OCF_RESOURCE_INSTANCE".into(), self.membership.resource.clone())],
            log: None,
        };
        // First: one that nobody knows of would be started again by each monitor, and ended by no stop.
        let remember = |watcher: &Identity| {
            let record = Record { watcher: watcher.clone(), server: server.clone(), disks: self.disks.clone() };
            let record = serde_json::to_vec(&record).map_err(|e| e.to_string())?;
            process::write_atomically(&self.path(), &record, 0o600).map_err(|e| format!("{}: {e}", self.path().display()))
        };
        match daemon.spawn_remembered(remember) {
            Ok(_) => Ok(()),
            Err(process::DaemonError::NotRemembered(why)) => Err(why),
            Err(e) => Err(format!("{e}: is systole installed completely?")),
        }
    }

    /// Ends the watcher, if there is one: the server is going to be stopped on purpose.
    pub fn end(&self) {
        if let Some(record) = self.record() {
            // With what it has started: the disk may be about to be unmounted. What hangs on it does not keep us.
            process::kill_session(&record.watcher, self.ending);
        }
        let _ = std::fs::remove_file(self.path());
        let _ = std::fs::remove_file(report_file(&self.membership));
    }

    /// Whether `server` is watched, with its disks.
    pub fn is_watching(&self, server: &Identity) -> bool {
        self.record().is_some_and(|record| self.does_it(&record, server))
    }

    fn does_it(&self, record: &Record, server: &Identity) -> bool {
        record.server == *server
            && record.watcher.is_alive()
            && (self.disks.is_none() || record.disks == self.disks && self.report(server).is_none_or(|report| report.directory.is_some()))
    }

    /// The directory whose disk takes nothing any more of what this server writes.
    pub fn hanging_disk(&self, server: &Identity) -> Option<PathBuf> {
        self.report(server)?.directory
    }

    fn report(&self, server: &Identity) -> Option<Report> {
        let report: Report = serde_json::from_slice(&std::fs::read(report_file(&self.membership)).ok()?).ok()?;
        (report.server == *server).then_some(report)
    }

    fn record(&self) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.path()).ok()?).ok()
    }

    fn path(&self) -> PathBuf {
        self.membership.state_directory.join(format!("systole-{}.watch", self.membership.resource))
    }
}

fn report_file(membership: &Membership) -> PathBuf {
    membership.state_directory.join(format!("systole-{}.hang", membership.resource))
}

/// What is watched beside the process.
struct DisksOf<'a> {
    server: &'a Identity,
    writer: process::Disks,
    reports: &'a Reports,
    reported: Option<Report>,
}

impl DisksOf<'_> {
    /// A look. A disk that hangs is told once, to this node's agent and to the cluster; so is its end, to the agent, who knows what the server
    /// is worth then.
    fn look(&mut self, lower: impl FnOnce() -> bool) {
        let report = |directory| Report { server: self.server.clone(), directory };
        let report = match self.writer.look() {
            Disk::Answers => None,
            Disk::Hangs(directory) => Some(report(Some(directory.to_owned()))),
            Disk::Unwatched => Some(report(None)),
        };
        if report == self.reported || self.reports.write(report.as_ref()).is_err() {
            return;
        }
        let hangs = report.as_ref().is_some_and(|report| report.directory.is_some());
        if !hangs || lower() {
            self.reported = report;
        }
    }
}

/// Whose score is lowered, and where it is remembered that it was.
struct Lowering<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    told: &'a std::io::Result<Told>,
}

impl Lowering<'_> {
    /// Returns whether it is lowered.
    fn lower(&self) -> bool {
        match self.told {
            Ok(told) => told.publishing(),
            Err(_) => self.cluster.forget_score(),
        }
        let lowered = self.cluster.set_score(self.node, Score::NEVER).is_ok();
        if let (true, Ok(told)) = (lowered, self.told) {
            told.published(Score::NEVER);
        }
        lowered
    }
}

/// Becomes the cluster's user for good, who may do what is left to do: look at the server and call one tool. Where that user does not see
/// the server (/proc is mounted so that each sees his own only), it would take it for dead: root stays root there, as where there is no such user.
fn leave_root(server: &Identity) {
    let Ok(Some(user)) = User::from_name(CLUSTER) else { return };
    let groups = std::ffi::CString::new(CLUSTER).ok().and_then(|name| getgrouplist(&name, user.gid).ok()).unwrap_or_else(|| vec![user.gid]);
    let Ok(before) = getgroups() else { return };
    let (root, group) = (getuid(), getegid());
    // With its groups as well: a /proc that hides processes shows them to one group, which is root's where nobody named another.
    let as_cluster = setgroups(&groups).and_then(|()| setegid(user.gid)).and_then(|()| seteuid(user.uid));
    let sees = as_cluster.is_ok() && Identity::of(server.pid).is_some_and(|seen| seen == *server) && server.state() != process::State::Gone;
    let back = seteuid(root).and_then(|()| setegid(group)).and_then(|()| setgroups(&before));
    if back.is_err() || !sees {
        return;
    }
    let left =
        setgroups(&groups).and_then(|()| setresgid(user.gid, user.gid, user.gid)).and_then(|()| setresuid(user.uid, user.uid, user.uid));
    if left.is_ok() {
        let _ = nix::sys::prctl::set_no_new_privs();
    }
}

/// What `systole-watch` does: waits for the server, then tells the cluster. Returns the process's exit status.
///
/// Arguments: pid, start time in ticks, resource, node, state directory; then user, group and directories when their disks are to be watched.
pub fn watch(arguments: &[String]) -> u8 {
    if let Some((_, directories)) = arguments.split_first().filter(|(first, _)| *first == WRITER) {
        process::write_for_ever(&directories.iter().map(std::ffi::OsStr::new).collect::<Vec<_>>());
        return 0;
    }
    let [pid, start_ticks, resource, node, state_directory, disks @ ..] = arguments else {
        eprintln!("usage: systole-watch PID START_TICKS RESOURCE NODE STATE_DIRECTORY (it is started by the resource agents)");
        return 2;
    };
    let (Ok(pid), Ok(start_ticks)) = (pid.parse::<i32>(), start_ticks.parse::<u64>()) else {
        eprintln!("systole-watch: pid and start time must be numbers");
        return 2;
    };
    let membership =
        Membership { resource: resource.clone(), node: Some(node.clone()), present: true, state_directory: state_directory.into() };
    let cluster = Cluster::new(membership.clone(), |_| {});
    let told = cluster.score_memory().told();
    let lowering = Lowering { cluster: &cluster, node, told: &told };
    // Another process under this number means that ours is dead already.
    if let Some(server) = Identity::of(pid).filter(|p| p.start_ticks == start_ticks) {
        let (account, directories) = disks.split_at(disks.len().min(2));
        let directories: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
        let numbers: Vec<u32> = account.iter().filter_map(|number| number.parse().ok()).collect();
        let reports = Reports::of(&membership);
        let mut disks = match (&numbers[..], &reports) {
            ([uid, gid], Ok(reports)) if !directories.is_empty() => {
                let program = std::env::current_exe().unwrap_or_default();
                let writer = process::Disks::write(&program, &[WRITER], &directories, *uid, *gid);
                Some(DisksOf { server: &server, writer, reports, reported: None })
            }
            _ => None,
        };
        if told.is_ok() {
            leave_root(&server);
        }
        server.wait_dead_forever(LOOKS, || {
            if let Some(disks) = &mut disks {
                disks.look(|| lowering.lower());
            }
        });
    }
    // Pacemaker may be restarting: try for a while. After that its own monitors will have found the dead server.
    for _ in 0..10 {
        if lowering.lower() {
            return 0;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_that_cannot_be_remembered_never_runs() {
        let directory = std::env::temp_dir().join(format!("systole-watch-{}", std::process::id()));
        // A directory in the place of the file that remembers it.
        std::fs::create_dir_all(directory.join("systole-r.watch")).unwrap();
        let program = directory.join("program");
        std::fs::write(&program, format!("#!/bin/sh\ntouch {}/ran.$$\nexec sleep 5\n", directory.display())).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let member = Membership { resource: "r".into(), node: None, present: true, state_directory: directory.clone() };
        let watcher = Watcher::new(&program, member);
        for _ in 0..3 {
            assert!(watcher.ensure(&Identity::own().unwrap(), "a").is_err());
        }
        std::thread::sleep(Duration::from_millis(300));
        let names = std::fs::read_dir(&directory).unwrap().flatten();
        assert_eq!(names.filter(|file| file.file_name().to_string_lossy().starts_with("ran")).count(), 0);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
