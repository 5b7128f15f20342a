//! What Pacemaker's daemons are sent and answer: XML behind a header. No I/O.
//!
//! It is what the tools of Pacemaker 2.1 and 3.0 send, which the daemons of either understand: an upgrade goes node by node. What is not
//! exactly as it is known here is an error, and the tool is asked.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

/// In front of each message (`pcmk__ipc_header_t`): libqb's number, size and error, 8 bytes each of which 4 are used; then the size of the text
/// with its NUL, the size that it is compressed to (0: it is not), flags, 4 bytes each; a version, and what fills it up. In the
/// byte order of the machine.
const HEADER: usize = 40;
const SIZE: usize = 8;
const TEXT_SIZE: usize = 24;
const COMPRESSED_SIZE: usize = 28;
const FLAGS: usize = 32;
const VERSION_AT: usize = 36;

/// The version of the header. Both ends pass over newer ones.
const VERSION: u8 = 1;
/// The sender waits for an answer.
const ANSWER_EXPECTED: u32 = 0x200;
/// Part of a message that is longer than the buffer (Pacemaker 3.0.1): a flag for each, and one for the last.
const PARTS: u32 = 0x8_0000 | 0x10_0000;

/// The CIB manager finds what it is to change or to show by an XPath.
const BY_XPATH: u32 = 0x2;
/// It answers when it has done so.
const SYNCHRONOUS: u32 = 0x1000;
/// Its answer for something that does not exist, and for something that does already.
const NO_SUCH: i32 = -6;
const EXISTS: i32 = -17;
/// The attribute manager acknowledges before it knows the result, and says that it does not.
const RESULT_UNKNOWN: &str = "112";

/// A message of this number, whose sender waits for an answer.
pub(super) fn framed(number: i32, xml: &str) -> Option<Vec<u8>> {
    let size = u32::try_from(HEADER + xml.len() + 1).ok()?;
    let mut message = vec![0; HEADER];
    let mut put = |at: usize, bytes: [u8; 4]| message[at..at + 4].copy_from_slice(&bytes);
    put(0, number.to_ne_bytes());
    put(SIZE, size.to_ne_bytes());
    put(TEXT_SIZE, (size - HEADER as u32).to_ne_bytes());
    put(FLAGS, ANSWER_EXPECTED.to_ne_bytes());
    message[VERSION_AT] = VERSION;
    message.extend_from_slice(xml.as_bytes());
    message.push(0);
    Some(message)
}

/// The text of the answer to the message of this number.
pub(super) fn text_of(answer: &[u8], number: i32) -> Result<&str, String> {
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let (Some(answers), Some(size), Some(text), Some(compressed), Some(flags), Some(version)) =
        (word(0), word(SIZE), word(TEXT_SIZE), word(COMPRESSED_SIZE), word(FLAGS), answer.get(VERSION_AT))
    else {
        return Err(format!("the answer has {} bytes", answer.len()));
    };
    if *version > VERSION {
        return Err(format!("the answer has a header of version {version}"));
    }
    if answers.to_ne_bytes() != number.to_ne_bytes() {
        return Err("the answer is to another question".into());
    }
    if compressed != 0 || flags & PARTS != 0 {
        return Err("the answer is too long".into());
    }
    match answer.get(HEADER..).and_then(<[u8]>::split_last) {
        Some((0, xml)) if size as usize == answer.len() && text as usize == xml.len() + 1 => {
            std::str::from_utf8(xml).map_err(|_| "the answer is no UTF-8".into())
        }
        _ => Err("the answer's header does not fit it".into()),
    }
}

/// A new value of an attribute of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update<'a> {
    /// Its full name.
    pub(crate) name: &'a str,
    /// `None` takes it away.
    pub(crate) value: Option<&'a str>,
    /// Which node's.
    pub(crate) node: &'a str,
    /// Whether it stays out of the CIB.
    pub(crate) private: bool,
}

