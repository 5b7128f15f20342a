//! What becomes of the connections to an address that goes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::eventually;

use crate::{Net, VIP};

/// A server on a that greets whoever comes, and says nothing more.
fn server(net: &Net, listens: &'static str) {
    let (ready, wait) = std::sync::mpsc::channel();
    net.inside("a", move || {
        let listener = TcpListener::bind((listens, 3306)).unwrap();
        ready.send(()).unwrap();
        let mut open = VecDeque::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"hello");
            open.push_back(stream);
            // More than the tests have open at once.
            if open.len() > 200 {
                open.pop_front();
            }
        }
    });
    wait.recv().unwrap();
}

/// Connects, and hears the greeting. Whoever is not told then that the connection has ended waits for half a minute.
fn connected(address: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.parse().unwrap(), 3306), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.read_exact(&mut [0; 5])?;
    Ok(stream)
}

/// Who waits for an answer would wait for minutes.
#[test]
fn a_client_that_waits_learns_at_once_that_the_address_has_gone() {
    let net = Net::new("reset");
    server(&net, "0.0.0.0");
    net.agent("a").run("start").ok();
    let (ready, wait) = std::sync::mpsc::channel();
    let client = net.inside("c", move || {
        let mut stream = connected(VIP).unwrap();
        ready.send(()).unwrap();
        stream.read(&mut [0]).map_err(|e| e.kind())
    });
    wait.recv().unwrap();
    let begin = Instant::now();
    let stopped = net.agent("a").run("stop");
    assert_eq!(client.join().unwrap(), Err(ErrorKind::ConnectionReset), "after {:?}; {}", begin.elapsed(), stopped.stderr);
    assert!(stopped.ok().stderr.contains("; 1 connections to it were ended"), "{}", stopped.stderr);
}

#[test]
fn a_server_for_both_families_is_no_exception() {
    let net = Net::new("mapped");
    server(&net, "::");
    for ip in [VIP, "2001:db8::10"] {
        let agent = net.agent("a").parameter("ip", ip).parameter("nodad", "true");
        agent.run("start").ok();
        let (ready, wait) = std::sync::mpsc::channel();
        let client = net.inside("c", move || {
            let mut stream = connected(ip).unwrap();
            ready.send(()).unwrap();
            stream.read(&mut [0]).map_err(|e| e.kind())
        });
        wait.recv().unwrap();
        agent.run("stop").ok();
        assert_eq!(client.join().unwrap(), Err(ErrorKind::ConnectionReset), "{ip}");
    }
}

/// Connections to the node's own address are none of the address' business.
#[test]
fn other_connections_stay() {
    let net = Net::new("others");
    server(&net, "0.0.0.0");
    net.agent("a").run("start").ok();
    let (ready, wait) = std::sync::mpsc::channel();
    let client = net.inside("c", move || {
        let mut stream = connected("192.0.2.1").unwrap();
        ready.send(()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.read(&mut [0]).map_err(|e| e.kind())
    });
    wait.recv().unwrap();
    net.agent("a").run("stop").ok();
    assert_eq!(client.join().unwrap(), Err(ErrorKind::WouldBlock));
}

/// A pool of connections makes new ones as soon as it loses the old ones. One that got through between the end of the old ones and the
/// removal of the address would hear nothing any more, for minutes.
#[test]
fn nobody_connects_between_the_end_of_the_connections_and_the_removal() {
    let net = Net::new("between");
    server(&net, "::");
    // IPv6 has another way than IPv4.
    for ip in [VIP, "2001:db8::10"].into_iter().cycle().take(8) {
        let agent = net.agent("a").parameter("ip", ip).parameter("nodad", "true");
        agent.run("start").ok();
        let over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..40)
            .map(|_| {
                let over = Arc::clone(&over);
                net.inside("c", move || {
                    while !over.load(Ordering::Relaxed) {
                        let Ok(mut stream) = connected(ip) else { continue };
                        match stream.read(&mut [0]) {
                            Err(e) if e.kind() == ErrorKind::ConnectionReset => {}
                            told => return Some(format!("{told:?}")),
                        }
                    }
                    None
                })
            })
            .collect();
        let count = || net.run("a", &["sh", "-c", &format!("[ $(ss -tnH state established | grep -cF {ip}) -ge 40 ]")]);
        eventually("all are connected", count);
        agent.run("stop").ok();
        std::thread::sleep(Duration::from_millis(100));
        let left = net.run("a", &["sh", "-c", &format!("[ $(ss -tnH state connected | grep -v ^TIME-WAIT | grep -cF {ip}) -eq 0 ]")]);
        over.store(true, Ordering::Relaxed);
        let told: Vec<_> = clients.into_iter().filter_map(|client| client.join().unwrap()).collect();
        assert!(told.is_empty(), "{ip}: clients that were left hanging: {told:?}");
        assert!(left, "{ip}: connections to an address that is not there");
    }
}
