//! One connection with a peer: greets, pumps bytes into the handler and back, and says why it
//! ended.
//!
//! The side that called opens one stream each way for control messages and greets on it; the other
//! answers. Then each side opens its lanes, one-way streams of frames. A connection counts only
//! once both have greeted: in TLS 1.3 the caller thinks that it is connected before the other side
//! has looked at its certificate.
//!
//! Whatever is malformed, or refused by the handler, ends this connection and nothing else.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    Connection, ConnectionError, Endpoint, ReadError, ReadExactError, RecvStream, SendStream,
    VarInt, WriteError,
};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::endpoint::LANES_MAX;
use super::sender::{Press, Sender};
use super::split::{PREFIX, Splitter, TooLong};
use super::squeeze::{self, BadBlock, Squeezer};
use super::stats::Counters;
use super::waker::Waker;
use super::{Accept, Handler, Limits, Reject, now};

/// What each side says first: whatever comes later may differ by the last byte.
const GREETING: &[u8; 8] = b"meridia\x01";
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// After a frame that the handler could not take.
const RETRY_AFTER: Duration = Duration::from_nanos(crate::proto::RETRY_AFTER.0);
const REASON_BYTES_MAX: usize = 256;
/// Bytes of frames taken from a lane before other tasks get their turn: some hundred ops, applied
/// in a fraction of a millisecond. All lanes may be busy at once, and what acknowledges packets is
/// one task among theirs: where it waits for long, peers measure long round trips, and stop.
const TURN_BYTES: usize = 8 << 10;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// We are stopping.
    #[error("we are stopping")]
    Stopped,
    /// The peer has said goodbye.
    #[error("the peer is stopping")]
    PeerStopped,
    /// The same peer has connected anew.
    #[error("replaced by a newer connection")]
    Replaced,
    /// The peer has started, and wants to be called.
    #[error("the peer has started anew")]
    PeerStarted,
    /// Nothing comes any more.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// The peer will not talk to us.
    #[error("refused by the peer: {0}")]
    Refused(String),
    /// The peer sent what is no message and no frame.
    #[error("the peer sent something malformed: {0}")]
    Malformed(String),
    /// The handler cannot go on.
    #[error("{0}")]
    Rejected(Reject),
}

/// Codes with which a connection is closed; 0 is what QUIC says of one that was dropped.
const STOPPED: u32 = 1;
const REPLACED: u32 = 2;
const MALFORMED: u32 = 3;
const REJECTED: u32 = 4;
const REFUSED: u32 = 5;

impl Ended {
    /// What the end of a connection as QUIC sees it means to us.
    pub(super) fn of(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                if code == u64::from(STOPPED) {
                    Self::PeerStopped
                } else if code == u64::from(REPLACED) {
                    Self::Replaced
                } else if code == 0 {
                    Self::Lost("the peer has dropped it".to_owned())
                } else {
                    Self::Refused(String::from_utf8_lossy(&close.reason).into_owned())
                }
            }
            ConnectionError::ConnectionClosed(close) => Self::Refused(close.to_string()),
            error @ (ConnectionError::TransportError(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::LocallyClosed
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::CidsExhausted) => Self::Lost(error.to_string()),
        }
    }

    /// Tells the peer.
    pub(super) fn close(&self, connection: &Connection) {
        let reason = self.to_string();
        connection.close(self.code(), short(&reason));
    }

    /// Tells all peers, and whoever else is connected.
    pub(super) fn close_endpoint(&self, endpoint: &Endpoint) {
        let reason = self.to_string();
        endpoint.close(self.code(), short(&reason));
    }

    fn code(&self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Stopped => STOPPED,
            Self::Replaced | Self::PeerStarted => REPLACED,
            Self::Malformed(_) => MALFORMED,
            Self::Rejected(_) => REJECTED,
            Self::Refused(_) => REFUSED,
            Self::PeerStopped | Self::Lost(_) => 0,
        })
    }

    /// Whether somebody is to blame, so that trying again at once would not help.
    pub(super) const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::Malformed(_) | Self::Rejected(_)
        )
    }
}

