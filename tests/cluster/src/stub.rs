//! The stub: a cluster whose agent and server do nothing, in the place of one of ours. Owns its snippet, its load, and when it is whole.

use lab::{Database, LoadOptions, Node};

use crate::site::Site;
use crate::{Kind, MARIADB, MYSQL, REDIS, Server};

/// In the place of Redis.
pub const IN_PLACE_OF_REDIS: Server = Server { kind: Kind::Stub, process: PROCESS, image: None, ..REDIS };
/// In the place of MariaDB.
pub const IN_PLACE_OF_MARIADB: Server = Server { kind: Kind::Stub, process: PROCESS, image: None, ..MARIADB };
/// In the place of MySQL 9.7, on its nodes.
pub const IN_PLACE_OF_MYSQL: Server = Server { image: MYSQL.image, ..IN_PLACE_OF_MARIADB };
/// The agent, as Pacemaker calls it.
pub const AGENT: &str = "ocf:bench:stub";
/// Where its program belongs in a node.
pub const PLACE: &str = "usr/lib/ocf/resource.d/bench/stub";
/// Its server's command line.
const PROCESS: &str = "stub serve";

fn database(server: Server) -> Database {
    if server.resource == REDIS.resource { Database::Redis } else { Database::MySql }
}

/// The snippet with the stub in it: clone, notifications, addresses and constraints stay as they are.
pub(crate) fn edited(snippet: &str, server: Server) -> String {
    let port = database(server).port();
    let edit = |line: &str| {
        if line.trim_start().starts_with("params config=") {
            return format!("    params port={port} \\");
        }
        line.replace(&format!("ocf:systole:{}", server.resource), AGENT)
    };
    // The parameters go on in a second line, which is ours alone.
    snippet.lines().filter(|line| !line.trim_start().starts_with("replication_user=")).map(edit).collect::<Vec<_>>().join("\n") + "\n"
}

/// The writers of Redis, through the address and the port of the server that it stands for.
pub(crate) fn load_options(server: Server) -> LoadOptions {
    let database = database(server);
    LoadOptions { address: database.address().to_owned(), probe_port: database.port(), ..LoadOptions::of(Database::Redis) }
}

/// Whether that many servers beside the primary's run, and the primary takes writes and has the address.
pub(crate) fn attached(site: &Site, primary: &Node, replicas: usize) -> bool {
    let server = site.server();
    let address = database(server).address();
    let address = address.split(':').next().unwrap_or_default();
    let open = primary.sh(&format!("test -e /run/resource-agents/stub-{}.promoted; ip -o addr show to {address}", server.resource));
    let running = site.lab.live_nodes().iter().filter(|node| !node.pids(server.process).is_empty()).count();
    open.is_ok_and(|o| o.stdout.contains(address)) && running > replicas
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_stub_stands_in_the_snippets_of_both_servers_and_nothing_else_changes() {
        for server in [IN_PLACE_OF_REDIS, IN_PLACE_OF_MARIADB] {
            let snippet = crate::snippet(&format!("{}.crm", server.resource)).unwrap();
            let stubbed = edited(&snippet, server);
            // Parameters that go on in a second line have no place in it.
            let lines: Vec<&str> = snippet.lines().filter(|line| !line.trim_start().starts_with("replication_user=")).collect();
            let changed: Vec<(&str, &str)> = lines.iter().copied().zip(stubbed.lines()).filter(|(a, b)| a != b).collect();
            assert_eq!(lines.len(), stubbed.lines().count());
            assert_eq!(changed.len(), 2, "{changed:?}");
            assert_eq!(changed[0].1, format!("primitive {} ocf:bench:stub \\", server.resource));
            assert!(changed[1].1.starts_with("    params port="), "{changed:?}");
        }
    }
}
