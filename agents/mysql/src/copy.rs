//! `rejoin=clone`: a server that has diverged gets a copy of the primary's data in place of its own.
//!
//! `start` only begins it, in a process of its own: it may take hours, and while any action runs, the cluster begins no
//! failover. What only this server had stays in its binary logs, which are kept beside the data directory. A note stands there
//! while the copy is made: a server with that note is nobody's equal, whatever its GTIDs say, and the next start makes the copy again.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ocf::{Context, Deadline, Failure, Outcome, Status};
use process::Identity;
use serde::{Deserialize, Serialize};

use crate::agent::MySql;
use crate::dialect::quoted;
use crate::gtid::Flavour;
use crate::params::Rejoin;
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::State;

/// How long a copy may take: for ever, for all that a deadline can hold.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);
/// How long the processes of a copy that is broken off may take to be gone.
const BREAKING_OFF: Duration = Duration::from_secs(5);
/// How long a server may take to end before its data are replaced.
const ENDING: Duration = Duration::from_secs(20);

/// How the copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// The server fetches it: MySQL's clone plugin.
    Plugin,
    /// A program fetches it into the empty data directory: MariaDB.
    Program,
}

/// A copy that was begun since the node booted, in a file while it lasts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Copying {
    /// The process that makes it: the leader of a session.
    pub(crate) worker: Identity,
    /// Whose data.
    primary: String,
    /// When it began, since boot.
    since: Duration,
    /// Why it failed.
    failure: Option<String>,
}

impl MySql {
    /// The copy that is being made, or has failed.
    pub(crate) fn copying(&self) -> Option<Copying> {
        serde_json::from_slice(&fs::read(self.volatile_file("copy")).ok()?).ok()
    }

