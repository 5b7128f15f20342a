//! The agent: start, stop, monitor, validate-all. It looks, has `plan` decide, and does that.

use std::net::IpAddr;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::unistd::geteuid;
use ocf::{Context, Deadline, Description, Failure, Outcome, Reloadable, ResourceAgent, Status, Timeouts, Values};

use crate::connections;
use crate::forward::Forwarder;
use crate::kernel::Kernel;
use crate::neighbours::{self, Announcer, another_owner, promotes, routes};
use crate::packets::{Gateway, Hardware, announcement, printed};
use crate::params::{self, Params};
use crate::plan::{self, Assigned, Link, Seen, Verdict, Wanted};
use crate::suitable::is_link_local;

/// How long the kernel asks for another owner of an address of IPv6 at most: a pause of a second at random, and a question every second
/// (`dad_transmits`, 1 where nobody has changed it).
const DETECTION: Duration = Duration::from_secs(10);
/// How often is looked whether it is through.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);
/// How long the kernel takes at most until packets for a new address of IPv6 reach this node.
const UNTIL_DELIVERED: Duration = Duration::from_millis(500);
/// How often is looked whether they do.
const SOON: Duration = Duration::from_micros(500);
/// How long an interface that was just switched on may take until it has a link.
const UNTIL_LINK: Duration = Duration::from_secs(3);
/// How long one that has none is looked at before that counts: a cable that is put in anew, a port that is set up.
const LINK_IS_BACK: Duration = Duration::from_secs(1);
/// How often is looked for connections that have come in between.
const ROUNDS: usize = 20;
/// How much of its time a stop keeps for the removal.
const REMOVAL: Duration = Duration::from_secs(1);

/// The agent for one resource on this node.
pub struct Address {
    params: Params,
}

impl ResourceAgent for Address {
    const DESCRIPTION: Description = Description {
        name: "address",
        version: env!("CARGO_PKG_VERSION"),
        short: "an IP address on exactly one node",
        long: "Puts an IPv4 or IPv6 address on an interface of the node where the resource is, tells the neighbours, and takes it away again. It \
               has the parameters of ocf:heartbeat:IPaddr2 and takes its place without a change, but for addresses on several nodes at once.\n\n\
               A start answers as soon as the address does. A stop ends the connections that are open to the address, so that clients \
               learn at once that they have to make new ones.",
        parameters: params::ALL,
        timeouts: Timeouts { start: 20, stop: 20, monitor: 20, interval: 10, interval_unpromoted: 10, promote: 20, demote: 20, notify: 20 },
    };

    fn new(context: &Context, values: &Values) -> Result<Self, Failure> {
        Ok(Self { params: Params::new(values, context.environment.clone_max()) })
    }

    fn start(&self, context: &Context) -> Outcome {
        let wanted = self.wanted()?;
        check_root()?;
        self.tell_ignored(context);
        self.enter()?;
        let mut kernel = kernel()?;
        let seen = everything(&mut kernel, wanted.address).map_err(unreadable)?;
        let plan = plan::start(wanted, &seen)?;
        let link = self.ready(context, &mut kernel, wanted, &plan)?;
        let (nic, address) = (&link.name, wanted.address);
        for assigned in &plan.remove {
            context.log.warning(format!("{address}/{} is removed from where it does not belong", assigned.prefix));
            kernel.remove(assigned).map_err(|e| not_removed(assigned, &e))?;
        }
        if let IpAddr::V4(v4) = address {
            // Left by a stop that was killed, it would keep everybody away from the address.
            if kernel.reopen(v4).map_err(unreadable)? {
                context.log.notice(format!("what a stop that was killed has left of {address} is cleared away"));
            }
        }
        if plan.add {
            kernel
                .add(wanted, &plan.home)
                .map_err(|e| Failure::generic(format!("{address}/{} cannot be added to {nic}: {e}", plan.home.prefix)))?;
        }
        if address.is_ipv6() {
            wait_for_detection(context, &mut kernel, wanted, &link)?;
        }
        if plan.add {
            context.log.notice(format!("{address}/{} was added to {nic}", plan.home.prefix));
        }
        if let Some(hardware) = link.hardware {
            self.announce(context, &mut kernel, &seen, &link, hardware);
        } else if !link.loopback {
            context.log.notice(format!("{nic} has no hardware addresses of Ethernet's kind: nobody is told of {address}"));
        }
        Ok(())
    }

