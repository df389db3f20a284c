//! Ranges of sorted sets by rank, score or name: reading, counting, removing and storing them.

use std::ops::Range;

use crdt::{Key, SortedSet};

use super::super::list::ranks_of;
use super::super::number::parse_f64;
use super::super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply};
use super::{Handler, reply_members, row, unsigned_zero};
use crate::shard::Txn;

const READ: Flags = Flags::READ;
const REMOVES: Flags = Flags::WRITE;
const REMOVES_SEEN: &str = "removes the members it had seen; what it had not seen survives";
const STORED: &str = "what the target held and was seen is removed; members of both results stay";

pub(in crate::command) const COMMANDS: &[Command] = &[
    read("ZRANGE", -4, "Members in a range.", zrange),
    read("ZRANGEBYSCORE", -4, "Members by score.", zrangebyscore),
    read("ZRANGEBYLEX", -4, "Members by name.", zrangebylex),
    read("ZREVRANGE", -4, "Members from the end.", zrevrange),
    read(
        "ZREVRANGEBYSCORE",
        -4,
        "Members by score from the end.",
        zrevrangebyscore,
    ),
    read(
        "ZREVRANGEBYLEX",
        -4,
        "Members by name from the end.",
        zrevrangebylex,
    ),
    Command {
        keys: Keys::TWO,
        ..row(
            ("ZRANGESTORE", -5),
            Flags::WRITE.and(Flags::DENY_OOM).and(Flags::LOOKS),
            STORED,
            "Stores members in a range.",
            zrangestore,
        )
    },
    row(
        ("ZCOUNT", 4),
        READ.and(Flags::FAST),
        "",
        "How many members have scores in a range.",
        zcount,
    ),
    row(
        ("ZLEXCOUNT", 4),
        READ.and(Flags::FAST),
        "",
        "How many members have names in a range.",
        zlexcount,
    ),
    remove(
        "ZREMRANGEBYRANK",
        "Removes members by rank.",
        zremrangebyrank,
    ),
    remove(
        "ZREMRANGEBYSCORE",
        "Removes members by score.",
        zremrangebyscore,
    ),
    remove("ZREMRANGEBYLEX", "Removes members by name.", zremrangebylex),
];

const fn read(name: &'static str, arity: i32, summary: &'static str, run: Handler) -> Command {
    row((name, arity), READ, "", summary, run)
}

const fn remove(name: &'static str, summary: &'static str, run: Handler) -> Command {
    row((name, 4), REMOVES, REMOVES_SEEN, summary, run)
}

/// What a range is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Name,
}

/// An end of a range of scores.
#[derive(Clone, Copy, Debug)]
struct ScoreEnd {
    score: f64,
    excluded: bool,
}

impl ScoreEnd {
    fn parse(text: &[u8]) -> Result<Self, CommandError> {
        let (excluded, digits) = match text {
            [b'(', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        // As `strtod` does: nothing is 0, and spaces in front do not matter.
        let score = match digits {
            [] => Some(0.0),
            digits => parse_f64(digits.trim_ascii_start()),
        };
        let score = score.ok_or(CommandError::MinOrMaxNotAFloat)?;
        Ok(Self { score, excluded })
    }
}

/// An end of a range of names.
#[derive(Clone, Copy, Debug)]
enum NameEnd<'a> {
    /// `-`: before every name.
    Lowest,
    /// `+`: after every name.
    Highest,
    At(&'a [u8]),
    /// As `At`, without the name itself.
    Beside(&'a [u8]),
}

impl<'a> NameEnd<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, CommandError> {
        match text {
            b"-" => Ok(Self::Lowest),
            b"+" => Ok(Self::Highest),
            [b'[', name @ ..] => Ok(Self::At(name)),
            [b'(', name @ ..] => Ok(Self::Beside(name)),
            _ => Err(CommandError::MinOrMaxNotAString),
        }
    }
}

/// Which members are asked for.
#[derive(Clone, Copy, Debug)]
enum Wanted<'a> {
    Ranks(i64, i64),
    Scores(ScoreEnd, ScoreEnd),
    Names(NameEnd<'a>, NameEnd<'a>),
}

impl<'a> Wanted<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, CommandError> {
        let int = |text| crdt::parse_integer(text).ok_or(CommandError::NotAnInteger);
        Ok(match by {
            By::Rank => Self::Ranks(int(min)?, int(max)?),
            By::Score => Self::Scores(ScoreEnd::parse(min)?, ScoreEnd::parse(max)?),
            By::Name => Self::Names(NameEnd::parse(min)?, NameEnd::parse(max)?),
        })
    }

    /// The ranks of the members that are meant. Costs O(log n).
    fn ranks(self, zset: &SortedSet<'_>, reverse: bool) -> Range<usize> {
        let (start, end) = match self {
            Self::Ranks(start, end) => {
                let (ranks, length) = (ranks_of(start, end, zset.len()), zset.len());
                return if reverse {
                    length - ranks.end..length - ranks.start
                } else {
                    ranks
                };
            }
            Self::Scores(min, max) => (
                zset.partition(|_, score| {
                    score < min.score || (min.excluded && score <= min.score)
                }),
                zset.partition(|_, score| {
                    score < max.score || (!max.excluded && score <= max.score)
                }),
            ),
            Self::Names(min, max) => (
                zset.partition(|name, _| match min {
                    NameEnd::Lowest => false,
                    NameEnd::Highest => true,
                    NameEnd::At(end) => name < end,
                    NameEnd::Beside(end) => name <= end,
                }),
                zset.partition(|name, _| match max {
                    NameEnd::Lowest => false,
                    NameEnd::Highest => true,
                    NameEnd::At(end) => name <= end,
                    NameEnd::Beside(end) => name < end,
                }),
            ),
        };
        start..end.max(start)
    }
}

