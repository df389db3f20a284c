//! Leaves of a sequence: what holds the items themselves.

use std::collections::{VecDeque, vec_deque};
use std::iter::Copied;
use std::mem;
use std::ops::Range;

/// How much a leaf holds, at most, in parts of a full one; with items of one size, how many.
pub(crate) const FULL: usize = 128;

/// Which end of a sequence an item comes in next to, if it does: says how full nodes are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Growth {
    Front,
    Middle,
    Back,
}

/// A short run of items. Costs are O(items in it).
pub(crate) trait Leaf: Default + 'static {
    /// An item as it is read and added.
    type Item<'a>: Copy;
    /// Some of the items, from either end.
    type Items<'a>: DoubleEndedIterator<Item = Self::Item<'a>> + Default;

    /// How many items there are.
    fn len(&self) -> usize;
    /// How full it is, up to [`FULL`]; more only for a single large item and its neighbours.
    fn width(&self) -> usize;
    /// Whether it has room for another item.
    fn takes(&self, item: Self::Item<'_>) -> bool;
    /// The item at a place, which there is.
    fn get(&self, at: usize) -> Self::Item<'_>;
    /// The items at these places, which there are.
    fn items(&self, places: Range<usize>) -> Self::Items<'_>;
    /// Adds an item that will have this place.
    fn insert(&mut self, at: usize, item: Self::Item<'_>);
    /// Removes the item at a place.
    fn remove(&mut self, at: usize);
    /// Removes those items at these places for which `wanted` says so, which is asked in order.
    fn remove_range(&mut self, places: Range<usize>, wanted: impl FnMut(Self::Item<'_>) -> bool);
    /// A leaf with one item, beside a full one, to which more will be added at that end.
    fn begin(item: Self::Item<'_>, growth: Growth) -> Self;
    /// Cuts it in half; it has two items at least. Returns those that come behind.
    fn cut(&mut self) -> Self;
    /// Adds all items of the next leaf.
    fn join(&mut self, next: Self);
    /// The first place whose item is not wanted, where all that are wanted come first.
    fn partition_point(&self, wanted: impl FnMut(Self::Item<'_>) -> bool) -> usize;

    /// The last item.
    fn last(&self) -> Option<Self::Item<'_>> {
        Some(self.get(self.len().checked_sub(1)?))
    }

    /// Adds an item to a full leaf; returns the items that now come behind it.
    fn overflow(&mut self, at: usize, item: Self::Item<'_>, growth: Growth) -> Self {
        // A single item, however large, is not cut.
        let growth = match at {
            0 if self.len() == 1 => Growth::Front,
            1 if self.len() == 1 => Growth::Back,
            _ => growth,
        };
        match growth {
            Growth::Front => mem::replace(self, Self::begin(item, growth)),
            Growth::Back => Self::begin(item, growth),
            Growth::Middle => {
                let mut right = self.cut();
                match at.checked_sub(self.len()) {
                    Some(at) => right.insert(at, item),
                    None => self.insert(at, item),
                }
                right
            }
        }
    }
}

impl<T: Copy + 'static> Leaf for VecDeque<T> {
    type Item<'a> = T;
    type Items<'a> = Copied<vec_deque::Iter<'a, T>>;

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn width(&self) -> usize {
        Self::len(self)
    }

    fn takes(&self, _: T) -> bool {
        Self::len(self) < FULL
    }

    fn get(&self, at: usize) -> T {
        self[at]
    }

    fn items(&self, places: Range<usize>) -> Self::Items<'_> {
        self.range(places).copied()
    }

    fn insert(&mut self, at: usize, item: T) {
        make_room(self);
        Self::insert(self, at, item);
    }

    fn remove(&mut self, at: usize) {
        Self::remove(self, at).expect("the place is taken");
        give_back_room(self);
    }

    fn remove_range(&mut self, places: Range<usize>, mut wanted: impl FnMut(T) -> bool) {
        let mut at = 0;
        self.retain(|&item| {
            let within = places.contains(&at);
            at += 1;
            !(within && wanted(item))
        });
        give_back_room(self);
    }

    fn begin(item: T, _: Growth) -> Self {
        Self::from([item])
    }

    fn cut(&mut self) -> Self {
        self.split_off(Self::len(self) / 2)
    }

    fn join(&mut self, mut next: Self) {
        self.reserve_exact(next.len());
        self.append(&mut next);
    }

    fn partition_point(&self, mut wanted: impl FnMut(T) -> bool) -> usize {
        Self::partition_point(self, |&item| wanted(item))
    }
}

/// Makes room for one more: a little while a leaf is small, for most sequences are.
fn make_room<T>(items: &mut VecDeque<T>) {
    let length = items.len();
    if length == items.capacity() {
        let more = match length {
            0 | 1 => 1,
            2..8 => 2,
            _ => (length / 2).min(FULL - length),
        };
        items.reserve_exact(more);
    }
}

/// Gives back half of the room when three quarters of it are not used.
fn give_back_room<T>(items: &mut VecDeque<T>) {
    if items.is_empty() || (8 < items.capacity() && items.len() <= items.capacity() / 4) {
        items.shrink_to(items.len() * 2);
    }
}