    fn stop(&self, context: &Context) -> Outcome {
        // Without an address nothing was ever started.
        let Some(wanted) = &self.params.wanted else { return Ok(()) };
        check_root()?;
        match self.namespace() {
            Ok(()) => {}
            Err(e) if is_gone(&e) => {
                context.log.warning(format!("{}: with it every address in it is gone", self.not_entered(&e)));
                return Ok(());
            }
            // Whoever cannot look does not know that nothing is there.
            Err(e) => return Err(Failure::generic(self.not_entered(&e))),
        }
        let mut kernel = kernel()?;
        let seen = look(&mut kernel, wanted).map_err(unreadable)?;
        let places: Vec<&Assigned> = seen.places(wanted).collect();
        let forwarder = if places.is_empty() { None } else { take_away(context, &mut kernel, wanted.address, &places, &seen)? };
        if let IpAddr::V4(v4) = wanted.address {
            // Last, and also when nothing was there: the agent may have been killed before it came here.
            if let Err(e) = kernel.reopen(v4) {
                context.log.warning(format!("the barrier before {v4} is still there: {e}; ip route del blackhole {v4} table local"));
            }
        }
        let seen = look(&mut kernel, wanted).map_err(unreadable)?;
        if let Some(left) = seen.places(wanted).next() {
            return Err(Failure::generic(format!(
                "{}/{} was put back by somebody else as soon as it was removed: find out who does it (networkd, NetworkManager, keepalived)",
                left.address, left.prefix
            )));
        }
        if let Some(Err(why)) = forwarder.map(Forwarder::go_on) {
            context.log.warning(not_forwarded(wanted.address, &why));
        }
        Ok(())
    }

    fn monitor(&self, context: &Context) -> Result<Status, Failure> {
        let Some(wanted) = &self.params.wanted else { return Ok(Status::NotRunning) };
        let only_finds = context.environment.is_probe() || context.environment.is_of_stopped_role();
        match self.namespace() {
            Ok(()) => {}
            Err(e) if is_gone(&e) && only_finds => return Ok(Status::NotRunning),
            Err(e) if is_gone(&e) => return Err(Failure::installed(self.not_entered(&e))),
            // To Pacemaker a probe that answers `installed` has found nothing, and the address may be in it.
            Err(e) => return Err(Failure::generic(self.not_entered(&e))),
        }
        // Nor must a probe answer that of an interface which is down: the address is here, and the next monitor says what is wrong.
        let wanted = &Wanted { checks_link: wanted.checks_link && !only_finds, ..wanted.clone() };
        let mut kernel = kernel()?;
        let mut seen = look(&mut kernel, wanted).map_err(unreadable)?;
        for link in seen.links.iter_mut().filter(|link| plan::lacks_link(wanted, link)) {
            *link = until_link(&mut kernel, link.clone(), context.deadline.within(LINK_IS_BACK))?;
        }
        let verdict = plan::judge(wanted, &seen, promotes)?;
        if let (IpAddr::V4(v4), Verdict::Present(_)) = (wanted.address, &verdict) {
            if kernel.is_closed(v4) {
                return Err(Failure::generic(format!("a stop that was killed has left {v4} closed: restart this resource")));
            }
        }
        if let (IpAddr::V4(v4), Verdict::Absent, true) = (wanted.address, &verdict, context.environment.is_probe()) {
            // Left by a stop that was killed, it would keep the clients of this node from the address. Where nothing runs, no stop comes.
            if kernel.reopen(v4).is_ok_and(|was_closed| was_closed) {
                context.log.notice(format!("what a stop that was killed has left of {v4} is cleared away"));
            }
        }
        Ok(match verdict {
            Verdict::Absent => Status::NotRunning,
            // A probe only says what is there.
            Verdict::Present(Some(why)) if !context.environment.is_probe() => Status::Degraded(why),
            Verdict::Present(_) => Status::Running,
        })
    }

    fn validate(&self, context: &Context, _level: u32) -> Outcome {
        let wanted = self.wanted()?;
        self.tell_ignored(context);
        self.enter()?;
        let seen = everything(&mut kernel()?, wanted.address).map_err(unreadable)?;
        plan::home(wanted, &seen).map(drop)
    }
}

impl Reloadable for Address {
    /// What can be changed while the address is there only counts at the next start or monitor.
    fn reload(&self, _context: &Context) -> Outcome {
        Ok(())
    }
}

impl Address {
    fn wanted(&self) -> Result<&Wanted, Failure> {
        match (&self.params.contradiction, &self.params.wanted) {
            (Some(contradiction), _) => Err(contradiction.clone()),
            (None, Some(wanted)) => Ok(wanted),
            // It was refused before.
            (None, None) => Err(Failure::generic("the parameter ip is missing: give the address")),
        }
    }

    fn tell_ignored(&self, context: &Context) {
        if !self.params.ignored.is_empty() {
            context.log.notice(format!("ignored, since this agent has no use for it: {}", self.params.ignored.join(", ")));
        }
    }

