//! What happens in a soak: which fault hits whom, when and for how long. Pure: the schedule is a function of its subject, the seed and its
//! number, so a seed that has found something finds it again. Carrying it out is in `fault`.

use std::fmt;
use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;

/// Rounds of a schedule: so many on one cluster, which is made anew for the next schedule.
pub const ROUNDS: usize = 10;

/// What is soaked, as far as the choice of faults depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A confirmed write is in the memory of two servers of three.
    Redis,
    /// An acknowledged write is on the disks of two servers of three.
    MySql,
    /// Jobs of cron's.
    Cron,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table below has the words")]
pub enum Kind {
    KillServer,
    FreezeServer,
    KillAgent,
    FreezeAgent,
    KillWatcher,
    FreezeWatcher,
    KillCorosync,
    FreezeCorosync,
    KillPacemakerd,
    FreezePacemakerd,
    CutPower,
    CutPowerOfAll,
    PullCable,
    CutOutgoing,
    CutIncoming,
    CutPeers,
    CutDatabasePort,
    CutClients,
    LoseNames,
    FillDisk,
    HangDisk,
    SlowDisk,
    Move,
    Standby,
    Maintenance,
    Cleanup,
    ChangeParameter,
    LoseData,
    WriteOnReplica,
    ChangePassword,
    Upgrade,
}

/// What there is to know of a kind.
struct Sort {
    kind: Kind,
    name: &'static str,
    /// How often it is drawn, beside the others.
    weight: u32,
    /// Whom it can hit.
    targets: &'static [Target],
    /// How long it lasts before it is healed.
    lasts: Lasts,
    /// Whether it can cost one server what it has in memory.
    costs_a_memory: bool,
    /// What it needs.
    needs: Needs,
}

/// Whom a kind makes sense for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// A database.
    Database,
    /// A database that keeps its promise with its memory: one with an empty disk is as good as a new one.
    Memory,
    /// A database that keeps its promise with its disk.
    Disk,
}

/// How long a fault lasts. The snippets' monitors and their timeouts decide on some of it: a test reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasts {
    /// A moment.
    Short,
    /// As long as what passes by itself: a frozen daemon, packets that are lost.
    Long,
    /// Longer than a cluster takes that waits for a node in vain: whoever promotes nobody until the node is back shows in the outage.
    Gone,
    /// Until each node has had a monitor.
    Monitor,
    /// Until each node has had a monitor, and sometimes so long that it has been given up.
    Action,
}

impl Lasts {
    /// From and to, milliseconds. Databases are asked every 11 s at most, and wait 30 s for the answer. The nodes without the cron jobs are
    /// asked once a minute, and 20 s are waited for them.
    fn span(self, subject: Subject) -> (u64, u64) {
        match (self, subject) {
            (Self::Short, _) => (300, 4_000),
            (Self::Long, _) => (3_000, 15_000),
            (Self::Gone, _) => (40_000, 60_000),
            (Self::Monitor, Subject::Cron) => (62_000, 75_000),
            (Self::Monitor, _) => (13_000, 20_000),
            (Self::Action, Subject::Cron) => (62_000, 100_000),
            (Self::Action, _) => (13_000, 55_000),
        }
    }
}

use Lasts::{Action, Gone, Long, Monitor, Short};
use Target::{All, Primary, Replica};

const ANYBODY: &[Target] = &[Primary, Primary, Replica];

const fn sort(
    kind: Kind,
    name: &'static str,
    weight: u32,
    targets: &'static [Target],
    lasts: Lasts,
    costs_a_memory: bool,
    needs: Needs,
) -> Sort {
    Sort { kind, name, weight, targets, lasts, costs_a_memory, needs }
}

