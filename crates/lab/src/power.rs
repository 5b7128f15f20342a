//! The power switch's protocol: one JSON object a line, one answer a request, on a Unix socket.
//! Owns the messages and the asking side; the answering side is in `supervisor`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::state::NodePower;

/// What can be asked of the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// Power of all nodes.
    Status,
    /// Cut the power; answered when every process of the node is dead.
    PowerOff,
    /// Boot; answered when the node's PID 1 runs.
    PowerOn,
    /// Cut, then boot.
    PowerCycle,
    /// From now on refuse the nodes' requests: a dead fence device.
    BreakFencing,
    /// Serve the nodes again.
    RepairFencing,
    /// Cut the power of all nodes and end the supervisor.
    Shutdown,
}

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The wish.
    pub op: Op,
    /// The node it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who asks, for the story.
    #[serde(default)]
    pub by: String,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Power of all nodes afterwards.
    pub nodes: Vec<NodePower>,
}

/// Asks the switch and waits for the answer.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Answer> {
    let mut stream =
        UnixStream::connect(socket).context(|| format!("connect to the lab's supervisor at {} (is the lab up?)", socket.display()))?;
    // A power cut waits for its processes for 20 s at most. Going down does not depend on the answer.
    let limit = if request.op == Op::Shutdown { 8 } else { 25 };
    stream.set_read_timeout(Some(Duration::from_secs(limit))).context(|| "set a time limit".to_owned())?;
    let mut line = serde_json::to_string(request).context(|| "write a request".to_owned())?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context(|| "ask the supervisor".to_owned())?;
    let mut text = String::new();
    BufReader::new(stream).read_line(&mut text).context(|| "wait for the supervisor's answer".to_owned())?;
    let answer: Answer = serde_json::from_str(&text).context(|| "read the supervisor's answer".to_owned())?;
    match &answer.error {
        Some(error) if !answer.ok => Err(Error::Refused(error.clone())),
        _ => Ok(answer),
    }
}