    /// Goes into the network namespace of the address. All that is opened afterwards is in it, and /proc/sys/net shows it.
    fn enter(&self) -> Outcome {
        self.namespace().map_err(|e| Failure::installed(self.not_entered(&e)))
    }

    /// The same, and what the kernel says of it.
    fn namespace(&self) -> std::io::Result<()> {
        let Some(name) = &self.params.namespace else { return Ok(()) };
        #[allow(clippy::disallowed_methods, reason = "only root can put something there")]
        let namespace = std::fs::File::open(format!("/run/netns/{name}"))?;
        setns(namespace, CloneFlags::CLONE_NEWNET).map_err(Into::into)
    }

    fn not_entered(&self, error: &std::io::Error) -> String {
        let name = self.params.namespace.as_deref().unwrap_or_default();
        format!("network_namespace={name} cannot be entered: {error}; ip netns add {name}, or correct the parameter")
    }

    /// What must be right before the address comes to an interface. Returns the interface, switched on.
    fn ready(&self, context: &Context, kernel: &mut Kernel, wanted: &Wanted, plan: &plan::Start) -> Result<Link, Failure> {
        let (mut link, address) = (plan.home.link.clone(), wanted.address);
        if !link.up {
            context.log.notice(format!("{} is switched on", link.name));
            kernel.switch_on(link.index).map_err(|e| Failure::generic(format!("{} cannot be switched on: {e}", link.name)))?;
            link = until_link(kernel, link, context.deadline.within(UNTIL_LINK))?;
        } else if plan::lacks_link(wanted, &link) {
            link = until_link(kernel, link, context.deadline.within(LINK_IS_BACK))?;
        }
        if let Some(failure) = plan::without_link(wanted, &link) {
            return Err(failure);
        }
        if let Some(hardware) = link.hardware.filter(|_| plan.add && self.params.asks_first) {
            match another_owner(address, &link, hardware) {
                Ok(None) => {}
                Ok(Some(owner)) => {
                    return Err(Failure::generic(format!(
                        "the host with the hardware address {} has {address} on the network of {}: switch it off there, or correct ip",
                        printed(owner),
                        link.name
                    )));
                }
                Err(e) => return Err(Failure::generic(format!("the neighbours of {} cannot be asked for {address}: {e}", link.name))),
            }
        }
        Ok(link)
    }

    /// Tells the neighbours, and has them told again. That they are not told keeps no address from working for those who ask.
    fn announce(&self, context: &Context, kernel: &mut Kernel, seen: &Seen, link: &Link, hardware: Hardware) {
        let Some(wanted) = &self.params.wanted else { return };
        let address = wanted.address;
        let gateway = seen
            .gateway(link.index)
            .map(|router| Gateway { address: router, hardware: kernel.neighbour(link.index, router).unwrap_or_default() });
        let packets = announcement(address, hardware, gateway, routes(link));
        let told = Announcer::new(link, packets).map_err(|e| e.to_string()).and_then(|announcer| {
            let now = announcer.announce().map_err(|e| e.to_string());
            let times = neighbours::times(self.params.announcements, self.params.interval);
            now.and(announcer.go_on(address, link.index, hardware, &times))
        });
        if let Err(why) = told {
            context.log.warning(format!("the neighbours of {} were not told of {address}: {why}", link.name));
        }
    }
}

/// Whether there is no network namespace of that name, or no more than a file that was one before the node booted.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::EINVAL)
}

