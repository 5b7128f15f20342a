//! `systole pause` and `resume`: Pacemaker leaves a database alone for a while. The agents' monitors go on, and so does all that a running
//! primary and its replicas do among each other; nothing is started, stopped, promoted or demoted. It is a rule of Pacemaker's with an end, so
//! it is over then whatever has become of the command, of this node or of whoever began it.

use std::time::{Duration, Instant, SystemTime};

use crate::ask::CHANGE_LIMIT;
use crate::cib::{Pause, pause_id};
use crate::picture::{Database, Picture};
use crate::switchover::{Ending, look};
use crate::{ask, complain, print};

/// The shortest pause: less is over before somebody has begun.
const SHORTEST: Duration = Duration::from_secs(60);
/// The longest one: a database without failover is no state to be forgotten.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The longest reason, in characters.
const LONGEST_REASON: usize = 200;
/// How long Pacemaker may take to act on it.
const EFFECT: Duration = Duration::from_secs(15);
/// How often is looked.
const STEP: Duration = Duration::from_millis(200);

/// Reads a duration, as `1h 30m`.
pub(crate) fn length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    let between = format!("from {} to {}", humantime::format_duration(SHORTEST), humantime::format_duration(LONGEST));
    if (SHORTEST..=LONGEST).contains(&length) { Ok(length) } else { Err(format!("it may be {between}")) }
}

/// Reads a reason: one line that says something.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.chars().count() {
        0 => Err("say something for whoever looks at it meanwhile".to_owned()),
        1..=LONGEST_REASON if !text.chars().any(char::is_control) => Ok(text),
        _ => Err(format!("it may have {LONGEST_REASON} characters, and no control characters")),
    }
}

/// Begins a pause, or gives it another end.
pub(crate) fn pause(name: &str, reason: String, length: Duration) -> Ending {
    let (resource, clone) = match look(name, may_be_paused) {
        Ok(Ok(found)) => found,
        Ok(Err(why)) | Err(why) => return refused(&why),
    };
    let until = humantime::format_rfc3339_seconds(SystemTime::now() + length).to_string();
    let pause = Pause { until, reason };
    let path = format!("//primitive[@id='{resource}']");
    let change = ["--modify", "--xpath", &path, "--xml-text", &pause.xml(&resource)];
    if let Err(why) = ask::tool_within("cibadmin", &change, CHANGE_LIMIT) {
        // It may have been told all the same.
        return match look(name, |_, database| database.pause.as_ref() == Some(&pause)) {
            Ok(false) => refused(&why),
            _ => half_way(&format!("{why}; whether it is paused: systole status {name}")),
        };
    }
    if comes_about(name, |database| database.pause.as_ref() == Some(&pause) && left_alone(database)) {
        print(&format!("{clone}: paused until {}; end it before with: systole resume {name}\n", pause.until));
        return Ending::Done;
    }
    half_way(&format!("the pause is in the CIB, and Pacemaker does not act by it yet: systole status {name}"))
}

/// Ends it.
pub(crate) fn resume(name: &str) -> Ending {
    let (resource, clone, paused) =
        match look(name, |_, database| (database.name.clone(), database.clone.clone(), database.pause.is_some())) {
            Ok(found) => found,
            Err(why) => return refused(&why),
        };
    // What is left of one that is over is taken away as well.
    let path = format!("//meta_attributes[@id='{}']", pause_id(&resource));
    if let Err(why) = ask::tool_within("cibadmin", &["--delete", "--xpath", &path], CHANGE_LIMIT) {
        return if paused { half_way(&format!("{why}; whether it is paused: systole status {name}")) } else { refused(&why) };
    }
    if !paused {
        print(&format!("{clone}: it is not paused\n"));
        return Ending::Done;
    }
    if comes_about(name, |database| database.pause.is_none() && database.members.iter().all(|member| !member.unmanaged)) {
        print(&format!("{clone}: Pacemaker looks after it again\n"));
        return Ending::Done;
    }
    half_way(&format!("the pause is taken away, and Pacemaker still leaves instances alone: systole status {name}"))
}

fn refused(why: &str) -> Ending {
    complain(&format!("refused, and nothing is changed: {why}"));
    Ending::Refused
}

fn half_way(why: &str) -> Ending {
    complain(why);
    Ending::HalfWay
}

/// The resource and its clone, where a pause keeps something that works.
fn may_be_paused(picture: &Picture, database: &Database) -> Result<(String, String), String> {
    if !picture.quorum {
        return Err("no quorum: the cluster takes no change here".to_owned());
    }
    if database.promoted().is_empty() {
        return Err(format!("nobody is promoted, and a pause would keep it so: systole why {}", database.name));
    }
    if database.pause.is_none() {
        if let Some(member) = database.members.iter().find(|member| member.unmanaged && !picture.maintenance) {
            return Err(format!("Pacemaker does not manage the instance on {} anyway: systole status {}", member.node, database.name));
        }
    }
    Ok((database.name.clone(), database.clone.clone()))
}

fn left_alone(database: &Database) -> bool {
    database.members.iter().filter(|member| member.runs()).all(|member| member.unmanaged)
}

fn comes_about(name: &str, is_so: impl Fn(&Database) -> bool) -> bool {
    let until = Instant::now() + EFFECT;
    while Instant::now() < until {
        if look(name, |_, database| is_so(database)).unwrap_or(false) {
            return true;
        }
        std::thread::sleep(STEP);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cib::Cib;

    #[test]
    fn a_pause_has_an_end_and_a_reason() {
        assert_eq!(length("1h 30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "30", "10s", "25h", "-1h", "forever"] {
            assert!(length(wrong).is_err(), "{wrong}");
        }
        assert_eq!(reason("  the\nswitch is\treplaced ").as_deref(), Ok("the switch is replaced"));
        assert!(reason(" \n").is_err() && reason(&"x".repeat(201)).is_err() && reason("a\u{1b}[31m").is_err());
    }

    #[test]
    fn what_is_written_is_what_is_read_and_is_no_setting_of_its_own() {
        let pause = Pause { until: "2026-11-30T02:00:00Z".into(), reason: "\"it\" <is> & 'was'".into() };
        let cib = format!("<cib have-quorum=\"1\"><configuration><resources>{}</resources></configuration></cib>", pause.xml("mysql"));
        let read = Cib::parse(&cib).unwrap();
        let primitive = read.primitives.get("mysql").unwrap();
        assert_eq!((primitive.pause.as_ref(), primitive.meta.len()), (Some(&pause), 0));
    }
}
