//! What the limits add up to: the agent's own actions in the slowest world, in which everything takes as long as it may.
//!
//! Each effect is answered after exactly its limit. Where several answers are long, the search goes through them: an effect of one kind is
//! answered as it was the last time, except at so many moments, which it tries all. Files and the kernel take no time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test helper panics to fail the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::{Deadline, Environment, Failure, Member, Notification, Operation, Peers, Phase, ResourceAgent as _, Status, Values};
use process::Identity;
use promotable::{Machine, NotReplaced, Step};

use super::{Answer, Effect, Event, Instance, LinkTrouble, Moment, OfCluster, OfProcess, OfServer, Rules, Sight, Word};
use crate::agent::Redis;
use crate::election::Position;
use crate::info::{AttachedReplica, Info, ReplicationRole};
use crate::limits;
use crate::params::{ALL, Params};
use crate::record::Record;
use crate::server::{Fault, GATE_CLOSED, NOBODY, Observation};
use crate::state::{Process, State};

/// What a call of a cluster tool takes where they are slow and do not hang.
const TOOL: Duration = Duration::from_millis(500);
/// At how many moments an effect is answered otherwise than the last one of its kind.
const MOST: usize = 3;
/// A moment of the processor: of a loop that has nothing to wait for, too.
const TICK: Duration = Duration::from_millis(1);

/// An action on its way through the slowest world.
struct World<'a> {
    rules: &'a Rules<'a>,
    /// Whether the cluster's tools hang.
    tools_hang: bool,
    begun: Duration,
    now: Duration,
    /// When the time of the action is over.
    end: Duration,
    /// The limit of each exchange on the connection that there is.
    connection: Option<Duration>,
}

