//! The whole contents of two servers, compared key by key.

use testing::{Client, Value};

use crate::accepted::Accepted;
use crate::compare::Compare;
use crate::generator::{Words, words};

/// Keys read in one pipeline.
const AT_ONCE: usize = 50;

/// What differs, one line a difference; empty if nothing does.
pub(crate) fn differences(
    redis: &mut Client,
    ours: &mut Client,
    accepted: &mut Accepted,
) -> Vec<String> {
    let mut found = Vec::new();
    let keys = redis.run(&["KEYS", "*"]);
    let our_keys = ours.run(&["KEYS", "*"]);
    if !Compare::Unordered.same(&keys, &our_keys) {
        found.push(format!("keys: {}", missing(&keys, &our_keys)));
    }
    let names: Vec<Vec<u8>> = keys
        .items()
        .unwrap_or_default()
        .iter()
        .filter_map(|key| key.bytes())
        .map(<[u8]>::to_vec)
        .collect();
    for names in names.chunks(AT_ONCE) {
        let types: Vec<Words> = names
            .iter()
            .map(|name| words!["TYPE", name.clone()])
            .collect();
        let kinds = redis.pipeline(&types).expect("redis answers");
        let reads: Vec<(Words, Compare)> = names
            .iter()
            .zip(&kinds)
            .flat_map(|(name, kind)| reads(name, kind))
            .collect();
        let commands: Vec<&Words> = reads.iter().map(|(command, _)| command).collect();
        let replies = redis.pipeline(&commands).expect("redis answers");
        let our_replies = ours.pipeline(&commands).expect("the server answers");
        for (((command, how), theirs), own) in reads.iter().zip(replies).zip(our_replies) {
            let name = String::from_utf8_lossy(&command[0]).into_owned();
            if !how.same(&theirs, &own) && !accepted.allows(&name, &theirs, &own) {
                let key = command[1].escape_ascii();
                found.push(format!("{name} {key}: redis {theirs:?}, ours {own:?}"));
            }
        }
    }
    found
}

/// Everything that a reader can see of a key.
fn reads(name: &[u8], kind: &Value) -> Vec<(Words, Compare)> {
    let name = name.to_vec();
    let (command, how) = match kind.bytes() {
        Some(b"string") => (words!["GET", name.clone()], Compare::Exact),
        Some(b"hash") => (words!["HGETALL", name.clone()], Compare::Pairs),
        Some(b"set") => (words!["SMEMBERS", name.clone()], Compare::Unordered),
        Some(b"zset") => (
            words!["ZRANGE", name.clone(), "0", "-1", "WITHSCORES"],
            Compare::Exact,
        ),
        Some(b"list") => (words!["LRANGE", name.clone(), "0", "-1"], Compare::Exact),
        _ => (words!["EXISTS", name.clone()], Compare::Exact),
    };
    vec![
        (words!["TYPE", name.clone()], Compare::Exact),
        (command, how),
        (words!["PTTL", name], Compare::Millis),
    ]
}

fn missing(redis: &Value, ours: &Value) -> String {
    let (a, b) = (
        redis.items().unwrap_or_default(),
        ours.items().unwrap_or_default(),
    );
    let only_a: Vec<_> = a.iter().filter(|key| !b.contains(key)).take(5).collect();
    let only_b: Vec<_> = b.iter().filter(|key| !a.contains(key)).take(5).collect();
    format!(
        "{} and {}; only redis {only_a:?}, only ours {only_b:?}",
        a.len(),
        b.len()
    )
}
