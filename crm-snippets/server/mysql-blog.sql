-- The database of the site and its account. On the primary, as root, once the replicas are attached; it is replicated:
--
--     mariadb < mysql-blog.sql
--
-- Change before: the password, the network from which the web servers reach the address of mysql.crm.

CREATE DATABASE IF NOT EXISTS blog CHARACTER SET utf8mb4;
-- Two statements, so that this file sets the password also where the account is there already.
CREATE USER IF NOT EXISTS 'blog'@'192.0.2.%' ACCOUNT LOCK;
ALTER USER 'blog'@'192.0.2.%' IDENTIFIED BY 'PASSWORD' ACCOUNT UNLOCK;
-- All that the site needs of its own database. Nothing that passes a server which is closed for writes.
GRANT ALL PRIVILEGES ON blog.* TO 'blog'@'192.0.2.%';
