//! The whole site of docs/workshop.md: three empty servers and the commands of that page, visitors, and the drills.

mod drills;
mod jobs;
mod proxied;
mod scenario;
mod tally;
mod verdict;

use std::path::{Path, PathBuf};

use lab::{Database, Error, Lab, LabOptions, LoadOptions, Node, Result, VisitOptions};

use crate::page::{self, Block};
use crate::{on_all, package, read, repository};

pub use drills::{Drill, Drills, Upgrade};
pub use scenario::scenario;
pub use tally::{Kind, Outcome, Tally};
pub use verdict::{BETWEEN_ARTICLES_US, Verdict};

/// What a person does in the lines with `editor`.
const EDITOR: &str = include_str!("../../files/editor");
/// The rehearsal's power switch under the name of the agent that the wizard sets up, and what that agent says about itself.
const FENCE_IPMILAN: &str = include_str!("../../files/fence_ipmilan");
const FENCE_IPMILAN_METADATA: &str = include_str!("../../../snippets/files/fence_ipmilan.xml");
/// The account of the writers that go past the site, straight to MariaDB.
const LOAD_PASSWORD: &str = "rehearsal-load";
/// What the editor writes into the site file of Redis.
const REDIS_PASSWORD: &str = "rehearsal-redis";
/// The public addresses of public-addresses.crm.
pub const PUBLIC: [&str; 2] = ["198.51.100.101", "198.51.100.102"];

/// The site, up.
pub struct Workshop {
    /// The nodes.
    pub lab: Lab,
    /// Where passwords are that processes outside of the nodes need.
    secrets: PathBuf,
}

impl Workshop {
    /// Boots three servers and does what the page says. `say` is told of each step. With SYSTOLE_PROXY=haproxy the site asks an HAProxy on
    /// its own node in the place of the addresses.
    ///
    /// # Errors
    /// When a command of the page fails.
    pub fn up(options: LabOptions, say: impl Fn(&str)) -> Result<Self> {
        Self::with_package(&package()?, options, say)
    }

    /// The same with another package of systole.
    ///
    /// # Errors
    /// When a command of the page fails.
    pub fn with_package(package: &Path, options: LabOptions, say: impl Fn(&str)) -> Result<Self> {
        let site = Self::empty(package, options)?;
        site.follow(&of_page("workshop")?, &say)?;
        site.keep_secrets()?;
        if proxied::wanted()? {
            say("HAProxy on every node, between the site and its databases");
            site.behind_haproxy()?;
        }
        Ok(site)
    }

    /// The same, with the wizard of docs/wizards.md in the place of all that the page loads into the cluster.
    ///
    /// # Errors
    /// When a command of either page fails.
    pub fn up_by_wizard(options: LabOptions, say: impl Fn(&str)) -> Result<Self> {
        let site = Self::empty(&package()?, options)?;
        on_all(&site.lab.nodes(), |node| {
            node.write("/usr/sbin/fence_ipmilan", FENCE_IPMILAN)?;
            node.write("/usr/share/fence_ipmilan.xml", FENCE_IPMILAN_METADATA)?;
            // What prints the password of the power switches, which the wizard looks for.
            node.sh("chmod 755 /usr/sbin/fence_ipmilan; install -m 700 /dev/null /usr/local/sbin/bmc-password").map(drop)
        })?;
        // What needs the primary, or the site, comes after the wizard.
        let page = of_page("workshop")?.into_iter().filter(|block| !block.commands.contains("crm configure load update"));
        let (after, before): (Vec<_>, Vec<_>) = page.partition(|b| b.place.ends_with("-primary") || b.commands.contains("http://"));
        for blocks in [&before, &of_page("wizards")?, &after] {
            site.follow(blocks, &say)?;
        }
        site.keep_secrets()?;
        Ok(site)
    }

    /// Three servers, and what the page takes for granted.
    fn empty(package: &Path, options: LabOptions) -> Result<Self> {
        let secrets = std::env::temp_dir().join(format!("systole-workshop-{}", options.name));
        let lab = Lab::up(LabOptions { cluster: false, ..options })?;
        furnish(&lab)?;
        on_all(&lab.nodes(), |node| as_installed(node).and_then(|()| bring(package, node)))?;
        Ok(Self { lab, secrets })
    }

    fn follow(&self, blocks: &[Block], say: &impl Fn(&str)) -> Result<()> {
        for block in blocks {
            say(&format!("{} (line {}, {})", block.heading, block.line, block.place));
            block.run(&self.lab)?;
        }
        Ok(())
    }

    /// Runs a page of docs/ on the site, which the page takes for granted; `before` is called before each block.
    ///
    /// # Errors
    /// When a command of the page fails, or what is called.
    pub fn follow_page(&self, name: &str, before: impl Fn(&Block) -> Result<()>) -> Result<()> {
        of_page(name)?.iter().try_for_each(|block| before(block).and_then(|()| block.run(&self.lab)))
    }

    /// A machine of that name with an empty disk, at which root logs in with the key of the others.
    ///
    /// # Errors
    /// When it does not boot.
    pub fn new_machine(&self, name: &str) -> Result<()> {
        let (node, first) = (self.lab.node_named(name)?, self.lab.node(1));
        self.lab.new_disk(&node)?;
        let key = first.sh("cat /root/.ssh/id_ed25519")?.stdout;
        let public = first.sh("ssh-keygen -y -f /root/.ssh/id_ed25519")?.stdout;
        trust(&node, &key, &public)
    }

