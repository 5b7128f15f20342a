-- The account that ProxySQL asks the servers with, on MariaDB 10.11 and newer. Once, on the primary while a replica is attached:
-- the others get it by replication.
--
--     mariadb < proxysql-monitor-mariadb.sql
--
-- Change before: the password (mysql-monitor_password in proxysql.sql), the network.

-- To log in is all that read_only and ping need.
-- Two statements, so that this file sets the password also where the account is there already.
CREATE USER IF NOT EXISTS 'proxysql'@'10.%' ACCOUNT LOCK;
ALTER USER 'proxysql'@'10.%' IDENTIFIED BY 'PASSWORD' ACCOUNT UNLOCK;
-- How far a replica is behind: for max_replication_lag alone.
GRANT SLAVE MONITOR ON *.* TO 'proxysql'@'10.%';
