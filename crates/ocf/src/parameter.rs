//! Resource parameters: declared once, and parsed, checked, documented from that declaration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::{Environment, Failure};

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text without control characters.
    Text,
    /// An absolute path.
    Path,
    /// A file or user name: no slash, not empty.
    Name,
    /// A whole number within the bounds, both included.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// yes/no, true/false, on/off, 1/0.
    Boolean,
    /// A duration: a number with `ms`, `s`, `m` or `h` (seconds without a unit).
    Time,
    /// An IPv4 or IPv6 address, perhaps with the length of its network's prefix behind a slash.
    Address,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// The declaration of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name, without `OCF_RESKEY_`.
    pub name: &'static str,
    /// What a value must look like.
    pub kind: Kind,
    /// The value when none is given; empty for none.
    pub default: &'static str,
    /// One line.
    pub short: &'static str,
    /// Paragraphs, separated by an empty line.
    pub long: &'static str,
    /// Whether a value must be given.
    pub required: bool,
    /// Parameters that share a group must differ together from every other resource of the type on a node.
    pub unique: Option<&'static str>,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Whether `reload-agent` takes a new value without a restart.
    pub reloadable: bool,
}

impl Parameter {
    /// A parameter with the given name and kind, optional, not unique, without a default.
    pub const fn new(name: &'static str, kind: Kind, short: &'static str) -> Self {
        Self { name, kind, default: "", short, long: short, required: false, unique: None, secret: false, reloadable: false }
    }

    /// Sets the default.
    pub const fn or(mut self, default: &'static str) -> Self {
        self.default = default;
        self
    }

    /// Sets the long description.
    pub const fn about(mut self, long: &'static str) -> Self {
        self.long = long;
        self
    }

    /// Puts it into a group of values that must be unique together.
    pub const fn unique(mut self, group: &'static str) -> Self {
        self.unique = Some(group);
        self
    }

    /// Makes it necessary.
    pub const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    /// Makes it a secret.
    pub const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Makes it reloadable.
    pub const fn reloadable(mut self) -> Self {
        self.reloadable = true;
        self
    }

    /// Checks one value.
    fn check(&self, value: &str) -> Result<(), String> {
        if value.chars().any(char::is_control) {
            return Err("holds a control character".into());
        }
        let ok = match self.kind {
            Kind::Text => true,
            Kind::Path => value.starts_with('/'),
            Kind::Name => !value.is_empty() && !value.contains('/') && value != "." && value != "..",
            Kind::Integer { min, max } => value.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Kind::Boolean => boolean(value).is_some(),
            Kind::Time => time(value).is_some(),
            Kind::Address => address(value).is_some(),
            Kind::Choice(words) => words.contains(&value),
        };
        if ok { Ok(()) } else { Err(format!("is not {}", self.expectation())) }
    }

    /// What a value must look like, in words.
    pub fn expectation(&self) -> String {
        match self.kind {
            Kind::Text => "text".into(),
            Kind::Path => "an absolute path".into(),
            Kind::Name => "a plain name without a slash".into(),
            Kind::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Boolean => "yes or no".into(),
            Kind::Time => "a duration such as 30s".into(),
            Kind::Address => "an IPv4 or IPv6 address such as 192.0.2.10 or 2001:db8::10".into(),
            Kind::Choice(words) => format!("one of {}", words.join(", ")),
        }
    }
}

/// Reads a boolean as Pacemaker's tools and the stock agents do.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "yes" | "true" | "1" | "on" | "y" => Some(true),
        "no" | "false" | "0" | "off" | "n" => Some(false),
        _ => None,
    }
}

/// Reads a duration.
fn time(value: &str) -> Option<Duration> {
    let digits = value.len() - value.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = value.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit.trim() {
        "" | "s" | "sec" => number.checked_mul(1000)?,
        "ms" | "msec" => number,
        "m" | "min" => number.checked_mul(60_000)?,
        "h" | "hr" => number.checked_mul(3_600_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(millis))
}

/// Reads an address, with the length of its prefix if that is given.
fn address(value: &str) -> Option<(IpAddr, Option<u8>)> {
    let (text, prefix) = value.split_once('/').map_or((value, None), |(text, prefix)| (text, Some(prefix)));
    let address: IpAddr = text.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let Some(prefix) = prefix else { return Some((address, None)) };
    let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let length = prefix.parse().ok().filter(|length| digits && (1..=longest).contains(length))?;
    Some((address, Some(length)))
}

/// A value that is never printed, not even by `{:?}`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("******")
    }
}

/// The checked parameter values of a resource.
#[derive(Clone, Debug, Default)]
pub struct Values {
    given: BTreeMap<&'static str, String>,
    /// What an operator has to correct, while the instance goes on with other values.
    complaints: RefCell<Vec<String>>,
}

/// The words of a choice, for [`Kind::Choice`]: each is written once, beside what it stands for.
pub const fn words<T: Copy, const N: usize>(choice: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = choice[at].0;
        at += 1;
    }
    words
}

