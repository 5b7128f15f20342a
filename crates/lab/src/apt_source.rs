//! Which Debian mirror this machine's own apt uses, read from its source files.
//! Pure parsing plus one function that reads the files; it never asks the network.

use std::path::Path;

use crate::error::{Error, Result};

/// A mirror and the key file that vouches for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AptSource {
    /// Base URI of the archive (the directory that holds `dists`).
    pub(crate) uri: String,
    /// Key file, when the source names one or Debian's usual one is there.
    pub(crate) signed_by: Option<String>,
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable", "oldoldstable"];

/// The first Debian archive in this machine's sources. The same mirror carries every suite.
pub(crate) fn of_this_machine() -> Result<AptSource> {
    let mut files = vec![Path::new("/etc/apt/sources.list").to_path_buf()];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        let mut more: Vec<_> = entries.flatten().map(|e| e.path()).collect();
        more.sort();
        files.extend(more);
    }
    let found = files.iter().find_map(|file| {
        let text = std::fs::read_to_string(file).ok()?;
        if file.extension().is_some_and(|e| e == "sources") { from_deb822(&text) } else { from_one_line(&text) }
    });
    let mut source = found.ok_or_else(|| {
        Error::Refused("no Debian archive in this machine's apt sources: the lab needs one to make its images".to_owned())
    })?;
    // Newer suites are signed with newer keys than an inline or narrower key of the machine's own release.
    if Path::new(KEYRING).exists() {
        source.signed_by = Some(KEYRING.to_owned());
    }
    Ok(source)
}

/// Reads deb822 paragraphs (`*.sources`).
fn from_deb822(text: &str) -> Option<AptSource> {
    text.split("\n\n").find_map(|paragraph| {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        if field("Enabled").is_some_and(|v| v.eq_ignore_ascii_case("no")) {
            return None;
        }
        let suites = field("Suites")?;
        let debian = field("Types")?.split_whitespace().any(|t| t == "deb")
            && suites.split_whitespace().any(|s| SUITES.contains(&s))
            && field("Components").is_some_and(|c| c.split_whitespace().any(|c| c == "main"));
        let uri = field("URIs")?.split_whitespace().next()?.to_owned();
        debian.then(|| AptSource { uri, signed_by: field("Signed-By").filter(|key| key.starts_with('/')) })
    })
}

/// Reads `deb [options] uri suite components` lines.
fn from_one_line(text: &str) -> Option<AptSource> {
    text.lines().find_map(|line| {
        let rest = line.trim().strip_prefix("deb ")?.trim();
        let (options, rest) = match rest.strip_prefix('[') {
            Some(tail) => tail.split_once(']')?,
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (uri, suite) = (words.next()?, words.next()?);
        let debian = SUITES.contains(&suite) && words.any(|c| c == "main");
        let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
        debian.then(|| AptSource { uri: uri.to_owned(), signed_by })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_archive_and_not_its_security_part() {
        let text = "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb\n# a comment\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
                    Components: main\nSigned-By: /usr/share/keyrings/x.gpg\n";
        let expected = AptSource { uri: "http://mirror.example/debian".into(), signed_by: Some("/usr/share/keyrings/x.gpg".into()) };
        assert_eq!(from_deb822(text), Some(expected));
    }

    #[test]
    fn reads_one_line_sources_with_options() {
        let text = "# deb http://no.example/debian stable main\ndeb https://other.example/apt cloud main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://mirror.example/debian trixie main contrib\n";
        let expected = AptSource { uri: "http://mirror.example/debian".into(), signed_by: Some("/k.gpg".into()) };
        assert_eq!(from_one_line(text), Some(expected));
    }

    #[test]
    fn skips_disabled_paragraphs() {
        assert_eq!(from_deb822("Types: deb\nEnabled: no\nURIs: http://a\nSuites: sid\nComponents: main\n"), None);
    }
}
