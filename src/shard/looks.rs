//! How often commands that read found a key, and how often not: `keyspace_hits` and
//! `keyspace_misses` of `INFO`.
//!
//! Counted is each key that a command has looked at, once, as in Redis: whoever has run the command
//! says whether it is one that counts.

use std::cell::Cell;

use crdt::Key;

use super::{Shard, Txn};

/// How often a key was there, and how often not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// It was.
    pub hits: u64,
    /// It was not.
    pub misses: u64,
}

/// What a transaction has looked at and not counted.
#[derive(Debug, Default)]
pub(super) struct Looked {
    hits: Cell<u32>,
    misses: Cell<u32>,
    /// The hash of the last key: a command may look at one several times.
    last: Cell<Option<u64>>,
}

impl Looked {
    /// Notes that a key was looked at.
    #[inline]
    pub(super) fn note(&self, key: &Key<'_>, is_there: bool) {
        if self.last.replace(Some(key.hash)) != Some(key.hash) {
            let count = if is_there { &self.hits } else { &self.misses };
            count.set(count.get() + 1);
        }
    }
}

impl Txn<'_> {
    /// What has been looked at since the last time counts.
    #[inline]
    pub fn count_looks(&mut self) {
        let looked = std::mem::take(&mut self.looked);
        self.shard.looks.hits += u64::from(looked.hits.get());
        self.shard.looks.misses += u64::from(looked.misses.get());
    }
}

impl Shard {
    /// How often commands that read have found a key here since the node started, or since
    /// [`Self::reset_looks`].
    pub const fn looks(&self) -> Looks {
        self.looks
    }

    /// Starts over.
    pub fn reset_looks(&mut self) {
        self.looks = Looks::default();
    }
}
