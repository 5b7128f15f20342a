//! Start, stop, monitor, validate-all.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use testkit::FakeCluster;

use crate::{Site, USER, WRAPPER, run};

const DAILY: &str = "# a comment\n0 4 * * * wpsite touch {}/ran\n";

#[test]
fn a_start_installs_and_a_stop_takes_away() {
    let site = Site::with("plain", DAILY);
    site.agent().run("monitor").expect(&[7]);
    for _ in 0..2 {
        site.agent().run("start").ok();
        site.agent().run("monitor").ok();
    }
    let text = fs::read_to_string(site.installed()).unwrap();
    assert!(text.contains(&format!("SHELL={WRAPPER}\nSYSTOLE_CRON=plain\n")), "{text}");
    assert_eq!(fs::metadata(site.installed()).unwrap().permissions().mode() & 0o7777, 0o600, "passwords may stand in it");
    for _ in 0..2 {
        site.agent().run("stop").ok();
        site.agent().run("monitor").expect(&[7]);
    }
    assert!(!site.installed().exists());
}

#[test]
fn a_crontab_with_errors_is_refused_and_nothing_is_installed() {
    let site = Site::with("errors", "61 * * * * wpsite x\n* * * * * nobody-here y\n");
    site.agent().run("start").refused(5, &["line 1, minute: 61 is not in 0-59"]);
    site.write("* * * * * nobody-here y\n");
    site.agent().run("validate-all").refused(5, &["line 1, user", "nobody-here"]);
    site.write("* * * * * wpsite no newline");
    site.agent().run("start").refused(5, &["newline"]);
    fs::write(&site.source, b"* * * * * wpsite caf\xe9\n").unwrap();
    site.agent().run("start").refused(5, &["site.cron is not UTF-8"]);
    fs::remove_file(&site.source).unwrap();
    site.agent().run("start").refused(5, &["site.cron", "every node"]);
    assert!(!site.installed().exists());
    site.agent().run("stop").ok();
    site.agent().without("OCF_RESKEY_source").run("start").refused(6, &["source"]);
    site.agent().without("OCF_RESKEY_source").run("stop").ok();
}

#[test]
fn what_somebody_else_has_made_is_never_overwritten() {
    let site = Site::with("foreign", DAILY);
    fs::write(site.installed(), "1 1 1 1 1 root true\n").unwrap();
    site.agent().run("start").refused(5, &["was not made by this resource"]);
    site.agent().run("monitor").expect(&[7]);
    site.agent().run("stop").ok();
    assert_eq!(fs::read_to_string(site.installed()).unwrap(), "1 1 1 1 1 root true\n");
    fs::remove_file(site.installed()).unwrap();
    // The same job in another crontab runs on every node.
    fs::copy(&site.source, "/etc/cron.d/forgotten").unwrap();
    site.agent().run("start").refused(5, &["line 2 of /etc/cron.d/forgotten", "whatever the cluster says"]);
    // cron does not read this one.
    fs::rename("/etc/cron.d/forgotten", "/etc/cron.d/forgotten.old").unwrap();
    site.agent().run("validate-all").ok();
    fs::remove_file("/etc/cron.d/forgotten.old").unwrap();
    let line = format!("0 5 * * * touch {}/ran", site.directory().display());
    run("sh", &["-c", &format!("echo '{line}' | crontab -u {USER} -")]);
    site.agent().run("start").refused(5, &["line 1 of the crontab of wpsite", "whatever the cluster says"]);
    run("crontab", &["-u", USER, "-r"]);
    site.agent().run("validate-all").ok();
}

#[test]
fn a_monitor_finds_what_keeps_the_jobs_from_running() {
    let site = Site::with("changed", DAILY);
    site.agent().run("start").ok();
    let right = fs::read_to_string(site.installed()).unwrap();
    fs::write(site.installed(), format!("{right}# by hand\n")).unwrap();
    site.agent().run("monitor").refused(1, &["changes belong into the source"]);
    fs::write(site.installed(), &right).unwrap();
    fs::set_permissions(site.installed(), fs::Permissions::from_mode(0o664)).unwrap();
    site.agent().run("monitor").refused(1, &["mode 664", "cron ignores it"]);
    site.agent().run("start").ok();
    site.agent().run("monitor").ok();
    fs::remove_file(site.installed()).unwrap();
    site.agent().run("monitor").refused(1, &["was removed"]);
    site.agent().run("start").ok();
    site.agent().run("monitor").ok();
    // Nonsense in the source does not stop what runs.
    site.write("nonsense\n");
    site.agent().run("monitor").expect(&[190]);
    site.write(DAILY);
    run("pkill", &["-x", "cron"]);
    testkit::eventually("cron is gone", || crate::running("cron").iter().all(|p| p.name != "cron"));
    site.agent().run("monitor").refused(1, &["systemctl start cron"]);
    site.agent().run("stop").ok();
}

