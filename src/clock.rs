//! Time: the only place that asks the operating system for it.

#![expect(clippy::disallowed_methods, reason = "everybody else asks here")]

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// When the process first asked.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The wall clock, milliseconds since 1970.
pub fn now_ms() -> u64 {
    now_us() / 1_000
}

/// The wall clock, microseconds since 1970.
pub fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// A clock that never goes back, nanoseconds since the process first asked.
pub fn monotonic_ns() -> u64 {
    START.elapsed().as_nanos() as u64
}

/// A clock that never goes back, for timers; means nothing outside this process.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// When [`monotonic_ns`] was zero.
pub fn start() -> Instant {
    *START
}

/// A moment on both clocks, for what is told the time: the node tells it what time it is, and the
/// simulation what time it would be.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock, milliseconds since 1970.
    pub wall_ms: u64,
    /// A clock that never goes back, nanoseconds since some moment.
    pub monotonic_ns: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self {
            wall_ms: now_ms(),
            monotonic_ns: monotonic_ns(),
        }
    }
}
