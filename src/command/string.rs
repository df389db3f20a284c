//! Strings: `GET`, `SET` and what is done to parts of a value.

use std::borrow::Cow;

use crdt::{Attached, Deadline, Edit};

use super::number::parse_i64;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::limits;
use crate::shard::Txn;

const READ: Flags = Flags::READ.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::DENY_OOM);
const LAST_WINS: &str = "the latest write is read; increments and edits it had not seen survive it";
const EDITS_MERGE: &str = "both edits are kept, in the order of their times";

pub(super) const COMMANDS: &[Command] = &[
    row(
        "GET",
        2,
        Keys::FIRST,
        READ,
        "The value of a string.",
        "",
        Run::Shard(get),
    ),
    row(
        "SET",
        -3,
        Keys::FIRST,
        WRITE,
        "Sets a string, whatever was there.",
        LAST_WINS,
        Run::Shard(set),
    ),
    row(
        "SETNX",
        3,
        Keys::FIRST,
        WRITE.and(Flags::FAST),
        "Sets a string unless the key exists.",
        LAST_WINS,
        Run::Shard(setnx),
    ),
    row(
        "SETEX",
        4,
        Keys::FIRST,
        WRITE,
        "Sets a string that ends after so many seconds.",
        LAST_WINS,
        Run::Shard(setex),
    ),
    row(
        "PSETEX",
        4,
        Keys::FIRST,
        WRITE,
        "Sets a string that ends after so many milliseconds.",
        LAST_WINS,
        Run::Shard(psetex),
    ),
    row(
        "GETSET",
        3,
        Keys::FIRST,
        WRITE.and(Flags::FAST).and(Flags::LOOKS),
        "Sets a string and returns what it was.",
        LAST_WINS,
        Run::Shard(getset),
    ),
    row(
        "GETDEL",
        2,
        Keys::FIRST,
        Flags::WRITE.and(Flags::FAST).and(Flags::LOOKS),
        "Removes a string and returns what it was.",
        LAST_WINS,
        Run::Shard(getdel),
    ),
    row(
        "GETEX",
        -2,
        Keys::FIRST,
        Flags::WRITE.and(Flags::FAST).and(Flags::LOOKS),
        "Returns a string and sets when it ends.",
        "the later deadline is kept",
        Run::Shard(getex),
    ),
    row(
        "STRLEN",
        2,
        Keys::FIRST,
        READ,
        "The length of a string.",
        "",
        Run::Shard(strlen),
    ),
    row(
        "APPEND",
        3,
        Keys::FIRST,
        WRITE.and(Flags::FAST),
        "Adds to the end of a string.",
        EDITS_MERGE,
        Run::Shard(append),
    ),
    row(
        "GETRANGE",
        4,
        Keys::FIRST,
        Flags::READ,
        "A part of a string.",
        "",
        Run::Shard(getrange),
    ),
    row(
        "SUBSTR",
        4,
        Keys::FIRST,
        Flags::READ,
        "A part of a string.",
        "",
        Run::Shard(getrange),
    ),
    row(
        "SETRANGE",
        4,
        Keys::FIRST,
        WRITE,
        "Overwrites a part of a string.",
        EDITS_MERGE,
        Run::Shard(setrange),
    ),
    row(
        "MGET",
        -2,
        Keys::ALL,
        READ,
        "The values of several strings.",
        "",
        Run::Each(mget),
    ),
    row(
        "MSET",
        -3,
        Keys::Range {
            first: 1,
            last: -1,
            step: 2,
        },
        WRITE,
        "Sets several strings.",
        LAST_WINS,
        Run::Pairs(mset),
    ),
    row(
        "MSETNX",
        -3,
        Keys::Range {
            first: 1,
            last: -1,
            step: 2,
        },
        WRITE,
        "Sets several strings if none of the keys exists.",
        LAST_WINS,
        Run::Shard(msetnx),
    ),
    row(
        "LCS",
        -3,
        Keys::TWO,
        Flags::READ,
        "The longest common subsequence of two strings.",
        "",
        Run::Shard(lcs),
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
        group: "string",
        summary,
        conflict,
        run,
    }
}

