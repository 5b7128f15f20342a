//! A drill on the server of this node: markers in a table of systole's own, and a SIGKILL. By the agent's own login, over the socket.

use std::collections::BTreeSet;

use promotable::operator::{Marked, Marker, Practice, killed, marker_of};

use super::here::Here;
use crate::server::{Fault, Server};

/// The schema of the markers. Made and dropped by the drill.
const SCHEMA: &str = "systole_drill";
/// By this the table is known for ours.
const COMMENT: &str = "markers of systole drill";
/// What the agent's account needs.
const GRANTS: &str = "GRANT CREATE, DROP, INSERT, SELECT ON systole_drill.* TO";
/// What a server says that is closed for writes.
const READ_ONLY: [u16; 2] = [1290, 1836];

/// What is in the schema, as far as the account sees it.
const CONTENTS: &str = "SELECT table_name AS name, table_comment AS note FROM information_schema.tables WHERE table_schema = 'systole_drill' \
     UNION ALL SELECT routine_name, '' FROM information_schema.routines WHERE routine_schema = 'systole_drill' \
     UNION ALL SELECT event_name, '' FROM information_schema.events WHERE event_schema = 'systole_drill'";

/// The statement that writes a marker. An administrator's session may write on a MariaDB that is closed, so the server itself has to look: a
/// statement that has begun holds `SET GLOBAL read_only` up until it is committed, and one that begins later inserts no row.
fn writing(name: &str) -> String {
    format!("INSERT INTO {SCHEMA}.marker (name) SELECT '{name}' FROM DUAL WHERE @@GLOBAL.read_only = 0")
}

/// The statements that make the table.
fn making() -> [String; 2] {
    [
        format!("CREATE DATABASE IF NOT EXISTS {SCHEMA}"),
        // The length of a key of InnoDB before MySQL 5.7 and MariaDB 10.2, with one byte a letter.
        format!(
            "CREATE TABLE {SCHEMA}.marker (name VARCHAR(700) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY) ENGINE=InnoDB \
             COMMENT='{COMMENT}'"
        ),
    ]
}

/// What is in the schema that no drill has made. `contents`: name and comment of each.
fn of_others<'a>(contents: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<&'a str> {
    contents.into_iter().find(|(name, comment)| (*name, *comment) != ("marker", COMMENT)).map(|(name, _)| name)
}

/// A name that needs no quoting within quotes.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte))
}

impl Here {
    /// The server, where it takes writes.
    fn open(&self) -> Result<Server, String> {
        let mut server = self.connect()?;
        let seen = server.observe().map_err(|fault| fault.to_string())?;
        if seen.closed_for_applications {
            return Err("its server takes no writes (read_only is on): see who is promoted with: systole status".into());
        }
        Ok(server)
    }

    /// Whether there is something of ours in the schema.
    fn ours(server: &mut Server) -> Result<bool, String> {
        let rows = server.rows(CONTENTS).map_err(|fault| fault.to_string())?;
        let column = |row: &'_ crate::dialect::Row, name: &str| row.get(name).cloned().unwrap_or_default();
        let contents: Vec<(String, String)> = rows.iter().map(|row| (column(row, "name"), column(row, "note"))).collect();
        match of_others(contents.iter().map(|(name, note)| (name.as_str(), note.as_str()))) {
            Some(name) => Err(format!(
                "the schema {SCHEMA} holds {name}, which no drill has made: move it elsewhere, or drop it: DROP DATABASE {SCHEMA}"
            )),
            None => Ok(!contents.is_empty()),
        }
    }

    /// Drops what drills have made, where nothing else is in the schema.
    fn drop_markers(server: &mut Server) -> Result<(), String> {
        if Self::ours(server)? {
            server.run(&format!("DROP TABLE IF EXISTS {SCHEMA}.marker")).map_err(|fault| fault.to_string())?;
        }
        server.run(&format!("DROP DATABASE IF EXISTS {SCHEMA}")).map_err(|fault| fault.to_string())
    }

    fn write(&mut self, name: &str) -> Marked {
        let mut server = match self.writing.take().map_or_else(|| self.try_to_connect(), Ok) {
            Ok(server) => server,
            Err(fault) => return Marked::Refused(fault.to_string()),
        };
        let written = server.run(&writing(name)).and_then(|()| server.rows("SELECT ROW_COUNT() AS written"));
        let marked = judged(written.map(|rows| rows.first().and_then(|row| row.get("written")).is_some_and(|n| n == "1")));
        // What was not answered in time was the connection's last question.
        self.writing = Some(server).filter(Server::is_connected);
        marked
    }
}

