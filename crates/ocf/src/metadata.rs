//! Meta-data XML, man page and documentation table, generated from the declarations.

use std::fmt::Write as _;

use crate::{Description, Kind, Parameter};

/// A role that a monitor watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The promoted instance.
    Promoted,
    /// The others.
    Unpromoted,
}

/// An advertised action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// The name that Pacemaker calls.
    pub name: &'static str,
    /// Advertised timeout in seconds.
    pub timeout: u32,
    /// Advertised interval in seconds.
    pub interval: Option<u32>,
    /// Check level (`OCF_CHECK_LEVEL`).
    pub depth: Option<u32>,
    /// The role that it is for.
    pub role: Option<Role>,
}

impl Action {
    /// An action without interval and role.
    pub(crate) const fn new(name: &'static str, timeout: u32) -> Self {
        Self { name, timeout, interval: None, depth: None, role: None }
    }

    /// A recurring monitor.
    pub(crate) const fn monitor(timeout: u32, interval: u32, role: Option<Role>) -> Self {
        Self { name: "monitor", timeout, interval: Some(interval), depth: Some(0), role }
    }
}

/// The DTD that `ocf-tester` checks against knows neither `unique-group` nor `reloadable` nor the action
/// `reload-agent`; the internal subset teaches it. No `encoding=` in the declaration: crmsh 4.4 fails on it.
const PROLOGUE: &str = r#"<?xml version="1.0"?>
<!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd" [
<!ATTLIST parameter unique-group CDATA #IMPLIED reloadable (1|0) "0">
<!ATTLIST action name CDATA #REQUIRED>
]>
"#;

/// The meta-data as XML.
pub fn xml(description: &Description, actions: &[Action]) -> String {
    let mut out = String::from(PROLOGUE);
    let _ = writeln!(out, "<resource-agent name=\"{}\" version=\"{}\">", escape(description.name), escape(description.version));
    // The version of the OCF standard: Pacemaker uses reload-agent only from 1.1 on.
    out.push_str("<version>1.1</version>\n");
    texts(&mut out, description.long, description.short);
    out.push_str("<parameters>\n");
    for parameter in description.parameters {
        let _ = write!(
            out,
            "<parameter name=\"{}\" required=\"{}\" unique=\"{}\"",
            escape(parameter.name),
            u8::from(parameter.required),
            u8::from(parameter.unique.is_some())
        );
        if let Some(group) = parameter.unique {
            let _ = write!(out, " unique-group=\"{}\"", escape(group));
        }
        let _ = writeln!(out, " reloadable=\"{}\">", u8::from(parameter.reloadable));
        texts(&mut out, parameter.long, parameter.short);
        let _ = write!(out, "<content type=\"{}\"", content_type(parameter));
        if !parameter.default.is_empty() {
            let _ = write!(out, " default=\"{}\"", escape(parameter.default));
        }
        out.push_str("/>\n</parameter>\n");
    }
    out.push_str("</parameters>\n<actions>\n");
    for action in actions {
        let _ = write!(out, "<action name=\"{}\" timeout=\"{}s\"", action.name, action.timeout);
        if let Some(interval) = action.interval {
            let _ = write!(out, " interval=\"{interval}s\"");
        }
        if let Some(depth) = action.depth {
            let _ = write!(out, " depth=\"{depth}\"");
        }
        if let Some(role) = action.role {
            let _ = write!(out, " role=\"{role:?}\"");
        }
        out.push_str("/>\n");
    }
    out.push_str("</actions>\n</resource-agent>\n");
    out
}

fn texts(out: &mut String, long: &str, short: &str) {
    let _ =
        writeln!(out, "<longdesc lang=\"en\">\n{}\n</longdesc>\n<shortdesc lang=\"en\">{}</shortdesc>", escape(long.trim()), escape(short));
}

fn content_type(parameter: &Parameter) -> &'static str {
    match parameter.kind {
        Kind::Integer { .. } => "integer",
        Kind::Boolean => "boolean",
        Kind::Text | Kind::Path | Kind::Name | Kind::Time | Kind::Address | Kind::Choice(_) => "string",
    }
}

/// Escapes text for XML content and attributes; characters that XML 1.0 forbids become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The parameters as a Markdown table for the documentation.
pub fn markdown_table(description: &Description) -> String {
    let mut out = String::from("| parameter | default | meaning |\n|---|---|---|\n");
    let cell = |text: &str| text.trim().replace("\n\n", "<br>").replace('\n', " ").replace('|', "\\|");
    for parameter in description.parameters {
        let default = match parameter.default {
            "" => String::new(),
            value => format!("`{value}`"),
        };
        let mut marks = String::new();
        if parameter.required {
            marks.push_str(" (required)");
        }
        if parameter.reloadable {
            marks.push_str(" (a new value needs no restart)");
        }
        let _ = writeln!(out, "| `{}` | {default} | {}{marks} |", parameter.name, cell(parameter.long));
    }
    out
}

/// The man page `ocf_systole_NAME(7)` as roff.
pub fn man_page(description: &Description, actions: &[Action]) -> String {
    let name = format!("ocf_systole_{}", description.name);
    let mut out = format!(
        ".TH {} 7 \"\" \"systole {}\" \"OCF resource agents\"\n.SH NAME\n{} \\- {}\n",
        roff(&name.to_uppercase()),
        roff(description.version),
        roff(&name),
        roff(description.short)
    );
    let _ = writeln!(out, ".SH SYNOPSIS\n.B primitive\n.I name\n.B ocf:systole:{}", roff(description.name));
    let _ = writeln!(out, ".SH DESCRIPTION\n{}", paragraphs(description.long));
    out.push_str(".SH PARAMETERS\n");
    for parameter in description.parameters {
        let _ = writeln!(out, ".TP\n.B {}\n{}", roff(parameter.name), paragraphs(parameter.long).replace(".PP", ".IP"));
        let mut facts = vec![parameter.expectation()];
        if parameter.required {
            facts.push("required".into());
        }
        if !parameter.default.is_empty() {
            facts.push(format!("default {}", parameter.default));
        }
        if parameter.reloadable {
            facts.push("a new value needs no restart".into());
        }
        let _ = writeln!(out, ".IP\n({})", roff(&facts.join("; ")));
    }
    out.push_str(".SH ACTIONS\n");
    for action in actions {
        let mut facts = format!("timeout {}s", action.timeout);
        if let Some(interval) = action.interval {
            let _ = write!(facts, ", interval {interval}s");
        }
        if let Some(role) = action.role {
            let _ = write!(facts, ", role {role:?}");
        }
        let _ = writeln!(out, ".TP\n.B {}\n{}", roff(action.name), roff(&facts));
    }
    out
}

fn paragraphs(text: &str) -> String {
    text.trim().split("\n\n").map(roff).collect::<Vec<_>>().join("\n.PP\n")
}

/// Escapes text for roff: backslashes, hyphens that people will copy, and lines that would read as requests.
pub fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line.to_owned() });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a text holds, what is written is one well-formed run of character data.
        #[test]
        fn escaped_text_holds_no_markup(text in "\\PC{0,80}|[<>&\"'\u{0}-\u{1f}]{0,40}") {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            for (at, _) in escaped.match_indices('&') {
                prop_assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&apos;"].iter().any(|e| escaped[at..].starts_with(e)));
            }
            prop_assert!(escaped.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
        }

        #[test]
        fn no_line_of_a_man_page_text_reads_as_a_request(text in "[.'a\n\\\\-]{0,40}") {
            prop_assert!(roff(&text).lines().all(|l| !l.starts_with(['.', '\''])));
        }
    }
}
