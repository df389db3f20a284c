//! A hash index from names to places, for [`crate::table`].
//!
//! Open addressing with linear probing, in cells of eight bytes: the upper half of the hash and
//! the place. Cells stand in the order of their hashes, so the home of a hash is a multiplication
//! away whatever the number of cells, and the index grows by a third instead of doubling; and since
//! the cells hold the hashes, neither growing nor removing looks at an entry.

use crate::prefetch::prefetch;

/// A cell without a place: no place is so high.
const EMPTY: u64 = u64::MAX;

/// How far from its home a cell may be put. Hashes at random stay far below that; those that come
/// in their order, as out of a walk, pile up where the low ones belong, until there are as many
/// cells as will be needed for all.
const FAR: usize = 4_096;

/// Cells for each place, at most, that are had because others were put too far.
const CELLS_EACH_MAX: usize = 4_096;

/// Cells that a step of a walk looks at, about.
const STEP: usize = 64;

/// Cells that a new index has.
const CELLS_MIN: usize = 12;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Never all taken, once there are any.
    cells: Box<[u64]>,
}

impl Index {
    /// Whether it has been set up.
    pub(crate) const fn is_there(&self) -> bool {
        !self.cells.is_empty()
    }

    /// The place of the entry with this hash that `is_it`. Costs O(1) expected.
    pub(crate) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mut at = self.home(tag);
        loop {
            let cell = *self.cells.get(at)?;
            if cell == EMPTY {
                return None;
            }
            if cell >> 32 == tag && is_it(cell as u32) {
                return Some(cell as u32);
            }
            at = self.after(at);
        }
    }

    /// Adds a place, which is the `count`th.
    pub(crate) fn insert(&mut self, hash: u64, place: u32, count: usize) {
        // At five cells out of six a miss looks at some 18 of them, in a row; a hit at 3.
        if self.cells.len() * 5 < count * 6 {
            self.resize((self.cells.len() * 4 / 3).max(CELLS_MIN));
        }
        let cell = tag(hash) << 32 | u64::from(place);
        while !self.put(cell, self.far(count)) {
            self.resize(self.cells.len() * 2);
        }
    }

    /// Removes a place, after which `count` are left.
    pub(crate) fn remove(&mut self, hash: u64, place: u32, count: usize) {
        let wanted = tag(hash) << 32 | u64::from(place);
        let mut hole = self.home(tag(hash));
        while self.cells[hole] != wanted {
            if self.cells[hole] == EMPTY {
                return;
            }
            hole = self.after(hole);
        }
        // Who stands beyond its home because of the hole moves up.
        let mut next = self.after(hole);
        while self.cells[next] != EMPTY {
            let home = self.home(self.cells[next] >> 32);
            if self.distance(hole, next) <= self.distance(home, next) {
                self.cells[hole] = self.cells[next];
                hole = next;
            }
            next = self.after(next);
        }
        self.cells[hole] = EMPTY;
        if CELLS_MIN < self.cells.len() && count * 4 < self.cells.len() {
            self.resize((self.cells.len() / 2).max(CELLS_MIN));
        }
    }

    /// How many cells there are; up to three of four are empty.
    pub(crate) const fn cells(&self) -> usize {
        self.cells.len()
    }

    /// The place in a cell, if there is one.
    pub(crate) fn at(&self, cell: usize) -> Option<u32> {
        let cell = self.cells.get(cell).copied();
        cell.filter(|&cell| cell != EMPTY).map(|cell| cell as u32)
    }

    /// Has the processor load the cells of a hash.
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(cell) = self.cells.get(self.home(tag(hash))) {
            prefetch(cell);
        }
    }

    /// The places whose tags are from `first` on, with these, as they come, about as many as a step
    /// has; and the tag from which on there may be more.
    pub(crate) fn step(&self, first: u32) -> (Vec<(u32, u32)>, Option<u32>) {
        let (cells, start) = (self.cells.len(), self.home(first.into()));
        let end = start + STEP;
        // The least tag that belongs at the end or behind it.
        let next = (end < cells).then(|| ((end as u64) << 32).div_ceil(cells as u64) as u32);
        let mut found = Vec::new();
        for at in start..start + cells {
            let cell = self.cells[at % cells];
            if cell == EMPTY {
                if end <= at {
                    break;
                }
                continue;
            }
            let tag = tag(cell) as u32;
            if first <= tag && next.is_none_or(|next| tag < next) {
                found.push((tag, cell as u32));
            }
        }
        (found, next)
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.cells)
    }

    fn resize(&mut self, cells: usize) {
        let old = std::mem::replace(&mut self.cells, vec![EMPTY; cells].into());
        for &cell in old.iter().filter(|&&cell| cell != EMPTY) {
            self.put(cell, usize::MAX);
        }
    }

    /// How far is too far: nothing where hashes are so alike that more cells do not help.
    const fn far(&self, count: usize) -> usize {
        if self.cells.len() / CELLS_EACH_MAX < count {
            FAR
        } else {
            usize::MAX
        }
    }

    /// Puts a cell into the first place from its home on that is empty, unless that is too far.
    fn put(&mut self, cell: u64, far: usize) -> bool {
        let mut at = self.home(cell >> 32);
        let mut steps = 0;
        while self.cells[at] != EMPTY {
            at = self.after(at);
            steps += 1;
            if far < steps {
                return false;
            }
        }
        self.cells[at] = cell;
        true
    }

    /// Where a hash belongs.
    const fn home(&self, tag: u64) -> usize {
        ((tag * self.cells.len() as u64) >> 32) as usize
    }

    const fn after(&self, at: usize) -> usize {
        if at + 1 < self.cells.len() { at + 1 } else { 0 }
    }

    /// Steps from one cell to another.
    const fn distance(&self, from: usize, to: usize) -> usize {
        if from <= to {
            to - from
        } else {
            to + self.cells.len() - from
        }
    }
}

