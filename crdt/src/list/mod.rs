//! The list: elements in the order of their positions.
//!
//! An element that was pushed at an end and never set has that end and its own identity for a
//! position, so a queue of a million jobs costs no more than its values and 7 bytes each.
//! Everything else is kept in full in a slab beside the sequence.

mod merge;

use std::ops::Range;

use crate::effect::{Attached, ElementId, End};
use crate::fact::{Id, Origins, Seen, mix};
use crate::packed::{Element, Packed};
use crate::position::{Position, Side, Step};
use crate::register::Base;
use crate::sequence::Sequence;
use crate::table::Slab;

/// An element that is more than a pushed value.
#[derive(Clone, Debug)]
struct FullElement {
    position: Position,
    born: Id,
    /// What was written into it, highest first; never empty.
    bases: Vec<Base>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct ListBody {
    elements: Sequence<Packed>,
    full: Slab<FullElement>,
    /// Of all elements.
    pub(crate) digest: u64,
}

/// All facts of an element.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fact<'a> {
    Pushed {
        id: Id,
        end: End,
        value: &'a [u8],
    },
    Full {
        position: &'a Position,
        born: Id,
        bases: &'a [Base],
    },
}

/// Reading.
impl ListBody {
    pub(crate) fn len(&self) -> usize {
        self.elements.len()
    }

    /// The value at a rank.
    pub(crate) fn get(&self, rank: usize) -> Option<&[u8]> {
        Some(self.value(self.elements.get(rank)?))
    }

