//! `rejoin=clone`: a server that has diverged gets a copy of the primary's data in place of its own.
//!
//! What only this server had stays in its binary logs, which are kept beside the data directory. A note stands there while the copy is made.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ocf::{Context, Failure, Outcome};
use process::{Directory, Files};

use crate::agent::MySql;
use crate::dialect::{Row, quoted};
use crate::election;
use crate::gtid::{Flavour, Gtids};
use crate::limits;
use crate::rejoin::Rejoining;
use crate::rewind::TAKEN_BACK;
use crate::server::{CLONED_AND_ENDS, Fault, Places, Server};

/// What is left free on a disk that binary logs are copied to. Bytes.
const LEFT_FREE: u64 = 256 * 1024 * 1024;
/// The private attribute by which the nodes copy one after the other.
const TURN: &str = "copying";

/// The question to a program whether it can make a copy.
const CHECK: &str = "--check";
/// More than any note beside the data. Bytes.
const LONGEST_NOTE: u64 = 64 * 1024;
/// The notes beside the data that are there when nothing is under way.
pub(crate) const NOTES: [&str; 2] = [crate::taking_back::REIGN, crate::taking_back::GIVEN_UP];
/// In the note, with a number behind it: the logs of the data that go are kept under that. What a server logs after that is none of these.
const ALREADY_KEPT: &str = "kept ";
/// How the directory begins in which the logs of one time are kept, before its number. A server that was copied begins with the same names.
const LOGS: &str = "logs-";
/// The same directory as long as not all of them are in it.
const UNFINISHED_LOGS: &str = ".logs";
/// Where binary logs are kept that are outside of the data directory.
const KEPT: &str = "systole-kept";

/// How far a node is with its copy, as it tells the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It makes none.
    No,
    Wants,
    Copies,
}

impl Turn {
    fn print(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Wants => "wants",
            Self::Copies => "copies",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::No, Self::Wants, Self::Copies].into_iter().find(|turn| turn.print() == text)
    }
}

/// How the copy is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// The server fetches it: MySQL's clone plugin.
    Plugin,
    /// A program fetches it into the empty data directory: MariaDB.
    Program,
}

impl Means {
    /// In the first line of the note beside the data.
    fn word(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Program => "program",
        }
    }
}

/// The binary logs that were kept.
struct Kept {
    count: usize,
    /// `None` where the server has no binary log.
    number: Option<u32>,
    directory: PathBuf,
}

/// How a copy was made, and what has to be known of it.
enum Copied {
    /// With what the server said of a clone before.
    ByPlugin(Row),
    /// With the GTIDs that it holds, which the data do not say.
    ByProgram(String),
}

/// Whether a file that is kept beside the data is a binary log: no transaction by itself, and none of the notes.
fn is_kept_log(name: &str) -> bool {
    !(name.starts_with('.') || name.starts_with(TAKEN_BACK) || NOTES.contains(&name) || name.ends_with("-is-not-complete"))
}

/// The directory of the logs that were kept at the time with this number.
fn logs_directory(number: u32) -> String {
    format!("{LOGS}{number:04}")
}

/// The number in such a name.
fn number_of_logs(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_prefix(LOGS)?.parse().ok()
}

/// Keeps the files of these names in a directory of their own, and returns its number: none replaces what was kept at another time. `noted`:
/// the number under which an attempt before this one has kept all that there were, which goes on there and replaces nothing either.
///
/// # Errors
/// What the file system says. Then nothing new is left.
fn keep_logs(from: &Directory<'_>, into: &Directory<'_>, names: &[String], noted: Option<u32>) -> std::io::Result<u32> {
    remove_unfinished(into)?;
    if let Some(number) = noted {
        let kept = into.make_directory(logs_directory(number))?;
        remove_unfinished(&kept)?;
        let there = kept.names()?;
        let new = |name: &&String| !there.iter().any(|one| one.to_str() == Some(name.as_str()));
        names.iter().filter(new).try_for_each(|name| from.keep(name, &kept))?;
        return Ok(number);
    }
    let last = into.names()?.iter().filter_map(|name| number_of_logs(name)).max().unwrap_or(0);
    let number = last.checked_add(1).ok_or_else(|| std::io::Error::other(format!("{LOGS}{last} is the last number: remove it")))?;
    let kept = into.make_directory(UNFINISHED_LOGS)?;
    let all = names.iter().try_for_each(|name| from.keep(name, &kept));
    let named = all.and_then(|()| into.rename(UNFINISHED_LOGS, logs_directory(number)));
    if named.is_err() {
        // Others need the room.
        let _ = into.remove_all(UNFINISHED_LOGS);
    }
    named.map(|()| number)
}

