//! What a node knows of itself, for `systole doctor`. Each question has a limit, and all are asked at once. No secret leaves the node: of a
//! password it says a piece of a digest that is worth nothing after this run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use process::Space;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::ask::{self, LIMIT};
use crate::cib::Cib;
use crate::picture::Kind;

/// What the validation of one database may take.
const VALIDATING: Duration = Duration::from_secs(6);
/// What systemd starts at boot, or must not.
const UNITS: [&str; 8] = ["corosync", "pacemaker", "mariadb", "mysql", "redis-server", "redis", "valkey-server", "valkey"];
/// Where somebody may listen already when a cluster is made.
pub const PORTS: [u16; 2] = [3306, 6379];
/// What fills up beside the data.
const DIRECTORIES: [&str; 3] = ["/", "/var/lib/pacemaker", "/var/log"];
/// Where Pacemaker keeps the CIB.
pub(super) const KEPT_CIB: &str = "/var/lib/pacemaker/cib/cib.xml";
/// Programs and how they say their version.
const PROGRAMS: [(&str, &str, &str); 2] = [("pacemaker", "pacemakerd", "--version"), ("corosync", "corosync", "-v")];

/// What a node knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Its clock when it was asked, in milliseconds of Unix time.
    pub begun: u64,
    /// Its clock when it answered.
    pub ended: u64,
    /// Its host name.
    pub host: String,
    /// Whether it sees a cluster.
    pub clustered: bool,
    /// Whether it has been in one: a CIB is kept here.
    pub member: bool,
    /// What is installed: `systole`, `pacemaker`, `corosync`, and by database its server.
    pub versions: BTreeMap<String, String>,
    /// Units of systemd, and whether they are started at boot, in systemd's word.
    pub units: BTreeMap<String, String>,
    /// What the nodes' names lead to. Nothing where one does not resolve.
    pub addresses: BTreeMap<String, Vec<String>>,
    /// What is left on file systems, by path.
    pub disks: BTreeMap<String, Space>,
    /// Passwords that have to be the same everywhere: by database and name, a piece of a digest.
    pub digests: BTreeMap<String, String>,
    /// What `validate-all` says, by database.
    pub complaints: BTreeMap<String, Vec<String>>,
    /// Whether the watchers run, by database.
    pub watchers: BTreeMap<String, bool>,
    /// Corosync's token timeout in milliseconds.
    pub token: Option<u64>,
    /// Ports of [`PORTS`] on which somebody listens.
    pub listening: Vec<u16>,
    /// What could not be seen here, and why: by the name of the check.
    pub unseen: BTreeMap<String, String>,
}

/// Asks this node. `nodes`: whose names have to resolve here. `salt`: of this run.
pub(crate) fn gather(nodes: &[String], salt: &str) -> Facts {
    let begun = now();
    let cib = ask::tool("cibadmin", &["--query"]).ok().and_then(|text| Cib::parse(&text).ok());
    let databases = cib.as_ref().map(databases).unwrap_or_default();
    let mut facts = std::thread::scope(|scope| {
        let validated: Vec<_> = databases.iter().map(|(name, ..)| (name, scope.spawn(|| validate(name)))).collect();
        let addresses = scope.spawn(|| addresses(nodes));
        let units = scope.spawn(units);
        let versions = scope.spawn(versions);
        let token = scope.spawn(token);
        let watched = cib.as_ref().map(watched);
        let token = token.join().unwrap_or_default();
        let units = units.join().unwrap_or_else(|_| Err("systemctl could not be asked".to_owned()));
        Facts {
            listening: PORTS.into_iter().filter(|port| listens(*port)).collect(),
            unseen: unseen(watched.as_ref(), cib.is_some(), token, &units),
            watchers: watched.and_then(Result::ok).map(|watched| watched.runs).unwrap_or_default(),
            token,
            versions: versions.join().unwrap_or_default(),
            units: units.unwrap_or_default(),
            addresses: addresses.join().unwrap_or_default(),
            complaints: validated.into_iter().map(|(name, thread)| (name.clone(), thread.join().unwrap_or_default())).collect(),
            ..Facts::default()
        }
    });
    facts.begun = begun;
    facts.clustered = cib.is_some();
    facts.member = process::own::is_file(Path::new(KEPT_CIB));
    facts.host = process::own::text(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned();
    for directory in DIRECTORIES {
        facts.disks.extend(process::own::space(Path::new(directory)).ok().map(|space| (directory.to_owned(), space)));
    }
    for (name, kind, parameters) in &databases {
        match cib.as_ref().map(|cib| cib.decided(name)) {
            Some(Err(why)) => facts.unseen.extend(["passwords", "disk"].map(|check| (check.to_owned(), why.clone()))),
            _ => facts.add_local(name, *kind, parameters, salt),
        }
    }
    facts.ended = now();
    facts
}

impl Facts {
    /// What this node has of its own for a server.
    fn add_local(&mut self, name: &str, kind: Kind, parameters: &BTreeMap<String, String>, salt: &str) {
        // What is wrong with the parameters is said by the validation.
        let Ok(local) = kind.operator().local(name, parameters) else { return };
        let program = local.program.display().to_string();
        self.versions.extend(first_line(&program, "--version").map(|version| (format!("server of {name}"), version)));
        self.disks.extend(local.data.map(|(path, space)| (path.display().to_string(), space)));
        for (secret, value) in &local.secrets {
            self.digests.insert(format!("{name} {secret}"), digest(salt, &format!("{name} {secret}"), value.expose()));
        }
    }
}

/// Enough of a digest to see a difference, and too little to find the password by: of all that somebody may try, one in four billions fits,
/// and it is another one with the next salt.
fn digest(salt: &str, name: &str, secret: &str) -> String {
    let mut hash = Sha256::new();
    for part in [salt, name, secret] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(4).fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or_default())
}

