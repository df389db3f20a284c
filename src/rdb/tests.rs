//! Against files that real servers wrote, layouts that they no longer or not yet write, and damage.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::cursor::Cursor;
use super::*;

/// What `fixtures/make.py` made: a file, and what the server says is in it.
const FIXTURES: [(&str, &[u8], &str); 3] = [
    (
        "6.2",
        include_bytes!("fixtures/redis-6.2.rdb"),
        include_str!("fixtures/redis-6.2.txt"),
    ),
    (
        "7.0, packed",
        include_bytes!("fixtures/redis-7.0-packed.rdb"),
        include_str!("fixtures/redis-7.0-packed.txt"),
    ),
    (
        "7.0, plain",
        include_bytes!("fixtures/redis-7.0-plain.rdb"),
        include_str!("fixtures/redis-7.0-plain.txt"),
    ),
];

/// Reads a whole file; hands each item out.
fn read(file: &[u8], mut visit: impl FnMut(&Item<'_>)) -> Result<(), Error> {
    let (mut reader, mut rest) = (Reader::new(), file);
    loop {
        let (item, taken) = reader.next(rest)?;
        rest = &rest[taken..];
        assert_eq!(reader.at(), (file.len() - rest.len()) as u64);
        visit(&item);
        if item == Item::End {
            return Ok(());
        }
    }
}

/// As a line of the texts beside the files.
fn line(entry: &Entry<'_>) -> String {
    let mut words = vec![
        entry.database.to_string(),
        shown(&entry.key),
        entry.of.name().to_owned(),
        entry.ends_at_ms.unwrap_or(0).to_string(),
    ];
    match entry.value() {
        Ok(Value::String(text)) => words.push(shown(&text)),
        Ok(Value::List(elements)) => words.extend(elements.iter().map(|word| shown(word))),
        Ok(Value::Set(mut members)) => {
            members.sort();
            words.extend(members.iter().map(|word| shown(word)));
        }
        Ok(Value::Hash(mut fields)) => {
            fields.sort_by(|a, b| a.name.cmp(&b.name));
            let fields = fields.iter();
            words.extend(fields.map(|f| format!("{}={}", shown(&f.name), shown(&f.value))));
        }
        Ok(Value::SortedSet(mut members)) => {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            let members = members.iter();
            words.extend(members.map(|(n, s)| format!("{}={:016x}", shown(n), s.to_bits())));
        }
        Err(error) => assert_eq!(error.problem, Problem::NotOurs("stream")),
    }
    words.join(" ")
}

fn shown(word: &[u8]) -> String {
    let shown = word.iter().map(|&byte| match byte {
        0x21..0x7f if byte != b'\\' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    });
    shown.collect()
}

#[test]
fn files_of_real_servers_hold_what_the_servers_said() {
    let mut types = Vec::new();
    let mut others = BTreeSet::new();
    for (name, file, text) in FIXTURES {
        let mut lines = Vec::new();
        let whole = read(file, |item| match item {
            Item::Entry(entry) => {
                lines.push(line(entry));
                types.push(entry.of);
            }
            Item::Version(version) => assert!((9..=10).contains(version)),
            Item::Function => assert!(others.insert("function")),
            Item::Fact { name, .. } if name.as_ref() == b"redis-ver" => {
                others.insert("version of the server");
            }
            Item::Sizes { keys, deadlines } => {
                others.insert("sizes");
                assert!(deadlines <= keys && 0 < *keys);
            }
            Item::Fact { .. } | Item::Database(_) | Item::ModuleData | Item::Slot | Item::End => {}
        });
        assert_eq!(whole, Ok(()), "{name}");
        lines.sort();
        let mut wanted: Vec<&str> = text.lines().collect();
        wanted.sort_unstable();
        assert_eq!(lines, wanted, "{name}");
    }
    let all = [
        Type::String,
        Type::Set,
        Type::Hash,
        Type::Zset,
        Type::SetIntset,
        Type::ZsetZiplist,
        Type::HashZiplist,
        Type::ListQuicklist,
        Type::Stream,
        Type::HashListpack,
        Type::ZsetListpack,
        Type::ListQuicklist2,
        Type::Stream2,
    ];
    for of in all {
        assert!(types.contains(&of), "no fixture has {of:?}");
    }
    assert_eq!(others.len(), 3, "{others:?}");
}

#[test]
fn part_of_a_file_asks_for_more_and_says_where() {
    for (_, file, _) in FIXTURES {
        for end in 0..file.len() {
            let error = read(&file[..end], |_| ()).unwrap_err();
            assert_eq!(error.problem, Problem::Truncated, "{end}");
            assert_eq!(error.at, end as u64);
        }
    }
}

/// A reader that has too little goes on where it was once there is more.
#[test]
fn a_file_may_come_byte_by_byte() {
    let (_, file, _) = FIXTURES[1];
    let mut whole = Vec::new();
    read(file, |item| whole.push(format!("{item:?}"))).unwrap();
    let (mut reader, mut begin, mut items) = (Reader::new(), 0, Vec::new());
    for end in 1..=file.len() {
        match reader.next(&file[begin..end]) {
            Ok((item, taken)) => {
                items.push(format!("{item:?}"));
                begin += taken;
            }
            Err(error) => assert_eq!(error.problem, Problem::Truncated),
        }
    }
    assert_eq!(items, whole);
}

#[test]
fn a_changed_byte_is_found() {
    for (name, file, _) in FIXTURES {
        // Version 9 in place of 10 or the like is as good; the checksum tells.
        for at in 0..file.len() {
            for flip in [1, 0x80] {
                let mut changed = file.to_vec();
                changed[at] ^= flip;
                let read = read(&changed, |_| ());
                assert!(read.is_err(), "{name}: byte {at} with {flip:#x}");
            }
        }
    }
}

/// Without a checksum that would stop it.
#[test]
fn damaged_values_end_in_an_error_or_a_value() {
    let mut wrong = 0;
    for (_, file, _) in FIXTURES {
        let mut entries = Vec::new();
        let keep = |item: &Item<'_>| {
            if let Item::Entry(entry) = item {
                entries.push((entry.of, entry.bytes.to_vec()));
            }
        };
        read(file, keep).unwrap();
        for (of, bytes) in entries.iter().filter(|(_, bytes)| bytes.len() < 2_000) {
            for at in 0..bytes.len() {
                let cut = Value::read(*of, &mut Cursor::new(&bytes[..at], 0));
                assert!(cut.is_err(), "{of:?} cut at {at}");
                for flip in [1, 2, 0x10, 0x40, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= flip;
                    wrong += u64::from(value_of(*of, &changed).is_err());
                }
            }
        }
    }
    assert!(1_000 < wrong, "{wrong}");
}

