//! What the actions of an agent of addresses take, and what a client sees of them: run inside a container by `bench`, which gives the
//! number of runs and the file for the numbers. A node, a client, a cable between them; each agent in turn, so that all have the same
//! machine.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket, sockopt};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const PORT: u16 = 7;
/// How often the client asks.
const PAUSE: Duration = Duration::from_micros(200);
/// How long a client with an open connection is watched: longer than any of ours, and far less than it would wait.
const WATCHED: Duration = Duration::from_secs(3);
const AGENTS: [(&str, &str); 2] = [
    ("ocf:systole:address", "/usr/lib/ocf/resource.d/systole/address"),
    ("ocf:heartbeat:IPaddr2", "/usr/lib/ocf/resource.d/heartbeat/IPaddr2"),
];

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [runs, file] = words.as_slice() else { return Err("usage: measure-address RUNS FILE".into()) };
    let runs: usize = runs.parse()?;
    network()?;
    serve()?;
    let mut numbers: BTreeMap<&str, BTreeMap<&str, Vec<f64>>> = BTreeMap::new();
    // The first of each finds nothing in the machine's memory.
    for n in 0..=runs {
        for (name, path) in AGENTS {
            let kept = numbers.entry(name).or_default();
            for (what, value) in measure(path)? {
                if n > 0 {
                    kept.entry(what).or_default().push(value);
                }
            }
        }
    }
    std::fs::write(file, serde_json::to_string(&numbers)?)?;
    Ok(())
}

/// A life of the address: milliseconds, and numbers of processes.
fn measure(agent: &str) -> Result<Vec<(&'static str, f64)>> {
    let mut found = Vec::new();
    let over = Arc::new(AtomicBool::new(false));
    let answered = asked(&over)?;
    let begin = Instant::now();
    let (took, processes) = act(agent, "start")?;
    let answer = answered.recv_timeout(Duration::from_secs(5));
    over.store(true, Ordering::Relaxed);
    found.push(("start: until the address answers", milliseconds(answer?.saturating_duration_since(begin))));
    found.push(("start: until the agent has answered", milliseconds(took)));
    found.push(("start: processes", processes));
    // What a start leaves behind has its announcements to make, which are none of a monitor's cost.
    std::thread::sleep(Duration::from_millis(1200));
    for _ in 0..5 {
        let (took, processes) = act(agent, "monitor")?;
        found.push(("monitor", milliseconds(took)));
        found.push(("monitor: processes", processes));
    }
    let told = watched()?;
    let begin = Instant::now();
    let (took, processes) = act(agent, "stop")?;
    found.push(("stop", milliseconds(took)));
    found.push(("stop: processes", processes));
    if let Some(at) = told.recv()? {
        found.push(("stop: until a client with an open connection is told", milliseconds(at.saturating_duration_since(begin))));
    }
    Ok(found)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Runs an action until the agent has ended. How long it took, and how many processes the machine has started.
fn act(agent: &str, action: &str) -> Result<(Duration, f64)> {
    let (before, begin) = (forks(), Instant::now());
    let status = Command::new(agent)
        .arg(action)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("OCF_ROOT", "/usr/lib/ocf")
        .env("OCF_RESOURCE_INSTANCE", "vip")
        .env("OCF_RESKEY_ip", ADDRESS.to_string())
        .env("OCF_RESKEY_cidr_netmask", "24")
        .env("OCF_RESKEY_CRM_meta_timeout", "20000")
        .env("OCF_RESKEY_CRM_meta_interval", "10000")
        .env("OCF_RESKEY_crm_feature_set", "3.16.2")
        .env("__OCF_ACTION", action)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let took = begin.elapsed();
    if !status.success() {
        return Err(format!("{agent} {action}: {status}").into());
    }
    Ok((took, (forks() - before) as f64))
}

/// Processes and threads that the machine has started since boot. Others start some too: the lowest difference counts.
fn forks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().find_map(|l| l.strip_prefix("processes ")).and_then(|n| n.trim().parse().ok()).unwrap_or_default()
}

/// The node is where this program is; the client is in a network of its own. It knows the node's hardware address beforehand: what is
/// measured is the agent, and not how the client asks for it.
fn network() -> Result<()> {
    let script = "ip link set lo up; ip netns add client; ip link add eth1 type veth peer name eth0 netns client; ip link set eth1 up; \
                  ip address add 192.0.2.1/24 brd + dev eth1; ip -n client link set eth0 up; \
                  ip -n client address add 192.0.2.2/24 dev eth0; \
                  ip -n client neigh replace 192.0.2.10 lladdr $(cat /sys/class/net/eth1/address) nud permanent dev eth0; \
                  ip route add default via 192.0.2.2; ping -c 3 -i 0.2 -q 192.0.2.2 > /dev/null";
    let done = Command::new("sh").args(["-ec", script]).status()?;
    if done.success() { Ok(()) } else { Err("the network cannot be made".into()) }
}

/// Servers on the node, on the address alone, which need not be there yet.
fn serve() -> Result<()> {
    let echo = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None)?;
    setsockopt(&echo, sockopt::IpFreebind, &true)?;
    bind(echo.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(ADDRESS, PORT)))?;
    let echo = UdpSocket::from(echo);
    std::thread::spawn(move || {
        let mut content = [0; 16];
        while let Ok((length, client)) = echo.recv_from(&mut content) {
            let _ = echo.send_to(&content[..length], client);
        }
    });
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    std::thread::spawn(move || {
        let mut last = None;
        while let Ok((stream, _)) = listener.accept() {
            last.replace(stream);
        }
    });
    Ok(())
}

/// Does something in the client's network, in a thread of its own.
fn client(work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    let namespace = File::open("/run/netns/client")?;
    std::thread::spawn(move || {
        if let Err(why) = setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Into::into).and_then(|()| work()) {
            eprintln!("client: {why}");
        }
    });
    Ok(())
}

/// A client asks the address until it answers. When it did.
fn asked(over: &Arc<AtomicBool>) -> Result<mpsc::Receiver<Instant>> {
    let (tell, told) = mpsc::channel();
    let (ready, wait) = mpsc::channel();
    let over = Arc::clone(over);
    client(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((ADDRESS, PORT))?;
        // A socket's own time limit is counted in ticks of 4 ms.
        socket.set_nonblocking(true)?;
        ready.send(())?;
        while !over.load(Ordering::Relaxed) {
            let _ = socket.send(b"?");
            std::thread::sleep(PAUSE);
            if socket.recv(&mut [0; 16]).is_ok() {
                tell.send(Instant::now())?;
                return Ok(());
            }
        }
        Ok(())
    })?;
    wait.recv()?;
    Ok(told)
}

/// A client opens a connection and waits for an answer. When it is told that none will come; `None` when it is not.
fn watched() -> Result<mpsc::Receiver<Option<Instant>>> {
    let (tell, told) = mpsc::channel();
    let (ready, wait) = mpsc::channel();
    client(move || {
        let mut stream = TcpStream::connect((ADDRESS, PORT))?;
        stream.set_read_timeout(Some(WATCHED))?;
        ready.send(())?;
        let ended = match stream.read(&mut [0]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            _ => Some(Instant::now()),
        };
        tell.send(ended)?;
        Ok(())
    })?;
    wait.recv()?;
    Ok(told)
}
