//! Keys of any type: removing, renaming, copying, what they hold.

use crdt::{Key, Kind};

use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, whole};
use crate::shard::Txn;

const READ: Flags = Flags::READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::FAST);
const REMOVES_SEEN: &str = "removes what it had seen; what it had not seen survives";

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
        READ.and(Flags::NO_TOUCH),
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
        READ.and(Flags::NO_TOUCH),
        "The type of a value.",
        "",
        Run::Shard(kind),
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
        "OBJECT",
        -2,
        Keys::Range {
            first: 2,
            last: 2,
            step: 1,
        },
        Flags::READ.and(Flags::NO_TOUCH),
        "How a value is kept.",
        "",
        Run::Shard(object),
    ),
];

pub(super) const fn row(
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
    let exists = txn.exists(&txn.key(name));
    txn.count_looks();
    exists.into()
}

fn kind(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.simple(txn.kind(&key).map_or("none", Kind::name));
    Ok(())
}

fn rename(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (from, to) = (txn.key(args.next()?), txn.key(args.next()?));
    if !txn.exists(&from) {
        return Err(CommandError::NoSuchKey);
    }
    if from.name != to.name {
        copy_value(txn, &from, &to)?;
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
        copy_value(txn, &from, &to)?;
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
        copy_value(txn, &from, &to)?;
    }
    reply.int(copied.into());
    Ok(())
}

/// Copies what readers see at a key, its deadline included, over another key.
fn copy_value(txn: &mut Txn<'_>, from: &Key<'_>, to: &Key<'_>) -> Outcome {
    let Some(value) = whole::take(txn, from) else {
        return Ok(());
    };
    let deadline = txn.deadline(from);
    whole::put(txn, to, &value, deadline)
}

const NO_FREQUENCY: &str = "ERR An LFU maxmemory policy is not selected, access frequency not \
     tracked. Please note that when switching between policies at runtime LRU and LFU data will \
     take some time to adjust.";
const NO_IDLE_TIME: &str = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please \
     note that when switching between policies at runtime LRU and LFU data will take some time to \
     adjust.";

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
    let wrong_arity =
        || CommandError::WrongArity(format!("object|{}", wanted.to_ascii_lowercase()).into());
    let key = txn.key(args.next().map_err(|_| wrong_arity())?);
    args.done().map_err(|_| wrong_arity())?;
    let Some(kind) = txn.kind(&key) else {
        reply.null();
        return Ok(());
    };
    match *wanted {
        "ENCODING" => reply.bulk_text(encoding(txn, &key, kind)),
        "REFCOUNT" => reply.int(1),
        "FREQ" => match txn.use_count(&key) {
            Some(count) => reply.int(count.into()),
            None => return Err(CommandError::text(NO_FREQUENCY)),
        },
        _ => match txn.idle_s(&key) {
            Some(seconds) => reply.int(seconds as i64),
            None => return Err(CommandError::text(NO_IDLE_TIME)),
        },
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
