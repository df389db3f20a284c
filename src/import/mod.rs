//! `meridian admin import`: the keys of a Redis RDB file, into a node that runs.
//!
//! The node is asked like by any client, so what it takes goes to other regions as everything else
//! does, and it serves others meanwhile. The whole file is read and its checksum held first, before
//! anything is written. A key arrives whole, by one `RESTORE`; one that is large arrives piece by
//! piece, so that it holds up nobody for long, and its deadline is set last. What breaks off is
//! begun again with `--replace`. Costs memory for the largest value of the file, a few
//! times.

mod pieces;
mod source;
mod tally;
mod target;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use self::source::Source;
pub use self::source::SourceError;
use self::tally::{Progress, Skip, Tally};
use self::target::{Sent, Target};
use crate::clock;
use crate::rdb::{self, Entry, Item, Problem, Type};

/// Bytes of a value that is sent whole; a longer one, if it is no string, goes in pieces of about
/// this size.
const WHOLE_BYTES_MAX: usize = crate::limits::MIB;
/// Keys that are named because they were not taken; the rest is only counted.
const NAMED_MAX: u64 = 20;
/// Where `redis-cli` has its password, too.
const PASSWORD_VARIABLE: &str = "REDISCLI_AUTH";

/// What to import, and where to.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The RDB file, of Redis up to 7.4
    file: PathBuf,
    /// The node to write to
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    address: String,
    /// The password of the node; others see it here, but not in the variable `REDISCLI_AUTH`
    #[arg(long)]
    password: Option<String>,
    /// Replaces keys that are there already, which are left alone otherwise
    #[arg(long)]
    replace: bool,
    /// Which of the databases of the file, where there are others than 0
    #[arg(long = "db", value_name = "N")]
    database: Option<u64>,
}

/// Why an import ends early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read, or is not what it should be.
    #[error("{file}")]
    File {
        /// Which.
        file: String,
        /// What is wrong.
        source: SourceError,
    },
    /// It has keys in several databases, and here there is one.
    #[error("{file} has keys in {found}; there is only one database here: pick one with --db N")]
    Databases {
        /// Which.
        file: String,
        /// The databases.
        found: String,
    },
    /// The database that was picked has no keys.
    #[error("{file} has no keys in database {database}")]
    NoSuchDatabase {
        /// Which.
        file: String,
        /// The database.
        database: u64,
    },
    /// The node cannot be reached, or has gone.
    #[error("{address}")]
    Connection {
        /// Of the node.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The node refuses, and would refuse the next one too.
    #[error("{address} refuses: {line}")]
    Refused {
        /// Of the node.
        address: String,
        /// What it said.
        line: String,
    },
    /// All has been gone through, but some of it was not taken.
    #[error("{0} keys of types that we have were refused")]
    Incomplete(u64),
    /// The summary cannot be written.
    #[error("cannot write to stdout")]
    Output(#[from] io::Error),
}

/// Imports a file. The summary goes to stdout, progress and what is left out to stderr.
pub fn run(options: &Options) -> Result<(), ImportError> {
    let database = check(options)?;
    let password = options.password.clone();
    let password = password.or_else(|| std::env::var(PASSWORD_VARIABLE).ok());
    let address = &options.address;
    let target = Target::connect(address, password.as_deref());
    let mut import = Import {
        options,
        target: target.map_err(|error| error.at(address))?,
        tally: Tally::default(),
    };
    let mut source = open(&options.file)?;
    let mut progress = Progress::new("imported", source.bytes());
    loop {
        let next = source.next(|item| import.take(item, database));
        if next.map_err(|source| file_error(&options.file, source))?? {
            break;
        }
        progress.tell(import.tally.imported(), source.at());
    }
    import.settle(0)?;
    write!(io::stdout(), "{}", import.tally.summary())?;
    match import.tally.refused() {
        0 => Ok(()),
        refused => Err(ImportError::Incomplete(refused)),
    }
}

fn open(file: &Path) -> Result<Source, ImportError> {
    Source::open(file).map_err(|source| file_error(file, source))
}

fn file_error(file: &Path, source: SourceError) -> ImportError {
    let file = file.display().to_string();
    ImportError::File { file, source }
}

/// Reads the whole file without writing anything, and says which of its databases is meant.
fn check(options: &Options) -> Result<u64, ImportError> {
    let mut source = open(&options.file)?;
    let mut progress = Progress::new("checked", source.bytes());
    let (mut databases, mut keys) = (Vec::new(), 0);
    loop {
        let next = source.next(|item| {
            if let Item::Entry(entry) = item {
                keys += 1;
                if !databases.contains(&entry.database) {
                    databases.push(entry.database);
                }
            }
            *item == Item::End
        });
        if next.map_err(|source| file_error(&options.file, source))? {
            break;
        }
        progress.tell(keys, source.at());
    }
    let file = || options.file.display().to_string();
    match options.database {
        Some(database) if databases.contains(&database) => Ok(database),
        Some(database) => Err(ImportError::NoSuchDatabase {
            file: file(),
            database,
        }),
        None if databases.iter().all(|&database| database == 0) => Ok(0),
        None => {
            let found: Vec<String> = databases.iter().map(u64::to_string).collect();
            let plural = if found.len() == 1 { "" } else { "s" };
            Err(ImportError::Databases {
                file: file(),
                found: format!("database{plural} {}", found.join(", ")),
            })
        }
    }
}

/// What is going on.
struct Import<'a> {
    options: &'a Options,
    target: Target,
    tally: Tally,
}