/// What a process that was killed while it kept logs has left.
fn remove_unfinished(directory: &Directory<'_>) -> std::io::Result<()> {
    directory.names()?.iter().filter(|name| name.to_string_lossy().starts_with('.')).try_for_each(|name| directory.remove_all(name))
}

impl MySql {
    /// A copy when no other node makes one. A primary that feeds two at once serves its clients badly, and where two servers have diverged, the
    /// first one that is whole again is the one that acknowledges.
    pub(crate) fn copy_in_turn(&self, context: &Context, primary: &str) -> Outcome {
        self.fall_mute();
        self.await_turn(context);
        // Whoever is the primary by now.
        let recorded = self.record()?.map(|record| record.node).filter(|node| Some(node.as_str()) != self.node().ok());
        self.copy(context, recorded.as_deref().unwrap_or(primary))
    }

    /// No node waits for this one any more.
    pub(crate) fn end_turn(&self) {
        self.tell_turn(Turn::No);
    }

    fn tell_turn(&self, turn: Turn) {
        // Without it there may be two copies at a time, which is no harm to the data.
        let _ = self.cluster.publish_private(TURN, turn.print());
    }

    /// Returns when it is this node's turn, or when nobody can be asked.
    fn await_turn(&self, context: &Context) {
        let Ok(me) = self.node() else { return };
        let mut mine = Turn::Wants;
        while self.cluster.is_present() {
            self.tell_turn(mine);
            std::thread::sleep(limits::KNOWN);
            let told = self.cluster.private_values(TURN).unwrap_or_default();
            let Some(other) = goes_before(me, mine, &told) else {
                if mine == Turn::Copies {
                    break;
                }
                mine = Turn::Copies;
                continue;
            };
            if mine == Turn::Wants {
                context.log.notice(format!("waiting for {other}, where data are copied first"));
            }
            mine = Turn::Wants;
            self.tell_turn(mine);
            self.change_rejoining(|rejoining| Rejoining { after: Some(other.to_owned()), ..rejoining });
            std::thread::sleep(limits::WAITING);
        }
        self.change_rejoining(|rejoining| Rejoining { after: None, since: process::since_boot(), ..rejoining });
    }

    fn copy(&self, context: &Context, primary: &str) -> Outcome {
        if self.needs_copy_first()? {
            return self.fetch_copy(context, primary);
        }
        let server = self.server_to_rejoin(context)?;
        if self.rejoin_is_unfinished() {
            return self.replace_by_copy(context, server, primary);
        }
        match self.diverged(context, server, primary)? {
            Some(server) => self.replace_by_copy(context, server, primary),
            None => Ok(()),
        }
    }

    fn note(&self) -> PathBuf {
        self.kept_directory().join("copy-is-not-complete")
    }

