//! Control messages, and their bytes: the only place that knows how they are encoded.
//!
//! A message is a format number (one byte) and a bincode value. Decoding works on complete
//! messages, refuses trailing bytes, and a length in it can claim no more than there is. Fields are
//! only ever added under a new format number, variants under a new level of features, and sent to
//! nobody below it. Specified in docs/protocol.md; stored fixtures hold the bytes of format 1.

#![deny(clippy::indexing_slicing)]

use bincode::Options;
use bytes::Bytes;
use crdt::{Epoch, Origin, Region, Time, Version};
use serde::{Deserialize, Serialize};

/// The format that this build writes, and the only one that it reads.
const FORMAT: u8 = 1;

/// Bytes of one message: a hello of 1,024 shards with a dozen origins each fits many times.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Another build wrote it.
    #[error("format {found} is not {FORMAT}, the one that this build reads")]
    Format {
        /// The number it begins with.
        found: u8,
    },
    /// It is longer than any message may be.
    #[error("{bytes} bytes are more than {MESSAGE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is not what a message is made of.
    #[error("{0}")]
    Content(String),
}

/// What a shard says of an origin: "my last op was `last_op`, and nothing later has a time up to
/// `time`", and what its region holds by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who says it.
    #[serde(with = "wire::origin")]
    pub origin: Origin,
    /// The time of its last op.
    #[serde(with = "wire::time")]
    pub last_op: Time,
    /// Nothing later has a time up to this.
    #[serde(with = "wire::time")]
    pub time: Time,
    /// The last op that it has applied of each origin, its own included.
    #[serde(with = "wire::version")]
    pub applied: Version,
    /// The same of what it has kept; `None` when that is all it has applied.
    #[serde(with = "wire::option")]
    pub kept: Option<Version>,
    /// What it says of origins that ended. An empty list says nothing new.
    pub announced: Vec<Announcement>,
}

impl Heartbeat {
    /// What its region has kept.
    pub fn kept(&self) -> &Version {
        self.kept.as_ref().unwrap_or(&self.applied)
    }
}

/// "I know of epoch `below` of `region`, take nothing older from it, and hold of its older epochs
/// what is `held`."
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// Whose epochs.
    #[serde(with = "wire::region")]
    pub region: Region,
    /// Epochs below this have ended.
    #[serde(with = "wire::epoch")]
    pub below: Epoch,
    /// The last op held of each of them.
    #[serde(with = "wire::version")]
    pub held: Version,
}

/// The first message in each direction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// The level of features that the build knows.
    pub(super) level: u32,
    /// Which database it serves.
    pub(super) database: String,
    /// A heartbeat of every shard.
    pub(super) shards: Vec<Heartbeat>,
}

/// Asks for ops of a region's origins below an epoch, whoever issued them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Want {
    /// For which shard.
    pub(super) shard: u16,
    /// Whose ops.
    #[serde(with = "wire::region")]
    pub(super) region: Region,
    /// Of epochs below this.
    #[serde(with = "wire::epoch")]
    pub(super) below: Epoch,
}

/// What one side tells the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Message {
    /// Who I am and what I hold.
    Hello(Hello),
    /// News of the listed shards; with `all`, `time` holds for every shard, and those that are not
    /// listed have nothing else to say.
    Beat {
        /// The time of each heartbeat.
        #[serde(with = "wire::time")]
        time: Time,
        /// Whether `time` is that of all shards.
        all: bool,
        /// Shards with something new to say.
        shards: Vec<(u16, Heartbeat)>,
    },
    /// Heartbeats of other regions, for whoever wants those.
    Relayed(Vec<(u16, Heartbeat)>),
    /// All that I want from now on.
    Wants(Vec<Want>),
    /// A frame did not follow what I have: send again what is beyond this.
    Again {
        /// Of which shard.
        shard: u16,
        /// What it has applied.
        #[serde(with = "wire::version")]
        applied: Version,
    },
    /// My log no longer reaches back to what you lack of these shards. Since
    /// [`BEHIND_LEVEL`].
    Behind(Vec<u16>),
    /// The record of regions, as I have it. Since [`ROSTER_LEVEL`].
    Roster(Vec<u8>),
    /// What I want to know of the state of a shard. Since [`CATCH_UP_LEVEL`], as all that follow.
    Ask(Ask),
    /// I ask for no more state of this shard.
    Done(u16),
    /// Of what you have answered I have taken so many bytes, all together.
    Taken(u64),
}

