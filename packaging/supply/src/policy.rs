//! `deny.toml`, as far as it is checked without cargo-deny: licences and origins. The file is cargo-deny's; this reads those lists of it.

use crate::cargo::{Crates, Package, read, root};
use crate::{Error, Licence};

/// What is allowed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policy {
    licences: Vec<String>,
    /// Crate, and what is allowed of it besides.
    exceptions: Vec<(String, Vec<String>)>,
    registries: Vec<String>,
}

impl Policy {
    /// That of the workspace.
    ///
    /// # Errors
    /// When the file cannot be read, or has no lists.
    pub fn read() -> Result<Self, Error> {
        let policy = Self::parse(&read(&root().join("deny.toml"))?);
        if policy.licences.is_empty() || policy.registries.is_empty() {
            return Err(Error::Refused("deny.toml allows no licence or no registry: correct it, or the reading of it".to_owned()));
        }
        Ok(policy)
    }

    fn parse(text: &str) -> Self {
        let mut policy = Self::default();
        let mut section = "";
        // A list may go over several lines.
        let mut logical = String::new();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            if logical.is_empty() && line.starts_with('[') {
                section = line;
                if section == "[[licenses.exceptions]]" {
                    policy.exceptions.push(Default::default());
                }
                continue;
            }
            logical += line;
            if logical.contains('[') && !logical.ends_with(']') {
                continue;
            }
            let (name, value) = logical.split_once('=').unwrap_or_default();
            let strings: Vec<String> = value.split('"').skip(1).step_by(2).map(str::to_owned).collect();
            match (section, name.trim()) {
                ("[licenses]", "allow") => policy.licences = strings,
                ("[sources]", "allow-registry") => policy.registries = strings,
                ("[[licenses.exceptions]]", "allow") => {
                    if let Some(exception) = policy.exceptions.last_mut() {
                        exception.1 = strings;
                    }
                }
                ("[[licenses.exceptions]]", "crate") => {
                    if let (Some(exception), Some(name)) = (policy.exceptions.last_mut(), strings.into_iter().next()) {
                        exception.0 = name;
                    }
                }
                _ => {}
            }
            logical.clear();
        }
        policy
    }

    /// Whether all crates are as it says.
    ///
    /// # Errors
    /// With a line for each that is not.
    pub fn check(&self, crates: &Crates) -> Result<(), Error> {
        let wrong: Vec<String> = crates.packages.iter().filter_map(|package| self.refusal(package)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Error::Refused(wrong.join("\n"))) }
    }

    fn refusal(&self, package: &Package) -> Option<String> {
        let of_this =
            self.exceptions.iter().find(|(name, _)| *name == package.name).map(|(_, allowed)| allowed.as_slice()).unwrap_or_default();
        let accepted = |name: &str| self.licences.iter().chain(of_this).any(|allowed| allowed == name);
        let expression = package.license.as_deref().unwrap_or_default();
        if !Licence::parse(expression).is_some_and(|licence| licence.is_satisfied_by(&accepted)) {
            return Some(format!("{}: the licence {expression:?} is not allowed in deny.toml", package.shown()));
        }
        let source = package.source.as_deref()?;
        let known = self.registries.iter().any(|registry| source.strip_prefix("registry+") == Some(registry));
        (!known).then(|| format!("{}: it comes from {source}, which is not allowed in deny.toml", package.shown()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(license: Option<&str>, source: Option<&str>) -> Package {
        let text = serde_json::json!({
            "id": "x", "name": "x", "version": "1.0.0", "license": license, "source": source, "repository": null, "manifest_path": "/x/Cargo.toml"
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn the_lists_are_read_and_what_is_not_in_them_is_refused() {
        let policy = Policy::parse(
            "[bans]\nallow = [\"no\"]\n[licenses]\nallow = [\n  \"MIT\", # the usual\n  \"Zlib\",\n]\n[[licenses.exceptions]]\ncrate = \"x\"\n\
             allow = [\"BSL-1.0\"]\n[sources]\nallow-registry = [\"https://here/index\"]\n",
        );
        let here = Some("registry+https://here/index");
        for (license, source) in [("MIT", None), ("Zlib OR GPL-3.0", here), ("BSL-1.0", here)] {
            assert_eq!(policy.refusal(&package(Some(license), source)), None);
        }
        for (license, source, words) in [
            (Some("GPL-3.0-only"), here, "licence"),
            (None, here, "licence"),
            (Some("MIT AND OpenSSL"), here, "licence"),
            (Some("MIT"), Some("registry+https://elsewhere"), "elsewhere"),
            (Some("MIT"), Some("git+https://here/index"), "comes from"),
        ] {
            assert!(policy.refusal(&package(license, source)).unwrap().contains(words), "{license:?} {source:?}");
        }
    }

    #[test]
    fn the_packages_name_the_licences_of_what_is_in_the_programs() {
        let crates = Crates::of_programs(&[
            "pacemaker",
            "systole-address",
            "systole-command",
            "systole-cron-singleton",
            "systole-mysql",
            "systole-redis",
        ])
        .unwrap();
        let spec = read(&root().join("packaging/systole.spec")).unwrap();
        let named: Vec<&str> = spec.lines().find_map(|line| line.strip_prefix("License:")).unwrap().split(" AND ").map(str::trim).collect();
        let licences: Vec<Licence> = crates.packages.iter().map(|p| Licence::parse(p.license.as_deref().unwrap()).unwrap()).collect();
        let enough = |named: &[&str]| licences.iter().all(|licence| licence.is_satisfied_by(&|name| named.contains(&name)));
        assert!(enough(&named), "{named:?}");
        for without in &named {
            let rest: Vec<&str> = named.iter().filter(|name| *name != without).copied().collect();
            assert!(!enough(&rest), "{without} is in no program");
        }
        let debian = read(&root().join("packaging/debian/copyright")).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(debian.contains("under the licences MIT and Zlib."), "as the RPM says it");
    }

    #[test]
    fn licences_and_origins_of_all_crates_are_allowed() {
        Policy::read().unwrap().check(&Crates::of_everything().unwrap()).unwrap();
    }
}
