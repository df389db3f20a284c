//! Counters: strings that are numbers. Increments of different regions add up.

use crdt::{Attached, Number, parse_decimal};

use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::shard::Txn;

const WRITE: Flags = Flags::WRITE.and(Flags::DENY_OOM).and(Flags::FAST);
const ADDS_UP: &str = "increments add up; one that a SET or DEL had not seen survives it";

pub(super) const COMMANDS: &[Command] = &[
    row("INCR", 2, "Adds one.", Run::Shard(incr)),
    row("DECR", 2, "Takes one away.", Run::Shard(decr)),
    row("INCRBY", 3, "Adds an integer.", Run::Shard(incrby)),
    row("DECRBY", 3, "Takes an integer away.", Run::Shard(decrby)),
    row("INCRBYFLOAT", 3, "Adds a decimal.", Run::Shard(incrbyfloat)),
];

const fn row(name: &'static str, arity: i32, summary: &'static str, run: Run) -> Command {
    let (keys, flags, conflict) = (Keys::FIRST, WRITE, ADDS_UP);
    Command {
        name,
        arity,
        keys,
        flags,
        group: "string",
        summary,
        conflict,
        run,
    }
}

fn incr(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(txn, args.next()?, 1, reply)
}

fn decr(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    add(txn, args.next()?, -1, reply)
}

fn incrby(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = args.next()?;
    add(txn, name, args.int()?, reply)
}

fn decrby(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = args.next()?;
    let by = args
        .int()?
        .checked_neg()
        .ok_or(CommandError::text("ERR decrement would overflow"))?;
    add(txn, name, by, reply)
}

fn add(txn: &mut Txn<'_>, name: &[u8], by: i64, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(name);
    reply.int(txn.integer_add(&key, by)?);
    Ok(())
}

fn incrbyfloat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let before = txn
        .string(&key)?
        .map_or_else(|| b"0".to_vec(), std::borrow::Cow::into_owned);
    match sum_of(&before, args.next()?)? {
        Sum::Exact { by, total } => {
            txn.string_add(&key, by);
            reply.bulk(&total);
        }
        Sum::Whole(total) => {
            txn.string_set(&key, &total, Attached::Nothing);
            reply.bulk(&total);
        }
    }
    Ok(())
}

/// What a decimal increment comes to.
pub(super) enum Sum {
    /// All of it fits fixed point: what to add, and the text of the total.
    Exact {
        /// The increment.
        by: Number,
        /// The total.
        total: Vec<u8>,
    },
    /// Something does not: the text to write as a whole.
    Whole(Vec<u8>),
}

/// Adds a decimal to a text, as `INCRBYFLOAT` does.
pub(super) fn sum_of(text: &[u8], by: &[u8]) -> Result<Sum, CommandError> {
    let exact = parse_decimal(text).zip(parse_decimal(by));
    if let Some((base, units)) = exact
        && let Some(total) = base.checked_add(units)
    {
        return Ok(Sum::Exact {
            by: Number::dec(units),
            total: Number::dec(total).to_text(),
        });
    }
    let float = |text| super::number::parse_f64(text).ok_or(CommandError::NotAFloat);
    let total = float(text)? + float(by)?;
    if !total.is_finite() {
        return Err(CommandError::NanOrInfinity);
    }
    Ok(Sum::Whole(format!("{total}").into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW_MS, check_at, exchange, shard_of};

    /// Two regions have added up to more than a reply can say.
    #[test]
    fn a_reply_of_what_is_out_of_range_says_what_is_read() {
        let (mut a, mut b) = (shard_of(1), shard_of(2));
        let most = "9223372036854775807";
        for shard in [&mut a, &mut b] {
            check_at(
                shard,
                NOW_MS,
                &[("INCRBY k 9223372036854775800", ":9223372036854775800")],
            );
            let line = "HINCRBY h f 9223372036854775800";
            check_at(shard, NOW_MS, &[(line, ":9223372036854775800")]);
        }
        exchange(&mut a, &mut b);
        let overflow = "-ERR increment or decrement would overflow";
        check_at(
            &mut a,
            NOW_MS,
            &[
                ("INCR k", overflow),
                ("DECR k", &format!(":{most}")),
                ("GET k", most),
                ("HINCRBY h f -1", &format!(":{most}")),
                ("HGET h f", most),
                ("DECRBY k 9223372036854775807", ":9223372036854775792"),
                ("DECR k", ":9223372036854775791"),
                ("GET k", "9223372036854775791"),
            ],
        );
    }
}
