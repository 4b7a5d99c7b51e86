//! What stands around tag bodies in a file (annex E.2 to E.4).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{FlvError, TagKind};

/// Bytes of a file header, the first "previous tag size" included.
pub const FILE_HEADER: usize = 13;
/// Bytes of a tag header.
pub const TAG_HEADER: usize = 11;
/// Bytes of the "previous tag size" after each tag.
pub const TAG_TRAILER: usize = 4;
/// The longest body that a tag can have: its length has 24 bits.
pub const MAX_BODY: usize = 0xFF_FFFF;
/// A bound for [`Demuxer::new`] that takes every tag there can be.
pub const MAX_TAG: usize = MAX_BODY;

/// The least that a file header says its own length is.
const MIN_DATA_OFFSET: u32 = 9;
/// The most: the specification has 9, and nobody was seen to send more.
const MAX_DATA_OFFSET: u32 = 1024;
/// What is set aside for a tag before its bytes come; above the size of most.
const RESERVE: usize = 64 * 1024;
/// Set in a tag's type byte when its body is encrypted (E.4.1, `Filter`).
const FILTER: u8 = 0x20;

/// The start of a file. The flags must tell the truth, or players wait for a track that never comes, or miss
/// one that does: take them from the stream's tracks, not from what was seen first.
#[must_use]
pub const fn file_header(has_audio: bool, has_video: bool) -> [u8; FILE_HEADER] {
    let flags = (has_audio as u8) << 2 | has_video as u8;
    [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0]
}

/// What stands before a body of `body_len` bytes. Times are sent modulo 2^32, negative ones as 0.
///
/// # Errors
/// [`FlvError::BodyTooLarge`] above [`MAX_BODY`].
pub fn tag_header(kind: TagKind, body_len: usize, ts_ms: i64) -> Result<[u8; TAG_HEADER], FlvError> {
    let len = u32::try_from(body_len).ok().filter(|_| body_len <= MAX_BODY);
    let [_, l2, l1, l0] = len.ok_or(FlvError::BodyTooLarge { len: body_len })?.to_be_bytes();
    let [.., t3, t2, t1, t0] = ts_ms.max(0).to_be_bytes();
    Ok([kind.to_u8(), l2, l1, l0, t2, t1, t0, t3, 0, 0, 0])
}

/// What stands after a body of `body_len` bytes.
#[must_use]
pub fn tag_trailer(body_len: usize) -> [u8; TAG_TRAILER] {
    u32::try_from(body_len.saturating_add(TAG_HEADER)).unwrap_or(u32::MAX).to_be_bytes()
}

/// Appends a whole tag whose body is `prefix` and `data`. Copies `data`; a server sends it as it is instead.
///
/// # Errors
/// [`FlvError::BodyTooLarge`]; nothing is appended then.
pub fn put_tag(
    out: &mut BytesMut,
    kind: TagKind,
    ts_ms: i64,
    prefix: &[u8],
    data: &[u8],
) -> Result<(), FlvError> {
    let len = prefix.len().saturating_add(data.len());
    out.put_slice(&tag_header(kind, len, ts_ms)?);
    out.put_slice(prefix);
    out.put_slice(data);
    out.put_slice(&tag_trailer(len));
    Ok(())
}

/// One tag of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// What it carries.
    pub kind: TagKind,
    /// When, in milliseconds; goes on past the 32 bits that the file has.
    pub ts_ms: i64,
    /// Its body, for [`TagReader::push`](super::TagReader::push).
    pub body: Bytes,
}

/// Finds the tags in the bytes of a file, that may come in slices of any size.
///
/// Holds at most one tag. Tags of unknown type are passed over; the sizes between tags, which many writers
/// get wrong, are not looked at.
#[derive(Debug)]
pub struct Demuxer {
    max_tag: usize,
    state: State,
    /// What has come of the element that is next.
    buffer: BytesMut,
    /// Bytes of the file before `buffer`.
    at: u64,
    last_ts: Option<i64>,
    flags: Option<(bool, bool)>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    FileHeader,
    /// Bytes between what was read and the next tag.
    Gap(usize),
    TagHeader,
    Body {
        kind: Option<TagKind>,
        len: usize,
        ts_ms: i64,
    },
}

impl Demuxer {
    /// A demuxer at the start of a file, that takes tags with bodies up to `max_tag` bytes.
    #[must_use]
    pub fn new(max_tag: usize) -> Self {
        let buffer = BytesMut::new();
        Self { max_tag, state: State::FileHeader, buffer, at: 0, last_ts: None, flags: None }
    }

