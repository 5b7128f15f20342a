//! What the operator's command asks of the server on this node, and has done there: by the agent's own login and with the account's rights.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocf::Values;
use promotable::operator::{self, Standing};

use crate::agent::MySql;
use crate::dialect::{self, Row};
use crate::election::{Position, Unfit};
use crate::gtid::{Flavour, Gtids};
use crate::params::{self, Params};
use crate::rewind::{Limits, Tail};
use crate::server::{Fault, Server};

/// What all that is asked may take.
const ANSWER: Duration = Duration::from_secs(5);
/// What reading the log and printing it may take.
const READING: Duration = Duration::from_secs(25);
/// How much of a log is shown. What a crash leaves is a few transactions.
const SHOWN: Limits = Limits { transactions: 500, bytes: 4 << 20, rows: usize::MAX };

/// What only this server holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlyHere {
    /// The names of the transactions, `None` when there are none.
    pub names: Option<String>,
    /// Those that the binary log still has, in its order.
    pub found: Vec<String>,
    /// What they did, as the server's own tool prints it, without passwords.
    pub statements: String,
    /// Why the log does not say it.
    pub unread: Option<String>,
    /// Where the binary logs are that were kept before a copy was made, when there are any.
    pub kept: Option<PathBuf>,
    /// How many transactions were taken back here and are kept, and where.
    pub taken_back: Option<(usize, PathBuf)>,
}

/// A transaction that has written and is not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writing {
    /// The session's number.
    pub session: u64,
    /// Whose it is.
    pub user: String,
    /// From where.
    pub host: String,
    /// Since when, in seconds.
    pub seconds: u64,
    /// How many rows it has changed.
    pub rows: u64,
}

/// The agent of a resource on this node, outside of any action.
pub struct Here {
    pub(super) agent: MySql,
    /// The connection on which a drill's markers are written.
    pub(super) writing: Option<Server>,
}

impl Here {
    /// That of this resource with these parameters, as they stand in the CIB.
    ///
    /// # Errors
    /// When a parameter is wrong.
    pub fn of(resource: &str, parameters: &BTreeMap<String, String>) -> Result<Self, String> {
        Self::lasting(resource, parameters, READING)
    }

    /// The same for one that is asked for longer than a question takes.
    ///
    /// # Errors
    /// When a parameter is wrong.
    pub fn lasting(resource: &str, parameters: &BTreeMap<String, String>, limit: Duration) -> Result<Self, String> {
        let context = operator::context(resource, parameters, limit);
        let values = Values::read(params::ALL, &context.environment).map_err(|failure| failure.reason)?;
        Ok(Self { agent: MySql::with(&context, Params::new(&values)), writing: None })
    }

    pub(super) fn connect(&self) -> Result<Server, String> {
        self.try_to_connect().map_err(|fault| fault.to_string())
    }

    pub(super) fn try_to_connect(&self) -> Result<Server, Fault> {
        self.agent.connect(None, ANSWER)
    }

