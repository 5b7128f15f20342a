//! What only one node holds, as that node tells it. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::notices::Level;
use crate::table::Table;

/// What a node answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Divergence {
    /// The transactions that only it holds.
    pub(crate) names: Option<String>,
    /// Those that its binary log still has.
    pub(crate) found: Vec<String>,
    /// What they did.
    pub(crate) statements: String,
    /// Why the log does not say it.
    pub(crate) unread: Option<String>,
    /// Where binary logs were kept before a copy was made.
    pub(crate) kept: Option<String>,
    /// How many transactions were taken back and are kept, and where.
    pub(crate) taken_back: Option<(usize, String)>,
    /// Redis: data files that were kept.
    pub(crate) kept_data: Option<Vec<KeptData>>,
}

/// Data files that were kept of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct KeptData {
    /// Where.
    pub(crate) directory: String,
    /// How many bytes of the stream are in it alone at most.
    pub(crate) at_most: Option<u64>,
}

impl Divergence {
    /// Whether the server holds something that the primary does not.
    pub(crate) fn is_there(&self) -> bool {
        self.names.is_some()
    }
}

/// How lines begin that the tool prints for a server that reads them. `#Q>` is what a client typed for rows that follow: these say what it did,
/// and it may hold what nobody is to see.
const ASIDE: [&str; 11] =
    ["#Q>", "/*!", "/*M!", "DELIMITER ", "# at ", "SET @@", "SET TIMESTAMP=", "ROLLBACK/*!", "ROLLBACK /*", "# End of log", "#         "];
/// What is said of a log in its first line.
const HEAD: &str = "Start: binlog";

/// What people read of what the server's tool printed.
pub(crate) fn readable(statements: &str) -> String {
    let lines =
        statements.lines().filter(|line| !line.is_empty() && !line.contains(HEAD) && !ASIDE.iter().any(|begin| line.starts_with(begin)));
    lines.map(|line| format!("{}\n", line.trim_end_matches("/*!*/;"))).collect()
}

/// The answers by node; an error says why a node gave none.
pub(crate) type Answers = BTreeMap<String, Result<Divergence, String>>;

/// How bad it is.
pub(crate) fn level(answers: &Answers) -> Level {
    let of = |answer: &Result<Divergence, String>| match answer {
        Err(_) => Level::Unknown,
        Ok(divergence) if divergence.is_there() => Level::Degraded,
        Ok(_) => Level::Good,
    };
    answers.values().map(of).max().unwrap_or(Level::Good)
}

/// For people. What the server's tool printed may come from anybody who writes into the database, and this is root's terminal.
pub(crate) fn pretty(answers: &Answers, primary: &str) -> String {
    let mut out = String::new();
    for (node, answer) in answers {
        match answer {
            Err(why) => drop(writeln!(out, "{node}: not known: {why}")),
            Ok(divergence) => out.push_str(&of_node(node, divergence, primary)),
        }
    }
    out.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c }).collect()
}

fn of_node(node: &str, divergence: &Divergence, primary: &str) -> String {
    let mut out = String::new();
    match &divergence.names {
        None if divergence.kept_data.is_none() => drop(writeln!(out, "{node}: holds nothing that {primary} does not hold")),
        None if divergence.kept_data.iter().all(Vec::is_empty) => drop(writeln!(out, "{node}: no data were kept")),
        None => {}
        Some(names) => {
            let _ = writeln!(out, "{node}: {primary} does not hold {names}; {} of that are in its binary log:", divergence.found.len());
            for line in divergence.statements.lines().filter(|line| !line.is_empty()) {
                let _ = writeln!(out, "    {line}");
            }
        }
    }
    if let Some(why) = &divergence.unread {
        let _ = writeln!(out, "{node}: what they did cannot be shown: {why}");
    }
    if let Some(kept) = &divergence.kept {
        let _ = writeln!(out, "{node}: the binary logs from before its copies are in {kept}");
    }
    if let Some((count, directory)) = &divergence.taken_back {
        let _ = writeln!(out, "{node}: {count} transactions that were taken back are in {directory}, each as a binary log of its own");
    }
    for kept in divergence.kept_data.iter().flatten() {
        let what = kept.at_most.map_or_else(
            || "data that could not be compared with the primary's".to_owned(),
            |bytes| format!("data with at most {bytes} bytes of the stream that no other server had"),
        );
        let _ = writeln!(out, "{node}: {}: {what}", kept.directory);
    }
    out
}

