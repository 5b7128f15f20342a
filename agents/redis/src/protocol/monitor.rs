//! `monitor`: what the server does, and what the cluster should know of it. With nothing changed it starts no process.

use ocf::{Failure, Status};
use process::Identity;
use promotable::Remembered as _;

use super::{Answer, Event, Instance, LinkTrouble, OfCluster, OfProcess, OfServer, Sight, Word};
use crate::info::ReplicationRole;
use crate::limits;
use crate::preference::{self, Circumstances};
use crate::server::{Fault, Observation};
use crate::state::{State, Unheard};

/// For how many monitors in a row a server may say nothing and work: five minutes and more, because what ends with it may be all data.
const WORKS_AT_MOST: u32 = 30;
/// For how many a replica may say nothing and do nothing that could be seen: half a minute, longer than a resolver waits for one name server
/// after the other. It serves reads in between; one that hangs on its disk for good has to be ended, since no election passes over one that is
/// alive. Of a primary one is enough: nobody can write meanwhile.
const STILL_AT_MOST: u32 = 3;
/// From which monitor in a row on an operator is told that a server is busy.
const BUSY_FOR_LONG: u32 = 3;
/// What ends a script, or a function.
const END_OF_SCRIPT: &str = "; end it with: redis-cli script kill, or function kill";

