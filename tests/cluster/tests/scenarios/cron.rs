//! J: the jobs run on one node at a time, once for each minute that they are due, and none is lost in silence.
//!
//! The jobs are cron's, the minutes are real, the nodes' power is cut. Each job writes when and where it runs into a file of this
//! machine, which survives the nodes.

use std::time::Duration;

use cluster_scenarios::jobs::{Jobs, Resource};
use cluster_scenarios::{expect, finish};
use lab::state::Volume;
use lab::{Cut, LabOptions, Result};

/// A minute, and what cron and the machine need.
const NEXT_MINUTE: Duration = Duration::from_secs(75);

fn scenario(name: &str, resources: &[Resource], steps: impl FnOnce(&Jobs) -> Result<()>) {
    scenario_with(name, resources, &[], steps);
}

/// The same with directories on volumes: they can be filled, and a power cut takes from them what was not synced.
fn scenario_with(name: &str, resources: &[Resource], volumes: &[&str], steps: impl FnOnce(&Jobs) -> Result<()>) {
    let volumes = volumes.iter().map(|path| Volume { path: path.into(), mebibytes: 16 }).collect();
    let jobs = Jobs::with(name, resources, LabOptions { volumes, ..LabOptions::default() }).unwrap_or_else(|e| panic!("{name}: {e}"));
    finish(&jobs.lab, steps(&jobs));
}

const SITE: Resource = Resource { name: "site-cron", parameters: "catch_up=all", seconds: 25, timer: false, leaves_a_daemon: false };

#[test]
fn a_move_in_mid_job_ends_it_as_the_drain_policy_says() {
    // Longer than any move takes, so that it is the move that ends them.
    let endless = Resource { seconds: 3_600, ..SITE };
    let resources = [
        Resource { name: "waiting", parameters: "drain=wait", ..endless },
        Resource { name: "terminated", parameters: "drain=term", ..endless },
        Resource { name: "killed", parameters: "drain=kill", ..endless },
    ];
    scenario("cron-moves", &resources, |jobs| {
        for Resource { name, .. } in &resources {
            let from = jobs.wait_on(name, |_| true)?;
            jobs.wait_said(name, "tick", &from.name, NEXT_MINUTE)?;
        }
        let mut moved = Vec::new();
        for name in ["killed", "terminated", "waiting"] {
            let from = jobs.wait_on(name, |_| true)?;
            let to = std::thread::scope(|scope| {
                if name == "waiting" {
                    // The job comes to its end by itself, some time after the stop has begun to wait for it.
                    scope.spawn(|| {
                        let _ = jobs.wait_stopping(name, &from);
                        std::thread::sleep(Duration::from_secs(2));
                        jobs.enough(name, true)
                    });
                }
                jobs.move_away(name)
            })?;
            let (what, _) = jobs.last(name, &from.name).unwrap_or_default();
            expect((what == "end") == (name == "waiting"), &format!("{name}: the last that it said on {} is {what}", from.name))?;
            let left = from.sh(&format!("pgrep -f '[j]ob {name} ' || true"))?.stdout;
            expect(left.trim().is_empty(), &format!("{name} has left processes on {}: {left}", from.name))?;
            moved.push((name, to));
        }
        for (name, to) in moved {
            // One that has enough begins anew each minute; another one runs on.
            jobs.wait_said(name, if name == "waiting" { "begin" } else { "tick" }, &to.name, NEXT_MINUTE)?;
        }
        jobs.into_the_next_minute(3);
        resources.iter().try_for_each(|resource| jobs.held(resource.name).map(drop))
    });
}

#[test]
fn a_power_cut_and_a_partition_in_mid_job() {
    scenario_with("cron-power", &[SITE], &["/var/lib/systole"], |jobs| {
        let first = jobs.wait_on(SITE.name, |_| true)?;
        jobs.wait_said(SITE.name, "tick", &first.name, NEXT_MINUTE)?;
        first.power_off()?;
        let second = jobs.wait_on(SITE.name, |node| node != first.name)?;
        jobs.wait_said(SITE.name, "tick", &second.name, NEXT_MINUTE)?;
        let stays = |on: &lab::Node| {
            jobs.lab.wait_online()?;
            jobs.lab.wait_idle()?;
            let now = jobs.wait_on(SITE.name, |_| true)?;
            expect(now.name == on.name, &format!("a node that comes back moves the jobs from {} to {}", on.name, now.name))
        };
        jobs.lab.power_back(&first)?;
        stays(&second)?;
        // It is fenced while its job runs on.
        jobs.lab.cut(&Cut::cable(&second.name))?;
        let third = jobs.wait_on(SITE.name, |node| node != second.name)?;
        jobs.lab.heal(None)?;
        stays(&third)?;
        jobs.wait_said(SITE.name, "end", &third.name, NEXT_MINUTE * 2)?;
        jobs.into_the_next_minute(3);
        jobs.held(SITE.name).map(drop)
    });
}

