//! Bits of strings. Writes ship the bits that change, so those of other regions next to them stay.

use std::borrow::Cow;

use crdt::{Attached, Deadline, Edit, Key};

use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::limits;
use crate::shard::Txn;

const READ: Flags = Flags::READ;
const WRITE: Flags = Flags::WRITE.and(Flags::DENY_OOM);
const BITS_MERGE: &str = "bits that both regions write are those of the later write";

pub(super) const COMMANDS: &[Command] = &[
    row(("SETBIT", 4), WRITE, BITS_MERGE, "Sets a bit.", setbit),
    row(
        ("GETBIT", 3),
        READ.and(Flags::FAST),
        "",
        "The value of a bit.",
        getbit,
    ),
    row(
        ("BITCOUNT", -2),
        READ,
        "",
        "How many bits are set.",
        bitcount,
    ),
    row(
        ("BITPOS", -3),
        READ,
        "",
        "The first bit of a value.",
        bitpos,
    ),
    Command {
        keys: Keys::Range {
            first: 2,
            last: -1,
            step: 1,
        },
        ..row(
            ("BITOP", -4),
            WRITE,
            "the latest write is read",
            "Combines strings bit by bit.",
            bitop,
        )
    },
    row(
        ("BITFIELD", -2),
        WRITE,
        BITS_MERGE,
        "Reads and writes integers of any width.",
        bitfield,
    ),
    row(
        ("BITFIELD_RO", -2),
        READ.and(Flags::FAST),
        "",
        "Reads integers of any width.",
        bitfield_ro,
    ),
];

type Handler = fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome;

const fn row(
    (name, arity): (&'static str, i32),
    flags: Flags,
    conflict: &'static str,
    summary: &'static str,
    run: Handler,
) -> Command {
    Command {
        name,
        arity,
        keys: Keys::FIRST,
        flags,
        group: "bitmap",
        summary,
        conflict,
        run: Run::Shard(run),
    }
}

fn string_of<'t>(txn: &'t Txn<'_>, key: &Key<'_>) -> Result<Cow<'t, [u8]>, CommandError> {
    Ok(txn.string(key)?.unwrap_or_default())
}

/// A bit; those beyond the end are 0.
fn bit(value: &[u8], at: u64) -> bool {
    let byte = usize::try_from(at / 8).ok().and_then(|at| value.get(at));
    byte.is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

/// Takes the offset of a bit.
fn offset(args: &mut Args<'_>) -> Result<u64, CommandError> {
    offset_in(args.next()?, 1)
}

/// An offset in units of so many bits.
fn offset_in(text: &[u8], unit: i64) -> Result<u64, CommandError> {
    crdt::parse_integer(text)
        .and_then(|offset| offset.checked_mul(unit))
        .and_then(|offset| u64::try_from(offset).ok())
        .filter(|offset| offset / 8 < limits::STRING_BYTES_MAX as u64)
        .ok_or(CommandError::BitOffset)
}

fn setbit(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, offset) = (txn.key(args.next()?), offset(args)?);
    let value = crdt::parse_integer(args.next()?).filter(|value| (0..=1).contains(value));
    let value = value.ok_or(CommandError::BitValue)?.unsigned_abs();
    let old = bit(&string_of(txn, &key)?, offset);
    let width = 1;
    txn.string_edit(
        &key,
        Edit::Bits {
            offset,
            width,
            value,
        },
    );
    reply.int(old.into());
    Ok(())
}

fn getbit(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, offset) = (txn.key(args.next()?), offset(args)?);
    reply.int(bit(&string_of(txn, &key)?, offset).into());
    Ok(())
}

/// Takes `BYTE` or `BIT`, if there is one. Returns how many of it a byte has.
fn unit(args: &mut Args<'_>) -> Result<i64, CommandError> {
    let unit = if args.is_empty() || args.token_is("BYTE") {
        1
    } else if args.token_is("BIT") {
        8
    } else {
        return Err(CommandError::Syntax);
    };
    args.done()?;
    Ok(unit)
}

