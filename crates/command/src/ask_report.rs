//! `systole report`: asking for all of it, and writing the page.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::history::History;
use crate::notices::Level;
use crate::report::{Material, page};
use crate::secrets::Secrets;
use crate::timeline::Timeline;
use crate::{ask, ask_history, ask_timeline, complain, ended, status};

/// Writes the page about a promotion of a database.
pub(crate) fn run(name: &str, file: &Path, epoch: Option<u64>) -> ExitCode {
    match write(name, file, epoch) {
        Ok((remarks, level)) => {
            remarks.iter().for_each(|remark| complain(remark));
            ended(level)
        }
        Err(why) => {
            complain(&why);
            ended(Level::Unknown)
        }
    }
}

fn write(name: &str, file: &Path, epoch: Option<u64>) -> Result<(Vec<String>, Level), String> {
    let picture = ask::picture()?;
    let database = picture.database(name).ok_or_else(|| status::unknown(&picture, name))?;
    let configuration = ask::tool("cibadmin", &["--query", "--scope", "configuration"])?;
    let read = |path: &Path| {
        promotable::read_secret(path, "password_file").map(|secret| secret.expose().to_owned()).map_err(|failure| failure.reason)
    };
    let secrets = Secrets::of(&configuration, read)?;
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
    Ok(remarks(&history, &timeline, &secrets))
}

/// What is missing on the page or doubtful, and how bad it is: a clock that is off is said, and nothing is missing for it.
fn remarks(history: &History, timeline: &Timeline, secrets: &Secrets) -> (Vec<String>, Level) {
    let missing = history.unanswered.iter().map(|(node, why)| format!("what {node} remembers is missing: it {why}"));
    let unread = secrets.unread.iter().map(|file| format!("a secret cannot be read, and is not masked where it is repeated: {file}"));
    let all = history.unanswered.is_empty() && timeline.unanswered.is_empty() && secrets.unread.is_empty();
    (missing.chain(unread).chain(timeline.remarks()).collect(), if all { Level::Good } else { Level::Degraded })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_clock_that_is_off_is_said_and_a_silent_node_or_an_open_secret_is_degraded() {
        let (history, secrets) = (History::default(), Secrets::default());
        let off = Timeline { clocks: BTreeMap::from([("a".to_owned(), 2.0)]), ..Timeline::default() };
        let (said, level) = remarks(&history, &off, &secrets);
        assert!(said.len() == 1 && said[0].contains("the clock of a") && level == Level::Good, "{said:?}");
        let silent = Timeline { unanswered: BTreeMap::from([("a".to_owned(), "is away".to_owned())]), ..off };
        assert_eq!(remarks(&history, &silent, &secrets).1, Level::Degraded);
        let open = Secrets::of("<c><nvpair name=\"test_passwd_file\" value=\"/p\"/></c>", |_| Err("others may read it".into())).unwrap();
        let (said, level) = remarks(&history, &Timeline::default(), &open);
        assert!(said[0].ends_with("not masked where it is repeated: /p: others may read it") && level == Level::Degraded, "{said:?}");
    }
}
