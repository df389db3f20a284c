//! Sorted sets. The latest score of a member is read, increments of all regions add up, and a
//! member that is added while another region removes it stays.

pub(super) mod pop;
pub(super) mod range;
pub(super) mod store;

use crdt::{Key, SortedSet};

use super::number::format_double;
use super::pick::{Among, Amount};
use super::scan::{self, Walk};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::resp::Protocol;
use crate::shard::Txn;

const READ: Flags = Flags::READ.and(Flags::FAST);
const ADDS: Flags = Flags::WRITE.and(Flags::DENY_OOM).and(Flags::FAST);
const REMOVES: Flags = Flags::WRITE.and(Flags::FAST);
const ADD_WINS: &str = "the latest score is read, increments add up, an add survives a removal";

pub(super) const COMMANDS: &[Command] = &[
    row(("ZADD", -4), ADDS, ADD_WINS, "Sets scores.", zadd),
    row(("ZINCRBY", 4), ADDS, ADD_WINS, "Adds to a score.", zincrby),
    row(("ZREM", -3), REMOVES, ADD_WINS, "Removes members.", zrem),
    row(("ZCARD", 2), READ, "", "How many members there are.", zcard),
    row(("ZSCORE", 3), READ, "", "The score of a member.", zscore),
    row(("ZMSCORE", -3), READ, "", "The scores of members.", zmscore),
    row(("ZRANK", -3), READ, "", "The rank of a member.", zrank),
    row(
        ("ZREVRANK", -3),
        READ,
        "",
        "The rank of a member from the end.",
        zrevrank,
    ),
    row(
        ("ZRANDMEMBER", -2),
        Flags::READ,
        "",
        "Members at random.",
        zrandmember,
    ),
    row(
        ("ZSCAN", -3),
        Flags::READ,
        "",
        "Walks members in steps.",
        zscan,
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
        group: "sorted-set",
        summary,
        conflict,
        run: Run::Shard(run),
    }
}

/// The options of `ZADD`.
#[derive(Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the command"
)]
struct AddOptions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
    changed: bool,
    increment: bool,
}

impl AddOptions {
    fn take(args: &mut Args<'_>) -> Self {
        let mut options = Self::default();
        loop {
            let tokens: [(&str, &mut bool); 6] = [
                ("NX", &mut options.nx),
                ("XX", &mut options.xx),
                ("GT", &mut options.gt),
                ("LT", &mut options.lt),
                ("CH", &mut options.changed),
                ("INCR", &mut options.increment),
            ];
            let mut taken = false;
            for (token, set) in tokens {
                if args.token_is(token) {
                    (*set, taken) = (true, true);
                    break;
                }
            }
            if !taken {
                return options;
            }
        }
    }

    fn check(self, pairs: usize) -> Outcome {
        let line = if self.nx && self.xx {
            "ERR XX and NX options at the same time are not compatible"
        } else if 1 < [self.gt, self.lt, self.nx]
            .into_iter()
            .filter(|&set| set)
            .count()
        {
            "ERR GT, LT, and/or NX options at the same time are not compatible"
        } else if self.increment && 1 < pairs {
            "ERR INCR option supports a single increment-element pair"
        } else {
            return Ok(());
        };
        Err(CommandError::text(line))
    }

    /// Whether a score may replace the one that is there.
    fn allow(self, old: Option<f64>, new: f64) -> bool {
        match old {
            None => !self.xx,
            Some(old) => !(self.nx || (self.gt && new <= old) || (self.lt && old <= new)),
        }
    }
}

fn score_of(txn: &Txn<'_>, key: &Key<'_>, member: &[u8]) -> Result<Option<f64>, CommandError> {
    Ok(txn.sorted_set(key)?.and_then(|zset| zset.score(member)))
}

