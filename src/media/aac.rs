//! AAC: AudioSpecificConfig (ISO/IEC 14496-3 1.6.2.1) and ADTS (1.A.3.2).

use super::bits::{BitWriter, Bits};
use super::{Facts, MediaError, Result};

/// `samplingFrequencyIndex` (table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// The longest AudioSpecificConfig we keep: the largest of GA types with a full PCE and its comment are below.
pub const MAX_CONFIG: usize = 512;

const LC: u8 = 2;
const SBR: u8 = 5;
const PS: u8 = 29;

/// An AudioSpecificConfig.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Audio object type of the core coder: 1 Main, 2 LC, 3 SSR, 4 LTP, …
    pub object_type: u8,
    /// Samples per second of the core coder.
    pub sample_rate: u32,
    /// `channelConfiguration`; 0: the layout stands in [`pce`](Self::pce).
    pub channel_config: u8,
    /// Channels of the core coder.
    pub channels: u8,
    /// Samples per second after spectral band replication, where it is signalled (HE-AAC).
    pub sbr_rate: Option<u32>,
    /// Whether parametric stereo is signalled (HE-AAC v2).
    pub ps: bool,
    /// Samples per channel and packet of the core coder: 1024, or 960.
    pub frame_samples: u16,
    /// The program config element, where `channel_config` is 0.
    pub pce: Option<Pce>,
}

impl AudioSpecificConfig {
    /// AAC-LC of this rate and 1 to 6 or 8 channels.
    ///
    /// # Errors
    /// A number of channels that has no `channelConfiguration`.
    pub fn lc(sample_rate: u32, channels: u8) -> Result<Self> {
        let channel_config = match channels {
            1..=6 => channels,
            8 => 7,
            _ => {
                return Err(MediaError::Invalid {
                    what: "AudioSpecificConfig",
                    field: "number of channels",
                    value: u64::from(channels),
                    why: "without a channelConfiguration (1 to 6, 8)",
                });
            }
        };
        let pce = None;
        Ok(Self {
            object_type: LC,
            sample_rate,
            channel_config,
            channels,
            sbr_rate: None,
            ps: false,
            frame_samples: 1024,
            pce,
        })
    }

