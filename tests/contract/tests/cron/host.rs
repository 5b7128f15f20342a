//! An accident of the host, or another user of it, neither keeps a job from running nor stops one.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use testkit::{Agent, FakeCluster, NO_USER_DATABASE, Signal, after, eventually, within};

use crate::{Site, USER, ago, minute, run, running, started, user_directory};

const NEVER: &str = "0 0 30 2 * wpsite true\n";

/// Its output, once it has closed it and has ended; it has ten seconds.
fn soon(mut command: Command) -> Output {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut streams = [Box::new(child.stdout.take().unwrap()) as Box<dyn std::io::Read + Send>, Box::new(child.stderr.take().unwrap())]
        .map(|mut stream| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).map(|_| bytes).unwrap_or_default()
            })
        })
        .into_iter();
    let mut stream = || {
        let reading = streams.next().unwrap();
        within(Duration::from_secs(10), || reading.is_finished().then_some(())).expect("its output is closed when its command has ended");
        reading.join().unwrap()
    };
    let (stdout, stderr) = (stream(), stream());
    let status = within(Duration::from_secs(10), || child.try_wait().unwrap()).expect("it ends with its command");
    Output { status, stdout, stderr }
}

fn as_nobody(script: &str, environment: &str) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "env", environment, "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Hardened machines mount /proc so that an ordinary user sees none of the others' processes.
#[test]
fn a_job_runs_where_proc_hides_the_processes_of_others() {
    let site = Site::with("hidden", NEVER);
    site.agent().run("start").ok();
    // The sandbox has a boot of its own, by a file that is mounted over the kernel's.
    let hidden = "cat /proc/sys/kernel/random/boot_id > /tmp/contract/boot_id; mount -t proc -o hidepid=2 proc /proc; \
                  mount --bind /tmp/contract/boot_id /proc/sys/kernel/random/boot_id";
    let output = soon(after(hidden, &site.job("a", "test -d /proc/1 && echo seen; echo ran")));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"ran\n"[..]), "{output:?}");
    // Without the name of this boot nobody knows whether the jobs run here: that is not the same as knowing that they do not.
    let output = soon(after("mount -t tmpfs tmpfs /proc/sys/kernel/random", &site.job("b", "echo ran")));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && output.stdout.is_empty() && said.contains("boot_id"), "{output:?}");
    site.agent().run("stop").ok();
}

/// A soft-reboot, or the start of a container: the kernel boots not, and what is in /run is still there.
#[test]
fn a_boot_that_keeps_run_lets_no_job_begin() {
    let site = Site::with("kept-run", NEVER);
    site.agent().run("start").ok();
    let conf = site.directory().join("systole.conf");
    fs::write(&conf, include_str!("../../../../packaging/tmpfiles.conf").replace("/*/", "/kept-run/")).unwrap();
    let clean = |boot: &[&str]| run("systemd-tmpfiles", &[boot, &["--create", "--remove", &conf.display().to_string()]].concat());
    clean(&[]);
    site.agent().run("monitor").ok();
    clean(&["--boot"]);
    assert!(site.job("a", "touch {}/ran").status().unwrap().success() && !site.has("ran"));
    site.agent().probing().run("monitor").expect(&[7]);
    assert!(!site.installed().exists());
}

/// gpg-agent, ssh with ControlPersist.
#[test]
fn a_daemon_that_a_job_leaves_behind_holds_nothing_up_but_a_stop() {
    let site = Site::with("daemon", NEVER);
    site.agent().run("start").ok();
    for n in 0..2 {
        site.forget_claims("a");
        let output = soon(site.job("a", &format!("env -i setsid sleep 8181 >/dev/null 2>&1 & echo x >> {{}}/ran; exit {n}")));
        assert_eq!(output.status.code(), Some(n), "{output:?}");
        assert_eq!(fs::read_to_string(site.directory().join("ran")).unwrap().lines().count(), usize::try_from(n).unwrap() + 1);
    }
    assert_eq!(site.history().iter().filter(|line| line.contains("\"ended\"")).count(), 2, "{:?}", site.history());
    assert_eq!(started("sleep 8181").len(), 2);
    site.agent().run("monitor").ok();
    site.agent().parameter("drain", "kill").run("stop").ok();
    assert_eq!(running("sleep 8181").len(), 0, "{:?}", running("sleep 8181"));
    assert_eq!(registrations("daemon"), 0);
}

