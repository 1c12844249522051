//! One record of a log.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Where output came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; everything of a terminal.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// docker's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A piece of a line that is too long for one record, or whose end never came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial<'a> {
    /// The line, the same for all its pieces.
    pub id: Cow<'a, str>,
    /// Place in the line, from 1 on.
    pub ordinal: i32,
    /// Whether the line ends here.
    pub last: bool,
}

/// A line, or a piece of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// Nanoseconds since the Unix epoch.
    pub time: i64,
    /// With its newline, unless it is a piece that does not end its line.
    pub text: Cow<'a, [u8]>,
    /// Set for pieces, by drivers that keep it.
    pub partial: Option<Partial<'a>>,
    /// What `labels`, `env` and `tag` add, by drivers that keep it with each record.
    pub attributes: BTreeMap<String, String>,
}

impl Entry<'_> {
    /// Without borrowed parts.
    pub fn into_owned(self) -> Entry<'static> {
        let partial = self.partial.map(|p| Partial { id: p.id.into_owned().into(), ..p });
        Entry {
            stream: self.stream,
            time: self.time,
            text: self.text.into_owned().into(),
            partial,
            attributes: self.attributes,
        }
    }
}
