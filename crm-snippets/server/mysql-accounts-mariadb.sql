-- The accounts that go with mysql.crm on MariaDB 10.11 and newer. On every node, as root, before the first promotion (a server
-- that the agent has started is closed for writes, which root may pass):
--
--     mariadb < mysql-accounts-mariadb.sql
--
-- Change before: the passwords (`openssl rand -hex 16` makes one; the agent starts no server with these), the network.

-- Not into the binary log: every node gets its own, and no node has a transaction that the others lack.
SET SESSION sql_log_bin = 0;

-- What the replicas log in with at the primary: replication_user and replication_passwd of the resource.
-- Two statements, so that this file sets the password also where the account is there already; IF NOT EXISTS alone keeps the old one.
CREATE USER IF NOT EXISTS 'replication'@'10.%' ACCOUNT LOCK;
ALTER USER 'replication'@'10.%' IDENTIFIED BY 'PASSWORD' ACCOUNT UNLOCK;
-- To read the primary's log.
GRANT REPLICATION SLAVE ON *.* TO 'replication'@'10.%';
-- With rejoin=rewind: to compare rows with the primary's after something was taken back.
GRANT SELECT ON *.* TO 'replication'@'10.%';

-- The agent's own account: test_user and test_passwd of the resource. Only needed where root may not log in over the socket;
-- the agent's default is root, which the distribution lets in without a password when the system's user root asks.
CREATE USER IF NOT EXISTS 'systole'@'localhost' ACCOUNT LOCK;
ALTER USER 'systole'@'localhost' IDENTIFIED BY 'ANOTHER PASSWORD' ACCOUNT UNLOCK;
-- SLAVE MONITOR: the state of replication. BINLOG MONITOR: the names of the binary logs.
GRANT SLAVE MONITOR, BINLOG MONITOR ON *.* TO 'systole'@'localhost';
-- REPLICATION SLAVE ADMIN: start, stop and point replication, acknowledge. REPLICATION MASTER ADMIN: wait for
-- acknowledgements, list the replicas.
GRANT REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN ON *.* TO 'systole'@'localhost';
-- Open and close the server for writes.
GRANT READ_ONLY ADMIN ON *.* TO 'systole'@'localhost';
-- PROCESS: see the sessions of others. CONNECTION ADMIN: end those that stand in the way of a demotion, log in when all
-- connections are used up.
GRANT PROCESS, CONNECTION ADMIN ON *.* TO 'systole'@'localhost';
-- FLUSH USER_RESOURCES, which waits until the replicas have everything before it; RESET SLAVE.
GRANT RELOAD ON *.* TO 'systole'@'localhost';
-- With rejoin=rewind: take back what nobody was told of. BINLOG ADMIN: without a log. BINLOG REPLAY: apply events.
-- SELECT: compare the rows with the log. REFERENCES: see which foreign keys cascade. What is its own is in a schema of its own.
GRANT BINLOG ADMIN, BINLOG REPLAY, SELECT, REFERENCES ON *.* TO 'systole'@'localhost';
GRANT CREATE, DROP, INSERT, SELECT ON `systole\_rewind`.* TO 'systole'@'localhost';
-- Only with event_scheduler=yes:
-- GRANT SUPER ON *.* TO 'systole'@'localhost';
-- Only with test_table:
-- GRANT SELECT ON shop.orders TO 'systole'@'localhost';
