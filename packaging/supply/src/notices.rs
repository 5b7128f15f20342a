//! The notices that most licences want to go where the programs go.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::cargo::{Crates, Package, read, said};
use crate::{Error, Licence};

/// The text of the licence that is taken where there is a choice.
const MIT: &str = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the \"Software\"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
";

/// Names of files that hold notices, in lower case, as they begin.
const NOTICES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "authors"];

/// The notices of all crates of others in the programs, and of Rust's own library.
///
/// # Errors
/// When there is no text for a crate, neither its own nor one that its licence has for everybody.
pub fn notices(crates: &Crates) -> Result<String, Error> {
    let mut text =
        "The programs of systole contain these crates and Rust's own library, under these licences. Where there is a choice, that \
                    of MIT is taken.\n"
            .to_owned();
    let mut missing = Vec::new();
    for package in crates.foreign() {
        match texts(package)? {
            None => missing.push(format!(
                "{} ({}) has no text of its licence, and that licence has none that is the same for everybody: look for it, or do without it",
                package.shown(),
                package.license.as_deref().unwrap_or("no licence")
            )),
            Some(texts) => section(&mut text, &package.shown(), package.license.as_deref().unwrap_or_default(), &texts),
        }
    }
    if !missing.is_empty() {
        return Err(Error::Refused(missing.join("\n")));
    }
    let compiler = said("rustc", &["--version"])?;
    section(&mut text, &format!("Rust's library ({})", compiler.trim()), "MIT OR Apache-2.0", &[of_the_library()?]);
    Ok(text)
}

fn section(text: &mut String, name: &str, licence: &str, texts: &[String]) {
    let _ = write!(text, "\n{}\n{name}: {licence}\n", "=".repeat(80));
    for notice in texts {
        let _ = write!(text, "\n{}\n", notice.trim_end());
    }
}

/// The texts of a crate; the standard one when it brings none.
fn texts(package: &Package) -> Result<Option<Vec<String>>, Error> {
    let licence = Licence::parse(package.license.as_deref().unwrap_or_default());
    let mit_is_enough = licence.is_some_and(|licence| licence.is_satisfied_by(&|name| name == "MIT"));
    let found = files(package.directory());
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let of_mit: Vec<PathBuf> = found.iter().filter(|path| name(path).contains("mit")).cloned().collect();
    let taken: Vec<PathBuf> = if mit_is_enough && !of_mit.is_empty() {
        let beside = found.into_iter().filter(|path| ["copyright", "notice", "authors"].iter().any(|begin| name(path).starts_with(begin)));
        of_mit.into_iter().chain(beside).collect()
    } else {
        found
    };
    if !taken.is_empty() {
        return taken.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>().map(Some);
    }
    Ok(mit_is_enough.then(|| {
        let authors = if package.authors.is_empty() { format!("the authors of {}", package.name) } else { package.authors.join(", ") };
        vec![format!("Copyright (c) {authors}\n\n{MIT}")]
    }))
}

/// The files with notices of a crate, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            NOTICES.iter().any(|begin| name.starts_with(begin)) && !name.ends_with(".rs")
        })
        .flat_map(|path| if path.is_dir() { files_of(&path) } else { vec![path] })
        .collect();
    found.sort();
    found
}

fn files_of(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// What Rust's distribution says of its library and the crates in it. A distribution that leaves that out says it of itself elsewhere.
fn of_the_library() -> Result<String, Error> {
    let sysroot = said("rustc", &["--print", "sysroot"])?;
    let path = Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html");
    if path.exists() {
        return read(&path).map(|html| plain(&html));
    }
    Ok(format!("Copyright (c) The Rust Project Developers (see https://thanks.rust-lang.org)\n\n{MIT}"))
}

/// The text of a page: no marks, no blank lines but one.
fn plain(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some((before, mark)) = rest.split_once('<') {
        text += before;
        let (mark, after) = mark.split_once('>').unwrap_or_default();
        // What is between these is not for people.
        let hidden = ["style", "script", "head"].into_iter().find(|name| mark.split_whitespace().next() == Some(name));
        rest = match hidden {
            Some(name) => after.split_once(&format!("</{name}>")).map_or("", |(_, after)| after),
            None => after,
        };
    }
    text += rest;
    for (entity, character) in [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#60;", "<"),
        ("&#62;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ] {
        text = text.replace(entity, character);
    }
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim_end) {
        let blank = line.trim().is_empty();
        if !(blank && lines.last().is_none_or(|last| last.is_empty())) {
            lines.push(if blank { "" } else { line });
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, license: &str, files: &[&str]) -> Package {
        let directory = std::env::temp_dir().join(format!("systole-supply-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        for file in files {
            let path = directory.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("text of {file}")).unwrap();
        }
        serde_json::from_value(serde_json::json!({
            "id": name, "name": name, "version": "1.0.0", "license": license, "source": "registry+x", "repository": null,
            "authors": ["A. Author"], "manifest_path": directory.join("Cargo.toml")
        }))
        .unwrap()
    }

    #[test]
    fn a_crate_without_a_text_gets_the_standard_one_or_is_an_error() {
        let of = |name: &str, license: &str, files: &[&str]| texts(&package(name, license, files)).unwrap();
        assert_eq!(
            of("both", "MIT OR Apache-2.0", &["LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"]),
            Some(vec!["text of LICENSE-MIT".to_owned()])
        );
        assert_eq!(of("other", "Zlib", &["LICENSE.md"]), Some(vec!["text of LICENSE.md".to_owned()]));
        let both = of("and", "(MIT OR Apache-2.0) AND Unicode-3.0", &["LICENSE-MIT", "LICENSE-UNICODE"]).unwrap();
        assert_eq!(both.len(), 2, "both are needed");
        assert_eq!(of("directory", "MIT", &["LICENSES/MIT.txt"]), Some(vec!["text of LICENSES/MIT.txt".to_owned()]));
        let standard = of("none", "MIT", &["src/lib.rs"]).unwrap();
        assert!(standard[0].starts_with("Copyright (c) A. Author") && standard[0].contains("WITHOUT WARRANTY"), "{standard:?}");
        assert_eq!(of("zlib", "Zlib", &["src/lib.rs"]), None);
    }

    #[test]
    fn a_page_is_read_as_text() {
        assert_eq!(
            plain("<html><head><title>x</title></head><style>a{}</style><b>A</b> &#60;a@b&#62;\n\n\n  \n&amp;lt;"),
            "A <a@b>\n\n&lt;"
        );
    }

    #[test]
    fn every_crate_of_the_programs_has_its_notice() {
        let crates = Crates::of_programs(&[
            "pacemaker",
            "systole-address",
            "systole-command",
            "systole-cron-singleton",
            "systole-mysql",
            "systole-redis",
        ])
        .unwrap();
        let text = notices(&crates).unwrap();
        assert!(crates.foreign().count() > 40);
        for package in crates.foreign() {
            assert!(text.contains(&format!("\n{}: ", package.shown())), "{}", package.shown());
        }
        assert!(text.contains("Rust's library (rustc 1."));
    }
}
