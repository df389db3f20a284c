//! Hashes. Fields are registers of their own: counters in them add up across regions.

use std::borrow::Cow;

use crdt::{Attached, Deadline, FieldValue, Key, Number, parse_decimal, parse_integer};

use super::counter::{Sum, sum_of};
use super::number::parse_f64;
use super::pick::{Among, Amount};
use super::scan::{self, Walk};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::resp::Protocol;
use crate::shard::Txn;

const FAST_READ: Flags = Flags::READ.and(Flags::FAST);
const SETS: Flags = Flags::WRITE.and(Flags::DENY_OOM).and(Flags::FAST);
const REMOVES: Flags = Flags::WRITE.and(Flags::FAST);
const LAST_WINS: &str = "the latest write of a field is read; fields do not affect each other";
const ADDS_UP: &str = "increments add up; one that a HSET or HDEL had not seen survives it";
const REMOVES_SEEN: &str = "a field that one region writes and another removes stays";

pub(super) const COMMANDS: &[Command] = &[
    write("HSET", -4, SETS, LAST_WINS, "Sets fields.", hset),
    write(
        "HSETNX",
        4,
        SETS,
        LAST_WINS,
        "Sets a field unless it exists.",
        hsetnx,
    ),
    write("HMSET", -4, SETS, LAST_WINS, "Sets fields.", hmset),
    read("HGET", 3, FAST_READ, "The value of a field.", hget),
    read("HMGET", -3, FAST_READ, "The values of fields.", hmget),
    read("HGETALL", 2, Flags::READ, "All fields and values.", hgetall),
    read("HKEYS", 2, Flags::READ, "All fields.", hkeys),
    read("HVALS", 2, Flags::READ, "All values.", hvals),
    read("HLEN", 2, FAST_READ, "How many fields there are.", hlen),
    read("HSTRLEN", 3, FAST_READ, "The length of a value.", hstrlen),
    read(
        "HEXISTS",
        3,
        FAST_READ,
        "Whether a hash has a field.",
        hexists,
    ),
    write("HDEL", -3, REMOVES, REMOVES_SEEN, "Removes fields.", hdel),
    write(
        "HINCRBY",
        4,
        SETS,
        ADDS_UP,
        "Adds an integer to a field.",
        hincrby,
    ),
    write(
        "HINCRBYFLOAT",
        4,
        SETS,
        ADDS_UP,
        "Adds a decimal to a field.",
        hincrbyfloat,
    ),
    read(
        "HRANDFIELD",
        -2,
        Flags::READ,
        "Fields at random.",
        hrandfield,
    ),
    read("HSCAN", -3, Flags::READ, "Walks fields in steps.", hscan),
];

type Handler = fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome;

const fn read(
    name: &'static str,
    arity: i32,
    flags: Flags,
    summary: &'static str,
    run: Handler,
) -> Command {
    write(name, arity, flags, "", summary, run)
}

pub(super) const fn write(
    name: &'static str,
    arity: i32,
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
        group: "hash",
        summary,
        conflict,
        run: Run::Shard(run),
    }
}

/// Sets the fields that are left in the arguments. Returns how many are new.
fn set_pairs(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    name: &'static str,
) -> Result<usize, CommandError> {
    let key = txn.key(args.next()?);
    let (pairs, rest) = args.rest().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::WrongArity(name.into()));
    }
    let mut added = 0;
    for [field, value] in pairs {
        let attached = Attached::Deadline(Deadline::Never);
        added += usize::from(txn.hash_put(&key, field, value, attached)?);
    }
    Ok(added)
}

fn hset(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(set_pairs(txn, args, "hset")?);
    Ok(())
}

fn hmset(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_pairs(txn, args, "hmset")?;
    reply.ok();
    Ok(())
}

fn hsetnx(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (field, value) = (args.next()?, args.next()?);
    let free = !txn.hash(&key)?.is_some_and(|hash| hash.contains(field));
    if free {
        txn.hash_set(&key, field, value, Attached::Deadline(Deadline::Never));
    }
    reply.int(free.into());
    Ok(())
}

/// The value of the field that the arguments name, if there is one.
fn value_of<'t>(
    txn: &'t Txn<'_>,
    args: &mut Args<'_>,
) -> Result<Option<Cow<'t, [u8]>>, CommandError> {
    let (key, field) = (txn.key(args.next()?), args.next()?);
    Ok(txn.hash(&key)?.and_then(|hash| hash.get(field)))
}

fn hget(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.bulk_or_null(value_of(txn, args)?.as_deref());
    Ok(())
}

fn hstrlen(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(value_of(txn, args)?.map_or(0, |value| value.len()));
    Ok(())
}

