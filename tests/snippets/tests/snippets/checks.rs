//! What holds for every file, and whether these tests would see what is wrong.

use snippets::{Bed, Snippet, Step, violations};

use crate::{BASE, apart, dying, files, on_every_image, on_the_newest_image, readable, reads, scores, served};

/// Why the rule that keeps readers off the primary is a weak one: Pacemaker 3 lets it decide whom to promote as well.
#[test]
fn a_strong_rule_for_readers_would_move_the_primary() {
    let strong =
        Snippet::of("mysql.crm").mutated("off-primary -5:", "off-primary -1000:").mutated("resource-stickiness=1 critical=false ", "");
    let scores = vec![("mysql", "lxc1", 100), ("mysql", "lxc2", 1000), ("mysql", "lxc3", 100)];
    let begin = Step { attributes: readable(&["lxc1", "lxc2", "lxc3"]), scores, ..Step::default() };
    let behind = Step { attributes: readable(&["lxc2"]), ..Step::default() };
    let rehearsal = Bed::new("debian13").rehearse(&[Snippet::of(BASE), strong], &[begin, behind]);
    assert_eq!(rehearsal.steps[0].promoted("mysql"), ["lxc2"]);
    assert_ne!(rehearsal.steps[1].promoted("mysql"), ["lxc2"]);
}

/// The checks above are worth something only if they see what is wrong.
#[test]
fn broken_snippets_are_found() {
    on_the_newest_image(broken_snippets);
}

pub(crate) fn broken_snippets(bed: &Bed) {
    for (from, to, seen) in [
        (" durability=async", " durabilty=async", "durabilty"),
        ("op start timeout=120s", "op start timeout=30s", "timeout 30 s is less"),
        ("    op stop timeout=60s interval=0 \\\n", "", "op stop is missing"),
        (" notify=true", "", "lacks notify=true"),
        ("interval=11s", "interval=10s", "interval"),
        ("role=Promoted on-fail=demote", "role=Promoted", "op monitor of the promoted role lacks on-fail=demote"),
        ("interval=0 on-fail=demote", "interval=0", "op promote of the promoted role lacks on-fail=demote"),
        ("role=Unpromoted", "role=Unpromoted target-role=Started", "target-role"),
    ] {
        let rehearsal = bed.rehearse(&[Snippet::of(BASE), Snippet::of("redis.crm").mutated(from, to)], &[]);
        let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
        assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
    }
    for (from, to, seen) in [
        (" replication_user=", " replication_usr=", "replication_usr"),
        ("op start timeout=300s", "op start timeout=60s", "timeout 60 s is less"),
        ("op promote timeout=300s", "op promote timeout=30s", "timeout 30 s is less"),
        ("    op demote timeout=60s interval=0 \\\n", "", "op demote is missing"),
        ("    op notify timeout=30s interval=0 \\\n", "", "op notify is missing"),
        (" notify=true", "", "lacks notify=true"),
        (" interleave=true", "", "lacks interleave=true"),
        ("interval=11s", "interval=10s", "interval"),
        ("role=Promoted on-fail=demote", "role=Promoted", "op monitor of the promoted role lacks on-fail=demote"),
        ("interval=0 on-fail=demote", "interval=0", "op promote of the promoted role lacks on-fail=demote"),
        ("role=Unpromoted", "role=Unpromoted target-role=Started", "target-role"),
    ] {
        let rehearsal = bed.rehearse(&[Snippet::of(BASE), Snippet::of("mysql.crm").mutated(from, to)], &[]);
        let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
        assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
    }
    for (from, to, seen) in [
        // On a line of its own, where the bed does not look for agents whose meta-data it has to ask for.
        ("systemd:proxysql", "\\\n    systemd:proxysq", "systemd:proxysq: no such resource agent"),
        ("op start timeout=100s", "op start timeout=20s", "timeout 20 s is less"),
        ("    op monitor interval=10s timeout=100s \\\n", "", "nothing monitors it"),
    ] {
        let rehearsal = bed.rehearse(&[Snippet::of(BASE), Snippet::of("proxysql.crm").mutated(from, to)], &[]);
        let complaints = format!("{}\n{}", rehearsal.said, violations(&rehearsal.cib, &rehearsal.metadata).join("\n"));
        assert!(complaints.contains(seen), "{to:?} in place of {from:?} is not found: {complaints}");
    }
    let placed = |from: &str, to: &str, readable_nodes: &[&str]| {
        let step = Step { attributes: readable(readable_nodes), ..scores("mysql") };
        let alone = [dying(&["lxc1"]), dying(&["lxc3"])];
        let steps: Vec<Step> = std::iter::once(step).chain(alone).collect();
        bed.rehearse(&[Snippet::of(BASE), Snippet::of("mysql.crm").mutated(from, to)], &steps)
    };
    let early = placed("mysql-clone:promote mysql-ip:start", "mysql-ip:start mysql-clone:promote", &[]);
    assert!(served(&early.steps[0], "mysql", "lxc2").is_err(), "the address is up before the promotion");
    let astray = placed("mysql-ip-with-primary inf:", "mysql-ip-with-primary -inf:", &[]);
    assert!(served(&astray.steps[0], "mysql", "lxc2").is_err(), "the address is off the primary");
    let unread = placed(" or readable ne 1", "", &["lxc3"]);
    let anywhere = unread.steps.iter().zip([&["lxc3"][..], &["lxc3"], &[]]).any(|(step, nodes)| reads(step, nodes).is_err());
    assert!(anywhere, "readers get what is not readable");
    let clinging = placed("off-primary -5:", "off-primary 1000:", &["lxc1", "lxc2", "lxc3"]);
    assert!(reads(&clinging.steps[0], &["lxc1", "lxc2", "lxc3"]).is_err(), "readers get the primary");
    let glued = placed("off-primary -5:", "off-primary -inf:", &["lxc1", "lxc2", "lxc3"]);
    assert!(reads(&glued.steps[2], &["lxc2"]).is_err(), "-inf leaves readers without an address on the last node");
    let glued = Snippet::of("public-addresses.crm").mutated("apart -1000:", "apart -inf:");
    let rehearsal = bed.rehearse(&[Snippet::of(BASE), glued], &[Step::default(), dying(&["lxc3"]), dying(&["lxc2"])]);
    assert!(apart(&rehearsal.steps[2], 1).is_err(), "-inf leaves an address without a place on the last node");
    let early = Snippet::of("redis.crm").mutated("redis-clone:promote redis-ip:start", "redis-ip:start redis-clone:promote");
    let rehearsal = bed.rehearse(&[Snippet::of(BASE), early], &[scores("redis")]);
    assert!(served(&rehearsal.steps[0], "redis", "lxc2").is_err(), "the address is up before the promotion");
}