#[test]
fn cron_that_dies_and_a_file_that_is_changed_by_hand() {
    scenario("cron-dies", &[SITE], |jobs| {
        let node = jobs.wait_on(SITE.name, |_| true)?;
        node.sh("echo '* * * * * root true' >> /etc/cron.d/systole-site-cron")?;
        let corrected = || node.sh("! grep -q root /etc/cron.d/systole-site-cron").is_ok_and(|done| done.code == 0);
        jobs.lab.wait_for("the file as it should be", Duration::from_secs(60), corrected)?;
        jobs.wait_on(SITE.name, |_| true)?;
        // For good: systemd would start it again.
        let node = jobs.wait_on(SITE.name, |_| true)?;
        node.sh("systemctl stop cron")?;
        let other = jobs.wait_on(SITE.name, |on| on != node.name)?;
        jobs.wait_said(SITE.name, "end", &other.name, NEXT_MINUTE * 2)?;
        jobs.into_the_next_minute(3);
        jobs.held(SITE.name).map(drop)
    });
}

/// A resource that somebody has stopped misses all its runs, and no history tells of them before it starts again.
#[test]
fn jobs_that_run_nowhere_are_missed() {
    scenario("cron-nowhere", &[Resource { seconds: 1, ..SITE }], |jobs| {
        let node = jobs.wait_on(SITE.name, |_| true)?;
        jobs.wait_said(SITE.name, "end", &node.name, NEXT_MINUTE)?;
        // The other nodes let nobody in here: what they know is missing, and that is less bad.
        let missed = || -> Result<String> { Ok(node.sh("systole cron missed site-cron 2>&1; echo \"ended with $?\"")?.stdout) };
        let said = missed()?;
        expect(!said.contains("runs on no node") && !said.contains("ended with 2"), &format!("they run: {said}"))?;
        jobs.lab.crm(&format!("resource stop {}", SITE.name))?;
        jobs.lab.wait_idle()?;
        let said = missed()?;
        expect(said.contains("site-cron runs on no node") && said.contains("ended with 2"), &format!("they run nowhere: {said}"))?;
        jobs.lab.crm(&format!("resource start {}", SITE.name))?;
        jobs.wait_on(SITE.name, |_| true)?;
        let said = missed()?;
        expect(!said.contains("runs on no node") && !said.contains("ended with 2"), &format!("they run again: {said}"))
    });
}

/// Whatever the agent was doing: the start, the stop or the monitor that comes next on each node dies.
#[test]
fn the_agent_is_killed_in_the_middle_of_moves() {
    scenario("cron-agent-killed", &[Resource { seconds: 5, ..SITE }], |jobs| {
        for n in 0..6 {
            let from = jobs.wait_on(SITE.name, |_| true)?;
            let to = jobs.lab.live_nodes().into_iter().find(|node| node.name != from.name).unwrap();
            for node in jobs.lab.nodes() {
                node.sh("systemd-run --quiet --collect --unit=killer sh -c 'until pkill -9 -x cron-singleton; do sleep 0.002; done; echo >> /mnt/jobs/killed'")?;
            }
            // A stop that was killed gets its node fenced, perhaps the one on which this command runs.
            let _ = jobs.lab.crm(&format!("resource move {} {} force", SITE.name, to.name));
            std::thread::sleep(Duration::from_millis(5000 + n * 3100));
            jobs.lab.crm(&format!("resource clear {}", SITE.name))?;
            for node in jobs.lab.live_nodes() {
                node.sh("systemctl stop killer 2>/dev/null; true")?;
            }
            jobs.lab.wait_online()?;
            jobs.lab.crm(&format!("resource cleanup {}", SITE.name))?;
            jobs.lab.wait_idle()?;
            jobs.wait_on(SITE.name, |_| true)?;
        }
        // At least the stop and the start of each move.
        let killed = jobs.lab.live_nodes()[0].sh("wc -l < /mnt/jobs/killed")?.stdout;
        expect(killed.trim().parse::<u32>().is_ok_and(|count| count >= 12), &format!("{} agents were killed", killed.trim()))?;
        jobs.into_the_next_minute(3);
        jobs.into_the_next_minute(3);
        jobs.held(SITE.name).map(drop)
    });
}

