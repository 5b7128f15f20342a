//! The lab itself, with real nodes. Needs root, the image debian12 and some 90 s:
//! `make lab`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use lab::state::Volume;
use lab::{CheckOptions, Cut, Database, Lab, LabOptions, LabPaths, LoadOptions, Result};

const LIMIT: Duration = Duration::from_secs(30);

fn up(name: &str) -> Result<Lab> {
    // Cargo builds the program before it runs this test and says here where it is.
    Lab::up(LabOptions { name: name.to_owned(), program: Some(env!("CARGO_BIN_EXE_systole-lab").into()), ..LabOptions::default() })
}

fn nothing_left(name: &str) -> Result<()> {
    let paths = LabPaths::new(name)?;
    for path in [paths.run_dir(), paths.state_dir(), paths.netns_path()] {
        assert!(!path.exists(), "{} is left", path.display());
    }
    for root in ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"] {
        assert!(!Path::new(root).join(paths.cgroup()).exists(), "a cgroup below {root} is left");
    }
    Ok(())
}

fn online(lab: &Lab, node: &str) -> bool {
    lab.view().is_ok_and(|view| view.online.iter().any(|n| n == node))
}

#[test]
#[ignore = "needs root and the image debian12"]
fn a_node_without_network_is_fenced_and_rejoins_when_healed() -> Result<()> {
    let lab = up("test-fence")?;
    lab.wait_idle()?;
    let before = lab.node(3).leader()?;
    lab.cut(&Cut::cable("lxc3"))?;
    lab.wait_for("lxc3 fenced", LIMIT, || lab.node(3).leader().is_ok_and(|now| now != before))?;
    assert!(!online(&lab, "lxc3"), "a pulled cable stays pulled over a reboot");
    lab.heal(Some("lxc3"))?;
    lab.wait_online()?;
    lab.down()?;
    nothing_left("test-fence")
}

#[test]
#[ignore = "needs root and the image debian12"]
fn two_labs_do_not_meet_and_a_killed_supervisor_leaves_nothing() -> Result<()> {
    let (one, two) = (up("test-one")?, up("test-two")?);
    let file = one.paths().supervisor_pid_file();
    let pid = std::fs::read_to_string(&file).map_err(|source| lab::Error::Io { what: file.display().to_string(), source })?;
    let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
    assert!(killed.is_ok_and(|status| status.success()), "no process {pid}");
    one.down()?;
    nothing_left("test-one")?;
    two.wait_online()?;
    two.down()?;
    nothing_left("test-two")
}

#[test]
#[ignore = "needs root and the image debian12"]
fn a_power_cut_is_confirmed_by_fencing_and_ends_when_the_lab_says_so() -> Result<()> {
    let lab = up("test-power")?;
    lab.wait_idle()?;
    lab.node(2).power_off()?;
    let fenced = || lab.paths().read_events().is_ok_and(|all| all.iter().any(|e| e.by.starts_with("fencing") && e.text.contains("lxc2")));
    lab.wait_for("fencing of lxc2", LIMIT, fenced)?;
    std::thread::sleep(Duration::from_secs(1));
    assert!(!lab.node(2).is_on(), "fencing does not end a power cut");
    lab.node(2).power_on()?;
    lab.wait_online()
}

/// A server that does not sync what it acknowledges has to lose it here, too.
#[test]
#[ignore = "needs root and the image debian12"]
fn a_power_cut_loses_what_was_not_synced_on_a_volume() -> Result<()> {
    let volumes = vec![Volume { path: "/srv/data".into(), mebibytes: 64 }];
    let program = Some(env!("CARGO_BIN_EXE_systole-lab").into());
    let lab = Lab::up(LabOptions { name: "test-sync".to_owned(), program, volumes, ..LabOptions::default() })?;
    lab.node(2).sh("chown daemon:daemon /srv/data; chmod 700 /srv/data; mkdir /srv/data/a; sync -f /srv/data")?;
    lab.node(2).sh("cd /srv/data/a; echo kept > synced; sync synced .; echo lost > unsynced; cat unsynced")?;
    lab.node(2).power_off()?;
    let survives = || lab.paths().read_events().is_ok_and(|all| all.iter().any(|e| e.text.contains("survives")));
    assert!(!survives(), "the kernel shuts a file system down");
    lab.node(2).power_on()?;
    lab.node(2).wait_booted(LIMIT)?;
    let found = lab.node(2).sh("cat /srv/data/a/synced; cat /srv/data/a/unsynced 2>/dev/null; stat -c '%U %a' /srv/data")?.stdout;
    assert_eq!(found, "kept\ndaemon 700\n");
    // This machine's own disk is none of a node's.
    let here = lab.paths().state_dir().join("written");
    std::fs::write(&here, "").map_err(|source| lab::Error::Io { what: here.display().to_string(), source })?;
    lab.wait_online()?;
    lab.down()
}

#[test]
#[ignore = "needs root and the image debian12"]
fn the_sockets_of_a_dead_node_say_nothing() -> Result<()> {
    let lab = up("test-silence")?;
    lab.node(1).sh("nc -l -k -p 7000 >/dev/null 2>&1 </dev/null & sleep 0.3")?;
    // A client that would end at once when the node's kernel closed its connection.
    let begin = Instant::now();
    let mut client = lab.node(2).command(&["timeout", "4", "nc", "-d", "10.77.0.11", "7000"])?;
    let mut client = client.spawn().map_err(|source| lab::Error::Io { what: "start nc".to_owned(), source })?;
    std::thread::sleep(Duration::from_millis(500));
    lab.node(1).power_off()?;
    let _ = client.wait();
    assert!(begin.elapsed() >= Duration::from_secs(4), "the dead node closed a connection after {:?}", begin.elapsed());
    Ok(())
}

