//! What must not leave the site: the passwords and tokens in the cluster's configuration. Pure but for reading the files that it names.

use std::path::Path;

use roxmltree::Document;

/// What stands in the place of a secret.
const MASK: &str = "(masked)";
/// What the name of a secret has in it.
const NAMES: &[&str] =
    &["passw", "passphrase", "masterauth", "requirepass", "secret", "token", "credential", "api_key", "apikey", "access_key"];
/// A shorter secret is masked where it stands as a parameter's value, and nowhere else: as a piece of words it would garble all.
const SHORTEST: usize = 4;

/// The site's secrets.
#[derive(Debug, Default)]
pub struct Secrets {
    values: Vec<String>,
    configuration: String,
    /// The files with secrets that could not be read, and why.
    pub unread: Vec<String>,
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
    /// Those in a configuration, and in the files that it names; `read` reads such a file, or says why not.
    ///
    /// # Errors
    /// That the configuration is no XML: what is a secret in it cannot be told.
    pub fn of(configuration: &str, read: impl Fn(&Path) -> Result<String, String>) -> Result<Self, String> {
        let document = Document::parse(configuration).map_err(|e| format!("the configuration is no XML: {e}"))?;
        let (mut values, mut ranges, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for pair in document.descendants().filter(|node| node.has_tag_name("nvpair")) {
            let (Some(name), Some(value)) = (pair.attribute("name"), pair.attribute_node("value")) else { continue };
            if is_secret(name) {
                values.push(value.value().to_owned());
                ranges.push(value.range_value());
            } else if is_file_of_one(&name.to_lowercase()) && NAMES.iter().any(|word| name.to_lowercase().contains(word)) {
                match read(Path::new(value.value())) {
                    Ok(text) => values.extend(text.lines().map(|line| line.trim().to_owned())),
                    Err(why) => unread.push(format!("{}: {why}", value.value())),
                }
            }
        }
        values.retain(|value| value.chars().count() >= SHORTEST);
        // The longest first: one may be the beginning of another.
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        // What repeats one stands there as XML writes it, and is looked for as it was meant.
        let mut places: Vec<_> = ranges.into_iter().map(|range| (range, MASK.to_owned())).collect();
        for attribute in document.descendants().flat_map(|node| node.attributes()) {
            let hidden = values.iter().fold(attribute.value().to_owned(), |text, value| text.replace(value, MASK));
            let place = attribute.range_value();
            if hidden != attribute.value() && !places.iter().any(|(known, _)| known.start == place.start) {
                places.push((place, crate::cib::escaped(&hidden)));
            }
        }
        let mut masked = configuration.to_owned();
        // From behind, so that what is before keeps its place.
        places.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
        places.into_iter().for_each(|(range, text)| masked.replace_range(range, &text));
        unread.dedup();
        let mut secrets = Self { values, configuration: String::new(), unread };
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
        <nvpair id="6" name="note" value="it is from-the-file"/>
        <nvpair id="7" name="options" value="--x=s3cr&quot;t&amp;1"/></configuration>"#;

    #[test]
    fn secrets_are_masked_in_the_configuration_and_in_whatever_repeats_them() {
        let read = |path: &Path| if path == Path::new("/etc/pw") { Ok("from-the-file\n".to_owned()) } else { Err("who knows".to_owned()) };
        let secrets = Secrets::of(CIB, read).unwrap();
        assert!(secrets.unread.is_empty(), "{:?}", secrets.unread);
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
        assert!(Secrets::of("<configuration", |_| Err(String::new())).is_err());
    }

    /// `masterauth_file` has no word for a password in its name, and what stands in it was published.
    #[test]
    fn the_passwords_of_redis_are_secrets_and_a_file_that_is_refused_is_named() {
        let cib = r#"<configuration><nvpair name="masterauth_file" value="/etc/redis/auth"/><nvpair name="masterauth" value="word-in-it"/>
            <nvpair name="requirepass" value="another-one"/><nvpair name="test_passwd_file" value="/etc/open"/></configuration>"#;
        let read = |path: &Path| match path.to_str() {
            Some("/etc/redis/auth") => Ok("of-the-file".to_owned()),
            _ => Err("others may read it".to_owned()),
        };
        let secrets = Secrets::of(cib, read).unwrap();
        assert_eq!(secrets.hidden("AUTH of-the-file word-in-it another-one"), "AUTH (masked) (masked) (masked)");
        assert!(!secrets.configuration().contains("word-in-it") && !secrets.configuration().contains("another-one"));
        assert_eq!(secrets.unread, ["/etc/open: others may read it"]);
    }
}
