//! What a planned move costs clients, asked of the servers before it begins: transactions that are not committed end with it, and a candidate
//! that is behind has to catch up first.

use std::time::Duration;

use serde::Deserialize;

use crate::remote;

/// What the operator accepts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Seconds that the candidate may be behind.
    pub(crate) lag: Option<u64>,
    /// Seconds since a transaction has begun that has written.
    pub(crate) transaction: Option<u64>,
}

/// How long an answer is waited for on which it depends whether the role is moved.
const ANSWER: Duration = Duration::from_secs(10);
/// A younger transaction is over before somebody has read of it.
const WORTH_A_WORD: u64 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Writing {
    session: u64,
    user: String,
    host: String,
    seconds: u64,
    rows: u64,
}

#[derive(Deserialize)]
struct OfPrimary {
    writing: Vec<Writing>,
}

#[derive(Deserialize)]
struct OfCandidate {
    behind: Option<u64>,
}

/// Asks a node.
fn ask<T: serde::de::DeserializeOwned>(node: &str, question: &str, resource: &str, limit: Duration) -> Result<T, String> {
    let answer = remote::ask(&[node.to_owned()], &["systole", "here", question, resource], limit).into_values().next();
    let text = answer.unwrap_or_else(|| Err("was not asked".into())).map_err(|why| format!("{node} {why}"))?;
    serde_json::from_str(&text).map_err(|e| format!("{node} answers something else (is systole of the same version there?): {e}"))
}

/// What the move costs, as notes.
///
/// # Errors
/// That it costs more than is accepted, or that a limit was given and it cannot be seen whether it holds.
pub(crate) fn of_move(resource: &str, from: &str, to: &str, limits: Limits) -> Result<Vec<String>, String> {
    let patience = if limits.transaction.is_some() { ANSWER } else { remote::LIMIT };
    let writing = ask::<OfPrimary>(from, "writing", resource, patience).map(|answer| answer.writing);
    let notes = within_transactions(writing, limits.transaction)?;
    if limits.lag.is_some() {
        let behind = ask::<OfCandidate>(to, "behind", resource, ANSWER).map(|answer| answer.behind);
        within_lag(to, behind, limits.lag)?;
    }
    Ok(notes)
}

fn within_transactions(writing: Result<Vec<Writing>, String>, most: Option<u64>) -> Result<Vec<String>, String> {
    let writing = match (writing, most) {
        (Ok(writing), _) => writing,
        (Err(why), Some(_)) => return Err(format!("which transactions are under way cannot be seen: {why}")),
        (Err(why), None) => return Ok(vec![format!("which transactions are under way is not known, and the move ends them: {why}")]),
    };
    let told = |w: &Writing| {
        let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
        let who = format!("session {} ({}@{})", w.session, plain(&w.user), plain(&w.host));
        format!("{who} has changed {} rows since {} s and has not committed: the move ends it", w.rows, w.seconds)
    };
    let too_old: Vec<String> = writing.iter().filter(|w| most.is_some_and(|most| w.seconds > most)).map(told).collect();
    if too_old.is_empty() {
        return Ok(writing.iter().filter(|w| w.seconds >= WORTH_A_WORD).map(told).collect());
    }
    Err(format!("{} (--max-transaction {})", too_old.join("; "), most.unwrap_or_default()))
}

fn within_lag(to: &str, behind: Result<Option<u64>, String>, most: Option<u64>) -> Result<(), String> {
    let Some(most) = most else { return Ok(()) };
    match behind {
        Ok(Some(seconds)) if seconds <= most => Ok(()),
        Ok(Some(seconds)) => Err(format!("{to} is {seconds} s behind (--max-lag {most})")),
        Ok(None) => Err(format!("how far {to} is behind is not known to its server (--max-lag {most})")),
        Err(why) => Err(format!("how far {to} is behind cannot be seen: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_writes_are_shown_and_refuse_the_move_beyond_the_limit() {
        let writing = |seconds: u64| Writing { session: 7, user: "shop".into(), host: "app\u{1b}:3".into(), seconds, rows: 12 };
        let at = |seconds: u64, most| within_transactions(Ok(vec![writing(0), writing(seconds)]), most);
        let note = "session 7 (shop@app:3) has changed 12 rows since 30 s and has not committed: the move ends it";
        assert_eq!(at(30, None), Ok(vec![note.to_owned()]));
        assert_eq!(at(30, Some(30)), Ok(vec![note.to_owned()]));
        assert_eq!(at(30, Some(29)), Err(format!("{note} (--max-transaction 29)")));
        let unseen = "which transactions are under way is not known, and the move ends them: a does not answer";
        assert_eq!(within_transactions(Err("a does not answer".into()), None), Ok(vec![unseen.to_owned()]));
        assert!(within_transactions(Err("a does not answer".into()), Some(5)).unwrap_err().contains("cannot be seen: a does not answer"));
    }

    #[test]
    fn a_candidate_that_is_behind_or_does_not_say_it_is_no_candidate_where_a_limit_was_given() {
        let at = |behind: Result<Option<u64>, String>| within_lag("b", behind, Some(5)).err();
        assert_eq!(at(Ok(Some(5))), None);
        assert_eq!(at(Ok(Some(6))).as_deref(), Some("b is 6 s behind (--max-lag 5)"));
        assert!(at(Ok(None)).is_some() && at(Err("x".into())).is_some());
        assert_eq!(within_lag("b", Err("x".into()), None), Ok(()));
    }
}