    /// Where the server stands.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn standing(&self) -> Result<Standing, String> {
        let mut server = self.connect();
        if let Some(rejoining) = self.agent.rejoin_told(server.as_mut().ok()) {
            // Its data are neither the old nor the new ones.
            return Ok(Standing { position: None, seconds: None, rejoining: Some(rejoining) });
        }
        let mut server = server?;
        let executed = server.executed().map_err(|fault| fault.to_string())?;
        let replica = server.replica().map_err(|fault| fault.to_string())?;
        let (received, seconds) = replica.map_or((None, None), |replica| (replica.received, replica.behind));
        let position = Position { executed, received, unfit: None, ..Position::nowhere(operator::NO_ROUND, Unfit::NoServer) };
        Ok(Standing { position: Some(position.print()), seconds, rejoining: None })
    }

    /// The transactions that the server holds.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn held(&self) -> Result<String, String> {
        self.connect()?.executed().map(|set| set.to_string()).map_err(|fault| fault.to_string())
    }

    /// How far it is behind the server that it follows, in seconds. `None` when it follows nobody, or does not know.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn behind(&self) -> Result<Option<u64>, String> {
        let replica = self.connect()?.replica().map_err(|fault| fault.to_string())?;
        Ok(replica.and_then(|replica| replica.behind))
    }

    /// The transactions that have written and are not committed, the oldest first.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn writing(&self) -> Result<Vec<Writing>, String> {
        let mut server = self.connect()?;
        let transactions = server.rows(dialect::WRITING).map_err(|fault| fault.to_string())?;
        let sessions = server.rows(server.dialect().sessions()).map_err(|fault| fault.to_string())?;
        let mut all: Vec<Writing> = transactions.iter().filter_map(|row| writing(row, &sessions)).collect();
        all.sort_by_key(|transaction| std::cmp::Reverse(transaction.seconds));
        Ok(all)
    }

    /// What the server held and one that holds `others` does not. `held`: what it said to hold before the other one was asked, in the
    /// place of what it holds now. A replica that follows has got more since, which the other one had by then.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn only_here(&self, others: &str, held: Option<&str>) -> Result<OnlyHere, String> {
        let mut server = self.connect()?;
        let flavour = server.dialect().flavour;
        let others = Gtids::parse(others, flavour)?;
        let mine = match held {
            Some(held) => Gtids::parse(held, flavour)?,
            None => server.executed().map_err(|fault| fault.to_string())?,
        };
        let kept_of_it = OnlyHere { kept: self.agent.kept_logs(), taken_back: self.agent.kept_transactions(), ..OnlyHere::default() };
        let Some(names) = mine.difference(&others) else { return Ok(kept_of_it) };
        let places = server.places().map_err(|fault| fault.to_string())?;
        drop(server);
        let index = places.get("log_bin_basename").map(|base| base.with_file_name(format!("{}.index", name_of(base))));
        let nothing = OnlyHere { names: Some(names), ..kept_of_it };
        let Some(index) = index else { return Ok(OnlyHere { unread: Some("the server keeps no binary log".into()), ..nothing }) };
        let is_common = |gtid: &str| Gtids::parse(gtid, flavour).is_ok_and(|one| !is_only_in(&one, &mine, &others));
        let tail = match self.agent.files(|files| Ok(Tail::read(files, &index, SHOWN, &is_common))) {
            Ok(Ok(tail)) => tail,
            Ok(Err(refusal)) => return Ok(OnlyHere { unread: Some(refusal.to_string()), ..nothing }),
            Err(e) => return Ok(OnlyHere { unread: Some(format!("{}: {e}", index.display())), ..nothing }),
        };
        let found = tail.gtids().map(str::to_owned).collect();
        Ok(match self.printed(flavour, &tail) {
            Ok(statements) => OnlyHere { found, statements: without_secrets(&statements), ..nothing },
            Err(why) => OnlyHere { found, unread: Some(why), ..nothing },
        })
    }

    /// What the server's own tool makes of them. It runs as the server's user: what it reads is that user's.
    fn printed(&self, flavour: Flavour, tail: &Tail) -> Result<String, String> {
        if tail.transactions.is_empty() {
            return Ok(String::new());
        }
        let account = self.agent.account().map_err(|failure| failure.reason)?;
        let directory = self.agent.volatile_file(&format!("diverged-{}", std::process::id()));
        process::own::make_directory_for(account.uid, account.gid, &directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        let printed = self.print_from(flavour, tail, &directory);
        let parent = directory.parent().unwrap_or(Path::new("/run"));
        let _ = self.agent.files(|files| files.directory(&directory)?.empty());
        let removed = process::Account::own().act(|files| files.directory(parent)?.remove_all(directory.file_name().unwrap_or_default()));
        printed.and_then(|text| removed.map(|()| text).map_err(|e| format!("{} cannot be removed: {e}", directory.display())))
    }

    fn print_from(&self, flavour: Flavour, tail: &Tail, directory: &Path) -> Result<String, String> {
        let account = self.agent.account().map_err(|failure| failure.reason)?;
        let mut paths = Vec::new();
        for (number, transaction) in tail.transactions.iter().enumerate() {
            let path = directory.join(format!("{number:04}"));
            self.agent.files(|files| files.write(&path, &transaction.as_log(), 0o600)).map_err(|e| format!("{}: {e}", path.display()))?;
            paths.push(path.display().to_string());
        }
        let programs: &[&str] =
            if flavour == Flavour::MariaDb { &["mariadb-binlog", "mysqlbinlog"] } else { &["mysqlbinlog", "mariadb-binlog"] };
        let arguments: Vec<&str> =
            ["--no-defaults", "-v", "--base64-output=decode-rows"].into_iter().chain(paths.iter().map(String::as_str)).collect();
        let mut failure = String::new();
        for program in programs {
            match process::run_as(account, program, &arguments, READING) {
                Ok(done) if done.status.success() => return Ok(done.stdout),
                Ok(done) => failure = format!("{program} ended with {}: {}", done.status, done.stderr.lines().last().unwrap_or_default()),
                Err(e) => failure = e.to_string(),
            }
        }
        Err(failure)
    }

    /// Whether a copy of the primary's data is to be made here, or is not whole yet.
    #[must_use]
    pub fn copy_is_unfinished(&self) -> bool {
        self.agent.rejoin_is_unfinished()
    }

    /// How far the server is where it is made to follow, by a copy or by taking back. `None` where nothing is under way.
    #[must_use]
    pub fn rejoining(&self) -> Option<String> {
        self.agent.rejoin_told(self.connect().as_mut().ok())
    }

    /// Why it is not made to follow, where that was tried and came to nothing.
    #[must_use]
    pub fn not_rejoined(&self) -> Option<String> {
        self.agent.not_rejoined(None)
    }

    /// Has the next start of this instance make a copy of the primary's data. The instance must not run.
    ///
    /// # Errors
    /// When no copy is made by this configuration, when the server runs, or when the note of it cannot be written.
    pub fn order_copy(&self) -> Result<(), String> {
        if !self.agent.params.rejoin.copies() {
            return Err("rejoin has neither clone nor rewind-or-clone, so no copy would be made".into());
        }
        if self.agent.find_server(None).is_some() {
            return Err("its server runs".into());
        }
        self.agent.note_to_copy().map_err(|failure| failure.reason)
    }
}

