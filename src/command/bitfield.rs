//! `BITFIELD`: integers of any width in the bits of a string.
//!
//! What an increment comes to is shipped as bits: two regions that add at once do not add up.

use crdt::Edit;

use super::bitmap::{bit, offset_in, row, string_of};
use super::{Args, Command, CommandError, Flags, Outcome, Reply};
use crate::shard::Txn;

pub(super) const COMMANDS: &[Command] = &[
    row(
        ("BITFIELD", -2),
        Flags::WRITE.and(Flags::DENY_OOM),
        "bits that both regions write are those of the later write",
        "Reads and writes integers of any width.",
        bitfield,
    ),
    row(
        ("BITFIELD_RO", -2),
        Flags::READ.and(Flags::FAST),
        "",
        "Reads integers of any width.",
        bitfield_ro,
    ),
];

/// An integer type of `BITFIELD`.
#[derive(Clone, Copy, Debug)]
struct Integer {
    signed: bool,
    width: u8,
}

/// What happens to a value that its type cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Get,
    Set(i64),
    Add(i64),
}

/// One subcommand of `BITFIELD`.
#[derive(Clone, Copy, Debug)]
struct Field {
    kind: Integer,
    offset: u64,
    action: Action,
    overflow: Overflow,
}

impl Integer {
    fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let invalid = CommandError::text(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(invalid),
        };
        let width = crdt::parse_integer(digits)
            .filter(|&width| 0 < width && width <= if signed { 64 } else { 63 });
        let width = width.and_then(|width| u8::try_from(width).ok());
        width.map(|width| Self { signed, width }).ok_or(invalid)
    }

    /// The integer at an offset.
    fn read(self, value: &[u8], offset: u64) -> i64 {
        let bits = (offset..offset + u64::from(self.width))
            .fold(0_u64, |so_far, at| so_far << 1 | u64::from(bit(value, at)));
        self.wrap(bits.into())
    }

    /// What is left of an integer in this many bits.
    fn wrap(self, value: i128) -> i64 {
        let modulus = 1_i128 << self.width;
        let rest = value.rem_euclid(modulus);
        let is_negative = self.signed && modulus / 2 <= rest;
        (if is_negative { rest - modulus } else { rest }) as i64
    }

    /// The highest and the lowest.
    const fn bounds(self) -> (i64, i64) {
        let high = ((1_u64 << (self.width - self.signed as u8)) - 1) as i64;
        (high, if self.signed { -high - 1 } else { 0 })
    }

    /// Whether a sum is above what this type holds, or below.
    ///
    /// Source: `checkSignedBitfieldOverflow` and `checkUnsignedBitfieldOverflow` of Redis, whose
    /// differences wrap: a number far below a signed type counts as above it.
    const fn exceeds(self, value: i64, by: i64) -> (bool, bool) {
        let (high, low) = self.bounds();
        let (up, down) = (high.wrapping_sub(value), low.wrapping_sub(value));
        if self.signed {
            let narrow = self.width != 64;
            (
                high < value || (narrow && up < by) || (0 <= value && 0 < by && up < by),
                value < low || (narrow && by < down) || (value < 0 && by < 0 && by < down),
            )
        } else {
            let is_above = (high as u64) < value as u64;
            (is_above || (0 < by && up < by), by < 0 && by < down)
        }
    }

    /// The integer to write for a sum, if any.
    fn fit(self, value: i64, by: i64, overflow: Overflow) -> Option<i64> {
        let (high, low) = self.bounds();
        let wrapped = self.wrap(value.wrapping_add(by).into());
        match (self.exceeds(value, by), overflow) {
            ((false, false), _) | (_, Overflow::Wrap) => Some(wrapped),
            ((true, _), Overflow::Saturate) => Some(high),
            ((false, true), Overflow::Saturate) => Some(low),
            (_, Overflow::Fail) => None,
        }
    }
}

impl Field {
    fn end(&self) -> u64 {
        self.offset + u64::from(self.kind.width)
    }

    const fn writes(&self) -> bool {
        !matches!(self.action, Action::Get)
    }

    /// The integer to write, if any, and the one to reply.
    fn run(&self, value: &[u8]) -> (Option<i64>, Option<i64>) {
        let old = self.kind.read(value, self.offset);
        match self.action {
            Action::Get => (None, Some(old)),
            Action::Set(wanted) => {
                let new = self.kind.fit(wanted, 0, self.overflow);
                (new, new.map(|_| old))
            }
            Action::Add(by) => {
                let new = self.kind.fit(old, by, self.overflow);
                (new, new)
            }
        }
    }
}

/// Takes a word that `count` arguments have to follow, if it is next.
fn takes(args: &mut Args<'_>, word: &str, count: usize) -> bool {
    count < args.remaining() && args.token_is(word)
}

