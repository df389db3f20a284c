//! Merging what another replica holds of a list.

use std::collections::BTreeSet;

use super::{Element, FullElement, ListBody};
use crate::effect::{Attached, End};
use crate::fact::{Id, OriginIx, Origins};
use crate::merge::Sides;
use crate::piece::ElementFacts;
use crate::position::Position;
use crate::register::Base;
use crate::stamp::Time;

/// An identity that can be looked for.
type Found = (Time, u32, OriginIx);

const fn found(id: Id) -> Found {
    (id.time, id.index, id.origin)
}

impl ElementFacts<'_> {
    const fn born(&self) -> Id {
        match self {
            Self::Pushed { id, .. } => *id,
            Self::Full { born, .. } => *born,
        }
    }
}

impl ListBody {
    /// Merges what another replica holds after one position and up to another. Returns the
    /// positions of elements that now have something to settle.
    pub(crate) fn merge(
        &mut self,
        list: u64,
        (after, until): (Option<&Position>, Option<&Position>),
        theirs: Vec<ElementFacts<'_>>,
        sides: &Sides<'_>,
        origins: &Origins,
    ) -> Vec<Position> {
        let ranks = self.ranks(after, until, origins);
        if !ranks.is_empty() {
            let held: BTreeSet<Found> = theirs.iter().map(|theirs| found(theirs.born())).collect();
            let mut elements = std::mem::take(&mut self.elements);
            elements.remove_range(ranks, |element| {
                let born = self.born_of(element);
                let gone = !held.contains(&found(born)) && sides.theirs.covers(born);
                if gone {
                    self.digest ^= self.digest_of(list, element, origins);
                    if let Element::Full(place) = element {
                        self.full.remove(place);
                    }
                }
                gone
            });
            self.elements = elements;
        }
        let mut unsettled = Vec::new();
        for element in theirs {
            unsettled.extend(self.merge_element(list, element, sides, origins));
        }
        unsettled
    }

    fn merge_element(
        &mut self,
        list: u64,
        theirs: ElementFacts<'_>,
        sides: &Sides<'_>,
        origins: &Origins,
    ) -> Option<Position> {
        let (born, is_new) = (theirs.born(), !sides.mine.covers(theirs.born()));
        let (position, bases) = match theirs {
            // As nearly all are in a state that is restored.
            ElementFacts::Pushed { id, end, value } if is_new && self.is_last(end, id, origins) => {
                let element = Element::Pushed { id, end, value };
                self.put(list, self.len(), element, origins);
                return None;
            }
            ElementFacts::Pushed { id, end, value } => {
                let position = Position::pushed(super::side_of(end), origins.fact_id(id));
                let rank = self.rank_of(&position, born, origins);
                if rank.is_err() && is_new {
                    self.push(list, end, id, value, origins);
                }
                let base = Base {
                    id,
                    attached: Attached::Nothing,
                    value: value.to_vec(),
                    folded: None,
                };
                (position, vec![base])
            }
            ElementFacts::Full {
                position, bases, ..
            } => (position, bases),
        };
        match self.rank_of(&position, born, origins) {
            Ok(rank) => self.merge_bases(list, rank, bases, sides, origins),
            Err(rank) if is_new => {
                let unsettled = (1 < bases.len()).then(|| position.clone());
                let full = FullElement {
                    position,
                    born,
                    bases,
                };
                let element = Element::Full(self.full.insert(full));
                self.put(list, rank, element, origins);
                unsettled
            }
            Err(_) => None,
        }
    }

    /// Whether what is pushed at the tail stands behind all that is here.
    fn is_last(&self, end: End, id: Id, origins: &Origins) -> bool {
        match self
            .len()
            .checked_sub(1)
            .map(|rank| self.elements.get(rank))
        {
            None => true,
            Some(Some(Element::Pushed {
                id: last, end: at, ..
            })) => end == End::Tail && (at != end || origins.compare(last, id).is_lt()),
            Some(Some(Element::Full(_)) | None) => false,
        }
    }

    /// The rank of the element with this position and insertion, or where it would be.
    fn rank_of(&self, at: &Position, born: Id, origins: &Origins) -> Result<usize, usize> {
        let mut rank = self.rank(at, origins);
        let first = rank;
        while let Some(element) = self.elements.get(rank) {
            if self.position_of(element, origins) != *at {
                break;
            }
            if self.born_of(element) == born {
                return Ok(rank);
            }
            rank += 1;
        }
        Err(first)
    }

    /// Merges what was written into an element that both hold.
    fn merge_bases(
        &mut self,
        list: u64,
        rank: usize,
        theirs: Vec<Base>,
        sides: &Sides<'_>,
        origins: &Origins,
    ) -> Option<Position> {
        let element = self.elements.get(rank)?;
        let mut bases = match element {
            Element::Full(place) => self.full_at(place).bases.clone(),
            Element::Pushed { id, value, .. } => {
                if theirs.iter().all(|base| base.id == id) {
                    return None;
                }
                vec![Base {
                    id,
                    attached: Attached::Nothing,
                    value: value.to_vec(),
                    folded: None,
                }]
            }
        };
        let holds = |bases: &[Base], id| bases.iter().any(|base| base.id == id);
        let new: Vec<Base> = theirs
            .iter()
            .filter(|base| !holds(&bases, base.id) && !sides.mine.covers(base.id))
            .cloned()
            .collect();
        bases.retain(|base| holds(&theirs, base.id) || !sides.theirs.covers(base.id));
        bases.extend(new);
        bases.sort_by(|a, b| origins.compare(b.id, a.id));
        // Each side holds what it has read last, and neither can have replaced that of the other.
        debug_assert!(!bases.is_empty(), "an element has a value");
        let position = self.position_of(element, origins);
        let unsettled = (1 < bases.len()).then(|| position.clone());
        let before = self.digest_of(list, element, origins);
        if bases.is_empty() {
            return None;
        }
        match element {
            Element::Full(place) => {
                self.full.get_mut(place)?.bases = bases;
            }
            Element::Pushed { .. } => {
                let born = self.born_of(element);
                let full = FullElement {
                    position,
                    born,
                    bases,
                };
                let place = self.full.insert(full);
                self.elements.remove(rank);
                self.elements.insert(rank, Element::Full(place));
            }
        }
        let element = self.elements.get(rank)?;
        self.digest ^= before ^ self.digest_of(list, element, origins);
        unsettled
    }
}
