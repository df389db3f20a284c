//! Regions that take in each other's state, and read their own back from snapshots.

use std::collections::BTreeSet;

use bytes::Bytes;
use crdt::{Cursor, Frame, Piece, Seed, Slot, Span, Stamp, State, Version};

use super::{Cluster, KEYS, Look, MOMENTS, Replica};

/// A snapshot under way: pieces are taken while the region goes on.
#[derive(Debug)]
pub(crate) struct Snapshot {
    first: Version,
    cursor: Cursor,
    budget: usize,
    pieces: Vec<Piece>,
}

impl Replica {
    /// Takes one more piece of a snapshot.
    fn take_piece(&self, mut snapshot: Snapshot) -> (Snapshot, bool) {
        let Snapshot { cursor, budget, .. } = snapshot;
        let (bytes, rest) = self.state.piece(&self.version, cursor, budget);
        snapshot.pieces.push(parse(bytes));
        let is_done = rest.is_none();
        snapshot.cursor = rest.unwrap_or_else(|| Cursor::over([]));
        (snapshot, is_done)
    }
}

/// Reads a piece.
pub(crate) fn parse(bytes: Bytes) -> Piece {
    let piece = Piece::parse(bytes.clone()).expect("what is written is read");
    assert_eq!(*piece.bytes(), bytes);
    piece
}

/// All pieces of a walk.
fn pieces(state: &State, version: &Version, cursor: Cursor, budget: usize) -> Vec<Piece> {
    let (mut pieces, mut next) = (Vec::new(), Some(cursor));
    while let Some(cursor) = next {
        let (bytes, rest) = state.piece(version, cursor, budget);
        pieces.push(parse(bytes));
        next = rest;
    }
    pieces
}

/// The sums of all keys, by tag.
fn sums(state: &State) -> Vec<(u32, Option<u64>)> {
    let (mut all, mut next) = (Vec::new(), Some(Span::all(Slot::of(KEYS[0]))));
    while let Some(span) = next {
        let sums = state.sums(span, 1);
        all.extend(sums.by_tag);
        next = sums.rest;
    }
    all
}

/// The spans of which two states differ, and those in between.
fn compare(a: &State, b: &State) -> (Vec<Span>, Vec<Span>) {
    let [a, b] = [a, b].map(sums);
    let is_alone = |one: &(u32, Option<u64>), other: &[_]| one.1.is_none() || !other.contains(one);
    let tags = a.iter().filter(|one| is_alone(one, &b));
    let tags = tags.chain(b.iter().filter(|one| is_alone(one, &a)));
    let tags: BTreeSet<u32> = tags.map(|one| one.0).collect();
    let slot = Slot::of(KEYS[0]);
    let (mut differing, mut equal, mut next) = (Vec::new(), Vec::new(), Some(0));
    for tag in tags {
        differing.push(Span {
            slot,
            first: tag,
            last: tag,
        });
        if let (Some(first), Some(last)) = (next, tag.checked_sub(1))
            && first <= last
        {
            equal.push(Span { slot, first, last });
        }
        next = tag.checked_add(1);
    }
    equal.extend(next.map(|first| Span {
        slot,
        first,
        last: u32::MAX,
    }));
    (differing, equal)
}

/// The state that pieces come to.
pub(crate) fn restored(pieces: &[Piece], alone: bool) -> State {
    let mut state = State::new(Seed::from_text(b"test"), Slot::of(KEYS[0]), 1, alone);
    for piece in pieces {
        let merged = state.merge(piece, &Version::new());
        merged.expect("a piece of this shard");
    }
    state
}

/// Applies an op that had seen what its deps say.
fn replay(state: &mut State, frame: &Frame) {
    for op in frame {
        let applying = state.begin(op.stamp, Some(&op.deps));
        for (index, effect) in (0..).zip(op.effects()) {
            state.apply_effect(applying, index, &effect);
        }
    }
}

/// Checks that two states show the same, and have the same digest.
#[track_caller]
pub(crate) fn check_same(a: &State, b: &State, what: &str) {
    for key in KEYS {
        for now_ms in MOMENTS {
            let looks = [a, b].map(|state| Look::at(state, key, now_ms));
            assert_eq!(looks[0], looks[1], "{what}");
        }
    }
    assert_eq!(a.digest(), b.digest(), "{what}: digests");
    assert_eq!(a.len(), b.len(), "{what}: keys");
}

impl Cluster {
    /// A region takes in all that another holds, by state: the keys of which sums differ.
    pub(crate) fn merge(&mut self, region: usize, from: usize, budget: usize) {
        let [own, other] = [region, from].map(|at| &self.replicas[at]);
        if other.is_ahead() {
            return;
        }
        let (differing, equal) = compare(&own.state, &other.state);
        let (theirs, was_ahead) = (other.version.clone(), own.is_ahead());
        let cursor = Cursor::over(differing);
        let pieces = pieces(&other.state, &theirs, cursor, budget);
        let model = other.model.clone();
        let latest = other.clock.latest();
        let replica = &mut self.replicas[region];
        replica.snapshot = None;
        for piece in &pieces {
            let merged = replica.state.merge(piece, &replica.version);
            merged.expect("a piece of this shard");
        }
        for span in equal {
            replica.state.agree(span, &theirs);
        }
        replica.model.merge(&replica.version, &model, &theirs);
        replica.version.join(&theirs);
        replica.state.caught_up(&replica.version);
        assert!(!replica.is_ahead() || was_ahead);
        replica.clock.observe(latest);
    }

    /// A region begins a snapshot.
    pub(crate) fn begin_snapshot(&mut self, region: usize, budget: usize) {
        let replica = &mut self.replicas[region];
        if replica.is_ahead() || replica.catch_up.is_some() {
            return;
        }
        replica.snapshot = Some(Snapshot {
            first: replica.version.clone(),
            cursor: replica.state.walk(),
            budget,
            pieces: Vec::new(),
        });
    }

    /// Takes the next piece of each snapshot; one that is done is read, and its state used.
    pub(crate) fn go_on(&mut self) {
        for region in 0..self.replicas.len() {
            let replica = &mut self.replicas[region];
            let Some(snapshot) = replica.snapshot.take() else {
                continue;
            };
            let (snapshot, is_done) = replica.take_piece(snapshot);
            if is_done {
                let state = self.read_back(region, &snapshot);
                let replica = &mut self.replicas[region];
                check_same(&replica.state, &state, "read back");
                replica.state = state;
            } else {
                replica.snapshot = Some(snapshot);
            }
        }
    }

    /// The state of a snapshot with the ops since then.
    fn read_back(&self, region: usize, snapshot: &Snapshot) -> State {
        let replica = &self.replicas[region];
        let mut state = restored(&snapshot.pieces, self.replicas.len() == 1);
        let mut version = snapshot.first.clone();
        let frames = || self.log.values().flatten().map(|op| &op.frame);
        let is_next = |version: &Version, frame: &Frame| {
            let stamp = Stamp {
                time: frame.last(),
                origin: frame.origin(),
            };
            frame.prev() == version.get(stamp.origin)
                && replica.version.covers(stamp)
                && version.includes(frame.deps())
        };
        while let Some(frame) = frames().find(|frame| is_next(&version, frame)) {
            replay(&mut state, frame);
            version.advance(frame.origin(), frame.last());
        }
        assert_eq!(version, replica.version, "the log has all");
        state.caught_up(&version);
        assert!(!state.is_ahead());
        state
    }
}
