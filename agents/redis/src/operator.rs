//! What the operator's command asks of this agent: see [`promotable::operator`]. Pure, but for what a node has of its own.

mod here;
mod practice;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ocf::{Environment, ResourceAgent as _, Secret, Values};
use promotable::operator::{self, Answer, Behind, Excess, Inquiry, Local, Operator, Published, Recorded};
use promotable::read_secret;

use crate::agent::Redis;
use crate::conf::Conf;
use crate::election::{Position, Question, Unfit, Verdict, elect};
use crate::params::{ALL, Durability, Params};
use crate::record::Record;

pub use here::{Here, Kept};

/// How the monitor of a primary begins that has too few replicas.
const WRITES_REFUSED: &str = "writes are refused: ";
/// What looking at this node's files may take.
const LOOKING: Duration = Duration::from_secs(2);

/// `ocf:systole:redis`, for the operator's command.
#[derive(Clone, Copy, Debug)]
pub struct RedisOperator;

impl Operator for RedisOperator {
    fn recorded(&self, text: &str) -> Result<Recorded, String> {
        let record = Record::parse(text)?;
        let in_sync = record.holders.iter().filter(|node| **node != record.node).cloned().collect();
        Ok(Recorded {
            epoch: record.epoch,
            change: None,
            decided: record.history.is_none(),
            durability: None,
            acknowledgements: None,
            in_sync,
            // Where the history began in which it writes.
            position: record.past.first().map(|(_, end)| end.to_string()),
            relaxed: false,
            round: Record::round(Some(&record)),
            node: record.node,
        })
    }

    fn published(&self, text: &str) -> Option<Published> {
        let position = Position::parse(text)?;
        let silent = silent(&position);
        let held = (!silent).then(|| position.offset.to_string());
        let unfit = position.unfit.map(why);
        // What a replica has received is what it has executed.
        Some(Published { round: position.round, received: held.clone(), executed: held, unfit })
    }

    fn acknowledges(&self, _membership: &str, _record: &str) -> Option<bool> {
        None
    }

    fn behind(&self, position: &str, record: &str) -> Option<Behind> {
        let (position, record) = (Position::parse(position)?, Record::parse(record).ok()?);
        let (_, end) = record.past.iter().find(|(id, _)| *id == position.history)?;
        Some(Behind { count: end.saturating_sub(position.offset), unit: "bytes" })
    }

    fn excess(&self, position: &str, other: &str) -> Option<Excess> {
        let (mine, theirs) = (Position::parse(position)?, Position::parse(other)?);
        if silent(&mine) || silent(&theirs) {
            return None;
        }
        let comparable = !mine.history.is_empty() && mine.history == theirs.history;
        let beyond = mine.offset.saturating_sub(theirs.offset);
        Some(match (comparable, beyond) {
            _ if !mine.has_keys && !theirs.has_keys => Excess::Nothing,
            (true, 0) => Excess::Nothing,
            (true, count) => Excess::Known { amount: Some(Behind { count, unit: "bytes" }), names: None },
            // An empty one has nothing to lose, unless its keys were deleted in the same history.
            (false, _) if !mine.has_keys => Excess::Nothing,
            (false, _) => Excess::Incomparable,
        })
    }

    fn lag(&self, position: &str, primary: &str) -> Option<Behind> {
        let (mine, theirs) = (Position::parse(position)?, Position::parse(primary)?);
        let comparable = !mine.history.is_empty() && mine.history == theirs.history && !silent(&mine) && !silent(&theirs);
        comparable.then(|| Behind { count: theirs.offset.saturating_sub(mine.offset), unit: "bytes" })
    }

    fn round(&self, record: Option<&str>) -> Result<String, String> {
        Ok(Record::round(record.map(Record::parse).transpose()?.as_ref()))
    }

