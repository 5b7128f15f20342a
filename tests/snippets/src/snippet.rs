//! The files of crm-snippets/: their texts, and what these say about themselves. Pure, but for the reading.

use std::fs;
use std::path::{Path, PathBuf};

/// A configuration file, by name.
#[derive(Clone, Debug)]
pub struct Snippet {
    /// File name.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl Snippet {
    /// A file of crm-snippets/.
    pub fn of(name: &str) -> Self {
        let path = Self::directory().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name: name.to_owned(), text }
    }

    /// All files of crm-snippets/.
    pub fn all() -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(Self::directory())
            .expect("crm-snippets/ can be listed")
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".crm"))
            .collect();
        names.sort();
        assert!(names.len() >= 5, "crm-snippets/ holds hardly anything: {names:?}");
        names.iter().map(|name| Self::of(name)).collect()
    }

    /// The file with one place changed; the place must be there.
    pub fn mutated(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{} does not hold {from:?}: correct the test", self.name);
        self.text = self.text.replace(from, to);
        self
    }

    /// The snippets that have to be loaded before, in order: it says so at its top.
    pub fn needs(&self) -> Vec<String> {
        let top: String = self.text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#')).collect();
        let named = top.split("Needs:").nth(1).unwrap_or_default();
        let files = named.split_whitespace().map(|word| word.trim_end_matches([',', ';', '.', ':']));
        files.take_while(|word| word.ends_with(".crm")).map(str::to_owned).collect()
    }

    /// The agents that it names, as `ocf:heartbeat:IPaddr2` or `stonith:fence_ipmilan`.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().filter(|l| l.starts_with("primitive "));
        lines.filter_map(|l| l.split_whitespace().nth(2)).filter(|a| a.contains(':'))
    }

    /// The text of a file of crm-snippets/server/.
    pub fn server_file(name: &str) -> String {
        Self::of(&format!("server/{name}")).text
    }

    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crm-snippets")
    }
}
