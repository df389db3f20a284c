//! Holds datagrams back until they are due, with one thread for all directions.
//!
//! Bounded by what the directions let wait. A wait ends within the kernel's timer slack, well below
//! a millisecond.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::{Link, Way};
use crate::clock;

/// A datagram that waits.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) due: Instant,
    pub(super) bytes: Box<[u8]>,
    pub(super) link: Arc<Link>,
    pub(super) way: Way,
}

/// The queue of all parcels, soonest first; of equal ones the first that came.
#[derive(Debug, Default)]
pub(super) struct Pacer {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    parcels: BinaryHeap<Reverse<Numbered>>,
    next_number: u64,
    is_stopped: bool,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    parcel: Parcel,
}

impl Pacer {
    /// Takes a parcel in.
    pub(super) fn hold(&self, parcel: Parcel) {
        let mut queue = self.queue.lock();
        let is_soonest = queue
            .parcels
            .peek()
            .is_none_or(|Reverse(first)| parcel.due < first.parcel.due);
        let number = queue.next_number;
        queue.next_number += 1;
        queue.parcels.push(Reverse(Numbered { number, parcel }));
        drop(queue);
        if is_soonest {
            self.changed.notify_one();
        }
    }

    /// Makes [`run`](Self::run) return.
    pub(super) fn stop(&self) {
        self.queue.lock().is_stopped = true;
        self.changed.notify_one();
    }

    /// Sends every parcel on when it is due, until stopped.
    pub(super) fn run(&self) {
        let mut due = Vec::new();
        while self.wait(&mut due) {
            for parcel in due.drain(..) {
                if parcel
                    .link
                    .direction(parcel.way)
                    .arrives(parcel.bytes.len())
                {
                    parcel.link.send(parcel.way, &parcel.bytes);
                }
            }
        }
    }

    /// Waits until something is due and moves it to `due`; false when stopped.
    fn wait(&self, due: &mut Vec<Parcel>) -> bool {
        let mut queue = self.queue.lock();
        loop {
            if queue.is_stopped {
                return false;
            }
            let now = clock::monotonic();
            while queue
                .parcels
                .peek()
                .is_some_and(|Reverse(first)| first.parcel.due <= now)
            {
                due.extend(queue.parcels.pop().map(|Reverse(first)| first.parcel));
            }
            if !due.is_empty() {
                return true;
            }
            let soonest = queue.parcels.peek().map(|Reverse(first)| first.parcel.due);
            match soonest {
                Some(due) => drop(self.changed.wait_until(&mut queue, due)),
                None => self.changed.wait(&mut queue),
            }
        }
    }
}

impl Ord for Numbered {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.parcel.due, self.number).cmp(&(other.parcel.due, other.number))
    }
}

impl PartialOrd for Numbered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Numbered {}
