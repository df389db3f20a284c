//! Looking ahead: having the processor load what is looked up soon.
//!
//! A lookup reads four places, one after the other: the slot, its index, the entry's place, the
//! entry. With many keys each is a wait for memory. Who knows several keys ahead takes a step of
//! each before the next step of any, and the waits overlap. Nothing is decided here, and nothing is
//! kept of it but where to go on.

use crate::body::Body;
use crate::names::Kept;
use crate::prefetch::prefetch;
use crate::slot::{Key, Slot};
use crate::state::{SlotState, State};
use crate::table::Near;

/// Steps from [`Near::Nothing`] to [`Near::Entry`].
pub const STEPS: usize = 3;

/// Keys that are approached together at most.
const KEYS_MAX: usize = 256;

/// Where the slots of a state are in memory. Needs no lock, for nothing is read by it.
#[derive(Clone, Copy, Debug)]
pub struct Whereabouts {
    first: u16,
    start: usize,
}

impl Whereabouts {
    /// Has the processor load what is known of a slot.
    pub fn approach(self, slot: Slot) {
        let offset = usize::from(slot.number().wrapping_sub(self.first)) * size_of::<SlotState>();
        let at = self.start.wrapping_add(offset);
        prefetch(std::ptr::without_provenance::<SlotState>(at));
    }
}

/// The fields or members of a key.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    body: Option<&'a Body>,
}

impl Parts<'_> {
    /// As [`State::approach`], for the field or member with this hash.
    pub fn approach(self, hash: u64, near: Near) -> Near {
        match self.body {
            Some(Body::Hash(hash_body)) => hash_body.fields.approach(hash, near),
            Some(Body::Set(set)) => set.members.approach(hash, near),
            Some(Body::SortedSet(zset)) => zset.members.approach(hash, near),
            Some(Body::List(_)) | None => near,
        }
    }
}

impl State {
    /// Where the slots are in memory, to be asked for ahead.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            first: self.first_slot().number(),
            start: self.slots.as_ptr().addr(),
        }
    }

    /// Has the processor load what a lookup of the key with this hash will read, one step further
    /// each time; begin with [`Near::Nothing`]. Other work should come between two steps.
    pub fn approach(&self, slot: Slot, hash: u64, near: Near) -> Near {
        let slot = &self.slots[self.slot_index(slot)];
        slot.keys.approach(hash, near)
    }

    /// The fields or members of whatever the key holds, to be approached.
    pub fn parts(&self, key: &Key<'_>) -> Parts<'_> {
        let body = match self.key(key) {
            Some(Kept::Full(state)) => state.bodies().first(),
            Some(Kept::Compact(_) | Kept::Counter(_)) | None => None,
        };
        Parts { body }
    }

    /// Has the processor load what lookups of these keys will read, all together. Those of other
    /// shards are left out: the key of a flush means nothing.
    pub fn approach_all<'k>(&self, names: impl Iterator<Item = &'k [u8]>) {
        let whereabouts = self.whereabouts();
        let mut all: Vec<(Slot, u64, Near)> = Vec::new();
        for name in names.take(KEYS_MAX) {
            let key = self.seed.key(name);
            let is_here = self.has_slot(key.slot);
            if is_here && all.last().is_none_or(|&(_, hash, _)| hash != key.hash) {
                whereabouts.approach(key.slot);
                all.push((key.slot, key.hash, Near::Nothing));
            }
        }
        for _ in 0..STEPS {
            for (slot, hash, near) in &mut all {
                *near = self.approach(*slot, *hash, *near);
            }
        }
    }
}
