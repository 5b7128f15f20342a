//! crm-scripts/: what `crm script run` makes of the snippets, with their own values, with others, and with wrong ones.

use roxmltree::{Document, Node};
use snippets::{Done, Kind, Parameter, Snippet, WIZARDS, Wizard};

use crate::{BASE, LABORATORY, on_every_image};

const NODES: [&str; 3] = ["lxc1", "lxc2", "lxc3"];

/// The configuration without the comments: each resource, constraint or set of properties as its elements, one a line, depth by
/// blanks. What was loaded in one file stands in another order than what was loaded file by file, so they are sorted.
fn elements(configuration: &str) -> Vec<String> {
    fn write(node: Node<'_, '_>, depth: usize, text: &mut String) {
        let attributes: String = node.attributes().map(|a| format!(" {}={:?}", a.name(), a.value())).collect();
        *text += &format!("{:depth$}{}{attributes}\n", "", node.tag_name().name());
        node.children().filter(Node::is_element).for_each(|child| write(child, depth + 1, text));
    }
    let document = Document::parse(configuration).unwrap_or_else(|e| panic!("{e}: {configuration}"));
    let parts = document.root_element().children().flat_map(|part| part.children().filter(Node::is_element));
    let mut all: Vec<String> = parts
        .map(|part| {
            let mut text = String::new();
            write(part, 0, &mut text);
            text
        })
        .collect();
    all.sort_unstable();
    all
}

/// Both have the same elements; what only one of them has, otherwise.
fn assert_same(one: &str, other: &str, what: &str) {
    let (one, other) = (elements(one), elements(other));
    let only = |these: &[String], those: &[String]| these.iter().filter(|t| !those.contains(t)).cloned().collect::<String>();
    assert!(one == other, "{what}: only the first has:\n{}only the other has:\n{}", only(&one, &other), only(&other, &one));
}

fn load(snippet: &Snippet) -> String {
    format!("crm configure load update /srv/{}", snippet.name)
}

/// The files that a wizard looks for, which every node has before it is run.
fn files_made(wizard: &Wizard, value: impl Fn(&Parameter) -> String) -> String {
    let paths = wizard.parameters().into_iter().filter(|p| p.kind == Kind::Path);
    paths.map(|p| format!("install -D /dev/null '{}'\n", value(&p))).collect()
}

/// The command with a value for each parameter that has to be given.
fn run(wizard: &Wizard, value: impl Fn(&Parameter) -> String) -> String {
    let given: String = wizard.parameters().iter().map(|p| format!(" {}='{}'", p.name, value(p))).collect();
    format!("{}crm script run {}{given}", files_made(wizard, value), wizard.name)
}

fn own_value(parameter: &Parameter) -> String {
    parameter.value().to_owned()
}

/// The snippets as the wizard loads them.
fn snippets_of(wizard: &Wizard) -> Vec<Snippet> {
    let edited =
        |snippet: Snippet| wizard.edits.iter().fold(snippet, |s, (from, to)| if s.text.contains(from) { s.mutated(from, to) } else { s });
    wizard.snippets().into_iter().map(edited).collect()
}

/// What has to be loaded before it.
fn before(wizard: &Wizard) -> Vec<Snippet> {
    if wizard.snippets().iter().any(|s| s.name == BASE) { vec![] } else { vec![Snippet::of(BASE)] }
}

fn last(done: &[Done]) -> &Done {
    for done in done {
        assert_eq!(done.status, 0, "{}", done.said);
    }
    done.last().unwrap()
}

#[test]
fn with_the_snippets_values_a_wizard_loads_what_the_snippets_load() {
    on_every_image(|bed| {
        for wizard in WIZARDS {
            let (before, own) = (before(wizard), snippets_of(wizard));
            let files = [before.clone(), own.clone()].concat();
            let by_hand = bed.perform(&NODES, &files, &files.iter().map(load).collect::<Vec<_>>());
            // What is not given is what the snippet has. Each run replaces all that the one before it made.
            let given: String = wizard.parameters().iter().filter(|p| p.required).map(|p| format!(" {}={}", p.name, p.value())).collect();
            let made = files_made(wizard, own_value);
            let runs = [format!("{made}crm script run {}{given}", wizard.name), run(wizard, own_value)];
            let by_wizard = bed.perform(&NODES, &files, &before.iter().map(load).chain(runs).collect::<Vec<_>>());
            let [.., short, full] = &by_wizard[..] else { panic!("too little was done") };
            assert_same(&last(&by_wizard).configuration, &last(&by_hand).configuration, wizard.name);
            assert_eq!(short.configuration, full.configuration, "{}: the second run changes something", wizard.name);
        }
    });
}

