//! The crates, as cargo tells them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Error;

/// A crate.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Cargo's own name for it.
    id: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The expression of its licence.
    pub license: Option<String>,
    /// Where it comes from; `None` for the workspace's own.
    pub source: Option<String>,
    /// Who wrote it, when it says so.
    #[serde(default)]
    pub authors: Vec<String>,
    /// Where its sources are worked on.
    pub repository: Option<String>,
    manifest_path: PathBuf,
}

impl Package {
    /// Where its sources are on this machine, wherever cargo keeps them.
    pub fn directory(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// Name and version, for people.
    pub fn shown(&self) -> String {
        format!("{} {}", self.name, self.version)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` for what ends up in the program.
    kind: Option<String>,
}

/// Crates, sorted by name and version.
#[derive(Debug)]
pub struct Crates {
    /// All of them.
    pub packages: Vec<Package>,
    needs: BTreeMap<String, Vec<String>>,
    root: PathBuf,
}

impl Crates {
    /// All that is needed on this platform: programs, tests, what builds them. What others need is not even fetched.
    ///
    /// # Errors
    /// When cargo cannot be asked.
    pub fn of_everything() -> Result<Self, Error> {
        let compiler = said("rustc", &["-vV"])?;
        let host = compiler.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let text = cargo(&["metadata", "--locked", "--format-version", "1", "--filter-platform", host])?;
        let unreadable = |e: serde_json::Error| Error::Unreadable("cargo metadata".to_owned(), e.to_string());
        let Metadata { mut packages, resolve, workspace_root } = serde_json::from_str(&text).map_err(unreadable)?;
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let needed = |node: Node| {
            let normal = node.deps.into_iter().filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            (node.id, normal.map(|dependency| dependency.pkg).collect())
        };
        Ok(Self { packages, needs: resolve.nodes.into_iter().map(needed).collect(), root: workspace_root })
    }

    /// What ends up in the programs of these packages of the workspace, themselves included.
    ///
    /// # Errors
    /// When cargo cannot be asked.
    pub fn of_programs(programs: &[&str]) -> Result<Self, Error> {
        let mut all = Self::of_everything()?;
        let mut arguments =
            vec!["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}"];
        arguments.extend(programs.iter().flat_map(|program| ["--package", program]));
        let tree = cargo(&arguments)?;
        // "serde v1.0.200", with a path behind it when it is the workspace's own.
        let pair = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned()))
        };
        let inside: BTreeSet<(String, String)> = tree.lines().filter_map(pair).collect();
        all.packages.retain(|package| inside.contains(&(package.name.clone(), package.version.clone())));
        if all.packages.len() != inside.len() {
            return Err(Error::Refused("cargo tree and cargo metadata name different crates".to_owned()));
        }
        Ok(all)
    }

    /// Those of others.
    pub fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.iter().filter(|package| package.source.is_some())
    }

    /// What a crate needs of the others that are here.
    pub fn needed_by(&self, package: &Package) -> Vec<&Package> {
        let needed = self.needs.get(&package.id).map(Vec::as_slice).unwrap_or_default();
        self.packages.iter().filter(|other| needed.contains(&other.id)).collect()
    }

    /// The checksums of `Cargo.lock`, by name and version.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn checksums(&self) -> Result<BTreeMap<(String, String), String>, Error> {
        let text = read(&self.root.join("Cargo.lock"))?;
        let value = |block: &str, name: &str| {
            block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \"")?.strip_suffix('"')).map(str::to_owned)
        };
        let sum = |block: &str| Some(((value(block, "name")?, value(block, "version")?), value(block, "checksum")?));
        Ok(text.split("[[package]]").filter_map(sum).collect())
    }
}

/// The root of the workspace that this is a part of.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|e| Error::Unreadable(path.display().to_string(), e.to_string()))
}

/// What a program says.
pub(crate) fn said(program: &str, arguments: &[&str]) -> Result<String, Error> {
    let shown = || format!("{program} {}", arguments.first().copied().unwrap_or_default());
    let done = Command::new(program).args(arguments).current_dir(root()).output().map_err(|e| Error::Unreadable(shown(), e.to_string()))?;
    if !done.status.success() {
        return Err(Error::Unreadable(shown(), String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn cargo(arguments: &[&str]) -> Result<String, Error> {
    said(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments)
}
