//! Taking stock: what the keys of a slot take up, and what of it waits to become stable.

use std::collections::BTreeMap;

use crate::body::{Body, Kind, visible};
use crate::effect::Attached;
use crate::names::{Full, Kept};
use crate::register::{Part, Register, Sum};
use crate::slot::Slot;
use crate::state::State;

/// Bytes of a key besides its name and value: its places in the table and the index, its stamp.
const KEY_BYTES: usize = 40;
/// Bytes of a counter part in an entry.
const PART_BYTES: usize = 34;

/// Some things, and estimated bytes of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heap {
    /// How many.
    pub count: u64,
    /// What they take up.
    pub bytes: u64,
}

impl Heap {
    fn add(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }

    /// Adds others.
    pub const fn add_all(&mut self, other: Self) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// What there is of keys, and among it what only waits to become stable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Keys that readers find, by type.
    pub keys: BTreeMap<Kind, Heap>,
    /// Keys that nobody finds any more, of which something is kept.
    pub ghosts: Heap,
    /// Bases that lost against concurrent ones.
    pub siblings: Heap,
    /// Edits that are not folded into a base.
    pub edits: Heap,
    /// Counter parts that were removed.
    pub removed_parts: Heap,
    /// Deadlines besides the one that counts.
    pub deadlines: Heap,
}

impl Stock {
    fn note<S: Sum>(&mut self, register: &Register<S>) {
        for base in register.bases.iter().skip(1) {
            self.siblings.add(size_of_val(base) + base.value.len());
        }
        for edit in &register.edits {
            self.edits.add(size_of_val(edit) + edit.edit.heap_bytes());
        }
        for _ in register.parts.iter().filter(|part| !part.is_live()) {
            self.removed_parts.add(size_of::<Part<S>>());
        }
        let base = register.bases.first();
        let attached = base.is_some_and(|base| base.attached != Attached::Nothing);
        let counting = usize::from(!attached && register.exists());
        for deadline in register.deadlines.iter().skip(counting) {
            self.deadlines.add(size_of_val(deadline));
        }
    }
}

impl State {
    /// Adds what the keys of a slot take up. Costs O(keys) and, for containers, O(elements).
    pub fn take_stock(&self, slot: Slot, stock: &mut Stock) {
        let keys = &self.slots[self.slot_index(slot)].keys;
        for (_, name, kept) in keys.iter() {
            let own = name.len() + KEY_BYTES;
            let bytes = match kept {
                Kept::Compact(base) => own + base.value.len(),
                Kept::Counter(_) => own + PART_BYTES,
                Kept::Full(state) => {
                    let bodies = state.bodies().iter().map(Body::heap_bytes);
                    let mut bytes = own + size_of_val(state) + bodies.sum::<usize>();
                    if let Some(register) = state.register() {
                        stock.note(register);
                        bytes += register.heap_bytes();
                    }
                    for body in state.bodies() {
                        match body {
                            Body::Hash(hash) => stock.note_all(hash.fields.in_full().iter()),
                            Body::Set(set) => stock.note_all(set.members.in_full().iter()),
                            Body::SortedSet(zset) => stock.note_all(zset.members.in_full().iter()),
                            Body::List(_) => {}
                        }
                    }
                    bytes
                }
            };
            match visible(kept, 0, &self.origins) {
                Some(kind) => stock.keys.entry(kind).or_default().add(bytes),
                None => stock.ghosts.add(bytes),
            }
        }
    }
}

impl Stock {
    fn note_all<'a, S: Sum + 'a>(
        &mut self,
        registers: impl Iterator<Item = (u32, &'a Register<S>)>,
    ) {
        registers.for_each(|(_, register)| self.note(register));
    }
}

impl<S> Register<S> {
    fn heap_bytes(&self) -> usize {
        let bases = self.bases.iter().map(|base| base.value.len());
        let edits = self.edits.iter().map(|edit| edit.edit.heap_bytes());
        size_of_val(self)
            + size_of_val(&*self.bases)
            + size_of_val(&*self.edits)
            + size_of_val(&*self.parts)
            + size_of_val(&*self.deadlines)
            + bases.chain(edits).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::{Change, Deadline, Edit, Effect, Increment, SeenPart};
    use crate::number::Number;
    use crate::origin::{Epoch, Origin, Region};
    use crate::slot::{SLOTS, Seed};
    use crate::stamp::{Dot, Stamp, Time};
    use crate::version::Version;

    fn origin(region: u8) -> Origin {
        Origin::new(Region::new(region).unwrap(), Epoch(1))
    }

    /// An op of a region that has seen its own ops alone.
    fn apply(state: &mut State, region: u8, time: u64, key: &[u8], change: Change<'_>) {
        let stamp = Stamp {
            time: Time(time),
            origin: origin(region),
        };
        let op = state.begin(stamp, Some(&Version::new()));
        state.apply_effect(op, 0, &Effect { key, change });
    }

    fn stock(state: &State) -> Stock {
        let mut stock = Stock::default();
        state
            .slots()
            .for_each(|slot| state.take_stock(slot, &mut stock));
        stock
    }

    /// Siblings and deadlines at `s`, an edit at `e`, a removed counter at `c`, and a set.
    fn unstable() -> State {
        let first = Slot::new(0).unwrap();
        let mut state = State::new(Seed::from_text(b"test"), first, SLOTS, false);
        let value = &[b'v'; 1_000];
        let attached = Attached::Nothing;
        for region in 1..=3 {
            let change = Change::StringSet { value, attached };
            apply(&mut state, region, 10, b"s", change);
        }
        let (edit, carried) = (Edit::Append(b"tail"), None);
        let change = Change::StringEdit { edit, carried };
        apply(&mut state, 1, 20, b"e", change);
        let (time, index) = (Time(30), 0);
        let (birth, sum) = (Dot { time, index }, Number::int(5));
        let increment = Increment { birth, sum };
        let change = Change::StringAdd { increment, carried };
        apply(&mut state, 1, 30, b"c", change);
        let (origin, at, field) = (origin(1), birth, None);
        let seen = SeenPart {
            origin,
            birth,
            at,
            sum,
        };
        let change = Change::ForgetPart { field, seen };
        apply(&mut state, 2, 31, b"c", change);
        for region in 1..=2 {
            let change = Change::Deadline(Deadline::At(1 << 50));
            apply(&mut state, region, 40, b"s", change);
        }
        let member = b"m";
        apply(&mut state, 1, 50, b"set", Change::MemberAdd { member });
        state
    }

    #[test]
    fn what_waits_to_become_stable_is_told_by_what_it_is_and_is_nothing_once_it_is() {
        let mut state = unstable();
        let found = stock(&state);
        let count = |heap: Heap| heap.count;
        assert_eq!(count(found.keys[&Kind::String]), 2);
        assert_eq!(count(found.keys[&Kind::Set]), 1);
        assert_eq!(count(found.ghosts), 1);
        assert_eq!(count(found.siblings), 2);
        assert!((2_000..3_000).contains(&found.siblings.bytes), "{found:?}");
        assert_eq!(count(found.edits), 1);
        assert_eq!(count(found.removed_parts), 1);
        assert_eq!(count(found.deadlines), 1);

        let stable: Version = (1..=3).map(|region| (origin(region), Time(99))).collect();
        while state.settle(&stable, 100) {}
        let keys = found.keys.keys().copied();
        let settled = stock(&state);
        assert!(keys.eq(settled.keys.keys().copied()));
        let nothing = Stock {
            keys: settled.keys.clone(),
            ..Stock::default()
        };
        assert_eq!(settled, nothing);
    }
}