impl Values {
    /// Reads the declared parameters and checks each.
    ///
    /// # Errors
    /// One of the configuration ([`crate::Code::Configured`]) for the first value that is missing or malformed: a resource's parameters are the
    /// same on every node, so what is malformed here is malformed everywhere. The value itself is not repeated
    /// when it is a secret.
    pub fn read(declared: &[Parameter], environment: &Environment) -> Result<Self, Failure> {
        let mut given = BTreeMap::new();
        for parameter in declared {
            match value_of(parameter, environment) {
                Ok(Some(value)) => drop(given.insert(parameter.name, value.to_owned())),
                Ok(None) => {}
                Err(complaint) => return Err(Failure::configured(complaint)),
            }
        }
        Ok(Self { given, complaints: RefCell::default() })
    }

    /// The same for actions on an instance that may be running, which a typing error must not bring down: in the place of a value that
    /// is malformed or missing stands the `last` one that was right, or the default.
    pub fn read_leniently(declared: &[Parameter], environment: &Environment, last: impl FnOnce() -> LastValues) -> Self {
        // Read only when a value is wrong.
        let last = std::cell::LazyCell::new(last);
        let mut given = BTreeMap::new();
        let mut complaints = Vec::new();
        for parameter in declared {
            match value_of(parameter, environment) {
                Ok(Some(value)) => drop(given.insert(parameter.name, value.to_owned())),
                Ok(None) => {}
                Err(complaint) => match last.0.get(parameter.name) {
                    Some(value) => {
                        complaints.push(format!("{complaint}; {value} is still used"));
                        given.insert(parameter.name, value.clone());
                    }
                    None => complaints.push(format!("{complaint}; the default is used")),
                },
            }
        }
        Self { given, complaints: RefCell::new(complaints) }
    }

    /// The failure of values that are each fine and cannot be true together. They are the same on every node.
    ///
    /// `start` and `validate-all` refuse for it. A running instance goes on, and its monitor says so.
    pub fn contradiction(&self, reason: impl Into<String>) -> Failure {
        let reason = reason.into();
        self.complaints.borrow_mut().push(reason.clone());
        Failure::configured(reason)
    }

    /// What is wrong with the values, for the operator.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.complaints.borrow().clone()
    }

    /// Whether the operator gave a value.
    pub fn is_given(&self, parameter: &Parameter) -> bool {
        self.given.contains_key(parameter.name)
    }

    /// The value or the default; empty when there is neither.
    pub fn text(&self, parameter: &Parameter) -> &str {
        self.given.get(parameter.name).map_or(parameter.default, String::as_str)
    }

    /// The value as what its word stands for; `otherwise` for a word that is none of them.
    pub fn choice<T: Copy>(&self, parameter: &Parameter, words: &[(&str, T)], otherwise: T) -> T {
        let text = self.text(parameter);
        words.iter().find(|(word, _)| *word == text).map_or(otherwise, |(_, meaning)| *meaning)
    }

    /// The value as a path, `None` when there is none.
    pub fn path(&self, parameter: &Parameter) -> Option<PathBuf> {
        Some(self.text(parameter)).filter(|v| !v.is_empty()).map(PathBuf::from)
    }

    /// The value as a number; a declaration without a default reads as 0.
    pub fn integer(&self, parameter: &Parameter) -> i64 {
        self.text(parameter).parse().unwrap_or_default()
    }

    /// The value as a boolean.
    pub fn boolean(&self, parameter: &Parameter) -> bool {
        boolean(self.text(parameter)).unwrap_or_default()
    }

    /// The value as a duration.
    pub fn time(&self, parameter: &Parameter) -> Duration {
        time(self.text(parameter)).unwrap_or_default()
    }

    /// The value as an address, with the length of its prefix if that is given; `None` when there is none.
    pub fn address(&self, parameter: &Parameter) -> Option<(IpAddr, Option<u8>)> {
        address(self.text(parameter))
    }

    /// The value as a secret, `None` when there is none.
    pub fn secret(&self, parameter: &Parameter) -> Option<Secret> {
        Some(self.text(parameter)).filter(|v| !v.is_empty()).map(Secret::new)
    }
}

/// The value that is given, `None` when there is none; the error is a complaint that never holds a secret.
fn value_of<'a>(parameter: &Parameter, environment: &'a Environment) -> Result<Option<&'a str>, String> {
    match environment.parameter(parameter.name).filter(|value| !value.is_empty()) {
        Some(value) => parameter.check(value).map(|()| Some(value)).map_err(|why| {
            let shown = if parameter.secret { "******".to_owned() } else { value.escape_debug().to_string() };
            format!("parameter {} ({shown}) {why}", parameter.name)
        }),
        None if parameter.required => Err(format!("parameter {} is missing: {}", parameter.name, parameter.short)),
        None => Ok(None),
    }
}

/// The values of a resource's parameters when they were all right the last time, without the secrets: what a running instance goes on
/// with while an operator corrects one. In a file that only root can read and every boot deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastValues(BTreeMap<String, String>);

impl LastValues {
    fn path(environment: &Environment) -> PathBuf {
        environment.temporary_directory().join(format!("systole-{}.parameters", environment.resource()))
    }

