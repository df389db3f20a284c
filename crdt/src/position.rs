//! Positions of list elements: self-contained, so that nothing has to be remembered of an element
//! that is gone.
//!
//! A position is a path through a tree. Its first step says at which end the element was pushed
//! or, for an inserted one, where the root of its neighbours was; each further step goes to a
//! left or right child. Elements are read in order: left children, the node, right children.
//! Children on one side stand in ascending order of their stamps, except that those pushed at the
//! head descend, so that the latest is the first.
//!
//! A position may be used again when its element is gone; [`ElementId`](crate::ElementId) tells
//! the two apart.
//!
//! Source: the tree order of Weidner and Kleppmann 2023, "The Art of the Fugue" (arXiv:2305.00583).

use std::cmp::Ordering;

use smallvec::SmallVec;

use crate::stamp::FactId;

/// Steps of a path: what inserts that go deeper are refused. Runs share a path, so only who always
/// inserts between the last two that others have inserted gets there.
pub const POSITION_STEPS_MAX: usize = 512;

/// Index of the first node of a run of inserts.
const MIDDLE: u32 = 1 << 31;

/// Which side of its parent a node hangs on; for a first step, which end of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Before its parent; the head.
    Left,
    /// After its parent; the tail.
    Right,
}

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    /// Which way.
    pub side: Side,
    /// The identity that orders the node among its siblings. Its index may go past the effects of
    /// its op: a run of inserts by one origin counts up or down from its first.
    pub id: FactId,
}

/// Where an element stands: a path of at least one step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position(SmallVec<[Step; 1]>);

impl Position {
    /// The position of what is pushed at an end with this identity.
    pub fn pushed(end: Side, id: FactId) -> Self {
        Self(SmallVec::from_slice(&[Step { side: end, id }]))
    }

    /// The position at the end of a path, or `None` for a path without steps.
    pub fn from_steps(steps: &[Step]) -> Option<Self> {
        if steps.is_empty() {
            None
        } else {
            Some(Self(SmallVec::from_slice(steps)))
        }
    }

    /// The path.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// A position between two neighbours for an insert with the identity `id`: after `before` and
    /// ahead of `after`. One of them may be missing at an end of the list.
    ///
    /// Inserts of one origin that go the same way stay on one level, though others insert there,
    /// too: the new position is that of a node of this origin above `before`, with the next index,
    /// or of one above `after`, with the index before, where nothing stands in the way. Otherwise a
    /// path would be as long as the list, and all of them as long as its square.
    ///
    /// # Panics
    ///
    /// If both neighbours are missing: an empty list is pushed to, not inserted into.
    #[must_use]
    pub fn between(before: Option<&Self>, after: Option<&Self>, id: FactId) -> Self {
        let fits = |at: &Self| {
            before.is_none_or(|before| before < at) && after.is_none_or(|after| at < after)
        };
        let next = before.and_then(|before| before.of_run(id, 1, fits));
        let run = next.or_else(|| after.and_then(|after| after.of_run(id, -1, fits)));
        match (run, before, after) {
            (Some(at), ..) => at,
            (None, Some(before), Some(after)) if !after.is_right_of(before) => {
                before.child(Side::Right, id)
            }
            (None, Some(before), None) => before.child(Side::Right, id),
            (None, _, Some(after)) => after.child(Side::Left, id),
            (None, None, None) => unreachable!("an insert has a neighbour"),
        }
    }

    /// The first position that fits, of those that go on from a node of `id`'s origin on this path,
    /// the outermost first. Not from what was pushed at the head, where indexes descend.
    fn of_run(&self, id: FactId, by: i32, fits: impl Fn(&Self) -> bool) -> Option<Self> {
        let steps = self.0.iter().enumerate();
        let own = steps.filter(|(depth, step)| {
            let at_head = *depth == 0 && step.side == Side::Left;
            step.id.stamp.origin == id.stamp.origin && !at_head
        });
        let mut all = own.filter_map(|(depth, step)| {
            let mut path: SmallVec<[Step; 1]> = SmallVec::from_slice(&self.0[..=depth]);
            path[depth].id.index = step.id.index.checked_add_signed(by)?;
            Some(Self(path))
        });
        all.find(fits)
    }

    /// Whether this position is in the right subtree of `other`.
    fn is_right_of(&self, other: &Self) -> bool {
        let depth = other.0.len();
        depth < self.0.len() && self.0[..depth] == other.0[..] && self.0[depth].side == Side::Right
    }

