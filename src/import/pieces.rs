//! A large value as several small ones, and the commands that add them to a key.

use crate::rdb::{Field, Value};

/// Bytes that an element costs besides its own.
const ELEMENT_BYTES: usize = 16;

/// Pieces of about so many bytes, at least one element each, that make up the value in their order.
pub(super) fn split(value: Value, bytes: usize) -> Box<dyn Iterator<Item = Value>> {
    match value {
        Value::String(_) => Box::new(std::iter::once(value)),
        Value::List(elements) => Box::new(runs(elements, bytes, Vec::len).map(Value::List)),
        Value::Set(members) => Box::new(runs(members, bytes, Vec::len).map(Value::Set)),
        Value::SortedSet(members) => {
            let runs = runs(members, bytes, |(name, _)| name.len());
            Box::new(runs.map(Value::SortedSet))
        }
        Value::Hash(fields) => {
            let runs = runs(fields, bytes, |field| field.name.len() + field.value.len());
            Box::new(runs.map(Value::Hash))
        }
    }
}

fn runs<T>(all: Vec<T>, bytes: usize, size: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = all.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut run = vec![rest.next()?];
        let mut weight = size(&run[0]);
        while let Some(next) = rest.next_if(|next| weight + size(next) + ELEMENT_BYTES <= bytes) {
            weight += size(&next) + ELEMENT_BYTES;
            run.push(next);
        }
        Some(run)
    })
}

/// The commands that add a piece to a key that is there. Fields that have ended by now are left
/// out.
pub(super) fn commands(key: &[u8], piece: &Value, now_ms: u64) -> Vec<Vec<Vec<u8>>> {
    let command = |name: &str| vec![name.as_bytes().to_vec(), key.to_vec()];
    match piece {
        Value::String(text) => vec![[command("APPEND"), vec![text.clone()]].concat()],
        Value::List(elements) => vec![[command("RPUSH"), elements.clone()].concat()],
        Value::Set(members) => vec![[command("SADD"), members.clone()].concat()],
        Value::SortedSet(members) => {
            let mut words = command("ZADD");
            for (name, score) in members {
                words.push(format!("{score:?}").into_bytes());
                words.push(name.clone());
            }
            vec![words]
        }
        Value::Hash(fields) => {
            let live = |field: &&Field| field.ends_at_ms.is_none_or(|ends| now_ms < ends);
            let mut set = command("HSET");
            let mut all = Vec::new();
            for field in fields.iter().filter(live) {
                set.extend([field.name.clone(), field.value.clone()]);
                if let Some(ends) = field.ends_at_ms {
                    let mut words = command("HPEXPIREAT");
                    words.push(ends.to_string().into_bytes());
                    words.extend(["FIELDS", "1"].map(|word| word.as_bytes().to_vec()));
                    words.push(field.name.clone());
                    all.push(words);
                }
            }
            if 2 < set.len() {
                all.insert(0, set);
            }
            all
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_value() {
        let elements: Vec<Vec<u8>> = (0..100).map(|n| vec![b'x'; n]).collect();
        let pieces: Vec<Value> = split(Value::List(elements.clone()), 300).collect();
        assert!((10..=100).contains(&pieces.len()), "{}", pieces.len());
        let mut joined = Vec::new();
        for piece in pieces {
            let Value::List(part) = piece else {
                unreachable!("a list is cut into lists")
            };
            let bytes: usize = part.iter().map(Vec::len).sum();
            assert!(part.len() == 1 || bytes <= 300, "{bytes}");
            joined.extend(part);
        }
        assert_eq!(joined, elements);
        assert_eq!(split(Value::List(elements), 1).count(), 100);
    }

    #[test]
    fn commands_say_all_of_a_piece() {
        let field = |name: &str, ends_at_ms| Field {
            name: name.into(),
            value: b"v".to_vec(),
            ends_at_ms,
        };
        let fields = vec![field("a", None), field("b", Some(9)), field("c", Some(5))];
        let shown = |piece: &Value| {
            let commands = commands(b"k", piece, 5).into_iter();
            let lines = commands.map(|words| String::from_utf8(words.join(&b' ')).unwrap());
            lines.collect::<Vec<_>>()
        };
        let wanted = ["HSET k a v b v", "HPEXPIREAT k 9 FIELDS 1 b"];
        assert_eq!(shown(&Value::Hash(fields)), wanted);
        assert!(shown(&Value::Hash(vec![field("c", Some(5))])).is_empty());
        let scores = [1.5, f64::NEG_INFINITY, 1e300, -0.0];
        let members = scores.map(|score| (b"m".to_vec(), score));
        let wanted = ["ZADD k 1.5 m -inf m 1e300 m -0.0 m"];
        assert_eq!(shown(&Value::SortedSet(members.to_vec())), wanted);
        let two = vec![b"1".to_vec(), b"2".to_vec()];
        assert_eq!(shown(&Value::List(two.clone())), ["RPUSH k 1 2"]);
        assert_eq!(shown(&Value::Set(two)), ["SADD k 1 2"]);
    }
}
