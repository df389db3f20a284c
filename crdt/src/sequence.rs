//! Sequences by rank: a list's elements, a sorted set's order.
//!
//! Chunks of up to 128 items, in groups of up to 128 chunks. Finding a rank walks the groups from
//! the nearer end, then the chunks of one; inserting or removing moves items of one chunk, and
//! chunks of one group when it splits. For a million items that is some hundred steps at worst, and
//! next to nothing at both ends, where queues live. Chunks that are only pushed to stay full.

use std::collections::VecDeque;
use std::ops::Range;

/// Items in a chunk, at most.
const CHUNK: usize = 128;
/// Chunks in a group, at most.
const GROUP: usize = 128;

/// Chunks, and how many items they hold together.
#[derive(Clone, Debug)]
struct Group<T> {
    chunks: VecDeque<VecDeque<T>>,
    length: usize,
}

/// Items in order, by rank.
#[derive(Clone, Debug)]
pub(crate) struct Sequence<T> {
    groups: VecDeque<Group<T>>,
    length: usize,
}

impl<T> Default for Sequence<T> {
    fn default() -> Self {
        Self {
            groups: VecDeque::new(),
            length: 0,
        }
    }
}

/// Where an item is.
#[derive(Clone, Copy, Debug)]
struct Place {
    group: usize,
    chunk: usize,
    item: usize,
}

impl<T> Sequence<T> {
    /// How many items there are.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// The item at a rank.
    pub(crate) fn get(&self, rank: usize) -> Option<&T> {
        if self.length <= rank {
            return None;
        }
        let Place { group, chunk, item } = self.place(rank);
        self.groups[group].chunks[chunk].get(item)
    }

    /// The item at a rank, to change.
    pub(crate) fn get_mut(&mut self, rank: usize) -> Option<&mut T> {
        if self.length <= rank {
            return None;
        }
        let Place { group, chunk, item } = self.place(rank);
        self.groups[group].chunks[chunk].get_mut(item)
    }

    /// Where the item at a rank is, or for the length the place behind the last one.
    fn place(&self, rank: usize) -> Place {
        // From the nearer end: queues live there.
        if self.length / 2 < rank {
            return self.place_from_end(rank);
        }
        let mut item = rank;
        for (at, group) in self.groups.iter().enumerate() {
            if item < group.length || (item == group.length && at + 1 == self.groups.len()) {
                let mut chunk = 0;
                while chunk + 1 < group.chunks.len() && group.chunks[chunk].len() <= item {
                    item -= group.chunks[chunk].len();
                    chunk += 1;
                }
                return Place {
                    group: at,
                    chunk,
                    item,
                };
            }
            item -= group.length;
        }
        Place {
            group: 0,
            chunk: 0,
            item: 0,
        }
    }

    fn place_from_end(&self, rank: usize) -> Place {
        let mut behind = self.length - rank;
        for (at, group) in self.groups.iter().enumerate().rev() {
            if behind <= group.length {
                let mut chunk = group.chunks.len() - 1;
                while group.chunks[chunk].len() < behind {
                    behind -= group.chunks[chunk].len();
                    chunk -= 1;
                }
                return Place {
                    group: at,
                    chunk,
                    item: group.chunks[chunk].len() - behind,
                };
            }
            behind -= group.length;
        }
        Place {
            group: 0,
            chunk: 0,
            item: 0,
        }
    }

    /// Adds an item in front of the first.
    pub(crate) fn push_front(&mut self, item: T) {
        if self.groups.front().is_none_or(|group| {
            group.chunks.len() == GROUP && group.chunks.front().is_some_and(|c| c.len() == CHUNK)
        }) {
            self.groups.push_front(Group {
                chunks: VecDeque::new(),
                length: 0,
            });
        }
        let group = &mut self.groups[0];
        if group
            .chunks
            .front()
            .is_none_or(|chunk| chunk.len() == CHUNK)
        {
            group.chunks.push_front(VecDeque::new());
        }
        grow(&mut group.chunks[0]);
        group.chunks[0].push_front(item);
        group.length += 1;
        self.length += 1;
    }

