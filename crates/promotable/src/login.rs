//! The login that worked last. A password that somebody changed in one of two places must not make a server that serves look dead.

use std::path::{Path, PathBuf};

use ocf::Secret;
use serde::{Deserialize, Serialize};

/// Name and password of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The account; empty for the server's default.
    pub user: String,
    /// Its password, when it has one.
    pub password: Option<Secret>,
}

/// [`Login`] as it stands in the file.
#[derive(Serialize, Deserialize)]
struct InFile {
    user: String,
    password: Option<String>,
}

/// The login that the server accepted last, in a file that only root can read and every boot deletes.
///
/// It is tried before what the parameters say: after a change in one place only one of both is right, and nobody knows which.
#[derive(Debug)]
pub struct RememberedLogin {
    path: PathBuf,
}

impl RememberedLogin {
    /// That of a resource; `directory` is where its state stands.
    pub fn of(directory: &Path, resource: &str) -> Self {
        Self { path: directory.join(format!("systole-{resource}.login")) }
    }

    /// What worked last; `None` when nothing is known.
    pub fn load(&self) -> Option<Login> {
        let InFile { user, password } = serde_json::from_slice(&std::fs::read(&self.path).ok()?).ok()?;
        Some(Login { user, password: password.map(Secret::new) })
    }

    /// Remembers a login that worked. That it cannot be remembered keeps nobody from working with it.
    pub fn keep(&self, login: &Login) {
        let file = InFile { user: login.user.clone(), password: login.password.as_ref().map(|p| p.expose().to_owned()) };
        let Ok(bytes) = serde_json::to_vec(&file) else { return };
        if std::fs::read(&self.path).ok().as_ref() != Some(&bytes) {
            let _ = process::write_atomically(&self.path, &bytes, 0o600);
        }
    }
}

/// Tries the login that worked last, then the one that is given, and remembers which was accepted. `denied` tells a refused login from
/// any other fault: after another one there is nothing to be tried.
///
/// The one that worked last comes second when the account, `user`, has been changed since: then an operator wants the other.
/// `given` is asked only when it is needed: a password file that is missing for a moment does no harm.
///
/// # Errors
/// The fault of the attempt with the given login, which is what an operator can correct; or another one than a refusal.
pub fn with_login<T, F>(
    remembered: &RememberedLogin,
    user: &str,
    given: impl FnOnce() -> Result<Login, F>,
    attempt: impl Fn(&Login) -> Result<T, F>,
    denied: impl Fn(&F) -> bool,
) -> Result<T, F> {
    let last = remembered.load();
    if let Some(login) = last.as_ref().filter(|login| login.user == user) {
        match attempt(login) {
            Err(fault) if denied(&fault) => {}
            other => return other,
        }
    }
    let answer = given().and_then(|login| attempt(&login).map(|answer| (answer, login)));
    match (answer, last) {
        (Ok((answer, login)), last) => {
            if last.as_ref() != Some(&login) {
                remembered.keep(&login);
            }
            Ok(answer)
        }
        (Err(fault), Some(login)) if denied(&fault) && login.user != user => {
            attempt(&login).map_err(|other| if denied(&other) { fault } else { other })
        }
        (Err(fault), _) => Err(fault),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(user: &str, password: &str) -> Login {
        Login { user: user.into(), password: Some(Secret::new(password)) }
    }

    #[test]
    fn the_login_that_worked_last_is_tried_first_and_what_is_given_next() {
        let directory = std::env::temp_dir().join(format!("systole-login-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let remembered = RememberedLogin::of(&directory, "r");
        // The server's password, and how it is logged in to.
        let at = |server: &'static str| {
            move |l: &Login| if l.password == Some(Secret::new(server)) { Ok(l.user.clone()) } else { Err("denied") }
        };
        let log_in = |user: &str, server, given: Result<Login, &'static str>| {
            with_login(&remembered, user, || given, at(server), |fault| *fault == "denied")
        };
        let try_at = |server, given| log_in("a", server, given).map(drop);
        assert_eq!(try_at("old", Ok(login("a", "wrong"))), Err("denied"));
        assert_eq!(remembered.load(), None);
        assert_eq!(try_at("old", Ok(login("a", "old"))), Ok(()));
        assert_eq!(try_at("old", Ok(login("a", "new"))), Ok(()), "changed in the file first");
        assert_eq!(try_at("old", Err("no file")), Ok(()), "the file is missing for a moment");
        assert_eq!(try_at("new", Ok(login("a", "old"))), Err("denied"), "changed in the server first");
        assert_eq!(try_at("new", Ok(login("a", "new"))), Ok(()));
        assert_eq!(remembered.load(), Some(login("a", "new")));
        let as_other = |given| log_in("b", "new", given);
        assert_eq!(as_other(Ok(login("b", "wrong"))), Ok("a".to_owned()), "an account that does not work yet");
        assert_eq!(as_other(Ok(login("b", "new"))), Ok("b".to_owned()), "the account that the operator wants now");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(directory.join("systole-r.login")).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
