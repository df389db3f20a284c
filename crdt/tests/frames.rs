//! Op frames: what is written is read, and nothing else is.

use crdt::{
    Attached, Bodies, Change, Deadline, Dot, Edit, Effect, ElementId, End, Epoch, FactId, Frame,
    FrameError, FrameWriter, Increment, Number, Origin, Position, Raised, Region, SeenPart, Side,
    Stamp, Step, Time, Version,
};
use proptest::prelude::*;

fn origin(region: u8, epoch: u64) -> Origin {
    Origin::new(Region::new(region).expect("not 0"), Epoch(epoch))
}

fn dot(time: u64, index: u32) -> Dot {
    Dot {
        time: Time(time),
        index,
    }
}

fn seen<S>(sum: S) -> SeenPart<S> {
    SeenPart {
        origin: origin(2, 7),
        birth: dot(3, 0),
        at: dot(300, 2),
        sum,
    }
}

fn position() -> Position {
    let id = |time, region| FactId {
        stamp: Stamp {
            time: Time(time),
            origin: origin(region, 1),
        },
        index: 0,
    };
    let path = [id(10, 1), id(12, 2)].map(|id| Step {
        side: Side::Right,
        id,
    });
    Position::from_steps(&path).expect("it has steps")
}

/// One of every kind.
#[expect(clippy::too_many_lines, reason = "a list")]
fn changes() -> Vec<Change<'static>> {
    let increment = Increment {
        birth: dot(5, 1),
        sum: Number {
            int: -3,
            dec: 1 << 100,
        },
    };
    let born = ElementId {
        origin: origin(1, 1),
        dot: dot(10, 0),
    };
    let bits = Edit::Bits {
        offset: 7,
        width: 64,
        value: u64::MAX,
    };
    vec![
        Change::Remove {
            bodies: Bodies::ALL,
            deadlines: true,
        },
        Change::Flush,
        Change::Deadline(Deadline::Never),
        Change::Deadline(Deadline::At(1_700_000_000_000)),
        Change::ForgetPart {
            field: None,
            seen: seen(Number::int(5)),
        },
        Change::ForgetPart {
            field: Some(b"f"),
            seen: seen(Number::dec(-5)),
        },
        Change::ForgetScore {
            member: b"m",
            seen: seen(-0.5),
        },
        Change::StringSet {
            value: b"",
            attached: Attached::Nothing,
        },
        Change::StringSet {
            value: b"v",
            attached: Attached::Deadline(Deadline::At(0)),
        },
        Change::StringEdit {
            edit: Edit::Append(b"x"),
            carried: Some(9),
        },
        Change::StringEdit {
            edit: Edit::Overwrite {
                offset: 300,
                bytes: b"y",
            },
            carried: None,
        },
        Change::StringEdit {
            edit: bits,
            carried: None,
        },
        Change::StringAdd {
            increment,
            carried: Some(0),
        },
        Change::FieldSet {
            field: b"f",
            value: b"v",
            attached: Attached::Nothing,
        },
        Change::FieldAdd {
            field: b"f",
            increment,
            carried: None,
        },
        Change::FieldRemove {
            field: b"f",
            deadlines: false,
        },
        Change::FieldDeadline {
            field: b"f",
            deadline: Deadline::At(3),
        },
        Change::MemberAdd { member: b"m" },
        Change::MemberRemove { member: b"m" },
        Change::ScoreSet {
            member: b"m",
            score: f64::INFINITY,
        },
        Change::ScoreAdd {
            member: b"m",
            increment: Increment {
                birth: dot(1, 0),
                sum: 2.5,
            },
        },
        Change::ScoreRemove { member: b"m" },
        Change::Push {
            end: End::Head,
            value: b"a",
        },
        Change::Push {
            end: End::Tail,
            value: b"b",
        },
        Change::Insert {
            at: position(),
            value: b"c",
        },
        Change::ElementsRemove {
            first: position(),
            last: position(),
        },
        Change::ElementSet {
            at: position(),
            born,
            value: b"d",
        },
    ]
}

/// What came with the second level of features.
fn later_changes() -> Vec<Change<'static>> {
    let of = Stamp {
        time: Time(300),
        origin: origin(2, 7),
    };
    let raised = Raised {
        origin: of.origin,
        birth: dot(3, 0),
        from: Dot::default(),
        from_sum: Number::ZERO,
        at: dot(300, 2),
        sum: Number::int(-7),
    };
    let score = Raised {
        origin: of.origin,
        birth: dot(3, 0),
        from: dot(299, 1),
        from_sum: 0.5,
        at: dot(300, 2),
        sum: 1.5,
    };
    vec![
        Change::Reissue(of),
        Change::RaisePart {
            field: None,
            raised: Box::new(raised),
        },
        Change::RaisePart {
            field: Some(b"f"),
            raised: Box::new(raised),
        },
        Change::RaiseScore {
            member: b"m",
            raised: Box::new(score),
        },
    ]
}

