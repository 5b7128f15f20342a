//! What the protocols of all databases ask for in the same words, who asks, and what carries it out on this machine. What a database's own
//! servers are asked and told is the agent's ([`Database::Asked`], [`Driver`]).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use ocf::{Context, Failure, Outcome};
use pacemaker::{Disks, Score};
use process::Identity;

use crate::host::{Host, asked};
use crate::preference::{HANDED_OVER, STEPPED_BACK};
use crate::{Level, Machine, Memory, Moment, NotReplaced, Port, Record, StateFile, limits, operator, read_record, replace_record};

/// What can be compared, printed for a defect, and kept by a model.
pub trait Word: Clone + Debug + Eq + Hash {}

impl<T: Clone + Debug + Eq + Hash> Word for T {}

/// What a database's protocol is made of.
pub trait Database: Word + 'static {
    /// The parameters.
    type Params: Debug;
    /// What is remembered.
    type State: Remembered + Word;
    /// What is recorded of a promotion.
    type Record: Record + Word;
    /// What a node says of its server before an election.
    type Position: Position + Word;
    /// What is asked for besides: of the server, and of its files.
    type Asked: Word;
    /// What such an effect is answered with.
    type Answer: Word;
}

/// What a node publishes of its server, as a private attribute.
pub trait Position: Sized {
    /// The election that it is for.
    fn round(&self) -> &str;

    /// As a text that [`Self::parse`] reads.
    fn print(&self) -> String;

    /// Reads a position, `None` for anything else.
    fn parse(text: &str) -> Option<Self>;
}

/// What the frame has to know of a memory.
pub trait Remembered: Memory {
    /// The server that was started or taken over.
    fn server(&self) -> Option<&Identity>;

    /// Whether it is promoted.
    fn is_promoted(&self) -> bool;

    /// Why this node was not promoted.
    fn refuse(&mut self, why: String);

    /// Whether a demotion started it again after its death, and it follows nobody since.
    fn is_held(&self) -> bool;

    /// The score that stands until a time since boot, whatever the server is worth.
    fn stand_at(&mut self, score: Score, until: Duration);

    /// That score, until a monitor has published another one.
    fn stands_at(&self) -> Option<Score>;
}

/// What an action asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect<D: Database> {
    /// Write this into the log.
    Log(Level, String),
    /// Wait.
    Wait(Duration),
    /// Remember this until the next boot.
    Save(Box<D::State>),
    /// Something of the server's process.
    OfProcess(OfProcess),
    /// Something of the cluster.
    OfCluster(OfCluster<D>),
    /// Something of this database alone.
    Own(D::Asked),
}

/// What is asked of the server's process, or done to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OfProcess {
    /// Find the process of the server, which was this one. Answered by [`Event::Found`].
    Find(Option<Identity>),
    /// Say why a server that somebody else started must not be taken charge of. Answered by [`Event::Texts`].
    Objections(Identity),
    /// Tell it to end, and wait for this time, unless it cannot hear. Answered by [`Event::Flag`].
    Terminate(Identity, Duration),
    /// Kill it.
    Kill(Identity),
    /// Wait for its end. Answered by [`Event::Flag`].
    Gone(Identity, Duration),
    /// Let it stand back where others want the processor as well (`true`), or not any more.
    StandBack(Identity, bool),
    /// See that a crash of it is noticed at once.
    Watch(Identity, Option<Disks>),
}

/// What is asked of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum OfCluster<D: Database> {
    /// Publish this node's promotion score.
    Score(Score),
    /// Publish that of another node.
    ScoreOf(String, Score),
    /// Take away what Pacemaker keeps of a monitor of this node that answered degraded.
    ForgetDegraded,
    /// Publish this node's position.
    Publish(Box<D::Position>),
    /// Publish whether this primary's writes go on, or wait for replicas or are refused for want of them.
    PublishWrites(bool),
    /// Collect the positions of a round, until these nodes have spoken or the time is over. Answered by [`Event::Positions`].
    Hear(String, Vec<String>, Duration),
    /// Read the record. Answered by [`Event::Record`].
    ReadRecord,
    /// Put a record in the place of another. Answered by [`Event::Replaced`].
    ReplaceRecord(Option<Box<D::Record>>, Box<D::Record>),
}

impl<D: Database> From<OfProcess> for Effect<D> {
    fn from(effect: OfProcess) -> Self {
        Self::OfProcess(effect)
    }
}