    /// For the visitors and the writers: what the page has left on lxc1, and an account of their own.
    fn keep_secrets(&self) -> Result<()> {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        let failed = |e: std::io::Error| Error::Refused(format!("{}: {e}", self.secrets.display()));
        let _ = std::fs::remove_dir_all(&self.secrets);
        std::fs::DirBuilder::new().mode(0o700).create(&self.secrets).map_err(failed)?;
        let admin = self.lab.node(1).sh("cat /root/blog-admin.password")?.stdout;
        for (name, text) in [("admin", admin.as_str()), ("mysql", LOAD_PASSWORD), ("redis", REDIS_PASSWORD)] {
            let mut file = std::fs::OpenOptions::new();
            let file = file.write(true).create_new(true).mode(0o600).open(self.secrets.join(name)).map_err(failed)?;
            std::io::Write::write_all(&mut &file, text.as_bytes()).map_err(failed)?;
        }
        let sql = format!(
            "CREATE DATABASE `load`; CREATE USER 'load'@'%' IDENTIFIED BY '{LOAD_PASSWORD}'; \
             GRANT CREATE, SELECT, INSERT, UPDATE ON `load`.* TO 'load'@'%'; GRANT SLAVE MONITOR ON *.* TO 'load'@'%';"
        );
        let primary = self.primary("mysql")?;
        primary.write("/root/load.sql", &sql)?;
        primary.sh("mariadb < /root/load.sql && rm /root/load.sql").map(drop)
    }

    /// The node where this resource is promoted.
    ///
    /// # Errors
    /// When it is promoted nowhere.
    pub fn primary(&self, resource: &str) -> Result<Node> {
        let name = self.lab.promoted(resource).ok_or_else(|| Error::Refused(format!("{resource} is promoted nowhere")))?;
        self.lab.node_named(&name)
    }

    /// The visitors that two cores bear beside three nodes.
    #[must_use]
    pub fn visit_options(&self) -> VisitOptions {
        VisitOptions {
            addresses: PUBLIC.map(str::to_owned).to_vec(),
            host: "blog.example.com".to_owned(),
            articles: 6,
            readings: 3,
            user: "admin".to_owned(),
            password_file: self.secrets.join("admin"),
        }
    }

    /// Writers that go past the site, few and slow: they are there to see whether two servers ever take writes.
    #[must_use]
    pub fn load_options(&self, database: Database) -> LoadOptions {
        let password_file = Some(self.secrets.join(database.name()));
        LoadOptions { writers: 1, pause_us: 40_000, probe_pause_us: 40_000, password_file, ..LoadOptions::of(database) }
    }

    /// All articles with such a name that a node's MariaDB holds.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn articles(&self, node: &Node, begin: &str) -> Result<Vec<String>> {
        let query = format!("SELECT post_name FROM blog.wp_posts WHERE post_status = 'publish' AND post_name LIKE '{begin}%'");
        Ok(node.exec(&["mariadb", "-N", "-e", &query])?.stdout.lines().map(str::to_owned).collect())
    }
}

/// The commands of a page of docs/.
fn of_page(name: &str) -> Result<Vec<Block>> {
    page::blocks(&read(&repository().join(format!("docs/{name}.md")))?)
}

/// What Debian's packages start when they are installed, with their own configuration: the image of a node has it switched off.
fn as_installed(node: &Node) -> Result<()> {
    node.sh("systemctl enable --now corosync pacemaker redis-server mariadb nginx php$(ls /etc/php)-fpm").map(drop)
}

/// Puts the package where the page installs it from.
fn bring(package: &Path, node: &Node) -> Result<()> {
    node.sh("rm -f /root/systole_*.deb")?;
    node.copy(package, "/root/systole_rehearsal.deb")
}

/// What the page takes for granted: root accounts that trust each other, somebody who edits.
pub(crate) fn furnish(lab: &Lab) -> Result<()> {
    let_root_in(lab)?;
    on_all(&lab.nodes(), |node| {
        node.write("/usr/local/bin/editor", EDITOR)?;
        node.sh("chmod 755 /usr/local/bin/editor").map(drop)
    })
}

/// Root of each node logs in on the others, with a key.
///
/// # Errors
/// What a node says.
pub fn let_root_in(lab: &Lab) -> Result<()> {
    let nodes = lab.nodes();
    let key = nodes[0].sh("ssh-keygen -q -t ed25519 -N '' -C rehearsal -f /root/key && cat /root/key")?.stdout;
    let public = nodes[0].sh("cat /root/key.pub && rm /root/key /root/key.pub")?.stdout;
    on_all(&nodes, |node| trust(node, &key, &public))
}

fn trust(node: &Node, key: &str, public: &str) -> Result<()> {
    node.sh("mkdir -p -m 700 /root/.ssh")?;
    node.write("/root/.ssh/id_ed25519", key)?;
    // Beside a key that is there for copies.
    node.sh(&format!("echo '{}' >> /root/.ssh/authorized_keys", public.trim()))?;
    node.write("/root/.ssh/config", "Host *\n  StrictHostKeyChecking accept-new\n")?;
    node.write("/usr/local/bin/editor", EDITOR)?;
    node.sh("chmod 600 /root/.ssh/*; chmod 755 /usr/local/bin/editor; systemctl enable --now ssh").map(drop)
}