    /// The element at a rank.
    pub(crate) fn fact(&self, rank: usize) -> Option<Fact<'_>> {
        Some(match self.elements.get(rank)? {
            Element::Pushed { id, end, value } => Fact::Pushed { id, end, value },
            Element::Full(place) => {
                let full = self.full_at(place);
                Fact::Full {
                    position: &full.position,
                    born: full.born,
                    bases: &full.bases,
                }
            }
        })
    }

    /// The ranks of the elements after one position and up to another, this included.
    pub(crate) fn ranks(
        &self,
        after: Option<&Position>,
        until: Option<&Position>,
        origins: &Origins,
    ) -> Range<usize> {
        let behind = |last: &Position| self.rank_where(|at| at <= *last, origins);
        let start = after.map_or(0, behind);
        start..until.map_or(self.len(), behind).max(start)
    }

    /// What was written into elements beside what is read, unless more than `most` are in full.
    pub(crate) fn siblings(&self, most: usize) -> Option<impl Iterator<Item = &Base>> {
        let full = self.full.iter();
        (self.full.len() <= most).then(|| full.flat_map(|(_, full)| full.bases.iter().skip(1)))
    }

    /// The values at these ranks.
    pub(crate) fn range(&self, ranks: Range<usize>) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.elements
            .range(ranks)
            .map(|element| self.value(element))
    }

    /// The value at a rank, and where it stands.
    pub(crate) fn element(&self, rank: usize, origins: &Origins) -> Option<(&[u8], Position)> {
        let element = self.elements.get(rank)?;
        Some((self.value(element), self.position_of(element, origins)))
    }

    /// Where the element at a rank stands.
    pub(crate) fn position(&self, rank: usize, origins: &Origins) -> Option<Position> {
        Some(self.position_of(self.elements.get(rank)?, origins))
    }

    /// The insertion that made the element at a rank.
    pub(crate) fn born(&self, rank: usize, origins: &Origins) -> Option<ElementId> {
        let born = self.born_of(self.elements.get(rank)?);
        Some(ElementId {
            origin: origins.get(born.origin),
            dot: born.dot(),
        })
    }

    /// The insertion of the element at a position, and what was last written into it.
    pub(crate) fn element_at(&self, at: &Position, origins: &Origins) -> Option<(Id, Id)> {
        let element = self.elements.get(self.rank(at, origins))?;
        let is_there = self.position_of(element, origins) == *at;
        is_there.then(|| (self.born_of(element), self.written(element)))
    }

    /// The latest fact of any element. O(elements).
    pub(crate) fn latest(&self, origins: &Origins) -> Option<Id> {
        let ids = self
            .elements
            .range(0..self.len())
            .map(|element| self.written(element));
        ids.max_by(|&a, &b| origins.compare(a, b))
    }

    /// Estimated bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let full = (0..self.full.ids_end()).filter_map(|place| self.full.get(place));
        let full = full.flat_map(|element| &element.bases);
        let values: usize = full
            .map(|base| base.value.len() + size_of::<FullElement>())
            .sum();
        values
            + self
                .elements
                .leaves()
                .map(Packed::heap_bytes)
                .sum::<usize>()
    }

    fn value<'a>(&'a self, element: Element<'a>) -> &'a [u8] {
        match element {
            Element::Pushed { value, .. } => value,
            Element::Full(place) => &self.full_at(place).bases[0].value,
        }
    }

    fn born_of(&self, element: Element<'_>) -> Id {
        match element {
            Element::Pushed { id, .. } => id,
            Element::Full(place) => self.full_at(place).born,
        }
    }

    fn written(&self, element: Element<'_>) -> Id {
        match element {
            Element::Pushed { id, .. } => id,
            Element::Full(place) => self.full_at(place).bases[0].id,
        }
    }

    fn position_of(&self, element: Element<'_>, origins: &Origins) -> Position {
        match element {
            Element::Pushed { id, end, .. } => Position::pushed(side_of(end), origins.fact_id(id)),
            Element::Full(place) => self.full_at(place).position.clone(),
        }
    }

    fn full_at(&self, place: u32) -> &FullElement {
        self.full.get(place).expect("elements name full ones")
    }

    /// The element at a position and its rank, if that is an end of the list: queues are taken
    /// from there.
    fn end_at(&self, position: &Position, origins: &Origins) -> Option<(usize, Element<'_>)> {
        let [Step { side, id }] = position.steps() else {
            return None;
        };
        let last = self.len().checked_sub(1)?;
        let stands_at = |element: Element<'_>| match element {
            Element::Pushed { id: own, end, .. } => {
                side_of(end) == *side && own.time == id.stamp.time && origins.fact_id(own) == *id
            }
            Element::Full(_) => false,
        };
        [last, 0].into_iter().find_map(|rank| {
            let element = self.elements.get(rank)?;
            stands_at(element).then_some((rank, element))
        })
    }

    /// The rank of the first element that stands at `position` or after it.
    fn rank(&self, position: &Position, origins: &Origins) -> usize {
        self.rank_where(|at| at < *position, origins)
    }

    /// The first rank whose position is not wanted, where all that are wanted come first. O(1) at
    /// the ends and next to them.
    fn rank_where(&self, wanted: impl Fn(Position) -> bool, origins: &Origins) -> usize {
        let length = self.len();
        let is_wanted = |rank| self.position(rank, origins).is_some_and(&wanted);
        if !is_wanted(0) {
            return 0;
        }
        if is_wanted(length - 1) {
            return length;
        }
        if length < 2 || is_wanted(length - 2) {
            return length - 1;
        }
        self.elements
            .partition_point(|element| wanted(self.position_of(element, origins)))
    }

    fn digest_of(&self, list: u64, element: Element<'_>, origins: &Origins) -> u64 {
        let thing = mix(list, origins.hash(self.born_of(element)));
        mix(thing, origins.hash(self.written(element)))
    }
}

/// Changing; `list` is the hash of the list for digests.
impl ListBody {
    /// Adds an element at an end.
    pub(crate) fn push(&mut self, list: u64, end: End, id: Id, value: &[u8], origins: &Origins) {
        let rank = if self.is_outermost(end, id, origins) {
            match end {
                End::Head => 0,
                End::Tail => self.len(),
            }
        } else {
            let position = Position::pushed(side_of(end), origins.fact_id(id));
            self.rank(&position, origins)
        };
        self.put(list, rank, Element::Pushed { id, end, value }, origins);
    }

    /// Whether what is pushed at an end stands next to it, as nearly all does.
    fn is_outermost(&self, end: End, id: Id, origins: &Origins) -> bool {
        let rank = match end {
            End::Head => 0,
            End::Tail => self.len().saturating_sub(1),
        };
        match self.elements.get(rank) {
            None => true,
            Some(Element::Pushed {
                id: other, end: at, ..
            }) => at != end || origins.compare(other, id).is_lt(),
            Some(Element::Full(_)) => false,
        }
    }

