-- The tables of ProxySQL's admin interface that crm-snippets/server/proxysql.sql writes into, as far as it matters here: columns,
-- keys and bounds of version 2.6 and 3.0 (include/ProxySQL_Admin_Tables_Definitions.h). The interface is SQLite behind the protocol
-- of MySQL, so SQLite says whether the statements fit.
CREATE TABLE mysql_servers (
    hostgroup_id INT NOT NULL DEFAULT 0 CHECK (hostgroup_id >= 0),
    hostname VARCHAR NOT NULL,
    port INT NOT NULL DEFAULT 3306 CHECK (port BETWEEN 0 AND 65535),
    gtid_port INT NOT NULL DEFAULT 0,
    status VARCHAR NOT NULL DEFAULT 'ONLINE' CHECK (UPPER(status) IN ('ONLINE', 'SHUNNED', 'OFFLINE_SOFT', 'OFFLINE_HARD')),
    weight INT NOT NULL DEFAULT 1 CHECK (weight BETWEEN 0 AND 10000000),
    compression INT NOT NULL DEFAULT 0 CHECK (compression IN (0, 1)),
    max_connections INT NOT NULL DEFAULT 1000 CHECK (max_connections >= 0),
    max_replication_lag INT NOT NULL DEFAULT 0 CHECK (max_replication_lag BETWEEN 0 AND 126144000),
    use_ssl INT NOT NULL DEFAULT 0 CHECK (use_ssl IN (0, 1)),
    max_latency_ms INT NOT NULL DEFAULT 0 CHECK (max_latency_ms >= 0),
    comment VARCHAR NOT NULL DEFAULT '',
    PRIMARY KEY (hostgroup_id, hostname, port)
);
CREATE TABLE mysql_replication_hostgroups (
    writer_hostgroup INT NOT NULL PRIMARY KEY CHECK (writer_hostgroup >= 0),
    reader_hostgroup INT NOT NULL UNIQUE CHECK (reader_hostgroup <> writer_hostgroup AND reader_hostgroup >= 0),
    check_type VARCHAR NOT NULL DEFAULT 'read_only' CHECK (LOWER(check_type) IN
        ('read_only', 'innodb_read_only', 'super_read_only', 'read_only|innodb_read_only', 'read_only&innodb_read_only')),
    comment VARCHAR NOT NULL DEFAULT ''
);
CREATE TABLE mysql_users (
    username VARCHAR NOT NULL,
    password VARCHAR,
    active INT NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    use_ssl INT NOT NULL DEFAULT 0 CHECK (use_ssl IN (0, 1)),
    default_hostgroup INT NOT NULL DEFAULT 0,
    default_schema VARCHAR,
    schema_locked INT NOT NULL DEFAULT 0 CHECK (schema_locked IN (0, 1)),
    transaction_persistent INT NOT NULL DEFAULT 1 CHECK (transaction_persistent IN (0, 1)),
    fast_forward INT NOT NULL DEFAULT 0 CHECK (fast_forward IN (0, 1)),
    backend INT NOT NULL DEFAULT 1 CHECK (backend IN (0, 1)),
    frontend INT NOT NULL DEFAULT 1 CHECK (frontend IN (0, 1)),
    max_connections INT NOT NULL DEFAULT 10000 CHECK (max_connections >= 0),
    attributes VARCHAR NOT NULL DEFAULT '',
    comment VARCHAR NOT NULL DEFAULT '',
    PRIMARY KEY (username, backend),
    UNIQUE (username, frontend)
);
-- Of its many columns those that rules like these have.
CREATE TABLE mysql_query_rules (
    rule_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    active INT NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    username VARCHAR,
    match_digest VARCHAR,
    match_pattern VARCHAR,
    destination_hostgroup INT,
    retries INT CHECK (retries BETWEEN 0 AND 1000),
    apply INT NOT NULL DEFAULT 0 CHECK (apply IN (0, 1))
);
CREATE TABLE global_variables (variable_name VARCHAR NOT NULL PRIMARY KEY, variable_value VARCHAR NOT NULL);

-- The variables that are set, with what they are without a word (lib/MySQL_Thread.cpp; the file /etc/proxysql.cnf of the package has
-- other ones), and the bounds of the numbers.
CREATE TABLE bounds (variable_name VARCHAR NOT NULL PRIMARY KEY, least INT NOT NULL, most INT NOT NULL);
INSERT INTO global_variables VALUES
    ('admin-admin_credentials', 'admin:admin'),
    ('admin-stats_credentials', 'stats:stats'),
    ('admin-mysql_ifaces', '0.0.0.0:6032'),
    ('mysql-interfaces', '0.0.0.0:6033'),
    ('mysql-default_charset', 'utf8'),
    ('mysql-default_collation_connection', 'utf8_general_ci'),
    ('mysql-poll_timeout', '2000'),
    ('mysql-server_version', '5.5.30'),
    ('mysql-monitor_username', 'monitor'),
    ('mysql-monitor_password', 'monitor'),
    ('mysql-monitor_writer_is_also_reader', 'true'),
    ('mysql-monitor_slave_lag_when_null', '60'),
    ('mysql-monitor_connect_interval', '120000'),
    ('mysql-monitor_ping_interval', '8000'),
    ('mysql-monitor_ping_timeout', '1000'),
    ('mysql-monitor_ping_max_failures', '3'),
    ('mysql-monitor_read_only_interval', '1000'),
    ('mysql-monitor_read_only_timeout', '800'),
    ('mysql-monitor_read_only_max_timeout_count', '3'),
    ('mysql-monitor_replication_lag_interval', '10000'),
    ('mysql-monitor_replication_lag_count', '1'),
    ('mysql-connect_timeout_server', '1000'),
    ('mysql-connect_timeout_server_max', '10000'),
    ('mysql-query_retries_on_failure', '1'),
    ('mysql-shun_recovery_time_sec', '10');
INSERT INTO bounds VALUES
    ('mysql-poll_timeout', 10, 20000),
    ('mysql-monitor_connect_interval', 100, 604800000),
    ('mysql-monitor_ping_interval', 100, 604800000),
    ('mysql-monitor_ping_timeout', 100, 600000),
    ('mysql-monitor_ping_max_failures', 1, 1000000),
    ('mysql-monitor_read_only_interval', 100, 604800000),
    ('mysql-monitor_read_only_timeout', 100, 600000),
    ('mysql-monitor_read_only_max_timeout_count', 1, 1000000),
    ('mysql-monitor_replication_lag_interval', 100, 604800000),
    ('mysql-monitor_replication_lag_count', 1, 10),
    ('mysql-connect_timeout_server', 10, 120000),
    ('mysql-connect_timeout_server_max', 10, 3600000),
    ('mysql-query_retries_on_failure', 0, 1000),
    ('mysql-shun_recovery_time_sec', 0, 31536000);
