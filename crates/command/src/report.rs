//! `systole report`: all that is known of a failover on one page that needs nothing else. Pure.
//!
//! All text comes into the page through `Page::text`, which masks what is secret and escapes the rest.

use std::fmt::Write as _;

use promotable::history::Promotion;

use crate::history::{History, reason, seconds, utc};
use crate::picture::{Database, Picture};
use crate::secrets::Secrets;
use crate::status::Status;
use crate::timeline::Timeline;

/// What the page is made of.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// How things are now.
    pub picture: &'a Picture,
    /// The database.
    pub database: &'a Database,
    /// What the nodes remember.
    pub history: &'a History,
    /// The promotion that it is about, when one is remembered.
    pub promotion: Option<&'a Promotion>,
    /// What the journals say of it.
    pub timeline: &'a Timeline,
    /// When the page was made: seconds since 1970.
    pub made: u64,
}

/// How it looks: in light and dark, and on narrow screens.
const STYLE: &str = include_str!("report.css");
/// Nothing is loaded, and nothing runs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// A page that grows downwards.
struct Page<'a> {
    html: String,
    secrets: &'a Secrets,
}

impl Page<'_> {
    /// Markup of ours.
    fn raw(&mut self, markup: &str) -> &mut Self {
        self.html.push_str(markup);
        self
    }

    /// A text of whomever.
    fn text(&mut self, text: &str) -> &mut Self {
        let hidden = self.secrets.hidden(text);
        for c in hidden.chars() {
            match c {
                '&' => self.html.push_str("&amp;"),
                '<' => self.html.push_str("&lt;"),
                '>' => self.html.push_str("&gt;"),
                '"' => self.html.push_str("&quot;"),
                '\'' => self.html.push_str("&#39;"),
                c => self.html.push(shown(c)),
            }
        }
        self
    }

    /// Markup around a text.
    fn element(&mut self, begin: &str, text: &str, end: &str) -> &mut Self {
        self.raw(begin).text(text).raw(end)
    }

    fn section(&mut self, id: &str, heading: &str) {
        let _ = write!(self.html, "<section id=\"{id}\">");
        self.element("<h2>", heading, "</h2>\n");
    }

    /// A table; the first line has the heads. It scrolls by itself where the screen is narrow.
    fn table(&mut self, class: &str, rows: &[Vec<String>]) {
        let _ = write!(self.html, "<div class=\"wide\"><table class=\"{class}\">");
        for (n, row) in rows.iter().enumerate() {
            let (begin, end) = if n == 0 { ("<th>", "</th>") } else { ("<td>", "</td>") };
            self.raw("<tr>");
            row.iter().for_each(|cell| {
                self.element(begin, cell, end);
            });
            self.raw("</tr>\n");
        }
        self.raw("</table></div>\n");
    }

    fn folded(&mut self, summary: &str, text: &str) {
        self.element("<details><summary>", summary, "</summary>");
        self.element("<pre>", text, "</pre></details>\n");
    }
}