impl World<'_> {
    fn left(&self) -> Duration {
        self.end.saturating_sub(self.now)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn calls(&mut self, number: u32) {
        for _ in 0..number {
            let longest = pacemaker::longest_call(self.left());
            self.pass(if self.tools_hang { longest } else { TOOL.min(longest) });
        }
    }

    /// Connects to a server that is slow to greet, as `engine` does.
    fn connect(&mut self) {
        let limit = limits::step(limits::ANSWER, self.left());
        self.pass(limit);
        self.connection = Some(limit);
    }

    fn exchanges(&mut self, number: u32) {
        if self.connection.is_none() {
            self.connect();
        }
        let limit = self.connection.unwrap_or_default();
        for _ in 0..number {
            self.pass(limits::step(limit, self.left()));
        }
    }

    /// `stop` of a server that does not end by itself, and hangs in the kernel when it is killed.
    fn stop(&mut self) {
        self.pass(pacemaker::WATCHER_ENDING);
        self.calls(1);
        self.pass(limits::step(promotable::limits::LISTENING, self.left()));
        self.pass(self.left().saturating_sub(limits::KILL_RESERVE).max(promotable::limits::SHORTEST_GRACE));
        self.pass(self.left().max(limits::KILLED));
    }

    /// Lets the time pass that an effect may take.
    fn carry_out(&mut self, effect: &Effect, event: &Event) {
        match effect {
            Effect::OfProcess(effect) => self.of_process(effect),
            Effect::OfCluster(effect) => self.of_cluster(effect),
            Effect::Own(effect) => self.of_server(effect, event),
            Effect::Wait(time) => self.pass(*time),
            Effect::Log(..) | Effect::Save(_) => {}
        }
    }

    fn of_process(&mut self, effect: &OfProcess) {
        match effect {
            OfProcess::Find(_) => self.pass(limits::step(promotable::limits::LISTENING, self.left())),
            OfProcess::Terminate(_, limit) => self.pass(*limit + limits::LAST_MOMENT),
            OfProcess::Gone(_, limit) => self.pass(*limit),
            OfProcess::Watch(..) => self.pass(limits::step(pacemaker::WATCHER_ENDING, self.left())),
            OfProcess::Objections(_) | OfProcess::Kill(_) | OfProcess::StandBack(..) => {}
        }
    }

    fn of_cluster(&mut self, effect: &OfCluster) {
        match effect {
            OfCluster::Score(_)
            | OfCluster::ScoreOf(..)
            | OfCluster::ForgetDegraded
            | OfCluster::Publish(_)
            | OfCluster::PublishWrites(_)
            | OfCluster::ReadRecord => self.calls(1),
            OfCluster::Hear(_, _, limit) => {
                self.pass(*limit);
                self.calls(1);
            }
            // The property, the set that it goes into, and what stands there then.
            OfCluster::ReplaceRecord(..) => self.calls(3),
        }
    }

    fn of_server(&mut self, effect: &OfServer, event: &Event) {
        match effect {
            OfServer::Look(_, limit) => {
                let limit = limits::step(*limit, self.left());
                let answered = matches!(event, Event::Own(Answer::Sight(Sight::Answered(_))));
                self.pass(limit + if answered { Duration::ZERO } else { limits::LAST_MOMENT });
                self.connection = answered.then_some(limit);
            }
            OfServer::Replication | OfServer::CopySettings => self.exchanges(1),
            OfServer::Rest(seen) => {
                if seen.role == ReplicationRole::Replica && seen.link_up {
                    self.pass(limits::LAST_OF_STREAM);
                    self.exchanges(3);
                }
            }
            // The last round of questions begins at the limit, and is paused.
            OfServer::Drain(_, limit) => {
                self.pass(*limit + limits::ASK_AGAIN);
                self.exchanges(5);
            }
            OfServer::Held(..) => {
                self.pass(limits::HELD_BY_OTHERS);
                self.exchanges(1);
            }
            OfServer::Tell(Word::BeginBacklog) => {
                self.connect();
                self.pass(limits::BACKLOG);
                self.exchanges(4);
            }
            OfServer::Tell(word) => self.exchanges(match word {
                Word::Follow(_) | Word::FollowNobody | Word::BecomePrimary | Word::SetBack(_) | Word::ResumeWrites => 1,
                Word::CloseGate | Word::OpenGate(..) | Word::CutClients => 2,
                Word::Adopt(_) => 8,
                Word::BeginBacklog => 4,
            }),
            // For the server before, then until it answers at the last moment, and is told the login of replication, or is killed.
            OfServer::Launch(..) => {
                self.pass(self.left() / 2);
                self.pass(self.left());
                self.connection = None;
                match event {
                    Event::Own(Answer::Launched(Ok(_))) => self.exchanges(2),
                    _ => self.pass(promotable::limits::not_come_up(self.left())),
                }
                self.connection = None;
            }
            OfServer::SetReplicationLogin => {
                let of_the_look = self.connection.take();
                self.exchanges(2);
                self.connection = of_the_look;
            }
            OfServer::MayStart | OfServer::KeepFiles(_) | OfServer::Complaints | OfServer::Misconfiguration | OfServer::LinkTrouble => {}
        }
    }
}

/// What an effect may be answered with, so that the action goes on in different ways. The first is the usual one.
fn answers(effect: &Effect) -> Vec<Event> {
    match effect {
        Effect::OfProcess(effect) => answers_of_process(effect),
        Effect::OfCluster(effect) => answers_of_cluster(effect),
        Effect::Own(effect) => answers_of_server(effect),
        Effect::Log(..) | Effect::Wait(_) => vec![Event::Done(Ok(()))],
        Effect::Save(_) => done_or_not(),
    }
}

fn done_or_not() -> Vec<Event> {
    vec![Event::Done(Ok(())), Event::Done(Err(failed()))]
}

fn texts() -> Vec<Event> {
    vec![Event::Texts(Vec::new()), Event::Texts(vec!["wrong".into()])]
}

fn flags() -> Vec<Event> {
    vec![Event::Flag(true), Event::Flag(false)]
}

fn failed() -> Failure {
    Failure::generic("no")
}

