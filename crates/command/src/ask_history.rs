//! `systole history`: asking the nodes what they remember.

use std::path::Path;
use std::process::ExitCode;

use promotable::history::KEPT;

use crate::arguments::Format;
use crate::history::History;
use crate::notices::Level;
use crate::picture::Picture;
use crate::{ask, complain, ended, print, print_json, remote, status};

/// Prints the history of a database.
pub(crate) fn run(name: &str, format: Format) -> ExitCode {
    let picture = match ask::picture() {
        Ok(picture) => picture,
        Err(why) => {
            complain(&why);
            return ended(Level::Unknown);
        }
    };
    let Some(database) = picture.database(name) else {
        complain(&status::unknown(&picture, name));
        return ended(Level::Unknown);
    };
    let history = of(&picture, &database.name);
    match format {
        Format::Pretty => print(&history.pretty()),
        Format::Tsv => print(&history.tsv()),
        Format::Json => print_json(&history.json()),
    }
    for (node, why) in &history.unanswered {
        complain(&format!("what {node} remembers is missing: it {why}"));
    }
    ended(if history.unanswered.is_empty() { Level::Good } else { Level::Degraded })
}

/// What the nodes remember of a database's promotions.
pub(crate) fn of(picture: &Picture, resource: &str) -> History {
    let nodes: Vec<String> = picture.nodes.iter().map(|node| node.name.clone()).collect();
    let answers = remote::ask(&nodes, &["systole", "here", "history", "--", resource], remote::LIMIT);
    History::of(&answers)
}

/// What this node has kept: a JSON object a line.
///
/// # Errors
/// That it cannot be read.
pub(crate) fn kept(resource: &str) -> Result<String, String> {
    let kept = promotable::history::kept(Path::new(KEPT), resource).map_err(|e| format!("the history of {resource} in {KEPT}: {e}"))?;
    Ok(kept.iter().filter_map(|promotion| serde_json::to_string(promotion).ok()).map(|line| line + "\n").collect())
}
