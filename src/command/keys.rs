//! Keys of any type: removing, renaming, deadlines, walking.

use crdt::{Attached, Deadline, End, Key, Kind};

use super::string::deadline_of;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, glob};
use crate::limits;
use crate::proxy::Call;
use crate::shard::Txn;

const READ: Flags = Flags::READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const REMOVES_SEEN: &str = "removes what it had seen; what it had not seen survives";
const LONGEST: &str = "of concurrent deadlines the longest is kept";

pub(super) const COMMANDS: &[Command] = &[
    row(
        "DEL",
        -2,
        Keys::ALL,
        Flags::WRITE,
        "Removes keys.",
        REMOVES_SEEN,
        Run::Sum(del),
    ),
    row(
        "UNLINK",
        -2,
        Keys::ALL,
        WRITE,
        "Removes keys.",
        REMOVES_SEEN,
        Run::Sum(del),
    ),
    row(
        "EXISTS",
        -2,
        Keys::ALL,
        READ,
        "How many of the keys exist.",
        "",
        Run::Sum(exists),
    ),
    row(
        "TOUCH",
        -2,
        Keys::ALL,
        READ,
        "Makes keys look used.",
        "",
        Run::Sum(exists),
    ),
    row(
        "TYPE",
        2,
        Keys::FIRST,
        READ,
        "The type of a value.",
        "",
        Run::Shard(kind),
    ),
    row(
        "EXPIRE",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end after so many seconds.",
        LONGEST,
        Run::Shard(expire),
    ),
    row(
        "PEXPIRE",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end after so many milliseconds.",
        LONGEST,
        Run::Shard(pexpire),
    ),
    row(
        "EXPIREAT",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end at a time in seconds.",
        LONGEST,
        Run::Shard(expireat),
    ),
    row(
        "PEXPIREAT",
        -3,
        Keys::FIRST,
        WRITE,
        "Makes a key end at a time in milliseconds.",
        LONGEST,
        Run::Shard(pexpireat),
    ),
    row(
        "PERSIST",
        2,
        Keys::FIRST,
        WRITE,
        "Makes a key stay.",
        LONGEST,
        Run::Shard(persist),
    ),
    row(
        "TTL",
        2,
        Keys::FIRST,
        READ,
        "The seconds until a key ends.",
        "",
        Run::Shard(ttl),
    ),
    row(
        "PTTL",
        2,
        Keys::FIRST,
        READ,
        "The milliseconds until a key ends.",
        "",
        Run::Shard(pttl),
    ),
    row(
        "EXPIRETIME",
        2,
        Keys::FIRST,
        READ,
        "When a key ends, in seconds.",
        "",
        Run::Shard(expiretime),
    ),
    row(
        "PEXPIRETIME",
        2,
        Keys::FIRST,
        READ,
        "When a key ends, in milliseconds.",
        "",
        Run::Shard(pexpiretime),
    ),
    row(
        "RENAME",
        3,
        Keys::TWO,
        Flags::WRITE,
        "Gives a value another key.",
        REMOVES_SEEN,
        Run::Shard(rename),
    ),
    row(
        "RENAMENX",
        3,
        Keys::TWO,
        WRITE,
        "Gives a value another key unless that exists.",
        REMOVES_SEEN,
        Run::Shard(renamenx),
    ),
    row(
        "COPY",
        -3,
        Keys::TWO,
        Flags::WRITE.and(Flags::DENY_OOM),
        "Copies a value to another key.",
        REMOVES_SEEN,
        Run::Shard(copy),
    ),
    row(
        "KEYS",
        2,
        Keys::None,
        Flags::READ,
        "All keys that match a pattern.",
        "",
        Run::Node(keys),
    ),
    row(
        "SCAN",
        -2,
        Keys::None,
        Flags::READ,
        "Walks all keys in steps.",
        "",
        Run::Node(scan),
    ),
    row(
        "RANDOMKEY",
        1,
        Keys::None,
        Flags::READ,
        "A key at random.",
        "",
        Run::Node(random_key),
    ),
    row(
        "DBSIZE",
        1,
        Keys::None,
        READ,
        "How many keys there are.",
        "",
        Run::Node(dbsize),
    ),
    row(
        "FLUSHDB",
        -1,
        Keys::None,
        Flags::WRITE,
        "Removes all keys.",
        REMOVES_SEEN,
        Run::Node(flush),
    ),
    row(
        "FLUSHALL",
        -1,
        Keys::None,
        Flags::WRITE,
        "Removes all keys.",
        REMOVES_SEEN,
        Run::Node(flush),
    ),
    row(
        "OBJECT",
        -2,
        Keys::Range {
            first: 2,
            last: 2,
            step: 1,
        },
        Flags::READ,
        "How a value is kept.",
        "",
        Run::Shard(object),
    ),
];

