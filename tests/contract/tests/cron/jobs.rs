//! The jobs: cron starts them, the wrapper runs them here and once, a stop leaves none.

use std::process::Command;
use std::time::Duration;

use testkit::{Signal, eventually};

use crate::{Site, running, started};

const NEVER: &str = "0 0 30 2 * wpsite true\n";

/// The only test that waits for real minutes: the real cron runs the job on a node that has the resource, and not without.
#[test]
fn cron_runs_the_jobs_where_the_resource_is() {
    let site = Site::with("real", "MAILTO=\"\"\n* * * * * wpsite echo $SHELL $SYSTOLE_CRON >> {}/ran\n");
    site.agent().run("start").ok();
    let limit = pace::Limit::of(Duration::from_secs(130));
    while !site.has("ran") {
        assert!(!limit.is_over(), "cron did not run the job");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(std::fs::read_to_string(site.directory().join("ran")).unwrap(), "/bin/sh real\n");
    eventually("the history", || site.history().len() == 2);
    site.agent().run("stop").ok();
    std::fs::remove_file(site.directory().join("ran")).unwrap();
    std::thread::sleep(Duration::from_secs(65));
    assert!(!site.has("ran"), "it ran after the stop");
}

#[test]
fn without_the_resource_nothing_runs() {
    let site = Site::with("absent", NEVER);
    let output = site.job("a", "touch {}/ran").output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    site.agent().run("start").ok();
    site.agent().run("stop").ok();
    assert!(site.job("a", "touch {}/ran").status().unwrap().success());
    assert!(!site.has("ran"));
}

#[test]
fn output_and_status_are_those_of_the_job() {
    let site = Site::with("status", NEVER);
    site.agent().run("start").ok();
    let output = site.job("a", "id -un; echo wrong >&2; exit 7").output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"wpsite\n"[..], &b"wrong\n"[..]));
    assert_eq!(site.job("b", "kill -9 $$").status().unwrap().code(), Some(137));
    site.agent().run("stop").ok();
}

#[test]
fn a_minute_is_run_once_and_runs_do_not_overlap() {
    let site = Site::with("once", NEVER);
    site.agent().run("start").ok();
    // Not across the turn of a minute.
    while std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() % 60 > 50 {
        std::thread::sleep(Duration::from_millis(200));
    }
    for _ in 0..3 {
        assert!(site.job("a", "echo x >> {}/once").status().unwrap().success());
    }
    assert_eq!(std::fs::read_to_string(site.directory().join("once")).unwrap(), "x\n");
    let mut long = site.job("b", "sleep 2.5").spawn().unwrap();
    eventually("it runs", || !started("sleep 2.5").is_empty());
    assert!(site.job("b", "touch {}/second").status().unwrap().success());
    assert!(long.wait().unwrap().success() && !site.has("second"));
    let history = site.history().join("\n");
    assert!(history.contains("it has been run for this minute") && history.contains("the run before still goes on"), "{history}");
    site.agent().run("stop").ok();
}

/// In the background, in another session, deaf to TERM, without its environment, without its wrapper.
#[test]
fn a_stop_leaves_none_behind() {
    for (drain, kill_wrapper) in [("kill", false), ("term", false), ("kill", true)] {
        let name = format!("drain-{drain}-{kill_wrapper}");
        let site = Site::with(&name, NEVER);
        site.agent().run("start").ok();
        let clean = if kill_wrapper { "" } else { "env -i " };
        let deaf = format!("(setsid {clean}sh -c 'trap : TERM; while :; do sleep 4242; done') & sleep 4242");
        let mut job = site.job("a", &deaf).spawn().unwrap();
        eventually("all of it runs", || running("sleep 4242").iter().filter(|p| p.name == "sleep").count() == 2);
        if kill_wrapper {
            running(&deaf).iter().filter(|p| p.name == "cron-run").for_each(|p| p.signal(Signal::SIGKILL));
        }
        let agent = site.agent().parameter("drain", drain).parameter("drain_timeout", "2s");
        let answer = agent.run("stop");
        answer.ok();
        assert!(answer.counted < Duration::from_secs(8), "{answer:?}");
        assert!(running("4242").is_empty(), "{name}: {:?}", running("4242"));
        let _ = job.wait();
        if !kill_wrapper {
            assert!(site.history().last().unwrap().contains("\"event\":\"ended\""), "{:?}", site.history());
        }
    }
}

#[test]
fn a_job_may_come_to_its_end() {
    let site = Site::with("patient", NEVER);
    site.agent().run("start").ok();
    let mut job = site.job("a", "sleep 2; touch {}/done").spawn().unwrap();
    eventually("it runs", || !started("sleep 2").is_empty());
    site.agent().run("stop").ok();
    assert!(site.has("done"), "drain=wait");
    assert!(job.wait().unwrap().success());
}

