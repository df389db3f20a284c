//! Sets. A member that is added while another region removes it stays.

use std::collections::BTreeSet;

use crdt::{Key, Set};

use super::pick::{self, Among, Amount};
use super::scan::{self, Walk};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::shard::Txn;

const FAST_READ: Flags = Flags::READ.and(Flags::FAST);
const ADDS: Flags = Flags::WRITE.and(Flags::DENY_OOM);
const REMOVES: Flags = Flags::WRITE.and(Flags::FAST);
const ADD_WINS: &str = "a member that one region adds and another removes stays";
const STORED: &str = "what the target held and was seen is removed; members of both results stay";
const POPPED: &str = "both regions may return the same member; it is removed once";

const COUNTED: Keys = Keys::Counted {
    count: 1,
    target: None,
};

pub(super) const COMMANDS: &[Command] = &[
    write(
        "SADD",
        -3,
        ADDS.and(Flags::FAST),
        ADD_WINS,
        "Adds members.",
        sadd,
    ),
    write("SREM", -3, REMOVES, ADD_WINS, "Removes members.", srem),
    read("SISMEMBER", 3, "Whether a set has a member.", sismember),
    read("SMISMEMBER", -3, "Which members a set has.", smismember),
    row(
        ("SMEMBERS", 2, Keys::FIRST),
        Flags::READ,
        "",
        "All members.",
        smembers,
    ),
    read("SCARD", 2, "How many members there are.", scard),
    write("SPOP", -2, REMOVES, POPPED, "Takes members out.", spop),
    row(
        ("SRANDMEMBER", -2, Keys::FIRST),
        Flags::READ,
        "",
        "Members at random.",
        srandmember,
    ),
    row(
        ("SMOVE", 4, Keys::TWO),
        REMOVES,
        ADD_WINS,
        "Moves a member to another set.",
        smove,
    ),
    row(
        ("SINTER", -2, Keys::ALL),
        Flags::READ,
        "",
        "What all sets have.",
        sinter,
    ),
    row(
        ("SUNION", -2, Keys::ALL),
        Flags::READ,
        "",
        "What any of the sets has.",
        sunion,
    ),
    row(
        ("SDIFF", -2, Keys::ALL),
        Flags::READ,
        "",
        "What the first set has and no other.",
        sdiff,
    ),
    row(
        ("SINTERSTORE", -3, Keys::ALL),
        ADDS.and(Flags::LOOKS),
        STORED,
        "Stores what all sets have.",
        sinterstore,
    ),
    row(
        ("SUNIONSTORE", -3, Keys::ALL),
        ADDS.and(Flags::LOOKS),
        STORED,
        "Stores what any of the sets has.",
        sunionstore,
    ),
    row(
        ("SDIFFSTORE", -3, Keys::ALL),
        ADDS.and(Flags::LOOKS),
        STORED,
        "Stores what the first set has and no other.",
        sdiffstore,
    ),
    row(
        ("SINTERCARD", -3, COUNTED),
        Flags::READ.and(Flags::MOVABLE),
        "",
        "How many members all sets have.",
        sintercard,
    ),
    row(
        ("SSCAN", -3, Keys::FIRST),
        Flags::READ,
        "",
        "Walks members in steps.",
        sscan,
    ),
];