/// In order: then nobody carries anything, and the files of all nodes tell what was missed.
#[test]
fn a_cluster_that_is_shut_down_as_a_whole_makes_up_for_what_it_missed() {
    scenario("cron-whole", &[Resource { seconds: 5, ..SITE }], |jobs| {
        let first = jobs.wait_on(SITE.name, |_| true)?;
        jobs.wait_said(SITE.name, "end", &first.name, NEXT_MINUTE)?;
        for node in jobs.lab.nodes() {
            node.sh("systemctl stop pacemaker")?;
        }
        jobs.into_the_next_minute(3);
        let missed = jobs.runs(SITE.name);
        for node in jobs.lab.nodes() {
            node.sh("systemctl start pacemaker")?;
        }
        jobs.lab.wait_online()?;
        jobs.wait_on(SITE.name, |_| true)?;
        jobs.into_the_next_minute(20);
        jobs.into_the_next_minute(10);
        jobs.held(SITE.name)?;
        expect(jobs.runs(SITE.name) >= missed + 3, "the minute without a cluster has its run, as have the two after it")
    });
}

/// A node without room runs its jobs, and lets go of them.
#[test]
fn a_full_disk_keeps_no_job_from_running() {
    let places = ["/var/lib/systole", "/etc/cron.d"];
    scenario_with("cron-full", &[Resource { seconds: 5, ..SITE }], &places, |jobs| {
        let full = jobs.wait_on(SITE.name, |_| true)?;
        for place in places {
            full.fill_disk(place, true)?;
        }
        jobs.into_the_next_minute(3);
        jobs.wait_said(SITE.name, "end", &full.name, NEXT_MINUTE)?;
        let boot = |node: &lab::Node| node.sh("cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1").map(|done| done.stdout);
        let before = boot(&full)?;
        let to = jobs.move_away(SITE.name)?;
        expect(boot(&full)? == before, "a stop without room is no reason to fence the node")?;
        jobs.wait_said(SITE.name, "end", &to.name, NEXT_MINUTE)?;
        // It cannot come back, and is somewhere else. (The stop had made some room.)
        for place in places {
            full.fill_disk(place, true)?;
        }
        jobs.lab.crm(&format!("resource move {} {} force", SITE.name, full.name))?;
        jobs.lab.wait_idle()?;
        jobs.wait_on(SITE.name, |node| node != full.name)?;
        jobs.lab.crm(&format!("resource clear {}", SITE.name))?;
        for place in places {
            full.fill_disk(place, false)?;
        }
        jobs.lab.crm(&format!("resource cleanup {}", SITE.name))?;
        jobs.into_the_next_minute(3);
        jobs.into_the_next_minute(3);
        jobs.held(SITE.name).map(drop)
    });
}

/// An operator thinks of one node only. Nothing moves for that, and it is said before a move loses a job.
#[test]
fn a_crontab_that_was_changed_on_a_node_without_the_resource_is_seen() {
    scenario("cron-source", &[Resource { seconds: 5, ..SITE }], |jobs| {
        let on = jobs.wait_on(SITE.name, |_| true)?;
        let elsewhere: Vec<lab::Node> = jobs.lab.live_nodes().into_iter().filter(|node| node.name != on.name).collect();
        let said = |node: &lab::Node| on.sh(&format!("cibadmin --query | grep -q 'is not the one that {} had'", node.name)).is_ok();
        let change = |node: &lab::Node| node.sh("echo '0 4 * * * wpsite true' >> /etc/systole/site-cron.cron");
        // Once until that node says so, once until the node with the resource asks, and a monitor's interval.
        let within = Duration::from_secs(150);
        change(&elsewhere[0])?;
        jobs.lab.wait_for("the node that differs", within, || said(&elsewhere[0]))?;
        let same = |node: &lab::Node| expect(node.name == on.name, &format!("the jobs went to {}", node.name));
        same(&jobs.wait_on(SITE.name, |_| true)?)?;
        // The other two are made like it. What was said once stays in the CIB until the refresh, as with any failure.
        change(&on)?;
        change(&elsewhere[1])?;
        jobs.lab.crm(&format!("resource restart {}", SITE.name))?;
        jobs.lab.wait_idle()?;
        jobs.lab.crm(&format!("resource refresh {}", SITE.name))?;
        jobs.lab.wait_idle()?;
        jobs.lab.wait_for("nobody who differs", within, || !elsewhere.iter().any(&said))?;
        // What somebody copies to a node without the resource is taken away there, and stops nothing.
        let file = "/etc/cron.d/systole-site-cron";
        let now = jobs.wait_on(SITE.name, |_| true)?;
        let installed = now.sh(&format!("cat {file}"))?.stdout;
        let other = jobs.lab.live_nodes().into_iter().find(|node| node.name != now.name).unwrap();
        other.write(file, &installed)?;
        // Each start writes it anew.
        let started = || now.sh("stat -c %y /run/systole-cron/site-cron/token").map(|done| done.stdout);
        let before = started()?;
        jobs.lab.wait_for("the copy is gone", within, || other.sh(&format!("test ! -e {file}")).is_ok())?;
        jobs.lab.wait_idle()?;
        expect(started()? == before, "the resource was restarted for a copy of its file")?;
        jobs.into_the_next_minute(3);
        jobs.into_the_next_minute(10);
        expect(!elsewhere.iter().any(&said), "a node differs that does not")?;
        jobs.held(SITE.name).map(drop)
    });
}