    /// Those of the resource; none when nothing is remembered.
    pub(crate) fn load(environment: &Environment) -> Self {
        let text = std::fs::read_to_string(Self::path(environment)).unwrap_or_default();
        Self(text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Remembers values that are all right. A value holds no line end. That they cannot be remembered keeps nobody from working with them.
    pub(crate) fn keep(environment: &Environment, declared: &[Parameter], values: &Values) {
        let open = declared.iter().filter(|parameter| !parameter.secret);
        let text: String = open.filter_map(|p| values.given.get(p.name).map(|value| format!("{}={value}\n", p.name))).collect();
        let path = Self::path(environment);
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            let _ = std::fs::create_dir_all(environment.temporary_directory());
            let _ = process::write_atomically(&path, text.as_bytes(), 0o600);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Parameter = Parameter::new("port", Kind::Integer { min: 1, max: 65535 }, "port").or("6379");
    const WORD: Parameter = Parameter::new("word", Kind::Text, "word").secret();
    const WAIT: Parameter = Parameter::new("wait", Kind::Time, "wait").or("5s");

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().map(|(k, v)| (format!("OCF_RESKEY_{k}"), (*v).to_owned())))
    }

    #[test]
    fn defaults_apply_when_nothing_or_nothing_but_emptiness_is_given() {
        let values = Values::read(&[PORT], &environment(&[("port", "")])).unwrap();
        assert_eq!(values.integer(&PORT), 6379);
    }

    #[test]
    fn a_malformed_value_is_named_with_what_was_expected() {
        let failure = Values::read(&[PORT], &environment(&[("port", "70000")])).unwrap_err();
        assert_eq!(failure.code(), crate::Code::Configured);
        assert_eq!(failure.reason, "parameter port (70000) is not a whole number from 1 to 65535");
    }

    #[test]
    fn a_malformed_secret_is_not_shown() {
        let failure = Values::read(&[WORD], &environment(&[("word", "hun\nter2")])).unwrap_err();
        assert!(!failure.reason.contains("hun"), "{failure}");
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "******");
    }

    #[test]
    fn a_running_instance_goes_on_with_the_last_value_or_the_default() {
        let values = Values::read_leniently(&[PORT], &environment(&[("port", "x")]), LastValues::default);
        assert_eq!(values.integer(&PORT), 6379);
        assert_eq!(values.complaints().len(), 1);
        let last = LastValues(BTreeMap::from([("port".to_owned(), "7000".to_owned())]));
        let values = Values::read_leniently(&[PORT], &environment(&[("port", "x")]), || last.clone());
        assert_eq!(values.integer(&PORT), 7000);
        assert_eq!(values.complaints(), ["parameter port (x) is not a whole number from 1 to 65535; 7000 is still used"]);
        assert_eq!(
            Values::read_leniently(&[PORT], &environment(&[]), || last.clone()).integer(&PORT),
            6379,
            "nothing given is the default"
        );
    }

    #[test]
    fn the_last_values_read_back_without_the_secrets() {
        let directory = std::env::temp_dir().join(format!("systole-parameters-{}", std::process::id()));
        let environment = Environment::from_pairs([
            ("HA_RSCTMP".to_owned(), directory.display().to_string()),
            ("OCF_RESKEY_port".to_owned(), "7000".to_owned()),
            ("OCF_RESKEY_word".to_owned(), "hunter2".to_owned()),
        ]);
        let declared = [PORT, WORD];
        LastValues::keep(&environment, &declared, &Values::read(&declared, &environment).unwrap());
        assert_eq!(LastValues::load(&environment).0, BTreeMap::from([("port".to_owned(), "7000".to_owned())]));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn addresses_are_the_same_however_they_are_written() {
        const IP: Parameter = Parameter::new("ip", Kind::Address, "address");
        let read = |text| Values::read(&[IP], &environment(&[("ip", text)])).ok().and_then(|values| values.address(&IP));
        assert_eq!(read("2001:DB8:0::5"), read("2001:db8::5"));
        assert_eq!(read("192.0.2.5/24"), Some(("192.0.2.5".parse().unwrap(), Some(24))));
        for wrong in [
            "192.0.2",
            "192.0.2.256",
            "192.0.02.1",
            "192.0.2.5/",
            "192.0.2.5/33",
            "192.0.2.5/+8",
            "192.0.2.5/0",
            "fe80::1%eth0",
            "::1/129",
            " ::1",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_take_units() {
        for (text, millis) in [("5", 5000), ("5s", 5000), ("250ms", 250), ("2m", 120_000), ("1h", 3_600_000)] {
            let values = Values::read(&[WAIT], &environment(&[("wait", text)])).unwrap();
            assert_eq!(values.time(&WAIT), Duration::from_millis(millis), "{text}");
        }
        assert!(Values::read(&[WAIT], &environment(&[("wait", "5 weeks")])).is_err());
        assert!(Values::read(&[WAIT], &environment(&[("wait", "99999999999999999999h")])).is_err());
    }
}