impl From<ReadError> for Ended {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => Self::of(error),
            ReadError::Reset(_)
            | ReadError::ClosedStream
            | ReadError::IllegalOrderedRead
            | ReadError::ZeroRttRejected => {
                Self::Malformed("the peer has ended a stream".to_owned())
            }
        }
    }
}

impl From<WriteError> for Ended {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => Self::of(error),
            WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                Self::Malformed("the peer does not take one of our streams".to_owned())
            }
        }
    }
}

impl From<BadBlock> for Ended {
    fn from(error: BadBlock) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<TooLong> for Ended {
    fn from(error: TooLong) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Caller,
    Called,
}

/// What a connection works with.
#[derive(Clone)]
pub(super) struct Session {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) waker: Waker,
    pub(super) limits: Limits,
}

impl Session {
    /// Greets, and opens our lanes.
    pub(super) async fn greet(
        &self,
        connection: &Connection,
        side: Side,
    ) -> Result<(Sender, RecvStream), Ended> {
        timeout(GREETING_TIMEOUT, async {
            let (send, receive) = match side {
                Side::Caller => {
                    let (mut send, mut receive) = connection.open_bi().await.map_err(Ended::of)?;
                    say_hello(&mut send).await?;
                    hear_hello(&mut receive).await?;
                    (send, receive)
                }
                Side::Called => {
                    let (mut send, mut receive) =
                        connection.accept_bi().await.map_err(Ended::of)?;
                    hear_hello(&mut receive).await?;
                    say_hello(&mut send).await?;
                    (send, receive)
                }
            };
            // Control goes first. It fails only on a stream that is closed.
            let _ = send.set_priority(1);
            let mut lanes = Vec::with_capacity(usize::from(self.limits.streams));
            for _ in 0..self.limits.streams {
                lanes.push(connection.open_uni().await.map_err(Ended::of)?);
            }
            Ok((Sender::new(send, lanes), receive))
        })
        .await
        .unwrap_or_else(|_| Err(Ended::Lost("no greeting within 3 s".to_owned())))
    }

    /// Runs a connection to its end, which is the peer's, `interrupted`'s or a fault's. The handler
    /// hears [`Handler::connected`], and nothing more after [`Handler::disconnected`].
    pub(super) async fn converse(
        &self,
        connection: &Connection,
        (sender, control): (Sender, RecvStream),
        counters: &Counters,
        interrupted: impl Future<Output = Ended>,
    ) -> Ended {
        self.handler.connected(now());
        let mut lanes = JoinSet::new();
        let press = Press {
            squeezer: Squeezer::new(self.limits.compression),
            connection,
            counters,
        };
        let ended = tokio::select! {
            ended = interrupted => ended,
            ended = sender.run(&*self.handler, &self.waker, self.limits.pause, press) => ended,
            ended = self.clone().read_control(control) => ended,
            ended = self.read_lanes(connection, &mut lanes) => ended,
        };
        ended.close(connection);
        lanes.shutdown().await; // No frame may come after the handler has been told.
        self.handler.disconnected(now(), &ended);
        ended
    }

    async fn read_control(self, stream: RecvStream) -> Ended {
        let take = async |session: &Self, message: bytes::Bytes| {
            let content = message.get(PREFIX..).unwrap_or_default();
            let taken = session.handler.control(now(), content);
            taken.map_err(Ended::Rejected)
        };
        let splitter = Splitter::new(self.limits.message_bytes_max);
        self.read(stream, splitter, take).await
    }

