//! The tables of docs/figures.md: ratios, which the hour matters least to, and the times beside them; and the README's one table.

use std::fmt::Write as _;

use super::{BUSY, CRASH, FLOOR, MOVE, Numbers, Results, Series, Subject, is_floor, percentile, plot, seconds, times};

/// docs/figures.md with the figures of this benchmark between their markers.
///
/// # Errors
/// When it has no such markers.
pub fn with_figures(page: &str, subject: &Subject, numbers: &Numbers) -> Result<String, String> {
    between(page, &format!("figures of {}", subject.page), &figures(subject, numbers))
}

/// The README with its one table, of all benchmarks of servers, between its markers.
///
/// # Errors
/// When it has no such markers.
pub fn with_all_in_short(readme: &str, all: &[(&Subject, Numbers)]) -> Result<String, String> {
    let mut text = "\n|  | systole | stock agents | floor |\n|---|---|---|---|\n".to_owned();
    for (subject, numbers) in all {
        let (Some(ours), Some(theirs)) = (numbers.agent(subject.ours), numbers.agent(subject.stock[0])) else { continue };
        for row in in_short(subject, &Columns { ours, theirs, floor: numbers.agent(FLOOR) }) {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
    }
    between(readme, "figures in short", &(text + "\n"))
}

/// What stands between two markers is replaced.
fn between(page: &str, name: &str, text: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = page.find(&begin).ok_or_else(|| format!("the page has no line {}", begin.trim()))? + begin.len();
    let to = page.find(&end).filter(|to| *to >= from).ok_or_else(|| format!("the page has no line {end}"))?;
    Ok(format!("{}{text}{}", &page[..from], &page[to..]))
}

/// What a server's users ask first.
fn in_short(subject: &Subject, columns: &Columns<'_>) -> Vec<[String; 4]> {
    let Columns { ours, theirs, floor } = columns;
    let row = |what: &str, of: &dyn Fn(&Results) -> Option<String>| {
        let cell = |results: &Results| of(results).unwrap_or_default();
        [format!("{}, {what}", subject.server), cell(ours), cell(theirs), floor.map_or_else(String::new, cell)]
    };
    let outage = |what: &'static str| move |results: &Results| results.find(what, false).map(|series| seconds(series.median()));
    let crashes = |results: &Results| {
        let series = results.find(CRASH, false).filter(|_| !is_floor(results))?;
        let twice = series.faults.iter().filter(|fault| fault.two_writers).count();
        let split = if twice == 0 { String::new() } else { format!("; two servers wrote at once in {twice} of {}", series.faults.len()) };
        Some(lost(series) + &split)
    };
    let monitor = |results: &Results| {
        let cost = &results.monitor.as_ref().filter(|_| !is_floor(results))?.primary;
        let processes = cost.processes.iter().min().copied().unwrap_or_default();
        Some(format!("{:.1} ms, {processes}", percentile(&cost.cpu_ms, 0.5)))
    };
    vec![
        row("primary killed: time without writes", &outage(CRASH)),
        row("acknowledged writes lost by these crashes", &crashes),
        row("planned move: time without writes", &outage(MOVE)),
        row("a monitor that finds nothing new: processor time, processes", &monitor),
    ]
}

/// Where they are from, the table, and the plots.
fn figures(subject: &Subject, numbers: &Numbers) -> String {
    let Subject { page, command, .. } = subject;
    let stock = subject.stock[0];
    let (Some(ours), Some(theirs)) = (numbers.agent(subject.ours), numbers.agent(stock)) else { return "\n".to_owned() };
    let columns = Columns { ours, theirs, floor: numbers.agent(FLOOR) };
    let mut heads = vec![String::new(), format!("{stock} takes")];
    heads.extend(columns.floor.map(|_| "times the floor".to_owned()));
    heads.extend([subject.ours.to_owned(), stock.to_owned()]);
    heads.extend(columns.floor.map(|_| FLOOR.to_owned()));
    let steps = if plot::timeline(subject, numbers).is_some() {
        format!(", a crash step by step in [{page}-timeline.svg]({page}-timeline.svg)")
    } else {
        String::new()
    };
    let count = |results: &Results| results.find(CRASH, false).map_or(0, |series| series.faults.len());
    let words = format!(
        "`{command} {}` on {}, commit {}, {} faults of each kind{}. All of it in [{page}.md]({page}.md), each \
         outage in [{page}-outages.svg]({page}-outages.svg){steps}.",
        super::page::runs(numbers),
        numbers.machine,
        numbers.commit,
        count(ours),
        if count(theirs) == count(ours) { String::new() } else { format!(", {} with {stock}", count(theirs)) },
    );
    let mut text = format!("\n{}\n\n| {} |\n|{}\n", wrapped(&words), heads.join(" | "), "---|".repeat(heads.len()));
    for row in rows(&columns, numbers) {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text + "\n"
}

/// What is held against what.
struct Columns<'a> {
    ours: &'a Results,
    theirs: &'a Results,
    floor: Option<&'a Results>,
}

impl Columns<'_> {
    /// A row: a value for each column that has one, and the text of it.
    fn row(&self, what: &str, of: impl Fn(&Results) -> Option<(f64, String)>) -> Vec<String> {
        let (ours, theirs) = (of(self.ours), of(self.theirs));
        let value = |found: &Option<(f64, String)>| found.as_ref().map_or(f64::NAN, |(value, _)| *value);
        let text = |found: Option<(f64, String)>| found.map_or_else(String::new, |(_, text)| text);
        let more = times(value(&theirs), value(&ours));
        let mut row = vec![what.to_owned(), if more == "-" { String::new() } else { format!("{more} times as much") }];
        let floor = self.floor.map(of);
        row.extend(floor.as_ref().map(|floor| times(value(&ours), value(floor)).replace('-', "")));
        row.extend([text(ours), text(theirs)]);
        row.extend(floor.map(text));
        row
    }

    /// A row of words, without ratios; what is not there is left out.
    fn words(&self, what: String, of: impl Fn(&Results) -> Option<String>) -> Option<Vec<String>> {
        let row = self.row(&what, |results| of(results).map(|text| (f64::NAN, text)));
        of(self.ours).map(|_| row)
    }
}

