//! A connection to a server of any database.

use crate::database::{Access, Database, Session};
use crate::{mysql_client, redis_client};

/// Connects, logs in, asks who it is; an error is in the server's or the network's words.
pub(crate) fn connect(access: &Access, address: &str) -> Result<Box<dyn Session>, String> {
    Ok(match access.database {
        Database::Redis => Box::new(redis_client::RedisSession::connect(access, address)?),
        Database::MySql => Box::new(mysql_client::MySqlSession::connect(access, address)?),
    })
}