/// The interface when it has a link, or as it is when the time for that is over.
fn until_link(kernel: &mut Kernel, mut link: Link, limit: Deadline) -> Result<Link, Failure> {
    while let Some(now) = kernel.link(link.index).map_err(unreadable)? {
        link = now;
        if !link.down || limit.passed() {
            break;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
    Ok(link)
}

/// Ends what is open to the address and removes it. First nothing new comes in, then everybody is told while the address can still send,
/// then it goes: no client is left with a connection of which it hears nothing any more. Returns what keeps the attempts to connect that
/// come from then on.
fn take_away(
    context: &Context,
    kernel: &mut Kernel,
    address: IpAddr,
    places: &[&Assigned],
    seen: &Seen,
) -> Result<Option<Forwarder>, Failure> {
    if let IpAddr::V4(v4) = address {
        if let Err(e) = kernel.close(v4) {
            context.log.warning(format!("{address} takes connections until it is removed: {e}"));
        }
    }
    // Before anybody is told: most clients connect again at once.
    let forwarder = places.iter().find_map(|assigned| seen.links.iter().find(|link| link.index == assigned.index && !link.loopback));
    let forwarder = forwarder.map_or(Ok(None), |link| Forwarder::listen(address, link)).unwrap_or_else(|why| {
        context.log.warning(not_forwarded(address, &why));
        None
    });
    let scope = places.first().filter(|_| is_link_local(address)).map(|assigned| assigned.index);
    let mut ended = end_connections(context, address, scope, context.deadline);
    // IPv6 has no barrier, and can send without the address.
    if let Some(forwarder) = forwarder.as_ref().filter(|_| address.is_ipv6()) {
        forwarder.leave_out();
    }
    for assigned in places {
        kernel.remove(assigned).map_err(|e| not_removed(assigned, &e))?;
    }
    if address.is_ipv6() {
        ended += end_connections(context, address, scope, context.deadline);
    }
    context.log.notice(format!("{address} is on no interface any more; {ended} connections to it were ended"));
    Ok(forwarder)
}

fn not_forwarded(address: IpAddr, why: &dyn std::fmt::Display) -> String {
    format!("clients that connect to {address} while it is on its way may wait for a second: {why}")
}

/// Ends the connections to an address until there are none. Returns how many there were.
fn end_connections(context: &Context, address: IpAddr, scope: Option<u32>, deadline: Deadline) -> usize {
    let mut ended = 0;
    // The removal must not wait for more connections than we can end, nor for whoever connects faster.
    let goes_on = || deadline.left() >= REMOVAL;
    for _ in 0..ROUNDS {
        match connections::end(address, scope, goes_on) {
            Ok(0) => break,
            Ok(now) => ended += now,
            Err(e) => {
                context.log.warning(format!("the connections to {address} cannot be ended: {e}; clients find out by themselves"));
                break;
            }
        }
        if !goes_on() {
            break;
        }
    }
    ended
}

/// Waits until the kernel has asked whether somebody else has an address of IPv6. Until then it is not used.
fn wait_for_detection(context: &Context, kernel: &mut Kernel, wanted: &Wanted, link: &Link) -> Outcome {
    let limit = context.deadline.within(DETECTION);
    loop {
        let addresses = kernel.addresses(wanted.address).map_err(unreadable)?;
        let here = addresses.iter().find(|assigned| assigned.address == wanted.address && assigned.index == link.index);
        let Some(here) = here else {
            return Err(Failure::generic(format!("{} was removed from {} by somebody else: find out who", wanted.address, link.name)));
        };
        if here.duplicate {
            let owner = link.hardware.and_then(|ours| another_owner(wanted.address, link, ours).ok().flatten());
            let owner =
                owner.map_or_else(|| "another host".into(), |owner| format!("the host with the hardware address {}", printed(owner)));
            kernel.remove(here).map_err(|e| not_removed(here, &e))?;
            return Err(Failure::generic(format!(
                "{owner} has {} as well, as the kernel found out on {}: switch it off there, or correct ip",
                wanted.address, link.name
            )));
        }
        if !here.tentative {
            // Whoever hears of the address before comes to a node that does not know it.
            let limit = context.deadline.within(UNTIL_DELIVERED);
            while !kernel.delivers(wanted.address, link.index) && !limit.passed() {
                std::thread::sleep(SOON);
            }
            return Ok(());
        }
        if limit.passed() {
            context.log.warning(format!("the kernel still asks the network of {} for another owner of {}", link.name, wanted.address));
            return Ok(());
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

fn check_root() -> Outcome {
    if geteuid().is_root() { Ok(()) } else { Err(Failure::permission("only root can change addresses: run it as root")) }
}

fn kernel() -> Result<Kernel, Failure> {
    Kernel::open().map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> Failure {
    Failure::generic(format!("the kernel does not tell its addresses: {error}"))
}

fn not_removed(assigned: &Assigned, error: &std::io::Error) -> Failure {
    Failure::generic(format!("{}/{} cannot be removed: {error}", assigned.address, assigned.prefix))
}

/// All that a start goes by.
fn everything(kernel: &mut Kernel, address: IpAddr) -> std::io::Result<Seen> {
    Ok(Seen { links: kernel.links()?, addresses: kernel.addresses(address)?, routes: kernel.routes(address)? })
}

/// Where the address is: what a monitor and a stop go by, and no more.
fn look(kernel: &mut Kernel, wanted: &Wanted) -> std::io::Result<Seen> {
    let addresses = kernel.addresses(wanted.address)?;
    let mut links = Vec::new();
    for place in addresses.iter().filter(|assigned| assigned.address == wanted.address) {
        links.extend(kernel.link(place.index)?);
    }
    Ok(Seen { links, addresses, routes: Vec::new() })
}