/// Whether a transaction is of the one set and not of the other. What came after both were asked is of neither.
fn is_only_in(one: &Gtids, mine: &Gtids, others: &Gtids) -> bool {
    mine.contains(one) && !others.contains(one)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn writing(row: &Row, sessions: &[Row]) -> Option<Writing> {
    let number = |name: &str| row.get(name).and_then(|value| value.parse().ok());
    let session: u64 = number("session")?;
    let of_it = sessions.iter().find(|other| other.get("id").and_then(|id| id.parse().ok()) == Some(session))?;
    let column = |name: &str| of_it.get(name).cloned().unwrap_or_default();
    dialect::is_client(of_it).then(|| Writing {
        session,
        user: column("user"),
        host: column("host"),
        seconds: number("seconds").unwrap_or_default(),
        rows: number("written").unwrap_or_default(),
    })
}

/// The words after which a statement may hold a password, or what is made of one.
const BEFORE_SECRETS: [&str; 2] = ["identified", "password"];

/// How a statement ends in what the server's tool prints.
const END: &str = "/*!*/;";

/// Without what may be a password: texts in statements about accounts, and values of the server's own tables.
fn without_secrets(text: &str) -> String {
    let (mut own_table, mut statement) = (false, Statement::default());
    text.lines()
        .map(|line| {
            let row = line.strip_prefix("### ").filter(|_| statement.quote.is_none());
            if let Some(row) = row {
                if let Some(table) = ["INSERT INTO ", "UPDATE ", "DELETE FROM "].iter().find_map(|verb| row.strip_prefix(verb)) {
                    own_table = table.starts_with("`mysql`.");
                }
                let value = row.trim_start().starts_with('@').then(|| line.split_once('=')).flatten();
                return match value {
                    Some((column, _)) if own_table => format!("{column}=***\n"),
                    _ => format!("{line}\n"),
                };
            }
            if line.starts_with('#') && statement.quote.is_none() {
                statement = Statement::default();
                return format!("{line}\n");
            }
            statement.shown(line)
        })
        .collect()
}

/// How far a statement has been read, which may have many lines.
#[derive(Debug, Default)]
struct Statement {
    /// A word has come after which a text may be a password.
    secret: bool,
    /// What ends the text between quotes that goes on in the next line.
    quote: Option<char>,
}

impl Statement {
    /// A line with asterisks in the place of each text that may be a password.
    fn shown(&mut self, line: &str) -> String {
        let (mut out, mut chars, mut plain) = (String::new(), line.chars(), String::new());
        // A text that begins in another line is hidden whole: the word may stand there.
        let mut continued = self.quote.is_some();
        loop {
            if let Some(quote) = self.quote {
                let (inner, closed) = quoted(&mut chars, quote);
                // What is called by the word is a column, and its values follow.
                self.secret |= quote == '`' && names_secret(&inner);
                let hidden = self.secret || continued || !closed || names_secret(&inner);
                out.push_str(if quote != '`' && hidden { "***" } else { &inner });
                continued = false;
                if !closed {
                    break;
                }
                out.push(quote);
                self.quote = None;
            }
            let Some(c) = chars.next() else { break };
            out.push(c);
            plain.push(c);
            if matches!(c, '\'' | '"' | '`') {
                self.quote = Some(c);
                self.secret |= names_secret(&plain);
            }
        }
        self.secret |= names_secret(&plain);
        if self.quote.is_none() && line.trim_end().ends_with(END) {
            *self = Self::default();
        }
        out + "\n"
    }
}

fn names_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    BEFORE_SECRETS.iter().any(|word| lower.contains(word))
}

