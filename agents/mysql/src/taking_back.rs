//! `rejoin=rewind`: a server that has diverged takes back what nobody was told of, and follows.
//!
//! How it is done is `rewind`'s, and who may is `reign`'s. Here is the order, each step of which may be the last: what is taken back is kept
//! beside the data; the note says that it is in the middle; rows are compared with the log; they are taken back, in one transaction; the GTID
//! state is set; a MySQL gets another server_uuid; it follows, and acknowledges nothing; the rows are compared with the primary's; the note goes.
//! Whoever comes after a kill asks the server how far it came, and goes on there.

use std::path::PathBuf;
use std::time::Instant;

use ocf::{Context, Failure, Outcome};
use serde::{Deserialize, Serialize};

use crate::agent::MySql;
use crate::dialect::Row;
use crate::election::{self, Divergence};
use crate::engine::{Local, fault_point};
use crate::gtid::{Flavour, Gtids};
use crate::limits;
use crate::record::Record;
use crate::reign::{self, Note, Written};
use crate::rejoin::Halt;
use crate::rewind::{self, Family, Limits, Plan, Progress, Refusal, Session, Tail, Touched};
use crate::server::{Fault, Server};

/// More than any note of ours beside the data: the rows that are compared stand in it. Bytes.
const LONGEST_NOTE: u64 = 256 * 1024 * 1024;
/// More than all that is taken back: what clients commit in a moment is a part of this. Bytes.
const MOST_BYTES: usize = 64 << 20;
/// The note of a reign, beside the data.
pub(crate) const REIGN: &str = "reign";
/// The note of the names of MariaDB's transactions that were taken back.
pub(crate) const GIVEN_UP: &str = "names-that-were-taken-back";
/// What another rewind has left.
const OF_ANOTHER: &str = "the database systole_rewind holds the mark of another server's rewind: SET sql_log_bin=0 and DROP DATABASE systole_rewind, \
                          when the data of this server are known to be whole";
/// Nothing can be proven of it.
const NOT_TO_BE_COMPARED: &str =
    "something was taken back here, and the note of what is damaged: make this replica anew (docs/mysql.md), or set rejoin=clone";
/// How often rows may differ in a row, while those of the primary stand still, before they count as others.
const DIFFER: u32 = 3;

/// What is in the middle, in a file beside the data.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Rewind {
    /// Who wrote what is taken back.
    server: String,
    gtids: Vec<String>,
    /// What is compared with the primary when this server has caught up.
    touched: Vec<Touched>,
    /// The table whose rows were not the primary's.
    differs: Option<String>,
    /// The note is there and cannot be read: nobody knows what it was about.
    #[serde(skip)]
    damaged: bool,
}

/// What is to be done, and under which record that was found right.
struct Planned {
    plan: Plan,
    common: String,
    rewind: Rewind,
    record: Record,
}

/// The agent's account, on the way to take something back: a statement may take as long as its rows do.
struct Administrator<'a>(&'a mut Server);