const fn row(
    name: &'static str,
    arity: i32,
    keys: Keys,
    flags: Flags,
    summary: &'static str,
    conflict: &'static str,
    run: Run,
) -> Command {
    Command {
        name,
        arity,
        keys,
        flags,
        group: "generic",
        summary,
        conflict,
        run,
    }
}

fn del(txn: &mut Txn<'_>, name: &[u8]) -> i64 {
    let key = txn.key(name);
    txn.remove(&key).into()
}

fn exists(txn: &mut Txn<'_>, name: &[u8]) -> i64 {
    txn.exists(&txn.key(name)).into()
}

fn kind(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.simple(txn.kind(&key).map_or("none", Kind::name));
    Ok(())
}

fn expire(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (true, false), "expire")
}

fn pexpire(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (false, false), "pexpire")
}

fn expireat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (true, true), "expireat")
}

fn pexpireat(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    expire_with(txn, args, reply, (false, true), "pexpireat")
}

/// The conditions of `EXPIRE`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Condition {
    /// Takes a condition from the arguments, if one is next.
    pub(super) fn take(&mut self, args: &mut Args<'_>) -> bool {
        let tokens: [(&str, &mut bool); 4] = [
            ("NX", &mut self.nx),
            ("XX", &mut self.xx),
            ("GT", &mut self.gt),
            ("LT", &mut self.lt),
        ];
        for (token, set) in tokens {
            if args.token_is(token) {
                *set = true;
                return true;
            }
        }
        false
    }

    /// Refuses conditions that contradict each other.
    pub(super) fn check(self) -> Outcome {
        if self.nx && (self.xx || self.gt || self.lt) {
            return Err(CommandError::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if self.gt && self.lt {
            return Err(CommandError::text(
                "ERR GT and LT options at the same time are not compatible",
            ));
        }
        Ok(())
    }

    /// Whether a deadline may replace the one in force.
    pub(super) const fn allows(self, old: Option<u64>, new: u64) -> bool {
        match old {
            None => !(self.xx || self.gt),
            Some(old) => !(self.nx || (self.gt && new <= old) || (self.lt && old <= new)),
        }
    }
}

fn expire_with(
    txn: &mut Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    how: (bool, bool),
    name: &'static str,
) -> Outcome {
    let (key, amount) = (txn.key(args.next()?), args.int()?);
    let mut condition = Condition::default();
    while !args.is_empty() {
        if !condition.take(args) {
            let option = String::from_utf8_lossy(args.next()?);
            return Err(CommandError::line(format!(
                "ERR Unsupported option {option}"
            )));
        }
    }
    condition.check()?;
    let at = deadline_in_past_or(amount, how, txn.now_ms(), name)?;
    let allowed = txn.exists(&key) && condition.allows(txn.deadline(&key), at);
    if allowed {
        if at <= txn.now_ms() {
            txn.remove(&key);
        } else {
            txn.set_deadline(&key, Deadline::At(at));
        }
    }
    reply.int(allowed.into());
    Ok(())
}

/// As `deadline_of`, where a time that is past is allowed and ends the key at once.
pub(super) fn deadline_in_past_or(
    amount: i64,
    (seconds, absolute): (bool, bool),
    now_ms: u64,
    name: &'static str,
) -> Result<u64, CommandError> {
    let invalid = CommandError::InvalidExpire(name);
    let unit = if seconds { 1_000 } else { 1 };
    let base = if absolute { 0 } else { now_ms as i64 };
    let ms = amount
        .checked_mul(unit)
        .and_then(|ms| ms.checked_add(base))
        .ok_or(invalid)?;
    if 0 < ms && 0 < amount {
        return deadline_of(amount, (seconds, absolute), now_ms, name);
    }
    Ok(u64::try_from(ms).unwrap_or(0))
}

fn persist(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let had = txn.deadline(&key).is_some();
    if txn.exists(&key) {
        txn.set_deadline(&key, Deadline::Never);
    }
    reply.int(had.into());
    Ok(())
}

/// When a key ends, if it exists and does.
fn ends(
    txn: &Txn<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<Option<u64>, CommandError> {
    let key = txn.key(args.next()?);
    let deadline = txn.deadline(&key);
    if deadline.is_none() {
        reply.int(if txn.exists(&key) { -1 } else { -2 });
    }
    Ok(deadline)
}

fn ttl(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(((ms.saturating_sub(txn.now_ms()) + 500) / 1_000) as i64);
    }
    Ok(())
}

fn pttl(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(ms.saturating_sub(txn.now_ms()) as i64);
    }
    Ok(())
}