impl Import<'_> {
    /// Takes the next item of the file. Returns whether it was the last.
    fn take(&mut self, item: &Item<'_>, database: u64) -> Result<bool, ImportError> {
        match item {
            Item::Entry(entry) if entry.database == database => self.entry(entry)?,
            Item::Entry(_) => self.tally.skip(Skip::OtherDatabase),
            Item::Function => self.tally.skip(Skip::Function),
            Item::ModuleData => self.tally.skip(Skip::ModuleData),
            Item::End => return Ok(true),
            Item::Version(_)
            | Item::Fact { .. }
            | Item::Database(_)
            | Item::Sizes { .. }
            | Item::Slot => {}
        }
        Ok(false)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), ImportError> {
        if !entry.of.is_ours() {
            let problem = Problem::NotOurs(entry.of.name());
            self.leave_out(&entry.key, &problem.to_string());
            self.tally.skip(Skip::NotOurs(entry.of.name()));
        } else if entry.ends_at_ms.is_some_and(|ms| ms <= clock::now_ms()) {
            self.tally.skip(Skip::Expired);
        } else if WHOLE_BYTES_MAX < entry.bytes.len() && entry.of != Type::String {
            self.in_pieces(entry)?;
        } else {
            let payload = rdb::seal(entry.of, entry.bytes, rdb::VERSION_MAX);
            let ends_at_ms = entry.ends_at_ms.unwrap_or(0).to_string();
            self.restore(&entry.key, &ends_at_ms, &payload, entry.of.name());
            self.make_room()?;
        }
        Ok(())
    }

    fn restore(&mut self, key: &[u8], ends_at_ms: &str, payload: &[u8], kind: &'static str) {
        let mut words = vec![b"RESTORE".as_slice(), key, ends_at_ms.as_bytes(), payload];
        words.push(b"ABSTTL");
        if self.options.replace {
            words.push(b"REPLACE");
        }
        let key = key.to_vec();
        self.target.put(&words, Sent::Key { key, kind });
    }

    /// The first piece makes the key, or finds it there; only then come the others.
    fn in_pieces(&mut self, entry: &Entry<'_>) -> Result<(), ImportError> {
        let value = match entry.value() {
            Ok(value) => value,
            Err(error) => {
                self.refuse(&entry.key, &error.to_string());
                return Ok(());
            }
        };
        self.settle(0)?;
        let before = self.tally.imported();
        let mut pieces = pieces::split(value, WHOLE_BYTES_MAX);
        if let Some(first) = pieces.next() {
            self.restore(&entry.key, "0", &rdb::dump(&first), entry.of.name());
            self.settle(0)?;
        }
        if self.tally.imported() == before {
            return Ok(());
        }
        for piece in pieces {
            for words in pieces::commands(&entry.key, &piece, clock::now_ms()) {
                self.target.put(&words, Sent::Rest);
                self.make_room()?;
            }
        }
        if let Some(ms) = entry.ends_at_ms {
            let ms = ms.to_string();
            let words = [b"PEXPIREAT".as_slice(), &entry.key, ms.as_bytes()];
            self.target.put(&words, Sent::Rest);
        }
        self.settle(0)
    }

    /// Sends what has gathered, once it is enough.
    fn make_room(&mut self) -> Result<(), ImportError> {
        if self.target.is_full() {
            self.settle(Target::LOW)?;
        }
        Ok(())
    }

    /// Sends what has gathered, and takes replies until only so many are waited for.
    fn settle(&mut self, waiting: usize) -> Result<(), ImportError> {
        let address = &self.options.address;
        loop {
            let reply = self.target.settle(waiting);
            let Some((sent, error)) = reply.map_err(|error| error.at(address))? else {
                return Ok(());
            };
            match (sent, error) {
                (Sent::Key { kind, .. }, None) => self.tally.import(kind),
                (Sent::Rest, None) => {}
                (Sent::Key { .. }, Some(line)) if line.starts_with("BUSYKEY") => {
                    self.tally.skip(Skip::Busy);
                }
                (Sent::Key { key, .. }, Some(line)) if is_about_the_value(&line) => {
                    self.refuse(&key, &line);
                }
                (_, Some(line)) => {
                    let address = address.clone();
                    return Err(ImportError::Refused { address, line });
                }
            }
        }
    }

    fn refuse(&mut self, key: &[u8], why: &str) {
        self.leave_out(key, why);
        self.tally.skip(Skip::Refused);
    }

    /// Names a key that does not come along.
    fn leave_out(&self, key: &[u8], why: &str) {
        if self.tally.left_out() < NAMED_MAX {
            // A closed stderr is nobody's loss.
            let _ = writeln!(io::stderr(), "left out {}: {why}", key.escape_ascii());
        }
    }
}

/// Whether the next value may be taken where this one was not.
fn is_about_the_value(line: &str) -> bool {
    [
        "ERR Bad data format",
        "ERR DUMP payload",
        "ERR string exceeds",
    ]
    .iter()
    .any(|begin| line.starts_with(begin))
}
