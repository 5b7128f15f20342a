//! What must not leave the site: the passwords and tokens in the cluster's configuration. Pure but for reading the files that it names.

use std::path::Path;

use roxmltree::Document;

/// What stands in the place of a secret.
const MASK: &str = "(masked)";
/// What the name of a secret has in it.
const NAMES: &[&str] = &["passw", "secret", "token", "credential", "api_key", "apikey", "access_key"];
/// A shorter secret is masked where it stands as a parameter's value, and nowhere else: as a piece of words it would garble all.
const SHORTEST: usize = 4;

/// The site's secrets.
#[derive(Debug, Default)]
pub struct Secrets {
    values: Vec<String>,
    configuration: String,
}

/// Whether the value of a parameter is a secret. The name of a file that holds one is none.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    NAMES.iter().any(|word| name.contains(word)) && !is_file_of_one(&name)
}

fn is_file_of_one(name: &str) -> bool {
    name.ends_with("_file") || name.ends_with("-file")
}

impl Secrets {
    /// Those in a configuration, and in the files that it names; `read` reads such a file.
    ///
    /// # Errors
    /// That the configuration is no XML: what is a secret in it cannot be told.
    pub fn of(configuration: &str, read: impl Fn(&Path) -> Option<String>) -> Result<Self, String> {
        let document = Document::parse(configuration).map_err(|e| format!("the configuration is no XML: {e}"))?;
        let (mut values, mut ranges) = (Vec::new(), Vec::new());
        for pair in document.descendants().filter(|node| node.has_tag_name("nvpair")) {
            let (Some(name), Some(value)) = (pair.attribute("name"), pair.attribute_node("value")) else { continue };
            if is_secret(name) {
                values.push(value.value().to_owned());
                ranges.push(value.range_value());
            } else if is_file_of_one(&name.to_lowercase()) && NAMES.iter().any(|word| name.to_lowercase().contains(word)) {
                values.extend(read(Path::new(value.value())).iter().flat_map(|text| text.lines()).map(|line| line.trim().to_owned()));
            }
        }
        let mut masked = configuration.to_owned();
        // From behind, so that what is before keeps its place.
        ranges.sort_by_key(|range| std::cmp::Reverse(range.start));
        ranges.into_iter().for_each(|range| masked.replace_range(range, MASK));
        values.retain(|value| value.chars().count() >= SHORTEST);
        // The longest first: one may be the beginning of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        let mut secrets = Self { values, configuration: String::new() };
        secrets.configuration = secrets.hidden(&masked);
        Ok(secrets)
    }

    /// A text without them.
    #[must_use]
    pub fn hidden(&self, text: &str) -> String {
        self.values.iter().fold(text.to_owned(), |text, value| text.replace(value, MASK))
    }

    /// The configuration without them.
    #[must_use]
    pub fn configuration(&self) -> &str {
        &self.configuration
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIB: &str = r#"<configuration><nvpair id="1" name="test_passwd" value="s3cr&quot;t&amp;1"/>
        <nvpair id="2" name="config" value="/etc/my.cnf"/><nvpair name="PASSWORD" id="3" value="abc"/>
        <nvpair id="4" name="replication_passwd_file" value="/etc/pw"/><nvpair id="5" name="api_key" value="s3cr&quot;t"/>
        <nvpair id="6" name="note" value="it is from-the-file"/></configuration>"#;

    #[test]
    fn secrets_are_masked_in_the_configuration_and_in_whatever_repeats_them() {
        let secrets = Secrets::of(CIB, |path| (path == Path::new("/etc/pw")).then(|| "from-the-file\n".to_owned())).unwrap();
        let masked = secrets.configuration();
        for secret in ["s3cr", "abc", "from-the-file"] {
            assert!(!masked.contains(secret), "{secret}: {masked}");
        }
        for kept in ["/etc/my.cnf", "/etc/pw", r#"name="PASSWORD" id="3" value="(masked)""#] {
            assert!(masked.contains(kept), "{kept}: {masked}");
        }
        Document::parse(masked).unwrap();
        assert_eq!(secrets.hidden("login s3cr\"t&1 and s3cr\"t, abc"), "login (masked) and (masked), abc");
    }

    #[test]
    fn what_is_no_configuration_hides_nothing_and_is_an_error() {
        assert!(Secrets::of("<configuration", |_| None).is_err());
    }
}
