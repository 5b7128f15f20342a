//! Whole failovers without a server, in a moment: the agent's engine and state files, a cluster in memory, and the model's servers.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use model::{Directories, Kind, Op, Site as _, Subject, World as _, name, number};
use ocf::{Failure, Status};
use pacemaker::{InMemory, Score};
use promotable::Driver;
use promotable::preference::STEPPED_BACK;

use super::operations::operate;
use super::tests::quiet;
use super::{Cluster, Loss, World};
use crate::agent::MySql;
use crate::engine::of_attributes;
use crate::gtid::Flavour;
use crate::protocol::{Answer, Asked, Database, Event, OfProcess};
use crate::record::Record;

const NODES: usize = 3;

/// The server of one node.
struct Fake<'a> {
    site: &'a Site,
    mysql: &'a MySql,
    n: usize,
    op: Option<Op>,
}

impl Driver for Fake<'_> {
    type Database = Database;

    fn own(&mut self, effect: Asked) -> Event {
        let effect = match effect {
            Asked::OfAttributes(effect) => return of_attributes(self.mysql, effect),
            effect @ (Asked::Milestone(_) | Asked::OfDaemon(_) | Asked::OfServer(_) | Asked::OfHost(_)) => effect,
        };
        let mut event = self.site.world.own(&mut self.site.servers.borrow_mut(), self.n, self.op, effect);
        if let Event::Own(Answer::Launched(Ok(launched))) = &mut event {
            if self.site.recovers_long.get() {
                launched.seen = None;
            }
            self.mysql.state_file.save(&launched.state).unwrap();
        }
        event
    }

    fn of_process(&mut self, effect: OfProcess) -> Event {
        World::of_process(&mut self.site.servers.borrow_mut(), self.n, &effect)
    }

    fn wait(&mut self, _: Duration) {
        self.site.servers.borrow_mut().let_time_pass(self.n);
    }

    fn now(&self) -> Duration {
        process::since_boot() + self.site.later.get()
    }
}

/// Three nodes.
struct Site {
    world: World,
    servers: RefCell<Cluster>,
    pacemaker: InMemory,
    directories: Directories,
    /// How much later it is than the machine thinks.
    later: Cell<Duration>,
    /// A server that starts now recovers for longer than its start waits.
    recovers_long: Cell<bool>,
}

impl model::Site for Site {
    const NODES: usize = NODES;

    fn act(&self, n: usize, kind: Option<Kind>, subject: Subject) -> Result<Status, Failure> {
        let context = Self::context(n, "mysql");
        let cluster = self.pacemaker.seen_by(&name(n), "mysql", &self.directories.of(n));
        let mysql = MySql::in_cluster(cluster, &context, self.world.params.clone());
        let peers = self.world.peers(&self.servers.borrow(), subject);
        let driver = Fake { site: self, mysql: &mysql, n, op: kind.map(|kind| Op { node: n, kind, subject }) };
        let state = mysql.state_file.load();
        mysql.act_by(driver, &context, &mysql.rules(&context), state, |instance| operate(instance, kind, peers))
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
    /// A primary on a, and two replicas that acknowledge.
    fn new(test: &str, flavour: Flavour) -> Self {
        let site = Self::unpromoted(test, flavour);
        site.promote(0).unwrap();
        site.settle();
        site
    }

    /// Three servers that hold nothing, and nobody was ever promoted.
    fn unpromoted(test: &str, flavour: Flavour) -> Self {
        let world = quiet(flavour);
        let servers = RefCell::new(world.nothing());
        let directories = Directories::new(test, NODES);
        let site = Self {
            world,
            servers,
            pacemaker: InMemory::of(["a", "b", "c"]),
            directories,
            later: Cell::default(),
            recovers_long: Cell::default(),
        };
        site.start_all();
        site
    }

    /// Links carry what there is, and each agent looks a few times.
    fn settle(&self) {
        for _ in 0..4 {
            for n in 0..NODES {
                self.servers.borrow_mut().let_time_pass(n);
            }
            self.later.set(self.later.get() + Duration::from_secs(130));
            self.monitors();
        }
    }

    fn open(&self) -> Vec<String> {
        self.servers.borrow().open().map(name).collect()
    }

    fn record(&self) -> Record {
        let text = self.pacemaker.property("systole", "systole-mysql-primary").unwrap();
        promotable::Record::parse(&text).unwrap()
    }

    /// Whether a client saw the last write succeed.
    fn has_seen_all(&self) -> bool {
        let servers = self.servers.borrow();
        servers.seen == super::up_to_highest(super::one(usize::from(servers.written) - 1))
    }
}

/// Its primary was promoted long before: no notification names it.
#[test]
fn a_replica_whose_recovery_outlasts_its_start_follows_the_primary_in_office() {
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let site = Site::new(&format!("mysql-recovers-long-{flavour:?}"), flavour);
        site.servers.borrow_mut().end_server(2, Loss::Nothing);
        site.recovers_long.set(true);
        site.act(2, Some(Kind::Start), Subject { start: Some(2), ..Subject::default() }).unwrap();
        site.recovers_long.set(false);
        site.settle();
        let servers = site.servers.borrow();
        let replica = servers.nodes[2].server.as_ref().unwrap();
        assert!(replica.following == Some(0) && replica.receiver && replica.applier, "{flavour:?}: {servers:?}");
    }
}

