//! Rare paths, seen on the reference model while it applies an effect.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what is rare is so for some changes, and no others"
)]

use crdt::{Change, Effect, FactId, Version};

use super::model::{Model, Place};
use super::tally::Tally;

/// Applies an effect to the model, and counts what is rare about it.
pub(super) fn apply(
    model: &mut Model,
    id: FactId,
    seen: &Version,
    effect: &Effect<'_>,
    tally: &mut Tally,
) {
    let Some(place) = place_of(&effect.change) else {
        model.apply(id, seen, effect);
        if matches!(effect.change, Change::Reissue(_)) {
            tally.count("origin: op issued again");
        }
        if effect.change == Change::Flush && 0 < model.len() {
            tally.count("key: survives a flush");
        }
        return;
    };
    let key = effect.key;
    let before = model.base(key, &place).map(|(id, _)| id);
    before_it_is_applied(model, (id, key), &place, &effect.change, tally);
    model.apply(id, seen, effect);
    let after = model.base(key, &place).map(|(id, _)| id);
    if after.is_some() && after < before {
        match place {
            Place::String => tally.count("string: sibling uncovered"),
            Place::Field(_) => tally.count("hash: sibling uncovered"),
            Place::Member(_) | Place::Score(_) | Place::Element(..) => {}
        }
    }
    survivors(model, key, &place, &effect.change, tally);
}

/// What an effect is about, if it is about one thing.
fn place_of(change: &Change<'_>) -> Option<Place> {
    Some(match change {
        Change::Flush
        | Change::Reissue(_)
        | Change::Push { .. }
        | Change::Insert { .. }
        | Change::ElementsRemove { .. } => return None,
        Change::ElementSet { .. }
        | Change::Remove { .. }
        | Change::Deadline(_)
        | Change::StringSet { .. }
        | Change::StringEdit { .. }
        | Change::StringAdd { .. }
        | Change::ForgetPart { field: None, .. }
        | Change::RaisePart { field: None, .. } => Place::String,
        Change::ForgetPart {
            field: Some(field), ..
        }
        | Change::RaisePart {
            field: Some(field), ..
        }
        | Change::FieldSet { field, .. }
        | Change::FieldAdd { field, .. }
        | Change::FieldRemove { field, .. }
        | Change::FieldDeadline { field, .. } => Place::Field(field.to_vec()),
        Change::MemberAdd { member } | Change::MemberRemove { member } => {
            Place::Member(member.to_vec())
        }
        Change::ForgetScore { member, .. }
        | Change::RaiseScore { member, .. }
        | Change::ScoreSet { member, .. }
        | Change::ScoreAdd { member, .. }
        | Change::ScoreRemove { member } => Place::Score(member.to_vec()),
    })
}

fn before_it_is_applied(
    model: &Model,
    (id, key): (FactId, &[u8]),
    place: &Place,
    change: &Change<'_>,
    tally: &mut Tally,
) {
    let parts = model.parts(key, place);
    match change {
        Change::ForgetPart { seen, .. } => {
            let is_gone = |part: &super::model::Part| {
                (part.origin, part.birth) == (seen.origin, seen.birth) && seen.at <= part.removed_at
            };
            if parts.iter().any(is_gone) {
                tally.count("counter: removed twice");
            }
        }
        Change::StringAdd { increment, .. } | Change::FieldAdd { increment, .. } => {
            let mut own = parts.iter().filter(|part| part.origin == id.stamp.origin);
            let is_reborn = own.any(|part| part.birth < increment.birth);
            tally.add("counter: part reborn", is_reborn.into());
        }
        Change::ElementSet { at, .. } => {
            let elements = model.elements(key);
            if elements.iter().all(|(position, ..)| position != at) {
                tally.count("list: element set, but gone");
            }
        }
        _ => {}
    }
}

/// What is still there of what an effect would have replaced, had it seen it.
fn survivors(model: &Model, key: &[u8], place: &Place, change: &Change<'_>, tally: &mut Tally) {
    let parts = !model.live_parts(key, place).is_empty();
    let edits = *place == Place::String && !model.edits(key).is_empty();
    if parts && edits {
        tally.count("string: edits and parts meet");
    }
    match change {
        Change::StringSet { .. } => {
            tally.add("string: edit outlives a SET", edits.into());
            tally.add("counter: part outlives a SET", parts.into());
        }
        Change::Remove { .. } => {
            tally.add("string: edit outlives a DEL", edits.into());
            tally.add("counter: part outlives a DEL", parts.into());
        }
        Change::FieldSet { .. } => tally.add("hash: part outlives an HSET", parts.into()),
        Change::ScoreSet { .. } => tally.add("zset: part outlives a ZADD", parts.into()),
        Change::ScoreRemove { .. } => tally.add("zset: part outlives a ZREM", parts.into()),
        Change::MemberRemove { .. } => {
            let stays = model.exists(key, place);
            tally.add("set: add outlives a remove", stays.into());
        }
        Change::Deadline(_) | Change::FieldDeadline { .. }
            if 1 < model.standing(key, place).count() =>
        {
            tally.count("key: concurrent deadlines");
        }
        _ => {}
    }
}
