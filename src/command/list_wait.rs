//! Lists that clients wait for: `BLPOP` and its kin.

use crdt::End;

use super::list::{end_of, move_one, take};
use super::{Args, Command, CommandError, Flags, Keys, Reply, Run, Wait};
use crate::shard::Txn;

const REMOVES: Flags = Flags::WRITE.and(Flags::BLOCKING);
const MOVES: Flags = REMOVES.and(Flags::DENY_OOM);
const REMOVES_SEEN: &str = "both regions may return the same element; it is removed once";

/// All but the timeout, which comes last.
const BUT_LAST: Keys = Keys::Range {
    first: 1,
    last: -2,
    step: 1,
};
const AFTER_TIMEOUT: Keys = Keys::Counted {
    count: 2,
    target: None,
};

pub(super) const COMMANDS: &[Command] = &[
    row(
        ("BLPOP", -3, BUT_LAST),
        REMOVES,
        "Takes from the head, or waits.",
        blpop,
    ),
    row(
        ("BRPOP", -3, BUT_LAST),
        REMOVES,
        "Takes from the tail, or waits.",
        brpop,
    ),
    row(
        ("BLMOVE", 6, Keys::TWO),
        MOVES,
        "Moves an element, or waits.",
        blmove,
    ),
    row(
        ("BRPOPLPUSH", 4, Keys::TWO),
        MOVES,
        "Moves the tail to another head, or waits.",
        brpoplpush,
    ),
    row(
        ("BLMPOP", -5, AFTER_TIMEOUT),
        REMOVES.and(Flags::MOVABLE),
        "Takes from the first list that has elements, or waits.",
        blmpop,
    ),
];

type Handler = fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Result<Wait, CommandError>;

const fn row(
    (name, arity, keys): (&'static str, i32, Keys),
    flags: Flags,
    summary: &'static str,
    run: Handler,
) -> Command {
    Command {
        name,
        arity,
        keys,
        flags,
        group: "list",
        summary,
        conflict: REMOVES_SEEN,
        run: Run::Wait(run),
    }
}

fn pop(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    end: End,
) -> Result<Wait, CommandError> {
    let names = args.take(args.remaining().saturating_sub(1))?;
    for name in names {
        let key = txn.key(name);
        let taken = take(txn, reply, (&key, end, 1), |reply, _| {
            reply.array(2);
            reply.bulk(name);
        });
        if taken? {
            return Ok(Wait::Done);
        }
    }
    Ok(Wait::Block)
}

fn blpop(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    pop(txn, args, reply, End::Head)
}

fn brpop(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    pop(txn, args, reply, End::Tail)
}

/// Replies the element that was moved, if one was.
fn moved(value: Option<&[u8]>, reply: &mut Reply<'_>) -> Wait {
    match value {
        Some(value) => {
            reply.bulk(value);
            Wait::Done
        }
        None => Wait::Block,
    }
}

fn blmove(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    let (source, target) = (txn.key(args.next()?), txn.key(args.next()?));
    let (from, to) = (end_of(args)?, end_of(args)?);
    let value = move_one(txn, (&source, from), (&target, to))?;
    Ok(moved(value.as_deref(), reply))
}

fn brpoplpush(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    let (source, target) = (txn.key(args.next()?), txn.key(args.next()?));
    let value = move_one(txn, (&source, End::Tail), (&target, End::Head))?;
    Ok(moved(value.as_deref(), reply))
}

fn blmpop(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    args.next()?;
    Ok(if take_first(txn, args, reply)? {
        Wait::Done
    } else {
        Wait::Block
    })
}

/// Takes elements from the first of several lists that has any, as `LMPOP` is asked to. Returns
/// whether one did, and has replied then.
pub(super) fn take_first(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<bool, CommandError> {
    let names = args.counted_keys()?;
    let end = end_of(args)?;
    let mut count = 1;
    if args.token_is("COUNT") {
        count = args.at_least(1, "ERR count should be greater than 0")?;
    }
    args.done()?;
    for name in names {
        let key = txn.key(name);
        let taken = take(txn, reply, (&key, end, count), |reply, taken| {
            reply.array(2);
            reply.bulk(name);
            reply.array(taken);
        });
        if taken? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn what_is_there_is_taken_at_once() {
        check(&[
            ("BLPOP a b 0", "BLOCK"),
            ("RPUSH b 1 2 3 4", ":4"),
            ("BLPOP a b 0", "[b 1]"),
            ("BRPOP a b 0", "[b 4]"),
            ("BLMPOP 0 2 a b LEFT", "[b [2]]"),
            ("BLMPOP 0 1 a RIGHT COUNT 2", "BLOCK"),
            ("BLMOVE b a LEFT RIGHT 0", "3"),
            ("BLMOVE b a LEFT RIGHT 0", "BLOCK"),
            ("BRPOPLPUSH a b 0", "3"),
            ("LRANGE b 0 -1", "[3]"),
            ("EXISTS a", ":0"),
            ("SET s x", "OK"),
            (
                "BLPOP s b 0",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }
}
