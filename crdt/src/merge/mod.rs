//! Merging whole states: what a region does that was away longer than the logs reach back.
//!
//! State is a set of facts, and a version says which facts a replica has had. So two replicas merge
//! by a rule that needs nothing else (docs/semantics.md, "Facts"): a fact that both hold stays; a
//! fact that one holds stays if the version of the other does not cover it; any other was removed,
//! and goes. The result is what a replica has that applied the ops of both, in whatever order.
//! What is stable each has folded and dropped in its own time, by a cut of its own; the rule for
//! that is in [`register`].
//!
//! It is done piece by piece ([`crate::piece`]), and a snapshot is read in the same way.

mod key;
mod register;

use crate::apply::{FieldEnds, Inner};
use crate::body::KeyState;
use crate::codec::DecodeError;
use crate::effect::Bodies;
use crate::fact::{Id, OriginIx, Seen};
use crate::held::Claimed;
use crate::names::{Context, Names, Updated};
use crate::piece::{Extent, Item, KeyFacts, Piece, RunFacts, Span};
use crate::slot::{Key, Slot};
use crate::stamp::Time;
use crate::state::State;
use crate::version::Version;

/// Up to where the two sides of a merge hold everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides<'a> {
    pub(crate) mine: Seen<'a>,
    pub(crate) theirs: Seen<'a>,
}

/// Versions as times by the numbers of their origins.
#[derive(Clone)]
struct Covers {
    mine: Vec<Time>,
    theirs: Vec<Time>,
    /// The last fact that there can be of theirs.
    last: Id,
}

impl Covers {
    fn sides(&self) -> Sides<'_> {
        Sides {
            mine: Seen::UpTo(&self.mine),
            theirs: Seen::UpTo(&self.theirs),
        }
    }
}

/// What of a span has been merged so far.
#[derive(Default)]
struct Open {
    /// The names of its keys.
    names: Vec<Box<[u8]>>,
    later: Vec<(u64, Bodies)>,
}

impl State {
    /// Merges a piece. `mine` is the version of this shard. Where something is wrong with it,
    /// nothing happens.
    pub fn merge(&mut self, piece: &Piece, mine: &Version) -> Result<(), DecodeError> {
        let slots = piece.slots().iter().copied().filter_map(Slot::new);
        if !slots.into_iter().all(|slot| self.has_slot(slot)) {
            return Err(DecodeError::Bad("a slot is of another shard"));
        }
        let listed = || piece.version().iter().map(|(origin, _)| origin);
        let new = piece.origins().iter().copied().chain(listed()).count();
        if usize::from(u16::MAX) < self.origins.len() + new {
            return Err(DecodeError::Bad("there are too many origins"));
        }
        for origin in listed() {
            self.origins.number(origin);
        }
        let numbers = piece.origins().iter();
        let map: Vec<OriginIx> = numbers.map(|&origin| self.origins.number(origin)).collect();
        self.note_applied(piece.version().iter());
        // Parts of origins that have ended may be among them.
        self.swept = 0;
        // Origins are not numbered while it is read.
        let origins = self.origins.clone();
        let mut items = piece.items(&map, &origins);
        let covers = self.covers(piece.version(), mine);
        let mut open = Open::default();
        while let Some(item) = items.next()? {
            self.merge_item(item, items.extent, (piece.version(), &covers), &mut open);
        }
        self.note_applied(items.latest());
        Ok(())
    }

    /// Notes that keys are up to a version: they were found to be equal to those of a replica that
    /// holds this.
    pub fn agree(&mut self, span: Span, version: &Version) {
        let claimed = Claimed::Keys(span.first, span.last, Vec::new());
        self.held.claim(span.slot.number(), claimed, version);
    }

    /// Says that the version of the shard now is this: what it includes needs no more care.
    pub fn caught_up(&mut self, version: &Version) {
        self.held.caught_up(version);
        if self.alone && !self.held.is_ahead() {
            self.settle_all();
        }
    }

    /// Whether part of it is ahead of the version of its shard.
    pub fn is_ahead(&self) -> bool {
        self.held.is_ahead()
    }

    /// Whether there may be more of a key than the version of its shard says. What is decided from
    /// that must wait: where this version is all there is, it would mean something else.
    pub fn is_ahead_at(&self, key: &Key<'_>) -> bool {
        self.held.has_told(key.hash)
    }

    /// Up to where the parts that are ahead go, all together.
    pub fn ahead(&self) -> &Version {
        self.held.newest()
    }