impl<D: Database> From<OfCluster<D>> for Effect<D> {
    fn from(effect: OfCluster<D>) -> Self {
        Self::OfCluster(effect)
    }
}

/// What came of an effect. An effect that says nothing else is answered by `Done`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the answer of the effects that name it")]
pub enum Event<D: Database> {
    Done(Outcome),
    Flag(bool),
    Texts(Vec<String>),
    Found(Option<Identity>),
    Positions(Result<BTreeMap<String, D::Position>, Failure>),
    Record(Result<Option<D::Record>, Failure>),
    Replaced(Result<(), NotReplaced<D::Record>>),
    Own(D::Answer),
}

impl<D: Database> Event<D> {
    /// The answer to another question: a defect of whoever carries effects out.
    pub fn confused(&self) -> String {
        format!("an effect was answered with {self:.200?}: this is a defect of the agent; please report it")
    }
}

/// What holds for an action from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Rules<'a, P> {
    /// The parameters.
    pub params: &'a P,
    /// The resource's name.
    pub resource: &'a str,
    /// This node's name.
    pub node: Result<String, Failure>,
    /// Whether there is a cluster.
    pub clustered: bool,
    /// Whether somebody only wants to know: nothing is changed.
    pub probe: bool,
    /// How many servers there are, when the cluster said it.
    pub servers: Option<u32>,
    /// The command with which an operator names the node whose data are right.
    pub decide: String,
    /// The command that takes the record away.
    pub withdrawal: String,
}

impl<'a, P> Rules<'a, P> {
    /// Those of an action on this node.
    pub fn of(host: &'a Host, context: &Context, params: &'a P) -> Self {
        Self {
            params,
            resource: &host.membership.resource,
            node: host.node().map(str::to_owned),
            clustered: host.cluster.is_present(),
            probe: context.environment.is_probe(),
            servers: context.environment.clone_max(),
            decide: crate::decision(&host.cluster),
            withdrawal: crate::withdrawal(&host.cluster),
        }
    }

    /// This node's name.
    ///
    /// # Errors
    /// When the cluster does not say it.
    pub fn me(&self) -> Result<&str, Failure> {
        self.node.as_deref().map_err(Clone::clone)
    }
}

/// What an election says to the candidate, with its reason as a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Promote me.
    GoOn(String),
    /// Another is better.
    HandOver {
        /// Who.
        to: String,
        /// Why.
        reason: String,
    },
    /// Promote nobody now.
    Refuse(String),
}

impl Verdict {
    /// Who is promoted by this answer to the question of `me`.
    pub fn chosen<'a>(&'a self, me: &'a str) -> Option<&'a str> {
        match self {
            Self::GoOn(_) => Some(me),
            Self::HandOver { to, .. } => Some(to),
            Self::Refuse(_) => None,
        }
    }
}

/// An instance during one action: what it goes by, what it remembers, and what it asks through.
#[derive(Debug)]
pub struct Instance<'a, D: Database> {
    /// What holds.
    pub rules: &'a Rules<'a, D::Params>,
    /// What is remembered.
    pub state: D::State,
    port: Port<Effect<D>, (Event<D>, Moment)>,
    moment: Moment,
}

impl<'a, D: Database> Instance<'a, D> {
    /// An instance with its memory, at the beginning of an action.
    pub fn new(rules: &'a Rules<'a, D::Params>, state: D::State, moment: Moment, port: Port<Effect<D>, (Event<D>, Moment)>) -> Self {
        Self { rules, state, port, moment }
    }

