//! Who may be taken back: what a server wrote in a reign of its own, of which nobody can have been told. Pure.
//!
//! The invariant: *what the primary does not have, of an epoch since which nothing was given up (`Record::unbroken`), no client was told of.*
//! A primary elected by what was acknowledged holds all that clients saw succeed in the epoch before, and each one since has held that. So the
//! end of the log of a server that reigned in such an epoch may go, as far as it was written in that reign: what somebody wrote there by hand
//! before or after it was answered at once. The record does not say what a server wrote when: a primary notes beside its data that it reigns,
//! and in which file of its log ([`Note`]), and the log says where a process of the server ended, and how.
//!
//! The disk of the dead primary has no part in this, so a relaxed one (`sync_binlog`, `innodb_flush_log_at_trx_commit`) breaks no account: clients
//! are told when replicas have acknowledged, whatever that disk holds; and who was elected by what that disk holds has all of it, so that there is
//! no tail. It can only have lost something of a tail. docs/decisions/0042 goes through the cases.

use std::fmt;

use crate::election::{self, Reign};
use crate::gtid::Gtids;
use crate::record::{Durability, Record, Unbroken};
use crate::rewind::{LogFile, Tail};

/// What a primary notes beside its data once its reign is recorded. It goes when it is demoted in order, or follows somebody.
///
/// As text: `epoch=7 unbroken=3:1a2b3c4d server=11 log=binlog.000012`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Note {
    /// Of the reign.
    pub(crate) epoch: u64,
    /// As in its record.
    pub(crate) unbroken: Unbroken,
    /// Who writes: as in the record.
    pub(crate) server: String,
    /// The file of the log that was written to when this was noted, by its name.
    pub(crate) log: String,
}

impl Note {
    /// Of a reign of which account is kept.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let unbroken = record.unbroken.filter(|unbroken| unbroken.since <= record.epoch)?;
        Some(Self { epoch: record.epoch, unbroken, server: record.server.clone()?, log: String::new() })
    }

    /// Reads a note, `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let word = |name: &str| text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        Some(Self {
            epoch: word("epoch")?.parse().ok()?,
            unbroken: Unbroken::parse(word("unbroken")?)?,
            server: word("server")?.to_owned(),
            log: word("log")?.to_owned(),
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch={} unbroken={} server={} log={}", self.epoch, self.unbroken, self.server, self.log)
    }
}

/// What the log says of how a tail was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// All of it by the server of the note.
    pub(crate) by_itself: bool,
    /// Behind the note, and by the process that was there then.
    pub(crate) in_the_reign: bool,
    /// Another process has begun a file since: that one is gone.
    pub(crate) process_is_gone: bool,
    /// A process was shut down in order behind a transaction of it. That answers clients that wait for a replica.
    pub(crate) shut_down: bool,
}

impl Written {
    /// As the files of the log say.
    pub(crate) fn of(tail: &Tail, note: &Note) -> Self {
        let place = |path: &str| tail.files.iter().position(|file| file.path == path);
        let places: Vec<Option<usize>> = tail.transactions.iter().map(|one| place(&one.file)).collect();
        let by_itself = tail.gtids().all(|gtid| writer(gtid) == Some(note.server.as_str()));
        let (Some(Some(first)), Some(Some(last))) = (places.first(), places.last()) else {
            return Self { by_itself, in_the_reign: false, process_is_gone: false, shut_down: true };
        };
        Self::at(by_itself, &tail.files, *first, *last, &note.log)
    }

