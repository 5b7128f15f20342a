use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Instant;

use super::*;

/// A program in place of ssh, that is given its arguments.
fn stand_in(name: &str, script: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("systole-remote-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("ssh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn asked(ssh: &Path, nodes: &[&str], argv: &[&str]) -> BTreeMap<String, Result<String, String>> {
    let nodes: Vec<String> = nodes.iter().map(|node| (*node).to_owned()).collect();
    let answers = ask_by(ssh.to_str().unwrap(), Some("here"), &nodes, argv, Duration::from_secs(1));
    let _ = std::fs::remove_dir_all(ssh.parent().unwrap());
    answers.into_iter().map(|(node, answer)| (node, answer.said)).collect()
}

#[test]
fn words_arrive_as_they_were_sent() {
    // The other end's shell splits what ssh sends it.
    let ssh = stand_in("words", r#"for last; do :; done; exec sh -c "$last""#);
    let words = ["printf", "%s\\n", "a b", "it's", "$HOME", "`id`", "-n", "", "ä;\"x\""];
    let answers = asked(&ssh, &["here", "there"], &words);
    assert_eq!(answers["there"], answers["here"]);
    assert_eq!(answers["there"].as_deref(), Ok("a b\nit's\n$HOME\n`id`\n-n\n\nä;\"x\"\n"));
}

#[test]
fn one_that_does_not_answer_delays_nobody() {
    let ssh = stand_in("sick", r#"case "$*" in *" sick "*) exec sleep 60;; *" closed "*) echo "no route" >&2; exit 255;; esac; echo well"#);
    let begin = Instant::now();
    let answers = asked(&ssh, &["closed", "here", "sick", "there"], &["echo", "well"]);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert_eq!(answers["there"].as_deref(), Ok("well\n"));
    assert_eq!(answers["here"].as_deref(), Ok("well\n"));
    assert_eq!(answers["sick"].as_ref().unwrap_err(), "does not answer over ssh: nothing came within 1000 ms");
    assert_eq!(answers["closed"].as_ref().unwrap_err(), "does not answer over ssh: no route");
}

#[test]
fn what_fails_there_says_so() {
    let ssh = stand_in("fails", "echo; echo 'no such thing' >&2; exit 3");
    let answers = asked(&ssh, &["there"], &["cat", "/nowhere"]);
    assert_eq!(answers["there"].as_ref().unwrap_err(), "cat failed (status 3): no such thing");
}

#[test]
fn a_name_is_never_an_option_a_user_or_a_command() {
    let ssh = stand_in("names", "echo reached");
    for name in ["-oProxyCommand=id", "", "root@lxc1", "a b", "lxc1;id", "$(id)", "_x", "a/b"] {
        let answers = asked(&ssh, &[name], &["true"]);
        assert!(answers[name].as_ref().unwrap_err().ends_with("is no name of a host"), "{name}");
    }
    assert!(["lxc1", "db-1.example.org", "10.0.0.1", "fd00::1"].iter().all(|name| is_name(name)));
}

#[test]
fn nothing_is_asked_forwarded_or_waited_for() {
    let words = arguments("lxc2", &["true"], Duration::from_secs(2)).join(" ");
    for option in ["BatchMode=yes", "ConnectTimeout=2", "ForwardAgent=no", "-T", "-n"] {
        assert!(words.contains(option), "{words}");
    }
    assert!(words.ends_with(" -- lxc2 'timeout' '--kill-after=1' '3' 'true'"), "{words}");
}

#[test]
fn that_the_cluster_did_not_say_the_name_is_not_kept() {
    static NAME: OnceLock<String> = OnceLock::new();
    assert_eq!(kept(&NAME, || None), None);
    assert_eq!(kept(&NAME, || Some("a".into())), Some(&"a".into()));
    assert_eq!(kept(&NAME, || panic!("asked again")), Some(&"a".into()));
}
