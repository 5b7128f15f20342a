//! From `main` to the exit status: one dispatch table per agent.
//!
//! What an agent advertises is what it implements: promotable and reloadable are traits, and the table (and with it
//! the meta-data) grows by them.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::logging::one_line;
use crate::metadata::{self, Action, Role};
use crate::parameter::LastValues;
use crate::textfile::{self, Found};
use crate::{Code, Context, Deadline, Description, Environment, Failure, Log, Notification, Operation, Outcome, Peers, Phase, Values};

/// What a monitor found. Only a monitor can answer 7 or 8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Cleanly stopped: no process.
    NotRunning,
    /// Running, and not promoted.
    Running,
    /// Running and promoted.
    Promoted,
    /// Running, not promoted, with something that an operator should see.
    Degraded(String),
    /// Promoted, with something that an operator should see.
    DegradedPromoted(String),
}

impl Status {
    /// The same with what is wrong with the parameters, which an operator should see first. What does not run is not degraded.
    fn with(self, complaints: &[String]) -> Self {
        if complaints.is_empty() {
            return self;
        }
        let said = complaints.join("; ");
        match self {
            Self::NotRunning => Self::NotRunning,
            Self::Running => Self::Degraded(said),
            Self::Promoted => Self::DegradedPromoted(said),
            Self::Degraded(why) => Self::Degraded(format!("{said}; {why}")),
            Self::DegradedPromoted(why) => Self::DegradedPromoted(format!("{said}; {why}")),
        }
    }

    fn exit_status(&self) -> u8 {
        match self {
            Self::Running => 0,
            Self::NotRunning => 7,
            Self::Promoted => 8,
            Self::Degraded(_) => 190,
            Self::DegradedPromoted(_) => 191,
        }
    }
}

/// An agent that Pacemaker can start, stop and monitor. Each action is idempotent.
pub trait ResourceAgent: Sized {
    /// What the agent says about itself.
    const DESCRIPTION: Description;

    /// Takes the parameters. Must be cheap, and touch nothing: `stop` and probes pass here too, on nodes where
    /// nothing is installed.
    ///
    /// # Errors
    /// What is wrong with the parameters in themselves.
    fn new(context: &Context, values: &Values) -> Result<Self, Failure>;

    /// Starts the instance, unpromoted.
    ///
    /// # Errors
    /// Why it does not run.
    fn start(&self, context: &Context) -> Outcome;

    /// Stops the instance, whatever it takes, before the deadline.
    ///
    /// # Errors
    /// Why it may still run. The node is fenced then.
    fn stop(&self, context: &Context) -> Outcome;

    /// Finds out what the instance does.
    ///
    /// # Errors
    /// What is broken.
    fn monitor(&self, context: &Context) -> Result<Status, Failure>;

    /// Checks the configuration: at level 0 what this node alone can tell, at level 10 all else.
    ///
    /// # Errors
    /// The first thing that is wrong, with the line to write.
    fn validate(&self, context: &Context, level: u32) -> Outcome;
}

/// An agent whose instances can be promoted.
pub trait Promotable: ResourceAgent {
    /// What it wants to be notified of. Pacemaker notifies of everything, and the whole cluster waits until all have answered: the rest is
    /// answered at once, before anything is looked at.
    const NOTIFICATIONS: &'static [(Phase, Operation)];

    /// Makes this instance the primary.
    ///
    /// # Errors
    /// Why it must not, or could not, be.
    fn promote(&self, context: &Context) -> Outcome;

    /// Makes sure that this instance is not the primary any more.
    ///
    /// # Errors
    /// Why it may still be.
    fn demote(&self, context: &Context) -> Outcome;

    /// Reacts to what happens to the other instances. Must be short: the cluster waits.
    ///
    /// # Errors
    /// Logged only: a notification cannot fail.
    fn notify(&self, context: &Context, notification: &Notification) -> Outcome;
}

/// An agent that can take new values of reloadable parameters without a restart.
pub trait Reloadable: ResourceAgent {
    /// Applies the parameters.
    ///
    /// # Errors
    /// Why they could not be applied.
    fn reload(&self, context: &Context) -> Outcome;
}

/// Runs an action. It is told what is wrong with the parameters while it goes on with others.
type Handler<A> = fn(&A, &Context, &[String]) -> Result<u8, Failure>;

