//! Which code no test reaches: a table by crate, and the functions that were never entered, each with the reason that stands in
//! tests/coverage/reasons. Pure but for what `main` reads.
//!
//! What llvm-cov counts is taken anew from its regions: it counts the unit tests with the code beside which they stand, a function once
//! for each type that it was compiled for, and functions that a macro made of a declaration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

/// What `llvm-cov export --format=text` writes, as far as it is read.
#[derive(Debug, Deserialize)]
pub struct Export {
    data: Vec<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    functions: Vec<Function>,
}

/// A function as it was compiled, for one set of types.
#[derive(Debug, Deserialize)]
struct Function {
    filenames: Vec<String>,
    regions: Vec<Region>,
}

/// First line, first column, last line, last column, how often, which of the function's files, another file, kind.
type Region = (u32, u32, u32, u32, u64, usize, usize, u8);

/// A region that is code; the others are macros and what is between.
const CODE: u8 = 0;

/// Begin and end in a file: line and column.
type Span = ((u32, u32), (u32, u32));

/// One file of what is shipped.
#[derive(Debug, Default)]
struct File {
    /// How often each piece was run.
    regions: BTreeMap<Span, u64>,
    /// By where it begins: its name, and how often it was entered.
    functions: BTreeMap<(u32, u32), (String, u64)>,
}

/// Of how many, how many were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    reached: usize,
    all: usize,
}

impl Share {
    fn of(reached: impl Iterator<Item = bool>) -> Self {
        reached.fold(Self::default(), |share, reached| Self { reached: share.reached + usize::from(reached), all: share.all + 1 })
    }

    fn and(self, other: Self) -> Self {
        Self { reached: self.reached + other.reached, all: self.all + other.all }
    }

    /// `93.4 % of 1234`.
    fn words(self) -> String {
        // In thousandths, cut: 100 % is all of it.
        let thousandths = (self.reached * 1000).checked_div(self.all).unwrap_or(1000);
        format!("{}.{} % of {}", thousandths / 10, thousandths % 10, self.all)
    }
}

impl File {
    /// By llvm's rule: a line is reached when a piece that begins on it was run or, where none begins, the piece that goes on there.
    fn lines(&self) -> Share {
        let mut lines: BTreeMap<u32, u64> = BTreeMap::new();
        // The inner ones after the outer ones.
        let mut outer_first: Vec<_> = self.regions.iter().collect();
        outer_first.sort_by_key(|((begin, end), _)| (*begin, std::cmp::Reverse(*end)));
        for ((begin, end), count) in &outer_first {
            lines.extend((begin.0..=end.0).map(|line| (line, **count)));
        }
        let mut starting: BTreeMap<u32, u64> = BTreeMap::new();
        for ((begin, _), count) in outer_first {
            let most = starting.entry(begin.0).or_default();
            *most = (*most).max(*count);
        }
        lines.extend(starting);
        Share::of(lines.values().map(|count| *count > 0))
    }
}

/// What is shipped, as far as it was compiled for the tests.
#[derive(Debug)]
pub struct Measured(BTreeMap<String, File>);

/// Whether the file ends up in a program that operators get. The others are tests and what tests are made of.
fn is_shipped(path: &str) -> bool {
    let shipped =
        ["agents/", "crates/command/", "crates/ocf/", "crates/pacemaker/", "crates/process/", "crates/promotable/", "crates/timeline/"];
    let name = path.rsplit('/').next().unwrap_or(path);
    shipped.iter().any(|crate_| path.starts_with(crate_))
        && path.contains("/src/")
        && !path.contains("/model/")
        && !name.ends_with("_tests.rs")
        && !["tests.rs", "slowest.rs", "in_memory.rs", "parsers.rs"].contains(&name)
}

/// The name of the function that begins here. `None` for a closure, and for the part of an asynchronous function behind its first line.
fn name_at(source: &[&str], (line, column): (u32, u32)) -> Option<String> {
    let line = source.get(usize::try_from(line).ok()?.checked_sub(1)?)?;
    let code = line.get(usize::try_from(column).ok()?.checked_sub(1)?..)?;
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe ", "extern \"C\" "];
    let code = std::iter::successors(Some(code), |code| words.iter().find_map(|word| code.strip_prefix(word))).last()?;
    let name: String = code.strip_prefix("fn ")?.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The line at which the tests of a file begin that stand in it.
