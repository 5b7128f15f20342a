//! What is taken back is kept: each transaction as a binary log of its own, which the servers' tools read.

use std::path::{Path, PathBuf};

use process::Files;

use super::log::Tail;
use super::refusal::Refusal;

/// Writes each transaction into a directory of the account that is there; returns where, in the order of the log. Again after a crash it writes
/// the same.
///
/// # Errors
/// What the file system says: then nothing may be taken back.
pub fn keep(files: &Files<'_>, directory: &Path, tail: &Tail) -> Result<Vec<PathBuf>, Refusal> {
    let failed = |e: std::io::Error| Refusal::Failed(format!("{}: the transactions cannot be kept", directory.display()), e.to_string());
    let into = files.directory(directory).map_err(failed)?;
    let mut kept = Vec::new();
    for transaction in &tail.transactions {
        let name = file_name(&transaction.gtid);
        into.write(&name, &transaction.as_log(), 0o600).map_err(failed)?;
        kept.push(directory.join(name));
    }
    Ok(kept)
}

/// A GTID as the name of a file.
fn file_name(gtid: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '.' };
    format!("taken-back-{}", gtid.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gtid_is_no_path() {
        assert_eq!(file_name("0-1-7"), "taken-back-0-1-7");
        assert_eq!(file_name("3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:23"), "taken-back-3e11fa47-71ca-11e1-9e33-c80aa9429562.tag.23");
        assert_eq!(file_name("../x"), "taken-back-...x");
    }
}