    fn remember_copy(&self, copying: &Copying) -> Result<(), String> {
        let path = self.volatile_file("copy");
        let text = serde_json::to_vec(copying).map_err(|e| e.to_string())?;
        process::write_atomically(&path, &text, 0o600).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Begins to copy the primary's data, and does not wait for it.
    pub(crate) fn begin_copy(&self, context: &Context, primary: &str) -> Outcome {
        let begun = |worker: &Identity| Copying {
            worker: worker.clone(),
            primary: primary.to_owned(),
            since: process::since_boot(),
            failure: None,
        };
        let work = || {
            let unlimited =
                Context { deadline: Deadline::after(FOR_EVER), environment: context.environment.clone(), log: Rc::clone(&context.log) };
            let agent = Self::with(&unlimited, self.params.clone());
            match agent.copy(&unlimited, primary) {
                Ok(()) => {
                    let _ = fs::remove_file(agent.volatile_file("copy"));
                    if let Err(failure) = agent.acknowledge_soon(&unlimited) {
                        unlimited.log.warning(format!("this replica acknowledges with one of its next monitors: {}", failure.reason));
                    }
                }
                Err(failure) => {
                    unlimited.log.error(format!("copy: {}", failure.reason));
                    let failed = agent.copying().map(|copying| Copying { failure: Some(failure.reason), ..copying });
                    // If it cannot be said, the monitor finds nobody at work, which comes to the same.
                    let _ = failed.map(|failed| agent.remember_copy(&failed));
                }
            }
        };
        process::detach(|worker| self.remember_copy(&begun(worker)), work)
            .map_err(|e| Failure::generic(format!("the copy of {primary}'s data cannot be begun: {e}")))?;
        context.log.notice(format!("copying {primary}'s data; this instance is of no use until that is done"));
        Ok(())
    }

    /// Breaks a copy off, and forgets it.
    ///
    /// # Errors
    /// When something of it goes on: it would write into what comes after it.
    pub(crate) fn end_copy(&self) -> Outcome {
        let Some(copying) = self.copying() else { return Ok(()) };
        if !process::kill_session(&copying.worker, BREAKING_OFF) {
            return Err(Failure::generic(format!(
                "the processes of a copy (session {}) cannot be killed: they hang in the kernel, probably on the disk or the network",
                copying.worker.pid
            )));
        }
        let _ = fs::remove_file(self.volatile_file("copy"));
        Ok(())
    }

    /// What a monitor says of it.
    pub(crate) fn copy_status(&self, copying: Copying) -> Result<Status, Failure> {
        let Copying { worker, primary, since, failure } = copying;
        if worker.is_alive() {
            let seconds = process::since_boot().saturating_sub(since).as_secs();
            return Ok(Status::Degraded(format!("the data of {primary} are being copied here, for {seconds} s so far")));
        }
        Err(Failure::generic(failure.unwrap_or_else(|| format!("the copy of {primary}'s data was broken off; it is begun anew"))))
    }

    fn copy(&self, context: &Context, primary: &str) -> Outcome {
        if self.needs_copy_first() {
            return self.fetch_copy(context, primary);
        }
        let state = self.state_file.load();
        let server = self.reach(context, &state)?;
        self.replace_by_copy(context, state, server, primary)
    }

    /// Where the binary logs are kept, and the note.
    fn kept_directory(&self) -> PathBuf {
        let name = self.params.datadir.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        self.params.datadir.with_file_name(format!("{name}.systole-kept"))
    }

    fn note(&self) -> PathBuf {
        self.kept_directory().join("copy-is-not-complete")
    }

    /// Whether a copy was begun and not ended: the data are neither the old nor the new ones.
    pub(crate) fn copy_is_unfinished(&self) -> bool {
        self.note().exists()
    }

    /// Whether no server can be started before a copy has been made, because there are no data or not all.
    pub(crate) fn needs_copy_first(&self) -> bool {
        fs::read_to_string(self.note()).is_ok_and(|means| means.trim() == "program")
    }

    fn write_note(&self, means: Means) -> Outcome {
        let text = if means == Means::Program { "program\n" } else { "plugin\n" };
        process::write_atomically(&self.note(), text.as_bytes(), 0o600).map_err(|e| cannot_keep(&self.note(), e))
    }

    /// Loads the clone plugin with rejoin=clone. The primary needs it as well, and any server may become one.
    pub(crate) fn load_clone_if_wanted(&self, context: &Context, server: &mut Server) {
        if self.params.rejoin != Rejoin::Clone || server.dialect().flavour == Flavour::MariaDb {
            return;
        }
        if let Err(fault) = load_clone(server) {
            context.log.warning(format!("rejoin=clone is not possible with server {}: {fault}", server.dialect().version));
        }
    }

    /// Replaces the data of the running server by the primary's, starts it again and lets it follow.
    fn replace_by_copy(&self, context: &Context, mut state: State, mut server: Server, primary: &str) -> Outcome {
        let kept = self.kept_directory();
        let count = keep_binary_logs(&mut server, &kept)?;
        context.log.notice(format!("kept {count} binary logs in {}: what only this server had is in them", kept.display()));
        if server.dialect().flavour == Flavour::MariaDb {
            drop(server);
            self.end_server(&state);
            return self.fetch_copy(context, primary);
        }
        self.write_note(Means::Plugin)?;
        context.log.notice(format!("replacing the data by a copy of {primary}'s"));
        let host = self.address_of(context, &mut state, primary);
        self.clone_from(context, &mut server, &host)
            .map_err(|fault| Failure::generic(format!("the data cannot be replaced by a copy of {primary}'s: {fault}")))?;
        drop(server);
        self.end_server(&state);
        // What is written here from now on must not get the names of what was given up: a new server_uuid is made.
        match fs::remove_file(self.params.datadir.join("auto.cnf")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::generic(format!("{}/auto.cnf cannot be removed: {e}; remove it", self.params.datadir.display())));
            }
            _ => {}
        }
        self.start_with_copy(context, primary, None)
    }

    /// Has the server fetch the data itself. It ends then, since it cannot restart itself under us.
    fn clone_from(&self, context: &Context, server: &mut Server, host: &str) -> Result<(), Fault> {
        load_clone(server)?;
        let (port, user) = (self.params.replication.port, &self.params.replication.user);
        let password = self.replication_password().map_err(|failure| Fault::Denied(failure.reason))?;
        server.run("SET SESSION sql_mode=''")?;
        server.run(&format!("SET GLOBAL clone_valid_donor_list={}", quoted(&format!("{host}:{port}"))))?;
        server.run_all(server.dialect().let_administrators_write(true))?;
        let statement = format!("CLONE INSTANCE FROM {}@{}:{port} IDENTIFIED BY {}", quoted(user), quoted(host), quoted(password.expose()));
        match server.run_within(&statement, context.deadline.left()) {
            Ok(()) => Ok(()),
            // It cannot restart itself, and ends.
            Err(Fault::Refused(text)) if text.contains("(error 3707)") => Ok(()),
            Err(Fault::Silent(text)) if text.contains("connection broke") => Ok(()),
            Err(Fault::Refused(text)) => Err(Fault::Refused(text.replace(password.expose(), "******"))),
            Err(fault) => Err(fault),
        }
    }

    /// Has a program fetch the data into the emptied data directory.
    fn fetch_copy(&self, context: &Context, primary: &str) -> Outcome {
        let datadir = &self.params.datadir;
        let program = self.params.copy_program.display().to_string();
        if !self.params.copy_program.is_file() {
            return Err(Failure::installed(format!(
                "copy_program {program} does not exist: set it, or make this replica anew by hand (docs/mysql.md)"
            )));
        }
        self.write_note(Means::Program)?;
        empty(datadir).map_err(|e| Failure::permission(format!("datadir {} cannot be emptied: {e}", datadir.display())))?;
        context.log.notice(format!("replacing the data by a copy of {primary}'s: {program}"));
        let host = self.address_of(context, &mut self.state_file.load(), primary);
        let done = process::run(&program, &[&host, &datadir.display().to_string()], context.deadline.left())
            .map_err(|e| Failure::generic(format!("no copy of {primary}'s data: {e}")))?;
        if !done.status.success() {
            let last = done.stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
            return Err(Failure::generic(format!(
                "no copy of {primary}'s data: {program} ended with {}: {last}; correct that, it is tried again",
                done.status
            )));
        }
        let gtids = backup_position(datadir);
        if gtids.is_none() {
            return Err(Failure::generic(format!(
                "{program} left no mariadb_backup_binlog_info in {}: without it nobody knows what the copy holds",
                datadir.display()
            )));
        }
        self.start_with_copy(context, primary, gtids.as_deref())
    }

    /// Starts the server with its new data and lets it follow whoever is the primary by now. `gtids`: what the copy holds, where the
    /// data do not say so.
    fn start_with_copy(&self, context: &Context, source: &str, gtids: Option<&str>) -> Outcome {
        let started = self.launch(context, context.deadline.left())?;
        let Some((mut server, _)) = started else { return Ok(()) };
        if let Some(gtids) = gtids {
            server.run(&format!("SET GLOBAL gtid_slave_pos={}", quoted(gtids)))?;
        }
        fs::remove_file(self.note()).map_err(|e| cannot_keep(&self.note(), e))?;
        context.log.notice(format!("the data are a copy of {source}'s now"));
        let mut state = self.state_file.load();
        let record = self.record()?;
        state.memory.change(|m| m.learn(record.as_ref().map(Record::stamp).unwrap_or_default()));
        let primary = record.as_ref().map_or(source, |record| &record.node);
        self.rejoin(context, &mut state, &mut server, primary, record.as_ref())
    }

    fn end_server(&self, state: &State) {
        let Some(process) = &state.server else { return };
        self.watcher().end();
        process.terminate();
        if !process.wait_gone(ENDING) {
            process.kill();
            process.wait_gone(ENDING);
        }
    }
}

