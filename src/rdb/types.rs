//! What a value is and how it is encoded: the byte before it.

/// The type and encoding of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Redis's, RDB_TYPE_… of rdb.h")]
pub enum Type {
    String,
    List,
    Set,
    /// Scores as decimal text.
    ZsetText,
    Hash,
    Zset,
    /// Cannot be walked past: its length is known to its module only.
    ModulePreGa,
    Module,
    HashZipmap,
    ListZiplist,
    SetIntset,
    ZsetZiplist,
    HashZiplist,
    ListQuicklist,
    Stream,
    HashListpack,
    ZsetListpack,
    ListQuicklist2,
    Stream2,
    SetListpack,
    Stream3,
    HashMetadataPreGa,
    HashListpackExPreGa,
    HashMetadata,
    HashListpackEx,
}

/// All, with their bytes.
const ALL: &[(u8, Type)] = &[
    (0, Type::String),
    (1, Type::List),
    (2, Type::Set),
    (3, Type::ZsetText),
    (4, Type::Hash),
    (5, Type::Zset),
    (6, Type::ModulePreGa),
    (7, Type::Module),
    (9, Type::HashZipmap),
    (10, Type::ListZiplist),
    (11, Type::SetIntset),
    (12, Type::ZsetZiplist),
    (13, Type::HashZiplist),
    (14, Type::ListQuicklist),
    (15, Type::Stream),
    (16, Type::HashListpack),
    (17, Type::ZsetListpack),
    (18, Type::ListQuicklist2),
    (19, Type::Stream2),
    (20, Type::SetListpack),
    (21, Type::Stream3),
    (22, Type::HashMetadataPreGa),
    (23, Type::HashListpackExPreGa),
    (24, Type::HashMetadata),
    (25, Type::HashListpackEx),
];

impl Type {
    /// What this byte stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let found = ALL.iter().find(|(known, _)| *known == byte);
        found.map(|(_, of)| *of)
    }

    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        let found = ALL.iter().find(|(_, of)| *of == self);
        found.expect("all types have a byte").0
    }

    /// What `TYPE` calls a key that holds it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List | Self::ListZiplist | Self::ListQuicklist | Self::ListQuicklist2 => "list",
            Self::Set | Self::SetIntset | Self::SetListpack => "set",
            Self::ZsetText | Self::Zset | Self::ZsetZiplist | Self::ZsetListpack => "zset",
            Self::Hash
            | Self::HashZipmap
            | Self::HashZiplist
            | Self::HashListpack
            | Self::HashMetadataPreGa
            | Self::HashListpackExPreGa
            | Self::HashMetadata
            | Self::HashListpackEx => "hash",
            Self::Stream | Self::Stream2 | Self::Stream3 => "stream",
            Self::ModulePreGa | Self::Module => "value of a module",
        }
    }

    /// Whether we have such a type.
    pub const fn is_ours(self) -> bool {
        !matches!(
            self,
            Self::Stream | Self::Stream2 | Self::Stream3 | Self::ModulePreGa | Self::Module
        )
    }
}
