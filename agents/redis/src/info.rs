//! The server's `INFO`, parsed. No I/O.

use std::collections::HashMap;

/// Role of a server in replication, as it sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ReplicationRole {
    /// It takes writes from clients (unless its gate is closed).
    Primary,
    /// It follows another.
    Replica,
}

/// A replica, as its primary sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttachedReplica {
    /// The name it announces: our servers announce their node's name.
    pub(crate) node: String,
    /// Whether it follows the stream (and is not still loading the first copy).
    pub(crate) online: bool,
    /// The offset up to which it acknowledged.
    pub(crate) offset: u64,
    /// Seconds since it reported last.
    pub(crate) lag: u64,
}

/// What the agent wants to know of a server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Info {
    /// The server's process.
    pub(crate) pid: Option<i32>,
    /// Primary or replica.
    pub(crate) role: ReplicationRole,
    /// Whether it is still loading its data from disk.
    pub(crate) loading: bool,
    /// Whether it holds any key.
    pub(crate) has_keys: bool,
    /// Id of the history that its offset counts in.
    pub(crate) replid: String,
    /// Bytes of the replication stream that it holds.
    pub(crate) offset: u64,
    /// Id of the history before the last change of primary.
    pub(crate) replid2: Option<String>,
    /// First offset that is *not* part of the history before.
    pub(crate) second_offset: Option<u64>,
    /// Whether it keeps a backlog of the stream. The first replica that attaches to a primary without one makes it
    /// begin a new history, and so does the end of the backlog (repl-backlog-ttl).
    pub(crate) backlog: bool,
    /// A replica's offset from before it gave up its data for a copy of the primary's.
    pub(crate) stale_offset: Option<u64>,
    /// A replica's primary, as host and port.
    pub(crate) primary: Option<(String, u16)>,
    /// A replica's link to its primary is up.
    pub(crate) link_up: bool,
    /// A replica is receiving a first copy: its data are incomplete.
    pub(crate) syncing: bool,
    /// Seconds since the link went down.
    pub(crate) link_down_seconds: Option<u64>,
    /// The operator's preference for promotion, 0 for never, lower is better.
    pub(crate) priority: u32,
    /// A primary's replicas.
    pub(crate) replicas: Vec<AttachedReplica>,
    /// The last attempt to save failed.
    pub(crate) save_failed: bool,
}

impl Info {
    /// A replica that threw its data away for a whole copy, which did not arrive or could not be loaded. It still shows where it was.
    pub(crate) fn emptied(&self) -> bool {
        self.stale_offset.is_some() && !self.has_keys && !self.link_up && !self.syncing && !self.loading
    }

    /// A replica that has not heard of its primary for so long that the primary has gone on without it, if it lives.
    pub(crate) fn lost(&self) -> bool {
        self.role == ReplicationRole::Replica
            && !self.link_up
            && self.link_down_seconds.is_some_and(|s| s >= crate::limits::LOST_AFTER.as_secs())
    }

    /// Reads the text of `INFO`; `None` when it holds no role, which every server answers, or something else as the id of a
    /// history.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
        let number = |name: &str| fields.get(name).and_then(|v| v.parse::<u64>().ok());
        let role = match *fields.get("role")? {
            "master" => ReplicationRole::Primary,
            "slave" => ReplicationRole::Replica,
            _ => return None,
        };
        // They go into the record and to the other nodes, between words of ours.
        if ["master_replid", "master_replid2"].iter().any(|name| fields.get(name).is_some_and(|id| !is_history(id))) {
            return None;
        }
        let (applied, stream) = (number("slave_repl_offset").unwrap_or_default(), number("master_repl_offset").unwrap_or_default());
        let backlog = number("repl_backlog_active").is_some_and(|n| n != 0);
        let replid2 = fields.get("master_replid2").filter(|id| id.bytes().any(|b| b != b'0')).map(|id| (*id).to_owned());
        let keys = |(name, value): (&&str, &&str)| {
            name.strip_prefix("db").is_some_and(|n| n.parse::<u32>().is_ok()) && value.starts_with("keys=") && !value.starts_with("keys=0,")
        };
        let mut replicas: Vec<(u32, AttachedReplica)> =
            fields.iter().filter_map(|(name, value)| Some((name.strip_prefix("slave")?.parse().ok()?, attached(value)?))).collect();
        replicas.sort_by_key(|(number, _)| *number);
        Some(Self {
            pid: fields.get("process_id").and_then(|v| v.parse().ok()),
            role,
            loading: number("loading").is_some_and(|n| n != 0) || number("async_loading").is_some_and(|n| n != 0),
            has_keys: fields.iter().any(keys),
            replid: fields.get("master_replid").copied().unwrap_or_default().to_owned(),
            offset: match role {
                ReplicationRole::Primary => stream,
                // What it applied, while it knows its primary: 1 when it does not. The other one counts its backlog, and stays where it was
                // when the data are gone.
                ReplicationRole::Replica if applied <= 1 && backlog => applied.max(stream),
                ReplicationRole::Replica => applied,
            },
            replid2,
            second_offset: number("second_repl_offset"),
            backlog,
            stale_offset: (role == ReplicationRole::Replica && applied <= 1 && !backlog && stream > 1).then_some(stream),
            primary: fields.get("master_host").and_then(|host| Some(((*host).to_owned(), fields.get("master_port")?.parse().ok()?))),
            link_up: fields.get("master_link_status") == Some(&"up"),
            syncing: number("master_sync_in_progress").is_some_and(|n| n != 0),
            link_down_seconds: number("master_link_down_since_seconds"),
            priority: number("slave_priority").and_then(|n| n.try_into().ok()).unwrap_or(100),
            replicas: replicas.into_iter().map(|(_, replica)| replica).collect(),
            save_failed: fields.get("rdb_last_bgsave_status") == Some(&"err") || fields.get("aof_last_write_status") == Some(&"err"),
        })
    }
}