fn answers_of_process(effect: &OfProcess) -> Vec<Event> {
    match effect {
        OfProcess::Kill(_) | OfProcess::StandBack(..) | OfProcess::Watch(..) => vec![Event::Done(Ok(()))],
        OfProcess::Find(remembered) => vec![Event::Found(Some(remembered.clone().unwrap_or_else(process))), Event::Found(None)],
        OfProcess::Objections(_) => texts(),
        OfProcess::Terminate(..) | OfProcess::Gone(..) => flags(),
    }
}

fn answers_of_cluster(effect: &OfCluster) -> Vec<Event> {
    match effect {
        OfCluster::Score(_) | OfCluster::ScoreOf(..) | OfCluster::ForgetDegraded | OfCluster::Publish(_) | OfCluster::PublishWrites(_) => {
            done_or_not()
        }
        OfCluster::Hear(round, expected, _) => {
            let all = |best: &str| {
                let at = |node: &str| Position { offset: if node == best { 20 } else { 10 }, ..position(round) };
                expected.iter().map(|node| (node.clone(), at(node))).collect()
            };
            vec![Event::Positions(Ok(all("a"))), Event::Positions(Ok(all("b"))), Event::Positions(Ok(BTreeMap::new()))]
        }
        OfCluster::ReadRecord => {
            vec![Event::Record(Ok(Some(record("b")))), Event::Record(Ok(Some(record("a")))), Event::Record(Ok(None))]
        }
        OfCluster::ReplaceRecord(..) => vec![Event::Replaced(Ok(())), Event::Replaced(Err(NotReplaced::Failed(failed())))],
    }
}

fn answers_of_server(effect: &OfServer) -> Vec<Event> {
    let silent = || Fault::Silent("no answer".into());
    let answers: Vec<Answer> = match effect {
        OfServer::MayStart | OfServer::SetReplicationLogin | OfServer::KeepFiles(_) => return done_or_not(),
        OfServer::Complaints | OfServer::Misconfiguration => return texts(),
        OfServer::Held(..) => return flags(),
        OfServer::CopySettings => {
            vec![Answer::Settings(Ok(vec![("repl-diskless-sync-delay".into(), "5".into())])), Answer::Settings(Err(silent()))]
        }
        OfServer::LinkTrouble => vec![Answer::Link(LinkTrouble::Login)],
        OfServer::Look(..) => {
            let answered = observations().into_iter().map(|seen| Sight::Answered(Box::new(seen)));
            let others = [
                Sight::Engaged("busy".into()),
                Sight::Working("busy".into()),
                Sight::Still("hangs".into()),
                Sight::Stuck("frozen".into()),
                Sight::Unasked(Fault::Closed("full".into())),
                Sight::Unasked(Fault::Denied("no".into())),
                Sight::Deaf("deaf".into()),
                Sight::Ended,
            ];
            answered.chain(others).map(Answer::Sight).collect()
        }
        OfServer::Replication | OfServer::Rest(_) => {
            let infos = observations().into_iter().map(|seen| Answer::Replication(Ok(Box::new(seen.info))));
            infos.chain([Answer::Replication(Err(silent()))]).collect()
        }
        OfServer::Drain(..) => {
            let behind = Some("b lacks 1 bytes".to_owned());
            vec![Answer::Drained(Ok(None)), Answer::Drained(Ok(behind)), Answer::Drained(Err(silent()))]
        }
        OfServer::Tell(_) => vec![Answer::Told(Ok(())), Answer::Told(Err(silent())), Answer::Told(Err(Fault::Denied("no".into())))],
        OfServer::Launch(..) => {
            let up = observations().into_iter().map(|seen| Some(Box::new(seen))).chain([None]);
            up.map(|seen| Answer::Launched(Ok((process(), seen)))).chain([Answer::Launched(Err(failed()))]).collect()
        }
    };
    answers.into_iter().map(Event::Own).collect()
}

fn process() -> Identity {
    Identity { pid: 7, start_ticks: 7, boot: String::new() }
}