impl Instance<'_> {
    /// Finds out what the instance does. `unknown`: why its memory cannot be read, when it cannot.
    pub(crate) async fn monitor(mut self, unknown: Option<Failure>) -> Result<Status, Failure> {
        let before = self.state.clone();
        let Some(process) = self.find().await else { return self.found_dead(&before).await };
        if let Some(failure) = unknown {
            return self.remembers_nothing(&process, failure).await;
        }
        if !self.state.ours() {
            let objections = self.texts(OfProcess::Objections(process.clone())).await;
            if !objections.is_empty() {
                return Ok(status(&self.state, &objections));
            }
        }
        let limit = limits::step(limits::ANSWER, self.left());
        match self.look(&process, limit).await {
            Sight::Answered(seen) => self.judge(&before, &seen).await,
            Sight::Engaged(why) => {
                // It says so: it is neither silent nor stuck.
                let busy_for = self.busy_for() + 1;
                Ok(self.goes_on(&why, END_OF_SCRIPT, Unheard { busy_for, ..Unheard::default() }).await)
            }
            Sight::Working(why) => self.works_silently(&process, &why).await,
            Sight::Still(why) if !self.state.promoted() => self.is_still(&process, &why).await,
            Sight::Unasked(fault) => {
                let unsaved = self.unsaved(&before).await;
                let mut wrong = if matches!(fault, Fault::Denied(_)) { self.texts(OfServer::Misconfiguration).await } else { Vec::new() };
                wrong.push(fault.to_string());
                wrong.extend(unsaved);
                Ok(status(&self.state, &wrong))
            }
            Sight::Ended => self.found_dead(&before).await,
            Sight::Deaf(why) => {
                let limit = limits::ENDING.min(self.left());
                if self.flag(OfProcess::Gone(process.clone(), limit)).await {
                    return self.found_dead(&before).await;
                }
                self.broken(&format!("the server (pid {}) runs and does not listen: {why}", process.pid)).await
            }
            Sight::Still(why) | Sight::Stuck(why) => self.broken(&format!("the server (pid {}) is stuck: {why}", process.pid)).await,
        }
    }

    /// The memory is another version's: what runs is left as it is, in the role that the server itself shows. Nothing is decided, and
    /// nothing written, or that memory would be gone.
    async fn remembers_nothing(&mut self, process: &Identity, failure: Failure) -> Result<Status, Failure> {
        let limit = limits::step(limits::ANSWER, self.left());
        match self.look(process, limit).await {
            Sight::Ended => return Ok(Status::NotRunning),
            Sight::Answered(seen) if seen.info.role == ReplicationRole::Primary && seen.gate_open() => self.state.take_over(None),
            _ => {}
        }
        let wrong = if self.rules.probe { vec![] } else { vec![failure.reason] };
        Ok(status(&self.state, &wrong))
    }

    async fn works_silently(&mut self, process: &Identity, why: &str) -> Result<Status, Failure> {
        let working_for = self.unheard().working_for + 1;
        if working_for >= WORKS_AT_MOST {
            return self.broken(&format!("the server (pid {}) is stuck: in {WORKS_AT_MOST} monitors, {why}", process.pid)).await;
        }
        let busy_for = self.busy_for() + 1;
        Ok(self.goes_on(why, "", Unheard { busy_for, working_for, ..self.unheard() }).await)
    }

    /// A replica that says nothing, and of which no work is seen.
    async fn is_still(&mut self, process: &Identity, why: &str) -> Result<Status, Failure> {
        let still_for = self.unheard().still_for + 1;
        if still_for >= STILL_AT_MOST {
            return self.broken(&format!("the server (pid {}) is stuck: in {STILL_AT_MOST} monitors, {why}", process.pid)).await;
        }
        let before = self.state.clone();
        let busy_for = self.busy_for() + 1;
        self.state.of_process(|process| process.unheard = Unheard { busy_for, still_for, ..process.unheard });
        let unsaved = self.unsaved(&before).await;
        let silent = format!("the server says nothing: {why}; see that its disk and the name servers of this node answer");
        Ok(status(&self.state, &std::iter::once(silent).chain(unsaved).collect::<Vec<_>>()))
    }

    fn unheard(&self) -> Unheard {
        self.state.process.as_ref().map_or_else(Unheard::default, |process| process.unheard)
    }

    fn busy_for(&self) -> u32 {
        self.unheard().busy_for
    }

    /// A server that is busy is left alone. Whoever waits for it learns what for, and what ends it.
    async fn goes_on(&mut self, why: &str, remedy: &str, unheard: Unheard) -> Status {
        self.warning(format!("the server is alive and busy: {why}")).await;
        let before = self.state.clone();
        self.state.of_process(|process| process.unheard = unheard);
        let unsaved = self.unsaved(&before).await;
        let monitors = unheard.busy_for;
        let busy = (monitors >= BUSY_FOR_LONG).then(|| format!("the server has been busy for {monitors} monitors: {why}{remedy}"));
        status(&self.state, &busy.into_iter().chain(unsaved).collect::<Vec<_>>())
    }

    /// Remembers what has changed, or says why it cannot: a healthy server is not ended for a directory that is full.
    async fn unsaved(&mut self, before: &State) -> Option<String> {
        self.save_if_other_than(before).await.err().map(|failure| failure.reason)
    }

    /// The server answered: is it what it should be?
    async fn judge(&mut self, before: &State, seen: &Observation) -> Result<Status, Failure> {
        self.state.of_process(|process| process.unheard = Unheard::default());
        if !self.rules.probe {
            self.set_back().await;
        }
        if seen.info.role == ReplicationRole::Primary && !self.state.promoted() {
            if let Some(status) = self.unexpected_primary(seen).await? {
                return Ok(status);
            }
        }
        if seen.info.role == ReplicationRole::Replica && self.state.promoted() {
            // Somebody made it a replica behind our back. It certainly takes no writes.
            self.warning("the primary has become a replica without a demotion").await;
            self.state.end_reign();
            self.state.holds_what_is_others(&seen.info);
        }
        if self.state.promoted() && !seen.gate_open() {
            return Err(Failure::promoted(
                "the primary is closed for writes (min-replicas-to-write): somebody changed it, or its promotion did not end",
            ));
        }
        self.note_link(seen).await;
        if self.rules.probe {
            // A probe finds out and changes nothing, but what it found has to be remembered.
            let unsaved = self.unsaved(before).await;
            return Ok(status(&self.state, &[observed(seen), unsaved.into_iter().collect()].concat()));
        }
        if !self.state.ours() {
            if let Err(fault) = self.adopt(seen).await {
                // That the agent cannot tell it says nothing of the server, which others may be using.
                let unsaved = self.unsaved(before).await;
                return Ok(status(&self.state, &[observed(seen), vec![fault.to_string()], unsaved.into_iter().collect()].concat()));
            }
        }
        let noticed = if self.state.promoted() {
            self.tend_record(seen).await;
            let gate = self.tend_gate(seen).await?;
            self.publish_writes().await;
            self.state.reign().and_then(|reign| reign.contested.clone()).or(gate)
        } else {
            self.tend_link(seen).await
        };
        self.stand_up();
        let unsaved = self.unsaved(before).await;
        self.tell_score(seen).await?;
        if let Some(process) = self.state.server().cloned().filter(|_| self.rules.clustered) {
            self.ask(OfProcess::Watch(process, None)).await;
        }
        let complaints = self.texts(OfServer::Complaints).await;
        Ok(status(&self.state, &[observed(seen), noticed.into_iter().chain(unsaved).collect(), complaints].concat()))
    }

    /// Publishes whether writes go on when that changed.
    async fn publish_writes(&mut self) {
        let go_on = self.short_since().is_none();
        let now = self.now();
        let stands = |(value, at): (bool, _)| value == go_on && now.saturating_sub(at) < promotable::limits::WRITES_STAND;
        if !self.rules.clustered || self.state.writes.is_some_and(stands) {
            return;
        }
        match self.perform(OfCluster::PublishWrites(go_on)).await {
            Ok(()) => self.state.writes = Some((go_on, now)),
            Err(e) => self.warning(format!("whether writes go on cannot be published: {e}")).await,
        }
    }

    /// A replica whose link is up is one that follows, and knows the record.
    async fn note_link(&mut self, seen: &Observation) {
        if !seen.info.link_up || seen.info.role != ReplicationRole::Replica {
            return;
        }
        self.state.of_process(|process| process.linked = true);
        self.stand_back(false).await;
        self.state.as_unpromoted(|unpromoted| unpromoted.held_until = None);
        if self.state.record.is_none() {
            // Asked now, so that an election need not wait for it.
            match self.record().await {
                Ok(record) => self.state.record = record,
                // A healthy server must not be restarted because the cluster is not to be asked.
                Err(e) => self.warning(format!("the record cannot be read: {e}")).await,
            }
        }
    }

    /// A server with the role of a primary that we did not promote: taken over when the record names us, or nobody
    /// (a running replication comes under Pacemaker); otherwise closed and reported.
    async fn unexpected_primary(&mut self, seen: &Observation) -> Result<Option<Status>, Failure> {
        let record = self.record().await?;
        let me = self.me()?;
        let ours = match &record {
            None => true,
            Some(record) => {
                let known = |id: &String| record.history.as_ref() == Some(id);
                record.node == me && (known(&seen.info.replid) || seen.info.replid2.as_ref().is_some_and(known))
            }
        };
        if ours && seen.gate_open() {
            self.notice("taking over a running primary").await;
            self.state.take_over(record);
            return Ok(None);
        }
        if !seen.gate_open() {
            // Otherwise it is a promotion that was killed half-way: it takes no writes, and Pacemaker promotes or demotes it next.
            let recorded = |node: &String| node != me && record.as_ref().is_some_and(|r| r.node == *node);
            if let Some(primary) = self.state.following().map(str::to_owned).filter(recorded) {
                self.warning(format!(
                    "somebody made the server a primary (closed for writes), and {primary} is the recorded one: making it follow"
                ))
                .await;
                if self.state.may_part_with_data() {
                    self.part_with_data(&seen.info).await;
                }
                self.tell(Word::Follow(primary)).await?;
            }
            return Ok(Some(Status::Running));
        }
        self.tell(Word::CloseGate).await?;
        let recorded = record.map_or_else(String::new, |r| r.node);
        Err(Failure::promoted(format!(
            "the server has the role of a primary, but {recorded} is the recorded one: it was closed for writes"
        )))
    }

    /// On a replica: it follows whom it should, and an operator learns when it cannot.
    async fn tend_link(&mut self, seen: &Observation) -> Option<String> {
        if seen.info.role != ReplicationRole::Replica || seen.info.loading {
            return None;
        }
        let now = self.now();
        let detached = self.state.as_unpromoted(|unpromoted| {
            let since = (!seen.info.link_up).then(|| unpromoted.detached_since.unwrap_or(now));
            unpromoted.detached_since = since;
            since
        });
        let for_long = detached.is_some_and(|since| now.saturating_sub(since) >= limits::LINK_DOWN);
        let Some(primary) = self.state.following().map(str::to_owned) else {
            let was_refused = self.state.unpromoted().is_some_and(|unpromoted| unpromoted.refused.is_some());
            if for_long && self.rules.clustered && !was_refused {
                if let Some(followed) = self.follow_recorded(seen, None).await {
                    return followed.err();
                }
            }
            let unknown = || "see the log of whom the cluster asked last".to_owned();
            let refused = self.state.unpromoted().and_then(|unpromoted| unpromoted.refused.as_ref());
            let why = refused.map_or_else(unknown, |why| format!("not promoted: {why}"));
            return (for_long && self.rules.clustered).then(|| format!("nobody is promoted, so the server follows nobody: {why}"));
        };
        let (host, port) = self.rules.params.address_of(&primary);
        if seen.info.primary != Some((host.clone(), port)) {
            self.warning(format!("the server does not follow {primary}: making it follow")).await;
            if self.state.may_part_with_data() {
                self.part_with_data(&seen.info).await;
            }
            let followed = self.tell(Word::Follow(primary.clone())).await;
            return followed.err().map(|e| format!("it could not be made to follow {primary}: {e}"));
        }
        // A link that was never up has no age.
        let for_long = for_long || seen.info.link_down_seconds.is_some_and(|s| s >= limits::LINK_DOWN.as_secs());
        if seen.info.link_up || !for_long {
            return None;
        }
        if let Some(followed) = self.follow_recorded(seen, Some(&primary)).await {
            return followed.err();
        }
        let cause = match self.ask(OfServer::LinkTrouble).await {
            Event::Own(Answer::Link(cause)) => cause,
            _ => LinkTrouble::Unknown,
        };
        // Whose login is refused tries the older way to get a copy, each second, and says so for a moment.
        (!seen.info.syncing || cause == LinkTrouble::Login)
            .then(|| format!("the link to the primary on {primary} ({host}:{port}) is down: {}", cause.remedy()))
    }

    /// Another may have been promoted while nobody told this node: makes it follow that one. `None` when the record names nobody else than
    /// `instead_of`; otherwise whether it was made to, or why not.
    async fn follow_recorded(&mut self, seen: &Observation, instead_of: Option<&str>) -> Option<Result<(), String>> {
        let me = self.me().ok()?;
        let is_other = |node: &str| node != me && Some(node) != instead_of;
        let record = self.record().await.ok().flatten().filter(|record| record.history.is_some() && is_other(&record.node))?;
        let primary = record.node;
        let instead = instead_of.map_or_else(|| "and this server follows nobody".to_owned(), |node| format!("and not {node}"));
        self.warning(format!("{primary} is the recorded primary, {instead}: following it")).await;
        self.state.follow_promoted(primary.clone());
        if self.state.may_part_with_data() {
            self.part_with_data(&seen.info).await;
        }
        let followed = self.tell(Word::Follow(primary.clone())).await;
        Some(followed.map_err(|e| format!("it could not be made to follow {primary}: {e}")))
    }

    /// The time is over for which it stands back: the score is what the server is worth again.
    fn stand_up(&mut self) {
        let now = self.now();
        self.state.as_unpromoted(|unpromoted| unpromoted.stands_back = unpromoted.stands_back.filter(|(_, until)| now < *until));
    }

    /// Publishes the promotion score when it changed.
    async fn tell_score(&mut self, seen: &Observation) -> Result<(), Failure> {
        if !self.rules.clustered {
            return Ok(());
        }
        if let Some(score) = self.state.stands_at() {
            self.offer(score).await;
            return Ok(());
        }
        let now = self.now();
        let held = self.state.held_until().is_some_and(|until| now < until);
        let cold = !self.state.promoted() && !self.state.linked() && !held;
        // Only a cold start has to ask the CIB.
        let recorded = match if cold { self.record().await } else { Ok(None) } {
            Ok(record) => record.is_some_and(|r| self.me().is_ok_and(|me| r.node == me)),
            Err(e) => {
                self.warning(format!("no promotion score, because the record cannot be read: {e}")).await;
                return Ok(());
            }
        };
        let circumstances = Circumstances { promoted: self.state.promoted(), linked: self.state.linked(), held, recorded };
        self.offer(preference::score(&seen.info, circumstances)).await;
        Ok(())
    }
}

