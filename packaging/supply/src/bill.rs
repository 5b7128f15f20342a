//! The list of the crates in the programs, as CycloneDX has it, for whoever looks for a known hole in what is installed.

use serde_json::{Value, json};

use crate::Error;
use crate::cargo::{Crates, Package, said};

/// The list, as JSON. The same sources, compiler and SOURCE_DATE_EPOCH make the same text.
///
/// # Errors
/// When a crate of others has no checksum, or something cannot be read.
pub fn bill(crates: &Crates, version: &str) -> Result<String, Error> {
    let checksums = crates.checksums()?;
    let mut components = Vec::new();
    for package in &crates.packages {
        let mut component = json!({
            "type": "library", "bom-ref": reference(package), "name": package.name, "version": package.version, "scope": "required",
        });
        if let Some(licence) = &package.license {
            component["licenses"] = json!([{ "expression": licence.replace(" / ", " OR ").replace('/', " OR ") }]);
        }
        if package.source.is_some() {
            let checksum = checksums
                .get(&(package.name.clone(), package.version.clone()))
                .ok_or_else(|| Error::Refused(format!("{} has no checksum in Cargo.lock", package.shown())))?;
            component["purl"] = json!(reference(package));
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
            if let Some(repository) = &package.repository {
                component["externalReferences"] = json!([{ "type": "vcs", "url": repository }]);
            }
        }
        components.push(component);
    }
    let compiler = said("rustc", &["--version"])?;
    let number = compiler.split_whitespace().nth(1).unwrap_or_default();
    components.push(json!({
        "type": "library", "bom-ref": "rust-std", "name": "rust-std", "version": number, "scope": "required",
        "licenses": [{ "expression": "MIT OR Apache-2.0" }], "description": compiler.trim(),
    }));
    let mut dependencies: Vec<Value> = crates
        .packages
        .iter()
        .map(|package| {
            let needed: Vec<String> = crates.needed_by(package).into_iter().map(reference).chain(["rust-std".to_owned()]).collect();
            json!({ "ref": reference(package), "dependsOn": needed })
        })
        .collect();
    let own: Vec<String> = crates.packages.iter().filter(|package| package.source.is_none()).map(reference).collect();
    dependencies.insert(0, json!({ "ref": "systole", "dependsOn": own }));
    let list = json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {
            "timestamp": made()?,
            "component": {
                "type": "application", "bom-ref": "systole", "name": "systole", "version": version,
                "licenses": [{ "expression": "GPL-2.0-or-later" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    serde_json::to_string_pretty(&list).map(|text| text + "\n").map_err(|e| Error::Unreadable("CycloneDX".to_owned(), e.to_string()))
}

/// What the crates of crates.io are called everywhere.
fn reference(package: &Package) -> String {
    match package.source {
        Some(_) => format!("pkg:cargo/{}@{}", package.name, package.version),
        None => format!("systole/{}", package.name),
    }
}

/// When the sources were changed last.
fn made() -> Result<String, Error> {
    let wrong = || Error::Refused("SOURCE_DATE_EPOCH is not set, or no time: it is the time of the last commit".to_owned());
    let seconds = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
    let time = chrono::DateTime::from_timestamp(seconds, 0).ok_or_else(wrong)?;
    Ok(time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
}
