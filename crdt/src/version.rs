//! What a replica holds: for each origin, the time up to which it has everything.
//!
//! Origins that have ended and that every region has closed are not listed one by one: a floor
//! per region says that every epoch below it is covered whole (docs/semantics.md, "Origins that
//! ended"). Versions form a lattice: [`Version::join`] and [`Version::meet`].

use crate::codec::{DecodeError, Reader, put_version};
use crate::origin::{Epoch, Origin, Region};
use crate::stamp::{Stamp, Time};

/// A version vector with a floor per region. Small: a handful of entries, kept sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Sorted by origin; no zero times; none below its region's floor.
    times: Vec<(Origin, Time)>,
    /// Sorted by region: every origin of the region with an epoch below this is covered whole.
    floors: Vec<(Region, Epoch)>,
}

impl Version {
    /// Nothing at all.
    pub const fn new() -> Self {
        Self {
            times: Vec::new(),
            floors: Vec::new(),
        }
    }

    /// The time up to which everything of `origin` is held: `Time::MAX` below the floor.
    pub fn get(&self, origin: Origin) -> Time {
        if origin.epoch < self.floor(origin.region) {
            return Time::MAX;
        }
        match self.find(origin) {
            Ok(at) => self.times[at].1,
            Err(_) => Time::ZERO,
        }
    }

    /// The epoch of `region` below which everything is covered.
    pub fn floor(&self, region: Region) -> Epoch {
        match self.floors.binary_search_by_key(&region, |f| f.0) {
            Ok(at) => self.floors[at].1,
            Err(_) => Epoch(0),
        }
    }

    /// Whether the op with this stamp is held.
    pub fn covers(&self, stamp: Stamp) -> bool {
        stamp.time <= self.get(stamp.origin)
    }

    /// Whether everything in `other` is held.
    pub fn includes(&self, other: &Self) -> bool {
        other
            .times
            .iter()
            .all(|&(origin, time)| time <= self.get(origin))
            && other
                .floors
                .iter()
                .all(|&(region, epoch)| epoch <= self.floor(region))
    }

    /// Raises an origin's time; lower times are ignored.
    pub fn advance(&mut self, origin: Origin, time: Time) {
        if time == Time::ZERO || origin.epoch < self.floor(origin.region) {
            return;
        }
        match self.find(origin) {
            Ok(at) => self.times[at].1 = self.times[at].1.max(time),
            Err(at) => self.times.insert(at, (origin, time)),
        }
    }

    /// Declares every origin of `region` below `epoch` covered whole, and forgets their times.
    pub fn raise_floor(&mut self, region: Region, epoch: Epoch) {
        if epoch <= self.floor(region) {
            return;
        }
        match self.floors.binary_search_by_key(&region, |f| f.0) {
            Ok(at) => self.floors[at].1 = epoch,
            Err(at) => self.floors.insert(at, (region, epoch)),
        }
        self.times
            .retain(|(o, _)| o.region != region || epoch <= o.epoch);
    }

    /// Forgets an origin's time.
    pub fn remove(&mut self, origin: Origin) {
        if let Ok(at) = self.find(origin) {
            self.times.remove(at);
        }
    }

    /// The least version that includes both.
    pub fn join(&mut self, other: &Self) {
        for &(region, epoch) in &other.floors {
            self.raise_floor(region, epoch);
        }
        for &(origin, time) in &other.times {
            self.advance(origin, time);
        }
    }

    /// The greatest version that both include.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let mut met = Self::new();
        for &(region, epoch) in &self.floors {
            met.raise_floor(region, epoch.min(other.floor(region)));
        }
        for &(origin, time) in self.times.iter().chain(&other.times) {
            let time = time.min(self.get(origin)).min(other.get(origin));
            met.advance(origin, time);
        }
        met
    }

    /// The listed origins and their times, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, Time)> + '_ {
        self.times.iter().copied()
    }

    /// The floors, by region.
    pub fn floors(&self) -> impl Iterator<Item = (Region, Epoch)> + '_ {
        self.floors.iter().copied()
    }

    /// The latest epoch of `region` that is listed, if any.
    pub fn latest_epoch(&self, region: Region) -> Option<Epoch> {
        self.times
            .iter()
            .rev()
            .find(|(o, _)| o.region == region)
            .map(|(o, _)| o.epoch)
    }

    /// Appends its bytes, as they are in a frame (docs/protocol.md).
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_version(out, self);
    }

    /// Reads one from the front of `bytes`, which then begin behind it.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.version()?;
        *bytes = reader.rest();
        Ok(version)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty() && self.floors.is_empty()
    }

    fn find(&self, origin: Origin) -> Result<usize, usize> {
        self.times.binary_search_by_key(&origin, |t| t.0)
    }
}

impl FromIterator<(Origin, Time)> for Version {
    fn from_iter<I: IntoIterator<Item = (Origin, Time)>>(times: I) -> Self {
        let mut version = Self::new();
        for (origin, time) in times {
            version.advance(origin, time);
        }
        version
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version() -> impl Strategy<Value = Version> {
        let entry = (1_u8..4, 0_u64..4, 0_u64..6);
        let floor = (1_u8..4, 0_u64..4);
        (
            prop::collection::vec(entry, 0..6),
            prop::collection::vec(floor, 0..2),
        )
            .prop_map(|(entries, floors)| {
                let region = |id| Region::new(id).expect("not 0");
                let mut version: Version = entries
                    .into_iter()
                    .map(|(r, e, t)| (Origin::new(region(r), Epoch(e)), Time(t)))
                    .collect();
                for (r, e) in floors {
                    version.raise_floor(region(r), Epoch(e));
                }
                version
            })
    }

    proptest! {
        #[test]
        fn join_is_the_least_upper_bound(a in version(), b in version(), c in version()) {
            let mut ab = a.clone();
            ab.join(&b);
            let mut ba = b.clone();
            ba.join(&a);
            prop_assert_eq!(&ab, &ba);
            prop_assert!(ab.includes(&a) && ab.includes(&b));
            if c.includes(&a) && c.includes(&b) {
                prop_assert!(c.includes(&ab));
            }
        }

        #[test]
        fn meet_is_below_both(a in version(), b in version()) {
            let met = a.meet(&b);
            prop_assert_eq!(&met, &b.meet(&a));
            prop_assert!(a.includes(&met) && b.includes(&met));
            prop_assert_eq!(a.meet(&a), a);
        }
    }
}
