//! `ocf:systole:mysql`: Percona Server, MySQL and MariaDB with GTID replication as a promotable clone.

pub mod gtid;