    /// Whether the file header promises audio and video; `None` before it has come. Don't build on it:
    /// encoders guess.
    #[must_use]
    pub fn flags(&self) -> Option<(bool, bool)> {
        self.flags
    }

    /// Takes from the front of `input` up to the end of the next tag. `None`: all of `input` is used up, and
    /// more is needed.
    ///
    /// # Errors
    /// When this is no FLV file, a tag is too large or encrypted. There is no way on after an error.
    pub fn next_tag(&mut self, input: &mut &[u8]) -> Result<Option<Tag>, FlvError> {
        loop {
            match self.state {
                State::FileHeader => {
                    let Some(header) = self.fill::<9>(input) else { return Ok(None) };
                    let [b'F', b'L', b'V', version, flags, offset @ ..] = header else {
                        let [a, b, c, d, ..] = header;
                        return Err(self.invalid("the signature", u32::from_be_bytes([a, b, c, d])));
                    };
                    if version != 1 {
                        return Err(self.invalid("the version", u32::from(version)));
                    }
                    let offset = u32::from_be_bytes(offset);
                    if !(MIN_DATA_OFFSET..=MAX_DATA_OFFSET).contains(&offset) {
                        return Err(self.invalid("the header's length", offset));
                    }
                    self.flags = Some((flags & 4 != 0, flags & 1 != 0));
                    let more = usize::try_from(offset - MIN_DATA_OFFSET).unwrap_or(0);
                    self.advance(9, State::Gap(more + TAG_TRAILER));
                }
                State::Gap(len) => {
                    let n = len.min(input.len());
                    input.advance(n);
                    self.at += n as u64;
                    self.state = if n == len { State::TagHeader } else { State::Gap(len - n) };
                    if n < len {
                        return Ok(None);
                    }
                }
                State::TagHeader => {
                    let Some(header) = self.fill::<TAG_HEADER>(input) else { return Ok(None) };
                    let body = self.tag_header(header)?;
                    self.advance(TAG_HEADER, body);
                }
                State::Body { kind, len, ts_ms } => {
                    if !self.fill_to(len, input) {
                        return Ok(None);
                    }
                    let body = std::mem::take(&mut self.buffer).freeze();
                    self.advance(len, State::Gap(TAG_TRAILER));
                    if let Some(kind) = kind {
                        return Ok(Some(Tag { kind, ts_ms, body }));
                    }
                }
            }
        }
    }

    fn tag_header(&mut self, header: [u8; TAG_HEADER]) -> Result<State, FlvError> {
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = header;
        if kind & FILTER != 0 {
            return Err(FlvError::Unsupported {
                what: "file",
                why: format!("encryption (byte {})", self.at),
            });
        }
        let len = usize::try_from(u32::from_be_bytes([0, l2, l1, l0])).unwrap_or(usize::MAX);
        if len > self.max_tag {
            return Err(FlvError::TagTooLarge { len, max: self.max_tag, at: self.at });
        }
        let ts_ms = unwrap_ts(self.last_ts, u32::from_be_bytes([t3, t2, t1, t0]));
        self.last_ts = Some(ts_ms);
        Ok(State::Body { kind: TagKind::from_u8(kind & 0x1F), len, ts_ms })
    }

    /// The next `N` bytes, if they are there; they stay in the buffer.
    fn fill<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        self.fill_to(N, input);
        self.buffer.first_chunk().copied()
    }

    /// Moves bytes from `input` until the buffer holds `len`; tells whether it does. Grows with what came,
    /// not with what was announced.
    fn fill_to(&mut self, len: usize, input: &mut &[u8]) -> bool {
        if self.buffer.is_empty() {
            self.buffer.reserve(len.min(RESERVE));
        }
        let n = len.saturating_sub(self.buffer.len()).min(input.len());
        let (now, rest) = input.split_at_checked(n).unwrap_or_default();
        self.buffer.extend_from_slice(now);
        *input = rest;
        self.buffer.len() >= len
    }

    fn advance(&mut self, len: usize, next: State) {
        self.buffer.clear();
        self.at += len as u64;
        self.state = next;
    }

    fn invalid(&self, field: &'static str, value: u32) -> FlvError {
        FlvError::Invalid { what: "file", field, value, at: self.at }
    }
}