    /// The same of a tail that stands in these files from the `first` to the `last`.
    fn at(by_itself: bool, files: &[LogFile], first: usize, last: usize, log: &str) -> Self {
        let number =
            |path: &str| path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(base, n)| (base.to_owned(), n.parse().ok()));
        let noted: Option<(String, Option<u64>)> = number(log);
        let behind = |file: &LogFile| match (number(&file.path), &noted) {
            (Some((base, Some(n))), Some((noted, Some(at)))) => base == *noted && n >= *at,
            _ => false,
        };
        let is_noted = |file: &LogFile| file.path.rsplit('/').next() == Some(log);
        // The file of the note was begun by the process that noted it; a later one that a process began was begun by another.
        let another = |file: &LogFile| file.begins_a_process && !is_noted(file);
        let of_tail = files.get(first..=last).unwrap_or_default();
        Self {
            by_itself,
            in_the_reign: !of_tail.is_empty() && of_tail.iter().all(|file| behind(file) && !another(file)),
            process_is_gone: files.get(last + 1..).unwrap_or_default().iter().any(|file| file.begins_a_process),
            // What filled the file of the tail is answered before the log goes on in the next one, where the shutdown may stand alone.
            shut_down: files
                .iter()
                .enumerate()
                .skip(first)
                .take_while(|(at, file)| *at <= last || !another(file))
                .any(|(_, f)| f.shut_down),
        }
    }
}

/// Who wrote a transaction, by its name: `uuid:7`, `uuid:tag:7` or `0-11-7`.
fn writer(gtid: &str) -> Option<&str> {
    if let Some((uuid, _)) = gtid.split_once(':') {
        return Some(uuid);
    }
    gtid.split('-').nth(1).filter(|_| gtid.split('-').count() == 3)
}

/// Why nothing is taken back, though it may be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// An operator has decided which data are right.
    Decided,
    /// The record is of this server, or of the epoch of its reign.
    NotOver,
    /// The server noted no reign.
    NotNoted,
    /// It is another server than the one that noted it.
    Another,
    /// Others wrote some of it.
    OfOthers,
    /// It was written before or after the reign.
    ByHand,
    /// The process that wrote it has not ended.
    Lives,
    /// A shutdown answered clients.
    ShutDown,
    /// The record keeps no account.
    NoAccount,
    /// Something was given up since.
    Broken,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decided => "somebody may have been told of them: an operator has decided which data are right",
            Self::NotOver => "the reign in which they were written is not over",
            Self::NotNoted => "somebody may have been told of them: this server has noted no reign in which it wrote them",
            Self::Another => "somebody may have been told of them: the server has another name than in its last reign",
            Self::OfOthers => "some of them were written by other servers",
            Self::ByHand => "somebody may have been told of them: they were not written while this server was the primary",
            Self::Lives => "somebody may have been told of them: the server has not ended since it wrote them",
            Self::ShutDown => "somebody may have been told of them: the server was shut down behind them, which answers clients that wait",
            Self::NoAccount => {
                "somebody may have been told of them: the record keeps no account of that yet; it does from the first promotion after rejoin was set"
            }
            Self::Broken => {
                "somebody may have been told of them: since they were written an operator decided, or a primary acknowledged without a replica"
            }
        })
    }
}

/// Whether nobody can have been told of what a server wrote and the primary does not have. `me`: its node, `server`: who it is now.
///
/// # Errors
/// Why somebody may have been.
pub(crate) fn may_take_back(
    note: Option<&Note>,
    record: &Record,
    me: &str,
    server: &str,
    written: impl FnOnce(&Note) -> Written,
) -> Result<(), Denial> {
    if record.decided() {
        return Err(Denial::Decided);
    }
    let note = note.ok_or(Denial::NotNoted)?;
    if note.server != server {
        return Err(Denial::Another);
    }
    if record.node == me || record.epoch <= note.epoch {
        return Err(Denial::NotOver);
    }
    let unbroken = record.unbroken.ok_or(Denial::NoAccount)?;
    if unbroken != note.unbroken || note.epoch < unbroken.since {
        return Err(Denial::Broken);
    }
    let written = written(note);
    match written {
        Written { by_itself: false, .. } => Err(Denial::OfOthers),
        Written { in_the_reign: false, .. } => Err(Denial::ByHand),
        Written { process_is_gone: false, .. } => Err(Denial::Lives),
        Written { shut_down: true, .. } => Err(Denial::ShutDown),
        _ => Ok(()),
    }
}

/// Whether what was found right under one record is right under another: [`may_take_back`] and [`is_common`] ask for nothing else, and the
/// set of a reign only grows.
pub(crate) fn is_same_reign(one: &Record, other: &Record) -> bool {
    let asked = |r: &Record| (r.decided(), r.epoch, r.node.clone(), r.server.clone(), r.unbroken);
    asked(one) == asked(other)
}

