//! J: the jobs run on one node at a time, once for each minute that they are due, and none is lost in silence.
//!
//! The jobs are cron's, the minutes are real, the nodes' power is cut. Each job writes when and where it runs into a file of this
//! machine, which survives the nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

use std::time::Duration;

use cluster_scenarios::expect;
use cluster_scenarios::jobs::{Jobs, Resource};
use lab::{Cut, Result};

/// A minute, and what cron and the machine need.
const NEXT_MINUTE: Duration = Duration::from_secs(75);

fn scenario(name: &str, resources: &[Resource], steps: impl FnOnce(&Jobs) -> Result<()>) {
    let jobs = Jobs::up(name, resources).unwrap_or_else(|e| panic!("{name}: {e}"));
    if let Err(error) = steps(&jobs) {
        let logs = std::env::temp_dir().join(format!("systole-failed-{name}"));
        let _ = std::fs::remove_dir_all(&logs);
        let _ = jobs.lab.collect(&logs);
        panic!("{name}: {error}\nlogs: {}", logs.display());
    }
}

const SITE: Resource = Resource { name: "site-cron", parameters: "catch_up=all", seconds: 25 };

#[test]
fn a_move_in_mid_job_ends_it_as_the_drain_policy_says() {
    let resources = [
        Resource { name: "waiting", parameters: "drain=wait", seconds: 25 },
        Resource { name: "terminated", parameters: "drain=term", seconds: 25 },
        Resource { name: "killed", parameters: "drain=kill", seconds: 25 },
    ];
    scenario("cron-moves", &resources, |jobs| {
        jobs.into_the_next_minute(3);
        for Resource { name, .. } in &resources {
            let from = jobs.wait_on(name, |_| true)?;
            let (what, ago) = jobs.last(name, &from.name).unwrap_or_default();
            expect(what == "tick" && ago < 2.0, &format!("{name} runs on {}: {what} {ago:.1} s ago", from.name))?;
        }
        // The one that waits comes last.
        let mut moved = Vec::new();
        for name in ["killed", "terminated", "waiting"] {
            let from = jobs.wait_on(name, |_| true)?;
            let to = jobs.move_away(name)?;
            let (what, _) = jobs.last(name, &from.name).unwrap_or_default();
            expect((what == "end") == (name == "waiting"), &format!("{name}: the last that it said on {} is {what}", from.name))?;
            let left = from.sh(&format!("pgrep -f '[j]ob {name} ' || true"))?.stdout;
            expect(left.trim().is_empty(), &format!("{name} has left processes on {}: {left}", from.name))?;
            moved.push((name, to));
        }
        moved.iter().try_for_each(|(name, to)| jobs.wait_said(name, "begin", &to.name, NEXT_MINUTE))?;
        jobs.into_the_next_minute(3);
        resources.iter().try_for_each(|resource| jobs.held(resource.name).map(drop))
    });
}

#[test]
fn a_power_cut_and_a_partition_in_mid_job() {
    scenario("cron-power", &[SITE], |jobs| {
        let first = jobs.wait_on(SITE.name, |_| true)?;
        jobs.wait_said(SITE.name, "tick", &first.name, NEXT_MINUTE)?;
        first.power_off()?;
        let second = jobs.wait_on(SITE.name, |node| node != first.name)?;
        jobs.wait_said(SITE.name, "tick", &second.name, NEXT_MINUTE)?;
        first.power_on()?;
        jobs.lab.wait_online()?;
        // It is fenced while its job runs on.
        jobs.lab.cut(&Cut::cable(&second.name))?;
        let third = jobs.wait_on(SITE.name, |node| node != second.name)?;
        jobs.lab.heal(None)?;
        jobs.lab.wait_online()?;
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

/// `make endurance-cron`.
#[test]
#[ignore = "hours"]
fn endurance() {
    let count = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let short = Resource { seconds: 2, ..SITE };
    scenario("cron-endurance", &[short], |jobs| {
        for n in 1..=count("SYSTOLE_MOVES") {
            jobs.move_away(SITE.name)?;
            println!("move {n}");
            // At all moments of a minute.
            std::thread::sleep(Duration::from_millis(n * 1709 % 7000));
        }
        jobs.into_the_next_minute(3);
        jobs.into_the_next_minute(3);
        println!("after the moves: {}", jobs.held(SITE.name)?);
        for n in 1..=count("SYSTOLE_CUTS") {
            let node = jobs.wait_on(SITE.name, |_| true)?;
            node.power_off()?;
            jobs.wait_on(SITE.name, |on| on != node.name)?;
            node.power_on()?;
            jobs.lab.wait_online()?;
            println!("power cut {n}");
            std::thread::sleep(Duration::from_millis(n * 1709 % 30_000));
        }
        jobs.into_the_next_minute(3);
        jobs.into_the_next_minute(3);
        jobs.held(SITE.name).map(drop)
    });
}