    #[must_use]
    fn child(&self, side: Side, id: FactId) -> Self {
        let mut path = self.0.clone();
        // Runs go either way from here.
        let index = MIDDLE.saturating_add(id.index);
        let id = FactId { index, ..id };
        path.push(Step { side, id });
        Self(path)
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        let common = self
            .0
            .iter()
            .zip(&other.0)
            .take_while(|(a, b)| a == b)
            .count();
        match (self.0.get(common), other.0.get(common)) {
            (None, None) => Ordering::Equal,
            (None, Some(step)) => match step.side {
                Side::Left => Ordering::Greater,
                Side::Right => Ordering::Less,
            },
            (Some(step), None) => match step.side {
                Side::Left => Ordering::Less,
                Side::Right => Ordering::Greater,
            },
            (Some(a), Some(b)) => a.side.cmp(&b.side).then_with(|| {
                let ascending = a.id.cmp(&b.id);
                if common == 0 && a.side == Side::Left {
                    ascending.reverse()
                } else {
                    ascending
                }
            }),
        }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::origin::{Epoch, Origin, Region};
    use crate::stamp::{Stamp, Time};

    fn id(time: u64, region: u8, index: u32) -> FactId {
        let region = Region::new(region).expect("not 0");
        let origin = Origin::new(region, Epoch(1));
        FactId {
            stamp: Stamp {
                time: Time(time),
                origin,
            },
            index,
        }
    }

    #[test]
    fn pushes_stand_in_the_order_of_their_stamps_outwards() {
        let at = |end, time, index| Position::pushed(end, id(time, 1, index));
        let order = [
            at(Side::Left, 2, 1),
            at(Side::Left, 2, 0),
            at(Side::Left, 1, 0),
            at(Side::Right, 1, 0),
            at(Side::Right, 1, 1),
            at(Side::Right, 3, 0),
        ];
        assert!(order.is_sorted());
    }

    #[test]
    fn a_run_of_inserts_stays_on_one_level() {
        let mut at = Position::pushed(Side::Right, id(1, 1, 0));
        let end = Position::pushed(Side::Right, id(2, 1, 0));
        for time in 3..100 {
            at = Position::between(Some(&at), Some(&end), id(time, 1, 0));
        }
        assert_eq!(at.steps().len(), 1);
    }

    /// The longest path of a list between whose first and second element regions insert in turn,
    /// after the first (0) or before the second (1).
    fn longest_of_turns(after: usize, regions: u8) -> usize {
        let ends = [1, 2].map(|time| Position::pushed(Side::Right, id(time, 1, 0)));
        let mut list = ends.to_vec();
        for time in 3..300 {
            let rank = if after == 0 { 1 } else { list.len() - 1 };
            let id = id(time, time as u8 % regions + 1, 0);
            let at = Position::between(Some(&list[rank - 1]), Some(&list[rank]), id);
            list.insert(rank, at);
        }
        assert!(list.is_sorted_by(|a, b| a < b));
        list.iter().map(|at| at.steps().len()).max().unwrap_or(0)
    }

    #[test]
    fn inserts_at_one_place_do_not_go_deeper_and_deeper() {
        for (after, regions) in [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)] {
            let longest = longest_of_turns(after, regions);
            assert!(longest <= 4, "{longest} steps: {after}, {regions} regions");
        }
        let mut first = Position::pushed(Side::Left, id(1, 1, 0));
        for time in 2..300 {
            first = Position::between(None, Some(&first), id(time, 1, 0));
        }
        assert_eq!(first.steps().len(), 2);
    }

    proptest! {
        /// Whatever is inserted wherever by whomever lands exactly there, strictly.
        #[test]
        fn an_insert_lands_between_its_neighbours(
            script in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..4, 0_u8..3), 1..60)
        ) {
            let mut list: Vec<Position> = Vec::new();
            for (time, (place, region, kind)) in (1..).zip(script) {
                let id = id(time, region, 0);
                let rank = place.index(list.len() + 1);
                let (rank, at) = match kind {
                    _ if list.is_empty() => (0, Position::pushed(Side::Right, id)),
                    0 => (list.len(), Position::pushed(Side::Right, id)),
                    1 => (0, Position::pushed(Side::Left, id)),
                    _ => {
                        let before = rank.checked_sub(1).map(|rank| &list[rank]);
                        (rank, Position::between(before, list.get(rank), id))
                    }
                };
                list.insert(rank, at);
                prop_assert!(list.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