    /// Reads a config: plain, or with SBR and PS signalled hierarchically (object types 5 and 29) or in the
    /// backward compatible way (sync extensions 0x2b7 and 0x548). What follows is passed over.
    ///
    /// # Errors
    /// When it is truncated, or a value is reserved.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("AudioSpecificConfig", data);
        let mut object_type = object_type(&mut bits)?;
        let sample_rate = sample_rate(&mut bits)?;
        let channel_config = bits.u8(4, "channelConfiguration")?;
        let mut sbr_rate = None;
        let ps = object_type == PS;
        let hierarchical = matches!(object_type, SBR | PS);
        if hierarchical {
            sbr_rate = Some(self::sample_rate(&mut bits)?);
            object_type = self::object_type(&mut bits)?;
            if object_type == 22 {
                bits.skip(4, "extensionChannelConfiguration")?;
            }
        }
        let channels = match channel_config {
            0..=6 => channel_config,
            7 | 12 | 14 => 8,
            11 => 7,
            13 => 24,
            _ => return Err(bits.invalid("channelConfiguration", u64::from(channel_config), "reserved")),
        };
        let mut config = Self {
            object_type,
            sample_rate,
            channel_config,
            channels,
            sbr_rate,
            ps,
            frame_samples: 1024,
            pce: None,
        };
        if matches!(object_type, 1..=4 | 6 | 7 | 17 | 19..=23) {
            config.general_audio(&mut bits)?;
            if !hierarchical {
                config.sync_extension(&mut bits);
            }
        }
        Ok(config)
    }

    /// GASpecificConfig (4.4.1).
    fn general_audio(&mut self, bits: &mut Bits<'_>) -> Result<()> {
        if bits.flag("frameLengthFlag")? {
            self.frame_samples = 960;
        }
        if bits.flag("dependsOnCoreCoder")? {
            bits.skip(14, "coreCoderDelay")?;
        }
        let extension = bits.flag("extensionFlag")?;
        if self.channel_config == 0 {
            let pce = Pce::read(bits)?;
            self.channels = pce.channels;
            self.pce = Some(pce);
        }
        if matches!(self.object_type, 6 | 20) {
            bits.skip(3, "layerNr")?;
        }
        if extension {
            match self.object_type {
                22 => bits.skip(16, "numOfSubFrame and layer_length")?,
                17 | 19 | 20 | 23 => bits.skip(3, "resilience flags")?,
                _ => {}
            }
            bits.skip(1, "extensionFlag3")?;
        }
        if matches!(self.object_type, 17 | 19..=23) {
            bits.skip(2, "epConfig")?;
        }
        Ok(())
    }

    /// Backward compatible signalling (1.6.5.3). Padding or garbage there is as good as nothing.
    fn sync_extension(&mut self, bits: &mut Bits<'_>) {
        let mut read = || -> Result<(u32, bool)> {
            let sync = bits.u(11, "syncExtensionType")?;
            let extension = object_type(bits)?;
            if sync != 0x2B7 || extension != SBR || !bits.flag("sbrPresentFlag")? {
                return Err(bits.truncated("SBR extension"));
            }
            let rate = sample_rate(bits)?;
            let ps = bits.left() >= 12
                && bits.u(11, "syncExtensionType")? == 0x548
                && bits.flag("psPresentFlag")?;
            Ok((rate, ps))
        };
        if let Ok((rate, ps)) = read() {
            self.sbr_rate = Some(rate);
            self.ps = ps;
        }
    }

    /// The config as bytes; SBR and PS are signalled hierarchically, which every decoder of HE-AAC reads.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut w = BitWriter::default();
        let extension = if self.ps { PS } else { SBR };
        put_object_type(&mut w, if self.sbr_rate.is_some() { extension } else { self.object_type });
        put_sample_rate(&mut w, self.sample_rate);
        w.put(u32::from(self.channel_config), 4);
        if let Some(rate) = self.sbr_rate {
            put_sample_rate(&mut w, rate);
            put_object_type(&mut w, self.object_type);
            if self.object_type == 22 {
                w.put(u32::from(self.channel_config), 4);
            }
        }
        w.put(u32::from(self.frame_samples == 960), 1);
        w.put(0, 2); // dependsOnCoreCoder, extensionFlag
        if let Some(pce) = &self.pce {
            pce.write(&mut w);
        }
        // layerNr of the scalable types, epConfig of the error resilient ones.
        w.put(0, if matches!(self.object_type, 6 | 20) { 3 } else { 0 });
        w.put(0, if matches!(self.object_type, 17 | 19..=23) { 2 } else { 0 });
        w.finish()
    }

    /// Samples per second that come out of the decoder.
    #[must_use]
    pub fn output_rate(&self) -> u32 {
        self.sbr_rate.unwrap_or(self.sample_rate)
    }

    /// Channels that come out of the decoder.
    #[must_use]
    pub fn output_channels(&self) -> u8 {
        if self.ps && self.channels == 1 { 2 } else { self.channels }
    }

    /// Samples per channel that a packet gives, at [`output_rate`](Self::output_rate).
    #[must_use]
    pub fn output_samples(&self) -> u32 {
        let core = u32::from(self.frame_samples);
        if self.sbr_rate.is_some_and(|rate| rate > self.sample_rate) { 2 * core } else { core }
    }

    pub(crate) fn facts(&self) -> Facts {
        let (profile, profile_name) = match (self.sbr_rate, self.object_type) {
            (Some(_), _) if self.ps => (PS, "HE-AAC v2"),
            (Some(_), _) => (SBR, "HE-AAC"),
            (_, 1) => (1, "Main"),
            (_, LC) => (LC, "LC"),
            (_, 3) => (3, "SSR"),
            (_, 4) => (4, "LTP"),
            (_, 23) => (23, "LD"),
            (_, 39) => (39, "ELD"),
            (_, 42) => (42, "xHE-AAC"),
            (_, other) => (other, ""),
        };
        Facts {
            profile: u32::from(profile),
            profile_name,
            sample_rate: self.output_rate(),
            channels: self.output_channels(),
            rfc6381: format!("mp4a.40.{profile}"),
            ..Facts::default()
        }
    }

    /// The ADTS header to put before a raw packet of `len` bytes; where the layout stands in a PCE, that too,
    /// since ADTS carries it in the packet. SBR and PS are not signalled: decoders find them in the packet.
    ///
    /// # Errors
    /// Object types other than 1 to 4, rates without an index, and packets beyond 8191 bytes have no ADTS form.
    pub fn adts(&self, len: usize) -> Result<heapless::Vec<u8, MAX_ADTS>> {
        const WHAT: &str = "ADTS";
        let unsupported = |why| MediaError::Unsupported { what: WHAT, why };
        let profile = match self.object_type {
            1..=4 => u32::from(self.object_type) - 1,
            _ => return Err(unsupported("it carries AAC Main, LC, SSR and LTP only")),
        };
        let rate = rate_index(self.sample_rate).ok_or(unsupported("the sample rate has no index"))?;
        let pce = match (&self.pce, self.channel_config) {
            (Some(pce), 0) => {
                let mut w = BitWriter::default();
                w.put(5, 3); // ID_PCE
                pce.write(&mut w);
                w.finish()
            }
            (_, 1..=7) => Vec::new(),
            _ => return Err(unsupported("it carries channel configurations 1 to 7 only")),
        };
        let len = len.saturating_add(7 + pce.len());
        let frame_len = u32::try_from(len).ok().filter(|&len| len < 1 << 13);
        let frame_len = frame_len.ok_or(unsupported("a packet with its header is at most 8191 bytes"))?;
        let mut w = BitWriter::default();
        w.put(0xFFF1, 16); // sync word, MPEG-4, layer 0, no CRC
        w.put(profile, 2);
        w.put(rate, 4);
        w.put(0, 1);
        w.put(u32::from(self.channel_config), 3);
        w.put(0, 4);
        w.put(frame_len, 13);
        w.put(0x7FF, 11); // buffer fullness of a variable bit rate
        w.put(0, 2); // one block
        let mut out = heapless::Vec::new();
        let fits = out.extend_from_slice(&w.finish()).and_then(|()| out.extend_from_slice(&pce));
        fits.map_err(|_| unsupported("the PCE is too long"))?;
        Ok(out)
    }
}