    fn no_writes(&self) -> &'static str {
        WRITES_REFUSED
    }

    fn foreseen(&self, record: &str, in_sync: bool) -> Option<String> {
        let record = Record::parse(record).ok()?;
        let history = record.history.clone()?;
        let offset = record.past.first().map_or(0, |(_, end)| *end);
        let nothing = Position { unfit: None, ..Position::nowhere(&Record::round(Some(&record)), Unfit::NoServer) };
        let position = if in_sync { Position { history, offset, has_keys: true, live: true, ..nothing } } else { nothing };
        Some(position.print())
    }

    fn elect(&self, inquiry: &Inquiry<'_>) -> Result<Answer, String> {
        let record = inquiry.record.map(Record::parse).transpose()?;
        // Those of another round do not count, and the agent never hears them.
        let round = Record::round(record.as_ref());
        let read = |(node, text): (&String, &String)| Some((node.clone(), Position::parse(text).filter(|p| p.round == round)?));
        let positions: BTreeMap<String, Position> = inquiry.positions.iter().filter_map(read).collect();
        let given = inquiry.parameters.iter().map(|(name, value)| (format!("OCF_RESKEY_{name}"), value.clone()));
        let values = Values::read(ALL, &Environment::from_pairs(given)).map_err(|failure| failure.reason)?;
        let params = Params::new(&values);
        let verdict = elect(&Question {
            me: inquiry.candidate,
            record: record.as_ref(),
            positions: &positions,
            running: inquiry.running,
            servers: inquiry.servers,
            confirmations: (params.durability == Durability::Quorum).then_some(inquiry.servers.unwrap_or(2) / 2),
            wait_last_known_primary: params.wait_last_known_primary,
            decide: inquiry.decide,
        });
        Ok(match verdict {
            Verdict::GoOn(reason) => Answer::Promote(reason),
            Verdict::HandOver { to, reason } => Answer::HandOver { to, reason },
            Verdict::Refuse(reason) => Answer::Refuse(reason),
        })
    }

    fn local(&self, resource: &str, parameters: &BTreeMap<String, String>) -> Result<Local, String> {
        let context = operator::context(resource, parameters, LOOKING);
        let values = Values::read(ALL, &context.environment).map_err(|failure| failure.reason)?;
        let agent = Redis::new(&context, &values).map_err(|failure| failure.reason)?;
        let in_file = |name: &str| agent.conf().ok().and_then(|conf| conf.last(name)).map(Secret::new);
        let file = |path: &Option<PathBuf>, name: &str| path.as_ref().and_then(|path| read_secret(path, name).ok());
        let directory = agent.conf().ok().map(Conf::data_directory);
        let data = directory.and_then(|path| agent.files(|files| files.space(&path)).ok().map(|space| (path, space)));
        let secrets = [
            ("requirepass", in_file("requirepass")),
            ("masterauth", in_file("masterauth")),
            ("password_file", file(&agent.params.password_file, "password_file")),
            ("masterauth_file", file(&agent.params.masterauth_file, "masterauth_file")),
        ];
        Ok(Local {
            program: agent.params.bin.clone(),
            data,
            secrets: secrets.into_iter().filter_map(|(name, secret)| Some((name, secret?))).collect(),
        })
    }
}

/// Whether it did not say what it holds.
fn silent(position: &Position) -> bool {
    matches!(position.unfit, Some(Unfit::NoServer | Unfit::Unasked | Unfit::Loading))
}

