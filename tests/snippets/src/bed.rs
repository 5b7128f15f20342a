//! Snippets loaded one after the other into a CIB file, then simulated step by step; and other programs of the images.
//!
//! Owns what runs in the sandboxes, and what they have answered: each script is a function of the image, the CIB before
//! it and its own text, so it runs once, and whoever asks the same is told the same. Most tests begin with files that
//! others have loaded already.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Mutex, OnceLock};

use roxmltree::Document;

use crate::sandbox::{self, Output};
use crate::{Outcome, Snippet};

/// The images hold no fence agents; this is what fence_ipmilan of fence-agents 4.12.1 says about itself.
const FENCE_IPMILAN: &str = include_str!("../files/fence_ipmilan.xml");
/// It reads its input to the end as the real ones do: Pacemaker takes it for broken when it is gone before.
const FENCE_AGENT: &str = "#!/bin/sh\ncat > /dev/null\nexec cat /srv/fence_ipmilan.xml\n";
/// Pacemaker asks systemd which units there are, and it does not run in the sandbox. This is what Pacemaker says on a
/// node about each unit (3.0.0; 2.1.5 writes the same without the unit of time).
const SYSTEMD_UNIT: &str = include_str!("../files/systemd.xml");
/// Units of packages that not every image has. Any name that is neither here nor installed stays unknown, as on a node.
/// Of a template systemd lists what stands before its instance's name.
const UNITS: [&str; 3] = ["php8.2-fpm", "proxysql", "syncthing@"];
/// The images have no DRBD; this is what the agent of Debian 12's drbd-utils 9.22.0 says about itself.
const DRBD: &str = include_str!("../files/drbd.xml");
const DRBD_AGENT: &str = "#!/bin/sh\n[ \"$1\" = meta-data ] && exec cat /srv/drbd.xml\nexit 3\n";
/// Writes Pacemaker's schema as one file, where its tools find it by [`SCHEMA`]; crmsh and pcs read the shipped one.
const ONE_GRAMMAR: &str = include_str!("../files/one-grammar.py");
const SAME_LANGUAGE: &str = include_str!("../files/same-language.py");
/// Where that is.
const SCHEMA: &str = "/run/bed/schema";
/// Stands in the place of Pacemaker's own (pcs does not look at the PATH), answers for the units, and hands everything
/// else to the tool itself. Which agents there are and what they say about themselves it asks for once: crmsh wants to
/// know at every load.
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
"--show-metadata "*|"--list-ocf-"*)
    IFS=_
    known=/run/bed/known/$*
    [ -e "$known" ] || /usr/sbin/crm_resource.pacemaker "$@" > "$known" || { status=$?; rm "$known"; exit "$status"; }
    exec cat "$known" ;;
