//! `rejoin=clone`: a server that has diverged gets a copy of the primary's data in place of its own.
//!
//! Only within `start`, which has the time for it. What only this server had stays in its binary logs, which are kept
//! beside the data directory. A note stands there while the copy is made: a server with that note is nobody's equal,
//! whatever its GTIDs say, and the next start makes the copy again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocf::{Context, Failure, Outcome};

use crate::agent::MySql;
use crate::dialect::quoted;
use crate::lifecycle::Launch;
use crate::params::Rejoin;
use crate::record::Record;
use crate::server::{Fault, Server};
use crate::state::State;

/// What a start needs after the copy: the server's start, and following.
const AFTERWARDS: Duration = Duration::from_secs(15);

impl MySql {
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

    /// Loads the clone plugin with rejoin=clone. The primary needs it as well, and any server may become one.
    pub(crate) fn load_clone_if_wanted(&self, context: &Context, server: &mut Server) {
        if self.params.rejoin != Rejoin::Clone {
            return;
        }
        if let Err(fault) = self.load_clone(server) {
            context.log.warning(format!("rejoin=clone is not possible with server {}: {fault}", server.dialect().version));
        }
    }

    fn load_clone(&self, server: &mut Server) -> Result<(), Fault> {
        if server.rows("SHOW GLOBAL VARIABLES LIKE 'clone_valid_donor_list'")?.is_empty() {
            server.install(&["INSTALL PLUGIN clone SONAME 'mysql_clone.so'"])?;
        }
        Ok(())
    }

    /// Replaces the data of the running server by the primary's, starts it again and lets it follow.
    pub(crate) fn replace_by_copy(
        &self,
        context: &Context,
        mut state: State,
        mut server: Server,
        primary: &str,
        record: Option<&Record>,
    ) -> Outcome {
        let explain = |fault: Fault| Failure::generic(format!("the data cannot be replaced by a copy of {primary}'s: {fault}"));
        self.load_clone(&mut server).map_err(explain)?;
        let kept = self.kept_directory();
        let wrong = |e: std::io::Error| Failure::generic(format!("{}: {e}: the binary logs cannot be kept, so no copy is made", kept.display()));
        let count = keep_binary_logs(&mut server, &kept)?;
        context.log.notice(format!("kept {count} binary logs in {}: what only this server had is in them", kept.display()));
        process::write_atomically(&self.note(), primary.as_bytes(), 0o600).map_err(wrong)?;
        let host = self.address_of(context, &mut state, primary);
        let (port, user, password) = (self.params.replication.port, &self.params.replication.user, self.replication_password()?);
        context.log.notice(format!("replacing the data by a copy of {primary}'s"));
        server.run("SET SESSION sql_mode=''").map_err(explain)?;
        server.run(&format!("SET GLOBAL clone_valid_donor_list={}", quoted(&format!("{host}:{port}")))).map_err(explain)?;
        server.run_all(server.dialect().let_administrators_write(true)).map_err(explain)?;
        let statement = format!(
            "CLONE INSTANCE FROM {}@{}:{port} IDENTIFIED BY {}",
            quoted(user),
            quoted(&host),
            quoted(password.expose())
        );
        let limit = context.deadline.reserving(AFTERWARDS).left();
        match server.run_within(&statement, limit) {
            // 3707: the server cannot restart itself, since we run it. It ends, and we start it again.
            Ok(()) => {}
            Err(Fault::Refused(text)) if text.contains("(error 3707)") => {}
            Err(Fault::Silent(text)) if text.contains("connection broke") => {}
            Err(Fault::Refused(text)) => return Err(explain(Fault::Refused(text.replace(password.expose(), "******")))),
            Err(fault) => return Err(explain(fault)),
        }
        drop(server);
        if let Some(process) = &state.server {
            self.watcher().end();
            if !process.wait_gone(Duration::from_secs(10)) {
                process.terminate();
                process.wait_gone(Duration::from_secs(5));
            }
        }
        state.errant = None;
        state.server = None;
        self.state_file.save(&state)?;
        let started = self.launch(context, Launch { keep: true }, context.deadline.left())?;
        let Some((mut server, _)) = started else {
            return Err(Failure::generic("the server does not come up with the copied data in time: see its error log"));
        };
        fs::remove_file(self.note()).map_err(wrong)?;
        context.log.notice(format!("the data are a copy of {primary}'s now"));
        let mut state = self.state_file.load();
        state.memory.change(|m| m.learn(record.map(Record::stamp).unwrap_or_default()));
        self.rejoin(context, &mut state, &mut server, primary, record)
    }
}

/// Links the server's binary logs, or copies them to another file system, in place of those kept before.
fn keep_binary_logs(server: &mut Server, kept: &Path) -> Result<usize, Failure> {
    let wrong = |e: std::io::Error| Failure::generic(format!("{}: {e}: the binary logs cannot be kept, so no copy is made", kept.display()));
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
