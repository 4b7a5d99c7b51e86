//! WebSocket (RFC 6455), the server's side: handshake, frames out, frames in.

use sha1::{Digest, Sha1};

/// The most bytes of a control frame's payload (RFC 6455 5.5).
const MAX_CONTROL: usize = 125;

/// What `Sec-WebSocket-Accept` answers to `Sec-WebSocket-Key` (RFC 6455 4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    base64(&digest)
}

/// Whether `key` can be a `Sec-WebSocket-Key`: 16 bytes in base64.
#[must_use]
pub fn is_key(key: &str) -> bool {
    let digit = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/');
    key.len() == 24 && key.strip_suffix("==").is_some_and(|digits| digits.bytes().all(digit))
}

/// The head of a whole binary message of `len` bytes, sent by a server, that is not masked
/// (RFC 6455 5.2).
#[must_use]
pub fn binary_head(len: usize) -> FrameHead {
    frame_head(Opcode::Binary, len)
}

/// A close frame (RFC 6455 5.5.1) with a status of [`close`].
#[must_use]
pub fn close_frame(status: u16) -> [u8; 4] {
    let [high, low] = status.to_be_bytes();
    [0x88, 2, high, low]
}

/// Status codes of a close frame (RFC 6455 7.4.1).
pub mod close {
    /// All is said.
    pub const NORMAL: u16 = 1000;
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
}

/// Up to 10 bytes before a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    bytes: [u8; 10],
    len: u8,
}

impl FrameHead {
    /// The bytes to send.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opcode {
    Binary = 2,
    Pong = 10,
}

fn frame_head(opcode: Opcode, len: usize) -> FrameHead {
    let first = 0x80 | opcode as u8;
    let mut head = FrameHead { bytes: [0; 10], len: 0 };
    let [b0, b1, rest @ ..] = &mut head.bytes;
    *b0 = first;
    head.len = if let Some(short) = u8::try_from(len).ok().filter(|len| *len < 126) {
        *b1 = short;
        2
    } else if let Ok(medium) = u16::try_from(len) {
        *b1 = 126;
        let [high, low, ..] = rest;
        [*high, *low] = medium.to_be_bytes();
        4
    } else {
        *b1 = 127;
        *rest = u64::try_from(len).unwrap_or(u64::MAX).to_be_bytes();
        10
    };
    head
}

/// Reads what a client sends: answers pings and close, skips messages (a live reader has nothing to tell us)
/// without keeping them. Never holds more than one control frame.
#[derive(Debug, Default)]
pub struct Input {
    state: State,
    mask: [u8; 4],
    /// Bytes of the current frame's payload to come.
    left: u64,
    /// The current frame's head, or the payload of the current control frame, as far as it came.
    buffer: heapless::Vec<u8, MAX_CONTROL>,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Head,
    Skip,
    Control(u8),
    Closed,
}

impl Input {
    /// Takes the next bytes of the client and appends to `reply` what it must be sent.
    ///
    /// # Errors
    /// Why the connection is to be closed, once `reply` is sent: the client closed, or broke the protocol.
    pub fn input(&mut self, mut bytes: &[u8], reply: &mut Vec<u8>) -> Result<(), &'static str> {
        loop {
            match self.state {
                State::Closed => return Err("WebSocket closed"),
                State::Head => {
                    let Some((&first, rest)) = bytes.split_first() else { return Ok(()) };
                    bytes = rest;
                    // Never full: a head has 14 bytes.
                    let _ = self.buffer.push(first);
                    match self.head() {
                        Ok(None) => {}
                        Ok(Some(state)) => {
                            self.state = state;
                            self.buffer.clear();
                        }
                        Err(why) => {
                            self.state = State::Closed;
                            reply.extend_from_slice(&close_frame(close::PROTOCOL_ERROR));
                            return Err(why);
                        }
                    }
                }
                State::Skip => {
                    let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = bytes.get(take..).unwrap_or_default();
                    self.left = self.left.saturating_sub(u64::try_from(take).unwrap_or(u64::MAX));
                    if self.left > 0 {
                        return Ok(());
                    }
                    self.state = State::Head;
                }
                State::Control(opcode) => {
                    if self.left > 0 {
                        let Some((&first, rest)) = bytes.split_first() else { return Ok(()) };
                        bytes = rest;
                        let key = self.mask.get(self.buffer.len() % 4).copied().unwrap_or_default();
                        let _ = self.buffer.push(first ^ key);
                        self.left -= 1;
                        continue;
                    }
                    self.state = State::Head;
                    self.control(opcode, reply)?;
                    self.buffer.clear();
                }
            }
        }
    }

    /// What follows the head in the buffer; `None` while it is not whole.
    fn head(&mut self) -> Result<Option<State>, &'static str> {
        let [first, second, rest @ ..] = self.buffer.as_slice() else { return Ok(None) };
        let (opcode, is_control, is_final) = (first & 0x0f, first & 0x08 != 0, first & 0x80 != 0);
        let length = second & 0x7f;
        if first & 0x70 != 0 {
            return Err("WebSocket frame with reserved bits");
        }
        if second & 0x80 == 0 {
            return Err("WebSocket frame without mask");
        }
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err("WebSocket frame of unknown kind");
        }
        if is_control && (!is_final || usize::from(length) > MAX_CONTROL) {
            return Err("WebSocket control frame in pieces or too long");
        }
        let (len, mask) = match length {
            126 => match rest.split_first_chunk() {
                Some((len, mask)) => (u64::from(u16::from_be_bytes(*len)), mask),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, mask)) => (u64::from_be_bytes(*len), mask),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let Some(&mask) = mask.first_chunk() else { return Ok(None) };
        if len >> 63 != 0 {
            return Err("WebSocket frame of impossible length");
        }
        (self.left, self.mask) = (len, mask);
        Ok(Some(if is_control { State::Control(opcode) } else { State::Skip }))
    }

    /// A control frame is whole.
    fn control(&mut self, opcode: u8, reply: &mut Vec<u8>) -> Result<(), &'static str> {
        match opcode {
            8 => {
                let status =
                    self.buffer.first_chunk().map_or(close::NORMAL, |code| u16::from_be_bytes(*code));
                self.state = State::Closed;
                reply.extend_from_slice(&close_frame(status));
                Err("WebSocket closed by the client")
            }
            9 => {
                reply.extend_from_slice(frame_head(Opcode::Pong, self.buffer.len()).as_slice());
                reply.extend_from_slice(&self.buffer);
                Ok(())
            }
            _ => Ok(()), // an unasked pong
        }
    }
}

