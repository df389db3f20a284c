//! Logs: where they go, and how a line is kept from repeating itself.
//!
//! Logs go to stderr. Keys and values are untrusted text and stay above no level but trace.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;

/// Least time between two lines of one [`Seldom`].
const SELDOM_EVERY: Duration = Duration::from_secs(1);

/// Sends what passes `filter` to stderr from now on; a second call changes nothing.
///
/// The filter has been checked when the settings were read; a wrong one logs at `info`.
pub fn start(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    // It fails only when there is one already, such as a test's.
    drop(started);
}

/// Lets a line through once a second at most, and counts those it held back.
///
/// For what a peer or client can cause as often as it likes:
///
/// ```
/// static REFUSED: meridian::telemetry::Seldom = meridian::telemetry::Seldom::new();
/// if let Some(suppressed) = REFUSED.admit(meridian::clock::monotonic()) {
///     tracing::warn!(suppressed, "peer refused");
/// }
/// ```
#[derive(Debug, Default)]
pub struct Seldom {
    state: Mutex<SeldomState>,
}

#[derive(Debug, Default)]
struct SeldomState {
    last: Option<Instant>,
    suppressed: u64,
}

impl Seldom {
    /// One that lets the first line through.
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(SeldomState {
                last: None,
                suppressed: 0,
            }),
        }
    }

    /// How many lines were held back since the last one, if a line may be written now.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let is_early = state
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < SELDOM_EVERY);
        if is_early {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_second_with_the_count_of_the_others() {
        let (limit, start) = (Seldom::new(), crate::clock::monotonic());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(limit.admit(at(0)), Some(0));
        assert_eq!(limit.admit(at(1)), None);
        assert_eq!(limit.admit(at(999)), None);
        assert_eq!(limit.admit(at(1000)), Some(2));
        assert_eq!(limit.admit(at(1001)), None);
        assert_eq!(limit.admit(at(2500)), Some(1));
        assert_eq!(limit.admit(at(9000)), Some(0));
    }
}
