//! What is counted, and how often the same trouble is logged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const LOG_EVERY: Duration = Duration::from_secs(1);
/// The same for a line that says what the one before it said: a peer that is down, or refused, is
/// tried again for days.
const SAME_EVERY: Duration = Duration::from_mins(1);

/// Figures about the connections of a node or of one peer, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections on which both sides have greeted.
    pub connected: u64,
    /// Connections that ended without anybody's wish.
    pub lost: u64,
    /// Attempts that led to no connection and were not refused.
    pub failed: u64,
    /// Connections that we or the peer would not have: the authority, database, region or protocol
    /// is wrong, or what we sent is.
    pub refused: u64,
    /// Connections that were turned away because too many were shaking hands.
    pub turned_away: u64,
    /// Connections closed because the peer sent what is no message and no frame.
    pub malformed: u64,
    /// Connections closed because the handler refused a message or a frame.
    pub rejected: u64,
    /// Bytes of frames that went compressed.
    pub squeezed: u64,
    /// What they took on their way.
    pub squeezed_to: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            connected: self.connected + other.connected,
            lost: self.lost + other.lost,
            failed: self.failed + other.failed,
            refused: self.refused + other.refused,
            turned_away: self.turned_away + other.turned_away,
            malformed: self.malformed + other.malformed,
            rejected: self.rejected + other.rejected,
            squeezed: self.squeezed + other.squeezed,
            squeezed_to: self.squeezed_to + other.squeezed_to,
        }
    }
}

/// The running [`Counts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) turned_away: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) squeezed: AtomicU64,
    pub(super) squeezed_to: AtomicU64,
}

impl Counters {
    pub(super) fn get(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connected: read(&self.connected),
            lost: read(&self.lost),
            failed: read(&self.failed),
            refused: read(&self.refused),
            turned_away: read(&self.turned_away),
            malformed: read(&self.malformed),
            rejected: read(&self.rejected),
            squeezed: read(&self.squeezed),
            squeezed_to: read(&self.squeezed_to),
        }
    }
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Lets one line a second through, of equal ones one a minute, and counts those between.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    last: Option<Instant>,
    line: String,
    held_back: u64,
}

impl Quiet {
    /// How many lines were held back since the last one, if this one may be written now.
    pub(super) fn may_log(&mut self, line: &str, now: Instant) -> Option<u64> {
        let every = if self.line == line {
            SAME_EVERY
        } else {
            LOG_EVERY
        };
        if self.last.is_some_and(|last| now < last + every) {
            self.held_back += 1;
            return None;
        }
        self.last = Some(now);
        line.clone_into(&mut self.line);
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_says_the_same_comes_once_a_minute() {
        let mut quiet = Quiet::default();
        let begun = Instant::now();
        let mut say = |at_s, line| quiet.may_log(line, begun + Duration::from_secs(at_s));
        assert_eq!(say(0, "refused"), Some(0));
        for at_s in 1..60 {
            assert_eq!(say(at_s, "refused"), None);
        }
        assert_eq!(say(60, "refused"), Some(59));
        assert_eq!(say(61, "lost"), Some(0), "another one");
        assert_eq!(say(61, "refused"), None, "a second has to pass");
    }
}
