//! The parameters: each declared once. They have the names that `ocf:heartbeat:IPaddr2` gave them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ocf::{Failure, Kind, Parameter, Values};

use crate::plan::{Broadcast, Wanted};
use crate::suitable::{is_link_local, prefix, unsuitable, unsuitable_in};

const IP: Parameter = Parameter::new("ip", Kind::Address, "the address")
    .required()
    .unique("address")
    .about("The IPv4 or IPv6 address, in any notation: 192.0.2.10, 2001:db8::10. The length of the network's prefix may stand behind it, 192.0.2.10/24, in the place of cidr_netmask.");
const NIC: Parameter = Parameter::new("nic", Kind::Name, "interface")
    .about("The interface that gets the address. Without it, the one to whose network the address belongs, by the routes of the node. An alternative name of an interface will do, and the old form eth0:label, which says iflabel as well.");
const CIDR_NETMASK: Parameter = Parameter::new("cidr_netmask", Kind::Text, "length of the network's prefix")
    .about("The length of the network's prefix, 24, or the mask of IPv4, 255.255.255.0. Without it, that of the interface's network to which the address belongs.");
const BROADCAST: Parameter = Parameter::new("broadcast", Kind::Text, "broadcast address of IPv4")
    .about("The broadcast address; + for the one in which all bits of the host are set, - for the one in which none is. Without it, the one that the interface has in this network already.");
const IFLABEL: Parameter = Parameter::new("iflabel", Kind::Name, "label of the address")
    .about("A label for IPv4, which ip address and ifconfig show as eth0:label. Together with the name of the interface and the colon at most 15 characters. IPv6 has none.");
const RUN_ARPING: Parameter = Parameter::new("run_arping", Kind::Boolean, "ask before a start whether somebody has the address")
    .or("false")
    .reloadable()
    .about("Whether a start asks the network first, for 0.2 s, whether somebody else has the address, and refuses when somebody answers. IPv4 is asked by ARP (RFC 5227), IPv6 by a neighbour solicitation.");
const NODAD: Parameter = Parameter::new("nodad", Kind::Boolean, "do not wait for the kernel's duplicate address detection of IPv6")
    .or("false")
    .reloadable()
    .about("For IPv6: the address can be used at once, without the one to two seconds that the kernel takes to ask for another owner. With run_arping=true the agent asks instead, which takes 0.2 s.");
const ARP_COUNT: Parameter = Parameter::new("arp_count", Kind::Integer { min: 1, max: 100 }, "how often the address is announced after a start")
    .or("5")
    .reloadable()
    .about("How often a start tells the neighbours who has the address now, arp_interval apart: IPv4 by ARP as a request and as a reply, IPv6 by an unsolicited neighbour advertisement. One second and five seconds after the start it is told once more. All but the first time is beside the start, which does not wait for it.");
const ARP_INTERVAL: Parameter =
    Parameter::new("arp_interval", Kind::Integer { min: 1, max: 10_000 }, "milliseconds between two announcements")
        .or("200")
        .reloadable()
        .about("How long after an announcement the next one of arp_count comes, in milliseconds.");
const PREFERRED_LFT: Parameter = Parameter::new("preferred_lft", Kind::Text, "for how many seconds IPv6 may prefer the address")
    .or("forever")
    .about("For IPv6: for how many seconds the node may choose the address for connections that it begins; forever, or 0 for never: then the node answers on it and uses its own address for what it begins.");
const NOPREFIXROUTE: Parameter = Parameter::new("noprefixroute", Kind::Boolean, "make no route to the network")
    .or("false")
    .about("Whether the kernel makes no route to the address' network along with it.");
const CHECK_LINK_STATUS: Parameter = Parameter::new("check_link_status", Kind::Boolean, "an interface without a link is a failure")
    .or("true")
    .reloadable()
    .about("Whether a start is refused, and a monitor fails, while the interface is down or has no link, so that the address goes to another node.");
const NETWORK_NAMESPACE: Parameter = Parameter::new("network_namespace", Kind::Name, "network namespace of the interface")
    .about("The network namespace in which the interface is, by its name in /run/netns (ip netns list). It is not made by this agent.");

/// What IPaddr2 has and this agent does without.
const fn ignored(name: &'static str, about: &'static str) -> Parameter {
    Parameter::new(name, Kind::Text, "ignored").reloadable().about(about)
}

const ARP_BG: Parameter = ignored("arp_bg", "Of IPaddr2, and ignored: only the first announcement is made by the start itself.");
const ARP_SENDER: Parameter =
    ignored("arp_sender", "Of IPaddr2, and ignored: the agent announces the address itself, by no other program.");
const SEND_ARP_OPTS: Parameter = ignored("send_arp_opts", "Of IPaddr2, and ignored: requests and replies are both sent.");
const ARP_COUNT_REFRESH: Parameter =
    ignored("arp_count_refresh", "Of IPaddr2, and ignored: a monitor announces nothing, as it does in IPaddr2 without this parameter.");
const FLUSH_ROUTES: Parameter =
    ignored("flush_routes", "Of IPaddr2, and ignored: Linux has had no cache of routes since 3.6, and a stop ends the connections itself.");
