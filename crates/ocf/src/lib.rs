//! The OCF resource agent contract: actions, exit codes, parameters, meta-data, notifications, logging.
//!
//! Owns everything that Pacemaker and the command line tools prescribe to an agent. Knows nothing of any
//! server, and calls no cluster tool: that is `pacemaker`'s work.

mod deadline;
mod description;
mod environment;
mod failure;
mod logging;
mod metadata;
mod notification;
mod parameter;
mod run;
mod textfile;

pub use deadline::Deadline;
pub use description::{Description, Timeouts};
pub use environment::{Context, Environment};
pub use failure::{Code, Failure, Outcome};
pub use logging::Log;
pub use metadata::{Action, Role, man_page, markdown_table, roff, xml};
pub use notification::{Member, Notification, Operation, Peers, Phase};
pub use parameter::{Kind, LastValues, Parameter, Secret, Values, words};
pub use run::{Agent, Promotable, Reloadable, ResourceAgent, Status};
