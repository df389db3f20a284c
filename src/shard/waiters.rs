//! Clients that wait for a key: `BLPOP` and its kin.
//!
//! A waiter brings the command with it. After every op that touches a key that somebody waits for,
//! a client's or a peer's, those who wait for it are tried in the order in which they came, under
//! the same lock: so the first to wait is the first to be served, and nobody else takes what is
//! theirs.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Shard;
use super::txn::Txn;

/// Tries the command again. Returns whether it was served (or has nobody left to serve).
pub type Retry = Box<dyn FnMut(&mut Txn<'_>) -> bool + Send>;

struct Waiter {
    keys: Vec<Box<[u8]>>,
    retry: Retry,
}

/// See the module.
#[derive(Default)]
pub(super) struct Waiters {
    next: u64,
    waiting: BTreeMap<u64, Waiter>,
    by_key: HashMap<Box<[u8]>, Vec<u64>>,
    /// Keys that were touched since those who wait for them were last tried.
    ready: VecDeque<Box<[u8]>>,
}

impl std::fmt::Debug for Waiters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} waiters", self.waiting.len())
    }
}

impl Waiters {
    pub(super) fn add(&mut self, keys: Vec<Box<[u8]>>, retry: Retry) -> u64 {
        let id = self.next;
        self.next += 1;
        for key in &keys {
            let ids = self.by_key.entry(key.clone()).or_default();
            if ids.last() != Some(&id) {
                ids.push(id);
            }
        }
        self.waiting.insert(id, Waiter { keys, retry });
        id
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(waiter) = self.waiting.remove(&id) else {
            return;
        };
        for key in waiter.keys {
            if let Some(ids) = self.by_key.get_mut(&key) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_key.remove(&key);
                }
            }
        }
    }

    pub(super) fn touch(&mut self, name: &[u8]) {
        if !self.by_key.is_empty() && self.by_key.contains_key(name) {
            self.ready.push_back(name.into());
        }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

impl Shard {
    /// Lets a client wait for keys. Returns what to end its waiting by.
    pub fn wait(&mut self, keys: Vec<Box<[u8]>>, retry: Retry) -> u64 {
        self.waiters.add(keys, retry)
    }

    /// Ends a client's waiting.
    pub fn stop_waiting(&mut self, id: u64) {
        self.waiters.remove(id);
    }

    /// How many clients wait.
    pub fn waiting(&self) -> usize {
        self.waiters.len()
    }

    /// Tries those who wait for keys that were touched. Each that is served is an op of its own.
    pub(super) fn serve(&mut self, now_ms: u64) {
        while self.is_in_service()
            && let Some(key) = self.waiters.ready.pop_front()
        {
            let ids = self.waiters.by_key.get(&key).cloned().unwrap_or_default();
            for id in ids {
                let Some(mut waiter) = self.waiters.waiting.remove(&id) else {
                    continue;
                };
                let served = self.try_to_serve(now_ms, &mut waiter.retry);
                self.waiters.waiting.insert(id, waiter);
                if served {
                    self.waiters.remove(id);
                }
            }
        }
    }

    /// A panic is the end of this client's waiting: whoever touched the key has done nothing wrong.
    fn try_to_serve(&mut self, now_ms: u64, retry: &mut Retry) -> bool {
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let mut txn = Txn {
                shard: self,
                now_ms,
                first: None,
                op: None,
            };
            let served = retry(&mut txn);
            txn.finish();
            served
        }));
        tried.unwrap_or_else(|panic| {
            let panic = super::panic_text(&*panic);
            tracing::error!(panic, "serving a client that waited panicked");
            true
        })
    }

    /// Ends all waiting, for nothing will come any more.
    pub(super) fn dismiss_waiters(&mut self) {
        self.waiters = Waiters::default();
    }
}
