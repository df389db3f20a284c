//! Taking members out of either end of a sorted set, at once or by waiting for one.

use super::super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, Wait};
use super::{reply_members, row};
use crate::resp::Protocol;
use crate::shard::Txn;

const TAKES: Flags = Flags::WRITE.and(Flags::FAST);
const WAITS: Flags = TAKES.and(Flags::BLOCKING);
const POPPED: &str = "both regions may return the same member; it is removed once";

const BUT_LAST: Keys = Keys::Range {
    first: 1,
    last: -2,
    step: 1,
};

pub(in crate::command) const COMMANDS: &[Command] = &[
    row(
        ("ZPOPMIN", -2),
        TAKES,
        POPPED,
        "Takes the lowest members.",
        zpopmin,
    ),
    row(
        ("ZPOPMAX", -2),
        TAKES,
        POPPED,
        "Takes the highest members.",
        zpopmax,
    ),
    Command {
        keys: Keys::Counted {
            count: 1,
            target: None,
        },
        ..row(
            ("ZMPOP", -4),
            Flags::WRITE.and(Flags::MOVABLE),
            POPPED,
            "Takes from the first sorted set that has members.",
            zmpop,
        )
    },
    wait(
        ("BZPOPMIN", -3, BUT_LAST),
        WAITS,
        "Takes the lowest member, or waits.",
        bzpopmin,
    ),
    wait(
        ("BZPOPMAX", -3, BUT_LAST),
        WAITS,
        "Takes the highest member, or waits.",
        bzpopmax,
    ),
    wait(
        (
            "BZMPOP",
            -5,
            Keys::Counted {
                count: 2,
                target: None,
            },
        ),
        Flags::WRITE.and(Flags::BLOCKING).and(Flags::MOVABLE),
        "Takes from the first sorted set that has members, or waits.",
        bzmpop,
    ),
];

const fn wait(
    (name, arity, keys): (&'static str, i32, Keys),
    flags: Flags,
    summary: &'static str,
    run: fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Result<Wait, CommandError>,
) -> Command {
    Command {
        name,
        arity,
        keys,
        flags,
        group: "sorted-set",
        summary,
        conflict: POPPED,
        run: Run::Wait(run),
    }
}

/// An end of a sorted set.
#[derive(Clone, Copy, Debug)]
enum Side {
    Min,
    Max,
}

/// Takes up to `count` members out of an end; the outermost comes first.
fn take(
    txn: &mut Txn<'_>,
    name: &[u8],
    side: Side,
    count: usize,
) -> Result<Vec<(Vec<u8>, f64)>, CommandError> {
    let key = txn.key(name);
    let Some(zset) = txn.sorted_set(&key)? else {
        return Ok(Vec::new());
    };
    let length = zset.len();
    let count = count.min(length);
    let own = |(name, score): (&[u8], f64)| (name.to_vec(), score);
    let taken: Vec<(Vec<u8>, f64)> = match side {
        Side::Min => zset.range(0..count).map(own).collect(),
        Side::Max => zset.range(length - count..length).rev().map(own).collect(),
    };
    for (member, _) in &taken {
        txn.zset_remove(&key, member);
    }
    Ok(taken)
}

fn pop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, side: Side) -> Outcome {
    let name = args.next()?;
    if 1 < args.remaining() {
        return Err(CommandError::Syntax);
    }
    let count = if args.is_empty() {
        None
    } else {
        Some(args.count()?)
    };
    let taken = take(txn, name, side, count.unwrap_or(1))?;
    if count.is_none() && reply.protocol() == Protocol::Resp3 {
        // Without a count there are no pairs: the one member and its score are the array.
        reply.array(taken.len() * 2);
        for (member, score) in &taken {
            reply.bulk(member);
            reply.double(*score);
        }
    } else {
        reply_members(reply, &taken, true);
    }
    Ok(())
}

fn zpopmin(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(txn, args, reply, Side::Min)
}

fn zpopmax(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(txn, args, reply, Side::Max)
}

/// Takes members from the first of several sorted sets that has any, as `ZMPOP` is asked to.
/// Returns whether one did, and has replied then.
fn take_first(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<bool, CommandError> {
    let names = args.counted_keys()?;
    let side = if args.token_is("MIN") {
        Side::Min
    } else if args.token_is("MAX") {
        Side::Max
    } else {
        return Err(CommandError::Syntax);
    };
    let mut count = 1;
    if args.token_is("COUNT") {
        count = args.at_least(1, "ERR count should be greater than 0")?;
    }
    args.done()?;
    for name in names {
        let taken = take(txn, name, side, count)?;
        if !taken.is_empty() {
            reply.array(2);
            reply.bulk(name);
            reply.array(taken.len());
            for (member, score) in &taken {
                reply.array(2);
                reply.bulk(member);
                reply.double(*score);
            }
            return Ok(true);
        }
    }
    Ok(false)
}

fn zmpop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !take_first(txn, args, reply)? {
        reply.null_array();
    }
    Ok(())
}

fn pop_or_wait(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    side: Side,
) -> Result<Wait, CommandError> {
    let names = args.take(args.remaining().saturating_sub(1))?;
    for name in names {
        if let Some((member, score)) = take(txn, name, side, 1)?.pop() {
            reply.array(3);
            reply.bulk(name);
            reply.bulk(&member);
            reply.double(score);
            return Ok(Wait::Done);
        }
    }
    Ok(Wait::Block)
}

fn bzpopmin(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    pop_or_wait(txn, args, reply, Side::Min)
}

fn bzpopmax(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Wait, CommandError> {
    pop_or_wait(txn, args, reply, Side::Max)
}

fn bzmpop(
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

#[cfg(test)]
mod tests {
    use super::super::super::testing::check;

    #[test]
    fn members_are_taken_from_the_ends() {
        check(&[
            ("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5"),
            ("ZPOPMIN z", "[a 1]"),
            ("ZPOPMAX z 2", "[e 5 d 4]"),
            ("ZPOPMIN z 0", "[]"),
            (
                "ZPOPMIN z -1",
                "-ERR value is out of range, must be positive",
            ),
            ("ZPOPMIN z 1 2", "-ERR syntax error"),
            ("ZMPOP 2 x z MIN", "[z [[b 2]]]"),
            ("BZPOPMAX x z 0", "[z c 3]"),
            ("EXISTS z", ":0"),
            ("ZPOPMIN z", "[]"),
            ("ZMPOP 1 z MAX COUNT 2", "nil"),
            ("BZPOPMIN x z 0", "BLOCK"),
            ("BZMPOP 0 1 z MIN", "BLOCK"),
            ("ZADD z 1 a 2 b", ":2"),
            ("BZMPOP 0 1 z MAX COUNT 9", "[z [[b 2] [a 1]]]"),
            ("ZMPOP 0 z MIN", "-ERR numkeys should be greater than 0"),
            ("ZMPOP 1 z LEFT", "-ERR syntax error"),
        ]);
    }
}
