//! Merging a key, and what is in its containers.

use std::collections::BTreeSet;

use super::Sides;
use crate::apply::{Inner, Place};
use crate::body::{Body, KeyState, Kind, part, part_hash};
use crate::effect::Bodies;
use crate::names::{Context, Full, Names, Updated};
use crate::number::Number;
use crate::piece::{BodyFacts, Extent, Facts, KeyFacts, Range, RunFacts};
use crate::slot::{Key, Seed};

/// The containers of a key.
const CONTAINERS: [Kind; 4] = [Kind::Hash, Kind::Set, Kind::SortedSet, Kind::List];

impl<'a> KeyFacts<'a> {
    /// A key that is not there.
    pub(super) const fn nothing(name: &'a [u8]) -> Self {
        Self {
            name,
            register: Facts::Nothing,
            bodies: Vec::new(),
            later: Bodies::NONE,
        }
    }
}

/// The names of things with these tags, both included.
pub(super) fn names_in<F: Full>(
    names: &Names<F>,
    (first, last): (u32, u32),
    seed: &Seed,
) -> Vec<Box<[u8]>> {
    let (mut found, mut from) = (Vec::new(), Some(first));
    while let Some(step) = from {
        let (things, next) = names.step(step, seed);
        let within = things.iter().filter(|&&(tag, _)| tag <= last);
        found.extend(within.filter_map(|&(_, id)| names.at(id).map(|(name, _)| name.into())));
        from = next.filter(|&next| next <= last);
    }
    found
}

/// Merges a key, but for the containers that come later.
pub(super) fn merge_key(
    keys: &mut Names<KeyState>,
    key: &Key<'_>,
    facts: KeyFacts<'_>,
    extent: Extent,
    (cx, inner): (&Context<'_>, &mut Inner<'_>),
    sides: &Sides<'_>,
) -> Updated {
    let thing = crate::apply::thing_of(key);
    let KeyFacts {
        register,
        mut bodies,
        later,
        ..
    } = facts;
    if bodies.is_empty() && !keys.is_more(thing) {
        return keys.merge(thing, register, sides, cx);
    }
    keys.update(thing, cx, |state| {
        merge_register(state, register, sides, cx);
        for kind in CONTAINERS
            .into_iter()
            .filter(|kind| !later.has(kind.bodies()))
        {
            let at = bodies.iter().position(|body| body.kind() == kind);
            let theirs = at.map(|at| bodies.swap_remove(at));
            let whole = (theirs, Range::all(kind));
            merge_body(state, key.hash, (kind, whole), (cx, inner), sides);
        }
        state.marks.note_facts(extent.latest, extent.counted);
        state.drop_void();
    })
}

/// Merges the register of a key, and some of a container.
pub(super) fn merge_run(
    keys: &mut Names<KeyState>,
    key: &Key<'_>,
    run: RunFacts<'_>,
    extent: Extent,
    (cx, inner): (&Context<'_>, &mut Inner<'_>),
    (of_register, of_body): (&Sides<'_>, &Sides<'_>),
) -> Updated {
    let thing = crate::apply::thing_of(key);
    let RunFacts {
        register,
        body,
        range,
        ..
    } = run;
    if body.is_empty() && !keys.is_more(thing) {
        return keys.merge(thing, register, of_register, cx);
    }
    keys.update(thing, cx, |state| {
        merge_register(state, register, of_register, cx);
        let kind = body.kind();
        merge_body(
            state,
            key.hash,
            (kind, (Some(body), range)),
            (cx, inner),
            of_body,
        );
        state.marks.note_facts(extent.latest, extent.counted);
        state.drop_void();
    })
}

fn merge_register(
    state: &mut KeyState,
    theirs: Facts<'_, Number>,
    sides: &Sides<'_>,
    cx: &Context<'_>,
) {
    if matches!(theirs, Facts::Nothing) && state.register().is_none() {
        return;
    }
    let theirs = theirs.into_register();
    state.register_mut().merge(theirs, sides, cx.origins);
}

