//! `DUMP` and `RESTORE`: values in Redis's own format, for whoever moves them.
//!
//! What is restored is an ordinary write: one op, however large the value is, that goes to other
//! regions as any other. How it was used before is noted here alone, if the policy goes by it.

use super::keys::row;
use super::number::parse_i64;
use super::{Args, Command, CommandError, Flags, Keys, Outcome, Reply, Run, whole};
use crate::limits;
use crate::rdb::{self, OpenError, Value};
use crate::shard::{Txn, Used};

pub(super) const COMMANDS: &[Command] = &[
    row(
        "DUMP",
        2,
        Keys::FIRST,
        Flags::READ,
        "A value in Redis's own format.",
        "",
        Run::Shard(dump),
    ),
    row(
        "RESTORE",
        -4,
        Keys::FIRST,
        Flags::WRITE.and(Flags::DENY_OOM).and(Flags::NO_TOUCH),
        "Makes a key of what DUMP gave.",
        "as if it were written by the commands of its type; removes what it had seen; of concurrent deadlines the longest is kept",
        Run::Shard(restore),
    ),
];

fn dump(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let key = txn.key(args.next()?);
    match whole::take(txn, &key) {
        Some(value) => reply.bulk(&rdb::dump(&value)),
        None => reply.null(),
    }
    Ok(())
}

/// The options of `RESTORE`.
#[derive(Default)]
struct Options {
    replace: bool,
    absolute: bool,
    /// How the key was used before.
    used: Option<Used>,
}