/// Values that occur nowhere else.
fn another_value(parameter: &Parameter) -> String {
    let place = Wizard::of("systole-workshop").parameters().iter().position(|p| p.name == parameter.name).unwrap();
    match parameter.kind {
        Kind::Node => format!("node{}", parameter.name.trim_start_matches("node-")),
        Kind::Address => format!("10.0.0.{place}"),
        Kind::Number => place.to_string(),
        // crmsh wants to know the unit.
        Kind::Name if parameter.name == "php-service" => "proxysql".to_owned(),
        Kind::Name => format!("a-{}", parameter.name),
        Kind::Path => format!("/srv/a path/{}", parameter.name),
        Kind::Word(words) => (*words.last().unwrap()).to_owned(),
    }
}

/// Values, nodes and agents of a configuration, each with the resource or constraint that it is of.
fn values(configuration: &str) -> Vec<(String, String, String)> {
    let document = Document::parse(configuration).unwrap();
    let part = |n: &Node<'_, '_>| ["resources", "constraints"].contains(&n.tag_name().name());
    let mut found = Vec::new();
    for element in document.descendants().filter(|n| n.ancestors().any(|a| part(&a))) {
        let owner = element.ancestors().find(|n| {
            n.is_element()
                && n.attribute("id").is_some()
                && n.parent_element().is_some_and(|p| part(&p) || ["clone", "group"].contains(&p.tag_name().name()))
        });
        let owner = owner.and_then(|n| n.attribute("id")).unwrap_or_default();
        for (name, value) in
            element.attributes().map(|a| (a.name(), a.value())).filter(|(name, _)| ["value", "node", "type"].contains(name))
        {
            let name = element.attribute("name").unwrap_or(name);
            found.push((owner.to_owned(), name.to_owned(), value.to_owned()));
        }
    }
    found
}

#[test]
fn with_other_values_each_stands_in_its_place() {
    let wizard = Wizard::of("systole-workshop");
    // Resource or constraint with the snippets' values, what it has, the parameter that is there.
    let expected = [
        ("fence-lxc1", "ip", "bmc-1"),
        ("fence-lxc1", "username", "bmc-user"),
        ("fence-lxc1", "password_script", "bmc-password-script"),
        ("fence-lxc1", "pcmk_host_list", "node-1"),
        ("fence-lxc2", "ip", "bmc-2"),
        ("fence-lxc2", "username", "bmc-user"),
        ("fence-lxc2", "password_script", "bmc-password-script"),
        ("fence-lxc2", "pcmk_host_list", "node-2"),
        ("fence-lxc3", "ip", "bmc-3"),
        ("fence-lxc3", "username", "bmc-user"),
        ("fence-lxc3", "password_script", "bmc-password-script"),
        ("fence-lxc3", "pcmk_host_list", "node-3"),
        ("public-ip-1", "ip", "public-ip-1"),
        ("public-ip-1", "cidr_netmask", "public-netmask"),
        ("public-ip-2", "ip", "public-ip-2"),
        ("public-ip-2", "cidr_netmask", "public-netmask"),
        ("redis", "config", "redis-config"),
        ("redis", "durability", "redis-durability"),
        ("redis-ip", "ip", "redis-ip"),
        ("redis-ip", "cidr_netmask", "private-netmask"),
        ("mysql", "config", "mysql-config"),
        ("mysql", "replication_user", "mysql-replication-user"),
        ("mysql", "replication_passwd_file", "mysql-replication-password-file"),
        ("mysql-ip", "ip", "mysql-ip"),
        ("mysql-ip", "cidr_netmask", "private-netmask"),
        ("mysql-reader-ip", "ip", "mysql-reader-ip"),
        ("mysql-reader-ip", "cidr_netmask", "private-netmask"),
        ("php", "type", "php-service"),
        ("site-cron", "source", "cron-source"),
        ("fence-lxc1-elsewhere", "node", "node-1"),
        ("fence-lxc2-elsewhere", "node", "node-2"),
        ("fence-lxc3-elsewhere", "node", "node-3"),
        ("public-ip-1-on-lxc1", "node", "node-1"),
        ("public-ip-2-on-lxc2", "node", "node-2"),
    ];
    let parameters = wizard.parameters();
    let of =
        |name: &str| another_value(parameters.iter().find(|p| p.name == name).unwrap_or_else(|| panic!("there is no parameter {name}")));
    on_every_image(|bed| {
        // In one file, so that all stands in the same order.
        let own = Snippet { name: "all.crm".into(), text: snippets_of(wizard).into_iter().map(|snippet| snippet.text).collect() };
        let by_hand = bed.perform(&NODES, std::slice::from_ref(&own), &[load(&own)]);
        let by_wizard = bed.perform(&["node1", "node2", "node3"], &[], &[run(wizard, another_value)]);
        let (hand, wizardry) = (values(&last(&by_hand).configuration), values(&last(&by_wizard).configuration));
        assert_eq!(hand.len(), wizardry.len());
        let mut wrong = Vec::new();
        let mut seen = 0;
        for ((owner, name, value), (_, _, new)) in hand.iter().zip(&wizardry) {
            let place = expected.iter().find(|(o, n, _)| (o, n) == (&owner.as_str(), &name.as_str()));
            seen += usize::from(place.is_some());
            let wanted = place.map_or_else(|| value.clone(), |(.., parameter)| of(parameter));
            if *new != wanted {
                wrong.push(format!("{owner} {name}: {new}, not {wanted}"));
            }
        }
        assert!(wrong.is_empty() && seen == expected.len(), "{seen} of {} places; {wrong:#?}", expected.len());
        // The names of the resources with them.
        let configuration = &last(&by_wizard).configuration;
        for (old, new) in [("lxc", "fence-node1"), ("site-cron\"", "a-cron-name-with-public-ip")] {
            let left: Vec<String> = elements(configuration).into_iter().filter(|line| line.contains(old)).collect();
            assert!(left.is_empty() && configuration.contains(new), "{old}: {left:?}");
        }
    });
}

