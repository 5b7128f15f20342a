//! One sandbox run: snippets loaded one after the other into an offline CIB, then simulated step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Outcome;

/// The images hold no fence agents; this is what fence_ipmilan of fence-agents 4.12.1 says about itself.
const FENCE_IPMILAN: &str = include_str!("../files/fence_ipmilan.xml");
/// It reads its input to the end as the real ones do: Pacemaker takes it for broken when it is gone before.
const FENCE_AGENT: &str = "#!/bin/sh\ncat > /dev/null\nexec cat /srv/fence_ipmilan.xml\n";
/// Pacemaker asks systemd which units there are, and it does not run in the sandbox. This is what Pacemaker says on a node about each unit
/// (3.0.0; 2.1.5 writes the same without the unit of time).
const SYSTEMD_UNIT: &str = include_str!("../files/systemd.xml");
/// Units of packages that not every image has. Any name that is neither here nor installed stays unknown, as on a node. Of a template
/// systemd lists what stands before its instance's name.
const UNITS: [&str; 3] = ["php8.2-fpm", "proxysql", "syncthing@"];
/// The images have no DRBD; this is what the agent of Debian 12's drbd-utils 9.22.0 says about itself.
const DRBD: &str = include_str!("../files/drbd.xml");
const DRBD_AGENT: &str = "#!/bin/sh\n[ \"$1\" = meta-data ] && exec cat /srv/drbd.xml\nexit 3\n";
/// Stands in the place of Pacemaker's own (pcs does not look at the PATH), answers for the units, and hands everything else to the
/// tool itself.
const CRM_RESOURCE: &str = r#"#!/bin/sh
case "$*" in
"--list-agents systemd") ls /srv/units; cd /lib/systemd/system && ls -- *.service | sed 's/[.]service$//' ;;
"--show-metadata systemd:"*)
    unit=${2#systemd:}
    file=$unit
    case $unit in *@*) file=${unit%%@*}@ ;; esac
    if [ -e "/srv/units/$file" ] || [ -e "/lib/systemd/system/$file.service" ]; then
        exec sed "s/@UNIT@/$unit/g" /srv/systemd.xml
    fi ;;
esac
exec /usr/sbin/crm_resource.pacemaker "$@"
"#;
/// Stands before crmsh on the PATH: a wizard loads with `--wait`, and there is no cluster that could come to rest.
const CRM: &str = "#!/bin/sh\n[ \"$1\" = --wait ] && shift\nexec /usr/sbin/crm \"$@\"\n";
/// ProxySQL's admin interface: its tables, and what runs statements against them.
const ADMIN_TABLES: &str = include_str!("../files/proxysql-admin.sql");
const ADMIN: &str = include_str!("../files/proxysql-admin.py");
/// Begins each part of the output. No tool prints it.
const MARK: &str = "@@@ ";

/// A configuration file, by name.
#[derive(Clone, Debug)]
pub struct Snippet {
    /// File name.
    pub name: String,
    /// What stands in it.
    pub text: String,
}

impl Snippet {
    /// A file of crm-snippets/.
    pub fn of(name: &str) -> Self {
        let path = Self::directory().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { name: name.to_owned(), text }
    }

    /// All files of crm-snippets/.
    pub fn all() -> Vec<Self> {
        let mut names: Vec<String> = fs::read_dir(Self::directory())
            .expect("crm-snippets/ can be listed")
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".crm"))
            .collect();
        names.sort();
        assert!(names.len() >= 5, "crm-snippets/ holds hardly anything: {names:?}");
        names.iter().map(|name| Self::of(name)).collect()
    }

    /// The file with one place changed; the place must be there.
    pub fn mutated(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{} does not hold {from:?}: correct the test", self.name);
        self.text = self.text.replace(from, to);
        self
    }

    /// The agents that it names, as `ocf:heartbeat:IPaddr2` or `stonith:fence_ipmilan`.
    /// The snippets that have to be loaded before, in order: it says so at its top.
    pub fn needs(&self) -> Vec<String> {
        let top: String = self.text.lines().take_while(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#')).collect();
        let named = top.split("Needs:").nth(1).unwrap_or_default();
        let files = named.split_whitespace().map(|word| word.trim_end_matches([',', ';', '.', ':']));
        files.take_while(|word| word.ends_with(".crm")).map(str::to_owned).collect()
    }

    fn agents(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.lines().filter(|l| l.starts_with("primitive "));
        lines.filter_map(|l| l.split_whitespace().nth(2)).filter(|a| a.contains(':'))
    }

    /// The text of a file of crm-snippets/server/.
    pub fn server_file(name: &str) -> String {
        Self::of(&format!("server/{name}")).text
    }

    fn directory() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crm-snippets")
    }
}