/// Standard base64 with padding (RFC 4648 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            let c = if place <= group.len() { DIGITS.get(digit).copied().unwrap_or(b'=') } else { b'=' };
            text.push(char::from(c));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame as a client sends it.
    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = frame_head(Opcode::Binary, payload.len()).as_slice().to_vec();
        frame[0] = 0x80 | opcode;
        frame[1] |= 0x80;
        frame.extend_from_slice(&[1, 2, 3, 4]);
        frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ [1, 2, 3, 4][i % 4]));
        frame
    }

    #[test]
    fn handshake_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(is_key("dGhlIHNhbXBsZSBub25jZQ=="));
        assert!(!is_key("") && !is_key("dGhlIHNhbXBsZSBub25jZQ") && !is_key("dGhlIHNhbXBsZSBub2\r\nZQ=="));
        assert_eq!(
            (base64(b"f"), base64(b"fo"), base64(b"foo")),
            ("Zg==".into(), "Zm8=".into(), "Zm9v".into())
        );
    }

    #[test]
    fn heads_of_the_rfc() {
        assert_eq!(binary_head(5).as_slice(), [0x82, 5]);
        assert_eq!(binary_head(126).as_slice(), [0x82, 126, 0, 126]);
        assert_eq!(binary_head(65536).as_slice(), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn ping_is_answered_messages_are_skipped_close_ends() {
        let mut bytes = masked(1, b"hello");
        bytes.extend(masked(2, &[9; 70_000]));
        bytes.extend(masked(9, b"there?"));
        bytes.extend(masked(9, b""));
        bytes.extend(masked(10, b"unasked"));
        bytes.extend(masked(8, &[0x03, 0xe9, b'x']));
        let expected = [&[0x8a, 6][..], b"there?", &[0x8a, 0], &[0x88, 2, 0x03, 0xe9]].concat();
        for piece in [1, 7, bytes.len()] {
            let (mut input, mut reply) = (Input::default(), Vec::new());
            let ended = bytes.chunks(piece).find_map(|part| input.input(part, &mut reply).err());
            assert_eq!(ended, Some("WebSocket closed by the client"));
            assert_eq!(reply, expected);
            assert!(input.input(&masked(9, b""), &mut reply).is_err(), "nothing after close");
        }
    }

    #[test]
    fn broken_frames_end_with_1002() {
        let mut unmasked = masked(2, b"abc");
        unmasked[1] &= 0x7f;
        let mut reserved = masked(2, b"");
        reserved[0] |= 0x40;
        let mut split_ping = masked(9, b"");
        split_ping[0] &= 0x7f;
        let impossible = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4].to_vec();
        for bad in [unmasked, reserved, split_ping, masked(3, b""), masked(9, &[0; 126]), impossible] {
            let mut reply = Vec::new();
            assert!(Input::default().input(&bad, &mut reply).is_err());
            assert_eq!(reply, close_frame(close::PROTOCOL_ERROR));
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let (a, b) = bytes.split_at(cut.min(bytes.len()));
            let (mut input, mut reply) = (Input::default(), Vec::new());
            let _ = input.input(a, &mut reply).and_then(|()| input.input(b, &mut reply));
            prop_assert!(reply.len() <= bytes.len() + 4);
        }
    }
}