/// The dispatch table of an agent.
pub struct Agent<A> {
    handlers: Vec<(&'static str, Handler<A>)>,
    actions: Vec<Action>,
}

impl<A: ResourceAgent> Default for Agent<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A: ResourceAgent> Agent<A> {
    /// A plain resource agent.
    pub fn new() -> Self {
        let t = A::DESCRIPTION.timeouts;
        Self {
            handlers: vec![
                ("start", |a, c, _| a.start(c).map(|()| 0)),
                ("stop", |a, c, _| a.stop(c).map(|()| 0)),
                ("monitor", monitor),
                ("status", monitor),
                ("validate-all", |a, c, _| a.validate(c, c.environment.check_level()).map(|()| 0)),
            ],
            actions: vec![
                Action::new("start", t.start),
                Action::new("stop", t.stop),
                Action::new("status", t.monitor),
                Action::monitor(t.monitor, t.interval, None),
                Action::new("validate-all", 20),
                Action::new("meta-data", 5),
                Action::new("usage", 5),
            ],
        }
    }

    /// Adds promote, demote, notify and a monitor for each role.
    pub fn promotable(mut self) -> Self
    where
        A: Promotable,
    {
        let t = A::DESCRIPTION.timeouts;
        self.handlers.push(("promote", |a, c, _| a.promote(c).map(|()| 0)));
        self.handlers.push(("demote", |a, c, _| a.demote(c).map(|()| 0)));
        self.handlers.push(("notify", notify));
        self.actions.retain(|a| a.name != "monitor");
        self.actions.extend([
            Action::monitor(t.monitor, t.interval, Some(Role::Promoted)),
            Action::monitor(t.monitor, t.interval_unpromoted, Some(Role::Unpromoted)),
            Action::new("promote", t.promote),
            Action::new("demote", t.demote),
            Action::new("notify", t.notify),
        ]);
        self
    }

    /// Adds reload-agent.
    pub fn reloadable(mut self) -> Self
    where
        A: Reloadable,
    {
        self.handlers.push(("reload-agent", |a, c, _| a.reload(c).map(|()| 0)));
        self.actions.push(Action::new("reload-agent", A::DESCRIPTION.timeouts.start.min(20)));
        self
    }

    /// The meta-data XML.
    pub fn metadata(&self) -> String {
        metadata::xml(&A::DESCRIPTION, &self.actions)
    }

    /// The man page.
    pub fn man_page(&self) -> String {
        metadata::man_page(&A::DESCRIPTION, &self.actions)
    }

    /// Runs the action named on the command line (or in `__OCF_ACTION`), in this process's environment.
    pub fn run(&self) -> ExitCode {
        let start = Instant::now();
        let environment = Environment::of_process();
        // Not UTF-8 is no action; std::env::args would panic.
        let argument = std::env::args_os().nth(1).map(|a| a.to_string_lossy().into_owned());
        let action = argument.or_else(|| environment.get("__OCF_ACTION").map(str::to_owned));
        match action.as_deref() {
            Some("meta-data") => self.print(&self.metadata()),
            Some("usage" | "help" | "--help") => self.print(&self.usage()),
            None => {
                let _ = write!(std::io::stderr(), "{}", self.usage());
                ExitCode::from(Code::Arguments.exit_status())
            }
            Some(action) => ExitCode::from(self.act(action, environment, start)),
        }
    }

    /// Runs one action and returns the exit status.
    pub fn act(&self, action: &str, environment: Environment, start: Instant) -> u8 {
        let description = A::DESCRIPTION;
        let Some((name, handler)) = self.handlers.iter().find(|(name, _)| *name == action) else {
            let _ = writeln!(
                std::io::stderr(),
                "{}: action {} does not exist; {}",
                description.name,
                action.escape_debug(),
                self.usage().trim_end()
            );
            return Code::Unimplemented.exit_status();
        };
        let log = Log::open(description.name, name, &environment);
        let advertised = self.actions.iter().find(|a| a.name == *name).map_or(20, |a| a.timeout);
        let timeout = environment.timeout().unwrap_or(Duration::from_secs(u64::from(advertised)));
        let context = Context { deadline: Deadline::with_margin(start, timeout), environment, log: log.into() };
        trace_call::<A>(&context, name);
        let result = self.values(name, &context).and_then(|values| {
            let agent = A::new(&context, &values)?;
            // Found by then: what is wrong with each value, and what contradicts another.
            let complaints = values.complaints();
            let checks = matches!(*name, "start" | "validate-all");
            complaints.iter().filter(|_| !checks).for_each(|complaint| context.log.warning(complaint));
            handler(&agent, &context, &complaints)
        });
        // Pacemaker would stop every instance for a failure of the configuration.
        let result = result.map_err(|failure| if runs_elsewhere(&context.environment) { failure.of_this_node() } else { failure });
        let status = match result {
            Ok(status) => status,
            Err(failure) => {
                report(&context, name, &failure);
                // Pacemaker ignores it, but an operator who runs notify by hand should not be told of a failure.
                if *name == "notify" { 0 } else { failure.code().exit_status() }
            }
        };
        self.tell(name, &context.environment, status);
        context.log.trace(&format!("{name} answers {status}"));
        status
    }