/// A range with its options.
struct Query<'a> {
    wanted: Wanted<'a>,
    reverse: bool,
    with_scores: bool,
    /// `LIMIT`: how many to pass over, and how many to return (all if negative).
    limit: Option<(i64, i64)>,
}

impl<'a> Query<'a> {
    /// Takes the ends and options of a range. What the command's name says cannot be said again.
    fn take(
        args: &mut Args<'a>,
        (by, reverse): (Option<By>, Option<bool>),
        stores: bool,
    ) -> Result<Self, CommandError> {
        let (first, second) = (args.next()?, args.next()?);
        let (mut chosen, mut reversed) = (by, reverse);
        let (mut with_scores, mut limit) = (false, None);
        while !args.is_empty() {
            if !stores && args.token_is("WITHSCORES") {
                with_scores = true;
            } else if 3 <= args.remaining() && args.token_is("LIMIT") {
                limit = Some((args.int()?, args.int()?));
            } else if reverse.is_none() && args.token_is("REV") {
                reversed = Some(true);
            } else if by.is_none() && args.token_is("BYSCORE") {
                chosen = Some(By::Score);
            } else if by.is_none() && args.token_is("BYLEX") {
                chosen = Some(By::Name);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let (by, reverse) = (chosen.unwrap_or(By::Rank), reversed.unwrap_or(false));
        if limit.is_some() && by == By::Rank {
            return Err(CommandError::text(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Name {
            return Err(CommandError::text(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let (min, max) = if reverse && by != By::Rank {
            (second, first)
        } else {
            (first, second)
        };
        Ok(Self {
            wanted: Wanted::parse(by, min, max)?,
            reverse,
            with_scores,
            limit,
        })
    }

    fn ranks(&self, zset: &SortedSet<'_>) -> Range<usize> {
        let ranks = self.wanted.ranks(zset, self.reverse);
        let Some((offset, count)) = self.limit else {
            return ranks;
        };
        let Ok(offset) = usize::try_from(offset) else {
            return 0..0;
        };
        let offset = offset.min(ranks.len());
        let count = usize::try_from(count)
            .unwrap_or(usize::MAX)
            .min(ranks.len());
        if self.reverse {
            let end = ranks.end - offset;
            end.saturating_sub(count).max(ranks.start)..end
        } else {
            let start = ranks.start + offset;
            start..(start + count).min(ranks.end)
        }
    }

    fn run<'z>(&self, zset: Option<SortedSet<'z>>) -> Vec<(&'z [u8], f64)> {
        zset.map_or_else(Vec::new, |zset| {
            let members = zset.range(self.ranks(&zset));
            if self.reverse {
                members.rev().collect()
            } else {
                members.collect()
            }
        })
    }
}

fn range(
    txn: &Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    said: (Option<By>, Option<bool>),
) -> Outcome {
    let key = txn.key(args.next()?);
    let query = Query::take(args, said, false)?;
    let members = query.run(txn.sorted_set(&key)?);
    reply_members(reply, &members, query.with_scores);
    Ok(())
}

fn zrange(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(txn, args, reply, (None, None))
}

fn zrangebyscore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(txn, args, reply, (Some(By::Score), Some(false)))
}

fn zrangebylex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(txn, args, reply, (Some(By::Name), Some(false)))
}

fn zrevrange(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(txn, args, reply, (Some(By::Rank), Some(true)))
}

fn zrevrangebyscore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(txn, args, reply, (Some(By::Score), Some(true)))
}

fn zrevrangebylex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    range(txn, args, reply, (Some(By::Name), Some(true)))
}

fn zrangestore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (target, source) = (txn.key(args.next()?), txn.key(args.next()?));
    let query = Query::take(args, (None, None), true)?;
    let members = query.run(txn.sorted_set(&source)?);
    let members: Vec<(Vec<u8>, f64)> = members
        .into_iter()
        .map(|(name, score)| (name.to_vec(), score))
        .collect();
    replace(txn, &target, &members);
    reply.count(members.len());
    Ok(())
}

/// Writes members over whatever a key held.
pub(super) fn replace(txn: &mut Txn<'_>, target: &Key<'_>, members: &[(Vec<u8>, f64)]) {
    txn.remove(target);
    for (member, score) in members {
        txn.zset_set(target, member, unsigned_zero(*score));
    }
}

fn count(txn: &Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, by: By) -> Outcome {
    let key = txn.key(args.next()?);
    let wanted = Wanted::parse(by, args.next()?, args.next()?)?;
    let zset = txn.sorted_set(&key)?;
    reply.count(zset.map_or(0, |zset| wanted.ranks(&zset, false).len()));
    Ok(())
}

fn zcount(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(txn, args, reply, By::Score)
}

fn zlexcount(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    count(txn, args, reply, By::Name)
}

fn remove_range(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, by: By) -> Outcome {
    let key = txn.key(args.next()?);
    let wanted = Wanted::parse(by, args.next()?, args.next()?)?;
    let names: Vec<Vec<u8>> = txn.sorted_set(&key)?.map_or_else(Vec::new, |zset| {
        let members = zset.range(wanted.ranks(&zset, false));
        members.map(|(name, _)| name.to_vec()).collect()
    });
    for name in &names {
        txn.zset_remove(&key, name);
    }
    reply.count(names.len());
    Ok(())
}

fn zremrangebyrank(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    remove_range(txn, args, reply, By::Rank)
}

fn zremrangebyscore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    remove_range(txn, args, reply, By::Score)
}

fn zremrangebylex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    remove_range(txn, args, reply, By::Name)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::check;