/// To Pacemaker a probe that answers 5 has found nothing, and the jobs would be started elsewhere as well.
#[test]
fn a_probe_finds_jobs_that_run_whatever_has_become_of_their_crontab() {
    let site = Site::with("found", DAILY);
    site.agent().run("start").ok();
    let noted = "/run/systole-cron/found/crontab";
    let text = fs::read_to_string(noted).unwrap();
    // A release that reads crontabs by stricter rules.
    fs::write(noted, "nonsense\n").unwrap();
    site.agent().probing().run("monitor").ok();
    fs::remove_file(noted).unwrap();
    fs::rename(&site.source, site.source.with_extension("away")).unwrap();
    site.agent().probing().run("monitor").ok();
    fs::rename(site.source.with_extension("away"), &site.source).unwrap();
    fs::write(noted, text).unwrap();
    site.agent().run("monitor").ok();
    site.agent().run("stop").ok();
}

/// An upgrade of the package cron.
#[test]
fn a_cron_that_is_restarted_at_that_moment_costs_neither_the_jobs_nor_the_node() {
    let site = Site::with("restarted", DAILY);
    for action in ["start", "monitor", "validate-all"] {
        run("pkill", &["-x", "cron"]);
        testkit::eventually("cron is gone", || crate::running("cron").iter().all(|p| p.name != "cron"));
        let asked = site.agent().spawn(action);
        std::thread::sleep(std::time::Duration::from_millis(300));
        run("cron", &[]);
        asked.answer().ok();
    }
    site.agent().run("stop").ok();
}

/// An error would have Pacemaker restart the resource on the node where it runs.
#[test]
fn a_node_that_comes_back_is_no_reason_to_restart_the_resource() {
    let site = Site::with("back", DAILY);
    site.agent().run("start").ok();
    let probe = || site.agent().probing().run("monitor");
    probe().ok();
    // The power cut: what stands in memory is gone.
    fs::remove_dir_all("/run/systole-cron/back").unwrap();
    // Not a probe: somebody has taken the jobs' permission away.
    site.agent().run("monitor").refused(1, &["may not run here"]);
    probe().expect(&[7]);
    assert!(!site.installed().exists(), "it was left there");
    // What is not ours stays.
    fs::write(site.installed(), "# mine\n").unwrap();
    probe().expect(&[7]);
    assert!(site.installed().exists());
    fs::remove_file(site.installed()).unwrap();
    // Some minutes later: what was due in the minute of the power cut may have run then.
    let mark = site.mark();
    site.set_mark(&format!("{};{};{};open;", mark[0], mark[1], crate::minute() - 3));
    // A stop that was killed has left a job: no other node may start the resource.
    site.agent().run("start").ok();
    let mut job = site.job("a", "sleep 6262").spawn().unwrap();
    testkit::eventually("it runs", || !crate::started("sleep 6262").is_empty());
    let stop = site.agent().spawn("stop");
    testkit::eventually("the crontab is gone", || !site.installed().exists());
    stop.kill();
    probe().refused(1, &["processes of jobs run", "restart this resource"]);
    site.agent().parameter("drain", "kill").run("stop").ok();
    let _ = job.wait();
    probe().expect(&[7]);
}

#[test]
fn a_users_crontab_is_installed_and_removed() {
    let site = Site::with("users", "0 4 * * * touch {}/ran\n");
    let agent = || site.agent().parameter("mode", "user").parameter("user", USER);
    site.agent().parameter("mode", "user").run("start").refused(6, &["needs the parameter user"]);
    agent().run("start").ok();
    agent().run("monitor").ok();
    run("sh", &["-c", &format!("crontab -u {USER} -l | grep -q 'touch /tmp/contract/users/ran'")]);
    agent().run("stop").ok();
    run("sh", &["-c", &format!("! crontab -u {USER} -l")]);
    agent().run("monitor").expect(&[7]);
    run("sh", &["-c", &format!("echo '1 1 1 1 1 mine' | crontab -u {USER} -")]);
    agent().run("start").refused(5, &["the crontab of wpsite was not made by this resource"]);
    agent().run("stop").ok();
    run("sh", &["-c", &format!("crontab -u {USER} -l | grep -q mine; crontab -u {USER} -r")]);
}

