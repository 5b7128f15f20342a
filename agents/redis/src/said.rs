//! What a server says in its log and at its end, in its own words: all that is read from them stands here. Pure.

use crate::protocol::LinkTrouble;

/// What is wrong with a configuration that a server did not start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Misconfigured {
    /// It went to its data directory and was not let in.
    Directory,
    /// This line, for this reason. The line itself may hold a password.
    Line { number: String, wrong: String },
}

impl Misconfigured {
    /// From what it said before it ended.
    pub(crate) fn of(said: &str) -> Option<Self> {
        if !said.contains("FATAL CONFIG FILE ERROR") {
            return None;
        }
        // The next lines are "Reading the configuration file, at line N", the line itself, and what is wrong with it.
        let number = said.lines().find_map(|l| l.split("at line ").nth(1)).unwrap_or("?").trim();
        let wrong = said.lines().map(str::trim).rfind(|l| !l.is_empty() && !l.starts_with(">>>")).unwrap_or_default();
        Some(match wrong {
            "Permission denied" => Self::Directory,
            _ => Self::Line { number: number.to_owned(), wrong: wrong.to_owned() },
        })
    }
}

impl LinkTrouble {
    /// From the newest line of the log that says anything of it. What else stands in the line is nobody's business.
    pub(crate) fn of(log: &str) -> Self {
        let of_line = |line: &str| {
            let says = |words: &[&str]| words.iter().any(|word| line.contains(word));
            if says(&["sync: receiving", "sync: Finished", "Full resync from master"]) {
                Some(Self::Unknown)
            } else if says(&["Unable to AUTH", "NOAUTH", "WRONGPASS", "NOPERM"]) {
                Some(Self::Login)
            } else if says(&["Name or service not known", "Temporary failure in name resolution"]) {
                Some(Self::Name)
            } else if says(&["Unable to connect to MASTER", "Connection refused", "Timeout connecting", "No route to host"]) {
                Some(Self::Network)
            } else {
                None
            }
        };
        log.lines().rev().find_map(of_line).unwrap_or(Self::Unknown)
    }
}

/// The last complaint in a log. Redis marks warnings with `#`; the newer ones that it always prints are of no use here.
pub(crate) fn last_complaint<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> Option<&'a str> {
    let noise = [
        "oO0OoO0OoO0Oo",
        "Configuration loaded",
        "Redis version",
        "Valkey version",
        "overcommit",
        "WARNING: The TCP backlog",
        "ready to exit",
        "bye bye",
        "User requested",
    ];
    let marks = [" # ", "rror", "Fatal", "Can't", "Permission"];
    let says = |line: &str, words: &[&str]| words.iter().any(|word| line.contains(word));
    lines.rev().find(|line| says(line, &marks) && !says(line, &noise)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_configuration_is_named_without_what_stands_in_it() {
        let said = "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at line 7\n>>> 'requirepass geheim x'\n\
                    wrong number of arguments\n";
        let wrong = Misconfigured::Line { number: "7".to_owned(), wrong: "wrong number of arguments".to_owned() };
        assert_eq!(Misconfigured::of(said), Some(wrong));
        let said = "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration file, at line 510\n>>> 'dir /x'\nPermission denied\n";
        assert_eq!(Misconfigured::of(said), Some(Misconfigured::Directory));
        assert_eq!(Misconfigured::of("1:M * Ready to accept connections\n"), None);
    }

    #[test]
    fn a_complaint_is_what_is_marked_and_not_always_there() {
        let log = "1:C 1 Nov 2026 # WARNING Memory overcommit must be enabled!\n1:M 1 Nov 2026 # Bad file format reading the append only file\n\
                   1:M 1 Nov 2026 # Redis is now ready to exit, bye bye...\n1:M 1 Nov 2026 * Ready to accept connections\n";
        assert_eq!(last_complaint(log.lines()), Some("1:M 1 Nov 2026 # Bad file format reading the append only file"));
        assert_eq!(last_complaint("1:M 1 Nov 2026 * Ready to accept connections".lines()), None);
    }

    #[test]
    fn why_a_link_is_down_stands_in_the_newest_line_that_tells() {
        let refused = "1:S 29 Nov 2026 # Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair\n";
        let nobody = "1:S 29 Nov 2026 # Error condition on socket for SYNC: Connection refused\n";
        let name = "1:S 29 Nov 2026 # Unable to connect to MASTER: Name or service not known\n";
        let copy = "1:S 29 Nov 2026 * MASTER <-> REPLICA sync: receiving 175 bytes from master to disk\n";
        for (log, cause) in [
            (String::new(), LinkTrouble::Unknown),
            (format!("{nobody}{refused}something else\n"), LinkTrouble::Login),
            (format!("{refused}{nobody}"), LinkTrouble::Network),
            (name.to_owned(), LinkTrouble::Name),
            (format!("{refused}{copy}"), LinkTrouble::Unknown),
        ] {
            assert_eq!(LinkTrouble::of(&log), cause, "{log}");
        }
    }
}
