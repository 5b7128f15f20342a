//! How far a server is that is made to follow again: what `systole status --live` says of it.

use std::path::Path;

use process::Files;

use crate::agent::MySql;
use crate::dialect::Row;
use crate::gtid::Flavour;
use crate::rejoin::Rejoining;
use crate::server::Server;

/// How deep files of data lie below the data directory: a directory each is a database.
const DEPTH: u32 = 2;
/// Asks MySQL's clone plugin for the bytes of its stages: those that are here, and all.
pub const CLONE_STAGES: &str = "SELECT COALESCE(SUM(data), 0) AS here, COALESCE(SUM(estimate), 0) AS whole FROM performance_schema.clone_progress WHERE state <> 'Not Started'";

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that are here.
    pub(crate) here: u64,
    /// Of so many, where somebody has said it.
    pub(crate) whole: Option<u64>,
}

impl Progress {
    /// In megabytes, and in per cent. Never all of it: what is done says so otherwise, and sizes are estimates.
    pub(crate) fn print(self) -> String {
        let here = self.here >> 20;
        match self.whole.filter(|whole| *whole > 0) {
            None => format!("{here} MB so far"),
            Some(whole) => format!("{} %, {here} of {} MB", (self.here.saturating_mul(100) / whole).min(99), whole >> 20),
        }
    }
}

impl MySql {
    /// What is said of a server that is made to follow, `None` where nothing is under way. `server`: where it can be asked.
    pub(crate) fn rejoin_told(&self, server: Option<&mut Server>) -> Option<String> {
        let rejoining = self.rejoining()?;
        let now = process::since_boot();
        // Of one that nobody can tell yet, since when.
        let progress = rejoining.copies().then(|| self.progress(&rejoining, server).unwrap_or(Progress { here: 0, whole: None }));
        Some(rejoining.told(rejoining.worker.is_alive(), now, progress))
    }

    fn progress(&self, rejoining: &Rejoining, server: Option<&mut Server>) -> Option<Progress> {
        match server {
            // The plugin fetches into the server that runs.
            Some(server) if server.dialect().flavour == Flavour::MySql => {
                server.rows(CLONE_STAGES).ok()?.pop().and_then(|row| stages(&row))
            }
            // Its data are those of before: the program has not begun.
            Some(_) => None,
            None => {
                let here = self.files(|files| size(files, &self.params.datadir)).ok()?;
                Some(Progress { here, whole: rejoining.announced })
            }
        }
    }
}

/// What the plugin says, in numbers.
fn stages(row: &Row) -> Option<Progress> {
    let number = |name: &str| row.get(name)?.parse().ok();
    Some(Progress { here: number("here")?, whole: number("whole") })
}

/// The bytes of all files of a data directory. What vanishes meanwhile is not counted.
fn size(files: &Files<'_>, datadir: &Path) -> std::io::Result<u64> {
    fn below(directory: &process::Directory<'_>, deep: u32) -> u64 {
        let names = directory.names().unwrap_or_default();
        let of = |name: &std::ffi::OsString| match directory.length(name) {
            Ok(Some(length)) => length,
            _ if deep > 1 => directory.directory(name).map_or(0, |inner| below(&inner, deep - 1)),
            _ => 0,
        };
        names.iter().map(of).sum()
    }
    Ok(below(&files.directory(datadir)?, DEPTH))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests, and their own files")]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_never_said_to_be_whole_by_its_size() {
        let print = |here, whole| Progress { here, whole }.print();
        assert_eq!(print(2150 << 20, Some(5000 << 20)), "43 %, 2150 of 5000 MB");
        assert_eq!(print(5100 << 20, Some(5000 << 20)), "99 %, 5100 of 5000 MB");
        assert_eq!(print(7 << 20, None), "7 MB so far");
        assert_eq!(print(7 << 20, Some(0)), "7 MB so far");
        assert_eq!(print(u64::MAX, Some(u64::MAX)).split(' ').next(), Some("1"), "no overflow");
    }

    #[test]
    fn what_the_plugin_says_is_read() {
        let row = |here: &str, whole: &str| Row::from([("here".to_owned(), here.to_owned()), ("whole".to_owned(), whole.to_owned())]);
        assert_eq!(stages(&row("1048576", "4194304")).unwrap().print(), "25 %, 1 of 4 MB");
        assert_eq!(stages(&row("", "")), None);
    }

    #[test]
    fn files_of_databases_count_and_links_do_not() {
        let directory = std::env::temp_dir().join(format!("systole-progress-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(directory.join("shop")).unwrap();
        std::fs::write(directory.join("ibdata1"), vec![0; 700]).unwrap();
        std::fs::write(directory.join("shop/orders.ibd"), vec![0; 300]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.join("shop/link")).unwrap();
        let counted = process::Account::own().act(|files| size(files, &directory)).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(counted, 1000);
    }
}