fn hexists(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.int(value_of(txn, args)?.is_some().into());
    Ok(())
}

fn hmget(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let hash = txn.hash(&key)?;
    reply.array(args.remaining());
    for field in args.rest() {
        reply.bulk_or_null(hash.and_then(|hash| hash.get(field)).as_deref());
    }
    Ok(())
}

/// All fields and values of the hash that the arguments name.
fn all_of<'t>(txn: &'t Txn<'_>, args: &mut Args<'_>) -> Result<Vec<FieldValue<'t>>, CommandError> {
    let hash = txn.hash(&txn.key(args.next()?))?;
    Ok(hash.into_iter().flat_map(|hash| hash.iter()).collect())
}

fn hgetall(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let all = all_of(txn, args)?;
    reply.map(all.len());
    for (field, value) in &all {
        reply.bulk(field);
        reply.bulk(value);
    }
    Ok(())
}

fn hkeys(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let all = all_of(txn, args)?;
    reply.array(all.len());
    for (field, _) in &all {
        reply.bulk(field);
    }
    Ok(())
}

fn hvals(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let all = all_of(txn, args)?;
    reply.array(all.len());
    for (_, value) in &all {
        reply.bulk(value);
    }
    Ok(())
}

fn hlen(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.count(txn.hash(&key)?.map_or(0, |hash| hash.len()));
    Ok(())
}

fn hdel(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let found = txn.hash(&key)?.is_some();
    let fields = if found { args.rest() } else { &[] };
    let removed = fields.iter().filter(|field| txn.hash_remove(&key, field));
    reply.count(removed.count());
    Ok(())
}

fn hincrby(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (field, by) = (args.next()?, args.int()?);
    let before = field_integer(txn, &key, field)?;
    let after = before.checked_add(by).ok_or(CommandError::Overflow)?;
    txn.hash_add(&key, field, Number::int(by.into()));
    // What is read may stand for a sum that is further out, by increments of several regions.
    let is_edge = before == i64::MIN || before == i64::MAX;
    reply.int(if is_edge {
        field_integer(txn, &key, field)?
    } else {
        after
    });
    Ok(())
}

fn field_integer(txn: &Txn<'_>, key: &Key<'_>, field: &[u8]) -> Result<i64, CommandError> {
    let text = txn.hash(key)?.and_then(|hash| hash.get(field));
    text.map_or(Ok(0), |text| {
        parse_integer(&text).ok_or(CommandError::HashNotAnInteger)
    })
}

fn hincrbyfloat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (field, by) = (args.next()?, args.next()?);
    let is_number = |text| parse_decimal(text).is_some() || parse_f64(text).is_some();
    if !is_number(by) {
        return Err(CommandError::NotAFloat);
    }
    if parse_f64(by).is_some_and(f64::is_infinite) {
        return Err(CommandError::text("ERR value is NaN or Infinity"));
    }
    let before = txn.hash(&key)?.and_then(|hash| hash.get(field));
    let before = before.map_or_else(|| b"0".to_vec(), Cow::into_owned);
    if !is_number(&before) {
        return Err(CommandError::HashNotAFloat);
    }
    match sum_of(&before, by)? {
        Sum::Exact { by, total } => {
            txn.hash_add(&key, field, by);
            reply.bulk(&total);
        }
        Sum::Whole(total) => {
            txn.hash_set(&key, field, &total, Attached::Nothing);
            reply.bulk(&total);
        }
    }
    Ok(())
}

fn hrandfield(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let mut amount = None;
    let mut with_values = false;
    if !args.is_empty() {
        let mut wanted = Amount::take(args)?;
        if !args.is_empty() {
            if !args.token_is("WITHVALUES") {
                return Err(CommandError::Syntax);
            }
            args.done()?;
            with_values = true;
            wanted = wanted.with_values()?;
        }
        amount = Some(wanted);
    }
    let mut chance = txn.random().fork();
    let hash = txn.hash(&key)?;
    let Some(amount) = amount else {
        let picked = hash.and_then(|hash| hash.random(&mut |n| chance.u64(0..n)));
        reply.bulk_or_null(picked.map(|(field, _)| field));
        return Ok(());
    };
    let Some(hash) = hash else {
        reply.array(0);
        return Ok(());
    };
    let nested = with_values && reply.protocol() == Protocol::Resp3;
    let flat = with_values && !nested;
    let among = Among {
        length: hash.len(),
        all: hash.iter(),
        chance: &mut chance,
    };
    amount.reply(
        reply,
        among,
        |chance| hash.random(&mut |n| chance.u64(0..n)),
        |reply, count| reply.array(if flat { 2 * count } else { count }),
        |reply, field, value| {
            if nested {
                reply.array(2);
            }
            reply.bulk(field);
            if with_values {
                reply.bulk(&value);
            }
        },
    );
    Ok(())
}

