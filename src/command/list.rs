//! Lists. Elements that regions push at the same time are all kept, each region's in its order.

use std::ops::Range;

use crdt::{End, Key};

use super::list_wait::take_first;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::shard::Txn;

const READ: Flags = Flags::READ;
const WRITES: Flags = Flags::WRITE.and(Flags::DENY_OOM);
const PUSHES: Flags = WRITES.and(Flags::FAST);
const POPS: Flags = Flags::WRITE.and(Flags::FAST);
const REMOVES: Flags = Flags::WRITE;
const BOTH_STAY: &str = "elements of both regions are kept";
const REMOVES_SEEN: &str = "removes the elements it had seen; each is removed once";
const LATEST: &str = "the latest write of an element is read, if nobody removed it";

pub(super) const COMMANDS: &[Command] = &[
    row(("LPUSH", -3), PUSHES, BOTH_STAY, "Adds at the head.", lpush),
    row(("RPUSH", -3), PUSHES, BOTH_STAY, "Adds at the tail.", rpush),
    row(
        ("LPUSHX", -3),
        PUSHES,
        BOTH_STAY,
        "Adds at the head of a list that exists.",
        lpushx,
    ),
    row(
        ("RPUSHX", -3),
        PUSHES,
        BOTH_STAY,
        "Adds at the tail of a list that exists.",
        rpushx,
    ),
    row(
        ("LPOP", -2),
        POPS,
        REMOVES_SEEN,
        "Takes from the head.",
        lpop,
    ),
    row(
        ("RPOP", -2),
        POPS,
        REMOVES_SEEN,
        "Takes from the tail.",
        rpop,
    ),
    row(
        ("LLEN", 2),
        READ.and(Flags::FAST),
        "",
        "How many elements there are.",
        llen,
    ),
    row(("LINDEX", 3), READ, "", "The element at a rank.", lindex),
    row(("LRANGE", 4), READ, "", "Elements by rank.", lrange),
    row(("LPOS", -3), READ, "", "Where elements are.", lpos),
    row(
        ("LINSERT", 5),
        WRITES,
        BOTH_STAY,
        "Adds next to an element.",
        linsert,
    ),
    row(("LSET", 4), WRITES, LATEST, "Sets an element.", lset),
    row(
        ("LREM", 4),
        REMOVES,
        REMOVES_SEEN,
        "Removes equal elements.",
        lrem,
    ),
    row(("LTRIM", 4), REMOVES, REMOVES_SEEN, "Keeps a range.", ltrim),
    Command {
        keys: Keys::TWO,
        ..row(
            ("LMOVE", 5),
            WRITES,
            REMOVES_SEEN,
            "Moves an element between ends of lists.",
            lmove,
        )
    },
    Command {
        keys: Keys::TWO,
        ..row(
            ("RPOPLPUSH", 3),
            WRITES,
            REMOVES_SEEN,
            "Moves the tail to the head of another list.",
            rpoplpush,
        )
    },
    Command {
        keys: Keys::Counted {
            count: 1,
            target: None,
        },
        ..row(
            ("LMPOP", -4),
            REMOVES.and(Flags::MOVABLE),
            REMOVES_SEEN,
            "Takes from the first list that has elements.",
            lmpop,
        )
    },
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
        group: "list",
        summary,
        conflict,
        run: Run::Shard(run),
    }
}

fn length_of(txn: &Txn<'_>, key: &Key<'_>) -> Result<usize, CommandError> {
    Ok(txn.list(key)?.map_or(0, |list| list.len()))
}

fn push(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (end, only_existing): (End, bool),
) -> Outcome {
    let key = txn.key(args.next()?);
    if only_existing && txn.list(&key)?.is_none() {
        reply.int(0);
        return Ok(());
    }
    reply.count(txn.list_push(&key, end, args.rest())?);
    Ok(())
}

fn lpush(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(txn, args, reply, (End::Head, false))
}

fn rpush(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(txn, args, reply, (End::Tail, false))
}

fn lpushx(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(txn, args, reply, (End::Head, true))
}

fn rpushx(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    push(txn, args, reply, (End::Tail, true))
}

