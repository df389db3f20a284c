//! What is past its deadline: hidden from readers, and to be removed.
//!
//! Both indexes are by the region that set the deadline in force, for it removes what ends then.

use crate::body::{Body, Kind};
use crate::names::Kept;
use crate::origin::Region;
use crate::slot::{Key, Slot};
use crate::state::State;

/// A field of a key.
pub type KeyField = (Box<[u8]>, Box<[u8]>);

impl State {
    /// The regions that have set a deadline that is in force.
    pub fn ending_regions(&self) -> Vec<Region> {
        let all = self.key_ends.endings().regions();
        let mut regions: Vec<Region> = all.chain(self.field_ends.regions()).collect();
        regions.sort_unstable();
        regions.dedup();
        regions
    }

    /// The region that has set the deadline of a key, if it ends.
    pub fn ending_region(&self, key: &Key<'_>) -> Option<Region> {
        let ending = self.key(key)?.ending(&self.origins);
        ending.map(|ending| ending.region)
    }

    /// Keys that end at `until_ms` or before by a deadline of `region`, the first to end first, up
    /// to `limit`.
    pub fn ended(&self, region: Region, until_ms: u64, limit: usize) -> Vec<Box<[u8]>> {
        let ended = self.key_ends.endings().until(region, until_ms);
        ended
            .filter_map(|place| Some(self.at(place)?.0.into()))
            .take(limit)
            .collect()
    }

    /// Fields, in keys that have not ended, that end in the same way.
    pub fn ended_fields(&self, region: Region, until_ms: u64, limit: usize) -> Vec<KeyField> {
        let mut ended = Vec::new();
        for place in self.field_ends.until(region, until_ms) {
            let Some((name, Kept::Full(state))) = self.at(place) else {
                continue;
            };
            if let Some(Body::Hash(hash)) = state.body(Kind::Hash) {
                let places = hash.deadlines.until(region, until_ms);
                let fields = places.filter_map(|id| hash.fields.at(id));
                let left = limit - ended.len();
                ended.extend(fields.take(left).map(|(f, _)| (name.into(), f.into())));
            }
            if limit <= ended.len() {
                break;
            }
        }
        ended
    }

    /// How many keys past their deadline at `now_ms` have not been removed. Costs what has passed
    /// since this was last asked.
    pub fn hidden(&mut self, now_ms: u64) -> usize {
        self.key_ends.past(now_ms)
    }

    /// How many keys have a deadline that is not past at `now_ms`, and how far away it is on
    /// average, in milliseconds.
    pub fn volatile(&mut self, now_ms: u64) -> (usize, u64) {
        self.key_ends.ahead(now_ms)
    }

    /// Whether a field of the hash at a key holds something, hidden or not.
    pub fn holds_field(&self, key: &Key<'_>, field: &[u8]) -> bool {
        self.field(key, field).is_some_and(Kept::exists)
    }

    fn at(&self, (slot, id): (u16, u32)) -> Option<(&[u8], Kept<'_, crate::body::KeyState>)> {
        self.slots[self.slot_index(Slot::new(slot)?)].keys.at(id)
    }
}