/// What asks the attribute manager for it. Without a delay: the one that the attribute has stays as it is.
pub(super) fn update(update: &Update<'_>) -> Option<String> {
    let mut attributes = vec![("t", "attrd"), ("src", CLIENT), ("task", "update"), ("attr_name", update.name)];
    attributes.extend(update.value.map(|value| ("attr_value", value)));
    attributes.extend([("attr_host", update.node), ("attr_is_remote", "0"), ("attr_is_private", if update.private { "1" } else { "0" })]);
    element(CLIENT, &attributes, None)
}

/// Whether it took the update.
pub(super) fn acknowledged(answer: &str) -> Result<(), String> {
    let document = parse(answer)?;
    match (document.root_element().tag_name().name(), document.root_element().attribute("status")) {
        ("ack", Some("0" | RESULT_UNKNOWN)) => Ok(()),
        (name, status) => Err(format!("the answer is {name} with status {}", status.unwrap_or("unknown"))),
    }
}

/// What asks the attribute manager for the values of all nodes.
pub(super) fn query(name: &str) -> Option<String> {
    element(CLIENT, &[("t", "attrd"), ("src", CLIENT), ("attr_name", name), ("task", "query")], None)
}

/// The values by node. There is no node where nobody has published it.
pub(super) fn values(answer: &str, name: &str) -> Result<BTreeMap<String, String>, String> {
    let document = parse(answer)?;
    let root = document.root_element();
    if root.attribute("t") != Some("attrd") || root.attribute("subt") != Some("query") {
        return Err(format!("the answer is {}", root.tag_name().name()));
    }
    match root.attribute("attr_name") {
        None if root.has_children() => Err("the answer is for no attribute".into()),
        Some(other) if other != name => Err(format!("the answer is for {other}")),
        // A value that was taken away is shown as an empty one by the tool.
        _ => elements(root)
            .map(|node| Some((node.attribute("attr_host")?.to_owned(), node.attribute("attr_value").unwrap_or_default().to_owned())))
            .collect::<Option<_>>()
            .ok_or_else(|| "the answer has a value of no node".into()),
    }
}

/// What the CIB manager is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Modification {
    /// How.
    pub(crate) how: How,
    /// With what.
    pub(crate) xml: String,
}

/// How a part of the CIB is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// What an XPath finds is replaced.
    Replace(String),
    /// What an XPath finds is changed.
    Modify(String),
    /// In this section, where it must not be yet.
    Create(&'static str),
    /// What an XPath finds is taken away, with nothing in its place.
    Delete(String),
}

/// What asks the CIB manager for a modification.
pub(super) fn modify(call: i32, modification: &Modification) -> Option<String> {
    let (operation, section, options) = match &modification.how {
        How::Replace(path) => ("cib_replace", path.as_str(), BY_XPATH),
        How::Modify(path) => ("cib_modify", path.as_str(), BY_XPATH),
        How::Create(section) => ("cib_create", *section, 0),
        How::Delete(path) => return cib(call, "cib_delete", path, BY_XPATH, None),
    };
    cib(call, operation, section, options, Some(&modification.xml))
}

/// Whether what it was to change was there, or what it was to create was not.
pub(super) fn carried_out(answer: &str, call: i32) -> Result<bool, String> {
    match result(parse(answer)?.root_element(), call)? {
        0 => Ok(true),
        NO_SUCH | EXISTS => Ok(false),
        other => Err(format!("the CIB manager answers {other}")),
    }
}

/// What asks the CIB manager for a name and its value.
pub(super) fn look_up(call: i32, path: &str) -> Option<String> {
    cib(call, "cib_query", path, BY_XPATH, None)
}

/// The value of a name, `None` where it does not stand.
pub(super) fn value_of(answer: &str, call: i32, name: &str) -> Result<Option<String>, String> {
    let document = parse(answer)?;
    let root = document.root_element();
    match result(root, call)? {
        0 => {}
        NO_SUCH => return Ok(None),
        other => return Err(format!("the CIB manager answers {other}")),
    }
    let found: Vec<_> = elements(root).filter(|part| part.has_tag_name("cib_calldata")).flat_map(elements).collect();
    match found[..] {
        [one] if one.has_tag_name("nvpair") && one.attribute("name") == Some(name) => {
            Ok(Some(one.attribute("value").unwrap_or_default().to_owned()))
        }
        _ => Err("the answer is not one name and its value".into()),
    }
}

