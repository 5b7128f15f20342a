-- The accounts that go with mysql.crm on MySQL 5.6. On every node, as root, before the first promotion (a server that the agent
-- has started is closed for writes, which root may pass):
--
--     mysql < mysql-accounts-mysql56.sql
--
-- Change before: the passwords (`openssl rand -hex 16` makes one; the agent starts no server with these), the network.

-- Not into the binary log: every node gets its own, and no node has a transaction that the others lack.
SET SESSION sql_log_bin = 0;

-- Accounts without a name, which mysql_install_db makes, would be taken instead of named ones that log in from anywhere.
DELETE FROM mysql.user WHERE user = '';
FLUSH LOCAL PRIVILEGES;

-- What the replicas log in with at the primary: replication_user and replication_passwd of the resource. To read the
-- primary's log.
GRANT REPLICATION SLAVE ON *.* TO 'replication'@'10.%' IDENTIFIED BY 'PASSWORD';

-- The agent's own account: test_user and test_passwd of the resource. Only needed where root may not log in over the socket.
-- SUPER: open and close the server for writes, point replication, end sessions, log in when all connections are used up.
-- REPLICATION CLIENT: the state of replication. REPLICATION SLAVE: list the replicas. PROCESS: see the sessions of others.
-- RELOAD: FLUSH USER_RESOURCES, RESET SLAVE.
GRANT SUPER, RELOAD, PROCESS, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'systole'@'localhost' IDENTIFIED BY 'ANOTHER PASSWORD';
-- Only with test_table:
-- GRANT SELECT ON shop.orders TO 'systole'@'localhost';
