//! A crontab, read by the rules of Debian's cron (entry.c, env.c of cron 3.0pl1). Pure: no clock, no environment, no I/O.
//!
//! Where cron drops something in silence (the rest of a field, a range that is empty) or ignores the whole file, this says so
//! instead: a job that never runs is found before it is missed.

use std::fmt;

/// The longest command and the longest variable that cron 3.0pl1 reads, bytes.
const LONGEST: usize = 998;

/// Which kind of crontab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// /etc/crontab, /etc/cron.d: a user between the times and the command.
    System,
    /// Of one user, as `crontab -l` prints it.
    User,
}

/// A crontab, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crontab {
    /// Its lines.
    pub items: Vec<Item>,
}

/// A line, or several that mean nothing to cron.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A comment or an empty line, as it stands.
    Text(String),
    /// A variable for the jobs after it.
    Variable {
        /// Counted from 1.
        line: usize,
        /// Without quotes.
        name: String,
        /// Without quotes and blanks around it.
        value: String,
        /// As it stands.
        text: String,
    },
    /// A job.
    Job(Job),
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Counted from 1.
    pub line: usize,
    /// When it runs.
    pub when: When,
    /// As whom, in a system crontab.
    pub user: Option<String>,
    /// Everything after that, `%` included.
    pub command: String,
}

/// When a job runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// `@reboot`: when cron starts.
    Reboot,
    /// At these times.
    Times(Times),
}

/// The five time fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// As written, one blank between fields; `@daily` and the like as they stand.
    pub text: String,
    /// 0 to 59.
    pub minute: Field,
    /// 0 to 23.
    pub hour: Field,
    /// 1 to 31.
    pub day: Field,
    /// 1 to 12.
    pub month: Field,
    /// 0 (Sunday) to 6.
    pub weekday: Field,
}

impl Times {
    /// Whether a day must match both day fields. By cron's rule either one is enough, unless one of them begins with `*`.
    pub fn both_days(&self) -> bool {
        self.day.star || self.weekday.star
    }

    /// Whether the job goes by the wall clock's every move. The others are not run twice when a clock goes back, and are made up
    /// for when it goes forward.
    pub fn wildcard(&self) -> bool {
        self.minute.star || self.hour.star
    }
}

/// A time field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bit n: the value n.
    bits: u64,
    /// Whether it begins with `*`, be it `*` or `*/2`.
    star: bool,
}

impl Field {
    /// Its values in order.
    pub fn values(self) -> impl Iterator<Item = u8> {
        (0..64).filter(move |n| self.bits & (1 << n) != 0)
    }

    /// Whether it has this value.
    pub fn has(self, value: u32) -> bool {
        value < 64 && self.bits & (1 << value) != 0
    }
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Which part of it.
    pub part: &'static str,
    /// What is wrong, and what to write.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, {}: {}", self.line, self.part, self.text)
    }
}

/// The bounds and names of a field.
struct Rule {
    part: &'static str,
    low: u8,
    high: u8,
    names: &'static [&'static str],
}

const MINUTE: Rule = Rule { part: "minute", low: 0, high: 59, names: &[] };
const HOUR: Rule = Rule { part: "hour", low: 0, high: 23, names: &[] };
const DAY: Rule = Rule { part: "day of month", low: 1, high: 31, names: &[] };
const MONTH: Rule =
    Rule { part: "month", low: 1, high: 12, names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] };