/// Takes up to `count` elements out of an end, and replies them, the one next to the end first;
/// `open` is told how many, and replies what comes before. Returns whether there is a list.
pub(super) fn take(
    txn: &mut Txn<'_>,
    reply: &mut Reply<'_>,
    (key, end, count): (&Key<'_>, End, usize),
    open: impl FnOnce(&mut Reply<'_>, usize),
) -> Result<bool, CommandError> {
    let Some(list) = txn.list(key)? else {
        return Ok(false);
    };
    let length = list.len();
    let count = count.min(length);
    let ranks = match end {
        End::Head => 0..count,
        End::Tail => length - count..length,
    };
    open(reply, count);
    // Queues are taken from one by one.
    if count == 1
        && let Some((element, at)) = list.element(ranks.start)
    {
        reply.bulk(element);
        txn.list_remove_span(key, (at.clone(), at));
        return Ok(true);
    }
    let elements = list.range(ranks.clone());
    match end {
        End::Head => elements.for_each(|element| reply.bulk(element)),
        End::Tail => elements.rev().for_each(|element| reply.bulk(element)),
    }
    if let Some(span) = list.span(ranks) {
        txn.list_remove_span(key, span);
    }
    Ok(true)
}

fn pop(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (end, name): (End, &'static str),
) -> Outcome {
    let key = txn.key(args.next()?);
    if 1 < args.remaining() {
        return Err(CommandError::WrongArity(name.into()));
    }
    if args.is_empty() {
        if !take(txn, reply, (&key, end, 1), |_, _| ())? {
            reply.null();
        }
        return Ok(());
    }
    let count = args.count()?;
    if !take(txn, reply, (&key, end, count), |reply, taken| {
        reply.array(taken);
    })? {
        reply.null_array();
    }
    Ok(())
}

fn lpop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(txn, args, reply, (End::Head, "lpop"))
}

fn rpop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    pop(txn, args, reply, (End::Tail, "rpop"))
}

fn llen(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.count(length_of(txn, &key)?);
    Ok(())
}

/// The rank that an index means, which counts from the end if negative.
fn rank_of(index: i64, length: usize) -> Option<usize> {
    let rank = if index < 0 {
        index + length as i64
    } else {
        index
    };
    usize::try_from(rank).ok().filter(|&rank| rank < length)
}

/// The ranks from `start` to `end`, both included and counted from the end if negative.
pub(super) fn ranks_of(start: i64, end: i64, length: usize) -> Range<usize> {
    let from_end = |at: i64| if at < 0 { at + length as i64 } else { at };
    let start = from_end(start).max(0);
    let end = from_end(end).saturating_add(1).min(length as i64);
    if end <= start {
        0..0
    } else {
        start as usize..end as usize
    }
}

fn lindex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let Some(list) = txn.list(&key)? else {
        reply.null();
        return Ok(());
    };
    let rank = rank_of(args.int()?, list.len());
    reply.bulk_or_null(rank.and_then(|rank| list.get(rank)));
    Ok(())
}

fn lrange(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (start, end) = (args.int()?, args.int()?);
    let Some(list) = txn.list(&key)? else {
        reply.array(0);
        return Ok(());
    };
    let ranks = ranks_of(start, end, list.len());
    reply.array(ranks.len());
    list.range(ranks).for_each(|element| reply.bulk(element));
    Ok(())
}