esac
exec /usr/sbin/crm_resource.pacemaker "$@"
"#;
/// The same for what Pacemaker's daemons say about themselves, for which crmsh asks at every load, too.
const DAEMON: &str = r#"#!/bin/sh
IFS=_
known=/run/bed/known/${0##*/}_$*
[ -e "$known" ] || "/usr/lib/pacemaker/${0##*/}" "$@" > "$known" || { status=$?; rm "$known"; exit "$status"; }
exec cat "$known"
"#;
/// Run crmsh and pcs in processes that have their modules already.
const WARM: &str = include_str!("../files/warm.py");
const ASK_WARM: &str = include_str!("../files/ask-warm.py");
/// What runs them, and what the files of that name in /usr/sbin do: the same for all arguments, and the rest. Two modules are loaded
/// before that crmsh itself asks for as soon as it reads a file.
const WARM_PROGRAMS: [(&str, &str, &str, &str); 2] = [
    (
        "python3",
        "crm",
        "import curses, urllib.request; from crmsh import log; log.setup_logging(); from crmsh import main",
        "sys.exit(main.run())",
    ),
    ("python3 -Es", "pcs", "from pcs import app", "sys.exit(app.main())"),
];
/// ProxySQL's admin interface: its tables, and what runs statements against them.
const ADMIN_TABLES: &str = include_str!("../files/proxysql-admin.sql");
const ADMIN: &str = include_str!("../files/proxysql-admin.py");
/// Between the outcome of a simulation and its graph. No tool prints it.
const MARK: &str = "@@@\n";

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
#[derive(Clone, Copy, Debug)]
pub struct Bed {
    image: &'static str,
}

impl Bed {
    /// The images: crmsh 4.4 with Pacemaker 2.1, crmsh 5 with Pacemaker 3.
    pub const IMAGES: [&'static str; 2] = ["debian12", "debian13"];

    /// A bed for an image.
    pub fn new(image: &'static str) -> Self {
        Self { image }
    }

    /// Runs statements for ProxySQL's admin interface against tables such as it has. Returns what is wrong with them,
    /// in lines that begin with `wrong:`, and the rows of a question, blanks between the columns.
    pub fn administer(&self, statements: &str, question: &str) -> Vec<String> {
        let texts = [("admin.py", ADMIN), ("tables", ADMIN_TABLES), ("statements", statements), ("question", question)];
        let write: String = texts.iter().map(|(name, text)| file(&format!("/srv/{name}"), text)).collect();
        let run = "python3 admin.py \"$(cat tables)\" \"$(cat statements)\" \"$(cat question)\"";
        self.certain("", &(write + run)).out.lines().map(str::to_owned).collect()
    }

    /// What Pacemaker's own schema and the one grammar that the bed makes of it judge differently: the configuration with these snippets, and
    /// what it becomes by single changes. And how many of all these are valid, and how many are not.
    pub fn compare_schemas(&self, snippets: &[Snippet]) -> (Vec<String>, usize, usize) {
        let loads = self.load(self.cluster_of(&NODES), snippets);
        let cib = &loads.last().expect("there are files").cib;
        let run = format!(
            "{}newest=$(ls /usr/share/pacemaker/pacemaker-[0-9]*.rng | sort -V | tail -n 1)\n\
             python3 same-language.py cib.xml \"$newest\" {SCHEMA}/\"${{newest##*/}}\"",
            file("same-language.py", SAME_LANGUAGE)
        );
        let said = &self.certain(cib, &run).out;
        let (differences, counts): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with("differ: "));
        let counts: Vec<usize> = counts.iter().flat_map(|line| line.split(' ')).map(|n| n.parse().expect("a number")).collect();
        (differences.into_iter().map(str::to_owned).collect(), counts[0], counts[1])
    }

    /// Whether a program of the image takes a text as its file /srv/file, and what it said.
    pub fn reads(&self, text: &str, command: &str) -> (bool, String) {
        let output = self.ask("", &format!("{}exec 2>&1\n{command}", file("/srv/file", text)));
        (output.status == 0, output.out.clone())
    }

    /// Loads the files in this order into a cluster of three nodes that are up, and plays the steps.
    pub fn rehearse(&self, snippets: &[Snippet], steps: &[Step]) -> Rehearsal {
        self.rehearse_on(&NODES, snippets, steps)
    }

    /// The same in a cluster of these nodes.
    pub fn rehearse_on(&self, nodes: &[&str], snippets: &[Snippet], steps: &[Step]) -> Rehearsal {
        let begin = self.cluster_of(nodes);
        let loads = self.load(begin, snippets);
        let mut cib = loads.last().map_or(begin, |load| &load.cib);
        let verified = self.ask(cib, "crm_verify -x cib.xml -V 2>&1");
        let agents: BTreeSet<&str> = snippets.iter().flat_map(Snippet::agents).collect();
        let metadata = |agent: &str| self.certain("", &format!("crm_resource --show-metadata {agent}")).out.clone();
        Rehearsal {
            loaded: loads.iter().map(|load| load.status).collect(),
            said: loads.iter().chain([&verified]).map(|output| output.out.as_str()).collect(),
            verified: verified.status,
            cib: configuration(cib).to_owned(),
            metadata: agents.into_iter().map(|agent| (agent.to_owned(), metadata(agent))).collect(),
            steps: steps
                .iter()
                .map(|step| {
                    let output = self.certain(cib, &step.script(cib));
                    cib = &output.cib;
                    let (done, graph) = output.out.split_once(MARK).expect("the simulation wrote its graph");
                    Outcome::read(done, graph)
                })
                .collect(),
        }
    }

    /// Whether the files can be loaded once more, and leave the configuration as it was. They are, in one session of
    /// crmsh: what they change together is seen as well as what each of them does.
    pub fn loads_again(&self, snippets: &[Snippet]) -> bool {
        let once = self.load(self.cluster_of(&NODES), snippets).last().expect("there are files").cib.as_str();
        let session: String = snippets.iter().map(|snippet| format!("load update /srv/{}\n", snippet.name)).collect();
        let again = self.command(once, snippets, &format!("{}crm -f session", file("session", &format!("configure\n{session}commit\n"))));
        again.status == 0 && configuration(&again.cib) == configuration(once)
    }

    /// Runs commands one after the other in a cluster of these nodes without resources, files of crm-snippets/ at hand
    /// in /srv.
    pub fn perform(&self, nodes: &[&str], snippets: &[Snippet], commands: &[String]) -> Vec<Done> {
        let mut cib = self.cluster_of(nodes);
        let perform = |command: &String| {
            let output = self.command(cib, snippets, command);
            cib = &output.cib;
            Done { status: output.status, said: without_colours(&output.out), configuration: configuration(cib).to_owned() }
        };
        commands.iter().map(perform).collect()
    }

    /// Loads files one after the other into a CIB.
    fn load(&self, mut cib: &'static str, snippets: &[Snippet]) -> Vec<&'static Output> {
        let load = |snippet: &Snippet| {
            let output = self.command(cib, snippets, &format!("crm configure load update /srv/{}", snippet.name));
            cib = &output.cib;
            output
        };
        snippets.iter().map(load).collect()
    }

    /// A command on a CIB, with those files that it names.
    fn command(&self, cib: &'static str, snippets: &[Snippet], command: &str) -> &'static Output {
        let paths = snippets.iter().map(|snippet| (format!("/srv/{}", snippet.name), &snippet.text));
        let files: String = paths.filter(|(path, _)| command.contains(path)).map(|(path, text)| file(&path, text)).collect();
        self.ask(cib, &format!("{files}exec 2>&1\n{command}"))
    }

    /// A CIB without resources whose nodes are up.
    fn cluster_of(&self, nodes: &[&str]) -> &'static str {
        let known: String = (1..).zip(nodes).map(|(id, name)| format!(r#"<node id="{id}" uname="{name}"/>"#)).collect();
        let up: String = nodes.iter().map(|name| format!(" -u {name}")).collect();
        let script = format!(
            "cibadmin --empty | sed 's|<nodes/>|<nodes>{known}</nodes>|' > cib.xml\n\
             crm_simulate -x cib.xml{up} -q true -S -O up.xml > /dev/null\n\
             mv up.xml cib.xml"
        );
        &self.certain("", &script).cib
    }

    /// Runs a script that has to do what it is for.
    fn certain(&self, cib: &'static str, script: &str) -> &'static Output {
        let output = self.ask(cib, script);
        assert_eq!(output.status, 0, "in {}, this did not run to its end: {script}\n{}{}", self.image, output.out, output.err);
        output
    }

    /// What becomes of a script on a CIB, in /srv: asked once, and kept as long as the process lasts. Who asks for what
    /// is being found out waits for it.
    fn ask(&self, cib: &'static str, script: &str) -> &'static Output {
        type Question = (&'static str, &'static str, String);
        static ANSWERS: Mutex<BTreeMap<Question, &'static OnceLock<Output>>> = Mutex::new(BTreeMap::new());
        let question = (self.image, cib, script.to_owned());
        let answer = *ANSWERS.lock().unwrap().entry(question).or_insert_with(|| Box::leak(Box::default()));
        answer.get_or_init(|| {
            let cib = if cib.is_empty() { String::new() } else { file("cib.xml", cib) };
            let environment = format!("export CIB_file=/srv/cib.xml PCMK_schema_directory={SCHEMA} HOME=/root PATH=\"/srv/bin:$PATH\"\n");
            sandbox::run(self.image, &prepare(), &format!("{environment}{cib}{script}\n"))
        })
    }
}

/// What makes a bed of a sandbox: what the images lack, and what stands in the way of tools that ask for a cluster.
fn prepare() -> String {
    let mut s = "mkdir -p /srv/bin /srv/units /run/bed/known /usr/lib/ocf/resource.d/linbit\n\
                 mv /usr/sbin/crm_resource /usr/sbin/crm_resource.pacemaker\n"
        .to_owned();
    for (path, text) in [("/srv/fence_ipmilan.xml", FENCE_IPMILAN), ("/srv/drbd.xml", DRBD), ("/srv/systemd.xml", SYSTEMD_UNIT)] {
        s += &file(path, text);
    }
    for unit in UNITS {
        s += &file(&format!("/srv/units/{unit}"), "");
    }
    for (path, text) in [
        ("/usr/sbin/fence_ipmilan", FENCE_AGENT),
        ("/usr/lib/ocf/resource.d/linbit/drbd", DRBD_AGENT),
        ("/usr/sbin/crm_resource", CRM_RESOURCE),
        ("/srv/bin/pacemaker-controld", DAEMON),
        ("/srv/bin/pacemaker-fenced", DAEMON),
        ("/srv/bin/crm", ASK_WARM),
        ("/srv/bin/pcs", ASK_WARM),
    ] {
        s += &format!("{}chmod 755 {path}\n", file(path, text));
    }
    s += &file("/run/bed/one-grammar.py", ONE_GRAMMAR);
    s += &format!("python3 /run/bed/one-grammar.py /usr/share/pacemaker {SCHEMA}\n");
    s += &file("/run/bed/warm.py", WARM);
    for (python, name, begin, rest) in WARM_PROGRAMS {
        // With streams such as the programs have afterwards: no terminal, for which they would use colours.
        s += &format!("HOME=/root {python} /run/bed/warm.py {name} '{begin}' '{rest}' > warm.log 2>&1 || {{ cat warm.log; exit 1; }}\n");
    }
    s
}

/// The command that writes a file. Its last line gets an end if it has none.
fn file(path: &str, text: &str) -> String {
    format!("cat > {path} <<'END_OF_FILE'\n{}\nEND_OF_FILE\n", text.strip_suffix('\n').unwrap_or(text))
}

/// The part of a CIB that is configured.
fn configuration(cib: &str) -> &str {
    let document = Document::parse(cib).unwrap_or_else(|e| panic!("{e}: {cib}"));
    let part = document.root_element().children().find(|part| part.has_tag_name("configuration"));
    &cib[part.unwrap_or_else(|| panic!("there is no configuration in {cib}")).range()]
}

impl Step {
    /// `crm_simulate` stands for the cluster: it carries out what the scheduler wants and writes the CIB that results,
    /// which is the next step's beginning.
    fn script(&self, cib: &str) -> String {
        let mut s = self.published(cib);
        for node in &self.standby {
            let _ = writeln!(s, "crm_attribute --name standby --node {node} --update=on");
        }
        for (resource, node) in &self.moved {
            let _ = writeln!(s, "crm_resource --move --resource {resource} --node {node} > /dev/null 2>&1");
        }
        // Written into the CIB: crm_simulate passes over --quorum when nothing else is injected.
        let _ = writeln!(s, "sed -i '1s/have-quorum=\"[a-z0-9]*\"/have-quorum=\"{}\"/' cib.xml", !self.no_quorum);
        // In a call of its own: crm_simulate of Pacemaker 3.0.0 ends after the injection when it writes XML.
        let dead = self.dead.iter().map(|node| format!(" --node-fail {node}"));
        let injected = dead.chain(self.up.iter().map(|node| format!(" --node-up {node}")));
        let injected = injected.chain(self.granted.iter().map(|ticket| format!(" --ticket-grant {ticket}")));
        let injected: String = injected.chain(self.revoked.iter().map(|ticket| format!(" --ticket-revoke {ticket}"))).collect();
        if !injected.is_empty() {
            let _ = writeln!(s, "crm_simulate -x cib.xml{injected} -O next.xml > /dev/null\nmv next.xml cib.xml");
        }
        let _ = write!(
            s,
            "crm_simulate -x cib.xml --output-as=xml -S -O next.xml -G graph.xml\nmv next.xml cib.xml\nprintf '{}'\ncat graph.xml",
            MARK.escape_default()
        );
        s
    }

    /// Writes what the agents publish to where `crm_attribute` with `--lifetime reboot` does, all at once. An agent
    /// takes a call for each.
    fn published(&self, cib: &str) -> String {
        let scores = self.scores.iter().map(|(resource, node, score)| (format!("master-{resource}"), *node, score.to_string()));
        let attributes = self.attributes.iter().map(|(name, node, value)| ((*name).to_owned(), *node, (*value).to_owned()));
        let document = Document::parse(cib).unwrap();
        let mut states = String::new();
        for (name, node, value) in scores.chain(attributes) {
            let known = document.descendants().find(|n| n.has_tag_name("node") && n.attribute("uname") == Some(node));
            let id = known.and_then(|n| n.attribute("id")).unwrap_or_else(|| panic!("there is no node {node}: correct the test"));
            let pair = format!(r#"<nvpair id="status-{id}-{name}" name="{name}" value="{value}"/>"#);
            let pairs = format!(r#"<transient_attributes id="{id}"><instance_attributes id="status-{id}">{pair}</instance_attributes>"#);
            let _ = write!(states, r#"<node_state id="{id}" uname="{node}">{pairs}</transient_attributes></node_state>"#);
        }
        if states.is_empty() {
            return String::new();
        }
        format!("cibadmin --modify --allow-create --scope status --xml-text '<status>{states}</status>'\n")
    }
}

fn without_colours(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    first + &pieces.map(|piece| piece.split_once('m').map_or(piece, |(_, rest)| rest)).collect::<String>()
}

impl Rehearsal {
    /// Whether every file was taken.
    pub fn all_loaded(&self) -> bool {
        self.loaded.iter().all(|status| *status == 0)
    }
}