    fn merge_item(
        &mut self,
        item: Item<'_>,
        extent: Extent,
        (theirs, covers): (&Version, &Covers),
        open: &mut Open,
    ) {
        match item {
            Item::Reissued(of, again) => {
                self.reissued.entry(of).or_insert(again);
            }
            Item::Key(slot, facts) => {
                let key = self.seed.key(facts.name);
                self.held.tell(key.hash);
                open.names.push(facts.name.into());
                if facts.later != Bodies::NONE {
                    open.later.push((key.hash, facts.later));
                }
                let tag = crate::held::tag(key.hash);
                let claimed = Claimed::Keys(tag, tag, vec![(key.hash, facts.later)]);
                match self.raised(slot, &claimed, covers) {
                    Some(covers) => self.merge_key(&key, facts, extent, &covers),
                    None => self.merge_key(&key, facts, extent, covers),
                }
            }
            Item::Span(slot, first, last) => {
                let Open { mut names, later } = std::mem::take(open);
                let claimed = Claimed::Keys(first, last, later);
                names.sort_unstable();
                for name in self.names_in(slot, first, last) {
                    if names.binary_search(&name).is_err() {
                        let facts = KeyFacts::nothing(&name);
                        let key = self.seed.key(&name);
                        self.merge_key(&key, facts, Extent::default(), covers);
                    }
                }
                self.held.claim(slot, claimed, theirs);
            }
            Item::Run(run) => {
                let key = self.seed.key(run.key);
                self.held.tell(key.hash);
                let register = Claimed::register(key.hash);
                let claimed = Claimed::Run(key.hash, run.body.kind(), run.range.clone());
                let RunFacts { slot, .. } = run;
                let [of_register, of_body] = [&register, &claimed].map(|claimed| {
                    let raised = self.raised(slot, claimed, covers);
                    raised.unwrap_or_else(|| covers.clone())
                });
                self.merge_run(&key, run, extent, (&of_register, &of_body));
                self.held.claim(slot, register, theirs);
                self.held.claim(slot, claimed, theirs);
            }
        }
    }

    fn names_in(&self, slot: u16, first: u32, last: u32) -> Vec<Box<[u8]>> {
        let slot = Slot::new(slot).map(|slot| self.slot_index(slot));
        let keys = slot.map(|index| &self.slots[index].keys);
        keys.map_or_else(Vec::new, |keys| {
            key::names_in(keys, (first, last), &self.seed)
        })
    }

    fn covers(&self, theirs: &Version, mine: &Version) -> Covers {
        let (mut ours, mut cover) = (Vec::new(), Vec::new());
        self.origins.cover(mine, &mut ours);
        self.origins.cover(theirs, &mut cover);
        let last = theirs.iter().max_by_key(|&(origin, time)| (time, origin));
        let last = last.and_then(|(origin, time)| Some((self.origins.find(origin)?, time)));
        let (origin, time) = last.unwrap_or((OriginIx(0), Time::ZERO));
        Covers {
            mine: ours,
            theirs: cover,
            last: Id {
                time,
                index: 0,
                origin,
            },
        }
    }

    /// The same where part of a slot is ahead already.
    fn raised(&self, slot: u16, claimed: &Claimed, covers: &Covers) -> Option<Covers> {
        let mut raised: Option<Covers> = None;
        let mut times = Vec::new();
        for version in self.held.versions(slot, claimed) {
            self.origins.cover(version, &mut times);
            let raised = raised.get_or_insert_with(|| covers.clone());
            for (held, &time) in raised.mine.iter_mut().zip(&times) {
                *held = time.max(*held);
            }
        }
        raised
    }

    fn merge_key(&mut self, key: &Key<'_>, facts: KeyFacts<'_>, extent: Extent, covers: &Covers) {
        self.merge_with(key, extent, covers, |keys, cx, inner| {
            key::merge_key(keys, key, facts, extent, (cx, inner), &covers.sides())
        });
    }

    fn merge_run(
        &mut self,
        key: &Key<'_>,
        run: RunFacts<'_>,
        extent: Extent,
        (of_register, of_body): (&Covers, &Covers),
    ) {
        let sides = (&of_register.sides(), &of_body.sides());
        self.merge_with(key, extent, of_body, |keys, cx, inner| {
            key::merge_run(keys, key, run, extent, (cx, inner), sides)
        });
    }

    fn merge_with(
        &mut self,
        key: &Key<'_>,
        extent: Extent,
        covers: &Covers,
        merge: impl FnOnce(&mut Names<KeyState>, &Context<'_>, &mut Inner<'_>) -> Updated,
    ) {
        let index = self.slot_index(key.slot);
        let slot = &mut self.slots[index];
        slot.marks.note_facts(extent.latest, extent.counted);
        let cx = Context {
            origins: &self.origins,
            seed: &self.seed,
            seen: Seen::UpTo(&covers.theirs),
            id: covers.last,
            // What belongs together may come in several pieces: nothing is settled meanwhile.
            alone: false,
            rounds: self.rounds,
            goes_on: false,
        };
        let mut inner = Inner {
            digest: 0,
            queue: Vec::new(),
            fields: FieldEnds::default(),
            removed: Vec::new(),
            existed: false,
            applied: &self.applied,
        };
        let updated = merge(&mut slot.keys, &cx, &mut inner);
        let left = inner.into_left();
        self.take_note(key, covers.last, &updated, left);
    }
}
