//! Edits: changes of a part of a string, applied in the order of their stamps.

use crate::effect::Edit;

/// The highest size of a string, as Redis's `proto-max-bulk-len`: edits beyond it are cut short.
const STRING_BYTES_MAX: usize = 512 << 20;
/// An [`Edit`] that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OwnedEdit {
    Append(Box<[u8]>),
    Overwrite { offset: u64, bytes: Box<[u8]> },
    Bits { offset: u64, width: u8, value: u64 },
}

impl OwnedEdit {
    /// Bytes that it has of its own.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Append(bytes) | Self::Overwrite { bytes, .. } => bytes.len(),
            Self::Bits { .. } => 0,
        }
    }

    /// Borrowed.
    pub(crate) fn as_edit(&self) -> Edit<'_> {
        match self {
            Self::Append(bytes) => Edit::Append(bytes),
            Self::Overwrite { offset, bytes } => Edit::Overwrite {
                offset: *offset,
                bytes,
            },
            Self::Bits {
                offset,
                width,
                value,
            } => Edit::Bits {
                offset: *offset,
                width: *width,
                value: *value,
            },
        }
    }

    /// How many bytes of a value it weighs.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Append(bytes) | Self::Overwrite { bytes, .. } => bytes.len() + 32,
            Self::Bits { .. } => 32,
        }
    }
}

impl From<Edit<'_>> for OwnedEdit {
    fn from(edit: Edit<'_>) -> Self {
        match edit {
            Edit::Append(bytes) => Self::Append(bytes.into()),
            Edit::Overwrite { offset, bytes } => Self::Overwrite {
                offset,
                bytes: bytes.into(),
            },
            Edit::Bits {
                offset,
                width,
                value,
            } => Self::Bits {
                offset,
                width,
                value,
            },
        }
    }
}

impl Edit<'_> {
    /// Changes a value, which grows with zeros where the edit stands beyond its end. What would
    /// make it longer than 512 MB is left out: only concurrent edits can add up to that.
    pub fn apply(self, value: &mut Vec<u8>) {
        match self {
            Self::Append(bytes) => {
                let room = STRING_BYTES_MAX.saturating_sub(value.len());
                value.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Self::Overwrite { offset, bytes } => {
                let Some(end) = end_within(offset, bytes.len()) else {
                    return;
                };
                if value.len() < end {
                    value.resize(end, 0);
                }
                value[end - bytes.len()..end].copy_from_slice(bytes);
            }
            Self::Bits {
                offset,
                width,
                value: bits,
            } => {
                let Some(end) = end_within((offset + u64::from(width)).div_ceil(8), 0) else {
                    return;
                };
                if value.len() < end {
                    value.resize(end, 0);
                }
                for bit in 0..u64::from(width) {
                    let at = offset + bit;
                    let mask = 0x80_u8 >> (at % 8);
                    let byte = &mut value[(at / 8) as usize];
                    let set = bits >> (u64::from(width) - 1 - bit) & 1 == 1;
                    *byte = if set { *byte | mask } else { *byte & !mask };
                }
            }
        }
    }
}

/// Where `length` bytes at `offset` end, if a string may be that long.
fn end_within(offset: u64, length: usize) -> Option<usize> {
    let end = usize::try_from(offset).ok()?.checked_add(length)?;
    (end <= STRING_BYTES_MAX).then_some(end)
}