    /// What stands in the note; `None` when there is none.
    fn read_note(&self) -> Result<Option<String>, Failure> {
        match self.files(|files| files.read(&self.note(), LONGEST_NOTE)) {
            Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Failure::permission(format!(
                "whether the data are a whole copy cannot be told: {note}: {e}; chown -R {user} {directory}",
                note = self.note().display(),
                user = self.params.user,
                directory = self.kept_directory().display()
            ))),
        }
    }

    /// Whether a copy was begun and not ended.
    pub(crate) fn copy_note_is_there(&self) -> bool {
        // What cannot be told does not count as whole.
        self.files(|files| files.exists(&self.note())).unwrap_or(true)
    }

    /// Whether no server can be started before a copy has been made, because there are no data or not all.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn needs_copy_first(&self) -> Result<bool, Failure> {
        Ok(self.read_note()?.is_some_and(|note| note.lines().next().is_some_and(|means| means.trim() == Means::Program.word())))
    }

    /// The logs outside of the data directory that go with the data, as they stand in the note: no server runs any more that could be asked.
    fn noted_logs(&self) -> Result<Vec<PathBuf>, Failure> {
        let note = self.read_note()?.unwrap_or_default();
        Ok(note.lines().filter_map(|line| line.strip_prefix("logs ")).map(PathBuf::from).collect())
    }

    /// The number under which an attempt before this one has kept the logs of the data that go. A server that came up since then begins with the
    /// same names.
    fn noted_number(&self) -> Result<Option<u32>, Failure> {
        let note = self.read_note()?.unwrap_or_default();
        Ok(note.lines().find_map(|line| line.strip_prefix(ALREADY_KEPT)?.trim().parse().ok()))
    }

    fn write_copy_note(&self, means: Means, logs: &[PathBuf], kept: Option<u32>) -> Outcome {
        let mut text = format!("{}\n", means.word());
        if let Some(number) = kept {
            text.push_str(&format!("{ALREADY_KEPT}{number:04}\n"));
        }
        for log in logs {
            text.push_str(&format!("logs {}\n", log.display()));
        }
        self.make_kept_directory()?;
        self.files(|files| files.write(&self.note(), text.as_bytes(), 0o600)).map_err(|e| cannot_keep(&self.note(), e))
    }

    /// Has the next start make a copy although there are data that are whole: a server is started with them first, which keeps its logs.
    pub(crate) fn note_to_copy(&self) -> Outcome {
        // One that is there has that start make a copy, too, and may say that there are no data that a server could be started with.
        if self.read_note()?.is_some() {
            return Ok(());
        }
        self.write_copy_note(Means::Plugin, &[], None)
    }

    /// Where binary logs were kept that only this server had, when there are any.
    pub(crate) fn kept_logs(&self) -> Option<PathBuf> {
        self.kept_names().iter().any(|name| is_kept_log(name)).then(|| self.kept_directory())
    }

    /// How many transactions were taken back here and are kept, and where.
    pub(crate) fn kept_transactions(&self) -> Option<(usize, PathBuf)> {
        let count = self.kept_names().iter().filter(|name| name.starts_with(TAKEN_BACK)).count();
        (count > 0).then(|| (count, self.kept_directory()))
    }

    fn kept_names(&self) -> Vec<String> {
        let names = self.files(|files| files.directory(&self.kept_directory())?.names()).unwrap_or_default();
        names.into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
    }

    /// Replaces the data of the running server by the primary's, starts it again and lets it follow.
    fn replace_by_copy(&self, context: &Context, mut server: Server, primary: &str) -> Outcome {
        let by_program = server.dialect().flavour == Flavour::MariaDb;
        let places = server.places()?;
        let outside = || self.files(|files| Ok(logs_outside(files, &places, &self.params.datadir)));
        let logs = if by_program { outside().unwrap_or_else(|e| Err(e.to_string())).map_err(Failure::generic)? } else { Vec::new() };
        if by_program {
            self.check_program(context, primary, &self.address_of(context, primary))?;
        }
        let Kept { count, number, directory } = self.keep_binary_logs(&mut server, &places)?;
        context.log.notice(format!("kept {count} binary logs in {}: what only this server had is in them", directory.display()));
        // However often it is begun anew from here, they are kept once.
        self.write_copy_note(Means::Plugin, &[], number)?;
        if by_program {
            // It keeps its server_id and counts on from what the copy holds: it would give names again that a third server may have received.
            // What the primary has as well is not given up; after an operator's decision nobody knows what that is.
            let (held, record) = (server.executed()?, self.record()?.filter(|record| !record.decided()));
            let given_up = record.as_ref().map_or(Some(held.clone()), |record| Gtids::parse_any(&election::errant(&held, record)?).ok());
            if let Some(names) = given_up {
                self.note_given_up(&names)?;
            }
            drop(server);
            self.end_server()?;
            self.write_copy_note(Means::Program, &logs, number)?;
            return self.fetch_copy(context, primary);
        }
        context.log.notice(format!("replacing the data by a copy of {primary}'s"));
        let host = self.address_of(context, primary);
        let before = clone_status(&mut server)?;
        self.clone_from(context, &mut server, &host)
            .map_err(|fault| Failure::generic(format!("the data cannot be replaced by a copy of {primary}'s: {fault}")))?;
        drop(server);
        self.end_server()?;
        self.forget_server_uuid()?;
        self.start_with_copy(context, primary, &Copied::ByPlugin(before))
    }

    /// Whether the program can make a copy, as far as it can say beforehand: what is here is emptied only then. A program that does not know the
    /// question is not asked, since it would take the word for a host.
    #[allow(clippy::disallowed_methods, reason = "the program is root's")]
    fn check_program(&self, context: &Context, primary: &str, host: &str) -> Outcome {
        let program = self.params.copy_program.display().to_string();
        if !self.params.copy_program.is_file() {
            return Err(Failure::installed(format!(
                "copy_program {program} does not exist: set it, or make this replica anew by hand (docs/mysql.md)"
            )));
        }
        let known =
            std::fs::read(&self.params.copy_program).is_ok_and(|text| text.windows(CHECK.len()).any(|word| word == CHECK.as_bytes()));
        if !known {
            context.log.warning(format!("{program} does not know {CHECK}: whether it can make a copy is seen when the data are gone"));
            return Ok(());
        }
        let done = process::run(&program, &[CHECK, host, &self.params.datadir.display().to_string()], limits::CHECKING)
            .map_err(|e| Failure::generic(format!("no copy of {primary}'s data: {e}; nothing was changed")))?;
        if done.status.success() {
            let announced = announced_in(&done.stdout);
            self.change_rejoining(|rejoining| Rejoining { announced, ..rejoining });
            return Ok(());
        }
        let last = done.stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
        Err(Failure::generic(format!(
            "no copy of {primary}'s data can be made: {last}; nothing was changed; correct that, it is tried again ({program} {CHECK} {host})"
        )))
    }

    /// Links the server's binary logs to a place beside them, or copies them beside the data directory. What is copied has room there, and leaves
    /// some.
    fn keep_binary_logs(&self, server: &mut Server, places: &Places) -> Result<Kept, Failure> {
        let Some(logs) = places.get("log_bin_basename").map(PathBuf::as_path).and_then(Path::parent) else {
            return Ok(Kept { count: 0, number: None, directory: self.kept_directory() });
        };
        let beside = self.kept_directory();
        self.make_kept_directory()?;
        let names: Vec<String> = server.rows("SHOW BINARY LOGS")?.into_iter().filter_map(|mut row| row.remove("log_name")).collect();
        let kept = self.files(|files| {
            let linked = process::one_each([beside.clone(), logs.to_owned()]).len() == 1;
            // Not inside of the data directory: each directory there is a database.
            let elsewhere = !linked && !is_inside(files, logs, &self.params.datadir);
            Ok((linked, if elsewhere { logs.join(KEPT) } else { beside.clone() }))
        });
        let (linked, kept) = kept.map_err(|e| cannot_keep(&beside, e))?;
        let wrong = |e| cannot_keep(&kept, e);
        let (needed, room) = self
            .files(|files| {
                let from = files.directory(logs)?;
                let sizes = names.iter().map(|name| from.length(name).map(Option::unwrap_or_default));
                Ok((sizes.sum::<std::io::Result<u64>>()?, files.room(&beside)?))
            })
            .map_err(wrong)?;
        if !linked && kept == beside && room < needed.saturating_add(LEFT_FREE) {
            return Err(Failure::generic(format!(
                "{}: the binary logs cannot be kept, so no copy is made: they have {} MB, and {} MB are free there, of which 256 stay free; free space, \
                 or keep them elsewhere and purge them here",
                kept.display(),
                needed >> 20,
                room >> 20
            )));
        }
        let noted = self.noted_number()?;
        let keep = |files: &Files<'_>| {
            let from = files.directory(logs)?;
            let into = if kept == beside { files.directory(&kept)? } else { from.make_directory(KEPT)? };
            // The server says which they are: plain names, or none is kept.
            keep_logs(&from, &into, &names, noted)
        };
        let number = self.files(keep).map_err(wrong)?;
        Ok(Kept { count: names.len(), number: Some(number), directory: kept.join(logs_directory(number)) })
    }

    /// Has the server fetch the data itself. It ends then, since it cannot restart itself under us.
    fn clone_from(&self, context: &Context, server: &mut Server, host: &str) -> Result<(), Fault> {
        load_clone(server)?;
        let (port, user) = (self.params.replication.port, &self.params.replication.user);
        let password = self.replication_password().map_err(|failure| Fault::Denied(failure.reason))?;
        server.run("SET SESSION sql_mode=''")?;
        server.run(&format!("SET GLOBAL clone_valid_donor_list={}", quoted(&format!("{host}:{port}"))))?;
        server.run_all(server.dialect().let_administrators_write(true))?;
        // Without a word it falls back to plain text.
        let tls = if self.params.replication.tls { " REQUIRE SSL" } else { "" };
        let statement =
            format!("CLONE INSTANCE FROM {}@{}:{port} IDENTIFIED BY {}{tls}", quoted(user), quoted(host), quoted(password.expose()));
        match server.run_within(&statement, context.deadline.left()) {
            Ok(()) => Ok(()),
            // It cannot restart itself, and ends.
            Err(Fault::Error(CLONED_AND_ENDS, _) | Fault::Broken(_)) => Ok(()),
            Err(Fault::Error(code, text)) => Err(Fault::Error(code, text.replace(password.expose(), "******"))),
            Err(fault) => Err(fault),
        }
    }

    /// Has a program fetch the data into the emptied data directory.
    fn fetch_copy(&self, context: &Context, primary: &str) -> Outcome {
        let datadir = &self.params.datadir;
        let program = self.params.copy_program.display().to_string();
        let host = self.address_of(context, primary);
        // Asked again when an attempt before this one has emptied everything: the reason is a better one than what fails on the way.
        self.check_program(context, primary, &host)?;
        // One that an attempt before this one has started with its copy, which was not whole.
        self.end_server()?;
        self.make_kept_directory()?;
        self.files(|files| files.directory(datadir)?.empty()).map_err(|e| {
            let (shown, user) = (datadir.display(), &self.params.user);
            Failure::permission(format!("datadir {shown} cannot be emptied by user {user}: {e}; chown -R {user} {shown}"))
        })?;
        for logs in self.noted_logs()? {
            self.files(|files| remove_logs(files, &logs))
                .map_err(|e| Failure::permission(format!("the logs {}.* cannot be removed: {e}", logs.display())))?;
        }
        context.log.notice(format!("replacing the data by a copy of {primary}'s: {program}"));
        let done = process::run(&program, &[&host, &datadir.display().to_string()], context.deadline.left())
            .map_err(|e| Failure::generic(format!("no copy of {primary}'s data: {e}")))?;
        if !done.status.success() {
            let last = done.stderr.lines().rfind(|l| !l.trim().is_empty()).unwrap_or_default();
            return Err(Failure::generic(format!(
                "no copy of {primary}'s data: {program} ended with {}: {last}; correct that, it is tried again",
                done.status
            )));
        }
        let Some(gtids) = self.backup_position() else {
            return Err(Failure::generic(format!(
                "{program} left no mariadb_backup_binlog_info in {}: without it nobody knows what the copy holds",
                datadir.display()
            )));
        };
        self.start_with_copy(context, primary, &Copied::ByProgram(gtids))
    }

    /// What a backup holds, by the note that mariadb-backup leaves: file, position, GTIDs.
    fn backup_position(&self) -> Option<String> {
        let read = |name: &str| self.files(|files| files.read(&self.params.datadir.join(name), LONGEST_NOTE)).ok();
        let text = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"].into_iter().find_map(read)?;
        position_in(&String::from_utf8_lossy(&text))
    }

    /// Starts the server with its new data and lets it follow whoever is the primary by now.
    fn start_with_copy(&self, context: &Context, source: &str, copied: &Copied) -> Outcome {
        let mut server = self.launch_and_connect(context)?;
        match copied {
            Copied::ByPlugin(before) => check_clone(&clone_status(&mut server)?, before)?,
            // It writes a table, on a disk that has just been filled.
            Copied::ByProgram(gtids) => server.run_within(&format!("SET GLOBAL gtid_slave_pos={}", quoted(gtids)), limits::STOPPING)?,
        }
        self.forget_rewind()?;
        self.files(|files| files.remove(&self.note())).map_err(|e| cannot_keep(&self.note(), e))?;
        context.log.notice(format!("the data are a copy of {source}'s now"));
        let (state, record) = self.speak_again()?;
        let primary = record.as_ref().map_or(source, |record| &record.node);
        self.follow(context, server, state, primary, record.as_ref())
    }

    pub(crate) fn address_of(&self, context: &Context, node: &str) -> String {
        if let Some(known) = self.state_file.load().addresses.get(node) {
            return known.clone();
        }
        let given = self.given_address(node).unwrap_or_else(|failure| {
            context.log.warning(failure.reason);
            None
        });
        given.unwrap_or_else(|| node.to_owned())
    }
}

