//! Galera with its arbitrator, as docs/recipes/galera.md sets it up: servers on lxc1 and lxc2, garbd on lxc3.

use std::path::PathBuf;
use std::time::Duration;

use lab::{CheckOptions, Database, Error, Lab, LabOptions, Load, LoadOptions, Node, Result};

use crate::{finish, on_all, package, page, read, repository};

/// What a person does in the lines with `editor`.
const EDITOR: &str = include_str!("../files/editor");
const PASSWORD: &str = "lastwort";
/// The address of galera.crm.
pub const ADDRESS: &str = "192.0.2.101:3306";
/// The server's process.
pub const SERVER: &str = "mariadbd";
/// How long a loss, a crash recovery and a copy of the data may take together.
const PATIENCE: Duration = Duration::from_secs(180);

/// Galera, up.
pub struct Galera {
    /// The nodes.
    pub lab: Lab,
}

impl Galera {
    /// Boots three nodes with a cluster and does what the page says.
    ///
    /// # Errors
    /// When a command of the page fails.
    pub fn up(name: &str, image: &str) -> Result<Self> {
        let blocks = page::blocks(&read(&repository().join("docs/recipes/galera.md"))?)?;
        let options = LabOptions { name: name.to_owned(), image: image.to_owned(), packages: vec![package()?], ..LabOptions::default() };
        let site = Self { lab: Lab::up(options)? };
        on_all(&site.lab.nodes(), |node| {
            node.write("/usr/local/bin/editor", EDITOR)?;
            node.sh("chmod 755 /usr/local/bin/editor").map(drop)
        })?;
        // The page says whose data become everybody's.
        let [first, second] = site.servers();
        for (node, rows) in [(first, "seed"), (second, "other")] {
            node.sh(&format!("systemctl start mariadb; mariadb -e 'CREATE DATABASE {rows}'; systemctl stop mariadb"))?;
        }
        for block in &blocks {
            block.run(&site.lab)?;
        }
        site.wait_settled()?;
        site.sql(
            &site.lab.node(1),
            &format!(
                "CREATE DATABASE `load`; CREATE USER 'load'@'%' IDENTIFIED BY '{PASSWORD}'; \
                 GRANT CREATE, SELECT, INSERT, UPDATE ON `load`.* TO 'load'@'%'; GRANT SLAVE MONITOR ON *.* TO 'load'@'%'"
            ),
        )?;
        Ok(site)
    }

    /// The nodes with servers.
    #[must_use]
    pub fn servers(&self) -> [Node; 2] {
        [self.lab.node(1), self.lab.node(2)]
    }

    /// The node with the arbitrator.
    #[must_use]
    pub fn arbitrator(&self) -> Node {
        self.lab.node(3)
    }

    /// Runs SQL on a node as root; returns the rows, tabs between columns.
    ///
    /// # Errors
    /// In the server's words.
    pub fn sql(&self, node: &Node, sql: &str) -> Result<String> {
        let done = node.exec(&["timeout", "20", "mariadb", "--batch", "--skip-column-names", "--execute", sql])?;
        if done.success() {
            return Ok(done.stdout);
        }
        Err(Error::Refused(format!("{}: {sql}: {}", node.name, done.stderr.trim())))
    }

    /// A status variable of a node's server; empty when it does not answer.
    #[must_use]
    pub fn status(&self, node: &Node, name: &str) -> String {
        let row = self.sql(node, &format!("SHOW GLOBAL STATUS LIKE '{name}'")).unwrap_or_default();
        row.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }

