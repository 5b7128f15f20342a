//! What Pacemaker's command line tools print, parsed. No I/O.

use std::collections::BTreeMap;

/// Reads `attrd_updater --query --all`: one `name="n" host="h" value="v"` a line, in this order or another.
/// A line without a host or value (the tool's complaints) is passed over.
pub(crate) fn attribute_values(output: &str) -> BTreeMap<String, String> {
    output.lines().filter_map(|line| Some((field(line, "host")?, field(line, "value")?))).collect()
}

/// The value of `name="..."` in a line.
fn field(line: &str, name: &str) -> Option<String> {
    let key = format!("{name}=\"");
    let at = line.match_indices(&key).map(|(at, _)| at).find(|at| *at == 0 || line[..*at].ends_with(' '))?;
    let rest = &line[at + key.len()..];
    Some(rest[..rest.find('"')?].to_owned())
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
    fn a_field_name_inside_another_is_not_it() {
        assert_eq!(field("xhost=\"a\" host=\"b\"", "host").as_deref(), Some("b"));
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
