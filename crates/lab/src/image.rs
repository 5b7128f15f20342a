//! The nodes' root file systems: which packages each holds, building them with mmdebstrap, the cache.
//! Owns nothing of a running lab; an image is never written to after it was built.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt_source::{self, AptSource};
use crate::error::{Context, Error, Result};
use crate::foreign::{self, Foreign};
use crate::host;

/// One declaration per image: to have more in the nodes, add the package here.
#[derive(Debug)]
pub struct Recipe {
    /// Name on the command line.
    pub name: &'static str,
    /// Suite in the Debian archive.
    pub suite: &'static str,
    /// Packages beyond those that every node has.
    pub packages: &'static [&'static [&'static str]],
    /// Servers that Debian does not carry.
    pub foreign: &'static [Foreign],
}

/// What every node has, whatever its Debian release is.
const COMMON: &[&str] = &[
    "systemd-sysv",
    "dbus",
    "corosync",
    "pacemaker",
    "pacemaker-cli-utils",
    "crmsh",
    "resource-agents",
    "libxml2-utils",
    "iproute2",
    "iputils-arping",
    "iputils-ping",
    "nftables",
    "netcat-openbsd",
    "procps",
    "psmisc",
    "strace",
    "python3",
    "cron",
    "haproxy",
    "nginx-light",
    "openssh-client",
    "openssh-server",
];

/// The image of whatever does not ask for one by name: Debian 12, or what `$SYSTOLE_IMAGE` says. So a run is for one generation.
#[must_use]
pub fn usual() -> String {
    std::env::var("SYSTOLE_IMAGE").unwrap_or_else(|_| "debian12".to_owned())
}

/// What each generation of nodes has beyond [`COMMON`], in the version of its Debian.
const STABLE: &[&str] = &[
    "redis-server",
    "redis-sentinel",
    "redis-tools",
    "pcs",
    "mariadb-server",
    "mariadb-client",
    "mariadb-backup",
    // The site of the workshop. What wordpress and php would choose themselves is Apache: php-fpm comes first.
    "php-fpm",
    "php",
    "php-mysql",
    "php-redis",
    "wordpress",
    "wordpress-theme-twentytwentythree",
    "curl",
    // The recipes: third votes, tickets between sites, other balancers, the uploads.
    "corosync-qdevice",
    "corosync-qnetd",
    "galera-arbitrator-4",
    "booth",
    "booth-pacemaker",
    "pen",
    "syncthing",
];

/// The images this lab knows.
pub const RECIPES: &[Recipe] = &[
    Recipe {
        name: "debian12",
        suite: "bookworm",
        // libaio1 is for MySQL 5.6.
        packages: &[STABLE, &["libaio1"]],
        foreign: &[foreign::MYSQL_5_6],
    },
    Recipe { name: "debian13", suite: "trixie", packages: &[STABLE, &["valkey-server", "valkey-tools"]], foreign: &[] },
    // The servers of older sites, beside MariaDB and its client.
    Recipe {
        name: "debian12-mysql",
        suite: "bookworm",
        packages: &[&["mariadb-server", "mariadb-client", "libaio1", "libnuma1"]],
        foreign: &[foreign::MYSQL_5_7, foreign::MYSQL_8_0],
    },
    // For one recipe: a file system that takes more packages than all else of a node.
    Recipe {
        name: "debian12-gluster",
        suite: "bookworm",
        packages: &[&["kmod", "php-fpm", "glusterfs-server", "glusterfs-client"]],
        foreign: &[],
    },
    // The compiler that Debian 13 packages is the oldest that the workspace promises to build with: `make msrv`.
    // For one test: what a page looks like in a browser.
    Recipe { name: "debian13-browser", suite: "trixie", packages: &[&["chromium", "fonts-dejavu-core"]], foreign: &[] },
    Recipe { name: "debian13-rust", suite: "trixie", packages: &[&["rustc", "cargo", "gcc", "libc6-dev"]], foreign: &[] },
    Recipe { name: "sid", suite: "sid", packages: &[&["valkey-server", "valkey-tools", "mysql-server", "mysql-client"]], foreign: &[] },
];

/// Started by the lab or by Pacemaker, or of no use in a node: not by the node's own boot.
const DISABLED: &[&str] = &[
    "corosync.service",
    "pacemaker.service",
    "pcsd.service",
    "pcsd-ruby.service",
    "logd.service",
    "redis-server.service",
    "redis-sentinel.service",
    "valkey-server.service",
    "haproxy.service",
    "nginx.service",
    "php8.2-fpm.service",
    "php8.4-fpm.service",
    "mariadb.service",
    // It would hold the server's socket and port.
    "mariadb.socket",
    "mysql.service",
    "garb.service",
    "pen.service",
    "ssh.service",
    "ssh.socket",
    "corosync-qdevice.service",
    "corosync-qnetd.service",
    "booth-arbitrator.service",
    "syncthing-resume.service",
    "nftables.service",
    "remote-fs.target",
    "e2scrub_reap.service",
];

/// Units that only slow a node's boot.
const MASKED: &[&str] = &[
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-networkd-wait-online.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-logind.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-firstboot.service",
    "systemd-network-generator.service",
    "console-getty.service",
    "getty.target",
    "getty-static.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "man-db.timer",
    "logrotate.timer",
];

/// Raise it when the way of building changes, so that cached images are made anew.
const RECIPE_VERSION: u32 = 1;

impl Recipe {
    /// The recipe of that name.
    pub fn find(name: &str) -> Result<&'static Recipe> {
        RECIPES.iter().find(|r| r.name == name).ok_or_else(|| {
            let known: Vec<&str> = RECIPES.iter().map(|r| r.name).collect();
            Error::Refused(format!("image {name} is not known; known are {}", known.join(", ")))
        })
    }