fn load_clone(server: &mut Server) -> Result<(), Fault> {
    if server.rows("SHOW GLOBAL VARIABLES LIKE 'clone_valid_donor_list'")?.is_empty() {
        server.install(&["INSTALL PLUGIN clone SONAME 'mysql_clone.so'"])?;
    }
    Ok(())
}

fn cannot_keep(path: &Path, e: std::io::Error) -> Failure {
    Failure::generic(format!("{}: {e}: the binary logs cannot be kept, so no copy is made; free space or correct the mode", path.display()))
}

/// Links the server's binary logs, or copies them to another file system, in place of those kept before.
fn keep_binary_logs(server: &mut Server, kept: &Path) -> Result<usize, Failure> {
    let wrong = |e| cannot_keep(kept, e);
    let base = server.rows("SELECT @@global.log_bin_basename AS base")?.pop().and_then(|mut row| row.remove("base")).unwrap_or_default();
    let directory = Path::new(&base).parent().map(Path::to_path_buf).unwrap_or_default();
    let names: Vec<String> = server.rows("SHOW BINARY LOGS")?.into_iter().filter_map(|mut row| row.remove("log_name")).collect();
    fs::create_dir_all(kept).map_err(wrong)?;
    for name in &names {
        let (from, to) = (directory.join(name), kept.join(name));
        if to.exists() {
            fs::remove_file(&to).map_err(wrong)?;
        }
        fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop)).map_err(wrong)?;
    }
    Ok(names.len())
}

/// Empties a directory, which may be a mount point itself.
fn empty(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What a backup holds, by the note that mariadb-backup leaves: file, position, GTIDs.
fn backup_position(directory: &Path) -> Option<String> {
    let names = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"];
    let text = names.iter().find_map(|name| fs::read_to_string(directory.join(name)).ok())?;
    position_in(&text)
}

fn position_in(text: &str) -> Option<String> {
    text.lines().next()?.split('\t').nth(2).map(|gtids| gtids.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backups_position_is_its_third_word() {
        assert_eq!(position_in("binlog.000002\t1234\t0-1-7,1-2-9\n").as_deref(), Some("0-1-7,1-2-9"));
        assert_eq!(position_in("binlog.000002\t1234\t\n").as_deref(), Some(""));
        assert_eq!(position_in("binlog.000002\t1234\n"), None);
    }

    #[test]
    fn a_directory_is_emptied_and_stays() {
        let directory = std::env::temp_dir().join(format!("systole-empty-{}", std::process::id()));
        fs::create_dir_all(directory.join("a/b")).unwrap();
        fs::write(directory.join("c"), "").unwrap();
        empty(&directory).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        fs::remove_dir(directory).unwrap();
    }
}
