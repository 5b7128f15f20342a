//! What the agents of promotable databases have in common.

mod account;
mod ending;
mod login;
mod secret;

pub use account::ServerAccount;
pub use ending::{end_server, grace, unless_gone};
pub use login::{Login, RememberedLogin, with_login};
pub use secret::{is_placeholder, read_secret};