    /// Metrics of what a monitor found, and of a stop, after which there is none.
    fn tell(&self, action: &str, environment: &Environment, status: u8) {
        let description = A::DESCRIPTION;
        let promotable = self.handlers.iter().any(|(name, _)| *name == "promote");
        let found = Found { agent: description.name, version: description.version, promotable, status };
        match action {
            "monitor" if !environment.is_probe() => textfile::tell(environment, found),
            "stop" if status == 0 => textfile::tell(environment, Found { status: Status::NotRunning.exit_status(), ..found }),
            _ => {}
        }
    }

    /// Only an instance that does not run yet is refused for its parameters. What may be running goes on with the last values that were
    /// right: a typing error in the CIB reaches all nodes within a second.
    fn values(&self, action: &str, context: &Context) -> Result<Values, Failure> {
        let declared = A::DESCRIPTION.parameters;
        let environment = &context.environment;
        let values = match action {
            "start" => Values::read(declared, environment)?,
            "validate-all" => return Values::read(declared, environment),
            _ => Values::read_leniently(declared, environment, || LastValues::load(environment)),
        };
        // Pacemaker gives every action but a recurring monitor the interval of a probe.
        let probes = action == "monitor" && environment.is_probe();
        if values.complaints().is_empty() && !probes {
            LastValues::keep(environment, declared, &values);
        }
        Ok(values)
    }

    fn usage(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for action in &self.actions {
            if !names.contains(&action.name) {
                names.push(action.name);
            }
        }
        format!(
            "usage: {} {{{}}}\nocf:systole:{} is a resource agent for Pacemaker and takes its parameters from the environment; \
             see ocf_systole_{}(7).\n",
            A::DESCRIPTION.name,
            names.join("|"),
            A::DESCRIPTION.name,
            A::DESCRIPTION.name
        )
    }

    fn print(&self, text: &str) -> ExitCode {
        match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        }
    }
}

fn monitor<A: ResourceAgent>(agent: &A, context: &Context, complaints: &[String]) -> Result<u8, Failure> {
    let found = agent.monitor(context)?;
    // A probe only says what runs.
    let status = if context.environment.is_probe() { found } else { found.with(complaints) };
    if let Status::Degraded(why) | Status::DegradedPromoted(why) = &status {
        exit_reason(context, why);
    }
    Ok(status.exit_status())
}

fn notify<A: Promotable>(agent: &A, context: &Context, _: &[String]) -> Result<u8, Failure> {
    match Notification::read(&context.environment) {
        Some(notification) if A::NOTIFICATIONS.contains(&(notification.phase, notification.operation)) => {
            agent.notify(context, &notification).map(|()| 0)
        }
        _ => Ok(0),
    }
}

/// Whether other instances of the clone run, by the lists that come with its actions.
fn runs_elsewhere(environment: &Environment) -> bool {
    let peers = Peers::read(environment);
    !(peers.promoted.is_empty() && peers.unpromoted.is_empty() && peers.active.is_empty())
}

fn report(context: &Context, action: &str, failure: &Failure) {
    context.log.error(format!("{action}: {}", failure.reason));
    exit_reason(context, &failure.reason);
}

/// More than an operator reads of a reason. It stands in the CIB, which each node keeps and sends around. Bytes.
const LONGEST_REASON: usize = 2_000;

/// Pacemaker shows the last such line on stderr to the operator.
fn exit_reason(context: &Context, reason: &str) {
    let prefix = context.environment.non_empty("OCF_EXIT_REASON_PREFIX").unwrap_or("ocf-exit-reason:");
    let _ = writeln!(std::io::stderr(), "{prefix}{}", one_line(reason, LONGEST_REASON));
}

/// The trace begins with what was asked; a secret shows only that it is there.
fn trace_call<A: ResourceAgent>(context: &Context, action: &str) {
    context.log.trace(&format!("{} {action}", A::DESCRIPTION.name));
    for (key, value) in context.environment.with_prefix("OCF_") {
        let name = key.strip_prefix("OCF_RESKEY_").unwrap_or(key);
        let declared = A::DESCRIPTION.parameters.iter().find(|p| p.name == name);
        let known = key.starts_with("OCF_RESKEY_CRM_meta_") || key.starts_with("OCF_RESKEY_crm_") || !key.starts_with("OCF_RESKEY_");
        // What is not declared may be a misspelt secret.
        let shown = if known || declared.is_some_and(|p| !p.secret) { value } else { "******" };
        context.log.trace(&format!("{key}={shown}"));
    }
}