fn tests_begin(source: &[&str]) -> u32 {
    let at = source.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {"));
    at.and_then(|at| u32::try_from(at + 1).ok()).unwrap_or(u32::MAX)
}

impl Measured {
    /// Of what was compiled below `root`; `source` reads a file by its path from there.
    pub fn of(export: &Export, root: &Path, source: impl Fn(&str) -> Option<String>) -> Self {
        let mut files: BTreeMap<String, File> = BTreeMap::new();
        let mut sources: BTreeMap<String, String> = BTreeMap::new();
        for function in export.data.iter().flat_map(|data| &data.functions) {
            let Some(path) = function.filenames.first().and_then(|file| Path::new(file).strip_prefix(root).ok()?.to_str()) else {
                continue;
            };
            if !is_shipped(path) {
                continue;
            }
            let text = sources.entry(path.to_owned()).or_insert_with(|| source(path).unwrap_or_default());
            files.entry(path.to_owned()).or_default().add(function, &text.lines().collect::<Vec<_>>());
        }
        files.retain(|_, file| !file.regions.is_empty());
        Self(files)
    }
}

impl File {
    fn add(&mut self, function: &Function, source: &[&str]) {
        let mut code = function.regions.iter().filter(|r| r.5 == 0 && r.7 == CODE).map(|r| (((r.0, r.1), (r.2, r.3)), r.4)).peekable();
        let Some(((begin, _), entered)) = code.peek().copied() else { return };
        if begin.0 >= tests_begin(source) {
            return;
        }
        if let Some(name) = name_at(source, begin) {
            self.functions.entry(begin).or_insert((name, 0)).1 += entered;
        }
        for (span, count) in code {
            *self.regions.entry(span).or_default() += count;
        }
    }
}

/// Why a function is never entered, by file and name; by file alone for all that are there.
#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<(String, Option<String>), String>);

impl Reasons {
    /// Reads lines `FILE: REASON` and `FILE FUNCTION: REASON`; the first kind is for all functions of the file.
    ///
    /// # Errors
    /// The line that is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut reasons = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let (place, reason) = line.split_once(": ").ok_or_else(|| format!("reasons: {line:?} is not FILE FUNCTION: REASON"))?;
            let (file, function) = place.split_once(' ').map_or((place, None), |(file, function)| (file, Some(function.to_owned())));
            reasons.insert((file.to_owned(), function), reason.trim().to_owned());
        }
        Ok(Self(reasons))
    }

    /// The place in the file of reasons that speaks of this function.
    fn place(&self, file: &str, function: &str) -> Option<(String, Option<String>)> {
        [Some(function.to_owned()), None].into_iter().map(|function| (file.to_owned(), function)).find(|place| self.0.contains_key(place))
    }
}

impl Measured {
    /// File and name of each function that was never entered, in the order of the files.
    fn never_entered(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(path, file)| {
            let never = file.functions.values().filter(|(_, entered)| *entered == 0);
            never.map(|(name, _)| (path.as_str(), name.as_str()))
        })
    }

    /// By crate: functions, lines and regions.
    fn crates(&self) -> BTreeMap<&str, [Share; 3]> {
        let mut crates: BTreeMap<&str, [Share; 3]> = BTreeMap::new();
        for (path, file) in &self.0 {
            let name = path.split_once("/src/").map_or(path.as_str(), |(name, _)| name);
            let functions = Share::of(file.functions.values().map(|(_, entered)| *entered > 0));
            let regions = Share::of(file.regions.values().map(|count| *count > 0));
            let sum = crates.entry(name).or_default();
            *sum = [sum[0].and(functions), sum[1].and(file.lines()), sum[2].and(regions)];
        }
        crates
    }

    /// The table by crate, in Markdown.
    pub fn table(&self) -> String {
        let crates = self.crates();
        let all = crates.values().fold([Share::default(); 3], |sum, row| [0, 1, 2].map(|column| sum[column].and(row[column])));
        let row = |name: &str, shares: &[Share; 3]| format!("| {name} | {} |\n", shares.map(Share::words).join(" | "));
        let rows: String = crates.iter().map(|(name, shares)| row(name, shares)).collect();
        format!("| crate | functions | lines | regions |\n|---|---|---|---|\n{rows}{}", row("all", &all))
    }

    /// Functions without a reason, and reasons without a function: a line each. Empty when there are none.
    pub fn wanting(&self, reasons: &Reasons) -> String {
        let mut text = String::new();
        let mut spoken_of = BTreeSet::new();
        for (file, function) in self.never_entered() {
            match reasons.place(file, function) {
                Some(place) => drop(spoken_of.insert(place)),
                None => drop(writeln!(text, "no test enters it, and tests/coverage/reasons does not say why: {file} {function}")),
            }
        }
        for (file, function) in reasons.0.keys().filter(|place| !spoken_of.contains(*place)) {
            let function = function.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
            let _ = writeln!(text, "tests/coverage/reasons speaks of what a test enters, or what is gone: {file}{function}");
        }
        text
    }

    /// The page. `tests`: which ones ran; `commit`: of which code.
    pub fn page(&self, reasons: &Reasons, tests: &str, commit: &str) -> String {
        let mut by_reason: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for (file, function) in self.never_entered() {
            let reason = reasons.place(file, function).and_then(|place| reasons.0.get(&place)).map_or("", String::as_str);
            by_reason.entry((file, reason)).or_default().push(function);
        }
        let mut rows = String::new();
        for ((file, reason), mut functions) in by_reason {
            functions.dedup();
            let names = functions.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let reason = if reason.is_empty() { "**none is known**" } else { reason };
            let _ = writeln!(rows, "| {file} | {names} | {reason} |");
        }
        format!("{}\n\n{}\n{HOW}\n{NEVER}\n{rows}", HEAD.replace("TESTS", tests).replace("COMMIT", commit), self.table())
    }
}

