//! Canonical bytes of effects and versions: one value has one encoding.
//!
//! Integers are LEB128 varints, signed ones zigzagged; byte strings have their length in front.
//! A reader refuses what it does not know, what is not minimal, and what goes past the end; it
//! never allocates more than it was given. Specified in docs/protocol.md.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "each part of the codec is handed the changes that are its own"
)]
#![deny(clippy::indexing_slicing)]

mod read;

pub use read::DecodeError;
pub(crate) use read::Reader;

use crate::effect::{Attached, Change, Deadline, Edit, Effect, End, Raised, SeenPart};
use crate::number::Number;
use crate::origin::Origin;
use crate::position::{Position, Side};
use crate::stamp::Dot;
use crate::version::Version;

/// Set in a tag whose effect is on the key of the effect before it.
pub(super) const SAME_KEY: u8 = 0x80;

pub(super) mod tag {
    pub(crate) const REMOVE: u8 = 1;
    pub(crate) const FLUSH: u8 = 2;
    pub(crate) const DEADLINE: u8 = 3;
    pub(crate) const FORGET_PART: u8 = 4;
    pub(crate) const FORGET_FIELD_PART: u8 = 5;
    pub(crate) const FORGET_SCORE: u8 = 6;
    pub(crate) const STRING_SET: u8 = 7;
    pub(crate) const STRING_EDIT: u8 = 8;
    pub(crate) const STRING_ADD: u8 = 9;
    pub(crate) const FIELD_SET: u8 = 10;
    pub(crate) const FIELD_ADD: u8 = 11;
    pub(crate) const FIELD_REMOVE: u8 = 12;
    pub(crate) const FIELD_DEADLINE: u8 = 13;
    pub(crate) const MEMBER_ADD: u8 = 14;
    pub(crate) const MEMBER_REMOVE: u8 = 15;
    pub(crate) const SCORE_SET: u8 = 16;
    pub(crate) const SCORE_ADD: u8 = 17;
    pub(crate) const SCORE_REMOVE: u8 = 18;
    pub(crate) const PUSH: u8 = 19;
    pub(crate) const INSERT: u8 = 20;
    pub(crate) const ELEMENTS_REMOVE: u8 = 21;
    pub(crate) const ELEMENT_SET: u8 = 22;
    pub(crate) const REISSUE: u8 = 23;
    pub(crate) const RAISE_PART: u8 = 24;
    pub(crate) const RAISE_FIELD_PART: u8 = 25;
    pub(crate) const RAISE_SCORE: u8 = 26;
}

/// Writing. Each appends to the buffer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = (value << 1 ^ value >> 127) as u128;
    while 0x80 <= zigzag {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_origin(out: &mut Vec<u8>, origin: Origin) {
    out.push(origin.region.id());
    put_varint(out, origin.epoch.0);
}

pub(crate) fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    put_varint(out, dot.time.0);
    put_varint(out, dot.index.into());
}

pub(crate) fn put_number(out: &mut Vec<u8>, number: Number) {
    put_signed(out, number.int);
    put_signed(out, number.dec);
}

pub(crate) fn put_score(out: &mut Vec<u8>, score: f64) {
    out.extend_from_slice(&score.to_bits().to_le_bytes());
}

pub(crate) fn put_carried(out: &mut Vec<u8>, carried: Option<u64>) {
    // Zero is no deadline that anybody carries: it was past before there were computers.
    put_varint(out, carried.map_or(0, |ms| ms.saturating_add(1)));
}

pub(crate) fn put_deadline(out: &mut Vec<u8>, deadline: Deadline) {
    put_carried(out, deadline.finite());
}

pub(crate) fn put_attached(out: &mut Vec<u8>, attached: Attached) {
    match attached {
        Attached::Nothing => out.push(0),
        Attached::Deadline(deadline) => {
            out.push(1);
            put_deadline(out, deadline);
        }
    }
}

pub(crate) fn put_position(out: &mut Vec<u8>, at: &Position) {
    put_varint(out, at.steps().len() as u64);
    for step in at.steps() {
        out.push(u8::from(step.side == Side::Right));
        put_origin(out, step.id.stamp.origin);
        put_dot(
            out,
            Dot {
                time: step.id.stamp.time,
                index: step.id.index,
            },
        );
    }
}