/// Rule H: from which epoch on nothing that a client was told of was given up. A primary holds all that may have been acknowledged in the epoch
/// before when it was elected by that: not when an operator has decided, when loss was allowed, or when nobody is recorded. What was so in an
/// epoch of which no account was kept is not known.
pub(crate) fn unbroken(before: Option<&Record>, reign: &Reign<'_>, epoch: u64) -> Unbroken {
    let told_of_all = |r: &&Record| !r.decided() && r.durability == Durability::Lossless;
    let begun = before.filter(told_of_all).and_then(|r| r.unbroken);
    match reign.durability {
        // What this one writes may be told of before anybody has it: its successor begins anew.
        Durability::Lossless if !reign.waits => Unbroken::begin(epoch.saturating_add(1), reign.set),
        Durability::Lossless | Durability::AsyncAllowed => begun.unwrap_or_else(|| Unbroken::begin(epoch, reign.set)),
    }
}

/// The record of a primary that told somebody of what it alone had, or may have: from the next epoch on that is not so any more. `None` when
/// nobody keeps account, or it stands there already.
pub(crate) fn broken(record: &Record, set: &Gtids) -> Option<Record> {
    let next = record.epoch.saturating_add(1);
    let stands = record.unbroken.filter(|unbroken| unbroken.since < next);
    stands.map(|_| Record { unbroken: Some(Unbroken::begin(next, set)), ..election::rewritten(record, set) })
}

