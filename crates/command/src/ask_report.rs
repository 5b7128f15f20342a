//! `systole report`: asking for all of it, and writing the page.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::notices::Level;
use crate::report::{Material, page};
use crate::secrets::Secrets;
use crate::{ask, ask_history, ask_timeline, complain, ended, status};

/// Writes the page about a promotion of a database.
pub(crate) fn run(name: &str, file: &Path, epoch: Option<u64>) -> ExitCode {
    match write(name, file, epoch) {
        Ok(missing) => {
            missing.iter().for_each(|remark| complain(remark));
            ended(if missing.is_empty() { Level::Good } else { Level::Degraded })
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}

fn write(name: &str, file: &Path, epoch: Option<u64>) -> Result<Vec<String>, String> {
    let picture = ask::picture()?;
    let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
    let configuration = ask::tool("cibadmin", &["--query", "--scope", "configuration"])?;
    let secrets = Secrets::of(&configuration, |path| Some(promotable::read_secret(path, "password_file").ok()?.expose().to_owned()))?;
    let history = ask_history::of(&picture, &database.name);
    let promotion = history.find(epoch);
    if let (Some(epoch), None) = (epoch, promotion) {
        return Err(format!("no node remembers a promotion of epoch {epoch}: see systole history"));
    }
    let timeline = promotion.map(|promotion| ask_timeline::around(&picture, database, promotion)).unwrap_or_default();
    let made = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let text = page(&Material { picture: &picture, database, history: &history, promotion, timeline: &timeline, made }, &secrets);
    // Logs and configuration are not for everybody who has an account here.
    process::own::write(file, text.as_bytes(), 0o600).map_err(|e| format!("{}: {e}", file.display()))?;
    let missing = history.unanswered.iter().map(|(node, why)| format!("what {node} remembers is missing: it {why}"));
    Ok(missing.chain(timeline.remarks()).collect())
}