/// The longest header that [`AudioSpecificConfig::adts`] gives: 7 bytes and the largest PCE.
pub const MAX_ADTS: usize = 80;

/// A program config element (4.4.1.1): which elements carry which channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pce {
    /// Channels of all elements.
    pub channels: u8,
    /// Its bits up to the alignment, as values and widths; at most 117 of them.
    fields: Vec<(u8, u8)>,
}

impl Pce {
    fn read(bits: &mut Bits<'_>) -> Result<Self> {
        let mut fields = Vec::new();
        let mut take = |bits: &mut Bits<'_>, n: u8, field| -> Result<u8> {
            let value = bits.u8(u32::from(n), field)?;
            fields.push((value, n));
            Ok(value)
        };
        take(bits, 4, "element_instance_tag")?;
        take(bits, 2, "object_type")?;
        take(bits, 4, "sampling_frequency_index")?;
        let front = take(bits, 4, "num_front_channel_elements")?;
        let side = take(bits, 4, "num_side_channel_elements")?;
        let back = take(bits, 4, "num_back_channel_elements")?;
        let lfe = take(bits, 2, "num_lfe_channel_elements")?;
        let data = take(bits, 3, "num_assoc_data_elements")?;
        let coupling = take(bits, 4, "num_valid_cc_elements")?;
        for (present, n) in
            [("mono_mixdown_present", 4), ("stereo_mixdown_present", 4), ("matrix_mixdown_idx_present", 3)]
        {
            if take(bits, 1, present)? == 1 {
                take(bits, n, "mixdown")?;
            }
        }
        let mut channels = lfe;
        for _ in 0..front + side + back {
            channels += 1 + take(bits, 1, "element_is_cpe")?;
            take(bits, 4, "element_tag_select")?;
        }
        for _ in 0..lfe + data {
            take(bits, 4, "element_tag_select")?;
        }
        for _ in 0..coupling {
            take(bits, 5, "cc_element")?;
        }
        bits.align();
        let comment = bits.u(8, "comment_field_bytes")?;
        bits.skip(8 * comment as usize, "comment_field_data")?;
        Ok(Self { channels, fields })
    }

    /// The element without its comment; aligned to what `w` began with.
    fn write(&self, w: &mut BitWriter) {
        for &(value, n) in &self.fields {
            w.put(u32::from(value), u32::from(n));
        }
        w.align();
        w.put(0, 8); // comment_field_bytes
    }
}

