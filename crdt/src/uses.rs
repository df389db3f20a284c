//! A word for each key that says when, or how often, it was used: what eviction goes by.
//!
//! The words are kept beside the slots, by place, and only while they are asked for: a database
//! that evicts nothing, or by chance, or by deadlines, has none. What a word says is up to whoever
//! writes it; here a key gets the word for new ones when it comes to be, and loses its word when it
//! ceases to exist, so that a place that is used again tells nothing of the key before.
//!
//! Words are of this replica alone: they are in no digest, piece or frame.

use crate::names::Updated;
use crate::slot::{Key, Slot};
use crate::state::State;
use crate::view::Pick;

/// Slots that are tried at random before one with keys is looked for in order.
const SLOT_TRIES: u32 = 64;
/// Keys that are picked from all of them in search of one with a deadline.
const VOLATILE_TRIES: u32 = 24;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// By the slot's index, then by place.
    words: Vec<Vec<u32>>,
    /// What keys get that come to be.
    fresh: u32,
}

impl Uses {
    fn set(&mut self, slot: usize, id: u32, word: u32) {
        let words = &mut self.words[slot];
        let at = id as usize;
        if words.len() <= at {
            if words.capacity() <= at {
                // As the places themselves: a quarter more, for one that doubles is half empty.
                words.reserve_exact(at + 1 + at / 4 - words.len());
            }
            words.resize(at + 1, 0);
        }
        words[at] = word;
    }

    fn get(&self, slot: usize, id: u32) -> u32 {
        self.words[slot].get(id as usize).copied().unwrap_or(0)
    }

    /// Takes note of a key that has come to be, or is gone.
    pub(crate) fn note(&mut self, slot: usize, updated: &Updated) {
        match (updated.before.exists, updated.after.exists) {
            (false, true) => self.set(slot, updated.id, self.fresh),
            (true, false) => self.set(slot, updated.id, 0),
            (false, false) | (true, true) => {}
        }
    }

    /// Forgets the keys of a slot.
    pub(crate) fn forget_slot(&mut self, slot: usize) {
        self.words[slot] = Vec::new();
    }
}

/// A key that was picked, and what an eviction goes by.
#[derive(Clone, Copy, Debug)]
pub struct Sampled<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its word; 0 where nothing was noted.
    pub word: u32,
    /// When it ends, if it does, milliseconds since 1970.
    pub ends_at: Option<u64>,
}

impl State {
    /// Keeps words from now on, all of them 0; or none.
    pub fn keep_uses(&mut self, wanted: bool) {
        self.uses = wanted.then(|| {
            let words = vec![Vec::new(); self.slots.len()];
            Box::new(Uses { words, fresh: 0 })
        });
    }

    /// Whether words are kept.
    #[inline]
    pub const fn keeps_uses(&self) -> bool {
        self.uses.is_some()
    }

    /// What keys get that come to be from now on.
    pub fn set_fresh_use(&mut self, word: u32) {
        if let Some(uses) = &mut self.uses {
            uses.fresh = word;
        }
    }

    /// The word of a key, if words are kept and there is such a key. Costs a lookup.
    pub fn use_of(&self, key: &Key<'_>) -> Option<u32> {
        let uses = self.uses.as_ref()?;
        let index = self.slot_index(key.slot);
        let id = self.slots[index].keys.find(key.hash, key.name)?;
        Some(uses.get(index, id))
    }

    /// Changes the word of a key, if words are kept and there is such a key. Costs a lookup.
    pub fn change_use(&mut self, key: &Key<'_>, change: impl FnOnce(u32) -> u32) {
        let index = self.slot_index(key.slot);
        if let Some(uses) = &mut self.uses
            && let Some(id) = self.slots[index].keys.find(key.hash, key.name)
        {
            let word = change(uses.get(index, id));
            uses.set(index, id, word);
        }
    }

