<?php
// /etc/wordpress/config-default.php: where the site finds its database. Owner root, group wpsite, mode 640; the same on every node.

// The address of mysql.crm: it is where the primary is.
define('DB_HOST', '192.0.2.101');
define('DB_NAME', 'blog');
define('DB_USER', 'blog');
// The password is in a file, with the same owner and mode.
define('DB_PASSWORD', trim(file_get_contents('/etc/wordpress/blog.password')));

// The site answers under every name and address by which it is asked. Write your site's name here instead when it has one.
define('WP_HOME', 'http://' . ($_SERVER['HTTP_HOST'] ?? 'localhost'));
define('WP_SITEURL', WP_HOME);

// The cluster runs the jobs (cron.crm), not the visitors' requests.
define('DISABLE_WP_CRON', true);

// The keys of the logins: one and the same file on every node, or a login is good for one node only.
require '/etc/wordpress/keys.php';