fn zadd(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let options = AddOptions::take(args);
    let (pairs, rest) = args.rest().as_chunks::<2>();
    if pairs.is_empty() || !rest.is_empty() {
        return Err(CommandError::Syntax);
    }
    options.check(pairs.len())?;
    let parse = |text| super::number::parse_f64(text).ok_or(CommandError::NotAFloat);
    let scores: Result<Vec<f64>, CommandError> = pairs
        .iter()
        .map(|[score, _]| parse(score).map(unsigned_zero))
        .collect();
    let scores = scores?;
    if options.increment {
        let score = increment(txn, &key, pairs[0][1], scores[0], options)?;
        reply_score(reply, score);
        return Ok(());
    }
    let (mut added, mut changed) = (0, 0);
    for ([_, member], score) in pairs.iter().zip(scores) {
        let seen = txn.zset_look(&key, member)?;
        let old = seen.1.score;
        if options.allow(old, score) {
            txn.zset_put(&key, member, score, seen);
            added += usize::from(old.is_none());
            changed += usize::from(old.is_some_and(|old| old < score || score < old));
        }
    }
    reply.count(added + if options.changed { changed } else { 0 });
    Ok(())
}

/// A score as it is kept: zero has no sign, as in the small sorted sets of Redis.
const fn unsigned_zero(score: f64) -> f64 {
    if score == 0.0 { 0.0 } else { score }
}

/// Adds to a score. Returns the new one, unless the options forbid it.
fn increment(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    member: &[u8],
    by: f64,
    options: AddOptions,
) -> Result<Option<f64>, CommandError> {
    let old = score_of(txn, key, member)?;
    let wanted = old.unwrap_or(0.0) + by;
    if wanted.is_nan() {
        return Err(CommandError::ScoreIsNan);
    }
    if !options.allow(old, wanted) {
        return Ok(None);
    }
    // Infinity cannot be told from what was added to it.
    if !wanted.is_finite() || !by.is_finite() {
        txn.zset_set(key, member, wanted);
        return Ok(Some(wanted));
    }
    Ok(Some(txn.zset_add(key, member, by)))
}

fn zincrby(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (by, member) = (args.float()?, args.next()?);
    let score = increment(txn, &key, member, by, AddOptions::default())?;
    reply.double(score.unwrap_or(by));
    Ok(())
}

fn zrem(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let found = txn.sorted_set(&key)?.is_some();
    let members = if found { args.rest() } else { &[] };
    let removed = members
        .iter()
        .filter(|member| txn.zset_remove(&key, member));
    reply.count(removed.count());
    Ok(())
}

fn zcard(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.count(txn.sorted_set(&key)?.map_or(0, |zset| zset.len()));
    Ok(())
}

fn reply_score(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

fn zscore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, member) = (txn.key(args.next()?), args.next()?);
    reply_score(reply, score_of(txn, &key, member)?);
    Ok(())
}

fn zmscore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let zset = txn.sorted_set(&key)?;
    reply.array(args.remaining());
    for member in args.rest() {
        reply_score(reply, zset.and_then(|zset| zset.score(member)));
    }
    Ok(())
}

