//! What becomes of clients that connect while the address is on its way: the node that gives it up passes them on to the next.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use process::PacketSocket;
use testkit::{Agent, Process, eventually};

use crate::{AGENT, Net, VIP};

const VIP6: &str = "2001:db8::10";
const PORT: u16 = 3306;
const IPV4: u16 = 0x0800;
/// Linux repeats the first packet of a connection after a second. Whoever is served sooner after the start was passed on.
const UNREPEATED: Duration = Duration::from_millis(600);

/// A server on a host, for both families, that says where it is.
fn server(net: &Net, host: &'static str) {
    let (ready, wait) = mpsc::channel();
    net.inside(host, move || {
        let listener = TcpListener::bind(("::", PORT)).unwrap();
        ready.send(()).unwrap();
        let mut open = VecDeque::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(host.as_bytes());
            open.push_back(stream);
            // More than the tests have open at once.
            if open.len() > 150 {
                open.pop_front();
            }
        }
    });
    wait.recv().unwrap();
}

fn to(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), PORT)
}

/// Connects with the system's own patience. The connection, and who answers.
fn greeted(address: &str) -> std::io::Result<(TcpStream, String)> {
    let mut stream = TcpStream::connect(to(address))?;
    let mut said = [0];
    stream.read_exact(&mut said)?;
    Ok((stream, String::from_utf8_lossy(&said).into_owned()))
}

/// A client on a host that connects in a thread of its own: who answered, and when.
fn client(net: &Net, host: &str, address: &'static str) -> JoinHandle<(std::io::Result<String>, Instant)> {
    net.inside(host, move || (greeted(address).map(|(_, said)| said), Instant::now()))
}

/// Whether a client was served by b, sooner after `begin` than its first packet is repeated.
#[track_caller]
fn served_at_once(ip: &str, client: JoinHandle<(std::io::Result<String>, Instant)>, begin: Instant) {
    let (answer, at) = client.join().unwrap();
    let took = at.saturating_duration_since(begin);
    assert!(matches!(answer.as_deref(), Ok("b")), "{ip}: {answer:?} after {took:?}");
    assert!(took < UNREPEATED, "{ip}: served after {took:?}");
}

fn on(net: &Net, host: &str, ip: &str) -> Agent {
    net.agent(host).parameter("ip", ip).parameter("nodad", "true")
}

/// How many processes of a stop there are on a host.
fn left(net: &Net, host: &str) -> usize {
    let instance = format!("OCF_RESOURCE_INSTANCE={} ", net.namespace(host));
    let ours = |p: &Process| p.arguments.starts_with(&format!("{AGENT} stop")) && format!("{} ", p.environment).contains(&instance);
    Process::all().iter().filter(|p| ours(p)).count()
}

/// On a, known to c, and taken away.
fn on_its_way(name: &'static str, ip: &'static str) -> Net {
    let net = Net::new(name);
    for host in ["a", "b"] {
        server(&net, host);
    }
    on(&net, "a", ip).run("start").ok();
    assert!(matches!(client(&net, "c", ip).join().unwrap().0.as_deref(), Ok("a")));
    on(&net, "a", ip).run("stop").ok();
    net
}

/// It waited until its first packet was repeated: a second, for an address that is away for a quarter of one.
#[test]
fn a_client_that_connects_while_the_address_is_on_its_way_waits_for_nothing_else() {
    for (name, ip) in [("way4", VIP), ("way6", VIP6)] {
        let net = on_its_way(name, ip);
        let clients: Vec<_> = (0..5).map(|_| client(&net, "c", ip)).collect();
        std::thread::sleep(Duration::from_millis(250));
        assert!(clients.iter().all(|client| !client.is_finished()), "{ip}: nobody has it, and somebody answers");
        let begin = Instant::now();
        on(&net, "b", ip).run("start").ok();
        clients.into_iter().for_each(|client| served_at_once(ip, client, begin));
        eventually("nobody is left on a", || left(&net, "a") == 0);
    }
}

