//! The documentation is true to the repository: its links lead somewhere, and each reason with which an agent refuses or
//! fails stands on the agent's page with the way out.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All Markdown files that operators and successors read.
fn pages() -> Vec<PathBuf> {
    let mut found = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(|page| root().join(page)).to_vec();
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

/// Run again with another password, such a file ended well and the account kept its first one.
#[test]
fn a_file_of_accounts_that_is_run_again_sets_their_passwords() {
    let files = fs::read_dir(root().join("crm-snippets/server")).unwrap().flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.extension().is_some_and(|e| e == "sql")) {
        let text = fs::read_to_string(&file).unwrap();
        let statements: String = text.lines().filter(|line| !line.starts_with("--")).map(|line| format!("{line} ")).collect();
        for statement in statements.split(';').map(str::trim).filter(|s| s.starts_with("CREATE USER IF NOT EXISTS")) {
            assert!(!statement.contains("PASSWORD'"), "{}: {statement}: where the account exists, this does nothing", file.display());
        }
    }
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

/// The sources of an agent that end up in its program.
fn sources(agent: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut directories = vec![root().join("agents").join(agent).join("src")];
    // Both databases say what their frame says.
    directories.extend(["redis", "mysql"].contains(&agent).then(|| root().join("crates/promotable/src")));
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                // A model is part of the tests, and so is the slowest world.
                directories.extend((name != "model").then_some(path));
            } else if name.ends_with(".rs") && !name.ends_with("_tests.rs") && !["tests.rs", "slowest.rs"].contains(&name.as_str()) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

/// The reasons that an agent can give, by where they stand: what follows each of these words.
fn reasons(agent: &str, makers: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for (path, code) in sources(agent) {
        let messages = makers.iter().flat_map(|maker| code.split(maker).skip(1)).filter_map(literal);
        found.extend(messages.map(|message| (path.clone(), message)));
    }
    found
}

/// Asserts that each of at least so many reasons stands on the agent's page.
fn explained(agent: &str, makers: &[&str], at_least: usize) {
    let page = fs::read_to_string(root().join(format!("docs/{agent}.md"))).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let reasons = reasons(agent, makers);
    assert!(reasons.len() > at_least, "{agent}: only {} messages were found in the code: correct the test", reasons.len());
    let missing: Vec<String> = reasons
        .iter()
        .map(|(path, message)| (path, message, essence(message)))
        // A bare "{path}: {error}" has nothing to look for; the other cannot happen.
        .filter(|(.., essence)| essence.len() > 10 && essence != "the configuration was not read" && !page.contains(essence))
        .map(|(path, message, _)| format!("{}: {message}", path.display()))
        .collect();
    assert!(missing.is_empty(), "docs/{agent}.md does not explain:\n{}", missing.join("\n"));
}

/// What makes a reason in every agent.
const FAILURES: [&str; 6] =
    ["Failure::generic(", "Failure::installed(", ".contradiction(", "Failure::permission(", "Failure::promoted(", "Refuse("];

#[test]
fn every_reason_of_the_redis_agent_is_explained() {
    explained("redis", &FAILURES, 40);
}

#[test]
fn every_reason_of_the_cron_agent_is_explained() {
    explained("cron-singleton", &FAILURES, 10);
}

#[test]
fn every_reason_of_the_address_agent_is_explained() {
    explained("address", &FAILURES, 20);
}

#[test]
fn every_reason_of_the_mysql_agent_is_explained() {
    // With what the server says through its connection, which ends up in a reason as well.
    let makers: Vec<&str> = FAILURES.iter().copied().chain(["Refused(", "Denied(", "Absent(", "Silent(", "Stuck(", "refuse("]).collect();
    explained("mysql", &makers, 50);
}

/// All that an agent says in whole sentences, wherever it stands: reasons, pieces of reasons, lines of the log. They begin
/// in lower case, SQL and descriptions do not.
fn sentences(code: &str) -> Vec<String> {
    // Comments, attributes, and what only somebody who debugs sees.
    let aside = |l: &&str| ["//", "#["].iter().any(|begin| l.trim_start().starts_with(begin)) || l.contains(".debug(");
    let code: String = code.lines().filter(|l| !aside(l)).map(|l| format!("{l}\n")).collect();
    let code = code.replace("'\"'", "");
    let mut rest = code.as_str();
    let mut found = Vec::new();
    while let Some(begin) = rest.find('"') {
        rest = &rest[begin..];
        let Some(text) = literal(rest) else { break };
        // As long as it stands in the code, to go on behind it.
        let mut escaped = false;
        let end = rest[1..].find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        rest = &rest[end.map_or(rest.len(), |e| e + 2)..];
        if text.split_whitespace().count() >= 5 && text.starts_with(|c: char| c.is_lowercase() || c == '{') {
            found.push(text);
        }
    }
    found
}

/// Asserts that each of at least so many sentences stands on the agent's page. `aside`: what no operator ever sees.
fn told(agent: &str, aside: &[&str], at_least: usize) {
    let page = fs::read_to_string(root().join(format!("docs/{agent}.md"))).unwrap();
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut seen = 0;
    let mut missing = Vec::new();
    for (path, code) in sources(agent) {
        // The parameters are in the table; of the parsers' complaints the operator sees the record that holds them.
        if ["params.rs", "parsers.rs", "gtid/mysql.rs", "gtid/mariadb.rs"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for sentence in sentences(&code) {
            seen += 1;
            let essence = essence(&sentence);
            if !aside.contains(&essence.as_str()) && essence.split(' ').count() >= 3 && !page.contains(&essence) {
                missing.push(format!("{}: {sentence}", path.display()));
            }
        }
    }
    assert!(seen > at_least, "{agent}: only {seen} sentences were found in the code: correct the test");
    assert!(missing.is_empty(), "docs/{agent}.md does not explain:\n{}", missing.join("\n"));
}

#[test]
fn every_sentence_of_the_mysql_agent_is_explained() {
    // An answer of MariaDB's that is looked for, not said.
    told("mysql", &["has read all relay log"], 120);
}

#[test]
fn every_sentence_of_the_redis_agent_is_explained() {
    // Neither can happen.
    told("redis", &["the configuration was not read", "a reply out of nothing"], 120);
}

#[test]
fn nothing_refers_to_the_machine_it_was_written_on() {
    for page in pages() {
        // The option of mariadb-backup is meant.
        let text = fs::read_to_string(&page).unwrap().replace("--target-dir=", "");
        for word in ["/work/", "target-", "TODO", "FIXME", "_TRIED"] {
            assert!(!text.contains(word), "{}: {word}", page.display());
        }
    }
}