/// The level of features since which [`Message::Behind`] is understood.
pub(super) const BEHIND_LEVEL: u32 = 3;
/// The level of features since which [`Message::Roster`] is.
pub(super) const ROSTER_LEVEL: u32 = 4;
/// The level of features since which a shard is caught up by state.
pub(super) const CATCH_UP_LEVEL: u32 = 6;
/// The level of features since which a record of regions can say that one is excluded.
pub(super) const EXCLUSION_LEVEL: u32 = 7;
/// The level of features since which whoever does without a region that was forgotten says so.
pub(super) const WITHOUT_LEVEL: u32 = 8;

/// A question about the state of a shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    /// What the answers name; those of a conversation increase.
    pub(super) id: u32,
    /// Which shard.
    pub(super) shard: u16,
    /// 0 asks for pieces of the spans; any other number for the sums of so many equal parts of
    /// each.
    pub(super) parts: u8,
    /// Slot, lowest tag, highest tag.
    pub(super) spans: Vec<(u16, u32, u32)>,
}

/// The head of an answer, which goes on a lane of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// Bytes of answers before it on this connection: shows if one is missing or comes twice.
    pub(super) offset: u64,
    /// The question.
    pub(super) id: u32,
    /// What is answered.
    pub(super) content: Content,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Content {
    /// Not now.
    Busy,
    /// The next sums, in the order in which they were asked for.
    Sums {
        /// What the shard held.
        #[serde(with = "wire::version")]
        version: Version,
        /// How many keys, and their sum; 0 if there is too much to look at.
        sums: Vec<(u32, u64)>,
    },
    /// The next piece. Its bytes follow.
    Piece {
        /// Whether it is the last.
        is_last: bool,
    },
}

/// The byte behind the length of an answer, where a frame has its format.
pub(super) const ANSWER: u8 = 0x80;
/// Bytes before the head of an answer.
const ANSWER_PREFIX: usize = 5;

impl Answer {
    /// Its bytes, with those of a piece.
    pub(super) fn encode(&self, piece: &[u8]) -> Bytes {
        let mut bytes = vec![0; ANSWER_PREFIX];
        options()
            .serialize_into(&mut bytes, self)
            .expect("an answer of ours is far below the limit, and a Vec takes everything");
        bytes.extend_from_slice(piece);
        let length = (bytes.len() - 4) as u32;
        if let Some((prefix, _)) = bytes.split_first_chunk_mut::<ANSWER_PREFIX>() {
            prefix[..4].copy_from_slice(&length.to_le_bytes());
            prefix[4] = ANSWER;
        }
        bytes.into()
    }

    /// Whether these bytes, which came on a lane, are an answer and no frame.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        bytes.get(4) == Some(&ANSWER)
    }

    /// Reads one, and what follows its head.
    pub(super) fn decode(bytes: &Bytes) -> Result<(Self, Bytes), MessageError> {
        let mut rest = bytes.get(ANSWER_PREFIX..).unwrap_or_default();
        let answer: Self = options()
            .deserialize_from(&mut rest)
            .map_err(|error| MessageError::Content(error.to_string()))?;
        let rest = bytes.slice(bytes.len() - rest.len()..);
        if !matches!(answer.content, Content::Piece { .. }) && !rest.is_empty() {
            return Err(MessageError::Content("there is more than an answer".into()));
        }
        Ok((answer, rest))
    }
}

/// The level of features since which frames may be compressed on their way.
pub(super) const BLOCKS_LEVEL: u32 = 5;

impl Message {
    /// Its bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        options()
            .serialize_into(&mut bytes, self)
            .expect("a message of ours is far below the limit, and a Vec takes everything");
        bytes
    }

    /// Reads one message, all of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if MESSAGE_BYTES_MAX < bytes.len() {
            return Err(MessageError::TooLong { bytes: bytes.len() });
        }
        match bytes.split_first() {
            Some((&FORMAT, content)) => options()
                .deserialize(content)
                .map_err(|error| MessageError::Content(error.to_string())),
            Some((&found, _)) => Err(MessageError::Format { found }),
            None => Err(MessageError::Content("it is empty".into())),
        }
    }
}

