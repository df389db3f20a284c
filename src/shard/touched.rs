//! Keys that somebody watches, and whether they have changed.
//!
//! A watched key has the number of its last change; a session remembers the number it saw. Keys
//! that nobody watches cost nothing but one look at an empty map.

use std::collections::HashMap;

/// What a session had seen of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The number of the last change.
    change: u64,
    /// How much there was that can end by itself, without a change.
    pub(super) size: Option<usize>,
}

#[derive(Debug, Default)]
struct Watched {
    sessions: usize,
    last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Touched {
    changes: u64,
    watched: HashMap<Box<[u8]>, Watched>,
}

impl Touched {
    /// A key has changed.
    pub(super) fn key(&mut self, name: &[u8]) {
        if self.watched.is_empty() {
            return;
        }
        self.changes += 1;
        if let Some(watched) = self.watched.get_mut(name) {
            watched.last = self.changes;
        }
    }

    /// Any key may have changed.
    pub(super) fn all(&mut self) {
        self.changes += 1;
        let changes = self.changes;
        self.watched
            .values_mut()
            .for_each(|watched| watched.last = changes);
    }

    /// A session watches a key from now on.
    pub(super) fn watch(&mut self, name: &[u8], size: Option<usize>) -> Watch {
        self.watched.entry(name.into()).or_default().sessions += 1;
        Watch {
            change: self.changes,
            size,
        }
    }

    /// A session watches a key no longer.
    pub(super) fn unwatch(&mut self, name: &[u8]) {
        if let Some(watched) = self.watched.get_mut(name) {
            watched.sessions -= 1;
            if watched.sessions == 0 {
                self.watched.remove(name);
            }
        }
    }

    /// Whether a key that is watched has changed.
    pub(super) fn has_changed(&self, name: &[u8], since: Watch) -> bool {
        self.watched
            .get(name)
            .is_some_and(|watched| since.change < watched.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_after_the_watch_count() {
        let mut touched = Touched::default();
        let first = touched.watch(b"a", None);
        assert!(!touched.has_changed(b"a", first));
        touched.key(b"b");
        assert!(!touched.has_changed(b"a", first));
        touched.key(b"a");
        assert!(touched.has_changed(b"a", first));
        let second = touched.watch(b"a", None);
        assert!(!touched.has_changed(b"a", second));
        touched.key(b"a");
        assert!(touched.has_changed(b"a", second));
        touched.unwatch(b"a");
        touched.unwatch(b"a");
        assert!(touched.watched.is_empty());
    }
}
