//! `systole-cron`, as an operator calls it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Site, USER, run};

/// Its status, and what it printed.
fn ask(words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new("/usr/sbin/systole-cron").args(words).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_operator_sees_what_ran_and_what_will() {
    let site = Site::with("seen", "0 5 * * * wpsite make backup\n");
    let (code, _, said) = ask(&["next", "seen"]);
    assert!(code == Some(1) && said.contains("seen has not been on this node: name its crontab with --source"), "{said}");
    site.agent().run("start").ok();
    assert_eq!(site.job("0123456789abcdef", "exit 3").status().unwrap().code(), Some(3));
    let (code, text, _) = ask(&["history", "seen"]);
    assert!(code == Some(0) && text.contains("ended 3") && text.contains("exit 3"), "{text}");
    let (_, json, _) = ask(&["history", "seen", "--json"]);
    assert!(json.contains("\"status\": 3"), "{json}");
    let (_, text, _) = ask(&["next", "seen", "--count", "2"]);
    assert!(text.lines().count() == 3 && text.contains(" 05:00  wpsite  1     make backup"), "{text}");
    let source = site.source.display().to_string();
    assert_eq!(ask(&["next", "--source", &source, "--count", "2"]).1, text);
    fs::write(&source, "61 * * * * wpsite x\n").unwrap();
    let (code, _, said) = ask(&["next", "seen"]);
    assert!(code == Some(1) && said.contains("line 1, minute: 61 is not in 0-59"), "{said}");
    site.agent().run("stop").ok();
}

#[test]
fn crontabs_that_exist_are_brought_in_after_a_look_at_the_difference() {
    let site = Site::with("imported", "0 4 * * * wpsite early\n");
    let to = site.source.display().to_string();
    fs::write("/etc/cron.d/old-site", "MAILTO=admin\n0 5 * * * wpsite nightly\n").unwrap();
    run("sh", &["-c", &format!("printf 'MAILTO=me\\n@daily mine\\n' | crontab -u {USER} -")]);
    let words = ["import", "--to", &to, "--from", "/etc/cron.d/old-site", "--user", USER];
    let (code, text, said) = ask(&words);
    assert_eq!(code, Some(0), "{said}");
    for line in ["+0 5 * * * wpsite nightly", "+@daily wpsite mine", " 0 4 * * * wpsite early", "Nothing was changed"] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(fs::read_to_string(&to).unwrap(), "0 4 * * * wpsite early\n");
    let (code, text, said) = ask(&[&words[..], &["--write"]].concat());
    assert!(code == Some(0) && text.contains("Do the same on the other nodes"), "{text}{said}");
    assert!(!Path::new("/etc/cron.d/old-site").exists() && !Path::new(&format!("/var/spool/cron/crontabs/{USER}")).exists());
    let kept = fs::read_to_string("/var/lib/systole/cron-imported/_etc_cron.d_old-site").unwrap();
    assert!(kept.contains("nightly"), "{kept}");
    let new = fs::read_to_string(&to).unwrap();
    assert!(new.ends_with("MAILTO=me\n@daily wpsite mine\n"), "{new}");
    site.agent().run("start").ok();
    site.agent().run("stop").ok();
    // Nothing is there any more, and nothing is lost by asking.
    assert!(ask(&words).2.contains("/etc/cron.d/old-site does not exist"));
    let system = ask(&["import", "--to", &to, "--from", "/etc/crontab"]);
    assert!(system.0 == Some(1) && system.2.contains("belong on every node"), "{system:?}");
    // What would not be the same afterwards.
    fs::write("/etc/cron.d/latin", b"0 5 * * * wpsite echo caf\xe9\n").unwrap();
    run("sh", &["-c", &format!("printf '@daily echo caf\\351\\n' | crontab -u {USER} -")]);
    let latin = ask(&["import", "--to", &to, "--from", "/etc/cron.d/latin", "--user", USER, "--write"]);
    for words in ["/etc/cron.d/latin is not UTF-8", "the crontab of wpsite is not UTF-8"] {
        assert!(latin.0 == Some(1) && latin.2.contains(words), "{latin:?}");
    }
    assert_eq!(fs::read("/etc/cron.d/latin").unwrap(), b"0 5 * * * wpsite echo caf\xe9\n");
    fs::remove_file("/etc/cron.d/latin").unwrap();
    run("crontab", &["-u", USER, "-r"]);
    // All that is wrong is told at once.
    fs::write("/etc/cron.d/broken", "61 * * * * wpsite x\nCRON_TZ=UTC\n").unwrap();
    let (code, _, said) = ask(&["import", "--to", &to, "--from", "/etc/no-such", "--from", "/etc/crontab", "--from", "/etc/cron.d/broken"]);
    for words in ["/etc/no-such does not exist", "/etc/crontab has jobs of the system", "/etc/cron.d/broken: line 1, minute"] {
        assert!(code == Some(1) && said.contains(words), "{said}");
    }
    assert!(ask(&["import", "--to", &to, "--from", "/etc/cron.d/broken", "--write"]).2.contains("line 1, minute: 61"));
    assert!(Path::new("/etc/cron.d/broken").exists());
    fs::remove_file("/etc/cron.d/broken").unwrap();
    assert_eq!(fs::read_to_string(&to).unwrap(), new);
}

/// The first node of a new cluster has none.
#[test]
fn an_import_makes_the_directory_that_it_needs() {
    let site = Site::with("fresh", "");
    fs::write("/etc/cron.d/old-fresh", "0 5 * * * wpsite nightly-fresh\n").unwrap();
    let to = site.directory().join("etc/systole/site.cron");
    let (code, text, said) = ask(&["import", "--to", &to.display().to_string(), "--from", "/etc/cron.d/old-fresh", "--write"]);
    assert_eq!(code, Some(0), "{text}{said}");
    assert!(fs::read_to_string(&to).unwrap().contains("nightly-fresh"));
    assert!(!Path::new("/etc/cron.d/old-fresh").exists());
}
