//! crmsh's wizards: the snippets again, with parameters in the place of what has to be the user's own. Pure, but for the snippets
//! that it reads.
//!
//! `crm-scripts/*/main.yml` is written from this by `make generate`. A wizard loads what `crm configure load update` of its snippets
//! would, as one file: crmsh applies all of it or nothing.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::Snippet;

/// What a parameter takes. crmsh refuses the rest, before anything else is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An IPv4 or IPv6 address.
    Address,
    /// A number.
    Number,
    /// A node of the cluster; that it is one is asked of the cluster.
    Node,
    /// What the name of a resource, a unit or an account can be made of.
    Name,
    /// A path.
    Path,
    /// One of these words.
    Word(&'static [&'static str]),
}

/// A place of a snippet that becomes a parameter. Wizards of several snippets take a parameter of the same name once.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Name on the command line.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What the snippet has there: a value wherever it stands, or `name=value` in a command.
    pub place: &'static str,
    /// Without a default: nobody can know the user's own.
    pub required: bool,
    /// What it is, a line.
    pub description: &'static str,
}

impl Parameter {
    /// What the snippet has: the example, or the default.
    #[must_use]
    pub fn value(&self) -> &'static str {
        self.place.rsplit('=').next().unwrap_or(self.place)
    }

    /// One that the user has to give.
    const fn required(name: &'static str, kind: Kind, place: &'static str, description: &'static str) -> Self {
        Self { name, kind, place, required: true, description }
    }

    /// One that the snippet's value does for.
    const fn optional(name: &'static str, kind: Kind, place: &'static str, description: &'static str) -> Self {
        Self { name, kind, place, required: false, description }
    }

    fn written(&self) -> String {
        let handle = if self.kind == Kind::Path { format!("\"{{{{{}}}}}\"", self.name) } else { format!("{{{{{}}}}}", self.name) };
        self.place.rsplit_once('=').map_or(handle.clone(), |(name, _)| format!("{name}={handle}"))
    }
}

/// A snippet and its parameters.
#[derive(Debug)]
pub struct Part {
    /// File of crm-snippets/.
    pub snippet: &'static str,
    /// In the order in which they are asked for.
    pub parameters: &'static [Parameter],
}

/// A wizard.
#[derive(Debug)]
pub struct Wizard {
    /// What `crm script run` takes.
    pub name: &'static str,
    /// A line.
    pub title: &'static str,
    /// What is to be known before; without one, the head of the snippet says it.
    pub before: &'static str,
    /// In the order of loading.
    pub parts: &'static [&'static Part],
    /// What it changes in the snippets' commands: the text, and what stands in its place.
    pub edits: &'static [(&'static str, &'static str)],
}

const NODE_1: Parameter = Parameter::required("node-1", Kind::Node, "lxc1", "The first node");
const NODE_2: Parameter = Parameter::required("node-2", Kind::Node, "lxc2", "The second node");
const NODE_3: Parameter = Parameter::required("node-3", Kind::Node, "lxc3", "The third node, the spare one");
const PRIVATE_NETMASK: Parameter =
    Parameter::required("private-netmask", Kind::Number, "cidr_netmask=24", "The netmask of the private network");
const CRON: Parameter = Parameter::optional("cron-name", Kind::Name, "site-cron", "The name of the resource");

const BASE: Part = Part {
    snippet: "base.crm",
    parameters: &[
        NODE_1,
        NODE_2,
        NODE_3,
        Parameter::required("bmc-1", Kind::Address, "203.0.113.11", "The address of the power switch (BMC) of the first node"),
        Parameter::required("bmc-2", Kind::Address, "203.0.113.12", "The address of the power switch of the second node"),
        Parameter::required("bmc-3", Kind::Address, "203.0.113.13", "The address of the power switch of the third node"),
        Parameter::required("bmc-user", Kind::Name, "username=fencing", "The account that may switch the power"),
        Parameter::optional(
            "bmc-password-script",
            Kind::Path,
            "password_script=/usr/local/sbin/bmc-password",
            "The program on every node, mode 700, that prints the password of that account",
        ),
    ],
};

const PUBLIC_ADDRESSES: Part = Part {
    snippet: "public-addresses.crm",
    parameters: &[
        NODE_1,
        NODE_2,
        Parameter::required("public-ip-1", Kind::Address, "198.51.100.101", "The public address of the first node"),
        Parameter::required("public-ip-2", Kind::Address, "198.51.100.102", "The public address of the second node"),
        Parameter::required("public-netmask", Kind::Number, "cidr_netmask=24", "The netmask of the public network"),
    ],
};

