//! Sequences by rank: a list's elements, a sorted set's order.
//!
//! A counted B+ tree: items are in leaves, all equally deep; above, each inner node knows how many
//! items are under each of its children. So finding, inserting and removing at a rank cost
//! O(log n), and next to nothing at both ends, where queues live.
//!
//! A full node is cut in half, except at the ends of the sequence, where a fresh node is begun
//! beside it: what is only pushed stays full. A node that has become less than half full is
//! joined with a neighbour if both are at most three quarters of a full one, so room is given
//! back, and a node that was just joined is not cut soon.

mod leaf;

use std::mem;
use std::ops::Range;

use smallvec::SmallVec;

pub(crate) use leaf::{FULL, Growth, Leaf};

/// Children of an inner node, at most: one more is there while it is cut, in 128 places.
const FANOUT: usize = 127;
/// Of the removals from a leaf, one in so many looks whether it can be joined.
const LOOK: usize = 16;

/// Items in order, by rank.
#[derive(Clone, Debug)]
pub(crate) struct Sequence<L> {
    root: Node<L>,
    length: usize,
}

#[derive(Clone, Debug)]
enum Node<L> {
    /// Empty only as the root.
    Leaf(L),
    Inner(Box<Inner<L>>),
}

/// Invariant: has children, as many as counts, and every count is that of its child.
#[derive(Clone, Debug)]
struct Inner<L> {
    /// How many items are under each child; apart from them, for these are what a search reads.
    counts: Vec<usize>,
    children: Vec<Node<L>>,
}

/// Which child of each inner node to take, from the root down to a leaf.
type Path = SmallVec<[usize; 8]>;

impl<L: Leaf> Default for Sequence<L> {
    fn default() -> Self {
        Self {
            root: Node::default(),
            length: 0,
        }
    }
}

impl<L: Leaf> Sequence<L> {
    /// How many items there are.
    pub(crate) const fn len(&self) -> usize {
        self.length
    }

    /// The item at a rank.
    pub(crate) fn get(&self, rank: usize) -> Option<L::Item<'_>> {
        if self.length <= rank {
            return None;
        }
        let (leaf, at) = self.leaf(rank);
        Some(leaf.get(at))
    }

    /// All leaves, in order.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &L> {
        let mut rank = 0;
        std::iter::from_fn(move || {
            let leaf = (rank < self.length).then(|| self.leaf(rank).0)?;
            rank += leaf.len();
            Some(leaf)
        })
    }

    /// The leaf with the item at a rank, and where in it.
    fn leaf(&self, rank: usize) -> (&L, usize) {
        let (mut node, mut rank, mut length) = (&self.root, rank, self.length);
        loop {
            match node {
                Node::Leaf(items) => return (items, rank),
                Node::Inner(inner) => {
                    let (child, inside) = inner.child(rank, length);
                    (rank, length) = (inside, inner.counts[child]);
                    node = &inner.children[child];
                }
            }
        }
    }

    /// Adds an item in front of the first.
    pub(crate) fn push_front(&mut self, item: L::Item<'_>) {
        self.grow(0, item, Growth::Front);
    }

    /// Adds an item behind the last.
    pub(crate) fn push_back(&mut self, item: L::Item<'_>) {
        self.grow(self.length, item, Growth::Back);
    }

    /// Adds an item that will have this rank, at most the length.
    pub(crate) fn insert(&mut self, rank: usize, item: L::Item<'_>) {
        debug_assert!(rank <= self.length, "an insert goes into the sequence");
        if rank == self.length {
            self.push_back(item);
        } else if rank == 0 {
            self.push_front(item);
        } else {
            self.grow(rank, item, Growth::Middle);
        }
    }

    fn grow(&mut self, rank: usize, item: L::Item<'_>, growth: Growth) {
        let (path, leaf, at) = self.root.walk(rank, self.length, |count| *count += 1);
        self.length += 1;
        if leaf.takes(item) {
            leaf.insert(at, item);
            return;
        }
        let right = Node::Leaf(leaf.overflow(at, item, growth));
        if let Some(right) = self.root.adopt(&path, right, growth) {
            let left = mem::take(&mut self.root);
            self.root = Node::Inner(Box::new(Inner {
                counts: vec![left.count(), right.count()],
                children: vec![left, right],
            }));
        }
    }

    /// Takes out the item at a rank.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(crate) fn remove(&mut self, rank: usize) {
        assert!(rank < self.length, "only what is there is removed");
        let (path, leaf, at) = self.root.walk(rank, self.length, |count| *count -= 1);
        self.length -= 1;
        leaf.remove(at);
        let few = leaf.len() < LOOK && leaf.width() < FULL / LOOK;
        if leaf.width() < FULL / 2 && (few || leaf.len().is_multiple_of(LOOK)) {
            self.root.tidy(&path);
            self.lower();
        }
    }

    /// Removes those items of a range of ranks for which `wanted` says so, which is asked in order
    /// and once for each. O(items in the range + log n).
    pub(crate) fn remove_range(
        &mut self,
        ranks: Range<usize>,
        mut wanted: impl FnMut(L::Item<'_>) -> bool,
    ) {
        self.length -= self.root.remove_range(ranks, &mut wanted);
        self.lower();
    }

    /// Drops inner nodes at the top that hold nothing apart.
    fn lower(&mut self) {
        while let Node::Inner(inner) = &mut self.root
            && inner.children.len() <= 1
        {
            let only = inner.children.pop().unwrap_or_default();
            self.root = only;
        }
    }

    /// The first rank whose item is not wanted, where all that are wanted come first.
    /// O(log n) questions.
    pub(crate) fn partition_point(&self, mut wanted: impl FnMut(L::Item<'_>) -> bool) -> usize {
        let (mut node, mut before) = (&self.root, 0);
        loop {
            match node {
                Node::Leaf(items) => return before + items.partition_point(&mut wanted),
                Node::Inner(inner) => {
                    // The last child is not asked: if it is in no other, it is there.
                    let others = &inner.children[..inner.children.len() - 1];
                    let child =
                        others.partition_point(|child| child.last().is_some_and(&mut wanted));
                    before += inner.counts[..child].iter().sum::<usize>();
                    node = &inner.children[child];
                }
            }
        }
    }

    /// The items with these ranks, as far as they are in the sequence. O(log n), each step O(1).
    pub(crate) fn range(&self, ranks: Range<usize>) -> Items<'_, L> {
        Items {
            sequence: self,
            ranks: ranks.start.min(self.length)..ranks.end.min(self.length),
            front: L::Items::default(),
            back: L::Items::default(),
        }
    }
}

