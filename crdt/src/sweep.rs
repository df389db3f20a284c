//! Looking for counter parts of origins that have closed: nothing else says where they are.
//!
//! An origin closes once, after a restart or a failover, so a walk over all keys, some at a time,
//! is cheaper than to remember for every origin what it has added to.

use crate::apply::Place;
use crate::body::{Body, KeyState, Kind};
use crate::fact::{Id, OriginIx, Seen};
use crate::names::{Full, Kept};
use crate::stamp::Time;
use crate::state::{State, Unsettled};

/// Where a walk stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Walk {
    slot: usize,
    key: u32,
    field: u32,
}

impl State {
    /// Goes on with the walk for about `limit` keys and fields. Begins one where an origin has
    /// closed since the last began. Returns whether there is more to do.
    pub(crate) fn sweep(&mut self, stable: Seen<'_>, limit: usize) -> bool {
        let known = self.origins.len();
        let closed = (0..known).filter(|&ix| stable.has_closed(OriginIx(ix as u16)));
        let closed = closed.count();
        if self.swept < closed {
            self.swept = closed;
            self.walk = Some(Walk::default());
        }
        let Some(mut walk) = self.walk.take() else {
            return false;
        };
        let mut found = Vec::new();
        for _ in 0..limit {
            let Some(next) = self.look_on(walk, stable, &mut found) else {
                break;
            };
            walk = next;
            self.walk = Some(walk);
        }
        if self.walk.is_some() && walk.slot == self.slots.len() {
            self.walk = None;
        }
        for thing in found {
            self.settle_thing(thing, stable);
        }
        self.walk.is_some()
    }

    /// Looks at one key or field. Returns where to look next, or `None` at the end.
    fn look_on(&self, walk: Walk, stable: Seen<'_>, found: &mut Vec<Unsettled>) -> Option<Walk> {
        let slot = self.slots.get(walk.slot)?;
        if slot.keys.ids_end() <= walk.key {
            return Some(Walk {
                slot: walk.slot + 1,
                key: 0,
                field: 0,
            });
        }
        let next = Walk {
            key: walk.key + 1,
            field: 0,
            ..walk
        };
        let Some((name, kept)) = slot.keys.at(walk.key) else {
            return Some(next);
        };
        let mut find = |place| {
            found.push(Unsettled {
                latest: NOW,
                key: name.into(),
                place,
            });
        };
        let state = match kept {
            Kept::Full(state) => state,
            Kept::Counter(counter) if stable.has_closed(counter.origin) => {
                find(Place::Key);
                return Some(next);
            }
            Kept::Counter(_) | Kept::Compact(_) => return Some(next),
        };
        let register = state.register();
        if walk.field == 0 && register.is_some_and(|register| register.can_fold(stable)) {
            find(Place::Key);
        }
        let Some(Body::Hash(hash)) = KeyState::body(state, Kind::Hash) else {
            return Some(next);
        };
        if let Some((field, kept)) = hash.fields.at(walk.field)
            && match kept {
                Kept::Full(register) => register.can_fold(stable),
                Kept::Counter(counter) => stable.has_closed(counter.origin),
                Kept::Compact(_) => false,
            }
        {
            find(Place::Part(Kind::Hash, field.into()));
        }
        let field = walk.field + 1;
        let is_last = hash.fields.ids_end() <= field;
        Some(if is_last {
            next
        } else {
            Walk { field, ..walk }
        })
    }
}

/// Something that settles at once.
const NOW: Id = Id {
    time: Time::ZERO,
    index: 0,
    origin: OriginIx(0),
};