#[rustfmt::skip]
const SORTS: &[Sort] = &[
    sort(Kind::KillServer, "server killed", 12, ANYBODY, Short, true, Needs::Database),
    sort(Kind::FreezeServer, "server frozen", 6, ANYBODY, Long, true, Needs::Database),
    sort(Kind::KillAgent, "agent killed", 4, ANYBODY, Monitor, true, Needs::Nothing),
    sort(Kind::FreezeAgent, "agent frozen", 3, ANYBODY, Action, true, Needs::Nothing),
    sort(Kind::KillWatcher, "watcher killed", 3, ANYBODY, Short, false, Needs::Database),
    sort(Kind::FreezeWatcher, "watcher frozen", 3, ANYBODY, Long, false, Needs::Database),
    sort(Kind::KillCorosync, "corosync killed", 4, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::FreezeCorosync, "corosync frozen", 4, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::KillPacemakerd, "pacemakerd killed", 4, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::FreezePacemakerd, "pacemakerd frozen", 3, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::CutPower, "power cut", 8, ANYBODY, Gone, true, Needs::Nothing),
    sort(Kind::CutPowerOfAll, "power of all nodes cut", 2, &[All], Short, true, Needs::Disk),
    sort(Kind::PullCable, "cable pulled", 5, ANYBODY, Gone, true, Needs::Nothing),
    sort(Kind::CutOutgoing, "outgoing packets lost", 4, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::CutIncoming, "incoming packets lost", 4, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::CutPeers, "cut off from the other nodes", 5, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::CutDatabasePort, "replication cut", 4, ANYBODY, Long, false, Needs::Database),
    sort(Kind::CutClients, "cut off from the clients", 2, &[Primary], Long, false, Needs::Database),
    sort(Kind::LoseNames, "names lost", 2, ANYBODY, Monitor, false, Needs::Nothing),
    sort(Kind::FillDisk, "disk full", 3, ANYBODY, Monitor, true, Needs::Disk),
    sort(Kind::HangDisk, "disk hangs", 4, ANYBODY, Monitor, true, Needs::Disk),
    sort(Kind::SlowDisk, "disk slow", 3, ANYBODY, Long, true, Needs::Disk),
    sort(Kind::Move, "planned move", 5, &[Primary], Short, false, Needs::Nothing),
    sort(Kind::Standby, "standby", 4, ANYBODY, Long, true, Needs::Nothing),
    sort(Kind::Maintenance, "maintenance mode", 3, &[All], Long, false, Needs::Nothing),
    sort(Kind::Cleanup, "cleanup", 2, &[All], Short, false, Needs::Nothing),
    sort(Kind::ChangeParameter, "parameter changed", 2, &[All], Short, false, Needs::Database),
    sort(Kind::LoseData, "data lost, server killed", 2, &[Replica], Short, true, Needs::Memory),
    sort(Kind::WriteOnReplica, "write on a replica", 2, &[Replica], Monitor, true, Needs::Disk),
    sort(Kind::ChangePassword, "password changed", 2, &[All], Short, false, Needs::Disk),
    sort(Kind::Upgrade, "package upgraded in place", 2, ANYBODY, Monitor, false, Needs::Nothing),
];

impl Kind {
    fn sort(self) -> &'static Sort {
        // Each kind has its line: a test insists on it.
        SORTS.iter().find(|sort| sort.kind == self).unwrap_or(&SORTS[0])
    }

    /// Whether it hits one node, and nothing that the two others need: they can go on without it, whether it comes back or not. A disk that
    /// hangs takes longer to be found, by three monitors.
    fn leaves_two_whole(self) -> bool {
        use Kind::{CutIncoming, CutOutgoing, CutPeers, CutPower, PullCable};
        use Kind::{FreezeCorosync, FreezePacemakerd, FreezeServer, KillCorosync, KillPacemakerd, KillServer, LoseData};
        let of_processes =
            matches!(self, KillServer | FreezeServer | KillCorosync | FreezeCorosync | KillPacemakerd | FreezePacemakerd | LoseData);
        of_processes || matches!(self, CutPower | PullCable | CutOutgoing | CutIncoming | CutPeers)
    }

    /// How pages and logs call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.sort().name
    }
}

