//! What is laid over an image.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// Directories at the top that are symbolic links in an image; a layer with real ones would hide the links.
const LINKS: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// These layers, each as a path that the overlay can take.
pub(crate) fn layers(layers: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let path = |layer: &PathBuf| {
        check_layer(layer)?;
        std::fs::canonicalize(layer).context(|| format!("layer {}", layer.display()))
    };
    layers.iter().map(path).collect()
}

/// Refuses layers that cannot be an overlay's lower directory or would break the image.
fn check_layer(layer: &Path) -> Result<()> {
    if !layer.is_dir() {
        return Err(Error::Refused(format!("layer {} is not a directory", layer.display())));
    }
    if layer.to_string_lossy().contains([':', ',', '\\']) {
        return Err(Error::Refused(format!("layer {}: an overlay takes no ':', ',' or '\\' in a path", layer.display())));
    }
    match LINKS.iter().find(|name| layer.join(name).symlink_metadata().is_ok_and(|m| m.is_dir())) {
        Some(name) => Err(Error::Refused(format!(
            "layer {} has the directory {name}, a link in Debian: install below usr/{name} instead",
            layer.display()
        ))),
        None => Ok(()),
    }
}

/// `lowerdir=` of an overlay: the image last, later layers over earlier ones.
pub(crate) fn lower_dirs(image: &Path, layers: &[PathBuf]) -> String {
    let dirs: Vec<String> = layers.iter().rev().map(|l| l.display().to_string()).chain([image.display().to_string()]).collect();
    dirs.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_cover_earlier_ones() {
        let layers = [PathBuf::from("/a"), PathBuf::from("/b")];
        assert_eq!(lower_dirs(Path::new("/image"), &layers), "/b:/a:/image");
    }
}
