//! What the agent's account has to be granted. Pure.

use crate::dialect::Dialect;
use crate::rewind;

/// The privileges on the schema of a rewind: what the account may not see there would look as if it were not there.
const ON_OURS: [&str; 4] = ["CREATE", "DROP", "INSERT", "SELECT"];

/// What an account was granted, by the lines of `SHOW GRANTS`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    /// On `*.*`.
    everywhere: Vec<String>,
    /// On the schema of a rewind.
    on_ours: Vec<String>,
    /// Taken back for some schema of users, of what is granted on `*.*` (MySQL, `partial_revokes`).
    revoked: Vec<String>,
}

/// The servers' own schemas: nothing is taken back there.
const OF_SERVERS: [&str; 3] = ["mysql.*", "sys.*", "performance_schema.*"];

impl Granted {
    pub(crate) fn of<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut granted = Self::default();
        for line in lines {
            let Some((list, on)) = line.split_once(' ').and_then(|(_, rest)| rest.split_once(" ON ")) else { continue };
            let Some((place, _)) = on.split_once(" TO ").or_else(|| on.split_once(" FROM ")) else { continue };
            let list = list.split(',').map(|privilege| privilege.trim().to_owned());
            // The quotes depend on sql_mode.
            let place = place.replace(['`', '"'], "");
            if line.starts_with("REVOKE ") {
                granted.revoked.extend(list.filter(|_| !OF_SERVERS.contains(&place.as_str())));
            } else if place == "*.*" {
                granted.everywhere.extend(list);
            } else if place.replace('\\', "") == format!("{}.*", rewind::SCHEMA) {
                granted.on_ours.extend(list);
            }
        }
        granted
    }

    fn everywhere(&self, privilege: &str) -> bool {
        self.everywhere.iter().any(|one| one == privilege || one == "ALL PRIVILEGES") && !self.revoked.iter().any(|one| one == privilege)
    }

    fn on_ours(&self, privilege: &str) -> bool {
        self.everywhere(privilege) || self.on_ours.iter().any(|one| one == privilege || one == "ALL PRIVILEGES")
    }

    fn lacks(&self, wanted: &[&[&'static str]]) -> Vec<&'static str> {
        wanted.iter().filter(|any| !any.iter().any(|one| self.everywhere(one))).filter_map(|any| any.first().copied()).collect()
    }

    /// What the agent needs in any case and is not granted, with commas between.
    pub(crate) fn missing(&self, dialect: &Dialect) -> Option<String> {
        let missing = self.lacks(dialect.privileges());
        (!missing.is_empty()).then(|| missing.join(", "))
    }

    /// What taking back needs besides and is not granted, with the statements that grant it.
    pub(crate) fn missing_to_take_back(&self, dialect: &Dialect, user: &str) -> Option<String> {
        let everywhere = self.lacks(dialect.privileges_to_take_back());
        let on_ours: Vec<&str> = ON_OURS.into_iter().filter(|one| !self.on_ours(one) && !everywhere.contains(one)).collect();
        let on = [(everywhere, "*.*".to_owned()), (on_ours, ours())];
        let on: Vec<(String, String)> =
            on.into_iter().filter(|(all, _)| !all.is_empty()).map(|(all, place)| (all.join(", "), place)).collect();
        if on.is_empty() {
            return None;
        }
        let lacks: Vec<String> = on.iter().map(|(all, place)| format!("{all} on {place}")).collect();
        let grants: Vec<String> = on.iter().map(|(all, place)| format!("GRANT {all} ON {place} TO {user}@localhost")).collect();
        Some(format!(
            "the account {user} lacks what taking back needs ({}): {}, as in mysql-accounts-*.sql",
            lacks.join("; "),
            grants.join("; ")
        ))
    }
}

/// The schema of a rewind as a grant names it: an underscore alone is any character.
fn ours() -> String {
    format!("`{}`.*", rewind::SCHEMA.replace('_', "\\_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Row;

    fn dialect(variable: &str) -> Dialect {
        Dialect::of(&[Row::from([("variable_name".to_owned(), variable.to_owned())])]).unwrap()
    }

    #[test]
    fn what_is_not_granted_is_named() {
        let missing = |text: &str| Granted::of([text]).missing(&Dialect::unknown());
        assert_eq!(missing("GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"), None);
        assert_eq!(
            missing("GRANT RELOAD, PROCESS, SUPER, REPLICATION CLIENT ON *.* TO `systole`@`localhost`").as_deref(),
            Some("REPLICATION SLAVE")
        );
        assert!(missing("GRANT ALL PRIVILEGES ON `load`.* TO `x`@`%`").is_some_and(|missing| missing.contains("SUPER")));
    }

    #[test]
    fn what_taking_back_needs_is_named_in_the_servers_words() {
        let mariadb = dialect("gtid_binlog_state");
        let lacks = |lines: &[&str]| Granted::of(lines.iter().copied()).missing_to_take_back(&mariadb, "systole");
        let whole = "GRANT BINLOG ADMIN, BINLOG REPLAY, SELECT, REFERENCES ON *.* TO `systole`@`localhost`";
        assert_eq!(lacks(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` IDENTIFIED VIA unix_socket WITH GRANT OPTION"]), None);
        for ours in [r"`systole\_rewind`", "`systole_rewind`", r#""systole\_rewind""#] {
            assert_eq!(lacks(&[whole, &format!("GRANT INSERT, CREATE, DROP ON {ours}.* TO `systole`@`localhost`")]), None, "{ours}");
        }
        assert_eq!(lacks(&[whole, r"GRANT ALL PRIVILEGES ON `systole\_rewind`.* TO `systole`@`localhost`"]), None);
        let said = lacks(&[&whole.replace("BINLOG REPLAY, ", ""), "GRANT ALL PRIVILEGES ON `t`.* TO `systole`@`localhost`"]).unwrap();
        assert!(
            said.starts_with(r"the account systole lacks what taking back needs (BINLOG REPLAY on *.*; CREATE, DROP, INSERT on "),
            "{said}"
        );
        let grants =
            r"GRANT BINLOG REPLAY ON *.* TO systole@localhost; GRANT CREATE, DROP, INSERT ON `systole\_rewind`.* TO systole@localhost";
        assert!(said.contains(grants), "{said}");
    }

    /// A table that it may not see looks as if it were not there, and so does the foreign key that it has.
    #[test]
    fn what_is_revoked_for_a_schema_is_not_granted() {
        let lacks = |revoked: &str| {
            Granted::of(["GRANT ALL PRIVILEGES ON *.* TO `x`@`localhost`", revoked]).missing_to_take_back(&Dialect::unknown(), "x")
        };
        assert!(lacks("REVOKE SELECT ON `shop`.* FROM `x`@`localhost`").is_some_and(|said| said.contains("GRANT SELECT ON *.*")));
        assert_eq!(lacks("REVOKE SELECT, INSERT ON `mysql`.* FROM `x`@`localhost`"), None);
    }

    #[test]
    fn an_old_account_of_mysql_that_is_super_is_enough() {
        let mysql = Dialect::of(
            &["gtid_executed", "super_read_only", "caching_sha2_password_auto_generate_rsa_keys"]
                .map(|name| Row::from([("variable_name".to_owned(), name.to_owned())])),
        )
        .unwrap();
        let lacks =
            |list: &str| Granted::of([format!("GRANT {list} ON *.* TO `x`@`localhost`").as_str()]).missing_to_take_back(&mysql, "x");
        assert_eq!(lacks("SELECT, INSERT, CREATE, DROP, SUPER, REFERENCES"), None);
        assert!(lacks("SELECT, INSERT, CREATE, DROP, REFERENCES").is_some_and(|said| said.contains("GRANT BINLOG_ADMIN ON *.*")));
    }
}
