//! Where each server stands now: asked on its own node, all at once. What the agents publish is of the last election.

use promotable::operator::Standing;

use crate::picture::{Database, Picture};
use crate::remote;

/// The picture with what the servers of one database say, or of all. Each node has the same limit, and the databases have it together.
pub(crate) fn asked(mut picture: Picture, name: Option<&str>) -> Picture {
    let wanted = |database: &&mut Database| name.is_none_or(|name| database.name == name || database.clone == name);
    std::thread::scope(|scope| {
        for database in picture.databases.iter_mut().filter(wanted) {
            scope.spawn(move || ask(database));
        }
    });
    picture
}

fn ask(database: &mut Database) {
    let nodes: Vec<String> = database.members.iter().filter(|member| member.runs()).map(|member| member.node.clone()).collect();
    let answers = remote::ask(&nodes, &["systole", "here", "standing", "--", &database.name], remote::LIMIT);
    let read = |text: String| {
        serde_json::from_str::<Standing>(&text).map_err(|e| format!("answers something else (is systole of the same version there?): {e}"))
    };
    database.hear(answers.into_iter().map(|(node, answer)| (node, answer.and_then(read))).collect());
}
