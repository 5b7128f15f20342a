//! galera.crm and the HAProxy files of MariaDB: placed by crm_simulate, read by HAProxy, and held against mistakes.

use snippets::{Bed, Outcome, Snippet, Step, violations};

use super::{on_every_image, on_the_newest_image, sorted};

/// galera.crm on its base, with one place changed.
fn changed(from: &str, to: &str) -> Vec<Snippet> {
    vec![Snippet::of("base.crm"), Snippet::of("galera.crm").mutated(from, to)]
}

fn scores(nodes: &[&'static str]) -> Step {
    Step { scores: nodes.iter().map(|node| ("galera", *node, 100)).collect(), ..Step::default() }
}

fn dying(node: &'static str) -> Step {
    Step { dead: vec![node], ..Step::default() }
}

/// Servers on these nodes, the arbitrator where it belongs, the address where a server is; what is wrong as a sentence.
fn stands(outcome: &Outcome, servers: &[&str], arbitrator: &[&str]) -> Result<(), String> {
    let (promoted, garbd, address) = (sorted(outcome.promoted("galera")), outcome.nodes_of("garbd"), outcome.nodes_of("galera-ip"));
    let addressed = if servers.is_empty() { address.is_empty() } else { address.len() == 1 && servers.contains(&address[0]) };
    if promoted != servers || garbd != arbitrator || !addressed {
        return Err(format!("servers on {promoted:?}, garbd on {garbd:?}, the address on {address:?}"));
    }
    Ok(())
}

#[test]
fn two_servers_and_the_third_vote_have_their_places() {
    on_every_image(|bed| {
        let all = [Snippet::of("base.crm"), Snippet::of("galera.crm")];
        let out = Step { standby: vec!["lxc1"], ..Step::default() };
        let begin = [Step::default(), scores(&["lxc1"]), scores(&["lxc1", "lxc2"])];
        let rehearsal = bed.rehearse(&all, &[&begin[..], &[dying("lxc1")]].concat());
        assert!(rehearsal.all_loaded() && rehearsal.verified == 0, "{}", rehearsal.said);
        assert_eq!(violations(&rehearsal.cib, &rehearsal.metadata), Vec::<String>::new());
        // Nobody knows yet who has the most: no server, so nothing to vote with and nothing to lead to.
        stands(&rehearsal.steps[0], &[], &[]).unwrap();
        assert_eq!(sorted(rehearsal.steps[0].nodes_of("galera")), ["lxc1", "lxc2"], "never on lxc3");
        stands(&rehearsal.steps[1], &["lxc1"], &["lxc3"]).unwrap();
        assert!(rehearsal.steps[1].waits_for(("start", "garbd"), ("start", "galera-ip")), "garbd comes after the first server");
        for resource in ["garbd", "galera-ip"] {
            // The second server joins, which may take long: nothing waits for it, and nothing is taken away.
            assert!(!rehearsal.steps[1].waits_for(("start", resource), ("promote", "galera")), "{resource} waits");
            assert_eq!(rehearsal.steps[2].when("stop", resource), None, "{resource}: {:?}", rehearsal.steps[2]);
        }
        stands(&rehearsal.steps[2], &["lxc1", "lxc2"], &["lxc3"]).unwrap();
        stands(&rehearsal.steps[3], &["lxc2"], &["lxc3"]).unwrap();
        assert_eq!((rehearsal.steps[3].fenced.as_slice(), rehearsal.steps[3].when("stop", "garbd")), (&["lxc1".to_owned()][..], None));

        // The third node is lost: its vote goes nowhere else, and the servers stay.
        let third = bed.rehearse(&all, &[&begin[..], &[dying("lxc3")]].concat());
        stands(&third.steps[3], &["lxc1", "lxc2"], &[]).unwrap();
        assert_eq!(third.steps[3].when("demote", "galera"), None);

        // Taken out: the vote stays, and the stop does not wait for the address.
        let standby = bed.rehearse(&all, &[&begin[..], &[out]].concat());
        stands(&standby.steps[3], &["lxc2"], &["lxc3"]).unwrap();
        assert_eq!(standby.steps[3].when("stop", "garbd"), None);

        // Without quorum nothing runs.
        let lost = bed.rehearse(&all, &[&begin[..], &[Step { no_quorum: true, ..Step::default() }]].concat());
        stands(&lost.steps[3], &[], &[]).unwrap();
    });
}

/// The checks above are worth something only if they see what is wrong.
#[test]
fn mistakes_in_galera_crm_are_found() {
    on_the_newest_image(mistakes);
}

pub(crate) fn mistakes(bed: &Bed) {
    let begin = scores(&["lxc1", "lxc2"]);
    let anywhere = changed("    rule -inf: #uname ne lxc1 and #uname ne lxc2", "    rule -inf: #uname ne lxc1 and #uname ne lxc3");
    let astray = bed.rehearse(&anywhere, &[Step::default()]);
    assert!(astray.steps[0].nodes_of("galera").contains(&"lxc3"), "a server where none belongs");
    let one = bed.rehearse(&changed("promoted-max=2", "promoted-max=1"), std::slice::from_ref(&begin));
    assert!(stands(&one.steps[0], &["lxc1", "lxc2"], &["lxc3"]).is_err(), "one server only");
    // The third vote beside a server takes two lines to lose.
    let roaming = Snippet::of("galera.crm")
        .mutated("location garbd-on-the-third-node garbd \\\n    rule -inf: #uname ne lxc3\n", "")
        .mutated("colocation garbd-off-the-servers -inf: garbd galera-clone\n", "");
    let roaming = bed.rehearse(&[Snippet::of("base.crm"), roaming], &[begin.clone(), dying("lxc3")]);
    assert!(stands(&roaming.steps[1], &["lxc1", "lxc2"], &[]).is_err(), "two votes on one node");
    // With the order in both directions, the address that moves takes the vote along, in the very moment that counts it.
    let tied =
        bed.rehearse(&changed("galera-ip garbd symmetrical=false", "galera-ip garbd"), &[scores(&["lxc1"]), begin.clone(), dying("lxc1")]);
    assert!(tied.steps[2].when("stop", "garbd").is_some(), "{:?}", tied.steps[2]);
    // With an order after the promotion the address waits for both.
    let late = "order late inf: galera-clone:promote galera-ip:start\n\n# The address that clients use";
    let late = bed.rehearse(&changed("# The address that clients use", late), std::slice::from_ref(&begin));
    assert!(late.steps[0].waits_for(("start", "galera-ip"), ("promote", "galera")));
    let early = changed("order garbd-after-galera inf: galera-ip garbd symmetrical=false\n", "");
    let early = bed.rehearse(&early, &[Step::default()]);
    assert!(stands(&early.steps[0], &[], &[]).is_err(), "garbd before there is a server");
    for (from, to, seen) in [
        ("wsrep_cluster_address=\"gcomm://lxc2,lxc1\"", "wsrep_address=\"gcomm://lxc2,lxc1\"", "wsrep_address"),
        (" wsrep_cluster_name=site", "", "wsrep_cluster_name"),
        ("op promote timeout=1200s", "op promote timeout=60s", "timeout 60 s is less"),
        ("interval=11s", "interval=10s", "interval"),
        ("promoted-max=2", "promoted-max=1", "the clone lacks promoted-max=2"),
        (" interleave=true", "", "lacks interleave=true"),
        (" role=Unpromoted", " role=Unpromoted target-role=Started", "target-role"),
    ] {
        let rehearsal = bed.rehearse(&changed(from, to), &[]);
        let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
        assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
    }
}

/// The checks of an HAProxy file: what is announced as a question's length, and the question.
fn questions(configuration: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = configuration.lines().map(str::trim).collect();
    let asked = lines.windows(2).filter_map(|pair| {
        let words = pair[1].strip_prefix("tcp-check send \"")?.strip_suffix('"')?;
        let head = pair[0].strip_prefix("tcp-check send-binary ")?;
        let byte = |at: usize| usize::from_str_radix(&head[at..at + 2], 16).unwrap();
        assert_eq!((byte(6), byte(8)), (0, 3), "{head}: a question is the first packet, and begins with 03");
        Some((byte(0) + (byte(2) << 8) + (byte(4) << 16), words.to_owned()))
    });
    asked.collect()
}

/// HAProxy reads the files, and the packets that are written by hand have the lengths that they announce.
#[test]
fn haproxy_reads_the_files_for_mariadb() {
    let files = ["haproxy-mariadb.cfg", "haproxy-galera.cfg"].map(|name| (name, Snippet::server_file(name)));
    for (name, text) in &files {
        let questions = questions(text);
        assert!(!questions.is_empty(), "{name} asks nothing");
        for (length, words) in questions {
            assert_eq!(length, words.len() + 1, "{name}: the length of {words:?}");
        }
        let login = text.lines().find_map(|line| line.trim().strip_prefix("tcp-check send-binary 3f000001")).expect("the login");
        // What is in hexadecimal digits, the user, the word for the way, and their ends.
        assert_eq!(login.len() / 2 + "haproxy".len() + 2 + "mysql_native_password".len() + 1, 0x3f, "{name}: the length of the login");
    }
    assert_eq!(questions("tcp-check send-binary 0700000003\ntcp-check send \"SELECT 1\"\n"), [(7, "SELECT 1".to_owned())]);
    on_every_image(|bed| {
        let check = r"printf '192.0.2.11 lxc1\n192.0.2.12 lxc2\n192.0.2.13 lxc3\n' > /etc/hosts; haproxy -c -f /srv/file";
        for (name, text) in &files {
            let (fine, said) = bed.reads(text, check);
            assert!(fine && !said.contains("WARNING"), "{name}: {said}");
            assert!(!bed.reads(&text.replace("expect binary", "expect bnary"), check).0, "{name}");
        }
    });
}
