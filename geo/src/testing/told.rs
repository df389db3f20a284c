//! The state of a shard that only remembers: its ops, each in a slot and with a tag of its own.

use std::collections::BTreeSet;

use bytes::Bytes;
use crdt::{Epoch, Origin, Region, Slot, Span, Stamp, Time, Version};

use crate::proto::SpanSum;

/// Slots that ops are spread over.
const SLOTS: u16 = 4;

pub(super) fn spans() -> Vec<Span> {
    (0..SLOTS).filter_map(Slot::new).map(Span::all).collect()
}

fn hash(op: Stamp) -> u64 {
    let origin = u64::from(op.origin.region.id()) ^ op.origin.epoch.0 << 8;
    let mixed = (op.time.0 ^ origin << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

fn is_in(op: Stamp, span: Span) -> bool {
    let hash = hash(op);
    let tag = (hash >> 32) as u32;
    hash as u16 % SLOTS == span.slot.number() && (span.first..=span.last).contains(&tag)
}

pub(super) fn sum(ops: &BTreeSet<Stamp>, span: Span) -> SpanSum {
    let within = ops.iter().filter(|op| is_in(**op, span));
    let (keys, sum) = within.fold((0, 0), |(keys, sum), &op| (keys + 1, sum ^ hash(op)));
    SpanSum {
        keys,
        sum: Some(sum),
    }
}

/// The ops of a span, behind the version that they are at.
pub(super) fn piece(version: &Version, ops: &BTreeSet<Stamp>, span: Option<Span>) -> Bytes {
    let mut out = Vec::new();
    version.encode(&mut out);
    let within = ops
        .iter()
        .filter(|op| span.is_some_and(|span| is_in(**op, span)));
    for op in within {
        out.push(op.origin.region.id());
        out.extend(op.origin.epoch.0.to_le_bytes());
        out.extend(op.time.0.to_le_bytes());
    }
    out.into()
}

pub(super) fn read(piece: &[u8]) -> Option<(Version, Vec<Stamp>)> {
    let mut rest = piece;
    let version = Version::decode(&mut rest).ok()?;
    let (all, []) = rest.as_chunks::<17>() else {
        return None;
    };
    let number = |bytes: &[u8]| Some(u64::from_le_bytes(bytes.try_into().ok()?));
    let op = |bytes: &[u8; 17]| {
        let region = Region::new(bytes[0])?;
        Some(Stamp {
            time: Time(number(&bytes[9..])?),
            origin: Origin::new(region, Epoch(number(&bytes[1..9])?)),
        })
    };
    Some((version, all.iter().map(op).collect::<Option<_>>()?))
}
