use bytes::Bytes;

use super::{Codec, Kind};

/// A track's place in its stream; what brought the stream gives it, starting at 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u8);

/// Which way a track flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// From the publisher to its readers.
    #[default]
    Forward,
    /// A back channel: from a reader to the publisher (ONVIF talk-back).
    Back,
}

/// What the config (or the first frame) of a track tells; zero or `None` where unknown.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Facts {
    /// Picture width in pixels, after cropping.
    pub width: u32,
    /// Picture height in pixels, after cropping.
    pub height: u32,
    /// Pictures per second as a fraction, where the config says so.
    pub fps: Option<(u32, u32)>,
    /// Profile number as the codec counts it (H.264 `profile_idc`, AAC object type, …).
    pub profile: u32,
    /// Profile as people call it, e.g. `"High"`, `"LC"`.
    pub profile_name: &'static str,
    /// Level as the codec counts it (H.264 `level_idc`: 31 is 3.1; H.265 `general_level_idc`: 93 is 3.1).
    pub level: u32,
    /// How many frames a decoder holds back to put them in order; 0 means no B-frames are announced.
    pub reorder: Option<u8>,
    /// Samples per second that come out of the decoder.
    pub sample_rate: u32,
    /// Channels that come out of the decoder.
    pub channels: u8,
    /// RFC 6381 codec string, e.g. `avc1.64001F`; empty where the codec has none.
    pub rfc6381: String,
}

/// One elementary stream: its coding, clock and what a decoder needs to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Its place in the stream.
    pub id: TrackId,
    /// How its payload is coded.
    pub codec: Codec,
    /// What a decoder needs to start, in the form that the [module](super) page gives; empty while unknown.
    pub config: Bytes,
    /// Ticks per second of `dts` and `cts`; never 0.
    pub timescale: u32,
    /// ISO 639-2 language, `und` where unknown.
    pub language: [u8; 3],
    /// Tracks of one group carry the same content (AAC beside Opus): a reader takes one of them.
    pub group: u8,
    /// Forward, or a back channel.
    pub direction: Direction,
    /// What is known of its content.
    pub facts: Facts,
}

impl Track {
    /// A forward track in milliseconds, with no config and no facts yet.
    #[must_use]
    pub fn new(id: TrackId, codec: Codec) -> Self {
        Self {
            id,
            codec,
            config: Bytes::new(),
            timescale: 1000,
            language: *b"und",
            group: id.0,
            direction: Direction::Forward,
            facts: Facts::default(),
        }
    }

    /// Audio, video or data.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.codec.kind()
    }

    /// `ticks` of this track in milliseconds, rounded down.
    #[must_use]
    pub fn ticks_to_ms(&self, ticks: i64) -> i64 {
        rescale(ticks, self.timescale, 1000)
    }

    /// Milliseconds in ticks of this track, rounded down.
    #[must_use]
    pub fn ms_to_ticks(&self, ms: i64) -> i64 {
        rescale(ms, 1000, self.timescale)
    }
}

/// `ticks` of a clock of `from` ticks per second on a clock of `to`, rounded down, saturating.
#[must_use]
pub fn rescale(ticks: i64, from: u32, to: u32) -> i64 {
    if from == to || from == 0 {
        return ticks;
    }
    let (from, to) = (i64::from(from), i64::from(to));
    // Whole seconds apart, so that the product can't overflow for any time a stream can reach.
    let (seconds, rest) = (ticks.div_euclid(from), ticks.rem_euclid(from));
    seconds.saturating_mul(to).saturating_add(rest * to / from)
}

/// A value of a stream's metadata (`onMetaData`).
#[derive(Debug, Clone, PartialEq)]
pub enum MetaValue {
    /// A yes or no.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

/// What a publisher says of its stream in words: name and value, in the order given. At most
/// [`Meta::MAX`] items are kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Meta(Vec<(String, MetaValue)>);

impl Meta {
    /// The most items a stream keeps; encoders send about twenty.
    pub const MAX: usize = 64;

    /// Sets `name`, in place if it is there; ignored when full.
    pub fn set(&mut self, name: &str, value: MetaValue) {
        if let Some((_, old)) = self.0.iter_mut().find(|(n, _)| n == name) {
            *old = value;
        } else if self.0.len() < Self::MAX {
            self.0.push((name.to_owned(), value));
        }
    }

    /// The value of `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&MetaValue> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MetaValue)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rescale_is_exact_over_years() {
        assert_eq!(rescale(-1, 1000, 90_000), -90);
        assert_eq!(rescale(90_001, 90_000, 1000), 1000);
        let year = 365 * 24 * 3600 * 90_000;
        assert_eq!(rescale(year, 90_000, 48_000), year / 90 * 48);
        assert_eq!(rescale(i64::MAX, 1, u32::MAX), i64::MAX);
    }
}
