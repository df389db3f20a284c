//! What a client can ask for, and the words in which it is answered.

pub mod args;
pub mod error;
pub mod number;
pub mod reply;

pub use args::Args;
pub use error::CommandError;
pub use reply::{Deferred, Mark, Reply};
