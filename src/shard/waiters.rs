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

/// Tries the command again, with the key that was touched. Returns whether it was served (or has
/// nobody left to serve).
pub type Retry = Box<dyn FnMut(&mut Txn<'_>, &[u8]) -> bool + Send>;

/// Keys that may be ready before it is looked whether some are there more than once.
const READY_MAX: usize = 1_024;

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
        let is_last = self.ready.back().is_some_and(|last| **last == *name);
        if !self.by_key.is_empty() && !is_last && self.by_key.contains_key(name) {
            self.ready.push_back(name.into());
        }
        // Where nobody is served for long, each key is there once.
        if READY_MAX.max(2 * self.by_key.len()) < self.ready.len() {
            self.ready.clear();
            self.touch_all();
        }
    }

    /// Anything may have changed.
    pub(super) fn touch_all(&mut self) {
        let mut names: Vec<Box<[u8]>> = self.by_key.keys().cloned().collect();
        names.sort_unstable();
        self.ready.extend(names);
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
            && !self.is_ahead()
            && let Some(key) = self.waiters.ready.pop_front()
        {
            let ids = self.waiters.by_key.get(&key).cloned().unwrap_or_default();
            for id in ids {
                // With many who wait and one element for them, most would be asked in vain.
                if !self.has(&key, now_ms) {
                    break;
                }
                let Some(mut waiter) = self.waiters.waiting.remove(&id) else {
                    continue;
                };
                let served = self.try_to_serve(now_ms, &key, &mut waiter.retry);
                self.waiters.waiting.insert(id, waiter);
                if served {
                    self.waiters.remove(id);
                }
            }
        }
    }

    fn has(&self, name: &[u8], now_ms: u64) -> bool {
        let key = self.state.seed().key(name);
        self.state.kind(&key, now_ms).is_some()
    }

    /// A panic is the end of this client's waiting: whoever touched the key has done nothing wrong.
    fn try_to_serve(&mut self, now_ms: u64, key: &[u8], retry: &mut Retry) -> bool {
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let mut txn = Txn {
                shard: self,
                now_ms,
                first: None,
                op: None,
                looked: super::looks::Looked::default(),
            };
            let served = retry(&mut txn, key);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crdt::End;

    use super::*;
    use crate::shard::testing::{NOW_MS, shard};

    /// With a thousand workers at one queue a push must not ask them all.
    #[test]
    fn nobody_is_tried_once_the_key_is_gone() {
        let mut a = shard(1);
        let tries = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let tries = Arc::clone(&tries);
            let retry: Retry = Box::new(move |txn, name| {
                tries.fetch_add(1, Ordering::Relaxed);
                let key = txn.key(name);
                let is_there = txn.list(&key).is_ok_and(|list| list.is_some());
                if is_there {
                    txn.list_remove(&key, 0..1);
                }
                is_there
            });
            a.wait(vec![b"l".as_slice().into()], retry);
        }
        for pushed in 1..=3_usize {
            a.transact(NOW_MS, None, |txn| {
                let key = txn.key(b"l");
                txn.list_push(&key, End::Tail, &vec![&b"v"[..]; pushed])
                    .unwrap();
            });
        }
        assert_eq!((a.waiting(), a.len(NOW_MS)), (94, 0));
        assert_eq!(tries.load(Ordering::Relaxed), 6);
    }
}
