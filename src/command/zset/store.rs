//! Sorted sets made of several: `ZUNION`, `ZINTER`, `ZDIFF`, what stores and what counts them.
//!
//! Sets take part too: each of their members has the score 1.

use std::cmp::Ordering;
use std::collections::HashMap;

use crdt::{Kind, Set, SortedSet};

use super::super::number::parse_f64;
use super::super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply};
use super::range::replace;
use super::{Handler, all, reply_members, row};
use crate::shard::Txn;

const STORED: &str = "what the target held and was seen is removed; members of both results stay";

pub(in crate::command) const COMMANDS: &[Command] = &[
    read("ZUNION", "What any has, by combined scores.", zunion),
    read("ZINTER", "What all have, by combined scores.", zinter),
    read("ZDIFF", "What the first has and no other.", zdiff),
    read("ZINTERCARD", "How many members all have.", zintercard),
    store("ZUNIONSTORE", "Stores what any has.", zunionstore),
    store("ZINTERSTORE", "Stores what all have.", zinterstore),
    store(
        "ZDIFFSTORE",
        "Stores what the first has and no other.",
        zdiffstore,
    ),
];

const fn read(name: &'static str, summary: &'static str, run: Handler) -> Command {
    Command {
        keys: Keys::Counted {
            count: 1,
            target: None,
        },
        ..row(
            (name, -3),
            Flags::READ.and(Flags::MOVABLE),
            "",
            summary,
            run,
        )
    }
}

const fn store(name: &'static str, summary: &'static str, run: Handler) -> Command {
    let flags = Flags::WRITE
        .and(Flags::DENY_OOM)
        .and(Flags::MOVABLE)
        .and(Flags::LOOKS);
    Command {
        keys: Keys::Counted {
            count: 2,
            target: Some(1),
        },
        ..row((name, -4), flags, STORED, summary, run)
    }
}

/// How sets are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Union,
    Intersection,
    Difference,
}

/// What becomes of a member's scores.
#[derive(Clone, Copy, Debug)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => number(a + b),
            Self::Min => a.min(b),
            Self::Max => a.max(b),
        }
    }
}

/// Infinity minus infinity, and nothing times infinity, is 0 here.
const fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One of the sets.
#[derive(Clone, Copy, Debug)]
enum Members<'a> {
    None,
    Set(Set<'a>),
    Sorted(SortedSet<'a>),
}

/// One of the sets, and what its scores are multiplied by.
#[derive(Clone, Copy, Debug)]
struct Source<'a> {
    members: Members<'a>,
    weight: f64,
}

impl<'a> Source<'a> {
    fn find(txn: &'a Txn<'_>, name: &[u8]) -> Result<Self, CommandError> {
        let key = txn.key(name);
        let members = match txn.kind(&key) {
            Some(Kind::Set) => txn.set(&key)?.map(Members::Set),
            _ => txn.sorted_set(&key)?.map(Members::Sorted),
        };
        Ok(Self {
            members: members.unwrap_or(Members::None),
            weight: 1.0,
        })
    }

    fn len(&self) -> usize {
        match &self.members {
            Members::None => 0,
            Members::Set(set) => set.len(),
            Members::Sorted(zset) => zset.len(),
        }
    }

    fn contains(&self, member: &[u8]) -> bool {
        self.score(member).is_some()
    }

    fn score(&self, member: &[u8]) -> Option<f64> {
        let score = match &self.members {
            Members::None => None,
            Members::Set(set) => set.contains(member).then_some(1.0),
            Members::Sorted(zset) => zset.score(member),
        };
        score.map(|score| number(score * self.weight))
    }

    /// All members with their weighted scores.
    fn iter(&self) -> impl Iterator<Item = (&'a [u8], f64)> + use<'a> {
        let (set, zset) = match &self.members {
            Members::None => (None, None),
            Members::Set(set) => (Some(*set), None),
            Members::Sorted(zset) => (None, Some(*zset)),
        };
        let weight = self.weight;
        let of_set = set.into_iter().flat_map(|set| set.iter());
        let of_zset = zset.into_iter().flat_map(|zset| all(&zset));
        let both = of_set.map(|member| (member, 1.0)).chain(of_zset);
        both.map(move |(member, score)| (member, number(score * weight)))
    }
}

/// What is asked for.
struct Query<'a> {
    sources: Vec<Source<'a>>,
    how: How,
    aggregate: Aggregate,
    with_scores: bool,
    limit: usize,
}

