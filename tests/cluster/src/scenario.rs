//! How a scenario runs and what it insists on.

use std::time::Duration;

use lab::{Error, Lab, Load, Result};

use crate::site::{Setup, Site};

/// Runs a scenario in a lab of its own; when it fails, or with SYSTOLE_KEEP_LOGS set, the logs are kept.
///
/// # Panics
/// When it fails: this is for tests.
#[allow(clippy::panic, reason = "a test says what it saw by panicking")]
pub fn scenario(name: &str, setup: Setup, steps: impl FnOnce(&Site) -> Result<()>) {
    let site = Site::with(name, setup).unwrap_or_else(|e| panic!("{name}: {e}"));
    finish(&site.lab, steps(&site));
}

/// Ends a scenario with what its steps came to; when they failed, or with SYSTOLE_KEEP_LOGS set, the logs are kept.
///
/// # Panics
/// When they failed: this is for tests.
#[allow(clippy::panic, reason = "a test says what it saw by panicking")]
pub fn finish(lab: &Lab, outcome: Result<()>) {
    if let Err(error) = outcome {
        panic!("{}: {error}\nlogs: {}", lab.spec().name, keep_logs(lab));
    }
    if std::env::var_os("SYSTOLE_KEEP_LOGS").is_some() {
        println!("logs: {}", keep_logs(lab));
    }
}

/// Copies the logs of a lab to where they outlive it; returns the place.
#[must_use]
pub fn keep_logs(lab: &Lab) -> String {
    let logs = std::env::temp_dir().join(format!("systole-failed-{}", lab.spec().name));
    let _ = std::fs::remove_dir_all(&logs);
    let _ = lab.collect(&logs);
    logs.display().to_string()
}

/// Judges a load: everything but what `except` names must have been kept.
pub fn held(site: &Site, load: Load, longest: Duration, except: &str) -> Result<()> {
    held_after(site, load, longest, except, Duration::ZERO)
}

/// The same, when a replica may need so long to catch up after the last write.
pub fn held_after(site: &Site, load: Load, longest: Duration, except: &str, behind: Duration) -> Result<()> {
    let (report, journal) = site.verdict_after(load, longest, behind)?;
    println!("{report}");
    if report.verdicts.iter().all(|v| v.kept || except.contains(v.letter)) {
        return Ok(());
    }
    Err(Error::Refused(format!("{report}\n{}", site.lab.timeline(&journal)?)))
}

/// Insists on a condition.
pub fn expect(condition: bool, what: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::Refused(what.to_owned())) }
}
