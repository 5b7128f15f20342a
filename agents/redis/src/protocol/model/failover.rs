//! Whole failovers without a server, in milliseconds: the agent's engine and state files, a cluster in memory, and the model's servers.

use std::cell::RefCell;
use std::time::Duration;

use model::{Directories, Kind, Nodes, Site as _, Subject, World as _, name, number};
use ocf::{Failure, Status};
use pacemaker::{InMemory, Score};
use promotable::preference::{HANDED_OVER, STEPPED_BACK};
use promotable::{Driver, Engine, Host, StateFile};

use super::tests::quiet;
use super::world::of_process;
use super::{Cluster, NODES, Own, World, operate};
use crate::protocol::{Answer, Database, Event, OfProcess, OfServer, Rules};
use crate::state::State as Memory;

/// The server of one node.
struct Fake<'a> {
    site: &'a Site,
    n: usize,
    state_file: &'a StateFile<Memory>,
}

impl Driver for Fake<'_> {
    type Database = Database;

    fn own(&mut self, effect: OfServer) -> Event {
        let remembered = if let OfServer::Launch(state, _) = &effect { Some(state.clone()) } else { None };
        let event = self.site.world.of_server(&mut self.site.servers.borrow_mut(), self.n, effect);
        if let (Some(mut state), Event::Own(Answer::Launched(Ok((process, _))))) = (remembered, &event) {
            state.has_started(process.clone());
            self.state_file.save(&state).unwrap();
        }
        event
    }

    fn of_process(&mut self, effect: OfProcess) -> Event {
        of_process(&mut self.site.servers.borrow_mut(), self.n, &effect)
    }

    fn wait(&mut self, _: Duration) {}
}

/// Three nodes.
struct Site {
    world: World,
    servers: RefCell<Cluster>,
    pacemaker: InMemory,
    directories: Directories,
}

impl model::Site for Site {
    const NODES: usize = NODES;

    fn act(&self, n: usize, kind: Option<Kind>, subject: Subject) -> Result<Status, Failure> {
        let context = Self::context(n, "redis");
        let host = Host::of(self.pacemaker.seen_by(&name(n), "redis", &self.directories.of(n)), context.deadline, "redis");
        let state_file = host.state_file();
        let driver = Fake { site: self, n, state_file: &state_file };
        let peers = self.world.peers(&self.servers.borrow(), subject);
        let rules = Rules::of(&host, &context, &self.world.params);
        Engine::new(&host, &context, &state_file, driver).run(&rules, state_file.load(), |instance| operate(instance.into(), kind, peers))
    }

    fn promoted(&self) -> Option<usize> {
        self.servers.borrow().promoted
    }

    fn set_promoted(&self, node: Option<usize>) {
        self.servers.borrow_mut().promoted = node;
    }

    fn set_started(&self, node: usize) {
        self.servers.borrow_mut().nodes[node].started = true;
    }
}

impl Site {
    /// A primary on a, and two replicas that follow it.
    fn new(test: &str) -> Self {
        let site = Self::unpromoted(test);
        site.promote(0).unwrap();
        site.attach();
        site.monitors();
        site
    }

    /// Three servers that hold nothing, and nobody was ever promoted.
    fn unpromoted(test: &str) -> Self {
        let servers = RefCell::new(Cluster(Nodes::new(NODES, Own::default)));
        let site = Self { world: quiet(), servers, pacemaker: InMemory::of(["a", "b", "c"]), directories: Directories::new(test, NODES) };
        site.start_all();
        site
    }

    /// The links of the replicas come up.
    fn attach(&self) {
        let mut servers = self.servers.borrow_mut();
        for n in 0..NODES {
            if servers.may_attach(n) {
                assert!(!servers.attach(n), "an empty primary took the data of {}", name(n));
            }
        }
    }

    fn write(&self, n: usize) {
        let mut servers = self.servers.borrow_mut();
        let server = servers.nodes[n].server.as_mut().unwrap();
        assert!(server.takes_writes(), "{server:?}");
        server.log.push(u8::try_from(server.log.len()).unwrap());
        server.offset += 1;
    }