    fn all_packages(&self) -> Vec<&'static str> {
        COMMON.iter().chain(self.packages.iter().copied().flatten()).copied().collect()
    }

    /// Shell run with the new root in `$1` before the image is finished. MySQL's auto.cnf holds the server's identity: each
    /// node makes its own. Only the image does without documentation: what is installed later is unpacked whole.
    fn finishing(&self) -> String {
        format!(
            "for u in {disabled}; do chroot \"$1\" systemctl disable $u >/dev/null 2>&1 || true; done; \
             for u in {masked}; do ln -sfn /dev/null \"$1\"/etc/systemd/system/$u; done; \
             rm -f \"$1\"/var/lib/mysql/auto.cnf; \
             mkdir -p \"$1\"/var/log/journal \"$1\"/var/lib/corosync; \
             rm -f \"$1\"/etc/dpkg/dpkg.cfg.d/99mmdebstrap; \
             rm -f \"$1\"/etc/resolv.conf \"$1\"/etc/hostname; : > \"$1\"/etc/resolv.conf; \
             echo LANG=C.UTF-8 > \"$1\"/etc/default/locale",
            disabled = DISABLED.join(" "),
            masked = MASKED.join(" "),
        )
    }

    /// Where the image is or will be; the directory's name carries a hash of everything that shapes it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let mut text = format!("{RECIPE_VERSION} {} {:?} {}", self.suite, self.all_packages(), self.finishing());
        for foreign in self.foreign {
            text.extend([foreign.name, foreign.sha256.unwrap_or_default(), foreign.install]);
        }
        images_dir().join(format!("{}-{:08x}", self.name, fnv1a(text.as_bytes())))
    }

    /// The image's root, or the command that makes it.
    pub fn built(&self) -> Result<PathBuf> {
        let path = self.path();
        if path.join("usr").is_dir() {
            return Ok(path);
        }
        Err(Error::Refused(format!("image {0} is not built; make it with: systole-lab image build {0}", self.name)))
    }

    /// Builds the image unless it is in the cache; `force` makes it anew.
    pub fn build(&self, force: bool) -> Result<PathBuf> {
        host::ensure_tools()?;
        let images = images_dir();
        std::fs::create_dir_all(&images).context(|| format!("make {}", images.display()))?;
        let _lock = host::lock_file(&images.join(format!(".lock-{}", self.name)))?;
        let path = self.path();
        if path.join("usr").is_dir() {
            if !force {
                return Ok(path);
            }
            let old = images.join(format!(".old-{}-{}", self.name, std::process::id()));
            std::fs::rename(&path, &old).context(|| format!("move {} away", path.display()))?;
            remove_tree(&old)?;
        }
        // A builder that was killed leaves its directory behind; the lock says that nobody works there now.
        for entry in std::fs::read_dir(&images).context(|| format!("list {}", images.display()))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&format!(".building-{}-", self.name)) || name.starts_with(&format!(".old-{}-", self.name)) {
                remove_tree(&entry.path())?;
            }
        }
        let building = images.join(format!(".building-{}-{}", self.name, std::process::id()));
        host::progress(&format!("building image {} ({}) with mmdebstrap", self.name, self.suite));
        if let Err(error) = self.bootstrap(&building).and_then(|()| foreign::install(self.foreign, &building)) {
            let _ = remove_tree(&building);
            return Err(error);
        }
        std::fs::rename(&building, &path).context(|| format!("rename to {}", path.display()))?;
        host::progress(&format!("image {} is ready in {}", self.name, path.display()));
        Ok(path)
    }

    fn bootstrap(&self, target: &Path) -> Result<()> {
        let source = apt_source::of_this_machine()?;
        let AptSource { uri, signed_by } = &source;
        let options = signed_by.as_deref().map(|key| format!("[signed-by={key}] ")).unwrap_or_default();
        let mut command = Command::new("mmdebstrap");
        command
            .args(["--variant=minbase", "--mode=root", "--format=directory", "--components=main"])
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg("--aptopt=APT::Install-Recommends \"false\"")
            .arg("--aptopt=Acquire::Retries \"3\"")
            .arg("--dpkgopt=path-exclude=/usr/share/man/*")
            .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
            .arg(format!("--include={}", self.all_packages().join(",")))
            .arg(format!("--customize-hook={}", self.finishing()))
            .arg(self.suite)
            .arg(target)
            .arg(format!("deb {options}{uri} {} main", self.suite))
            .env("LC_ALL", "C.UTF-8")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context(|| "start mmdebstrap".to_owned())?;
        let mut tail: VecDeque<String> = VecDeque::new();
        if let Some(stderr) = child.stderr.take() {
            for line in BufReader::new(stderr).split(b'\n').map_while(std::result::Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some(step) = line.strip_prefix("I: ") {
                    host::progress(&format!("  {step}"));
                }
                if tail.len() == 40 {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
        }
        let status = child.wait().context(|| "wait for mmdebstrap".to_owned())?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Command {
            command: format!("mmdebstrap {} from {uri}", self.suite),
            outcome: format!("exit code {}", host::exit_code(status)),
            stderr: tail.into_iter().collect::<Vec<_>>().join("\n"),
        })
    }
}