fn hscan(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let mut walk = Walk::start(args)?;
    let Some(hash) = txn.hash(&key)? else {
        scan::open(reply, 0, 0);
        return Ok(());
    };
    walk.options(args, true)?;
    let (cursor, mut found) = hash.scan(walk.cursor, walk.step(hash.len()));
    found.retain(|(field, _)| walk.wants(field));
    scan::open(
        reply,
        cursor,
        found.len() * if walk.names_only { 1 } else { 2 },
    );
    for (field, value) in &found {
        reply.bulk(field);
        if !walk.names_only {
            reply.bulk(value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, run, shard};

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn fields_come_and_go() {
        check(&[
            ("HSET h a 1 b 2", ":2"),
            ("HSET h a 3 c 4", ":1"),
            ("HMSET h d 5", "OK"),
            ("HGET h a", "3"),
            ("HGET h x", "nil"),
            ("HMGET h a x d", "[3 nil 5]"),
            ("HMGET none a", "[nil]"),
            ("HLEN h", ":4"),
            ("HSTRLEN h a", ":1"),
            ("HEXISTS h a", ":1"),
            ("HEXISTS h x", ":0"),
            ("HSETNX h a 9", ":0"),
            ("HSETNX h e 9", ":1"),
            ("HDEL h a b c d x", ":4"),
            ("HGETALL h", "[e 9]"),
            ("HKEYS h", "[e]"),
            ("HVALS h", "[9]"),
            ("HDEL h e", ":1"),
            ("EXISTS h", ":0"),
            ("HGETALL h", "[]"),
            (
                "HSET h a 1 b",
                "-ERR wrong number of arguments for 'hset' command",
            ),
            (
                "HMSET h a 1 b",
                "-ERR wrong number of arguments for 'hmset' command",
            ),
            ("SET s x", "OK"),
            ("HSET s a 1", WRONG_TYPE),
            ("HGET s a", WRONG_TYPE),
        ]);
    }

    #[test]
    fn fields_count() {
        check(&[
            ("HINCRBY h n 5", ":5"),
            ("HINCRBY h n -7", ":-2"),
            ("HGET h n", "-2"),
            ("HSET h n 9223372036854775807", ":0"),
            (
                "HINCRBY h n 1",
                "-ERR increment or decrement would overflow",
            ),
            ("HINCRBY one n 1", ":1"),
            ("PEXPIRE one 5000", ":1"),
            ("HSET one n 7", ":0"),
            ("HGET one n", "7"),
            ("PTTL one", ":5000"),
            ("HSET h t x", ":1"),
            ("HINCRBY h t 1", "-ERR hash value is not an integer"),
            (
                "HINCRBY h t x",
                "-ERR value is not an integer or out of range",
            ),
            ("HINCRBYFLOAT h f 10.5", "10.5"),
            ("HINCRBYFLOAT h f 0.1", "10.6"),
            ("HINCRBYFLOAT h f -5.6", "5"),
            ("HINCRBYFLOAT h t 1", "-ERR hash value is not a float"),
            ("HINCRBYFLOAT h f x", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT h f inf", "-ERR value is NaN or Infinity"),
        ]);
    }

    #[test]
    fn picks_at_random_and_walks() {
        check(&[
            ("HRANDFIELD h", "nil"),
            ("HRANDFIELD h 3", "[]"),
            ("HSET h a 1", ":1"),
            ("HRANDFIELD h", "a"),
            ("HRANDFIELD h 3", "[a]"),
            ("HRANDFIELD h -3", "[a a a]"),
            ("HRANDFIELD h -2 WITHVALUES", "[a 1 a 1]"),
            ("HRANDFIELD h 2 BAD", "-ERR syntax error"),
            (
                "HRANDFIELD h 9223372036854775807 WITHVALUES",
                "-ERR value is out of range",
            ),
            ("HSCAN h 0", "[0 [a 1]]"),
            ("HSCAN h 0 NOVALUES", "[0 [a]]"),
            ("HSCAN h 0 MATCH b*", "[0 []]"),
            ("HSCAN h 0 COUNT 0", "-ERR syntax error"),
        ]);
    }

    #[test]
    fn a_large_hash_is_walked_in_steps() {
        let mut shard = shard();
        for n in 0..500 {
            let _ = run(&mut shard, &format!("HSET h f{n} {n}"));
        }
        let first = run(&mut shard, "HSCAN h 0 NOVALUES COUNT 10");
        assert_eq!(first.matches('f').count(), 10);
        assert!(!first.starts_with("[0 "));
    }
}
