//! What the kernel knows of Unix sockets.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_socket, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

/// Connects to a Unix socket within `limit`. The kernel waits without an end for a listener whose queue is full, as that of a hung server
/// soon is.
///
/// # Errors
/// What the kernel says; [`std::io::ErrorKind::TimedOut`] at the end of the limit.
pub fn connect(path: &Path, limit: Duration) -> std::io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // It bounds connecting too; of zero it would be no bound at all.
    let limit = TimeVal::microseconds(i64::try_from(limit.as_micros()).unwrap_or(i64::MAX).max(1000));
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    match connect_socket(socket.as_raw_fd(), &address) {
        Ok(()) => Ok(UnixStream::from(socket)),
        Err(nix::errno::Errno::EAGAIN) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "its queue of connections is full")),
        Err(e) => Err(e.into()),
    }
}

/// Process and user of who listens on a Unix socket, as the kernel remembers them; `None` when nobody does, or within `limit` nobody is
/// reached.
pub fn listener(path: &Path, limit: Duration) -> Option<(i32, u32)> {
    let peer = nix::sys::socket::getsockopt(&connect(path, limit).ok()?, sockopt::PeerCredentials).ok()?;
    Some((peer.pid(), peer.uid()))
}

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

/// The users who listen on a TCP port of this machine's loopback address, by /proc/net/tcp and tcp6. Any user may listen on a port from 1024 on.
///
/// # Errors
/// What the kernel says.
pub fn loopback_listeners(port: u16) -> std::io::Result<Vec<u32>> {
    let mut users = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match std::fs::read_to_string(table) {
            Ok(text) => users.extend(text.lines().filter_map(|line| loopback_listener(line, port))),
            // A kernel without IPv6.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(users)
}

/// Lines are `sl: address:port remote state queues timer retransmits uid ...`; 0A is a listening socket. An address is in hexadecimal, each
/// of its words as this machine has it in memory.
fn loopback_listener(line: &str, port: u16) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (address, at) = words.get(1)?.rsplit_once(':')?;
    let listens = *words.get(3)? == "0A" && u16::from_str_radix(at, 16).ok()? == port;
    let is_loopback = match address.len() {
        8 => u32::from_str_radix(address, 16).is_ok_and(|word| word == 0 || word.to_ne_bytes()[0] == 127),
        // All addresses, ::1, or an address of IPv4 as one of IPv6: what may be loopback counts.
        _ => true,
    };
    (listens && is_loopback).then(|| words.get(7)?.parse().ok()).flatten()
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
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(super::listener(&path, Duration::from_millis(100)).map(|(pid, _)| pid), Some(me));
        let client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(listens(&path));
        drop(listener);
        assert!(!listens(&path), "a connection is no listener");
        drop(client);
    }

    #[test]
    fn who_listens_on_a_loopback_port_is_a_user() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(loopback_listeners(port).unwrap(), [nix::unistd::geteuid().as_raw()]);
        drop(listener);
        assert_eq!(loopback_listeners(port).unwrap(), Vec::<u32>::new());
    }

    #[test]
    fn a_line_of_the_table_of_sockets_is_read() {
        let line = |address: &str, state: &str| {
            let line = format!(
                "   0: {address}:1790 00000000:0000 {state} 00000000:00000000 00:00000000 00000000   998        0 4711 1 0 100 0 0 10 0"
            );
            loopback_listener(&line, 6032)
        };
        let of = |a: u8, b: u8| format!("{:08X}", u32::from_ne_bytes([a, b, 0, 1]));
        assert_eq!(line(&of(127, 0), "0A"), Some(998));
        assert_eq!(line("00000000", "0A"), Some(998), "on all addresses");
        assert_eq!(line("00000000000000000000000001000000", "0A"), Some(998), "::1");
        assert_eq!(line(&of(10, 0), "0A"), None, "another address");
        assert_eq!(line(&of(127, 0), "01"), None, "a connection");
        assert_eq!(loopback_listener("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid", 6032), None);
    }

    /// 18 s and more of a monitor's 20 went by where some hundred clients waited for a hung server.
    #[test]
    fn a_full_queue_of_connections_is_waited_for_no_longer_than_the_limit() {
        let path = std::env::temp_dir().join(format!("systole-queue-{}", std::process::id()));
        let listener = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        let mut waiting = Vec::new();
        let begin = std::time::Instant::now();
        let error = loop {
            match connect(&path, Duration::from_millis(50)) {
                Ok(stream) if waiting.len() < 10 => waiting.push(stream),
                Ok(_) => panic!("the queue has no end"),
                Err(e) => break e,
            }
        };
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(connect(&path, Duration::from_millis(50)).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        let long = Path::new("/").join("x".repeat(200));
        connect(&long, Duration::from_millis(50)).expect_err("longer than the kernel takes");
    }

    #[test]
    fn the_directory_of_the_distribution_has_two_names() {
        let table = "0000000000000000: 00000002 00000000 00010000 0001 01 1234 /run/redis/redis.sock\n";
        assert!(is_listed(table, Path::new("/var/run/redis/redis.sock")) && is_listed(table, Path::new("/run/redis/redis.sock")));
        assert!(!is_listed(table, Path::new("/run/redis.sock")));
        assert!(!is_listed(&table.replace("00010000", "00000000"), Path::new("/run/redis/redis.sock")));
    }
}