/// Whether a text can be the id of a history: 40 digits, hexadecimal ones.
fn is_history(text: &str) -> bool {
    text.len() <= 40 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Reads `ip=lxc2,port=6379,state=online,offset=42,lag=0`.
fn attached(value: &str) -> Option<AttachedReplica> {
    let fields: HashMap<&str, &str> = value.split(',').filter_map(|f| f.split_once('=')).collect();
    Some(AttachedReplica {
        node: (*fields.get("ip")?).to_owned(),
        online: fields.get("state") == Some(&"online"),
        offset: fields.get("offset")?.parse().ok()?,
        lag: fields.get("lag").and_then(|lag| lag.parse().ok()).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRIMARY: &str = "# Server\r\nprocess_id:42\r\n# Persistence\r\nloading:0\r\nasync_loading:0\r\nrdb_last_bgsave_status:ok\r\n\
        # Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=lxc2,port=6379,state=online,offset=1042,lag=0\r\n\
        slave1:ip=lxc3,port=6379,state=wait_bgsave,offset=0,lag=0\r\nmaster_replid:aa\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nmaster_repl_offset:1100\r\nsecond_repl_offset:-1\r\n\
        # Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\n";

    #[test]
    fn a_primary_and_its_replicas() {
        let info = Info::parse(PRIMARY).unwrap();
        assert_eq!((info.role, info.pid, info.offset, info.has_keys), (ReplicationRole::Primary, Some(42), 1100, true));
        assert_eq!((info.replid2, info.second_offset), (None, None));
        assert_eq!(info.replicas[0], AttachedReplica { node: "lxc2".into(), online: true, offset: 1042, lag: 0 });
        assert!(!info.replicas[1].online);
    }

    /// The text stood in the record, and its words counted as the record's.
    #[test]
    fn a_history_holds_no_words_of_a_record() {
        for id in ["aa node=lxc9", "aa,bb", "aa:7", "aa\tholders=lxc9", &"a".repeat(41)] {
            assert_eq!(Info::parse(&PRIMARY.replace("replid:aa", &format!("replid:{id}"))), None, "{id}");
        }
        assert!(Info::parse(&PRIMARY.replace("replid:aa", &format!("replid:{}", "0f".repeat(20)))).is_some());
    }

    #[test]
    fn a_replica_whose_link_is_down() {
        let info = Info::parse(
            "role:slave\r\nmaster_host:lxc1\r\nmaster_port:6379\r\nmaster_link_status:down\r\nmaster_sync_in_progress:0\r\n\
             slave_repl_offset:77\r\nmaster_link_down_since_seconds:5\r\nslave_priority:10\r\nmaster_replid:bb\r\n\
             master_replid2:aa\r\nmaster_repl_offset:77\r\nsecond_repl_offset:50\r\n",
        )
        .unwrap();
        assert_eq!((info.role, info.link_up, info.offset, info.priority), (ReplicationRole::Replica, false, 77, 10));
        assert_eq!((info.replid2.as_deref(), info.second_offset, info.has_keys), (Some("aa"), Some(50), false));
        assert_eq!(info.primary, Some(("lxc1".into(), 6379)));
    }

    /// As Redis 7.0 shows itself when a copy that it received cannot be loaded, for example that of a newer primary.
    #[test]
    fn a_replica_that_threw_its_data_away_is_not_where_it_was() {
        let text = "role:slave\nmaster_link_status:down\nmaster_sync_in_progress:0\nslave_repl_offset:1\nmaster_replid:bb\n\
            master_repl_offset:6407\nrepl_backlog_active:0\n";
        let info = Info::parse(text).unwrap();
        assert_eq!((info.offset, info.emptied()), (1, true));
        let with_keys = Info::parse(&format!("{text}db0:keys=1,expires=0\n")).unwrap();
        assert!(!with_keys.emptied());
        // A primary that broke the protocol is forgotten by its replica, and the data are as they were.
        let forgotten = Info::parse(&text.replace("active:0", "active:1")).unwrap();
        assert_eq!((forgotten.offset, forgotten.emptied()), (6407, false));
        let syncing = Info::parse(&text.replace("in_progress:0", "in_progress:1")).unwrap();
        assert!(!syncing.emptied());
        let fresh = Info::parse(&text.replace("6407", "0")).unwrap();
        assert_eq!((fresh.offset, fresh.emptied()), (1, false));
    }

    #[test]
    fn a_link_that_was_never_up_has_no_age() {
        assert_eq!(Info::parse("role:slave\nmaster_link_down_since_seconds:-1\n").unwrap().link_down_seconds, None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "([a-z_0-9]{0,12}[:=,]?[-a-z0-9=,]{0,20}\r?\n){0,12}") {
            let _ = Info::parse(&text);
        }
    }
}