/// The databases that are configured, with their parameters.
fn databases(cib: &Cib) -> Vec<(String, Kind, BTreeMap<String, String>)> {
    let all = cib
        .primitives
        .iter()
        .filter_map(|(name, primitive)| Some((name.clone(), Kind::of(&primitive.agent)?, primitive.parameters.clone())));
    all.collect()
}

/// The watchers of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Watched {
    /// Whether they run, by database.
    runs: BTreeMap<String, bool>,
    /// The databases whose server runs, and of whose watcher there is no note.
    unnoted: Vec<String>,
}

fn watched(cib: &Cib) -> Result<Watched, String> {
    let node = ask::this_node(cib).ok_or("which node this is in the cluster is not known")?;
    let runs: BTreeMap<String, bool> = ask::watched(cib).into_iter().map(|(name, (_, runs))| (name, runs)).collect();
    let unnoted =
        databases(cib).into_iter().map(|(name, ..)| name).filter(|name| !runs.contains_key(name) && cib.runs(name, &node)).collect();
    Ok(Watched { runs, unnoted })
}

/// What could not be seen, and why.
fn unseen(
    watched: Option<&Result<Watched, String>>,
    clustered: bool,
    token: Option<u64>,
    units: &Result<BTreeMap<String, String>, String>,
) -> BTreeMap<String, String> {
    let watcher = match watched {
        Some(Err(why)) => Some(why.clone()),
        Some(Ok(Watched { unnoted, .. })) if !unnoted.is_empty() => {
            Some(format!("{} runs, and nothing is noted of its watcher", unnoted.join(" and ")))
        }
        _ => None,
    };
    let corosync = (clustered && token.is_none()).then(|| "corosync-cmapctl does not say the token timeout".to_owned());
    let all = [("watcher", watcher), ("corosync", corosync), ("boot", units.as_ref().err().cloned())];
    all.into_iter().filter_map(|(check, why)| Some((check.to_owned(), why?))).collect()
}

/// What the agent itself says of its configuration here. Pacemaker calls it, with the parameters of the CIB: so no secret passes through us. Of
/// what is wrong Pacemaker shows the last; the agent's log has all.
fn validate(name: &str) -> Vec<String> {
    let tool = ask::path_of("crm_resource");
    let arguments = ["PCMK_logfile=/proc/self/fd/2", &tool, "--validate=10", "--resource", name];
    match process::run("env", &arguments, VALIDATING) {
        Err(why) => vec![format!("validate-all cannot be asked: {why}")],
        Ok(done) => {
            let said = complaints(name, &format!("{}\n{}", done.stdout, done.stderr));
            match (said.is_empty(), done.status.success()) {
                (true, false) => {
                    let first = done.stderr.lines().chain(done.stdout.lines()).find(|line| !line.trim().is_empty());
                    vec![format!("validate-all cannot be asked: {}", first.unwrap_or("crm_resource says nothing").trim())]
                }
                _ => said,
            }
        }
    }
}

/// The agent's warnings and errors among what Pacemaker shows of it: `TIME AGENT(NAME)[PID]: WARNING: TEXT`.
fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for line in text.lines() {
        let Some((_, rest)) = line.split_once(&format!("({name})[")) else { continue };
        let Some((_, said)) = rest.split_once("]: ") else { continue };
        let error = said.strip_prefix("ERROR: ").map(|said| said.strip_prefix("validate-all: ").unwrap_or(said));
        if let Some(said) = error.or_else(|| said.strip_prefix("WARNING: ")) {
            if !all.iter().any(|known| known == said) {
                all.push(said.to_owned());
            }
        }
    }
    all
}

fn versions() -> BTreeMap<String, String> {
    let package = process::run("dpkg-query", &["--show", "--showformat=${Version}", "systole"], LIMIT).ok();
    let package =
        package.filter(|done| done.status.success()).map(|done| done.stdout.trim().to_owned()).filter(|version| !version.is_empty());
    let systole = package.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned());
    let programs = PROGRAMS.iter().filter_map(|(name, program, option)| Some(((*name).to_owned(), first_line(program, option)?)));
    programs.chain([("systole".to_owned(), systole)]).collect()
}

