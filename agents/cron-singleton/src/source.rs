//! Where the jobs of a resource stand.

use std::path::PathBuf;

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

impl Source {
    /// The jobs, as they stand there now.
    ///
    /// # Errors
    /// What the file system says, or all that is wrong with them.
    pub fn read(&self) -> Result<Crontab, Vec<String>> {
        let said = |what: &dyn std::fmt::Display| format!("{}: {what}", self.path.display());
        let read = process::read_file(&self.path, LONG).and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other));
        let text = read.map_err(|e| vec![said(&e)])?;
        let format = if self.user.is_some() { Format::User } else { Format::System };
        Crontab::parse(&text, format).map_err(|problems| problems.iter().map(|problem| said(problem)).collect())
    }
}