fn value_of(of: Type, bytes: &[u8]) -> Result<Value, Error> {
    Value::read(of, &mut Cursor::new(bytes, 0))
}

fn field(name: &str, value: &str, ends_at_ms: Option<u64>) -> Field {
    Field {
        name: name.into(),
        value: value.into(),
        ends_at_ms,
    }
}

fn texts(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// As Valkey 9.1 dumps them, which shares these with Redis 7.2.
#[test]
fn encodings_of_redis_7_2() {
    let set = b"\x12\x12\0\0\0\x04\0\x81a\x02\x81b\x02\x11\x01\xde\xd4\x02\xff";
    let wanted = Value::Set(texts(&["a", "b", "17", "-300"]));
    assert_eq!(value_of(Type::SetListpack, set).unwrap(), wanted);
    let stream = b"\x01\x10\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01((\0\0\0\x0f\0\x02\x01\0\x01\x01\
        \x01\x81f\x02\0\x01\x02\x01\0\x01\0\x01\x81v\x02\x04\x01\x02\x01\x01\x01\0\x01\x81w\x02\
        \x04\x01\xff\x02\x02\x01\x01\x01\0\0\x02\x01\x01g\x01\x01\x01\x01\0\0\0\0\0\0\0\x01\0\0\
        \0\0\0\0\0\x01$c\x94\x1d\xa2\x01\0\0\x01\x01\x02c1$c\x94\x1d\xa2\x01\0\0$c\x94\x1d\xa2\
        \x01\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01";
    let mut cursor = Cursor::new(stream, 0);
    assert_eq!(extent::skip(Type::Stream3, &mut cursor), Ok(()));
    assert!(cursor.rest().is_empty());
}

/// Laid out by hand after the sources of Redis: what no server at hand writes.
#[test]
fn encodings_of_other_versions() {
    // A field that ends at 1,000 and one that does not end.
    let pack = b"\x17\x17\0\0\0\x06\0\x81a\x02\x81v\x02\xc3\xe8\x02\x81b\x02\x05\x01\x00\x01\xff";
    let wanted = Value::Hash(vec![field("a", "v", Some(1_000)), field("b", "5", None)]);
    assert_eq!(value_of(Type::HashListpackExPreGa, pack).unwrap(), wanted);
    let with_earliest = [&1_000_u64.to_le_bytes()[..], pack].concat();
    assert_eq!(
        value_of(Type::HashListpackEx, &with_earliest).unwrap(),
        wanted
    );
    let table = b"\xe8\x03\0\0\0\0\0\0\x02\x01\x01a\x01v\x00\x01b\xc0\x05";
    assert_eq!(value_of(Type::HashMetadata, table).unwrap(), wanted);
    let table = b"\x02\x43\xe8\x01a\x01v\x00\x01b\xc0\x05";
    assert_eq!(value_of(Type::HashMetadataPreGa, table).unwrap(), wanted);
    let zipmap = b"\x0b\x01\x03foo\x03\x00bar\xff";
    let wanted = Value::Hash(vec![field("foo", "bar", None)]);
    assert_eq!(value_of(Type::HashZipmap, zipmap).unwrap(), wanted);
    let ziplist = b"\x0f\x0f\0\0\0\x0a\0\0\0\x01\0\x00\x02ab\xff";
    let wanted = Value::List(texts(&["ab"]));
    assert_eq!(value_of(Type::ListZiplist, ziplist).unwrap(), wanted);
    assert_eq!(value_of(Type::List, b"\x01\x02ab").unwrap(), wanted);
    let scores = b"\x03\x01a\x031.5\x01b\xfe\x01c\xff";
    let members = [("a", 1.5), ("b", f64::INFINITY), ("c", f64::NEG_INFINITY)];
    let members = members.map(|(name, score)| (name.as_bytes().to_vec(), score));
    let wanted = Value::SortedSet(members.to_vec());
    assert_eq!(value_of(Type::ZsetText, scores).unwrap(), wanted);
}

/// A file with one key after the other and no checksum.
fn file(version: &str, body: &[u8]) -> Vec<u8> {
    [b"REDIS", version.as_bytes(), body, b"\xff\0\0\0\0\0\0\0\0"].concat()
}

#[test]
fn what_is_not_ours_is_walked_past() {
    let stream_3 = b"\x15\x01x\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x01g\x00\x00\x00\x01\
        iiiiiiiiiiiiiiiitttttttt\x01\x01\x01cttttttttaaaaaaaa\x01iiiiiiiiiiiiiiii";
    let module =
        b"\x07\x01m\x81\0\0\0\0\0\0\0\x01\x02\x05\x01\x06\x03ffff\x04dddddddd\x05\x01s\x00";
    let aux = b"\xf7\x05\x02\x01\x02\x07\x00";
    let slot = b"\xf4\x00\x01\x02";
    let last = b"\xfd\x10\0\0\0\xf8\x05\xf9\x07\x00\x01k\x01v";
    let body = [&stream_3[..], module, aux, slot, last].concat();
    let mut seen = Vec::new();
    let whole = read(&file("0012", &body), |item| {
        seen.push(match item {
            Item::Entry(entry) => (entry.of.name(), entry.ends_at_ms, entry.value().is_ok()),
            Item::ModuleData => ("data of a module", None, true),
            Item::Slot => ("slot", None, true),
            Item::Version(_)
            | Item::Fact { .. }
            | Item::Database(_)
            | Item::Sizes { .. }
            | Item::Function
            | Item::End => return,
        });
    });
    assert_eq!(whole, Ok(()));
    let wanted = [
        ("stream", None, false),
        ("value of a module", None, false),
        ("data of a module", None, true),
        ("slot", None, true),
        ("string", Some(16_000), true),
    ];
    assert_eq!(seen, wanted);
}

#[test]
fn what_cannot_be_read_says_what_and_where() {
    let long = [b"\x01\x01k\x81", &[0xff; 8][..]].concat();
    let big = b"\x00\x01k\x81\0\0\x01\0\0\0\0\0";
    let cases: [(Vec<u8>, &str); 12] = [
        (
            b"REDIS0013".to_vec(),
            "byte 5: version 13 of the format is not known: 12 is the newest that is",
        ),
        (
            b"REDIS0000".to_vec(),
            "byte 5: version 0 of the format is not known: 12 is the newest that is",
        ),
        (
            b"VALKEY080".to_vec(),
            "byte 0: a file of Redis begins with REDIS and its version",
        ),
        (
            b"REDIS+010".to_vec(),
            "byte 5: a file of Redis begins with REDIS and its version",
        ),
        (file("0010", b"\x08"), "byte 9: no type has this number"),
        (
            file("0010", b"\x06\x01k"),
            "byte 12: only its module knows where a value of this type ends",
        ),
        (
            file("0010", b"\xf6"),
            "byte 9: a function as Redis 7.0 had it before its release",
        ),
        (
            file("0010", b"\x00\x01k\x8a"),
            "byte 13: no length begins like this",
        ),
        (
            file("0010", b"\x00\x01k\xc7"),
            "byte 12: no string begins like this",
        ),
        (file("0010", &long), "byte 21: no string begins like this"),
        (file("0010", big), "byte 30: ends too early"),
        (
            b"REDIS0010\xff\x01\0\0\0\0\0\0\0".to_vec(),
            "byte 10: the checksum of the file is another",
        ),
    ];
    for (file, wanted) in cases {
        let error = read(&file, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}

/// The inside is looked at when it is asked for.
#[test]
fn what_is_wrong_inside_of_a_value_says_what_and_where() {
    let read_all = |body: &[u8]| {
        let mut found = None;
        let keep = |item: &Item<'_>| {
            if let Item::Entry(entry) = item {
                found = entry.value().err();
            }
        };
        read(&file("0010", body), keep).unwrap();
        found.unwrap().to_string()
    };
    let lzf = b"\x00\x01k\xc3\x02\x80\x00\xff\xff\xffab";
    let claims = "byte 12: a compressed string claims more than it can hold";
    assert_eq!(read_all(lzf), claims);
    assert_eq!(read_all(b"\x01\x01k\x00"), "byte 12: nothing is in it");
    assert_eq!(
        read_all(b"\x02\x01k\x02\x01a\x01a"),
        "byte 12: something is in it twice"
    );
    assert_eq!(read_all(b"\x0b\x01k\x01x"), "byte 12: an intset is broken");
    let late = b"\x18\x01k\x02\0\0\0\0\0\0\0\x01\x81\x7f\xff\xff\xff\xff\xff\xff\xff\x01a\x01v";
    let far = "byte 12: a deadline is later than there is time";
    assert_eq!(read_all(late), far);
    let nan = [b"\x05\x01k\x01\x01a", &f64::NAN.to_le_bytes()[..]].concat();
    assert_eq!(read_all(&nan), "byte 12: a score is not a number");
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        any::<i32>().prop_map(|number| number.to_string().into_bytes()),
        (-200..200_i32).prop_map(|number| format!("{number:+}").into_bytes()),
        (60..70_usize, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
        (16_380..16_390_usize).prop_map(|len| vec![b'x'; len]),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let set = || proptest::collection::btree_set(words(), 1..70);
    let score = || any::<f64>().prop_filter("a number", |score| !score.is_nan());
    prop_oneof![
        words().prop_map(Value::String),
        proptest::collection::vec(words(), 1..70).prop_map(Value::List),
        set().prop_map(|members| Value::Set(members.into_iter().collect())),
        proptest::collection::btree_map(words(), score(), 1..70)
            .prop_map(|members| Value::SortedSet(members.into_iter().collect())),
        proptest::collection::btree_map(
            words(),
            (words(), proptest::option::of(1..1_u64 << 48)),
            1..70
        )
        .prop_map(|fields| {
            let fields = fields.into_iter().map(|(name, (value, ends_at_ms))| Field {
                name,
                value,
                ends_at_ms,
            });
            Value::Hash(fields.collect())
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_dumped_opens(value in value()) {
        let payload = dump(&value);
        prop_assert_eq!(open(&payload), Ok(value.clone()));
        for at in [0, 1, payload.len() / 2, payload.len() - 9, payload.len() - 1] {
            let mut changed = payload.clone();
            changed[at] ^= 0x41;
            prop_assert_eq!(open(&changed), Err(OpenError::Footer));
            prop_assert_eq!(open(&payload[..at]), Err(OpenError::Footer));
        }
        // As a file holds it: found without reading, then read.
        let body = [&payload[..1], b"\x01k", &payload[1..payload.len() - 10]].concat();
        let mut found = None;
        let keep = |item: &Item<'_>| {
            if let Item::Entry(entry) = item {
                found = entry.value().ok();
            }
        };
        prop_assert_eq!(read(&file("0012", &body), keep), Ok(()));
        prop_assert_eq!(found, Some(value));
    }

    #[test]
    fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for byte in 0..=255 {
            if let Some(of) = Type::from_byte(byte) {
                prop_assert_eq!(of.byte(), byte);
                let _ = value_of(of, &bytes);
                let _ = extent::skip(of, &mut Cursor::new(&bytes, 0));
                prop_assert!(open(&seal(of, &bytes, 13)).is_err());
                let _ = open(&seal(of, &bytes, 12));
            }
        }
        let _ = read(&bytes, |_| ());
        let _ = read(&[b"REDIS0011", &bytes[..]].concat(), |item| {
            if let Item::Entry(entry) = item {
                let _ = entry.value();
            }
        });
    }
}