const REDIS: Part = Part {
    snippet: "redis.crm",
    parameters: &[
        Parameter::required("redis-ip", Kind::Address, "192.0.2.100", "The private address of Redis, which goes where the primary is"),
        PRIVATE_NETMASK,
        Parameter::optional("redis-config", Kind::Path, "config=/etc/redis/site.conf", "The configuration of the servers"),
        Parameter::optional(
            "redis-durability",
            Kind::Word(&["async", "quorum"]),
            "durability=async",
            "Whether a write waits for a majority of the servers",
        ),
    ],
};

const MYSQL: Part = Part {
    snippet: "mysql.crm",
    parameters: &[
        Parameter::required("mysql-ip", Kind::Address, "192.0.2.101", "The private address for writes, which goes where the primary is"),
        Parameter::required("mysql-reader-ip", Kind::Address, "192.0.2.102", "The private address for clients that only read"),
        PRIVATE_NETMASK,
        Parameter::optional("mysql-config", Kind::Path, "config=/etc/mysql/site.cnf", "The option file of the servers"),
        Parameter::optional("mysql-replication-user", Kind::Name, "replication_user=replication", "The account of the replication"),
        Parameter::optional(
            "mysql-replication-password-file",
            Kind::Path,
            "replication_passwd_file=/etc/mysql/replication.password",
            "The file on every node, mode 600, with the password of that account",
        ),
    ],
};

const WEB: Part = Part {
    snippet: "web.crm",
    parameters: &[Parameter::optional("php-service", Kind::Name, "php8.2-fpm", "The unit of PHP, which systemd starts")],
};

const WEB_WITH_DATABASES: Part = Part { snippet: "web-with-databases.crm", parameters: &[] };

const JOBS: Part = Part {
    snippet: "cron.crm",
    parameters: &[CRON, Parameter::optional("cron-source", Kind::Path, "source=/etc/systole/site.cron", "The crontab, on every node")],
};

const JOBS_WITH_DATABASES: Part = Part { snippet: "cron-with-databases.crm", parameters: &[CRON] };

const JOBS_WITH_PUBLIC_ADDRESS: Part = Part { snippet: "cron-with-public-address.crm", parameters: &[CRON] };

/// All of them.
pub const WIZARDS: &[Wizard] = &[
    Wizard { name: "systole-base", title: "Fencing and the defaults of a cluster of three nodes", before: "", parts: &[&BASE], edits: &[] },
    Wizard {
        name: "systole-public-addresses",
        title: "Two public addresses, kept apart",
        before: "",
        parts: &[&PUBLIC_ADDRESSES],
        edits: &[],
    },
    Wizard { name: "systole-redis", title: "Redis with one primary, and its address", before: "", parts: &[&REDIS], edits: &[] },
    Wizard {
        name: "systole-mysql",
        title: "MySQL or MariaDB with one primary, and its addresses",
        before: "",
        parts: &[&MYSQL],
        edits: &[],
    },
    Wizard { name: "systole-cron", title: "Cron jobs on exactly one node", before: "", parts: &[&JOBS], edits: &[] },
    Wizard {
        name: "systole-workshop",
        title: "A whole site on three nodes: fencing, addresses, Redis, MariaDB, web servers, cron jobs",
        before: "All that docs/workshop.md loads into the cluster, in one step: fencing, two public addresses, Redis, MariaDB with rejoin=rewind-or-clone, \
                 Nginx with PHP, and the cron jobs.\n\n\
                 Before, do on every node what that page does there: the packages, the files of Redis and of MariaDB with the accounts, Pacemaker, \
                 the files of the site, its crontab. The key for copies stands in /etc/systole/copy.key on every node (docs/mysql.md). The packages \
                 fence-agents and ipmitool have to be installed on every node.\n\n\
                 Afterwards, create the site's database on the primary. Until then Nginx answers, and the site does not.",
        parts: &[
            &BASE,
            &PUBLIC_ADDRESSES,
            &REDIS,
            &MYSQL,
            &WEB,
            &WEB_WITH_DATABASES,
            &JOBS,
            &JOBS_WITH_PUBLIC_ADDRESS,
            &JOBS_WITH_DATABASES,
        ],
        edits: &[("rejoin=rewind", "rejoin=rewind-or-clone")],
    },
];