const WEEKDAY: Rule = Rule { part: "day of week", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// `@` words and what they stand for. In these, cron lets a day match when both fields do.
const WORDS: &[(&str, &str)] = &[
    ("yearly", "0 0 1 1 *"),
    ("annually", "0 0 1 1 *"),
    ("monthly", "0 0 1 * *"),
    ("weekly", "0 0 * * 0"),
    ("daily", "0 0 * * *"),
    ("midnight", "0 0 * * *"),
    ("hourly", "0 * * * *"),
];

/// Variables that are rules to another cron (cronie), and nothing but a part of the environment to Debian's: whoever has written them
/// expects other times than those at which the jobs would run.
const FOREIGN: &[(&str, &str)] =
    &[("CRON_TZ", "the times are those of the node's own time zone"), ("RANDOM_DELAY", "each job begins at its time, without a delay")];

impl Crontab {
    /// What another cron would read otherwise than Debian's, by whose rules this is read. It is no error of the text: a job that runs
    /// goes on. But nobody should begin with it.
    pub fn foreign_rules(&self) -> Vec<Problem> {
        let rule = |item: &Item| {
            let Item::Variable { line, name, .. } = item else { return None };
            let (name, meaning) = FOREIGN.iter().find(|(known, _)| known == name)?;
            let text = format!("{name} means nothing to Debian's cron, {meaning}: take it out, and write the times that you mean");
            Some(Problem { line: *line, part: "variable", text })
        };
        self.items.iter().filter_map(rule).collect()
    }

    /// Reads a crontab.
    ///
    /// # Errors
    /// All that is wrong with it, in order.
    pub fn parse(text: &str, format: Format) -> Result<Self, Vec<Problem>> {
        let mut items = Vec::new();
        let mut problems = Vec::new();
        // Not `lines`, which takes a carriage return for a part of the end.
        for (index, line) in text.strip_suffix('\n').unwrap_or(text).split('\n').enumerate() {
            match item(index + 1, line, format) {
                Ok(item) => items.push(item),
                Err(problem) => problems.push(problem),
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            problems.push(Problem {
                line: text.split('\n').count(),
                part: "end",
                text: "there is no newline at the end of the last line: cron would ignore the whole file; add one".into(),
            });
        }
        if problems.is_empty() { Ok(Self { items }) } else { Err(problems) }
    }

    /// What can be made of a crontab of somebody else's: the jobs of the lines that are no errors to cron, though perhaps to
    /// [`Self::parse`]. Their times count for nothing.
    pub fn as_far_as_it_goes(text: &str, format: Format) -> Self {
        let any_time = |line: &str| {
            let mut rest = line.trim_start_matches([' ', '\t']);
            for _ in 0..if rest.starts_with('@') { 1 } else { 5 } {
                rest = word(rest).1;
            }
            format!("* * * * * {rest}")
        };
        let read = |(index, line): (usize, &str)| item(index + 1, line, format).or_else(|_| item(index + 1, &any_time(line), format)).ok();
        Self { items: text.split('\n').enumerate().filter_map(read).collect() }
    }

    /// The jobs in order, each with the variables that hold for it.
    pub fn jobs(&self) -> impl Iterator<Item = (&Job, Vec<(&str, &str)>)> {
        let mut variables: Vec<(&str, &str)> = Vec::new();
        self.items.iter().filter_map(move |item| match item {
            Item::Text(_) => None,
            Item::Variable { name, value, .. } => {
                variables.retain(|(known, _)| known != name);
                variables.push((name, value));
                None
            }
            Item::Job(job) => Some((job, variables.clone())),
        })
    }
}

fn item(line: usize, text: &str, format: Format) -> Result<Item, Problem> {
    let problem = |part: &'static str, text: String| Problem { line, part, text };
    let rest = text.trim_start_matches([' ', '\t']);
    if rest.is_empty() || rest.starts_with('#') {
        return Ok(Item::Text(text.to_owned()));
    }
    if let Some(c) = rest.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(problem("text", format!("there is a control character ({c:?}): a file from Windows? Convert it with dos2unix")));
    }
    if let Some((name, value)) = variable(text) {
        if name.is_empty() {
            return Err(problem("variable", "there is no name before the equals sign".into()));
        }
        if text.len() > LONGEST {
            return Err(problem("variable", format!("it is longer than {LONGEST} bytes: cron would cut it off")));
        }
        return Ok(Item::Variable { line, name, value, text: text.to_owned() });
    }
    let (when, rest) = when(line, rest)?;
    let (user, command) = match format {
        Format::User => (None, rest),
        Format::System => {
            let (user, command) = word(rest);
            (Some(user.to_owned()), command)
        }
    };
    // It may be a password that stands where the user should, and what is said here stands in the CIB and in logs.
    if user.as_deref().is_some_and(|user| user.contains(OF_NO_TIME) || user.contains('/')) {
        return Err(problem("user", "it is no name: in this kind of crontab the user stands between the times and the command".into()));
    }
    if user.as_deref() == Some("") {
        return Err(problem("user", "there is none: in this kind of crontab the user stands between the times and the command".into()));
    }
    if command.is_empty() {
        let hint = if format == Format::System { "; did the user's name fall out before it?" } else { "" };
        return Err(problem("command", format!("there is none{hint}")));
    }
    if format == Format::User && command.starts_with('*') {
        return Err(problem("command", "it begins with an asterisk: there is one time field too many".into()));
    }
    if command.len() > LONGEST {
        return Err(problem(
            "command",
            format!("it is longer than {LONGEST} bytes: cron would ignore the whole file; put it into a script"),
        ));
    }
    Ok(Item::Job(Job { line, when, user, command: command.to_owned() }))
}

/// The first word, and what follows the blanks after it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start_matches([' ', '\t']))
}

