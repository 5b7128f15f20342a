# What an operator does once on each machine before the cluster runs the databases, for `make demo`: run in every node, with
# the node's number in NODE. The files come from crm-snippets/server.
mkdir -p /etc/mysql
share=/usr/share/systole/crm-snippets/server

# Redis
install -o redis -g redis -m 640 $share/redis-site.conf /etc/redis/site.conf

# MariaDB: its number, the password file of replication, the accounts.
sed "s/^server_id = .*/server_id = 1$NODE/" $share/mariadb-site.cnf > /etc/mysql/site.cnf
(umask 077 && echo demo-replication > /etc/mysql/replication.password)
mkdir -p /run/mysqld && chown mysql: /run/mysqld
sed -e "s/ANOTHER PASSWORD/demo-agent/; s/'PASSWORD'/'demo-replication'/" $share/mysql-accounts-mariadb.sql > /run/mysqld/setup.sql
cat >> /run/mysqld/setup.sql <<SQL
-- The writers of the demo.
CREATE DATABASE \`load\`;
CREATE USER 'load'@'%' IDENTIFIED BY 'demo-load';
GRANT CREATE, SELECT, INSERT, UPDATE ON \`load\`.* TO 'load'@'%';
GRANT SLAVE MONITOR ON *.* TO 'load'@'%';
SHUTDOWN;
SQL
chown mysql: /run/mysqld/setup.sql
timeout 60 mysqld --defaults-file=/etc/mysql/site.cnf --user=mysql --skip-networking --init-file=/run/mysqld/setup.sql > /root/setup.log 2>&1 || { tail -5 /root/setup.log >&2; exit 1; }
rm /run/mysqld/setup.sql

# A MariaDB that has diverged gets a copy of the primary's data over ssh (rejoin=clone): root's key, the same on all nodes.
[ -f /mnt/demo/key ] || ssh-keygen -q -t ed25519 -N '' -C demo -f /mnt/demo/key
install -d -m 700 /root/.ssh
install -m 600 /mnt/demo/key /root/.ssh/id_ed25519
install -m 600 /mnt/demo/key.pub /root/.ssh/authorized_keys
printf 'Host *\n  StrictHostKeyChecking accept-new\n' > /root/.ssh/config
systemctl start ssh
