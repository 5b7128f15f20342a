//! `validate-all`, and settings without which the clone cannot work.

use testkit::{GroupOf, Kind, NodeOf};

pub(crate) fn validate_at_level_0_looks_at_this_node_only<K: Kind>() {
    let node = NodeOf::<K>::alone();
    node.agent().run("validate-all").ok();
    let group = GroupOf::<K>::of(&["a"]);
    group.node("a").agent().meta("notify", "false").run("validate-all").ok();
}

pub(crate) fn validate_at_level_10_demands_notify<K: Kind>() {
    let group = GroupOf::<K>::of(&["a"]);
    let agent = group.node("a").agent().variable("OCF_CHECK_LEVEL", "10");
    agent.run("validate-all").ok();
    agent.clone().meta("notify", "false").run("validate-all").refused(6, &["notify=true"]);
    agent.without("OCF_RESKEY_CRM_meta_notify").run("validate-all").refused(6, &["notify=true"]);
}

pub(crate) fn a_clone_without_notify_does_not_start<K: Kind>() {
    let group = GroupOf::<K>::of(&["a"]);
    group.node("a").agent().meta("notify", "false").run("start").refused(6, &["notify=true"]);
    assert!(group.node("a").servers().is_empty());
}

pub(crate) fn a_start_without_fencing_tells_what_that_means<K: Kind>() {
    let group = GroupOf::<K>::of(&["a"]);
    let a = group.node("a");
    a.agent().run("start").ok();
    assert!(!a.log().contains("fencing"), "it is on without a word");
    a.agent().run("stop").ok();
    group.cluster.set_property("stonith-enabled", "false");
    a.agent().run("start").ok();
    assert!(a.log().contains("has no fencing"));
}
