//! What the operator's command asks of this agent: see [`promotable::operator`]. Pure, but for what a node has of its own.

mod here;
mod practice;
mod progress;

use std::collections::BTreeMap;
use std::time::Duration;

use ocf::Values;
use promotable::operator::{self, Answer, Behind, Excess, Inquiry, Local, Operator, Published, Recorded};

use crate::agent::MySql;
use crate::election::{Acknowledging, Position, Question, Unfit, Verdict, elect, remedy};
use crate::gtid::Gtids;
use crate::membership::Membership;
use crate::params::{ALL, Params};
use crate::record::{Durability, Record};

pub use here::{Here, OnlyHere, Writing};
pub use progress::CLONE_STAGES;
pub(crate) use progress::Progress;

/// How the monitor of a primary begins that nobody acknowledges.
const WRITES_WAIT: &str = "writes wait: ";
/// What looking at this node's files may take.
const LOOKING: Duration = Duration::from_secs(2);

/// `ocf:systole:mysql`, for the operator's command.
#[derive(Clone, Copy, Debug)]
pub struct MySqlOperator;

impl Operator for MySqlOperator {
    fn recorded(&self, text: &str) -> Result<Recorded, String> {
        let record = Record::parse(text)?;
        Ok(Recorded {
            epoch: record.epoch,
            change: Some(record.change),
            decided: record.decided(),
            durability: (!record.decided()).then(|| record.durability.word()),
            acknowledgements: (!record.decided() && record.durability == Durability::Lossless).then_some(record.acknowledgements),
            position: record.set.as_ref().map(ToString::to_string),
            relaxed: record.relaxed,
            round: Record::round(Some(&record)),
            node: record.node,
            in_sync: record.active,
        })
    }

    fn published(&self, text: &str) -> Option<Published> {
        let position = Position::parse(text)?;
        let silent = !position.speaks();
        Some(Published {
            round: position.round,
            executed: (!silent).then(|| position.executed.to_string()),
            received: position.received.map(|received| received.to_string()),
            unfit: position.unfit.map(remedy),
        })
    }

    fn acknowledges(&self, membership: &str, record: &str) -> Option<bool> {
        let record = Record::parse(record).ok()?;
        match Membership::parse(membership)? {
            Membership::Acknowledges(stamp, _) => (stamp.epoch == record.epoch).then_some(true),
            Membership::Resigned(stamp) => (stamp >= record.stamp()).then_some(false),
            Membership::Ready(stamp) => (stamp >= record.stamp()).then_some(false),
        }
    }

    fn behind(&self, position: &str, record: &str) -> Option<Behind> {
        let (position, set) = (Position::parse(position)?, Record::parse(record).ok()?.set?);
        let count = set.count_beyond(&position.have())?;
        Some(Behind { count, unit: "transactions" })
    }

    fn excess(&self, position: &str, other: &str) -> Option<Excess> {
        let (mine, theirs) = (Position::parse(position)?, Position::parse(other)?);
        if !mine.speaks() || !theirs.speaks() {
            return None;
        }
        let (mine, theirs) = (mine.have(), theirs.have());
        Some(match mine.difference(&theirs) {
            None => Excess::Nothing,
            Some(names) => {
                let amount = mine.count_beyond(&theirs).map(|count| Behind { count, unit: "transactions" });
                Excess::Known { amount, names: Some(names) }
            }
        })
    }

    fn lag(&self, position: &str, primary: &str) -> Option<Behind> {
        let (mine, theirs) = (Position::parse(position)?, Position::parse(primary)?);
        let count = theirs.executed.count_beyond(&mine.executed).filter(|_| mine.speaks() && theirs.speaks())?;
        Some(Behind { count, unit: "transactions" })
    }

    fn round(&self, record: Option<&str>) -> Result<String, String> {
        Ok(Record::round(record.map(Record::parse).transpose()?.as_ref()))
    }