fn put_seen<S: Copy>(out: &mut Vec<u8>, seen: &SeenPart<S>, put: fn(&mut Vec<u8>, S)) {
    put_origin(out, seen.origin);
    put_dot(out, seen.birth);
    put_dot(out, seen.at);
    put(out, seen.sum);
}

fn put_raised<S: Copy>(out: &mut Vec<u8>, raised: &Raised<S>, put: fn(&mut Vec<u8>, S)) {
    put_origin(out, raised.origin);
    put_dot(out, raised.birth);
    put_dot(out, raised.from);
    put(out, raised.from_sum);
    put_dot(out, raised.at);
    put(out, raised.sum);
}

pub(crate) fn put_edit(out: &mut Vec<u8>, edit: Edit<'_>) {
    match edit {
        Edit::Append(bytes) => {
            out.push(0);
            put_bytes(out, bytes);
        }
        Edit::Overwrite { offset, bytes } => {
            out.push(1);
            put_varint(out, offset);
            put_bytes(out, bytes);
        }
        Edit::Bits {
            offset,
            width,
            value,
        } => {
            out.push(2);
            put_varint(out, offset);
            out.push(width);
            put_varint(out, value);
        }
    }
}

/// Versions, floors included.
pub(crate) fn put_version(out: &mut Vec<u8>, version: &Version) {
    put_varint(out, version.iter().count() as u64);
    for (origin, time) in version.iter() {
        put_origin(out, origin);
        put_varint(out, time.0);
    }
    put_varint(out, version.floors().count() as u64);
    for (region, epoch) in version.floors() {
        put_origin(out, Origin::new(region, epoch));
    }
}

/// An effect; `same_key` says that the effect before it is on the same key. Returns where its key
/// is, if it was written.
pub(crate) fn put_effect(
    out: &mut Vec<u8>,
    effect: &Effect<'_>,
    same_key: bool,
) -> Option<std::ops::Range<usize>> {
    let keyless = same_key || effect.change.is_keyless();
    out.push(tag_of(&effect.change) | if keyless { SAME_KEY } else { 0 });
    let key = (!keyless).then(|| {
        put_bytes(out, effect.key);
        out.len() - effect.key.len()..out.len()
    });
    match &effect.change {
        Change::Remove { bodies, deadlines } => out.extend([bodies.bits(), u8::from(*deadlines)]),
        Change::Flush => {}
        Change::Reissue(of) => {
            put_origin(out, of.origin);
            put_varint(out, of.time.0);
        }
        Change::Deadline(deadline) => put_deadline(out, *deadline),
        Change::ForgetPart { field, seen } => {
            if let Some(field) = field {
                put_bytes(out, field);
            }
            put_seen(out, seen, put_number);
        }
        Change::StringSet { value, attached } => {
            put_attached(out, *attached);
            put_bytes(out, value);
        }
        Change::StringEdit { edit, carried } => {
            put_edit(out, *edit);
            put_carried(out, *carried);
        }
        Change::StringAdd { increment, carried } => {
            put_dot(out, increment.birth);
            put_number(out, increment.sum);
            put_carried(out, *carried);
        }
        Change::FieldSet { .. }
        | Change::FieldAdd { .. }
        | Change::FieldRemove { .. }
        | Change::FieldDeadline { .. }
        | Change::MemberAdd { .. }
        | Change::MemberRemove { .. }
        | Change::ScoreSet { .. }
        | Change::ScoreAdd { .. }
        | Change::ScoreRemove { .. }
        | Change::ForgetScore { .. }
        | Change::RaisePart { .. }
        | Change::RaiseScore { .. } => put_part(out, &effect.change),
        Change::Push { .. }
        | Change::Insert { .. }
        | Change::ElementsRemove { .. }
        | Change::ElementSet { .. } => put_element(out, &effect.change),
    }
    key
}