    /// Reads every lane that the peer opens; ends with the first that ends.
    async fn read_lanes(&self, connection: &Connection, lanes: &mut JoinSet<Ended>) -> Ended {
        loop {
            tokio::select! {
                stream = connection.accept_uni() => match stream {
                    Ok(_) if LANES_MAX as usize <= lanes.len() => {
                        return Ended::Malformed("too many lanes".to_owned());
                    }
                    Ok(stream) => {
                        lanes.spawn(self.clone().read_frames(stream));
                    }
                    Err(error) => return Ended::of(error),
                },
                Some(ended) = lanes.join_next() => {
                    return ended.unwrap_or_else(|error| Ended::Lost(error.to_string()));
                }
            }
        }
    }

    async fn read_frames(self, stream: RecvStream) -> Ended {
        let take = async |session: &Self, piece: bytes::Bytes| {
            if !squeeze::is_block(&piece) {
                return session.take_frame(piece).await;
            }
            let mut turn = 0;
            for frame in squeeze::frames(&piece)? {
                turn += frame.len();
                session.take_frame(frame).await?;
                if TURN_BYTES <= turn {
                    turn = 0;
                    give_turn().await;
                }
            }
            Ok(())
        };
        let splitter = Splitter::with_blocks(self.limits.frame_bytes_max);
        self.read(stream, splitter, take).await
    }

    async fn take_frame(&self, frame: bytes::Bytes) -> Result<(), Ended> {
        let take = || {
            self.handler
                .frame(now(), frame.clone())
                .map_err(Ended::Rejected)
        };
        while take()? == Accept::Later {
            self.waker.wake();
            sleep(RETRY_AFTER).await;
        }
        Ok(())
    }

    /// Hands on each piece of a stream, in order, until the stream or `take` fails.
    async fn read(
        &self,
        mut stream: RecvStream,
        mut splitter: Splitter,
        take: impl AsyncFn(&Self, bytes::Bytes) -> Result<(), Ended>,
    ) -> Ended {
        let mut turn = 0;
        loop {
            let mut chunk = match stream.read_chunk(TURN_BYTES, true).await {
                Ok(Some(chunk)) => chunk.bytes,
                Ok(None) => return Ended::Malformed("the peer has ended a stream".to_owned()),
                Err(error) => return Ended::from(error),
            };
            turn += chunk.len();
            loop {
                match splitter.next(&mut chunk) {
                    Ok(None) => break,
                    Ok(Some(piece)) => {
                        if let Err(ended) = take(self, piece).await {
                            return ended;
                        }
                    }
                    Err(error) => return Ended::from(error),
                }
            }
            self.waker.wake(); // There may be something to answer.
            if TURN_BYTES <= turn {
                turn = 0;
                give_turn().await;
            }
        }
    }
}

/// Lets other tasks of this thread go on, but first other threads: while a cut's worth of frames is
/// applied, who serves a client would otherwise wait for a processor as long as the system lets a
/// busy thread keep it, some milliseconds. With nothing else to run it costs a system call.
async fn give_turn() {
    std::thread::yield_now();
    yield_now().await;
}

/// A reason travels in one packet.
fn short(reason: &str) -> &[u8] {
    let end = reason.floor_char_boundary(REASON_BYTES_MAX);
    reason.as_bytes().get(..end).unwrap_or_default()
}

async fn say_hello(send: &mut SendStream) -> Result<(), Ended> {
    send.write_all(GREETING).await.map_err(Ended::from)
}

async fn hear_hello(receive: &mut RecvStream) -> Result<(), Ended> {
    let mut greeting = [0; GREETING.len()];
    receive
        .read_exact(&mut greeting)
        .await
        .map_err(|error| match error {
            ReadExactError::FinishedEarly(_) => unknown_greeting(),
            ReadExactError::ReadError(error) => Ended::from(error),
        })?;
    if greeting == *GREETING {
        Ok(())
    } else {
        Err(unknown_greeting())
    }
}

fn unknown_greeting() -> Ended {
    Ended::Malformed("an unknown greeting".to_owned())
}