/// For scripts, a line for each transaction, or for each directory.
pub(crate) fn tsv(answers: &Answers) -> String {
    let mut table = Table::new(&["NODE", "WHAT", "NAME"]);
    for (node, answer) in answers {
        let mut row = |what: &str, name: &str| table.row(vec![node.clone(), what.to_owned(), name.to_owned()]);
        match answer {
            Err(why) => row("unknown", why),
            Ok(divergence) => {
                divergence.names.iter().for_each(|names| row("diverged", names));
                divergence.found.iter().for_each(|gtid| row("transaction", gtid));
                divergence.kept.iter().for_each(|directory| row("kept", directory));
                divergence.taken_back.iter().for_each(|(_, directory)| row("taken-back", directory));
                divergence.kept_data.iter().flatten().for_each(|kept| row("kept", &kept.directory));
            }
        }
    }
    table.tsv()
}

/// For programs.
pub(crate) fn json(answers: &Answers, primary: &str) -> Value {
    let nodes: BTreeMap<&String, Value> = answers
        .iter()
        .map(|(node, answer)| match answer {
            Ok(divergence) => (node, serde_json::to_value(divergence).unwrap_or_default()),
            Err(why) => (node, json!({ "unknown": why })),
        })
        .collect();
    json!({ "primary": primary, "nodes": nodes, "level": level(answers).word() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_node_holds_is_shown_and_a_silent_node_is_not_taken_for_one_without() {
        let diverged = Divergence {
            names: Some("0-11-101".into()),
            found: vec!["0-11-101".into()],
            statements: "### INSERT INTO `shop`.`orders`\n###   @1=7\u{1b}[31m\n".into(),
            kept: Some("/var/lib/mysql.systole-kept".into()),
            taken_back: Some((3, "/var/lib/mysql.systole-kept".into())),
            ..Divergence::default()
        };
        let answers = Answers::from([
            ("a".to_owned(), Ok(diverged)),
            ("b".to_owned(), Err("does not answer over ssh: no route".to_owned())),
            ("c".to_owned(), Ok(Divergence::default())),
        ]);
        let text = pretty(&answers, "p");
        for line in [
            "a: p does not hold 0-11-101; 1 of that are in its binary log:\n    ### INSERT INTO `shop`.`orders`\n    ###   @1=7?[31m\n",
            "a: the binary logs from before its copies are in /var/lib/mysql.systole-kept\n",
            "a: 3 transactions that were taken back are in /var/lib/mysql.systole-kept, each as a binary log of its own\n",
            "b: not known: does not answer over ssh: no route\n",
            "c: holds nothing that p does not hold\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(level(&answers), Level::Unknown);
        assert!(tsv(&answers).contains("a\ttransaction\t0-11-101\n") && json(&answers, "p")["nodes"]["b"]["unknown"].is_string());
    }

    #[test]
    fn of_a_log_is_shown_what_was_done_and_not_what_was_typed() {
        let log = "/*!50530 SET @@SESSION.PSEUDO_SLAVE_MODE=1*/;\nDELIMITER /*!*/;\n# at 4\n\
                   #261130  1:10:13 server id 12  end_log_pos 256 CRC32 0x2 \tStart: binlog v 4\nROLLBACK/*!*/;\n\
                   #261130  1:25:24 server id 12  end_log_pos 872 CRC32 0x0 \tGTID 0-12-4 trans\nSET TIMESTAMP=1796001924/*!*/;\n\
                   #Q> UPDATE u SET password='secret'\n### UPDATE `shop`.`u`\n### WHERE\n###   @1=1\n# Number of rows: 1\nCOMMIT/*!*/;\n";
        let shown = readable(log);
        assert_eq!(
            shown,
            "#261130  1:25:24 server id 12  end_log_pos 872 CRC32 0x0 \tGTID 0-12-4 trans\n### UPDATE `shop`.`u`\n### WHERE\n###   @1=1\n# Number \
             of rows: 1\nCOMMIT\n"
        );
    }

    #[test]
    fn the_answer_of_a_node_is_read_whatever_database_it_is_of() {
        let mysql: Divergence =
            serde_json::from_str("{\"names\":null,\"found\":[],\"statements\":\"\",\"unread\":null,\"kept\":null}").unwrap();
        let redis: Divergence =
            serde_json::from_str("{\"kept_data\":[{\"directory\":\"/k/0001-at-most-7-bytes\",\"at_most\":7}]}").unwrap();
        assert!(!mysql.is_there() && !redis.is_there());
        let answers = Answers::from([("a".to_owned(), Ok(redis))]);
        assert_eq!(pretty(&answers, "p"), "a: /k/0001-at-most-7-bytes: data with at most 7 bytes of the stream that no other server had\n");
        assert_eq!(level(&answers), Level::Good);
        let none = Answers::from([("a".to_owned(), Ok(serde_json::from_str("{\"kept_data\":[]}").unwrap()))]);
        assert_eq!(pretty(&none, "p"), "a: no data were kept\n");
    }
}