fn lpos(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, element) = (txn.key(args.next()?), args.next()?);
    let (mut first, mut count, mut limit) = (1_i64, None, 0);
    while !args.is_empty() {
        if args.token_is("RANK") {
            first = args.int()?;
            if first == i64::MIN {
                return Err(CommandError::text(
                    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                ));
            }
            if first == 0 {
                return Err(CommandError::text(
                    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list",
                ));
            }
        } else if args.token_is("COUNT") {
            count = Some(args.at_least(0, "ERR COUNT can't be negative")?);
        } else if args.token_is("MAXLEN") {
            limit = args.at_least(0, "ERR MAXLEN can't be negative")?;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let unlimited = |n: usize| if n == 0 { usize::MAX } else { n };
    let (wanted, limit) = (count.map_or(1, unlimited), unlimited(limit));
    let skip = (first.unsigned_abs() - 1) as usize;
    let found: Vec<usize> = txn.list(&key)?.map_or_else(Vec::new, |list| {
        let length = list.len();
        let matches = |(_, other): &(usize, &[u8])| *other == element;
        let all = list.range(0..length);
        if first < 0 {
            let all = all.rev().enumerate().take(limit).filter(matches);
            let ranks = all.map(|(at, _)| length - 1 - at);
            ranks.skip(skip).take(wanted).collect()
        } else {
            let all = all.enumerate().take(limit).filter(matches);
            all.map(|(at, _)| at).skip(skip).take(wanted).collect()
        }
    });
    match (count, found.first().copied()) {
        (Some(_), _) => {
            reply.array(found.len());
            for rank in found {
                reply.count(rank);
            }
        }
        (None, Some(rank)) => reply.count(rank),
        (None, None) => reply.null(),
    }
    Ok(())
}

fn linsert(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let after = if args.token_is("AFTER") {
        1
    } else if args.token_is("BEFORE") {
        0
    } else {
        return Err(CommandError::Syntax);
    };
    let (pivot, value) = (args.next()?, args.next()?);
    let Some(list) = txn.list(&key)? else {
        reply.int(0);
        return Ok(());
    };
    let length = list.len();
    let Some(rank) = list.range(0..length).position(|element| element == pivot) else {
        reply.int(-1);
        return Ok(());
    };
    txn.list_insert(&key, rank + after, value)?;
    reply.count(length + 1);
    Ok(())
}

fn lset(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let length = txn.list(&key)?.ok_or(CommandError::NoSuchKey)?.len();
    let rank = rank_of(args.int()?, length).ok_or(CommandError::IndexOutOfRange)?;
    txn.list_set(&key, rank, args.next()?);
    reply.ok();
    Ok(())
}

fn lrem(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (count, element) = (args.int()?, args.next()?);
    let limit = if count == 0 {
        usize::MAX
    } else {
        count.unsigned_abs() as usize
    };
    let mut found: Vec<usize> = txn.list(&key)?.map_or_else(Vec::new, |list| {
        let length = list.len();
        let matches = |(_, other): &(usize, &[u8])| *other == element;
        let all = list.range(0..length);
        if count < 0 {
            let all = all.rev().enumerate().filter(matches);
            all.map(|(at, _)| length - 1 - at).take(limit).collect()
        } else {
            let all = all.enumerate().filter(matches);
            all.map(|(at, _)| at).take(limit).collect()
        }
    });
    // From the last to the first, so that the ranks of those to come stay what they are.
    found.sort_unstable();
    for run in found.chunk_by(|a, b| a + 1 == *b).rev() {
        txn.list_remove(&key, run[0]..run[0] + run.len());
    }
    reply.count(found.len());
    Ok(())
}

fn ltrim(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (start, end) = (args.int()?, args.int()?);
    let length = length_of(txn, &key)?;
    let kept = ranks_of(start, end, length);
    txn.list_remove(&key, kept.end..length);
    txn.list_remove(&key, 0..kept.start);
    reply.ok();
    Ok(())
}

/// Takes an end of a list from the arguments.
pub(super) fn end_of(args: &mut Args<'_>) -> Result<End, CommandError> {
    if args.token_is("LEFT") {
        Ok(End::Head)
    } else if args.token_is("RIGHT") {
        Ok(End::Tail)
    } else {
        Err(CommandError::Syntax)
    }
}

/// Moves an element. It is pushed before it is taken, so that a list of one that is rotated stays
/// the same list.
pub(super) fn move_one(
    txn: &mut Txn<'_>,
    (source, from): (&Key<'_>, End),
    (target, to): (&Key<'_>, End),
) -> Result<Option<Vec<u8>>, CommandError> {
    let Some(list) = txn.list(source)? else {
        return Ok(None);
    };
    let rank = match from {
        End::Head => 0,
        End::Tail => list.len() - 1,
    };
    let value = list.get(rank).map(<[u8]>::to_vec);
    if let Some(value) = &value {
        txn.list_push(target, to, &[value])?;
        let pushed_before = source.name == target.name && matches!(to, End::Head);
        let rank = rank + usize::from(pushed_before);
        txn.list_remove(source, rank..rank + 1);
    }
    Ok(value)
}

fn lmove(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (source, target) = (txn.key(args.next()?), txn.key(args.next()?));
    let (from, to) = (end_of(args)?, end_of(args)?);
    reply.bulk_or_null(move_one(txn, (&source, from), (&target, to))?.as_deref());
    Ok(())
}

fn rpoplpush(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (source, target) = (txn.key(args.next()?), txn.key(args.next()?));
    let moved = move_one(txn, (&source, End::Tail), (&target, End::Head))?;
    reply.bulk_or_null(moved.as_deref());
    Ok(())
}

fn lmpop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !take_first(txn, args, reply)? {
        reply.null_array();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn elements_come_and_go() {
        check(&[
            ("LPUSHX l a", ":0"),
            ("RPUSH l a b c", ":3"),
            ("LPUSH l y z", ":5"),
            ("RPUSHX l d", ":6"),
            ("LRANGE l 0 -1", "[z y a b c d]"),
            ("LRANGE l -2 99", "[c d]"),
            ("LRANGE l 3 1", "[]"),
            ("LINDEX l 0", "z"),
            ("LINDEX l -1", "d"),
            ("LINDEX l 6", "nil"),
            ("LINDEX l -7", "nil"),
            ("LPOP l", "z"),
            ("RPOP l 2", "[d c]"),
            ("LPOP l 0", "[]"),
            ("LLEN l", ":3"),
            ("LPOP l 99", "[y a b]"),
            ("EXISTS l", ":0"),
            ("LPOP l", "nil"),
            ("LPOP l 2", "nil"),
            ("LPOP l -1", "-ERR value is out of range, must be positive"),
            (
                "LPOP l 1 2",
                "-ERR wrong number of arguments for 'lpop' command",
            ),
            ("SET s x", "OK"),
            ("LPUSH s a", WRONG_TYPE),
            ("LPOP s", WRONG_TYPE),
        ]);
    }

    #[test]
    fn elements_are_found_and_changed() {
        check(&[
            ("RPUSH l a b c b a", ":5"),
            ("LPOS l b", ":1"),
            ("LPOS l b RANK 2", ":3"),
            ("LPOS l b RANK -1", ":3"),
            ("LPOS l a COUNT 0", "[:0 :4]"),
            ("LPOS l a RANK -1 COUNT 2", "[:4 :0]"),
            ("LPOS l b COUNT 0 MAXLEN 2", "[:1]"),
            ("LPOS l x", "nil"),
            ("LPOS l x COUNT 1", "[]"),
            ("LPOS l b COUNT -1", "-ERR COUNT can't be negative"),
            ("LINSERT l BEFORE c x", ":6"),
            ("LINSERT l AFTER c y", ":7"),
            ("LINSERT l AFTER none y", ":-1"),
            ("LINSERT none AFTER c y", ":0"),
            ("LINSERT l NEAR c y", "-ERR syntax error"),
            ("LRANGE l 0 -1", "[a b x c y b a]"),
            ("LSET l 0 A", "OK"),
            ("LSET l -1 Z", "OK"),
            ("LSET l 7 Z", "-ERR index out of range"),
            ("LSET none 0 Z", "-ERR no such key"),
            ("LREM l 0 b", ":2"),
            ("LRANGE l 0 -1", "[A x c y Z]"),
            ("LTRIM l 1 -2", "OK"),
            ("LRANGE l 0 -1", "[x c y]"),
            ("LTRIM l 5 9", "OK"),
            ("EXISTS l", ":0"),
            ("RPUSH l 1 1 2 1 1", ":5"),
            ("LREM l -1 1", ":1"),
            ("LREM l 2 1", ":2"),
            ("LRANGE l 0 -1", "[2 1]"),
        ]);
    }

    #[test]
    fn elements_move() {
        check(&[
            ("RPUSH l a b c", ":3"),
            ("LMOVE l l LEFT RIGHT", "a"),
            ("LRANGE l 0 -1", "[b c a]"),
            ("LMOVE l l RIGHT LEFT", "a"),
            ("LMOVE l l LEFT LEFT", "a"),
            ("LMOVE l l RIGHT RIGHT", "c"),
            ("LRANGE l 0 -1", "[a b c]"),
            ("RPOPLPUSH l m", "c"),
            ("LMOVE l m RIGHT RIGHT", "b"),
            ("LRANGE m 0 -1", "[c b]"),
            ("RPOPLPUSH l m", "a"),
            ("EXISTS l", ":0"),
            ("RPOPLPUSH l m", "nil"),
            ("LMOVE l m LEFT UP", "-ERR syntax error"),
            ("LMPOP 2 l m LEFT COUNT 2", "[m [a c]]"),
            ("LMPOP 2 l m RIGHT", "[m [b]]"),
            ("LMPOP 2 l m RIGHT", "nil"),
            ("LMPOP 0 l LEFT", "-ERR numkeys should be greater than 0"),
            ("LMPOP 9 l LEFT", "-ERR syntax error"),
            (
                "LMPOP 1 l LEFT COUNT 0",
                "-ERR count should be greater than 0",
            ),
            ("SET s x", "OK"),
            ("RPUSH l a", ":1"),
            ("LMOVE l s LEFT LEFT", WRONG_TYPE),
            ("LRANGE l 0 -1", "[a]"),
        ]);
    }
}