impl Options {
    fn take(args: &mut Args<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while !args.is_empty() {
            if args.token_is("REPLACE") {
                options.replace = true;
            } else if args.token_is("ABSTTL") {
                options.absolute = true;
            } else if 2 <= args.remaining()
                && !matches!(options.used, Some(Used::Times(_)))
                && args.token_is("IDLETIME")
            {
                let idle_s = u64::try_from(args.int()?);
                let idle_s = idle_s
                    .map_err(|_| CommandError::text("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.used = Some(Used::Ago { idle_s });
            } else if 2 <= args.remaining()
                && !matches!(options.used, Some(Used::Ago { .. }))
                && args.token_is("FREQ")
            {
                let count = u8::try_from(args.int()?).map_err(|_| {
                    CommandError::text("ERR Invalid FREQ value, must be >= 0 and <= 255")
                })?;
                options.used = Some(Used::Times(count));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }
}

/// In the order of Redis: options, the key, the deadline, the payload.
fn restore(txn: &mut Txn<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Outcome {
    let (key, ttl, payload) = (txn.key(args.next()?), args.next()?, args.next()?);
    let options = Options::take(args)?;
    if !options.replace && txn.exists(&key) {
        return Err(CommandError::BusyKey);
    }
    let ttl = parse_i64(ttl).ok_or(CommandError::NotAnInteger)?;
    let ttl = u64::try_from(ttl)
        .map_err(|_| CommandError::text("ERR Invalid TTL value, must be >= 0"))?;
    let value = rdb::open(payload).map_err(|error| match error {
        OpenError::Footer => CommandError::text("ERR DUMP payload version or checksum are wrong"),
        OpenError::Value(_) => CommandError::text("ERR Bad data format"),
    })?;
    if let Value::String(text) = &value
        && limits::STRING_BYTES_MAX < text.len()
    {
        return Err(CommandError::StringTooLong);
    }
    let ends_at_ms = match ttl {
        0 => None,
        ttl if options.absolute => Some(ttl),
        ttl => Some(ttl.saturating_add(txn.now_ms()).min(i64::MAX as u64)),
    };
    if ends_at_ms.is_some_and(|ms| ms <= txn.now_ms()) {
        txn.remove(&key);
    } else {
        whole::put(txn, &key, &value, ends_at_ms)?;
        txn.set_use(&key, options.used);
    }
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use geo::proto::Offer;

    use super::super::testing::{NOW_MS, check_at, exchange, run, run_bytes, shard, shard_of};
    use crate::rdb::{Field, Value, dump};
    use crate::shard::{Frequency, Noted};

    const BAD: &str = "-ERR Bad data format";
    const FOOTER: &str = "-ERR DUMP payload version or checksum are wrong";

    fn payload(text: &[u8]) -> Vec<u8> {
        dump(&Value::String(text.to_vec()))
    }

    #[test]
    fn what_is_restored_counts_as_used_as_it_was() {
        let mut shard = shard();
        let good = payload(b"v");
        shard.note_uses_as(Noted::Recency, NOW_MS);
        for (option, idle_s) in [(Some(b"1000".as_slice()), 1_000), (None, 0)] {
            let mut args: Vec<&[u8]> = vec![b"RESTORE", b"k", b"0", &good, b"REPLACE"];
            if let Some(seconds) = option {
                args.extend([b"IDLETIME", seconds]);
            }
            assert_eq!(run_bytes(&mut shard, &args), b"+OK\r\n");
            let idle = shard.idle_ms(&shard.state().seed().key(b"k"), NOW_MS);
            assert_eq!(idle.map(|ms| ms.div_ceil(1_000)), Some(idle_s));
        }
        let frequency = Frequency {
            log_factor: 10,
            decay_min: 1,
        };
        shard.note_uses_as(Noted::Frequency(frequency), NOW_MS);
        let args: [&[u8]; 7] = [b"RESTORE", b"k", b"0", &good, b"REPLACE", b"FREQ", b"100"];
        assert_eq!(run_bytes(&mut shard, &args), b"+OK\r\n");
        let count = shard.use_count(&shard.state().seed().key(b"k"), NOW_MS);
        assert_eq!(count, Some(100));
    }

    #[test]
    fn what_is_dumped_is_restored() {
        let mut shard = shard();
        for line in [
            "SET s text",
            "INCRBY n 70000",
            "RPUSH l a b \"\" a",
            "SADD t x 1",
            "ZADD z 1.5 a -inf b",
            "HSET h f v g 1",
        ] {
            assert!(!run(&mut shard, line).starts_with('-'), "{line}");
        }
        assert_eq!(run(&mut shard, "HPEXPIRE h 5000 FIELDS 1 f"), "[:1]");
        let reads = [
            ("s", "GET s2", "text"),
            ("n", "INCR n2", ":70001"),
            ("l", "LRANGE l2 0 -1", "[a b  a]"),
            ("t", "SMISMEMBER t2 x 1 y", "[:1 :1 :0]"),
            ("z", "ZRANGE z2 0 -1 WITHSCORES", "[b -inf a 1.5]"),
            ("h", "HMGET h2 f g", "[v 1]"),
            ("h", "HPTTL h2 FIELDS 2 f g", "[:5000 :-1]"),
        ];
        for (key, read, wanted) in reads {
            let dumped = run_bytes(&mut shard, &[b"DUMP", key.as_bytes()]);
            let dumped = &dumped[dumped.iter().position(|&b| b == b'\n').unwrap() + 1..];
            let to = format!("{key}2");
            let restore: [&[u8]; 5] = [
                b"RESTORE",
                to.as_bytes(),
                b"0",
                &dumped[..dumped.len() - 2],
                b"REPLACE",
            ];
            assert_eq!(run_bytes(&mut shard, &restore), b"+OK\r\n", "{key}");
            assert_eq!(run(&mut shard, read), wanted);
        }
        assert_eq!(run(&mut shard, "DUMP nosuch"), "nil");
    }

    /// Redis 7.0.15 gives these for the same values.
    #[test]
    fn small_strings_are_dumped_as_redis_does() {
        let cases: [(&[u8], &[u8]); 3] = [
            (b"5", b"\x00\xc0\x05\n\x00c/_f\x83/\xb3Q"),
            (b"text", b"\x00\x04text\n\x00|\xf3&m\xca\xb5\xa51"),
            (
                b"70000",
                b"\x00\xc2p\x11\x01\x00\n\x00\x01\xa4\x08\xfe\x950\x95\xa5",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(payload(text), wanted);
        }
    }

    #[test]
    fn what_is_refused_is_refused_as_redis_does() {
        let mut shard = shard();
        let good = payload(b"v");
        let mut other = good.clone();
        *other.last_mut().unwrap() ^= 1;
        let mut newer = good[..good.len() - 10].to_vec();
        newer.extend_from_slice(b"\x0d\x00");
        let no_value = crate::rdb::seal(crate::rdb::Type::List, b"\x00", 10);
        let more = crate::rdb::seal(crate::rdb::Type::String, b"\x01ab", 10);
        let mut restore = |rest: &[&[u8]]| {
            let command = [&[b"RESTORE".as_slice()], rest].concat();
            let reply = run_bytes(&mut shard, &command);
            String::from_utf8(reply).unwrap().trim_end().to_owned()
        };
        let syntax = "-ERR syntax error";
        let not_int = "-ERR value is not an integer or out of range";
        assert_eq!(restore(&[b"k", b"0", &other]), FOOTER);
        assert_eq!(restore(&[b"k", b"0", &newer]), FOOTER);
        assert_eq!(restore(&[b"k", b"0", b"short"]), FOOTER);
        assert_eq!(restore(&[b"k", b"0", &no_value]), BAD);
        assert_eq!(restore(&[b"k", b"0", &more]), BAD);
        assert_eq!(restore(&[b"k", b"x", &good]), not_int);
        let negative = "-ERR Invalid TTL value, must be >= 0";
        assert_eq!(restore(&[b"k", b"-1", b"short"]), negative);
        assert_eq!(restore(&[b"k", b"0", &good, b"IDLETIME"]), syntax);
        assert_eq!(restore(&[b"k", b"0", &good, b"NX"]), syntax);
        let both: [&[u8]; 7] = [b"k", b"0", &good, b"FREQ", b"1", b"IDLETIME", b"1"];
        assert_eq!(restore(&both), syntax);
        let idle = "-ERR Invalid IDLETIME value, must be >= 0";
        assert_eq!(restore(&[b"k", b"0", &good, b"IDLETIME", b"-1"]), idle);
        let freq = "-ERR Invalid FREQ value, must be >= 0 and <= 255";
        assert_eq!(restore(&[b"k", b"0", &good, b"FREQ", b"256"]), freq);
        assert_eq!(restore(&[b"k", b"0", &good, b"freq", b"255"]), "+OK");
        let busy = "-BUSYKEY Target key name already exists.";
        assert_eq!(restore(&[b"k", b"x", b"short"]), busy);
        assert_eq!(restore(&[b"k", b"0", b"short", b"REPLACE"]), FOOTER);
        assert_eq!(
            restore(&[b"k", b"9223372036854775807", &good, b"replace"]),
            "+OK"
        );
        check_at(&mut shard, NOW_MS, &[("GET k", "v")]);
    }

    #[test]
    fn deadlines_of_keys_and_fields() {
        let mut shard = shard();
        let good = payload(b"v");
        let ends = (NOW_MS + 500).to_string();
        let relative: [&[u8]; 4] = [b"RESTORE", b"a", b"500", &good];
        let absolute: [&[u8]; 5] = [b"RESTORE", b"b", ends.as_bytes(), &good, b"ABSTTL"];
        let past: [&[u8]; 6] = [b"RESTORE", b"a", b"500", &good, b"ABSTTL", b"REPLACE"];
        assert_eq!(run_bytes(&mut shard, &relative), b"+OK\r\n");
        assert_eq!(run_bytes(&mut shard, &absolute), b"+OK\r\n");
        check_at(
            &mut shard,
            NOW_MS,
            &[("PTTL a", ":500"), ("PTTL b", ":500")],
        );
        assert_eq!(run_bytes(&mut shard, &past), b"+OK\r\n");
        check_at(&mut shard, NOW_MS, &[("EXISTS a", ":0")]);
        let field = |name: &[u8], ends_at_ms| Field {
            name: name.to_vec(),
            value: b"v".to_vec(),
            ends_at_ms,
        };
        let ended = field(b"e", Some(NOW_MS));
        let hash = dump(&Value::Hash(vec![ended.clone(), field(b"f", None)]));
        let gone = dump(&Value::Hash(vec![ended]));
        assert_eq!(
            run_bytes(&mut shard, &[b"RESTORE", b"h", b"9", &hash]),
            b"+OK\r\n"
        );
        assert_eq!(
            run_bytes(&mut shard, &[b"RESTORE", b"g", b"9", &gone]),
            b"+OK\r\n"
        );
        check_at(
            &mut shard,
            NOW_MS,
            &[("HGETALL h", "[f v]"), ("EXISTS g", ":0"), ("TTL g", ":-2")],
        );
    }

    /// It is one op, and removes what it has seen there, whatever that was.
    #[test]
    fn other_regions_get_it() {
        let (mut a, mut b) = (shard_of(1), shard_of(2));
        for line in ["HINCRBY k f 5", "PEXPIRE k 9000"] {
            assert_eq!(run(&mut a, line).as_bytes()[0], b':');
        }
        exchange(&mut a, &mut b);
        let set = dump(&Value::Set(vec![b"x".to_vec(), b"7".to_vec()]));
        let restore: [&[u8]; 5] = [b"RESTORE", b"k", b"5000", &set, b"REPLACE"];
        assert_eq!(run_bytes(&mut b, &restore), b"+OK\r\n");
        let frame = b.seal().expect("it has written");
        assert_eq!(frame.ops(), 1);
        let region = frame.origin().region;
        assert_eq!(a.offer(frame, region, NOW_MS), Offer::Ready);
        for shard in [&mut a, &mut b] {
            check_at(
                shard,
                NOW_MS,
                &[("TYPE k", "set"), ("SCARD k", ":2"), ("PTTL k", ":5000")],
            );
        }
    }
}