#[test]
#[ignore = "needs root and the image debian12"]
fn the_checker_counts_writes_on_a_real_pair_and_sees_two_writers() -> Result<()> {
    let lab = up("test-check")?;
    for node in lab.nodes() {
        node.sh("redis-server --bind '* -::*' --protected-mode no --daemonize yes --dir /tmp --repl-diskless-sync-delay 0 >/dev/null")?;
    }
    for number in [2, 3] {
        lab.node(number).sh("redis-cli replicaof 10.77.0.11 6379")?;
    }
    let all_linked = || lab.node(1).sh("redis-cli info replication").is_ok_and(|o| o.stdout.contains("connected_slaves:2"));
    lab.wait_for("both replicas linked", LIMIT, all_linked)?;
    let options = LoadOptions { address: "10.77.0.11:6379".to_owned(), wait: 1, ..LoadOptions::default() };

    let load = lab.start_load(&options)?;
    lab.wait_for("writes", LIMIT, || load.writing())?;
    std::thread::sleep(Duration::from_secs(2));
    let report = lab.check(&load.stop()?, &CheckOptions::default())?;
    assert!(report.kept(), "{report}");

    let load = lab.start_load(&options)?;
    lab.wait_for("writes", LIMIT, || load.writing())?;
    lab.node(2).sh("redis-cli replicaof no one; sleep 0.3; redis-cli replicaof 10.77.0.11 6379")?;
    std::thread::sleep(Duration::from_secs(1));
    lab.node(1).sh("redis-cli --scan --pattern 'w:*' | head -n 1 | xargs redis-cli del")?;
    let report = lab.check(&load.stop()?, &CheckOptions::default())?;
    assert!(report.of('W').is_some_and(|v| !v.kept && v.text.contains("lxc2 took")), "{report}");
    lab.down()
}

#[test]
#[ignore = "needs root and the image debian12"]
fn the_checker_counts_writes_of_mariadb_beside_those_of_redis() -> Result<()> {
    const USERS: &str = "CREATE DATABASE `load`; CREATE USER 'load'@'%' IDENTIFIED BY 'secret'; \
        GRANT CREATE, SELECT, INSERT, UPDATE ON `load`.* TO 'load'@'%'; GRANT SLAVE MONITOR ON *.* TO 'load'@'%'; \
        CREATE USER 'copy'@'%' IDENTIFIED BY 'secret'; GRANT REPLICATION SLAVE ON *.* TO 'copy'@'%'";
    const FOLLOW: &str = "CHANGE MASTER TO master_host='10.77.0.11', master_user='copy', master_password='secret', \
        master_use_gtid=slave_pos; START SLAVE";
    let lab = up("test-mariadb")?;
    for node in lab.nodes() {
        let first = node.number == 1;
        node.sh(&format!(
            "install -d -o mysql /run/mysqld; setsid mariadbd --user=mysql --bind-address=0.0.0.0 --server-id={} --log-bin=bin \
             --log-slave-updates --read-only={} >/root/mariadbd.log 2>&1 </dev/null &",
            node.number,
            u8::from(!first)
        ))?;
        node.sh("redis-server --bind '* -::*' --protected-mode no --daemonize yes --dir /tmp --repl-diskless-sync-delay 0 >/dev/null")?;
        lab.wait_for("MariaDB answers", LIMIT, || node.sh("mariadb-admin ping").is_ok_and(|o| o.success()))?;
        if first {
            node.exec(&["mariadb", "-e", USERS])?;
        } else {
            node.exec(&["mariadb", "-e", FOLLOW])?;
            node.sh("redis-cli replicaof 10.77.0.11 6379")?;
        }
    }
    let password = lab.paths().state_dir().join("password");
    std::fs::write(&password, "secret\n").map_err(|source| lab::Error::Io { what: password.display().to_string(), source })?;
    let mysql = LoadOptions { address: "10.77.0.11:3306".to_owned(), password_file: Some(password), ..LoadOptions::of(Database::MySql) };
    let redis = LoadOptions { address: "10.77.0.11:6379".to_owned(), ..LoadOptions::default() };
    let (rows, keys) = (lab.start_load(&mysql)?, lab.start_load(&redis)?);
    lab.wait_for("writes", LIMIT, || rows.writing() && keys.writing())?;
    std::thread::sleep(Duration::from_secs(2));
    let report = lab.check(&keys.stop()?, &CheckOptions::default())?;
    assert!(report.kept(), "{report}");
    let rows = rows.stop()?;
    let check = CheckOptions::of(&mysql)?;
    let report = lab.check(&rows, &check)?;
    assert!(report.kept(), "{report}");

    lab.node(3).exec(&["mariadb", "-e", "DELETE FROM `load`.writes WHERE n = 2"])?;
    let report = lab.check(&rows, &check)?;
    assert!(report.of('L').is_some_and(|v| !v.kept && v.text.contains("lxc3 lacks")), "{report}");
    assert!(report.of('C').is_some_and(|v| !v.kept), "{report}");
    lab.down()
}
