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
    /// its op: a run of inserts by one origin counts on from its first.
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
    /// A run of inserts one after the other by one origin stays on one level: the new position is
    /// that of `before` with the next index, where nothing stands in the way.
    ///
    /// # Panics
    ///
    /// If both neighbours are missing: an empty list is pushed to, not inserted into.
    #[must_use]
    pub fn between(before: Option<&Self>, after: Option<&Self>, id: FactId) -> Self {
        match (before, after) {
            (Some(before), after) => {
                if let Some(next) = before.next_of_run(id)
                    && after.is_none_or(|after| next < *after)
                {
                    return next;
                }
                match after {
                    Some(after) if after.is_right_of(before) => after.child(Side::Left, id),
                    Some(_) | None => before.child(Side::Right, id),
                }
            }
            (None, Some(after)) => after.child(Side::Left, id),
            (None, None) => unreachable!("an insert has a neighbour"),
        }
    }

    /// The next position of the run that `self` ends, if `id` is of the same origin and `self` is
    /// not pushed at the head, where the next index would come before it.
    fn next_of_run(&self, id: FactId) -> Option<Self> {
        let last = self.0.last()?;
        let head = self.0.len() == 1 && last.side == Side::Left;
        if head || last.id.stamp.origin != id.stamp.origin {
            return None;
        }
        let mut next = self.clone();
        let last = next.0.last_mut()?;
        last.id.index = last.id.index.checked_add(1)?;
        Some(next)
    }

    /// Whether this position is in the right subtree of `other`.
    fn is_right_of(&self, other: &Self) -> bool {
        let depth = other.0.len();
        depth < self.0.len() && self.0[..depth] == other.0[..] && self.0[depth].side == Side::Right
    }

    #[must_use]
    fn child(&self, side: Side, id: FactId) -> Self {
        let mut path = self.0.clone();
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
