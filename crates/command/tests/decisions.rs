//! What is given up by an operator's decision, and when there is nothing to decide.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it saw by panicking")]

mod clusters;

use std::path::Path;

use clusters::{nobody, of, text};
use systole_command::decisions::{Decision, GivenUp, NoDecision, decision, is_done};
use systole_command::picture::{Attributes, Picture};

const LOST: &str = "epoch=4 change=2 node=lxc2 server=12 durability=lossless acknowledgements=1 active=lxc1,lxc3 set=0-12-100";
/// Restarted since: what it had received may be gone.
const RESTARTED: &str = "4.2-lxc2||100|-|-|0-12-100|-";

fn decide(picture: &Picture, node: &str) -> Result<Decision, String> {
    decision(picture, picture.database("mysql").unwrap(), node).map_err(|none| match none {
        NoDecision::There(why) | NoDecision::Refused(why) => why,
    })
}

#[test]
fn what_only_the_others_hold_is_shown_and_what_nobody_knows_is_said() {
    let picture = nobody(LOST, &[("lxc1", RESTARTED), ("lxc3", "4.2-lxc2||100|-|-|0-12-107|-")]);
    let found = decide(&picture, "lxc1").unwrap();
    assert_eq!((found.record.as_str(), found.before.as_deref()), ("epoch=4 node=lxc1", Some(LOST)));
    let given_up: Vec<&GivenUp> = found.nodes.iter().map(|holding| &holding.given_up).collect();
    let [GivenUp::Named, GivenUp::Unknown(why), GivenUp::Known(what)] = &given_up[..] else { panic!("{given_up:?}") };
    assert!(why.contains("nothing was heard of it") && what.starts_with("7 transactions: ") && what.contains("0-12-107"), "{why} {what}");
    assert!(found.acknowledged.starts_with("acknowledged writes may be among what is given up"), "{}", found.acknowledged);
    assert!(found.acknowledged.contains("an acknowledged transaction may be only on"), "the election's words: {}", found.acknowledged);
    assert!(found.pretty().contains("lxc3  0-12-107  7 transactions: ") && found.tsv().starts_with("node\tholds\t"), "{}", found.pretty());
    assert_eq!(found.json()["nodes"][1]["known"], false);
    // Of two the other one lacks something.
    let other = decide(&picture, "lxc3").unwrap();
    assert_eq!(other.nodes[0].given_up, GivenUp::Nothing);
    assert!(other.nodes[0].lacks.as_ref().is_some_and(|lacks| lacks.contains("7 transactions")), "{other:?}");
}

#[test]
fn the_example_of_the_page_is_what_the_command_says() {
    let picture = nobody(LOST, &[("lxc1", RESTARTED), ("lxc3", "4.2-lxc2||100|-|-|0-12-107|-")]);
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/command.md")).unwrap();
    let shown: String =
        decide(&picture, "lxc1").unwrap().pretty().lines().map(|line| format!("    {line}").trim_end().to_owned() + "\n").collect();
    let example = format!("    # systole decide mysql lxc1 --dry-run\n{shown}\n");
    assert!(page.contains(&example), "{example}");
}

#[test]
fn no_epoch_is_taken_over_but_that_of_a_primary() {
    // Somebody mistyped it: replicas would remember it.
    let picture = nobody("epoch=9000 node=lxc2", &[("lxc1", "9000.0-lxc2||100|-|-|0-12-100|-")]);
    assert_eq!(decide(&picture, "lxc1").unwrap().record, "node=lxc1");
    let unreadable = nobody("who knows", &[]);
    let found = decide(&unreadable, "lxc1").unwrap();
    assert_eq!(found.record, "node=lxc1");
    assert!(found.nodes[1..].iter().all(|holding| matches!(holding.given_up, GivenUp::Unknown(_))), "{found:?}");
    assert!(found.acknowledged.starts_with("acknowledged writes may be among"), "{}", found.acknowledged);
}

#[test]
fn a_decision_that_does_not_help_or_is_not_needed_is_refused() {
    let holds_all = "4.2-lxc2|c|100|-|-|0-12-100|-";
    let position = |node: &'static str, position: &'static str| nobody(LOST, &[(node, position)]);
    let in_order = of(&text("in-order", "cib.xml"), &text("in-order", "crm_mon.xml"), &Attributes::new());
    let maintenance = text("nobody", "cib.xml").replace(
        "</crm_config>",
        "<cluster_property_set id=\"x\"><nvpair id=\"y\" name=\"maintenance-mode\" value=\"true\"/></cluster_property_set></crm_config>",
    );
    for (picture, node, why) in [
        (&in_order, "lxc1", "lxc2 is promoted, and a primary in office does not look at a decision"),
        (&position("lxc1", RESTARTED), "lxc9", "mysql-clone has no server on lxc9"),
        (&position("lxc1", RESTARTED), "lxc2", "lxc2 cannot be promoted: the node is not there"),
        (&position("lxc1", RESTARTED), "lxc3", "lxc3 has not said what it holds since the primary is gone"),
        (&position("lxc1", "3.0-lxc1||100|-|-|0-12-100|-"), "lxc1", "lxc1 has not said what it holds since the primary is gone"),
        (
            &nobody(
                &LOST.replace("node=lxc2", "node=lxc1").replace("lxc1,lxc3", "lxc2,lxc3"),
                &[("lxc1", &holds_all.replace("lxc2", "lxc1"))],
            ),
            "lxc3",
            "there is nothing to decide, lxc1 can be promoted without it",
        ),
        (&nobody("node=lxc1", &[("lxc1", "0.0-lxc1||100|-|-|0-12-100|-")]), "lxc1", "the record names lxc1 already"),
        (&of(&maintenance, &text("nobody", "crm_mon.xml"), &Attributes::new()), "lxc1", "no decision helps here: maintenance-mode is on"),
        (
            &Picture { unheard: Some("it does not answer".into()), ..position("lxc1", RESTARTED) },
            "lxc1",
            "what the servers hold is not known",
        ),
    ] {
        let said = decide(picture, node).unwrap_err();
        assert!(said.contains(why), "{said}, and not {why}");
    }
    assert!(is_done(in_order.database("mysql").unwrap(), "lxc2") && !is_done(in_order.database("mysql").unwrap(), "lxc1"));
}
