//! State in pieces: what is written is read, nothing else is, and large things come in many.

use bytes::Bytes;
use crdt::{
    Attached, Bodies, Change, Cursor, Deadline, DecodeError, Dot, Edit, Effect, ElementId, End,
    Epoch, FactId, Increment, Number, Origin, Piece, Position, Raised, Region, Seed, SeenPart,
    Side, Slot, Span, Stamp, State, Step, Time, Version,
};
use proptest::prelude::*;

const NEVER: Attached = Attached::Deadline(Deadline::Never);

fn origin(region: u8) -> Origin {
    Origin::new(
        Region::new(region).expect("not 0"),
        Epoch(1_700_000_000_000),
    )
}

fn stamp(region: u8, time: u64) -> Stamp {
    Stamp {
        time: Time(time),
        origin: origin(region),
    }
}

fn dot(time: u64, index: u32) -> Dot {
    Dot {
        time: Time(time),
        index,
    }
}

fn empty() -> State {
    State::new(Seed::from_text(b"test"), Slot::of(b"{t}"), 1, false)
}

/// The name of a key, all of which are in one slot.
fn name(key: &str) -> Vec<u8> {
    format!("{{t}}{key}").into_bytes()
}

/// A shard that is given ops.
struct Shard {
    state: State,
    version: Version,
}

impl Shard {
    fn new() -> Self {
        Self {
            state: empty(),
            version: Version::new(),
        }
    }

    /// An op of a region that has seen its own, and of the others what `seen` says.
    fn op(&mut self, region: u8, time: u64, seen: &[(u8, u64)], effects: &[(&str, Change<'_>)]) {
        let deps = seen.iter().map(|&(of, time)| (origin(of), Time(time)));
        let deps: Version = deps.collect();
        let stamp = stamp(region, time);
        let op = self.state.begin(stamp, Some(&deps));
        for (index, (key, change)) in (0..).zip(effects) {
            let effect = Effect {
                key: &name(key),
                change: change.clone(),
            };
            if change.is_keyless() {
                let nowhere = self.state.any_key();
                self.state.apply(op, index, &nowhere, change);
            } else {
                self.state.apply_effect(op, index, &effect);
            }
        }
        self.version.advance(stamp.origin, stamp.time);
    }

    fn pieces(&self, budget: usize) -> Vec<Piece> {
        pieces(&self.state, &self.version, budget)
    }
}

fn pieces(state: &State, version: &Version, budget: usize) -> Vec<Piece> {
    let (mut pieces, mut next) = (Vec::new(), Some(state.walk()));
    while let Some(cursor) = next {
        let (bytes, rest) = state.piece(version, cursor, budget);
        pieces.push(Piece::parse(bytes).expect("what is written is read"));
        next = rest;
    }
    pieces
}

fn restored(pieces: &[Piece]) -> State {
    let mut state = empty();
    for piece in pieces {
        state.merge(piece, &Version::new()).expect("of this shard");
    }
    state
}

fn set(value: &[u8], attached: Attached) -> Change<'_> {
    Change::StringSet { value, attached }
}

fn add(birth: Dot, sum: Number) -> Change<'static> {
    let carried = Some(1_700_000_000_500);
    let increment = Increment { birth, sum };
    Change::StringAdd { increment, carried }
}

fn strings(shard: &mut Shard) {
    let at = Attached::Deadline(Deadline::At(1_700_000_000_000));
    let edit = |edit| Change::StringEdit {
        edit,
        carried: Some(7),
    };
    let bits = Edit::Bits {
        offset: 7,
        width: 3,
        value: 5,
    };
    let overwrite = Edit::Overwrite {
        offset: 2,
        bytes: b"xy",
    };
    let ops = [
        ("plain", set(b"value", NEVER)),
        ("siblings", set(b"one", at)),
        ("edited", set(b"base", Attached::Nothing)),
        ("edited", edit(Edit::Append(b"!"))),
        ("counted", add(dot(10, 4), Number::int(5))),
        ("removed", add(dot(10, 5), Number::int(-5))),
        ("ending", set(b"soon", NEVER)),
        ("ending", Change::Deadline(Deadline::At(1_700_000_000_000))),
        ("alone", Change::Deadline(Deadline::Never)),
    ];
    shard.op(1, 10, &[], &ops);
    let decimal = Number {
        int: 1 << 100,
        dec: -3,
    };
    let ops = [
        ("siblings", set(b"two", NEVER)),
        ("edited", edit(overwrite)),
        ("edited", edit(bits)),
        ("counted", add(dot(12, 3), decimal)),
    ];
    shard.op(2, 12, &[], &ops);
    let seen = SeenPart {
        origin: origin(1),
        birth: dot(10, 5),
        at: dot(10, 5),
        sum: Number::int(-5),
    };
    let forget = Change::ForgetPart { field: None, seen };
    shard.op(2, 13, &[(1, 10)], &[("removed", forget)]);
}

