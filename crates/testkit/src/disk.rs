//! A disk of its own under a directory, which can be made to hang: whoever writes to it then waits in the kernel, and cannot be killed.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An empty ext4 of 500 MB, since not every image of a server has mkfs. Made by:
///
/// ```text
/// truncate -s 500M disk && mke2fs -q -t ext4 -m 0 -N 4096 -J size=4 -O ^resize_inode,^metadata_csum \
///   -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 -U 5f5f5f5f-0000-4000-8000-000000000001 disk
/// tar --sparse --owner=0 --group=0 --mtime=@0 -cf - disk | gzip -9n > disk.tar.gz
/// ```
const EMPTY: &[u8] = include_bytes!("disk.tar.gz");

/// An ext4 in a file. It is thawed and unmounted with this: let it go before the node whose data it holds.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Puts the content of `directory`, whose server does not run, on a disk of its own.
    ///
    /// # Panics
    /// When there are no loop devices here.
    pub fn under(directory: &Path) -> Self {
        // The sandbox has no udev.
        sh(
            "[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237 2>/dev/null || [ -e /dev/loop-control ]; for n in $(seq 0 63); do [ -e /dev/loop$n ] || mknod /dev/loop$n b 7 $n 2>/dev/null || [ -e /dev/loop$n ]; done",
            &[],
        );
        let (aside, image) = (directory.with_extension("aside"), directory.with_extension("image"));
        std::fs::rename(directory, &aside).unwrap();
        std::fs::create_dir(directory).unwrap();
        let packed = directory.with_extension("tar.gz");
        std::fs::write(&packed, EMPTY).unwrap();
        sh("tar -xz --to-stdout --file=\"$1\" | cp --sparse=always /dev/stdin \"$2\" && rm \"$1\"", &[&packed, &image]);
        sh("mount -o loop,noatime \"$1\" \"$2\" && rmdir \"$2\"/lost+found", &[&image, directory]);
        let disk = Self { directory: directory.to_owned(), image };
        sh("cp -a --sparse=always \"$1\"/. \"$2\"/ && chown --reference=\"$1\" \"$2\" && rm -r \"$1\"", &[&aside, directory]);
        disk
    }

    /// From here on it takes nothing.
    ///
    /// # Panics
    /// When it cannot be frozen.
    pub fn hang(&self) {
        sh("fsfreeze -f \"$1\"", &[&self.directory]);
    }

    /// It goes on.
    pub fn go_on(&self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.directory).stderr(std::process::Stdio::null()).status();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.go_on();
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
        let _ = std::fs::remove_file(&self.image);
    }
}

#[track_caller]
fn sh(script: &str, arguments: &[&Path]) {
    let output = Command::new("sh").args(["-ec", script, "sh"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