/// Who we are in the daemons' logs.
const CLIENT: &str = "systole";

fn cib(call: i32, operation: &str, section: &str, options: u32, data: Option<&str>) -> Option<String> {
    let (call, options) = (call.to_string(), (SYNCHRONOUS | options).to_string());
    let attributes = [
        ("t", "cib"),
        ("cib_op", operation),
        ("cib_section", section),
        ("cib_clientname", CLIENT),
        ("cib_callid", &call),
        ("cib_callopt", &options),
    ];
    element("cib_command", &attributes, data.map(|xml| format!("<cib_calldata>{xml}</cib_calldata>")).as_deref())
}

/// The result of a call of the CIB manager: 0, or an error of the system, or one of Pacemaker's own, below 0.
fn result(root: Node<'_, '_>, call: i32) -> Result<i32, String> {
    let number = |name: &str| root.attribute(name).and_then(|text| text.parse::<i32>().ok());
    match (root.attribute("t"), number("cib_callid"), number("cib_rc")) {
        (Some("cib"), Some(found), Some(result)) if found == call => Ok(result),
        _ => Err(format!("the answer is {}", root.tag_name().name())),
    }
}

fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// The size is bounded by the buffer, and a type definition, which could make more of it, is refused by the parser.
fn parse(xml: &str) -> Result<Document<'_>, String> {
    Document::parse(xml).map_err(|e| format!("the answer cannot be read: {e}"))
}

/// One element. `None` where a value holds what XML has no way to write.
fn element(tag: &str, attributes: &[(&str, &str)], content: Option<&str>) -> Option<String> {
    let mut xml = format!("<{tag}");
    for (name, value) in attributes {
        xml.push_str(&format!(" {name}=\"{}\"", escaped(value)?));
    }
    xml.push_str(&content.map_or_else(|| "/>".into(), |content| format!(">{content}</{tag}>")));
    Some(xml)
}

