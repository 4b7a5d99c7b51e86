//! AAC in LATM and LOAS (ISO/IEC 14496-3 1.7), as broadcasters send it: one program, one layer.

use bytes::Bytes;

use crate::media::aac::AudioSpecificConfig;

/// Bytes before an AudioMuxElement: 11 bits of sync word, 13 of length.
const HEADER: usize = 3;

/// The longest AudioSpecificConfig looked at, in bytes.
const MAX_CONFIG: usize = 64;

/// What `AudioSyncStream` (1.7.2) says at the start of `data`: bytes with its header. `None`: no sync word.
pub(super) fn frame_len(data: [u8; HEADER]) -> Option<usize> {
    let [a, b, c] = data;
    (a == 0x56 && b & 0xE0 == 0xE0).then(|| HEADER + (usize::from(b & 0x1F) << 8 | usize::from(c)))
}

/// Reads the elements of one stream; they may go back to a config that came before.
#[derive(Debug, Default)]
pub(in crate::format) struct Reader {
    mux: Option<Mux>,
}

/// A StreamMuxConfig.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mux {
    config: Bytes,
    sample_rate: u32,
    samples: u32,
}

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::format) struct Element {
    pub(in crate::format) payload: Bytes,
    pub(super) sample_rate: u32,
    pub(super) samples: u32,
    /// An AudioSpecificConfig, where it is not the one of before.
    pub(in crate::format) config: Option<Bytes>,
}

impl Reader {
    /// Reads an AudioMuxElement with its LOAS header. `None`: damaged, of a kind not carried, or no config came yet.
    pub(super) fn element(&mut self, data: &[u8]) -> Option<Element> {
        self.bare(data.get(HEADER..)?, true)
    }

    /// Takes over a StreamMuxConfig that stood elsewhere; its AudioSpecificConfig.
    #[cfg(feature = "webrtc")]
    pub(in crate::format) fn set_mux(&mut self, data: &[u8]) -> Option<Bytes> {
        self.mux = Mux::read(&mut BitReader { data, at: 0 });
        self.mux.as_ref().map(|mux| mux.config.clone())
    }

    /// Reads an AudioMuxElement without header. `in_band`: it may have a config of its own (`muxConfigPresent`).
    pub(in crate::format) fn bare(&mut self, data: &[u8], in_band: bool) -> Option<Element> {
        let mut bits = BitReader { data, at: 0 };
        let mut config = None;
        if in_band && bits.read(1)? == 0 {
            let mux = Mux::read(&mut bits)?;
            if self.mux.as_ref() != Some(&mux) {
                config = Some(mux.config.clone());
                self.mux = Some(mux);
            }
        }
        let mux = self.mux.as_ref()?;
        let mut len = 0;
        loop {
            let part = bits.read(8)? as usize;
            len += part;
            if part < 255 {
                break;
            }
        }
        let payload = bits.bytes(len)?.into();
        Some(Element { payload, sample_rate: mux.sample_rate, samples: mux.samples, config })
    }
}

impl Mux {
    /// StreamMuxConfig (1.7.3.1, table 1.42).
    fn read(bits: &mut BitReader<'_>) -> Option<Self> {
        let version = bits.read(1)?;
        if version == 1 {
            if bits.read(1)? == 1 {
                return None; // audioMuxVersionA 1 is reserved
            }
            bits.value()?; // taraBufferFullness
        }
        // allStreamsSameTimeFraming, numSubFrames, numProgram, numLayer: one of each, all together.
        if bits.read(1 + 6 + 4 + 3)? != 1 << 13 {
            return None;
        }
        let config = if version == 0 {
            let begin = bits.at;
            skip_config(bits)?;
            bits.copy(begin, bits.at - begin)?
        } else {
            let len = bits.value()? as usize;
            let config = bits.copy(bits.at, len)?;
            bits.skip(len)?;
            config
        };
        if bits.read(3)? != 0 {
            return None; // frameLengthType: AAC has 0
        }
        bits.read(8)?; // latmBufferFullness
        if bits.read(1)? == 1 {
            // otherDataLenBits
            if version == 1 {
                bits.value()?;
            } else {
                while bits.read(9)? & 0x100 != 0 {}
            }
        }
        if bits.read(1)? == 1 {
            bits.read(8)?; // crcCheckSum
        }
        let parsed = AudioSpecificConfig::parse(&config).ok()?;
        let (sample_rate, samples) = (parsed.sample_rate, u32::from(parsed.frame_samples));
        Some(Self { config: config.into(), sample_rate, samples })
    }
}

