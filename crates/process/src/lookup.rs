//! Who a user is, and what it means when nobody says so.

use std::time::{Duration, Instant};

use crate::{Account, DaemonError};

/// How often somebody who does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Why an account is not known. The two are not the same to a cluster: for the first a node is left alone until an operator has made
/// the account, the second passes by itself, and happens on all nodes at once.
#[derive(Debug, thiserror::Error)]
pub enum UnknownAccount {
    /// There is none of that name.
    #[error("user {0} does not exist on this node: create it, or set the parameter user")]
    Missing(String),
    /// The user database did not answer: a directory service that is down, as a rule.
    #[error("user {name} cannot be looked up, the user database of this node does not answer ({why}): getent passwd {name}")]
    Unanswered {
        /// The user.
        name: String,
        /// What the system says.
        why: String,
    },
}

impl UnknownAccount {
    /// Whether it is certain that there is no such user.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// Looks a user up, at most for `limit` as long as nobody answers, and at least once.
///
/// # Errors
/// When there is none of that name, or nobody has answered.
pub fn find_account(name: &str, limit: Duration) -> Result<Account, UnknownAccount> {
    let until = Instant::now() + limit;
    loop {
        let why = match Account::find(name) {
            Ok(account) => return Ok(account),
            Err(DaemonError::NoSuchUser(name)) => return Err(UnknownAccount::Missing(name)),
            Err(DaemonError::Lookup(_, errno)) => errno.desc().to_owned(),
            Err(other) => other.to_string(),
        };
        if Instant::now() + AGAIN >= until {
            return Err(UnknownAccount::Unanswered { name: name.to_owned(), why });
        }
        std::thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where nobody answers is shown by a contract test: it takes a broken user database.
    #[test]
    fn a_user_is_there_or_certainly_not() {
        assert_eq!(find_account("root", Duration::ZERO).unwrap().uid, 0);
        let begin = Instant::now();
        let missing = find_account("no-such-user", Duration::from_secs(60)).unwrap_err();
        assert!(missing.is_missing() && begin.elapsed() < Duration::from_secs(30), "{missing}");
    }
}
