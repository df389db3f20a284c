//! The network between the regions: UDP in, UDP out, with delay, jitter, loss and cuts.
//!
//! For each ordered pair of regions there is a link: where A dials B. Its entrance is what A takes
//! for B; what comes in there goes on to B, treated as the direction from A to B says, and what B
//! answers goes back, treated as the direction from B to A says. So a direction is the same whoever
//! dialled. A region is one process with one socket, so a link answers to whoever spoke last.
//!
//! Threads of its own, two a link and one for what waits, with blocking sockets: a relay that
//! shares a runtime with anything else would measure that. A datagram without delay goes on from
//! the thread that received it, about 5 µs later.

mod direction;
mod pacer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;

use self::direction::Fate;
pub(crate) use self::direction::{Direction, Shape};
use self::pacer::{Pacer, Parcel};
use crate::clock;
use crate::limits::MIB;

/// What a UDP datagram can carry.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Buffer of a socket, as far as the system allows.
const SOCKET_BUFFER_BYTES: usize = 8 * MIB;
/// How often a thread that receives looks whether it is to stop.
const STOP_LOOK: Duration = Duration::from_millis(200);

/// All links between some regions, which are counted from 0. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    directions: BTreeMap<(usize, usize), Arc<Direction>>,
    entrances: BTreeMap<(usize, usize), SocketAddr>,
    pacer: Arc<Pacer>,
    is_stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// Links regions whose sockets are at `regions`; chance follows from `seed`.
    pub(crate) fn start(regions: &[SocketAddr], shape: Shape, seed: u64) -> io::Result<Self> {
        let pairs: Vec<(usize, usize)> = (0..regions.len())
            .flat_map(|from| (0..regions.len()).map(move |to| (from, to)))
            .filter(|(from, to)| from != to)
            .collect();
        let direction = |(from, to)| {
            let seed = seed ^ ((from as u64) << 32 | (to as u64) << 48);
            ((from, to), Arc::new(Direction::new(shape, seed)))
        };
        let mut relay = Self {
            directions: pairs.iter().copied().map(direction).collect(),
            entrances: BTreeMap::new(),
            pacer: Arc::default(),
            is_stopped: Arc::default(),
            threads: Vec::new(),
        };
        for (from, to) in pairs {
            relay.link(from, to, regions[to])?;
        }
        let pacer = Arc::clone(&relay.pacer);
        relay.spawn("relay-pacer", move || pacer.run())?;
        Ok(relay)
    }

    /// What region `from` takes for the address of region `to`.
    pub(crate) fn entrance(&self, from: usize, to: usize) -> Option<SocketAddr> {
        self.entrances.get(&(from, to)).copied()
    }

    /// The direction from a region to another.
    pub(crate) fn direction(&self, from: usize, to: usize) -> Option<&Direction> {
        self.directions.get(&(from, to)).map(Arc::as_ref)
    }

    /// All directions, with their ends.
    pub(crate) fn directions(&self) -> impl Iterator<Item = ((usize, usize), &Direction)> {
        self.directions
            .iter()
            .map(|(ends, direction)| (*ends, direction.as_ref()))
    }

    fn link(&mut self, from: usize, to: usize, target: SocketAddr) -> io::Result<()> {
        let exit = socket()?;
        exit.connect(target)?;
        let link = Arc::new(Link {
            entrance: socket()?,
            exit,
            source: Mutex::new(None),
            forward: Arc::clone(&self.directions[&(from, to)]),
            back: Arc::clone(&self.directions[&(to, from)]),
        });
        self.entrances
            .insert((from, to), link.entrance.local_addr()?);
        for way in [Way::Forward, Way::Back] {
            let receiver = Receiver {
                link: Arc::clone(&link),
                way,
                pacer: Arc::clone(&self.pacer),
                is_stopped: Arc::clone(&self.is_stopped),
            };
            self.spawn("relay", move || receiver.run())?;
        }
        Ok(())
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body)?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.pacer.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so on stderr.
            let _ = thread.join();
        }
    }
}

/// Which way through a link.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// From the region that dials.
    Forward,
    /// To it.
    Back,
}

/// The sockets between a region that dials and one that it takes this for.
#[derive(Debug)]
struct Link {
    entrance: UdpSocket,
    exit: UdpSocket,
    /// Who dials.
    source: Mutex<Option<SocketAddr>>,
    forward: Arc<Direction>,
    back: Arc<Direction>,
}

impl Link {
    fn direction(&self, way: Way) -> &Direction {
        match way {
            Way::Forward => &self.forward,
            Way::Back => &self.back,
        }
    }

    /// The next datagram that is to go this way.
    fn receive(&self, way: Way, buffer: &mut [u8]) -> io::Result<usize> {
        match way {
            Way::Forward => {
                let (bytes, source) = self.entrance.recv_from(buffer)?;
                *self.source.lock() = Some(source);
                Ok(bytes)
            }
            Way::Back => self.exit.recv(buffer),
        }
    }

    /// Sends on. What a socket does not take is lost, as on any network.
    fn send(&self, way: Way, bytes: &[u8]) {
        let _ = match way {
            Way::Forward => self.exit.send(bytes),
            Way::Back => {
                let source = *self.source.lock();
                source.map_or(Ok(0), |source| self.entrance.send_to(bytes, source))
            }
        };
    }
}

/// Receives what goes one way through a link.
struct Receiver {
    link: Arc<Link>,
    way: Way,
    pacer: Arc<Pacer>,
    is_stopped: Arc<AtomicBool>,
}

impl Receiver {
    fn run(&self) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let direction = self.link.direction(self.way);
        while !self.is_stopped.load(Ordering::Relaxed) {
            // An error is the end of a wait, or says that nobody listens at the other end.
            let Ok(bytes) = self.link.receive(self.way, &mut buffer) else {
                continue;
            };
            let datagram = &buffer[..bytes];
            match direction.fate(bytes, clock::monotonic()) {
                Fate::Passes => self.link.send(self.way, datagram),
                Fate::Waits(due) => self.pacer.hold(Parcel {
                    due,
                    bytes: datagram.into(),
                    link: Arc::clone(&self.link),
                    way: self.way,
                }),
                Fate::Dropped => {}
            }
        }
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.set_read_timeout(Some(STOP_LOOK))?;
    let options = SockRef::from(&socket);
    options.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    options.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    Ok(socket)
}
