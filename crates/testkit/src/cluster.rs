//! Stand-ins for the cluster's tools: programs with the names of crm_attribute, attrd_updater, cibadmin and crm_node that keep
//! their values in files. What they cannot show is what the real ones do in time: several nodes see a change at once.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const TOOLS: [(&str, &str); 4] = [
    ("cibadmin", include_str!("fake/cibadmin")),
    ("crm_attribute", include_str!("fake/crm_attribute")),
    ("attrd_updater", include_str!("fake/attrd_updater")),
    ("crm_node", include_str!("fake/crm_node")),
];

/// A cluster of files.
#[derive(Clone, Debug)]
pub struct FakeCluster {
    directory: PathBuf,
}

impl FakeCluster {
    /// Makes the tools in this directory.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn at(directory: &Path) -> Self {
        for part in ["bin", "values"] {
            std::fs::create_dir_all(directory.join(part)).unwrap();
        }
        // The watcher calls them as the cluster's user.
        for part in [directory.to_owned(), directory.join("values")] {
            std::fs::set_permissions(part, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        for (name, script) in TOOLS {
            let path = directory.join("bin").join(name);
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let cluster = Self { directory: directory.to_owned() };
        cluster.behave("");
        std::fs::write(directory.join("quorum"), "1\n").unwrap();
        std::fs::write(directory.join("name"), "a\n").unwrap();
        cluster
    }

    /// The PATH that finds these tools, and never the real ones in /usr/sbin.
    pub fn path(&self) -> String {
        format!("{}:/usr/bin:/bin", self.directory.join("bin").display())
    }

    /// Shell lines that every tool runs first: `exec sleep 60`, `echo no >&2; exit 102`, or nothing.
    pub fn behave(&self, script: &str) {
        // The tools read it: never half of it.
        let new = self.directory.join("behaviour.new");
        std::fs::write(&new, format!("{script}\n")).unwrap();
        std::fs::rename(new, self.directory.join("behaviour")).unwrap();
    }

    /// Takes the tools away.
    pub fn remove_tools(&self) {
        std::fs::remove_dir_all(self.directory.join("bin")).unwrap();
    }

    /// The calls since the last look, one a line.
    pub fn calls(&self) -> Vec<String> {
        let file = self.directory.join("calls");
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let _ = std::fs::remove_file(file);
        text.lines().map(str::to_owned).collect()
    }

    /// The promotion score of a node.
    pub fn score(&self, resource: &str, node: &str) -> Option<String> {
        self.read(&format!("score.{resource}.{node}"))
    }

    /// The record of the last promotion.
    pub fn record(&self, resource: &str) -> Option<String> {
        self.read(&format!("property.systole-{resource}-primary"))
    }

    /// Sets the record, as an operator does.
    pub fn set_record(&self, resource: &str, text: &str) {
        std::fs::write(self.directory.join(format!("values/property.systole-{resource}-primary")), text).unwrap();
    }

    /// Takes the record away, as before a replication came under the cluster.
    pub fn forget_record(&self, resource: &str) {
        let _ = std::fs::remove_file(self.directory.join(format!("values/property.systole-{resource}-primary")));
    }

    /// Sets a property of the cluster, as an administrator does.
    pub fn set_property(&self, name: &str, value: &str) {
        std::fs::write(self.directory.join(format!("values/property.{name}")), value).unwrap();
    }

    /// Which nodes are there.
    pub fn set_partition(&self, nodes: &str) {
        std::fs::write(self.directory.join("partition"), format!("{nodes}\n")).unwrap();
    }

    /// Which nodes are known and not there.
    pub fn set_absent(&self, nodes: &str) {
        std::fs::write(self.directory.join("absent"), format!("{nodes}\n")).unwrap();
    }

    /// Sets a lasting attribute of a node, as an administrator does.
    pub fn set_node_attribute(&self, node: &str, name: &str, value: &str) {
        std::fs::write(self.directory.join(format!("values/node.{node}.{name}")), value).unwrap();
    }

    /// An attribute that a node published, by its full name.
    pub fn attribute(&self, name: &str, node: &str) -> Option<String> {
        self.read(&format!("attribute.{name}.{node}"))
    }

    /// Sets an attribute of a node, or takes it away, as when that node leaves the cluster.
    pub fn set_attribute(&self, name: &str, node: &str, text: Option<&str>) {
        let file = self.directory.join(format!("values/attribute.{name}.{node}"));
        match text {
            Some(text) => std::fs::write(file, text).unwrap(),
            None => drop(std::fs::remove_file(file)),
        }
    }

    /// The position that a node published last.
    pub fn position(&self, resource: &str, node: &str) -> Option<String> {
        self.read(&format!("attribute.systole-{resource}-position.{node}"))
    }

    /// Sets the position of a node, as if it had published it.
    pub fn set_position(&self, resource: &str, node: &str, text: &str) {
        std::fs::write(self.directory.join(format!("values/attribute.systole-{resource}-position.{node}")), text).unwrap();
    }

    /// What happens to the attributes of a node that leaves the cluster.
    pub fn forget_node(&self, resource: &str, node: &str) {
        for name in [format!("score.{resource}.{node}"), format!("attribute.systole-{resource}-position.{node}")] {
            let _ = std::fs::remove_file(self.directory.join("values").join(name));
        }
    }

    fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join("values").join(name)).ok()
    }
}
