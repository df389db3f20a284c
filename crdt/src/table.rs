//! Tables of named entries whose places never move, and slabs.
//!
//! An entry keeps its place (a small number) as long as it lives, however many others come and
//! go. So a place is what a cursor needs to keep the promise of `SCAN`, what an index can point to,
//! and what a random pick can be made from. Places of entries that are gone are used again.

use std::marker::PhantomData;

use crate::index::Index;
use crate::prefetch::prefetch;
use crate::slot::Seed;
use crate::thin::ThinBytes;

/// Up to so many places, entries are found by looking at each; beyond, by a hash index.
const INDEXED_FROM: usize = 8;

/// How a table finds the name in an entry.
pub(crate) trait Named {
    /// The name in an entry.
    fn name(entry: &[u8]) -> &[u8];
}

/// How near the processor has what a lookup will read: each step of an approach needs the one
/// before to have arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Near {
    /// Nothing is known to be.
    #[default]
    Nothing,
    /// The part of the index that matters.
    Index,
    /// The place with this number, which holds where the entry is.
    Place(u32),
    /// The entry at this place: a lookup will not wait.
    Entry(u32),
}

/// Values in numbered places.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    /// Places to use again, apart because most slabs are small and have none.
    free: Option<Box<Free>>,
}

#[derive(Clone, Debug, Default)]
struct Free {
    ids: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: None,
        }
    }
}

impl<T> Slab<T> {
    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.as_ref().map_or(0, |free| free.ids.len())
    }

    /// Above every place in use.
    pub(crate) const fn ids_end(&self) -> u32 {
        self.places.len() as u32
    }

    /// The values in use, with their places, in order of these.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(&self.places)
            .filter_map(|(id, value)| Some((id, value.as_ref()?)))
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.places.get(id as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.places.get_mut(id as usize)?.as_mut()
    }

    /// Puts a value into a free place.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(id) = self.free.as_mut().and_then(|free| free.ids.pop()) {
            self.places[id as usize] = Some(value);
            return id;
        }
        let length = self.places.len();
        if length == self.places.capacity() {
            // A little at a time, for most slabs are small; then a quarter: one that doubles is
            // half empty just after.
            let more = match length {
                0 | 1 => 1,
                2..8 => 2,
                _ => length / 4,
            };
            self.places.reserve_exact(more);
        }
        self.places.push(Some(value));
        length as u32
    }

    /// Takes a value out of its place. Nothing stays allocated for an empty slab.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let value = self.places.get_mut(id as usize)?.take()?;
        self.free.get_or_insert_default().ids.push(id);
        if self.len() == 0 {
            *self = Self::default();
        }
        Some(value)
    }

    fn heap_bytes(&self) -> usize {
        let free = self.free.as_ref().map_or(0, |free| {
            size_of::<Free>() + free.ids.capacity() * size_of::<u32>()
        });
        self.places.capacity() * size_of::<Option<T>>() + free
    }
}

/// Entries by name. See the module.
#[derive(Debug)]
pub(crate) struct Table<N> {
    entries: Slab<ThinBytes>,
    index: Index,
    naming: PhantomData<fn() -> N>,
}

impl<N> Default for Table<N> {
    fn default() -> Self {
        Self {
            entries: Slab::default(),
            index: Index::default(),
            naming: PhantomData,
        }
    }
}