/// Takes all subcommands.
fn fields(args: &mut Args<'_>) -> Result<Vec<Field>, CommandError> {
    let mut fields = Vec::new();
    let mut overflow = Overflow::Wrap;
    while !args.is_empty() {
        if takes(args, "OVERFLOW", 1) {
            overflow = if args.token_is("WRAP") {
                Overflow::Wrap
            } else if args.token_is("SAT") {
                Overflow::Saturate
            } else if args.token_is("FAIL") {
                Overflow::Fail
            } else {
                return Err(CommandError::text("ERR Invalid OVERFLOW type specified"));
            };
            continue;
        }
        let make: Option<fn(i64) -> Action> = if takes(args, "GET", 2) {
            None
        } else if takes(args, "SET", 3) {
            Some(Action::Set)
        } else if takes(args, "INCRBY", 3) {
            Some(Action::Add)
        } else {
            return Err(CommandError::Syntax);
        };
        let kind = Integer::parse(args.next()?)?;
        let offset = match args.next()? {
            [b'#', digits @ ..] => offset_in(digits, kind.width.into()),
            digits => offset_in(digits, 1),
        }?;
        let action = match make {
            Some(make) => make(args.int()?),
            None => Action::Get,
        };
        fields.push(Field {
            kind,
            offset,
            action,
            overflow,
        });
    }
    Ok(fields)
}

fn bitfield(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let fields = fields(args)?;
    txn.string(&key)?;
    reply.array(fields.len());
    for field in &fields {
        let (new, shown) = field.run(&string_of(txn, &key)?);
        let width = field.kind.width;
        if let Some(new) = new {
            let edit = Edit::Bits {
                offset: field.offset,
                width,
                value: new as u64 & (u64::MAX >> (64 - width)),
            };
            txn.string_edit(&key, edit);
        }
        match shown {
            Some(value) => reply.int(value),
            None => reply.null(),
        }
    }
    // As in Redis the string reaches as far as the fields, even if nothing was written there.
    let end = fields.iter().filter(|f| f.writes()).map(Field::end).max();
    if let Some(end) = end
        && (string_of(txn, &key)?.len() as u64) < end.div_ceil(8)
    {
        let (offset, width, value) = (end - 1, 1, 0);
        txn.string_edit(
            &key,
            Edit::Bits {
                offset,
                width,
                value,
            },
        );
    }
    Ok(())
}

fn bitfield_ro(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let fields = fields(args)?;
    if fields.iter().any(Field::writes) {
        return Err(CommandError::text(
            "ERR BITFIELD_RO only supports the GET subcommand",
        ));
    }
    let value = string_of(txn, &key)?;
    reply.array(fields.len());
    for field in &fields {
        reply.int(field.kind.read(&value, field.offset));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const BAD_OFFSET: &str = "-ERR bit offset is not an integer or out of range";

    #[test]
    fn fields_of_bits_overflow_as_asked() {
        check(&[
            ("BITFIELD f SET u8 0 255 GET u8 0 GET i8 0", "[:0 :255 :-1]"),
            ("BITFIELD f INCRBY u8 0 10", "[:9]"),
            ("BITFIELD f OVERFLOW SAT INCRBY u8 0 250", "[:255]"),
            ("BITFIELD f OVERFLOW SAT INCRBY u8 0 -999", "[:0]"),
            ("BITFIELD f OVERFLOW FAIL INCRBY u8 0 -1", "[nil]"),
            ("BITFIELD f SET i8 #1 -129 GET i8 #1", "[:0 :127]"),
            ("BITFIELD f OVERFLOW SAT INCRBY i8 #1 9", "[:127]"),
            (
                "BITFIELD f SET i64 0 -9223372036854775808 INCRBY i64 0 -1",
                "[:35747322042253312 :9223372036854775807]",
            ),
            (
                "BITFIELD h INCRBY i1 0 1 OVERFLOW SAT INCRBY i1 0 -5",
                "[:-1 :-1]",
            ),
            ("BITFIELD f GET u4 1", "[:15]"),
            ("BITFIELD_RO f GET u4 0", "[:7]"),
            ("BITFIELD g OVERFLOW FAIL SET u4 20 99", "[nil]"),
            ("STRLEN g", ":3"),
            (
                "BITFIELD_RO f SET u4 0 1",
                "-ERR BITFIELD_RO only supports the GET subcommand",
            ),
            (
                "BITFIELD f GET u64 0",
                "-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
            ),
            ("BITFIELD f GET u8 -1", BAD_OFFSET),
            ("BITFIELD f SET u8 0", "-ERR syntax error"),
            (
                "BITFIELD f OVERFLOW X GET u8 0",
                "-ERR Invalid OVERFLOW type specified",
            ),
            ("BITFIELD f", "[]"),
        ]);
    }
}
