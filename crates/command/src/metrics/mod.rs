//! `systole metrics`: what `systole status` knows, in the format of OpenMetrics, printed or served.

mod serve;
pub mod text;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use crate::notices::Level;
use crate::{ask, complain, ended, print};

/// Where metrics are served: a port, of this machine alone, or an address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_this_machine = || text.parse().ok().map(|port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
        let address = text.parse().ok().or_else(of_this_machine);
        address.map(Self).ok_or_else(|| "a port, or ADDRESS:PORT with the address in digits: 9756, 10.0.0.1:9756, [::1]:9756".to_owned())
    }
}

/// Prints the metrics once, or serves them until it is ended.
pub(crate) fn metrics(listen: Option<Listen>) -> ExitCode {
    match listen {
        Some(Listen(address)) => match serve::serve(address, page) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                complain(&format!("metrics cannot be served at {address}: {why}"));
                ended(Level::Unknown)
            }
        },
        None => {
            let (page, known) = page();
            print(&page);
            ended(if known { Level::Good } else { Level::Unknown })
        }
    }
}

/// The page, and whether the cluster said anything.
fn page() -> (String, bool) {
    match ask::picture() {
        Ok(picture) => (text::of(Some(&picture)), true),
        Err(why) => {
            complain(&why);
            (text::of(None), false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_of_this_machine() {
        let read = |text: &str| text.parse::<Listen>().map(|listen| listen.0.to_string()).ok();
        assert_eq!(read("9756").as_deref(), Some("127.0.0.1:9756"));
        assert_eq!(read("10.0.0.1:9756").as_deref(), Some("10.0.0.1:9756"));
        assert_eq!(read("[::]:9756").as_deref(), Some("[::]:9756"));
        assert_eq!([read("lxc1:9756"), read(""), read("99999")], [None, None, None]);
    }
}
