//! What most states have in common with the one before: copied when it changes, and hashed once.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use ahash::AHasher;

/// A value that clones share until one of them changes it.
#[derive(Clone, Debug, Default)]
pub struct Shared<T> {
    value: Arc<T>,
    /// The value's hash, once somebody has asked for it.
    hash: OnceLock<u64>,
}

impl<T> Shared<T> {
    /// One that nobody shares yet.
    pub fn new(value: T) -> Self {
        Self { value: Arc::new(value), hash: OnceLock::new() }
    }
}

impl<T: Hash> Shared<T> {
    fn hash_of_value(&self) -> u64 {
        *self.hash.get_or_init(|| hash_of(&*self.value))
    }
}

impl<T: Clone + Eq + Hash> Shared<T> {
    /// Goes on sharing with what it was, when it is the same again.
    pub fn rejoin(&mut self, before: &Self) {
        if !Arc::ptr_eq(&self.value, &before.value) && self == before {
            *self = before.clone();
        }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> DerefMut for Shared<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.hash = OnceLock::new();
        Arc::make_mut(&mut self.value)
    }
}

impl<T: Eq + Hash> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.value, &other.value) || self.hash_of_value() == other.hash_of_value() && self.value == other.value
    }
}

impl<T: Eq + Hash> Eq for Shared<T> {}

impl<T: Hash> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash_of_value());
    }
}

/// The same for the same value, whoever asks.
pub fn hash_of<T: Hash>(value: &T) -> u64 {
    let mut hasher = AHasher::default();
    value.hash(&mut hasher);
    hasher.finish()
}