/// Whether a transaction is one that the primary has, by its record.
pub(crate) fn is_common(gtid: &str, record: &Record) -> bool {
    Gtids::parse_any(gtid).is_ok_and(|set| election::errant(&set, record).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: &str = "3:1a2b3c4d";

    fn record(words: &str) -> Record {
        Record::parse(&format!("epoch=8 change=1 node=b server=12 durability=lossless active=c {words} set=0-11-40")).unwrap()
    }

    fn note() -> Note {
        Note::parse(&format!("epoch=7 unbroken={MARK} server=11 log=binlog.000004")).unwrap()
    }

    const RIGHT: Written = Written { by_itself: true, in_the_reign: true, process_is_gone: true, shut_down: false };

    fn denied(note: Option<&Note>, record: &Record, written: Written) -> Option<Denial> {
        may_take_back(note, record, "a", "11", |_| written).err()
    }

    #[test]
    fn a_note_reads_back() {
        assert_eq!(Note::parse(&note().to_string()), Some(note()));
        for text in ["", "epoch=7", "epoch=x unbroken=3:0 server=11 log=b.1", "epoch=7 unbroken=3 server=11 log=b.1"] {
            assert_eq!(Note::parse(text), None, "{text}");
        }
        let reigns = |unbroken: &str| Record::parse(&format!("epoch=7 node=a server=11{unbroken} set=")).unwrap();
        assert_eq!(Note::of(&reigns(" unbroken=7:0")).map(|note| note.epoch), Some(7));
        assert_eq!(Note::of(&reigns(" unbroken=3:0")).map(|note| note.epoch), Some(7), "since an epoch before");
        assert_eq!(Note::of(&reigns("")), None, "nobody keeps account");
        assert_eq!(Note::of(&reigns(" unbroken=8:0")), None, "somebody was told of what it alone had");
    }

    #[test]
    fn what_nobody_was_told_of_goes() {
        let kept = record(&format!("unbroken={MARK}"));
        assert_eq!(denied(Some(&note()), &kept, RIGHT), None);
        assert_eq!(denied(Some(&Note { epoch: 3, ..note() }), &kept, RIGHT), None, "of the first epoch of the account");
    }

    #[test]
    fn what_somebody_may_have_been_told_of_stays() {
        let (good, kept) = (note(), record(&format!("unbroken={MARK}")));
        let decided = Record::parse("epoch=8 node=b").unwrap();
        let own = Record { node: "a".into(), active: ["c".into()].into(), ..kept.clone() };
        let cases = [
            (Some(&good), &decided, RIGHT, Denial::Decided),
            (None, &kept, RIGHT, Denial::NotNoted),
            (Some(&good), &own, RIGHT, Denial::NotOver),
            (Some(&Note { epoch: 8, ..note() }), &kept, RIGHT, Denial::NotOver),
            // The record was put back.
            (Some(&Note { epoch: 9, ..note() }), &kept, RIGHT, Denial::NotOver),
            (Some(&Note { server: "12".into(), ..note() }), &kept, RIGHT, Denial::Another),
            (Some(&good), &record(""), RIGHT, Denial::NoAccount),
            // The successor's account begins with it: an operator decided, or loss was allowed.
            (Some(&good), &record("unbroken=8:1a2b3c4d"), RIGHT, Denial::Broken),
            // The count of epochs began anew.
            (Some(&good), &record("unbroken=3:00000000"), RIGHT, Denial::Broken),
            // It told somebody itself.
            (Some(&Note { epoch: 2, ..note() }), &kept, RIGHT, Denial::Broken),
            (Some(&good), &kept, Written { by_itself: false, ..RIGHT }, Denial::OfOthers),
            (Some(&good), &kept, Written { in_the_reign: false, ..RIGHT }, Denial::ByHand),
            (Some(&good), &kept, Written { process_is_gone: false, ..RIGHT }, Denial::Lives),
            (Some(&good), &kept, Written { shut_down: true, ..RIGHT }, Denial::ShutDown),
        ];
        for (note, record, written, why) in cases {
            assert_eq!(denied(note, record, written), Some(why), "{note:?} {record} {written:?}");
        }
    }

    #[test]
    fn the_log_says_who_wrote_when() {
        let file = |path: &str, begins_a_process, shut_down| LogFile { path: format!("/d/{path}"), begins_a_process, shut_down };
        let reigned = file("binlog.000004", true, false);
        let full = file("binlog.000005", false, false);
        let next = file("binlog.000006", true, false);
        let at = |files: &[&LogFile], first, last| {
            let files: Vec<LogFile> = files.iter().map(|file| (*file).clone()).collect();
            Written::at(true, &files, first, last, "binlog.000004")
        };
        assert_eq!(at(&[&reigned, &next], 0, 0), RIGHT);
        assert_eq!(at(&[&reigned, &full, &next], 0, 1), RIGHT, "it became full meanwhile");
        assert!(!at(&[&reigned, &full], 0, 1).process_is_gone);
        assert!(!at(&[&reigned], 0, 0).process_is_gone, "it may be the one that noted the reign");
        assert!(!at(&[&reigned, &next], 1, 1).in_the_reign, "by the next process");
        assert!(!at(&[&reigned, &full, &next], 0, 2).in_the_reign, "some of it");
        assert!(!at(&[&file("binlog.000003", true, false), &next], 0, 0).in_the_reign, "before the note");
        assert!(!at(&[&file("other.000009", false, false), &next], 0, 0).in_the_reign, "it is another log");
        assert!(at(&[&file("binlog.000004", true, true), &next], 0, 0).shut_down);
        let ended = file("binlog.000005", false, true);
        assert!(at(&[&reigned, &ended, &next], 0, 0).shut_down, "the last transaction filled its file");
        let later = file("binlog.000006", true, true);
        assert!(!at(&[&reigned, &full, &later], 0, 0).shut_down, "of the process after");
        assert!(at(&[&reigned, &later], 0, 1).shut_down, "of the process after, which wrote some of it");
        assert!(at(&[&reigned, &next, &file("binlog.000007", false, true)], 0, 2).shut_down, "the same, two files on");
    }

    #[test]
    fn who_wrote_a_transaction() {
        assert_eq!(writer("0-11-7"), Some("11"));
        assert_eq!(writer("3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:7"), Some("3e11fa47-71ca-11e1-9e33-c80aa9429562"));
        assert_eq!([writer(""), writer("11-7")], [None, None]);
    }

    #[test]
    fn what_the_primary_has_is_common() {
        let record = record("");
        assert!(is_common("0-11-40", &record) && is_common("0-11-39", &record) && is_common("0-12-50", &record));
        assert!(!is_common("0-11-41", &record) && !is_common("nonsense", &record));
    }
}