impl LinkTrouble {
    fn remedy(self) -> &'static str {
        match self {
            Self::Login => "the primary refuses its login; correct masterauth and masteruser (docs/redis.md, changing the password)",
            Self::Network => "nobody answers there; see that its server runs, and check bind, port and firewall",
            Self::Name => "the name is not known here; write it into /etc/hosts",
            Self::Unknown => "check that the name resolves, bind, firewall and masterauth; the server's log says more",
        }
    }
}

/// What a server says of itself that somebody should mend.
fn observed(seen: &Observation) -> Vec<String> {
    let unsaved = "the last save to disk failed: free space, or correct owner and mode of the data directory; see the server's log";
    let emptied = "it threw its data away for a copy that it could not load: see the server's log (is it older than the primary?)";
    let told = [(seen.info.save_failed, unsaved), (seen.info.emptied(), emptied)];
    told.into_iter().filter(|(is, _)| *is).map(|(_, what)| what.to_owned()).chain(seen.complaint.clone()).collect()
}

/// It runs; whether all is well.
fn status(state: &State, wrong: &[String]) -> Status {
    match (state.promoted(), wrong) {
        (true, []) => Status::Promoted,
        (false, []) => Status::Running,
        (true, _) => Status::DegradedPromoted(wrong.join("; ")),
        (false, _) => Status::Degraded(wrong.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ocf::{Environment, Values};
    use promotable::Machine;

    use super::*;
    use crate::info::Info;
    use crate::params::{ALL, Params};
    use crate::protocol::{Effect, Moment, OfCluster, Rules};
    use crate::record::Record;

    /// The answer of a monitor, and what it had remembered. `sight`: what a look at the server shows. The cluster cannot be asked.
    fn monitor(probe: bool, state: State, unknown: Option<&str>, sight: &Sight) -> (Result<Status, Failure>, Vec<State>) {
        monitor_with(&[], &Event::Done(Ok(())), probe, state, unknown, sight)
    }

    /// The same with parameters, and with what the server answers to an order, or the directory for state to what is written there, or the
    /// cluster to the question for the record.
    fn monitor_with(
        given: &[(&str, &str)],
        done: &Event,
        probe: bool,
        state: State,
        unknown: Option<&str>,
        sight: &Sight,
    ) -> (Result<Status, Failure>, Vec<State>) {
        let given = given.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), (*value).to_owned()));
        let params = Params::new(&Values::read(ALL, &Environment::from_pairs(given)).unwrap());
        let rules = Rules {
            params: &params,
            resource: "redis",
            node: Ok("a".to_owned()),
            clustered: true,
            probe,
            servers: Some(3),
            decide: String::new(),
            withdrawal: String::new(),
        };
        let moment = Moment { now: Duration::from_secs(1000), left: Duration::from_secs(20) };
        let process = Identity { pid: 1, start_ticks: 1, boot: String::new() };
        let mut saved = Vec::new();
        let machine = Machine::new(|port| Instance::new(&rules, state, moment, port).monitor(unknown.map(Failure::generic)));
        let answer = machine.run(|effect| {
            let event = match effect {
                Effect::Save(state) => {
                    saved.push(*state);
                    if matches!(done, Event::Done(_)) { done.clone() } else { Event::Done(Ok(())) }
                }
                Effect::Own(OfServer::Tell(_)) => match done {
                    Event::Own(told) => Event::Own(told.clone()),
                    _ => Event::Own(Answer::Told(Ok(()))),
                },
                Effect::OfProcess(OfProcess::Find(_)) => Event::Found(Some(process.clone())),
                Effect::Own(OfServer::Look(..)) => Event::Own(Answer::Sight(sight.clone())),
                Effect::OfProcess(OfProcess::Objections(_)) | Effect::Own(OfServer::Complaints | OfServer::Misconfiguration) => {
                    Event::Texts(Vec::new())
                }
                Effect::OfCluster(OfCluster::ReadRecord) => match done {
                    Event::Record(_) => done.clone(),
                    _ => Event::Record(Err(Failure::generic("no answer"))),
                },
                Effect::OfCluster(OfCluster::ReplaceRecord(..)) => Event::Replaced(Ok(())),
                Effect::OfCluster(OfCluster::Score(_)) => Event::Done(Err(Failure::generic("no answer"))),
                Effect::OfProcess(OfProcess::Gone(..)) => Event::Flag(false),
                _ => Event::Done(Ok(())),
            };
            (event, moment)
        });
        (answer, saved)
    }

    /// It would be one of nothing, and what the other version remembered would be gone.
    #[test]
    fn a_memory_that_another_version_wrote_is_not_replaced() {
        let busy = || "busy".to_owned();
        let unasked = Sight::Unasked(Fault::Denied("refused".to_owned()));
        let answered =
            Sight::Answered(Box::new(Observation { info: Info::parse("role:slave").unwrap(), gate: 0, lag: 0, complaint: None }));
        for sight in [
            answered,
            Sight::Engaged(busy()),
            Sight::Working(busy()),
            unasked,
            Sight::Deaf(busy()),
            Sight::Still(busy()),
            Sight::Stuck(busy()),
        ] {
            let degraded = Status::Degraded("version 2".to_owned());
            for (probe, status) in [(false, degraded), (true, Status::Running)] {
                let (answer, saved) = monitor(probe, State::default(), Some("version 2"), &sight);
                assert_eq!(saved, [], "{sight:?}");
                assert_eq!(answer, Ok(status), "{sight:?}");
            }
        }
    }

    /// The primary looks who is away, whether the record can be read or not.
    #[test]
    fn a_record_that_cannot_be_read_does_not_end_what_a_monitor_does() {
        let mut state = State::default();
        state.has_started(Identity { pid: 1, start_ticks: 1, boot: String::new() });
        state.become_primary(Record::parse("epoch=1 node=a history=h holders=a,b").unwrap(), Duration::ZERO);
        let info = Info::parse("role:master\nmaster_replid:h\nmaster_repl_offset:7\n").unwrap();
        let seen = Observation { info, gate: 0, lag: 0, complaint: None };
        let (answer, saved) = monitor(false, state, None, &Sight::Answered(Box::new(seen)));
        assert_eq!(answer, Ok(Status::Promoted));
        assert!(saved.last().and_then(State::reign).is_some_and(|reign| reign.away.contains_key("b")), "{saved:?}");
    }

    /// It was a holder with the data of last week while it waited for its copy, and was promoted with them when the primary died.
    #[test]
    fn a_replica_that_waits_for_its_copy_is_no_holder_without_a_promise() {
        let waits = |durability: &str, state: &str| {
            let (mut primary, mut seen) = primary_of_two();
            primary.nodes = ["a", "b", "c"].map(str::to_owned).into();
            let replica = |n: u8, node: &str| format!("slave{n}:ip={node},port=1,state={state},offset=0,lag=0\n");
            let text = format!("role:master\nmaster_replid:h\nmaster_repl_offset:7\n{}{}", replica(0, "b"), replica(1, "c"));
            seen.info = Info::parse(&text).unwrap();
            let (_, saved) = monitor_with(
                &[("durability", durability)],
                &Event::Record(Ok(primary.record.clone())),
                false,
                primary,
                None,
                &Sight::Answered(Box::new(seen)),
            );
            let reign = saved.last().and_then(State::reign).unwrap().clone();
            (reign.away.contains_key("b"), reign.holders.contains("c"))
        };
        for state in ["wait_bgsave", "send_bulk"] {
            assert_eq!(waits("async", state), (true, false), "{state}");
            // It is recorded before it can confirm a write.
            assert_eq!(waits("quorum", state), (false, true), "{state}");
        }
        assert_eq!(waits("async", "online"), (false, true));
    }

    fn primary_of_two() -> (State, Observation) {
        let mut state = State::default();
        state.has_started(Identity { pid: 1, start_ticks: 1, boot: String::new() });
        state.become_primary(Record::parse("epoch=1 node=a history=h holders=a,b").unwrap(), Duration::ZERO);
        let info = Info::parse("role:master\nmaster_replid:h\nmaster_repl_offset:7\n").unwrap();
        (state, Observation { info, gate: 0, lag: 3, complaint: None })
    }

    /// It was demoted within a minute, and its node banned.
    #[test]
    fn a_healthy_primary_is_not_ended_for_a_directory_that_is_full() {
        let (state, seen) = primary_of_two();
        let full = Event::Done(Err(Failure::generic("full")));
        let (answer, _) = monitor_with(&[], &full, false, state, None, &Sight::Answered(Box::new(seen)));
        assert_eq!(answer, Ok(Status::DegradedPromoted("full".to_owned())));
    }

    /// An account that lost a right: the primary serves its clients as before.
    #[test]
    fn a_healthy_primary_is_not_ended_because_the_agent_may_not_open_its_gate() {
        let (state, seen) = primary_of_two();
        let denied = Event::Own(Answer::Told(Err(Fault::Denied("no right".to_owned()))));
        let sight = Sight::Answered(Box::new(seen));
        let (answer, _) = monitor_with(&[("durability", "quorum")], &denied, false, state, None, &sight);
        assert!(matches!(&answer, Ok(Status::DegradedPromoted(why)) if why.contains("no right")), "{answer:?}");
    }

    /// Since when it follows nobody counts from the demotion, not from before the promotion.
    #[test]
    fn a_primary_that_was_demoted_just_now_is_not_degraded() {
        let mut state = State::default();
        state.has_started(Identity { pid: 1, start_ticks: 1, boot: String::new() });
        state.as_unpromoted(|unpromoted| unpromoted.detached_since = Some(Duration::from_secs(10)));
        state.become_primary(Record::parse("epoch=1 node=a history=h holders=a,b").unwrap(), Duration::from_secs(20));
        state.become_demoted(None);
        let seen = Observation { info: Info::parse("role:slave").unwrap(), gate: 0, lag: 0, complaint: None };
        let (answer, _) = monitor(false, state, None, &Sight::Answered(Box::new(seen)));
        assert_eq!(answer, Ok(Status::Running));
    }
}