#[test]
fn timers_of_systemd_move_with_the_resource() {
    let waiting = Resource { name: "waiting", parameters: "drain=wait", timer: true, ..SITE };
    let killed = Resource { name: "killed", parameters: "drain=kill", timer: true, ..SITE };
    scenario("cron-timers", &[waiting.clone(), killed.clone()], |jobs| {
        for Resource { name, .. } in [&killed, &waiting] {
            jobs.into_the_next_minute(3);
            let from = jobs.wait_on(name, |_| true)?;
            let (what, ago) = jobs.last(name, &from.name).unwrap_or_default();
            expect(what == "tick" && ago < 2.0, &format!("{name} runs on {}: {what} {ago:.1} s ago", from.name))?;
            let to = jobs.move_away(name)?;
            let (what, _) = jobs.last(name, &from.name).unwrap_or_default();
            expect((what == "end") == (*name == "waiting"), &format!("{name}: the last that it said on {} is {what}", from.name))?;
            from.sh(&format!("! systemctl is-active --quiet {name}.timer {name}.service"))?;
            jobs.wait_said(name, "begin", &to.name, NEXT_MINUTE)?;
        }
        // Out of the cluster's sight for some minutes: systemd makes up for one run, and none is run twice.
        jobs.lab.crm("resource stop waiting")?;
        jobs.lab.wait_idle()?;
        jobs.into_the_next_minute(3);
        jobs.lab.crm("resource start waiting")?;
        let now = jobs.wait_on("waiting", |_| true)?;
        let runs = || jobs.last("waiting", &now.name).is_some_and(|(what, ago)| what == "tick" && ago < 2.0);
        jobs.lab.wait_for("the run that was made up for", Duration::from_secs(20), runs)?;
        // Somebody stops the timer.
        now.sh("systemctl stop waiting.timer")?;
        let again = || now.sh("systemctl is-active --quiet waiting.timer").is_ok_and(|done| done.code == 0);
        jobs.lab.wait_for("the timer again", Duration::from_secs(60), again)?;
        jobs.into_the_next_minute(3);
        jobs.into_the_next_minute(3);
        for Resource { name, .. } in [&killed, &waiting] {
            jobs.held(name)?;
        }
        // One that every boot starts is refused.
        let elsewhere = jobs.lab.live_nodes().into_iter().find(|node| node.name != now.name).unwrap();
        elsewhere.sh("systemctl enable waiting.timer")?;
        let line = "env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=waiting OCF_RESKEY_mode=timer OCF_RESKEY_timers=waiting.timer \
                    /usr/lib/ocf/resource.d/systole/cron-singleton validate-all";
        let refused = elsewhere.exec(&["sh", "-c", line])?;
        expect(refused.code == 5 && refused.stderr.contains("systemctl disable waiting.timer"), &format!("{refused:?}"))
    });
}

/// `make endurance-cron`: several resources at once, so that a power cut hits some of them in the middle of a job, and some between.
#[test]
#[ignore = "hours"]
fn endurance() {
    let count = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(2_u64);
    let mut resources: Vec<Resource> = [("one", 2), ("two", 9), ("three", 25), ("four", 40)]
        .map(|(name, seconds)| Resource { name, seconds, parameters: "catch_up=all drain_timeout=1s", ..SITE })
        .into();
    resources[0].leaves_a_daemon = true;
    scenario("cron-endurance", &resources, |jobs| {
        let all_held = || resources.iter().try_for_each(|resource| jobs.held(resource.name).map(drop));
        let rounds = count("SYSTOLE_MOVES").div_ceil(resources.len() as u64);
        for n in 1..=rounds {
            jobs.move_all(&resources)?;
            println!("{} moves", n * resources.len() as u64);
            // At all moments of a minute.
            std::thread::sleep(Duration::from_millis(n * 1709 % 7000));
        }
        jobs.into_the_next_minute(45);
        jobs.into_the_next_minute(45);
        all_held()?;
        for n in 1..=count("SYSTOLE_CUTS") {
            // Each node in turn, so that it is one that has some of them.
            let node = jobs.wait_on(resources[usize::try_from(n).unwrap() % resources.len()].name, |_| true)?;
            node.power_off()?;
            for Resource { name, .. } in &resources {
                jobs.wait_on(name, |on| on != node.name)?;
            }
            jobs.lab.power_back(&node)?;
            jobs.lab.wait_online()?;
            println!("power cut {n}");
            std::thread::sleep(Duration::from_millis(n * 1709 % 17_000));
        }
        jobs.into_the_next_minute(45);
        jobs.into_the_next_minute(45);
        all_held()
    });
}