/// A wizard's command with one word changed.
fn slip(wizard: &str, from: &str, to: &str) -> String {
    let command = run(Wizard::of(wizard), own_value);
    let (files, command) = command.rsplit_once('\n').unwrap_or(("", &command));
    assert!(command.contains(from), "{command} does not hold {from:?}: correct the test");
    format!("{files}\n{}", command.replace(from, to))
}

#[test]
fn what_is_wrong_is_refused_and_nothing_is_changed() {
    on_every_image(|bed| {
        let refused = |on: Option<&str>, commands: &[(String, &str)]| {
            let loaded: Vec<Snippet> = on.into_iter().map(Snippet::of).collect();
            let begin = loaded.first().map_or("true".to_owned(), load);
            let all: Vec<String> = std::iter::once(begin).chain(commands.iter().map(|(command, _)| command.clone())).collect();
            let done = bed.perform(&NODES, &loaded, &all);
            assert_eq!(done[0].status, 0, "{}", done[0].said);
            for ((command, words), after) in commands.iter().zip(&done[1..]) {
                assert_ne!(after.status, 0, "{command} was taken: {}", after.said);
                assert!(after.said.contains(words), "{command}: {words:?} is not in: {}", after.said);
                assert_eq!(after.configuration, done[0].configuration, "{command} changed something: {}", after.said);
            }
        };
        let on_base = [
            (slip("systole-redis", "redis-ip='192.0.2.100'", "redis-ip=192.0.2"), "redis-ip=192.0.2 is not an IP address"),
            (slip("systole-redis", "redis-ip='192.0.2.100'", ""), "Missing required parameter(s): redis-ip"),
            (slip("systole-redis", "redis-ip=", "ip="), "Unknown parameter ip"),
            (slip("systole-redis", "'24'", "255.255.255.0"), "private-netmask=255.255.255.0 is not an integer"),
            (slip("systole-redis", "'async'", "always"), "redis-durability=always does not match 'async|quorum'"),
            (slip("systole-redis", "'/etc/redis/site.conf'", ""), "'' is no path; it has to begin with /"),
            (slip("systole-redis", "/etc/redis/site.conf", "/etc/redis/sit.conf"), "there is no file /etc/redis/sit.conf on this node"),
            (slip("systole-redis", "192.0.2.100", "127.0.0.1"), "127.0.0.1 is in use; a service needs an address that no machine has"),
            (slip("systole-redis", "'24'", "240"), "240"),
            (slip("systole-mysql", "192.0.2.102", "192.0.2.101"), "192.0.2.101 is given twice"),
            (slip("systole-public-addresses", "lxc2", "lxc1"), "one node is given twice"),
            (slip("systole-public-addresses", "lxc2", "lcx2"), "lcx2 is no node of this cluster; its nodes are lxc1 lxc2 lxc3"),
        ];
        refused(Some(BASE), &on_base);
        // What has the name of one of ours, and is of somebody else.
        let others = "crm configure primitive redis ocf:pacemaker:Dummy".to_owned();
        let plain = run(Wizard::of("systole-redis"), own_value);
        let jobs = slip("systole-cron", "cron-name='site-cron'", "cron-name=redis");
        let done = bed.perform(&NODES, &[Snippet::of(BASE)], &[load(&Snippet::of(BASE)), others, plain, jobs]);
        for after in &done[2..] {
            assert!(after.status != 0 && after.said.contains("this cluster has another resource redis already"), "{}", after.said);
            assert_eq!(after.configuration, done[1].configuration);
        }
        let on_nothing = [
            (slip("systole-base", "lxc3", "lcx3"), "the nodes of this cluster are lxc1 lxc2 lxc3, and given were lcx3 lxc1 lxc2"),
            (slip("systole-base", "lxc3", "lxc2"), "given were lxc1 lxc2 lxc2"),
            (slip("systole-workshop", "lxc3", "lcx3"), "Each one needs its power switch"),
            (slip("systole-workshop", "'192.0.2.100'", "198.51.100.101"), "198.51.100.101 is given twice"),
        ];
        // Never without fencing: switched off, or on and without a device.
        let all =
            ["systole-public-addresses", "systole-redis", "systole-mysql", "systole-cron"].map(|wizard| run(Wizard::of(wizard), own_value));
        let without_device = all.iter().map(|command| (command.clone(), "there is no fence device"));
        refused(None, &on_nothing.into_iter().chain(without_device).collect::<Vec<_>>());
        refused(Some(LABORATORY), &all.map(|command| (command, "fencing is off, and without it there can be two primaries")));
    });
}