impl Wizard {
    /// The wizard of that name.
    #[must_use]
    pub fn of(name: &str) -> &'static Self {
        WIZARDS.iter().find(|wizard| wizard.name == name).unwrap_or_else(|| panic!("there is no wizard {name}"))
    }

    /// What it asks for, each parameter once.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut seen = BTreeSet::new();
        let all = self.parts.iter().flat_map(|part| part.parameters.iter());
        all.filter(|parameter| seen.insert(parameter.name)).copied().collect()
    }

    /// Its snippets, as they are loaded without the wizard.
    #[must_use]
    pub fn snippets(&self) -> Vec<Snippet> {
        self.parts.iter().map(|part| Snippet::of(part.snippet)).collect()
    }

    /// Its main.yml.
    ///
    /// # Errors
    /// When a snippet no longer holds what the declaration makes a parameter of.
    pub fn script(&self) -> Result<String, String> {
        let mut commands = String::new();
        for part in self.parts {
            commands += &part.commands()?;
        }
        for (from, to) in self.edits {
            if !commands.contains(from) {
                return Err(format!(
                    "{}: its snippets do not hold {from:?} any more: correct its edits in tests/snippets/src/wizard.rs",
                    self.name
                ));
            }
            commands = commands.replace(from, to);
        }
        let described =
            if self.before.is_empty() { head_as_description(&Snippet::of(self.parts[0].snippet).text) } else { self.before.into() };
        let mut yml = format!(
            "# Written by `make generate` from {}: change those.\nversion: 2.2\ncategory: Systole\nshortdesc: \"{}\"\nlongdesc: |\n",
            self.parts.iter().map(|part| format!("crm-snippets/{}", part.snippet)).collect::<Vec<_>>().join(", "),
            self.title
        );
        yml += &indented(&described, 2);
        yml += "parameters:\n";
        for parameter in self.parameters() {
            yml += &parameter.declared();
        }
        yml += "actions:\n";
        for (title, check) in self.checks() {
            let _ = write!(yml, "  - shortdesc: \"{title}\"\n    nodes: local\n    call: |\n{}", indented(&check, 6));
        }
        let _ = write!(yml, "  - shortdesc: \"Load the configuration\"\n    cib: |\n{}", indented(commands.trim(), 6));
        Ok(yml)
    }

    /// What has to be true before anything is loaded.
    fn checks(&self) -> Vec<(&'static str, String)> {
        let handles = |kind: Kind| -> Vec<String> {
            self.parameters()
                .iter()
                .filter(|parameter| parameter.kind == kind)
                .map(|parameter| format!("'{{{{{}}}}}'", parameter.name))
                .collect()
        };
        let (nodes, addresses, paths) = (handles(Kind::Node), handles(Kind::Address), handles(Kind::Path));
        let mut checks = Vec::new();
        if self.parts.iter().any(|part| part.snippet == BASE.snippet) {
            // A name with a slip would leave a node without a power switch, and nobody would notice before it is needed.
            checks.push(("Check that each node gets its power switch", EVERY_NODE.replace("NODES", &nodes.join(" "))));
        } else {
            checks.push(("Check that fencing is on", FENCING_IS_ON.to_owned()));
            if !nodes.is_empty() {
                checks.push(("Check the names of the nodes", KNOWN_NODES.replace("NODES", &nodes.join(" "))));
            }
        }
        if !paths.is_empty() {
            checks.push(("Check the paths", PATHS.replace("GIVEN", &paths.join(" "))));
        }
        if addresses.len() > 1 {
            checks.push(("Check that no address is given twice", DIFFERENT_ADDRESSES.replace("ADDRESSES", &addresses.join(" "))));
        }
        let services = self.addresses_of_services();
        if !services.is_empty() {
            let addresses: Vec<String> = services.iter().map(|(address, _)| format!("'{{{{{address}}}}}'")).collect();
            checks.push(("Check that no machine has the addresses", FREE_ADDRESSES.replace("ADDRESSES", &addresses.join(" "))));
            let given: Vec<String> = services.iter().map(|(address, netmask)| format!("'{{{{{address}}}}} {{{{{netmask}}}}}'")).collect();
            checks.push(("Check addresses and netmasks", NETMASKS.replace("GIVEN", &given.join(" "))));
        }
        let resources = self.resources();
        if !resources.is_empty() {
            checks.push(("Check that no other resource is replaced", OWN_RESOURCES.replace("GIVEN", &resources.join(" "))));
        }
        checks
    }

    /// The parameters that are addresses of services, each with that of its netmask. Those of power switches are somebody's already.
    fn addresses_of_services(&self) -> Vec<(&'static str, &'static str)> {
        let of_part = |part: &&'static Part| {
            let netmask = part.parameters.iter().find(|parameter| parameter.place.starts_with("cidr_netmask="));
            let addresses = part.parameters.iter().filter(|parameter| parameter.kind == Kind::Address);
            netmask
                .into_iter()
                .flat_map(move |netmask| addresses.clone().map(move |address| (address.name, netmask.name)))
                .collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of_part).collect()
    }

    /// The resources of our agents that it loads: `'ID TYPE'`, with the parameter where the name is one.
    fn resources(&self) -> Vec<String> {
        let commands = self.parts.iter().filter_map(|part| part.commands().ok()).collect::<String>();
        let primitive = |line: &str| {
            let (id, agent) = line.strip_prefix("primitive ")?.split_once(' ')?;
            Some(format!("'{id} {}'", agent.trim().strip_prefix("ocf:systole:")?))
        };
        commands.lines().filter_map(primitive).collect()
    }
}