/// What stands up to the closing quote, and whether there is one.
fn quoted(chars: &mut std::str::Chars<'_>, quote: char) -> (String, bool) {
    let mut inner = String::new();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != '`' => inner.extend([Some(c), chars.next()].into_iter().flatten()),
            c if c == quote => return (inner, true),
            c => inner.push(c),
        }
    }
    (inner, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_log_holds_no_password() {
        let log = "#700101  0:00:00 server id 1  GTID 0-1-9 ddl password='x'\n\
                   CREATE USER 'u'@'%' IDENTIFIED BY 'it\\'s secret', 'v' IDENTIFIED WITH 'p' AS \"*HASH\"\n\
                   ### INSERT INTO `mysql`.`global_priv`\n### SET\n###   @1='%'\n###   @3='{\"authentication_string\":\"*HASH\"}'\n\
                   ### INSERT INTO `shop`.`orders`\n### SET\n###   @1=7\n###   @2='it is of a=customer'\n\
                   SET PASSWORD FOR u = PASSWORD('secret\n";
        let shown = without_secrets(log);
        assert!(!shown.contains("secret") && !shown.contains("HASH"), "{shown}");
        assert!(shown.contains("CREATE USER 'u'@'%' IDENTIFIED BY '***', '***' IDENTIFIED WITH '***' AS \"***\"\n"), "{shown}");
        assert!(shown.contains("###   @3=***\n") && shown.contains("###   @2='it is of a=customer'\n"), "{shown}");
        assert!(shown.starts_with("#700101") && shown.contains("GTID 0-1-9"), "{shown}");
    }

    #[test]
    fn what_came_after_both_were_asked_is_only_in_neither() {
        for (mine, others, only, not) in [
            ("0-1-50,0-3-51", "0-1-60", "0-3-51", ["0-1-50", "0-1-61", "0-3-52"]),
            (
                "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7",
                "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-6",
                "3e11fa47-71ca-11e1-9e33-c80aa9429562:7",
                [
                    "3e11fa47-71ca-11e1-9e33-c80aa9429562:6",
                    "3e11fa47-71ca-11e1-9e33-c80aa9429562:8",
                    "3e11fa47-71ca-11e1-9e33-c80aa9429563:1",
                ],
            ),
        ] {
            let [mine, others] = [mine, others].map(|text| Gtids::parse_any(text).unwrap());
            let is = |gtid: &str| is_only_in(&Gtids::parse_any(gtid).unwrap(), &mine, &others);
            assert!(is(only), "{only}");
            not.iter().for_each(|gtid| assert!(!is(gtid), "{gtid}"));
        }
    }

    /// A statement is as a client typed it, and may have line ends wherever it likes.
    #[test]
    fn a_password_is_hidden_on_whatever_line_of_its_statement_it_stands() {
        for statement in [
            "CREATE USER 'u'\n  IDENTIFIED BY\n  'hidden-1'\n/*!*/;",
            "CREATE USER 'u' IDENTIFIED BY 'two\nhidden-1\nlines'/*!*/;",
            "CREATE USER 'u' IDENTIFIED BY 'a\n### hidden-1\n# hidden-2'/*!*/;",
            "CREATE USER u COMMENT 'identified' IDENTIFIED BY 'hidden-1'\n/*!*/;",
            "INSERT INTO t (`password`)\nVALUES\n(\"hidden-1\")\n/*!*/;",
            "SELECT 'SET PASSWORD = hidden-1'/*!*/;",
            "SELECT 'a\nSET PASSWORD = hidden-1'/*!*/;",
            "SELECT 'SET PASSWORD =\nhidden-1'/*!*/;",
        ] {
            let shown = without_secrets(&format!("{statement}\nINSERT INTO t VALUES ('it is shown')\n/*!*/;\n"));
            assert!(!shown.contains("hidden") && shown.contains("INSERT INTO t VALUES ('it is shown')"), "{statement}\n{shown}");
        }
        let plain = "INSERT INTO `t` VALUES ('it\\'s \\\\', \"a\")\n/*!*/;\n";
        assert_eq!(without_secrets(plain), plain);
    }

    #[test]
    fn a_transaction_that_writes_is_a_clients() {
        let row = |pairs: &[(&str, &str)]| -> Row { pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect() };
        let transaction = row(&[("session", "7"), ("seconds", "301"), ("written", "12")]);
        let session = |user: &str| vec![row(&[("id", "7"), ("user", user), ("host", "app:3"), ("command", "Sleep")])];
        let found = writing(&transaction, &session("shop")).unwrap();
        assert_eq!((found.user.as_str(), found.seconds, found.rows), ("shop", 301, 12));
        assert_eq!(writing(&transaction, &session("system user")), None, "the applier");
        assert_eq!(writing(&transaction, &[]), None);
    }
}