impl<N: Named> Table<N> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Above every place in use.
    pub(crate) const fn ids_end(&self) -> u32 {
        self.entries.ids_end()
    }

    /// The place of the entry with this name. Costs O(1) expected.
    pub(crate) fn find(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let is_it = |id: u32| {
            self.entries
                .get(id)
                .is_some_and(|entry| N::name(entry) == name)
        };
        if self.index.is_there() {
            self.index.find(hash, is_it)
        } else {
            (0..self.entries.ids_end()).find(|&id| is_it(id))
        }
    }

    /// Has the processor load what [`Table::find`] will read, one step further each time: `near`
    /// is what the step before returned. See [`Near`].
    pub(crate) fn approach(&self, hash: u64, near: Near) -> Near {
        match near {
            Near::Nothing if self.index.is_there() => {
                self.index.prefetch(hash);
                Near::Index
            }
            Near::Nothing => self.approach_place(0),
            Near::Index => match self.index.find(hash, |_| true) {
                Some(id) => self.approach_place(id),
                None => Near::Entry(u32::MAX),
            },
            Near::Place(id) => {
                if let Some(entry) = self.entries.get(id) {
                    entry.prefetch();
                }
                Near::Entry(id)
            }
            Near::Entry(_) => near,
        }
    }

    fn approach_place(&self, id: u32) -> Near {
        if let Some(place) = self.entries.places.get(id as usize) {
            prefetch(place);
        }
        Near::Place(id)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&ThinBytes> {
        self.entries.get(id)
    }

    /// A place picked at random, each in use as likely as any other: by the cells of the index, a
    /// good part of which is taken however many entries have gone. `None` is bad luck.
    pub(crate) fn random(&self, pick: &mut dyn FnMut(u64) -> u64) -> Option<u32> {
        if self.index.is_there() {
            return self.index.at(pick(self.index.cells() as u64) as usize);
        }
        Some(pick(self.entries.ids_end().into()) as u32)
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut ThinBytes> {
        self.entries.get_mut(id)
    }

    /// Adds an entry whose name is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, name: &[u8], entry: ThinBytes, seed: &Seed) -> u32 {
        debug_assert!(
            N::name(&entry) == name && self.find(hash, name).is_none(),
            "one entry a name"
        );
        let id = self.entries.insert(entry);
        if self.index.is_there() {
            self.index.insert(hash, id, self.entries.len());
        } else if INDEXED_FROM < self.entries.places.len() {
            for (count, (id, entry)) in (1..).zip(self.entries.iter()) {
                self.index.insert(seed.hash(N::name(entry)), id, count);
            }
        }
        id
    }

    /// Replaces an entry by one of the same name.
    pub(crate) fn replace(&mut self, id: u32, entry: ThinBytes) {
        let old = self
            .entries
            .get_mut(id)
            .expect("an entry is replaced where it is");
        debug_assert!(N::name(old) == N::name(&entry), "a name keeps its place");
        *old = entry;
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, id: u32, hash: u64) {
        self.entries.remove(id);
        if self.entries.len() == 0 {
            self.index = Index::default();
        } else if self.index.is_there() {
            self.index.remove(hash, id, self.entries.len());
        }
    }

    /// The places of some entries whose tags, the upper halves of their hashes, are from `first`
    /// on, by tag and then name; and the tag from which on there may be more. A walk by tags comes
    /// to every entry that is there throughout, whatever happens to others meanwhile, and is the
    /// same wherever the entries are.
    pub(crate) fn step(&self, first: u32, seed: &Seed) -> (Vec<(u32, u32)>, Option<u32>) {
        let (mut step, next) = if self.index.is_there() {
            self.index.step(first)
        } else {
            let all = self.entries.iter().map(|(id, entry)| {
                let tag = (seed.hash(N::name(entry)) >> 32) as u32;
                (tag, id)
            });
            (all.filter(|&(tag, _)| first <= tag).collect(), None)
        };
        let name = |id| self.entries.get(id).map(|entry| N::name(entry));
        step.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| name(a.1).cmp(&name(b.1))));
        (step, next)
    }

    /// Estimated bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let entries = self
            .entries
            .places
            .iter()
            .flatten()
            .map(|entry| entry.len() + 8);
        self.entries.heap_bytes() + self.index.heap_bytes() + entries.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    enum Whole {}

    impl Named for Whole {
        fn name(entry: &[u8]) -> &[u8] {
            &entry[..1]
        }
    }

    proptest! {
        /// Whatever comes and goes, entries are found by name, and stay where they are.
        #[test]
        fn a_table_is_a_map_with_places(
            script in prop::collection::vec((0_u8..24, any::<u8>(), any::<bool>()), 0..200),
        ) {
            let seed = Seed::from_text(b"test");
            let mut table: Table<Whole> = Table::default();
            let mut model: BTreeMap<u8, (u32, u8)> = BTreeMap::new();
            for (name, value, add) in script {
                let (key, hash) = ([name], seed.hash(&[name]));
                let found = table.find(hash, &key);
                prop_assert_eq!(found, model.get(&name).map(|known| known.0));
                match (found, add) {
                    (Some(id), true) => {
                        table.replace(id, ThinBytes::from_parts(&[&[name, value]]));
                        model.insert(name, (id, value));
                    }
                    (None, true) => {
                        let entry = ThinBytes::from_parts(&[&[name, value]]);
                        model.insert(name, (table.insert(hash, &key, entry, &seed), value));
                    }
                    (Some(id), false) => {
                        table.remove(id, hash);
                        model.remove(&name);
                    }
                    (None, false) => {}
                }
                prop_assert_eq!(table.len(), model.len());
            }
            for (name, (id, value)) in model {
                prop_assert!(id < table.ids_end());
                prop_assert_eq!(table.get(id).map(|entry| entry.to_vec()), Some(vec![name, value]));
            }
        }

        /// Whichever places are freed, they are used again before new ones are made.
        #[test]
        fn a_slab_is_a_map_from_places(
            script in prop::collection::vec((0_u32..40, any::<bool>()), 0..200),
        ) {
            let mut slab = Slab::default();
            let mut model = BTreeMap::new();
            let mut most = 0;
            for (value, (place, add)) in script.into_iter().enumerate() {
                if add {
                    let id = slab.insert(value);
                    prop_assert_eq!(model.insert(id, value), None);
                } else {
                    prop_assert_eq!(slab.remove(place), model.remove(&place));
                }
                most = if model.is_empty() { 0 } else { most.max(model.len()) };
                prop_assert_eq!(slab.len(), model.len());
                prop_assert_eq!(slab.ids_end() as usize, most);
            }
            for id in 0..slab.ids_end() {
                prop_assert_eq!(slab.get(id), model.get(&id));
            }
        }
    }

    #[test]
    fn small_and_empty_ones_are_small() {
        assert_eq!(size_of::<Table<Whole>>(), 48);
        let seed = Seed::from_text(b"test");
        let mut table: Table<Whole> = Table::default();
        for name in 0..100 {
            let entry = ThinBytes::from_parts(&[&[name]]);
            table.insert(seed.hash(&[name]), &[name], entry, &seed);
            let slack = table.entries.places.capacity() - table.len();
            assert!(slack <= 1 + table.len() / 4);
        }
        for name in 0..100 {
            let hash = seed.hash(&[name]);
            let id = table.find(hash, &[name]).unwrap();
            table.remove(id, hash);
        }
        assert_eq!(table.heap_bytes(), 0);
    }
}
