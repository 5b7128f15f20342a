-- The accounts that go with mysql.crm on MySQL and Percona Server 8.0 and newer. On every node, as root, before the first
-- promotion, while the distribution's service runs or the agent has the server closed for writes:
--
--     mysql < mysql-accounts-mysql.sql
--
-- Never on a promoted server: the last line closes it for writes. And never later on a primary that has no replica yet: an account
-- that waits for an acknowledgement locks every login out, also that of the replica which would acknowledge it.
--
-- Change before: the passwords (`openssl rand -hex 16` makes one; the agent starts no server with these), the network.

-- Not into the binary log: every node gets its own, and no node has a transaction that the others lack.
SET SESSION sql_log_bin = 0;
-- Root passes read_only, and nobody passes super_read_only. Clients stay locked out.
SET GLOBAL super_read_only = OFF;

-- What the replicas log in with at the primary: replication_user and replication_passwd of the resource.
-- Two statements, so that this file sets the password also where the account is there already; IF NOT EXISTS alone keeps the old one.
-- The random password, which is printed, is that of an account that nobody can use yet.
CREATE USER IF NOT EXISTS 'replication'@'10.%' IDENTIFIED BY RANDOM PASSWORD ACCOUNT LOCK;
ALTER USER 'replication'@'10.%' IDENTIFIED BY 'PASSWORD' ACCOUNT UNLOCK;
-- REPLICATION SLAVE: read the primary's log. BACKUP_ADMIN: copy the primary's data, only with rejoin=clone and rewind-or-clone.
GRANT REPLICATION SLAVE, BACKUP_ADMIN ON *.* TO 'replication'@'10.%';
-- With rejoin=rewind: to compare rows with the primary's after something was taken back.
GRANT SELECT ON *.* TO 'replication'@'10.%';

-- The agent's own account: test_user and test_passwd of the resource. Only needed where root may not log in over the socket.
CREATE USER IF NOT EXISTS 'systole'@'localhost' IDENTIFIED BY RANDOM PASSWORD ACCOUNT LOCK;
ALTER USER 'systole'@'localhost' IDENTIFIED BY 'ANOTHER PASSWORD' ACCOUNT UNLOCK;
-- Open and close the server for writes, switch acknowledgements and events.
GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO 'systole'@'localhost';
-- REPLICATION CLIENT: the state of replication. REPLICATION SLAVE: list the replicas. REPLICATION_SLAVE_ADMIN: start, stop
-- and point replication.
GRANT REPLICATION CLIENT, REPLICATION SLAVE, REPLICATION_SLAVE_ADMIN ON *.* TO 'systole'@'localhost';
-- PROCESS: see the sessions of others. CONNECTION_ADMIN: end those that stand in the way of a demotion, log in when all
-- connections are used up. SYSTEM_USER: end those of root, too.
GRANT PROCESS, CONNECTION_ADMIN, SYSTEM_USER ON *.* TO 'systole'@'localhost';
-- FLUSH USER_RESOURCES, which waits until the replicas have everything before it; RESET REPLICA.
GRANT RELOAD ON *.* TO 'systole'@'localhost';
-- The threads that apply.
GRANT SELECT ON performance_schema.* TO 'systole'@'localhost';
-- With rejoin=rewind: take back what nobody was told of. BINLOG_ADMIN: apply events.
-- SELECT: compare the rows with the log. REFERENCES: see which foreign keys cascade. What is its own is in a schema of its own.
GRANT BINLOG_ADMIN, SELECT, REFERENCES ON *.* TO 'systole'@'localhost';
GRANT CREATE, DROP, INSERT, SELECT ON `systole\_rewind`.* TO 'systole'@'localhost';
-- Be replaced by a copy of the primary: only with rejoin=clone and rewind-or-clone.
GRANT CLONE_ADMIN ON *.* TO 'systole'@'localhost';
-- Only where the plugins are not loaded by the option file:
-- GRANT INSERT ON mysql.plugin TO 'systole'@'localhost';
-- Only with test_table:
-- GRANT SELECT ON shop.orders TO 'systole'@'localhost';

SET GLOBAL super_read_only = ON;