/// How many bytes a program says that it will copy: its last line, when that is a number of KiB.
fn announced_in(said: &str) -> Option<u64> {
    said.lines().last()?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Who copies before `me`, if anybody does. `mine` is what this node has published: one that copies already goes before all that want to, and
/// of two that are at the same point, the first by name.
fn goes_before<'a>(me: &str, mine: Turn, told: &'a BTreeMap<String, String>) -> Option<&'a str> {
    let others = || told.iter().filter(|(node, _)| *node != me);
    let at = |turn: Turn| others().filter(move |(_, said)| Turn::parse(said) == Some(turn)).map(|(node, _)| node.as_str());
    let rivals = |turn| at(turn).find(|node| *node < me);
    if mine == Turn::Copies { rivals(Turn::Copies) } else { at(Turn::Copies).next().or_else(|| rivals(Turn::Wants)) }
}

/// Whether a path is below a directory, by its real name if it has one.
fn is_inside(files: &Files<'_>, path: &Path, directory: &Path) -> bool {
    let real = |path: &Path| files.real_path(path).unwrap_or_else(|_| path.to_owned());
    real(path).starts_with(real(directory))
}

/// Logs outside of the data directory, by the beginning of their names: those that name transactions of the data that go. They are emptied with
/// the data, since otherwise the copy would count as diverged as the data before it did, and the next copy after it.
///
/// # Errors
/// What a program that fills the data directory alone cannot replace.
fn logs_outside(files: &Files<'_>, places: &Places, datadir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut logs = Vec::new();
    for (name, path) in places {
        let (is_log, path) = (name.ends_with("_basename"), datadir.join(path));
        let directory = if is_log { path.parent().unwrap_or(&path) } else { &path };
        if is_inside(files, directory, datadir) {
            continue;
        }
        if !is_log {
            return Err(format!(
                "no copy can be made here: {name} is {}, outside of the data directory, and copy_program fills that one alone; make this replica anew by \
                 hand (docs/mysql.md), or put it into the data directory",
                path.display()
            ));
        }
        logs.push(path);
    }
    Ok(logs)
}

