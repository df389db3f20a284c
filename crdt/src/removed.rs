//! What has been taken out of the state whole, and is yet to be freed.
//!
//! A removal of a large container, or of all keys, hides them at once; freeing them takes a moment
//! for each element, which need not be spent under the lock of the shard. Whoever has the state
//! takes this out and drops it elsewhere.

use crate::body::{Body, KeyState};
use crate::endings::{CountedEndings, Endings};
use crate::names::Names;

/// A key, by the number of its slot and its place there.
type Place = (u16, u32);

/// Containers of fewer things are freed at once: handing them over costs more.
const FEW: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub struct Removed {
    bodies: Vec<Body>,
    slots: Vec<Names<KeyState>>,
    endings: Vec<(CountedEndings<Place>, Endings<Place>)>,
    things: usize,
}

impl Removed {
    /// How many things there are to free, those in containers of a slot's keys not counted.
    pub const fn len(&self) -> usize {
        self.things
    }

    /// Whether there is nothing to free.
    pub const fn is_empty(&self) -> bool {
        self.things == 0
    }

    pub(crate) fn add_body(&mut self, body: Body) {
        if FEW <= body.live() {
            self.things += body.live();
            self.bodies.push(body);
        }
    }

    pub(crate) fn add_slot(&mut self, keys: Names<KeyState>) {
        self.things += keys.live().max(1);
        self.slots.push(keys);
    }

    pub(crate) fn add_endings(&mut self, keys: CountedEndings<Place>, fields: Endings<Place>) {
        self.things += keys.endings().len() + fields.len();
        self.endings.push((keys, fields));
    }
}

#[cfg(test)]
mod tests {
    use crate::effect::{Attached, Change, Deadline, Effect, Increment};
    use crate::number::Number;
    use crate::stamp::{Dot, Stamp, Time};
    use crate::{Bodies, Epoch, Origin, Region, SLOTS, Seed, Slot, State, Version};

    const EVERYTHING: Change<'_> = Change::Remove {
        bodies: Bodies::ALL,
        deadlines: true,
    };

    fn origin(region: u8) -> Origin {
        Origin::new(Region::new(region).unwrap(), Epoch(1))
    }

    fn state() -> State {
        let first = Slot::new(0).unwrap();
        State::new(Seed::from_text(b"test"), first, SLOTS, false)
    }

    /// Applies an op that has one effect and has seen the first region up to `seen`.
    fn apply(state: &mut State, region: u8, time: u64, seen: u64, key: &[u8], change: Change<'_>) {
        let (time, origin) = (Time(time), origin(region));
        let deps = Version::from_iter([(self::origin(1), Time(seen))]);
        let op = state.begin(Stamp { time, origin }, Some(&deps));
        if change == Change::Flush {
            let nowhere = state.any_key();
            state.apply(op, 0, &nowhere, &change);
        } else {
            state.apply_effect(op, 0, &Effect { key, change });
        }
    }

    /// A hash of 100 fields, written by the first region at times 1 to 100.
    fn hash(state: &mut State) {
        for time in 1..=100 {
            let (field, value, attached) = (&time.to_string(), b"v", Attached::Nothing);
            let field = field.as_bytes();
            let change = Change::FieldSet {
                field,
                value,
                attached,
            };
            apply(state, 1, time, 0, b"h", change);
        }
    }

    fn fields(state: &State) -> usize {
        let key = state.seed().key(b"h");
        state.hash(&key, 0).map_or(0, |hash| hash.len())
    }

    #[test]
    fn a_container_of_which_all_was_seen_is_taken_out_whole() {
        let mut state = state();
        hash(&mut state);
        apply(&mut state, 2, 200, 100, b"h", EVERYTHING);
        assert_eq!(state.take_removed().len(), 100);
        assert!(state.take_removed().is_empty() && state.is_void());
        assert_eq!((state.len(), state.digest()), (0, 0));
    }

    #[test]
    fn what_was_not_seen_stays() {
        let mut state = state();
        hash(&mut state);
        apply(&mut state, 2, 200, 98, b"h", EVERYTHING);
        assert_eq!((fields(&state), state.take_removed().len()), (2, 0));
        apply(&mut state, 2, 201, 99, b"", Change::Flush);
        assert_eq!((fields(&state), state.take_removed().len()), (1, 0));
    }

    #[test]
    fn where_something_was_counted_each_field_is_looked_at() {
        let mut state = state();
        hash(&mut state);
        let increment = Increment {
            birth: Dot {
                time: Time(101),
                index: 0,
            },
            sum: Number::int(5),
        };
        let (field, carried) = (&b"n"[..], None);
        let add = Change::FieldAdd {
            field,
            increment,
            carried,
        };
        apply(&mut state, 1, 101, 0, b"h", add);
        apply(&mut state, 2, 200, 101, b"h", EVERYTHING);
        assert_eq!((fields(&state), state.take_removed().len()), (0, 0));
        assert!(
            !state.is_void(),
            "what was removed of the sum is remembered"
        );
    }

    /// Slots of which all goes, and one with a counter.
    #[test]
    fn a_flush_frees_slots_whole_and_looks_at_each_key_only_in_others() {
        let mut state = state();
        for time in 1..=100_u64 {
            let (key, value) = (time.to_string(), &b"v"[..]);
            let attached = Attached::Deadline(Deadline::At(1_000 + time));
            let change = Change::StringSet { value, attached };
            apply(&mut state, 1, time, 0, key.as_bytes(), change);
        }
        let increment = Increment {
            birth: Dot {
                time: Time(101),
                index: 0,
            },
            sum: Number::int(5),
        };
        let carried = Some(7);
        let add = Change::StringAdd { increment, carried };
        apply(&mut state, 1, 101, 0, b"{1}n", add);
        assert_eq!((state.len(), state.volatile(0).0), (101, 101));
        apply(&mut state, 2, 200, 100, b"", Change::Flush);
        let slots: std::collections::BTreeSet<Slot> = (2..=100_u64)
            .map(|time| Slot::of(time.to_string().as_bytes()))
            .collect();
        assert_eq!(
            (state.len(), state.volatile(0).0),
            (1, 1),
            "the counter, which was not seen"
        );
        let shared = Slot::of(b"1");
        assert!(!slots.contains(&shared), "the counter's slot is its own");
        assert!(99 <= state.take_removed().len());
        let key = state.seed().key(b"{1}n");
        assert_eq!(state.string(&key, 0).as_deref(), Some(&b"5"[..]));
        let digest = state.slot_digest(shared);
        assert_eq!(state.digest(), digest, "nothing else is in it");
    }
}
