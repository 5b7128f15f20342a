//! The documentation is true to the repository: its links lead somewhere, and each reason with which the Redis agent
//! refuses or fails stands in docs/redis.md with the way out.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Markdown files that operators and successors read.
fn pages() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    let mut directories = vec![root().join("docs")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// A heading as the anchor that Markdown viewers make of it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-' || *c == '_').map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            // The benchmarks are written by `make bench`.
            if link.starts_with("http") || link.contains("benchmarks.md") {
                continue;
            }
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !place.is_empty() {
                let there = fs::read_to_string(&target).unwrap();
                let known = there.lines().filter_map(|l| l.strip_prefix('#')).any(|h| anchor(h.trim_start_matches('#')) == place);
                assert!(known, "{}: {link}: no such heading", page.display());
            }
        }
    }
}

/// The text of the string literal that begins `code`, after blanks and `format!(`; what is written over several lines is joined.
fn literal(code: &str) -> Option<String> {
    let code = code.trim_start();
    let code = code.strip_prefix("format!(").unwrap_or(code).trim_start();
    let mut rest = code.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                '\n' => rest = rest.as_str().trim_start().chars(),
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
}

/// The longest piece of a message that holds nothing variable.
fn essence(message: &str) -> String {
    let mut pieces = vec![String::new()];
    let mut depth = 0;
    for c in message.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth > 0 || matches!(c, '}' | '(' | ')' | ',' | ':' | ';') {
            pieces.push(String::new());
        } else if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    pieces.into_iter().map(|p| p.trim().to_owned()).max_by_key(String::len).unwrap_or_default()
}

#[test]
fn every_reason_of_the_redis_agent_is_explained() {
    let page: Vec<String> = fs::read_to_string(root().join("docs/redis.md")).unwrap().split_whitespace().map(str::to_owned).collect();
    let page = page.join(" ");
    let makers =
        ["Failure::generic(", "Failure::installed(", "Failure::configured(", "Failure::permission(", "Failure::promoted(", "Refuse("];
    let mut seen = 0;
    let mut missing = Vec::new();
    for entry in fs::read_dir(root().join("agents/redis/src")).unwrap().flatten() {
        if entry.path().to_string_lossy().ends_with("_tests.rs") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for message in makers.iter().flat_map(|maker| code.split(maker).skip(1)).filter_map(literal) {
            let essence = essence(&message);
            seen += 1;
            // A bare "{path}: {error}" has nothing to look for; the other cannot happen.
            if essence.len() > 10 && essence != "the configuration was not read" && !page.contains(&essence) {
                missing.push(format!("{}: {message}", entry.path().display()));
            }
        }
    }
    assert!(seen > 40, "only {seen} messages were found in the code: correct the test");
    assert!(missing.is_empty(), "docs/redis.md does not explain:\n{}", missing.join("\n"));
}

#[test]
fn nothing_refers_to_the_machine_it_was_written_on() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for word in ["/work/", "target-", "TODO", "FIXME", "_TRIED"] {
            assert!(!text.contains(word), "{}: {word}", page.display());
        }
    }
}
