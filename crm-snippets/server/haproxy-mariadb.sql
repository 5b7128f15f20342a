-- The account that HAProxy's checks log in with, on MariaDB 10.11 and newer. Once: with mysql.crm on the primary while a replica is
-- attached, with galera.crm on any server. The others get it by replication.
--
--     mariadb < haproxy-mariadb.sql
--
-- Change before: the network.

-- Without a password, since a check cannot encrypt one. Without any right, since read_only and the state of Galera are told to
-- whoever has logged in.
-- MAX_USER_CONNECTIONS: a check lasts a millisecond. This is enough for three HAProxies, and keeps whoever misuses the account from
-- taking all connections.
CREATE USER IF NOT EXISTS 'haproxy'@'10.%' WITH MAX_USER_CONNECTIONS 20;
