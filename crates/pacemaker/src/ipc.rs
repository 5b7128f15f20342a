//! Questions to the attribute manager and the CIB manager of Pacemaker over their own connection, without the process that a tool is.
//!
//! Whatever is not exactly as it should be here (no library, no daemon, an answer that is not understood) is no error: the caller asks
//! the same with the tool. So a change may be asked for twice, and may be carried out after we have given up, like that of a tool
//! that was killed. Both managers bear it: an attribute is set to the same value again, and a property of the CIB is only replaced where
//! it has the value before.

mod libqb;
mod message;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::time::Instant;

use libqb::{Connection, Failed, Peer};
pub(crate) use message::{How, Modification, Update};

/// Why the tool is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// This was not worth a try.
    NotAsked,
    /// This went wrong.
    Because(String),
}

/// A daemon has taken a change, and will carry it out.
#[derive(Debug)]
pub(crate) struct Taken;

/// One of Pacemaker's daemons.
struct Daemon {
    /// Its name in libqb.
    socket: &'static CStr,
    /// The name of its process, as the kernel cuts it off.
    process: &'static str,
}

const ATTRIBUTES: Daemon = Daemon { socket: c"attrd", process: "pacemaker-attrd" };
const CIB: Daemon = Daemon { socket: c"cib_rw", process: "pacemaker-based" };

/// Whom Pacemaker's daemons run as, unless it is root, and so who may tell them a score.
pub(crate) const CLUSTER: &str = "hacluster";

/// The daemons. A connection is made with the first question, and kept.
pub(crate) struct Daemons {
    attributes: Line,
    cib: Line,
}

impl Daemons {
    /// Nothing is opened yet.
    pub(crate) fn new() -> Self {
        // Then the tools read a file, and no daemon.
        let state = || RefCell::new(if std::env::var_os("CIB_file").is_some() { State::Off } else { State::Untried });
        Self { attributes: Line { daemon: ATTRIBUTES, state: state() }, cib: Line { daemon: CIB, state: state() } }
    }

    /// Gives an attribute of a node another value: as the tool does, it is taken when the daemon has it, before the nodes do.
    pub(crate) fn update(&self, update: &Update<'_>, until: Instant) -> Result<Taken, Unanswered> {
        self.attributes.ask(until, |_| message::update(update), |answer, _| message::acknowledged(answer).map(|()| Taken))
    }

    /// The values of an attribute by node.
    pub(crate) fn values(&self, name: &str, until: Instant) -> Result<BTreeMap<String, String>, Unanswered> {
        self.attributes.ask(until, |_| message::query(name), |answer, _| message::values(answer, name))
    }

    /// The value that the CIB has where an XPath finds this name, `None` where it finds none.
    pub(crate) fn value(&self, path: &str, name: &str, until: Instant) -> Result<Option<String>, Unanswered> {
        self.cib.ask(until, |call| message::look_up(call, path), |answer, call| message::value_of(answer, call, name))
    }

    /// Changes the CIB. `false` when what is to be changed is not there, or what is to be created is.
    pub(crate) fn modify(&self, modification: &Modification, until: Instant) -> Result<bool, Unanswered> {
        self.cib.ask(until, |call| message::modify(call, modification), message::carried_out)
    }
}

/// The line to a daemon.
struct Line {
    daemon: Daemon,
    state: RefCell<State>,
}

enum State {
    Untried,
    /// With the number of the last question.
    Open(Connection, i32),
    /// It did not do what it should.
    Off,
}

impl Line {
    fn ask<T>(
        &self,
        until: Instant,
        question: impl FnOnce(i32) -> Option<String>,
        read: impl FnOnce(&str, i32) -> Result<T, String>,
    ) -> Result<T, Unanswered> {
        let because = |reason: String| Unanswered::Because(format!("{}: {reason}", self.daemon.process));
        let mut state = self.state.borrow_mut();
        if let State::Open(connection, _) = &*state {
            if !connection.is_ours() {
                *state = State::Untried;
            }
        }
        if matches!(*state, State::Untried) {
            *state = State::Off;
            *state = State::Open(Connection::open(self.daemon.socket, until, |peer| self.daemon.is(peer)).map_err(because)?, 0);
        }
        let State::Open(connection, number) = &mut *state else { return Err(Unanswered::NotAsked) };
        *number = number.wrapping_add(1).max(1);
        let number = *number;
        let message = question(number).and_then(|xml| message::framed(number, &xml));
        let message = message.ok_or_else(|| because("XML has no way to write it".into()))?;
        let answer = connection.exchange(&message, until);
        let understood = match &answer {
            Ok(answer) => message::text_of(answer, number).and_then(|text| read(text, number)),
            Err(Failed::Broken(reason)) => {
                // The daemon was started anew, or was asked too much at once. The next question may fare better.
                *state = State::Untried;
                return Err(because(reason.clone()));
            }
            Err(Failed::Late) => Err("no answer in time".into()),
        };
        understood.map_err(|reason| {
            *state = State::Off;
            because(reason)
        })
    }
}

impl Daemon {
    /// Whether this is the daemon. Where Pacemaker does not run, anybody may serve a socket of its name.
    fn is(&self, peer: Peer) -> Result<(), String> {
        // A node that runs Pacemaker Remote is another kind of node, about which the tools know more.
        let name = std::fs::read_to_string(format!("/proc/{}/comm", peer.pid)).unwrap_or_default();
        if name.trim_end() != self.process {
            return Err(format!("it is served by {}", name.trim_end()));
        }
        let cluster = || nix::unistd::User::from_name(CLUSTER).ok().flatten().is_some_and(|user| user.uid.as_raw() == peer.uid);
        if peer.uid == 0 || cluster() { Ok(()) } else { Err(format!("it is served by the user {}", peer.uid)) }
    }
}

/// Reads bytes as the answer to each kind of question.
pub(crate) fn read_as_anything(answer: &[u8]) {
    let Ok(text) = message::text_of(answer, 1) else { return };
    let _ = message::acknowledged(text);
    let _ = message::values(text, "a");
    let _ = message::carried_out(text, 1);
    let _ = message::value_of(text, 1, "a");
}
