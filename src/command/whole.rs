//! Values as a whole: what readers see at a key, taken out, and put at another.
//!
//! `RENAME`, `COPY`, `DUMP` and `RESTORE` are made of these. What is put is written as a client
//! would write it: it is new to all regions, and nothing of what made it comes along. Costs a copy
//! of the value.

use crdt::{Attached, Deadline, End, Key, Kind};

use super::Outcome;
use crate::rdb::{Field, Value};
use crate::shard::Txn;

/// What readers see at a key, without its deadline.
pub(super) fn take(txn: &Txn<'_>, key: &Key<'_>) -> Option<Value> {
    Some(match txn.kind(key)? {
        Kind::String => Value::String(txn.string(key).ok()??.into_owned()),
        Kind::Hash => {
            let hash = txn.hash(key).ok()??;
            let fields = hash.iter().map(|(name, value)| Field {
                name: name.to_vec(),
                value: value.into_owned(),
                ends_at_ms: hash.deadline(name),
            });
            Value::Hash(fields.collect())
        }
        Kind::Set => Value::Set(txn.set(key).ok()??.iter().map(<[u8]>::to_vec).collect()),
        Kind::SortedSet => {
            let zset = txn.sorted_set(key).ok()??;
            let members = zset
                .range(0..zset.len())
                .map(|(name, score)| (name.to_vec(), score));
            Value::SortedSet(members.collect())
        }
        Kind::List => {
            let list = txn.list(key).ok()??;
            Value::List(list.range(0..list.len()).map(<[u8]>::to_vec).collect())
        }
    })
}

/// Replaces whatever is at a key by a value that ends at a time, which is not past. Fields that
/// have ended by now are left out, and so is a hash that has no others.
pub(super) fn put(
    txn: &mut Txn<'_>,
    key: &Key<'_>,
    value: &Value,
    ends_at_ms: Option<u64>,
) -> Outcome {
    txn.remove(key);
    match value {
        Value::String(value) => txn.string_set(key, value, Attached::Deadline(Deadline::Never)),
        Value::Hash(fields) => {
            let now_ms = txn.now_ms();
            let live = |field: &&Field| field.ends_at_ms.is_none_or(|ends| now_ms < ends);
            for field in fields.iter().filter(live) {
                let attached = field.ends_at_ms.map_or(Deadline::Never, Deadline::At);
                let attached = Attached::Deadline(attached);
                txn.hash_set(key, &field.name, &field.value, attached);
            }
        }
        Value::Set(members) => {
            txn.set_add(key, members)?;
        }
        Value::SortedSet(members) => {
            for (member, score) in members {
                txn.zset_set(key, member, *score);
            }
        }
        Value::List(elements) => {
            txn.list_push(key, End::Tail, elements)?;
        }
    }
    if let Some(ms) = ends_at_ms.filter(|_| txn.exists(key)) {
        txn.set_deadline(key, Deadline::At(ms));
    }
    Ok(())
}