#[test]
fn a_failover_goes_to_whoever_acknowledged() {
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let site = Site::new(&format!("mysql-failover-{flavour:?}"), flavour);
        assert_eq!((site.open(), number(&site.record().node)), (vec!["a".to_owned()], 0));
        {
            let mut servers = site.servers.borrow_mut();
            servers.write(0);
            servers.deliver(1);
            servers.acknowledgement_arrives(0, 1);
        }
        assert!(site.has_seen_all(), "{flavour:?}: {:?}", site.servers);
        site.servers.borrow_mut().end_server(0, Loss::Nothing);
        let dead = site.act(0, None, Subject::default()).unwrap_err();
        assert!(dead.reason.contains("the primary's server is gone"), "{dead}");
        assert_eq!(site.pacemaker.score("a"), Some(Score::NEVER));
        // c lacks the write: it hands over, which makes Pacemaker plan anew.
        site.pacemaker.has_answered_degraded("c");
        site.elect(2);
        assert!(!site.pacemaker.keeps_degraded("c"), "its monitor is not started again");
        assert!(site.pacemaker.score("b") > site.pacemaker.score("c"), "{:?}", site.pacemaker);
        assert_eq!(site.open(), Vec::<String>::new());
        site.promote(1).unwrap();
        site.settle();
        assert_eq!((site.open(), number(&site.record().node)), (vec!["b".to_owned()], 1));
        site.servers.borrow_mut().write(1);
        site.servers.borrow_mut().let_time_pass(1);
        assert!(site.has_seen_all(), "{flavour:?}: {:?}", site.servers);
    }
}

/// The plan that a refusal ends has cancelled the candidate's monitor already, and Pacemaker may never start it again.
#[test]
fn who_was_refused_is_a_candidate_again_without_a_monitor() {
    for flavour in [Flavour::MySql, Flavour::MariaDb] {
        let site = Site::unpromoted(&format!("mysql-refused-{flavour:?}"), flavour);
        for silent in [1, 2] {
            site.servers.borrow_mut().end_server(silent, Loss::Nothing);
        }
        site.pacemaker.has_answered_degraded("a");
        site.elect(0);
        assert_eq!(site.pacemaker.score("a"), Some(Score::NEVER), "nobody knows what b and c hold");
        assert!(!site.pacemaker.keeps_degraded("a"), "its monitor is not started again");
        for n in [1, 2] {
            site.act(n, Some(Kind::Start), Subject { start: Some(n), ..Subject::default() }).unwrap();
        }
        site.promote(1).unwrap();
        assert_eq!((site.open(), number(&site.record().node)), (vec!["b".to_owned()], 1));
        assert_eq!(site.pacemaker.score("a"), Some(STEPPED_BACK), "somebody else was promoted, and a follows");
        site.promote(0).unwrap();
        assert_eq!((site.open(), number(&site.record().node)), (vec!["a".to_owned()], 0));
    }
}

#[test]
fn a_candidate_without_quorum_opens_nothing_and_the_next_one_does() {
    let site = Site::new("mysql-quorum", Flavour::MySql);
    site.servers.borrow_mut().end_server(0, Loss::Nothing);
    site.pacemaker.set_quorum("b", false);
    let refused = site.promote(1).unwrap_err();
    assert!(refused.reason.contains("no quorum"), "{refused}");
    assert_eq!((site.open(), number(&site.record().node)), (Vec::<String>::new(), 0));
    // on-fail=demote.
    site.set_promoted(Some(1));
    site.promote(2).unwrap();
    assert_eq!((site.open(), number(&site.record().node)), (vec!["c".to_owned()], 2));
}