    /// This node's name.
    ///
    /// # Errors
    /// When the cluster does not say it.
    pub fn me(&self) -> Result<&'a str, Failure> {
        self.rules.me()
    }

    /// The time since the boot.
    pub fn now(&self) -> Duration {
        self.moment.now
    }

    /// What is left of the action's time.
    pub fn left(&self) -> Duration {
        self.moment.left
    }

    /// Has an effect carried out.
    pub async fn ask(&mut self, effect: impl Into<Effect<D>>) -> Event<D> {
        let (event, moment) = self.port.ask(effect.into()).await;
        self.moment = moment;
        event
    }

    /// One of which only its failure is told.
    ///
    /// # Errors
    /// That failure.
    pub async fn perform(&mut self, effect: impl Into<Effect<D>>) -> Outcome {
        match self.ask(effect).await {
            Event::Done(outcome) => outcome,
            other => Err(Failure::generic(other.confused())),
        }
    }

    /// One that is answered with texts.
    pub async fn texts(&mut self, effect: impl Into<Effect<D>>) -> Vec<String> {
        match self.ask(effect).await {
            Event::Texts(texts) => texts,
            other => vec![other.confused()],
        }
    }

    /// One that is answered with yes or no.
    pub async fn flag(&mut self, effect: impl Into<Effect<D>>) -> bool {
        matches!(self.ask(effect).await, Event::Flag(true))
    }

    /// Says something to the operator.
    pub async fn log(&mut self, level: Level, text: impl Into<String>) {
        self.ask(Effect::Log(level, text.into())).await;
    }

    /// What an operator may want to know afterwards.
    pub async fn notice(&mut self, text: impl Into<String>) {
        self.log(Level::Notice, text).await;
    }

    /// What should be looked at.
    pub async fn warning(&mut self, text: impl Into<String>) {
        self.log(Level::Warning, text).await;
    }

    /// What failed.
    pub async fn error(&mut self, text: impl Into<String>) {
        self.log(Level::Error, text).await;
    }

    /// Lets time pass.
    pub async fn wait(&mut self, time: Duration) {
        self.ask(Effect::Wait(time)).await;
    }

    /// Remembers.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn save(&mut self) -> Outcome {
        self.perform(Effect::Save(Box::new(self.state.clone()))).await
    }

    /// The same when there is something new.
    ///
    /// # Errors
    /// What the file system says.
    pub async fn save_if_other_than(&mut self, before: &D::State) -> Outcome {
        if self.state == *before { Ok(()) } else { self.save().await }
    }

    /// The process of the server, if one runs.
    pub async fn process(&mut self) -> Option<Identity> {
        match self.ask(OfProcess::Find(self.state.server().cloned())).await {
            Event::Found(found) => found,
            _ => None,
        }
    }

    /// The server that a demotion started again stands back until somebody else is open: what takes over needs the processor now.
    pub async fn stand_back(&mut self, back: bool) {
        if let Some(process) = self.state.server().cloned().filter(|_| self.state.is_held()) {
            self.ask(OfProcess::StandBack(process, back)).await;
        }
    }

    /// The record.
    ///
    /// # Errors
    /// When it cannot be read: that is not the same as none.
    pub async fn record(&mut self) -> Result<Option<D::Record>, Failure> {
        match self.ask(OfCluster::ReadRecord).await {
            Event::Record(record) => record,
            other => Err(Failure::generic(other.confused())),
        }
    }

    /// Puts a record in the place of the one that it was made from.
    ///
    /// # Errors
    /// When another is there, or the cluster does not do it.
    pub async fn replace(&mut self, before: Option<D::Record>, record: &D::Record) -> Result<(), NotReplaced<D::Record>> {
        match self.ask(OfCluster::ReplaceRecord(before.map(Box::new), Box::new(record.clone()))).await {
            Event::Replaced(replaced) => replaced?,
            other => return Err(NotReplaced::Failed(Failure::generic(other.confused()))),
        }
        if self.rules.clustered {
            self.notice(format!("recorded: {record}")).await;
        }
        Ok(())
    }

    /// The positions of a round, until all of `expected` have spoken or the hearing ends.
    ///
    /// # Errors
    /// When the cluster cannot be asked.
    pub async fn hear(&mut self, round: &str, expected: Vec<String>, limit: Duration) -> Result<BTreeMap<String, D::Position>, Failure> {
        match self.ask(OfCluster::Hear(round.to_owned(), expected, limit)).await {
            Event::Positions(positions) => positions,
            other => Err(Failure::generic(other.confused())),
        }
    }

    /// Publishes this node's score; whoever could not is told by the log, and the next monitor tries again.
    pub async fn offer(&mut self, score: Score) {
        if let Err(e) = self.perform(OfCluster::Score(score)).await {
            self.warning(format!("the promotion score cannot be published: {e}")).await;
        }
    }

    /// This node is no candidate any more.
    pub async fn lower(&mut self) {
        if let Err(e) = self.perform(OfCluster::Score(Score::NEVER)).await {
            self.warning(format!("the promotion score cannot be lowered: {e}")).await;
        }
    }

    /// Changes the scores so that the cluster plans anew, and returns the reason.
    ///
    /// # Errors
    /// When a score cannot be published, or nothing remembered.
    pub async fn give_way(&mut self, verdict: Verdict) -> Result<String, Failure> {
        let (score, reason) = match verdict {
            Verdict::GoOn(reason) => return Ok(reason),
            Verdict::HandOver { to, reason } => {
                self.notice(format!("handing over to {to}: {reason}")).await;
                self.perform(OfCluster::ScoreOf(to.clone(), HANDED_OVER)).await?;
                (STEPPED_BACK, format!("{to} is to be promoted instead: {reason}"))
            }
            Verdict::Refuse(reason) => {
                self.error(format!("refusing the promotion: {reason}")).await;
                self.state.refuse(reason.clone());
                (Score::NEVER, reason)
            }
        };
        let until = self.now() + limits::STANDS_BACK;
        self.state.stand_at(score, until);
        self.save().await?;
        // The plan that ends now has cancelled this node's monitor. Before the score, so that the next plan starts it again.
        if let Err(e) = self.perform(OfCluster::ForgetDegraded).await {
            self.warning(format!("the monitor that answered degraded cannot be forgotten: {e}")).await;
        }
        self.perform(OfCluster::Score(score)).await?;
        Ok(reason)
    }

    /// Whether this node was refused, and no monitor has raised its score since.
    pub fn is_refused(&self) -> bool {
        self.state.stands_at() == Some(Score::NEVER)
    }

    /// Makes a node that was refused a candidate again, the last one, once somebody else is promoted: who that is, and what is recorded. What
    /// it is worth its monitor says, which may have been lost with the plan that the refusal ended. A promotion that failed is not recorded:
    /// who was refused waits its time then.
    pub async fn stand_again(&mut self, primary: &str, record: Option<&D::Record>) {
        if record.is_some_and(|record| record.node() == primary) {
            self.offer(STEPPED_BACK).await;
        }
    }

    /// What a monitor says that finds no process. A primary that died is lowered *before* it is reported: after the demotion the scheduler
    /// would find the highest score there and promote it again.
    ///
    /// # Errors
    /// That a primary is dead.
    pub async fn found_dead(&mut self, before: &D::State) -> Result<ocf::Status, Failure> {
        if !self.rules.probe && before.server().is_some() {
            self.lower().await;
            if before.is_promoted() {
                return Err(Failure::promoted("the primary's server is gone: it died or was killed; see its log"));
            }
        }
        Ok(ocf::Status::NotRunning)
    }

    /// What a monitor says that finds a server which serves nobody.
    ///
    /// # Errors
    /// Always: why.
    pub async fn broken(&mut self, why: &str) -> Result<ocf::Status, Failure> {
        if self.rules.probe {
            return Err(Failure::generic(why));
        }
        self.lower().await;
        Err(if self.state.is_promoted() { Failure::promoted(why) } else { Failure::generic(why) })
    }
}