fn why(unfit: Unfit) -> &'static str {
    match unfit {
        Unfit::NoServer => "its server does not run",
        Unfit::Unasked => "its server is alive and could not be asked",
        Unfit::Loading => "it is loading its data",
        Unfit::Syncing => "it is receiving its first copy",
        Unfit::Emptied => "it threw its data away for a copy that it could not load",
        Unfit::Never => "its replica-priority is 0",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn lag_is_counted_within_one_history() {
        let at = |history: &str, offset: u64| format!("0.0:{history}:{offset}:-:0:100:-k");
        let lag = |mine: &str, theirs: &str| RedisOperator.lag(mine, theirs).map(|lag| lag.count);
        assert_eq!(lag(&at("h1", 20), &at("h1", 120)), Some(100));
        assert_eq!(lag(&at("h1", 130), &at("h1", 120)), Some(0), "it was asked a moment later");
        assert_eq!(lag(&at("h2", 20), &at("h1", 120)), None);
        assert_eq!(lag(&at("-", 0), &at("-", 0)), None);
        assert_eq!(lag("0.0:h1:20:-:0:100:-kL", &at("h1", 120)), None, "it loads its data");
    }

    const RECORD: &str = "epoch=2 node=a history=h2 past=h1:451 holders=a,b,c";

    fn ask(candidate: &str, durability: &str, positions: &[(&str, String)]) -> Answer {
        let positions: BTreeMap<String, String> = positions.iter().map(|(node, text)| ((*node).to_owned(), text.clone())).collect();
        let running: BTreeSet<String> = positions.keys().cloned().collect();
        let inquiry = Inquiry {
            candidate,
            record: Some(RECORD),
            positions: &positions,
            running: &running,
            servers: Some(3),
            parameters: &BTreeMap::from([("durability".to_owned(), durability.to_owned())]),
            decide: "DECIDE",
        };
        RedisOperator.elect(&inquiry).unwrap()
    }

    #[test]
    fn a_replica_in_the_in_sync_set_is_foreseen_to_be_elected() {
        let foreseen = |in_sync| RedisOperator.foreseen(RECORD, in_sync).unwrap();
        assert!(matches!(ask("b", "quorum", &[("b", foreseen(true)), ("c", foreseen(true))]), Answer::Promote(_)));
        assert!(matches!(ask("c", "async", &[("b", foreseen(true)), ("c", foreseen(false))]), Answer::HandOver { to, .. } if to == "b"));
        assert!(matches!(ask("b", "quorum", &[("b", foreseen(true))]), Answer::Refuse(why) if why.contains("DECIDE")));
        assert!(matches!(ask("b", "async", &[("b", foreseen(true))]), Answer::Promote(_)));
    }

    #[test]
    fn what_one_holds_and_another_lacks_is_counted_where_it_can_be() {
        let of = |mine: &str, theirs: &str| RedisOperator.excess(mine, theirs);
        let (more, less, other) = ("2-a:h2:500:-:0:100:-kl", "2-a:h2:451:-:0:100:-kl", "2-a:h9:7:-:0:100:-kl");
        assert_eq!(of(more, less), Some(Excess::Known { amount: Some(Behind { count: 49, unit: "bytes" }), names: None }));
        assert_eq!((of(less, more), of(less, less)), (Some(Excess::Nothing), Some(Excess::Nothing)));
        assert_eq!((of(other, less), of("2-a:h9:7:-:0:100:-l", less)), (Some(Excess::Incomparable), Some(Excess::Nothing)));
        assert_eq!((of("2-a:-:0:-:0:100:-D", less), of(less, "2-a:-:0:-:0:100:-U")), (None, None));
    }

    #[test]
    fn a_decision_counts_on_from_a_primarys_record_and_never_from_what_somebody_typed() {
        for (record, decision) in [(Some(RECORD), "epoch=2 node=b"), (Some("epoch=7000 node=c"), "node=b"), (None, "node=b")] {
            assert_eq!(RedisOperator.decision(record, "b"), decision);
        }
        assert!(RedisOperator.recorded("epoch=2 node=b").unwrap().decided);
    }

    #[test]
    fn the_monitor_says_that_writes_are_refused_in_these_words() {
        assert!(include_str!("protocol/members.rs").contains(&format!("\"{WRITES_REFUSED}")));
        assert!(RedisOperator.stops_writes("x; writes are refused: 0 of 1") && !RedisOperator.stops_writes("x"));
    }

    #[test]
    fn a_position_of_another_election_does_not_count() {
        let old = "1-a:h1:451:-:0:100:-kl".to_owned();
        assert!(matches!(ask("b", "async", &[("b", old.clone())]), Answer::Refuse(why) if why.contains("not known")));
        assert_eq!(RedisOperator.behind(&old, RECORD), Some(Behind { count: 0, unit: "bytes" }));
        assert_eq!(RedisOperator.behind("1-a:h1:400:-:0:100:-kl", RECORD).map(|b| b.count), Some(51));
        assert_eq!(RedisOperator.behind("1-a:other:400:-:0:100:-kl", RECORD), None);
    }
}
