//! MySQL's sets: for each server and tag, intervals of transaction numbers.

use std::collections::BTreeMap;
use std::fmt;

use super::beginning;

/// Transaction numbers are 63 bits wide.
const LAST: u64 = i64::MAX as u64;

/// Sorted, apart from each other, both ends included.
type Intervals = Vec<(u64, u64)>;

/// A set of transactions: `uuid[:tag]:interval[:interval...]`, several of them apart by commas. Printed without white
/// space, in the order of the servers, with lower case letters, and with neighbours joined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct MySqlSet {
    /// By server and tag, which is empty for transactions without one.
    sources: BTreeMap<(u128, String), Intervals>,
}

impl MySqlSet {
    /// Reads a set. White space, line ends and empty parts between commas do not matter.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let malformed = |what: &str| format!("GTID set {:?} {what}: uuid:1-5 was expected", beginning(part));
            let mut words = part.split(':').map(str::trim);
            let uuid = words.next().and_then(parse_uuid).ok_or_else(|| malformed("does not begin with a server's UUID"))?;
            let (mut tag, mut intervals) = (String::new(), 0);
            for word in words {
                if let Some(interval) = parse_interval(word) {
                    set.sources.entry((uuid, tag.clone())).or_default().push(interval);
                    intervals += 1;
                } else if is_tag(word) && (tag.is_empty() || intervals > 0) {
                    tag = word.to_ascii_lowercase();
                    intervals = 0;
                } else {
                    return Err(malformed(&format!("contains {:?}", beginning(word))));
                }
            }
            if intervals == 0 {
                return Err(malformed("ends without an interval"));
            }
        }
        for intervals in set.sources.values_mut() {
            join_neighbours(intervals);
        }
        Ok(set)
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many transactions there are.
    pub(crate) fn count(&self) -> u64 {
        self.sources.values().flatten().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }

    /// Whether everything of `other` is in here.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        other.sources.iter().all(|(source, theirs)| self.sources.get(source).is_some_and(|mine| without(theirs, mine).is_empty()))
    }

    /// Both together.
    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (source, theirs) in &other.sources {
            let mine = both.sources.entry(source.clone()).or_default();
            mine.extend(theirs);
            join_neighbours(mine);
        }
        both
    }

    /// What is in here and not in `other`.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        let rest = |(source, mine): (&(u128, String), &Intervals)| {
            let left = other.sources.get(source).map_or_else(|| mine.clone(), |theirs| without(mine, theirs));
            (!left.is_empty()).then(|| (source.clone(), left))
        };
        Self { sources: self.sources.iter().filter_map(rest).collect() }
    }

    /// What the server with this UUID wrote, with any tag. Nothing for a text that is no UUID.
    pub(crate) fn by(&self, server: &str) -> Self {
        let uuid = parse_uuid(server.trim());
        let wrote = |source: &(u128, String)| Some(source.0) == uuid;
        Self { sources: self.sources.iter().filter(|(source, _)| wrote(source)).map(|(s, i)| (s.clone(), i.clone())).collect() }
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    let dashes = [8, 13, 18, 23];
    let well_formed = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() });
    well_formed.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok())?
}

fn parse_interval(text: &str) -> Option<(u64, u64)> {
    let number = |text: &str| {
        let text = text.trim();
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?.filter(|n| (1..=LAST).contains(n))
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (number(first)?, number(last)?),
        None => (number(text)?, number(text)?),
    };
    (first <= last).then_some((first, last))
}

fn is_tag(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= 32 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn join_neighbours(intervals: &mut Intervals) {
    intervals.sort_unstable();
    let mut joined = Intervals::with_capacity(intervals.len());
    for &(first, last) in intervals.iter() {
        match joined.last_mut() {
            // Both are at most 63 bits wide: no overflow.
            Some(before) if first <= before.1 + 1 => before.1 = before.1.max(last),
            _ => joined.push((first, last)),
        }
    }
    *intervals = joined;
}

/// `mine` without `theirs`, in one walk along both.
fn without(mine: &Intervals, theirs: &Intervals) -> Intervals {
    let mut left = Intervals::new();
    let mut theirs = theirs.iter().peekable();
    for &(first, last) in mine {
        let mut next = first;
        while theirs.next_if(|t| t.1 < next).is_some() {}
        // The last of these may reach into the next of mine, so they are looked at and left: what ends before that is passed over there.
        let mut ahead = theirs.clone();
        while let Some(&(from, to)) = ahead.next_if(|t| t.0 <= last) {
            if from > next {
                left.push((next, from - 1));
            }
            next = to + 1;
        }
        if next <= last {
            left.push((next, last));
        }
    }
    left
}

impl fmt::Display for MySqlSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for ((uuid, tag), intervals) in &self.sources {
            if before != Some(*uuid) {
                if before.is_some() {
                    f.write_str(",")?;
                }
                let hex = format!("{uuid:032x}");
                write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])?;
                before = Some(*uuid);
            }
            if !tag.is_empty() {
                write!(f, ":{tag}")?;
            }
            for (first, last) in intervals {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}
