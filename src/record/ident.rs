//! What a recording says of itself, in its first bytes: whose it is and when it began.
//!
//! The list of recordings is made from the files alone, so that it survives whatever happens to them, and nothing is
//! ever deleted that does not say so of itself. One line of text, its numbers of a fixed width so that they can be
//! written over when the file is closed:
//!
//! | container | place |
//! |---|---|
//! | MP4 | box `free` after `ftyp` |
//! | FLV | item `recording` of `onMetaData` |
//! | MPEG-TS | packets of PID 0x1FFF in front |

use crate::config::RecordFormat;
use crate::hub::StreamName;

/// What begins the line.
const MAGIC: &str = "RILLBOX-RECORDING 1 ";
/// Digits of its numbers.
const WIDTH: usize = 15;
/// How much of the start of a file is looked through for it.
pub(super) const HEAD: usize = 4096;
/// Bytes of the box of MP4 before the line.
pub(super) const BOX_HEAD: u64 = 8;

const PACKET: usize = crate::format::mpegts::PACKET;
const NULL_PACKET: [u8; 4] = [0x47, 0x1F, 0xFF, 0x10];

/// What a recording says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ident {
    pub(super) format: RecordFormat,
    /// When its time 0 was, in milliseconds since 1970, UTC.
    pub(super) start_ms: i64,
    /// How long it plays; `None` until it is closed.
    pub(super) duration_ms: Option<i64>,
    /// Of MP4: where the box `moov` of its fragments stands.
    pub(super) body: u64,
    pub(super) name: StreamName,
}

impl Ident {
    /// The line.
    pub(super) fn line(&self) -> String {
        let format = super::format_name(self.format);
        let number = |n: i64| format!("{n:0WIDTH$}");
        let duration = self.duration_ms.unwrap_or(-1);
        format!(
            "{MAGIC}start={} duration={} body={} format={format:4} vhost=\"{}\" app=\"{}\" stream=\"{}\"\n",
            number(self.start_ms),
            number(duration),
            number(i64::try_from(self.body).unwrap_or(0)),
            self.name.vhost,
            self.name.app,
            self.name.stream,
        )
    }

    /// The box of MP4, whole.
    pub(super) fn mp4_box(&self) -> Vec<u8> {
        let line = self.line();
        let len = u32::try_from(8 + line.len()).unwrap_or(u32::MAX);
        [&len.to_be_bytes(), &b"free"[..], line.as_bytes()].concat()
    }

    /// The packets of MPEG-TS.
    pub(super) fn packets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for part in self.line().as_bytes().chunks(PACKET - NULL_PACKET.len()) {
            out.extend_from_slice(&NULL_PACKET);
            out.extend_from_slice(part);
            out.resize(out.len().next_multiple_of(PACKET), b' ');
        }
        out
    }

    /// Finds it in the first [`HEAD`] bytes of a file, and where its line begins.
    pub(super) fn find(head: &[u8]) -> Option<(Self, u64)> {
        let (text, at) = if head.starts_with(&NULL_PACKET) {
            let packets = head.chunks_exact(PACKET).take_while(|packet| packet.starts_with(&NULL_PACKET));
            let text: Vec<u8> =
                packets.flat_map(|packet| packet.iter().skip(NULL_PACKET.len())).copied().collect();
            (text, NULL_PACKET.len())
        } else {
            if !head.starts_with(b"FLV") && head.get(4..8) != Some(b"ftyp") {
                return None;
            }
            let at = head.windows(MAGIC.len()).position(|window| window == MAGIC.as_bytes())?;
            (head.get(at..)?.to_vec(), at)
        };
        let end = text.iter().position(|c| *c == b'\n')?;
        let line = std::str::from_utf8(text.get(..end)?).ok()?;
        Some((Self::parse(line)?, u64::try_from(at).ok()?))
    }

    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix(MAGIC)?;
        let (start, rest) = rest.strip_prefix("start=")?.split_once(" duration=")?;
        let (duration, rest) = rest.split_once(" body=")?;
        let (body, rest) = rest.split_once(" format=")?;
        let (format, rest) = rest.split_once(" vhost=\"")?;
        let (vhost, rest) = rest.split_once("\" app=\"")?;
        let (app, rest) = rest.split_once("\" stream=\"")?;
        let stream = rest.strip_suffix('"')?;
        let format = super::format_of(format.trim_end())?;
        let (start_ms, duration) = (start.parse().ok()?, duration.parse::<i64>().ok()?);
        let body = body.parse().ok()?;
        // What a file says is believed as far as a publisher would be.
        let name = StreamName::new(vhost, app, stream).ok()?;
        let sane = (0..=4_102_444_800_000).contains(&start_ms) && duration <= 1 << 42;
        let duration_ms = Some(duration).filter(|duration| *duration >= 0);
        sane.then_some(Self { format, start_ms, duration_ms, body, name })
    }

    /// What to write over the duration, and how many bytes after the start of the line.
    pub(super) fn duration_patch(duration_ms: i64) -> (u64, Vec<u8>) {
        let at = MAGIC.len() + "start=".len() + WIDTH + " duration=".len();
        (at as u64, format!("{duration_ms:0WIDTH$}").into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ident(stream: &str) -> Ident {
        Ident {
            format: RecordFormat::Ts,
            start_ms: 1_732_203_640_007,
            duration_ms: None,
            body: 1_048_576,
            name: StreamName::new("__defaultVhost__", "live", stream).unwrap(),
        }
    }

    #[test]
    fn it_is_found_in_each_container_and_can_be_closed() {
        for name in ["demo", "камера 1", &"x".repeat(200), &"ü".repeat(100)] {
            let ident = ident(name);
            let mp4 = [&[0, 0, 0, 16][..], b"ftypisom\0\0\0\0", &ident.mp4_box()].concat();
            let flv = [b"FLV\x01\x05\0\0\0\x09\0\0\0\0........", ident.line().as_bytes(), b"...."].concat();
            for (mut file, at) in [(mp4, 24), (flv, 21), (ident.packets(), 4)] {
                assert_eq!(Ident::find(&file), Some((ident.clone(), at)), "{name}");
                let (offset, digits) = Ident::duration_patch(61_250);
                let from = (at + offset) as usize;
                file[from..from + digits.len()].copy_from_slice(&digits);
                let closed = Ident { duration_ms: Some(61_250), ..ident.clone() };
                assert_eq!(Ident::find(&file), Some((closed, at)), "{name}");
            }
        }
    }

    #[test]
    fn what_others_wrote_is_none() {
        let good = ident("demo").line();
        let file = |line: &str| [b"FLV\x01", line.as_bytes()].concat();
        assert!(Ident::find(&file(&good)).is_some());
        assert!(Ident::find(good.as_bytes()).is_none(), "a text about recordings");
        for (from, to) in
            [("stream=\"demo", "stream=\"../demo"), ("format=ts", "format=xy"), ("start=0", "start=-")]
        {
            assert!(Ident::find(&file(&good.replace(from, to))).is_none(), "{to}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0..400_usize) {
            let _ = Ident::find(&bytes);
            let mut file = ident("demo").packets();
            file.truncate(cut);
            file.extend(bytes);
            let _ = Ident::find(&file);
        }
    }
}
