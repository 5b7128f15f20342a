//! The page docs/day-two.md, followed to the letter on the site of docs/workshop.md; what its sections promise is looked at between them.

use std::cell::RefCell;

use cluster_scenarios::page::Block;
use cluster_scenarios::workshop::Workshop;
use cluster_scenarios::{expect, finish, lab_name};
use lab::{LabOptions, Node, Result};

/// Passwords that the workshop's editor sets.
const OLD_REPLICATION: &str = "rehearsal-replication";
const OLD_REDIS: &str = "rehearsal-redis";

#[test]
fn what_comes_after_is_right_to_the_letter() {
    let options = LabOptions { name: lab_name("day-two"), nodes: 4, beside: 1, ..LabOptions::default() };
    let site = Workshop::up(options, |step| println!("{step}")).unwrap_or_else(|e| panic!("{e}"));
    let page = Page { site: &site, section: RefCell::default(), servers: RefCell::default(), written: RefCell::default() };
    let followed = site.follow_page("day-two", |block| {
        println!("{} (line {}, {})", block.heading, block.line, block.place);
        page.before(block)
    });
    finish(&site.lab, followed.and_then(|()| page.after(&page.section.borrow())));
}

/// Where the page is.
struct Page<'a> {
    site: &'a Workshop,
    section: RefCell<String>,
    /// The servers' processes when the section began.
    servers: RefCell<Vec<String>>,
    /// What lxc3's server had written itself before the backup. It may have been the first primary.
    written: RefCell<Option<String>>,
}

impl Page<'_> {
    /// Looks at what the last section has left when another one begins, and does what its text takes for granted.
    fn before(&self, block: &Block) -> Result<()> {
        let last = self.section.replace(block.heading.clone());
        if last == block.heading {
            return Ok(());
        }
        self.after(&last)?;
        match block.heading.as_str() {
            "Change a parameter" => *self.servers.borrow_mut() = self.processes()?,
            "Back up" => {
                self.publish("before the backup")?;
                *self.written.borrow_mut() = self.written_by_lxc3()?;
            }
            "A security update of the servers" => self.publish("after the backup")?,
            "Replace a machine" => self.new_machine("lxc3")?,
            "Add a machine" => self.new_machine("lxc4")?,
            // The machine that it was made on has been replaced since.
            "Restore the site from a backup" => self.elsewhere("ssh lxc3 tar -C /root -xf - < /root/backup-of-lxc3.tar")?,
            _ => {}
        }
        Ok(())
    }

    /// The last that lxc3's server, of id 13, has written itself.
    fn written_by_lxc3(&self) -> Result<Option<String>> {
        let state = sql(&self.site.lab.node(3), "SELECT @@gtid_binlog_state")?;
        Ok(state.split(',').find(|gtid| gtid.contains("-13-")).map(|gtid| gtid.trim().to_owned()))
    }

    fn after(&self, section: &str) -> Result<()> {
        match section {
            "Change a parameter" => expect(self.processes()? == *self.servers.borrow(), "no server was restarted for a parameter"),
            "The account of replication" => self.site.lab.members().iter().try_for_each(replication_password),
            "Redis" => self.site.lab.members().iter().try_for_each(redis_password),
            "Back up" => {
                let (before, now) = (self.written.borrow().clone(), self.written_by_lxc3()?);
                expect(before == now, &format!("the backup wrote nothing on lxc3: {before:?}, {now:?}"))?;
                self.elsewhere("ssh lxc3 tar -C /root -cf - backup > /root/backup-of-lxc3.tar")
            }
            "Replace a machine" | "The data of MariaDB alone" => accounts(&self.site.lab.node(3)),
            "Add a machine" => accounts(&self.site.lab.node(4)),
            "Restore the site from a backup" => self.restored(),
            _ => Ok(()),
        }
    }

    /// A machine with an empty disk, its name, and the addresses that the others know.
    fn new_machine(&self, name: &str) -> Result<()> {
        self.site.new_machine(name)?;
        let node = self.site.lab.node_named(name)?;
        node.write("/etc/hosts", &self.site.lab.node(1).sh("cat /etc/hosts")?.stdout)?;
        node.sh(&format!(
            "own=$(getent hosts {name} | cut -d ' ' -f 1); ip -o address show to $own | grep -q . || \
             ip address add $own/24 dev $(ip -o route get 10.77.0.11 | sed 's/.* dev \\([^ ]*\\) .*/\\1/')"
        ))
        .map(drop)
    }

    /// The place that the page says the backup has to be brought to.
    fn elsewhere(&self, command: &str) -> Result<()> {
        self.site.lab.node_named("lxc2")?.sh(command).map(drop)
    }

    /// The process of each server of MariaDB.
    fn processes(&self) -> Result<Vec<String>> {
        self.site.lab.members().iter().map(|node| Ok(node.sh("cat /run/mysqld/mysqld.pid")?.stdout)).collect()
    }

    fn publish(&self, what: &str) -> Result<()> {
        let statement = format!("CREATE TABLE IF NOT EXISTS blog.day_two (what VARCHAR(40)); INSERT INTO blog.day_two VALUES ('{what}')");
        sql(&self.site.primary("mysql")?, &statement)?;
        self.site.primary("redis")?.sh(&format!("{REDIS} set '{what}' 1")).map(drop)
    }

    /// What was there when the backup began is there, on every node, and nothing after it.
    fn restored(&self) -> Result<()> {
        for node in self.site.lab.members() {
            let rows = sql(&node, "SELECT GROUP_CONCAT(what) FROM blog.day_two")?;
            expect(rows.trim() == "before the backup", &format!("{}: MariaDB has {rows:?}", node.name))?;
            let keys = node.sh(&format!("{REDIS} exists 'before the backup'; {REDIS} exists 'after the backup'"))?.stdout;
            expect(keys == "1\n0\n", &format!("{}: Redis has {keys:?}", node.name))?;
            accounts(&node)?;
        }
        Ok(())
    }
}

