//! What a node remembers of its own server until the next boot, in a file, and the lock of the actions that change something. What is
//! remembered is the agent's; how it is read, refused and written is the same.

use std::io;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocf::{Failure, Outcome};
use process::Locked;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an agent remembers.
pub trait Memory: Clone + Default + Serialize + DeserializeOwned {
    /// The form of the file that this agent writes; files of later forms are refused.
    const VERSION: u32;
    /// Whether a file that cannot be read or understood is as good as none. Otherwise it is taken for one of another version: the file is
    /// replaced whole, so there is no half of one.
    const DISPENSABLE: bool;

    /// The same with this version written into it.
    #[must_use]
    fn of_version(self, version: u32) -> Self;
}

/// The file that holds the memory.
#[derive(Debug)]
pub struct StateFile<M> {
    path: PathBuf,
    memory: PhantomData<fn() -> M>,
}

impl<M: Memory> StateFile<M> {
    /// That of a resource, in root's directory that every boot empties.
    pub fn of(directory: &Path, resource: &str) -> Self {
        Self { path: directory.join(format!("systole-{resource}.state")), memory: PhantomData }
    }

    /// What is remembered; nothing when there is no file, or [`Self::check`] fails.
    pub fn load(&self) -> M {
        self.read().ok().flatten().unwrap_or_default()
    }

    /// Whether the file can be relied on.
    ///
    /// # Errors
    /// That it cannot be, with the remedy. Nothing may be decided by an empty memory in its place: a primary would take itself for a
    /// stranger.
    pub fn check(&self) -> Outcome {
        self.load_checked().map(drop)
    }

    /// What is remembered, if the file can be relied on.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn load_checked(&self) -> Result<M, Failure> {
        self.read().map(Option::unwrap_or_default).map_err(|why| {
            let file = self.path.display();
            Failure::generic(format!(
                "{file} was not written by this version of systole ({why}): install the other version again, or rm {file}"
            ))
        })
    }

    fn read(&self) -> Result<Option<M>, String> {
        let unreadable = |why: String| if M::DISPENSABLE { Ok(None) } else { Err(why) };
        let bytes = match std::fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return unreadable(e.to_string()),
            Ok(bytes) => bytes,
        };
        let value: serde_json::Value = match serde_json::from_slice(&bytes) {
            Err(e) => return unreadable(e.to_string()),
            Ok(value) => value,
        };
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(M::VERSION) => Err(format!("version {version}")),
            _ => serde_json::from_value(value).map(Some).or_else(|e| unreadable(e.to_string())),
        }
    }

    /// Remembers.
    ///
    /// # Errors
    /// What the file system says, with the path.
    pub fn save(&self, memory: &M) -> Outcome {
        let bytes = serde_json::to_vec(&memory.clone().of_version(M::VERSION)).map_err(|e| Failure::generic(e.to_string()))?;
        process::write_atomically(&self.path, &bytes, 0o600)
            .map_err(|e| Failure::generic(format!("{} cannot be written: {e}; free space or correct the mode", self.path.display())))
    }
}

/// The lock of a resource's actions that change something, when nobody has it for so long.
///
/// # Errors
/// What the file system says.
pub fn lock_within(directory: &Path, resource: &str, limit: Duration) -> io::Result<Option<Locked>> {
    std::fs::create_dir_all(directory)?;
    process::lock(&directory.join(format!("systole-{resource}.lock")), limit)
}

/// One action at a time that changes something: the lock, or a reason.
///
/// # Errors
/// That another action has it all the time, or what the file system says.
pub fn lock(directory: &Path, resource: &str, limit: Duration) -> Result<Locked, Failure> {
    lock_within(directory, resource, limit)
        .map_err(|e| Failure::generic(format!("{}: {e}", directory.display())))?
        .ok_or_else(|| Failure::generic(format!("another action of {resource} still runs: see the log for what it waits for")))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(default)]
    struct Dispensable {
        version: u32,
        promoted: bool,
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    #[serde(transparent)]
    struct Needed(Dispensable);

    impl Memory for Dispensable {
        const VERSION: u32 = 1;
        const DISPENSABLE: bool = true;

        fn of_version(self, version: u32) -> Self {
            Self { version, ..self }
        }
    }

    impl Memory for Needed {
        const VERSION: u32 = 1;
        const DISPENSABLE: bool = false;

        fn of_version(self, version: u32) -> Self {
            Self(self.0.of_version(version))
        }
    }

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("systole-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_memory_of_a_version_to_come_is_refused_and_not_taken_for_an_empty_one() {
        let directory = directory("state-file");
        let (file, needed) = (StateFile::<Dispensable>::of(&directory, "r"), StateFile::<Needed>::of(&directory, "r"));
        assert!(file.check().is_ok() && needed.check().is_ok(), "none is no other version");
        file.save(&Dispensable { version: 0, promoted: true }).unwrap();
        assert_eq!(file.load(), Dispensable { version: 1, promoted: true });
        std::fs::write(&file.path, r#"{"promoted":true}"#).unwrap();
        assert!(file.load().promoted && needed.load().0.promoted, "a release before");
        std::fs::write(&file.path, r#"{"promoted":7,"version":2}"#).unwrap();
        for failure in [file.check().unwrap_err(), needed.check().unwrap_err()] {
            assert!(failure.reason.contains("version 2") && failure.reason.contains("rm "), "{failure}");
        }
        for damaged in [r#"{"promoted":"perhaps"}"#, "", "half"] {
            std::fs::write(&file.path, damaged).unwrap();
            assert_eq!(file.load_checked().unwrap(), Dispensable::default(), "{damaged}");
            assert!(needed.check().unwrap_err().reason.contains("rm "), "{damaged}");
            assert_eq!(needed.load(), Needed::default());
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn one_action_at_a_time_has_the_lock() {
        let directory = directory("lock").join("made");
        let first = lock(&directory, "r", Duration::ZERO).unwrap();
        let failure = lock(&directory, "r", Duration::from_millis(20)).unwrap_err();
        assert!(failure.reason.contains("another action of r still runs"), "{failure}");
        assert!(lock_within(&directory, "other", Duration::ZERO).unwrap().is_some());
        drop(first);
        assert!(lock_within(&directory, "r", Duration::ZERO).unwrap().is_some());
        std::fs::remove_dir_all(directory.parent().unwrap()).unwrap();
    }
}
