//! Fields that end: `HEXPIRE` and its kin, of Redis 7.4.

use crdt::{Deadline, Key};

use super::expiry::Condition;
use super::hash::write;
use super::{Args, Command, CommandError, Flags, Outcome, Reply};
use crate::shard::Txn;

/// The highest deadline of a field, milliseconds since 1970: Redis keeps some of 48 bits back.
const DEADLINE_MS_MAX: i64 = ((1 << 48) - 1) >> 2;

const NO_FIELD: i64 = -2;
const NO_DEADLINE: i64 = -1;
const NOT_MET: i64 = 0;
const SET: i64 = 1;
const REMOVED: i64 = 2;

const READ: Flags = Flags::READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const LATER_WINS: &str = "the later deadline is kept";

pub(super) const COMMANDS: &[Command] = &[
    write(
        "HEXPIRE",
        -6,
        WRITE.and(Flags::DENY_OOM),
        LATER_WINS,
        "Lets fields end after so many seconds.",
        hexpire,
    ),
    write(
        "HPEXPIRE",
        -6,
        WRITE.and(Flags::DENY_OOM),
        LATER_WINS,
        "Lets fields end after so many milliseconds.",
        hpexpire,
    ),
    write(
        "HEXPIREAT",
        -6,
        WRITE.and(Flags::DENY_OOM),
        LATER_WINS,
        "Lets fields end at a time in seconds.",
        hexpireat,
    ),
    write(
        "HPEXPIREAT",
        -6,
        WRITE.and(Flags::DENY_OOM),
        LATER_WINS,
        "Lets fields end at a time in milliseconds.",
        hpexpireat,
    ),
    write(
        "HPERSIST",
        -5,
        WRITE,
        LATER_WINS,
        "Lets fields not end.",
        hpersist,
    ),
    write("HTTL", -5, READ, "", "Seconds until fields end.", httl),
    write(
        "HPTTL",
        -5,
        READ,
        "",
        "Milliseconds until fields end.",
        hpttl,
    ),
    write(
        "HEXPIRETIME",
        -5,
        READ,
        "",
        "When fields end, in seconds.",
        hexpiretime,
    ),
    write(
        "HPEXPIRETIME",
        -5,
        READ,
        "",
        "When fields end, in milliseconds.",
        hpexpiretime,
    ),
];

