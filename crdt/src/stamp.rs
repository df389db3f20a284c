//! Hybrid logical time, and the stamps that name and order ops.
//!
//! A [`Time`] is 48 bits of wall-clock milliseconds and 16 bits of counter. A [`Stamp`] adds the
//! origin, which makes it unique; it orders by time, then the lower region id wins, then the
//! higher epoch. [`Clock`] issues times that strictly increase and stand above every time that
//! its owner has applied, so a later op never gets a lower stamp than one it has seen.
//!
//! Source: Kulkarni et al. 2014, "Logical Physical Clocks".

use std::cmp::{Ordering, Reverse};
use std::fmt;

use crate::origin::Origin;

/// Bits of a [`Time`] that count events within one millisecond.
const COUNTER_BITS: u32 = 16;

/// A hybrid logical time. Zero is before every op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// Before every op.
    pub const ZERO: Self = Self(0);
    /// After every op.
    pub const MAX: Self = Self(u64::MAX);

    /// The first time of a wall-clock millisecond.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms << COUNTER_BITS)
    }

    /// The wall-clock milliseconds in it.
    pub const fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The counter within its millisecond.
    pub const fn counter(self) -> u16 {
        self.0 as u16
    }

    /// The next time after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// Names an op, and orders it among all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// When, in hybrid logical time.
    pub time: Time,
    /// Who.
    pub origin: Origin,
}

impl Ord for Stamp {
    fn cmp(&self, other: &Self) -> Ordering {
        let rank = |s: &Self| (s.time, Reverse(s.origin.region), s.origin.epoch);
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Stamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.time, self.origin)
    }
}

/// The identity of a fact: the stamp of its op and the index of its effect in the op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactId {
    /// The op that left the fact behind.
    pub stamp: Stamp,
    /// Which effect of it, from 0.
    pub index: u32,
}

/// The identity of a fact whose origin is known from where it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// When.
    pub time: Time,
    /// Which effect of the op, from 0.
    pub index: u32,
}

/// Issues the times of one shard's ops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    latest: Time,
}

impl Clock {
    /// A clock whose first time is after `floor`.
    pub const fn above(floor: Time) -> Self {
        Self { latest: floor }
    }

    /// The next time: that of the wall clock, or just above the latest where that is ahead.
    pub fn tick(&mut self, now_ms: u64) -> Time {
        self.latest = self.latest.next().max(Time::from_ms(now_ms));
        self.latest
    }

    /// Takes note of an applied time, so that what is issued later stands above it.
    pub fn observe(&mut self, applied: Time) {
        self.latest = self.latest.max(applied);
    }

    /// The latest time issued or observed.
    pub const fn latest(&self) -> Time {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::{Epoch, Region};

    fn stamp(time: u64, region: u8, epoch: u64) -> Stamp {
        let region = Region::new(region).expect("not 0");
        Stamp {
            time: Time(time),
            origin: Origin::new(region, Epoch(epoch)),
        }
    }

    #[test]
    fn stamps_order_by_time_then_lower_region_then_higher_epoch() {
        assert!(stamp(1, 1, 1) < stamp(2, 2, 1));
        assert!(stamp(1, 2, 1) < stamp(1, 1, 1));
        assert!(stamp(1, 1, 1) < stamp(1, 1, 2));
    }

    #[test]
    fn a_clock_never_stands_still_and_never_falls_behind_what_it_saw() {
        let mut clock = Clock::default();
        let first = clock.tick(10);
        assert_eq!(first, Time::from_ms(10));
        assert!(first < clock.tick(10));
        assert!(first < clock.tick(9));
        clock.observe(Time::from_ms(50));
        assert_eq!(clock.tick(20), Time::from_ms(50).next());
    }
}
