//! The account that a server runs under, and what is done with its rights.

use std::cell::OnceCell;
use std::time::Duration;

use ocf::Failure;
use process::{Account, Files, Identity};

/// The account of the parameter `user`, looked up when it is needed first, and once.
#[derive(Debug)]
pub struct ServerAccount {
    user: String,
    found: OnceCell<Account>,
}

impl ServerAccount {
    /// The account of this name.
    pub fn named(user: &str) -> Self {
        Self { user: user.to_owned(), found: OnceCell::new() }
    }

    /// Who it is.
    ///
    /// # Errors
    /// When there is none of that name on this node, or the user database does not answer. The next call asks again.
    pub fn get(&self) -> Result<&Account, Failure> {
        if let Some(known) = self.found.get() {
            return Ok(known);
        }
        let found = process::find_account(&self.user, Duration::ZERO)?;
        Ok(self.found.get_or_init(|| found))
    }

    /// Whose rights it takes to find the server and to talk to it: the account's. A server that runs must be found, and be stopped, also
    /// when the user database does not answer, or the parameter is wrong: then it is who we are.
    pub fn or_own(&self) -> Account {
        self.get().map_or_else(|_| Account::own(), Clone::clone)
    }

    /// Touches what the account controls, with its rights.
    ///
    /// # Errors
    /// What `work` says, and why the account is not known.
    pub fn files<T>(&self, work: impl FnOnce(&Files<'_>) -> std::io::Result<T>) -> std::io::Result<T> {
        self.get().map_err(|failure| std::io::Error::other(failure.reason))?.act(work)
    }

    /// Why a server that somebody else started is not taken charge of: whoever comes into it is root.
    pub fn refusal_of_root(&self, server: &Identity) -> Option<String> {
        (server.user() == Some(0)).then(|| {
            format!(
                "the server (pid {}) runs as root, and somebody else started it: stop it, so that the cluster starts it as user {}",
                server.pid, self.user
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_looked_up_once_and_one_that_is_missing_again() {
        let root = ServerAccount::named("root");
        assert_eq!(root.get().unwrap().uid, 0);
        assert!(std::ptr::eq(root.get().unwrap(), root.get().unwrap()));
        let missing = ServerAccount::named("no-such-user");
        for _ in 0..2 {
            assert!(missing.get().unwrap_err().reason.contains("no-such-user does not exist"));
        }
    }

    /// A typing error in the parameter must not keep a server from being stopped, and root touches nothing in its place.
    #[test]
    fn without_an_account_a_server_is_found_and_nothing_is_touched() {
        let missing = ServerAccount::named("no-such-user");
        assert_eq!(missing.or_own().uid, Account::own().uid);
        let touched = std::cell::Cell::new(0);
        let error = missing.files(|_| Ok(touched.replace(1))).unwrap_err();
        assert!(error.to_string().contains("no-such-user") && touched.get() == 0);
    }

    #[test]
    fn a_server_of_roots_is_refused_with_the_user_that_it_is_to_have() {
        let me = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let refusal = ServerAccount::named("mysql").refusal_of_root(&me);
        assert_eq!(refusal.is_some(), me.user() == Some(0));
        assert!(refusal.is_none_or(|why| why.contains("as user mysql")));
    }
}