/// Passes over an AudioSpecificConfig of the usual kinds, whose length isn't told.
fn skip_config(bits: &mut BitReader<'_>) -> Option<()> {
    let object_type = |bits: &mut BitReader<'_>| match bits.read(5)? {
        31 => Some(32 + bits.read(6)?),
        other => Some(other),
    };
    let rate = |bits: &mut BitReader<'_>| if bits.read(4)? == 15 { bits.skip(24) } else { Some(()) };
    let mut kind = object_type(bits)?;
    rate(bits)?;
    let channels = bits.read(4)?;
    if matches!(kind, 5 | 29) {
        rate(bits)?;
        kind = object_type(bits)?;
    }
    if !matches!(kind, 1..=4) || channels == 0 {
        return None;
    }
    bits.read(1)?; // frameLengthFlag
    if bits.read(1)? == 1 {
        bits.skip(14)?; // coreCoderDelay
    }
    bits.read(1)?; // extensionFlag
    Some(())
}

struct BitReader<'a> {
    data: &'a [u8],
    /// In bits.
    at: usize,
}

impl BitReader<'_> {
    /// The next `n` bits, at most 25.
    fn read(&mut self, n: usize) -> Option<u32> {
        let value = self.peek(self.at, n)?;
        self.at += n;
        Some(value)
    }

    fn peek(&self, at: usize, n: usize) -> Option<u32> {
        let end = at.checked_add(n)?;
        let bytes = self.data.get(at / 8..end.div_ceil(8))?;
        let sum = bytes.iter().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
        Some(sum >> (8 * end.div_ceil(8) - end) & ((1 << n) - 1))
    }

    fn skip(&mut self, n: usize) -> Option<()> {
        self.at = self.at.checked_add(n).filter(|&at| at <= 8 * self.data.len())?;
        Some(())
    }

    /// LatmGetValue (table 1.43).
    fn value(&mut self) -> Option<u32> {
        let more = self.read(2)?;
        (0..=more).try_fold(0u32, |sum, _| Some(sum << 8 | self.read(8)?))
    }

    /// `len` bits from `begin`, filled up to whole bytes with zeros.
    fn copy(&self, begin: usize, len: usize) -> Option<Vec<u8>> {
        if len > 8 * MAX_CONFIG {
            return None;
        }
        let byte = |n: usize| {
            let width = (len - 8 * n).min(8);
            Some((self.peek(begin + 8 * n, width)? << (8 - width)) as u8)
        };
        (0..len.div_ceil(8)).map(byte).collect()
    }

    /// The next `len` bytes, wherever in a byte they begin.
    fn bytes(&mut self, len: usize) -> Option<Vec<u8>> {
        let shift = self.at % 8;
        let end = self.at.checked_add(len.checked_mul(8)?)?;
        let from = self.data.get(self.at / 8..end.div_ceil(8))?;
        self.at = end;
        if shift == 0 {
            return Some(from.to_vec());
        }
        let pairs = from.iter().zip(from.iter().skip(1));
        Some(pairs.map(|(a, b)| a << shift | b >> (8 - shift)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits as text to a LOAS frame.
    fn loas(bits: &str) -> Vec<u8> {
        let bits: Vec<u8> = bits.bytes().filter(|b| *b != b' ').map(|b| b - b'0').collect();
        let body: Vec<u8> =
            bits.chunks(8).map(|c| c.iter().enumerate().fold(0, |sum, (n, b)| sum | b << (7 - n))).collect();
        [&[0x56, 0xE0, body.len() as u8], &body[..]].concat()
    }

    // LC, 48 kHz, stereo; frameLengthType 0, fullness 255, no other data, no CRC
    const MUX: &str = "0 0 1 000000 0000 000 00010 0011 0010 000 000 11111111 0 0";

    #[test]
    fn a_config_then_packets_that_go_back_to_it() {
        let mut reader = Reader::default();
        let again = loas("1 00000010 10101010 11110000");
        assert_eq!(reader.element(&again), None);
        let first = reader.element(&loas(&[MUX, "00000001 11001100"].concat())).unwrap();
        assert_eq!(first.config.as_deref(), Some(&[0x11, 0x90][..]));
        assert_eq!((&first.payload[..], first.sample_rate, first.samples), (&[0xCC][..], 48_000, 1024));
        let second = reader.element(&again).unwrap();
        assert_eq!((&second.payload[..], second.config), (&[0xAA, 0xF0][..], None));
        for frame in [loas(&[MUX, "00000001 11001100"].concat()), again] {
            assert_eq!(frame_len(*frame.first_chunk().unwrap()), Some(frame.len()));
            for len in 0..frame.len() {
                assert_eq!(reader.element(&frame[..len]), None);
            }
            for bit in 0..8 * frame.len() {
                let mut damaged = frame.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                reader.element(&damaged);
            }
        }
    }

    #[test]
    fn version_1_tells_the_length_of_the_config() {
        let bits = "0 1 0 00 00000000 1 000000 0000 000 00 00010000 0001001000010000 000 11111111 0 0 00000001 00110011";
        let element = Reader::default().element(&loas(bits)).unwrap();
        assert_eq!((&element.payload[..], element.config.as_deref()), (&[0x33][..], Some(&[0x12, 0x10][..])));
    }
}