impl<L: Leaf> Default for Node<L> {
    fn default() -> Self {
        Self::Leaf(L::default())
    }
}

impl<L: Leaf> Node<L> {
    /// How many items are in it.
    fn count(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Inner(inner) => inner.counts.iter().sum(),
        }
    }

    /// How many items or children it has itself, and how many it may have.
    fn width(&self) -> (usize, usize) {
        match self {
            Self::Leaf(items) => (items.width(), FULL),
            Self::Inner(inner) => (inner.children.len(), FANOUT),
        }
    }

    /// Its last item.
    fn last(&self) -> Option<L::Item<'_>> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(items) => return items.last(),
                Self::Inner(inner) => node = inner.children.last()?,
            }
        }
    }

    /// Goes to the item at a rank below `length`, all that there are, or to the place behind the
    /// last one, and changes the counts on the way. Returns the way, the leaf, and where in it.
    fn walk(
        &mut self,
        mut rank: usize,
        mut length: usize,
        change: impl Fn(&mut usize),
    ) -> (Path, &mut L, usize) {
        let (mut node, mut path) = (self, Path::new());
        loop {
            match node {
                Self::Leaf(items) => return (path, items, rank),
                Self::Inner(inner) => {
                    let (child, inside) = inner.child(rank, length);
                    (rank, length) = (inside, inner.counts[child]);
                    change(&mut inner.counts[child]);
                    path.push(child);
                    node = &mut inner.children[child];
                }
            }
        }
    }

    /// Takes in a node that was cut off the one at the end of the path, and comes behind it.
    /// Returns what in turn had to be cut off this one.
    fn adopt(&mut self, path: &[usize], node: Self, growth: Growth) -> Option<Self> {
        let (Self::Inner(inner), Some((&child, path))) = (self, path.split_first()) else {
            return Some(node);
        };
        let node = inner.children[child].adopt(path, node, growth)?;
        let right = inner.adopt(child + 1, node, growth)?;
        Some(Self::Inner(Box::new(right)))
    }

    /// Tidies from the end of the path upwards.
    fn tidy(&mut self, path: &[usize]) {
        if let (Self::Inner(inner), Some((&child, path))) = (self, path.split_first()) {
            inner.children[child].tidy(path);
            inner.tidy(child);
        }
    }

    /// As that of the sequence; returns how many items went.
    fn remove_range<F: FnMut(L::Item<'_>) -> bool>(
        &mut self,
        ranks: Range<usize>,
        wanted: &mut F,
    ) -> usize {
        match self {
            Self::Leaf(items) => {
                let before = items.len();
                items.remove_range(ranks, wanted);
                before - items.len()
            }
            Self::Inner(inner) => inner.remove_range(ranks, wanted),
        }
    }
}