fn rank(
    txn: &Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (name, reverse): (&'static str, bool),
) -> Outcome {
    let (key, member) = (txn.key(args.next()?), args.next()?);
    if 1 < args.remaining() {
        return Err(CommandError::WrongArity(name.into()));
    }
    let with_score = !args.is_empty();
    if with_score && !args.token_is("WITHSCORE") {
        return Err(CommandError::Syntax);
    }
    let found = txn.sorted_set(&key)?.and_then(|zset| {
        let rank = zset.rank(member)?;
        let rank = if reverse { zset.len() - 1 - rank } else { rank };
        Some((rank, zset.score(member)?))
    });
    match found {
        Some((rank, score)) => {
            if with_score {
                reply.array(2);
            }
            reply.count(rank);
            if with_score {
                reply.double(score);
            }
        }
        None if with_score => reply.null_array(),
        None => reply.null(),
    }
    Ok(())
}

fn zrank(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    rank(txn, args, reply, ("zrank", false))
}

fn zrevrank(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    rank(txn, args, reply, ("zrevrank", true))
}

/// Replies members, with their scores if asked for: in RESP3 each pair is an array.
fn reply_members(reply: &mut Reply<'_>, members: &[(impl AsRef<[u8]>, f64)], with_scores: bool) {
    open_members(reply, members.len(), with_scores);
    for (member, score) in members {
        reply_member(reply, member.as_ref(), with_scores.then_some(*score));
    }
}

/// Begins a reply of so many members.
fn open_members(reply: &mut Reply<'_>, count: usize, with_scores: bool) {
    let flat = with_scores && reply.protocol() == Protocol::Resp2;
    reply.array(if flat { 2 * count } else { count });
}

fn reply_member(reply: &mut Reply<'_>, member: &[u8], score: Option<f64>) {
    if score.is_some() && reply.protocol() == Protocol::Resp3 {
        reply.array(2);
    }
    reply.bulk(member);
    if let Some(score) = score {
        reply.double(score);
    }
}

fn zrandmember(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let mut amount = None;
    let mut with_scores = false;
    if !args.is_empty() {
        let mut wanted = Amount::take(args)?;
        if !args.is_empty() {
            if !args.token_is("WITHSCORES") {
                return Err(CommandError::Syntax);
            }
            args.done()?;
            with_scores = true;
            wanted = wanted.with_values()?;
        }
        amount = Some(wanted);
    }
    let mut chance = txn.random().fork();
    let zset = txn.sorted_set(&key)?;
    let Some(amount) = amount else {
        let picked = zset.and_then(|zset| zset.random(&mut |n| chance.u64(0..n)));
        reply.bulk_or_null(picked.map(|(member, _)| member));
        return Ok(());
    };
    let Some(zset) = zset else {
        reply.array(0);
        return Ok(());
    };
    let among = Among {
        length: zset.len(),
        all: all(&zset),
        chance: &mut chance,
    };
    amount.reply(
        reply,
        among,
        |chance| zset.random(&mut |n| chance.u64(0..n)),
        |reply, count| open_members(reply, count, with_scores),
        |reply, member, score| reply_member(reply, member, with_scores.then_some(score)),
    );
    Ok(())
}

/// All members, in order.
fn all<'a>(zset: &SortedSet<'a>) -> impl DoubleEndedIterator<Item = (&'a [u8], f64)> + use<'a> {
    zset.range(0..zset.len())
}

fn zscan(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let mut walk = Walk::start(args)?;
    let Some(zset) = txn.sorted_set(&key)? else {
        scan::open(reply, 0, 0);
        return Ok(());
    };
    walk.options(args, false)?;
    let (cursor, mut found) = zset.scan(walk.cursor, walk.step(zset.len()));
    found.retain(|(member, _)| walk.wants(member));
    scan::open(reply, cursor, found.len() * 2);
    for (member, score) in found {
        reply.bulk(member);
        reply.bulk(format_double(score).as_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, run, shard};

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const NOT_COMPATIBLE: &str =
        "-ERR GT, LT, and/or NX options at the same time are not compatible";

    #[test]
    fn members_come_and_go() {
        check(&[
            ("ZADD z 1 a 2 b 2.5 c", ":3"),
            ("ZADD z 3 a 2 b", ":0"),
            ("ZADD z CH 4 a 2 b 1 d", ":2"),
            ("ZCARD z", ":4"),
            ("ZSCORE z c", "2.5"),
            ("ZSCORE z x", "nil"),
            ("ZMSCORE z a x d", "[4 nil 1]"),
            ("ZMSCORE none a", "[nil]"),
            ("ZRANK z a", ":3"),
            ("ZREVRANK z a", ":0"),
            ("ZRANK z c WITHSCORE", "[:2 2.5]"),
            ("ZRANK z x", "nil"),
            ("ZRANK z x WITHSCORE", "nil"),
            ("ZRANK z x BAD", "-ERR syntax error"),
            (
                "ZRANK z x WITHSCORE y",
                "-ERR wrong number of arguments for 'zrank' command",
            ),
            ("ZREM z a b x", ":2"),
            ("ZREM z c d", ":2"),
            ("EXISTS z", ":0"),
            ("SET s x", "OK"),
            ("ZADD s 1 a", WRONG_TYPE),
            ("ZSCORE s a", WRONG_TYPE),
        ]);
    }

    #[test]
    fn conditions_hold() {
        check(&[
            ("ZADD z XX 1 a", ":0"),
            ("EXISTS z", ":0"),
            ("ZADD z NX 1 a", ":1"),
            ("ZADD z NX 2 a", ":0"),
            ("ZADD z GT CH 0 a", ":0"),
            ("ZADD z GT CH 5 a", ":1"),
            ("ZADD z LT CH 3 a 9 b", ":2"),
            ("ZADD z XX INCR 2 a", "5"),
            ("ZADD z NX INCR 2 a", "nil"),
            ("ZADD z GT INCR -1 a", "nil"),
            ("ZADD z INCR 1 n", "1"),
            (
                "ZADD z NX XX 1 a",
                "-ERR XX and NX options at the same time are not compatible",
            ),
            ("ZADD z GT LT 1 a", NOT_COMPATIBLE),
            ("ZADD z NX GT 1 a", NOT_COMPATIBLE),
            (
                "ZADD z INCR 1 a 2 b",
                "-ERR INCR option supports a single increment-element pair",
            ),
            ("ZADD z 1 a 2", "-ERR syntax error"),
            ("ZADD z NX CH", "-ERR syntax error"),
            ("ZADD z x a", "-ERR value is not a valid float"),
            ("ZADD z nan a", "-ERR value is not a valid float"),
        ]);
    }

    #[test]
    fn scores_add_up() {
        check(&[
            ("ZINCRBY z 1.5 a", "1.5"),
            ("ZINCRBY z 0.1 a", "1.6"),
            ("ZINCRBY z -1.6 a", "0"),
            ("ZINCRBY one 1 a", "1"),
            ("PEXPIRE one 5000", ":1"),
            ("ZADD one 7 a", ":0"),
            ("ZSCORE one a", "7"),
            ("PTTL one", ":5000"),
            ("ZADD z -0 zero", ":1"),
            ("ZSCORE z zero", "0"),
            ("ZINCRBY z inf a", "inf"),
            (
                "ZINCRBY z -inf a",
                "-ERR resulting score is not a number (NaN)",
            ),
            ("ZINCRBY z -5 a", "inf"),
            ("ZINCRBY z x a", "-ERR value is not a valid float"),
            // What was added is more than there is a double for.
            ("ZADD z -1.7e308 far", ":1"),
            ("ZINCRBY z 1.7e308 far", "0"),
            ("ZINCRBY z 1.7e308 far", "1.7e+308"),
            ("ZINCRBY z 1 far", "1.7e+308"),
        ]);
    }

    #[test]
    fn a_walk_finds_a_score_that_was_added_to_and_then_set() {
        let mut shard = shard();
        let names: Vec<String> = (0..500).map(|number| format!("m{number}")).collect();
        let add = names.join(" 1 ");
        let remove = names.join(" ");
        assert_eq!(run(&mut shard, &format!("ZADD z 1 {add}")), ":500");
        assert_eq!(run(&mut shard, "ZINCRBY z 1 x"), "1");
        let begun = run(&mut shard, "ZSCAN z 0 COUNT 10");
        assert!(begun.starts_with("[10 "), "{begun}");
        assert_eq!(run(&mut shard, &format!("ZREM z {remove}")), ":500");
        assert_eq!(run(&mut shard, "ZADD z 5 x"), ":0");
        assert_eq!(run(&mut shard, "ZSCAN z 10 COUNT 1000"), "[0 [x 5]]");
    }

    #[test]
    fn picks_at_random_and_walks() {
        check(&[
            ("ZRANDMEMBER z", "nil"),
            ("ZRANDMEMBER z 1", "[]"),
            ("ZADD z 1.5 a", ":1"),
            ("ZRANDMEMBER z", "a"),
            ("ZRANDMEMBER z -2 WITHSCORES", "[a 1.5 a 1.5]"),
            ("ZRANDMEMBER z 2 BAD", "-ERR syntax error"),
            ("ZSCAN z 0", "[0 [a 1.5]]"),
            ("ZSCAN z 0 MATCH x", "[0 []]"),
            (
                "ZSCAN z 0 NOVALUES",
                "-ERR NOVALUES option can only be used in HSCAN",
            ),
        ]);
    }
}
