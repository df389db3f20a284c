//! `SORT`: the elements of a list, set or sorted set, in an order that other keys may give.

use std::cmp::Ordering;

use crdt::{End, Key, Kind, SLOTS, Slot};

use super::number::parse_f64;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::shard::Txn;

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "SORT",
        arity: -2,
        keys: Keys::Sort,
        flags: Flags::WRITE
            .and(Flags::DENY_OOM)
            .and(Flags::MOVABLE)
            .and(Flags::LOOKS),
        group: "generic",
        summary: "Sorts elements, and may store them.",
        conflict: "what the target held and was seen is removed; elements of both results stay",
        run: Run::Shard(sort),
    },
    Command {
        name: "SORT_RO",
        arity: -2,
        keys: Keys::FIRST,
        flags: Flags::READ.and(Flags::MOVABLE),
        group: "generic",
        summary: "Sorts elements.",
        conflict: "",
        run: Run::Shard(sort_ro),
    },
];

/// What is asked for.
#[derive(Debug, Default)]
struct Query<'a> {
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    limit: Option<(i64, i64)>,
    descending: bool,
    alpha: bool,
    target: Option<&'a [u8]>,
}

impl<'a> Query<'a> {
    fn take(
        txn: &Txn<'_>,
        key: &Key<'_>,
        args: &mut Args<'a>,
        stores: bool,
    ) -> Result<Self, CommandError> {
        let mut query = Self::default();
        while !args.is_empty() {
            let left = args.remaining() - 1;
            if args.token_is("ASC") {
                query.descending = false;
            } else if args.token_is("DESC") {
                query.descending = true;
            } else if args.token_is("ALPHA") {
                query.alpha = true;
            } else if 2 <= left && args.token_is("LIMIT") {
                query.limit = Some((args.int()?, args.int()?));
            } else if stores && 1 <= left && args.token_is("STORE") {
                query.target = Some(args.next()?);
            } else if 1 <= left && args.token_is("BY") {
                let pattern = args.next()?;
                if pattern.contains(&b'*') && !is_within_reach(txn, key, pattern) {
                    return Err(CommandError::text(
                        "ERR BY option of SORT denied in cluster mode when keys formed by the pattern may be in different slots.",
                    ));
                }
                query.by = Some(pattern);
            } else if 1 <= left && args.token_is("GET") {
                let pattern = args.next()?;
                if pattern != b"#" && !is_within_reach(txn, key, pattern) {
                    return Err(CommandError::text(
                        "ERR GET option of SORT denied in cluster mode when keys formed by the pattern may be in different slots.",
                    ));
                }
                query.get.push(pattern);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(query)
    }

    /// Whether the elements stay in the order that they have.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|pattern| !pattern.contains(&b'*'))
    }

    fn limited(&self, length: usize) -> std::ops::Range<usize> {
        let Some((offset, count)) = self.limit else {
            return 0..length;
        };
        let start = usize::try_from(offset).unwrap_or(0).min(length);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        start..start.saturating_add(count).min(length)
    }
}

/// Whether the keys that a pattern stands for are on this shard: all are if it has all slots, and
/// those are whose hash tag is that of the key.
fn is_within_reach(txn: &Txn<'_>, key: &Key<'_>, pattern: &[u8]) -> bool {
    if txn.shard().state().slots().count() == usize::from(SLOTS) {
        return true;
    }
    let wild = pattern.iter().position(|&byte| byte == b'*');
    let fixed = &pattern[..wild.unwrap_or(pattern.len())];
    let open = fixed.iter().position(|&byte| byte == b'{');
    let tag = open.map_or(&[][..], |open| &fixed[open + 1..]);
    let is_tagged = tag
        .iter()
        .position(|&byte| byte == b'}')
        .is_some_and(|at| 0 < at);
    (is_tagged || wild.is_none()) && Slot::of(pattern) == key.slot
}

/// What a pattern stands for, with an element in the place of its star: the element itself for
/// `#`, else the string, or the field after `->`, that a key holds.
fn look_up(txn: &Txn<'_>, pattern: &[u8], element: &[u8]) -> Option<Vec<u8>> {
    if pattern == b"#" {
        return Some(element.to_vec());
    }
    let star = pattern.iter().position(|&byte| byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|pair| pair == b"->");
    let (after, field) = match arrow {
        Some(at) if at + 2 < after.len() => (&after[..at], Some(&after[at + 2..])),
        _ => (after, None),
    };
    let name = [before, element, after].concat();
    let key = txn.key(&name);
    match field {
        Some(field) => {
            let value = txn.hash(&key).ok()??.get(field)?;
            Some(value.into_owned())
        }
        None => Some(txn.string(&key).ok()??.into_owned()),
    }
}

fn elements_of(txn: &Txn<'_>, key: &Key<'_>) -> Result<(Vec<Vec<u8>>, Kind), CommandError> {
    let own = <[u8]>::to_vec;
    Ok(match txn.kind(key) {
        None => (Vec::new(), Kind::List),
        Some(Kind::Set) => {
            let set = txn.set(key)?;
            let members = set.into_iter().flat_map(|set| set.iter());
            (members.map(own).collect(), Kind::Set)
        }
        Some(Kind::SortedSet) => {
            let zset = txn.sorted_set(key)?;
            let members = zset.into_iter().flat_map(|zset| zset.range(0..zset.len()));
            (
                members.map(|(member, _)| own(member)).collect(),
                Kind::SortedSet,
            )
        }
        Some(_) => {
            let list = txn.list(key)?;
            let elements = list.into_iter().flat_map(|list| list.range(0..list.len()));
            (elements.map(own).collect(), Kind::List)
        }
    })
}

/// What an element is compared by.
enum Weight {
    Number(f64),
    Text(Option<Vec<u8>>),
}

fn weigh(
    txn: &Txn<'_>,
    element: &[u8],
    by: Option<&[u8]>,
    alpha: bool,
) -> Result<Weight, CommandError> {
    let text = match by {
        Some(pattern) => look_up(txn, pattern, element),
        None => Some(element.to_vec()),
    };
    if alpha {
        return Ok(Weight::Text(text));
    }
    // As `strtod` does: a zero byte ends the text, nothing is 0, and spaces in front do not matter.
    let text = text.as_deref().unwrap_or_default();
    let number = match text.split(|&byte| byte == 0).next() {
        None | Some([]) => Some(0.0),
        Some(text) => parse_f64(text.trim_ascii_start()),
    };
    number
        .map(Weight::Number)
        .ok_or_else(|| CommandError::text("ERR One or more scores can't be converted into double"))
}

fn compare((a, x): &(Weight, Vec<u8>), (b, y): &(Weight, Vec<u8>)) -> Ordering {
    match (a, b) {
        (Weight::Number(a), Weight::Number(b)) => a
            .partial_cmp(b)
            .unwrap_or(Ordering::Equal)
            .then_with(|| x.cmp(y)),
        (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

/// The elements of a key in the order that is asked for.
fn sorted(txn: &Txn<'_>, key: &Key<'_>, query: &Query<'_>) -> Result<Vec<Vec<u8>>, CommandError> {
    let (mut elements, kind) = elements_of(txn, key)?;
    // A set has no order that could be stored and be the same in all regions.
    let forced = query.keeps_order() && kind == Kind::Set && query.target.is_some();
    if query.keeps_order() && !forced {
        if kind != Kind::Set && query.descending {
            elements.reverse();
        }
        return Ok(elements);
    }
    let by = if forced { None } else { query.by };
    let weighed: Result<Vec<_>, CommandError> = elements
        .into_iter()
        .map(|element| {
            weigh(txn, &element, by, query.alpha || forced).map(|weight| (weight, element))
        })
        .collect();
    let mut weighed = weighed?;
    if query.descending {
        weighed.sort_by(|a, b| compare(b, a));
    } else {
        weighed.sort_by(compare);
    }
    Ok(weighed.into_iter().map(|(_, element)| element).collect())
}

fn run(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, stores: bool) -> Outcome {
    let key = txn.key(args.next()?);
    let query = Query::take(txn, &key, args, stores)?;
    let elements = sorted(txn, &key, &query)?;
    let wanted = &elements[query.limited(elements.len())];
    let mut found: Vec<Option<Vec<u8>>> = Vec::new();
    for element in wanted {
        if query.get.is_empty() {
            found.push(Some(element.clone()));
        }
        for pattern in &query.get {
            found.push(look_up(txn, pattern, element));
        }
    }
    if let Some(name) = query.target {
        let target = txn.key(name);
        txn.remove(&target);
        for value in &found {
            txn.list_push(&target, End::Tail, &[value.as_deref().unwrap_or_default()])?;
        }
        reply.count(found.len());
        return Ok(());
    }
    reply.array(found.len());
    for value in &found {
        reply.bulk_or_null(value.as_deref());
    }
    Ok(())
}

fn sort(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    run(txn, args, reply, true)
}

fn sort_ro(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    run(txn, args, reply, false)
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;

    #[test]
    fn elements_are_sorted() {
        check(&[
            ("RPUSH l 10 9 2 1", ":4"),
            ("SORT l", "[1 2 9 10]"),
            ("SORT l DESC", "[10 9 2 1]"),
            ("SORT l ALPHA", "[1 10 2 9]"),
            ("SORT l LIMIT 1 2", "[2 9]"),
            ("SORT l LIMIT 9 2", "[]"),
            ("SORT l LIMIT 1 -1", "[2 9 10]"),
            ("SORT l BY nosort", "[10 9 2 1]"),
            ("SORT l BY nosort DESC", "[1 2 9 10]"),
            ("SORT_RO l", "[1 2 9 10]"),
            ("SORT_RO l STORE x", "-ERR syntax error"),
            ("SORT l STORE r", ":4"),
            ("LRANGE r 0 -1", "[1 2 9 10]"),
            ("SORT none STORE r", ":0"),
            ("EXISTS r", ":0"),
            ("SORT none", "[]"),
            ("RPUSH l x", ":5"),
            (
                "SORT l",
                "-ERR One or more scores can't be converted into double",
            ),
            ("SORT l BAD", "-ERR syntax error"),
            ("SADD s 3 1 2", ":3"),
            ("SORT s DESC", "[3 2 1]"),
            ("SORT s BY nosort STORE r", ":3"),
            ("LRANGE r 0 -1", "[1 2 3]"),
            ("ZADD z 1 c 2 a 3 b", ":3"),
            ("SORT z BY nosort DESC", "[b a c]"),
            ("SORT z ALPHA", "[a b c]"),
            ("SET t v", "OK"),
            (
                "SORT t",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }

    #[test]
    fn other_keys_give_the_order() {
        check(&[
            ("RPUSH l 1 2 3", ":3"),
            ("SET w1 30", "OK"),
            ("SET w2 20", "OK"),
            ("SET w3 10", "OK"),
            ("HSET o1 name one", ":1"),
            ("HSET o3 name three", ":1"),
            ("SORT l BY w*", "[3 2 1]"),
            ("SORT l BY w* GET #", "[3 2 1]"),
            ("SORT l BY w* GET o*->name GET #", "[three 3 nil 2 one 1]"),
            ("SORT l BY o*->name ALPHA", "[2 1 3]"),
            ("SORT l BY w* GET o*->name STORE r", ":3"),
            ("LRANGE r 0 -1", "[three  one]"),
        ]);
    }
}