fn get(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.bulk_or_null(txn.string(&key)?.as_deref());
    Ok(())
}

/// When a key is to end, as given to a command: an absolute time in milliseconds.
pub(super) fn deadline_of(
    amount: i64,
    (seconds, absolute): (bool, bool),
    now_ms: u64,
    command: &'static str,
) -> Result<u64, CommandError> {
    let invalid = CommandError::InvalidExpire(command);
    if amount <= 0 {
        return Err(invalid);
    }
    let unit = if seconds { 1_000 } else { 1 };
    let base = if absolute { 0 } else { now_ms as i64 };
    let ms = amount
        .checked_mul(unit)
        .and_then(|ms| ms.checked_add(base))
        .ok_or(invalid)?;
    Ok(ms as u64)
}

/// The options of `SET`.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of the command"
)]
struct SetOptions {
    nx: bool,
    xx: bool,
    get: bool,
    keep_ttl: bool,
    deadline: Option<u64>,
}

/// When a key is to end: an amount as it was written, whether it is in seconds, whether it is
/// absolute.
type Amount<'a> = (&'a [u8], (bool, bool));

/// An option that says when a key ends. What it says is read later: other mistakes come first.
fn deadline_option<'a>(args: &mut Args<'a>) -> Result<Option<Amount<'a>>, CommandError> {
    for (token, how) in [
        ("EX", (true, false)),
        ("PX", (false, false)),
        ("EXAT", (true, true)),
        ("PXAT", (false, true)),
    ] {
        if args.token_is(token) {
            return Ok(Some((args.next()?, how)));
        }
    }
    Ok(None)
}

fn deadline_written(
    (amount, how): Amount<'_>,
    now_ms: u64,
    command: &'static str,
) -> Result<u64, CommandError> {
    let amount = parse_i64(amount).ok_or(CommandError::NotAnInteger)?;
    deadline_of(amount, how, now_ms, command)
}

fn set_options(args: &mut Args<'_>, now_ms: u64) -> Result<SetOptions, CommandError> {
    let mut options = SetOptions::default();
    let mut written = None;
    while !args.is_empty() {
        let timed = written.is_some() || options.keep_ttl;
        if !options.xx && args.token_is("NX") {
            options.nx = true;
        } else if !options.nx && args.token_is("XX") {
            options.xx = true;
        } else if args.token_is("GET") {
            options.get = true;
        } else if !timed && args.token_is("KEEPTTL") {
            options.keep_ttl = true;
        } else if !timed && let Some(amount) = deadline_option(args)? {
            written = Some(amount);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let deadline = written.map(|amount| deadline_written(amount, now_ms, "set"));
    options.deadline = deadline.transpose()?;
    Ok(options)
}

fn set(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (txn.key(args.next()?), args.next()?);
    if args.is_empty() {
        txn.string_set(&key, value, Attached::Deadline(Deadline::Never));
        reply.ok();
        return Ok(());
    }
    let options = set_options(args, txn.now_ms())?;
    let old = if options.get {
        txn.string(&key)?.map(Cow::into_owned)
    } else {
        None
    };
    let exists = txn.exists(&key);
    let refused = (options.nx && exists) || (options.xx && !exists);
    if !refused {
        let attached = match options.deadline {
            Some(ms) => Attached::Deadline(Deadline::At(ms)),
            None if options.keep_ttl => Attached::Nothing,
            None => Attached::Deadline(Deadline::Never),
        };
        txn.string_set(&key, value, attached);
    }
    match (options.get, refused) {
        (true, _) => reply.bulk_or_null(old.as_deref()),
        (false, true) => reply.null(),
        (false, false) => reply.ok(),
    }
    Ok(())
}

fn setnx(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (txn.key(args.next()?), args.next()?);
    let free = !txn.exists(&key);
    if free {
        txn.string_set(&key, value, Attached::Deadline(Deadline::Never));
    }
    reply.int(free.into());
    Ok(())
}

fn set_for(txn: &mut Txn<'_>, args: &mut Args<'_>, seconds: bool, name: &'static str) -> Outcome {
    let (key, amount, value) = (txn.key(args.next()?), args.int()?, args.next()?);
    let ms = deadline_of(amount, (seconds, false), txn.now_ms(), name)?;
    txn.string_set(&key, value, Attached::Deadline(Deadline::At(ms)));
    Ok(())
}

fn setex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_for(txn, args, true, "setex")?;
    reply.ok();
    Ok(())
}

fn psetex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    set_for(txn, args, false, "psetex")?;
    reply.ok();
    Ok(())
}

