//! What Pacemaker's command line tools are told and print. No I/O.

use std::collections::BTreeMap;

use crate::ipc::{How, Modification};

/// Reads `attrd_updater --query --all`: one `name="n" host="h" value="v"` a line, in this order or another.
/// A line without a host or value (the tool's complaints) is passed over.
pub(crate) fn attribute_values(output: &str) -> BTreeMap<String, String> {
    output.lines().filter_map(|line| Some((field(line, "host")?, field(line, "value")?))).collect()
}

/// Whether `attrd_updater` says that nobody has published an attribute. Releases differ in the status that they say it with.
pub(crate) fn says_that_nothing_is_there(complaint: &str) -> bool {
    complaint.contains("does not exist")
}

/// The value of `name="..."` in a line.
fn field(line: &str, name: &str) -> Option<String> {
    let key = format!("{name}=\"");
    let at = line.match_indices(&key).map(|(at, _)| at).find(|at| *at == 0 || line[..*at].ends_with(' '))?;
    let rest = &line[at + key.len()..];
    Some(rest[..rest.find('"')?].to_owned())
}

/// Gives a property of the cluster another value where it has this one, and only there.
pub(crate) fn replace_nvpair(set: &str, name: &str, before: &str, value: &str) -> Modification {
    let path = format!("{}/nvpair[@name='{name}'][@value={}]", path_of(set), literal(before));
    Modification { how: How::Replace(path), xml: nvpair(set, name, value) }
}

/// The same where the set has no such property, or an empty one.
pub(crate) fn create_nvpair(set: &str, name: &str, value: &str) -> Modification {
    let path = format!("{}[not(nvpair[@name='{name}'][normalize-space(@value)])]", path_of(set));
    Modification { how: How::Modify(path), xml: properties(set, name, value) }
}

/// The same where there is no such set.
pub(crate) fn create_set(set: &str, name: &str, value: &str) -> Modification {
    Modification { how: How::Create("crm_config"), xml: properties(set, name, value) }
}

/// The agent's exit code for a service that runs and is degraded.
const DEGRADED: u8 = 190;

/// Takes away the last failure of a resource on a node where that is a recurring monitor that answered degraded. A real failure stays: its
/// recovery starts the monitor again, and people want to see it.
pub(crate) fn delete_degraded(node: &str, resource: &str) -> Modification {
    let of_resource = format!("//node_state[@uname={}]//lrm_resource[@id={}]", literal(node), literal(resource));
    let last_failure = literal(&format!("{resource}_last_failure_0"));
    let path = format!("{of_resource}/lrm_rsc_op[@id={last_failure}][@operation='monitor'][@interval!='0'][@rc-code='{DEGRADED}']");
    Modification { how: How::Delete(path), xml: String::new() }
}

/// What `cibadmin` is told for it.
pub(crate) fn cibadmin(modification: &Modification) -> Vec<&str> {
    let (verb, option, place) = match &modification.how {
        How::Replace(path) => ("--replace", "--xpath", path.as_str()),
        How::Modify(path) => ("--modify", "--xpath", path.as_str()),
        How::Create(section) => ("--create", "--scope", *section),
        How::Delete(path) => return vec!["--delete", "--xpath", path],
    };
    vec![verb, option, place, "--xml-text", &modification.xml]
}

/// Where a property of the cluster stands, in a set or in any: what `crm_attribute --type crm_config` looks for.
pub(crate) fn path_of_property(set: Option<&str>, name: &str) -> String {
    let set = set.map(|set| format!("[@id='{set}']")).unwrap_or_default();
    format!("/cib/configuration/crm_config//cluster_property_set{set}//nvpair[@name='{name}']")
}

/// Where a lasting attribute of a node stands: what `crm_attribute --type nodes` looks for, which knows the node by its number.
pub(crate) fn path_of_node_attribute(node: &str, name: &str) -> String {
    format!("/cib/configuration/nodes//node[@uname={}]//instance_attributes//nvpair[@name={}]", literal(node), literal(name))
}

fn path_of(set: &str) -> String {
    format!("//crm_config/cluster_property_set[@id='{set}']")
}

fn properties(set: &str, name: &str, value: &str) -> String {
    format!("<cluster_property_set id=\"{set}\">{}</cluster_property_set>", nvpair(set, name, value))
}

/// With the id that `crm_attribute` gives it.
fn nvpair(set: &str, name: &str, value: &str) -> String {
    let value = value.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!("<nvpair id=\"{set}-{name}\" name=\"{name}\" value=\"{value}\"/>")
}

/// A text as XPath writes it, which knows no way to write a quote of the kind that it is in.
fn literal(text: &str) -> String {
    if !text.contains('\'') {
        return format!("'{text}'");
    }
    let parts: Vec<String> = text.split('\'').map(|part| format!("'{part}'")).collect();
    format!("concat({})", parts.join(", \"'\", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_by_node() {
        let text = "name=\"p\" host=\"lxc1\" value=\"1:a\"\nname=\"p\" host=\"lxc2\" value=\"\"\nCould not query\n";
        let values = attribute_values(text);
        assert_eq!(values.get("lxc1").map(String::as_str), Some("1:a"));
        assert_eq!(values.get("lxc2").map(String::as_str), Some(""));
        assert_eq!(values.len(), 2);
    }

    #[test]
    fn an_attribute_that_nobody_has_published_is_no_failure() {
        assert!(says_that_nothing_is_there("Could not query value of systole-r-position: attribute does not exist"));
        assert!(!says_that_nothing_is_there("Could not query value of systole-r-position: Connection to cluster failed"));
    }

    #[test]
    fn a_field_name_inside_another_is_not_it() {
        assert_eq!(field("xhost=\"a\" host=\"b\"", "host").as_deref(), Some("b"));
    }

    #[test]
    fn a_property_is_replaced_where_it_has_the_value_before() {
        let modification = replace_nvpair("systole", "systole-r-primary", "node=a's", "node=\"<b>\"");
        let [how, _, path, _, xml] = cibadmin(&modification)[..] else { unreachable!() };
        assert_eq!(how, "--replace");
        assert_eq!(
            path,
            "//crm_config/cluster_property_set[@id='systole']/nvpair[@name='systole-r-primary'][@value=concat('node=a', \"'\", 's')]"
        );
        assert_eq!(xml, r#"<nvpair id="systole-systole-r-primary" name="systole-r-primary" value="node=&quot;&lt;b>&quot;"/>"#);
    }

    #[test]
    fn only_a_degraded_monitor_is_taken_away() {
        let modification = delete_degraded("lxc1", "mysql");
        assert_eq!(
            cibadmin(&modification),
            [
                "--delete",
                "--xpath",
                "//node_state[@uname='lxc1']//lrm_resource[@id='mysql']/lrm_rsc_op[@id='mysql_last_failure_0'][@operation='monitor']\
                 [@interval!='0'][@rc-code='190']"
            ]
        );
    }

    proptest! {
        #[test]
        fn any_output_is_read_without_a_panic(text in "\\PC{0,200}") {
            let _ = attribute_values(&text);
        }

        #[test]
        fn what_is_printed_is_read(values in proptest::collection::btree_map("[a-z0-9.-]{1,12}", "[a-zA-Z0-9:.,=-]{0,40}", 0..6)) {
            let text: String = values.iter().map(|(host, value)| format!("name=\"x\" host=\"{host}\" value=\"{value}\"\n")).collect();
            prop_assert_eq!(attribute_values(&text), values);
        }
    }
}
