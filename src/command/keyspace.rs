//! All keys: walking, counting and removing them.

use super::keys::row;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, glob};
use crate::limits;
use crate::proxy::Call;

const READ: Flags = Flags::READ.and(Flags::ALL_SHARDS);
const WRITE: Flags = Flags::WRITE.and(Flags::ALL_SHARDS);
const REMOVES_SEEN: &str = "removes what it had seen; what it had not seen survives";

pub(super) const COMMANDS: &[Command] = &[
    row(
        "KEYS",
        2,
        Keys::None,
        READ,
        "All keys that match a pattern.",
        "",
        Run::Node(keys),
    ),
    row(
        "SCAN",
        -2,
        Keys::None,
        READ,
        "Walks all keys in steps.",
        "",
        Run::Node(scan),
    ),
    row(
        "RANDOMKEY",
        1,
        Keys::None,
        READ,
        "A key at random.",
        "",
        Run::Node(random_key),
    ),
    row(
        "DBSIZE",
        1,
        Keys::None,
        READ.and(Flags::FAST),
        "How many keys there are.",
        "",
        Run::Node(dbsize),
    ),
    row(
        "FLUSHDB",
        -1,
        Keys::None,
        WRITE,
        "Removes all keys.",
        REMOVES_SEEN,
        Run::Node(flush),
    ),
    row(
        "FLUSHALL",
        -1,
        Keys::None,
        WRITE,
        "Removes all keys.",
        REMOVES_SEEN,
        Run::Node(flush),
    ),
];

fn keys(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pattern = args.next()?;
    let mut count = 0;
    let all = reply.array_deferred();
    for index in 0..call.server.shards.count() {
        let mut cursor = 0;
        loop {
            let now_ms = call.now_ms;
            cursor = call.look(index, |shard| {
                shard.scan(cursor, limits::SCAN_STEP_MAX as u32, now_ms, |name| {
                    if glob::matches(pattern, name) {
                        reply.bulk(name);
                        count += 1;
                    }
                })
            })?;
            if cursor == 0 || reply.is_full() {
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
    let (shards, now_ms) = (call.server.shards.count(), call.now_ms);
    // Empty shards are passed over, or a small database would take a call for each.
    while index < shards {
        inner = call.look(index, |shard| {
            let mut here: Vec<Box<[u8]>> = Vec::new();
            let next = shard.scan(inner, count, now_ms, |name| {
                if pattern.is_none_or(|pattern| glob::matches(pattern, name)) {
                    here.push(name.into());
                }
            });
            let state = shard.state();
            let has_type = |name: &[u8], wanted: &[u8]| {
                let kind = state.kind(&state.seed().key(name), now_ms);
                kind.is_some_and(|kind| kind.name().as_bytes().eq_ignore_ascii_case(wanted))
            };
            here.retain(|name| wanted.is_none_or(|wanted| has_type(name, wanted)));
            found.append(&mut here);
            next
        })?;
        if inner != 0 {
            break;
        }
        index += 1;
        if count as usize <= found.len() {
            break;
        }
    }
    let next = if index < shards {
        (index as u64) << SHARD_BITS | inner
    } else {
        0
    };
    reply.array(2);
    reply.bulk_text(&next.to_string());
    reply.array(found.len());
    for name in &found {
        reply.bulk(name);
    }
    Ok(())
}

fn random_key(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let sizes = sizes(call)?;
    let total: usize = sizes.iter().sum();
    if total == 0 {
        reply.null();
        return Ok(());
    }
    let now_ms = call.now_ms;
    let mut pick = call.look(0, |shard| shard.random().usize(0..total))?;
    for (index, size) in sizes.into_iter().enumerate() {
        if pick < size {
            let name = call.look(index, |shard| shard.random_key(now_ms))?;
            reply.bulk_or_null(name.as_deref());
            return Ok(());
        }
        pick -= size;
    }
    reply.null();
    Ok(())
}

fn dbsize(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    reply.count(sizes(call)?.iter().sum());
    Ok(())
}

/// How many keys there are in each shard.
pub(super) fn sizes(call: &mut Call<'_>) -> Result<Vec<usize>, CommandError> {
    let now_ms = call.now_ms;
    (0..call.server.shards.count())
        .map(|index| call.look(index, |shard| shard.len(now_ms)))
        .collect()
}

fn flush(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !args.is_empty() && !args.token_is("ASYNC") && !args.token_is("SYNC") {
        return Err(CommandError::Syntax);
    }
    args.done()?;
    call.with_all_held(|call| {
        for index in 0..call.server.shards.count() {
            if call.look(index, |shard| shard.is_ahead())? {
                return Err(CommandError::TryAgain);
            }
        }
        for index in 0..call.server.shards.count() {
            call.transact(index, None, |txn| {
                txn.flush();
            })?;
        }
        Ok(())
    })?;
    reply.ok();
    Ok(())
}
