//! The plots of the numbers, drawn as the crate `timeline` draws.

use std::fmt::Write as _;

use timeline::{Drawing, LEFT, RIGHT, ROW, Story, WIDTH, of_stories};

use super::{CRASH, FLOOR, FLOOR_OF_NEWER, Numbers, Results, Series, Subject, seconds, steps};

/// Ends of the decades that the logarithmic axis can show, milliseconds.
const DECADES: [f64; 5] = [10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];
/// Where an outage is drawn that had no end, milliseconds.
const ENDLESS: f64 = 95_000.0;

fn class(subject: &Subject, agent: &str) -> &'static str {
    match agent {
        FLOOR | FLOOR_OF_NEWER => "floor",
        agent if agent.starts_with(subject.ours) => "ours",
        _ => "stock",
    }
}

/// Every outage of every agent: a dot each, a tick at the median.
#[must_use]
pub fn outages(subject: &Subject, numbers: &Numbers) -> String {
    let mut drawing = Drawing::default();
    let measured = || numbers.agents.iter().flat_map(|r| r.faults.iter().filter(|s| !s.faults.is_empty()).map(move |s| (r, s)));
    let all: Vec<f64> = measured().flat_map(|(_, s)| s.outages()).map(|ms| ms.min(ENDLESS)).collect();
    let shortest = all.iter().copied().fold(ENDLESS, f64::min);
    let longest = all.iter().copied().fold(0.0, f64::max);
    let from = DECADES.into_iter().rev().find(|decade| *decade <= shortest).unwrap_or(DECADES[0]);
    let to = DECADES.into_iter().find(|decade| *decade >= longest).unwrap_or(ENDLESS);
    let x = |ms: f64| LEFT + (RIGHT - LEFT) * (ms.clamp(from, to).ln() - from.ln()) / (to.ln() - from.ln());
    drawing.y += 8.0;
    drawing.text(12.0, "start", "head", &format!("{}: time without an acknowledged write", subject.title));
    drawing.text(WIDTH - 12.0, "end", "soft", "p50");
    let top = drawing.y + 14.0;
    let mut faults: Vec<&str> = Vec::new();
    for (_, series) in measured() {
        if !faults.contains(&series.what.as_str()) {
            faults.push(&series.what);
        }
    }
    // By fault, so that what is to be compared stands together: crashes before moves.
    faults.sort_by_key(|fault| (!fault.starts_with(CRASH), fault.ends_with(super::BUSY)));
    for (n, fault) in faults.iter().enumerate() {
        // Agents whose acknowledgements are called differently stand under one heading.
        let kind = |what: &str| (what.starts_with(CRASH), what.ends_with(super::BUSY));
        if n == 0 || kind(faults[n - 1]) != kind(fault) {
            let done = if kind(fault).0 { CRASH } else { super::MOVE };
            drawing.heading(&format!("{done}{}", if kind(fault).1 { super::BUSY } else { "" }));
        }
        for (agent, series) in measured().filter(|(_, series)| series.what == **fault) {
            drawing.y += ROW;
            strip(&mut drawing, class(subject, &agent.agent), &label(agent, series), series, &x);
        }
    }
    let steps = [10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0];
    let marks: Vec<(f64, String)> =
        steps.into_iter().filter(|ms| (from..=to).contains(ms)).map(|ms| (x(ms), format!("{} s", ms / 1000.0))).collect();
    drawing.axis(top, &marks);
    drawing.finish(&format!("Outages of the agents for {}", subject.title))
}

/// The agent, and what is said of the series beside what its heading says.
fn label(agent: &Results, series: &Series) -> String {
    match series.what.split_once(", ") {
        Some((_, more)) if !series.what.ends_with(super::BUSY) && more != "plain acknowledgements" => {
            format!("{}, {}", agent.agent, more.split(", ").next().unwrap_or_default())
        }
        _ => agent.agent.clone(),
    }
}

