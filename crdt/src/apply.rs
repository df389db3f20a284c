//! What each change does to a key: the one place that knows all the types.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each container is handed the changes that are its own"
)]

use crate::body::{Body, HashBody, KeyState, Kind, SortedSetBody, part, part_hash};
use crate::effect::{Attached, Bodies, Change};
use crate::endings::Firsts;
use crate::entry::Compact;
use crate::fact::{Id, Seen};
use crate::names::{Context, Full, Names, Thing, Updated};
use crate::position::Position;
use crate::register::{Base, DeadlineFact, EditFact};
use crate::slot::Key;
use crate::stamp::Time;

/// Which thing of a key.
#[derive(Debug)]
pub(crate) enum Place {
    Key,
    Part(Kind, Box<[u8]>),
    Element(Position),
}

/// What a change to a container adds to that of its key.
pub(crate) struct Inner<'a> {
    pub(crate) digest: u64,
    pub(crate) queue: Vec<Place>,
    pub(crate) fields: FieldEnds,
    /// Containers that were taken out whole.
    pub(crate) removed: Vec<Body>,
    /// Whether the field, member or score that the change is about existed before.
    pub(crate) existed: bool,
    /// The last op applied of each origin, by number.
    pub(crate) applied: &'a [Time],
}

impl Inner<'_> {
    /// What there is to be noted of it.
    pub(crate) fn into_left(self) -> Left {
        Left {
            digest: self.digest,
            queue: self.queue,
            fields: self.fields,
            removed: self.removed,
        }
    }
}

/// What is left to be noted of a change.
pub(crate) struct Left {
    pub(crate) digest: u64,
    pub(crate) queue: Vec<Place>,
    pub(crate) fields: FieldEnds,
    pub(crate) removed: Vec<Body>,
}

/// The first fields of a hash to end, by region, before a change and after.
#[derive(Default)]
pub(crate) struct FieldEnds {
    pub(crate) before: Firsts,
    pub(crate) after: Firsts,
}

impl FieldEnds {
    /// Notes what a change to a container does to them.
    pub(crate) fn note<R>(&mut self, body: &mut Body, change: impl FnOnce(&mut Body) -> R) -> R {
        if !matches!(body, Body::Hash(_)) {
            return change(body);
        }
        let before = body.firsts();
        let result = change(body);
        let after = body.firsts();
        if before != after {
            (self.before, self.after) = (before, after);
        }
        result
    }
}

pub(crate) const fn thing_of<'a>(key: &Key<'a>) -> Thing<'a> {
    Thing {
        name: key.name,
        hash: key.hash,
        digest: key.hash,
    }
}

/// Applies a change to a key of a slot.
pub(crate) fn change_key(
    keys: &mut Names<KeyState>,
    key: &Key<'_>,
    change: &Change<'_>,
    cx: &Context<'_>,
    inner: &mut Inner<'_>,
) -> Updated {
    let thing = thing_of(key);
    match change {
        Change::StringSet { value, attached } => keys.set(
            thing,
            Compact {
                id: cx.id,
                attached: *attached,
                value,
            },
            cx,
        ),
        Change::StringEdit { edit, carried } => {
            let fact = EditFact {
                id: cx.id,
                edit: (*edit).into(),
                carried: *carried,
            };
            keys.change_register(thing, cx, |register| register.edit(fact, cx.origins))
        }
        Change::StringAdd { increment, carried } => keys.add(thing, *increment, *carried, cx),
        Change::ForgetPart { field: None, seen } => keys.change_register(thing, cx, |register| {
            if let Some(owner) = cx.origins.find(seen.origin) {
                register.forget(cx.id, owner, *seen);
            }
        }),
        Change::RaisePart {
            field: None,
            raised,
        } => keys.change_register(thing, cx, |register| {
            if let Some(owner) = cx.origins.find(raised.origin) {
                register.raise(owner, raised, cx.origins);
            }
        }),
        Change::Deadline(deadline) => {
            let fact = DeadlineFact {
                id: cx.id,
                deadline: *deadline,
            };
            keys.change_register(thing, cx, |register| register.set_deadline(fact, cx.seen))
        }
        Change::Remove { bodies, deadlines } => {
            remove(keys, thing, (*bodies, *deadlines), cx, inner)
        }
        _ => keys.update(thing, cx, |state| {
            let kind = container_of(change);
            let Some(body) = state.body_mut(kind) else {
                return;
            };
            let before = body.digest();
            let done = inner
                .fields
                .note(body, |body| change_body(body, key.hash, change, cx));
            inner.existed = done.existed;
            inner.queue.extend(done.queue);
            inner.digest ^= before ^ body.digest();
            state.marks.note(cx.id, change);
            state.drop_void();
        }),
    }
}