    #[test]
    fn ranges_by_rank() {
        check(&[
            ("ZADD z 1 a 2 b 3 c", ":3"),
            ("ZRANGE z 0 -1", "[a b c]"),
            ("ZRANGE z 0 0 REV WITHSCORES", "[c 3]"),
            ("ZREVRANGE z 0 1", "[c b]"),
            ("ZREVRANGE z -1 -1 WITHSCORES", "[a 1]"),
            ("ZRANGE z 2 1", "[]"),
            (
                "ZRANGE z x 1",
                "-ERR value is not an integer or out of range",
            ),
            ("ZREVRANGE z 0 1 REV", "-ERR syntax error"),
            (
                "ZRANGE z 0 1 LIMIT 0 1",
                "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ),
            ("ZRANGESTORE r z 1 -1", ":2"),
            ("ZRANGE r 0 -1 WITHSCORES", "[b 2 c 3]"),
            ("ZRANGESTORE r z 7 9", ":0"),
            ("EXISTS r", ":0"),
            ("ZREMRANGEBYRANK z 0 1", ":2"),
            ("ZRANGE z 0 -1", "[c]"),
            ("ZRANGE none 0 -1", "[]"),
        ]);
    }

    #[test]
    fn ranges_by_score() {
        check(&[
            ("ZADD z 1 a 2 b 3 c 4 d", ":4"),
            ("ZRANGEBYSCORE z 2 3", "[b c]"),
            ("ZRANGEBYSCORE z (2 +inf WITHSCORES", "[c 3 d 4]"),
            ("ZRANGEBYSCORE z -inf (2", "[a]"),
            ("ZRANGEBYSCORE z 3 2", "[]"),
            ("ZRANGEBYSCORE z 1 4 LIMIT 1 2", "[b c]"),
            ("ZRANGEBYSCORE z 1 4 LIMIT 1 -1", "[b c d]"),
            ("ZRANGEBYSCORE z 1 4 LIMIT -1 2", "[]"),
            ("ZREVRANGEBYSCORE z 3 1", "[c b a]"),
            ("ZREVRANGEBYSCORE z 4 1 LIMIT 1 2", "[c b]"),
            ("ZREVRANGEBYSCORE z 4 1 LIMIT 3 2", "[a]"),
            ("ZRANGE z 3 1 BYSCORE REV", "[c b a]"),
            ("ZRANGE z (1 3 BYSCORE LIMIT 0 1", "[b]"),
            ("ZRANGEBYSCORE z x 1", "-ERR min or max is not a float"),
            ("ZRANGEBYSCORE z 1 2 LIMIT 1", "-ERR syntax error"),
            ("ZCOUNT z 2 (4", ":2"),
            ("ZCOUNT none 2 4", ":0"),
            ("ZREMRANGEBYSCORE z -inf (3", ":2"),
            ("ZRANGE z 0 -1", "[c d]"),
        ]);
    }

    #[test]
    fn ranges_by_name() {
        check(&[
            ("ZADD z 0 a 0 b 0 c 0 d", ":4"),
            ("ZRANGEBYLEX z - +", "[a b c d]"),
            ("ZRANGEBYLEX z [b (d", "[b c]"),
            ("ZRANGEBYLEX z + -", "[]"),
            ("ZREVRANGEBYLEX z + [c", "[d c]"),
            ("ZREVRANGEBYLEX z + - LIMIT 1 2", "[c b]"),
            ("ZRANGE z (b + BYLEX", "[c d]"),
            ("ZRANGE z + (b BYLEX REV", "[d c]"),
            (
                "ZRANGEBYLEX z b c",
                "-ERR min or max not valid string range item",
            ),
            (
                "ZRANGE z - + BYLEX WITHSCORES",
                "-ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ),
            ("ZLEXCOUNT z [b +", ":3"),
            ("ZREMRANGEBYLEX z - (c", ":2"),
            ("ZRANGE z 0 -1", "[c d]"),
        ]);
    }
}