const HEAD: &str = "# Coverage

Which code of the programs that operators get is run by which tests: `make coverage` writes this page. It was written at
commit COMMIT, by these tests: TESTS.";

const HOW: &str =
    "Tests, and what only tests are made of, are not counted. There is no number that has to be reached: what counts is the list
below, and that somebody can say of each line in it why it is there. An agent that a test kills has counted as well: it
counts in a file that it shares with the kernel. What is started without the environment of the tests (the watcher of a
server, a job's wrapper that cron starts) writes its count when it ends by itself and where it may write, and is missing
otherwise. The scenarios in the rehearsal cluster are not among it: their nodes have the package as it is shipped.

## Never entered by any of these tests

The reasons are written by hand, in tests/coverage/reasons. `make coverage` prints each function that has none, and each
reason that is not needed any more.
";

const NEVER: &str = "| file | functions | why |\n|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "pub(crate) fn used() {\n    if no {\n        bad();\n    }\n}\n\nasync fn unused() {\n    1\n}\n\n#[cfg(test)]\nmod tests {\n    fn test() {}\n}\n";

    fn measured(functions: &str) -> Measured {
        let export = serde_json::from_str(&format!(r#"{{"data":[{{"functions":[{functions}]}}]}}"#)).unwrap();
        Measured::of(&export, Path::new("/r"), |_| Some(SOURCE.to_owned()))
    }

    /// As llvm-cov has it: `used` compiled for two types, of which one was run; a function nobody entered; a test; a crate of others.
    fn example() -> Measured {
        let file = |path: &str, regions: &str| format!(r#"{{"name":"x","count":1,"filenames":["{path}"],"regions":[{regions}]}}"#);
        let used = "[1,1,1,21,NN,0,0,0],[2,8,2,10,NN,0,0,0],[2,11,4,6,0,0,0,0],[4,6,4,7,NN,0,0,3],[5,1,5,2,NN,0,0,0]";
        let here = "/r/agents/redis/src/a.rs";
        measured(
            &[
                file(here, &used.replace("NN", "0")),
                file(here, &used.replace("NN", "3")),
                file(here, "[7,1,9,2,0,0,0,0]"),
                file(here, "[7,19,9,2,0,0,0,0]"),
                file(here, "[13,5,13,17,0,0,0,0]"),
                file("/r/agents/redis/src/model/b.rs", "[1,1,1,9,0,0,0,0]"),
                file("/elsewhere/agents/redis/src/a.rs", "[1,1,1,9,0,0,0,0]"),
            ]
            .join(","),
        )
    }

    #[test]
    fn what_is_shipped_is_counted_once_and_no_test_is() {
        let table = example().table();
        // Of the functions one of two; the lines are 1 to 5 and 7 to 9, of which 3, 4 and the last three were not run.
        assert!(table.contains("| agents/redis | 50.0 % of 2 | 37.5 % of 8 | 50.0 % of 6 |"), "{table}");
        assert!(table.contains("| all | 50.0 % of 2 |"), "{table}");
    }

    #[test]
    fn a_function_without_a_reason_and_a_reason_without_a_function_are_told() {
        let all = example();
        let none = Reasons::default();
        assert!(all.wanting(&none).contains("agents/redis/src/a.rs unused\n"), "{}", all.wanting(&none));
        assert!(all.page(&none, "t", "c").contains("| `unused` | **none is known** |"));
        let reasons =
            "# why\nagents/redis/src/a.rs unused: since: nobody\nagents/redis/src/a.rs used: it is\nagents/redis/src/gone.rs: x\n";
        let reasons = Reasons::parse(reasons).unwrap();
        assert!(all.page(&reasons, "t", "c").contains("| agents/redis/src/a.rs | `unused` | since: nobody |"));
        let wanting = all.wanting(&reasons);
        assert_eq!(wanting.lines().count(), 2, "{wanting}");
        assert!(wanting.contains("is gone: agents/redis/src/a.rs used\n") && wanting.contains("gone.rs\n"), "{wanting}");
        assert_eq!(all.wanting(&Reasons::parse("agents/redis/src/a.rs: all of it").unwrap()), "");
        assert!(Reasons::parse("agents/redis/src/a.rs").is_err());
    }

    #[test]
    fn nothing_is_all_of_nothing_and_almost_all_is_not_all() {
        assert_eq!(Share::default().words(), "100.0 % of 0");
        assert_eq!(Share { reached: 9999, all: 10000 }.words(), "99.9 % of 10000");
    }
}