type Handler = fn(&mut Txn<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome;

const fn read(name: &'static str, arity: i32, summary: &'static str, run: Handler) -> Command {
    row((name, arity, Keys::FIRST), FAST_READ, "", summary, run)
}

const fn write(
    name: &'static str,
    arity: i32,
    flags: Flags,
    conflict: &'static str,
    summary: &'static str,
    run: Handler,
) -> Command {
    row((name, arity, Keys::FIRST), flags, conflict, summary, run)
}

const fn row(
    (name, arity, keys): (&'static str, i32, Keys),
    flags: Flags,
    conflict: &'static str,
    summary: &'static str,
    run: Handler,
) -> Command {
    Command {
        name,
        arity,
        keys,
        flags,
        group: "set",
        summary,
        conflict,
        run: Run::Shard(run),
    }
}

fn sadd(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.count(txn.set_add(&key, args.rest())?);
    Ok(())
}

fn srem(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let found = txn.set(&key)?.is_some();
    let members = if found { args.rest() } else { &[] };
    let removed = members.iter().filter(|member| txn.set_remove(&key, member));
    reply.count(removed.count());
    Ok(())
}

fn sismember(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, member) = (txn.key(args.next()?), args.next()?);
    let set = txn.set(&key)?;
    reply.int(set.is_some_and(|set| set.contains(member)).into());
    Ok(())
}

fn smismember(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let set = txn.set(&key)?;
    reply.array(args.remaining());
    for member in args.rest() {
        reply.int(set.is_some_and(|set| set.contains(member)).into());
    }
    Ok(())
}

fn smembers(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let members: Vec<&[u8]> = txn.set(&key)?.into_iter().flat_map(|s| s.iter()).collect();
    reply_set(reply, &members);
    Ok(())
}

fn reply_set(reply: &mut Reply<'_>, members: &[impl AsRef<[u8]>]) {
    reply.set(members.len());
    for member in members {
        reply.bulk(member.as_ref());
    }
}

fn scard(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.count(txn.set(&key)?.map_or(0, |set| set.len()));
    Ok(())
}

/// What members of a set are picked from.
fn among<'c, 'a>(
    set: &Set<'a>,
    chance: &'c mut fastrand::Rng,
) -> Among<'c, impl Iterator<Item = (&'a [u8], ())> + use<'a>> {
    Among {
        length: set.len(),
        all: set.iter().map(|member| (member, ())),
        chance,
    }
}

/// A member at random.
fn one<'a>(set: &Set<'a>, chance: &mut fastrand::Rng) -> Option<(&'a [u8], ())> {
    Some((set.random(&mut |n| chance.u64(0..n))?, ()))
}

fn spop(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let count = if args.is_empty() {
        None
    } else if args.remaining() == 1 {
        Some(args.count()?)
    } else {
        return Err(CommandError::Syntax);
    };
    let mut chance = txn.random().fork();
    let picked: Vec<Vec<u8>> = txn.set(&key)?.map_or_else(Vec::new, |set| {
        let from = among(&set, &mut chance);
        let members = pick::distinct(count.unwrap_or(1), from, |chance| one(&set, chance));
        members
            .into_iter()
            .map(|(member, ())| member.to_vec())
            .collect()
    });
    for member in &picked {
        txn.set_remove(&key, member);
    }
    match count {
        Some(_) => reply_set(reply, &picked),
        None => reply.bulk_or_null(picked.first().map(Vec::as_slice)),
    }
    Ok(())
}

fn srandmember(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let amount = if args.is_empty() {
        None
    } else if args.remaining() == 1 {
        Some(Amount::take(args)?)
    } else {
        return Err(CommandError::Syntax);
    };
    let mut chance = txn.random().fork();
    let set = txn.set(&key)?;
    let Some(amount) = amount else {
        let picked = set.and_then(|set| one(&set, &mut chance));
        reply.bulk_or_null(picked.map(|(member, ())| member));
        return Ok(());
    };
    let Some(set) = set else {
        reply.array(0);
        return Ok(());
    };
    let from = among(&set, &mut chance);
    let write = |reply: &mut Reply<'_>, member: &[u8], ()| reply.bulk(member);
    let open = |reply: &mut Reply<'_>, count| reply.array(count);
    amount.reply(reply, from, |chance| one(&set, chance), open, write);
    Ok(())
}

fn smove(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (txn.key(args.next()?), txn.key(args.next()?));
    let member = args.next()?;
    let Some(set) = txn.set(&from)? else {
        reply.int(0);
        return Ok(());
    };
    let found = set.contains(member);
    txn.set(&to)?;
    if found && from.name != to.name {
        txn.set_remove(&from, member);
        txn.set_add(&to, &[member])?;
    }
    reply.int(found.into());
    Ok(())
}

/// The sets at some keys, of which any may be missing.
fn sets<'a>(txn: &'a Txn<'_>, names: &[&[u8]]) -> Result<Vec<Option<Set<'a>>>, CommandError> {
    names.iter().map(|name| txn.set(&txn.key(name))).collect()
}