    /// Adds an item behind the last.
    pub(crate) fn push_back(&mut self, item: T) {
        if self.groups.back().is_none_or(|group| {
            group.chunks.len() == GROUP && group.chunks.back().is_some_and(|c| c.len() == CHUNK)
        }) {
            self.groups.push_back(Group {
                chunks: VecDeque::new(),
                length: 0,
            });
        }
        let group = self.groups.back_mut().expect("just made if missing");
        if group.chunks.back().is_none_or(|chunk| chunk.len() == CHUNK) {
            group.chunks.push_back(VecDeque::new());
        }
        let chunk = group.chunks.back_mut().expect("just made if missing");
        grow(chunk);
        chunk.push_back(item);
        group.length += 1;
        self.length += 1;
    }

    /// Adds an item that will have this rank.
    pub(crate) fn insert(&mut self, rank: usize, item: T) {
        debug_assert!(rank <= self.length, "an insert goes into the sequence");
        if rank == self.length {
            self.push_back(item);
            return;
        }
        if rank == 0 {
            self.push_front(item);
            return;
        }
        let Place {
            group: at,
            chunk,
            item: into,
        } = self.place(rank);
        let group = &mut self.groups[at];
        group.length += 1;
        self.length += 1;
        if group.chunks[chunk].len() < CHUNK {
            grow(&mut group.chunks[chunk]);
            group.chunks[chunk].insert(into, item);
            return;
        }
        let mut right = group.chunks[chunk].split_off(CHUNK / 2);
        if into <= CHUNK / 2 {
            group.chunks[chunk].insert(into, item);
        } else {
            right.insert(into - CHUNK / 2, item);
        }
        group.chunks.insert(chunk + 1, right);
        if GROUP < group.chunks.len() {
            let chunks = group.chunks.split_off(GROUP / 2);
            let length = chunks.iter().map(VecDeque::len).sum();
            group.length -= length;
            self.groups.insert(at + 1, Group { chunks, length });
        }
    }

    /// Takes out the item at a rank.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn remove(&mut self, rank: usize) -> T {
        assert!(rank < self.length, "only what is there is removed");
        let Place {
            group: at,
            chunk,
            item,
        } = self.place(rank);
        let group = &mut self.groups[at];
        let taken = group.chunks[chunk]
            .remove(item)
            .expect("places are of items");
        group.length -= 1;
        self.length -= 1;
        self.tidy(at, chunk);
        taken
    }

    /// Drops what is empty, and joins a chunk that has become small with its neighbour.
    fn tidy(&mut self, at: usize, chunk: usize) {
        let group = &mut self.groups[at];
        let length = group.chunks[chunk].len();
        if length == 0 {
            group.chunks.remove(chunk);
        } else if length < CHUNK / 4
            && let Some(next) = group.chunks.get(chunk + 1)
            && length + next.len() <= CHUNK / 2
        {
            let mut next = group.chunks.remove(chunk + 1).expect("just seen");
            group.chunks[chunk].append(&mut next);
        }
        if group.length == 0 {
            self.groups.remove(at);
        }
    }

    /// The first rank whose item does not satisfy the predicate, by which items are partitioned.
    pub(crate) fn partition_point(&self, mut wanted: impl FnMut(&T) -> bool) -> usize {
        let mut last_is =
            |chunk: Option<&VecDeque<T>>| chunk.and_then(VecDeque::back).is_some_and(&mut wanted);
        let at = self
            .groups
            .partition_point(|group| last_is(group.chunks.back()));
        let before: usize = self.groups.range(..at).map(|group| group.length).sum();
        let Some(group) = self.groups.get(at) else {
            return before;
        };
        let chunk = group.chunks.partition_point(|chunk| last_is(Some(chunk)));
        let inside: usize = group.chunks.range(..chunk).map(VecDeque::len).sum();
        let item = group
            .chunks
            .get(chunk)
            .map_or(0, |chunk| chunk.partition_point(&mut wanted));
        before + inside + item
    }

    /// The items with these ranks, which are in the sequence.
    pub(crate) fn range(&self, ranks: Range<usize>) -> Items<'_, T> {
        let ranks = ranks.start.min(self.length)..ranks.end.min(self.length);
        if ranks.is_empty() {
            return Items {
                sequence: self,
                ranks: 0..0,
                front: Span::NONE,
                back: Span::NONE,
            };
        }
        Items {
            sequence: self,
            ranks,
            front: Span::NONE,
            back: Span::NONE,
        }
    }
}

