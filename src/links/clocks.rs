//! Whether our clock is ahead of every other region's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use crdt::Region;
use parking_lot::Mutex;

/// How far our clock is ahead of each other region's.
#[derive(Debug)]
pub(super) struct Clocks {
    /// By how much it may be ahead of all of them, milliseconds.
    pub(super) drift_max_ms: i64,
    /// Those that are heard, and by how much.
    pub(super) ahead_ms: Mutex<BTreeMap<Region, i64>>,
    /// Whether an operator has said that it may be ahead.
    pub(super) is_accepted: AtomicBool,
}

impl Clocks {
    /// Takes note of one region, or that it is not heard. Returns whether our clock is too far
    /// ahead: of every region that is heard, for where only some are behind it is they.
    pub(super) fn note(&self, region: Region, ahead_ms: Option<i64>) -> bool {
        let mut all = self.ahead_ms.lock();
        match ahead_ms {
            Some(ms) => all.insert(region, ms),
            None => all.remove(&region),
        };
        let is_ahead = !all.is_empty() && all.values().all(|&ms| self.drift_max_ms < ms);
        is_ahead && !self.is_accepted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_clock_is_wrong_where_all_that_are_heard_say_so() {
        let clocks = Clocks {
            drift_max_ms: 500,
            ahead_ms: Mutex::default(),
            is_accepted: AtomicBool::new(false),
        };
        let region = |id| Region::new(id).expect("not 0");
        assert!(!clocks.note(region(2), Some(500)));
        assert!(clocks.note(region(2), Some(501)));
        assert!(!clocks.note(region(3), Some(0)), "region 2 is behind");
        assert!(clocks.note(region(3), Some(600)));
        assert!(clocks.note(region(3), None), "region 2 is heard");
        assert!(!clocks.note(region(2), None), "nobody is");
        clocks.is_accepted.store(true, Ordering::Relaxed);
        assert!(!clocks.note(region(2), Some(501)));
    }
}
