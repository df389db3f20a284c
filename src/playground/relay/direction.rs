//! One direction between two regions: what becomes of each datagram.

use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;

/// Bytes that may be on their way in one direction: a second of 1 Gbit/s, and then some.
const BYTES_MAX: usize = 256 * crate::limits::MIB;
/// What a datagram on its way costs beside its bytes.
const OVERHEAD_BYTES: usize = 128;

/// How a direction treats what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// How long a datagram takes.
    pub(crate) delay: Duration,
    /// By how much that varies, up or down, evenly.
    pub(crate) jitter: Duration,
    /// The share of datagrams that get lost, 0 to 1.
    pub(crate) loss: f64,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on at once.
    Passes,
    /// It goes on then.
    Waits(Instant),
    /// It is gone.
    Dropped,
}

/// How many datagrams met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Went on, at once or later.
    pub(crate) passed: u64,
    /// Lost by chance.
    pub(crate) lost: u64,
    /// Lost to a cut.
    pub(crate) cut: u64,
    /// Lost because too much was on its way.
    pub(crate) overflowed: u64,
}

/// A direction, shared by the threads of the relay and those who change it.
///
/// Datagrams keep their order, jitter or not, as on most real paths.
#[derive(Debug)]
pub(crate) struct Direction {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    shape: Shape,
    is_cut: bool,
    chance: Rng,
    /// When the last datagram that waits is due: none goes before it.
    last_due: Option<Instant>,
    waiting: usize,
    waiting_bytes: usize,
    counts: Counts,
}

impl Direction {
    /// One whose losses follow from `seed`.
    pub(super) fn new(shape: Shape, seed: u64) -> Self {
        Self {
            state: Mutex::new(State {
                shape,
                is_cut: false,
                chance: Rng::with_seed(seed),
                last_due: None,
                waiting: 0,
                waiting_bytes: 0,
                counts: Counts::default(),
            }),
        }
    }

    /// How it treats what passes.
    pub(crate) fn shape(&self) -> Shape {
        self.state.lock().shape
    }

    /// Treats what comes from now on so.
    pub(crate) fn set_shape(&self, shape: Shape) {
        self.state.lock().shape = shape;
    }

    /// Whether nothing passes.
    pub(crate) fn is_cut(&self) -> bool {
        self.state.lock().is_cut
    }

    /// Lets nothing pass, not even what is on its way; or lets it pass again.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.state.lock().is_cut = is_cut;
    }

    /// What has become of the datagrams so far.
    pub(crate) fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// Decides over a datagram. One that waits must be given to [`arrives`](Self::arrives) later.
    pub(super) fn fate(&self, bytes: usize, now: Instant) -> Fate {
        let state = &mut *self.state.lock();
        if state.is_cut {
            state.counts.cut += 1;
            return Fate::Dropped;
        }
        if state.chance.f64() < state.shape.loss {
            state.counts.lost += 1;
            return Fate::Dropped;
        }
        let mut due = now + state.shape.delay;
        if !state.shape.jitter.is_zero() {
            let swing = state.shape.jitter.mul_f64(2.0 * state.chance.f64());
            due = (due + swing).checked_sub(state.shape.jitter).unwrap_or(now);
        }
        if state.waiting == 0 && due <= now {
            state.counts.passed += 1;
            return Fate::Passes;
        }
        if BYTES_MAX < state.waiting_bytes + bytes + OVERHEAD_BYTES {
            state.counts.overflowed += 1;
            return Fate::Dropped;
        }
        let due = state.last_due.map_or(due, |last| last.max(due));
        state.last_due = Some(due);
        state.waiting += 1;
        state.waiting_bytes += bytes + OVERHEAD_BYTES;
        Fate::Waits(due)
    }

    /// Whether a datagram that has waited arrives: not when the direction has been cut meanwhile.
    pub(super) fn arrives(&self, bytes: usize) -> bool {
        let state = &mut *self.state.lock();
        state.waiting -= 1;
        state.waiting_bytes -= bytes + OVERHEAD_BYTES;
        if state.is_cut {
            state.counts.cut += 1;
        } else {
            state.counts.passed += 1;
        }
        !state.is_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const DELAY: Duration = Duration::from_millis(40);

    fn shaped(shape: Shape) -> (Direction, Instant) {
        (Direction::new(shape, 7), clock::monotonic())
    }

    #[test]
    fn without_delay_it_passes_at_once() {
        let (direction, now) = shaped(Shape::default());
        assert_eq!(direction.fate(100, now), Fate::Passes);
        assert_eq!(direction.counts().passed, 1);
    }

    #[test]
    fn a_shorter_delay_overtakes_nothing() {
        let (direction, now) = shaped(Shape {
            delay: DELAY,
            ..Shape::default()
        });
        assert_eq!(direction.fate(100, now), Fate::Waits(now + DELAY));
        direction.set_shape(Shape::default());
        assert_eq!(direction.fate(100, now), Fate::Waits(now + DELAY));
        assert!(direction.arrives(100) && direction.arrives(100));
        assert_eq!(direction.fate(100, now), Fate::Passes);
    }

    #[test]
    fn jitter_stays_within_its_bounds_and_keeps_the_order() {
        let jitter = Duration::from_millis(5);
        let (direction, start) = shaped(Shape {
            delay: DELAY,
            jitter,
            loss: 0.0,
        });
        let mut last = start;
        let mut differences = 0;
        for step in 0..1000 {
            let now = start + Duration::from_millis(step);
            let Fate::Waits(due) = direction.fate(1, now) else {
                panic!("it does not wait")
            };
            assert!(last <= due && now + DELAY <= due + jitter && due <= now + DELAY + jitter);
            differences += u32::from(due != now + DELAY);
            last = due;
        }
        assert!(900 < differences);
    }

    #[test]
    fn a_cut_drops_what_is_on_its_way_too() {
        let (direction, now) = shaped(Shape {
            delay: DELAY,
            ..Shape::default()
        });
        assert_ne!(direction.fate(100, now), Fate::Dropped);
        direction.set_cut(true);
        assert!(!direction.arrives(100));
        assert_eq!(direction.fate(100, now), Fate::Dropped);
        assert_eq!(
            direction.counts(),
            Counts {
                cut: 2,
                ..Counts::default()
            }
        );
        direction.set_cut(false);
        assert_ne!(direction.fate(100, now), Fate::Dropped);
    }

    #[test]
    fn losses_follow_the_share_and_the_seed() {
        let run = || {
            let (direction, now) = shaped(Shape {
                loss: 0.1,
                ..Shape::default()
            });
            let fates: Vec<Fate> = (0..10_000).map(|_| direction.fate(1, now)).collect();
            (direction.counts().lost, fates)
        };
        let (lost, fates) = run();
        assert!((900..1100).contains(&lost), "{lost} of 10000 lost");
        assert_eq!(run().1, fates);
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let (direction, now) = shaped(Shape {
            delay: DELAY,
            ..Shape::default()
        });
        let large = BYTES_MAX / 4;
        let fates: Vec<Fate> = (0..4).map(|_| direction.fate(large, now)).collect();
        assert_eq!(fates.last(), Some(&Fate::Dropped));
        assert_eq!(direction.counts().overflowed, 1);
    }
}