    fn takes_writes(&self) -> Vec<String> {
        let servers = self.servers.borrow();
        (0..NODES).filter(|n| servers.server(*n).is_some_and(super::Server::takes_writes)).map(name).collect()
    }

    fn recorded(&self) -> usize {
        let text = self.pacemaker.property("systole", "systole-redis-primary").unwrap();
        number(&crate::record::Record::parse(&text).unwrap().node)
    }
}

#[test]
fn a_failover_goes_to_whoever_holds_what_was_confirmed() {
    let site = Site::new("redis-failover");
    assert_eq!(site.monitors(), [Ok(Status::Promoted), Ok(Status::Running), Ok(Status::Running)]);
    assert_eq!((site.takes_writes(), site.recorded()), (vec!["a".to_owned()], 0));
    site.write(0);
    site.servers.borrow_mut().deliver(1);
    site.servers.borrow_mut().end_server(0, true);
    let dead = site.act(0, None, Subject::default()).unwrap_err();
    assert!(dead.reason.contains("the primary's server is gone"), "{dead}");
    assert_eq!(site.pacemaker.score("a"), Some(Score::NEVER));
    // c lacks the write: it hands over, which makes Pacemaker plan anew.
    site.pacemaker.has_answered_degraded("c");
    site.elect(2);
    assert!(!site.pacemaker.keeps_degraded("c"), "its monitor is not started again");
    assert_eq!((site.pacemaker.score("c"), site.pacemaker.score("b")), (Some(STEPPED_BACK), Some(HANDED_OVER)));
    assert_eq!(site.takes_writes(), Vec::<String>::new());
    site.promote(1).unwrap();
    site.attach();
    assert_eq!((site.takes_writes(), site.recorded()), (vec!["b".to_owned()], 1));
    site.write(1);
    assert_eq!(site.servers.borrow().attached(1).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(site.monitors(), [Ok(Status::Running), Ok(Status::Promoted), Ok(Status::Running)]);
}

/// The plan that a refusal ends has cancelled the candidate's monitor already, and Pacemaker may never start it again.
#[test]
fn who_was_refused_is_a_candidate_again_without_a_monitor() {
    let site = Site::unpromoted("redis-refused");
    for silent in [1, 2] {
        site.servers.borrow_mut().end_server(silent, true);
    }
    site.pacemaker.has_answered_degraded("a");
    site.elect(0);
    assert_eq!(site.pacemaker.score("a"), Some(Score::NEVER), "nobody knows what b and c hold");
    assert!(!site.pacemaker.keeps_degraded("a"), "its monitor is not started again");
    for n in [1, 2] {
        site.act(n, Some(Kind::Start), Subject { start: Some(n), ..Subject::default() }).unwrap();
    }
    site.promote(1).unwrap();
    site.attach();
    assert_eq!((site.takes_writes(), site.recorded()), (vec!["b".to_owned()], 1));
    assert_eq!(site.pacemaker.score("a"), Some(STEPPED_BACK), "somebody else was promoted, and a follows");
    site.promote(0).unwrap();
    assert_eq!((site.takes_writes(), site.recorded()), (vec!["a".to_owned()], 0));
}

#[test]
fn a_candidate_without_quorum_opens_nothing_and_the_next_one_does() {
    let site = Site::new("redis-quorum");
    site.servers.borrow_mut().end_server(0, true);
    site.pacemaker.set_quorum("b", false);
    let refused = site.promote(1).unwrap_err();
    assert!(refused.reason.contains("no quorum"), "{refused}");
    assert_eq!((site.takes_writes(), site.recorded()), (Vec::<String>::new(), 0));
    // on-fail=demote.
    site.set_promoted(Some(1));
    site.promote(2).unwrap();
    assert_eq!((site.takes_writes(), site.recorded()), (vec!["c".to_owned()], 2));
}

#[test]
fn a_planned_move_takes_everything_along() {
    let site = Site::new("redis-move");
    site.write(0);
    site.promote(2).unwrap();
    site.attach();
    assert_eq!((site.takes_writes(), site.recorded()), (vec!["c".to_owned()], 2));
    let servers = site.servers.borrow();
    assert_eq!(servers.server(2).unwrap().log, [0]);
    assert_eq!(servers.attached(2).collect::<Vec<_>>(), [0, 1]);
}