/// The half of a hash that is kept.
const fn tag(hash: u64) -> u64 {
    hash >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// As when a snapshot is read.
    #[test]
    fn hashes_in_their_order_do_not_pile_up() {
        const COUNT: u32 = 100_000;
        let mut index = Index::default();
        let (mut filled, mut longest) = (0, 0);
        for place in 0..COUNT {
            let hash = u64::from(place) * (u64::MAX / u64::from(COUNT));
            index.insert(hash, place, place as usize + 1);
        }
        for &cell in &index.cells {
            filled = if cell == EMPTY { 0 } else { filled + 1 };
            longest = filled.max(longest);
        }
        assert!(longest <= 2 * FAR, "{longest} in a row");
        assert!(index.cells.len() <= 3 * COUNT as usize);
    }

    proptest! {
        /// A walk by steps comes to every place once, in the order of their tags.
        #[test]
        fn a_walk_comes_to_all(
            hashes in prop::collection::vec(
                prop_oneof![any::<u64>(), 0_u64..1 << 34, (u64::MAX - (1 << 40))..], 0..300),
        ) {
            let mut index = Index::default();
            for (place, &hash) in (0..).zip(&hashes) {
                index.insert(hash, place, place as usize + 1);
            }
            let mut all: Vec<(u32, u32)> =
                (0..).zip(&hashes).map(|(place, hash)| ((hash >> 32) as u32, place)).collect();
            all.sort_unstable();
            let (mut walked, mut next) = (Vec::new(), Some(0).filter(|_| index.is_there()));
            while let Some(first) = next {
                let (mut step, then) = index.step(first);
                step.sort_unstable();
                prop_assert!(then.is_none_or(|then| first < then));
                walked.extend(step);
                next = then;
            }
            prop_assert_eq!(walked, all);
        }

        /// Also where hashes are alike, and at the end of the cells.
        #[test]
        fn an_index_is_a_map(
            script in prop::collection::vec((0_u32..80, any::<bool>()), 0..400),
            spread in prop_oneof![Just(1_u64 << 33), Just(1 << 57), Just(0xffff_ffff_0000_0000)],
        ) {
            let mut index = Index::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let hash = |place: u32| u64::from(place).wrapping_mul(spread);
            for (place, add) in script {
                match (model.contains_key(&place), add) {
                    (false, true) => {
                        model.insert(place, hash(place));
                        index.insert(hash(place), place, model.len());
                    }
                    (true, false) => {
                        model.remove(&place);
                        index.remove(hash(place), place, model.len());
                    }
                    _ => {}
                }
                let filled = index.cells.iter().filter(|&&cell| cell != EMPTY).count();
                prop_assert_eq!(filled, model.len());
                for place in 0..80 {
                    let found = index.find(hash(place), |other| other == place);
                    prop_assert_eq!(found.is_some(), model.contains_key(&place));
                }
            }
        }
    }
}