const EVERY_NODE: &str = r#"given=$(printf '%s\n' NODES | sort | xargs)
there=$(cibadmin --query --scope nodes | sed -n 's/.* uname="\([^"]*\)".*/\1/p' | sort | xargs)
if [ "$given" != "$there" ]; then
  echo "nothing was changed: the nodes of this cluster are $there, and given were $given. Each one needs its power switch" >&2
  exit 1
fi"#;

const KNOWN_NODES: &str = r#"there=$(cibadmin --query --scope nodes | sed -n 's/.* uname="\([^"]*\)".*/\1/p' | sort | xargs)
for node in NODES; do
  case " $there " in
  *" $node "*) ;;
  *)
    echo "nothing was changed: $node is no node of this cluster; its nodes are $there" >&2
    exit 1 ;;
  esac
done
if [ -n "$(printf '%s\n' NODES | sort | uniq -d)" ]; then
  echo "nothing was changed: one node is given twice" >&2
  exit 1
fi"#;

const PATHS: &str = r#"for path in GIVEN; do
  case $path in
  /*)
    if [ ! -f "$path" ]; then
      echo "nothing was changed: there is no file $path on this node, and every node needs it" >&2
      exit 1
    fi ;;
  *)
    echo "nothing was changed: '$path' is no path; it has to begin with /" >&2
    exit 1 ;;
  esac
done"#;

/// An address that a machine has for itself would be taken away from it by the first move. One that the cluster has already is its own.
const FREE_ADDRESSES: &str = r#"for address in ADDRESSES; do
  if cibadmin --query --xpath "//resources//nvpair[@name='ip'][@value='$address']" > /dev/null 2>&1; then
    continue
  fi
  if ip -oneline address show to "$address" 2> /dev/null | grep -q . || ping -c 1 -W 1 "$address" > /dev/null 2>&1; then
    echo "nothing was changed: $address is in use; a service needs an address that no machine has" >&2
    exit 1
  fi
done"#;

/// By the agent, which changes nothing then. What is wrong with this node alone (5) is no reason.
const NETMASKS: &str = r#"for given in GIVEN; do
  status=0
  said=$(OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=wizard OCF_RESKEY_ip="${given% *}" OCF_RESKEY_cidr_netmask="${given#* }" \
    /usr/lib/ocf/resource.d/systole/address validate-all 2>&1) || status=$?
  if [ "$status" = 6 ]; then
    echo "nothing was changed: $said" >&2
    exit 1
  fi
done"#;

/// crmsh replaces what has the same name, whatever it is.
const OWN_RESOURCES: &str = r#"for given in GIVEN; do
  id=${given% *} type=${given#* }
  if cibadmin --query --xpath "//resources//*[@id='$id'][not(@provider='systole') or not(@type='$type')]" > /dev/null 2>&1; then
    echo "nothing was changed: this cluster has another resource $id already; docs/install.md says how to move over" >&2
    exit 1
  fi
done"#;

const DIFFERENT_ADDRESSES: &str = r#"twice=$(printf '%s\n' ADDRESSES | sort | uniq -d | xargs)
if [ -n "$twice" ]; then
  echo "nothing was changed: $twice is given twice, and each address has one purpose" >&2
  exit 1
fi"#;

/// crmsh refuses fencing without a device, but crmsh 5 does not say why when a wizard loads.
const FENCING_IS_ON: &str = r#"case $(crm_attribute --type crm_config --name stonith-enabled --query --quiet --default true) in
true|yes|on|y|1) ;;
*)
  echo "nothing was changed: fencing is off, and without it there can be two primaries. Run systole-base before" >&2
  exit 1 ;;
esac
if ! cibadmin --query --xpath "//primitive[@class='stonith']" > /dev/null 2>&1 &&
   ! crm_attribute --type crm_config --name stonith-watchdog-timeout --query --quiet > /dev/null 2>&1; then
  echo "nothing was changed: there is no fence device, and without one there can be two primaries. Run systole-base before" >&2
  exit 1
fi"#;

impl Part {
    /// The snippet after its head, with the parameters in it.
    fn commands(&self) -> Result<String, String> {
        let text = Snippet::of(self.snippet).text;
        let (_, body) = head_and_body(&text);
        let mut body: String = body.lines().map(|line| line.strip_suffix(" \\").unwrap_or(line).to_owned() + "\n").collect();
        for parameter in self.parameters {
            let in_comments = !parameter.place.contains('=');
            let mut found = false;
            let replaced = body.lines().map(|line| {
                let comment = line.starts_with('#');
                if comment && !in_comments {
                    return line.to_owned() + "\n";
                }
                let new = replace_word(line, parameter.place, &parameter.written());
                found |= !comment && new != line;
                new + "\n"
            });
            body = replaced.collect();
            if !found {
                return Err(format!(
                    "no command of crm-snippets/{} holds {:?} any more: correct the parameter {} in tests/snippets/src/wizard.rs",
                    self.snippet, parameter.place, parameter.name
                ));
            }
        }
        Ok(body)
    }
}

impl Parameter {
    fn declared(&self) -> String {
        let kind = match self.kind {
            Kind::Address => "ip_address",
            Kind::Number => "integer",
            // crmsh has no type for nodes, whatever its source says.
            Kind::Node | Kind::Name => "resource",
            Kind::Path => "string",
            Kind::Word(_) => "enum",
        };
        let mut yml = format!("  - name: {}\n    type: {kind}\n", self.name);
        if let Kind::Word(words) = self.kind {
            let _ = writeln!(yml, "    values: [{}]", words.join(", "));
        }
        // `crm script show` tells the default, and no example.
        if self.required {
            let _ = writeln!(
                yml,
                "    required: true\n    example: \"{0}\"\n    shortdesc: \"{1}, such as {0}\"",
                self.value(),
                self.description
            );
        } else {
            let _ = writeln!(yml, "    value: \"{}\"\n    shortdesc: \"{}\"", self.value(), self.description);
        }
        yml
    }
}

/// The comment that a snippet begins with, and the rest.
fn head_and_body(text: &str) -> (&str, &str) {
    text.split_once("\n\n").unwrap_or((text, ""))
}

/// What the head of a snippet says, as paragraphs: without how to load it, and what to change in it.
fn head_as_description(text: &str) -> String {
    let lines = head_and_body(text).0.lines().map(|line| line.trim_start_matches('#').trim());
    let paragraphs = lines.collect::<Vec<_>>().join("\n");
    let kept = paragraphs.split("\n\n").filter(|p| !p.starts_with("crm configure load") && !p.starts_with("Change before:"));
    let description = kept.collect::<Vec<_>>().join("\n\n").replace(" beside this file", " in /usr/share/systole/crm-snippets");
    WIZARDS
        .iter()
        .filter(|wizard| wizard.parts.len() == 1)
        .fold(description, |text, wizard| text.replace(wizard.parts[0].snippet, wizard.name))
}

fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{:by$}{line}\n", "") }).collect()
}

/// Replaces what is no part of a longer word: 192.0.2.10 is not in 192.0.2.101.
fn replace_word(line: &str, word: &str, by: &str) -> String {
    let belongs = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
    let mut replaced = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let part_of_longer = belongs(before.chars().next_back().or(replaced.chars().next_back())) || belongs(after.chars().next());
        replaced += before;
        replaced += if part_of_longer { word } else { by };
        rest = after;
    }
    replaced + rest
}