#[expect(clippy::too_many_lines, reason = "a list")]
fn names(shard: &mut Shard) {
    let (field, member) = (&b"f"[..], &b"m"[..]);
    let value = &b"v"[..];
    let attached = Attached::Deadline(Deadline::At(1_700_000_000_001));
    let increment = Increment {
        birth: dot(20, 3),
        sum: Number::int(3),
    };
    let birth = dot(20, 6);
    let ops = [
        (
            "hash",
            Change::FieldSet {
                field,
                value,
                attached,
            },
        ),
        (
            "hash",
            Change::FieldSet {
                field: b"g",
                value: b"",
                attached: NEVER,
            },
        ),
        (
            "hash",
            Change::FieldDeadline {
                field: b"g",
                deadline: Deadline::At(9),
            },
        ),
        (
            "hash",
            Change::FieldAdd {
                field: b"n",
                increment,
                carried: None,
            },
        ),
        ("set", Change::MemberAdd { member }),
        (
            "zset",
            Change::ScoreSet {
                member,
                score: -1.5,
            },
        ),
        (
            "zset",
            Change::ScoreAdd {
                member: b"n",
                increment: Increment { birth, sum: 0.1 },
            },
        ),
        ("many", set(b"string", NEVER)),
        ("many", Change::MemberAdd { member }),
    ];
    shard.op(1, 20, &[], &ops);
    let birth = dot(21, 1);
    let ops = [
        ("set", Change::MemberAdd { member }),
        (
            "zset",
            Change::ScoreAdd {
                member,
                increment: Increment { birth, sum: 2.5 },
            },
        ),
        (
            "many",
            Change::Push {
                end: End::Head,
                value,
            },
        ),
        (
            "many",
            Change::FieldSet {
                field,
                value,
                attached: Attached::Nothing,
            },
        ),
    ];
    shard.op(2, 21, &[], &ops);
}

fn list(shard: &mut Shard) {
    let step = |side, index| Step {
        side,
        id: FactId {
            stamp: stamp(1, 30),
            index,
        },
    };
    let position = |steps: &[Step]| Position::from_steps(steps).expect("steps");
    let pushed = |index| position(&[step(Side::Right, index)]);
    let at = position(&[step(Side::Right, 0), step(Side::Right, 3)]);
    let value = &b"x"[..];
    let born = ElementId {
        origin: origin(1),
        dot: dot(30, 1),
    };
    let tail = |value| Change::Push {
        end: End::Tail,
        value,
    };
    let ops = [
        ("list", tail(&b"a"[..])),
        ("list", tail(b"b")),
        (
            "list",
            Change::Push {
                end: End::Head,
                value: b"",
            },
        ),
        ("list", Change::Insert { at, value }),
    ];
    shard.op(1, 30, &[], &ops);
    let write = Change::ElementSet {
        at: pushed(1),
        born,
        value,
    };
    shard.op(2, 31, &[(1, 30)], &[("list", write.clone())]);
    shard.op(1, 32, &[], &[("list", write)]);
}

/// Folded edits, and an increment of a closed origin that was issued again.
fn folded(shard: &mut Shard) {
    let edit = |bytes| Change::StringEdit {
        edit: Edit::Append(bytes),
        carried: Some(1_700_000_000_700),
    };
    let ops = [("folded", set(b"a", NEVER)), ("folded", edit(b"b"))];
    shard.op(1, 4, &[], &ops);
    let stable = shard.version.clone();
    while shard.state.settle(&stable, 1_000) {}
    shard.op(2, 5, &[(1, 4)], &[("folded", edit(b"c"))]);
    let raised = Raised {
        origin: origin(3),
        birth: dot(5, 0),
        from: dot(5, 0),
        from_sum: Number::int(1),
        at: dot(6, 0),
        sum: Number::int(2),
    };
    let raise = Change::RaisePart {
        field: None,
        raised: Box::new(raised),
    };
    let ops = [("", Change::Reissue(stamp(3, 6))), ("raised", raise)];
    shard.op(2, 6, &[], &ops);
}

