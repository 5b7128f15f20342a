-- The accounts that go with mysql.crm on MySQL and Percona Server 5.7. On every node, as root, before the first promotion, while
-- the distribution's service runs or the agent has the server closed for writes:
--
--     mysql < mysql-accounts-mysql57.sql
--
-- Never on a promoted server: the last line closes it for writes. And never later on a primary that has no replica yet: an account
-- that waits for an acknowledgement locks every login out, also that of the replica which would acknowledge it.
--
-- Change before: the passwords (`openssl rand -hex 16` makes one; the agent starts no server with these), the network.

-- Not into the binary log: every node gets its own, and no node has a transaction that the others lack.
SET SESSION sql_log_bin = 0;
-- Root passes read_only, and nobody passes super_read_only. Clients stay locked out.
SET GLOBAL super_read_only = OFF;

-- What the replicas log in with at the primary: replication_user and replication_passwd of the resource. To read the
-- primary's log.
-- Two statements, so that this file sets the password also where the account is there already; IF NOT EXISTS alone keeps
-- the old one. Nobody can use the account before.
CREATE USER IF NOT EXISTS 'replication'@'10.%' ACCOUNT LOCK;
ALTER USER 'replication'@'10.%' IDENTIFIED BY 'PASSWORD' ACCOUNT UNLOCK;
GRANT REPLICATION SLAVE ON *.* TO 'replication'@'10.%';

-- The agent's own account: test_user and test_passwd of the resource. Only needed where root may not log in over the socket.
CREATE USER IF NOT EXISTS 'systole'@'localhost' ACCOUNT LOCK;
ALTER USER 'systole'@'localhost' IDENTIFIED BY 'ANOTHER PASSWORD' ACCOUNT UNLOCK;
-- SUPER: open and close the server for writes, switch acknowledgements, point replication, end sessions, log in when all
-- connections are used up. REPLICATION CLIENT: the state of replication. REPLICATION SLAVE: list the replicas. PROCESS: see the
-- sessions of others. RELOAD: FLUSH USER_RESOURCES, RESET SLAVE.
GRANT SUPER, RELOAD, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'systole'@'localhost';
-- The threads that apply.
GRANT SELECT ON performance_schema.* TO 'systole'@'localhost';
-- With rejoin=rewind: take back what nobody was told of.
-- SELECT: compare the rows with the log. REFERENCES: see which foreign keys cascade. What is its own is in a schema of its own.
GRANT SELECT, REFERENCES ON *.* TO 'systole'@'localhost';
GRANT CREATE, DROP, INSERT, SELECT ON `systole\_rewind`.* TO 'systole'@'localhost';
-- Only where the plugins are not loaded by the option file:
-- GRANT INSERT ON mysql.plugin TO 'systole'@'localhost';
-- Only with test_table:
-- GRANT SELECT ON shop.orders TO 'systole'@'localhost';

SET GLOBAL super_read_only = ON;
