//! The sending half of a connection: one task that asks the handler what to send and writes it.
//!
//! Messages and lanes have a queue each, so that a lane which the peer does not read holds up only
//! itself. All queues together are bounded: beyond that the handler is not asked, until something
//! has been written. A handler that bounds what it has under way (as a link does by its windows)
//! never gets there.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, SendStream};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::driver::Ended;
use super::pause::Pause;
use super::squeeze::Squeezer;
use super::stats::Counters;
use super::waker::Waker;
use super::{Handler, Transmit, now};

/// Bytes taken from the handler before they are written, and other tasks get their turn.
const BATCH_BYTES: usize = 256 << 10;
/// Bytes that wait in all queues.
const QUEUED_BYTES_MAX: usize = 128 << 20;

/// The queues of one connection.
#[derive(Debug)]
pub(super) struct Sender {
    control: Queue,
    lanes: Vec<Queue>,
    /// Bytes in all queues.
    queued: usize,
}

/// What compresses frames, if that helps on this connection.
pub(super) struct Press<'a> {
    pub(super) squeezer: Squeezer,
    pub(super) connection: &'a Connection,
    pub(super) counters: &'a Counters,
}

impl Press<'_> {
    fn wants(&self, handler: &dyn Handler) -> bool {
        self.squeezer.wants(self.connection.rtt()) && handler.takes_compressed()
    }

    /// Puts a block in the place of frames. Gives by how many bytes that is less.
    fn squeeze(&mut self, frames: &mut VecDeque<Bytes>, fresh: usize) -> usize {
        let first = frames.len() - fresh;
        let fresh = frames.make_contiguous().get(first..).unwrap_or_default();
        let before: usize = fresh.iter().map(Bytes::len).sum();
        let Some(block) = self.squeezer.block(fresh) else {
            return 0;
        };
        let after = block.len();
        frames.truncate(first);
        frames.push_back(block);
        let counters = self.counters;
        counters
            .squeezed
            .fetch_add(before as u64, Ordering::Relaxed);
        counters
            .squeezed_to
            .fetch_add(after as u64, Ordering::Relaxed);
        before - after
    }
}

impl Sender {
    pub(super) fn new(control: SendStream, lanes: Vec<SendStream>) -> Self {
        let lanes = lanes.into_iter().map(Queue::new).collect();
        Self {
            control: Queue::new(control),
            lanes,
            queued: 0,
        }
    }

    /// Sends until the connection ends or the handler refuses to go on.
    pub(super) async fn run(
        mut self,
        handler: &dyn Handler,
        waker: &Waker,
        pause: Duration,
        mut press: Press<'_>,
    ) -> Ended {
        let pause = Pause::new(pause);
        match self.pump(handler, waker, &pause, &mut press).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn pump(
        &mut self,
        handler: &dyn Handler,
        waker: &Waker,
        pause: &Pause,
        press: &mut Press<'_>,
    ) -> Result<std::convert::Infallible, Ended> {
        let mut sent_at = None;
        loop {
            waker.clear();
            if handler.next_timeout().is_some_and(|due| due <= now()) {
                handler.timeout(now()).map_err(Ended::Rejected)?;
            }
            loop {
                let taken = self.fill(handler, press);
                if 0 < taken {
                    self.flush().await?;
                    sent_at = Some(Instant::now());
                }
                if taken < BATCH_BYTES {
                    break; // Whatever is new since then has woken us.
                }
                yield_now().await;
            }
            tokio::select! {
                () = waker.woken() => {
                    yield_now().await; // What else is ready may add to what there is to send.
                    pause.since(sent_at).await;
                }
                () = until(handler.next_timeout()) => {}
                written = self.unblocked(), if 0 < self.queued => written?,
            }
        }
    }

    /// Takes a batch from the handler; gives its bytes.
    fn fill(&mut self, handler: &dyn Handler, press: &mut Press<'_>) -> usize {
        let before = self.queued;
        while self.queued < QUEUED_BYTES_MAX && self.queued - before < BATCH_BYTES {
            let Some(transmit) = handler.poll(now()) else {
                break;
            };
            self.queued += match transmit {
                Transmit::Control(message) => self.control.push_message(message),
                Transmit::Frame { lane, bytes } => {
                    let lane = usize::from(lane) % self.lanes.len();
                    self.lanes
                        .get_mut(lane)
                        .map_or(0, |queue| queue.push(bytes))
                }
            };
        }
        let taken = self.queued - before;
        if 0 < taken && press.wants(handler) {
            for lane in &mut self.lanes {
                self.queued -= press.squeeze(&mut lane.chunks, lane.fresh);
            }
        }
        for queue in self.lanes.iter_mut().chain([&mut self.control]) {
            queue.fresh = 0;
        }
        taken
    }

    /// Writes what the connection takes now.
    async fn flush(&mut self) -> Result<(), Ended> {
        std::future::poll_fn(|context| Poll::Ready(self.write(context)))
            .await
            .map(drop)
    }

    /// Waits until something that was blocked has been written.
    async fn unblocked(&mut self) -> Result<(), Ended> {
        std::future::poll_fn(|context| match self.write(context) {
            Ok(0) => Poll::Pending,
            Ok(_) => Poll::Ready(Ok(())),
            Err(ended) => Poll::Ready(Err(ended)),
        })
        .await
    }

    fn write(&mut self, context: &mut Context<'_>) -> Result<usize, Ended> {
        let mut written = self.control.write(context)?;
        for lane in &mut self.lanes {
            written += lane.write(context)?;
        }
        self.queued -= written;
        Ok(written)
    }
}

/// What waits for one stream.
#[derive(Debug)]
struct Queue {
    stream: SendStream,
    chunks: VecDeque<Bytes>,
    /// How many of them have come last, at one time.
    fresh: usize,
}

impl Queue {
    fn new(stream: SendStream) -> Self {
        Self {
            stream,
            chunks: VecDeque::new(),
            fresh: 0,
        }
    }

    fn push(&mut self, bytes: Bytes) -> usize {
        let added = bytes.len();
        self.fresh += 1;
        self.chunks.push_back(bytes);
        added
    }

    fn push_message(&mut self, message: Vec<u8>) -> usize {
        let prefix = (message.len() as u32).to_le_bytes();
        self.push(Bytes::copy_from_slice(&prefix)) + self.push(Bytes::from(message))
    }

    /// Writes until the stream takes no more; registers for when it does. Gives the bytes written.
    fn write(&mut self, context: &mut Context<'_>) -> Result<usize, Ended> {
        let mut total = 0;
        while !self.chunks.is_empty() {
            // A new future each time: it holds nothing that the stream does not.
            let write = pin!(self.stream.write_chunks(self.chunks.make_contiguous())).poll(context);
            let Poll::Ready(written) = write else { break };
            let written = written?;
            total += written.bytes;
            self.chunks.drain(..written.chunks);
        }
        Ok(total)
    }
}

async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => sleep_until(Instant::from_std(due)).await,
        None => std::future::pending().await,
    }
}