/// Known images: name, directory, whether it is built. Directories of older recipes follow as `(stale)`.
pub fn list() -> Vec<(String, PathBuf, bool)> {
    let mut found: Vec<(String, PathBuf, bool)> =
        RECIPES.iter().map(|r| (r.name.to_owned(), r.path(), r.path().join("usr").is_dir())).collect();
    let current: Vec<PathBuf> = found.iter().map(|(_, path, _)| path.clone()).collect();
    if let Ok(entries) = std::fs::read_dir(images_dir()) {
        for entry in entries.flatten() {
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && !current.contains(&entry.path()) {
                found.push(("(stale)".to_owned(), entry.path(), true));
            }
        }
    }
    found
}

/// `$SYSTOLE_LAB_CACHE`, or /var/cache/systole-lab.
#[must_use]
pub fn cache_dir() -> PathBuf {
    std::env::var_os("SYSTOLE_LAB_CACHE").map_or_else(|| PathBuf::from("/var/cache/systole-lab"), PathBuf::from)
}

/// Where the images are in the cache.
#[must_use]
pub fn images_dir() -> PathBuf {
    cache_dir().join("images")
}

/// Removes a tree on one file system only: a mount that somebody left below must survive.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    host::checked(Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(path)).map(drop)
}

/// 32 bits of FNV-1a: stable over compiler releases, unlike the standard library's hasher.
pub(crate) fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
