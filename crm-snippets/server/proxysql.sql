-- What ProxySQL (2.6 or newer) has to know for mysql.crm: for its admin interface, on every node, once. It goes with proxysql.crm, and docs/proxysql.md says why it is as it is. The comments are for you and not for ProxySQL:
--
--     install -m 600 proxysql.sql /root/proxysql.sql
--     editor /root/proxysql.sql
--     grep -v '^--' /root/proxysql.sql | mariadb --defaults-file=/root/proxysql.cnf       (with MySQL: mysql)
--
-- Change before: the four passwords, the account of the application (wpsite), the version of the servers, and the node names if
-- yours differ.

-- The servers. All begin as readers: nobody is written to before he was asked.
-- max_replication_lag: a replica that is further behind (seconds) is not read from. It has to be below
--   mysql-monitor_slave_lag_when_null (60): that is what a replica counts for that does not replicate at all.
-- max_connections: of one ProxySQL to one server in one group. Three ProxySQLs and both groups make six times as many at the
--   primary, and its max_connections (300 in site.cnf) has to be more. Clients beyond that wait for one another.
-- use_ssl: 1 for MySQL 8 and newer. It has TLS by itself, and its accounts (caching_sha2_password) want a password over TLS, or
--   under a key that has to be fetched first.
DELETE FROM mysql_servers WHERE hostgroup_id IN (10, 20);
INSERT INTO mysql_servers (hostgroup_id, hostname, port, max_replication_lag, max_connections, use_ssl) VALUES
    (20, 'lxc1', 3306, 30, 20, 0),
    (20, 'lxc2', 3306, 30, 20, 0),
    (20, 'lxc3', 3306, 30, 20, 0);

-- Who answers read_only=0 belongs to group 10, the writer, and who answers 1 to group 20.
-- check_type: not super_read_only, which MariaDB does not have, and MySQL has it off together with read_only. Not
--   innodb_read_only, which is another thing: a server whose InnoDB was started so.
DELETE FROM mysql_replication_hostgroups WHERE writer_hostgroup = 10;
INSERT INTO mysql_replication_hostgroups (writer_hostgroup, reader_hostgroup, check_type, comment) VALUES
    (10, 20, 'read_only', 'mysql-clone of Pacemaker');

LOAD MYSQL SERVERS TO RUNTIME;
SAVE MYSQL SERVERS TO DISK;

-- The account that ProxySQL asks with: proxysql-monitor-mariadb.sql, proxysql-monitor-mysql.sql.
UPDATE global_variables SET variable_value = 'proxysql' WHERE variable_name = 'mysql-monitor_username';
UPDATE global_variables SET variable_value = 'PASSWORD' WHERE variable_name = 'mysql-monitor_password';

-- How often each server is asked for read_only, and how long it may take to answer (ms). A failover is seen at the next time.
-- After so many answers in a row that came too late, or connections that were refused, a server counts as read_only=1: a primary that
-- is dead or frozen leaves group 10.
UPDATE global_variables SET variable_value = '300' WHERE variable_name = 'mysql-monitor_read_only_interval';
UPDATE global_variables SET variable_value = '300' WHERE variable_name = 'mysql-monitor_read_only_timeout';
UPDATE global_variables SET variable_value = '3' WHERE variable_name = 'mysql-monitor_read_only_max_timeout_count';

-- A server that misses so many pings is SHUNNED, and its connections are closed. A refused connection is a missed ping.
UPDATE global_variables SET variable_value = '1000' WHERE variable_name = 'mysql-monitor_ping_interval';
UPDATE global_variables SET variable_value = '500' WHERE variable_name = 'mysql-monitor_ping_timeout';
UPDATE global_variables SET variable_value = '3' WHERE variable_name = 'mysql-monitor_ping_max_failures';
-- A login for the log alone (monitor.mysql_server_connect_log), every ten seconds.
UPDATE global_variables SET variable_value = '10000' WHERE variable_name = 'mysql-monitor_connect_interval';
-- How often it is asked how far replicas are behind (ms), and how often in a row that must be too far. In a failover none of them
-- replicates: that must not count, or readers have nobody left, and the new primary may be one that is SHUNNED.
UPDATE global_variables SET variable_value = '2000' WHERE variable_name = 'mysql-monitor_replication_lag_interval';
UPDATE global_variables SET variable_value = '5' WHERE variable_name = 'mysql-monitor_replication_lag_count';

-- true, as it is without a word: the writer is in group 20 as well, so that reads go on when no replica is left. false keeps reads
-- off it, and they fail without a replica. It matters only with the split at the end.
UPDATE global_variables SET variable_value = 'true' WHERE variable_name = 'mysql-monitor_writer_is_also_reader';