/// A shard with something of every kind.
fn everything() -> Shard {
    let mut shard = Shard::new();
    folded(&mut shard);
    strings(&mut shard);
    names(&mut shard);
    list(&mut shard);
    shard
}

/// The bytes that a release writes, which every later one reads.
#[test]
fn the_stored_state_is_read_and_written_alike() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state-v1.bin");
    let shard = everything();
    let [piece] = &shard.pieces(usize::MAX)[..] else {
        panic!("one piece");
    };
    if std::env::var_os("MERIDIAN_WRITE_FIXTURES").is_some() {
        std::fs::write(path, piece.bytes()).expect("the fixture can be written");
    }
    let stored = std::fs::read(path).expect("the fixture is in the repository");
    assert_eq!(stored, &piece.bytes()[..]);
    let stored = Piece::parse(stored.into()).expect("a piece");
    assert_eq!(*stored.version(), shard.version);
    let state = restored(std::slice::from_ref(&stored));
    assert_eq!(state.digest(), shard.state.digest());
    let again = pieces(&state, stored.version(), usize::MAX);
    assert_eq!(again[0].bytes(), stored.bytes());
}

#[test]
fn pieces_of_any_size_come_to_the_same_state() {
    let shard = everything();
    let whole = shard.pieces(usize::MAX);
    for budget in [1, 7, 50, 300, 5_000] {
        let state = restored(&shard.pieces(budget));
        assert_eq!(state.digest(), shard.state.digest(), "budget {budget}");
        let again = pieces(&state, &shard.version, usize::MAX);
        assert_eq!(again[0].bytes(), whole[0].bytes(), "budget {budget}");
    }
}

fn large(things: u64) -> Shard {
    let mut shard = Shard::new();
    for time in 1..=things {
        let name = time.to_string();
        let (field, member) = (name.as_bytes(), name.as_bytes());
        let (value, attached) = (&[7; 50][..], Attached::Nothing);
        let ops = [
            (
                "hash",
                Change::FieldSet {
                    field,
                    value,
                    attached,
                },
            ),
            (
                "zset",
                Change::ScoreSet {
                    member,
                    score: time as f64,
                },
            ),
            (
                "list",
                Change::Push {
                    end: End::Tail,
                    value: member,
                },
            ),
        ];
        shard.op(1, time, &[], &ops);
    }
    shard
}

#[test]
fn a_large_container_comes_in_pieces_of_bounded_size() {
    let shard = large(3_000);
    let budget = 2_000;
    let pieces = shard.pieces(budget);
    assert!(100 < pieces.len() && pieces.len() < 200, "{}", pieces.len());
    for piece in &pieces {
        assert!(piece.bytes().len() < 2 * budget, "{}", piece.bytes().len());
    }
    let state = restored(&pieces);
    assert_eq!(state.digest(), shard.state.digest());
    let key = state.seed().key(b"{t}list");
    assert_eq!(state.list(&key).map(|list| list.len()), Some(3_000));
}

/// An op of [`a_walk_misses_nothing_while_the_state_changes`]: a field goes and another one comes;
/// the queue is taken from and added to.
fn change(shard: &mut Shard, time: u64, first: &Position) {
    let (gone, name) = ((time - 1_000).to_string(), time.to_string());
    let (field, value) = (gone.as_bytes(), name.as_bytes());
    let (first, last) = (first.clone(), first.clone());
    let ops = [
        (
            "hash",
            Change::FieldRemove {
                field,
                deadlines: true,
            },
        ),
        (
            "hash",
            Change::FieldSet {
                field: value,
                value: b"",
                attached: NEVER,
            },
        ),
        ("list", Change::ElementsRemove { first, last }),
        (
            "list",
            Change::Push {
                end: End::Tail,
                value,
            },
        ),
    ];
    shard.op(1, time, &[], &ops);
}

