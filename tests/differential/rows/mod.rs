//! What is compared: a row for each command, with how its replies are compared.

mod bitmaps;
mod generic;
mod hashes;
mod lists;
mod server;
mod sets;
mod sorted;
mod strings;

use crate::compare::Compare;
use crate::generator::{Generator, Words};

/// A command as the generator sees it.
#[derive(Debug)]
pub(crate) struct Row {
    /// As Redis names it; two words for a subcommand.
    pub(crate) name: &'static str,
    pub(crate) family: &'static str,
    /// How often, against one another.
    pub(crate) weight: usize,
    pub(crate) compare: Compare,
    /// The words after the name.
    pub(crate) draw: fn(&mut Generator) -> Words,
    /// Whether it waits for something to come: only sent within a transaction, where it does not.
    pub(crate) blocks: bool,
}

impl Row {
    fn new(name: &'static str, compare: Compare, draw: fn(&mut Generator) -> Words) -> Self {
        Self {
            name,
            family: "",
            weight: 4,
            compare,
            draw,
            blocks: false,
        }
    }

    fn blocking(self) -> Self {
        Self {
            blocks: true,
            ..self
        }
    }

    fn weight(self, weight: usize) -> Self {
        Self { weight, ..self }
    }

    /// A whole command.
    pub(crate) fn line(&self, generator: &mut Generator) -> Words {
        let name = self.name.split(' ').map(|word| word.as_bytes().to_vec());
        name.chain((self.draw)(generator)).collect()
    }
}

/// All rows of all families.
pub(crate) fn all() -> Vec<Row> {
    let families = [
        ("string", strings::rows()),
        ("generic", generic::rows()),
        ("hash", hashes::rows()),
        ("list", lists::rows()),
        ("set", sets::rows()),
        ("sorted-set", sorted::rows()),
        ("bitmap", bitmaps::rows()),
        ("server", server::rows()),
    ];
    let named = |(family, rows): (&'static str, Vec<Row>)| {
        rows.into_iter().map(move |row| Row { family, ..row })
    };
    families.into_iter().flat_map(named).collect()
}
