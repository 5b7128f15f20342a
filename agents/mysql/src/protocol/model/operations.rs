//! The agents' actions in this world, and how writes come back.

use std::time::Duration;

use model::{Budget, Cut, Kind, Nodes, Op, Operations as _, Replacement, Run, Shared, World as _, name};
use ocf::{Failure, Notification, Peers, Status};
use promotable::{Machine, Moment};

use super::{Cluster, Kinds, Loss, MOST, Memory, Own, Past, State, World};
use crate::protocol::{Alone, Effect, Instance, OfCluster, Rules};
use crate::record::Record;

/// So much time passes at least when an action waits: what it waits for is there then, or does not come.
const STEP: Duration = Duration::from_secs(1);

pub(super) fn later(moment: Moment, effect: &Effect) -> Moment {
    match effect {
        Effect::Wait(time) => Moment { now: moment.now + STEP.max(*time), ..moment },
        _ => moment,
    }
}

pub(super) fn replacement(effect: &Effect) -> Option<Replacement<Kinds>> {
    match effect {
        Effect::OfCluster(OfCluster::ReplaceRecord(before, record)) => Some((before.as_deref().cloned(), Record::clone(record))),
        _ => None,
    }
}

/// An operation of Pacemaker's, `None` for a monitor.
pub(super) async fn operate(instance: Instance<'_>, kind: Option<Kind>, peers: Peers) -> Result<Status, Failure> {
    let done = |outcome: Result<(), Failure>| outcome.map(|()| Status::Running);
    match kind {
        None => instance.monitor(Alone::Yes, None, 0).await,
        Some(Kind::Start) => done(instance.start(peers).await.map(drop)),
        Some(Kind::Promote) => done(instance.promote(peers).await),
        Some(Kind::Demote) => done(instance.demote(peers).await),
        Some(Kind::Reload) => done(instance.reload().await),
        Some(Kind::Notify(phase, operation)) => done(instance.notify(Notification { phase, operation, peers }, false).await),
        Some(Kind::Stop) => Ok(Status::NotRunning),
    }
}

impl World {
    pub(super) fn rules(&self, s: &Cluster, n: usize) -> Rules<'_> {
        Rules {
            params: if s.careless { &self.careless } else { &self.params },
            resource: "mysql",
            node: Ok(name(n)),
            clustered: true,
            probe: false,
            servers: u32::try_from(self.servers).ok(),
            decide: "DECIDE".to_owned(),
            withdrawal: "WITHDRAW".to_owned(),
        }
    }

    /// The machine of an operation, `None` for a monitor.
    pub(super) fn machine(rules: Rules<'_>, memory: Memory, peers: Peers, op: Option<Op>, moment: Moment) -> Run<'_, Self> {
        Machine::new(move |port| async move { operate(Instance::new(&rules, memory, moment, port), op.map(|op| op.kind), peers).await })
    }

    /// Nodes on which nothing was ever started.
    pub(super) fn nothing(&self) -> Cluster {
        let common = Nodes::new(self.servers, Own::default);
        Cluster { common, careless: false, writers: [0; MOST], written: 0, errant: 0, seen: 0, told_alone: 0, taken: 0 }
    }

    /// A primary and replicas that follow it and acknowledge, with a transaction that everybody has.
    pub(super) fn settled(&self) -> State {
        let mut s = State::new(self.nothing(), Past::default(), Budget::NOTHING);
        for n in 0..self.servers {
            self.plan_start(&mut s, n);
            self.finish(&mut s, Self::NOW, &mut String::new());
        }
        self.plan(&mut s, Some(0));
        self.finish(&mut s, Self::NOW, &mut String::new());
        self.settle(&mut s, Self::NOW);
        s.write(0);
        self.settle(&mut s, Self::NOW);
        assert_eq!((s.promoted, s.seen), (Some(0), 1), "{s:?}");
        s
    }

    /// With everything up and connected, and nothing else happening, a client sees a write again; or why not.
    pub(super) fn comes_back(&self, s: &State) -> Result<(), String> {
        let mut s = s.clone();
        s.late = None;
        let mut why = String::new();
        for node in &mut s.cluster.nodes {
            (node.alive, node.connected) = (true, true);
            if let Some(server) = node.server.as_mut() {
                server.broken = false;
            }
        }
        if self.sees_a_write(&s) {
            return Ok(());
        }
        for minute in 1..=10 {
            let moment = Self::after(180 * minute);
            self.finish(&mut s, moment, &mut why);
            self.settle(&mut s, moment);
            if self.sees_a_write(&s) {
                return Ok(());
            }
            if self.copies {
                Self::copy_to_the_diverged(&mut s);
            }
            if let Some(n) = (0..self.servers).find(|n| !s.nodes[*n].started) {
                self.plan_start(&mut s, n);
                continue;
            }
            if let Some(n) = (0..self.servers).find(|n| s.promoted != Some(*n) && s.server(*n).is_none()) {
                self.plan_restart(&mut s, n);
                continue;
            }
            // Twice, because what a candidate makes of the scores has the cluster plan anew at once.
            for _ in 0..2 {
                let well = s.promoted.is_some_and(|p| s.open().any(|n| n == p));
                if s.transition.is_empty() && !well {
                    let best = Self::best_candidate(&s);
                    self.plan(&mut s, best);
                    self.finish(&mut s, moment, &mut why);
                }
            }
        }
        Err(format!("{why} {s:?}"))
    }

    /// An operator makes those anew that will not follow.
    fn copy_to_the_diverged(s: &mut State) {
        let Some(data) = s.open().next().and_then(|p| s.server(p)).map(|primary| primary.executed) else { return };
        for n in (0..s.nodes.len()).filter(|n| s.nodes[*n].memory.errant().is_some()).collect::<Vec<_>>() {
            s.end_server(n, Loss::Nothing);
            let node = &mut *s.nodes[n];
            (node.started, node.score, node.memory) = (false, None, Shared::new(node.memory.of_stopped()));
            node.disk = (data, None);
        }
    }

    fn sees_a_write(&self, s: &State) -> bool {
        let mut s = s.clone();
        let Some(p) = s.promoted.filter(|p| s.open().any(|n| n == *p)) else { return false };
        if usize::from(s.written) == MOST {
            return true;
        }
        s.write(p);
        s.let_time_pass(p);
        s.server(p).unwrap().pending == 0
    }

    /// Links carry what there is, and each agent looks a few times.
    pub(super) fn settle(&self, s: &mut State, moment: Moment) {
        for round in 0..4 {
            for n in 0..self.servers {
                s.let_time_pass(n);
            }
            for n in 0..self.servers {
                if s.nodes[n].started && s.transition.is_empty() {
                    let moment = Moment { now: moment.now + STEP * 10 * round, ..moment };
                    self.run(s, n, None, Cut::Nowhere, moment);
                }
            }
        }
    }
}
