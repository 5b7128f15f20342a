//! A page of docs/ as a program: the commands in its blocks, each with the nodes that the page names.
//!
//! A block that begins with "```sh NODES" is run there: `every-node`, names of nodes, or `RESOURCE-primary` for the node where that
//! resource is promoted.

use lab::{Error, Lab, Node, Result};

use crate::on_all;

/// Commands of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Line of the page where it begins, from 1.
    pub line: usize,
    /// The heading that it stands below.
    pub heading: String,
    /// Where to run it.
    pub place: String,
    /// The commands.
    pub commands: String,
}

/// The commands of a page, in order. Pure.
///
/// # Errors
/// When a block of commands does not say where to run it, or does not end.
pub fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut found: Vec<Block> = Vec::new();
    let mut open = None;
    let mut heading = String::new();
    for (line, text) in page.lines().enumerate().map(|(index, text)| (index + 1, text)) {
        match &mut open {
            None if text.starts_with('#') => heading = text.trim_start_matches(['#', ' ']).to_owned(),
            None => {
                let Some(place) = text.strip_prefix("```") else { continue };
                let place = place.strip_prefix("sh ").map(str::trim).filter(|place| !place.is_empty());
                let place = place.ok_or_else(|| Error::Refused(format!("line {line}: {text:?} does not say where to run it")))?;
                open = Some(Block { line, heading: heading.clone(), place: place.to_owned(), commands: String::new() });
            }
            Some(block) if text != "```" => block.commands += &format!("{text}\n"),
            Some(_) => found.extend(open.take()),
        }
    }
    match open {
        Some(block) => Err(Error::Refused(format!("line {}: this block does not end", block.line))),
        None => Ok(found),
    }
}

impl Block {
    /// Runs it to the letter; the first command that fails ends it.
    ///
    /// # Errors
    /// With the line of the page, the node, and what the commands said.
    pub fn run(&self, lab: &Lab) -> Result<()> {
        let nodes = match self.place.as_str() {
            "every-node" => lab.members(),
            place => match place.strip_suffix("-primary") {
                Some(resource) => {
                    let on = lab.promoted(resource).ok_or_else(|| Error::Refused(format!("{resource} is promoted nowhere")))?;
                    vec![lab.node_named(&on)?]
                }
                None => place.split_whitespace().map(|name| lab.node_named(name)).collect::<Result<_>>()?,
            },
        };
        on_all(&nodes, |node| self.run_on(node))
    }

    fn run_on(&self, node: &Node) -> Result<()> {
        const FILE: &str = "/root/commands";
        node.write(FILE, &self.commands)?;
        let done = node.exec(&["env", "HOME=/root", "timeout", "300", "sh", "-e", FILE])?;
        if done.success() {
            return Ok(());
        }
        let said = format!("{}{}", done.stdout, done.stderr);
        let last: Vec<&str> = said.lines().rev().take(15).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(Error::Refused(format!(
            "the commands in line {} ({}) ended with {} on {}:\n{}\n{}",
            self.line,
            self.heading,
            done.code,
            node.name,
            self.commands,
            last.join("\n")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_to_run_what() {
        let page = "# Title\n\n    not this\n\n## First\n```sh every-node\na\n# b\n```\ntext\n```sh mysql-primary\nc\n```\n";
        let found = blocks(page).expect("a page");
        let seen: Vec<(usize, &str, &str, &str)> =
            found.iter().map(|b| (b.line, b.heading.as_str(), b.place.as_str(), b.commands.as_str())).collect();
        assert_eq!(seen, [(6, "First", "every-node", "a\n# b\n"), (11, "First", "mysql-primary", "c\n")]);
        for wrong in ["```\na\n```\n", "```sh\na\n```\n", "```sh lxc1\na\n"] {
            assert!(blocks(wrong).is_err(), "{wrong}");
        }
    }
}
