-- The account that ProxySQL asks the servers with, on MySQL and Percona Server, 5.6 and newer. Once, on the primary while a replica
-- is attached: the others get it by replication. Never on a primary that has no replica (docs/mysql.md says why).
--
--     mysql < proxysql-monitor-mysql.sql
--
-- Change before: the password (mysql-monitor_password in proxysql.sql), the network.

-- To log in is all that read_only and ping need.
CREATE USER 'proxysql'@'10.%' IDENTIFIED BY 'PASSWORD';
-- How far a replica is behind: for max_replication_lag alone.
GRANT REPLICATION CLIENT ON *.* TO 'proxysql'@'10.%';
