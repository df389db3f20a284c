//! How far our clock is ahead of a peer's, by what its heartbeats say.
//!
//! The time that a heartbeat takes makes us look ahead, too, and on a busy link that can be long:
//! so the least of the last seconds counts, and there is none before these have passed.

use crate::proto::{Instant, Span};

/// Heartbeats of this long are looked at together; two such spans count.
const WINDOW: Span = Span::from_ms(5_000);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    since: Option<Instant>,
    /// The least of this span, and of the one before.
    this: Option<i64>,
    last: Option<i64>,
}

impl Ahead {
    /// Takes note of a heartbeat: how many milliseconds our clock was ahead of it.
    pub(super) fn note(&mut self, now: Instant, ms: i64) {
        let since = *self.since.get_or_insert(now);
        if since + WINDOW <= now {
            self.since = Some(now);
            self.last = self.this.take();
        }
        self.this = Some(self.this.map_or(ms, |least| least.min(ms)));
    }

    /// The least of the last seconds.
    pub(super) fn least(&self) -> Option<i64> {
        Some(self.last?.min(self.this?))
    }
}