fn first_line(program: &str, option: &str) -> Option<String> {
    let done = process::run(&ask::path_of(program), &[option], LIMIT).ok().filter(|done| done.status.success())?;
    done.stdout.lines().next().map(|line| line.trim().to_owned())
}

fn units() -> Result<BTreeMap<String, String>, String> {
    let named: Vec<String> = UNITS.iter().map(|unit| format!("{unit}.service")).collect();
    let arguments = ["list-unit-files", "--no-legend", "--plain"].into_iter().chain(named.iter().map(String::as_str)).collect::<Vec<_>>();
    let done = process::run("systemctl", &arguments, LIMIT).map_err(|e| e.to_string())?;
    // Some say so by their status when there is none of these units.
    if !done.status.success() && !done.stderr.trim().is_empty() {
        return Err(format!("systemctl failed: {}", done.stderr.lines().next().unwrap_or_default().trim()));
    }
    let mut all = BTreeMap::new();
    for line in done.stdout.lines() {
        if let [unit, state, ..] = line.split_whitespace().collect::<Vec<_>>()[..] {
            all.insert(unit.trim_end_matches(".service").to_owned(), state.to_owned());
        }
    }
    Ok(all)
}

/// What names lead to, by the tool that asks as every program does: a resolver that hangs ends with it.
fn addresses(nodes: &[String]) -> BTreeMap<String, Vec<String>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes.iter().map(|node| (node, scope.spawn(|| resolve(node)))).collect();
        asked.into_iter().map(|(node, thread)| (node.clone(), thread.join().unwrap_or_default())).collect()
    })
}

fn resolve(node: &str) -> Vec<String> {
    let said = process::run("getent", &["ahosts", "--", node], LIMIT).map(|done| done.stdout).unwrap_or_default();
    let mut all: Vec<String> = said.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn token() -> Option<u64> {
    let said = ask::tool("corosync-cmapctl", &["-g", "runtime.config.totem.token"]).ok()?;
    said.rsplit('=').next()?.trim().parse().ok()
}

fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Duration::from_millis(200)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_passwords_apart_and_is_worth_nothing_with_another_salt() {
        let of = |salt: &str, name: &str, secret: &str| digest(salt, name, secret);
        assert_eq!(of("s", "mysql a", "x"), of("s", "mysql a", "x"));
        assert_ne!(of("s", "mysql a", "x"), of("s", "mysql a", "y"));
        assert_ne!(of("s", "mysql a", "x"), of("t", "mysql a", "x"));
        assert_ne!(of("s", "mysql a", "x"), of("s", "mysql b", "x"), "two passwords of a node are not compared by it");
        assert_eq!(of("s", "n", "x").len(), 8);
    }

    #[test]
    fn of_what_crm_resource_shows_the_agents_own_words_are_taken_once() {
        let said = "Operation validate for mysql (ocf:systole:mysql) returned 5 (not installed: b)\n    0.546 ERROR validate-all: b\n\
                    2026-11-30T00:28:27Z mysql(mysql)[10]: WARNING: a: write `x=1`\n2026-11-30T00:28:27Z mysql(mysql)[10]: NOTICE: n\n\
                    2026-11-30T00:28:27Z mysql(mysql)[10]: ERROR: validate-all: b\nocf-exit-reason:b\n\
                    2026-11-30T00:28:27Z mysql(mysql)[10]: ERROR: validate-all: b\n";
        assert_eq!(complaints("mysql", said), ["a: write `x=1`", "b"]);
        assert!(complaints("redis", said).is_empty());
    }

    #[test]
    fn what_a_node_does_not_see_is_told_by_the_check_that_would_look_at_it() {
        let checks = |watched: Option<Result<Watched, String>>, clustered, token, units: Result<BTreeMap<String, String>, String>| {
            unseen(watched.as_ref(), clustered, token, &units).into_keys().collect::<Vec<_>>().join(" ")
        };
        let units = || Ok(BTreeMap::new());
        assert_eq!(checks(Some(Ok(Watched::default())), true, Some(3000), units()), "");
        assert_eq!(checks(None, false, None, units()), "", "without a cluster there is none of it");
        let unnoted = Watched { unnoted: vec!["mysql".into()], ..Watched::default() };
        assert_eq!(checks(Some(Ok(unnoted)), true, Some(3000), units()), "watcher");
        assert_eq!(checks(Some(Err("x".into())), true, None, Err("x".into())), "boot corosync watcher");
    }

    #[test]
    fn facts_survive_the_way_and_unknown_ones_do_no_harm() {
        let facts = Facts { host: "a".into(), disks: BTreeMap::from([("/".to_owned(), Space::default())]), ..Facts::default() };
        assert_eq!(serde_json::from_str::<Facts>(&serde_json::to_string(&facts).unwrap()).unwrap(), facts);
        assert_eq!(serde_json::from_str::<Facts>(r#"{"host":"a","news":1}"#).unwrap().host, "a");
    }
}
