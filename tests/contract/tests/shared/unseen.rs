//! The agent cannot see, and the server serves: nobody is killed or banned for that.

use testkit::{Kind, NO_USER_DATABASE, NodeOf, after};

/// A directory service that is down is down for all nodes at once: nobody is banned for it.
pub(crate) fn a_user_database_that_does_not_answer_bans_no_node<K: Kind>() {
    let node = NodeOf::<K>::alone();
    let agent = node.agent().parameter("user", "somebody-else");
    let output = after(NO_USER_DATABASE, &agent.command(&["start"])).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("the user database of this node does not answer"), "{output:?}");
    agent.run("start").refused(5, &["user somebody-else does not exist on this node"]);
    // A server that runs is found all the same.
    node.start();
    let output = after(NO_USER_DATABASE, &agent.command(&["monitor"])).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 190)), "{output:?}");
}
