//! One command in an image, thrown away afterwards: for contract tests against real servers, ocf-tester, crm_verify.
//! No init, no network but loopback, nothing shared with any lab.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::image::{self, Recipe};
use crate::state::Bind;
use crate::{cgroup, host, overlay};

/// What the sandbox shall hold.
#[derive(Debug, Clone, Default)]
pub struct SandboxOptions {
    /// Image.
    pub image: String,
    /// Directories laid over it, later ones over earlier ones.
    pub layers: Vec<PathBuf>,
    /// Directories of the host in it.
    pub binds: Vec<Bind>,
    /// Variables `NAME=value` for the command.
    pub env: Vec<String>,
    /// Working directory in it.
    pub chdir: Option<String>,
}

const PARENT: &str = "/var/lib/systole-lab-sandbox";

/// Runs the command with this program's standard input, output and error; returns its exit code.
pub fn sandbox(options: &SandboxOptions, words: &[String]) -> Result<i32> {
    // Without an init nobody makes the directories in /run that agents and servers expect.
    let prepare = "systemd-tmpfiles --create --exclude-prefix=/dev --exclude-prefix=/proc --exclude-prefix=/sys \
                   >/dev/null 2>&1; exec \"$@\"";
    let prepared: Vec<String> = ["/bin/sh", "-c", prepare, "sh"].map(str::to_owned).into_iter().chain(words.iter().cloned()).collect();
    keeping(options, &prepared, |_| Ok(()))
}

/// The same without preparations, and `keep` gets the directory with all that the command changed, before it is thrown away.
pub(crate) fn keeping(options: &SandboxOptions, words: &[String], keep: impl FnOnce(&Path) -> Result<()>) -> Result<i32> {
    host::ensure_tools()?;
    let image_root = Recipe::find(&options.image)?.built()?;
    let layers = overlay::layers(&options.layers)?;
    remove_leftovers();
    let id = format!("{}", std::process::id());
    let place = Path::new(PARENT).join(&id);
    let outcome = run(options, &overlay::lower_dirs(&image_root, &layers), &place, &id, words);
    let cgroup = Path::new("systole-lab-sandbox").join(&id);
    // Errors of the clean-up do not change what the command said; leftovers go at the next call.
    let _ = cgroup::kill_all(&cgroup, Duration::from_secs(10));
    let _ = cgroup::remove(&cgroup);
    let outcome = outcome.and_then(|code| keep(&place.join("upper")).map(|()| code));
    let _ = image::remove_tree(&place);
    outcome
}

fn run(options: &SandboxOptions, lower_dirs: &str, place: &Path, id: &str, words: &[String]) -> Result<i32> {
    for part in ["upper", "work", "root"] {
        let dir = place.join(part);
        std::fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
    }
    let procs = cgroup::make(&Path::new("systole-lab-sandbox").join(id))?;
    let root = place.join("root");
    let overlay = format!("lowerdir={lower_dirs},upperdir={},workdir={}", place.join("upper").display(), place.join("work").display());
    // The mounts live in a mount namespace of the command alone and end with it, also when it is killed. nspawn keeps
    // records in /run/systemd/nspawn and complains when that is on a disk.
    let script = "for f in $1; do echo $$ > \"$f\" || exit 125; done; \
                  mount -t overlay overlay -o \"$2\" \"$3\" || exit 125; \
                  mkdir -p /run/systemd/nspawn; mount -t tmpfs tmpfs /run/systemd/nspawn || exit 125; shift 3; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--", "sh", "-c", script, "sh"]);
    command.arg(procs.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ")).arg(overlay).arg(&root);
    command
        .args(["systemd-nspawn", "--quiet", "--as-pid2", "--register=no", "--keep-unit", "--capability=all"])
        .args(["--console=pipe", "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--private-network"])
        .arg(format!("--directory={}", root.display()))
        .arg(format!("--machine=sandbox-{id}"))
        .arg("--setenv=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .arg("--setenv=LANG=C.UTF-8");
    for bind in &options.binds {
        command.arg(format!("--bind={}:{}", bind.source.display(), bind.target.display()));
    }
    command.args(options.env.iter().map(|e| format!("--setenv={e}")));
    command.args(options.chdir.iter().map(|dir| format!("--chdir={dir}")));
    command.arg("--").args(words).stdin(Stdio::inherit());
    command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1");
    let status = command.status().map_err(|source| Error::Io { what: "start the sandbox".to_owned(), source })?;
    Ok(host::exit_code(status))
}

/// Removes what killed sandboxes left: directories named after processes that are gone.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir(PARENT) else { return };
    for entry in entries.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if id.chars().all(|c| c.is_ascii_digit()) && !Path::new("/proc").join(&id).exists() {
            let cgroup = Path::new("systole-lab-sandbox").join(&id);
            let _ = cgroup::kill_all(&cgroup, Duration::from_secs(5));
            let _ = cgroup::remove(&cgroup);
            let _ = image::remove_tree(&entry.path());
        }
    }
}
