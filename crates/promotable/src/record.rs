//! The record of the last promotion: a property in the CIB. What stands in it is the agent's; how it is read and replaced is the same.

use std::fmt::Display;

use ocf::Failure;
use pacemaker::Cluster;

/// The property, after the resource's name.
const PROPERTY: &str = "primary";

/// What an agent records of a promotion.
pub trait Record: Display + PartialEq + Sized {
    /// Counts promotions.
    fn epoch(&self) -> u64;

    /// Counts rewrites within the epoch, where that is recorded.
    fn change(&self) -> u64;

    /// The primary.
    fn node(&self) -> &str;

    /// Whether an operator wrote it: this node, whatever the others hold.
    fn decided(&self) -> bool;

    /// Reads what [`Display`] prints, or an operator wrote.
    ///
    /// # Errors
    /// The text, when it is none: whoever wrote it meant something, so it is not passed over.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Why a record was not replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NotReplaced<R> {
    /// It is not the one that the next was made from: this is there.
    Changed(Option<R>),
    /// The cluster did not do it, or what stands there cannot be read.
    Failed(Failure),
}

impl<R: Display> NotReplaced<R> {
    /// As an answer to the cluster, which tries again: from the record that is there.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Changed(None) => Failure::generic("the record was taken out of the CIB meanwhile: wait for the next attempt"),
            Self::Changed(Some(found)) => {
                Failure::generic(format!("the record was changed meanwhile, to {found:.200}: wait for the next attempt"))
            }
        }
    }
}

/// The record in the CIB.
///
/// # Errors
/// When the cluster cannot be asked, or what stands there cannot be read: with the command that decides.
pub fn read_record<R: Record>(cluster: &Cluster) -> Result<Option<R>, Failure> {
    let text = cluster.property(PROPERTY).map_err(|e| Failure::generic(e.to_string()))?;
    text.map(|text| parsed(cluster, &text)).transpose()
}

/// Replaces the record `before` by `next`, if it still is the one in the CIB.
///
/// # Errors
/// When another is there, or the cluster does not do it.
pub fn replace_record<R: Record>(cluster: &Cluster, before: Option<&R>, next: &R) -> Result<(), NotReplaced<R>> {
    let next = next.to_string();
    let mut text = before.map(ToString::to_string);
    loop {
        let found = match cluster.replace_property(PROPERTY, text.as_deref(), &next) {
            Ok(()) => return Ok(()),
            Err(pacemaker::Error::Changed { found, .. }) => found,
            Err(e) => return Err(NotReplaced::Failed(Failure::generic(e.to_string()))),
        };
        let record = found.as_deref().map(|text| parsed(cluster, text)).transpose().map_err(NotReplaced::Failed)?;
        // The same in other words, as another version of the agent wrote it, or an operator.
        if record.as_ref() != before || found == text {
            return Err(NotReplaced::Changed(record));
        }
        text = found;
    }
}

/// What a primary finds in the place of its record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Review<R> {
    /// What it knows.
    Known,
    /// Its own, rewritten by an action of this node that was killed before it could remember that.
    Rewritten(R),
    /// None, or one that is over, as after the CIB was restored from a file: its own has to be written again.
    Lost,
    /// Another has been named, by an operator or by a promotion.
    Contested(String),
}

/// Compares the record of a primary in office with the one that is found in the CIB. Pacemaker promotes one at a time and demotes or
/// fences the one before, so no promotion but a later one can be right against it. `withdrawal`: the command that takes the found one away.
pub fn review<R: Record>(own: &R, found: Option<R>, withdrawal: &str) -> Review<R> {
    let Some(found) = found else { return Review::Lost };
    let same_reign = found.node() == own.node() && found.epoch() == own.epoch() && !found.decided();
    if found == *own {
        Review::Known
    } else if same_reign && found.change() >= own.change() {
        Review::Rewritten(found)
    } else if found.decided() && found.node() != own.node() {
        Review::Contested(format!(
            "the record names {} by an operator's decision, and this node is the primary: move the role there, or take the decision back \
             with: {withdrawal}",
            found.node()
        ))
    } else if found.epoch() > own.epoch() {
        Review::Contested(format!(
            "the record names {} as the primary of epoch {}, and this node is that of epoch {}: stop the one whose data are wrong, or keep \
             this one with: {withdrawal}",
            found.node(),
            found.epoch(),
            own.epoch()
        ))
    } else {
        Review::Lost
    }
}

/// The command that takes the record away. A primary in office writes its own again.
pub fn withdrawal(cluster: &Cluster) -> String {
    cluster.property_withdrawal(PROPERTY)
}

/// The command with which an operator names the node whose data are right. It comes with the agents.
pub fn decision(cluster: &Cluster) -> String {
    decision_of(&cluster.membership().resource)
}

/// The same for a resource of this name.
#[must_use]
pub fn decision_of(resource: &str) -> String {
    format!("systole decide {resource} NODE")
}

/// Puts an operator's decision, or any record as text, in the place of the one that it was made from.
///
/// # Errors
/// When another is there, or the cluster does not do it.
pub fn replace_text(cluster: &Cluster, before: Option<&str>, next: &str) -> Result<(), pacemaker::Error> {
    cluster.replace_property(PROPERTY, before, next)
}

fn parsed<R: Record>(cluster: &Cluster, text: &str) -> Result<R, Failure> {
    R::parse(text).map_err(|e| Failure::generic(format!("{e}: name the node whose data are right with: {}", decision(cluster))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Simple(u64, u64, &'static str, bool);

    impl Display for Simple {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{self:?}")
        }
    }

    impl Record for Simple {
        fn epoch(&self) -> u64 {
            self.0
        }
        fn change(&self) -> u64 {
            self.1
        }
        fn node(&self) -> &str {
            self.2
        }
        fn decided(&self) -> bool {
            self.3
        }
        fn parse(text: &str) -> Result<Self, String> {
            Err(text.to_owned())
        }
    }

    #[test]
    fn a_primary_writes_its_record_again_unless_somebody_meant_another() {
        let own = Simple(8, 3, "a", false);
        let found = |found: Simple| review(&own, Some(found), "TAKE IT AWAY");
        assert_eq!(found(own.clone()), Review::Known);
        assert_eq!(found(Simple(8, 4, "a", false)), Review::Rewritten(Simple(8, 4, "a", false)));
        assert_eq!(review(&own, None, ""), Review::Lost);
        for old in [Simple(8, 2, "a", false), Simple(7, 9, "a", false), Simple(7, 9, "b", false)] {
            assert_eq!(found(old), Review::Lost, "an old CIB was loaded");
        }
        assert_eq!(found(Simple(8, 0, "b", false)), Review::Lost, "the promotion of b did not get as far as this node's");
        assert_eq!(found(Simple(0, 0, "a", true)), Review::Lost, "the operator's choice is the primary");
        for (other, word) in [(Simple(0, 0, "b", true), "operator"), (Simple(9, 0, "b", false), "epoch 9")] {
            let Review::Contested(why) = found(other) else { panic!("not contested") };
            assert!(why.contains(word) && why.ends_with("with: TAKE IT AWAY"), "{why}");
        }
    }
}