impl Sort {
    fn fits(&self, subject: Subject) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Database => subject != Subject::Cron,
            Needs::Memory => subject == Subject::Redis,
            Needs::Disk => subject == Subject::MySql,
        }
    }
}

/// Whom a fault hits, by its role at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The promoted server's node, or the one with the jobs.
    Primary,
    /// One of the others.
    Replica,
    /// All of them, or the cluster.
    All,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Whom.
    pub target: Target,
    /// How long until it is healed, milliseconds. Where a fault has a value of its own (a parameter, a password) it is made of this.
    pub lasts_ms: u64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = match self.target {
            Primary => " (primary)",
            Replica => " (replica)",
            All => "",
        };
        write!(f, "{}{whom} for {:.1} s", self.kind.name(), self.lasts_ms as f64 / 1000.0)
    }
}

/// When a second fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With the first one.
    AtOnce,
    /// So many milliseconds after the first one was healed.
    DuringRecovery(u64),
}

/// One or two faults, after which everything has to be well again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// The first.
    pub first: Fault,
    /// The second, if there is one.
    pub second: Option<(When, Fault)>,
}

impl Round {
    /// Its faults.
    pub fn faults(&self) -> impl Iterator<Item = Fault> {
        std::iter::once(self.first).chain(self.second.map(|(_, fault)| fault))
    }

    /// How long clients may be without a write, in the time of a machine at rest: where two whole nodes are left, nobody has to wait for the
    /// third. A node that is gone stays away for longer than that.
    #[must_use]
    pub fn longest_outage(&self) -> Option<Duration> {
        (self.second.is_none() && self.first.kind.leaves_two_whole()).then_some(TWO_ARE_LEFT)
    }

    /// How long to wait at that moment of the clock (since any beginning of a minute), so that one lies in the middle of the first fault.
    /// cron runs what is due at the beginning of a minute: a fault between two of them meets nothing.
    #[must_use]
    pub fn until_it_meets_a_minute(&self, now: Duration) -> Duration {
        let middle = now + Duration::from_millis(self.first.lasts_ms / 2);
        let into = middle.as_nanos() % MINUTE.as_nanos();
        Duration::from_nanos(u64::try_from((MINUTE.as_nanos() - into) % MINUTE.as_nanos()).unwrap_or_default())
    }

    /// How tables call it: outages of two faults are no outages of either.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.second {
            None => self.first.kind.name(),
            Some((When::AtOnce, _)) => TWO_AT_ONCE,
            Some((When::DuringRecovery(_), _)) => DURING_RECOVERY,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.second {
            None => write!(f, "{}", self.first),
            Some((When::AtOnce, second)) => write!(f, "{}, and at once {second}", self.first),
            Some((When::DuringRecovery(ms), second)) => write!(f, "{}, and {ms} ms after that was healed {second}", self.first),
        }
    }
}

/// The longest outage where two whole nodes are left: fencing, and three monitors to find what is frozen.
pub const TWO_ARE_LEFT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);

/// Rounds with two faults at once.
pub const TWO_AT_ONCE: &str = "two at once";
/// Rounds whose second fault comes during the recovery from the first one.
pub const DURING_RECOVERY: &str = "a second one during recovery";

/// The rounds of the schedule with that number.
#[must_use]
pub fn schedule(subject: Subject, seed: u64, number: u64) -> Vec<Round> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    (0..ROUNDS).map(|_| round(subject, &mut rng)).collect()
}

fn round(subject: Subject, rng: &mut ChaCha8Rng) -> Round {
    let first = draw(subject, rng, |_| true);
    // A third of all rounds has a second fault.
    let when = match rng.random_range(0..6u8) {
        0 => When::AtOnce,
        1 => When::DuringRecovery(rng.random_range(0..5_000)),
        _ => return Round { first, second: None },
    };
    // What Redis promises of a confirmed write is that it survives the loss of one server of three, not of two.
    let spent = subject == Subject::Redis && first.kind.sort().costs_a_memory;
    // A password is changed while all is well: what became of a statement that got no answer, operators find out by hand.
    let excluded = |sort: &Sort| sort.kind == first.kind || sort.kind == Kind::ChangePassword || (spent && sort.costs_a_memory);
    let second = draw(subject, rng, |sort| !excluded(sort));
    Round { first, second: Some((when, second)) }
}

