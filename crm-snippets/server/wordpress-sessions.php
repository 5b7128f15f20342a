<?php
// /var/lib/wordpress/wp-content/mu-plugins/sessions.php: whoever is logged in has a session in Redis. The same on every node.
// It counts their requests, as an example of what a site keeps there; the header shows it.
add_action('init', function () {
    // Redis may be away for a moment. The site goes on without the session, and says so by the missing header.
    if (!is_user_logged_in() || !@session_start()) {
        return;
    }
    $_SESSION['requests'] = ($_SESSION['requests'] ?? 0) + 1;
    header('X-Session-Requests: ' . $_SESSION['requests']);
    // At once, so that requests of the same visitor do not wait for one another.
    @session_write_close();
});