#[test]
fn an_operator_is_told_of_a_job_that_is_always_left_out() {
    let site = Site::with("omitted", "0 0 1 1 * wpsite sleep 8282\n");
    site.agent().run("start").ok();
    let job = site.first_job();
    let mut long = site.job(&job, "sleep 8282").spawn().unwrap();
    eventually("it runs", || !started("sleep 8282").is_empty());
    for _ in 0..5 {
        site.agent().run("monitor").ok();
        site.forget_claims(&job);
        assert!(site.job(&job, "touch {}/ran").status().unwrap().success());
    }
    let answer = site.agent().run("monitor");
    assert!(answer.expect(&[190]).reason().contains("the last 5 runs of line 1 were left out"), "{answer:?}");
    started("sleep 8282").iter().for_each(|p| p.signal(Signal::SIGKILL));
    let _ = long.wait();
    site.forget_claims(&job);
    assert!(site.job(&job, "touch {}/ran").status().unwrap().success() && site.has("ran"));
    site.agent().run("monitor").ok();
    site.agent().run("stop").ok();
}

/// What anybody can write into the environment of a process of their own.
#[test]
fn another_user_can_neither_fail_a_probe_nor_a_stop() {
    let site = Site::with("marked", NEVER);
    site.agent().run("start").ok();
    let marker = "SYSTOLE_RUN=marked:1:1";
    let mut one = as_nobody("sleep 8383", marker);
    let mut many = as_nobody("while :; do sleep 1 & sleep 0.02; done", marker);
    eventually("they run", || running("sleep 8383").iter().any(|p| p.name == "sleep"));
    let answer = site.agent().parameter("drain", "kill").timeout(Duration::from_secs(10)).run("stop");
    answer.ok();
    assert!(one.try_wait().unwrap().is_none(), "a stop has killed what is none of the jobs'");
    site.agent().probing().run("monitor").expect(&[7]);
    for child in [&mut many, &mut one] {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A move of a second to a node whose clock is two seconds behind.
#[test]
fn a_minute_that_was_settled_elsewhere_is_not_run_again() {
    let site = Site::with("behind", NEVER);
    site.set_mark(&format!("7;b;{};closed;", minute() + 1));
    site.agent().run("start").ok();
    assert!(site.job("a", "touch {}/twice").status().unwrap().success());
    assert!(!site.has("twice"));
    assert!(site.history().iter().any(|line| line.contains("settled before the resource started here")), "{:?}", site.history());
    // What is to be made up for is.
    let late = site.job("a", "touch {}/late").env("SYSTOLE_DUE", minute().to_string()).status().unwrap();
    assert!(late.success() && site.has("late"));
    // Nor does a start that is repeated forget it.
    site.agent().run("start").ok();
    site.forget_claims("a");
    assert!(site.job("a", "touch {}/twice").status().unwrap().success() && !site.has("twice"));
    // Nor one after a stop, by a mark that is this node's own by then.
    site.agent().run("stop").ok();
    site.agent().run("start").ok();
    site.forget_claims("a");
    assert!(site.job("a", "touch {}/twice").status().unwrap().success() && !site.has("twice"), "{:?}", site.mark());
    site.agent().run("stop").ok();
    // A clock that was wrong keeps no job from running for hours.
    let site = Site::with("wrong-clock", NEVER);
    site.set_mark(&format!("7;b;{};closed;", minute() + 600));
    let answer = site.agent().run("start");
    assert!(answer.ok().stderr.contains("the clock of b was"), "{answer:?}");
    assert!(site.job("a", "touch {}/ran").status().unwrap().success() && site.has("ran"));
    site.agent().run("stop").ok();
}

/// What changes something, or says that it is changed.
const STEPS: &str = "openat,write,rename,unlink,mkdir,chown,fsync,flock,execve,clone,vfork";

/// The same when a start is killed at each of its steps: its own mark is what the next one goes by.
#[test]
fn a_start_that_is_killed_forgets_no_minute_that_was_settled_elsewhere() {
    for step in 1.. {
        assert!(step < 1000, "a start does not take so many steps");
        let site = Site::with(&format!("behind-{step}"), NEVER);
        site.set_mark(&format!("7;b;{};closed;", minute() + 2));
        let alive = !site.agent().killed_at("start", STEPS, step + 1);
        site.agent().run("start").ok();
        assert!(site.job("a", "touch {}/twice").status().unwrap().success() && !site.has("twice"), "step {step}: {:?}", site.mark());
        site.agent().run("stop").ok();
        if alive {
            assert!(step > 20, "strace has killed it at {step} steps only");
            break;
        }
    }
}

/// More runs than are looked at one by one, as after two hours in which cron did not run.
#[test]
fn of_more_runs_than_are_told_the_oldest_stands_for_those_before_it() {
    let site = Site::with("so-many", "* * * * * wpsite true\n");
    // Not where cron reads it: it would run the job.
    let unread = site.directory().join("unread");
    fs::create_dir_all(&unread).unwrap();
    let agent = || site.agent().parameter("cron_directory", &unread);
    let count = |words: &str| site.missed().matches(words).count();
    let two_hours_ago = || {
        let mark = site.mark();
        site.set_mark(&format!("{};{};{};open;", mark[0], mark[1], minute() - 120));
    };
    agent().run("start").ok();
    two_hours_ago();
    agent().run("monitor").ok();
    assert_eq!((count("cron has not started it"), count("only the last 60 are looked at")), (60, 1), "{}", site.missed());
    two_hours_ago();
    agent().run("stop").ok();
    assert_eq!(site.mark()[4].split(',').count(), 60, "they are left to the next node: {:?}", site.mark());
    assert_eq!(count("only the last 60 are looked at"), 2, "{}", site.missed());
}

#[test]
fn a_release_that_words_the_header_anew_fails_nothing() {
    let site = Site::with("reworded", NEVER);
    site.agent().run("start").ok();
    let text = fs::read_to_string(site.installed()).unwrap();
    let reworded = text.replacen("# A change here", "# Whatever is changed here", 1);
    assert_ne!(text, reworded);
    fs::write(site.installed(), reworded).unwrap();
    site.agent().run("monitor").ok();
    site.agent().probing().run("monitor").ok();
    // Nor does one that did not write down what it has installed.
    let noted = "/run/systole-cron/reworded/installed";
    fs::remove_file(noted).unwrap();
    site.agent().run("monitor").ok();
    assert!(std::path::Path::new(noted).exists(), "the next release knows it");
    fs::write(site.installed(), text.replace(" true", " false")).unwrap();
    site.agent().run("monitor").refused(1, &["is not what this resource has put there"]);
    site.agent().run("stop").ok();
}

/// A cron that keeps the crontabs of users elsewhere, as those of other distributions do.
#[test]
fn a_users_own_crontab_is_never_overwritten_wherever_it_is_kept() {
    let site = Site::with("elsewhere", "0 4 * * * touch {}/ran\n");
    let bin = site.directory().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let kept = site.directory().join("kept");
    let script = format!(
        "#!/bin/sh\nkept={}\ncase \"$*\" in *-V*) cat $kept.version 2>/dev/null; exit;; *-l*) cat $kept 2>/dev/null || {{ echo \"no crontab for $2\" >&2; exit 1; }};; \
         *-r*) rm $kept;; *) cat \"$3\" > $kept;; esac\n",
        kept.display()
    );
    fs::write(bin.join("crontab"), script).unwrap();
    fs::set_permissions(bin.join("crontab"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    let agent = || site.agent().parameter("mode", "user").parameter("user", USER).variable("PATH", &path);
    fs::write(&kept, "1 1 1 1 1 mine\n").unwrap();
    agent().run("start").refused(5, &["the crontab of wpsite was not made by this resource"]);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "1 1 1 1 1 mine\n");
    fs::remove_file(&kept).unwrap();
    agent().run("start").ok();
    agent().run("monitor").ok();
    agent().run("stop").ok();
    assert!(!kept.exists());
    fs::write(kept.with_extension("version"), "cronie 1.6.1\n").unwrap();
    agent().run("start").refused(5, &["cronie is not Debian's cron"]);
    // A node where nothing is installed.
    agent().variable("PATH", "/nowhere").probing().run("monitor").expect(&[7]);
}

#[test]
fn a_crontab_for_another_cron_is_refused_with_the_line() {
    let site = Site::with("foreign-rules", &format!("# x\nCRON_TZ=UTC\n{NEVER}"));
    site.agent().run("start").refused(5, &["line 2, variable: CRON_TZ means nothing to Debian's cron"]);
    site.write(&format!("RANDOM_DELAY=10\n{NEVER}"));
    site.agent().run("validate-all").refused(5, &["line 1, variable: RANDOM_DELAY"]);
}

#[test]
fn what_waits_takes_no_time_of_a_processor() {
    let site = Site::with("waits", NEVER);
    site.agent().parameter("overlap", "queue").run("start").ok();
    let mut long = site.job("a", "sleep 8484").spawn().unwrap();
    eventually("it runs", || !started("sleep 8484").is_empty());
    let mut waiting = site.job("a", "touch {}/waited").spawn().unwrap();
    let wrappers = || running("waited").into_iter().filter(|p| p.name == "cron-run").collect::<Vec<_>>();
    eventually("it waits", || registrations("waits") == 2 && !wrappers().is_empty());
    let woken = || {
        let of = |pid: i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap_or("0").trim().parse::<u64>();
            count.unwrap()
        };
        wrappers().iter().map(|p| of(p.pid)).sum::<u64>()
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = woken();
    std::thread::sleep(Duration::from_secs(1));
    assert!(woken() - before < 10, "it was woken {} times", woken() - before);
    site.agent().parameter("drain", "kill").run("stop").ok();
    for child in [&mut long, &mut waiting] {
        let _ = child.wait();
    }
    assert!(!site.has("waited"));
}

/// How many runs are registered.
fn registrations(resource: &str) -> usize {
    let entries = fs::read_dir(user_directory("/run/systole-cron", resource)).unwrap();
    entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "run")).count()
}

#[test]
fn a_wrapper_that_is_killed_leaves_nothing_and_is_told() {
    let site = Site::with("killed-wrapper", "0 0 1 1 * wpsite sleep 8585\n");
    site.agent().parameter("overlap", "queue").run("start").ok();
    let job = site.first_job();
    let mut long = site.job(&job, "sleep 8585").spawn().unwrap();
    eventually("it runs", || !started("sleep 8585").is_empty());
    site.forget_claims(&job);
    let mut waiting = site.job(&job, "touch {}/waited").spawn().unwrap();
    eventually("it waits", || registrations("killed-wrapper") == 2);
    running("waited").iter().filter(|p| p.name == "cron-run").for_each(|p| p.signal(Signal::SIGKILL));
    let _ = waiting.wait();
    eventually("they are gone", || running("waited").is_empty());
    let answer = site.agent().run("monitor");
    answer.ok();
    assert_eq!((registrations("killed-wrapper"), site.missed().as_str()), (1, ""), "it had begun nothing: {answer:?}");
    // One that has taken its run, and was killed before it said that it began it.
    let directory = user_directory("/run/systole-cron", "killed-wrapper");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let minute = minute() - 2;
    let gone = format!(r#"{{"wrapper":{{"pid":4000000,"start_ticks":7,"boot":"{}"}},"job":"{job}","minute":{minute}}}"#, boot.trim());
    fs::write(format!("{directory}/4000000.run"), gone).unwrap();
    fs::write(format!("{directory}/{job}.claims"), format!("{minute}\n")).unwrap();
    let answer = site.agent().run("monitor");
    answer.ok();
    assert!(answer.stderr.contains("its wrapper was killed before it could say that it began"), "{answer:?}");
    assert!(site.missed().contains("its wrapper was killed"), "{}", site.missed());
    assert_eq!(registrations("killed-wrapper"), 1);
    site.agent().parameter("drain", "kill").run("stop").ok();
    let _ = long.wait();
    assert_eq!(registrations("killed-wrapper"), 0);
}

/// cron begins late what came due while a virtual machine was paused. The wrapper knows the minute in which it began only.
#[test]
fn a_run_that_cron_begins_late_after_a_jump_of_the_clock_has_run() {
    let site = Site::with("paused", &format!("{} wpsite true\n", ago(4)));
    site.agent().run("start").ok();
    let before = |site: &Site| {
        let mark = site.mark();
        site.set_mark(&format!("{};{};{};open;", mark[0], mark[1], minute() - 10));
    };
    let claims = format!("{}/{}.claims", user_directory("/run/systole-cron", "paused"), site.first_job());
    fs::write(&claims, format!("{}\n", minute() - 2)).unwrap();
    before(&site);
    site.agent().run("monitor").ok();
    assert_eq!(site.missed(), "");
    before(&site);
    site.agent().run("stop").ok();
    assert_eq!(site.mark()[3..], ["closed".to_owned(), String::new()], "it would be run again");
    // One of the day before is not this one.
    site.agent().run("start").ok();
    fs::write(&claims, format!("{}\n", minute() - 1440)).unwrap();
    before(&site);
    site.agent().run("monitor").ok();
    assert!(site.missed().contains("cron has not started it"), "{}", site.missed());
    site.agent().run("stop").ok();
}

/// cron goes by whole seconds: of two changes in the second in which it looks, it sees one.
#[test]
fn cron_is_made_to_look_again() {
    let site = Site::with("unseen", NEVER);
    site.agent().run("start").ok();
    let then = SystemTime::now() - Duration::from_secs(100);
    let file = || fs::metadata(site.installed()).unwrap().mtime();
    let directory = || fs::metadata("/etc/cron.d").unwrap().mtime();
    let written = |path: &std::path::Path| fs::File::open(path).unwrap().set_modified(then).unwrap();
    // Other tests write there, too.
    let unseen = || {
        written(&site.installed());
        written("/etc/cron.d".as_ref());
        let before = (file(), directory());
        site.agent().run("monitor").ok();
        before.0 == before.1 && file() > before.0 && directory() > file()
    };
    eventually("both are newer", unseen);
    let settled = (file(), fs::metadata(site.installed()).unwrap().ctime());
    site.agent().run("monitor").ok();
    assert_eq!(settled, (file(), fs::metadata(site.installed()).unwrap().ctime()), "once is enough");
    site.agent().run("stop").ok();
}

/// A directory service that is down is down on all nodes: none of them must be given up for that.
#[test]
fn a_user_database_that_does_not_answer_bans_no_node() {
    let site = Site::with("directory", "0 4 * * * somebody-else true\n");
    let ask = |action: &str| {
        let output = after(NO_USER_DATABASE, &site.agent().timeout(Duration::from_secs(4)).command(&[action])).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = ask("start");
    assert!(code == Some(1) && said.contains("the user database of this node does not answer"), "{code:?} {said}");
    site.agent().run("start").refused(5, &["user somebody-else does not exist on this node"]);
    // Who was known when the resource started is still who they were.
    site.write(NEVER);
    site.agent().run("start").ok();
    assert_eq!(ask("monitor").0, Some(0));
    assert_eq!(ask("stop").0, Some(0));
    assert_eq!(site.mark()[3], "closed");
}

/// A job that stands on one node only would be lost with the next move.
#[test]
fn a_source_that_differs_is_seen_before_a_move() {
    let site = Site::with("agreed", NEVER);
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    cluster.set_partition("a b c");
    let agent = |node: &str| -> Agent {
        let agent = site.agent().meta("on_node", node).parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path());
        agent.variable("HA_LOGFILE", site.directory().join("log"))
    };
    let attribute = "systole-agreed-cron-source";
    // On a node that joins, and where a monitor looks with role=Stopped.
    agent("b").probing().run("monitor").expect(&[7]);
    let theirs = cluster.attribute(attribute, "b").expect("b says which it has");
    site.write(&format!("{} wpsite touch {{}}/more\n", ago(7)));
    agent("a").run("start").ok();
    let log = fs::read_to_string(site.directory().join("log")).unwrap();
    assert!(log.contains("is not the one that b had"), "{log}");
    let answer = agent("a").run("monitor");
    answer.expect(&[190]);
    assert!(answer.reason().contains("is not the one that b had") && answer.reason().contains("crm resource refresh agreed"), "{answer:?}");
    cluster.set_attribute(attribute, "b", cluster.attribute(attribute, "a").as_deref());
    agent("a").run("monitor").ok();
    cluster.calls();
    agent("a").run("monitor").ok();
    assert_eq!(cluster.calls(), Vec::<String>::new(), "a steady monitor starts no process");
    agent("a").run("stop").ok();
    site.write(NEVER);
    agent("c").run("monitor").expect(&[7]);
    assert_eq!(cluster.attribute(attribute, "c"), Some(theirs), "role=Stopped");
    fs::remove_file(&site.source).unwrap();
    agent("c").run("monitor").expect(&[7]);
    assert_eq!(cluster.attribute(attribute, "c").as_deref(), Some("none"));
}

/// The operation of the snippets for the nodes without the resource.
#[test]
fn a_node_without_the_resource_says_what_has_become_of_its_source() {
    let site = Site::with("standby", NEVER);
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    cluster.set_partition("a b");
    let agent = |node: &str| -> Agent {
        let agent = site.agent().meta("on_node", node).parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path());
        agent.variable("HA_LOGFILE", site.directory().join("log"))
    };
    let stopped = || agent("b").meta("role", "Stopped").meta("interval", "60000");
    let attribute = "systole-standby-cron-source";
    let said = || cluster.attribute(attribute, "b");
    stopped().run("monitor").expect(&[7]);
    let first = said().expect("b says which it has");
    cluster.calls();
    stopped().run("monitor").expect(&[7]);
    assert_eq!(cluster.calls(), Vec::<String>::new(), "nothing has changed");
    site.write(&format!("{} wpsite touch {{}}/more\n", ago(7)));
    stopped().run("monitor").expect(&[7]);
    assert_ne!(said().unwrap(), first);
    let calls = cluster.calls();
    assert!(calls.len() == 1 && calls[0].contains(attribute), "{calls:?}");
    // Pacemaker was started anew there, and probes.
    cluster.set_attribute(attribute, "b", None);
    agent("b").probing().run("monitor").expect(&[7]);
    assert!(said().is_some_and(|text| text != first), "what was lost is told again");
    // Jobs that somebody has put there: they cannot run, and are no reason to restart the resource where it is.
    let left = "# Installed by ocf:systole:cron-singleton for the resource standby, and taken away when it stops.\n";
    fs::write(site.installed(), left).unwrap();
    stopped().run("monitor").expect(&[7]);
    assert!(!site.installed().exists());
    assert!(!site.has("more"));
}

/// Whoever has the resource asks the others once a minute, and says its own again when nobody knows it.
#[test]
fn the_node_with_the_resource_sees_a_change_on_another_one() {
    let site = Site::with("asking", NEVER);
    let cluster = FakeCluster::at(&site.directory().join("cluster"));
    cluster.set_partition("a b");
    let agent = || -> Agent {
        let agent = site.agent().parameter("crm_feature_set", "3.16.2").variable("PATH", cluster.path());
        agent.variable("HA_LOGFILE", site.directory().join("log"))
    };
    let attribute = "systole-asking-cron-source";
    agent().run("start").ok();
    let own = cluster.attribute(attribute, "a").unwrap();
    cluster.set_attribute(attribute, "b", Some(&own));
    agent().run("monitor").ok();
    // As after a minute.
    let a_minute_later = || {
        let file = "/run/systole-cron/asking/agreement";
        let text = fs::read_to_string(file).unwrap();
        let earlier = |text: String, field: &str| {
            let (before, after) = text.split_once(field).expect(&text);
            let (at, after) = after.split_once(',').expect(after);
            format!("{before}{field}{},{after}", at.parse::<u64>().unwrap() - 61)
        };
        fs::write(file, ["\"published\":", "\"asked\":"].into_iter().fold(text, earlier)).unwrap();
    };
    cluster.calls();
    agent().run("monitor").ok();
    assert_eq!(cluster.calls(), Vec::<String>::new());
    cluster.set_attribute(attribute, "b", Some("another"));
    a_minute_later();
    let answer = agent().run("monitor");
    assert!(answer.expect(&[190]).reason().contains("is not the one that b had"), "{answer:?}");
    cluster.set_attribute(attribute, "b", Some(&own));
    cluster.set_attribute(attribute, "a", None);
    a_minute_later();
    agent().run("monitor").ok();
    agent().run("monitor").ok();
    assert_eq!(cluster.attribute(attribute, "a"), Some(own), "it is told again");
    // A cluster that does not answer as it should is not asked all the time for that.
    cluster.behave("case \"$0 $*\" in *--query*) exit 0;; esac");
    a_minute_later();
    for _ in 0..3 {
        agent().run("monitor").ok();
    }
    cluster.calls();
    agent().run("monitor").ok();
    assert_eq!(cluster.calls(), Vec::<String>::new());
    cluster.behave("");
    agent().run("stop").ok();
}

/// `crontab` says of a user whom nobody knows at the moment what it says of one who does not exist.
#[test]
fn a_user_database_that_does_not_answer_removes_no_crontab() {
    let site = Site::with("nobody-knows", "0 0 30 2 * true\n");
    let agent = || site.agent().parameter("mode", "user").parameter("user", USER);
    agent().run("start").ok();
    let hidden = format!("grep -v ^{USER}: /etc/passwd > /run/passwd; mount --bind /run/passwd /etc/passwd; {NO_USER_DATABASE}");
    let mut command = after(&hidden, &agent().command(&["monitor"]));
    assert_eq!(command.output().unwrap().status.code(), Some(190));
    agent().run("monitor").ok();
    agent().run("stop").ok();
}