fn draw(subject: Subject, rng: &mut ChaCha8Rng, wanted: impl Fn(&Sort) -> bool) -> Fault {
    let sorts: Vec<&Sort> = SORTS.iter().filter(|sort| sort.fits(subject) && wanted(sort)).collect();
    // No weight is 0 and each subject has its kinds: a test insists on it.
    let at = WeightedIndex::new(sorts.iter().map(|sort| sort.weight)).map_or(0, |weights| weights.sample(rng));
    let sort = sorts[at];
    let target = sort.targets[rng.random_range(0..sort.targets.len())];
    let (least, most) = sort.lasts.span(subject);
    Fault { kind: sort.kind, target, lasts_ms: rng.random_range(least..=most) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what it saw by panicking")]
mod tests {
    use super::*;

    const SUBJECTS: [Subject; 3] = [Subject::Redis, Subject::MySql, Subject::Cron];

    fn some(subject: Subject) -> Vec<Round> {
        (0..100).flat_map(|number| schedule(subject, 1, number)).collect()
    }

    #[test]
    fn a_seed_and_a_number_have_their_schedule() {
        for subject in SUBJECTS {
            assert_eq!(schedule(subject, 7, 3), schedule(subject, 7, 3));
            assert_ne!(schedule(subject, 7, 3), schedule(subject, 7, 4));
            assert_ne!(schedule(subject, 7, 3), schedule(subject, 8, 3));
        }
    }

    /// Whoever changes the table or the generator changes what a seed means: seeds that were reported replay with the code they were found
    /// with.
    #[test]
    fn a_reported_seed_replays() {
        let said: Vec<String> = schedule(Subject::MySql, 1, 0).iter().take(3).map(Round::to_string).collect();
        assert_eq!(
            said,
            [
                "outgoing packets lost (primary) for 4.0 s, and 1934 ms after that was healed agent frozen (replica) for 51.4 s",
                "names lost (primary) for 18.0 s, and at once server killed (replica) for 2.9 s",
                "server killed (primary) for 2.4 s",
            ]
        );
    }

    #[test]
    fn every_kind_has_its_line_and_comes_up() {
        for subject in SUBJECTS {
            let drawn: Vec<Kind> = some(subject).iter().flat_map(Round::faults).map(|fault| fault.kind).collect();
            for sort in SORTS {
                assert!(sort.weight > 0 && !sort.targets.is_empty(), "{}", sort.name);
                assert_eq!(sort.kind.name(), sort.name);
                assert_eq!(drawn.contains(&sort.kind), sort.fits(subject), "{subject:?} {}", sort.name);
            }
        }
        // The last one of the list of kinds: each has a line.
        assert_eq!(SORTS.len(), Kind::Upgrade as usize + 1);
    }

    #[test]
    fn of_redis_no_more_is_asked_than_it_promises() {
        for round in some(Subject::Redis) {
            assert!(round.faults().filter(|fault| fault.kind.sort().costs_a_memory).count() <= 1, "{round}");
        }
        assert!(some(Subject::MySql).iter().any(|round| round.faults().filter(|f| f.kind.sort().costs_a_memory).count() == 2));
    }

    /// Every monitor of the agent in its snippet: interval and timeout, seconds.
    fn monitors(snippet: &str, agent: &str) -> Vec<(u64, u64)> {
        let text = crate::read(&crate::repository().join("crm-snippets").join(snippet)).unwrap();
        let begin = text.lines().skip_while(|line| !(line.starts_with("primitive ") && line.contains(agent)));
        let lines = begin.take_while(|line| !line.trim().is_empty()).filter(|line| line.contains("op monitor "));
        let value = |line: &str, name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
            word.trim_end_matches('s').parse::<u64>().unwrap()
        };
        lines.map(|line| (value(line, "interval="), value(line, "timeout="))).collect()
    }

    #[test]
    fn an_agent_that_shall_be_caught_comes_in_the_time_of_the_fault() {
        let of = |subject| match subject {
            Subject::Redis => [monitors("redis.crm", "systole:redis"), monitors("valkey.crm", "systole:redis")].concat(),
            Subject::MySql => monitors("mysql.crm", "systole:mysql"),
            Subject::Cron => monitors("cron.crm", "systole:cron-singleton"),
        };
        for subject in SUBJECTS {
            let monitors = of(subject);
            assert!(monitors.len() >= 2, "{subject:?}: {monitors:?}");
            let interval = monitors.iter().map(|(interval, _)| interval * 1000).max().unwrap();
            let given_up = monitors.iter().map(|(interval, timeout)| (interval + timeout) * 1000).max().unwrap();
            for sort in SORTS.iter().filter(|sort| matches!(sort.kind, Kind::KillAgent | Kind::FreezeAgent)) {
                // A monitor begins so long after the end of the last one.
                assert!(sort.lasts.span(subject).0 >= interval + 1_000, "{subject:?} {}", sort.name);
            }
            let frozen = some(subject).into_iter().flat_map(|round| round.faults().collect::<Vec<_>>());
            let frozen: Vec<u64> = frozen.filter(|fault| fault.kind == Kind::FreezeAgent).map(|fault| fault.lasts_ms).collect();
            assert!(frozen.iter().any(|lasts| *lasts > given_up) && frozen.iter().any(|lasts| *lasts < given_up), "{subject:?} {frozen:?}");
        }
    }

    #[test]
    fn the_beginning_of_a_minute_lies_in_the_middle_of_the_first_fault_of_each_round_of_jobs() {
        for round in some(Subject::Cron) {
            for now in [0, 1, 4_500, 29_999, 30_000, 59_999, 60_000, 1_764_531_246_123].map(Duration::from_millis) {
                let waits = round.until_it_meets_a_minute(now);
                assert!(waits < MINUTE, "{round}");
                let begin = now + waits;
                let middle = begin + Duration::from_millis(round.first.lasts_ms / 2);
                assert_eq!(middle.as_nanos() % MINUTE.as_nanos(), 0, "{round}: begun at {begin:?}");
                assert!(middle > begin && middle < begin + Duration::from_millis(round.first.lasts_ms), "{round}");
            }
        }
    }

    /// A node that is away for a while only would come back before anybody can tell an outage that waits for it from one that does not.
    #[test]
    fn where_two_whole_nodes_are_left_nobody_waits_for_the_third() {
        for subject in SUBJECTS {
            for round in some(subject) {
                let single = round.second.is_none();
                let gone = matches!(round.first.kind, Kind::CutPower | Kind::PullCable);
                if single && gone {
                    assert_eq!(round.longest_outage(), Some(TWO_ARE_LEFT), "{round}");
                    assert!(Duration::from_millis(round.first.lasts_ms) > TWO_ARE_LEFT + Duration::from_secs(5), "{round}");
                }
                let bounded = round.longest_outage().is_some();
                assert!(!bounded || (single && round.first.target != All && round.first.kind != Kind::CutPowerOfAll), "{round}");
            }
        }
    }

    #[test]
    fn some_rounds_have_two_faults() {
        for subject in SUBJECTS {
            let rounds = some(subject);
            for name in [TWO_AT_ONCE, DURING_RECOVERY] {
                let share = rounds.iter().filter(|round| round.name() == name).count() as f64 / rounds.len() as f64;
                assert!((0.1..0.25).contains(&share), "{subject:?} {name}: {share}");
            }
        }
    }
}