impl Session for Administrator<'_> {
    fn rows(&mut self, sql: &str) -> Result<Vec<Row>, String> {
        self.0.rows_within(sql, limits::REWINDING).map_err(|fault| match fault {
            Fault::Denied(words) => format!("{words}; what taking back needs stands in docs/mysql.md"),
            other => other.to_string(),
        })
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

impl Halt {
    fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

impl MySql {
    fn rewind_note(&self) -> PathBuf {
        self.kept_directory().join("taking-back-is-not-complete")
    }

    /// Whether taking back was begun and not ended.
    pub(crate) fn rewind_note_is_there(&self) -> bool {
        // What cannot be told does not count as whole.
        self.files(|files| files.exists(&self.rewind_note())).unwrap_or(true)
    }

    /// The data are others: nothing of that is in the middle any more.
    pub(crate) fn forget_rewind(&self) -> Outcome {
        self.remove_note(&self.rewind_note())
    }

    fn read_rewind(&self) -> Result<Option<Rewind>, Failure> {
        let note = self.rewind_note();
        match self.files(|files| files.read(&note, LONGEST_NOTE)) {
            // One that was damaged says at least that it was begun.
            Ok(text) => Ok(Some(serde_json::from_slice(&text).unwrap_or(Rewind { damaged: true, ..Rewind::default() }))),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.unreadable(&note, &e)),
        }
    }

    fn unreadable(&self, note: &std::path::Path, e: &std::io::Error) -> Failure {
        let (note, user, directory) = (note.display(), &self.params.user, self.kept_directory());
        Failure::permission(format!("what was begun here cannot be told: {note}: {e}; chown -R {user} {}", directory.display()))
    }

    fn write_rewind(&self, rewind: &Rewind) -> Outcome {
        let text = serde_json::to_vec(rewind).map_err(|e| Failure::generic(e.to_string()))?;
        self.write_note(&self.rewind_note(), &text)
    }

    fn write_note(&self, note: &std::path::Path, text: &[u8]) -> Outcome {
        self.make_kept_directory()?;
        let said =
            |e: std::io::Error| Failure::generic(format!("{}: {e}: this cannot be noted; free space or correct the mode", note.display()));
        self.files(|files| files.write(note, text, 0o600)).map_err(said)
    }

    fn remove_note(&self, note: &std::path::Path) -> Outcome {
        // What lies beside the data may be on another disk than these: nothing that is written to the data later carries it along.
        match self.files(|files| files.remove_durably(note)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::generic(format!("{} cannot be removed: {e}", note.display())))
            }
            _ => Ok(()),
        }
    }

    fn reign_note(&self) -> PathBuf {
        self.kept_directory().join(REIGN)
    }

    /// Notes beside the data that this server reigns.
    pub(crate) fn note_reign(&self, server: &mut Server, note: Note) -> Result<(), Fault> {
        let note = Note { log: server.log_file()?, ..note };
        self.write_note(&self.reign_note(), note.to_string().as_bytes()).map_err(|failure| Fault::Refused(failure.reason))
    }

    /// Takes away what was noted of a reign.
    pub(crate) fn forget_reign(&self) -> Outcome {
        self.remove_note(&self.reign_note())
    }

    fn read_reign(&self) -> Option<Note> {
        let text = self.files(|files| files.read(&self.reign_note(), 4096)).ok()?;
        Note::parse(&String::from_utf8_lossy(&text))
    }

    fn given_up_note(&self) -> PathBuf {
        self.kept_directory().join(GIVEN_UP)
    }

    /// The names of MariaDB's transactions that were taken back here; `?` when they cannot be read.
    pub(crate) fn given_up(&self) -> Option<String> {
        match self.files(|files| files.read(&self.given_up_note(), 1 << 20)) {
            Ok(text) => Some(String::from_utf8_lossy(&text).trim().to_owned()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(_) => Some("?".to_owned()),
        }
    }

    /// MariaDB counts on from what it holds. `names`: what it holds now and may not hold in a moment, beside what was noted before.
    pub(crate) fn note_given_up(&self, names: &Gtids) -> Outcome {
        let before = self.given_up().and_then(|text| Gtids::parse_any(&text).ok()).unwrap_or_default();
        self.write_note(&self.given_up_note(), before.union(names).to_string().as_bytes())
    }

    /// Takes back what this server has and the primary has not, if nobody can have been told of it, and has it follow.
    ///
    /// # Errors
    /// Why it does not follow. What the data are then, the note says.
    pub(crate) fn take_back(&self, context: &Context, primary: &str) -> Result<(), Halt> {
        let done = self.take_back_and_follow(context, primary);
        if done.is_err() {
            // Closed for everybody until the next attempt, if the server answers.
            let server = self.connect(self.state_file.load().dialect(), limits::ANSWER);
            let _ = server.and_then(|mut server| server.run_all(server.dialect().let_administrators_write(false)));
        }
        done
    }

    fn take_back_and_follow(&self, context: &Context, primary: &str) -> Result<(), Halt> {
        let mut server = self.server_to_rejoin(context)?;
        let begun = self.read_rewind()?;
        if let Some(table) = begun.as_ref().and_then(|rewind| rewind.differs.as_ref()) {
            return Err(Halt::refused(differs(table)));
        }
        if begun.is_some() {
            self.demand_privileges(&mut server)?;
        }
        self.rest(&mut server)?;
        let progress = rewind::progress(&mut Administrator(&mut server)).map_err(failed)?;
        let rewind = match (progress, begun) {
            (Progress::Committed { common, tail }, Some(rewind)) if rewind.gtids.join(",") == tail => {
                self.finish(&mut server, &common, &rewind.gtids)?;
                rewind
            }
            // It came with data from elsewhere, or the note was lost: what is in it says nothing of this server.
            (Progress::Committed { .. }, _) => return Err(Halt::refused(OF_ANOTHER)),
            (_, begun) => {
                let Some(record) = self.record()? else { return Err(Halt::refused("no primary is recorded")) };
                if record.decided() {
                    return Err(Failure::generic("an operator has decided which data are right, and nobody was promoted since").into());
                }
                let seen = server.observe()?;
                match begun.filter(|_| election::errant(&seen.executed, &record).is_none()) {
                    Some(rewind) if rewind.damaged => return Err(Halt::refused(NOT_TO_BE_COMPARED)),
                    // A run before this one got as far as the GTID state.
                    Some(rewind) => rewind,
                    None => {
                        server.run_all(server.dialect().let_administrators_write(false))?;
                        let Some(diverged) = self.diverged(context, server, primary)? else { return Ok(()) };
                        server = diverged;
                        self.demand_privileges(&mut server)?;
                        server.run_all(server.dialect().let_administrators_write(true))?;
                        self.begin(context, &mut server)?
                    }
                }
            }
        };
        server.run_all(server.dialect().let_administrators_write(false))?;
        server = self.renamed(context, server, &rewind)?;
        fault_point("rewind-renamed");
        self.prove(context, server, &rewind)
    }

    /// Before anything is touched: a table that the account may not see looks as if it were not there, and so does a foreign key.
    fn demand_privileges(&self, server: &mut Server) -> Result<(), Halt> {
        let granted = server.granted()?;
        match granted.missing_to_take_back(server.dialect(), &self.params.test_user) {
            None => Ok(()),
            Some(missing) => Err(Halt::refused(missing)),
        }
    }

    /// Closed but for administrators, and following nobody. Events do not run on what is no primary.
    fn rest(&self, server: &mut Server) -> Outcome {
        server.run(server.dialect().close_writes())?;
        // To switch it off needs SUPER on MariaDB, and on a replica it is off.
        if server.observe()?.events_run {
            server.run(server.dialect().event_scheduler(false))?;
        }
        server.run_within(server.dialect().stop_replica(), limits::STOPPING)?;
        Ok(server.run_all(server.dialect().let_administrators_write(true))?)
    }

    fn finish(&self, server: &mut Server, common: &str, gtids: &[String]) -> Result<(), Halt> {
        let family = family(server);
        nobody_wrote_besides(server, common, gtids)?;
        Ok(rewind::finish(&mut Administrator(server), family, common).map_err(failed)?)
    }

    /// From the beginning to the GTID state. Where it is refused, everything is as it was.
    fn begin(&self, context: &Context, server: &mut Server) -> Result<Rewind, Halt> {
        let planned = match self.plan(context, server) {
            Ok(planned) => planned,
            // Where the connection broke, it is tried again over another.
            Err(halt) => return Err(self.abandon(server, halt)),
        };
        fault_point("rewind-noted");
        let common = planned.common.clone();
        let rewind = match self.carry_out(context, server, planned) {
            Ok(rewind) => rewind,
            Err(halt) => return Err(self.unless_committed(server, halt)),
        };
        fault_point("rewind-committed");
        self.finish(server, &common, &rewind.gtids)?;
        fault_point("rewind-finished");
        Ok(rewind)
    }

    /// What is to be taken back, if it may be. The note is written.
    fn plan(&self, context: &Context, server: &mut Server) -> Result<Planned, Halt> {
        let Some(record) = self.record()? else { return Err(Halt::refused("no primary is recorded")) };
        let seen = server.observe()?;
        let index = server.log_index()?;
        let limits = Limits { transactions: self.params.rewind_limit, bytes: MOST_BYTES, rows: self.params.rewind_rows };
        let is_common = |gtid: &str| reign::is_common(gtid, &record);
        let tail = self
            .files(|files| Ok(Tail::read(files, &index, limits, &is_common)))
            .map_err(|e| Failure::permission(format!("{}: {e}", index.display())))??;
        let family = family(server);
        let common = rewind::common_point(&mut Administrator(server), family, &tail)?;
        let explained = Gtids::parse(&common, server.dialect().flavour).map_err(Halt::Refused)?;
        let errant = match election::divergence(&seen.executed, &seen.server, &record) {
            Some(Divergence::Errant(errant)) => errant,
            Some(Divergence::Lost(_)) => return Err(Halt::refused("it has lost what it wrote itself, and there is nothing to take back")),
            None => return Err(Halt::refused("it has not diverged any more")),
        };
        if tail.transactions.is_empty() || election::errant(&explained, &record).is_some() {
            return Err(Halt::refused(format!("not all of {errant} is at the end of its binary logs")));
        }
        let me = self.node()?;
        reign::may_take_back(self.read_reign().as_ref(), &record, me, &seen.server, |note| Written::of(&tail, note))
            .map_err(|denial| Halt::refused(denial.to_string()))?;
        let plan = Plan::of(&tail, limits)?;
        rewind::check(&mut Administrator(server), &plan)?;
        let mut primary = self.ask_primary(context, &record)?;
        for touches in &plan.tables {
            let what =
                format!("SELECT 1 FROM `{}`.`{}` LIMIT 0", touches.table.schema.replace('`', "``"), touches.table.name.replace('`', "``"));
            primary.run(&what).map_err(|fault| self.not_compared(&record.node, fault))?;
        }
        self.make_kept_directory()?;
        let kept = self
            .files(|files| Ok(rewind::keep(files, &self.kept_directory(), &tail)))
            .map_err(|e| Failure::permission(e.to_string()))??;
        self.tell_doing(context, format!("taking back {} transactions that {} does not have", plan.gtids.len(), record.node));
        for (gtid, path) in plan.gtids.iter().zip(&kept) {
            context.log.notice(format!("taking back {gtid}, which is kept as {}", path.display()));
        }
        let rewind = Rewind { server: seen.server, gtids: plan.gtids.clone(), ..Rewind::default() };
        self.write_rewind(&rewind)?;
        if family == Family::MariaDb {
            let names = rewind.gtids.iter().filter_map(|gtid| Gtids::parse_any(gtid).ok());
            self.note_given_up(&names.fold(Gtids::default(), |all, one| all.union(&one)))?;
        }
        Ok(Planned { plan, common, rewind, record })
    }

    fn carry_out(&self, context: &Context, server: &mut Server, planned: Planned) -> Result<Rewind, Halt> {
        let Planned { plan, common, rewind, record } = planned;
        let touched = rewind::prepare(&mut Administrator(server), &plan)?;
        let mut primary = self.ask_primary(context, &record)?;
        for one in &touched {
            // Whether it can be compared afterwards: a column may have gone there meanwhile.
            fingerprint(&mut primary, one)?;
        }
        let rewind = Rewind { touched, ..rewind };
        self.write_rewind(&rewind)?;
        fault_point("rewind-prepared");
        nobody_wrote_besides(server, &common, &rewind.gtids)?;
        // To look at all these rows may have taken long: another may be the primary by now, by an operator's decision even this one.
        if !self.record()?.is_some_and(|now| reign::is_same_reign(&now, &record)) {
            return Err(
                Failure::generic("another primary was recorded meanwhile: whether these transactions may go is found out anew").into()
            );
        }
        rewind::take_back(&mut Administrator(server), &plan, &common)?;
        Ok(rewind)
    }

    /// It is the server that knows whether it was done. Where it cannot say that now, or where it was, the next attempt asks it.
    fn unless_committed(&self, server: &mut Server, halt: Halt) -> Halt {
        let mut progress = rewind::progress(&mut Administrator(server));
        if progress.is_err() {
            // An answer that is too long, or late, ends the connection.
            if let Ok(another) = self.connect(self.state_file.load().dialect(), limits::ANSWER) {
                *server = another;
                progress = rewind::progress(&mut Administrator(server));
            }
        }
        match (progress, halt) {
            (Ok(Progress::Nothing | Progress::Begun), halt) => self.abandon(server, halt),
            (_, Halt::Refused(why)) => Halt::Failed(Failure::generic(why)),
            (_, failed) => failed,
        }
    }

    /// Nothing was taken back: everything is as it was.
    fn abandon(&self, server: &mut Server, halt: Halt) -> Halt {
        let removed = rewind::abandon(&mut Administrator(server)).map_err(failed);
        let closed = removed.and_then(|()| Ok(server.run_all(server.dialect().let_administrators_write(false))?));
        match closed.and_then(|()| self.remove_note(&self.rewind_note())) {
            Ok(()) => halt,
            Err(failure) => Halt::Failed(failure),
        }
    }

    /// The names of what was taken back are not given to what is written here one day: a MySQL gets another server_uuid.
    fn renamed(&self, context: &Context, mut server: Server, rewind: &Rewind) -> Result<Server, Failure> {
        let another = !rewind.server.is_empty() && server.observe()?.server != rewind.server;
        if server.dialect().flavour != Flavour::MySql || another {
            return Ok(server);
        }
        drop(server);
        self.end_server()?;
        self.forget_server_uuid()?;
        self.launch_and_connect(context)
    }

    /// It follows, acknowledges nothing yet, and the rows are compared.
    fn prove(&self, context: &Context, server: Server, rewind: &Rewind) -> Result<(), Halt> {
        let Some(record) = self.record()? else { return Err(Failure::generic("no primary is recorded").into()) };
        let mut state = self.state_file.load();
        // Under a later record only, and that comes when it asks for one.
        state.memory.start_over(Some(record.stamp()));
        self.act_by(Local::over(self, context, server), context, &self.rules(context), state, |i| i.follow_unproven(&record))?;
        fault_point("rewind-follows");
        self.tell_doing(
            context,
            format!("{} transactions are taken back; comparing their rows with those on {}", rewind.gtids.len(), record.node),
        );
        if let Some(table) = self.compare(context, &record, &rewind.touched)? {
            let mut server = self.connect(self.state_file.load().dialect(), limits::ANSWER)?;
            server.run_within(server.dialect().stop_replica(), limits::STOPPING)?;
            self.write_rewind(&Rewind { differs: Some(table.clone()), ..rewind.clone() })?;
            return Err(Halt::refused(differs(&table)));
        }
        self.remove_note(&self.rewind_note())?;
        context.log.notice(format!(
            "{} transactions were taken back, and all their rows are as on {}; they are kept in {}",
            rewind.gtids.len(),
            record.node,
            self.kept_directory().display()
        ));
        Ok(())
    }

    /// A connection to the primary, with the account of replication.
    fn ask_primary(&self, context: &Context, record: &Record) -> Result<Server, Halt> {
        let replication = &self.params.replication;
        if replication.tls {
            return Err(Halt::refused("with replication_require_ssl=yes the rows cannot be compared with the primary's afterwards"));
        }
        let host = self.address_of(context, &record.node);
        let password = self.replication_password()?;
        Server::connect_to(&host, replication.port, &replication.user, &password, limits::ANSWER)
            .map_err(|fault| self.not_compared(&record.node, fault))
    }

    fn not_compared(&self, primary: &str, fault: Fault) -> Halt {
        let user = &self.params.replication.user;
        match fault {
            Fault::Denied(_) | Fault::Error(1044 | 1045 | 1142 | 1143, _) => Halt::refused(format!(
                "the rows could not be compared with those on {primary} afterwards: GRANT SELECT ON *.* TO {user} ({fault})"
            )),
            Fault::Error(..) => Halt::refused(format!("the rows could not be compared with those on {primary} afterwards: {fault}")),
            other => Halt::Failed(other.into()),
        }
    }

    /// The table whose rows are not the primary's, if there is one.
    fn compare(&self, context: &Context, record: &Record, touched: &[Touched]) -> Result<Option<String>, Halt> {
        for one in touched {
            let mut differs = 0;
            let begin = Instant::now();
            loop {
                match self.compared(context, record, one)? {
                    Compared::Equal => break,
                    Compared::Moving if begin.elapsed() > limits::MOVING => {
                        context.log.warning(format!("rows of {} change too often to be compared", one.table));
                        break;
                    }
                    Compared::Moving => differs = 0,
                    Compared::Different => differs += 1,
                }
                if differs >= DIFFER {
                    return Ok(Some(one.table.clone()));
                }
                std::thread::sleep(limits::COMPARING_STEP);
            }
        }
        Ok(None)
    }

    /// The rows here, between two looks at the primary's: this server is never ahead of that one, and not behind the first look.
    fn compared(&self, context: &Context, record: &Record, touched: &Touched) -> Result<Compared, Halt> {
        let mut primary = self.ask_primary(context, record)?;
        let before = fingerprint(&mut primary, touched)?;
        let wanted = primary.executed()?;
        let mut server = self.connect(self.state_file.load().dialect(), limits::ANSWER)?;
        let until = Instant::now() + limits::CATCHING_UP;
        while !server.executed()?.contains(&wanted) {
            if let Some(why) = server.replica()?.and_then(|replica| replica.broken()) {
                return Err(Failure::generic(why).into());
            }
            if Instant::now() > until {
                return Err(Failure::generic(format!("this server does not catch up with {}", record.node)).into());
            }
            std::thread::sleep(limits::COMPARING_STEP);
        }
        let here = fingerprint(&mut server, touched)?;
        if here == before {
            return Ok(Compared::Equal);
        }
        let after = fingerprint(&mut primary, touched)?;
        Ok(if here == after {
            Compared::Equal
        } else if before == after {
            Compared::Different
        } else {
            Compared::Moving
        })
    }
}

