//! The server's configuration file, read as the server reads it: with its rights, quoting, include files, the last directive wins.
//!
//! Only for what has to be known without asking the server: its password, and where its data and its log are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ocf::{Failure, Secret};
use process::Files;

/// More than any configuration, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;
/// How many files it may be made of.
const MOST_FILES: usize = 1000;
/// How deep include files may nest; the server itself has no bound and would recurse until it dies.
const MAX_DEPTH: usize = 16;

/// The directives that the agent needs, in the order in which they stand.
#[derive(Debug, Default)]
pub(crate) struct Conf {
    directives: Vec<Vec<String>>,
    /// Where the server is when it has read so far: relative paths begin there.
    directory: PathBuf,
    /// What was read of it. Who may write it could have us read without an end, and a stop with us.
    bytes: u64,
    files: usize,
}

impl Conf {
    /// Reads the file and what it includes, as a server does that is started in `directory`.
    ///
    /// # Errors
    /// A file that is missing or cannot be read, a line that the server would not accept either. The reason names file
    /// and line number, never the line: it may hold a password.
    pub(crate) fn read(files: &Files<'_>, path: &Path, directory: &Path) -> Result<Self, Failure> {
        let mut conf = Self { directory: directory.to_owned(), ..Self::default() };
        conf.include(files, path, 0)?;
        Ok(conf)
    }

    fn include(&mut self, files: &Files<'_>, path: &Path, depth: usize) -> Result<(), Failure> {
        let read = files.read_through_links(path, LONGEST.saturating_sub(self.bytes));
        let text = read.map_err(|e| cannot_read(path, &files.account().name, &e))?;
        self.bytes += text.len() as u64;
        self.files += 1;
        if self.files > MOST_FILES {
            return Err(Failure::installed(format!(
                "the configuration includes more than {MOST_FILES} files, the last {}",
                path.display()
            )));
        }
        let found = directives(&String::from_utf8_lossy(&text))
            .map_err(|line| Failure::installed(format!("configuration {} line {line}: unbalanced quotes", path.display())))?;
        for directive in found {
            if directive[0] != "include" {
                if let [name, directory] = &directive[..] {
                    if name == "dir" {
                        self.directory.push(directory);
                    }
                }
                self.directives.push(directive);
                continue;
            }
            if depth >= MAX_DEPTH {
                return Err(Failure::installed(format!(
                    "configuration {} includes itself, or more than {MAX_DEPTH} files deep",
                    path.display()
                )));
            }
            for pattern in &directive[1..] {
                for file in expand(files, &self.directory.join(pattern)) {
                    self.include(files, &file, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// The first argument of the last such directive.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.last_all(name)?.first().map(String::as_str)
    }

    /// All arguments of the last such directive.
    pub(crate) fn last_all(&self, name: &str) -> Option<&[String]> {
        self.directives.iter().rev().find(|d| d[0] == name).map(|d| &d[1..])
    }

    /// The arguments of all such directives, in the order in which they stand.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [String]> {
        self.directives.iter().filter(move |d| d[0] == name).map(|d| &d[1..])
    }

    /// What a text says; include files are passed over. `Err` is the number of a line with unbalanced quotes.
    pub(crate) fn from_text(text: &str) -> Result<Self, usize> {
        directives(text).map(|directives| Self { directives, ..Self::default() })
    }

    /// Whether the passwords of the file can be sent as they stand there.
    ///
    /// # Errors
    /// When one holds bytes that are no UTF-8: what the agent and the replicas would send is another password. Never the password.
    pub(crate) fn check_passwords(&self) -> Result<(), Failure> {
        let unreadable = |name: &&&str| self.last(name).is_some_and(|value| value.contains(char::REPLACEMENT_CHARACTER));
        match ["requirepass", "masterauth", "masteruser"].iter().find(unreadable) {
            Some(name) => Err(Failure::installed(format!("{name} in the configuration is not UTF-8: write the password in UTF-8"))),
            None => Ok(()),
        }
    }

    /// The commands that `rename-command` takes away, in lower case.
    pub(crate) fn renamed_commands(&self) -> impl Iterator<Item = String> + '_ {
        self.directives.iter().filter(|d| d[0] == "rename-command").filter_map(|d| Some(d.get(1)?.to_ascii_lowercase()))
    }

    /// `requirepass`, when it is set and not empty.
    pub(crate) fn requirepass(&self) -> Option<Secret> {
        self.last("requirepass").filter(|p| !p.is_empty()).map(Secret::new)
    }

    /// The data directory; where the server is started when none is set.
    pub(crate) fn data_directory(&self) -> PathBuf {
        PathBuf::from(self.last("dir").unwrap_or("./"))
    }

    /// Where the server listens for those who speak no TLS, this machine's own address first.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let port = self.last("port").map_or(Some(6379), |port| port.parse().ok()).filter(|port| *port > 0);
        let Some(port) = port else { return vec![] };
        let everywhere = ["*".to_owned()];
        let bound = self.last_all("bind").filter(|bound| !bound.is_empty()).unwrap_or(&everywhere);
        let address = |text: &String| match text.trim_start_matches('-') {
            "*" | "0.0.0.0" | "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            "::*" | "::" => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            other => other.parse().ok(),
        };
        let mut addresses: Vec<IpAddr> = bound.iter().filter_map(address).collect();
        addresses.sort_by_key(|address| !address.is_loopback());
        addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
    }

    /// The log file, `None` when the server writes to stdout.
    pub(crate) fn log_file(&self) -> Option<PathBuf> {
        self.last("logfile").filter(|f| !f.is_empty()).map(|f| self.data_directory().join(f))
    }
}

fn cannot_read(path: &Path, user: &str, e: &std::io::Error) -> Failure {
    let shown = path.display();
    if e.kind() == std::io::ErrorKind::PermissionDenied {
        return Failure::permission(format!("configuration {shown} cannot be read by user {user}: {e}; give the file to its group"));
    }
    Failure::installed(format!("configuration {shown} cannot be read: {e}; create it, or set the parameter config"))
}

/// The directives of one text: name in lower case, then its arguments. `Err` is the number of a line with unbalanced
/// quotes.
pub(crate) fn directives(text: &str) -> Result<Vec<Vec<String>>, usize> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = split(line).ok_or(number + 1)?;
        if let Some(name) = words.first_mut() {
            *name = name.to_ascii_lowercase();
            found.push(words);
        }
    }
    Ok(found)
}