    /// Waits until three members are together again, all servers have all data, and Pacemaker is done.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_settled(&self) -> Result<()> {
        self.wait_size(3, &self.servers())?;
        self.lab
            .wait_for("garbd on lxc3", PATIENCE, || self.lab.view().is_ok_and(|view| view.with_role("garbd", "Started") == ["lxc3"]))?;
        self.lab.wait_idle()
    }

    /// Waits until these servers have all data in a majority of so many members.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn wait_size(&self, members: u32, servers: &[Node]) -> Result<()> {
        self.lab.wait_for(&format!("{members} members of Galera"), PATIENCE, || {
            servers.iter().all(|node| {
                self.status(node, "wsrep_cluster_status") == "Primary"
                    && self.status(node, "wsrep_local_state_comment") == "Synced"
                    && self.status(node, "wsrep_cluster_size") == members.to_string()
            }) && self.lab.view().is_ok_and(|view| view.with_role("galera", "Promoted").len() == servers.len())
        })
    }

    /// The node that has the address.
    ///
    /// # Errors
    /// When none has it.
    pub fn addressed(&self) -> Result<Node> {
        let on = self.lab.view()?.with_role("galera-ip", "Started");
        self.lab.node_named(on.first().ok_or_else(|| Error::Refused("galera-ip is nowhere".into()))?)
    }

    /// The other one of the two nodes with servers.
    #[must_use]
    pub fn other(&self, node: &Node) -> Node {
        let [first, second] = self.servers();
        if node.name == first.name { second } else { first }
    }

    /// Starts writers at these addresses and lets them write for two seconds.
    ///
    /// # Errors
    /// When nothing is written.
    pub fn load(&self, address: &str) -> Result<Load> {
        let load = self.lab.start_load(&self.load_options(address)?)?;
        self.lab.wait_for("writes", Duration::from_secs(20), || load.writing())?;
        std::thread::sleep(Duration::from_secs(2));
        Ok(load)
    }

    fn load_options(&self, address: &str) -> Result<LoadOptions> {
        let file: PathBuf = std::env::temp_dir().join(format!("systole-galera-password-{}", std::process::id()));
        std::fs::write(&file, PASSWORD).map_err(|e| Error::Refused(format!("{}: {e}", file.display())))?;
        // A commit waits until a lost member is given up. And no more writes than a machine with three nodes can do twice: who comes back
        // has to catch up with them.
        let patient = LoadOptions { answer_ms: 15_000, pause_us: 20_000, probe_pause_us: 100_000, ..LoadOptions::of(Database::MySql) };
        let patient = LoadOptions { address: address.to_owned(), ..patient };
        Ok(LoadOptions { password_file: Some(file), ..patient })
    }

    /// Waits until writes go on, stops them, and holds what was acknowledged against both servers: none missing, the same data on
    /// both, nothing that was refused, and no longer without a write than this.
    ///
    /// # Errors
    /// With the timeline when one of these is broken.
    pub fn held(&self, load: Load, longest: Duration) -> Result<lab::Journal> {
        std::thread::sleep(Duration::from_millis(1500));
        self.lab.wait_for("writes after the fault", Duration::from_secs(60), || load.writing())?;
        std::thread::sleep(Duration::from_secs(1));
        let journal = load.stop()?;
        self.judge(&journal, Some(longest))?;
        Ok(journal)
    }

    /// The same for a load that was stopped; without a limit the time without writes is only printed.
    ///
    /// # Errors
    /// With the timeline when one of these is broken.
    pub fn judge(&self, journal: &lab::Journal, longest: Option<Duration>) -> Result<()> {
        let options = CheckOptions {
            servers: Some(self.servers().map(|node| node.name).into()),
            multi_primary: true,
            max_outage: longest,
            ..CheckOptions::of(&self.load_options(ADDRESS)?)?
        };
        let report = self.lab.check(journal, &options)?;
        println!("{report}");
        let kept = report.verdicts.iter().all(|verdict| verdict.kept || verdict.letter == 'T' && longest.is_none());
        if kept { Ok(()) } else { Err(Error::Refused(format!("{report}\n{}", self.lab.timeline(journal)?))) }
    }
}

/// Runs a scenario in a lab of its own; when it fails, or with SYSTOLE_KEEP_LOGS set, the logs are kept.
///
/// # Panics
/// When it fails: this is for tests.
#[allow(clippy::panic, reason = "a test says what it saw by panicking")]
pub fn scenario(name: &str, image: &str, steps: impl FnOnce(&Galera) -> Result<()>) {
    let site = Galera::up(name, image).unwrap_or_else(|e| panic!("{name}: {e}"));
    finish(&site.lab, steps(&site));
}