fn when(line: usize, text: &str) -> Result<(When, &str), Problem> {
    let Some(special) = text.strip_prefix('@') else { return fields(line, text).map(|(times, rest)| (When::Times(times), rest)) };
    let (name, rest) = word(special);
    if name == "reboot" {
        return Ok((When::Reboot, rest));
    }
    let Some((_, meaning)) = WORDS.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = WORDS.iter().map(|(known, _)| *known).collect();
        let text = format!("@{name} is not known: write one of @reboot, @{}, in small letters", known.join(", @"));
        return Err(Problem { line, part: "time", text });
    };
    let (times, _) = fields(line, meaning)?;
    Ok((When::Times(Times { text: format!("@{name}"), ..times }), rest))
}

fn fields(line: usize, text: &str) -> Result<(Times, &str), Problem> {
    let mut rest = text;
    let mut words = String::new();
    let mut next = |rule: &Rule| {
        let (text, after) = word(rest);
        rest = after;
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(text);
        field(text, rule).map_err(|text| Problem { line, part: rule.part, text })
    };
    let (minute, hour, day, month, weekday) = (next(&MINUTE)?, next(&HOUR)?, next(&DAY)?, next(&MONTH)?, next(&WEEKDAY)?);
    // 7 is Sunday as well.
    let weekday = Field { bits: (weekday.bits | (weekday.bits >> 7 & 1)) & 0x7f, ..weekday };
    Ok((Times { text: words, minute, hour, day, month, weekday }, rest))
}

/// What no time has, but a variable or a command; and no name of a user either, which has no slash besides.
const OF_NO_TIME: [char; 5] = ['=', ':', '$', '"', '\''];

/// list = range {"," range}; range = "*" ["/" step] | value | value "-" value ["/" step]
fn field(text: &str, rule: &Rule) -> Result<Field, String> {
    if text.is_empty() {
        return Err("it is missing: a job has five time fields before its command".into());
    }
    // It may be a part of a variable with a password.
    if text.contains(OF_NO_TIME) {
        return Err("it is no time: a field is missing before it, or something follows the closing quote of a variable".into());
    }
    let mut bits = 0;
    for part in text.split(',') {
        bits |= range(part, rule)?;
    }
    Ok(Field { bits, star: text.starts_with('*') })
}

fn range(text: &str, rule: &Rule) -> Result<u64, String> {
    let (span, step) = match text.split_once('/') {
        None => (text, 1),
        Some((span, step)) => {
            let number = step.parse::<u32>().ok().filter(|n| *n > 0 && step.bytes().all(|b| b.is_ascii_digit()));
            (span, number.ok_or_else(|| format!("the step {step:?} is not a number above 0"))?)
        }
    };
    let (first, last) = match span.split_once('-') {
        _ if span == "*" => (rule.low, rule.high),
        None if text != span => return Err(format!("{text} has a step without a range: write {span}-{}/{step}", rule.high)),
        None => {
            let only = value(span, rule)?;
            (only, only)
        }
        Some((first, last)) => (value(first, rule)?, value(last, rule)?),
    };
    if first > last {
        return Err(format!("the range {span} is empty, so that the job would never run: write {first}-{},{}-{last}", rule.high, rule.low));
    }
    Ok((first..=last).step_by(step as usize).fold(0, |bits, n| bits | 1 << n))
}

fn value(text: &str, rule: &Rule) -> Result<u8, String> {
    if let Some(index) = rule.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        return Ok(rule.low + u8::try_from(index).unwrap_or_default());
    }
    let number = text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    match number {
        Some(n) => u8::try_from(n)
            .ok()
            .filter(|n| (rule.low..=rule.high).contains(n))
            .ok_or_else(|| format!("{n} is not in {}-{}", rule.low, rule.high)),
        None if rule.names.is_empty() => Err(format!("{text:?} is not a number in {}-{}", rule.low, rule.high)),
        None => Err(format!("{text:?} is neither a number in {}-{} nor one of {}", rule.low, rule.high, rule.names.join(" "))),
    }
}

/// A line as a variable, if it is one: `name = value`, each with or without quotes.
fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim_start_matches([' ', '\t']);
    let quoted = |text: &str| text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (name, rest) = match quoted(line) {
        Some(quote) => {
            let (name, rest) = line[1..].split_once(quote)?;
            (name, rest)
        }
        None => line.split_at(line.find(|c: char| c.is_ascii_whitespace() || c == '=')?),
    };
    if name.contains('=') {
        return None;
    }
    let value = rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).strip_prefix('=')?;
    let value = value.trim_matches(|c: char| c.is_ascii_whitespace());
    match quoted(value) {
        // What is quoted ends with the quote, and nothing follows.
        Some(quote) => {
            let (inside, after) = value[1..].split_once(quote)?;
            after.is_empty().then(|| (name.to_owned(), inside.to_owned()))
        }
        None => Some((name.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
#[path = "crontab_tests.rs"]
mod tests;
