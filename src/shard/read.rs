//! What a transaction reads: its own writes included, as they are applied at once.

use std::borrow::Cow;

use crdt::{Hash, Key, Kind, List, Set, SortedSet};

use super::{Shard, Txn, Used};
use crate::command::CommandError;

impl Shard {
    /// How many effects commands have had here since the node started.
    pub const fn changes(&self) -> u64 {
        self.changes
    }
}

/// Reading. What is past its deadline is not there.
impl Txn<'_> {
    /// The time that deadlines are held against: milliseconds since 1970.
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// A key with its slot and hash; free for the key that the command was routed by.
    pub fn key<'k>(&self, name: &'k [u8]) -> Key<'k> {
        match self.first {
            Some(first) if std::ptr::eq(first.name, name) => Key { name, ..first },
            _ => self.shard.state.seed().key(name),
        }
    }

    /// The type that readers see at a key.
    pub fn kind(&self, key: &Key<'_>) -> Option<Kind> {
        let kind = self.shard.state.kind(key, self.now_ms);
        self.looked.note(key, kind.is_some());
        kind
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &Key<'_>) -> bool {
        self.kind(key).is_some()
    }

    /// When a key that exists ends, if it does; milliseconds since 1970.
    pub fn deadline(&self, key: &Key<'_>) -> Option<u64> {
        self.kind(key)?;
        self.shard.state.deadline(key)
    }

    /// Refuses a key of another type. Returns whether there is such a key.
    fn check(&self, key: &Key<'_>, wanted: Kind) -> Result<bool, CommandError> {
        match self.kind(key) {
            None => Ok(false),
            Some(kind) if kind == wanted => Ok(true),
            Some(_) => Err(CommandError::WrongType),
        }
    }

    /// The string at a key.
    pub fn string(&self, key: &Key<'_>) -> Result<Option<Cow<'_, [u8]>>, CommandError> {
        let found = self.shard.state.read_string(key, self.now_ms);
        self.looked.note(key, !matches!(found, Ok(None)));
        match found {
            Ok(value) => Ok(value),
            Err(_other) => Err(CommandError::WrongType),
        }
    }

    /// The hash at a key.
    pub fn hash(&self, key: &Key<'_>) -> Result<Option<Hash<'_>>, CommandError> {
        let found = self.check(key, Kind::Hash)?;
        Ok(if found {
            self.shard.state.hash(key, self.now_ms)
        } else {
            None
        })
    }

    /// The set at a key.
    pub fn set(&self, key: &Key<'_>) -> Result<Option<Set<'_>>, CommandError> {
        let found = self.check(key, Kind::Set)?;
        Ok(if found {
            self.shard.state.set(key)
        } else {
            None
        })
    }

    /// The sorted set at a key.
    pub fn sorted_set(&self, key: &Key<'_>) -> Result<Option<SortedSet<'_>>, CommandError> {
        let found = self.shard.state.read_sorted_set(key, self.now_ms);
        self.looked.note(key, !matches!(found, Ok(None)));
        match found {
            Ok(found) => Ok(found),
            Err(_other) => Err(CommandError::WrongType),
        }
    }

    /// The list at a key.
    pub fn list(&self, key: &Key<'_>) -> Result<Option<List<'_>>, CommandError> {
        let found = self.shard.state.read_list(key, self.now_ms);
        self.looked.note(key, !matches!(found, Ok(None)));
        match found {
            Ok(found) => Ok(found),
            Err(_other) => Err(CommandError::WrongType),
        }
    }

    /// Whether uses of keys are noted.
    #[inline]
    pub const fn notes_uses(&self) -> bool {
        self.shard.notes_uses()
    }

    /// A key is used, by a command that has done its work.
    pub fn note_use(&mut self, name: &[u8]) {
        let key = self.key(name);
        self.shard.note_use(&key, self.now_ms);
    }

    /// A key that was made just now counts as used like this, where that is what is noted; without
    /// anything known, as used now.
    pub fn set_use(&mut self, key: &Key<'_>, used: Option<Used>) {
        self.shard.set_use(key, used, self.now_ms);
    }

    /// How often a key was used, where that is noted.
    pub fn use_count(&self, key: &Key<'_>) -> Option<u32> {
        self.shard.use_count(key, self.now_ms)
    }

    /// For how many seconds a key has not been used; where uses are not noted, not been written.
    /// `None` where it is noted how often keys are used instead.
    pub fn idle_s(&self, key: &Key<'_>) -> Option<u64> {
        if !self.notes_uses() {
            let written = self.shard.state.written_at(key)?;
            return Some(self.now_ms.saturating_sub(written.ms()) / 1_000);
        }
        let idle_ms = self.shard.idle_ms(key, self.now_ms);
        idle_ms.map(|ms| ms / 1_000)
    }

    /// Chance, for commands that pick at random.
    pub const fn random(&mut self) -> &mut fastrand::Rng {
        self.shard.random()
    }

    /// The shard, for what is not about one key.
    pub const fn shard(&self) -> &Shard {
        self.shard
    }
}