/// What all sets have, at most `limit` members.
fn intersection<'a>(sets: &[Option<Set<'a>>], limit: usize) -> Vec<&'a [u8]> {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<Set<'a>>>>() else {
        return Vec::new();
    };
    sets.sort_by_key(Set::len);
    let Some((smallest, others)) = sets.split_first() else {
        return Vec::new();
    };
    let common = smallest
        .iter()
        .filter(|member| others.iter().all(|set| set.contains(member)));
    common.take(limit).collect()
}

fn union<'a>(sets: &[Option<Set<'a>>]) -> Vec<&'a [u8]> {
    let all: BTreeSet<&[u8]> = sets.iter().flatten().flat_map(Set::iter).collect();
    all.into_iter().collect()
}

fn difference<'a>(sets: &[Option<Set<'a>>]) -> Vec<&'a [u8]> {
    let Some((Some(first), others)) = sets.split_first() else {
        return Vec::new();
    };
    let alone = |member: &&[u8]| !others.iter().flatten().any(|set| set.contains(member));
    first.iter().filter(alone).collect()
}

fn sinter(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sets = sets(txn, args.rest())?;
    reply_set(reply, &intersection(&sets, usize::MAX));
    Ok(())
}

fn sunion(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sets = sets(txn, args.rest())?;
    reply_set(reply, &union(&sets));
    Ok(())
}

fn sdiff(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sets = sets(txn, args.rest())?;
    reply_set(reply, &difference(&sets));
    Ok(())
}

/// Writes a result over whatever a key held.
fn store(
    txn: &mut Txn<'_>,
    target: &Key<'_>,
    members: &[Vec<u8>],
    reply: &mut Reply<'_>,
) -> Outcome {
    txn.remove(target);
    if !members.is_empty() {
        txn.set_add(target, members)?;
    }
    reply.count(members.len());
    Ok(())
}

fn owned(members: &[&[u8]]) -> Vec<Vec<u8>> {
    members.iter().map(|member| member.to_vec()).collect()
}

fn sinterstore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let target = txn.key(args.next()?);
    let members = owned(&intersection(&sets(txn, args.rest())?, usize::MAX));
    store(txn, &target, &members, reply)
}

fn sunionstore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let target = txn.key(args.next()?);
    let members = owned(&union(&sets(txn, args.rest())?));
    store(txn, &target, &members, reply)
}

fn sdiffstore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let target = txn.key(args.next()?);
    let members = owned(&difference(&sets(txn, args.rest())?));
    store(txn, &target, &members, reply)
}

fn sintercard(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let names = args.counted_keys().map_err(|error| {
        if error == CommandError::Syntax {
            CommandError::text("ERR Number of keys can't be greater than number of args")
        } else {
            error
        }
    })?;
    let mut limit = 0;
    while !args.is_empty() {
        if !args.token_is("LIMIT") {
            return Err(CommandError::Syntax);
        }
        limit = args.at_least(0, "ERR LIMIT can't be negative")?;
    }
    let limit = if limit == 0 { usize::MAX } else { limit };
    reply.count(intersection(&sets(txn, names)?, limit).len());
    Ok(())
}

