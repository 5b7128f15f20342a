//! Debian packages in an image, installed by its own dpkg as on a server. Owns the cached layers that this leaves.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::error::{Context, Error, Result};
use crate::image::Recipe;
use crate::sandbox::{self, SandboxOptions};
use crate::state::{Bind, LabPaths};
use crate::{host, image, overlay};

/// Every commit makes another package. What nobody took for so long, and no lab stands on, goes when the next one comes.
const UNUSED: Duration = Duration::from_secs(24 * 3600);

/// What is to be laid over an image (one that is built): first what these packages bring, then the layers.
///
/// # Errors
/// When the packages cannot be installed, or a layer is none.
pub fn package_layers(image: &str, packages: &[PathBuf], layers: &[PathBuf]) -> Result<Vec<PathBuf>> {
    self::layers(image, &Recipe::find(image)?.built()?, packages, layers)
}

/// The same over an image in this directory.
pub(crate) fn layers(image: &str, image_root: &Path, packages: &[PathBuf], layers: &[PathBuf]) -> Result<Vec<PathBuf>> {
    Ok(layer(image, image_root, packages)?.into_iter().chain(overlay::layers(layers)?).collect())
}

/// What `dpkg --install` of these packages changes in an image, as a layer over it: made once, then taken from the cache. dpkg itself
/// insists on what the packages depend on, and its records are in the layer: `dpkg -s` and an upgrade in a node work.
fn layer(image: &str, image_root: &Path, packages: &[PathBuf]) -> Result<Option<PathBuf>> {
    if packages.is_empty() {
        return Ok(None);
    }
    let digest = host::checked(Command::new("sh").args(["-c", "cat -- \"$@\" | sha256sum", "sh"]).args(packages))?.stdout;
    let image_name = image_root.file_name().unwrap_or_default().to_string_lossy();
    let name = format!("{image_name}-{}", digest.get(..16).unwrap_or_default());
    let layers = image::cache_dir().join("layers");
    std::fs::create_dir_all(&layers).context(|| format!("make {}", layers.display()))?;
    let _lock = host::lock_file(&layers.join(".lock"))?;
    let path = layers.join(&name);
    if !path.is_dir() {
        remove_unused(&layers)?;
        make(image, packages, &layers, &path)?;
    }
    let used = std::fs::File::open(&path).and_then(|dir| dir.set_modified(SystemTime::now()));
    used.context(|| format!("date {}", path.display()))?;
    Ok(Some(path))
}

fn make(image: &str, packages: &[PathBuf], layers: &Path, path: &Path) -> Result<()> {
    let shown: Vec<String> = packages.iter().map(|package| package.display().to_string()).collect();
    host::progress(&format!("installing {} in {image} with dpkg", shown.join(", ")));
    let bind = |(number, package): (usize, &PathBuf)| {
        let source = std::fs::canonicalize(package).context(|| format!("package {}", package.display()))?;
        // On a tmpfs: a mount point there leaves nothing in the layer.
        Ok(Bind { source, target: format!("/run/packages/{number}.deb").into() })
    };
    let options = SandboxOptions {
        image: image.to_owned(),
        binds: packages.iter().enumerate().map(bind).collect::<Result<_>>()?,
        env: vec!["DEBIAN_FRONTEND=noninteractive".to_owned()],
        ..SandboxOptions::default()
    };
    let install = "dpkg --install /run/packages/*.deb > /run/dpkg.log 2>&1 || { cat /run/dpkg.log >&2; exit 1; }";
    let building = layers.join(".building");
    image::remove_tree(&building)?;
    let code = sandbox::keeping(&options, &["sh", "-c", install].map(str::to_owned), |upper| {
        // Perhaps to another file system; with the marks that an overlay puts on what it hides.
        host::run("cp", &["-a", &upper.display().to_string(), &building.display().to_string()]).map(drop)
    })?;
    if code != 0 {
        return Err(Error::Refused(format!("dpkg does not install {} in the image {image}: what it says stands above", shown.join(", "))));
    }
    std::fs::rename(&building, path).context(|| format!("rename to {}", path.display()))
}

fn remove_unused(layers: &Path) -> Result<()> {
    let in_use = LabPaths::layers_in_use();
    for entry in std::fs::read_dir(layers).context(|| format!("list {}", layers.display()))?.flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|used| used.elapsed().ok());
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && age.is_some_and(|age| age > UNUSED) && !in_use.contains(&entry.path()) {
            image::remove_tree(&entry.path())?;
        }
    }
    Ok(())
}