    /// Adds an element at a position.
    pub(crate) fn insert(
        &mut self,
        list: u64,
        at: &Position,
        id: Id,
        value: &[u8],
        origins: &Origins,
    ) {
        let base = Base {
            id,
            attached: Attached::Nothing,
            value: value.to_vec(),
            folded: None,
        };
        let element = FullElement {
            position: at.clone(),
            born: id,
            bases: vec![base],
        };
        let element = Element::Full(self.full.insert(element));
        self.put(list, self.rank(at, origins), element, origins);
    }

    fn put(&mut self, list: u64, rank: usize, element: Element<'_>, origins: &Origins) {
        self.digest ^= self.digest_of(list, element, origins);
        self.elements.insert(rank, element);
    }

    /// Removes what was seen between two positions, both included.
    pub(crate) fn remove(
        &mut self,
        list: u64,
        (first, last): (&Position, &Position),
        seen: Seen<'_>,
        origins: &Origins,
    ) {
        if first == last
            && let Some((rank, element)) = self.end_at(first, origins)
        {
            if seen.covers(self.born_of(element)) {
                self.digest ^= self.digest_of(list, element, origins);
                self.elements.remove(rank);
            }
            return;
        }
        let start = self.rank(first, origins);
        let end = self.rank_where(|at| at <= *last, origins);
        self.remove_ranks(list, start..end, seen, origins);
    }

    /// Removes all that was seen.
    pub(crate) fn remove_all(&mut self, list: u64, seen: Seen<'_>, origins: &Origins) {
        self.remove_ranks(list, 0..self.len(), seen, origins);
    }

    fn remove_ranks(&mut self, list: u64, ranks: Range<usize>, seen: Seen<'_>, origins: &Origins) {
        if ranks.is_empty() {
            return;
        }
        if ranks.len() == 1 {
            if let Some(element) = self.elements.get(ranks.start)
                && seen.covers(self.born_of(element))
            {
                self.digest ^= self.digest_of(list, element, origins);
                if let Element::Full(place) = element {
                    self.full.remove(place);
                }
                self.elements.remove(ranks.start);
            }
            return;
        }
        let mut elements = std::mem::take(&mut self.elements);
        elements.remove_range(ranks, |element| {
            let covered = seen.covers(self.born_of(element));
            if covered {
                self.digest ^= self.digest_of(list, element, origins);
                if let Element::Full(place) = element {
                    self.full.remove(place);
                }
            }
            covered
        });
        self.elements = elements;
    }

    /// Writes into an element; nothing happens where it is gone. Returns whether the element now
    /// has something to settle.
    pub(crate) fn set(
        &mut self,
        list: u64,
        (at, born): (&Position, Id),
        base: Base,
        seen: Seen<'_>,
        origins: &Origins,
    ) -> bool {
        let rank = self.rank(at, origins);
        let Some(element) = self.elements.get(rank) else {
            return false;
        };
        if self.born_of(element) != born || self.position_of(element, origins) != *at {
            return false;
        }
        let before = self.digest_of(list, element, origins);
        let place = match element {
            Element::Full(place) => place,
            Element::Pushed { id, value, .. } => {
                let old = Base {
                    id,
                    attached: Attached::Nothing,
                    value: value.to_vec(),
                    folded: None,
                };
                let full = FullElement {
                    position: at.clone(),
                    born,
                    bases: vec![old],
                };
                let place = self.full.insert(full);
                self.elements.remove(rank);
                self.elements.insert(rank, Element::Full(place));
                place
            }
        };
        let bases = &mut self.full.get_mut(place).expect("found or made").bases;
        bases.retain(|old| !seen.covers(old.id));
        let among = bases.partition_point(|old| origins.compare(old.id, base.id).is_gt());
        bases.insert(among, base);
        let unsettled = 1 < bases.len();
        let element = self.elements.get(rank).expect("found");
        self.digest ^= before ^ self.digest_of(list, element, origins);
        unsettled
    }