fn expiretime(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(((ms + 500) / 1_000) as i64);
    }
    Ok(())
}

fn pexpiretime(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if let Some(ms) = ends(txn, args, reply)? {
        reply.int(ms as i64);
    }
    Ok(())
}

fn rename(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (txn.key(args.next()?), txn.key(args.next()?));
    if !txn.exists(&from) {
        return Err(CommandError::NoSuchKey);
    }
    if from.name != to.name {
        copy_value(txn, &from, &to);
        txn.remove(&from);
    }
    reply.ok();
    Ok(())
}

fn renamenx(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (txn.key(args.next()?), txn.key(args.next()?));
    if !txn.exists(&from) {
        return Err(CommandError::NoSuchKey);
    }
    let free = !txn.exists(&to);
    if free {
        copy_value(txn, &from, &to);
        txn.remove(&from);
    }
    reply.int(free.into());
    Ok(())
}

fn copy(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (txn.key(args.next()?), txn.key(args.next()?));
    let mut replace = false;
    while !args.is_empty() {
        if args.token_is("REPLACE") {
            replace = true;
        } else if args.token_is("DB") {
            if args.int()? != 0 {
                return Err(CommandError::NoSuchDatabase);
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if from.name == to.name {
        return Err(CommandError::text(
            "ERR source and destination objects are the same",
        ));
    }
    let copied = txn.exists(&from) && (replace || !txn.exists(&to));
    if copied {
        copy_value(txn, &from, &to);
    }
    reply.int(copied.into());
    Ok(())
}

/// A value, taken out of its key.
enum Taken {
    String(Vec<u8>),
    Hash(Vec<(Vec<u8>, Vec<u8>, Option<u64>)>),
    Set(Vec<Vec<u8>>),
    SortedSet(Vec<(Vec<u8>, f64)>),
    List(Vec<Vec<u8>>),
}

/// Copies what readers see at a key, its deadline included, over another key.
fn copy_value(txn: &mut Txn<'_>, from: &Key<'_>, to: &Key<'_>) {
    let Some(value) = take(txn, from) else { return };
    let deadline = txn.deadline(from);
    txn.remove(to);
    put(txn, to, &value);
    if let Some(ms) = deadline {
        txn.set_deadline(to, Deadline::At(ms));
    }
}

fn take(txn: &Txn<'_>, key: &Key<'_>) -> Option<Taken> {
    Some(match txn.kind(key)? {
        Kind::String => Taken::String(txn.string(key).ok()??.into_owned()),
        Kind::Hash => {
            let hash = txn.hash(key).ok()??;
            let fields = hash
                .iter()
                .map(|(name, value)| (name.to_vec(), value.into_owned(), hash.deadline(name)));
            Taken::Hash(fields.collect())
        }
        Kind::Set => Taken::Set(txn.set(key).ok()??.iter().map(<[u8]>::to_vec).collect()),
        Kind::SortedSet => {
            let zset = txn.sorted_set(key).ok()??;
            let members = zset
                .range(0..zset.len())
                .map(|(name, score)| (name.to_vec(), score));
            Taken::SortedSet(members.collect())
        }
        Kind::List => {
            let list = txn.list(key).ok()??;
            Taken::List(list.range(0..list.len()).map(<[u8]>::to_vec).collect())
        }
    })
}

fn put(txn: &mut Txn<'_>, key: &Key<'_>, value: &Taken) {
    match value {
        Taken::String(value) => txn.string_set(key, value, Attached::Deadline(Deadline::Never)),
        Taken::Hash(fields) => {
            for (name, value, deadline) in fields {
                let attached = deadline.map_or(Deadline::Never, Deadline::At);
                txn.hash_set(key, name, value, Attached::Deadline(attached));
            }
        }
        Taken::Set(members) => {
            for member in members {
                txn.set_add(key, member);
            }
        }
        Taken::SortedSet(members) => {
            for (member, score) in members {
                txn.zset_set(key, member, *score);
            }
        }
        Taken::List(elements) => {
            for element in elements {
                txn.list_push(key, End::Tail, element);
            }
        }
    }
}

fn object(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if args.token_is("HELP") {
        reply.array(1);
        reply.simple("OBJECT <subcommand> [<arg> [value] [opt] ...]. Subcommands are: ENCODING FREQ HELP IDLETIME REFCOUNT.");
        return Ok(());
    }
    let subcommand = args.next()?;
    let wanted = ["ENCODING", "REFCOUNT", "IDLETIME", "FREQ"];
    let Some(wanted) = wanted
        .iter()
        .find(|w| subcommand.eq_ignore_ascii_case(w.as_bytes()))
    else {
        return Err(CommandError::unknown_subcommand("OBJECT", subcommand));
    };
    let key = txn.key(args.next().map_err(|_| {
        CommandError::WrongArity(format!("object|{}", wanted.to_ascii_lowercase()).into())
    })?);
    let Some(kind) = txn.kind(&key) else {
        reply.null();
        return Ok(());
    };
    match *wanted {
        "ENCODING" => reply.bulk_text(encoding(txn, &key, kind)),
        "REFCOUNT" => reply.int(1),
        "FREQ" => {
            return Err(CommandError::text(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. \
                 Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        _ => reply.int(0),
    }
    Ok(())
}

/// The encoding that Redis would have, which some clients look at.
fn encoding(txn: &Txn<'_>, key: &Key<'_>, kind: Kind) -> &'static str {
    match kind {
        Kind::String => match txn.string(key) {
            Ok(Some(text)) if crdt::parse_integer(&text).is_some() => "int",
            Ok(Some(text)) if text.len() <= 44 => "embstr",
            _ => "raw",
        },
        Kind::Hash => match txn.hash(key) {
            Ok(Some(hash)) if hash.len() <= 128 => "listpack",
            _ => "hashtable",
        },
        Kind::Set => match txn.set(key) {
            Ok(Some(set))
                if set.len() <= 512 && set.iter().all(|m| crdt::parse_integer(m).is_some()) =>
            {
                "intset"
            }
            Ok(Some(set)) if set.len() <= 128 => "listpack",
            _ => "hashtable",
        },
        Kind::SortedSet => match txn.sorted_set(key) {
            Ok(Some(zset)) if zset.len() <= 128 => "listpack",
            _ => "skiplist",
        },
        Kind::List => match txn.list(key) {
            Ok(Some(list)) if list.len() <= 128 => "listpack",
            _ => "quicklist",
        },
    }
}

fn keys(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pattern = args.next()?;
    let mut count = 0;
    let all = reply.array_deferred();
    for index in 0..call.server.shards.count() {
        let mut cursor = 0;
        loop {
            cursor = call.server.shards.with(index, |shard| {
                shard.scan(cursor, limits::SCAN_STEP_MAX as u32, call.now_ms, |name| {
                    if glob::matches(pattern, name) {
                        reply.bulk(name);
                        count += 1;
                    }
                })
            });
            if cursor == 0 {
                break;
            }
        }
    }
    reply.set_len(all, count);
    Ok(())
}

/// The cursor of a walk over all shards: the shard in the bits that its own cursor leaves free.
const SHARD_BITS: u32 = 48;

fn scan(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let text = std::str::from_utf8(args.next()?).ok();
    let cursor: u64 = text
        .and_then(|text| text.parse().ok())
        .ok_or(CommandError::InvalidCursor)?;
    let (mut pattern, mut wanted, mut count) = (None, None, 10_i64);
    while !args.is_empty() {
        if args.token_is("MATCH") {
            pattern = Some(args.next()?);
        } else if args.token_is("COUNT") {
            count = args.int()?;
            if count < 1 {
                return Err(CommandError::Syntax);
            }
        } else if args.token_is("TYPE") {
            wanted = Some(args.next()?);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let count = count.min(limits::SCAN_STEP_MAX as i64) as u32;
    let (mut index, mut inner) = (
        (cursor >> SHARD_BITS) as usize,
        cursor & ((1 << SHARD_BITS) - 1),
    );
    let mut found: Vec<Box<[u8]>> = Vec::new();
    let shards = &call.server.shards;
    // Empty shards are passed over, or a small database would take a call for each.
    while index < shards.count() {
        inner = shards.with(index, |shard| {
            let next = shard.scan(inner, count, call.now_ms, |name| {
                if pattern.is_none_or(|pattern| glob::matches(pattern, name)) {
                    found.push(name.into());
                }
            });
            if let Some(wanted) = wanted {
                found.retain(|name| {
                    let key = shard.state().seed().key(name);
                    let kind = shard.state().kind(&key, call.now_ms);
                    shards.index_of(key.slot) != index
                        || kind
                            .is_some_and(|kind| kind.name().as_bytes().eq_ignore_ascii_case(wanted))
                });
            }
            next
        });
        if inner != 0 {
            break;
        }
        index += 1;
        if count as usize <= found.len() {
            break;
        }
    }
    let next = if index < shards.count() {
        (index as u64) << SHARD_BITS | inner
    } else {
        0
    };
    reply.array(2);
    reply.bulk_text(&next.to_string());
    reply.array(found.len());
    found.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn random_key(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let shards = &call.server.shards;
    let sizes: Vec<usize> = (0..shards.count())
        .map(|i| shards.with(i, |s| s.len(call.now_ms)))
        .collect();
    let total: usize = sizes.iter().sum();
    if total == 0 {
        reply.null();
        return Ok(());
    }
    let mut pick = shards.with(0, |shard| shard.random().usize(0..total));
    for (index, size) in sizes.into_iter().enumerate() {
        if pick < size {
            let name = shards.with(index, |shard| shard.random_key(call.now_ms));
            reply.bulk_or_null(name.as_deref());
            return Ok(());
        }
        pick -= size;
    }
    reply.null();
    Ok(())
}

fn dbsize(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let shards = &call.server.shards;
    reply.count(
        (0..shards.count())
            .map(|i| shards.with(i, |s| s.len(call.now_ms)))
            .sum(),
    );
    Ok(())
}

fn flush(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !args.is_empty() && !args.token_is("ASYNC") && !args.token_is("SYNC") {
        return Err(CommandError::Syntax);
    }
    args.done()?;
    for index in 0..call.server.shards.count() {
        call.transact(index, None, |txn| txn.flush());
    }
    reply.ok();
    Ok(())
}