fn strip(drawing: &mut Drawing, class: &str, label: &str, series: &Series, x: &dyn Fn(f64) -> f64) {
    drawing.text(LEFT - 12.0, "end", "", label);
    let _ = writeln!(drawing.body, r#"<g class="{class}">"#);
    for (n, fault) in series.faults.iter().enumerate() {
        // Side by side where many are alike.
        let y = drawing.y + ((n * 7 % 5) as f64 - 2.0) * 2.0;
        let (at, class) = if fault.back { (fault.outage_ms, "dot") } else { (ENDLESS, "endless") };
        let _ = writeln!(drawing.body, r#"<circle class="{class}" cx="{:.1}" cy="{y:.1}" r="3"/>"#, x(at));
    }
    let (median, y) = (x(series.median()), drawing.y);
    let _ = writeln!(drawing.body, r#"<path stroke-width="2" d="M{median:.1} {:.1}V{:.1}"/></g>"#, y - 8.0, y + 8.0);
    drawing.text(WIDTH - 12.0, "end", "", &seconds(series.median()));
}

/// A crash of our agent and one of the floor, step by step; `None` when no story was kept.
#[must_use]
pub fn timeline(subject: &Subject, numbers: &Numbers) -> Option<String> {
    let stories: Vec<Story> = [subject.ours, FLOOR]
        .into_iter()
        .filter_map(|label| {
            let fault = numbers.agent(label)?.find(CRASH, false)?.typical()?;
            let heading = format!("{label}, {CRASH}: {} without a write", seconds(fault.outage_ms));
            Some(Story { heading, class: class(subject, label), steps: steps(&fault.story) })
        })
        .collect();
    of_stories(&format!("The steps of a crash, {}", subject.title), &stories)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::{Fault, MOVE, Moment, REDIS};
    use super::*;

    fn numbers() -> Numbers {
        let mut numbers = Numbers::default();
        for (label, outage_ms) in [("ocf:systole:redis", 590.0), ("ocf:heartbeat:redis", 14_290.0), (FLOOR, 300.0)] {
            for what in [CRASH, MOVE] {
                let story =
                    vec![Moment { at_ms: outage_ms, by: super::super::CLIENTS.to_owned(), text: super::super::FIRST_WRITE.to_owned() }];
                let faults =
                    (0..3).map(|n| Fault { outage_ms: outage_ms + f64::from(n), back: n < 2, story: story.clone(), ..Fault::default() });
                numbers.of(label).series(what).faults.extend(faults);
            }
        }
        numbers
    }

    /// The attribute of the elements with this class.
    fn attributes(svg: &str, class: &str, attribute: &str) -> Vec<f64> {
        let document = roxmltree::Document::parse(svg).unwrap();
        let found = document.descendants().filter(|n| n.attribute("class") == Some(class)).filter_map(|n| n.attribute(attribute));
        found.map(|value| value.parse().unwrap()).collect()
    }

    #[test]
    fn each_outage_is_a_dot_where_the_logarithmic_axis_has_it() {
        let svg = outages(&REDIS, &numbers());
        let dots = attributes(&svg, "dot", "cx");
        assert_eq!((dots.len(), attributes(&svg, "endless", "cx").len()), (12, 6), "{svg}");
        // From 0.1 s to 100 s there are three decades.
        let at = |ms: f64| LEFT + (RIGHT - LEFT) * (ms / 100.0).log10() / 3.0;
        assert!((dots[0] - at(590.0)).abs() < 0.1 && (dots[2] - at(14_290.0)).abs() < 0.1, "{dots:?}");
        assert!(dots.iter().all(|x| (LEFT..=RIGHT).contains(x)));
    }

    #[test]
    fn a_timeline_is_to_scale_and_there_is_none_without_a_story() {
        let svg = timeline(&REDIS, &numbers()).unwrap();
        let bars = attributes(&svg, "bar", "width");
        assert_eq!(bars.len(), 2, "{svg}");
        assert!((bars[1] / bars[0] - 301.0 / 591.0).abs() < 0.02, "{bars:?}");
        assert!(timeline(&REDIS, &Numbers::default()).is_none());
    }

    #[test]
    fn a_plot_has_text_colours_for_both_schemes_and_nothing_that_runs() {
        for svg in [outages(&REDIS, &numbers()), timeline(&REDIS, &numbers()).unwrap()] {
            assert!(svg.contains("<text") && svg.contains("prefers-color-scheme:dark") && !svg.contains("script"));
            assert!(svg.len() < 20_000, "{}", svg.len());
        }
    }
}