/// What a command takes besides its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Reads,
    Stores,
    Counts,
}

impl<'a> Query<'a> {
    fn take(
        txn: &'a Txn<'_>,
        args: &mut Args<'_>,
        how: How,
        kind: Form,
    ) -> Result<Self, CommandError> {
        let count = args.int()?;
        if count < 1 {
            let name = String::from_utf8_lossy(args.name()).to_ascii_lowercase();
            return Err(CommandError::line(format!(
                "ERR at least 1 input key is needed for '{name}' command"
            )));
        }
        let names = args.take(usize::try_from(count).unwrap_or(usize::MAX))?;
        let sources: Result<Vec<_>, _> = names.iter().map(|n| Source::find(txn, n)).collect();
        let mut query = Self {
            sources: sources?,
            how,
            aggregate: Aggregate::Sum,
            with_scores: false,
            limit: usize::MAX,
        };
        let combines = how != How::Difference && kind != Form::Counts;
        while !args.is_empty() {
            let enough = query.sources.len() < args.remaining();
            if combines && enough && args.token_is("WEIGHTS") {
                query.take_weights(args)?;
            } else if combines && args.token_is("AGGREGATE") {
                query.aggregate = aggregate(args)?;
            } else if kind == Form::Reads && args.token_is("WITHSCORES") {
                query.with_scores = true;
            } else if kind == Form::Counts && args.token_is("LIMIT") {
                let limit = args.at_least(0, "ERR LIMIT can't be negative")?;
                query.limit = if limit == 0 { usize::MAX } else { limit };
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(query)
    }

    fn take_weights(&mut self, args: &mut Args<'_>) -> Outcome {
        for source in &mut self.sources {
            source.weight = parse_f64(args.next()?)
                .ok_or_else(|| CommandError::text("ERR weight value is not a float"))?;
        }
        Ok(())
    }

    /// The members and scores, by score, then by name.
    fn run(mut self) -> Vec<(&'a [u8], f64)> {
        let mut found = match self.how {
            How::Union => self.union(),
            How::Intersection => self.intersection(),
            How::Difference => self.difference(),
        };
        found.sort_unstable_by(|(a, x), (b, y)| {
            let scores = x.partial_cmp(y).unwrap_or(Ordering::Equal);
            scores.then_with(|| a.cmp(b))
        });
        found
    }

    fn union(&mut self) -> Vec<(&'a [u8], f64)> {
        self.sources.sort_by_key(Source::len);
        let aggregate = self.aggregate;
        let mut found: HashMap<&[u8], f64> = HashMap::new();
        for (member, score) in self.sources.iter().flat_map(Source::iter) {
            let combined = found.entry(member);
            combined
                .and_modify(|so_far| *so_far = aggregate.of(*so_far, score))
                .or_insert(score);
        }
        found.into_iter().collect()
    }

    fn intersection(&mut self) -> Vec<(&'a [u8], f64)> {
        self.sources.sort_by_key(Source::len);
        let Some((smallest, others)) = self.sources.split_first() else {
            return Vec::new();
        };
        let common = smallest.iter().filter_map(|(member, first)| {
            let mut scores = others.iter().map(|source| source.score(member));
            let combined = scores.try_fold(first, |so_far, score| {
                Some(self.aggregate.of(so_far, score?))
            });
            combined.map(|score| (member, score))
        });
        common.take(self.limit).collect()
    }

    fn difference(&self) -> Vec<(&'a [u8], f64)> {
        let Some((first, others)) = self.sources.split_first() else {
            return Vec::new();
        };
        let alone = |(member, _): &(&[u8], f64)| !others.iter().any(|s| s.contains(member));
        first.iter().filter(alone).collect()
    }
}

fn aggregate(args: &mut Args<'_>) -> Result<Aggregate, CommandError> {
    if args.token_is("SUM") {
        Ok(Aggregate::Sum)
    } else if args.token_is("MIN") {
        Ok(Aggregate::Min)
    } else if args.token_is("MAX") {
        Ok(Aggregate::Max)
    } else {
        Err(CommandError::Syntax)
    }
}

fn show(txn: &Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, how: How) -> Outcome {
    let query = Query::take(txn, args, how, Form::Reads)?;
    let with_scores = query.with_scores;
    reply_members(reply, &query.run(), with_scores);
    Ok(())
}

fn zunion(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    show(txn, args, reply, How::Union)
}

fn zinter(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    show(txn, args, reply, How::Intersection)
}

fn zdiff(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    show(txn, args, reply, How::Difference)
}

fn zintercard(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let query = Query::take(txn, args, How::Intersection, Form::Counts)?;
    reply.count(query.run().len());
    Ok(())
}

fn keep(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, how: How) -> Outcome {
    let target = txn.key(args.next()?);
    let found = Query::take(txn, args, how, Form::Stores)?.run();
    let members: Vec<(Vec<u8>, f64)> = found
        .into_iter()
        .map(|(name, score)| (name.to_vec(), score))
        .collect();
    replace(txn, &target, &members);
    reply.count(members.len());
    Ok(())
}

fn zunionstore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    keep(txn, args, reply, How::Union)
}

fn zinterstore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    keep(txn, args, reply, How::Intersection)
}