impl<L: Leaf> Inner<L> {
    /// The child with the item at a rank below `length`, all that it has, and the rank there; for
    /// the length itself, the place behind the last item.
    fn child(&self, rank: usize, length: usize) -> (usize, usize) {
        // From the nearer end: queues live there.
        if rank < length / 2 {
            let (mut child, mut inside) = (0, rank);
            while self.counts[child] <= inside {
                inside -= self.counts[child];
                child += 1;
            }
            return (child, inside);
        }
        let (mut child, mut behind) = (self.counts.len() - 1, length - rank);
        while self.counts[child] < behind {
            behind -= self.counts[child];
            child -= 1;
        }
        (child, self.counts[child] - behind)
    }

    /// Takes in what was cut off the child before it. If that is one too many, returns what now
    /// comes behind.
    fn adopt(&mut self, at: usize, node: Node<L>, growth: Growth) -> Option<Self> {
        let count = node.count();
        self.counts[at - 1] -= count;
        self.counts.insert(at, count);
        self.children.insert(at, node);
        if self.children.len() <= FANOUT {
            return None;
        }
        let cut = match growth {
            Growth::Front => 1,
            Growth::Middle => FANOUT / 2,
            Growth::Back => FANOUT,
        };
        Some(Self {
            counts: self.counts.split_off(cut),
            children: self.children.split_off(cut),
        })
    }

    fn remove_range<F: FnMut(L::Item<'_>) -> bool>(
        &mut self,
        ranks: Range<usize>,
        wanted: &mut F,
    ) -> usize {
        let (mut first, mut removed) = (0, 0);
        for (count, child) in self.counts.iter_mut().zip(&mut self.children) {
            let start = ranks.start.saturating_sub(first);
            let end = ranks.end.saturating_sub(first).min(*count);
            first += *count;
            if start < end {
                let gone = child.remove_range(start..end, wanted);
                *count -= gone;
                removed += gone;
            }
        }
        if 0 < removed {
            // Backwards: tidying a child moves only those behind the one before it.
            (0..self.children.len())
                .rev()
                .for_each(|child| self.tidy(child));
        }
        removed
    }

    /// Drops a child that is empty, and joins one that has become small with a neighbour.
    fn tidy(&mut self, child: usize) {
        if self.counts[child] == 0 {
            self.counts.remove(child);
            self.children.remove(child);
            return;
        }
        let (width, most) = self.children[child].width();
        if width < most / 2 && !self.join(child) && 0 < child {
            self.join(child - 1);
        }
    }

    /// Joins a child with the next one if they are small enough together.
    fn join(&mut self, child: usize) -> bool {
        let Some(next) = self.children.get(child + 1) else {
            return false;
        };
        let (width, most) = self.children[child].width();
        if most * 3 / 4 < width + next.width().0 {
            return false;
        }
        self.counts[child] += self.counts.remove(child + 1);
        match (self.children.remove(child + 1), &mut self.children[child]) {
            (Node::Leaf(next), Node::Leaf(items)) => items.join(next),
            (Node::Inner(mut next), Node::Inner(inner)) => {
                inner.counts.append(&mut next.counts);
                inner.children.append(&mut next.children);
            }
            (Node::Leaf(_), Node::Inner(_)) | (Node::Inner(_), Node::Leaf(_)) => {
                unreachable!("leaves are equally deep")
            }
        }
        true
    }
}

/// Items of a range of ranks, from either end.
#[derive(Clone, Debug)]
pub(crate) struct Items<'a, L: Leaf> {
    sequence: &'a Sequence<L>,
    /// Those still to come.
    ranks: Range<usize>,
    /// From the first of them to the end of its leaf, or nothing yet.
    front: L::Items<'a>,
    /// From the start of the last one's leaf to it, or nothing yet.
    back: L::Items<'a>,
}

impl<'a, L: Leaf> Iterator for Items<'a, L> {
    type Item = L::Item<'a>;

    fn next(&mut self) -> Option<L::Item<'a>> {
        let rank = self.ranks.next()?;
        self.front.next().or_else(|| {
            let (leaf, at) = self.sequence.leaf(rank);
            self.front = leaf.items(at..leaf.len());
            self.front.next()
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl<L: Leaf> DoubleEndedIterator for Items<'_, L> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let rank = self.ranks.next_back()?;
        self.back.next_back().or_else(|| {
            let (leaf, at) = self.sequence.leaf(rank);
            self.back = leaf.items(0..at + 1);
            self.back.next_back()
        })
    }
}

impl<L: Leaf> ExactSizeIterator for Items<'_, L> {}

#[cfg(test)]
mod tests;