const MAC: Parameter = ignored("mac", "Of IPaddr2, where it belongs to addresses on several nodes at once, and ignored.");
const PROTO: Parameter = ignored("proto", "Of IPaddr2, and ignored: only routes to a network of an interface are looked at.");
const LVS_IPV6_ADDRLABEL_VALUE: Parameter = ignored("lvs_ipv6_addrlabel_value", "Of IPaddr2, and ignored: see lvs_ipv6_addrlabel.");
const CLUSTERIP_HASH: Parameter = Parameter::new("clusterip_hash", Kind::Text, "refused")
    .about("Of IPaddr2, and refused: an address is on one node only. Use ocf:heartbeat:IPaddr2 for it.");
const UNIQUE_CLONE_ADDRESS: Parameter = Parameter::new("unique_clone_address", Kind::Boolean, "refused when true")
    .or("false")
    .about("Of IPaddr2, and refused when true: make a resource for each address.");
const LVS_SUPPORT: Parameter = Parameter::new("lvs_support", Kind::Boolean, "refused when true")
    .or("false")
    .about("Of IPaddr2, and refused when true: use ocf:heartbeat:IPaddr2 for addresses of LVS in its mode of direct routing.");
const LVS_IPV6_ADDRLABEL: Parameter = Parameter::new("lvs_ipv6_addrlabel", Kind::Boolean, "refused when true")
    .or("false")
    .about("Of IPaddr2, and refused when true: preferred_lft=0 keeps the node from using the address for what it begins.");

const IGNORED: [Parameter; 8] = [ARP_BG, ARP_SENDER, SEND_ARP_OPTS, ARP_COUNT_REFRESH, FLUSH_ROUTES, MAC, PROTO, LVS_IPV6_ADDRLABEL_VALUE];

/// All of them, in the order of the documentation.
pub(crate) const ALL: &[Parameter] = &[
    IP,
    NIC,
    CIDR_NETMASK,
    BROADCAST,
    IFLABEL,
    CHECK_LINK_STATUS,
    RUN_ARPING,
    NODAD,
    ARP_COUNT,
    ARP_INTERVAL,
    PREFERRED_LFT,
    NOPREFIXROUTE,
    NETWORK_NAMESPACE,
    ARP_BG,
    ARP_SENDER,
    SEND_ARP_OPTS,
    ARP_COUNT_REFRESH,
    FLUSH_ROUTES,
    MAC,
    PROTO,
    LVS_IPV6_ADDRLABEL_VALUE,
    CLUSTERIP_HASH,
    UNIQUE_CLONE_ADDRESS,
    LVS_SUPPORT,
    LVS_IPV6_ADDRLABEL,
];

/// The longest name of an interface, and so of a label.
const LONGEST_LABEL: usize = 15;
/// The longest alternative name of an interface.
const LONGEST_NAME: usize = 127;

/// The parameters of a resource.
#[derive(Clone, Debug)]
pub(crate) struct Params {
    /// What is to be where. Without an address nothing was ever started.
    pub(crate) wanted: Option<Wanted>,
    pub(crate) namespace: Option<String>,
    /// Whether the network is asked for another owner before a start.
    pub(crate) asks_first: bool,
    pub(crate) announcements: u32,
    pub(crate) interval: Duration,
    /// Names of parameters that are given and do nothing.
    pub(crate) ignored: Vec<&'static str>,
    /// What is wrong with the values together. `start` and `validate-all` refuse for it; what runs goes on.
    pub(crate) contradiction: Option<Failure>,
}

impl Params {
    /// Takes the checked values. `instances`: how many a clone of it may have.
    pub(crate) fn new(values: &Values, instances: Option<u32>) -> Self {
        let mut contradiction = None;
        let mut wrong = |why: Failure| contradiction = contradiction.take().or(Some(why));
        let wanted = values.address(&IP).map(|(address, length)| wanted(values, address, length, &mut wrong));
        if let Some(why) = not_for_this_agent(values, instances) {
            wrong(why);
        }
        Self {
            wanted,
            namespace: Some(values.text(&NETWORK_NAMESPACE).to_owned()).filter(|name| !name.is_empty()),
            asks_first: values.boolean(&RUN_ARPING),
            announcements: u32::try_from(values.integer(&ARP_COUNT)).unwrap_or(1),
            interval: Duration::from_millis(u64::try_from(values.integer(&ARP_INTERVAL)).unwrap_or(1)),
            ignored: IGNORED.iter().filter(|parameter| values.is_given(parameter)).map(|parameter| parameter.name).collect(),
            contradiction,
        }
    }
}