/// What happens before the scheduler is asked again.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Promotion scores, as the agents publish them: resource, node, score.
    pub scores: Vec<(&'static str, &'static str, i32)>,
    /// Attributes of nodes that last until the node leaves, as the agents publish them: name, node, value.
    pub attributes: Vec<(&'static str, &'static str, &'static str)>,
    /// Nodes that die; they are fenced when fencing is on.
    pub dead: Vec<&'static str>,
    /// Nodes that come (back).
    pub up: Vec<&'static str>,
    /// Nodes that are taken out, as with `crm node standby`.
    pub standby: Vec<&'static str>,
    /// Resources that are moved, as with `crm resource move`: resource, node.
    pub moved: Vec<(&'static str, &'static str)>,
    /// Tickets that this cluster gets.
    pub granted: Vec<&'static str>,
    /// Tickets that it loses.
    pub revoked: Vec<&'static str>,
    /// Whether the partition has lost its quorum.
    pub no_quorum: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Rehearsal {
    /// Exit status of `crm configure load update`, file by file.
    pub loaded: Vec<i32>,
    /// What crmsh and crm_verify said.
    pub said: String,
    /// Exit status of `crm_verify`.
    pub verified: i32,
    /// Whether loading all files a second time left the configuration as it was.
    pub stable: bool,
    /// The configuration that came out.
    pub cib: String,
    /// Meta-data of each agent.
    pub metadata: BTreeMap<String, String>,
    /// What the scheduler did, step by step.
    pub steps: Vec<Outcome>,
}

/// What became of a command.
#[derive(Debug)]
pub struct Done {
    /// Its exit status.
    pub status: i32,
    /// Both its outputs, without colours.
    pub said: String,
    /// The configuration afterwards.
    pub configuration: String,
}

/// The nodes of the snippets.
const NODES: [&str; 3] = ["lxc1", "lxc2", "lxc3"];

/// One image with the agents in it.
#[derive(Debug)]
pub struct Bed {
    lab: PathBuf,
    package: PathBuf,
    image: &'static str,
}

impl Bed {
    /// The images: crmsh 4.4 with Pacemaker 2.1, crmsh 5 with Pacemaker 3.
    pub const IMAGES: [&'static str; 2] = ["debian12", "debian13"];

    /// A bed for an image.
    pub fn new(image: &'static str) -> Self {
        let from = |name: &str, what: &str| {
            let value = std::env::var_os(name).filter(|v| !v.is_empty());
            PathBuf::from(value.unwrap_or_else(|| panic!("{name} is not set: it names {what}; `make snippets` sets it")))
        };
        let bed = Self {
            lab: from("SYSTOLE_LAB_BIN", "the program systole-lab"),
            package: from("SYSTOLE_PACKAGE", "systole's Debian package"),
            image,
        };
        assert!(bed.package.is_file(), "{} is not there: make stage", bed.package.display());
        let found = Command::new(&bed.lab).args(["image", "path", image]).output();
        let found = found.unwrap_or_else(|e| panic!("{}: {e}: cargo build -p lab", bed.lab.display()));
        let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        assert!(
            found.status.success() && Path::new(&path).is_dir(),
            "the image {image} is missing; make it with: {} image build {image}",
            bed.lab.display()
        );
        bed
    }

    /// Runs statements for ProxySQL's admin interface against tables such as it has. Returns what is wrong with them, in lines
    /// that begin with `wrong:`, and the rows of a question, blanks between the columns.
    pub fn administer(&self, statements: &str, question: &str) -> Vec<String> {
        let output = Command::new(&self.lab)
            .args(["sandbox", "--image", self.image, "--", "python3", "-c", ADMIN, ADMIN_TABLES, statements, question])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text.lines().map(str::to_owned).collect()
    }

    /// Whether a program of the image takes a text as its file /srv/file, and what it said.
    pub fn reads(&self, text: &str, command: &str) -> (bool, String) {
        let write = format!("exec 2>&1; cat > /srv/file; {command}");
        let mut child = Command::new(&self.lab)
            .args(["sandbox", "--image", self.image, "--", "sh", "-c", &write])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Loads the files in this order into a cluster of three nodes that are up, and plays the steps.
    pub fn rehearse(&self, snippets: &[Snippet], steps: &[Step]) -> Rehearsal {
        self.rehearse_on(&NODES, snippets, steps)
    }

    /// The same in a cluster of these nodes.
    pub fn rehearse_on(&self, nodes: &[&str], snippets: &[Snippet], steps: &[Step]) -> Rehearsal {
        Rehearsal::read(&self.run(snippets, &script(nodes, snippets, steps)))
    }

    /// Runs commands one after the other in a cluster of these nodes without resources, files of crm-snippets/ at hand in /srv.
    pub fn perform(&self, nodes: &[&str], snippets: &[Snippet], commands: &[String]) -> Vec<Done> {
        let mut s = cluster_of(nodes);
        for (number, command) in commands.iter().enumerate() {
            let _ = writeln!(s, "cat > command{number} <<'END_OF_COMMAND'\n{}\nEND_OF_COMMAND", command.trim_end());
            let _ = writeln!(s, "echo '@@@ said'; sh -e command{number} 2>&1 < /dev/null; echo \"@@@ status $?\"");
            s.push_str("echo '@@@ configuration'; cibadmin -Q -o configuration || fail 'no configuration'\n");
        }
        Done::read(&self.run(snippets, &s))
    }

    /// What a script says that runs in the sandbox, beside the agents and these files.
    fn run(&self, snippets: &[Snippet], script: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let layer = std::env::temp_dir().join(format!("systole-snippets-{}-{number}", std::process::id()));
        let write = |path: &str, text: &str, mode: u32| {
            let path = layer.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for snippet in snippets {
            write(&format!("srv/{}", snippet.name), &snippet.text, 0o644);
        }
        write("srv/fence_ipmilan.xml", FENCE_IPMILAN, 0o644);
        write("usr/sbin/fence_ipmilan", FENCE_AGENT, 0o755);
        write("srv/drbd.xml", DRBD, 0o644);
        write("usr/lib/ocf/resource.d/linbit/drbd", DRBD_AGENT, 0o755);
        for unit in UNITS {
            write(&format!("srv/units/{unit}"), "", 0o644);
        }
        write("srv/systemd.xml", SYSTEMD_UNIT, 0o644);
        write("srv/crm_resource", CRM_RESOURCE, 0o755);
        write("srv/bin/crm", CRM, 0o755);
        write("srv/rehearse.sh", script, 0o644);
        let output = Command::new(&self.lab)
            .args(["sandbox", "--image", self.image, "--chdir", "/srv", "--package"])
            .arg(&self.package)
            .arg("--layer")
            .arg(&layer)
            .args(["--", "sh", "/srv/rehearse.sh"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        fs::remove_dir_all(&layer).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let complaint = || format!("{} in {}: {text}\n{}", output.status, self.image, String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "the rehearsal did not run to its end: {}", complaint());
        text.into_owned()
    }
}

/// Begins a script in the sandbox: a configuration without resources, and nodes that are up.
fn cluster_of(nodes: &[&str]) -> String {
    let known: String = (1..).zip(nodes).map(|(id, name)| format!(r#"<node id="{id}" uname="{name}"/>"#)).collect();
    let up: String = nodes.iter().map(|name| format!(" -u {name}")).collect();
    let mut s = format!("known='{known}' up='{up}'\n");
    s.push_str(
        r#"set -u
export CIB_file=/srv/cib.xml HOME=/root PATH="/srv/bin:$PATH"
fail() { echo "rehearse: $1" >&2; exit 1; }
mv /usr/sbin/crm_resource /usr/sbin/crm_resource.pacemaker && cp crm_resource /usr/sbin/ || fail 'no crm_resource'
cibadmin --empty | sed "s|<nodes/>|<nodes>$known</nodes>|" > cib.xml
crm_simulate -x cib.xml $up -q true -S -O up.xml > /dev/null || fail 'no nodes'
mv up.xml cib.xml
"#,
    );
    s
}

/// What runs in the sandbox. `crm_simulate` stands for the cluster: it carries out what the scheduler wants and writes
/// the CIB that results, which is the next step's beginning.
fn script(nodes: &[&str], snippets: &[Snippet], steps: &[Step]) -> String {
    let mut s = cluster_of(nodes);
    s.push_str(
        r#"load() { crm configure load update "/srv/$1" 2>&1 < /dev/null; echo "@@@ loaded $?"; }
"#,
    );
    for snippet in snippets {
        let _ = writeln!(s, "load {}", snippet.name);
    }
    s.push_str("crm_verify -x cib.xml -V 2>&1; echo \"@@@ verified $?\"\n");
    s.push_str("cibadmin -Q -o configuration > once.xml || fail 'no configuration'\n");
    for snippet in snippets {
        let _ = writeln!(s, "crm configure load update /srv/{} > /dev/null 2>&1 < /dev/null", snippet.name);
    }
    s.push_str("cibadmin -Q -o configuration > twice.xml || fail 'no configuration'\n");
    s.push_str("cmp -s once.xml twice.xml; echo \"@@@ stable $?\"\necho '@@@ cib'; cat once.xml\n");
    let agents: BTreeSet<&str> = snippets.iter().flat_map(Snippet::agents).collect();
    for agent in agents {
        let _ = writeln!(s, "echo '@@@ metadata {agent}'; crm_resource --show-metadata {agent} || fail '{agent} has no meta-data'");
    }
    for step in steps {
        for (resource, node, score) in &step.scores {
            let _ = writeln!(s, "crm_attribute --promotion {resource} --lifetime reboot --node {node} --update={score} || fail 'no score'");
        }
        for (name, node, value) in &step.attributes {
            let _ = writeln!(s, "crm_attribute --name {name} --lifetime reboot --node {node} --update={value} || fail 'no attribute'");
        }
        for node in &step.standby {
            let _ = writeln!(s, "crm_attribute --name standby --node {node} --update=on || fail 'no standby'");
        }
        for (resource, node) in &step.moved {
            let _ = writeln!(s, "crm_resource --move --resource {resource} --node {node} > /dev/null 2>&1 || fail 'no move'");
        }
        // Written into the CIB: crm_simulate passes over --quorum when nothing else is injected.
        let _ = writeln!(s, "sed -i '1s/have-quorum=\"[a-z0-9]*\"/have-quorum=\"{}\"/' cib.xml", !step.no_quorum);
        // In a call of its own: crm_simulate of Pacemaker 3.0.0 ends after the injection when it writes XML.
        let dead = step.dead.iter().map(|node| format!(" --node-fail {node}"));
        let injected = dead.chain(step.up.iter().map(|node| format!(" --node-up {node}")));
        let injected = injected.chain(step.granted.iter().map(|ticket| format!(" --ticket-grant {ticket}")));
        let injected: String = injected.chain(step.revoked.iter().map(|ticket| format!(" --ticket-revoke {ticket}"))).collect();
        if !injected.is_empty() {
            let _ = writeln!(s, "crm_simulate -x cib.xml{injected} -O next.xml > /dev/null || fail 'no injection'\nmv next.xml cib.xml");
        }
        s.push_str(
            "echo '@@@ step'; crm_simulate -x cib.xml --output-as=xml -S -O next.xml -G graph.xml || fail 'no simulation'\nmv next.xml cib.xml\n\
             echo '@@@ graph'; cat graph.xml\n",
        );
    }
    s
}

impl Done {
    fn read(text: &str) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for part in text.split(MARK).skip(1) {
            let (head, body) = part.split_once('\n').unwrap_or((part, ""));
            match (head.split_once(' ').unwrap_or((head, "")), all.last_mut()) {
                (("said", _), _) => all.push(Self { status: -1, said: without_colours(body), configuration: String::new() }),
                (("status", status), Some(done)) => done.status = status.parse().unwrap(),
                (("configuration", _), Some(done)) => body.clone_into(&mut done.configuration),
                other => panic!("unexpected part {other:?}"),
            }
        }
        all
    }
}

fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    first + &pieces.map(|piece| piece.split_once('m').map_or(piece, |(_, rest)| rest)).collect::<String>()
}

impl Rehearsal {
    fn read(text: &str) -> Self {
        let mut it = Self {
            loaded: vec![],
            said: String::new(),
            verified: -1,
            stable: false,
            cib: String::new(),
            metadata: BTreeMap::new(),
            steps: vec![],
        };
        let (before, marked) = text.split_once(MARK).unwrap_or((text, ""));
        it.said.push_str(before);
        for part in marked.split(MARK) {
            let (head, body) = part.split_once('\n').unwrap_or((part, ""));
            match head.split_once(' ').unwrap_or((head, "")) {
                ("loaded", status) => it.loaded.push(status.parse().unwrap()),
                ("verified", status) => it.verified = status.parse().unwrap(),
                ("stable", status) => it.stable = status == "0",
                ("cib", _) => body.clone_into(&mut it.cib),
                ("metadata", agent) => drop(it.metadata.insert(agent.to_owned(), body.to_owned())),
                ("step", _) => it.steps.push(Outcome::read(body)),
                ("graph", _) => it.steps.last_mut().unwrap().set_graph(body),
                other => panic!("unexpected part {other:?}"),
            }
            if ["loaded", "verified"].iter().any(|w| head.starts_with(w)) {
                it.said.push_str(body);
            }
        }
        it
    }

    /// Whether every file was taken.
    pub fn all_loaded(&self) -> bool {
        self.loaded.iter().all(|status| *status == 0)
    }
}