fn record(node: &str) -> Record {
    Record::succeeded_by(None, node.to_owned(), "h0", 5, "h1".to_owned(), ["a".to_owned(), "b".to_owned()].into())
}

fn position(round: &str) -> Position {
    let nowhere = Position::nowhere(round, crate::election::Unfit::NoServer);
    Position { history: "h1".to_owned(), has_keys: true, live: true, unfit: None, ..nowhere }
}

/// Servers as they may be seen: replicas that follow and that do not, primaries that take writes and that do not, and one that loads.
fn observations() -> Vec<Observation> {
    let replicas = ["b", "c"].map(|node| AttachedReplica { node: node.to_owned(), online: true, offset: 10, lag: 0 });
    let replica = Info {
        pid: None,
        role: ReplicationRole::Replica,
        loading: false,
        has_keys: true,
        replid: "h2".to_owned(),
        offset: 10,
        replid2: None,
        second_offset: None,
        backlog: false,
        stale_offset: None,
        primary: Some(("b".to_owned(), 6379)),
        link_up: true,
        syncing: false,
        link_down_seconds: None,
        priority: 100,
        replicas: Vec::new(),
        save_failed: false,
    };
    let alone = Info { primary: Some((NOBODY.0.to_owned(), NOBODY.1)), link_up: false, link_down_seconds: Some(60), ..replica.clone() };
    let primary = Info { role: ReplicationRole::Primary, primary: None, link_up: false, replicas: replicas.to_vec(), ..replica.clone() };
    let kept = Info { backlog: true, ..primary.clone() };
    let loading = Info { loading: true, ..alone.clone() };
    let closed =
        [replica, alone, primary.clone(), kept, loading].map(|info| Observation { info, gate: GATE_CLOSED, lag: 10, complaint: None });
    closed.into_iter().chain([Observation { info: primary, gate: 0, lag: 10, complaint: None }]).collect()
}

/// What is asked of an instance, and what it remembers.
#[derive(Clone)]
struct Case {
    row: &'static str,
    timeout: u32,
    task: Task,
    state: State,
    peers: Peers,
}

#[derive(Clone, Copy)]
enum Task {
    Start,
    Promote,
    Demote,
    Monitor,
    /// Which is none of the protocol's, and does as `lifecycle` says.
    Stop,
    Notify(Phase, Operation),
}

type Run<'r> = Machine<'r, Effect, (Event, Moment), Result<Status, Failure>>;

impl Case {
    fn machine<'r>(&self, rules: &'r Rules<'r>, moment: Moment) -> Run<'r> {
        let Self { task, state, peers, .. } = self.clone();
        Machine::new(move |port| async move {
            let instance = Instance::new(rules, state, moment, port);
            let done = |outcome: Result<(), Failure>| outcome.map(|()| Status::Running);
            match task {
                Task::Start => done(instance.start(peers).await),
                Task::Promote => done(instance.promote(peers).await),
                Task::Demote => done(instance.demote(peers).await),
                Task::Monitor => instance.monitor(None).await,
                Task::Stop => Ok(Status::NotRunning),
                Task::Notify(phase, operation) => done(instance.notify(Notification { phase, operation, peers }).await),
            }
        })
    }

