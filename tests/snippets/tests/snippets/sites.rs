//! sites.crm: who may write is said by the ticket, in each site's own cluster.

use snippets::{Bed, Outcome, Rehearsal, Snippet, Step, violations};

use crate::{on_every_image, on_the_newest_image};

fn site() -> Vec<Snippet> {
    ["base.crm", "mysql.crm", "sites.crm"].map(Snippet::of).into()
}

fn with(from: &str, to: &str) -> Vec<Snippet> {
    site().into_iter().map(|file| if file.name == "sites.crm" { file.mutated(from, to) } else { file }).collect()
}

/// Nobody has the ticket; then this site, then no longer; then it is granted again, and a node dies.
fn story() -> [Step; 4] {
    let scores = ["lxc1", "lxc2", "lxc3"].into_iter().zip([100, 20, 10]).map(|(node, score)| ("mysql", node, score)).collect();
    [
        Step { scores, ..Step::default() },
        Step { granted: vec!["primary"], ..Step::default() },
        Step { revoked: vec!["primary"], ..Step::default() },
        Step { granted: vec!["primary"], dead: vec!["lxc1"], ..Step::default() },
    ]
}

/// What is wrong in a step, if anything: who has the address writes, nobody without the ticket.
fn wrong(outcome: &Outcome, primary: Option<&str>, servers: usize) -> Option<String> {
    let (promoted, address, running) = (outcome.promoted("mysql"), outcome.nodes_of("mysql-ip"), outcome.nodes_of("mysql").len());
    let expected: Vec<&str> = primary.into_iter().collect();
    (promoted != expected || address != expected || running != servers || outcome.nodes_of("booth-site").len() != 1)
        .then(|| format!("promoted {promoted:?}, address {address:?}, {running} servers, booth on {:?}", outcome.nodes_of("booth-site")))
}

fn rehearse(bed: &Bed, files: &[Snippet]) -> Rehearsal {
    let rehearsal = bed.rehearse(files, &story());
    assert!(rehearsal.all_loaded(), "{}", rehearsal.said);
    rehearsal
}

#[test]
fn the_site_with_the_ticket_writes_and_the_others_keep_their_servers() {
    on_every_image(|bed| {
        let rehearsal = rehearse(bed, &site());
        assert_eq!(rehearsal.verified, 0, "{}", rehearsal.said);
        assert_eq!(violations(&rehearsal.cib, &rehearsal.metadata), Vec::<String>::new());
        for (number, (step, (primary, servers))) in
            rehearsal.steps.iter().zip([(None, 3), (Some("lxc1"), 3), (None, 3), (Some("lxc2"), 2)]).enumerate()
        {
            assert_eq!(wrong(step, primary, servers), None, "step {number}");
        }
        let lost = &rehearsal.steps[2];
        assert!(lost.when("demote", "mysql").is_some() && lost.when("stop", "mysql").is_none(), "closed, not stopped: {lost:?}");
        assert!(lost.when("stop", "booth-site").is_none(), "booth goes on, to get the ticket again");
    });
}

#[test]
fn mistakes_with_the_ticket_are_seen() {
    on_the_newest_image(mistakes);
}

pub(crate) fn mistakes(bed: &Bed) {
    let freezing = rehearse(bed, &with("loss-policy=demote", "loss-policy=freeze"));
    assert!(wrong(&freezing.steps[2], None, 3).is_some(), "freeze goes on writing without the ticket");
    let stopping = rehearse(bed, &with("loss-policy=demote", "loss-policy=stop"));
    assert!(wrong(&stopping.steps[2], None, 3).is_some(), "stop leaves nothing to read");
    let open = rehearse(bed, &with("rsc_ticket mysql", "#rsc_ticket mysql"));
    assert!(wrong(&open.steps[0], None, 3).is_some(), "without the constraint everybody writes");
    let other = rehearse(bed, &with("ticket primary:", "ticket principal:"));
    assert!(wrong(&other.steps[1], Some("lxc1"), 3).is_some(), "a ticket of another name promotes nobody");
    let typo = bed.rehearse(&with("config=/etc/booth", "conf=/etc/booth"), &[]);
    let complaints = format!("{}\n{}", typo.said, violations(&typo.cib, &typo.metadata).join("\n"));
    assert!(complaints.contains("conf"), "{complaints}");
}

/// The ticket of both files is the same, and booth gets the time that the demotion may take.
#[test]
fn booth_conf_goes_with_the_snippet() {
    let (snippet, booth) = (Snippet::of("sites.crm").text, Snippet::server_file("booth.conf"));
    let value = |key: &str| {
        let line = booth.lines().map(str::trim).find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
        line.unwrap_or_else(|| panic!("booth.conf says no {key}")).trim().trim_matches('"').to_owned()
    };
    let seconds = |key: &str| value(key).parse::<u32>().unwrap_or_else(|e| panic!("{key}: {e}"));
    assert!(snippet.contains(&format!("rsc_ticket mysql-primary-with-ticket {}: ", value("ticket"))));
    assert!(snippet.contains(&format!("ip={} ", value("site"))), "the snippet's address is the first site's");
    assert!(seconds("timeout") * (seconds("retries") + 1) < seconds("renewal-freq"), "booth refuses that");
    assert!(seconds("renewal-freq") * 2 < seconds("expire"), "a renewal that fails once is tried again");
    let demote = Snippet::of("mysql.crm").text.contains("op demote timeout=60s");
    assert!(demote && seconds("acquire-after") >= 60 + 10 + 20, "the demotion, and the interval and the restart of booth-site");
}