/// A letter, or a blank in the place of one that no browser shows or that turns the text around.
fn shown(c: char) -> char {
    let forges = (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if forges { ' ' } else { c }
}

/// The page.
#[must_use]
pub fn page(material: &Material<'_>, secrets: &Secrets) -> String {
    let mut page = Page { html: String::new(), secrets };
    let title = title(material);
    page.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n");
    page.raw(
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\n",
    );
    let _ = writeln!(page.html, "<meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">");
    page.element("<title>", &title, "</title>\n").raw("<style>").raw(STYLE).raw("</style></head><body><main>\n");
    head(&mut page, material, &title);
    story(&mut page, material);
    now(&mut page, material);
    history(&mut page, material);
    logs(&mut page, material);
    page.section("configuration", "Configuration");
    page.raw("<p class=\"soft\">As it is now. Passwords are masked.</p>\n");
    page.folded("the cluster's configuration (CIB)", secrets.configuration());
    page.raw("</section>\n");
    let made = format!("Made by systole {} at {}.", env!("CARGO_PKG_VERSION"), utc(material.made));
    page.element("<footer>", &made, "</footer></main></body></html>\n");
    page.html
}

fn title(material: &Material<'_>) -> String {
    let name = &material.database.clone;
    match material.promotion {
        None => format!("{name}: no failover is remembered"),
        Some(promotion) => format!("{name}: {} in epoch {}", promotion.kind.words(), promotion.epoch),
    }
}

fn head(page: &mut Page<'_>, material: &Material<'_>, title: &str) {
    page.element("<header><h1>", title, "</h1>\n");
    if let Some(promotion) = material.promotion {
        let from = promotion.from.as_deref().unwrap_or("nobody");
        page.raw("<dl class=\"figures\">");
        let outage = promotion.outage_ms.map_or_else(|| "not known".to_owned(), seconds);
        let facts =
            [("primary", format!("{from} → {}", promotion.to)), ("nobody was promoted for", outage), ("over at", utc(promotion.at))];
        for (what, value) in facts {
            page.element("<div><dt>", what, "</dt>").element("<dd>", &value, "</dd></div>\n");
        }
        page.raw("</dl>");
        let reason = reason(promotion);
        if !reason.is_empty() {
            page.element("<p class=\"reason\">", &reason, "</p>\n");
        }
    }
    let missing = material.history.unanswered.iter().map(|(node, why)| format!("what {node} remembers is missing: it {why}"));
    let remarks: Vec<String> = missing.chain(material.timeline.remarks()).collect();
    if !remarks.is_empty() {
        page.raw("<ul class=\"remarks\">");
        remarks.iter().for_each(|remark| {
            page.element("<li>", remark, "</li>");
        });
        page.raw("</ul>");
    }
    page.raw("</header>\n");
}

fn story(page: &mut Page<'_>, material: &Material<'_>) {
    page.section("timeline", "Timeline");
    let timeline = material.timeline;
    let svg = timeline.svg(&format!("{}: the steps, from the first sign in the journals", material.database.clone));
    if timeline.events.is_empty() {
        page.raw("<p>The journals say nothing of that time.</p>\n");
    }
    if let Some(svg) = svg {
        // Its texts are escaped already.
        let svg: String = page.secrets.hidden(&svg).chars().map(shown).collect();
        page.raw("<div class=\"wide\">").raw(&svg).raw("</div>\n");
    }
    if !timeline.events.is_empty() {
        let begun = format!("0 is {}, by the nodes' clocks.", utc(timeline.zero / 1_000_000));
        page.element("<p class=\"soft\">", &begun, "</p>\n");
        let mut rows = vec![["s", "node", "line", "what it means"].map(str::to_owned).to_vec()];
        rows.extend(timeline.rows().into_iter().map(|(s, node, line, meaning)| vec![format!("{s:+.3}"), node, line, meaning]));
        page.table("lines", &rows);
    }
    page.raw("</section>\n");
}

fn now(page: &mut Page<'_>, material: &Material<'_>) {
    page.section("now", "How it is now");
    let Ok(status) = Status::of(material.picture, Some(&material.database.name)) else {
        page.raw("</section>");
        return;
    };
    let pretty = status.pretty();
    let lines: Vec<&str> = pretty.lines().collect();
    let head = lines.iter().take(3).filter(|line| !line.is_empty());
    head.for_each(|line| {
        page.element("<p>", line, "</p>\n");
    });
    let rows: Vec<Vec<String>> = status.tsv().lines().map(|line| line.split('\t').skip(1).map(str::to_owned).collect()).collect();
    page.table("status", &rows);
    if !status.notices.is_empty() {
        page.raw("<ul class=\"notices\">");
        for notice in &status.notices {
            let _ = write!(page.html, "<li class=\"{}\">", notice.level.word());
            page.element("<b>", notice.level.word(), "</b> ").text(&notice.text).raw("</li>\n");
        }
        page.raw("</ul>");
    }
    if let Some(record) = &material.database.record_text {
        page.raw("<h3>Record</h3>").element("<pre>", record, "</pre>\n");
    }
    page.raw("</section>\n");
}

fn history(page: &mut Page<'_>, material: &Material<'_>) {
    page.section("history", "History");
    let rows: Vec<Vec<String>> = material.history.tsv().lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect();
    if rows.len() > 1 {
        page.table("history", &rows);
    } else {
        page.raw("<p>No promotion is remembered.</p>\n");
    }
    page.raw("</section>\n");
}

/// All lines of that time, by node.
fn logs(page: &mut Page<'_>, material: &Material<'_>) {
    page.section("logs", "Logs");
    for node in &material.picture.nodes {
        let lines: Vec<String> = material
            .timeline
            .all
            .iter()
            .filter(|event| event.by == node.name)
            .map(|event| format!("{}.{:03}  {}", utc(event.at_us / 1_000_000).trim_end_matches('Z'), event.at_us / 1000 % 1000, event.text))
            .collect();
        page.folded(&format!("{}, {} lines", node.name, lines.len()), &lines.join("\n"));
    }
    page.raw("</section>\n");
}
