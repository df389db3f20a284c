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
            WRITE.and(Flags::LOOKS),
            "the latest write is read",
            "Combines strings bit by bit.",
            bitop,
        )
    },
];

type Handler = fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome;

pub(super) const fn row(
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

/// The string at a key; an empty one if there is none.
pub(super) fn string_of<'t>(
    txn: &'t Txn<'_>,
    key: &Key<'_>,
) -> Result<Cow<'t, [u8]>, CommandError> {
    Ok(txn.string(key)?.unwrap_or_default())
}

/// A bit; those beyond the end are 0.
pub(super) fn bit(value: &[u8], at: u64) -> bool {
    let byte = usize::try_from(at / 8).ok().and_then(|at| value.get(at));
    byte.is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
}

/// Takes the offset of a bit.
fn offset(args: &mut Args<'_>) -> Result<u64, CommandError> {
    offset_in(args.next()?, 1)
}

/// An offset in units of so many bits.
pub(super) fn offset_in(text: &[u8], unit: i64) -> Result<u64, CommandError> {
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
    if last < first {
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
        if !(2..=3).contains(&args.remaining()) {
            return Err(CommandError::Syntax);
        }
        ends = (args.int()?, args.int()?);
        unit_is = unit(args)?;
    }
    let value = string_of(txn, &key)?;
    // Two ends before the start are clamped to the first byte, but not if they are the wrong way
    // round; `BITPOS` of Redis does not look.
    let (start, end) = ends;
    let is_backwards = start < 0 && end < 0 && end < start;
    let bits = if is_backwards {
        0..0
    } else {
        bits_between(ends, unit_is, value.len())
    };
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
        if at.is_multiple_of(8) && value[(at / 8) as usize] == skipped {
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

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const BAD_OFFSET: &str = "-ERR bit offset is not an integer or out of range";

    #[test]
    fn a_string_may_be_as_long_as_an_argument() {
        let most = crate::limits::BULK_BYTES_MAX as u64;
        assert!(super::super::string::check_length(most).is_ok());
        assert!(super::super::string::check_length(most + 1).is_err());
    }

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
}