/// A run is two processes, the one that cron waits for and the one whose children the job's orphans become. They have one memory, and
/// neither needs the other one to end well.
#[test]
fn each_process_of_a_run_bears_what_happens_to_the_other() {
    let site = Site::with("two", NEVER);
    site.agent().run("start").ok();
    let begin = |job: &str| {
        let wait = format!("echo $PPID > {{}}/keeper-{job}; until test -e {{}}/go-{job}; do sleep 0.1; done; exit 3");
        let child = site.job(job, &wait).spawn().unwrap();
        let keeper = site.directory().join(format!("keeper-{job}"));
        let mut found = None;
        eventually("it runs", || {
            found = std::fs::read_to_string(&keeper).ok().and_then(|text| text.trim().parse::<u32>().ok());
            found.is_some()
        });
        (child, found.unwrap())
    };
    let send = |signal: &str, pid: u32| crate::run("kill", &[signal, &pid.to_string()]);
    let go = |job: &str| std::fs::write(site.directory().join(format!("go-{job}")), "").unwrap();
    let ended = |job: &str| site.history().iter().any(|line| line.contains(&format!("\"{job}\"")) && line.contains("\"status\":3"));
    // Told to end with the job, both stay to say how it ended.
    let (mut child, keeper) = begin("told");
    assert!(same_memory(child.id(), keeper), "a copy of the memory was made for a job");
    [child.id(), keeper].iter().for_each(|pid| send("-TERM", *pid));
    go("told");
    assert_eq!(child.wait().unwrap().code(), Some(3));
    assert!(ended("told"), "{:?}", site.history());
    let (mut child, _) = begin("starter");
    send("-KILL", child.id());
    let _ = child.wait();
    go("starter");
    eventually("the end of it is written down", || ended("starter"));
    let (mut child, keeper) = begin("keeper");
    send("-KILL", keeper);
    assert_eq!(child.wait().unwrap().code(), Some(137));
    site.agent().parameter("drain", "kill").run("stop").ok();
    assert!(running("go-keeper").is_empty(), "{:?}", running("go-keeper"));
}

/// As the kernel has it (kcmp): for lack of a program that asks, the mappings are compared.
fn same_memory(one: u32, other: u32) -> bool {
    let maps = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let resident = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
        status.split(' ').nth(1).unwrap().to_owned()
    };
    maps(one) == maps(other) && resident(one) == resident(other)
}

/// However often both meet: after a stop has answered, nothing runs.
#[test]
fn a_stop_and_a_start_of_jobs_race() {
    let site = Site::with("race", NEVER);
    for round in 0..20 {
        site.agent().run("start").ok();
        let jobs: Vec<_> = (0..8).map(|n| site.job(&format!("r{round}-{n}"), "sleep 5353").spawn().unwrap()).collect();
        std::thread::sleep(Duration::from_millis(round));
        site.agent().parameter("drain", "kill").run("stop").ok();
        let left = running("sleep 5353").into_iter().filter(|p| p.name == "sleep").count();
        assert_eq!(left, 0, "round {round}");
        for mut job in jobs {
            let _ = job.wait();
        }
    }
}

/// Nor can they hide a job behind a great many files: this one is found by its wrapper only.
#[test]
fn a_stop_finds_a_job_among_many_files() {
    let site = Site::with("crowd", NEVER);
    site.agent().run("start").ok();
    // Before and after it: file systems list the newest first, or the oldest.
    let directory = crate::user_directory("/run/systole-cron", "crowd");
    let crowd = |name: &str| crate::run("sh", &["-c", &format!("for n in $(seq 3000); do echo x > {directory}/{name}$n.run; done")]);
    crowd("before");
    let mut job = site.job("a", "exec env -i setsid sleep 7575").spawn().unwrap();
    eventually("it runs", || running("sleep 7575").iter().any(|p| p.name == "sleep"));
    crowd("after");
    site.agent().parameter("drain", "kill").run("stop").ok();
    assert!(running("sleep 7575").iter().all(|p| p.name != "sleep"), "{:?}", running("sleep 7575"));
    let _ = job.wait();
}

/// What a user may write, a stop as root must not believe: it would end other people's processes, or wait for ever.
#[test]
fn a_user_cannot_make_a_stop_kill_others_or_hang() {
    let site = Site::with("planted", NEVER);
    site.agent().run("start").ok();
    let mut victim = Command::new("sleep").arg("6464").spawn().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", victim.id())).unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().to_owned();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let run = format!(r#"{{"wrapper":{{"pid":{},"start_ticks":{ticks},"boot":"{}"}},"job":"x","minute":1}}"#, victim.id(), boot.trim());
    let directory = crate::user_directory("/run/systole-cron", "planted");
    std::fs::write(format!("{directory}/1.run"), run).unwrap();
    crate::run("mkfifo", &[&format!("{directory}/2.run")]);
    let answer = site.agent().parameter("drain", "kill").run("stop");
    answer.ok();
    assert!(answer.counted < Duration::from_secs(5), "{answer:?}");
    assert!(victim.try_wait().unwrap().is_none(), "it was killed");
    victim.kill().unwrap();
    victim.wait().unwrap();
}