/// An ADTS header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Adts {
    /// Audio object type, 1 to 4.
    pub object_type: u8,
    /// Samples per second of the core coder.
    pub sample_rate: u32,
    /// `channel_configuration`; 0: a PCE stands in the packet.
    pub channel_config: u8,
    /// Bytes of the header: 7, or 9 with a CRC.
    pub header_len: usize,
    /// Bytes of header and packet together.
    pub frame_len: usize,
    /// Raw data blocks in the packet, 1 to 4; each has 1024 samples.
    pub blocks: u8,
}

impl Adts {
    /// Bytes that [`parse`](Self::parse) needs.
    pub const LEN: usize = 7;

    /// Reads a header at the start of `data`.
    ///
    /// # Errors
    /// When there are fewer than 7 bytes, no sync word, a reserved rate, or a length smaller than the header.
    pub fn parse(data: &[u8]) -> Result<Self> {
        let mut bits = Bits::new("ADTS header", data);
        let sync = bits.u(12, "syncword")?;
        if sync != 0xFFF {
            return Err(bits.invalid("syncword", u64::from(sync), "not 0xFFF"));
        }
        bits.skip(1, "ID")?;
        let layer = bits.u(2, "layer")?;
        if layer != 0 {
            return Err(bits.invalid("layer", u64::from(layer), "not 0: this may be MPEG layer audio"));
        }
        let header_len = if bits.flag("protection_absent")? { 7 } else { 9 };
        let object_type = bits.u8(2, "profile")? + 1;
        let index = bits.u(4, "sampling_frequency_index")?;
        let rate = usize::try_from(index).ok().and_then(|i| RATES.get(i));
        let sample_rate =
            *rate.ok_or_else(|| bits.invalid("sampling_frequency_index", u64::from(index), "reserved"))?;
        bits.skip(1, "private_bit")?;
        let channel_config = bits.u8(3, "channel_configuration")?;
        bits.skip(4, "original_copy, home and copyright")?;
        let frame_len = bits.u(13, "aac_frame_length")? as usize;
        if frame_len < header_len {
            return Err(bits.invalid("aac_frame_length", frame_len as u64, "smaller than the header"));
        }
        bits.skip(11, "adts_buffer_fullness")?;
        let blocks = bits.u8(2, "number_of_raw_data_blocks_in_frame")? + 1;
        Ok(Self { object_type, sample_rate, channel_config, header_len, frame_len, blocks })
    }

    /// The config of the packets behind this header; `packet` is the one that follows it, since a layout that
    /// has no number stands there.
    ///
    /// # Errors
    /// When the layout has no number, and the packet doesn't begin with a PCE.
    pub fn config(&self, packet: &[u8]) -> Result<AudioSpecificConfig> {
        let mut config = AudioSpecificConfig {
            object_type: self.object_type,
            sample_rate: self.sample_rate,
            channel_config: self.channel_config,
            channels: if self.channel_config == 7 { 8 } else { self.channel_config },
            sbr_rate: None,
            ps: false,
            frame_samples: 1024,
            pce: None,
        };
        if self.channel_config == 0 {
            let mut bits = Bits::new("AAC packet", packet);
            if bits.u(3, "id_syn_ele")? != 5 {
                return Err(MediaError::Unsupported {
                    what: "ADTS header",
                    why: "channel configuration 0, but the packet begins with no program config element",
                });
            }
            let pce = Pce::read(&mut bits)?;
            config.channels = pce.channels;
            config.pce = Some(pce);
        }
        Ok(config)
    }
}

/// 1.6.2.1, GetAudioObjectType.
fn object_type(bits: &mut Bits<'_>) -> Result<u8> {
    let mut object_type = bits.u8(5, "audioObjectType")?;
    if object_type == 31 {
        object_type = 32 + bits.u8(6, "audioObjectTypeExt")?;
    }
    if object_type == 0 {
        return Err(bits.invalid("audioObjectType", 0, "null"));
    }
    Ok(object_type)
}

fn put_object_type(w: &mut BitWriter, object_type: u8) {
    if let Some(escaped) = object_type.checked_sub(32) {
        w.put(31, 5);
        w.put(u32::from(escaped), 6);
    } else {
        w.put(u32::from(object_type), 5);
    }
}

fn sample_rate(bits: &mut Bits<'_>) -> Result<u32> {
    let index = bits.u(4, "samplingFrequencyIndex")?;
    let rate = match index {
        15 => bits.u(24, "samplingFrequency")?,
        _ => usize::try_from(index).ok().and_then(|i| RATES.get(i)).copied().unwrap_or(0),
    };
    if rate == 0 {
        return Err(bits.invalid("samplingFrequencyIndex", u64::from(index), "reserved, or a rate of 0"));
    }
    Ok(rate)
}

