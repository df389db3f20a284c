//! `REGION`: what the regions of the database know of each other, and of what a client has done.
//!
//! A token holds what a connection has read and written: for each shard that it used, the version
//! that the shard has when the token is asked for, which includes it.

use std::fmt::Write;

use crdt::{Epoch, Origin, Region, Slot, Time, Version};

use super::subcommand::{Subcommand, dispatch};
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run};
use crate::proxy::{Call, Server};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "REGION",
    arity: -2,
    keys: Keys::None,
    flags: Flags::CONTAINER,
    group: "region",
    summary: "What regions know of each other.",
    conflict: "",
    run: Run::Node(region),
}];

pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    sub("LIST", 2, "", "Describes the regions.", list),
    sub(
        "DIGEST",
        -2,
        "[slot]",
        "A digest of all that a reader can see.",
        digest,
    ),
    sub(
        "WAIT",
        -4,
        "count timeout-ms [KEPT]",
        "Waits until so many regions have this connection's writes.",
        wait,
    ),
    sub(
        "TOKEN",
        2,
        "",
        "What this connection has read and written.",
        token,
    ),
    sub(
        "READY",
        -3,
        "token [timeout-ms]",
        "Whether this region has what a token holds.",
        ready,
    ),
    sub(
        "EXPLAIN",
        -3,
        "key [field | member]",
        "What a value is made of, or one element of it.",
        super::explain::explain,
    ),
    sub(
        "ACCEPT-CLOCK",
        3,
        "name",
        "Admits a region's times, however far ahead of ours they are, until this node restarts.",
        accept_clock,
    ),
    sub(
        "ACCEPT-LOSS",
        2,
        "",
        "Has this node serve clients without what it has not got back from the other regions.",
        accept_loss,
    ),
];