fn merge_body(
    state: &mut KeyState,
    key: u64,
    (kind, (theirs, range)): (Kind, (Option<BodyFacts<'_>>, Range)),
    (cx, inner): (&Context<'_>, &mut Inner<'_>),
    sides: &Sides<'_>,
) {
    let theirs = theirs.filter(|theirs| !theirs.is_empty());
    if theirs.is_none() {
        if state.body(kind).is_none() {
            return;
        }
        if range == Range::all(kind) && state.marks.goes_whole(sides.theirs, inner.applied) {
            for body in state.detach(kind.bodies()) {
                inner.digest ^= body.digest();
                let firsts = body.firsts();
                if !firsts.is_empty() {
                    inner.fields.before = firsts;
                }
                inner.removed.push(body);
            }
            return;
        }
    }
    let Some(body) = state.body_mut(kind) else {
        return;
    };
    let before = body.digest();
    let queue = &mut inner.queue;
    inner.fields.note(body, |body| {
        merge_things(body, key, (theirs, &range), (cx, queue), sides);
    });
    inner.digest ^= before ^ body.digest();
}

fn merge_things(
    body: &mut Body,
    key: u64,
    (theirs, range): (Option<BodyFacts<'_>>, &Range),
    (cx, queue): (&Context<'_>, &mut Vec<Place>),
    sides: &Sides<'_>,
) {
    match (body, range) {
        (Body::Hash(hash), &Range::Names(first, last)) => {
            let theirs = match theirs {
                Some(BodyFacts::Hash(fields)) => fields,
                _ => Vec::new(),
            };
            let gone = unmentioned(&hash.fields, &theirs, (first, last), cx.seed);
            merge_names(theirs, &gone, |name, facts| {
                let field = part(key, Kind::Hash, name, cx);
                let updated =
                    hash.change(field, |fields, field| fields.merge(field, facts, sides, cx));
                note(queue, Kind::Hash, name, &updated);
            });
        }
        (Body::Set(set), &Range::Names(first, last)) => {
            let theirs = match theirs {
                Some(BodyFacts::Set(members)) => members,
                _ => Vec::new(),
            };
            let gone = unmentioned(&set.members, &theirs, (first, last), cx.seed);
            merge_names(theirs, &gone, |name, facts| {
                let member = part(key, Kind::Set, name, cx);
                let updated = set.members.merge(member, facts, sides, cx);
                set.digest ^= updated.digest();
                note(queue, Kind::Set, name, &updated);
            });
        }
        (Body::SortedSet(zset), &Range::Names(first, last)) => {
            let theirs = match theirs {
                Some(BodyFacts::SortedSet(members)) => members,
                _ => Vec::new(),
            };
            let gone = unmentioned(&zset.members, &theirs, (first, last), cx.seed);
            merge_names(theirs, &gone, |name, facts| {
                let member = part(key, Kind::SortedSet, name, cx);
                let updated = zset.change(member, |members, member| {
                    members.merge(member, facts, sides, cx)
                });
                note(queue, Kind::SortedSet, name, &updated);
            });
        }
        (Body::List(list), Range::Elements(after, until)) => {
            let theirs = match theirs {
                Some(BodyFacts::List(elements)) => elements,
                _ => Vec::new(),
            };
            let range = (after.as_ref(), until.as_ref());
            let hash = part_hash(key, Kind::List);
            let unsettled = list.merge(hash, range, theirs, sides, cx.origins);
            if !cx.alone {
                queue.extend(unsettled.into_iter().map(Place::Element));
            }
        }
        // A run is read with the range of its kind.
        _ => {}
    }
}

fn note(queue: &mut Vec<Place>, kind: Kind, name: &[u8], updated: &Updated) {
    if updated.queue {
        queue.push(Place::Part(kind, name.into()));
    }
}

/// Merges what they hold, and of the others that they hold nothing.
fn merge_names<'a, S>(
    theirs: Vec<(&'a [u8], Facts<'a, S>)>,
    gone: &'a [Box<[u8]>],
    mut merge: impl FnMut(&'a [u8], Facts<'a, S>),
) {
    for (name, facts) in theirs {
        merge(name, facts);
    }
    for name in gone {
        merge(name, Facts::Nothing);
    }
}

/// The names with these tags of which they hold nothing.
fn unmentioned<F: Full>(
    mine: &Names<F>,
    theirs: &[(&[u8], Facts<'_, F::Sum>)],
    (first, last): (u32, u32),
    seed: &Seed,
) -> Vec<Box<[u8]>> {
    if mine.is_void() {
        return Vec::new();
    }
    let mut mine = names_in(mine, (first, last), seed);
    let theirs: BTreeSet<&[u8]> = theirs.iter().map(|theirs| theirs.0).collect();
    mine.retain(|name| !theirs.contains(&**name));
    mine
}