/// The bits from `start` to `end` in units of which a byte has `unit`, both included and counted
/// from the end of `bytes` bytes if negative.
fn bits_between((start, end): (i64, i64), unit: i64, bytes: usize) -> std::ops::Range<u64> {
    let length = bytes as i64 * unit;
    let from_end = |at: i64| if at < 0 { (at + length).max(0) } else { at };
    let (first, last) = (from_end(start), from_end(end).min(length - 1));
    if last < first || (start < 0 && end < 0 && end < start) {
        return 0..0;
    }
    let bits = 8 / unit as u64;
    first as u64 * bits..(last as u64 + 1) * bits
}

/// Counts the bits that are set; whole bytes at a time where it can.
fn count_ones(value: &[u8], bits: std::ops::Range<u64>) -> u64 {
    let (from, to) = (bits.start.next_multiple_of(8), bits.end / 8 * 8);
    let one_by_one = |bits: std::ops::Range<u64>| bits.filter(|&at| bit(value, at)).count() as u64;
    if to <= from {
        return one_by_one(bits);
    }
    let whole = &value[(from / 8) as usize..(to / 8) as usize];
    let whole: u64 = whole.iter().map(|byte| u64::from(byte.count_ones())).sum();
    one_by_one(bits.start..from) + whole + one_by_one(to..bits.end)
}

fn bitcount(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (mut ends, mut unit_is) = ((0, -1), 1);
    if !args.is_empty() {
        if args.remaining() < 2 {
            return Err(CommandError::Syntax);
        }
        ends = (args.int()?, args.int()?);
        unit_is = unit(args)?;
    }
    let value = string_of(txn, &key)?;
    let bits = bits_between(ends, unit_is, value.len());
    reply.int(count_ones(&value, bits) as i64);
    Ok(())
}