/// What docs/wizards.md says about looking before.
#[test]
fn crmsh_shows_them_and_tells_what_they_would_do() {
    on_every_image(|bed| {
        let dry = run(Wizard::of("systole-redis"), own_value) + " dry_run=yes";
        let commands = ["crm script list", "crm script show systole-redis", &dry].map(str::to_owned);
        let done = bed.perform(&NODES, &[], &commands);
        for wizard in WIZARDS {
            assert!(done[0].said.lines().any(|l| l.starts_with(wizard.name) && l.ends_with(wizard.title)), "{}", done[0].said);
        }
        for words in [
            "redis-ip (required)",
            "such as 192.0.2.100",
            "redis-config (default: '/etc/redis/site.conf')",
            "in /usr/share/systole/crm-snippets)",
        ] {
            let said = done[1].said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(words), "{words:?}: {said}");
        }
        assert_eq!(done[2].status, 0, "{}", done[2].said);
        assert!(done[2].said.contains("params ip=192.0.2.100 cidr_netmask=24"), "{}", done[2].said);
        assert_eq!(done[1].configuration, done[2].configuration);
    });
}

/// The wizard of the whole workshop is the page's configuration, in its order.
#[test]
fn the_workshops_wizard_loads_what_its_page_loads() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/workshop.md")).unwrap();
    let loaded: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("crm configure load update ")?.rsplit('/').next()).collect();
    let wizard = Wizard::of("systole-workshop");
    assert_eq!(wizard.parts.iter().map(|part| part.snippet).collect::<Vec<_>>(), loaded);
    for (from, to) in wizard.edits {
        assert!(page.contains(&format!("s/{from}/{to}/")), "the page does not change {from:?} into {to:?}");
    }
}

/// What a user has to know stands in no command of a wizard.
#[test]
fn no_wizard_holds_an_address_or_a_node_of_ours() {
    for wizard in WIZARDS {
        let script = wizard.script().unwrap();
        let commands = script.split_once("\nactions:\n").unwrap().1;
        for line in commands.lines().filter(|line| !line.trim_start().starts_with('#')) {
            // Where the agents are is the same everywhere.
            let line = line.replace("/usr/lib/ocf", "");
            let ours = ["192.0.2.", "198.51.100.", "203.0.113.", "lxc", "/etc/", "/usr/"].iter().find(|word| line.contains(**word));
            assert!(ours.is_none(), "{}: {line}", wizard.name);
        }
    }
}
