//! Loss of what a transport must not lose, to see what a link makes of it.

use super::{Net, Replica, region};

impl<R: Replica> Net<R> {
    /// The next frame from one region to another gets lost, which a transport must not do.
    pub fn drop_next_frame(&mut self, from: u8, to: u8) {
        self.dropping.insert((region(from), region(to)));
    }

    /// What one region tells another of its state gets lost, for so long.
    pub fn drop_state(&mut self, from: u8, to: u8, ms: u64) {
        self.dropping_state.insert((region(from), region(to)));
        self.run_for(ms);
        self.dropping_state.clear();
    }
}
