//! Runs commands on a shard of a single region, for the tests of the families.

use std::collections::BTreeSet;
use std::sync::Arc;

use crdt::{Epoch, Origin, Region, SLOTS, Seed, Slot};
use geo::proto::Offer;

use super::{Args, Reply, Run, Wait, table};
use crate::oplog::Budget;
use crate::resp::Protocol;
use crate::shard::{Identity, Peers, Shard};

/// What the commands see as now.
pub(super) const NOW_MS: u64 = 1_800_000_000_000;

fn identity(region: Region, alone: bool) -> Identity {
    Identity {
        number: 0,
        first: Slot::new(0).expect("0 is a slot"),
        slots: SLOTS,
        origin: Origin::new(region, Epoch(1)),
        alone,
    }
}

/// A shard with all slots.
pub(super) fn shard() -> Shard {
    let region = Region::new(1).expect("1 is a region");
    Shard::new(identity(region, true), Seed::from_text(b"test"), 1)
}

/// The shard of one of two regions.
pub(super) fn shard_of(id: u8) -> Shard {
    let regions = [1, 2].map(|id| Region::new(id).expect("not 0"));
    let peers = Peers {
        members: BTreeSet::from(regions),
        clock_drift_max_ms: 500,
        budget: Arc::new(Budget::new(1 << 20)),
        on_disk: false,
    };
    let identity = identity(regions[usize::from(id) - 1], false);
    Shard::with_peers(identity, Seed::from_text(b"test"), 1, peers)
}

/// Carries what the shards of two regions have written to the other one.
pub(super) fn exchange(a: &mut Shard, b: &mut Shard) {
    let frames = [a.seal(), b.seal()];
    for (frame, to) in frames.into_iter().zip([b, a]) {
        if let Some(frame) = frame {
            let from = frame.origin().region;
            let answer = to.offer(frame, from, NOW_MS);
            assert_eq!(answer, Offer::Ready, "from {from}");
        }
    }
}

/// Runs each line on the same new shard, and compares the replies as [`run`] writes them.
#[track_caller]
pub(super) fn check(lines: &[(&str, &str)]) {
    check_at(&mut shard(), NOW_MS, lines);
}

/// As [`check`], on a shard that may have been used, at a time.
#[track_caller]
pub(super) fn check_at(shard: &mut Shard, now_ms: u64, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        assert_eq!(run_at(shard, now_ms, line), *expected, "{line}");
    }
}

/// Runs a command and writes its reply in a line: integers as `:1`, strings as they are, `nil`,
/// arrays in brackets, errors as `-ERR …`. An argument `""` is the empty string; `BLOCK` is said
/// by a command that would wait.
pub(super) fn run(shard: &mut Shard, line: &str) -> String {
    run_at(shard, NOW_MS, line)
}

fn run_at(shard: &mut Shard, now_ms: u64, line: &str) -> String {
    let arguments: Vec<&[u8]> = line
        .split(' ')
        .map(|word| if word == "\"\"" { "" } else { word }.as_bytes())
        .collect();
    let out = run_words(shard, now_ms, &arguments);
    let text = String::from_utf8_lossy(&out).into_owned();
    let mut rest = text.as_str();
    let shown = show(&mut rest);
    assert_eq!(rest, "", "more than one reply to {line}");
    shown
}

/// Runs a command of any bytes, and returns its reply as it goes to the client.
pub(super) fn run_bytes(shard: &mut Shard, arguments: &[&[u8]]) -> Vec<u8> {
    run_words(shard, NOW_MS, arguments)
}

fn run_words(shard: &mut Shard, now_ms: u64, arguments: &[&[u8]]) -> Vec<u8> {
    let command = table::find(arguments[0]).expect("the command is in the table");
    assert!(command.takes(arguments.len()), "arity of {arguments:?}");
    let mut out = Vec::new();
    let mut reply = Reply::new(&mut out, Protocol::Resp2);
    let mark = reply.mark();
    let outcome = shard.transact(now_ms, None, |txn| {
        let args = &mut Args::new(arguments);
        match command.run {
            Run::Shard(handler) => handler(txn, args, &mut reply),
            Run::Sum(handler) => {
                reply.int(args.rest().iter().map(|name| handler(txn, name)).sum());
                Ok(())
            }
            Run::Wait(handler) => handler(txn, args, &mut reply).map(|wait| {
                if wait == Wait::Block {
                    reply.simple("BLOCK");
                }
            }),
            Run::Each(_) | Run::Pairs(_) | Run::Node(_) => {
                unreachable!("tests of families run commands of a shard")
            }
        }
    });
    if let Err(error) = outcome {
        reply.rollback(mark);
        reply.error(&error);
    }
    out
}

fn show(rest: &mut &str) -> String {
    let (line, after) = rest.split_once("\r\n").expect("a reply has lines");
    *rest = after;
    let (kind, value) = line.split_at(1);
    match (kind, value) {
        ("$" | "*", "-1") => "nil".into(),
        ("$", length) => {
            let length: usize = length.parse().expect("a length");
            let (bulk, after) = rest.split_at(length);
            *rest = after.strip_prefix("\r\n").expect("a string ends");
            bulk.into()
        }
        ("*", length) => {
            let length: usize = length.parse().expect("a length");
            let elements: Vec<String> = (0..length).map(|_| show(rest)).collect();
            format!("[{}]", elements.join(" "))
        }
        ("+", status) => status.into(),
        _ => line.into(),
    }
}