/// Logged in with the password of the site file.
const REDIS: &str = "REDISCLI_AUTH=$(sed -n 's/^requirepass //p' /etc/redis/site.conf) redis-cli";

fn sql(node: &Node, statement: &str) -> Result<String> {
    node.write("/root/day-two.sql", statement)?;
    Ok(node.sh("mariadb -N < /root/day-two.sql; rm /root/day-two.sql")?.stdout)
}

/// Replicas can log in at this node with what its file says, and with the first password no more.
fn replication_password(node: &Node) -> Result<()> {
    let login = |password: &str| {
        let line = format!("MYSQL_PWD={password} mariadb -h {} -u replication -e 'SELECT 1'", node.name);
        node.exec(&["sh", "-c", &line]).map(|done| done.success())
    };
    expect(login("$(cat /etc/mysql/replication.password)")?, &format!("{}: the new password is taken", node.name))?;
    expect(!login(OLD_REPLICATION)?, &format!("{}: the old password is refused", node.name))
}

fn redis_password(node: &Node) -> Result<()> {
    let new = node.sh(&format!("{REDIS} ping"))?.stdout;
    expect(new == "PONG\n", &format!("{}: the new password of Redis is taken: {new}", node.name))?;
    let old = node.sh(&format!("REDISCLI_AUTH={OLD_REDIS} redis-cli ping 2>&1"))?.stdout;
    expect(!old.contains("PONG"), &format!("{}: the old password of Redis is refused: {old}", node.name))
}

/// The accounts that were made outside of the log came with the copy: others can follow this node when it is promoted.
fn accounts(node: &Node) -> Result<()> {
    let found = sql(node, "SELECT COUNT(*) FROM mysql.user WHERE user = 'replication'")?;
    expect(found.trim() == "1", &format!("{} has the account of replication", node.name))
}