/// Splits a line into words by the server's rules (`sdssplitargs`): "..." with escapes, '...' with \' only, and a
/// closing quote must be followed by a blank. `None` for unbalanced quotes.
fn split(line: &str) -> Option<Vec<String>> {
    let bytes = line.as_bytes();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at >= bytes.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        at = match bytes[at] {
            b'"' => double_quoted(bytes, at + 1, &mut word)?,
            b'\'' => single_quoted(bytes, at + 1, &mut word)?,
            _ => bare(bytes, at, &mut word)?,
        };
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
}

/// A word without quotes; quotes may begin in its middle, as the server allows.
fn bare(bytes: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' | 0 => break,
            b'"' => return double_quoted(bytes, at + 1, word),
            b'\'' => return single_quoted(bytes, at + 1, word),
            _ => word.push(byte),
        }
        at += 1;
    }
    // A NUL ends the line for the server.
    Some(if bytes.get(at) == Some(&0) { bytes.len() } else { at })
}

fn double_quoted(bytes: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'\\' => {
                let hex = bytes
                    .get(at + 1..at + 4)
                    .filter(|h| h[0] == b'x')
                    .and_then(|h| u8::from_str_radix(std::str::from_utf8(&h[1..]).ok()?, 16).ok());
                if let Some(value) = hex {
                    word.push(value);
                    at += 4;
                    continue;
                }
                word.push(match *bytes.get(at + 1)? {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            b'"' => return ends_word(bytes, at + 1),
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn single_quoted(bytes: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            b'\\' if bytes.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            b'\'' => return ends_word(bytes, at + 1),
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn ends_word(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at).is_none_or(u8::is_ascii_whitespace).then_some(at)
}

/// The files that an include pattern names: `*` and `?` in the last component, as far as anybody uses it.
fn expand(files: &Files<'_>, path: &Path) -> Vec<PathBuf> {
    let Some(name) = path.file_name().map(|n| n.to_string_lossy().into_owned()).filter(|n| n.contains(['*', '?'])) else {
        return vec![path.to_owned()];
    };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let names = files.directory(directory).and_then(|found| found.names()).unwrap_or_default();
    let matching = names.iter().filter(|found| matches_pattern(found.to_string_lossy().as_bytes(), name.as_bytes()));
    matching.map(|name| directory.join(name)).collect()
}

fn matches_pattern(name: &[u8], pattern: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|skip| matches_pattern(&name[skip..], rest)),
        [b'?', rest @ ..] => !name.is_empty() && matches_pattern(&name[1..], rest),
        [byte, rest @ ..] => name.first() == Some(byte) && matches_pattern(&name[1..], rest),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use super::*;
    use process::Account;
    use proptest::prelude::*;

    /// As a server does that is started in the directory of the file.
    fn read(path: &Path) -> Result<Conf, Failure> {
        Account::own().act(|files| Ok(Conf::read(files, path, path.parent().unwrap()))).unwrap()
    }

    #[test]
    fn where_a_server_listens_without_tls() {
        let addresses = |text: &str| {
            let conf = Conf { directives: directives(text).unwrap(), ..Conf::default() };
            conf.addresses().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(addresses(""), ["127.0.0.1:6379"]);
        assert_eq!(addresses("bind * -::*\nport 7000"), ["127.0.0.1:7000", "[::1]:7000"]);
        assert_eq!(addresses("bind 10.0.0.1 127.0.0.1 name"), ["127.0.0.1:6379", "10.0.0.1:6379"]);
        assert_eq!(addresses("bind 10.0.0.1"), ["10.0.0.1:6379"]);
        for none in ["port 0", "port x", "port 99999"] {
            assert_eq!(addresses(none), Vec::<String>::new(), "{none}");
        }
    }

    #[test]
    fn words_are_split_as_the_server_splits_them() {
        for (line, words) in [
            (r"requirepass foobared", Some(vec!["requirepass", "foobared"])),
            (r#"requirepass "a b\"c\x41""#, Some(vec!["requirepass", "a b\"cA"])),
            (r"requirepass 'it\'s'", Some(vec!["requirepass", "it's"])),
            (r#"logfile """#, Some(vec!["logfile", ""])),
            (r#"x "open"#, None),
            (r#"x "a"b"#, None),
            (r"x 'a", None),
            ("save 3600 1  300 100", Some(vec!["save", "3600", "1", "300", "100"])),
        ] {
            let expected = words.map(|w| w.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(split(line), expected, "{line}");
        }
    }

    #[test]
    fn the_last_directive_wins_and_names_have_no_case() {
        let conf = Conf { directives: directives("requirepass a\n# requirepass no\nRequirePass 'b'\n").unwrap(), ..Conf::default() };
        assert_eq!(conf.requirepass().unwrap().expose(), "b");
        assert_eq!(directives("a b\nc 'd\n"), Err(2));
    }

    #[test]
    fn include_files_are_read_where_they_stand_with_wildcards() {
        let directory = std::env::temp_dir().join(format!("systole-conf-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let main = directory.join("redis.conf");
        std::fs::write(&main, format!("dir /a\ninclude {}/*.inc\nport 1\n", directory.display())).unwrap();
        std::fs::write(directory.join("1.inc"), "dir /b\nport 2\n").unwrap();
        let conf = read(&main).unwrap();
        assert_eq!((conf.last("dir"), conf.last("port")), (Some("/b"), Some("1")));
        std::fs::write(directory.join("2.inc"), format!("include {}\n", main.display())).unwrap();
        assert!(read(&main).unwrap_err().reason.contains("includes itself"));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_reason_never_shows_the_line() {
        let path = std::env::temp_dir().join(format!("systole-conf-secret-{}", std::process::id()));
        std::fs::write(&path, "requirepass 'hunter2\n").unwrap();
        let reason = read(&path).unwrap_err().reason;
        assert!(reason.contains("line 1") && !reason.contains("hunter2"), "{reason}");
        std::fs::remove_file(path).unwrap();
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[ -~\n\t\u{0}é'\"\\\\]{0,120}") {
            let _ = directives(&text);
        }

        /// What is quoted by the server's own escaping reads back as it was.
        #[test]
        fn quoted_words_survive(word in "[ -~]{0,40}") {
            let quoted = format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(split(&quoted), Some(vec![word]));
        }
    }
}