/// What is to be where. What is wrong is told to `wrong`, and left out.
fn wanted(values: &Values, address: IpAddr, length: Option<u8>, wrong: &mut impl FnMut(Failure)) -> Wanted {
    if let Some(why) = unsuitable(address) {
        wrong(values.contradiction(format!("ip={address} {why}: give the address of a host in one of the node's networks")));
    }
    let mask = values.text(&CIDR_NETMASK);
    let given = prefix(mask, address);
    if given.is_none() && !mask.is_empty() {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        wrong(values.contradiction(format!(
            "cidr_netmask={} is no length of a network's prefix: give a number from 1 to {longest}",
            mask.escape_debug()
        )));
    }
    if let (Some(length), Some(given)) = (length, given.filter(|given| Some(*given) != length)) {
        wrong(values.contradiction(format!("ip says /{length} and cidr_netmask says {given}: take one of them out")));
    }
    let length = given.or(length);
    if let Some(why) = length.and_then(|length| unsuitable_in(address, length)) {
        wrong(values.contradiction(format!("ip={address} {why}: correct ip or cidr_netmask")));
    }
    let (nic, label) = values.text(&NIC).split_once(':').map_or((values.text(&NIC), None), |(nic, label)| (nic, Some(label)));
    let nic = Some(nic.to_owned()).filter(|nic| !nic.is_empty());
    if nic.as_ref().is_some_and(|nic| nic.len() > LONGEST_NAME || nic.contains(char::is_whitespace)) || label == Some("") {
        wrong(values.contradiction(format!("nic={} is no name of an interface: ip link shows them", values.text(&NIC).escape_debug())));
    }
    if nic.is_none() && is_link_local(address) {
        wrong(values.contradiction(format!("ip={address} is an address of its link only: say which in nic")));
    }
    let label = label.unwrap_or(values.text(&IFLABEL));
    let plain = label.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !plain {
        wrong(values.contradiction(format!("iflabel={} holds more than letters and digits: write it with those", label.escape_debug())));
    }
    if let Some(why) = nic.as_ref().and_then(|nic| too_long(nic, label)) {
        wrong(values.contradiction(why));
    }
    Wanted {
        address,
        nic,
        prefix: length,
        broadcast: broadcast(values, address, wrong),
        label: Some(label.to_owned()).filter(|label| plain && !label.is_empty() && address.is_ipv4()),
        checks_link: values.boolean(&CHECK_LINK_STATUS),
        skips_detection: values.boolean(&NODAD),
        makes_no_route: values.boolean(&NOPREFIXROUTE),
        preferred: preferred(values, wrong),
    }
}

/// Why a label does not fit; `None` when there is none or it does.
pub(crate) fn too_long(nic: &str, label: &str) -> Option<String> {
    let whole = format!("{nic}:{label}");
    (!label.is_empty() && whole.len() > LONGEST_LABEL)
        .then(|| format!("the label {whole} has more than {LONGEST_LABEL} characters: shorten iflabel"))
}

fn broadcast(values: &Values, address: IpAddr, wrong: &mut impl FnMut(Failure)) -> Broadcast {
    match values.text(&BROADCAST) {
        "" => Broadcast::OfTheInterface,
        _ if address.is_ipv6() => {
            wrong(values.contradiction("IPv6 has no broadcast address: take the parameter broadcast out"));
            Broadcast::OfTheInterface
        }
        "+" => Broadcast::AllSet,
        "-" => Broadcast::NoneSet,
        text => match text.parse::<Ipv4Addr>() {
            Ok(address) => Broadcast::Given(address),
            Err(_) => {
                wrong(values.contradiction(format!(
                    "broadcast={} is no address of IPv4: give one, or + or -, or take it out",
                    text.escape_debug()
                )));
                Broadcast::OfTheInterface
            }
        },
    }
}

/// Seconds; `None` for ever.
fn preferred(values: &Values, wrong: &mut impl FnMut(Failure)) -> Option<u32> {
    match values.text(&PREFERRED_LFT) {
        "forever" => None,
        text => {
            let seconds = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
            if seconds.is_none() {
                wrong(values.contradiction(format!("preferred_lft={} is no number of seconds: give one, or forever", text.escape_debug())));
            }
            seconds
        }
    }
}

/// What IPaddr2 can and this agent cannot.
fn not_for_this_agent(values: &Values, instances: Option<u32>) -> Option<Failure> {
    if values.is_given(&CLUSTERIP_HASH) {
        return Some(values.contradiction(
            "clusterip_hash is for an address on several nodes at once: take it out, or use ocf:heartbeat:IPaddr2 for this address",
        ));
    }
    if values.boolean(&UNIQUE_CLONE_ADDRESS) {
        return Some(values.contradiction(
            "unique_clone_address makes several addresses of one resource: take it out, and make a resource for each address",
        ));
    }
    if values.boolean(&LVS_SUPPORT) {
        return Some(values.contradiction(
            "lvs_support would move the address to lo on a stop: take it out, or use ocf:heartbeat:IPaddr2 for this address",
        ));
    }
    if values.boolean(&LVS_IPV6_ADDRLABEL) {
        return Some(values.contradiction("lvs_ipv6_addrlabel is not known here: take it out, and set preferred_lft=0 instead"));
    }
    // Of the loopback interface they know themselves that nobody hears them: it is how addresses are announced by routing.
    let several = instances.is_some_and(|most| most > 1) && values.text(&NIC) != "lo";
    several
        .then(|| values.contradiction("a clone would have the address on several nodes at once: make it a plain resource, without a clone"))
}
