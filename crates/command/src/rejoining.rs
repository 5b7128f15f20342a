//! A server that is made to follow again, by a copy or by taking back: what its node says of it, until it does or has refused.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::copies::{Plan, Step, step};
use crate::switchover::{Ending, Interruption, look};
use crate::{complain, print, remote};

/// How often is looked.
const STEP: Duration = Duration::from_secs(1);
/// How often is said what differs in its numbers only.
const SAME_WORDS: Duration = Duration::from_secs(10);
/// What a node may take to answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// What a node says of its server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Said {
    /// Its data are neither the old nor the new ones, or are to be replaced.
    pub(crate) unfinished: bool,
    /// How far it is, where something is under way.
    #[serde(default)]
    pub(crate) told: Option<String>,
    /// Why nothing is under way any more.
    #[serde(default)]
    pub(crate) refused: Option<String>,
}

/// What the node says. `None` where it does not answer.
pub(crate) fn asked(plan: &Plan) -> Option<Said> {
    let nodes = [plan.node.clone()];
    let answer = remote::ask(&nodes, &["systole", "here", "copying", &plan.resource], ANSWER).into_values().next();
    serde_json::from_str(&answer?.ok()?).ok()
}

/// Says how far it is, until it is a good replica. `refusals`: whether one that the node has said is the end of it, and is none of before.
pub(crate) fn follow(plan: &Plan, wait: Duration, refusals: bool) -> Ending {
    let (begin, interruption) = (Instant::now(), Interruption::watched());
    let mut teller = Teller::default();
    loop {
        let said = asked(plan);
        match look(&plan.resource, |_, database| step(database, &plan.node, said.as_ref())) {
            Ok(Step::Done) => {
                print(&format!("{}: {} is a replica in order again; it took {} s\n", plan.clone, plan.node, begin.elapsed().as_secs()));
                return Ending::Done;
            }
            Ok(Step::Refused { why, unfinished }) if refusals => {
                let (ending, said) = refusal(plan, &why, unfinished);
                complain(&said);
                return ending;
            }
            Ok(Step::Refused { why: how_far, .. } | Step::Says(how_far)) if teller.is_news(&how_far, Instant::now()) => {
                complain(&format!("{}: {how_far}", plan.node));
            }
            _ => {}
        }
        if interruption.is_there() || begin.elapsed() >= wait {
            complain(&format!("it goes on; how far it is: systole status {} --live", plan.resource));
            return Ending::TimedOut;
        }
        std::thread::sleep(STEP);
    }
}

/// What is said of a server that gives up. `unfinished`: it had begun, and its data are not what they were.
fn refusal(plan: &Plan, why: &str, unfinished: bool) -> (Ending, String) {
    let (ending, what) = match unfinished {
        true => (Ending::HalfWay, "not ended, and its data are neither the old nor the new ones"),
        false => (Ending::Refused, "refused, and nothing is changed"),
    };
    let again = format!("systole reclone {} {}", plan.resource, plan.node);
    (ending, format!("{what}: {}: {why}; make it anew: {again}", plan.node))
}

/// What was said last, and when.
#[derive(Debug, Default)]
struct Teller(Option<(String, Instant)>);

impl Teller {
    /// Whether it is to be said: other words, or other numbers after a while.
    fn is_news(&mut self, text: &str, now: Instant) -> bool {
        let words = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
        let news = self.0.as_ref().is_none_or(|(last, at)| {
            let waited = now.saturating_duration_since(*at) >= SAME_WORDS;
            words(last) != words(text) || (waited && last != text)
        });
        if news {
            self.0 = Some((text.to_owned(), now));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_alone_are_no_news_for_a_while() {
        let (mut teller, begin) = (Teller::default(), Instant::now());
        let mut at = |seconds, text: &str| teller.is_news(text, begin + Duration::from_secs(seconds));
        assert!(at(0, "43 %, 2150 of 5000 MB"));
        assert!(!at(1, "44 %, 2200 of 5000 MB") && !at(9, "51 %, 2550 of 5000 MB"));
        assert!(at(10, "52 %, 2600 of 5000 MB"));
        assert!(!at(30, "52 %, 2600 of 5000 MB"), "nothing has moved");
        assert!(at(31, "the copy failed"));
    }

    /// "Nothing is changed" was said of a server whose transactions were taken back, as far as that went.
    #[test]
    fn who_gave_up_after_it_had_begun_is_half_way() {
        let plan = Plan { resource: "mysql".into(), clone: "mysql-clone".into(), node: "b".into(), primary: "a".into(), under_way: false };
        let (ending, said) = refusal(&plan, "the log cannot be read", true);
        assert_eq!(ending, Ending::HalfWay);
        let expected = "not ended, and its data are neither the old nor the new ones: b: the log cannot be read; make it anew: systole \
                        reclone mysql b";
        assert_eq!(said, expected);
        let (ending, said) = refusal(&plan, "a statement", false);
        assert!(ending == Ending::Refused && said.starts_with("refused, and nothing is changed: b: a statement"), "{said}");
    }

    #[test]
    fn a_node_of_before_is_understood() {
        let said = serde_json::from_str::<Said>("{\"unfinished\":true}").ok();
        assert_eq!(said, Some(Said { unfinished: true, ..Said::default() }));
    }
}