fn getset(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, value) = (txn.key(args.next()?), args.next()?);
    reply.bulk_or_null(txn.string(&key)?.as_deref());
    txn.string_set(&key, value, Attached::Deadline(Deadline::Never));
    Ok(())
}

fn getdel(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.bulk_or_null(txn.string(&key)?.as_deref());
    txn.remove(&key);
    Ok(())
}

fn getex(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let persist = args.token_is("PERSIST");
    let written = if persist || args.is_empty() {
        None
    } else {
        Some(deadline_option(args)?.ok_or(CommandError::Syntax)?)
    };
    args.done()?;
    let now_ms = txn.now_ms();
    let Some(value) = txn.string(&key)? else {
        reply.null();
        return Ok(());
    };
    let ends = written.map(|amount| deadline_written(amount, now_ms, "getex"));
    let ends = ends.transpose()?;
    reply.bulk(&value);
    match ends {
        Some(ms) if ms <= now_ms => {
            txn.remove(&key);
        }
        Some(ms) => txn.set_deadline(&key, Deadline::At(ms)),
        None if persist => txn.set_deadline(&key, Deadline::Never),
        None => {}
    }
    Ok(())
}

fn strlen(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    reply.count(txn.string(&key)?.map_or(0, |value| value.len()));
    Ok(())
}

/// Refuses what would make a string longer than an argument can be.
pub(super) fn check_length(length: u64) -> Outcome {
    if (limits::STRING_BYTES_MAX as u64) < length {
        return Err(CommandError::StringTooLong);
    }
    Ok(())
}

fn append(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, bytes) = (txn.key(args.next()?), args.next()?);
    let before = txn.string(&key)?.map(|value| value.len());
    let length = before.unwrap_or(0) + bytes.len();
    check_length(length as u64)?;
    match before {
        None => txn.string_set(&key, bytes, Attached::Nothing),
        Some(_) => txn.string_edit(&key, Edit::Append(bytes)),
    }
    reply.count(length);
    Ok(())
}

fn getrange(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    let (start, end) = (args.int()?, args.int()?);
    let value = txn.string(&key)?.unwrap_or_default();
    reply.bulk(part_of(&value, start, end));
    Ok(())
}

/// The bytes from `start` to `end`, both included and counted from the end if negative.
fn part_of(value: &[u8], start: i64, end: i64) -> &[u8] {
    let length = value.len() as i64;
    if start < 0 && end < 0 && end < start {
        return &[];
    }
    let from_end = |at: i64| if at < 0 { (at + length).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if end < start {
        &[]
    } else {
        &value[start as usize..=end as usize]
    }
}

fn setrange(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, offset, bytes) = (txn.key(args.next()?), args.int()?, args.next()?);
    let offset = u64::try_from(offset).map_err(|_| CommandError::OffsetOutOfRange)?;
    let length = txn.string(&key)?.map_or(0, |value| value.len());
    if bytes.is_empty() {
        reply.count(length);
        return Ok(());
    }
    let end = offset.saturating_add(bytes.len() as u64);
    check_length(end)?;
    txn.string_edit(&key, Edit::Overwrite { offset, bytes });
    reply.count(length.max(end as usize));
    Ok(())
}