/// Makes room for one more: exactly while a chunk is small, for most sequences are.
fn grow<T>(chunk: &mut VecDeque<T>) {
    let length = chunk.len();
    if length == chunk.capacity() {
        let more = if length < 8 {
            2
        } else {
            length.min(CHUNK - length).max(1)
        };
        chunk.reserve_exact(more);
    }
}

/// A chunk, and the rank of its first item.
#[derive(Clone, Copy, Debug)]
struct Span {
    group: usize,
    chunk: usize,
    first: usize,
    length: usize,
}

impl Span {
    const NONE: Self = Self {
        group: 0,
        chunk: 0,
        first: 0,
        length: 0,
    };

    const fn has(&self, rank: usize) -> bool {
        self.first <= rank && rank < self.first + self.length
    }
}

/// Items of a range of ranks, from either end.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a, T> {
    sequence: &'a Sequence<T>,
    ranks: Range<usize>,
    front: Span,
    back: Span,
}

impl<'a, T> Items<'a, T> {
    fn at(sequence: &'a Sequence<T>, span: &mut Span, rank: usize) -> Option<&'a T> {
        if !span.has(rank) {
            let Place { group, chunk, item } = sequence.place(rank);
            let length = sequence.groups.get(group)?.chunks.get(chunk)?.len();
            *span = Span {
                group,
                chunk,
                first: rank - item,
                length,
            };
        }
        sequence
            .groups
            .get(span.group)?
            .chunks
            .get(span.chunk)?
            .get(rank - span.first)
    }
}

impl<'a, T> Iterator for Items<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        let rank = self.ranks.next()?;
        Self::at(self.sequence, &mut self.front, rank)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl<T> DoubleEndedIterator for Items<'_, T> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let rank = self.ranks.next_back()?;
        Self::at(self.sequence, &mut self.back, rank)
    }
}

impl<T> ExactSizeIterator for Items<'_, T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Front,
        Back,
        Insert(prop::sample::Index),
        Remove(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => Just(Step::Front),
            1 => Just(Step::Back),
            3 => any::<prop::sample::Index>().prop_map(Step::Insert),
            2 => any::<prop::sample::Index>().prop_map(Step::Remove),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_sequence_is_a_vec(start in 0_usize..40_000, script in prop::collection::vec(step(), 0..600)) {
            let mut sequence = Sequence::default();
            let mut model = Vec::new();
            for item in 0..start {
                sequence.push_back(item);
                model.push(item);
            }
            for (item, step) in (start..).zip(script) {
                match step {
                    Step::Front => { sequence.push_front(item); model.insert(0, item); }
                    Step::Back => { sequence.push_back(item); model.push(item); }
                    Step::Insert(at) => {
                        let rank = at.index(model.len() + 1);
                        sequence.insert(rank, item);
                        model.insert(rank, item);
                    }
                    Step::Remove(at) if !model.is_empty() => {
                        let rank = at.index(model.len());
                        prop_assert_eq!(sequence.remove(rank), model.remove(rank));
                    }
                    Step::Remove(_) => {}
                }
                prop_assert_eq!(sequence.len(), model.len());
            }
            prop_assert!(sequence.range(0..model.len()).eq(&model));
            prop_assert!(sequence.range(0..model.len()).rev().eq(model.iter().rev()));
            if let Some(&last) = model.last() {
                prop_assert_eq!(sequence.get(model.len() - 1), Some(&last));
            }
            prop_assert_eq!(sequence.get(model.len()), None);
        }

        #[test]
        fn a_partition_is_found(length in 0_usize..40_000, at in any::<prop::sample::Index>()) {
            let mut sequence = Sequence::default();
            (0..length).for_each(|item| sequence.push_back(item));
            let at = at.index(length + 1);
            prop_assert_eq!(sequence.partition_point(|&item| item < at), at);
        }

        #[test]
        fn removals_leave_nothing_behind(length in 0_usize..20_000) {
            let mut sequence = Sequence::default();
            (0..length).for_each(|item| sequence.push_back(item));
            for left in (0..length).rev() {
                sequence.remove(left / 2);
                prop_assert_eq!(sequence.len(), left);
            }
            prop_assert!(sequence.groups.is_empty());
        }
    }
}