/// Removes the files whose names begin so, the dot included: `binlog.000001`, `binlog.index`, `binlog.state`.
fn remove_logs(files: &Files<'_>, basename: &Path) -> std::io::Result<()> {
    let (Some(directory), Some(name)) = (basename.parent(), basename.file_name()) else { return Ok(()) };
    let begin = format!("{}.", name.to_string_lossy());
    let directory = files.directory(directory)?;
    for name in directory.names()? {
        if name.to_string_lossy().starts_with(&begin) && directory.length(&name)?.is_some() {
            directory.remove(&name)?;
        }
    }
    Ok(())
}

/// What the server says of the last clone that was made into it.
fn clone_status(server: &mut Server) -> Result<Row, Fault> {
    Ok(server.rows("SELECT state, begin_time, error_no, error_message FROM performance_schema.clone_status")?.pop().unwrap_or_default())
}

/// A connection that broke is how a clone ends, and how a server dies in the middle of one: it says itself, after its start, which it was.
/// `before`: what it said before this clone.
fn check_clone(now: &Row, before: &Row) -> Outcome {
    let word = |name: &str| now.get(name).map(String::as_str).unwrap_or_default();
    if word("state") == "Completed" && now.get("begin_time") != before.get("begin_time") {
        return Ok(());
    }
    let state = if word("state").is_empty() || now == before { "not begun" } else { word("state") };
    Err(Failure::generic(format!("the copy is not whole: clone_status is {state} (error {}: {})", word("error_no"), word("error_message"))))
}

