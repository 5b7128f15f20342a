//! `ocf:systole:address`: an IP address that is on exactly one node, in the place of `ocf:heartbeat:IPaddr2`.

mod agent;
mod connections;
mod kernel;
mod neighbours;
mod netlink;
mod packets;
mod params;
mod plan;
#[cfg(test)]
mod plan_tests;
mod suitable;

pub use agent::Address;

/// The agent with everything it implements.
pub fn agent() -> ocf::Agent<Address> {
    ocf::Agent::new().reloadable()
}
