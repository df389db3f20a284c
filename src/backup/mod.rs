//! Backups: a copy of a node's data that another directory can be made of.
//!
//! A backup is the newest snapshot and the log from there on, up to the moment it was asked for,
//! file by file as they are on disk, and a manifest that is written last and says what there is. So
//! it is what a start after a crash at that moment would find: of each shard a prefix of its log.
//! The node serves meanwhile; files that it removes are read on through the handles that are open.
//!
//! `restore` makes a data directory of it, for a node that is down. What can go wrong with an old
//! copy, and why it does not:
//!
//! - **A stamp given twice.** Whoever starts on the copy takes a new epoch, by the clock and above
//!   those in it; lives since then had theirs by the clock as well. If that was set back, the other
//!   regions know of a later epoch and refuse the link.
//! - **Ops that the region had issued since.** They are of epochs that have ended. The others hold
//!   them, and give them back as they do after a crash: the restored log says that it is not
//!   *filled*, so the next life serves nobody before it holds what the others gave their word on.
//!   What only the lost disk had is lost.
//! - **What was deleted since coming back.** The state is that of a version, and what comes after
//!   it is applied op by op in causal order, the removals among it, before anything is served;
//!   nothing is taken for new because it is there. What others have dropped as stable they need not
//!   have, for an op says itself what it removes.
//! - **Regions that differ.** What is here is a prefix of what all have had, so applying the rest
//!   gives the same state. Where the logs of the others no longer reach back so far, this region
//!   says so and does not serve, until it has caught up otherwise or somebody accepts the loss.
//!
//! What it holds is of no region but for whose it says it is, so a backup of one region can be
//! restored as another of the same database: that is how all of them begin again when all are lost.

mod manifest;
mod restore;
mod write;

pub use manifest::{Listed, Manifest, ManifestError};
pub use restore::{Options, RestoreError, run};
pub use write::{BackupError, Backups, Progress};
