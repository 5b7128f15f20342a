//! What the agents of promotable databases have in common.

mod account;
mod login;
mod secret;

pub use account::ServerAccount;
pub use login::{Login, RememberedLogin, with_login};
pub use secret::{is_placeholder, read_secret};
