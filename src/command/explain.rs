//! `REGION EXPLAIN`: what a value, or one element of it, is made of, for people who want to know
//! why they read what they read.
//!
//! Of a key it tells the facts of the string and how many elements each container has; an element
//! has to be asked for by name, so a reply is small however large the value is.

use crdt::{Anatomy, FactId, Key, Kind, Number, Region, SeenPart, State};

use super::{Args, Outcome, Reply};
use crate::proxy::{Call, RegionState, Server};
use crate::resp::encode::format_double;

pub(super) fn explain(call: &mut Call<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let server = call.server;
    let names = Names::of(server, call.now_ms);
    let key = server.shards.seed().key(args.next()?);
    let element = if args.is_empty() {
        None
    } else {
        Some(args.next()?)
    };
    args.done()?;
    let shard = server.shards.serve(server.shards.index_of(key.slot))?;
    let state = shard.state();
    if let Some(element) = element {
        return explain_element(state, &key, element, &names, reply);
    }
    let survey = state.survey(&key, shard.origin());
    let bodies = KINDS.iter().filter(|kind| survey.bodies.has(kind.bodies()));
    let kinds: Vec<Kind> = bodies.copied().collect();
    reply.map(9);
    reply.bulk(b"type");
    reply.bulk_text(state.kind(&key, call.now_ms).map_or("none", Kind::name));
    reply.bulk(b"slot");
    reply.int(key.slot.number().into());
    reply.bulk(b"types");
    reply.array(kinds.len());
    for kind in &kinds {
        reply.bulk_text(kind.name());
    }
    elements(state, &key, &kinds, call.now_ms, reply);
    deadline(survey.ends_at, reply);
    // Who removes it then.
    reply.bulk(b"deadline-region");
    match state.ending_region(&key) {
        Some(region) => reply.bulk_text(&names.name(region)),
        None => reply.null(),
    }
    names.bases(&state.string_bases(&key), reply);
    names.edits(&state.string_edits(&key), reply);
    names.parts(&state.string_parts(&key), Number::to_text, reply);
    Ok(())
}

/// How many elements each container has.
fn elements(state: &State, key: &Key<'_>, kinds: &[Kind], now_ms: u64, reply: &mut Reply<'_>) {
    let count = |kind: &Kind| match kind {
        Kind::String => None,
        Kind::Hash => state.hash(key, now_ms).map(|hash| hash.len()),
        Kind::Set => state.set(key).map(|set| set.len()),
        Kind::SortedSet => state.sorted_set(key).map(|zset| zset.len()),
        Kind::List => state.list(key).map(|list| list.len()),
    };
    let counts: Vec<(Kind, usize)> = kinds
        .iter()
        .filter_map(|kind| Some((*kind, count(kind)?)))
        .collect();
    reply.bulk(b"elements");
    reply.map(counts.len());
    for (kind, count) in counts {
        reply.bulk_text(kind.name());
        reply.count(count);
    }
}

/// One element: of the hash, the sorted set or the set, whichever has it.
fn explain_element(
    state: &State,
    key: &Key<'_>,
    element: &[u8],
    names: &Names,
    reply: &mut Reply<'_>,
) -> Outcome {
    reply.map(5);
    reply.bulk(b"type");
    if let Some(anatomy) = state.field_anatomy(key, element) {
        reply.bulk_text("field");
        names.anatomy(&anatomy, Number::to_text, reply);
    } else if let Some(anatomy) = state.score_anatomy(key, element) {
        reply.bulk_text("score");
        names.anatomy(&anatomy, |sum| format_double(sum).to_vec(), reply);
    } else {
        let adds = state.member_adds(key, element);
        reply.bulk_text(if adds.is_some() { "member" } else { "none" });
        let adds = adds.unwrap_or_default().into_iter();
        let anatomy = Anatomy {
            bases: adds.map(|fact| (fact, 0)).collect(),
            edits: Vec::new(),
            parts: Vec::<SeenPart<f64>>::new(),
            ends_at: None,
        };
        names.anatomy(&anatomy, |_| Vec::new(), reply);
    }
    Ok(())
}

fn deadline(ends_at: Option<u64>, reply: &mut Reply<'_>) {
    reply.bulk(b"deadline-ms");
    match ends_at {
        Some(ms) => reply.int(ms as i64),
        None => reply.null(),
    }
}

/// All types.
const KINDS: [Kind; 5] = [
    Kind::String,
    Kind::Hash,
    Kind::Set,
    Kind::SortedSet,
    Kind::List,
];

/// What regions are called.
struct Names(Vec<RegionState>);

impl Names {
    fn of(server: &Server, now_ms: u64) -> Self {
        let regions = server.regions.get();
        Self(
            regions
                .map(|regions| regions.list(now_ms))
                .unwrap_or_default(),
        )
    }

    /// A region's name, or its number if it has none here.
    fn name(&self, region: Region) -> String {
        let found = self.0.iter().find(|known| known.id == region.id());
        found.map_or_else(|| region.id().to_string(), |found| found.name.clone())
    }

    /// Who left a fact behind, and when: two pairs of a map.
    fn stamp(&self, fact: FactId, reply: &mut Reply<'_>) {
        reply.bulk(b"region");
        reply.bulk_text(&self.name(fact.stamp.origin.region));
        reply.bulk(b"at-ms");
        reply.int(fact.stamp.time.ms() as i64);
    }

    /// Four pairs of a map.
    fn anatomy<S: Copy>(
        &self,
        anatomy: &Anatomy<S>,
        text: impl Fn(S) -> Vec<u8>,
        reply: &mut Reply<'_>,
    ) {
        deadline(anatomy.ends_at, reply);
        self.bases(&anatomy.bases, reply);
        self.edits(&anatomy.edits, reply);
        self.parts(&anatomy.parts, text, reply);
    }

    /// The first base is what is read, the others are its siblings.
    fn bases(&self, bases: &[(FactId, usize)], reply: &mut Reply<'_>) {
        reply.bulk(b"bases");
        reply.array(bases.len());
        for &(fact, bytes) in bases {
            reply.map(3);
            self.stamp(fact, reply);
            reply.bulk(b"bytes");
            reply.count(bytes);
        }
    }

    fn edits(&self, edits: &[FactId], reply: &mut Reply<'_>) {
        reply.bulk(b"edits");
        reply.array(edits.len());
        for &fact in edits {
            reply.map(2);
            self.stamp(fact, reply);
        }
    }

    fn parts<S: Copy>(
        &self,
        parts: &[SeenPart<S>],
        text: impl Fn(S) -> Vec<u8>,
        reply: &mut Reply<'_>,
    ) {
        reply.bulk(b"counter-parts");
        reply.array(parts.len());
        for part in parts {
            reply.map(4);
            reply.bulk(b"region");
            reply.bulk_text(&self.name(part.origin.region));
            reply.bulk(b"from-ms");
            reply.int(part.birth.time.ms() as i64);
            reply.bulk(b"last-ms");
            reply.int(part.at.time.ms() as i64);
            reply.bulk(b"sum");
            reply.bulk(&text(part.sum));
        }
    }
}