    /// Drops what is stable and beaten in the element at a position. Returns whether something is
    /// left to settle.
    pub(crate) fn settle(&mut self, at: &Position, stable: Seen<'_>, origins: &Origins) -> bool {
        let rank = self.rank(at, origins);
        let Some(element) = self.elements.get(rank) else {
            return false;
        };
        let Element::Full(place) = element else {
            return false;
        };
        let bases = &mut self
            .full
            .get_mut(place)
            .expect("elements name full ones")
            .bases;
        let mut winner = true;
        bases.retain(|base| std::mem::take(&mut winner) || !stable.covers(base.id));
        1 < bases.len()
    }
}

const fn side_of(end: End) -> Side {
    match end {
        End::Head => Side::Left,
        End::Tail => Side::Right,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::origin::{Epoch, Origin, Region};
    use crate::stamp::Time;

    /// The hash of the list in these tests.
    const LIST: u64 = 7;

    /// An element as the test knows it, and whether it should be kept in full.
    type Known = (Id, [u8; 8], bool);

    /// Two origins in turn push at the head (0) and the tail (1), and insert in the middle (2).
    fn build(script: &[u8], origins: &mut Origins) -> (ListBody, Vec<Known>) {
        let regions = [1, 2].map(|id| Origin::new(Region::new(id).unwrap(), Epoch(1)));
        let regions = regions.map(|origin| origins.number(origin));
        let (mut list, mut model) = (ListBody::default(), Vec::new());
        for (at, &step) in script.iter().enumerate() {
            let id = Id {
                time: Time(at as u64 + 1),
                index: 0,
                origin: regions[at % 2],
            };
            let (value, middle) = (at.to_le_bytes(), at / 2);
            // An empty list is pushed to, not inserted into.
            let rank = match step {
                0 => 0,
                2 if 0 < at => middle,
                _ => at,
            };
            match step {
                0 => list.push(LIST, End::Head, id, &value, origins),
                2 if 0 < at => {
                    let before = middle.checked_sub(1);
                    let before = before.and_then(|rank| list.position(rank, origins));
                    let after = list.position(middle, origins);
                    let fact = origins.fact_id(id);
                    let position = Position::between(before.as_ref(), after.as_ref(), fact);
                    list.insert(LIST, &position, id, &value, origins);
                }
                _ => list.push(LIST, End::Tail, id, &value, origins),
            }
            model.insert(rank, (id, value, step == 2 && 0 < at));
        }
        (list, model)
    }

    proptest! {
        /// A removal takes what it had seen between two elements, and nothing else.
        #[test]
        fn only_what_was_seen_is_removed(
            script in prop::collection::vec(0_u8..3, 1..300),
            (a, b) in any::<(Index, Index)>(),
            seen in [0_u64..300, 0_u64..300],
        ) {
            let mut origins = Origins::default();
            let (mut list, model) = build(&script, &mut origins);
            let (a, b) = (a.index(model.len()), b.index(model.len()));
            let (first, last) = (a.min(b), a.max(b));
            let ends = [first, last].map(|rank| list.position(rank, &origins).unwrap());
            let seen = seen.map(Time);
            let seen = Seen::UpTo(&seen);
            list.remove(LIST, (&ends[0], &ends[1]), seen, &origins);

            let left = model.iter().enumerate().filter(|&(rank, &(id, ..))| {
                !((first..=last).contains(&rank) && seen.covers(id))
            });
            let left: Vec<_> = left.map(|(_, element)| element).collect();
            prop_assert!(list.range(0..list.len()).eq(left.iter().map(|element| &element.1[..])));
            prop_assert_eq!(list.full.len(), left.iter().filter(|element| element.2).count());
            let digest = left.iter().fold(0, |digest, element| {
                let id = origins.hash(element.0);
                digest ^ mix(mix(LIST, id), id)
            });
            prop_assert_eq!(list.digest, digest);
            list.remove_all(LIST, Seen::All, &origins);
            prop_assert_eq!((list.len(), list.full.len(), list.digest), (0, 0, 0));
        }
    }
}