/// What came of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    Equal,
    Different,
    /// The primary's changed meanwhile.
    Moving,
}

fn fingerprint(server: &mut Server, touched: &Touched) -> Result<String, Halt> {
    rewind::fingerprint(&mut Administrator(server), touched).map_err(|refusal| {
        // A server that is there and does not answer this will not with the next attempt.
        match server.run("DO 1") {
            Ok(()) => Halt::refused(format!(
                "rows of {} cannot be compared ({refusal}): make this replica anew (docs/mysql.md), or set rejoin=clone",
                touched.table
            )),
            Err(_) => Halt::Failed(failed(refusal)),
        }
    })
}

/// Nobody has written here but what is taken back: it would be forgotten with it, and whoever wrote it was told that it is done.
fn nobody_wrote_besides(server: &mut Server, common: &str, gtids: &[String]) -> Result<(), Halt> {
    let flavour = server.dialect().flavour;
    let parse = |text: &str| Gtids::parse(text, flavour).map_err(Halt::Refused);
    let mut known = parse(common)?;
    for gtid in gtids {
        known = known.union(&parse(gtid)?);
    }
    if flavour == Flavour::MariaDb {
        // Of before its reign, by replication: where the log is forgotten and the new position is not set yet, it is all that is left.
        let row = server.rows("SELECT @@global.gtid_slave_pos AS gtids")?.pop().unwrap_or_default();
        known = known.union(&parse(row.get("gtids").map(String::as_str).unwrap_or_default())?);
    }
    match server.executed()?.difference(&known) {
        None => Ok(()),
        Some(others) => Err(Halt::refused(format!(
            "{others} was written here by hand while transactions were taken back: make this replica anew (docs/mysql.md)"
        ))),
    }
}

fn failed(refusal: Refusal) -> Failure {
    Failure::generic(refusal.to_string())
}

fn family(server: &Server) -> Family {
    match server.dialect().flavour {
        Flavour::MySql => Family::MySql,
        Flavour::MariaDb => Family::MariaDb,
    }
}

fn differs(table: &str) -> String {
    format!("after taking back, rows of {table} are not as on the primary: make this replica anew (docs/mysql.md), or set rejoin=clone")
}