    /// A key at random, past its deadline or not. Of slots with keys each is about as likely, and
    /// in it each key. Costs O(1) expected where a good part of the slots has keys; at most a look
    /// at every slot.
    pub fn sample(&self, pick: Pick<'_>) -> Option<Sampled<'_>> {
        let count = self.slots.len();
        let has_keys = |&index: &usize| 0 < self.slots[index].keys.live();
        let mut found = None;
        for _ in 0..SLOT_TRIES {
            found = Some(pick(count as u64) as usize).filter(has_keys);
            if found.is_some() {
                break;
            }
        }
        let index = found.or_else(|| {
            let start = pick(count as u64) as usize;
            (start..count).chain(0..start).find(has_keys)
        })?;
        let id = self.slots[index].keys.random(pick)?;
        self.sampled(index, id)
    }

    /// The same, of the keys with a deadline. Where few keys have one, those whose deadline comes
    /// after a longer time without any are more likely.
    pub fn sample_volatile(&self, pick: Pick<'_>) -> Option<Sampled<'_>> {
        let endings = self.key_ends.endings();
        if endings.is_empty() {
            return None;
        }
        if self.len() < endings.len() * VOLATILE_TRIES as usize {
            for _ in 0..VOLATILE_TRIES {
                let found = self.sample(pick);
                if let Some(found) = found.filter(|found| found.ends_at.is_some()) {
                    return Some(found);
                }
            }
        }
        let (slot, id) = endings.pick(pick, |pick| {
            let slot = self.first_slot().number() + pick(self.slots.len() as u64) as u16;
            (slot, pick(1 << 32) as u32)
        })?;
        self.sampled(self.slot_index(Slot::new(slot)?), id)
    }

    /// The key whose deadline comes first.
    pub fn first_to_end(&self) -> Option<Sampled<'_>> {
        let (slot, id) = self.key_ends.endings().first()?;
        self.sampled(self.slot_index(Slot::new(slot)?), id)
    }

    fn sampled(&self, index: usize, id: u32) -> Option<Sampled<'_>> {
        let (name, kept) = self.slots[index].keys.at(id)?;
        Some(Sampled {
            name,
            word: self.uses.as_ref().map_or(0, |uses| uses.get(index, id)),
            ends_at: kept.ends_at(&self.origins),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::effect::{Attached, Bodies, Change, Deadline};
    use crate::origin::{Epoch, Origin, Region};
    use crate::slot::{SLOTS, Seed, Slot};
    use crate::stamp::{Stamp, Time};
    use crate::state::State;

    struct World {
        state: State,
        at: u64,
        chance: u64,
    }

    impl World {
        fn new() -> Self {
            let first = Slot::new(0).unwrap();
            let mut state = State::new(Seed::from_text(b"test"), first, SLOTS, false);
            state.keep_uses(true);
            let (at, chance) = (0, 1);
            Self { state, at, chance }
        }

        fn apply(&mut self, name: &str, change: &Change<'_>) {
            self.at += 1;
            let origin = Origin::new(Region::new(1).unwrap(), Epoch(1));
            let time = Time(self.at);
            let op = self.state.begin(Stamp { time, origin }, None);
            let key = self.state.seed().key(name.as_bytes());
            self.state.apply(op, 0, &key, change);
        }

        fn set(&mut self, name: &str, ends_at: Option<u64>) {
            let attached = Attached::Deadline(ends_at.map_or(Deadline::Never, Deadline::At));
            let value = b"v";
            self.apply(name, &Change::StringSet { value, attached });
        }

        fn remove(&mut self, name: &str) {
            let (bodies, deadlines) = (Bodies::ALL, true);
            self.apply(name, &Change::Remove { bodies, deadlines });
        }

        fn word(&self, name: &str) -> Option<u32> {
            self.state.use_of(&self.state.seed().key(name.as_bytes()))
        }

        /// How often each key is picked.
        fn picks(&mut self, times: u32, volatile: bool) -> BTreeMap<String, u32> {
            let mut picks = BTreeMap::new();
            for _ in 0..times {
                let mut pick = |below: u64| {
                    let next = self.chance.wrapping_mul(6_364_136_223_846_793_005);
                    self.chance = next.wrapping_add(1);
                    (self.chance >> 20) % below
                };
                let sampled = if volatile {
                    self.state.sample_volatile(&mut pick)
                } else {
                    self.state.sample(&mut pick)
                };
                let name = sampled.expect("there are keys").name.to_vec();
                *picks.entry(String::from_utf8(name).unwrap()).or_default() += 1;
            }
            picks
        }
    }

    #[test]
    fn a_key_has_the_word_it_came_with_until_it_is_changed_and_none_once_it_is_gone() {
        let mut world = World::new();
        world.state.set_fresh_use(7);
        world.set("{a}1", None);
        world.state.set_fresh_use(8);
        world.set("{a}2", None);
        world.set("{a}1", None);
        assert_eq!(world.word("{a}1"), Some(7));
        assert_eq!(world.word("{a}2"), Some(8));
        let key = world.state.seed().key(b"{a}1");
        world.state.change_use(&key, |word| word + 100);
        assert_eq!(world.word("{a}1"), Some(107));
        world.remove("{a}1");
        assert_eq!(world.word("{a}1"), None);
        world.set("{a}3", None);
        assert_eq!(world.word("{a}3"), Some(8), "not that of the place before");
        world.apply("{a}1", &Change::Flush);
        world.state.set_fresh_use(9);
        world.set("{a}4", None);
        assert_eq!(world.word("{a}4"), Some(9));
        world.state.keep_uses(false);
        assert_eq!(world.word("{a}4"), None);
    }

    #[test]
    fn every_key_is_picked_now_and_then() {
        let mut world = World::new();
        for number in 0..1_000 {
            world.set(&format!("key:{number}"), None);
        }
        // Ten times each, but for chance.
        let picks = world.picks(10_000, false);
        assert!(980 < picks.len(), "{}", picks.len());
        assert!(picks.values().all(|&times| times < 60), "{picks:?}");
    }

    #[test]
    fn of_keys_with_deadlines_every_one_is_picked_whether_they_are_many_or_few() {
        for others in [20, 3_000] {
            let mut world = World::new();
            for number in 0..others {
                world.set(&format!("other:{number}"), None);
            }
            for number in 0..10 {
                // Several end at once, and one is far away.
                let ends_at = if number == 9 {
                    1 << 40
                } else {
                    1_000 + number / 3
                };
                world.set(&format!("key:{number}"), Some(ends_at));
            }
            let picks = world.picks(2_000, true);
            assert!(
                picks.keys().all(|name| name.starts_with("key:")),
                "{picks:?}"
            );
            assert_eq!(picks.len(), 10, "{picks:?}");
            let first = world.state.first_to_end().unwrap();
            assert_eq!(first.ends_at, Some(1_000));
        }
        assert!(World::new().state.first_to_end().is_none());
    }
}