/// The time nearest to `last` whose low 32 bits are `ts`: goes on over the wrap after 49.7 days, and back over
/// it where audio and video are not quite in order.
fn unwrap_ts(last: Option<i64>, ts: u32) -> i64 {
    let Some(last) = last else { return i64::from(ts) };
    let [_, _, _, _, low @ ..] = last.to_be_bytes();
    last + i64::from(ts.wrapping_sub(u32::from_be_bytes(low)).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = &[0x17, 2, 0, 0, 0];

    fn file() -> BytesMut {
        let mut out = BytesMut::from(&file_header(true, true)[..]);
        put_tag(&mut out, TagKind::Video, 0x0102_0304, &BODY[..2], &BODY[2..]).unwrap();
        put_tag(&mut out, TagKind::Audio, 0x0102_0310, &[], &[]).unwrap();
        out
    }

    fn all(mut file: &[u8], slice: usize) -> Result<Vec<Tag>, FlvError> {
        let mut demuxer = Demuxer::new(1000);
        let mut tags = Vec::new();
        while !file.is_empty() {
            let (mut now, rest) = file.split_at(slice.min(file.len()));
            while let Some(tag) = demuxer.next_tag(&mut now)? {
                tags.push(tag);
            }
            assert!(now.is_empty(), "None means that all is used up");
            file = rest;
        }
        Ok(tags)
    }

    #[test]
    fn headers_are_as_annex_e_has_them() {
        assert_eq!(file_header(true, false)[..5], *b"FLV\x01\x04");
        let header = tag_header(TagKind::Video, 5, 0x0102_0304).unwrap();
        assert_eq!(header, [9, 0, 0, 5, 2, 3, 4, 1, 0, 0, 0], "the top byte of the time comes last");
        assert_eq!(tag_trailer(5), [0, 0, 0, 16]);
        assert_eq!(tag_header(TagKind::Audio, 0, -5).unwrap()[4..8], [0; 4]);
        assert_eq!(tag_header(TagKind::Audio, 0, 0x1_0000_0001).unwrap()[4..8], [0, 0, 1, 0]);
    }

    #[test]
    fn a_body_above_24_bits_is_an_error() {
        assert!(tag_header(TagKind::Video, MAX_BODY, 0).is_ok());
        let error = tag_header(TagKind::Video, MAX_BODY + 1, 0);
        assert_eq!(error, Err(FlvError::BodyTooLarge { len: MAX_BODY + 1 }));
        assert!(tag_header(TagKind::Video, usize::MAX, 0).is_err());
    }

    #[test]
    fn slices_of_any_size_give_the_same_tags() {
        let file = file();
        let whole = all(&file, file.len()).unwrap();
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0], Tag { kind: TagKind::Video, ts_ms: 0x0102_0304, body: BODY.into() });
        for slice in 1..file.len() {
            assert_eq!(all(&file, slice).unwrap(), whole);
        }
    }

    #[test]
    fn unknown_types_are_passed_over() {
        let mut file = file();
        file[FILE_HEADER] = 20;
        assert_eq!(all(&file, 7).unwrap().len(), 1);
    }

    #[test]
    fn time_goes_on_over_the_wrap() {
        let mut file = BytesMut::from(&file_header(false, true)[..]);
        for ts in [u32::MAX - 10, 5, u32::MAX - 3, 20] {
            put_tag(&mut file, TagKind::Video, i64::from(ts), &[], BODY).unwrap();
        }
        let times: Vec<_> = all(&file, 100).unwrap().iter().map(|t| t.ts_ms).collect();
        let wrap = 1i64 << 32;
        assert_eq!(times, [wrap - 11, wrap + 5, wrap - 4, wrap + 20]);
    }

    #[test]
    fn what_is_no_flv_is_refused() {
        let error = all(b"GET / HTTP/1.1\r\n", 5).unwrap_err();
        assert_eq!(error.to_string(), "FLV file at byte 0: the signature is 1195725856");
        let mut large = file();
        large[FILE_HEADER + 1..FILE_HEADER + 4].copy_from_slice(&[0xFF; 3]);
        assert_eq!(
            all(&large, 100),
            Err(FlvError::TagTooLarge { len: MAX_BODY, max: 1000, at: FILE_HEADER as u64 })
        );
        let mut encrypted = file();
        encrypted[FILE_HEADER] |= FILTER;
        assert!(matches!(all(&encrypted, 100), Err(FlvError::Unsupported { .. })));
    }

    #[test]
    fn mutations_and_truncations_do_not_panic() {
        let seed = file();
        for len in 0..seed.len() {
            let _ = all(&seed[..len], 3);
        }
        for i in 0..seed.len() {
            for byte in 0..=255 {
                let mut bytes = seed.to_vec();
                bytes[i] = byte;
                let _ = all(&bytes, 16);
            }
        }
    }
}
