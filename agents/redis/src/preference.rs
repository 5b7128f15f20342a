//! The promotion score: a hint to the cluster whom to ask first. The election decides. Pure.

use pacemaker::Score;
pub(crate) use promotable::preference::PRIMARY;

use crate::info::Info;

/// What the score depends on, beside the server itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    /// The server is promoted.
    pub(crate) promoted: bool,
    /// Its process has been attached to the primary.
    pub(crate) linked: bool,
    /// It was started again by a demotion a moment ago.
    pub(crate) held: bool,
    /// The record in the CIB names this node.
    pub(crate) recorded: bool,
}

/// A server whose disk is full or broken refuses writes by default (MISCONF), so the role goes to a replica that can
/// save, in an orderly move; when none can, it stays.
const PRIMARY_THAT_CANNOT_SAVE: Score = Score::new(60);
const REPLICA_THAT_CANNOT_SAVE: Score = Score::new(30);
/// While a first copy arrives. The election refuses such a server, but the copy may be complete long before the next
/// monitor says so, and then nobody else might be left.
const SYNCING: Score = Score::new(5);

/// The score of a server.
pub(crate) fn score(info: &Info, circumstances: Circumstances) -> Score {
    let Circumstances { promoted, linked, held, recorded } = circumstances;
    if promoted {
        return if info.save_failed { PRIMARY_THAT_CANNOT_SAVE } else { PRIMARY };
    }
    if info.loading || info.priority == 0 || info.emptied() {
        return Score::NEVER;
    }
    if info.syncing {
        return SYNCING;
    }
    if info.save_failed {
        return REPLICA_THAT_CANNOT_SAVE;
    }
    if (linked && !info.lost()) || info.link_up {
        // replica-priority 100, the default, is a score of 100; a lower number is preferred.
        return Score::new(200 - i32::try_from(info.priority.min(199)).unwrap_or(199));
    }
    if held {
        return Score::NEVER;
    }
    // A cold start: nobody is attached to anybody.
    match (info.has_keys, recorded) {
        (true, true) => Score::new(50),
        (true, false) => Score::new(20),
        (false, true) => Score::new(12),
        (false, false) => Score::new(10),
    }
}

#[cfg(test)]
mod tests {
    use promotable::preference::{HANDED_OVER, STEPPED_BACK};

    use super::*;

    #[test]
    fn the_order_of_preference() {
        let info = |text: &str| Info::parse(&format!("role:slave\n{text}")).unwrap();
        let none = Circumstances { promoted: false, linked: false, held: false, recorded: false };
        let attached = score(&info("master_link_status:up"), none);
        let preferred = score(&info("master_link_status:up\nslave_priority:10"), none);
        let was_attached = score(&info(""), Circumstances { linked: true, ..none });
        let lost = score(&info("master_link_down_since_seconds:3600\ndb0:keys=1"), Circumstances { linked: true, ..none });
        let cold_primary = score(&info("db0:keys=1"), Circumstances { recorded: true, ..none });
        let cold = score(&info("db0:keys=1"), none);
        let empty = score(&info(""), none);
        let syncing = score(&info("master_sync_in_progress:1"), none);
        let full = "master_link_status:up\nrdb_last_bgsave_status:err";
        let primary = Circumstances { promoted: true, ..none };
        assert!(attached > score(&info(full), primary), "a replica that can save takes over from a primary that cannot");
        assert!(score(&info(full), primary) > score(&info(full), none), "the primary stays when nobody can save");
        assert!(lost < cold_primary, "the primary that came back with its data is asked before one that lost it long ago");
        assert!(PRIMARY > HANDED_OVER && HANDED_OVER > preferred && preferred > attached);
        assert!(
            attached == was_attached
                && attached > cold_primary
                && cold_primary > cold
                && cold > empty
                && empty > syncing
                && syncing > STEPPED_BACK
        );
    }

    #[test]
    fn no_candidate_while_loading_held_or_told_so() {
        let none = Circumstances { promoted: false, linked: true, held: false, recorded: true };
        for text in ["loading:1", "slave_priority:0", "slave_priority:0\nmaster_sync_in_progress:1", "master_repl_offset:99"] {
            assert_eq!(score(&Info::parse(&format!("role:slave\n{text}")).unwrap(), none), Score::NEVER, "{text}");
        }
        let held = Circumstances { linked: false, held: true, ..none };
        assert_eq!(score(&Info::parse("role:slave").unwrap(), held), Score::NEVER);
    }
}
