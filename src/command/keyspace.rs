//! All keys: walking, counting and removing them.

use super::keys::row;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, glob};
use crate::limits;
use crate::proxy::Call;

const READ: Flags = Flags::READ.and(Flags::FAST);
const REMOVES_SEEN: &str = "removes what it had seen; what it had not seen survives";

pub(super) const COMMANDS: &[Command] = &[
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
];

fn keys(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let pattern = args.next()?;
    let mut count = 0;
    let all = reply.array_deferred();
    for index in 0..call.server.shards.count() {
        let mut cursor = 0;
        loop {
            let shard = call.server.shards.serve(index)?;
            cursor = shard.scan(cursor, limits::SCAN_STEP_MAX as u32, call.now_ms, |name| {
                if glob::matches(pattern, name) {
                    reply.bulk(name);
                    count += 1;
                }
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
        let shard = shards.serve(index)?;
        let mut here: Vec<Box<[u8]>> = Vec::new();
        inner = shard.scan(inner, count, call.now_ms, |name| {
            if pattern.is_none_or(|pattern| glob::matches(pattern, name)) {
                here.push(name.into());
            }
        });
        let state = shard.state();
        let has_type = |name: &[u8], wanted: &[u8]| {
            let kind = state.kind(&state.seed().key(name), call.now_ms);
            kind.is_some_and(|kind| kind.name().as_bytes().eq_ignore_ascii_case(wanted))
        };
        here.retain(|name| wanted.is_none_or(|wanted| has_type(name, wanted)));
        found.append(&mut here);
        drop(shard);
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
    for name in &found {
        reply.bulk(name);
    }
    Ok(())
}

fn random_key(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let shards = &call.server.shards;
    let sizes = sizes(call)?;
    let total: usize = sizes.iter().sum();
    if total == 0 {
        reply.null();
        return Ok(());
    }
    let mut pick = shards.with(0, |shard| shard.random().usize(0..total));
    for (index, size) in sizes.into_iter().enumerate() {
        if pick < size {
            let name = shards.serve(index)?.random_key(call.now_ms);
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
pub(super) fn sizes(call: &Call<'_>) -> Result<Vec<usize>, CommandError> {
    let shards = &call.server.shards;
    let size = |index| Ok(shards.serve(index)?.len(call.now_ms));
    (0..shards.count()).map(size).collect()
}

fn flush(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    if !args.is_empty() && !args.token_is("ASYNC") && !args.token_is("SYNC") {
        return Err(CommandError::Syntax);
    }
    args.done()?;
    for index in 0..call.server.shards.count() {
        call.transact(index, None, |txn| {
            txn.flush();
        })?;
    }
    reply.ok();
    Ok(())
}