fn bitpos(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let wanted = match args.int()? {
        0 => false,
        1 => true,
        _ => {
            return Err(CommandError::text("ERR The bit argument must be 1 or 0."));
        }
    };
    let start = if args.is_empty() { 0 } else { args.int()? };
    let end = if args.is_empty() {
        None
    } else {
        Some(args.int()?)
    };
    let unit = unit(args)?;
    let Some(value) = txn.string(&key)? else {
        reply.int(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let bits = bits_between((start, end.unwrap_or(-1)), unit, value.len());
    if bits.is_empty() {
        reply.int(-1);
        return Ok(());
    }
    let after = bits.end;
    let found = find_bit(&value, bits, wanted);
    // What follows the string is zeros, unless an end was given.
    let beyond = (!wanted && end.is_none()).then_some(after);
    reply.int(found.or(beyond).map_or(-1, |at| at as i64));
    Ok(())
}

/// The first bit of a value. Bytes without one are passed over whole.
fn find_bit(value: &[u8], bits: std::ops::Range<u64>, wanted: bool) -> Option<u64> {
    let skipped: u8 = if wanted { 0 } else { 0xff };
    let mut at = bits.start;
    while at < bits.end {
        if at % 8 == 0 && value[(at / 8) as usize] == skipped {
            at += 8;
        } else if bit(value, at) == wanted {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

fn bitop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let combine: fn(u8, u8) -> u8 = if args.token_is("AND") {
        |a, b| a & b
    } else if args.token_is("OR") {
        |a, b| a | b
    } else if args.token_is("XOR") {
        |a, b| a ^ b
    } else if args.token_is("NOT") {
        if args.remaining() != 2 {
            return Err(CommandError::text(
                "ERR BITOP NOT must be called with a single source key.",
            ));
        }
        |a, _| !a
    } else {
        return Err(CommandError::Syntax);
    };
    let target = txn.key(args.next()?);
    let negates = args.remaining() == 1 && combine(0, 0) == 0xff;
    let sources: Result<Vec<Cow<'_, [u8]>>, _> = args
        .rest()
        .iter()
        .map(|name| string_of(txn, &txn.key(name)))
        .collect();
    let sources = sources?;
    let length = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let byte = |source: &[u8], at: usize| source.get(at).copied().unwrap_or(0);
    let mut result = vec![0; length];
    if let Some((first, others)) = sources.split_first() {
        for (at, out) in result.iter_mut().enumerate() {
            let first = byte(first, at);
            let first = if negates { !first } else { first };
            *out = others
                .iter()
                .fold(first, |so_far, other| combine(so_far, byte(other, at)));
        }
    }
    if result.is_empty() {
        txn.remove(&target);
    } else {
        txn.string_set(&target, &result, Attached::Deadline(Deadline::Never));
    }
    reply.count(length);
    Ok(())
}

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

    /// The integer to write for a wanted one, if any.
    fn fit(self, wanted: i128, overflow: Overflow) -> Option<i64> {
        let (low, high) = if self.signed {
            let half = 1_i128 << (self.width - 1);
            (-half, half - 1)
        } else {
            (0, (1_i128 << self.width) - 1)
        };
        match overflow {
            _ if (low..=high).contains(&wanted) => Some(wanted as i64),
            Overflow::Wrap => Some(self.wrap(wanted)),
            Overflow::Saturate => Some(wanted.clamp(low, high) as i64),
            Overflow::Fail => None,
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
                let wanted = if self.kind.signed {
                    wanted.into()
                } else {
                    i128::from(wanted as u64)
                };
                let new = self.kind.fit(wanted, self.overflow);
                (new, new.map(|_| old))
            }
            Action::Add(by) => {
                let new = self
                    .kind
                    .fit(i128::from(old) + i128::from(by), self.overflow);
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

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const BAD_OFFSET: &str = "-ERR bit offset is not an integer or out of range";

    #[test]
    fn bits_are_set_and_read() {
        check(&[
            ("SETBIT b 7 1", ":0"),
            ("SETBIT b 7 1", ":1"),
            ("GETBIT b 7", ":1"),
            ("GETBIT b 6", ":0"),
            ("GETBIT b 999", ":0"),
            ("SETBIT b 20 0", ":0"),
            ("STRLEN b", ":3"),
            ("SETBIT b x 0", BAD_OFFSET),
            ("SETBIT b -1 0", BAD_OFFSET),
            ("SETBIT b 4294967296 0", BAD_OFFSET),
            ("SETBIT b 1 2", "-ERR bit is not an integer or out of range"),
            ("SADD s a", ":1"),
            ("SETBIT s 1 1", WRONG_TYPE),
            ("GETBIT s 1", WRONG_TYPE),
        ]);
    }

    #[test]
    fn bits_are_counted_and_found() {
        check(&[
            ("SET k foobar", "OK"),
            ("BITCOUNT k", ":26"),
            ("BITCOUNT k 0 0", ":4"),
            ("BITCOUNT k 1 1", ":6"),
            ("BITCOUNT k -2 -1", ":7"),
            ("BITCOUNT k 5 30 BIT", ":17"),
            ("BITCOUNT k 1 1 BYTE", ":6"),
            ("BITCOUNT k 9 2", ":0"),
            ("BITCOUNT none", ":0"),
            ("BITCOUNT k 1", "-ERR syntax error"),
            ("BITCOUNT k 1 2 WORD", "-ERR syntax error"),
            ("BITPOS k 1", ":1"),
            ("BITPOS k 0", ":0"),
            ("BITPOS k 1 2", ":17"),
            ("BITPOS k 1 7 15 BIT", ":9"),
            ("BITPOS k 1 9", ":-1"),
            ("BITPOS none 1", ":-1"),
            ("BITPOS none 0", ":0"),
            ("BITPOS k 2", "-ERR The bit argument must be 1 or 0."),
            ("BITFIELD f SET i8 0 -1 SET i8 8 -1", "[:0 :0]"),
            ("BITPOS f 0", ":16"),
            ("BITPOS f 0 1", ":16"),
            ("BITPOS f 0 0 -1", ":-1"),
        ]);
    }

    #[test]
    fn strings_combine() {
        check(&[
            ("SET a foobar", "OK"),
            ("SET b abcdef", "OK"),
            ("BITOP AND r a b", ":6"),
            ("GET r", "`bc`ab"),
            ("BITOP OR r a b", ":6"),
            ("GET r", "goofev"),
            ("BITOP XOR r a a", ":6"),
            ("BITCOUNT r", ":0"),
            ("BITOP NOT r a", ":6"),
            ("BITCOUNT r", ":22"),
            ("BITOP AND r none none", ":0"),
            ("EXISTS r", ":0"),
            (
                "BITOP NOT r a b",
                "-ERR BITOP NOT must be called with a single source key.",
            ),
            ("BITOP NAND r a b", "-ERR syntax error"),
            ("SADD s a", ":1"),
            ("BITOP OR r a s", WRONG_TYPE),
        ]);
    }

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
