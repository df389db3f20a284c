//! The token of an admin port: a file that only its owner may read, made at the first start.
//!
//! Whoever can read the file may do what the port offers. A file that others may read is refused
//! rather than used, as `ssh` does with keys.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of chance in a token that we make, written as hex.
const BYTES: usize = 32;
/// Characters of one that somebody else has made.
const LENGTH: std::ops::RangeInclusive<usize> = 16..=256;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be made or read.
    #[error("admin-token-file {path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Others can read it.
    #[error("admin-token-file {path}: others may read it; make it yours alone: chmod 600", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// It holds something else.
    #[error(
        "admin-token-file {path}: must hold one line of {} to {} printable characters without spaces",
        LENGTH.start(), LENGTH.end(), path = path.display()
    )]
    Content {
        /// Which.
        path: PathBuf,
    },
}

/// A token, and where it is.
#[derive(Clone)]
pub(super) struct Token {
    text: String,
    file: PathBuf,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// The one in a file, which is made if it is not there.
    pub(super) fn at(file: &Path) -> Result<Self, TokenError> {
        let io = |error| TokenError::Io {
            path: file.to_owned(),
            error,
        };
        if !file.exists() {
            make(file).map_err(io)?;
        }
        let mode = fs::metadata(file).map_err(io)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(TokenError::Open {
                path: file.to_owned(),
            });
        }
        Ok(Self {
            text: read(file)?,
            file: file.to_owned(),
        })
    }

    /// Where it is.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Whether `given` is the token; takes as long whatever is wrong with it.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        let ours = self.text.as_bytes();
        let differ = ours.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b));
        ours.len() == given.len() && differ == 0
    }
}

/// The token in a file.
pub(super) fn read(file: &Path) -> Result<String, TokenError> {
    let text = fs::read_to_string(file).map_err(|error| TokenError::Io {
        path: file.to_owned(),
        error,
    })?;
    let text = text.trim_end();
    let is_token = LENGTH.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !is_token {
        return Err(TokenError::Content {
            path: file.to_owned(),
        });
    }
    Ok(text.to_owned())
}

/// Writes a new token beside, and gives it its name when it is whole.
fn make(file: &Path) -> io::Result<()> {
    let mut chance = [0; BYTES];
    File::open("/dev/urandom")?.read_exact(&mut chance)?;
    let digits = chance.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let text: String = digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    let part = file.with_extension("part");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut written = options.open(&part)?;
    writeln!(written, "{text}")?;
    written.sync_all()?;
    fs::rename(&part, file)
}
