//! What `systole doctor` prints. Pure.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::findings::{Examined, Finding};
use crate::table::Table;

/// For people: each finding with the line to write below it.
#[must_use]
pub fn pretty(examined: &Examined, findings: &[Finding]) -> String {
    let answered = examined.answers().count();
    let level = examined.level(findings).word();
    let what = if examined.cluster.is_some() { "nodes" } else { "machines, and no cluster was asked" };
    let mut out = format!("{level}: {answered} of {} {what}\n\n", examined.heard.len());
    for finding in findings {
        let about = finding.about.as_ref().map_or_else(String::new, |about| format!("{about}: "));
        let _ = writeln!(out, "{}: {}: {about}{}", finding.level.word(), finding.check, finding.text);
        if let Some(line) = &finding.line {
            let _ = writeln!(out, "    {line}");
        }
    }
    let unseen = examined.not_looked_at();
    let is_good = |check: &&str| !unseen.contains_key(*check) && !findings.iter().any(|finding| finding.check == *check);
    let good: Vec<&str> = examined.looked_at().into_iter().filter(is_good).collect();
    if answered > 0 && !good.is_empty() {
        let _ = writeln!(out, "{}good: {}", if findings.is_empty() { "" } else { "\n" }, good.join(", "));
    }
    for (check, why) in unseen {
        let _ = writeln!(out, "not looked at: {check}: {}", why.join("; "));
    }
    out
}

/// For scripts: a line for each finding.
#[must_use]
pub fn tsv(findings: &[Finding]) -> String {
    let mut table = Table::new(&["LEVEL", "CHECK", "ABOUT", "TEXT", "LINE"]);
    for finding in findings {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (level, check) = (finding.level.word().to_owned(), finding.check.to_owned());
        table.row(vec![level, check, text(&finding.about), finding.text.clone(), text(&finding.line)]);
    }
    table.tsv()
}

/// For programs.
#[must_use]
pub fn json(examined: &Examined, findings: &[Finding]) -> Value {
    let all = findings.iter().map(|finding| {
        json!({
            "level": finding.level.word(), "check": finding.check, "about": finding.about, "text": finding.text, "line": finding.line,
        })
    });
    json!({
        "level": examined.level(findings).word(),
        "cluster": examined.cluster.is_some(),
        "nodes": examined.heard.keys().collect::<Vec<_>>(),
        "answered": examined.answers().map(|(node, _)| node).collect::<Vec<_>>(),
        "findings": all.collect::<Vec<_>>(),
        "not_looked_at": examined.not_looked_at(),
    })
}
