//! Canonical bytes of effects and versions: one value has one encoding.
//!
//! Integers are LEB128 varints, signed ones zigzagged; byte strings have their length in front.
//! A reader refuses what it does not know, what is not minimal, and what goes past the end; it
//! never allocates more than it was given. Specified in docs/protocol.md.

#![deny(clippy::indexing_slicing)]

use crate::effect::{
    Attached, Bodies, Change, Deadline, Edit, Effect, ElementId, End, Increment, SeenPart,
};
use crate::number::Number;
use crate::origin::{Epoch, Origin, Region};
use crate::position::{Position, Side, Step};
use crate::stamp::{Dot, FactId, Stamp, Time};
use crate::version::Version;

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early.
    Short,
    /// An effect of a kind that this build does not know: a later build wrote it.
    UnknownEffect(u8),
    /// A value that its writer would not have written, and which one.
    Bad(&'static str),
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short => write!(f, "the bytes end too early"),
            Self::UnknownEffect(tag) => {
                write!(
                    f,
                    "effect {tag} is not known to this build: upgrade this region first"
                )
            }
            Self::Bad(what) => write!(f, "{what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Set in a tag whose effect is on the key of the effect before it.
const SAME_KEY: u8 = 0x80;

mod tag {
    pub(super) const REMOVE: u8 = 1;
    pub(super) const FLUSH: u8 = 2;
    pub(super) const DEADLINE: u8 = 3;
    pub(super) const FORGET_PART: u8 = 4;
    pub(super) const FORGET_FIELD_PART: u8 = 5;
    pub(super) const FORGET_SCORE: u8 = 6;
    pub(super) const STRING_SET: u8 = 7;
    pub(super) const STRING_EDIT: u8 = 8;
    pub(super) const STRING_ADD: u8 = 9;
    pub(super) const FIELD_SET: u8 = 10;
    pub(super) const FIELD_ADD: u8 = 11;
    pub(super) const FIELD_REMOVE: u8 = 12;
    pub(super) const FIELD_DEADLINE: u8 = 13;
    pub(super) const MEMBER_ADD: u8 = 14;
    pub(super) const MEMBER_REMOVE: u8 = 15;
    pub(super) const SCORE_SET: u8 = 16;
    pub(super) const SCORE_ADD: u8 = 17;
    pub(super) const SCORE_REMOVE: u8 = 18;
    pub(super) const PUSH: u8 = 19;
    pub(super) const INSERT: u8 = 20;
    pub(super) const ELEMENTS_REMOVE: u8 = 21;
    pub(super) const ELEMENT_SET: u8 = 22;
}

/// Writing. Each appends to the buffer.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_signed(out: &mut Vec<u8>, value: i128) {
    let mut zigzag = (value << 1 ^ value >> 127) as u128;
    while 0x80 <= zigzag {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_origin(out: &mut Vec<u8>, origin: Origin) {
    out.push(origin.region.id());
    put_varint(out, origin.epoch.0);
}

fn put_dot(out: &mut Vec<u8>, dot: Dot) {
    put_varint(out, dot.time.0);
    put_varint(out, dot.index.into());
}

fn put_number(out: &mut Vec<u8>, number: Number) {
    put_signed(out, number.int);
    put_signed(out, number.dec);
}

fn put_score(out: &mut Vec<u8>, score: f64) {
    out.extend_from_slice(&score.to_bits().to_le_bytes());
}

fn put_carried(out: &mut Vec<u8>, carried: Option<u64>) {
    // Zero is no deadline that anybody carries: it was past before there were computers.
    put_varint(out, carried.map_or(0, |ms| ms.saturating_add(1)));
}

fn put_deadline(out: &mut Vec<u8>, deadline: Deadline) {
    put_carried(out, deadline.finite());
}

fn put_attached(out: &mut Vec<u8>, attached: Attached) {
    match attached {
        Attached::Nothing => out.push(0),
        Attached::Deadline(deadline) => {
            out.push(1);
            put_deadline(out, deadline);
        }
    }
}

fn put_position(out: &mut Vec<u8>, at: &Position) {
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

fn put_edit(out: &mut Vec<u8>, edit: Edit<'_>) {
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
    let keyless = same_key || matches!(effect.change, Change::Flush);
    out.push(tag_of(&effect.change) | if keyless { SAME_KEY } else { 0 });
    let key = (!keyless).then(|| {
        put_bytes(out, effect.key);
        out.len() - effect.key.len()..out.len()
    });
    match &effect.change {
        Change::Remove { bodies, deadlines } => out.extend([bodies.bits(), u8::from(*deadlines)]),
        Change::Flush => {}
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
        | Change::ForgetScore { .. } => put_part(out, &effect.change),
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
    }
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

type Read<T> = Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Read<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Short)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> Read<u64> {
        let wide = self.wide()?;
        u64::try_from(wide).map_err(|_| DecodeError::Bad("a number is too large"))
    }

    fn wide(&mut self) -> Read<u128> {
        let mut value = 0_u128;
        for shift in (0..128).step_by(7) {
            let byte = self.byte()?;
            let bits = u128::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(DecodeError::Bad("a number is too large"));
            }
            value |= bits << shift;
            if byte < 0x80 {
                let minimal = byte != 0 || shift == 0;
                return if minimal {
                    Ok(value)
                } else {
                    Err(DecodeError::Bad("a number is padded"))
                };
            }
        }
        Err(DecodeError::Bad("a number is too long"))
    }

    fn narrow(&mut self) -> Read<u32> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Bad("a number is too large"))
    }

    fn signed(&mut self) -> Read<i128> {
        let zigzag = self.wide()?;
        Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128))
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Short)?;
        self.take(length)
    }

    fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Bad("a flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn origin(&mut self) -> Read<Origin> {
        let region = Region::new(self.byte()?).ok_or(DecodeError::Bad("region 0 is no region"))?;
        Ok(Origin::new(region, Epoch(self.varint()?)))
    }

    fn dot(&mut self) -> Read<Dot> {
        Ok(Dot {
            time: Time(self.varint()?),
            index: self.narrow()?,
        })
    }

    fn number(&mut self) -> Read<Number> {
        Ok(Number {
            int: self.signed()?,
            dec: self.signed()?,
        })
    }

    fn score(&mut self) -> Read<f64> {
        let bytes = self.take(8)?.try_into().map_err(|_| DecodeError::Short)?;
        let score = f64::from_bits(u64::from_le_bytes(bytes));
        if score.is_nan() {
            Err(DecodeError::Bad("a score is not a number"))
        } else {
            Ok(score)
        }
    }

    fn carried(&mut self) -> Read<Option<u64>> {
        Ok(self.varint()?.checked_sub(1))
    }

    fn deadline(&mut self) -> Read<Deadline> {
        Ok(self.carried()?.map_or(Deadline::Never, Deadline::At))
    }

    fn attached(&mut self) -> Read<Attached> {
        Ok(if self.flag()? {
            Attached::Deadline(self.deadline()?)
        } else {
            Attached::Nothing
        })
    }

    fn position(&mut self) -> Read<Position> {
        let count = self.varint()?;
        if self.rest.len() as u64 / 4 < count {
            return Err(DecodeError::Short);
        }
        let mut steps = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let side = if self.flag()? {
                Side::Right
            } else {
                Side::Left
            };
            let origin = self.origin()?;
            let Dot { time, index } = self.dot()?;
            steps.push(Step {
                side,
                id: FactId {
                    stamp: Stamp { time, origin },
                    index,
                },
            });
        }
        Position::from_steps(&steps).ok_or(DecodeError::Bad("a position has no steps"))
    }

    fn seen<S>(&mut self, sum: fn(&mut Self) -> Read<S>) -> Read<SeenPart<S>> {
        let origin = self.origin()?;
        let (birth, at) = (self.dot()?, self.dot()?);
        Ok(SeenPart {
            origin,
            birth,
            at,
            sum: sum(self)?,
        })
    }

    fn increment<S>(&mut self, sum: fn(&mut Self) -> Read<S>) -> Read<Increment<S>> {
        Ok(Increment {
            birth: self.dot()?,
            sum: sum(self)?,
        })
    }

    fn edit(&mut self) -> Read<Edit<'a>> {
        match self.byte()? {
            0 => Ok(Edit::Append(self.bytes()?)),
            1 => Ok(Edit::Overwrite {
                offset: self.varint()?,
                bytes: self.bytes()?,
            }),
            2 => {
                let (offset, width, value) = (self.varint()?, self.byte()?, self.varint()?);
                let fits =
                    (1..=64).contains(&width) && value.checked_shr(width.into()).unwrap_or(0) == 0;
                let near = offset < 1 << 62;
                if !fits || !near {
                    return Err(DecodeError::Bad("bits do not fit their width"));
                }
                Ok(Edit::Bits {
                    offset,
                    width,
                    value,
                })
            }
            _ => Err(DecodeError::Bad("an edit is of no known kind")),
        }
    }

    /// A version.
    pub(crate) fn version(&mut self) -> Read<Version> {
        let mut version = Version::new();
        let mut last = None;
        for _ in 0..self.varint()? {
            let (origin, time) = (self.origin()?, Time(self.varint()?));
            if time == Time::ZERO || last.is_some_and(|last| origin <= last) {
                return Err(DecodeError::Bad("a version is out of order"));
            }
            version.advance(origin, time);
            last = Some(origin);
        }
        let mut last = None;
        for _ in 0..self.varint()? {
            let floor = self.origin()?;
            if last.is_some_and(|last| floor.region <= last) {
                return Err(DecodeError::Bad("a version is out of order"));
            }
            version.raise_floor(floor.region, floor.epoch);
            last = Some(floor.region);
        }
        Ok(version)
    }

    /// An effect, or `None` at the end of an op. `key` is that of the effect before.
    pub(crate) fn effect(&mut self, key: Option<&'a [u8]>) -> Read<Option<Effect<'a>>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        let tag = byte & !SAME_KEY;
        let key = match (byte & SAME_KEY != 0, tag, key) {
            (true, tag::FLUSH, _) => &[],
            (false, tag::FLUSH, _) => return Err(DecodeError::Bad("a flush has a key")),
            (true, _, Some(key)) => key,
            (true, _, None) => {
                return Err(DecodeError::Bad("the first effect of an op has no key"));
            }
            (false, ..) => self.bytes()?,
        };
        let change = match tag {
            tag::REMOVE => Change::Remove {
                bodies: Bodies::from_bits(self.byte()?),
                deadlines: self.flag()?,
            },
            tag::FLUSH => Change::Flush,
            tag::DEADLINE => Change::Deadline(self.deadline()?),
            tag::FORGET_PART => Change::ForgetPart {
                field: None,
                seen: self.seen(Self::number)?,
            },
            tag::STRING_SET => {
                let attached = self.attached()?;
                Change::StringSet {
                    value: self.bytes()?,
                    attached,
                }
            }
            tag::STRING_EDIT => Change::StringEdit {
                edit: self.edit()?,
                carried: self.carried()?,
            },
            tag::STRING_ADD => {
                let increment = self.increment(Self::number)?;
                Change::StringAdd {
                    increment,
                    carried: self.carried()?,
                }
            }
            tag::PUSH => {
                let end = if self.flag()? { End::Tail } else { End::Head };
                Change::Push {
                    end,
                    value: self.bytes()?,
                }
            }
            tag::INSERT => Change::Insert {
                at: self.position()?,
                value: self.bytes()?,
            },
            tag::ELEMENTS_REMOVE => Change::ElementsRemove {
                first: self.position()?,
                last: self.position()?,
            },
            tag::ELEMENT_SET => {
                let (at, origin, dot) = (self.position()?, self.origin()?, self.dot()?);
                Change::ElementSet {
                    at,
                    born: ElementId { origin, dot },
                    value: self.bytes()?,
                }
            }
            _ => self.part(tag)?,
        };
        Ok(Some(Effect { key, change }))
    }

    /// A change of a field or member.
    fn part(&mut self, tag: u8) -> Read<Change<'a>> {
        if !(tag::FORGET_FIELD_PART..=tag::SCORE_REMOVE).contains(&tag) {
            return Err(DecodeError::UnknownEffect(tag));
        }
        let name = self.bytes()?;
        let (field, member) = (name, name);
        Ok(match tag {
            tag::FORGET_FIELD_PART => Change::ForgetPart {
                field: Some(field),
                seen: self.seen(Self::number)?,
            },
            tag::FORGET_SCORE => Change::ForgetScore {
                member,
                seen: self.seen(Self::score)?,
            },
            tag::FIELD_SET => {
                let attached = self.attached()?;
                Change::FieldSet {
                    field,
                    value: self.bytes()?,
                    attached,
                }
            }
            tag::FIELD_ADD => {
                let increment = self.increment(Self::number)?;
                Change::FieldAdd {
                    field,
                    increment,
                    carried: self.carried()?,
                }
            }
            tag::FIELD_REMOVE => Change::FieldRemove {
                field,
                deadlines: self.flag()?,
            },
            tag::FIELD_DEADLINE => Change::FieldDeadline {
                field,
                deadline: self.deadline()?,
            },
            tag::MEMBER_ADD => Change::MemberAdd { member },
            tag::MEMBER_REMOVE => Change::MemberRemove { member },
            tag::SCORE_SET => Change::ScoreSet {
                member,
                score: self.score()?,
            },
            tag::SCORE_ADD => Change::ScoreAdd {
                member,
                increment: self.increment(Self::score)?,
            },
            tag::SCORE_REMOVE => Change::ScoreRemove { member },
            _ => return Err(DecodeError::UnknownEffect(tag)),
        })
    }
}
