//! Reading what `codec` writes.

#![deny(clippy::indexing_slicing)]

use super::{SAME_KEY, tag};
use crate::effect::{
    Attached, Bodies, Change, Deadline, Edit, Effect, ElementId, End, Increment, Raised, SeenPart,
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

    pub(crate) fn narrow(&mut self) -> Read<u32> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Bad("a number is too large"))
    }

    fn signed(&mut self) -> Read<i128> {
        let zigzag = self.wide()?;
        Ok((zigzag >> 1) as i128 ^ -((zigzag & 1) as i128))
    }

    pub(crate) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| DecodeError::Short)?;
        self.take(length)
    }

    pub(crate) fn flag(&mut self) -> Read<bool> {
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

    pub(crate) fn dot(&mut self) -> Read<Dot> {
        Ok(Dot {
            time: Time(self.varint()?),
            index: self.narrow()?,
        })
    }

    pub(crate) fn number(&mut self) -> Read<Number> {
        Ok(Number {
            int: self.signed()?,
            dec: self.signed()?,
        })
    }

    /// Eight bytes.
    pub(crate) fn word(&mut self) -> Read<u64> {
        let bytes = self.take(8)?.try_into().map_err(|_| DecodeError::Short)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn score(&mut self) -> Read<f64> {
        let score = f64::from_bits(self.word()?);
        if score.is_nan() {
            Err(DecodeError::Bad("a score is not a number"))
        } else {
            Ok(score)
        }
    }

    pub(crate) fn carried(&mut self) -> Read<Option<u64>> {
        Ok(self.varint()?.checked_sub(1))
    }

    pub(crate) fn deadline(&mut self) -> Read<Deadline> {
        Ok(self.carried()?.map_or(Deadline::Never, Deadline::At))
    }

    pub(crate) fn attached(&mut self) -> Read<Attached> {
        Ok(if self.flag()? {
            Attached::Deadline(self.deadline()?)
        } else {
            Attached::Nothing
        })
    }

    pub(crate) fn position(&mut self) -> Read<Position> {
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

    pub(crate) fn stamp(&mut self) -> Read<Stamp> {
        let origin = self.origin()?;
        let time = Time(self.varint()?);
        Ok(Stamp { time, origin })
    }

    fn raised<S>(&mut self, sum: fn(&mut Self) -> Read<S>) -> Read<Box<Raised<S>>> {
        let origin = self.origin()?;
        let (birth, from) = (self.dot()?, self.dot()?);
        let from_sum = sum(self)?;
        let at = self.dot()?;
        if at <= from {
            return Err(DecodeError::Bad("a part is not raised"));
        }
        let sum = sum(self)?;
        Ok(Box::new(Raised {
            origin,
            birth,
            from,
            from_sum,
            at,
            sum,
        }))
    }

    pub(crate) fn edit(&mut self) -> Read<Edit<'a>> {
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
        let disorder = DecodeError::Bad("a version is out of order");
        let mut version = Version::new();
        let mut last = None;
        let times = self.varint()?;
        for _ in 0..times {
            let (origin, time) = (self.origin()?, Time(self.varint()?));
            if time == Time::ZERO || last.is_some_and(|last| origin <= last) {
                return Err(disorder);
            }
            version.advance(origin, time);
            last = Some(origin);
        }
        let mut last = None;
        for _ in 0..self.varint()? {
            let floor = self.origin()?;
            if floor.epoch == Epoch(0) || last.is_some_and(|last| floor.region <= last) {
                return Err(disorder);
            }
            version.raise_floor(floor.region, floor.epoch);
            last = Some(floor.region);
        }
        // A time below a floor says nothing, and is not written.
        if (version.iter().count() as u64) < times {
            return Err(disorder);
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
            (true, tag::FLUSH | tag::REISSUE, _) => &[],
            (false, tag::FLUSH | tag::REISSUE, _) => {
                return Err(DecodeError::Bad("what is about no one key has one"));
            }
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
            tag::PUSH..=tag::ELEMENT_SET => self.element(tag)?,
            tag::REISSUE => Change::Reissue(self.stamp()?),
            tag::RAISE_PART => Change::RaisePart {
                field: None,
                raised: self.raised(Self::number)?,
            },
            _ => self.part(tag)?,
        };
        Ok(Some(Effect { key, change }))
    }

    /// A change of an element of a list.
    fn element(&mut self, tag: u8) -> Read<Change<'a>> {
        Ok(match tag {
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
            _ => return Err(DecodeError::UnknownEffect(tag)),
        })
    }

    /// A change of a field or member.
    fn part(&mut self, tag: u8) -> Read<Change<'a>> {
        let is_part = matches!(
            tag,
            tag::FORGET_FIELD_PART..=tag::SCORE_REMOVE | tag::RAISE_FIELD_PART | tag::RAISE_SCORE
        );
        if !is_part {
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
            tag::RAISE_FIELD_PART => Change::RaisePart {
                field: Some(field),
                raised: self.raised(Self::number)?,
            },
            tag::RAISE_SCORE => Change::RaiseScore {
                member,
                raised: self.raised(Self::score)?,
            },
            _ => return Err(DecodeError::UnknownEffect(tag)),
        })
    }
}