/// One set of options for everything: bounded, no trailing bytes, short integers.
fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_limit(MESSAGE_BYTES_MAX as u64)
        .with_varint_encoding()
        .reject_trailing_bytes()
}

/// The types of `crdt`, which know nothing of serialisation, as plain tuples.
mod wire {
    use super::{Epoch, Origin, Region, Time, Version};

    type Times = Vec<(u8, u64, u64)>;
    type Floors = Vec<(u8, u64)>;

    fn region_of<E: serde::de::Error>(id: u8) -> Result<Region, E> {
        Region::new(id).ok_or_else(|| E::custom("0 is not a region"))
    }

    fn plain(version: &Version) -> (Times, Floors) {
        let times = version
            .iter()
            .map(|(o, time)| (o.region.id(), o.epoch.0, time.0))
            .collect();
        let floors = version
            .floors()
            .map(|(region, epoch)| (region.id(), epoch.0))
            .collect();
        (times, floors)
    }

    fn version_of<E: serde::de::Error>((times, floors): (Times, Floors)) -> Result<Version, E> {
        let mut version = Version::new();
        for (region, epoch) in floors {
            version.raise_floor(region_of(region)?, Epoch(epoch));
        }
        for (region, epoch, time) in times {
            version.advance(Origin::new(region_of(region)?, Epoch(epoch)), Time(time));
        }
        Ok(version)
    }