/// What needs no image: the text itself.
#[test]
fn the_texts_keep_the_rules() {
    for Snippet { name, text } in Snippet::all() {
        assert!(text.starts_with('#') && text.contains("crm configure load update"), "{name}: what it is, and how to load it");
        for (number, line) in text.lines().enumerate() {
            let at = format!("{name}:{}: {line}", number + 1);
            assert!(line.len() <= 132 && line.trim_end() == line, "{at}: too long, or blanks at the end");
            if let Some(comment) = line.strip_prefix('#') {
                // crmsh writes comments into the CIB, where XML forbids this.
                assert!(!comment.contains("--") && !comment.ends_with('-'), "{at}: crmsh refuses such a comment");
                continue;
            }
            assert!(!line.starts_with("ms "), "{at}: Pacemaker 3 has no ms");
            if line.starts_with("property ") {
                assert!(line.starts_with("property cib-bootstrap-options:"), "{at}: the set is not named");
            }
            for secret in ["password=", "passwd="] {
                assert!(!line.contains(secret), "{at}: no secrets in the CIB");
            }
            for word in line.split([' ', '=']) {
                let octets: Vec<&str> = word.split('.').collect();
                if octets.len() == 4 && octets.iter().all(|o| o.parse::<u8>().is_ok()) {
                    let documentation = ["192.0.2.", "198.51.100.", "203.0.113."].iter().any(|net| word.starts_with(net));
                    assert!(documentation, "{at}: {word} is somebody's address");
                }
            }
        }
        assert!(!text.contains("no-quorum-policy=ignore \\"), "{name}");
        for primitive in text.split("\nprimitive ").skip(1) {
            // The words of one command end where a line has no backslash.
            let command: String =
                primitive.lines().scan(true, |goes_on, line| std::mem::replace(goes_on, line.ends_with('\\')).then_some(line)).collect();
            let id = command.split(' ').next().unwrap_or_default();
            assert!(FOR_GOOD.contains(&id) || command.contains("failure-timeout="), "{name}: {id} stays off a node where it failed once");
        }
    }
}

/// What is not tried again by itself where it could not be started: each attempt of theirs copies data, or may.
const FOR_GOOD: [&str; 2] = ["galera", "uploads-drbd"];

/// The bed runs crmsh where its modules are loaded already. That is no other crmsh.
#[test]
fn a_warm_crmsh_does_what_a_cold_one_does() {
    on_every_image(|bed| {
        let snippets =
            [Snippet::of(BASE), Snippet::of("redis.crm"), Snippet::of("redis.crm").mutated("primitive redis ", "primtive redis ")];
        let [base, fine, broken] = [&snippets[..1], &snippets[1..2], &snippets[2..]];
        for (files, status) in [(fine, 0), (broken, 1)] {
            let [warm, cold] = ["crm", "/usr/sbin/crm"].map(|crm| {
                let load = |snippet: &Snippet| format!("{crm} configure load update /srv/{}", snippet.name);
                bed.perform(&crate::ALL, &[base, files].concat(), &[load(&base[0]), load(&files[0])])
            });
            assert_eq!((warm[1].status, &warm[1].said), (cold[1].status, &cold[1].said));
            assert_eq!(warm[1].configuration, cold[1].configuration);
            assert_eq!((warm[0].status, warm[1].status), (0, status), "{}", warm[1].said);
        }
    });
}

/// Pacemaker's tools read its schema as one file. That is no other schema.
#[test]
fn the_schema_as_one_grammar_judges_as_pacemakers_own() {
    on_every_image(|bed| {
        let all = [
            "base.crm",
            "public-addresses.crm",
            "redis.crm",
            "mysql.crm",
            "web.crm",
            "cron.crm",
            "cron-with-primary.crm",
            "connectivity.crm",
        ];
        let (differences, valid, wrong) = bed.compare_schemas(&files(&all));
        assert_eq!(differences, Vec::<String>::new());
        assert!(valid > 100 && wrong > 100, "too little was compared: {valid} that are valid, {wrong} that are not");
    });
}
