//! The listening socket of an admin port, with a bound on who is inside and on how long they may be
//! there without asking anything.
//!
//! A guest who has no request with us has a few seconds to send the head of one; then he is sent
//! away. Who comes while it is full takes the place of the one who has been there longest without a
//! request. So whoever reaches the port without a token cannot keep those out who have it, and a
//! request that takes its time is not disturbed.

use std::future::Future as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep_until};

use crate::{clock, limits};

/// See the module. Who finds all at their requests waits in the system's queue.
#[derive(Debug)]
pub(super) struct Door {
    listener: TcpListener,
    room: Arc<Semaphore>,
    /// Those who are inside, in the order in which they came.
    seats: Vec<Seat>,
}

impl Door {
    /// Binds a port of loopback; 0 for any that is free.
    pub(super) async fn open(port: u16) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?,
            room: Arc::new(Semaphore::new(limits::ADMIN_CONNECTIONS_MAX)),
            seats: Vec::new(),
        })
    }

    /// Where it is.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Sends away who has been there longest without a request.
    fn make_room(&self) {
        let waiting = self.seats.iter().filter_map(|seat| {
            let sitting = seat.0.lock();
            sitting.waits_since().map(|since| (since, seat))
        });
        if let Some((_, seat)) = waiting.min_by_key(|(since, _)| *since) {
            seat.send_away();
        }
    }
}

impl Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        self.seats.retain(|seat| 1 < Arc::strong_count(&seat.0));
        if self.room.available_permits() == 0 {
            self.make_room();
        }
        let place = Arc::clone(&self.room).acquire_owned().await.ok();
        let seat = Seat::default();
        self.seats.push(seat.clone());
        let guest = Guest {
            stream,
            seat,
            patience: None,
            _place: place,
        };
        (guest, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.address()
    }
}

#[derive(Debug)]
struct Sitting {
    /// Requests that are being answered.
    requests: usize,
    /// Since when there have been none.
    idle_since: Instant,
    is_sent_away: bool,
    /// Wakes whoever reads from the connection.
    reader: Option<Waker>,
}

impl Sitting {
    const fn waits_since(&self) -> Option<Instant> {
        if self.requests == 0 && !self.is_sent_away {
            Some(self.idle_since)
        } else {
            None
        }
    }
}

/// What a guest is at.
#[derive(Clone, Debug)]
pub(super) struct Seat(Arc<Mutex<Sitting>>);

impl Default for Seat {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Sitting {
            requests: 0,
            idle_since: clock::monotonic(),
            is_sent_away: false,
            reader: None,
        })))
    }
}

impl Seat {
    /// A request has come, and is being answered while what is returned lives.
    pub(super) fn ask(&self) -> Asking {
        self.0.lock().requests += 1;
        Asking(self.clone())
    }

    fn send_away(&self) {
        let mut sitting = self.0.lock();
        sitting.is_sent_away = true;
        if let Some(reader) = sitting.reader.take() {
            reader.wake();
        }
    }
}

impl Connected<IncomingStream<'_, Door>> for Seat {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.io().seat.clone()
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Asking(Seat);

impl Drop for Asking {
    fn drop(&mut self) {
        let mut sitting = self.0.0.lock();
        sitting.requests -= 1;
        sitting.idle_since = clock::monotonic();
    }
}

/// A connection, and its place.
#[derive(Debug)]
pub(super) struct Guest {
    stream: TcpStream,
    seat: Seat,
    /// Ends when a head should have come.
    patience: Option<Pin<Box<Sleep>>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Guest {
    /// Whether it is time to go. Who reads is woken when it is.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let until = {
                let mut sitting = self.seat.0.lock();
                if sitting.is_sent_away {
                    return Poll::Ready(());
                }
                sitting.reader = Some(context.waker().clone());
                match sitting.waits_since() {
                    Some(since) => (since + limits::ADMIN_HEAD_WITHIN).into(),
                    None => return Poll::Pending,
                }
            };
            let patience = self
                .patience
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            if patience.deadline() != until {
                patience.as_mut().reset(until);
            }
            if patience.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let is_over = |sitting: &Sitting| {
                let since = sitting.waits_since();
                since.is_some_and(|since| since + limits::ADMIN_HEAD_WITHIN <= clock::monotonic())
            };
            if is_over(&self.seat.0.lock()) {
                return Poll::Ready(());
            }
            self.patience = None;
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.poll_end(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Nor does he stay who does not read his answers.
        if self.poll_end(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
