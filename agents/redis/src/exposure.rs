//! Whether a server would stand open: a password that the shipped files have for everybody, or none at all. Pure.
//!
//! Only a start refuses for it, and `validate-all`. A server that runs is never stopped for it; its monitor says so.

use std::net::IpAddr;
use std::path::Path;

use promotable::is_placeholder;

use crate::conf::Conf;

/// How a password is made, for the remedies.
const MAKE: &str = "`openssl rand -hex 24` makes one";

/// What keeps a server with this configuration from being started; `open_network` as the operator gave it.
pub(crate) fn exposure(conf: &Conf, path: &Path, open_network: bool) -> Option<String> {
    let shown = path.display();
    if let Some(name) = ["requirepass", "masterauth"].into_iter().find(|name| conf.last(name).is_some_and(is_placeholder)) {
        return Some(format!(
            "{name} in {shown} is the placeholder still: write one password into its lines requirepass and masterauth, the same on every \
             node ({MAKE})"
        ));
    }
    (!open_network && is_reached_from_outside(conf) && anybody_may_log_in(conf)).then(|| {
        format!(
            "{shown} opens the server to the network without a password: write `requirepass` and `masterauth` into it, the same on every node \
             ({MAKE}), or, where nobody else is in that network, set open_network=yes"
        )
    })
}

/// Whether somebody on another machine gets an answer, without a certificate.
fn is_reached_from_outside(conf: &Conf) -> bool {
    let says = |name: &str, value: &str| conf.last(name).is_some_and(|v| v.eq_ignore_ascii_case(value));
    let plain = conf.last("port") != Some("0");
    let unverified_tls =
        !matches!(conf.last("tls-port"), None | Some("0")) && (says("tls-auth-clients", "no") || says("tls-auth-clients", "optional"));
    // Without a line the server listens everywhere.
    let bound = conf.last_all("bind").filter(|addresses| !addresses.is_empty());
    let outside = bound.is_none_or(|addresses| !addresses.iter().all(|address| is_loopback(address)));
    says("protected-mode", "no") && outside && (plain || unverified_tls)
}

/// Whether an address that the server binds is reached from this machine only; an empty one is none at all.
pub(crate) fn is_loopback(address: &str) -> bool {
    let address = address.trim_start_matches('-');
    address.is_empty() || address == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Whether who connects is the default user without a word. What an aclfile says is not read.
fn anybody_may_log_in(conf: &Conf) -> bool {
    let default_user = conf.all("user").rfind(|rules| rules.first().is_some_and(|name| name == "default"));
    let guarded = default_user.is_some_and(|rules| !rules.iter().any(|rule| rule.eq_ignore_ascii_case("nopass")));
    conf.requirepass().is_none() && !guarded && conf.last("aclfile").is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, open_network: bool) -> Option<String> {
        exposure(&Conf::from_text(text).unwrap(), Path::new("/etc/redis/site.conf"), open_network)
    }

    #[test]
    fn the_placeholder_is_no_password() {
        for text in [
            "requirepass PASSWORD\nmasterauth PASSWORD",
            "bind 127.0.0.1\nrequirepass \"PASSWORD\"\nmasterauth right",
            "requirepass right\nmasterauth 'ANOTHER PASSWORD'",
        ] {
            for open_network in [false, true] {
                let said = said(text, open_network).unwrap();
                assert!(said.contains("/etc/redis/site.conf") && said.contains("lines requirepass and masterauth"), "{said}");
                assert!(said.contains("openssl rand -hex 24"), "{said}");
            }
        }
        assert_eq!(
            said("requirepass PASSWORD\nmasterauth PASSWORD\nrequirepass right\nmasterauth right", false),
            None,
            "the last line holds"
        );
    }

    #[test]
    fn a_server_without_a_password_is_for_a_closed_network_that_somebody_vouched_for() {
        for open in [
            "bind * -::*\nprotected-mode no",
            "protected-mode NO",
            "bind 127.0.0.1 10.0.0.1\nprotected-mode no",
            "protected-mode no\nrequirepass \"\"",
            "protected-mode no\nuser default on nopass ~* &* +@all",
            "protected-mode no\nuser haproxy on >secret +ping",
            "protected-mode no\nport 0\ntls-port 6380\ntls-auth-clients no",
            "protected-mode no\nport 6379\ntls-port 6380",
        ] {
            assert!(said(open, false).is_some_and(|said| said.contains("open_network=yes")), "{open}");
            assert_eq!(said(open, true), None, "{open}");
        }
        for closed in [
            "",
            "bind * -::*",
            "bind 127.0.0.1 -::1\nprotected-mode no",
            "bind 127.0.0.2 localhost\nprotected-mode no",
            "bind \"\"\nprotected-mode no",
            "protected-mode no\nrequirepass right",
            "protected-mode no\nuser default on >right ~* &* +@all",
            "protected-mode no\nuser default off",
            "protected-mode no\naclfile /etc/redis/users.acl",
            "protected-mode no\nport 0\ntls-port 6380",
        ] {
            assert_eq!(said(closed, false), None, "{closed}");
        }
    }
}