fn remove(
    keys: &mut Names<KeyState>,
    thing: Thing<'_>,
    (bodies, deadlines): (Bodies, bool),
    cx: &Context<'_>,
    inner: &mut Inner<'_>,
) -> Updated {
    if keys.find(thing.hash, thing.name).is_none() {
        return Updated::nothing();
    }
    if bodies.has(Bodies::STRING) && !keys.is_more(thing) {
        return keys.remove(thing, deadlines, cx);
    }
    keys.update(thing, cx, |state| {
        if state.register().is_some() {
            let register = state.register_mut();
            if bodies.has(Bodies::STRING) {
                register.remove_seen(cx.seen, cx.id);
            }
            if deadlines {
                register.remove_deadlines(cx.seen);
            }
        }
        let is_again = matches!(cx.seen, Seen::Again(..));
        if (cx.alone && !is_again) || state.marks.goes_whole(cx.seen, inner.applied) {
            for body in state.detach(bodies) {
                inner.digest ^= body.digest();
                let firsts = body.firsts();
                if !firsts.is_empty() {
                    inner.fields.before = firsts;
                }
                inner.removed.push(body);
            }
        }
        for body in state.bodies_mut() {
            if bodies.has(body.kind().bodies()) {
                let before = body.digest();
                let queue = &mut inner.queue;
                inner
                    .fields
                    .note(body, |body| body.remove_seen(thing.digest, cx, queue));
                inner.digest ^= before ^ body.digest();
            }
        }
        state.drop_void();
    })
}

/// The container that a change is about.
const fn container_of(change: &Change<'_>) -> Kind {
    match change {
        Change::FieldSet { .. }
        | Change::FieldAdd { .. }
        | Change::FieldRemove { .. }
        | Change::FieldDeadline { .. }
        | Change::ForgetPart { field: Some(_), .. }
        | Change::RaisePart { field: Some(_), .. } => Kind::Hash,
        Change::MemberAdd { .. } | Change::MemberRemove { .. } => Kind::Set,
        Change::ScoreSet { .. }
        | Change::ScoreAdd { .. }
        | Change::ScoreRemove { .. }
        | Change::ForgetScore { .. }
        | Change::RaiseScore { .. } => Kind::SortedSet,
        Change::Push { .. }
        | Change::Insert { .. }
        | Change::ElementsRemove { .. }
        | Change::ElementSet { .. } => Kind::List,
        Change::Remove { .. }
        | Change::Flush
        | Change::Reissue(_)
        | Change::Deadline(_)
        | Change::ForgetPart { field: None, .. }
        | Change::RaisePart { field: None, .. }
        | Change::StringSet { .. }
        | Change::StringEdit { .. }
        | Change::StringAdd { .. } => Kind::String,
    }
}

/// What a change did in a container.
#[derive(Default)]
struct Done {
    /// Whether the field, member or score existed before.
    existed: bool,
    /// What is to be settled later.
    queue: Option<Place>,
}

impl Done {
    fn part(updated: &Updated, kind: Kind, name: &[u8]) -> Self {
        Self {
            existed: updated.before.exists,
            queue: updated.queue.then(|| Place::Part(kind, name.into())),
        }
    }
}

fn change_body(body: &mut Body, key: u64, change: &Change<'_>, cx: &Context<'_>) -> Done {
    match body {
        Body::Hash(hash) => change_hash(hash, key, change, cx),
        Body::Set(set) => {
            let (updated, name) = match change {
                Change::MemberAdd { member } => {
                    let base = Compact {
                        id: cx.id,
                        attached: Attached::Nothing,
                        value: b"",
                    };
                    (
                        set.members.set(part(key, Kind::Set, member, cx), base, cx),
                        member,
                    )
                }
                Change::MemberRemove { member } => (
                    set.members
                        .remove(part(key, Kind::Set, member, cx), false, cx),
                    member,
                ),
                _ => return Done::default(),
            };
            set.digest ^= updated.digest();
            Done::part(&updated, Kind::Set, name)
        }
        Body::SortedSet(zset) => change_zset(zset, key, change, cx),
        Body::List(list) => {
            let origins = cx.origins;
            let hash = part_hash(key, Kind::List);
            match change {
                Change::Push { end, value } => list.push(hash, *end, cx.id, value, origins),
                Change::Insert { at, value } => list.insert(hash, at, cx.id, value, origins),
                Change::ElementsRemove { first, last } => {
                    list.remove(hash, (first, last), cx.seen, origins);
                }
                Change::ElementSet { at, born, value } => {
                    let Some(origin) = cx.origins.find(born.origin) else {
                        return Done::default();
                    };
                    let born = Id {
                        time: born.dot.time,
                        index: born.dot.index,
                        origin,
                    };
                    let attached = Attached::Nothing;
                    let base = Base {
                        id: cx.id,
                        attached,
                        value: value.to_vec(),
                        folded: None,
                    };
                    let unsettled = list.set(hash, (at, born), base, cx.seen, origins);
                    let settles = unsettled && !cx.alone;
                    return Done {
                        queue: settles.then(|| Place::Element(at.clone())),
                        ..Done::default()
                    };
                }
                _ => {}
            }
            Done::default()
        }
    }
}

