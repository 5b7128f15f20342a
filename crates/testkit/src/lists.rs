//! The lists that a promotable clone with notify=true gets in its environment.

/// How the roles are spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `promoted`, `unpromoted`: Pacemaker 2.1 and later.
    New,
    /// `master`, `slave`: before.
    Old,
    /// Both, as Pacemaker 2.1 really does it.
    Both,
}

/// Which nodes are what, and what is about to happen to them. All describe the state before the transition.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// Nodes with a promoted instance.
    pub promoted: Vec<&'static str>,
    /// Nodes with an unpromoted instance.
    pub unpromoted: Vec<&'static str>,
    /// Nodes where an instance will be, or was, promoted.
    pub promote: Vec<&'static str>,
    /// Nodes where an instance will be, or was, demoted.
    pub demote: Vec<&'static str>,
    /// Nodes where an instance will be, or was, started.
    pub start: Vec<&'static str>,
    /// Nodes where an instance will be, or was, stopped.
    pub stop: Vec<&'static str>,
}

impl Lists {
    /// The transition that promotes `candidate`; `unpromoted` run, the candidate among them.
    pub fn promoting(candidate: &'static str, unpromoted: &[&'static str]) -> Self {
        Self { promote: vec![candidate], unpromoted: unpromoted.to_vec(), ..Self::default() }
    }

    /// The meta variables, without `OCF_RESKEY_CRM_meta_notify_`. An empty list is a single blank, as Pacemaker has it.
    pub fn variables(&self, resource: &str, spelling: Spelling) -> Vec<(String, String)> {
        let roles: &[(&str, &str)] = match spelling {
            Spelling::New => &[("promoted", "unpromoted")],
            Spelling::Old => &[("master", "slave")],
            Spelling::Both => &[("promoted", "unpromoted"), ("master", "slave")],
        };
        let mut named: Vec<(&str, &Vec<&str>)> =
            vec![("promote", &self.promote), ("demote", &self.demote), ("start", &self.start), ("stop", &self.stop)];
        for (promoted, unpromoted) in roles {
            named.extend([(*promoted, &self.promoted), (*unpromoted, &self.unpromoted)]);
        }
        let none = Vec::new();
        // Pacemaker leaves the list of active instances empty for promotable clones.
        named.extend([("active", &none), ("inactive", &none)]);
        let mut variables = Vec::new();
        for (name, nodes) in named {
            let text = |words: Vec<String>| if words.is_empty() { " ".to_owned() } else { words.join(" ") };
            let number = |node: &str| node.bytes().next().map_or(0, |b| b.wrapping_sub(b'a'));
            variables.push((format!("{name}_resource"), text(nodes.iter().map(|n| format!("{resource}:{}", number(n))).collect())));
            variables.push((format!("{name}_uname"), text(nodes.iter().map(|n| (*n).to_owned()).collect())));
        }
        variables
    }
}