    /// How long the action takes when the answers change at these effects, and which answers each effect had.
    fn run(
        &self,
        rules: &Rules<'_>,
        begun: Duration,
        tools_hang: bool,
        changes: &BTreeMap<usize, usize>,
    ) -> (Duration, Vec<(usize, usize)>) {
        let timeout = Duration::from_secs(u64::from(self.timeout));
        let boot = Duration::from_secs(1000);
        let end = boot + timeout - Deadline::margin(timeout);
        let mut world = World { rules, tools_hang, begun: boot, now: boot + begun, end, connection: None };
        // The node's name, where Pacemaker does not tell it.
        world.calls(1);
        if matches!(self.task, Task::Stop) {
            world.stop();
        }
        let mut machine = self.machine(world.rules, Moment { now: world.now, left: world.left() });
        let mut usual: BTreeMap<String, usize> = BTreeMap::new();
        let (mut event, mut seen) = (None, Vec::new());
        loop {
            let effect = match machine.step(event.take()) {
                Step::Done(_) => return (world.now - world.begun, seen),
                Step::Effect(effect) => effect,
            };
            let kind = format!("{effect:?}");
            let kind =
                kind.split(['(', '{']).take(if matches!(effect, Effect::Own(OfServer::Tell(_))) { 3 } else { 2 }).collect::<String>();
            let answers = answers(&effect);
            let last = usual.get(&kind).copied().unwrap_or(0);
            let chosen = changes.get(&seen.len()).copied().unwrap_or(last);
            usual.insert(kind, chosen);
            seen.push((answers.len(), last));
            assert!(seen.len() < 10_000, "an action without an end");
            let answer = answers.into_iter().nth(chosen).unwrap();
            world.carry_out(&effect, &answer);
            world.pass(if matches!(effect, Effect::Wait(_)) { TICK } else { Duration::ZERO });
            event = Some((answer, Moment { now: world.now, left: world.left() }));
        }
    }

    /// The longest of all, with so many changes.
    fn longest(&self, rules: &Rules<'_>, begun: Duration, tools_hang: bool, most: usize) -> Duration {
        let mut longest = Duration::ZERO;
        let mut open = vec![BTreeMap::new()];
        while let Some(changes) = open.pop() {
            let (took, seen) = self.run(rules, begun, tools_hang, &changes);
            longest = longest.max(took);
            if changes.len() >= most {
                continue;
            }
            let first = changes.keys().next_back().map_or(0, |last| last + 1);
            for (at, (answers, usual)) in seen.iter().enumerate().skip(first) {
                for answer in (0..*answers).filter(|answer| answer != usual) {
                    let mut more = changes.clone();
                    more.insert(at, answer);
                    open.push(more);
                }
            }
        }
        longest
    }
}