fn rows(columns: &Columns<'_>, numbers: &Numbers) -> Vec<Vec<String>> {
    let outage = |what: &'static str, busy: bool| {
        move |results: &Results| results.find(what, busy).map(|series| (series.median(), median_and_longest(series)))
    };
    let processor = |results: &Results| results.find(CRASH, false)?.agents_cpu_ms().map(|ms| (ms, format!("{ms:.0} ms")));
    let busy = columns.ours.find(CRASH, true).is_some();
    let measured = columns.ours.find(CRASH, false).and_then(Series::agents_cpu_ms).is_some();
    let mut rows = vec![Some(columns.row(&format!("{CRASH}: time without writes, p50 / max"), outage(CRASH, false)))];
    rows.push(columns.words("acknowledged writes lost in these crashes".to_owned(), |results| {
        let series = results.find(CRASH, false).filter(|_| !is_floor(results))?;
        Some(format!("{} ({} crashes)", lost(series), series.faults.len()))
    }));
    rows.push(columns.words("two servers took writes at once in these crashes".to_owned(), |results| {
        let series = results.find(CRASH, false).filter(|_| !is_floor(results))?;
        Some(match series.faults.iter().filter(|fault| fault.two_writers).count() {
            0 => format!("in none of {}", series.faults.len()),
            count => format!("in {count} of {}", series.faults.len()),
        })
    }));
    rows.push(columns.words(format!("{CRASH}, each write confirmed by a replica (durability=quorum, WAIT 1)"), |results| {
        let series = results.faults.iter().find(|s| s.what.contains("durability=quorum") && !s.faults.is_empty())?;
        Some(format!("{}, {} lost", median_and_longest(series), lost(series)))
    }));
    rows.extend(with_much(columns, numbers));
    rows.push(busy.then(|| columns.row(&format!("{CRASH}{BUSY}"), outage(CRASH, true))));
    rows.push(Some(columns.row(&format!("{MOVE}: time without writes, p50 / max"), outage(MOVE, false))));
    rows.push(busy.then(|| columns.row(&format!("{MOVE}{BUSY}"), outage(MOVE, true))));
    rows.push(measured.then(|| columns.row("processor time of all agents in a crash, mean", processor)));
    rows.push(Some(columns.row("a monitor of the primary when nothing changed: CPU, wall, processes", |results| {
        let cost = &results.monitor.as_ref()?.primary;
        let (cpu, wall) = (percentile(&cost.cpu_ms, 0.5), percentile(&cost.wall_ms, 0.5));
        let processes = cost.processes.iter().min().copied().unwrap_or_default();
        Some((cpu, format!("{cpu:.1} ms, {wall:.1} ms, {processes}")))
    })));
    rows.into_iter().flatten().collect()
}