#[test]
fn a_crontab_that_stands_on_all_nodes_must_lead_through_the_wrapper() {
    let site = Site::with("gate", DAILY);
    let agent = || site.agent().parameter("mode", "gate");
    agent().run("start").refused(5, &["line 2", "would run on every node", &format!("write SHELL={WRAPPER}")]);
    site.write(&format!("SHELL={WRAPPER}\n{DAILY}"));
    agent().run("start").refused(5, &["write SYSTOLE_CRON=gate"]);
    site.write(&format!("SHELL={WRAPPER}\nSYSTOLE_CRON=gate\n{DAILY}"));
    agent().run("monitor").expect(&[7]);
    agent().run("start").ok();
    agent().run("monitor").ok();
    // A job that is added above the lines that lead it through the wrapper runs on every node, and is seen to.
    site.write(&format!("0 5 * * * wpsite true\nSHELL={WRAPPER}\nSYSTOLE_CRON=gate\n{DAILY}"));
    agent().run("monitor");
    agent().run("monitor").refused(190, &["line 1", "would run on every node"]);
    // Two jobs with one name are one to the wrapper.
    site.write(&format!("SHELL={WRAPPER}\nSYSTOLE_CRON=gate\nSYSTOLE_JOB=backup\n0 5 * * * wpsite true\n0 6 * * * wpsite false\n"));
    agent().run("monitor");
    agent().run("monitor").refused(190, &["line 5: it is one job with that of line 4"]);
    agent().run("validate-all").refused(5, &["SYSTOLE_JOB=NAME"]);
    site.write(&format!("SHELL={WRAPPER}\nSYSTOLE_CRON=gate\nSYSTOLE_JOB=nightly_backup\n0 5 * * * wpsite true\n"));
    agent().run("validate-all").refused(5, &["is no name of a job"]);
    agent().run("stop").ok();
    agent().run("monitor").expect(&[7]);
}

/// What names its users may name root. Jobs that run today go on.
#[test]
fn a_source_that_others_can_write_is_told() {
    let site = Site::with("writable", DAILY);
    site.agent().run("start").ok();
    fs::set_permissions(&site.source, fs::Permissions::from_mode(0o664)).unwrap();
    site.agent().run("monitor").refused(190, &["others than root can write it", "chmod go-w"]);
    site.agent().run("validate-all").refused(5, &["others than root can write it"]);
    site.agent().run("stop").ok();
    site.agent().run("start").ok();
    fs::set_permissions(&site.source, fs::Permissions::from_mode(0o644)).unwrap();
    site.agent().run("monitor").ok();
    site.agent().run("stop").ok();
}

/// What is wrong with a line stands in the CIB and in logs of all nodes.
#[test]
fn a_password_in_a_wrong_line_is_not_told() {
    for line in ["0 5 * * * MYSQL_PWD=hunter2 mysqldump\n", "PGPASSWORD=\"hunter2\" # reports\n* * * * * wpsite true\n"] {
        let site = Site::with("secret-line", line);
        let answer = site.agent().run("start");
        answer.refused(5, &["line 1"]);
        assert!(!answer.stderr.contains("hunter2"), "{}", answer.stderr);
    }
}

/// Without quotes cron takes it for a job, and ignores the whole file.
#[test]
fn an_empty_variable_gets_its_quotes() {
    let site = Site::with("empty", "MAILTO=\n0 4 * * * wpsite true\n");
    site.agent().run("start").ok();
    let text = fs::read_to_string(site.installed()).unwrap();
    assert!(text.contains("\nMAILTO=\"\"\n"), "{text}");
    site.agent().run("monitor").ok();
    site.agent().run("stop").ok();
}

#[test]
fn a_cluster_without_fencing_is_told_what_that_means() {
    let site = Site::with("unfenced", DAILY);
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    let validate = || {
        let answer = site.agent().variable("PATH", cluster.path()).run("validate-all");
        answer.ok();
        answer.stderr
    };
    assert!(!validate().contains("fencing"), "it is on without a word");
    cluster.set_property("stonith-enabled", "false");
    assert!(validate().contains("has no fencing"), "{}", validate());
    cluster.behave("exit 102");
    assert!(!validate().contains("fencing"), "nobody can be asked");
}