/// Takes `FIELDS numfields field …`, which end the arguments.
fn fields<'a>(
    args: &mut Args<'a>,
    not_positive: &'static str,
) -> Result<&'a [&'a [u8]], CommandError> {
    if !args.token_is("FIELDS") {
        return Err(CommandError::text(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    let count = args.at_least(1, not_positive)?;
    if count != args.remaining() {
        return Err(CommandError::text(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(args.rest())
}

const FIELDS_OF_READS: &str = "ERR Number of fields must be a positive integer";
const FIELDS_OF_WRITES: &str = "ERR Parameter `numFields` should be greater than 0";

/// The deadline that an amount stands for.
fn deadline(
    amount: i64,
    seconds: bool,
    base_ms: i64,
    name: &'static str,
) -> Result<u64, CommandError> {
    if amount < 0 {
        return Err(CommandError::text("ERR invalid expire time, must be >= 0"));
    }
    let ms = amount
        .checked_mul(if seconds { 1_000 } else { 1 })
        .and_then(|ms| ms.checked_add(base_ms));
    match ms {
        Some(ms) if ms <= DEADLINE_MS_MAX => Ok(ms as u64),
        _ => Err(CommandError::InvalidExpire(name)),
    }
}

fn expire(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (seconds, absolute, name): (bool, bool, &'static str),
) -> Outcome {
    let key = txn.key(args.next()?);
    txn.hash(&key)?;
    let amount = args.int()?;
    let base_ms = if absolute { 0 } else { txn.now_ms() as i64 };
    let at = deadline(amount, seconds, base_ms, name)?;
    let mut condition = Condition::default();
    condition.take(args);
    let fields = fields(args, FIELDS_OF_WRITES)?;
    reply.array(fields.len());
    for field in fields {
        reply.int(expire_field(txn, &key, field, condition, at)?);
    }
    Ok(())
}

fn expire_field(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    field: &[u8],
    condition: Condition,
    at: u64,
) -> Result<i64, CommandError> {
    let Some(hash) = txn.hash(key)?.filter(|hash| hash.contains(field)) else {
        return Ok(NO_FIELD);
    };
    if !condition.allows(hash.deadline(field), at) {
        return Ok(NOT_MET);
    }
    if at <= txn.now_ms() {
        txn.hash_remove(key, field);
        return Ok(REMOVED);
    }
    txn.hash_deadline(key, field, Deadline::At(at));
    Ok(SET)
}

fn hexpire(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(txn, args, reply, (true, false, "hexpire"))
}

fn hpexpire(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(txn, args, reply, (false, false, "hpexpire"))
}

fn hexpireat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(txn, args, reply, (true, true, "hexpireat"))
}

fn hpexpireat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire(txn, args, reply, (false, true, "hpexpireat"))
}

fn hpersist(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    txn.hash(&key)?;
    let fields = fields(args, FIELDS_OF_READS)?;
    reply.array(fields.len());
    for field in fields {
        let hash = txn.hash(&key)?.filter(|hash| hash.contains(field));
        reply.int(match hash.map(|hash| hash.deadline(field)) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(_)) => {
                txn.hash_deadline(&key, field, Deadline::Never);
                SET
            }
        });
    }
    Ok(())
}

/// Replies what `show` makes of each field's deadline and the time now, both in milliseconds.
fn read(
    txn: &Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    show: fn(u64, u64) -> u64,
) -> Outcome {
    let key = txn.key(args.next()?);
    let hash = txn.hash(&key)?;
    let fields = fields(args, FIELDS_OF_READS)?;
    reply.array(fields.len());
    for field in fields {
        let hash = hash.filter(|hash| hash.contains(field));
        reply.int(match hash.map(|hash| hash.deadline(field)) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(ms)) => show(ms, txn.now_ms()) as i64,
        });
    }
    Ok(())
}

fn httl(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    read(txn, args, reply, |ms, now_ms| {
        ms.saturating_sub(now_ms).div_ceil(1_000)
    })
}

fn hpttl(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    read(txn, args, reply, u64::saturating_sub)
}

fn hexpiretime(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    read(txn, args, reply, |ms, _| ms.div_ceil(1_000))
}

fn hpexpiretime(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    read(txn, args, reply, |ms, _| ms)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn fields_end() {
        check(&[
            ("HSET h a 1 b 2", ":2"),
            ("HTTL h FIELDS 2 a x", "[:-1 :-2]"),
            ("HEXPIRE h 100 FIELDS 2 a x", "[:1 :-2]"),
            ("HTTL h FIELDS 1 a", "[:100]"),
            ("HPTTL h FIELDS 1 a", "[:100000]"),
            ("HEXPIRETIME h FIELDS 1 a", "[:1800000100]"),
            ("HPEXPIRETIME h FIELDS 1 a", "[:1800000100000]"),
            ("HPEXPIRE h 5 NX FIELDS 2 a b", "[:0 :1]"),
            ("HEXPIRE h 50 GT FIELDS 1 a", "[:0]"),
            ("HEXPIRE h 50 LT FIELDS 1 a", "[:1]"),
            ("HPERSIST h FIELDS 3 a a x", "[:1 :-1 :-2]"),
            ("HEXPIRE h 50 XX FIELDS 1 a", "[:0]"),
            ("HPEXPIREAT h 1800000000500 FIELDS 1 a", "[:1]"),
            ("HTTL h FIELDS 1 a", "[:1]"),
            ("HSET h a 2", ":0"),
            ("HTTL h FIELDS 1 a", "[:-1]"),
            ("HEXPIREAT h 1 FIELDS 1 a", "[:2]"),
            ("HPEXPIRE h 0 FIELDS 1 b", "[:2]"),
            ("EXISTS h", ":0"),
            ("HTTL h FIELDS 2 a b", "[:-2 :-2]"),
            ("HEXPIRE h 1 FIELDS 1 a", "[:-2]"),
        ]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(&[
            ("HSET h a 1", ":1"),
            (
                "HEXPIRE h -1 FIELDS 1 a",
                "-ERR invalid expire time, must be >= 0",
            ),
            (
                "HEXPIRE h 99999999999999 FIELDS 1 a",
                "-ERR invalid expire time in 'hexpire' command",
            ),
            (
                "HEXPIRE h 1 FIELDS 0 a",
                "-ERR Parameter `numFields` should be greater than 0",
            ),
            (
                "HEXPIRE h 1 FIELDS 2 a",
                "-ERR The `numfields` parameter must match the number of arguments",
            ),
            (
                "HEXPIRE h 1 NX XX FIELDS 1 a",
                "-ERR Mandatory argument FIELDS is missing or not at the right position",
            ),
            (
                "HTTL h FIELDS 0 a",
                "-ERR Number of fields must be a positive integer",
            ),
            ("SET s x", "OK"),
            (
                "HTTL s FIELDS 1 a",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }
}