/// Crashes with much data, and with much memory.
fn with_much(columns: &Columns<'_>, numbers: &Numbers) -> Vec<Option<Vec<String>>> {
    let is_ours = |results: &Results| std::ptr::eq(results, columns.ours);
    let ballast: Vec<&Series> = numbers.ballast.iter().filter(|series| !series.faults.is_empty()).collect();
    let sizes: Vec<&str> = ballast.iter().map(|series| series.what.as_str()).collect();
    let medians: Vec<String> = ballast.iter().map(|series| seconds(series.median())).collect();
    let data = columns.words(format!("{CRASH} with {} of data, p50", sizes.join(" / ")), |results| {
        (is_ours(results) && !medians.is_empty()).then(|| medians.join(" / "))
    });
    let resident = numbers.resident.as_ref().map(|resident| &resident.series).filter(|series| !series.faults.is_empty());
    let memory = resident.and_then(|series| {
        columns
            .words(format!("{CRASH} with {}, full, p50 / max", series.what), |results| is_ours(results).then(|| median_and_longest(series)))
    });
    vec![data, memory]
}

/// Prose in the columns that the README's has.
fn wrapped(words: &str) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for word in words.split(' ') {
        let begins = column > 0 && column + 1 + word.len() > 120;
        text.push_str(if begins {
            "\n"
        } else if column > 0 {
            " "
        } else {
            ""
        });
        text.push_str(word);
        column = if begins || column == 0 { word.len() } else { column + 1 + word.len() };
    }
    text
}

fn median_and_longest(series: &Series) -> String {
    format!("{} / {}", seconds(series.median()), seconds(percentile(&series.outages(), 1.0)))
}

fn lost(series: &Series) -> String {
    let (acknowledged, lost) = series.writes();
    format!("{} of {}", with_commas(lost), with_commas(acknowledged))
}

fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test says what it saw by panicking")]
mod tests {
    use super::super::{CLIENTS, FIRST_WRITE, Fault, MYSQL, Moment, REDIS, compare, files, repository};
    use super::*;

    #[test]
    fn pages_plots_and_readme_are_what_the_numbers_of_the_last_run_say() {
        let mut all = Vec::new();
        for subject in [&REDIS, &MYSQL] {
            let text = std::fs::read_to_string(repository(&format!("docs/{}.json", subject.page))).unwrap();
            let numbers: Numbers = serde_json::from_str(&text).unwrap();
            for (name, made) in files(subject, &numbers) {
                compare(&format!("docs/{name}"), &made);
            }
            let page = std::fs::read_to_string(repository("docs/figures.md")).unwrap();
            compare("docs/figures.md", &with_figures(&page, subject, &numbers).unwrap());
            all.push((subject, numbers));
        }
        let readme = std::fs::read_to_string(repository("README.md")).unwrap();
        compare("README.md", &with_all_in_short(&readme, &all).unwrap());
    }

    /// Measuring takes half a night, so the page may not be there.
    #[test]
    fn the_page_of_primaries_that_return_is_what_its_numbers_say() {
        use super::super::rejoin;
        let Ok(text) = std::fs::read_to_string(repository(&format!("docs/{}.json", rejoin::PAGE))) else { return };
        compare(&format!("docs/{}.md", rejoin::PAGE), &rejoin::page(&serde_json::from_str(&text).unwrap()));
    }

