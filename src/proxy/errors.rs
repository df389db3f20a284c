//! How often clients were told each kind of error: `INFO errorstats`.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::command::{CommandError, Reply};

/// See the module. Kinds are the first words of the texts, which are ours, so there are few.
#[derive(Debug, Default)]
pub struct ErrorStats(Mutex<BTreeMap<Box<str>, u64>>);

impl ErrorStats {
    /// Counts an error.
    #[cold]
    pub(super) fn note(&self, error: &CommandError) {
        let text = error.to_string();
        let kind = text.split(' ').next().unwrap_or_default();
        let counts = &mut *self.0.lock();
        match counts.get_mut(kind) {
            Some(count) => *count += 1,
            None => {
                counts.insert(kind.into(), 1);
            }
        }
    }

    /// Tells a client of an error that is no command's outcome.
    pub(super) fn tell(&self, reply: &mut Reply<'_>, error: &CommandError) {
        self.note(error);
        reply.error(error);
    }

    /// The kinds that there were, and how often.
    pub fn list(&self) -> Vec<(Box<str>, u64)> {
        let counts = self.0.lock();
        let all = counts.iter().map(|(kind, &count)| (kind.clone(), count));
        all.collect()
    }

    /// Starts over.
    pub fn reset(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_their_first_word() {
        let errors = ErrorStats::default();
        for error in [
            CommandError::WrongType,
            CommandError::NotAFloat,
            CommandError::text("ERR no such key"),
        ] {
            errors.note(&error);
        }
        assert_eq!(errors.list(), [("ERR".into(), 2), ("WRONGTYPE".into(), 1)]);
        errors.reset();
        assert_eq!(errors.list(), []);
    }
}
