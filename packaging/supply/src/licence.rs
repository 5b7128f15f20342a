//! Licence expressions as crates have them: SPDX, and the slash of older crates, which means OR.

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Licence {
    /// One licence, its exception included.
    One(String),
    /// All of them hold.
    All(Vec<Licence>),
    /// Whoever takes the crate chooses.
    Any(Vec<Licence>),
}

impl Licence {
    /// Reads an expression; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = words.as_slice();
        let licence = any(&mut rest)?;
        rest.is_empty().then_some(licence)
    }

    /// Whether these licences are enough to take the crate.
    pub fn is_satisfied_by(&self, accepted: &dyn Fn(&str) -> bool) -> bool {
        match self {
            Self::One(name) => accepted(name),
            Self::All(parts) => parts.iter().all(|part| part.is_satisfied_by(accepted)),
            Self::Any(parts) => parts.iter().any(|part| part.is_satisfied_by(accepted)),
        }
    }
}

fn any(words: &mut &[&str]) -> Option<Licence> {
    separated(words, "OR", |words| separated(words, "AND", one, Licence::All), Licence::Any)
}

fn separated(
    words: &mut &[&str],
    by: &str,
    part: impl Fn(&mut &[&str]) -> Option<Licence>,
    make: impl Fn(Vec<Licence>) -> Licence,
) -> Option<Licence> {
    let mut parts = vec![part(words)?];
    while words.first() == Some(&by) {
        *words = &words[1..];
        parts.push(part(words)?);
    }
    if parts.len() == 1 { parts.pop() } else { Some(make(parts)) }
}

fn one(words: &mut &[&str]) -> Option<Licence> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let inner = any(words)?;
        let (close, rest) = words.split_first()?;
        *words = rest;
        return (*close == ")").then_some(inner);
    }
    if ["OR", "AND", "WITH", ")"].contains(first) {
        return None;
    }
    match words[..] {
        ["WITH", exception, ..] => {
            *words = &words[2..];
            Some(Licence::One(format!("{first} WITH {exception}")))
        }
        _ => Some(Licence::One((*first).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_satisfied_by_what_it_asks_for() {
        let fine = |text: &str, accepted: &[&str]| Licence::parse(text).unwrap().is_satisfied_by(&|name| accepted.contains(&name));
        assert!(fine("MIT", &["MIT"]) && !fine("MIT", &["Zlib"]));
        assert!(fine("MIT OR Apache-2.0", &["MIT"]) && fine("MIT/Apache-2.0", &["MIT"]));
        assert!(!fine("(MIT OR Apache-2.0) AND Unicode-3.0", &["MIT"]));
        assert!(fine("(MIT OR Apache-2.0) AND Unicode-3.0", &["MIT", "Unicode-3.0"]));
        // AND binds more tightly.
        assert!(fine("MIT OR Apache-2.0 AND Unicode-3.0", &["MIT"]));
        assert!(!fine("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"]));
        for nonsense in ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT Zlib", "MIT WITH"] {
            assert_eq!(Licence::parse(nonsense), None, "{nonsense}");
        }
    }
}