/// What carries out on this machine what is this database's own.
pub trait Driver {
    /// The database.
    type Database: Database;

    /// Carries an effect out that is this database's own.
    fn own(&mut self, effect: <Self::Database as Database>::Asked) -> Event<Self::Database>;

    /// Asks the server's process, or does something to it.
    fn of_process(&mut self, effect: OfProcess) -> Event<Self::Database>;

    /// Lets time pass.
    fn wait(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    /// The time since the boot.
    fn now(&self) -> Duration {
        process::since_boot()
    }
}

/// What is asked of a process, or done to it, on this machine; [`OfProcess::Find`] is answered with what `find` finds.
pub fn of_process<D: Database>(
    host: &Host,
    context: &Context,
    effect: OfProcess,
    find: impl FnOnce(Option<&Identity>) -> Option<Identity>,
) -> Event<D> {
    match effect {
        OfProcess::Find(remembered) => return Event::Found(find(remembered.as_ref())),
        OfProcess::Objections(process) => return Event::Texts(host.runs_as_root(&process).into_iter().collect()),
        OfProcess::Terminate(process, limit) => return Event::Flag(crate::end_in_order(&process, limit)),
        OfProcess::Gone(process, limit) => return Event::Flag(process.wait_gone(limit)),
        OfProcess::Kill(process) => process.kill(),
        OfProcess::StandBack(process, true) => process.stand_back(),
        OfProcess::StandBack(process, false) => process.come_forward(),
        OfProcess::Watch(process, disks) => host.watch(context, &process, disks),
    }
    Event::Done(Ok(()))
}

/// The private attribute that holds a node's position.
const POSITION: &str = "position";
/// How often the positions are read.
const HEARING_STEP: Duration = Duration::from_millis(10);

/// What the nodes say of their servers, for whatever election.
///
/// # Errors
/// When the cluster cannot be asked.
pub fn positions<P: Position>(host: &Host) -> Result<BTreeMap<String, P>, Failure> {
    host.published(POSITION, P::parse)
}

/// What carries effects out during one action.
#[derive(Debug)]
pub struct Engine<'a, D: Driver> {
    host: &'a Host,
    context: &'a Context,
    state_file: &'a StateFile<<D::Database as Database>::State>,
    driver: D,
}

