//! All that a reader can see of a key, comparable.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crdt::{Kind, State};

/// A field's value and when it ends.
pub(crate) type Field = (Vec<u8>, Option<u64>);

/// What can be seen of a key at a moment. Containers are looked into even where the key shows
/// another type.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    pub(crate) kind: Option<Kind>,
    pub(crate) ends_at: Option<u64>,
    pub(crate) string: Option<Vec<u8>>,
    pub(crate) fields: BTreeMap<Vec<u8>, Field>,
    pub(crate) members: BTreeSet<Vec<u8>>,
    pub(crate) scores: Vec<(f64, Vec<u8>)>,
    pub(crate) elements: Vec<Vec<u8>>,
}

impl Look {
    /// Looks at a key of a shard's state.
    pub(crate) fn at(state: &State, name: &[u8], now_ms: u64) -> Self {
        let key = state.seed().key(name);
        let kind = state.kind(&key, now_ms);
        let hash = state.hash(&key, now_ms);
        let fields = hash.into_iter().flat_map(|hash| {
            hash.iter().map(move |(field, value)| {
                let ends_at = hash.deadline(field);
                (field.to_vec(), (value.into_owned(), ends_at))
            })
        });
        let fields: BTreeMap<_, _> = fields.collect();
        let counted = hash.map_or(0, |hash| hash.len());
        assert_eq!(counted, fields.len(), "fields are counted right");

        let set = state.set(&key);
        let members: BTreeSet<_> = set
            .iter()
            .flat_map(|set| set.iter().map(<[u8]>::to_vec))
            .collect();
        let counted = set.map_or(0, |set| set.len());
        assert_eq!(counted, members.len(), "members are counted right");

        let zset = state.sorted_set(&key);
        let scores = zset.iter().flat_map(|zset| zset.range(0..zset.len()));
        let scores: Vec<_> = scores.map(|(name, score)| (score, name.to_vec())).collect();
        for (rank, (score, name)) in scores.iter().enumerate() {
            let zset = zset.as_ref().expect("it has members");
            assert_eq!(zset.score(name), Some(*score), "scores are indexed");
            assert_eq!(zset.rank(name), Some(rank), "ranks are indexed");
        }

        let list = state.list(&key);
        let elements = list.iter().flat_map(|list| list.range(0..list.len()));
        let elements = elements.map(<[u8]>::to_vec).collect();
        Self {
            kind,
            ends_at: kind.and_then(|_| state.deadline(&key)),
            string: state.string(&key, now_ms).map(Cow::into_owned),
            fields,
            members,
            scores,
            elements,
        }
    }
}
