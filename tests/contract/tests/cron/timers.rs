//! mode=timer, with a stand-in for systemctl that fails when a test wants it: as during an upgrade, when systemd executes itself anew.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use testkit::Agent;

use crate::Site;

/// Units as files with their state. `behaviour`: lines of a shell that come first.
const SYSTEMCTL: &str = r#"#!/bin/sh
dir=${0%/*}
echo "$*" >>"$dir/calls"
. "$dir/behaviour"
verb=
for argument; do
	case $argument in
	--*) continue ;;
	show | start | stop) verb=$argument; continue ;;
	esac
	case $verb in
	start) echo active >"$dir/$argument" ;;
	stop) echo inactive >"$dir/$argument" ;;
	show)
		state=inactive
		[ ! -e "$dir/$argument" ] || read -r state <"$dir/$argument"
		printf 'Id=%s\nLoadState=loaded\nActiveState=%s\nResult=success\n' "$argument" "$state"
		case $argument in
		*.timer) printf 'Unit=%s.service\nPersistent=no\n\n' "${argument%.timer}" ;;
		*) printf 'TriggeredBy=%s.timer\n\n' "${argument%.service}" ;;
		esac
		;;
	esac
done
"#;
/// What it says when it cannot be asked.
const FAILS: &str = "echo 'Failed to connect to bus: Connection refused' >&2; exit 1";

/// A resource of one timer.
struct Timers {
    site: Site,
    directory: PathBuf,
}

impl Timers {
    fn with(name: &str) -> Self {
        let site = Site::with(name, "");
        let directory = site.directory().join("systemd");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("systemctl"), SYSTEMCTL).unwrap();
        fs::set_permissions(directory.join("systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
        let timers = Self { site, directory };
        timers.behave("");
        timers
    }

    fn behave(&self, script: &str) {
        fs::write(self.directory.join("behaviour"), format!("{script}\n")).unwrap();
    }

    /// From now on the first calls with these words fail.
    fn fail(&self, times: u32, words: &str) {
        fs::write(self.directory.join("left"), format!("{times}\n")).unwrap();
        self.behave(&format!(
            "case \"$*\" in *'{words}'*) read -r left <\"$dir/left\"; if [ \"$left\" -gt 0 ]; then echo $((left - 1)) >\"$dir/left\"; {FAILS}; fi;; esac"
        ));
    }

    fn failures_left(&self) -> String {
        fs::read_to_string(self.directory.join("left")).unwrap().trim().to_owned()
    }

    fn agent(&self) -> Agent {
        let agent = self.site.agent().without("OCF_RESKEY_source").parameter("mode", "timer").parameter("timers", "site.timer");
        agent.variable("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.directory.display())).timeout(Duration::from_secs(8))
    }

    fn state(&self) -> String {
        fs::read_to_string(self.directory.join("site.timer")).unwrap_or_default().trim().to_owned()
    }
}

#[test]
fn a_systemd_that_is_asked_again_costs_neither_the_jobs_nor_the_node() {
    let timers = Timers::with("asked-again");
    for (action, words, state) in [
        ("start", "show", "active"),
        ("start", " start ", "active"),
        ("monitor", "show", "active"),
        ("stop", "show", "inactive"),
        ("stop", " stop ", "inactive"),
    ] {
        if action == "stop" {
            timers.behave("");
            timers.agent().run("start").ok();
        }
        timers.fail(2, words);
        timers.agent().run(action).ok();
        assert_eq!((timers.state().as_str(), timers.failures_left().as_str()), (state, "0"), "{action}: {words}");
    }
    timers.agent().run("monitor").expect(&[7]);
}

/// An error would have Pacemaker restart the resource, which ends jobs that run.
#[test]
fn whoever_cannot_ask_systemd_does_not_know_that_the_timers_have_stopped() {
    let timers = Timers::with("unasked");
    timers.agent().run("start").ok();
    timers.behave(FAILS);
    let words = ["systemctl show ended with", "Failed to connect to bus"];
    timers.agent().run("monitor").refused(190, &words);
    // What has started them here knows that it has.
    timers.agent().probing().run("monitor").refused(190, &words);
    // Of the services alone.
    timers.behave(&format!("case \"$*\" in *site.service*) {FAILS};; esac"));
    timers.agent().run("monitor").ok();
    timers.agent().variable("OCF_CHECK_LEVEL", "10").run("monitor").refused(190, &words);
    timers.behave("");
    timers.agent().variable("OCF_CHECK_LEVEL", "10").run("monitor").ok();
    // One that was stopped by hand is.
    fs::write(timers.directory.join("site.timer"), "inactive\n").unwrap();
    timers.agent().run("monitor").refused(1, &["site.timer is not active"]);
    timers.behave(FAILS);
    timers.agent().run("stop").refused(1, &words);
    timers.behave("");
    timers.agent().run("stop").ok();
    // Where they may not run, nobody knows that they do not.
    timers.behave(FAILS);
    timers.agent().probing().run("monitor").refused(1, &words);
}

/// What systemd refuses for good is told, and keeps nobody waiting beyond the time of the action.
#[test]
fn what_systemd_refuses_for_good_is_told_in_time() {
    let timers = Timers::with("refused");
    timers.behave(FAILS);
    let answer = timers.agent().run("validate-all");
    answer.refused(1, &["systemctl show ended with"]);
    assert!(answer.counted < Duration::from_secs(9), "{answer:?}");
    let answer = timers.agent().run("start");
    answer.refused(1, &["systemctl show ended with"]);
    assert!(answer.counted < Duration::from_secs(9), "{answer:?}");
}