const fn sub(
    name: &'static str,
    arity: i32,
    syntax: &'static str,
    summary: &'static str,
    run: fn(&mut Call<'_>, &mut Args<'_>, &mut Reply<'_>) -> Outcome,
) -> Subcommand {
    let flags = match name.as_bytes() {
        b"LIST" | b"ACCEPT-CLOCK" | b"ACCEPT-LOSS" => Flags::LOADING,
        _ => Flags::NONE,
    };
    Subcommand {
        name,
        arity,
        flags,
        syntax,
        summary,
        run,
    }
}

fn region(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    dispatch("REGION", SUBCOMMANDS, call, args, reply)
}

fn list(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let regions = call
        .server
        .regions
        .get()
        .map(|regions| regions.list(call.now_ms));
    let regions = regions.unwrap_or_default();
    reply.array(regions.len());
    for region in regions {
        reply.map(9);
        reply.bulk(b"name");
        reply.bulk_text(&region.name);
        reply.bulk(b"id");
        reply.int(region.id.into());
        reply.bulk(b"self");
        reply.int(region.is_self.into());
        reply.bulk(b"state");
        reply.bulk_text(region.state);
        reply.bulk(b"lag-ms");
        reply.int(region.lag_ms as i64);
        reply.bulk(b"pending-ops");
        reply.int(region.pending_ops as i64);
        reply.bulk(b"stage");
        reply.bulk_text(region.stage);
        reply.bulk(b"silent-ms");
        reply.int(region.silent_ms as i64);
        // The shard that is being caught up by its state, or -1.
        reply.bulk(b"catching-up");
        reply.int(region.catching_up.map_or(-1, |(shard, _)| shard.into()));
    }
    Ok(())
}

fn accept_clock(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let name = String::from_utf8_lossy(args.next()?).into_owned();
    let regions = call.server.regions.get();
    if !regions.is_some_and(|regions| regions.accept_clock(&name)) {
        return Err(CommandError::text("ERR no such region"));
    }
    reply.ok();
    Ok(())
}

fn accept_loss(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let regions = call.server.regions.get();
    let regions = regions.filter(|_| call.server.loading.is_loading());
    let regions = regions.ok_or(CommandError::text("ERR this node serves clients already"))?;
    let accepted = regions.accept_loss();
    accepted.map_err(|why| CommandError::Other(format!("ERR {why}").into()))?;
    reply.ok();
    Ok(())
}

fn digest(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let shards = &call.server.shards;
    let digest = if args.is_empty() {
        (0..shards.count()).try_fold(0, |all, i| {
            Ok::<_, CommandError>(all ^ shards.serve(i)?.state().digest())
        })?
    } else {
        let slot = u16::try_from(args.int()?).ok().and_then(Slot::new);
        let slot = slot.ok_or(CommandError::text("ERR a slot is a number from 0 to 16383"))?;
        let shard = shards.serve(shards.index_of(slot))?;
        shard.state().slot_digest(slot)
    };
    args.done()?;
    reply.bulk_text(&format!("{digest:016x}"));
    Ok(())
}

/// The last write of this connection to each shard it wrote to; or later ones of others.
fn written(call: &Call<'_>) -> Vec<(usize, Version)> {
    let version = |index| {
        let (origin, time) = call
            .server
            .shards
            .with(index, |shard| (shard.origin(), shard.written()));
        (index, Version::from_iter([(origin, time)]))
    };
    call.session.written.iter().map(version).collect()
}

fn wait(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let count = args.count()?;
    let timeout_ms = timeout_ms(args)?;
    let kept = args.token_is("KEPT");
    args.done()?;
    let wanted = written(call);
    call.reply_later(
        reply,
        timeout_ms,
        Box::new(move |server, reply, is_over| {
            let regions = server.regions.get();
            let holding = regions.map_or(0, |regions| regions.holding(&wanted, kept));
            let done = count <= holding || is_over;
            if done {
                reply.count(holding);
            }
            done
        }),
    );
    Ok(())
}

fn timeout_ms(args: &mut Args<'_>) -> Result<u64, CommandError> {
    let ms = crdt::parse_integer(args.next()?).ok_or(CommandError::TimeoutNotAnInteger)?;
    u64::try_from(ms).map_err(|_| CommandError::TimeoutNegative)
}

/// The first letter of a token: its format.
const TOKEN_FORMAT: &str = "a";

fn token(call: &mut Call<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let mut text = TOKEN_FORMAT.to_owned();
    for index in call.session.used.iter() {
        let version = call
            .server
            .shards
            .with(index, |shard| shard.version().clone());
        let _ = write!(text, ";{index:x}");
        for (origin, time) in version.iter() {
            let Origin { region, epoch } = origin;
            let _ = write!(text, ",{:x}.{:x}.{:x}", region.id(), epoch.0, time.0);
        }
        for (region, epoch) in version.floors() {
            let _ = write!(text, ",{:x}.{:x}", region.id(), epoch.0);
        }
    }
    reply.bulk_text(&text);
    Ok(())
}

/// What a token holds: shards and versions. `None` if it is none of ours.
fn read_token(text: &[u8]) -> Option<Vec<(usize, Version)>> {
    let mut parts = std::str::from_utf8(text).ok()?.split(';');
    if parts.next() != Some(TOKEN_FORMAT) {
        return None;
    }
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut shards = Vec::new();
    for part in parts {
        let mut entries = part.split(',');
        let index = usize::try_from(hex(entries.next()?)?).ok()?;
        let mut version = Version::new();
        for entry in entries {
            let mut numbers = entry.split('.').map(hex);
            let region = Region::new(u8::try_from(numbers.next()??).ok()?)?;
            let epoch = Epoch(numbers.next()??);
            match numbers.next() {
                Some(time) => version.advance(Origin::new(region, epoch), Time(time?)),
                None => version.raise_floor(region, epoch),
            }
            if numbers.next().is_some() {
                return None;
            }
        }
        shards.push((index, version));
    }
    Some(shards)
}

fn ready(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let wanted = read_token(args.next()?).ok_or(CommandError::text("ERR invalid token"))?;
    if wanted
        .iter()
        .any(|(index, _)| call.server.shards.count() <= *index)
    {
        return Err(CommandError::text("ERR the token is of another database"));
    }
    let waits = !args.is_empty();
    let timeout_ms = if waits { timeout_ms(args)? } else { 0 };
    args.done()?;
    let is_ready = move |server: &Server| {
        let has = |(index, version): &(usize, Version)| {
            server
                .shards
                .with(*index, |shard| shard.version().includes(version))
        };
        wanted.iter().all(has)
    };
    if !waits {
        reply.int(is_ready(call.server).into());
        return Ok(());
    }
    call.reply_later(
        reply,
        timeout_ms,
        Box::new(move |server, reply, is_over| {
            let ready = is_ready(server);
            if ready || is_over {
                reply.int(ready.into());
            }
            ready || is_over
        }),
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_none_is_refused() {
        assert_eq!(read_token(b"a"), Some(Vec::new()));
        assert_eq!(read_token(b"a;3"), Some(vec![(3, Version::new())]));
        let origin = Origin::new(Region::new(2).unwrap(), Epoch(16));
        let version = Version::from_iter([(origin, Time(255))]);
        assert_eq!(read_token(b"a;0,2.10.ff"), Some(vec![(0, version)]));
        for text in [
            "",
            "b",
            "a;",
            "a;x",
            "a;0,0.1.1",
            "a;0,1",
            "a;0,1.2.3.4",
            "a;0,1.2.x",
        ] {
            assert_eq!(read_token(text.as_bytes()), None, "{text}");
        }
    }
}
