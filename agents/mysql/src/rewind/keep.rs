//! What is taken back is kept: each transaction as a binary log of its own, which the servers' tools read.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use process::{Directory, Files};

use super::log::Tail;
use super::refusal::Refusal;

/// How the names of these files begin.
pub(crate) const TAKEN_BACK: &str = "taken-back-";

/// Writes each transaction into a directory of the account that is there; returns where, in the order of the log. Again after a crash it writes
/// the same.
///
/// A MariaDB gives the names of what was taken back to others one day. So the files of each time have a number, and none replaces another's.
///
/// # Errors
/// What the file system says: then nothing may be taken back.
pub fn keep(files: &Files<'_>, directory: &Path, tail: &Tail) -> Result<Vec<PathBuf>, Refusal> {
    let refused = |words: String| Refusal::Failed(format!("{}: the transactions cannot be kept", directory.display()), words);
    let failed = |e: std::io::Error| refused(e.to_string());
    let into = files.directory(directory).map_err(failed)?;
    let all: Vec<(&str, Vec<u8>)> = tail.transactions.iter().map(|one| (one.gtid.as_str(), one.as_log())).collect();
    let names = into.names().map_err(failed)?;
    let last = names.iter().filter_map(number).max().unwrap_or(0);
    let number = if is_begun(&into, &names, last, &all) { Some(last) } else { last.checked_add(1) };
    let number = number.ok_or_else(|| refused(format!("{TAKEN_BACK}r{last} is the last number: remove these files")))?;
    let mut kept = Vec::new();
    for (gtid, log) in &all {
        let name = file_name(number, gtid);
        into.write(&name, log, 0o600).map_err(failed)?;
        kept.push(directory.join(name));
    }
    Ok(kept)
}

/// Whether the files of this number are of these very transactions: a run before this one wrote them. What cannot be read is another's.
fn is_begun(into: &Directory<'_>, names: &[OsString], at: u32, all: &[(&str, Vec<u8>)]) -> bool {
    let mut written = names.iter().filter(|name| number(name) == Some(at)).peekable();
    let is_ours = |name: &OsString| {
        let ours = all.iter().find(|(gtid, _)| *name == *file_name(at, gtid));
        ours.is_some_and(|(_, log)| into.read(name, log.len() as u64).is_ok_and(|there| there == *log))
    };
    written.peek().is_some() && written.all(is_ours)
}

/// The file of a transaction that was taken back at the time with this number. No GTID begins with an `r`: before there were numbers, it stood
/// there at once.
fn file_name(number: u32, gtid: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
    format!("{TAKEN_BACK}r{number:04}-{}", gtid.chars().map(plain).collect::<String>())
}

/// Of which time a file is.
#[allow(clippy::ptr_arg, reason = "it is mapped over names")]
fn number(name: &OsString) -> Option<u32> {
    name.to_str()?.strip_prefix(TAKEN_BACK)?.strip_prefix('r')?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use super::super::log::Limits;
    use super::*;

    const SAMPLES: [&[u8]; 2] = [include_bytes!("samples/mariadb-plain-0.binlog"), include_bytes!("samples/mariadb-plain-1.binlog")];

    /// A tail of transactions with these names, each with the content of a sample.
    fn tail(all: &[(&str, usize)]) -> Tail {
        let one = |(gtid, sample): &(&str, usize)| {
            let limits = Limits { transactions: 1, bytes: 1 << 20, rows: 1000 };
            let mut one = Tail::of_bytes(SAMPLES[*sample], limits).unwrap().transactions.remove(0);
            one.gtid = (*gtid).to_owned();
            one
        };
        Tail { transactions: all.iter().map(one).collect(), ..Tail::default() }
    }

    #[test]
    fn a_gtid_is_no_path() {
        assert_eq!(file_name(1, "0-1-7"), "taken-back-r0001-0-1-7");
        let tagged = "3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:23";
        assert_eq!(file_name(12345, tagged), "taken-back-r12345-3e11fa47-71ca-11e1-9e33-c80aa9429562.tag.23");
        assert_eq!(file_name(1, "../x"), "taken-back-r0001-...x");
        for (name, of) in [("taken-back-r0012-0-1-7", Some(12)), ("taken-back-0-1-7", None), ("taken-back-rx-0-1-7", None), ("reign", None)]
        {
            assert_eq!(number(&name.into()), of, "{name}");
        }
    }

    /// The second of these replaced the first, which was nowhere else.
    #[test]
    fn a_name_that_was_given_again_replaces_nothing() {
        let directory = std::env::temp_dir().join(format!("systole-keep-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let before = directory.join("taken-back-0-1-7");
        std::fs::write(&before, "of an agent before there were numbers").unwrap();
        let kept = |all: &[(&str, usize)]| {
            let names = process::Account::own().act(|files| Ok(keep(files, &directory, &tail(all)))).unwrap().unwrap();
            names.iter().map(|path| path.file_name().unwrap().to_str().unwrap().replace(TAKEN_BACK, "")).collect::<Vec<_>>()
        };
        assert_eq!(kept(&[("0-1-7", 0), ("0-1-8", 1)]), ["r0001-0-1-7", "r0001-0-1-8"]);
        assert_eq!(kept(&[("0-1-7", 0), ("0-1-8", 1)]), ["r0001-0-1-7", "r0001-0-1-8"], "again after a crash");
        assert_eq!(kept(&[("0-1-7", 1)]), ["r0002-0-1-7"], "the name was given again");
        assert_eq!(kept(&[("0-1-7", 0)]), ["r0003-0-1-7"], "as in the first, but after the second");
        std::fs::remove_file(directory.join("taken-back-r0003-0-1-7")).unwrap();
        assert_eq!(kept(&[("0-1-7", 1), ("0-1-8", 0)]), ["r0002-0-1-7", "r0002-0-1-8"], "killed behind the first file");
        let content = |name: &str| std::fs::read(directory.join(name)).unwrap();
        assert_eq!(content("taken-back-r0001-0-1-7"), SAMPLES[0]);
        assert_eq!(content("taken-back-r0002-0-1-7"), SAMPLES[1]);
        assert_eq!(content("taken-back-0-1-7"), b"of an agent before there were numbers");
        std::fs::write(directory.join("taken-back-r4294967295-x"), "").unwrap();
        let full = process::Account::own().act(|files| Ok(keep(files, &directory, &tail(&[("0-1-9", 0)])))).unwrap();
        assert!(full.is_err_and(|refusal| refusal.to_string().contains("remove these files")));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
