//! Where the agent, the wrapper and the operator meet: the directories of a resource, and the token that says that its jobs may
//! run on this node.
//!
//! The wrapper runs as the job's user. It registers its run and then looks at the token; a stop takes the token away and then looks
//! at who is registered. Whichever way the two meet, one sees the other. No lock is needed, which any user could hold.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Result as IoResult};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::sys::stat::{Mode, umask};
use process::{Account, Files, Identity, own};
use serde::{Deserialize, Serialize};

use crate::claims::{self, Claims};
use crate::history::{self, Line};
use crate::mark::Mark;
use crate::source::Source;

/// What every boot empties.
const VOLATILE: &str = "/run/systole-cron";
/// What is kept.
const KEPT: &str = "/var/lib/systole/cron";

/// As long as a file may be that a user's wrapper writes, bytes.
const SHORT: u64 = 4096;

/// What becomes of a run that comes due while the one before still goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// It is left out.
    Skip,
    /// It waits.
    Queue,
    /// Both run.
    Allow,
}

/// The jobs of the resource may run on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The node, for the history.
    pub node: String,
    /// The boot that it was given in: a token that outlives its boot is worth nothing.
    pub boot: String,
    /// When the first process was started, in clock ticks since boot: a container boots without the kernel, and its /run may survive.
    #[serde(default)]
    pub init: Option<u64>,
    /// The operator's rule.
    pub overlap: Overlap,
    /// What was due up to this minute was settled on another node, whose clock may be ahead of this one's.
    #[serde(default)]
    pub settled: Option<i64>,
}

impl Token {
    /// Whether it was given in this boot, of the kernel and of a container.
    ///
    /// # Errors
    /// When this boot has no name: that is not the same as another boot.
    fn holds(&self) -> std::io::Result<bool> {
        // Where /proc hides the processes of others, only root sees the first one. The kernel's boot is seen by all.
        Ok(self.boot == process::boot_id()? && (self.init.is_none() || init().is_none_or(|init| self.init == Some(init))))
    }
}

/// What the users' wrappers have written on this node. They may write there what they like: neither the content nor the process that
/// it names is to be trusted further than the user in whose directory it stands.
#[derive(Debug, Default)]
pub struct Written {
    /// The runs that are registered: whose, in which file, and what stands there.
    pub runs: Vec<(u32, PathBuf, Vec<u8>)>,
    /// How many runs of a job were left out since the last one that began: whose, of which job.
    pub skipped: Vec<(u32, String, u64)>,
}

/// A user of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The number.
    pub uid: u32,
    /// The main group.
    pub gid: u32,
}

/// The directories of a resource.
#[derive(Clone, Debug)]
pub struct Place {
    volatile: PathBuf,
    kept: PathBuf,
}

impl Place {
    /// The place of a resource.
    ///
    /// # Errors
    /// When that is no name of a resource: it may come from a crontab.
    pub fn of(resource: &str) -> Result<Self, String> {
        Self::under(Path::new("/"), resource)
    }

