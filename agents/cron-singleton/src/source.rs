//! Where the jobs of a resource stand.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::crontab::{Crontab, Format};

/// As long as a crontab may be, bytes.
pub(crate) const LONG: u64 = 16 * 1024 * 1024;

/// The crontab of a resource: written down by each start, for `systole-cron`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The crontab.
    pub path: PathBuf,
    /// Whose it is, when it has no column for the user.
    pub user: Option<String>,
}

/// The bytes of a crontab of the system, or that an operator named. Nothing is waited for.
///
/// # Errors
/// What the file system says, that it is no regular file, or that it is too large.
#[allow(clippy::disallowed_methods, reason = "who names a crontab decides what root runs; the directories of cron's are root's")]
pub(crate) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    process::read_file(path, LONG)
}

impl Source {
    /// The jobs, as they stand there now.
    ///
    /// # Errors
    /// What the file system says, or all that is wrong with them.
    pub fn read(&self) -> Result<Crontab, Vec<String>> {
        let said = |what: &dyn std::fmt::Display| format!("{}: {what}", self.path.display());
        let read = read(&self.path).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = read.map_err(|e| vec![said(&e)])?;
        let format = if self.user.is_some() { Format::User } else { Format::System };
        Crontab::parse(&text, format).map_err(|problems| problems.iter().map(|problem| said(problem)).collect())
    }
}