/// What was there when a walk began, and was left alone, is in a piece, whatever else comes and
/// goes between pieces.
#[test]
fn a_walk_misses_nothing_while_the_state_changes() {
    let mut shard = large(1_000);
    let version = shard.version.clone();
    let (mut taken, mut next, mut later) = (Vec::new(), Some(shard.state.walk()), Vec::new());
    for time in 1_001.. {
        let Some(cursor) = next else { break };
        let (bytes, rest) = shard.state.piece(&shard.version, cursor, 1_000);
        taken.push(Piece::parse(bytes).expect("a piece"));
        next = rest;
        let key = shard.state.seed().key(b"{t}list");
        let list = shard.state.list(&key).expect("there");
        let first = list.position(0).expect("not empty");
        change(&mut shard, time, &first);
        later.push((time, first));
    }
    assert!(50 < taken.len(), "{} pieces", taken.len());
    let state = restored(&taken);
    let mut copy = Shard { state, version };
    assert!(copy.state.is_ahead());
    for (time, first) in &later {
        change(&mut copy, *time, first);
    }
    assert_eq!(copy.version, shard.version);
    copy.state.caught_up(&copy.version);
    assert!(!copy.state.is_ahead());
    assert_eq!(copy.state.digest(), shard.state.digest());
    let whole = [&copy, &shard].map(|shard| shard.pieces(usize::MAX)[0].bytes().clone());
    assert_eq!(whole[0], whole[1]);
}

#[test]
fn a_piece_of_another_shard_is_refused() {
    let mut shard = Shard::new();
    shard.op(1, 1, &[], &[("foo", set(b"v", NEVER))]);
    let piece = &shard.pieces(usize::MAX)[0];
    let mut other = State::new(Seed::from_text(b"test"), Slot::of(b"foo"), 1, false);
    assert!(other.merge(piece, &Version::new()).is_err());
    assert!(other.is_void() && !other.is_ahead());
}

#[test]
fn another_format_is_refused() {
    let mut bytes = everything().pieces(usize::MAX)[0].bytes().to_vec();
    bytes[0] = 9;
    let expected = DecodeError::Bad("the format is not known to this build");
    assert_eq!(Piece::parse(bytes.into()).err(), Some(expected));
}

/// A walk over some keys is about these and no others.
#[test]
fn a_walk_may_be_about_a_part() {
    let shard = everything();
    let slot = Slot::of(b"{t}");
    let half = u32::MAX / 2;
    let [low, high] = [(0, half), (half + 1, u32::MAX)].map(|(first, last)| {
        let cursor = Cursor::over([Span { slot, first, last }]);
        let (bytes, rest) = shard.state.piece(&shard.version, cursor, usize::MAX);
        assert!(rest.is_none());
        restored(&[Piece::parse(bytes).expect("a piece")])
    });
    assert!(!low.is_empty() && !high.is_empty());
    assert_eq!(low.len() + high.len(), shard.state.len());
    assert_eq!(low.digest() ^ high.digest(), shard.state.digest());
}

/// Bytes of everything, in one piece.
fn bytes() -> Vec<u8> {
    everything().pieces(usize::MAX)[0].bytes().to_vec()
}

/// Merges what can be read, and uses it.
fn check_harmless(bytes: Vec<u8>) {
    let Ok(piece) = Piece::parse(Bytes::from(bytes)) else {
        return;
    };
    for mut state in [empty(), everything().state] {
        if state.merge(&piece, &Version::new()).is_err() {
            continue;
        }
        state.settle(piece.version(), 1_000);
        let everything = Change::Remove {
            bodies: Bodies::ALL,
            deadlines: true,
        };
        let _ = pieces(&state, piece.version(), 100);
        let op = state.begin(stamp(1, u64::MAX), None);
        for key in ["plain", "hash", "zset", "list", "many", "counted"] {
            let name = name(key);
            let key = state.seed().key(&name);
            let _ = (
                state.string(&key, 0),
                state.kind(&key, 0),
                state.deadline(&key),
            );
            state.apply(op, 0, &key, &everything);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// Bytes that nobody wrote never panic, neither where they are read nor where they are used.
    #[test]
    fn garbage_is_harmless(
        at in any::<prop::sample::Index>(),
        with in prop::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut bytes = bytes();
        let at = at.index(bytes.len());
        let end = (at + with.len()).min(bytes.len());
        bytes.splice(at..end, with);
        check_harmless(bytes);
    }

    #[test]
    fn a_flipped_bit_is_harmless(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        check_harmless(bytes);
    }

    #[test]
    fn a_cut_is_noticed(at in any::<prop::sample::Index>()) {
        let mut bytes = bytes();
        let length = bytes.len();
        bytes.truncate(at.index(length));
        // Between two sections a piece may end.
        if let Ok(piece) = Piece::parse(bytes.into()) {
            prop_assert!(restored(&[piece]).len() < everything().state.len());
        }
    }
}