fn deps() -> Version {
    let mut deps: Version = [(origin(2, 7), Time(90)), (origin(3, 1), Time(40))]
        .into_iter()
        .collect();
    deps.raise_floor(Region::new(2).expect("not 0"), Epoch(6));
    deps
}

/// A frame with every change, some on the same key, in ops with and without new deps.
fn frame() -> Frame {
    frame_of(&changes())
}

fn frame_of(changes: &[Change<'static>]) -> Frame {
    let mut writer = FrameWriter::new(3, origin(1, 1_700_000_000_000));
    writer.begin_op(Time(5), &Version::new());
    writer.push(&Effect {
        key: b"earlier",
        change: Change::MemberAdd { member: b"m" },
    });
    writer.end_op();
    writer.seal().expect("one op");
    for (time, change) in (100..).step_by(3).zip(changes) {
        let deps = if time < 120 { Version::new() } else { deps() };
        writer.begin_op(Time(time), &deps);
        for key in [b"k1".as_slice(), b"k1", b"", b"k2"] {
            let key = if change.is_keyless() { b"" } else { key };
            writer.push(&Effect {
                key,
                change: change.clone(),
            });
        }
        writer.end_op();
    }
    writer.seal().expect("ops")
}

#[test]
fn what_is_written_is_read() {
    check_read(&changes());
    check_read(&later_changes());
}

#[track_caller]
fn check_read(changes: &[Change<'static>]) {
    let frame = frame_of(changes);
    assert_eq!(Frame::parse(frame.bytes().clone()), Ok(frame.clone()));
    assert_eq!(
        (frame.shard(), frame.prev(), frame.first()),
        (3, Time(5), Time(100))
    );
    assert_eq!(frame.ops() as usize, changes.len());
    for (op, change) in frame.iter().zip(changes) {
        let effects: Vec<_> = op.effects().collect();
        assert_eq!(effects.len(), 4);
        assert!(
            effects.iter().all(|effect| effect.change == *change),
            "{change:?}"
        );
        if !change.is_keyless() {
            let keys: Vec<_> = effects.iter().map(|effect| effect.key).collect();
            assert_eq!(keys, [b"k1".as_slice(), b"k1", b"", b"k2"]);
        }
    }
}

/// A key that is not said again is that of the effect before, also across a flush.
#[test]
fn a_flush_between_effects_loses_no_key() {
    let mut writer = FrameWriter::new(0, origin(1, 1));
    writer.begin_op(Time(1), &Version::new());
    let add = Change::MemberAdd { member: b"m" };
    writer.push(&Effect {
        key: b"k",
        change: add.clone(),
    });
    writer.push(&Effect {
        key: b"",
        change: Change::Flush,
    });
    writer.push(&Effect {
        key: b"k",
        change: add,
    });
    writer.end_op();
    let frame = Frame::parse(writer.seal().expect("one op").bytes().clone()).expect("a frame");
    let op = frame.iter().next().expect("one op");
    let keys: Vec<_> = op.effects().map(|effect| effect.key).collect();
    assert_eq!(keys, [b"k".as_slice(), b"", b"k"]);
}

/// The bytes that a release writes, which every later one reads: format 1, and what the second
/// level of features added to it.
#[test]
fn the_stored_frames_are_read_and_written_alike() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let later = frame_of(&later_changes());
    for (name, frame) in [("frame-v1", frame()), ("frame-v1-level2", later)] {
        let path = format!("{folder}/{name}.bin");
        if std::env::var_os("MERIDIAN_WRITE_FIXTURES").is_some() {
            std::fs::write(&path, frame.bytes()).expect("the fixture can be written");
        }
        let stored = std::fs::read(path).expect("the fixture is in the repository");
        assert_eq!(Frame::parse(stored.into()), Ok(frame));
    }
}

#[test]
fn another_format_is_named() {
    let mut bytes = frame().bytes().to_vec();
    bytes[4] = 9;
    assert_eq!(Frame::parse(bytes.into()), Err(FrameError::Format(9)));
}

proptest! {
    #[test]
    fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let mut bytes = frame().bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(Frame::parse(bytes.into()).is_err());
    }

    #[test]
    fn a_cut_is_noticed(at in any::<prop::sample::Index>()) {
        let mut bytes = frame().bytes().to_vec();
        bytes.truncate(at.index(bytes.len()));
        prop_assert!(Frame::parse(bytes.into()).is_err());
    }

    /// Content that nobody wrote, under a checksum that is right, never panics.
    #[test]
    fn garbage_is_refused(at in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 0..6)) {
        let mut bytes = frame().bytes().to_vec();
        let at = 9 + at.index(bytes.len() - 9);
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        let length = (bytes.len() - 4) as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[9..]);
        bytes[5..9].copy_from_slice(&checksum.to_le_bytes());
        let bytes_length = bytes.len();
        if let Ok(frame) = Frame::parse(bytes.into()) {
            let effects: usize = frame.iter().map(|op| op.effects().count()).sum();
            prop_assert!(effects <= bytes_length);
            prop_assert_eq!(frame.iter().count(), frame.ops() as usize);
        }
    }
}
