//! A bed for the tests of crm-snippets/: crmsh and Pacemaker's tools in a sandbox, on a CIB file, without a cluster.
//!
//! Everything here panics when the bed itself cannot be made: a test that could not be arranged must not look passed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failure here is the failure of a test")]

mod bed;
mod contract;
mod outcome;
mod sandbox;
mod snippet;
mod wizard;

pub use bed::{Bed, Done, Rehearsal, Step};
pub use contract::violations;
pub use outcome::Outcome;
pub use snippet::Snippet;
pub use wizard::{Kind, Parameter, Part, WIZARDS, Wizard};