    /// The same under another root, for tests.
    ///
    /// # Errors
    /// As above.
    pub fn under(root: &Path, resource: &str) -> Result<Self, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
        if resource.is_empty() || resource.starts_with('.') || !resource.chars().all(allowed) {
            return Err(format!("{resource:?} is no name of a resource"));
        }
        let below = |path: &str| root.join(path.trim_start_matches('/')).join(resource);
        Ok(Self { volatile: below(VOLATILE), kept: below(KEPT) })
    }

    /// What a user's wrappers write until the next boot.
    pub fn of_user(&self, uid: u32) -> PathBuf {
        self.volatile.join(uid.to_string())
    }

    /// A user's history, a JSON object a line.
    pub fn history(&self, uid: u32) -> PathBuf {
        self.kept.join(uid.to_string()).join("history.jsonl")
    }

    /// What the agent has to say of runs that did not begin, in the same form.
    pub fn agents_history(&self) -> PathBuf {
        self.kept.join("history.jsonl")
    }

    /// The last lines of a user's history, of at most so many bytes.
    pub fn history_of(&self, uid: u32, bytes: u64) -> Vec<Line> {
        tail_of(&self.history(uid), &self.kept.join(uid.to_string()), uid, bytes)
    }

    /// All that stands in the histories of this node that can be read, of at most so many bytes of each file; `None` when there are none.
    pub fn all_histories(&self, bytes: u64) -> Option<Vec<Line>> {
        let put_aside = |path: &Path| [path.with_extension("jsonl.1"), path.to_owned()];
        let users = own::entries(&self.kept).filter_map(|path| Some((path.file_name()?.to_str()?.parse::<u32>().ok()?, path)));
        let theirs = users.filter_map(|(uid, directory)| {
            let path = self.history(uid);
            acting_in(&directory, uid, |files| files.length(&path))?;
            Some(put_aside(&path).iter().flat_map(|path| tail_of(path, &directory, uid, bytes)).collect::<Vec<_>>())
        });
        let agents = Some(self.agents_history()).filter(|path| own::metadata(path).is_ok_and(|found| found.is_file()));
        let agents = agents.map(|path| put_aside(&path).iter().flat_map(|path| history::tail(path, bytes)).collect());
        theirs.chain(agents).reduce(|all, more| [all, more].concat())
    }

    /// Where the jobs stand, as the last start on this node had it.
    pub fn source(&self) -> Option<Source> {
        serde_json::from_slice(&own::read(&self.kept.join("source.json")).ok()?).ok()
    }

    /// # Errors
    /// What the file system says, with the path.
    pub fn note_source(&self, source: &Source) -> Result<(), String> {
        let path = self.kept.join("source.json");
        let text = serde_json::to_vec(source).map_err(|e| e.to_string())?;
        own::make_directories(&self.kept, 0o755)
            .and_then(|()| own::write(&path, &text, 0o644))
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// How far the runs are settled, as this node remembers it.
    pub fn mark(&self) -> Option<Mark> {
        Mark::parse(&own::text(&self.kept.join("mark")).ok()?)
    }

    /// # Errors
    /// What the file system says, with the path.
    pub fn remember(&self, mark: &Mark) -> Result<(), String> {
        let write = |directory: &Path, name: &str, text: String| {
            let path = directory.join(name);
            own::make_directories(directory, 0o755)
                .and_then(|()| own::write(&path, text.as_bytes(), 0o644))
                .map_err(|e| format!("{}: {e}", path.display()))
        };
        // Before the mark: should that not come to be, the one before it must not be taken for this reign's.
        write(&self.volatile, "reign", mark.reign.to_string())?;
        write(&self.kept, "mark", mark.to_string())
    }

    /// From now on nothing here speaks for the resource: a mark could not be written, and the one that stands there is outdated.
    pub fn forget(&self) {
        let _ = own::remove(&self.volatile.join("reign"));
    }

    /// Whether a mark was made on this node since it booted: what has begun since then is written down here.
    pub fn knows_all_since(&self, mark: &Mark) -> bool {
        own::text(&self.volatile.join("reign")).is_ok_and(|text| text == mark.reign.to_string())
            && self.mark().is_some_and(|ours| ours.reign == mark.reign)
    }

    /// The runs of a job that have begun on this node since it booted.
    pub fn claims(&self, uid: u32, job: &str) -> Claims {
        let (directory, file) = (self.of_user(uid), claims::file_of(&self.of_user(uid), job));
        let content = acting_in(&directory, uid, |files| files.read(&file, SHORT)).unwrap_or_default();
        Claims::parse(&String::from_utf8_lossy(&content))
    }

    /// What runs on this node: the crontab as it was when the resource started, whatever has become of the source since.
    pub fn crontab(&self) -> Option<String> {
        own::text(&self.volatile.join("crontab")).ok()
    }

    /// # Errors
    /// What the file system says, with the path.
    pub fn note_crontab(&self, text: &str) -> Result<(), String> {
        self.note("crontab", text)
    }

    /// What the last start has put where cron reads it, as [`Place::note_installed`] was given it.
    pub fn installed(&self) -> Option<String> {
        own::text(&self.volatile.join("installed")).ok()
    }

    /// # Errors
    /// What the file system says, with the path.
    pub fn note_installed(&self, digest: &str) -> Result<(), String> {
        self.note("installed", digest)
    }

    /// The users of the jobs, as the last start has found them: number and main group.
    pub fn owners(&self) -> BTreeMap<String, Owner> {
        own::read(&self.volatile.join("users")).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// # Errors
    /// What the file system says, with the path.
    pub fn note_owners(&self, owners: &BTreeMap<String, Owner>) -> Result<(), String> {
        self.note("users", &serde_json::to_string(owners).map_err(|e| e.to_string())?)
    }

    /// The units that the resource has started on this node.
    pub fn units(&self) -> Vec<String> {
        own::text(&self.volatile.join("units")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// # Errors
    /// What the file system says, with the path.
    pub fn note_units(&self, names: &[&str]) -> Result<(), String> {
        self.note("units", &names.join("\n"))
    }

    /// What [`Self::note`] has written down under this name since this node booted.
    pub(crate) fn noted(&self, name: &str) -> Option<Vec<u8>> {
        own::read(&self.volatile.join(name)).ok()
    }

    /// It is not known any more.
    pub(crate) fn forget_noted(&self, name: &str) {
        let _ = own::remove(&self.volatile.join(name));
    }

    /// Writes something down for this agent only, until the next boot.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub(crate) fn note(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.volatile.join(name);
        own::make_directories(&self.volatile, 0o755)
            .and_then(|()| own::write_for_this_boot(&path, text.as_bytes(), 0o600))
            .map_err(|e| format!("{}: {e}: a stop would not know what runs; make room there", path.display()))
    }

    fn token_file(&self) -> PathBuf {
        self.volatile.join("token")
    }

    /// The token, when the jobs run on this node.
    ///
    /// # Errors
    /// What the file system says.
    pub fn token(&self) -> std::io::Result<Option<Token>> {
        let Some(token) = self.any_token()? else { return Ok(None) };
        Ok(token.holds()?.then_some(token))
    }

    /// Whether the jobs run on this node, as they did when [`Self::token`] found this one: it was given in the boot in which we run.
    ///
    /// # Errors
    /// What the file system says.
    pub fn still_has(&self, token: &Token) -> std::io::Result<bool> {
        let Some(found) = self.any_token()? else { return Ok(false) };
        // The resource may have been started anew in between.
        if found == *token { Ok(true) } else { found.holds() }
    }

    /// The token, of whatever boot.
    fn any_token(&self) -> std::io::Result<Option<Token>> {
        let Some(text) = there(own::read(&self.token_file()))? else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Lets the jobs of these users run on this node, and nothing that was `settled` elsewhere.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn open(&self, node: &str, overlap: Overlap, settled: Option<i64>, users: &[(u32, u32)]) -> Result<(), String> {
        let failed = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
        // The jobs' users have to read this, whatever we were started with.
        umask(Mode::from_bits_truncate(0o022));
        for directory in [&self.volatile, &self.kept] {
            own::make_directories(directory, 0o755).map_err(|e| failed(directory, e))?;
        }
        // Whoever made one of them first may have kept others out: the resource's own, systole/cron and .../systole.
        for way in self.kept.ancestors().take(3) {
            own::let_through(way).map_err(|e| failed(way, e))?;
        }
        for (uid, gid) in users {
            for directory in [self.of_user(*uid), self.kept.join(uid.to_string())] {
                own::make_directory_for(*uid, *gid, &directory).map_err(|e| failed(&directory, e))?;
            }
        }
        let boot = process::boot_id().map_err(|e| format!("this boot has no name: {e}; is /proc mounted?"))?;
        let token = Token { node: node.to_owned(), boot, init: init(), overlap, settled };
        let text = serde_json::to_vec(&token).map_err(|e| e.to_string())?;
        own::write_for_this_boot(&self.token_file(), &text, 0o644).map_err(|e| failed(&self.token_file(), e))
    }

    /// The minute in which the jobs were let run here, since 1970.
    pub(crate) fn opened(&self) -> Option<i64> {
        let at = own::metadata(&self.token_file()).ok()?.modified().ok()?;
        i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs() / 60).ok()
    }

    /// Lets nothing new run on this node.
    ///
    /// # Errors
    /// What the file system says: the token may still stand then.
    pub fn close(&self) -> std::io::Result<()> {
        own::remove(&self.token_file()).map(drop)
    }

    /// What the users' wrappers have written.
    pub fn written(&self) -> Written {
        let mut written = Written::default();
        for uid in self.uids() {
            let path = self.of_user(uid);
            // All of them, however many a user has put there: a stop must not miss one.
            acting_in(&path, uid, |files| {
                let directory = files.directory(&path)?;
                directory.visit(|name| {
                    let file = Path::new(name);
                    match file.extension().and_then(|extension| extension.to_str()) {
                        Some("run") => {
                            written.runs.extend(directory.read(name, SHORT).ok().map(|text| (uid, path.join(name), text)));
                        }
                        Some("skipped") => {
                            let job = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                            written.skipped.extend(directory.read(name, SHORT).ok().and_then(|text| Some((uid, job, count(text)?))));
                        }
                        _ => {}
                    }
                    true
                })
            });
        }
        written
    }

    /// Takes the registration of a run away, `file` among what [`Self::written`] has found.
    pub fn unregister(&self, uid: u32, file: &Path) {
        acting_in(&self.of_user(uid), uid, |files| files.remove(file));
    }

    /// The users whose jobs may have run on this node since it booted. Only root can make these directories.
    pub fn uids(&self) -> BTreeSet<u32> {
        own::entries(&self.volatile).filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
    }

    /// Whether the jobs may run on this node.
    pub fn is_open(&self) -> bool {
        self.token().is_ok_and(|token| token.is_some())
    }
}

/// Works in a directory that root has made for a user, with that user's rights; `None` when that is not possible, or the work is not.
fn acting_in<T>(directory: &Path, uid: u32, work: impl FnOnce(&Files<'_>) -> IoResult<T>) -> Option<T> {
    let found = own::metadata(directory).ok().filter(|found| found.is_dir() && found.uid() == uid)?;
    Account::numbered(uid, found.gid()).act(work).ok()
}

/// The last lines of a file in a user's directory.
fn tail_of(path: &Path, directory: &Path, uid: u32, bytes: u64) -> Vec<Line> {
    history::lines(&acting_in(directory, uid, |files| files.tail(path, 0, bytes)).unwrap_or_default())
}

/// What is there: nothing is no error.
fn there<T>(found: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match found {
        Ok(it) => Ok(Some(it)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// How many runs of a job were left out since the last one that began, as the wrapper has written it.
pub(crate) fn count(text: Vec<u8>) -> Option<u64> {
    String::from_utf8(text).ok()?.trim().parse().ok()
}

/// When the first process was started; `None` where /proc hides it.
fn init() -> Option<u64> {
    Identity::of(1).map(|init| init.start_ticks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "the tests' own files")]

    use std::fs;

    use super::*;

    fn place(name: &str) -> (PathBuf, Place) {
        let root = std::env::temp_dir().join(format!("systole-place-{name}-{}", std::process::id()));
        let place = Place::under(&root, "site-cron").unwrap();
        (root, place)
    }

    fn me() -> [(u32, u32); 1] {
        [(nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())]
    }

    #[test]
    fn the_token_is_there_between_open_and_close() {
        let (root, place) = place("token");
        assert!(place.token().unwrap().is_none());
        place.close().unwrap();
        place.open("a", Overlap::Skip, Some(7), &me()).unwrap();
        let token = place.token().unwrap().unwrap();
        assert_eq!((token.node.as_str(), token.overlap, token.settled), ("a", Overlap::Skip, Some(7)));
        assert_eq!(place.uids().into_iter().collect::<Vec<_>>(), [me()[0].0]);
        let again = Token { settled: None, ..token.clone() };
        assert!(place.still_has(&token).unwrap() && place.still_has(&again).unwrap(), "started anew meanwhile");
        place.close().unwrap();
        assert!(place.token().unwrap().is_none() && !place.is_open() && !place.still_has(&token).unwrap());
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn users_get_to_their_history_whoever_made_the_way_there() {
        use std::os::unix::fs::PermissionsExt as _;
        let (root, place) = place("way");
        let way = place.kept.parent().and_then(Path::parent).unwrap();
        own::make_directories(way, 0o700).unwrap();
        place.open("a", Overlap::Allow, None, &me()).unwrap();
        for directory in [way, place.kept.parent().unwrap(), &place.kept] {
            assert_eq!(fs::metadata(directory).unwrap().permissions().mode() & 0o111, 0o111, "{}", directory.display());
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_token_of_another_boot_is_worth_nothing() {
        let (root, place) = place("boot");
        place.open("a", Overlap::Allow, None, &me()).unwrap();
        let token = place.token().unwrap().unwrap();
        let write = |token: &Token| fs::write(place.token_file(), serde_json::to_vec(token).unwrap()).unwrap();
        assert!(place.still_has(&token).unwrap());
        write(&Token { boot: "before".into(), ..token.clone() });
        assert!(place.token().unwrap().is_none() && !place.is_open() && !place.still_has(&token).unwrap());
        write(&Token { init: token.init.map(|ticks| ticks + 1), ..token.clone() });
        assert!(place.token().unwrap().is_none(), "the container was started anew, and its /run is the one from before");
        // One of the time before there was more in it.
        fs::write(place.token_file(), format!(r#"{{"node":"a","boot":"{}","overlap":"allow"}}"#, token.boot)).unwrap();
        assert_eq!(place.token().unwrap(), Some(Token { init: None, ..token }));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_was_noted_reads_back() {
        let (root, place) = place("notes");
        assert_eq!((place.crontab(), place.units()), (None, vec![]));
        place.note_crontab("* * * * * x\n").unwrap();
        place.note_units(&["a.timer", "a.service"]).unwrap();
        assert_eq!(place.crontab().as_deref(), Some("* * * * * x\n"));
        assert_eq!(place.units(), ["a.timer", "a.service"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_name_cannot_lead_elsewhere() {
        for name in ["", "..", ".x", "a/b", "a b", "a\0"] {
            assert!(Place::of(name).is_err(), "{name:?}");
        }
        assert!(Place::of("site-cron_1.2:0").is_ok());
    }
}