    fn no_writes(&self) -> &'static str {
        WRITES_WAIT
    }

    fn foreseen(&self, record: &str, in_sync: bool) -> Option<String> {
        let record = Record::parse(record).ok()?;
        let set = record.set.clone()?;
        let nothing = Position { unfit: None, ..Position::nowhere(&Record::round(Some(&record)), Unfit::NoServer) };
        let position = if in_sync {
            let acknowledging = Some(Acknowledging { stamp: record.stamp(), mark: set.clone() });
            Position { acknowledging, executed: set.clone(), received: Some(set), ..nothing }
        } else {
            Position { executed: Gtids::Empty, ..nothing }
        };
        Some(position.print())
    }

    fn elect(&self, inquiry: &Inquiry<'_>) -> Result<Answer, String> {
        let record = inquiry.record.map(Record::parse).transpose()?;
        let positions: BTreeMap<String, Position> =
            inquiry.positions.iter().filter_map(|(node, text)| Some((node.clone(), Position::parse(text)?))).collect();
        let verdict = elect(&Question {
            me: inquiry.candidate,
            record: record.as_ref(),
            positions: &positions,
            running: inquiry.running,
            servers: inquiry.servers,
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
        let agent = MySql::with(&context, Params::new(&values));
        // What stands in the CIB is the same everywhere.
        let own = agent.login().ok().and_then(|login| login.password).filter(|_| agent.params.test_password_file.is_some());
        let replication = agent.replication_password().ok().filter(|_| agent.params.replication_password_file.is_some());
        let secrets = [("test_passwd_file", own), ("replication_passwd_file", replication)];
        Ok(Local {
            program: agent.params.program(),
            data: agent.files(|files| files.space(&agent.params.datadir)).ok().map(|space| (agent.params.datadir.clone(), space)),
            secrets: secrets.into_iter().filter_map(|(name, secret)| Some((name, secret?))).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const RECORD: &str = "epoch=7 change=3 node=a server=1 durability=lossless acknowledgements=1 active=b,c set=0-1-100";

    fn ask(candidate: &str, positions: &[(&str, String)]) -> Answer {
        let positions: BTreeMap<String, String> = positions.iter().map(|(node, text)| ((*node).to_owned(), text.clone())).collect();
        let running: BTreeSet<String> = positions.keys().cloned().collect();
        let inquiry = Inquiry {
            candidate,
            record: Some(RECORD),
            positions: &positions,
            running: &running,
            servers: Some(3),
            parameters: &BTreeMap::new(),
            decide: "DECIDE",
        };
        MySqlOperator.elect(&inquiry).unwrap()
    }

    #[test]
    fn a_replica_in_the_in_sync_set_is_foreseen_to_be_elected_and_one_outside_of_it_is_not() {
        let foreseen = |in_sync| MySqlOperator.foreseen(RECORD, in_sync).unwrap();
        assert!(matches!(ask("b", &[("b", foreseen(true)), ("c", foreseen(true))]), Answer::Promote(_)));
        assert!(matches!(ask("c", &[("b", foreseen(true)), ("c", foreseen(false))]), Answer::Refuse(why) if why.contains("DECIDE")));
        assert!(matches!(ask("b", &[("b", foreseen(true))]), Answer::Refuse(why) if why.contains("c (not heard)")));
        assert_eq!(MySqlOperator.foreseen("epoch=7 node=a", true), None, "an operator decided, and nobody knows what there is");
    }

    #[test]
    fn what_was_received_and_not_executed_is_lag() {
        let at = |executed: &str, received: &str| format!("0.0-||100|-|-|{executed}|{received}");
        let lag = |mine: &str, theirs: &str| MySqlOperator.lag(mine, theirs).map(|lag| lag.count);
        assert_eq!(lag(&at("0-1-90", "0-1-100"), &at("0-1-100", "-")), Some(10));
        assert_eq!(lag(&at("0-1-101", "0-1-101"), &at("0-1-100", "-")), Some(0), "it was asked a moment later");
        assert_eq!(lag(&at("0-2-90", "-"), &at("0-1-100", "-")), None, "it went another way");
    }

    #[test]
    fn what_is_behind_is_counted_where_it_can_be() {
        let behind = |executed: &str, set: &str| {
            let record = format!("epoch=7 node=a server=x set={set}");
            MySqlOperator.behind(&format!("7.0-a||100|-|-|{executed}|-"), &record).map(|behind| behind.count)
        };
        assert_eq!(behind("0-1-90", "0-1-100,0-2-105"), Some(15));
        assert_eq!(behind("0-1-100", "0-1-100"), Some(0));
        assert_eq!(behind("", "0-1-7,3-1-5"), Some(12));
        assert_eq!(behind("0-1-120", "0-1-100"), Some(0), "ahead is not behind");
        assert_eq!(behind("0-2-110", "0-1-100"), None, "it went another way");
        let uuid = "aaaaaaaa-0000-0000-0000-000000000001";
        assert_eq!(behind(&format!("{uuid}:1-5:9"), &format!("{uuid}:1-10")), Some(4));
        assert_eq!(behind(&format!("{uuid}:1-5"), "0-1-100"), None);
    }

    #[test]
    fn what_one_holds_and_another_lacks_is_named_and_who_said_nothing_holds_nothing_that_is_known() {
        let position = |executed: &str, unfit: &str| format!("7.3-a||100|-|-|{executed}|-{unfit}");
        let of = |mine: &str, theirs: &str| MySqlOperator.excess(&position(mine, ""), &position(theirs, ""));
        assert_eq!(of("0-1-90", "0-1-100"), Some(Excess::Nothing));
        let Some(Excess::Known { amount: Some(amount), names: Some(names) }) = of("0-1-102", "0-1-100") else { panic!("nothing known") };
        assert!(amount.count == 2 && names.contains("0-1-102"), "{amount:?} {names}");
        assert!(matches!(of("0-2-101", "0-1-100"), Some(Excess::Known { .. })), "it went another way");
        let silent = Position::nowhere("7.3-a", Unfit::Unasked).print();
        assert_eq!(MySqlOperator.excess(&silent, &position("0-1-9", "")), None);
        assert_eq!(MySqlOperator.excess(&position("0-1-9", ""), &silent), None);
        let rejoining = Position { unfit: Some(Unfit::Rejoining), ..Position::parse(&position("0-1-9", "")).unwrap() }.print();
        assert_eq!(MySqlOperator.excess(&rejoining, &position("0-1-9", "")), None, "its data are neither the old nor the new ones");
        let shown = MySqlOperator.published(&rejoining).unwrap();
        assert!(shown.executed.is_none() && shown.unfit.is_some_and(|why| why.contains("systole status shows how far")), "{shown:?}");
    }

    #[test]
    fn a_decision_counts_on_from_a_primarys_record_and_never_from_what_somebody_typed() {
        for (record, decision) in [
            (Some(RECORD), "epoch=7 node=b"),
            (Some("epoch=7000 node=c"), "node=b"),
            (Some("node=c"), "node=b"),
            (Some("nonsense"), "node=b"),
            (None, "node=b"),
        ] {
            let text = MySqlOperator.decision(record, "b");
            assert_eq!(text, decision, "{record:?}");
            assert!(Record::parse(&text).unwrap().decided());
        }
        assert_eq!((MySqlOperator.round(Some(RECORD)), MySqlOperator.round(None)), (Ok("7.3-a".into()), Ok("0.0-".into())));
    }

    #[test]
    fn the_monitor_says_that_writes_wait_in_these_words() {
        assert!(include_str!("protocol/members.rs").contains(&format!("\"{WRITES_WAIT}")));
        assert!(
            MySqlOperator.stops_writes("the disk is full; writes wait: no replica acknowledges") && !MySqlOperator.stops_writes("full")
        );
    }

    #[test]
    fn what_a_replica_says_of_its_acknowledgements_goes_before_the_record() {
        for (membership, said) in [
            ("acknowledges 7.1 0-1-5", Some(true)),
            ("acknowledges 6.1 0-1-5", None),
            ("resigned 7.3", Some(false)),
            ("resigned 7.2", None),
            ("ready 7.3", Some(false)),
            ("ready 6.0", None),
            ("nonsense", None),
        ] {
            assert_eq!(MySqlOperator.acknowledges(membership, RECORD), said, "{membership}");
        }
    }
}