fn zdiffstore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    keep(txn, args, reply, How::Difference)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::check;

    #[test]
    fn sorted_sets_combine() {
        check(&[
            ("ZADD a 1 x 2 y", ":2"),
            ("ZADD b 10 y 20 z", ":2"),
            ("SADD s x z", ":2"),
            ("ZUNION 2 a b WITHSCORES", "[x 1 y 12 z 20]"),
            ("ZUNION 3 a b s WITHSCORES", "[x 2 y 12 z 21]"),
            ("ZINTER 2 a b WITHSCORES", "[y 12]"),
            ("ZINTER 2 a b WITHSCORES AGGREGATE MIN", "[y 2]"),
            (
                "ZINTER 2 a b WITHSCORES AGGREGATE MAX WEIGHTS 10 1",
                "[y 20]",
            ),
            ("ZUNION 1 a WITHSCORES WEIGHTS inf", "[x inf y inf]"),
            ("ZDIFF 2 a b WITHSCORES", "[x 1]"),
            ("ZDIFF 2 none a", "[]"),
            ("ZINTERCARD 2 a b", ":1"),
            ("ZINTERCARD 2 a a LIMIT 1", ":1"),
            ("ZUNIONSTORE r 2 a b WEIGHTS 2 1", ":3"),
            ("ZRANGE r 0 -1 WITHSCORES", "[x 2 y 14 z 20]"),
            ("ZINTERSTORE r 2 a s", ":1"),
            ("ZRANGE r 0 -1 WITHSCORES", "[x 2]"),
            ("ZDIFFSTORE a 2 a a", ":0"),
            ("EXISTS a", ":0"),
        ]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        check(&[
            ("ZADD a 1 x", ":1"),
            (
                "ZUNION 0 a",
                "-ERR at least 1 input key is needed for 'zunion' command",
            ),
            ("ZUNION 3 a b", "-ERR syntax error"),
            ("ZUNION x a", "-ERR value is not an integer or out of range"),
            ("ZUNION 1 a WEIGHTS x", "-ERR weight value is not a float"),
            ("ZUNION 1 a WEIGHTS", "-ERR syntax error"),
            ("ZUNION 1 a AGGREGATE AVG", "-ERR syntax error"),
            ("ZDIFF 1 a WEIGHTS 1", "-ERR syntax error"),
            ("ZUNIONSTORE r 1 a WITHSCORES", "-ERR syntax error"),
            ("ZINTERCARD 1 a LIMIT -1", "-ERR LIMIT can't be negative"),
            ("SET t v", "OK"),
            (
                "ZUNION 2 a t",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }
}