fn change_hash(hash: &mut HashBody, key: u64, change: &Change<'_>, cx: &Context<'_>) -> Done {
    let name = match change {
        Change::FieldSet { field, .. }
        | Change::FieldAdd { field, .. }
        | Change::FieldRemove { field, .. }
        | Change::FieldDeadline { field, .. }
        | Change::ForgetPart {
            field: Some(field), ..
        }
        | Change::RaisePart {
            field: Some(field), ..
        } => *field,
        _ => return Done::default(),
    };
    let updated = hash.change(
        part(key, Kind::Hash, name, cx),
        |fields, field| match change {
            Change::FieldSet {
                value, attached, ..
            } => fields.set(
                field,
                Compact {
                    id: cx.id,
                    attached: *attached,
                    value,
                },
                cx,
            ),
            Change::FieldRemove { deadlines, .. } => fields.remove(field, *deadlines, cx),
            Change::FieldAdd {
                increment, carried, ..
            } => fields.add(field, *increment, *carried, cx),
            Change::FieldDeadline { deadline, .. } => {
                let fact = DeadlineFact {
                    id: cx.id,
                    deadline: *deadline,
                };
                fields.update(field, cx, |register| register.set_deadline(fact, cx.seen))
            }
            Change::ForgetPart { seen, .. } => fields.update(field, cx, |register| {
                if let Some(owner) = cx.origins.find(seen.origin) {
                    register.forget(cx.id, owner, *seen);
                }
            }),
            Change::RaisePart { raised, .. } => fields.update(field, cx, |register| {
                if let Some(owner) = cx.origins.find(raised.origin) {
                    register.raise(owner, raised, cx.origins);
                }
            }),
            _ => fields.update(field, cx, |_| ()),
        },
    );
    Done::part(&updated, Kind::Hash, name)
}

fn change_zset(zset: &mut SortedSetBody, key: u64, change: &Change<'_>, cx: &Context<'_>) -> Done {
    let name = match change {
        Change::ScoreSet { member, .. }
        | Change::ScoreAdd { member, .. }
        | Change::ScoreRemove { member }
        | Change::ForgetScore { member, .. }
        | Change::RaiseScore { member, .. } => *member,
        _ => return Done::default(),
    };
    let updated = zset.change(
        part(key, Kind::SortedSet, name, cx),
        |members, member| match change {
            Change::ScoreSet { score, .. } => {
                let value = &score.to_le_bytes();
                members.set(
                    member,
                    Compact {
                        id: cx.id,
                        attached: Attached::Nothing,
                        value,
                    },
                    cx,
                )
            }
            Change::ScoreRemove { .. } => members.remove(member, false, cx),
            Change::ScoreAdd { increment, .. } => members.add(member, *increment, None, cx),
            Change::ForgetScore { seen, .. } => members.update(member, cx, |register| {
                if let Some(owner) = cx.origins.find(seen.origin) {
                    register.forget(cx.id, owner, *seen);
                }
            }),
            Change::RaiseScore { raised, .. } => members.update(member, cx, |register| {
                if let Some(owner) = cx.origins.find(raised.origin) {
                    register.raise(owner, raised, cx.origins);
                }
            }),
            _ => members.update(member, cx, |_| ()),
        },
    );
    Done::part(&updated, Kind::SortedSet, name)
}

/// Settles a field or member. Returns whether something is left to settle.
pub(crate) fn settle_part(
    state: &mut KeyState,
    kind: Kind,
    name: &[u8],
    key: &Key<'_>,
    cx: &Context<'_>,
    ends: &mut FieldEnds,
) -> bool {
    let thing = part(key.hash, kind, name, cx);
    let queue = state
        .body_mut(kind)
        .is_some_and(|body| ends.note(body, |body| settle_in(body, thing, cx)));
    state.drop_void();
    queue
}

fn settle_in(body: &mut Body, thing: Thing<'_>, cx: &Context<'_>) -> bool {
    let again = |updated: Option<Updated>| updated.is_some_and(|updated| updated.queue);
    let mut queue = false;
    match body {
        Body::Hash(hash) => {
            hash.change(thing, |fields, field| {
                let updated = fields.settle(field, cx.seen, cx);
                queue = again(updated);
                updated.unwrap_or_else(Updated::nothing)
            });
        }
        Body::Set(set) => queue = again(set.members.settle(thing, cx.seen, cx)),
        // No score changes by it, so the order stands.
        Body::SortedSet(zset) => queue = again(zset.members.settle(thing, cx.seen, cx)),
        Body::List(_) => {}
    }
    queue
}