fn escaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push_str(&format!("&#{};", u32::from(c))),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer of Pacemaker 2.1.5, header and all: to the second question, for the values of an attribute.
    fn recorded() -> Vec<u8> {
        let header = "0200000000000000c000000000000000000000000000000098000000000000000002020001000000";
        let mut bytes: Vec<u8> = (0..header.len()).step_by(2).map(|at| u8::from_str_radix(&header[at..at + 2], 16).unwrap()).collect();
        bytes.extend_from_slice(VALUES[0].as_bytes());
        bytes.push(0);
        bytes
    }

    /// What was recorded here and below is of Pacemaker 2.1.5 (Debian 12) and 3.0.0 (Debian 13).
    const VALUES: [&str; 2] = [
        "<build_query_reply t=\"attrd\" subt=\"query\" attr_version=\"4\" attr_name=\"rec\"><node attr_host=\"lxc2\" attr_value=\"a&amp;b&quot;&lt;c\"/></build_query_reply>",
        "<build_query_reply t=\"attrd\" subt=\"query\" attr_version=\"7\" attr_name=\"rec\"><node attr_host=\"lxc2\" attr_value=\"a&amp;b&quot;&lt;c\"/></build_query_reply>",
    ];

    /// An answer of the CIB manager to the sixth question.
    fn cib_answer(result: i32, data: &str) -> String {
        let head = "<cib-reply t=\"cib\" cib_op=\"cib_query\" cib_callid=\"6\" cib_clientid=\"8a1b04be-b619-4d94-806d-635a61a9fb96\" cib_callopt=\"4098\"";
        match data {
            "" => format!("{head} cib_rc=\"{result}\"/>"),
            data => format!("{head} cib_rc=\"{result}\"><cib_calldata>{data}</cib_calldata></cib-reply>"),
        }
    }

    #[test]
    fn a_question_has_the_header_that_the_daemons_read() {
        let message = framed(2, "<a/>").unwrap();
        assert_eq!(message.len(), 45);
        let word = |at: usize| u32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
        assert_eq!([word(0), word(8), word(16), word(24), word(28), word(32)], [2, 45, 0, 5, 0, 0x200]);
        assert_eq!((message[36], &message[40..]), (1, &b"<a/>\0"[..]));
        // It is the one of their answers.
        assert_eq!(text_of(&message, 2), Ok("<a/>"));
    }

    #[test]
    fn an_answer_is_read_if_it_is_the_one_to_the_question_and_whole() {
        assert_eq!(text_of(&recorded(), 2), Ok(VALUES[0]));
        assert!(text_of(&recorded(), 3).unwrap_err().contains("another question"));
        let changed = |at: usize, byte: u8| {
            let mut answer = recorded();
            answer[at] = byte;
            text_of(&answer, 2).unwrap_err()
        };
        assert!(changed(VERSION_AT, 2).contains("version 2"));
        assert!(changed(COMPRESSED_SIZE, 7).contains("too long"));
        assert!(changed(FLAGS + 2, 0x0a).contains("too long"), "the first part of several");
        assert!(changed(SIZE, 0).contains("does not fit"));
        assert!(changed(TEXT_SIZE, 0).contains("does not fit"));
        assert!(changed(recorded().len() - 1, b' ').contains("does not fit"), "without its NUL");
        assert!(changed(HEADER, 0xff).contains("UTF-8"));
        for length in [0, 1, HEADER - 1, HEADER, HEADER + 1, recorded().len() - 1] {
            assert!(text_of(&recorded()[..length], 2).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_update_is_for_a_node_and_without_a_value_a_withdrawal() {
        let mut asked = Update { name: "master-db", value: Some("-INFINITY"), node: "lxc2", private: false };
        assert_eq!(
            update(&asked).unwrap(),
            "<systole t=\"attrd\" src=\"systole\" task=\"update\" attr_name=\"master-db\" attr_value=\"-INFINITY\" attr_host=\"lxc2\" \
             attr_is_remote=\"0\" attr_is_private=\"0\"/>"
        );
        (asked.value, asked.private) = (None, true);
        let withdrawal = update(&asked).unwrap();
        assert!(!withdrawal.contains("attr_value") && withdrawal.contains("attr_is_private=\"1\""), "{withdrawal}");
        asked.value = Some("a\u{1}b");
        assert_eq!(update(&asked), None, "XML has no way to write this");
    }

    #[test]
    fn an_acknowledgement_is_a_promise_to_carry_it_out() {
        for (line, version) in [(144, 4), (221, 7)] {
            let ack =
                format!("<ack function=\"handle_update_request\" line=\"{line}\" status=\"112\" ipc-protocol-version=\"{version}\"/>");
            assert_eq!(acknowledged(&ack), Ok(()));
        }
        for other in ["<ack function=\"attrd_ipc_dispatch\" line=\"570\" status=\"76\"/>", "<ack/>", "<nack status=\"0\"/>", "", "<ack"] {
            assert!(acknowledged(other).is_err(), "{other}");
        }
    }

    #[test]
    fn values_by_node() {
        for answer in VALUES {
            assert_eq!(values(answer, "rec"), Ok(BTreeMap::from([("lxc2".into(), "a&b\"<c".into())])));
            assert!(values(answer, "another").is_err());
        }
        // It was taken away; and nobody has published it.
        let gone = VALUES[0].replace(" attr_value=\"a&amp;b&quot;&lt;c\"", "");
        assert_eq!(values(&gone, "rec"), Ok(BTreeMap::from([("lxc2".into(), String::new())])));
        assert_eq!(values("<build_query_reply t=\"attrd\" subt=\"query\" attr_version=\"4\"/>", "rec"), Ok(BTreeMap::new()));
        for other in [
            "<build_query_reply t=\"attrd\" subt=\"query\"><node attr_host=\"a\"/></build_query_reply>",
            "<build_query_reply t=\"attrd\" subt=\"query\" attr_name=\"rec\"><node attr_value=\"a\"/></build_query_reply>",
            "<build_query_reply t=\"attrd\" subt=\"update\" attr_name=\"rec\"/>",
            "<ack function=\"attrd_ipc_dispatch\" line=\"570\" status=\"76\"/>",
        ] {
            assert!(values(other, "rec").is_err(), "{other}");
        }
    }

    #[test]
    fn a_modification_is_asked_for_by_xpath_or_section() {
        let replace = Modification { how: How::Replace("//nvpair[@value=concat('a', \"'\", 'b')]".into()), xml: "<nvpair/>".into() };
        assert_eq!(
            modify(6, &replace).unwrap(),
            "<cib_command t=\"cib\" cib_op=\"cib_replace\" cib_section=\"//nvpair[@value=concat('a', &quot;'&quot;, 'b')]\" \
             cib_clientname=\"systole\" cib_callid=\"6\" cib_callopt=\"4098\"><cib_calldata><nvpair/></cib_calldata></cib_command>"
        );
        let create = modify(7, &Modification { how: How::Create("crm_config"), xml: "<a/>".into() }).unwrap();
        assert!(create.contains("cib_op=\"cib_create\" cib_section=\"crm_config\"") && create.contains("cib_callopt=\"4096\""), "{create}");
        assert_eq!(
            modify(8, &Modification { how: How::Delete("//lrm_rsc_op[@id='a']".into()), xml: String::new() }).unwrap(),
            "<cib_command t=\"cib\" cib_op=\"cib_delete\" cib_section=\"//lrm_rsc_op[@id='a']\" cib_clientname=\"systole\" \
             cib_callid=\"8\" cib_callopt=\"4098\"/>"
        );
    }

    #[test]
    fn a_modification_was_carried_out_or_found_nothing_or_is_the_tools_to_explain() {
        assert_eq!(carried_out(&cib_answer(0, ""), 6), Ok(true));
        assert_eq!(carried_out(&cib_answer(-6, ""), 6), Ok(false));
        let exists = "<failed><failed_update id=\"rec\" object-type=\"cluster_property_set\" operation=\"cib_create\" reason=\"File exists\">\
                      <cluster_property_set id=\"rec\"><nvpair id=\"rec-r\" name=\"r\" value=\"x\"/></cluster_property_set></failed_update></failed>";
        assert_eq!(carried_out(&cib_answer(-17, exists), 6), Ok(false));
        for (result, call) in [(-13, 6), (-203, 6), (1, 6), (0, 5)] {
            assert!(carried_out(&cib_answer(result, ""), call).is_err(), "{result}");
        }
        for other in ["<nack function=\"cib_common_callback\" line=\"323\" status=\"76\"/>", "<cib-reply t=\"cib\" cib_callid=\"6\"/>"] {
            assert!(carried_out(other, 6).is_err(), "{other}");
        }
    }

    #[test]
    fn a_property_stands_once_or_not_at_all() {
        let one = "<nvpair id=\"cib-bootstrap-options-have-watchdog\" name=\"have-watchdog\" value=\"false\"/>";
        assert_eq!(value_of(&cib_answer(0, one), 6, "have-watchdog"), Ok(Some("false".into())));
        assert_eq!(value_of(&cib_answer(-6, ""), 6, "have-watchdog"), Ok(None));
        let two = format!("<xpath-query>{one}{one}</xpath-query>");
        for (result, data) in [(0, ""), (0, two.as_str()), (0, "<nvpair name=\"another\" value=\"1\"/>"), (-62, "")] {
            assert!(value_of(&cib_answer(result, data), 6, "have-watchdog").is_err(), "{data}");
        }
    }

    #[test]
    fn no_type_definition_makes_a_short_answer_a_long_one() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"cc\">]><ack status=\"0\">&b;</ack>";
        assert!(acknowledged(bomb).unwrap_err().contains("cannot be read"));
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_a_panic(answer in proptest::collection::vec(any::<u8>(), 0..120), text in "\\PC{0,200}") {
            let _ = text_of(&answer, 1);
            let _ = (acknowledged(&text), values(&text, "a"), carried_out(&text, 1), value_of(&text, 1, "a"));
        }

        #[test]
        fn what_is_asked_is_what_is_read(name in "[ -~]{1,30}", value in "[\t\n\r -~é\u{10000}]{0,60}") {
            let xml = update(&Update { name: &name, value: Some(&value), node: "a", private: true }).unwrap();
            let document = parse(&xml).unwrap();
            prop_assert_eq!(document.root_element().attribute("attr_name"), Some(name.as_str()));
            prop_assert_eq!(document.root_element().attribute("attr_value"), Some(value.as_str()));
        }
    }
}