-- One attempt to connect to a server (ms): a node without power answers nothing at all.
UPDATE global_variables SET variable_value = '500' WHERE variable_name = 'mysql-connect_timeout_server';
-- How long a statement waits for a server of its group (ms) before the client gets error 9001. A failover has to fit in: clients
-- that ask meanwhile wait then, and nothing fails.
UPDATE global_variables SET variable_value = '20000' WHERE variable_name = 'mysql-connect_timeout_server_max';
-- A server that refused connections is tried again after so many seconds.
UPDATE global_variables SET variable_value = '2' WHERE variable_name = 'mysql-shun_recovery_time_sec';

-- A statement whose connection broke is not sent again. It may have been done, or a replica may have it that is the next primary:
-- then it would be done twice. 1, which it is without a word, does that to each statement outside of a transaction.
UPDATE global_variables SET variable_value = '0' WHERE variable_name = 'mysql-query_retries_on_failure';

-- How often a thread that has nothing to do looks around (ms). With 2000, as it is without a word, the first statements after a start
-- wait for 2 s, and some after a crash.
UPDATE global_variables SET variable_value = '100' WHERE variable_name = 'mysql-poll_timeout';

-- What clients are told that they talk to: SELECT version() of your servers. Without it they are told 5.5.30, and some speak so.
UPDATE global_variables SET variable_value = '10.11.0-MariaDB' WHERE variable_name = 'mysql-server_version';

-- The character set of a client that asks for one that ProxySQL does not know, as clients of MySQL 8 and newer do: without these lines
-- it is utf8mb3 at MariaDB and MySQL 9, and characters of four bytes fail (error 1366).
UPDATE global_variables SET variable_value = 'utf8mb4' WHERE variable_name = 'mysql-default_charset';
UPDATE global_variables SET variable_value = 'utf8mb4_general_ci' WHERE variable_name = 'mysql-default_collation_connection';

-- Only this node's own programs connect. It takes effect at the next start of ProxySQL, which is Pacemaker's.
UPDATE global_variables SET variable_value = '127.0.0.1:6033' WHERE variable_name = 'mysql-interfaces';

-- Saved first: mysql-interfaces cannot change while ProxySQL runs, so LOAD sets it back, and what is saved after it is 0.0.0.0.
SAVE MYSQL VARIABLES TO DISK;
LOAD MYSQL VARIABLES TO RUNTIME;

-- The account of the application: the same name and password as on the servers, where it may log in from every node.
-- default_hostgroup: everything goes to the writer, reads too, as long as no rule says otherwise.
-- transaction_persistent: what begins as a transaction stays on one server until its end.
DELETE FROM mysql_users WHERE username = 'wpsite';
INSERT INTO mysql_users (username, password, default_hostgroup, transaction_persistent) VALUES
    ('wpsite', 'ANOTHER PASSWORD', 10, 1);

LOAD MYSQL USERS TO RUNTIME;
SAVE MYSQL USERS TO DISK;

-- Reads may be sent again, once. apply=0: the rules below, if there are any, say where to.
DELETE FROM mysql_query_rules WHERE rule_id = 1;
INSERT INTO mysql_query_rules (rule_id, active, match_digest, retries, apply) VALUES
    (1, 1, '^SELECT', 1, 0);

LOAD MYSQL QUERY RULES TO RUNTIME;
SAVE MYSQL QUERY RULES TO DISK;

-- Optional: reads from the replicas. A replica has a write a moment after the writer, also with durability=lossless: received is
-- not applied yet. Whoever reads what he has just written may not find it. WordPress does that all the time: leave it away there,
-- or give an application that can stand it an account of its own, and add username to the rules.
-- DELETE FROM mysql_query_rules WHERE rule_id IN (10, 20);
-- INSERT INTO mysql_query_rules (rule_id, active, match_digest, destination_hostgroup, apply) VALUES
--     (10, 1, '^SELECT.*FOR UPDATE', 10, 1),
--     (20, 1, '^SELECT', 20, 1);
-- LOAD MYSQL QUERY RULES TO RUNTIME;
-- SAVE MYSQL QUERY RULES TO DISK;

-- The administrator: not admin with the password admin that everybody knows, and from this node alone. Saved first: the session
-- that loads this may be cut when the interface listens anew.
UPDATE global_variables SET variable_value = 'admin:A THIRD PASSWORD' WHERE variable_name = 'admin-admin_credentials';
-- The same for who may only look, who is stats with the password stats.
UPDATE global_variables SET variable_value = 'stats:A FOURTH PASSWORD' WHERE variable_name = 'admin-stats_credentials';
UPDATE global_variables SET variable_value = '127.0.0.1:6032' WHERE variable_name = 'admin-mysql_ifaces';

SAVE ADMIN VARIABLES TO DISK;
LOAD ADMIN VARIABLES TO RUNTIME;