impl<'a, D: Driver> Engine<'a, D> {
    /// With what the driver does for this database alone.
    pub fn new(host: &'a Host, context: &'a Context, state_file: &'a StateFile<<D::Database as Database>::State>, driver: D) -> Self {
        Self { host, context, state_file, driver }
    }

    /// Carries out an action of an instance that remembers this.
    pub fn run<'r, T, F: Future<Output = T> + 'r>(
        mut self,
        rules: &'r Rules<'r, <D::Database as Database>::Params>,
        state: <D::Database as Database>::State,
        action: impl FnOnce(Instance<'r, D::Database>) -> F,
    ) -> T {
        let begin = self.moment();
        Machine::new(|port| action(Instance::new(rules, state, begin, port))).run(|effect| {
            let event = self.carry_out(effect);
            (event, self.moment())
        })
    }

    /// Now, in an action that must have answered by its deadline.
    fn moment(&self) -> Moment {
        Moment { now: self.driver.now(), left: self.context.deadline.left() }
    }

    fn carry_out(&mut self, effect: Effect<D::Database>) -> Event<D::Database> {
        match effect {
            Effect::Log(level, text) => {
                self.host.witness.said(&text);
                level.say(&self.context.log, &text);
                Event::Done(Ok(()))
            }
            Effect::Wait(time) => {
                self.driver.wait(time);
                Event::Done(Ok(()))
            }
            Effect::Save(state) => Event::Done(self.state_file.save(&state)),
            Effect::OfProcess(effect) => self.driver.of_process(effect),
            Effect::OfCluster(effect) => self.of_cluster(effect),
            Effect::Own(effect) => self.driver.own(effect),
        }
    }

    fn of_cluster(&self, effect: OfCluster<D::Database>) -> Event<D::Database> {
        let cluster = &self.host.cluster;
        match effect {
            OfCluster::Score(score) => Event::Done(asked(cluster.publish_score(score))),
            OfCluster::ScoreOf(node, score) => Event::Done(asked(cluster.publish_score_of(&node, score))),
            OfCluster::ForgetDegraded => Event::Done(asked(cluster.forget_degraded())),
            OfCluster::Publish(position) => Event::Done(asked(cluster.publish_private(POSITION, &position.print()))),
            OfCluster::PublishWrites(go_on) => Event::Done(asked(cluster.publish_private(operator::WRITES, operator::print_writes(go_on)))),
            OfCluster::Hear(round, expected, limit) => Event::Positions(self.hear(&round, &expected, limit)),
            OfCluster::ReadRecord => {
                let record = read_record::<<D::Database as Database>::Record>(cluster);
                if let Ok(record) = &record {
                    self.host.witness.read(record.as_ref());
                }
                Event::Record(record)
            }
            OfCluster::ReplaceRecord(before, record) => Event::Replaced(replace_record(cluster, before.as_deref(), &record)),
        }
    }

    fn hear(
        &self,
        round: &str,
        expected: &[String],
        limit: Duration,
    ) -> Result<BTreeMap<String, <D::Database as Database>::Position>, Failure> {
        let begin = std::time::Instant::now();
        loop {
            let mut positions: BTreeMap<_, <D::Database as Database>::Position> = positions(self.host)?;
            positions.retain(|_, position| position.round() == round);
            if expected.iter().all(|node| positions.contains_key(node)) || begin.elapsed() >= limit {
                return Ok(positions);
            }
            std::thread::sleep(HEARING_STEP);
        }
    }
}