pub(crate) fn load_clone(server: &mut Server) -> Result<(), Fault> {
    if server.rows("SHOW GLOBAL VARIABLES LIKE 'clone_valid_donor_list'")?.is_empty() {
        server.install(&["INSTALL PLUGIN clone SONAME 'mysql_clone.so'"])?;
    }
    Ok(())
}

pub(crate) fn cannot_keep(path: &Path, e: std::io::Error) -> Failure {
    Failure::generic(format!("{}: {e}: the binary logs cannot be kept, so no copy is made; free space or correct the mode", path.display()))
}

fn position_in(text: &str) -> Option<String> {
    text.lines().next()?.split('\t').nth(2).map(|gtids| gtids.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    /// A server with nothing but these was said to have binary logs from before a copy.
    #[test]
    fn a_note_and_a_transaction_that_was_taken_back_are_no_binary_logs() {
        let others =
            ["reign", "names-that-were-taken-back", "taking-back-is-not-complete", "copy-is-not-complete", "taken-back-r0001-0-1-7"];
        for name in others {
            assert!(!super::is_kept_log(name), "{name}");
        }
        for name in ["binlog.000007", "taken-logs.000001", "reigns.000001", "logs-0001"] {
            assert!(super::is_kept_log(name), "{name}");
        }
        assert!(!super::is_kept_log(UNFINISHED_LOGS), "a process was killed while it kept them");
    }

    /// A server that was copied begins with the same names: the second of these replaced the first, which was nowhere else.
    #[test]
    fn logs_of_another_time_are_kept_beside() {
        let directory = std::env::temp_dir().join(format!("systole-kept-logs-{}", std::process::id()));
        let (data, kept) = (directory.join("data"), directory.join("kept"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(kept.join(UNFINISHED_LOGS)).unwrap();
        fs::write(kept.join("binlog.000001"), "of an agent before there were numbers").unwrap();
        let keep = |content: &str, names: &[&str], noted| {
            names.iter().for_each(|name| {
                let _ = fs::remove_file(data.join(name));
                fs::write(data.join(name), content).unwrap();
            });
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Account::own().act(|files| keep_logs(&files.directory(&data)?, &files.directory(&kept)?, &names, noted)).unwrap()
        };
        assert_eq!(keep("first", &["binlog.000001"], None), 1);
        assert_eq!(keep("second", &["binlog.000001"], None), 2);
        assert_eq!(keep("new server", &["binlog.000001", "binlog.000002"], Some(2)), 2, "again: it begins with the same names");
        let content = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
        assert_eq!(content("logs-0001/binlog.000001"), "first");
        assert_eq!(content("logs-0002/binlog.000001"), "second");
        assert_eq!(content("logs-0002/binlog.000002"), "new server");
        assert_eq!(content("binlog.000001"), "of an agent before there were numbers");
        let failed = Account::own().act(|files| keep_logs(&files.directory(&data)?, &files.directory(&kept)?, &["gone".to_owned()], None));
        assert!(failed.is_err() && !kept.join(UNFINISHED_LOGS).exists() && !kept.join("logs-0003").exists(), "nothing is left half");
        fs::create_dir(kept.join("logs-4294967295")).unwrap();
        let last = Account::own().act(|files| keep_logs(&files.directory(&data)?, &files.directory(&kept)?, &[], None));
        assert!(last.is_err_and(|e| e.to_string().contains("is the last number")));
        fs::remove_dir_all(directory).unwrap();
    }

    use super::*;
    use process::Account;
    use std::fs;

    #[test]
    fn the_backups_position_is_its_third_word() {
        assert_eq!(position_in("binlog.000002\t1234\t0-1-7,1-2-9\n").as_deref(), Some("0-1-7,1-2-9"));
        assert_eq!(position_in("binlog.000002\t1234\t\n").as_deref(), Some(""));
        assert_eq!(position_in("binlog.000002\t1234\n"), None);
    }

    #[test]
    fn a_program_may_say_how_much_it_copies() {
        assert_eq!(announced_in("1843200\n"), Some(1_887_436_800));
        assert_eq!(announced_in("a banner\n 4 \n"), Some(4096));
        for said in ["", "fine\n", "4 KiB\n", "-4\n", "18446744073709551615\n"] {
            assert_eq!(announced_in(said), None, "{said}");
        }
    }

    #[test]
    fn a_clone_that_did_not_end_is_no_copy() {
        let status =
            |state: &str, begin: &str| Row::from([("state".to_owned(), state.to_owned()), ("begin_time".to_owned(), begin.to_owned())]);
        assert!(check_clone(&status("Completed", "2"), &Row::new()).is_ok());
        assert!(check_clone(&status("Completed", "2"), &status("Failed", "1")).is_ok());
        assert!(check_clone(&status("In Progress", "2"), &Row::new()).unwrap_err().reason.contains("In Progress"));
        assert!(check_clone(&status("Completed", "1"), &status("Completed", "1")).is_err(), "that was an earlier one");
        assert!(check_clone(&Row::new(), &Row::new()).is_err());
    }

    #[test]
    fn one_copy_at_a_time() {
        let told =
            |all: &[(&str, &str)]| all.iter().map(|(node, said)| ((*node).to_owned(), (*said).to_owned())).collect::<BTreeMap<_, _>>();
        let before = |mine, all: &[(&str, &str)]| goes_before("b", mine, &told(all)).map(str::to_owned);
        assert_eq!(before(Turn::Wants, &[]), None);
        assert_eq!(before(Turn::Wants, &[("b", "wants"), ("c", "wants"), ("a", "no")]), None, "the first by name");
        assert_eq!(before(Turn::Wants, &[("a", "wants")]).as_deref(), Some("a"));
        assert_eq!(before(Turn::Wants, &[("c", "copies")]).as_deref(), Some("c"), "it is at it already");
        assert_eq!(before(Turn::Copies, &[("c", "copies")]), None, "both began in one moment");
        assert_eq!(before(Turn::Copies, &[("a", "copies")]).as_deref(), Some("a"));
        assert_eq!(before(Turn::Copies, &[("a", "wants")]), None);
    }

    #[test]
    fn logs_elsewhere_are_emptied_and_data_elsewhere_are_refused() {
        let places = |all: &[(&str, &str)]| all.iter().map(|(name, path)| ((*name).to_owned(), PathBuf::from(path))).collect::<Places>();
        let outside =
            |all: &[(&str, &str)]| Account::own().act(|files| Ok(logs_outside(files, &places(all), Path::new("/no/data")))).unwrap();
        assert_eq!(outside(&[("log_bin_basename", "/no/data/binlog"), ("innodb_undo_directory", "/no/data/./")]), Ok(vec![]));
        assert_eq!(outside(&[("log_bin_basename", "/no/log/binlog")]), Ok(vec![PathBuf::from("/no/log/binlog")]));
        assert!(outside(&[("innodb_log_group_home_dir", "/no/redo")]).unwrap_err().contains("innodb_log_group_home_dir is /no/redo"));
    }

    #[test]
    fn the_logs_of_one_name_go_and_others_stay() {
        let directory = std::env::temp_dir().join(format!("systole-logs-{}", std::process::id()));
        fs::create_dir_all(directory.join(KEPT)).unwrap();
        for name in ["binlog.000001", "binlog.index", "binlog.state", "binlog-of-another.000001", "mysql.err"] {
            fs::write(directory.join(name), "").unwrap();
        }
        Account::own().act(|files| remove_logs(files, &directory.join("binlog"))).unwrap();
        let mut left: Vec<String> =
            fs::read_dir(&directory).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        left.sort();
        assert_eq!(left, ["binlog-of-another.000001", "mysql.err", KEPT]);
        fs::remove_dir_all(directory).unwrap();
    }
}
