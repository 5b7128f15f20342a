//! The site with an HAProxy on every node: WordPress and its sessions ask 127.0.0.1 and no address that moves, as at providers where none
//! can (docs/workshop.md, section 7; docs/haproxy.md; docs/recipes/mariadb-behind-haproxy.md).

use lab::Result;

use super::{REDIS_PASSWORD, Workshop};
use crate::{on_all, snippet};

/// The variable with the name of what the site has in front of its databases.
const VARIABLE: &str = "SYSTOLE_PROXY";
/// The password of HAProxy's checks at Redis.
const CHECK_PASSWORD: &str = "rehearsal-haproxy";

/// Whether the site is to have one.
pub(super) fn wanted() -> Result<bool> {
    match std::env::var(VARIABLE).as_deref() {
        Err(_) | Ok("") => Ok(false),
        Ok("haproxy") => Ok(true),
        Ok(other) => Err(lab::Error::Refused(format!("{VARIABLE}={other} is not known here: haproxy, or nothing"))),
    }
}

/// One file for both: that of Redis, which logs in, with the section of MariaDB behind it.
fn configuration() -> Result<String> {
    let (redis, mariadb) = (snippet("server/haproxy-redis.cfg")?, snippet("server/haproxy-mariadb.cfg")?);
    let redis = redis.replace("    #tcp-check ", "    tcp-check ").replace("haproxy\\ PASSWORD", &format!("haproxy\\ {CHECK_PASSWORD}"));
    let section = mariadb.find("\nlisten mariadb").map(|at| &mariadb[at..]).unwrap_or_default();
    Ok(format!("{redis}{section}"))
}

impl Workshop {
    /// Puts HAProxy between the site and its databases, and tells the agents of it.
    pub(super) fn behind_haproxy(&self) -> Result<()> {
        let primary = self.primary("mysql")?;
        primary.write("/root/haproxy.sql", &snippet("server/haproxy-mariadb.sql")?)?;
        primary.sh("mariadb < /root/haproxy.sql")?;
        // A connection through HAProxy comes from the node's own address, for which there is no account yet. It gets the same password.
        let account = primary.sh("mariadb -N -e \"SHOW CREATE USER 'blog'@'192.0.2.%'; SHOW GRANTS FOR 'blog'@'192.0.2.%'\"")?.stdout;
        let account: String = account.replace("192.0.2.%", "10.%").lines().map(|line| format!("{line};\n")).collect();
        primary.write("/root/blog-10.sql", &account)?;
        primary.sh("mariadb < /root/blog-10.sql && rm /root/blog-10.sql")?;
        let configuration = configuration()?;
        on_all(&self.lab.nodes(), |node| {
            let user = format!("user haproxy on >{CHECK_PASSWORD} resetchannels -@all +ping +info");
            node.write("/root/haproxy.user", &format!("{user}\n"))?;
            node.sh("cat /root/haproxy.user >> /etc/redis/site.conf")?;
            node.sh(&format!("echo 'ACL SET{user}' | sed 's/SETuser/SETUSER/' | REDISCLI_AUTH={REDIS_PASSWORD} redis-cli | grep OK"))?;
            node.write("/etc/haproxy/haproxy.cfg", &configuration)?;
            node.sh("chmod 600 /etc/haproxy/haproxy.cfg && haproxy -c -f /etc/haproxy/haproxy.cfg").map(drop)
        })?;
        self.lab.load_crm(&snippet("haproxy.crm")?)?;
        for (resource, section) in [("redis", "redis"), ("mysql", "mariadb")] {
            self.lab.crm(&format!("resource param {resource} set haproxy_drain '/run/haproxy/admin.sock {section}'"))?;
        }
        self.lab.wait_idle()?;
        // A request waits in HAProxy while there is no primary, and PHP has to wait as long for the answer: read_timeout.
        on_all(&self.lab.nodes(), |node| {
            node.sh("sed -i \"s/'192.0.2.101'/'127.0.0.1:3307'/\" /etc/wordpress/config-default.php")?;
            node.sh("sed -i 's/192.0.2.100:6379?timeout=0.3&read_timeout=1&/127.0.0.1:6390?timeout=0.3\\&read_timeout=5\\&/' /etc/php/*/fpm/pool.d/blog.conf")?;
            node.sh("grep -q 127.0.0.1:3307 /etc/wordpress/config-default.php && grep -q '127.0.0.1:6390?timeout=0.3&read_timeout=5&prefix' /etc/php/*/fpm/pool.d/blog.conf")?;
            node.sh("systemctl try-reload-or-restart 'php*-fpm'").map(drop)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_both_sections_and_logs_in_to_redis() {
        let text = configuration().unwrap();
        for words in [
            "\nlisten redis\n",
            "\nlisten mariadb\n",
            "    tcp-check send AUTH\\ haproxy\\ rehearsal-haproxy\\r\\n\n",
            "bind 127.0.0.1:3307",
            "bind 127.0.0.1:6390",
        ] {
            assert_eq!(text.matches(words).count(), 1, "{words}");
        }
        assert_eq!(text.matches("\nglobal\n").count(), 1);
    }
}