/// Whoever had a connection is told of its end, and connects again in the next moment.
#[test]
fn a_client_that_connects_again_as_soon_as_it_is_told_is_passed_on() {
    for (name, ip) in [("told4", VIP), ("told6", VIP6)] {
        let net = Net::new(name);
        for host in ["a", "b"] {
            server(&net, host);
        }
        on(&net, "a", ip).run("start").ok();
        let (ready, wait) = mpsc::channel();
        let pool: Vec<_> = (0..20)
            .map(|_| {
                let ready = ready.clone();
                net.inside("c", move || {
                    let (mut stream, _) = greeted(ip).unwrap();
                    ready.send(()).unwrap();
                    assert_eq!(stream.read(&mut [0]).map_err(|e| e.kind()), Err(ErrorKind::ConnectionReset));
                    // IPv6 has no barrier: whoever comes in between is told once more.
                    let again = || {
                        let answer = greeted(ip);
                        let told_again = match &answer {
                            Ok((_, said)) => said == "a",
                            Err(why) => why.kind() == ErrorKind::ConnectionReset,
                        };
                        if ip == VIP6 && told_again {
                            std::thread::sleep(Duration::from_millis(1));
                            return None;
                        }
                        Some(answer)
                    };
                    let again = std::iter::repeat_with(again).flatten().next().unwrap();
                    (again.map(|(_, said)| said), Instant::now())
                })
            })
            .collect();
        pool.iter().for_each(|_| wait.recv().unwrap());
        on(&net, "a", ip).run("stop").ok();
        std::thread::sleep(Duration::from_millis(150));
        let begin = Instant::now();
        on(&net, "b", ip).run("start").ok();
        pool.into_iter().for_each(|client| served_at_once(ip, client, begin));
    }
}

/// The node that gave it up answers nobody: who has no other server must not be told that there is none.
#[test]
fn nobody_is_answered_while_nobody_has_the_address() {
    let net = on_its_way("nobody", VIP);
    let begin = Instant::now();
    let told = net.inside("c", || TcpStream::connect_timeout(&to(VIP), Duration::from_secs(2)).map(drop).map_err(|e| e.kind()));
    assert_eq!(told.join().unwrap(), Err(ErrorKind::TimedOut), "after {:?}", begin.elapsed());
    eventually("it ends by itself", || left(&net, "a") == 0);
    assert!(begin.elapsed() > Duration::from_secs(8), "after {:?}", begin.elapsed());
    // One that was not here leaves nobody.
    on(&net, "a", VIP).run("stop").ok();
    assert_eq!(left(&net, "a"), 0);
}

/// The address comes back: it is served, and nothing is passed on when others claim it.
#[test]
fn an_address_that_comes_back_ends_it() {
    let net = on_its_way("comeback", VIP);
    let waits = client(&net, "c", VIP);
    std::thread::sleep(Duration::from_millis(100));
    on(&net, "a", VIP).run("start").ok();
    eventually("nobody is left on a", || left(&net, "a") == 0);
    assert!(matches!(waits.join().unwrap().0.as_deref(), Ok("a")));
    // And away again.
    on(&net, "a", VIP).run("stop").ok();
    let waits = client(&net, "c", VIP);
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    on(&net, "b", VIP).run("start").ok();
    served_at_once(VIP, waits, begin);
}

/// A switch that does not know a host sends its packets to all. They are not ours to pass on.
#[test]
fn what_was_sent_to_another_host_is_not_passed_on() {
    let net = on_its_way("others2", VIP);
    net.ip("a", "link set eth0 promisc on");
    net.ip("c", "neigh replace 192.0.2.10 lladdr 02:00:00:00:00:99 nud permanent dev eth0");
    let waits = client(&net, "c", VIP);
    std::thread::sleep(Duration::from_millis(100));
    on(&net, "b", VIP).run("start").ok();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waits.is_finished(), "a has passed on what was sent to another host");
    net.ip("c", "neigh replace 192.0.2.10 lladdr 02:00:00:00:00:99 nud stale dev eth0");
    net.ip("c", "neigh flush 192.0.2.10");
    assert!(matches!(waits.join().unwrap().0.as_deref(), Ok("b")));
}

