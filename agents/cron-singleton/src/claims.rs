//! Which runs of a job have begun on this node since it booted. The wrapper writes a run down before it runs anything, so that
//! whatever dies then, it is not run again.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many are remembered of a job.
const REMEMBERED: usize = 200;
/// How long another run of the job may take to write one down.
const PATIENCE: Duration = Duration::from_secs(5);

/// The runs of a job, by the minutes that they were due, oldest claim first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims(Vec<i64>);

impl Claims {
    /// Reads what [`claim`] has written. What is no number is passed over: a user may write there what they like.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Whether this run has begun. One that is older than all that are remembered counts as begun: it is not repeated by mistake.
    pub fn may_have(&self, minute: i64) -> bool {
        self.0.contains(&minute) || self.0.len() >= REMEMBERED && self.0.iter().all(|claimed| minute < *claimed)
    }

    /// The first that was claimed for a later minute.
    pub fn first_after(&self, minute: i64) -> Option<i64> {
        self.0.iter().copied().filter(|claimed| *claimed > minute).min()
    }
}

/// Where the runs of a job are written down, in a directory of the job's user.
pub(crate) fn file_of(directory: &Path, job: &str) -> PathBuf {
    directory.join(format!("{job}.claims"))
}

/// Takes a run for the caller; `false` when it was taken before. `file`: in a directory of the job's user. `late`: a run that is made up for,
/// which cron asks for until the agent has taken it away; one that is older than all that are remembered was taken then.
///
/// # Errors
/// What the file system says, with the path.
pub fn claim(file: &Path, minute: i64, late: bool) -> Result<bool, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", file.display());
    let Some(_lock) = process::lock(&file.with_extension("claim"), PATIENCE).map_err(failed)? else {
        return Err(format!("{}: another run of this job holds it", file.display()));
    };
    let mut claims = Claims::parse(&process::own::text(file).unwrap_or_default());
    if claims.0.contains(&minute) || late && claims.may_have(minute) {
        return Ok(false);
    }
    claims.0.push(minute);
    let from = claims.0.len().saturating_sub(REMEMBERED);
    let text: String = claims.0[from..].iter().map(|minute| format!("{minute}\n")).collect();
    process::own::write_for_this_boot(file, text.as_bytes(), 0o600).map_err(failed).map(|()| true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use std::fs;

    use super::*;

    #[test]
    fn a_run_is_taken_once_and_the_oldest_are_forgotten() {
        let directory = std::env::temp_dir().join(format!("systole-claims-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("x.claims");
        let read = || Claims::parse(&fs::read_to_string(&file).unwrap());
        let claim = |minute| claim(&file, minute, false);
        assert_eq!((claim(7), claim(7), claim(9), claim(8)), (Ok(true), Ok(false), Ok(true), Ok(true)));
        assert!(read().may_have(9) && read().may_have(8) && !read().may_have(6));
        assert_eq!((read().first_after(6), read().first_after(7), read().first_after(9)), (Some(7), Some(8), None));
        fs::write(&file, "no number\n5\n").unwrap();
        assert!(read().may_have(5) && !read().may_have(4));
        for minute in 1000..1000 + REMEMBERED as i64 {
            assert_eq!(claim(minute), Ok(true));
        }
        assert!(read().may_have(5) && read().may_have(1000) && !read().may_have(5000), "what is forgotten is not repeated");
        assert_eq!(super::claim(&file, 7, true), Ok(false), "made up for, and cron still asks for it");
        assert_eq!(super::claim(&file, 5000, true), Ok(true));
        fs::remove_dir_all(directory).unwrap();
    }
}
