//! What the programs of systole are made of, from what cargo says: whether the licences and origins of the crates are those of
//! `deny.toml`, the notices that go where the programs go, and the list of the crates (CycloneDX).

mod bill;
mod cargo;
mod licence;
mod notices;
mod policy;

pub use bill::bill;
pub use cargo::{Crates, Package};
pub use licence::Licence;
pub use notices::notices;
pub use policy::Policy;

/// Why something cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file, or a program, that is not as it should be.
    #[error("{0}: {1}")]
    Unreadable(String, String),
    /// What is wrong with the crates, a line for each.
    #[error("{0}")]
    Refused(String),
}

/// Does what the arguments say and returns what is to be printed.
///
/// # Errors
/// When cargo cannot be asked, or a crate is not as it should be.
pub fn run(arguments: &[String]) -> Result<String, Error> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["check"] => {
            let policy = Policy::read()?;
            policy.check(&Crates::of_everything()?)?;
            Ok(String::new())
        }
        ["notices", ref programs @ ..] if !programs.is_empty() => notices(&Crates::of_programs(programs)?),
        ["bill", version, ref programs @ ..] if !programs.is_empty() => bill(&Crates::of_programs(programs)?, version),
        _ => Err(Error::Refused("usage: supply check | notices PACKAGE... | bill VERSION PACKAGE...".to_owned())),
    }
}