/// Whatever else comes for the address, and as much of it as somebody likes to send.
#[test]
fn hostile_packets_bring_nothing_down() {
    let net = on_its_way("hostile", VIP);
    let hardware: Vec<u8> = net.hardware("a").split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let hardware: [u8; 6] = hardware.try_into().unwrap();
    net.inside("c", move || {
        let socket = PacketSocket::open(nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
        let head = [0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0, 192, 0, 2, 3, 192, 0, 2, 10];
        let segment = |port: u16| [&port.to_be_bytes()[..], &[0x0c, 0xea, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]].concat();
        let whole = |port| [&head[..], &segment(port)].concat();
        for (place, value) in
            [(0, 0x4f), (0, 0x40), (2, 0xff), (3, 0), (6, 0x20), (7, 1), (15, 10), (12, 224), (32, 0xf0), (32, 0), (33, 0x12)]
        {
            let mut packet = whole(1);
            packet[place] = value;
            let _ = socket.send(IPV4, hardware, &packet);
        }
        for length in 1..40 {
            let _ = socket.send(IPV4, hardware, &whole(2)[..length]);
        }
        // From hosts and ports that there are not.
        for n in 0..20_000_u32 {
            let mut packet = whole(n as u16);
            packet[15] = 20 + (n >> 10) as u8;
            // A bridge may look at it.
            let sum = packet[..20].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
            packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
            // A queue that is full takes it later.
            while let Err(why) = socket.send(IPV4, hardware, &packet) {
                assert_eq!(why.raw_os_error(), Some(nix::libc::ENOBUFS), "{why}");
            }
        }
    })
    .join()
    .unwrap();
    assert_eq!(left(&net, "a"), 1);
    // What the kernel has kept of it is taken over.
    std::thread::sleep(Duration::from_millis(300));
    let waits = client(&net, "c", VIP);
    std::thread::sleep(Duration::from_millis(200));
    let (ready, listens) = mpsc::channel();
    let passed_on = net.inside("b", move || {
        let socket = PacketSocket::open(nix::net::if_::if_nametoindex("eth0").unwrap()).unwrap();
        socket.listen(IPV4).unwrap();
        ready.send(()).unwrap();
        let until = Instant::now() + Duration::from_millis(500);
        std::iter::from_fn(|| socket.receive(until).unwrap()).filter(|packet| packet[12..15] == [192, 0, 2] && packet[15] >= 20).count()
    });
    listens.recv().unwrap();
    let begin = Instant::now();
    on(&net, "b", VIP).run("start").ok();
    served_at_once(VIP, waits, begin);
    let passed_on = passed_on.join().unwrap();
    assert!((1..=256).contains(&passed_on), "{passed_on} of the others were passed on");
}

/// It asks who has the address, and hears the announcement.
#[test]
fn a_client_on_the_node_that_gave_it_up_is_served_at_once() {
    for (name, ip) in [("self4", VIP), ("self6", VIP6)] {
        let net = on_its_way(name, ip);
        let waits = client(&net, "a", ip);
        std::thread::sleep(Duration::from_millis(250));
        let begin = Instant::now();
        on(&net, "b", ip).run("start").ok();
        served_at_once(ip, waits, begin);
    }
}

/// What it had sent comes back to it as if it were another's, and is not taken. It is served when it repeats it: after a second, or
/// after three, where the kernel has sent the first repetition to the old node as well.
#[test]
fn a_client_on_the_node_that_gets_it_is_served_when_it_repeats_its_first_packet() {
    for (name, ip) in [("next4", VIP), ("next6", VIP6)] {
        let net = Net::new(name);
        for host in ["a", "b"] {
            server(&net, host);
        }
        on(&net, "a", ip).run("start").ok();
        assert!(matches!(client(&net, "b", ip).join().unwrap().0.as_deref(), Ok("a")));
        on(&net, "a", ip).run("stop").ok();
        let waits = client(&net, "b", ip);
        std::thread::sleep(Duration::from_millis(250));
        on(&net, "b", ip).run("start").ok();
        let begin = Instant::now();
        let (answer, at) = waits.join().unwrap();
        assert!(matches!(answer.as_deref(), Ok("b")), "{ip}: {answer:?}");
        let took = at.saturating_duration_since(begin);
        assert!(took < Duration::from_secs(5), "{ip}: {took:?}");
    }
}
