//! What the kernel knows of Unix sockets.

use std::path::Path;

/// Whether somebody listens on a Unix socket that was made at `path`, even when its file is gone: a server whose file somebody has
/// deleted still serves those who are connected, and over TCP. A server that ends closes its socket first.
///
/// From /proc/net/unix: the flags of a listening socket hold 0x10000 (`__SO_ACCEPTCON`).
pub fn listens(path: &Path) -> bool {
    std::fs::read(Path::new("/proc/net/unix")).is_ok_and(|table| is_listed(&String::from_utf8_lossy(&table), path))
}

/// Lines are `address: count protocol flags type state inode path`; the path may hold blanks.
fn is_listed(table: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    // /var/run is a link to /run, and the kernel keeps the name that the server used.
    let other = path
        .strip_prefix("/var/run/")
        .map(|rest| format!("/run/{rest}"))
        .or_else(|| path.strip_prefix("/run/").map(|rest| format!("/var/run/{rest}")));
    table.lines().any(|line| {
        let flags = line.split_ascii_whitespace().nth(3).and_then(|flags| u32::from_str_radix(flags, 16).ok()).unwrap_or_default();
        let named = |name: &str| line.ends_with(name) && line[..line.len() - name.len()].ends_with(' ');
        flags & 0x10000 != 0 && (named(&path) || other.as_deref().is_some_and(named))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_its_file_is_still_listened_on() {
        let path = std::env::temp_dir().join(format!("systole-socket-{}", std::process::id()));
        assert!(!listens(&path));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(listens(&path));
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(listens(&path));
        drop(listener);
        assert!(!listens(&path), "a connection is no listener");
        drop(client);
    }

    #[test]
    fn the_directory_of_the_distribution_has_two_names() {
        let table = "0000000000000000: 00000002 00000000 00010000 0001 01 1234 /run/redis/redis.sock\n";
        assert!(is_listed(table, Path::new("/var/run/redis/redis.sock")) && is_listed(table, Path::new("/run/redis/redis.sock")));
        assert!(!is_listed(table, Path::new("/run/redis.sock")));
        assert!(!is_listed(&table.replace("00010000", "00000000"), Path::new("/run/redis/redis.sock")));
    }
}