fn sscan(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let mut walk = Walk::start(args)?;
    let Some(set) = txn.set(&key)? else {
        scan::open(reply, 0, 0);
        return Ok(());
    };
    walk.options(args, false)?;
    let (cursor, mut members) = set.scan(walk.cursor, walk.step(set.len()));
    members.retain(|member| walk.wants(member));
    scan::open(reply, cursor, members.len());
    for member in members {
        reply.bulk(member);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::testing::{check, run, shard};

    #[test]
    fn members_come_and_go() {
        check(&[
            ("SADD s a b a", ":2"),
            ("SADD s b c", ":1"),
            ("SCARD s", ":3"),
            ("SISMEMBER s a", ":1"),
            ("SISMEMBER s x", ":0"),
            ("SMISMEMBER s a x c", "[:1 :0 :1]"),
            ("SMISMEMBER none a x", "[:0 :0]"),
            ("SREM s a x", ":1"),
            ("SREM s b c", ":2"),
            ("EXISTS s", ":0"),
            ("SMEMBERS s", "[]"),
            ("SREM s b", ":0"),
            ("SET t x", "OK"),
            (
                "SADD t a",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }

    #[test]
    fn sets_combine() {
        check(&[
            ("SADD a 1 2 3", ":3"),
            ("SADD b 2 3 4", ":3"),
            ("SINTERSTORE r a b", ":2"),
            ("SMISMEMBER r 1 2 3 4", "[:0 :1 :1 :0]"),
            ("SUNION a b", "[1 2 3 4]"),
            ("SDIFF a b", "[1]"),
            ("SDIFFSTORE r a b", ":1"),
            ("SMEMBERS r", "[1]"),
            ("SUNIONSTORE r none", ":0"),
            ("EXISTS r", ":0"),
            ("SINTER a none", "[]"),
            ("SINTERCARD 2 a b", ":2"),
            ("SINTERCARD 2 a b LIMIT 1", ":1"),
            ("SINTERCARD 2 a b LIMIT 0", ":2"),
            ("SINTERCARD 2 a b LIMIT -1", "-ERR LIMIT can't be negative"),
            ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0"),
            (
                "SINTERCARD 3 a b",
                "-ERR Number of keys can't be greater than number of args",
            ),
            ("SINTERCARD 1 a b", "-ERR syntax error"),
            ("SET t x", "OK"),
            (
                "SINTER none t",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }

    #[test]
    fn members_move() {
        check(&[
            ("SADD a 1", ":1"),
            ("SMOVE a b x", ":0"),
            ("SMOVE a a 1", ":1"),
            ("SMOVE a b 1", ":1"),
            ("EXISTS a b", ":1"),
            ("SMOVE a b 1", ":0"),
            ("SMEMBERS b", "[1]"),
        ]);
    }

    #[test]
    fn picks_at_random() {
        let mut shard = shard();
        let _ = run(&mut shard, "SADD s a b c d e");
        let mut seen = HashSet::new();
        while seen.len() < 5 {
            seen.insert(run(&mut shard, "SRANDMEMBER s"));
        }
        assert_eq!(run(&mut shard, "SRANDMEMBER s -9").matches(' ').count(), 8);
        assert_eq!(run(&mut shard, "SRANDMEMBER s 9").matches(' ').count(), 4);
        let popped = run(&mut shard, "SPOP s");
        assert!(seen.contains(&popped));
        assert_eq!(run(&mut shard, &format!("SISMEMBER s {popped}")), ":0");
        assert_eq!(run(&mut shard, "SPOP s 3").matches(' ').count(), 2);
        assert_eq!(run(&mut shard, "SCARD s"), ":1");
        for (line, expected) in [
            ("SPOP s 0", "[]"),
            ("SPOP s -1", "-ERR value is out of range, must be positive"),
            ("SPOP s 1 2", "-ERR syntax error"),
            ("SPOP none", "nil"),
            ("SPOP none 2", "[]"),
            ("SRANDMEMBER none", "nil"),
            ("SRANDMEMBER none -2", "[]"),
        ] {
            assert_eq!(run(&mut shard, line), expected, "{line}");
        }
    }

    #[test]
    fn a_walk_visits_everything() {
        let mut shard = shard();
        for n in 0..1000 {
            let _ = run(&mut shard, &format!("SADD s {n}"));
        }
        let (mut cursor, mut seen) = (String::from("0"), HashSet::new());
        loop {
            let page = run(&mut shard, &format!("SSCAN s {cursor} COUNT 50"));
            let (next, members) = page.trim_matches(['[', ']']).split_once(" [").expect(&page);
            seen.extend(members.split(' ').map(String::from));
            cursor = next.into();
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 1000);
        assert_eq!(run(&mut shard, "SSCAN none 0 BAD"), "[0 []]");
        assert_eq!(run(&mut shard, "SSCAN s x"), "-ERR invalid cursor");
        let _ = run(&mut shard, "SADD t foo bar");
        assert_eq!(run(&mut shard, "SSCAN t 0 MATCH f*"), "[0 [foo]]");
    }
}