/// What the answer means. `written`: whether a row was inserted.
fn judged(written: Result<bool, Fault>) -> Marked {
    match written {
        Ok(true) => Marked::Acknowledged,
        Ok(false) => Marked::Refused("its server takes no writes".into()),
        Err(Fault::Error(code, _)) if READ_ONLY.contains(&code) => Marked::Refused("its server takes no writes".into()),
        Err(fault @ (Fault::Silent(_) | Fault::Broken(_))) => Marked::Unknown(fault.to_string()),
        Err(fault) => Marked::Refused(fault.to_string()),
    }
}

impl Practice for Here {
    fn prepare(&self) -> Result<(), String> {
        let mut server = self.open()?;
        let made = Self::drop_markers(&mut server).and_then(|()| {
            let [schema, table] = making();
            server.run_all([schema, table]).map_err(|fault| fault.to_string())
        });
        let user = &self.agent.params.test_user;
        made.map_err(|why| {
            if why.contains("(error 1044)") || why.contains("lacks a privilege") {
                format!("the account {user} may not write markers: {GRANTS} {user}@localhost, on the primary")
            } else {
                why
            }
        })
    }

    fn mark(&mut self, name: &str, _confirmations: u64) -> Marked {
        if !is_plain(name) {
            return Marked::Refused(format!("{name:?} is no name of a marker"));
        }
        self.write(name)
    }

    fn held(&self, drill: &str, among: &[Marker]) -> Result<BTreeSet<Marker>, String> {
        if !is_plain(drill) {
            return Err(format!("{drill:?} is no name of a drill"));
        }
        let sql = format!("SELECT name FROM {SCHEMA}.marker WHERE name LIKE '{drill}:%'");
        let rows = self.connect()?.rows(&sql).map_err(|fault| fault.to_string())?;
        let found: BTreeSet<Marker> = rows.iter().filter_map(|row| marker_of(drill, row.get("name")?)).collect();
        Ok(among.iter().filter(|marker| found.contains(*marker)).cloned().collect())
    }

    fn forget(&self, _drill: &str, _among: &[Marker]) -> Result<(), String> {
        Self::drop_markers(&mut self.open()?)
    }

    fn kill(&self) -> Result<(), String> {
        drop(self.open()?);
        killed(self.agent.find_server(self.agent.state_file.load().server()))
    }
}

#[cfg(test)]
mod tests {
    use promotable::operator::marker_name;

    use super::*;

    #[test]
    fn a_marker_is_acknowledged_only_by_a_row_that_was_committed_and_what_was_not_answered_is_not_known() {
        assert_eq!(judged(Ok(true)), Marked::Acknowledged);
        assert!(matches!(judged(Ok(false)), Marked::Refused(_)), "the server was closed when the statement began");
        assert!(matches!(judged(Err(Fault::Error(1290, "--read-only".into()))), Marked::Refused(why) if why.contains("takes no writes")));
        assert!(matches!(judged(Err(Fault::Silent("no answer".into()))), Marked::Unknown(_)));
        assert!(matches!(judged(Err(Fault::Broken("gone".into()))), Marked::Unknown(_)));
        assert!(matches!(judged(Err(Fault::Error(1146, "no such table".into()))), Marked::Refused(_)));
        assert!(writing("d:lxc1:7").ends_with("WHERE @@GLOBAL.read_only = 0"), "an administrator may write on a closed MariaDB");
    }

    #[test]
    fn a_schema_with_anything_else_in_it_is_somebody_elses() {
        assert_eq!(of_others([("marker", COMMENT)]), None);
        assert_eq!(of_others([]), None);
        assert_eq!(of_others([("marker", "")]), Some("marker"), "somebody's table of the same name");
        assert_eq!(of_others([("marker", COMMENT), ("orders", "")]), Some("orders"));
    }

    #[test]
    fn a_name_that_would_have_to_be_quoted_is_none() {
        assert!(is_plain(&marker_name("20261130-4711", &("lxc1.example".into(), 7))));
        assert!(!is_plain("x' OR '1") && !is_plain("a%") && !is_plain("a\\"));
    }
}