    #[test]
    fn who_was_measured_on_other_nodes_is_held_against_the_floor_of_these() {
        use super::super::{FLOOR_OF_NEWER, WITH_MYSQL, page};
        let mut numbers = Numbers { runs: 1, ..Numbers::default() };
        for (label, outage_ms) in [(MYSQL.ours, 600.0), (WITH_MYSQL, 900.0), (FLOOR, 300.0), (FLOOR_OF_NEWER, 500.0)] {
            numbers.of(label).series(CRASH).faults.push(Fault { outage_ms, back: true, ..Fault::default() });
        }
        let text = page::of(&MYSQL, &numbers);
        for line in [
            "| ocf:systole:mysql | kill -9 of the primary | 0.60 s | +0.30 s | 2.0 |",
            "| ocf:systole:mysql, MySQL 9.7 | kill -9 of the primary | 0.90 s | +0.40 s | 1.8 |",
            "| floor | kill -9 of the primary | 0.30 s | - | - |",
            "| floor, nodes of MySQL 9.7 | kill -9 of the primary | 0.50 s | - | - |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_ratio_stands_before_the_times_that_it_is_of() {
        let mut numbers = Numbers { runs: 1, ..Numbers::default() };
        for (label, outage_ms) in [(REDIS.ours, 600.0), (REDIS.stock[0], 15_000.0), (FLOOR, 300.0)] {
            let fault = Fault { outage_ms, back: true, acknowledged: 12_345, agents_cpu_ms: Some(outage_ms / 10.0), ..Fault::default() };
            numbers.of(label).series(CRASH).faults.push(fault);
        }
        let page = "<!-- figures of benchmarks -->\nold\n<!-- /figures of benchmarks -->\nrest";
        let text = with_figures(page, &REDIS, &numbers).unwrap();
        for line in [
            "| kill -9 of the primary: time without writes, p50 / max | 25 times as much | 2.0 | 0.60 s / 0.60 s | 15.00 s / 15.00 s | 0.30 s / 0.30 s |",
            "| acknowledged writes lost in these crashes |  |  | 0 of 12,345 (1 crashes) | 0 of 12,345 (1 crashes) |  |",
            "| processor time of all agents in a crash, mean | 25 times as much | 2.0 | 60 ms | 1500 ms | 30 ms |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.contains("`make bench-redis RUNS=1` on") && text.contains(", 1 faults of each kind."), "{text}");
        (numbers.runs, numbers.stock_runs) = (2, Some(1));
        numbers.of(REDIS.ours).series(CRASH).faults.push(Fault { outage_ms: 600.0, back: true, ..Fault::default() });
        let fewer = with_figures(page, &REDIS, &numbers).unwrap();
        let told = fewer.contains("`make bench-redis RUNS=2 STOCK_RUNS=1` on")
            && fewer.contains("2 faults of each kind, 1 with ocf:heartbeat:redis.");
        assert!(told, "{fewer}");
        assert!(text.contains("(benchmarks-outages.svg)") && !text.contains("timeline"), "{text}");
        let story = vec![Moment { at_ms: 1.0, by: CLIENTS.to_owned(), text: FIRST_WRITE.to_owned() }];
        numbers.of(FLOOR).series(CRASH).faults[0].story = story;
        assert!(with_figures(page, &REDIS, &numbers).unwrap().contains("(benchmarks-timeline.svg)"));
        assert!(!text.contains("old") && text.ends_with("<!-- /figures of benchmarks -->\nrest"), "{text}");
        assert!(with_figures("no markers", &REDIS, &numbers).is_err());
    }

    #[test]
    fn the_readme_says_the_times_and_what_was_lost() {
        let mut numbers = Numbers { runs: 1, ..Numbers::default() };
        for (label, outage_ms, lost) in [(REDIS.ours, 600.0, 0), (REDIS.stock[0], 15_000.0, 345), (FLOOR, 300.0, 0)] {
            let fault = Fault { outage_ms, back: true, acknowledged: 12_345, lost, two_writers: lost > 0, ..Fault::default() };
            numbers.of(label).series(CRASH).faults.push(fault);
        }
        let page = "<!-- figures in short -->\nold\n<!-- /figures in short -->\nrest";
        let text = with_all_in_short(page, &[(&REDIS, numbers)]).unwrap();
        for line in [
            "| Redis, primary killed: time without writes | 0.60 s | 15.00 s | 0.30 s |",
            "| Redis, acknowledged writes lost by these crashes | 0 of 12,345 | 345 of 12,345; two servers wrote at once in 1 of 1 |  |",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("old") && text.ends_with("<!-- /figures in short -->\nrest"), "{text}");
    }
}
