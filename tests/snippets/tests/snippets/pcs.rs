//! docs/pcs.md: its commands make the configuration that crmsh makes of the snippets.

use roxmltree::{Document, Node};
use snippets::{Bed, Snippet};

use crate::on_every_image;

const NODES: [&str; 3] = ["lxc1", "lxc2", "lxc3"];

/// The blocks of the page: what stands after "```sh", and the commands.
fn blocks() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/pcs.md")).unwrap();
    let blocks = page.split("\n```sh ").skip(1).map(|block| block.split_once("\n```\n").expect("a block ends").0);
    blocks
        .map(|block| block.split_once('\n').expect("a block has commands"))
        .map(|(of, commands)| (of.to_owned(), commands.to_owned()))
        .collect()
}

/// What Pacemaker acts on: without comments, order, the names of constraints and of inner elements, and what is a default anyway.
fn meaning(configuration: &str) -> Vec<String> {
    fn write(node: Node<'_, '_>) -> String {
        let tag = node.tag_name().name();
        let named = ["primitive", "group", "clone"].contains(&tag);
        let counts = |name: &str, value: &str| {
            !(name == "id" && !named || (name, value) == ("kind", "Mandatory") || (name, value) == ("rsc-role", "Started"))
        };
        let mut attributes: Vec<String> =
            node.attributes().filter(|a| counts(a.name(), a.value())).map(|a| format!(" {}={:?}", a.name(), a.value())).collect();
        attributes.sort();
        let mut children: Vec<String> = node.children().filter(Node::is_element).map(write).collect();
        // In a group, the order says what starts first.
        if tag != "group" {
            children.sort();
        }
        format!("<{tag}{}>{}", attributes.concat(), children.concat())
    }
    let document = Document::parse(configuration).unwrap_or_else(|e| panic!("{e}: {configuration}"));
    let parts = document.root_element().children().flat_map(|part| part.children().filter(Node::is_element));
    let mut all: Vec<String> = parts.map(write).collect();
    all.sort();
    all
}

/// What only one of the two has.
fn differences(pcs: &str, crmsh: &str) -> String {
    let (pcs, crmsh) = (meaning(pcs), meaning(crmsh));
    let only = |whose: &str, these: &[String], those: &[String]| -> String {
        these.iter().filter(|t| !those.contains(t)).map(|t| format!("only {whose}: {t}\n")).collect()
    };
    let count = if pcs.len() == crmsh.len() { String::new() } else { format!("{} and {} elements\n", pcs.len(), crmsh.len()) };
    count + &only("pcs", &pcs, &crmsh) + &only("crmsh", &crmsh, &pcs)
}

/// The configuration that these commands make, and the one of the snippets.
fn both(bed: &Bed, commands: &str, snippets: &[Snippet]) -> (String, String) {
    let loads = snippets.iter().map(|snippet| format!("crm configure load update /srv/{}", snippet.name));
    let [by_pcs, by_crmsh] = [vec![commands.to_owned()], loads.collect()].map(|commands| {
        let done = bed.perform(&NODES, snippets, &commands);
        for done in &done {
            assert_eq!(done.status, 0, "{}", done.said);
        }
        done.last().unwrap().configuration.clone()
    });
    (by_pcs, by_crmsh)
}

#[test]
fn the_commands_for_pcs_make_what_the_snippets_make() {
    let blocks = blocks();
    let [(first, begin), (last, end), steps @ ..] = &blocks[..] else { panic!("the page has hardly any commands") };
    assert_eq!((first.as_str(), last.as_str()), ("begin", "end"));
    let snippets: Vec<Snippet> = steps.iter().map(|(of, _)| Snippet::of(of)).collect();
    for core in ["base.crm", "public-addresses.crm", "mysql.crm", "redis.crm", "cron.crm", "web.crm"] {
        assert!(snippets.iter().any(|snippet| snippet.name == core), "the page lacks {core}");
    }
    let all: String = steps.iter().map(|(_, commands)| format!("{commands}\n")).collect();
    on_every_image(|bed| {
        let (by_pcs, by_crmsh) = both(bed, &format!("{begin}\n{all}{end}\n"), &snippets);
        let found = differences(&by_pcs, &by_crmsh);
        assert!(found.is_empty(), "{found}");
    });
}

/// The comparison is worth something only if it sees what is different.
#[test]
fn differences_are_seen() {
    let one = r#"<configuration><resources><clone id="c"><meta_attributes id="m1"><nvpair id="n" name="notify" value="true"/></meta_attributes>
        <group id="g"><primitive id="a" class="ocf"><operations><op id="o" name="stop" interval="0" timeout="9s"/></operations></primitive>
        <primitive id="b" class="ocf"/></group></clone></resources>
        <constraints><rsc_order id="r" kind="Optional" first="a" then="b"/><rsc_colocation id="s" score="-5" rsc="a" with-rsc="b"/></constraints>
        </configuration>"#;
    assert_eq!(differences(one, one), "");
    for (from, to) in [
        (r#"id="m1""#, r#"id="m2""#),
        (r#"rsc="a" with"#, r#"rsc="a" rsc-role="Started" with"#),
        ("<constraints>", "<constraints><!-- why -->"),
    ] {
        assert!(one.contains(from), "{from}: correct the test");
        assert_eq!(differences(one, &one.replace(from, to)), "", "{to} is no difference");
    }
    for (from, to) in [
        (r#"value="true""#, r#"value="false""#),
        (r#"<nvpair id="n" name="notify" value="true"/>"#, ""),
        (r#"timeout="9s""#, r#"timeout="8s""#),
        (r#"class="ocf""#, r#"class="lsb""#),
        (r#"kind="Optional" "#, ""),
        (r#"score="-5""#, r#"score="-50""#),
        (r#"then="b""#, r#"then="b" symmetrical="false""#),
        (r#"<rsc_order id="r" kind="Optional" first="a" then="b"/>"#, ""),
        (r#"<primitive id="b" class="ocf"/>"#, r#"<primitive id="b" class="ocf"/><primitive id="d" class="ocf"/>"#),
        (r#"id="a""#, r#"id="z""#),
    ] {
        assert!(one.contains(from), "{from}: correct the test");
        assert_ne!(differences(one, &one.replace(from, to)), "", "{to:?} in place of {from:?} is not seen");
    }
}