fn mget(txn: &mut Txn<'_>, name: &[u8], reply: &mut Reply<'_>) {
    let key = txn.key(name);
    reply.bulk_or_null(txn.string(&key).ok().flatten().as_deref());
}

fn mset(txn: &mut Txn<'_>, name: &[u8], value: &[u8]) {
    let key = txn.key(name);
    txn.string_set(&key, value, Attached::Deadline(Deadline::Never));
}

fn msetnx(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (pairs, rest) = args.rest().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(CommandError::WrongArity("msetnx".into()));
    }
    let free = pairs.iter().all(|[name, _]| !txn.exists(&txn.key(name)));
    if free {
        for [name, value] in pairs {
            mset(txn, name, value);
        }
    }
    reply.int(free.into());
    Ok(())
}

/// A run that two strings share: where it begins in each, and how long it is.
struct Run2 {
    a: usize,
    b: usize,
    length: usize,
}

fn lcs(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (a, b) = (txn.key(args.next()?), txn.key(args.next()?));
    let (Ok(a), Ok(b)) = (txn.string(&a), txn.string(&b)) else {
        return Err(CommandError::text(
            "ERR The specified keys must contain string values",
        ));
    };
    let (mut length_only, mut indexes, mut with_lengths, mut least) = (false, false, false, 0);
    while !args.is_empty() {
        if args.token_is("LEN") {
            length_only = true;
        } else if args.token_is("IDX") {
            indexes = true;
        } else if args.token_is("WITHMATCHLEN") {
            with_lengths = true;
        } else if args.token_is("MINMATCHLEN") {
            least = usize::try_from(args.int()?).unwrap_or(0);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if length_only && indexes {
        return Err(CommandError::text(
            "ERR If you want both the length and indexes, please just use IDX.",
        ));
    }
    let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
    if limits::STRING_BYTES_MAX < a.len().saturating_mul(b.len()) {
        return Err(CommandError::text(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ));
    }
    let (common, runs) = longest_common(&a, &b);
    if !indexes {
        if length_only {
            reply.count(common.len());
        } else {
            reply.bulk(&common);
        }
        return Ok(());
    }
    reply.map(2);
    reply.bulk(b"matches");
    let runs: Vec<Run2> = runs.into_iter().filter(|run| least <= run.length).collect();
    reply.array(runs.len());
    for run in runs {
        reply.array(2 + usize::from(with_lengths));
        for start in [run.a, run.b] {
            reply.array(2);
            reply.count(start);
            reply.count(start + run.length - 1);
        }
        if with_lengths {
            reply.count(run.length);
        }
    }
    reply.bulk(b"len");
    reply.count(common.len());
    Ok(())
}

/// The longest common subsequence, and its runs from the last to the first.
fn longest_common(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<Run2>) {
    let width = b.len() + 1;
    let mut table = vec![0_u32; (a.len() + 1) * width];
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            table[i * width + j] = if a[i - 1] == b[j - 1] {
                table[(i - 1) * width + j - 1] + 1
            } else {
                table[(i - 1) * width + j].max(table[i * width + j - 1])
            };
        }
    }
    let (mut i, mut j) = (a.len(), b.len());
    let mut common = Vec::new();
    let mut runs: Vec<Run2> = Vec::new();
    while 0 < i && 0 < j {
        if a[i - 1] == b[j - 1] {
            common.push(a[i - 1]);
            match runs.last_mut() {
                Some(run) if run.a == i && run.b == j => {
                    *run = Run2 {
                        a: i - 1,
                        b: j - 1,
                        length: run.length + 1,
                    };
                }
                _ => runs.push(Run2 {
                    a: i - 1,
                    b: j - 1,
                    length: 1,
                }),
            }
            (i, j) = (i - 1, j - 1);
        } else if table[(i - 1) * width + j] > table[i * width + j - 1] {
            i -= 1;
        } else {
            j -= 1;
        }
    }
    common.reverse();
    (common, runs)
}