fn rate_index(rate: u32) -> Option<u32> {
    RATES.iter().position(|&r| r == rate).and_then(|i| u32::try_from(i).ok())
}

fn put_sample_rate(w: &mut BitWriter, rate: u32) {
    if let Some(index) = rate_index(rate) {
        w.put(index, 4);
    } else {
        w.put(15, 4);
        w.put(rate, 24);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test::{hex, mutations, truncations};
    use crate::media::{Codec, Track, TrackId};
    use proptest::prelude::*;

    fn facts(config: &str) -> (u32, u8, &'static str, String) {
        let track = Track::with_config(TrackId(1), Codec::Aac, hex(config).into()).unwrap();
        let f = track.facts;
        (f.sample_rate, f.channels, f.profile_name, f.rfc6381)
    }

    // ffmpeg 5.1's `aac` encoder in MP4: `-ar 44100 -ac 2`, `-ar 48000 -ac 6`, `-ac 8`; it says "no SBR" at the end.
    const LC_STEREO: &str = "121056e500";
    const LC_5_1: &str = "11b056e500";
    const LC_7_1: &str = "11b856e500";
    /// The same with `-af pan=quad`: a layout without number.
    const LC_QUAD: &str = "118004c404002110 0d 4c61766335392e33372e313030 56e500";
    /// The ADTS header of that, and the packet it stands before.
    const QUAD_ADTS: &str = "fff14c00487ffc";
    const QUAD_PACKET: &str =
        "a098808004220d4c61766335392e33372e313030de02004c61766335392e33372e31303000425488db6d198bb1633c6b";
    /// HE-AAC v2 at 48 kHz in the backward compatible way, as FDK-AAC signals it.
    const HE_V2: &str = "130856e59d4880";

    #[test]
    fn configs_of_encoders() {
        let lc = |rate, channels| (rate, channels, "LC", "mp4a.40.2".to_owned());
        assert_eq!(facts(LC_STEREO), lc(44_100, 2));
        assert_eq!(facts("1210"), lc(44_100, 2));
        assert_eq!(facts(LC_5_1), lc(48_000, 6));
        assert_eq!(facts(LC_7_1), lc(48_000, 8));
        assert_eq!(facts(LC_QUAD), lc(48_000, 4));
        assert_eq!(facts("178001f410"), lc(1000, 2)); // the rate in full
        assert_eq!(facts(HE_V2), (48_000, 2, "HE-AAC v2", "mp4a.40.29".to_owned()));
        assert_eq!(facts("131056e598"), (48_000, 2, "HE-AAC", "mp4a.40.5".to_owned()));
        // Hierarchical: SBR 24000 to 48000, PS 22050 to 44100.
        assert_eq!(facts("2b118800"), (48_000, 2, "HE-AAC", "mp4a.40.5".to_owned()));
        assert_eq!(facts("eb8a1000"), (44_100, 2, "HE-AAC v2", "mp4a.40.29".to_owned()));
        // Garbage after the config is passed over.
        assert_eq!(facts("1210ffffffff"), lc(44_100, 2));
    }

    #[test]
    fn samples_of_a_packet() {
        let read = |config: &str| {
            let c = AudioSpecificConfig::parse(&hex(config)).unwrap();
            (c.frame_samples, c.output_samples())
        };
        assert_eq!(read(LC_STEREO), (1024, 1024));
        assert_eq!(read("1214"), (960, 960));
        assert_eq!(read(HE_V2), (1024, 2048));
    }

    #[test]
    fn built_configs_read_the_same() {
        for config in
            [LC_STEREO, LC_5_1, LC_7_1, LC_QUAD, HE_V2, "2b118800", "1214", "178001f410", "f94850f0"]
        {
            let parsed = AudioSpecificConfig::parse(&hex(config)).unwrap();
            assert_eq!(AudioSpecificConfig::parse(&parsed.build()).unwrap(), parsed, "{config}");
        }
        assert_eq!(AudioSpecificConfig::lc(44_100, 2).unwrap().build(), hex("1210"));
        assert_eq!(AudioSpecificConfig::lc(48_000, 8).unwrap().build(), hex("11b8"));
        assert!(AudioSpecificConfig::lc(48_000, 7).is_err());
    }

    #[test]
    fn adts_of_ffmpeg() {
        let header = hex("fff150802b3ffc");
        let adts = Adts::parse(&header).unwrap();
        let want = Adts {
            object_type: 2,
            sample_rate: 44_100,
            channel_config: 2,
            header_len: 7,
            frame_len: 345,
            blocks: 1,
        };
        assert_eq!(adts, want);
        let config = adts.config(&[]).unwrap();
        assert_eq!(config.build(), hex("1210"));
        assert_eq!(config.adts(345 - 7).unwrap(), *header);
        // HE-AAC goes out as its core.
        let he = AudioSpecificConfig::parse(&hex(HE_V2)).unwrap();
        let core = Adts::parse(&he.adts(100).unwrap()).unwrap();
        assert_eq!((core.object_type, core.sample_rate, core.channel_config), (2, 24_000, 1));
    }

    #[test]
    fn a_layout_without_number_travels_in_the_packet() {
        let config = AudioSpecificConfig::parse(&hex(LC_QUAD)).unwrap();
        let adts = Adts::parse(&hex(QUAD_ADTS)).unwrap();
        let from_packet = adts.config(&hex(QUAD_PACKET)).unwrap();
        assert_eq!((from_packet.channels, &from_packet.pce), (4, &config.pce));
        assert!(adts.config(&hex("de02")).is_err());

        let header = config.adts(100).unwrap();
        let adts = Adts::parse(&header).unwrap();
        assert_eq!(adts.frame_len, header.len() + 100);
        assert_eq!(adts.config(&header[7..]).unwrap().pce, config.pce);
    }

    #[test]
    fn what_has_no_adts_form() {
        let lc = AudioSpecificConfig::lc(48_000, 2).unwrap();
        assert!(lc.adts(8191 - 7).is_ok());
        assert!(lc.adts(8191 - 6).is_err());
        assert!(lc.adts(usize::MAX).is_err());
        assert!(AudioSpecificConfig { sample_rate: 1000, ..lc.clone() }.adts(1).is_err());
        assert!(AudioSpecificConfig { channel_config: 11, ..lc.clone() }.adts(1).is_err());
        assert!(AudioSpecificConfig { object_type: 42, ..lc }.adts(1).is_err());
    }

    #[test]
    fn what_is_forbidden_is_an_error() {
        for config in ["", "12", "0210", "1690", "1250", "2b17", "1780000010"] {
            assert!(AudioSpecificConfig::parse(&hex(config)).is_err(), "{config}");
        }
        for header in ["fff150802b3f", "ffe150802b3ffc", "fff350802b3ffc", "fff174802b3ffc", "fff15080001ffc"]
        {
            assert!(Adts::parse(&hex(header)).is_err(), "{header}");
        }
    }

    #[test]
    fn the_largest_pce_fits() {
        let data = [&[0x10, 0x00][..], &[0xFF; 120], &[0; 300]].concat();
        let config = AudioSpecificConfig::parse(&data);
        if let Ok(config) = config {
            assert!(config.adts(1).is_ok());
        }
        let pce = Pce { channels: 93, fields: vec![(0, 8); 48] };
        let config = AudioSpecificConfig {
            channel_config: 0,
            pce: Some(pce),
            ..AudioSpecificConfig::lc(8000, 1).unwrap()
        };
        assert!(config.adts(1).is_ok());
    }

    #[test]
    fn cut_and_changed_bytes_do_not_panic() {
        for config in [LC_STEREO, LC_QUAD, HE_V2, "2b118800"] {
            truncations(&hex(config)).for_each(|d| drop(AudioSpecificConfig::parse(d)));
            mutations(&hex(config)).for_each(|d| {
                if let Ok(config) = AudioSpecificConfig::parse(&d) {
                    let _ = (config.facts(), config.adts(10), config.build());
                }
            });
        }
        mutations(&hex(QUAD_PACKET)).for_each(|d| drop(Adts::parse(&hex(QUAD_ADTS)).unwrap().config(&d)));
    }

    proptest! {
        #[test]
        fn any_bytes(data: Vec<u8>) {
            if let Ok(config) = AudioSpecificConfig::parse(&data) {
                prop_assert_eq!(AudioSpecificConfig::parse(&config.build()).map(|c| c.facts()), Ok(config.facts()));
                let _ = config.adts(data.len());
            }
            if let Ok(adts) = Adts::parse(&[&[0xFF, 0xF1], &*data].concat()) {
                let _ = adts.config(&data);
            }
        }
    }
}
