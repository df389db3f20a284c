//! All shards of a node, and which of them a slot belongs to.
//!
//! A shard's lock is held for one command or one MULTI, never across an await. Several are taken in
//! the order of their numbers, never otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crdt::{SLOTS, Seed, Slot, Whereabouts};
use parking_lot::{Mutex, MutexGuard};

use crate::command::CommandError;
use crate::shard::Shard;

/// See the module.
#[derive(Debug)]
pub struct Shards {
    seed: Seed,
    locked: Vec<Mutex<Shard>>,
    /// Of the shards' slots, by shard.
    whereabouts: Vec<Whereabouts>,
    /// Whether something has gathered in a shard's log that is not on its way to the disk.
    dirty: Vec<Arc<AtomicBool>>,
}

impl Shards {
    /// The shards of a node, by number: a power of two.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(seed: Seed, shards: Vec<Shard>) -> Self {
        assert!(
            shards.len().is_power_of_two(),
            "shards split the slots evenly"
        );
        let whereabouts = shards.iter().map(|shard| shard.state().whereabouts());
        Self {
            seed,
            dirty: shards.iter().map(Shard::dirty).collect(),
            whereabouts: whereabouts.collect(),
            locked: shards.into_iter().map(Mutex::new).collect(),
        }
    }

    /// The slots of shard `number` of `count`: the first, and how many.
    pub fn slots_of(number: u16, count: u16) -> (Slot, u16) {
        let each = SLOTS / count;
        (
            Slot::new(number * each).expect("a shard's slots are slots"),
            each,
        )
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.locked.len()
    }

    /// The shard that a slot belongs to.
    pub const fn index_of(&self, slot: Slot) -> usize {
        slot.number() as usize * self.locked.len() / SLOTS as usize
    }

    /// What keys are hashed with.
    pub const fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Has the processor load what is known of a slot. Takes no lock.
    pub fn approach(&self, slot: Slot) {
        self.whereabouts[self.index_of(slot)].approach(slot);
    }

    /// Whether something has gathered in a shard's log since this was asked the last time.
    pub fn take_dirty(&self, index: usize) -> bool {
        let dirty = &self.dirty[index];
        dirty.load(Ordering::Relaxed) && dirty.swap(false, Ordering::AcqRel)
    }

    /// Locks a shard. Waits for whoever holds it, which is never long.
    pub fn lock(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.locked[index].lock()
    }

    /// As [`Shards::lock`], for what a client asks for: refused if the shard is out of service.
    pub fn serve(&self, index: usize) -> Result<MutexGuard<'_, Shard>, CommandError> {
        let shard = self.lock(index);
        shard.check_in_service()?;
        Ok(shard)
    }

    /// How many effects commands have had since the node started.
    pub fn changes(&self) -> u64 {
        let each = (0..self.count()).map(|index| self.lock(index).changes());
        each.sum()
    }

    /// Runs with a shard locked.
    pub fn with<R>(&self, index: usize, run: impl FnOnce(&mut Shard) -> R) -> R {
        run(&mut self.lock(index))
    }
}