    /// Writes one of the modules that `#[serde(with)]` names.
    macro_rules! as_plain {
        ($name:ident, $type:ty, $plain:ty, $to:expr, $from:expr) => {
            pub(super) mod $name {
                use serde::{Deserialize, Deserializer, Serialize, Serializer};

                use super::*;

                pub(in super::super) fn serialize<S: Serializer>(
                    value: &$type,
                    to: S,
                ) -> Result<S::Ok, S::Error> {
                    let plain: $plain = ($to)(value);
                    plain.serialize(to)
                }

                pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
                    from: D,
                ) -> Result<$type, D::Error> {
                    let plain = <$plain>::deserialize(from)?;
                    ($from)(plain)
                }
            }
        };
    }

    as_plain!(region, Region, u8, |r: &Region| r.id(), region_of);
    as_plain!(epoch, Epoch, u64, |e: &Epoch| e.0, |e| Ok(Epoch(e)));
    as_plain!(time, Time, u64, |t: &Time| t.0, |t| Ok(Time(t)));
    as_plain!(
        origin,
        Origin,
        (u8, u64),
        |o: &Origin| (o.region.id(), o.epoch.0),
        |(r, e)| { Ok(Origin::new(region_of(r)?, Epoch(e))) }
    );
    as_plain!(version, Version, (Times, Floors), plain, version_of);
    as_plain!(
        option,
        Option<Version>,
        Option<(Times, Floors)>,
        |v: &Option<Version>| v.as_ref().map(plain),
        |v: Option<(Times, Floors)>| v.map(version_of).transpose()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Heartbeat {
        let region = |id| Region::new(id).expect("not 0");
        let origin = |id, epoch| Origin::new(region(id), Epoch(epoch));
        let mut applied: Version = [(origin(1, 7), Time(90)), (origin(2, 8), Time(1 << 60))]
            .into_iter()
            .collect();
        applied.raise_floor(region(2), Epoch(8));
        let held = [(origin(2, 5), Time(3))].into_iter().collect();
        Heartbeat {
            origin: origin(1, 7),
            last_op: Time(90),
            time: Time(100),
            applied,
            kept: Some(Version::new()),
            announced: vec![Announcement {
                region: region(2),
                below: Epoch(8),
                held,
            }],
        }
    }

    fn messages() -> Vec<Message> {
        let region = Region::new(3).expect("not 0");
        let shards = vec![
            heartbeat(),
            Heartbeat {
                kept: None,
                ..heartbeat()
            },
        ];
        vec![
            Message::Hello(Hello {
                level: 1,
                database: "test".into(),
                shards,
            }),
            Message::Beat {
                time: Time(5),
                all: true,
                shards: vec![(7, heartbeat())],
            },
            Message::Beat {
                time: Time(5),
                all: false,
                shards: vec![],
            },
            Message::Relayed(vec![(0, heartbeat())]),
            Message::Wants(vec![Want {
                shard: 1,
                region,
                below: Epoch(u64::MAX),
            }]),
            Message::Again {
                shard: 300,
                applied: heartbeat().applied,
            },
        ]
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        for message in messages() {
            let bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message));
            for end in 0..bytes.len() {
                assert!(
                    Message::decode(bytes.get(..end).expect("in range")).is_err(),
                    "cut at {end}"
                );
            }
            let longer = [bytes.as_slice(), &[0]].concat();
            assert!(Message::decode(&longer).is_err(), "a trailing byte");
        }
        assert_eq!(
            Message::decode(&[9, 0]),
            Err(MessageError::Format { found: 9 })
        );
    }

    #[test]
    fn format_1_is_what_is_stored() {
        let all: Vec<u8> = messages()
            .iter()
            .map(Message::encode)
            .flat_map(|m| [(m.len() as u32).to_le_bytes().to_vec(), m].concat())
            .collect();
        let stored = include_bytes!("../../tests/fixtures/messages-v1.bin");
        assert_eq!(
            all, stored,
            "the bytes of a format never change: give it a new number"
        );
    }

    #[test]
    fn what_level_3_adds_is_what_is_stored() {
        let message = Message::Behind(vec![0, 300]);
        let bytes = message.encode();
        assert_eq!(bytes, [FORMAT, 5, 2, 0, 251, 44, 1]);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_level_4_adds_is_what_is_stored() {
        let message = Message::Roster(vec![1, 0, 255]);
        let bytes = message.encode();
        assert_eq!(bytes, [FORMAT, 6, 3, 1, 0, 255]);
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn what_level_6_adds_is_what_is_stored() {
        let ask = Ask {
            id: 300,
            shard: 2,
            parts: 8,
            spans: vec![(1, 0, u32::MAX)],
        };
        for (message, stored) in [
            (
                Message::Ask(ask),
                &[
                    FORMAT, 7, 251, 44, 1, 2, 8, 1, 1, 0, 252, 255, 255, 255, 255,
                ][..],
            ),
            (Message::Done(7), &[FORMAT, 8, 7]),
            (Message::Taken(251), &[FORMAT, 9, 251, 251, 0]),
        ] {
            assert_eq!(message.encode(), stored);
            assert_eq!(Message::decode(stored), Ok(message));
        }
    }

    #[test]
    fn an_answer_is_told_from_a_frame_and_read_as_it_was_written() {
        let version = heartbeat().applied;
        let sums = vec![(3, 1 << 60), (0, 0)];
        for (content, piece, head) in [
            (Content::Busy, &b""[..], &[7_u8, 9, 0][..]),
            (Content::Sums { version, sums }, b"", &[7, 9, 1]),
            (Content::Piece { is_last: true }, b"piece", &[7, 9, 2, 1]),
        ] {
            let answer = Answer {
                offset: 7,
                id: 9,
                content,
            };
            let bytes = answer.encode(piece);
            assert!(Answer::is_one(&bytes));
            let length = (bytes.len() as u32 - 4).to_le_bytes();
            assert!(bytes.starts_with(&[&length[..], &[ANSWER], head].concat()));
            assert_eq!(
                Answer::decode(&bytes),
                Ok((answer, Bytes::copy_from_slice(piece)))
            );
            assert!(Answer::decode(&bytes.slice(..6)).is_err(), "cut");
        }
        let busy = Answer {
            offset: 0,
            id: 1,
            content: Content::Busy,
        };
        let longer = busy.encode(b"more");
        assert!(Answer::decode(&longer).is_err());
    }

    #[test]
    fn a_length_claims_no_more_than_there_is() {
        // Wants, with 2^63 entries.
        let bytes = [FORMAT, 3, 253, 0, 0, 0, 0, 0, 0, 0, 128];
        assert!(matches!(
            Message::decode(&bytes),
            Err(MessageError::Content(_))
        ));
    }

    #[test]
    fn an_idle_heartbeat_is_small() {
        let message = Message::Beat {
            time: Time(u64::MAX >> 1),
            all: true,
            shards: vec![],
        };
        assert!(message.encode().len() <= 16);
    }
}
