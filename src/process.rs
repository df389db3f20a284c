//! What a process asks of the operating system about itself.

use std::io;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Why this process will not outlive its parent.
#[derive(Debug, thiserror::Error)]
pub enum OrphanError {
    /// The parent ended before we could ask.
    #[error("the parent process {0} has ended")]
    Ended(u32),
    /// The system knows no such wish.
    #[error("cannot ask to end with the parent process")]
    System(#[from] io::Error),
}

/// Has the kernel kill this process when its parent ends, however that ends, and even if this one
/// is stopped then. To this process it is a crash: what must survive a crash does.
pub fn end_with_parent(pid: u32) -> Result<(), OrphanError> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    // It may have ended before the kernel knew of our wish.
    let is_there = getppid().map(Pid::as_raw_pid) == i32::try_from(pid).ok();
    if is_there {
        Ok(())
    } else {
        Err(OrphanError::Ended(pid))
    }
}