fn put_part(out: &mut Vec<u8>, change: &Change<'_>) {
    match change {
        Change::FieldSet {
            field,
            value,
            attached,
        } => {
            put_bytes(out, field);
            put_attached(out, *attached);
            put_bytes(out, value);
        }
        Change::FieldAdd {
            field,
            increment,
            carried,
        } => {
            put_bytes(out, field);
            put_dot(out, increment.birth);
            put_number(out, increment.sum);
            put_carried(out, *carried);
        }
        Change::FieldRemove { field, deadlines } => {
            put_bytes(out, field);
            out.push(u8::from(*deadlines));
        }
        Change::FieldDeadline { field, deadline } => {
            put_bytes(out, field);
            put_deadline(out, *deadline);
        }
        Change::MemberAdd { member }
        | Change::MemberRemove { member }
        | Change::ScoreRemove { member } => put_bytes(out, member),
        Change::ScoreSet { member, score } => {
            put_bytes(out, member);
            put_score(out, *score);
        }
        Change::ScoreAdd { member, increment } => {
            put_bytes(out, member);
            put_dot(out, increment.birth);
            put_score(out, increment.sum);
        }
        Change::ForgetScore { member, seen } => {
            put_bytes(out, member);
            put_seen(out, seen, put_score);
        }
        Change::RaisePart { field, raised } => {
            if let Some(field) = field {
                put_bytes(out, field);
            }
            put_raised(out, raised, put_number);
        }
        Change::RaiseScore { member, raised } => {
            put_bytes(out, member);
            put_raised(out, raised, put_score);
        }
        _ => {}
    }
}

fn put_element(out: &mut Vec<u8>, change: &Change<'_>) {
    match change {
        Change::Push { end, value } => {
            out.push(u8::from(*end == End::Tail));
            put_bytes(out, value);
        }
        Change::Insert { at, value } => {
            put_position(out, at);
            put_bytes(out, value);
        }
        Change::ElementsRemove { first, last } => {
            put_position(out, first);
            put_position(out, last);
        }
        Change::ElementSet { at, born, value } => {
            put_position(out, at);
            put_origin(out, born.origin);
            put_dot(out, born.dot);
            put_bytes(out, value);
        }
        _ => {}
    }
}

const fn tag_of(change: &Change<'_>) -> u8 {
    match change {
        Change::Remove { .. } => tag::REMOVE,
        Change::Flush => tag::FLUSH,
        Change::Deadline(_) => tag::DEADLINE,
        Change::ForgetPart { field: None, .. } => tag::FORGET_PART,
        Change::ForgetPart { field: Some(_), .. } => tag::FORGET_FIELD_PART,
        Change::ForgetScore { .. } => tag::FORGET_SCORE,
        Change::StringSet { .. } => tag::STRING_SET,
        Change::StringEdit { .. } => tag::STRING_EDIT,
        Change::StringAdd { .. } => tag::STRING_ADD,
        Change::FieldSet { .. } => tag::FIELD_SET,
        Change::FieldAdd { .. } => tag::FIELD_ADD,
        Change::FieldRemove { .. } => tag::FIELD_REMOVE,
        Change::FieldDeadline { .. } => tag::FIELD_DEADLINE,
        Change::MemberAdd { .. } => tag::MEMBER_ADD,
        Change::MemberRemove { .. } => tag::MEMBER_REMOVE,
        Change::ScoreSet { .. } => tag::SCORE_SET,
        Change::ScoreAdd { .. } => tag::SCORE_ADD,
        Change::ScoreRemove { .. } => tag::SCORE_REMOVE,
        Change::Push { .. } => tag::PUSH,
        Change::Insert { .. } => tag::INSERT,
        Change::ElementsRemove { .. } => tag::ELEMENTS_REMOVE,
        Change::ElementSet { .. } => tag::ELEMENT_SET,
        Change::Reissue(_) => tag::REISSUE,
        Change::RaisePart { field: None, .. } => tag::RAISE_PART,
        Change::RaisePart { field: Some(_), .. } => tag::RAISE_FIELD_PART,
        Change::RaiseScore { .. } => tag::RAISE_SCORE,
    }
}