fn cases() -> Vec<Case> {
    let timeouts = Redis::DESCRIPTION.timeouts;
    let member = |node: &str| Member { instance: "redis:0".to_owned(), node: node.to_owned() };
    let peers = Peers { promoted: vec![member("b")], unpromoted: ["a", "c"].map(member).to_vec(), ..Peers::default() };
    let candidate = |node: &str| Peers {
        promoted: vec![],
        promote: vec![member(node)],
        unpromoted: ["a", "b", "c"].map(member).to_vec(),
        ..Peers::default()
    };
    let stranger = State { process: Some(Process::found(process())), ..State::default() };
    let restarted = State {
        // A promotion before was killed.
        process: Some(Process { settings_before: vec![("repl-diskless-sync-delay".into(), "5".into())], ..Process::started(process()) }),
        published: Some(("1".to_owned(), Duration::ZERO)),
        nodes: ["a", "b", "c"].map(str::to_owned).into(),
        ..State::default()
    };
    let mut replica = restarted.clone();
    replica.follow_promoted("b".to_owned());
    replica.record = Some(record("b"));
    let mut elected = replica.clone();
    elected.win_election(record("b").to_string());
    let mut primary = replica.clone();
    // As one that was found: its record was not looked at yet.
    primary.take_over(Some(record("a")));
    primary.as_recorded(|reign| reign.holders = ["a", "d"].map(str::to_owned).into());
    primary.as_primary(|primary| primary.leaving = ["d".to_owned()].into());
    let gone = State { process: None, ..replica.clone() };
    let case = |row, timeout, task, state: &State, peers: &Peers| Case { row, timeout, task, state: state.clone(), peers: peers.clone() };
    let notify = |row, phase, operation, state, peers| case(row, timeouts.notify, Task::Notify(phase, operation), state, peers);
    let handed_down = Peers { demote: vec![member("a")], promoted: vec![member("a")], ..candidate("b") };
    let starting = Peers { start: vec![member("c")], ..peers.clone() };
    let stopping = Peers { stop: vec![member("c")], ..peers.clone() };
    vec![
        case("start", timeouts.start, Task::Start, &gone, &peers),
        case("start", timeouts.start, Task::Start, &gone, &Peers::default()),
        case("start", timeouts.start, Task::Start, &replica, &peers),
        case("start", timeouts.start, Task::Start, &stranger, &peers),
        case("stop", timeouts.stop, Task::Stop, &primary, &peers),
        case("promote", timeouts.promote, Task::Promote, &replica, &candidate("a")),
        case("promote", timeouts.promote, Task::Promote, &elected, &candidate("a")),
        case("demote", timeouts.demote, Task::Demote, &primary, &handed_down),
        case("monitor", timeouts.monitor, Task::Monitor, &primary, &peers),
        case("monitor", timeouts.monitor, Task::Monitor, &replica, &peers),
        case("monitor", timeouts.monitor, Task::Monitor, &stranger, &peers),
        notify("notify: a primary was demoted", Phase::Post, Operation::Demote, &restarted, &handed_down),
        notify("notify: one is about to be promoted", Phase::Pre, Operation::Promote, &restarted, &candidate("a")),
        notify("notify: one was promoted", Phase::Post, Operation::Promote, &replica, &candidate("b")),
        notify("notify: one is about to start", Phase::Pre, Operation::Start, &primary, &starting),
        notify("notify: one was stopped", Phase::Post, Operation::Stop, &primary, &stopping),
    ]
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Whether the actions end before Pacemaker kills them, whatever takes as long as it may; a quarter of the margin is left to say why one failed.
#[test]
fn no_action_outlives_its_timeout() {
    let pairs = [("OCF_RESKEY_durability".to_owned(), "quorum".to_owned())];
    let params = Params::new(&Values::read(ALL, &Environment::from_pairs(pairs)).unwrap());
    let rules = Rules {
        params: &params,
        resource: "redis",
        node: Ok("a".to_owned()),
        clustered: true,
        probe: false,
        servers: Some(3),
        decide: String::new(),
        withdrawal: String::new(),
    };
    let mut rows: Vec<(&str, u32, Duration, Duration)> = Vec::new();
    let mut late = Vec::new();
    for case in cases() {
        let timeout = Duration::from_secs(u64::from(case.timeout));
        let margin = Deadline::margin(timeout);
        let slow = case.longest(&rules, Duration::ZERO, false, MOST);
        let hanging = case.longest(&rules, Duration::ZERO, true, MOST);
        // Another action had the lock for as long as it is waited for.
        let waiting = if matches!(case.task, Task::Monitor) { Duration::ZERO } else { (timeout - margin) / 2 };
        let locked = case.longest(&rules, waiting, false, MOST).max(case.longest(&rules, waiting, true, MOST));
        let longest = slow.max(hanging).max(locked);
        println!("{}: {}, tools hang {}, locked {}", case.row, seconds(slow), seconds(hanging), seconds(locked));
        if longest > timeout - margin / 4 {
            late.push(format!("{}: {} of {} s", case.row, seconds(longest), case.timeout));
        }
        match rows.iter_mut().find(|(row, ..)| *row == case.row) {
            Some((_, _, before, hung)) => (*before, *hung) = ((*before).max(slow), (*hung).max(hanging)),
            None => rows.push((case.row, case.timeout, slow, hanging)),
        }
    }
    assert!(late.is_empty(), "{}", late.join("\n"));
    let rows =
        rows.into_iter().map(|(row, timeout, slow, hanging)| [row.to_owned(), format!("{timeout} s"), seconds(slow), seconds(hanging)]);
    let head = ["action", "advertised timeout", "at most, cluster tools slow", "cluster tools hanging"].map(str::to_owned);
    let table: Vec<_> = [head].into_iter().chain(rows).collect();
    assert_eq!(model::slowest::check_documented("docs/redis.md", &table), Ok(()));
}
