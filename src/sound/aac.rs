//! AAC by the library of Fraunhofer (fdk-aac): integers only, decodes LC, HE and HE v2, encodes LC.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use fdk_aac_sys as fdk;

use super::{Pcm, RATE, Result, SoundError};
use crate::media::Codec;

/// Samples of each channel in what we encode.
pub(super) const FRAME: usize = 1024;
/// The longest packet of AAC: 6144 bits a channel, 8 channels.
const MAX_PACKET: usize = 6144;
/// The most samples of a packet: of HE-AAC, eight channels.
const MAX_SAMPLES: usize = 2048 * 8;
/// The most bits per second of one channel: 6144 a frame.
const MAX_BITRATE: u32 = 6 * RATE;

fn failed(what: &'static str, code: u32) -> SoundError {
    SoundError::Library { library: "fdk-aac", what, code: code.into() }
}

fn check(what: &'static str, code: u32) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(failed(what, code)) }
}

/// Decodes to one or two channels.
#[derive(Debug)]
pub(super) struct Decoder {
    handle: NonNull<fdk::AAC_DECODER_INSTANCE>,
    /// What the library writes to.
    buffer: Box<[i16]>,
    /// Samples that come out later than they went in.
    delay: u32,
}

// SAFETY: the library keeps nothing per thread and has no state outside of the instance, which only `self` refers to.
unsafe impl Send for Decoder {}
// SAFETY: by a shared reference only our own numbers are read; whatever calls the library takes an exclusive one.
unsafe impl Sync for Decoder {}

impl Decoder {
    /// Of this AudioSpecificConfig.
    pub(super) fn new(config: &[u8]) -> Result<Self> {
        // SAFETY: takes no pointers; gives an instance, or null.
        let handle = unsafe { fdk::aacDecoder_Open(fdk::TRANSPORT_TYPE_TT_MP4_RAW, 1) };
        let handle = NonNull::new(handle).ok_or(failed("open a decoder", 0))?;
        let decoder = Self { handle, buffer: vec![0; MAX_SAMPLES].into(), delay: 0 };
        let settings = [
            (fdk::AACDEC_PARAM_AAC_PCM_MAX_OUTPUT_CHANNELS, 2),
            // It would hold sound back for 15 ms.
            (fdk::AACDEC_PARAM_AAC_PCM_LIMITER_ENABLE, 0),
            // What is lost becomes noise of its loudness: the other ways hold a packet back.
            (fdk::AACDEC_PARAM_AAC_CONCEAL_METHOD, 1),
        ];
        for (parameter, value) in settings {
            // SAFETY: `handle` is an instance, and takes a number by value.
            check("take a setting", unsafe {
                fdk::aacDecoder_SetParam(decoder.handle.as_ptr(), parameter, value)
            })?;
        }
        let mut config = config.to_vec();
        let len = u32::try_from(config.len()).unwrap_or(0);
        let mut pointer = config.as_mut_ptr();
        // SAFETY: `handle` is an instance; it reads `len` bytes of `config`, which lives until it returns, and copies them.
        check("read the stream's config", unsafe {
            fdk::aacDecoder_ConfigRaw(decoder.handle.as_ptr(), &raw mut pointer, &raw const len)
        })?;
        Ok(decoder)
    }

    /// What one packet holds. Of one that is damaged in part, too.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Pcm) -> Result<()> {
        if packet.is_empty() || packet.len() > MAX_PACKET {
            return Err(SoundError::Packet(Codec::Aac));
        }
        let len = packet.len() as u32;
        let mut left = len;
        let mut pointer = packet.as_ptr().cast_mut();
        // SAFETY: `handle` is an instance; it only reads (whatever the type says) `len` bytes of `packet`, copies them into
        // memory of its own and tells in `left` how many it did not take.
        let code = unsafe {
            fdk::aacDecoder_Fill(self.handle.as_ptr(), &raw mut pointer, &raw const len, &raw mut left)
        };
        if code != 0 || left != 0 {
            return Err(SoundError::Packet(Codec::Aac));
        }
        self.take(0, pcm)
    }

    /// What may have been in a packet that is missing.
    pub(super) fn conceal(&mut self, pcm: &mut Pcm) -> Result<()> {
        self.take(fdk::AACDEC_CONCEAL, pcm)
    }

    /// Samples of the output rate by which sound is late.
    pub(super) fn delay(&self) -> u32 {
        self.delay
    }

    fn take(&mut self, flags: u32, pcm: &mut Pcm) -> Result<()> {
        // SAFETY: `handle` is an instance; it writes no more than as many samples as it is told there is room for.
        let code = unsafe {
            let room = self.buffer.len() as i32;
            fdk::aacDecoder_DecodeFrame(self.handle.as_ptr(), self.buffer.as_mut_ptr(), room, flags)
        };
        let damaged = fdk::AAC_DECODER_ERROR_aac_dec_decode_error_start
            ..=fdk::AAC_DECODER_ERROR_aac_dec_decode_error_end;
        if code != 0 && !damaged.contains(&code) {
            return Err(SoundError::Packet(Codec::Aac));
        }
        // SAFETY: gives a pointer into the instance, which lives and is not used by others; the numbers are copied.
        let info = unsafe { fdk::aacDecoder_GetStreamInfo(self.handle.as_ptr()).as_ref() };
        let Some(info) = info else { return Err(SoundError::Packet(Codec::Aac)) };
        let (Ok(rate), Ok(channels @ 1..=2), Ok(len)) =
            (u32::try_from(info.sampleRate), u8::try_from(info.numChannels), usize::try_from(info.frameSize))
        else {
            return Err(SoundError::Packet(Codec::Aac));
        };
        self.delay = info.outputDelay;
        match self.buffer.get(..len.saturating_mul(channels.into())) {
            Some(samples) if !samples.is_empty() && rate > 0 => {
                pcm.set(rate, channels, samples);
                Ok(())
            }
            _ => Err(SoundError::Packet(Codec::Aac)),
        }
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: `handle` is an instance that nothing uses afterwards.
        unsafe { fdk::aacDecoder_Close(self.handle.as_ptr()) }
    }
}

/// Encodes 48 kHz as AAC-LC.
#[derive(Debug)]
pub(super) struct Encoder {
    handle: NonNull<fdk::AACENCODER>,
    channels: u8,
    config: Vec<u8>,
    delay: u32,
}

// SAFETY: as for the decoder.
unsafe impl Send for Encoder {}
// SAFETY: by a shared reference only our own numbers are read; whatever calls the library takes an exclusive one.
unsafe impl Sync for Encoder {}

impl Encoder {
    /// Of 1 or 2 channels and about `bitrate` bits per second.
    pub(super) fn new(channels: u8, bitrate: u32) -> Result<Self> {
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` is where the new instance is put; 1 stands for AAC without its extensions.
        check("open an encoder", unsafe { fdk::aacEncOpen(&raw mut handle, 1, channels.into()) })?;
        let handle = NonNull::new(handle).ok_or(failed("open an encoder", 0))?;
        let mut encoder = Self { handle, channels, config: Vec::new(), delay: 0 };
        let bitrate = bitrate.clamp(8000 * u32::from(channels), MAX_BITRATE * u32::from(channels));
        // The better search costs a third more, which small boards don't have.
        let afterburner = u32::from(cfg!(target_pointer_width = "64"));
        let settings = [
            (fdk::AACENC_PARAM_AACENC_AOT, 2),
            (fdk::AACENC_PARAM_AACENC_SAMPLERATE, RATE),
            (fdk::AACENC_PARAM_AACENC_CHANNELMODE, channels.into()),
            (fdk::AACENC_PARAM_AACENC_BITRATE, bitrate),
            (fdk::AACENC_PARAM_AACENC_TRANSMUX, 0),
            (fdk::AACENC_PARAM_AACENC_AFTERBURNER, afterburner),
        ];
        for (parameter, value) in settings {
            // SAFETY: `handle` is an instance, and takes a number by value.
            check("take a setting", unsafe {
                fdk::aacEncoder_SetParam(encoder.handle.as_ptr(), parameter, value)
            })?;
        }
        // SAFETY: `handle` is an instance; without buffers it only makes itself ready.
        check("take the settings", unsafe {
            fdk::aacEncEncode(encoder.handle.as_ptr(), ptr::null(), ptr::null(), ptr::null(), ptr::null_mut())
        })?;
        // SAFETY: numbers and bytes, for which zeros are values.
        let mut info: fdk::AACENC_InfoStruct = unsafe { std::mem::zeroed() };
        // SAFETY: `handle` is an instance, and fills in `info`.
        check("tell its config", unsafe { fdk::aacEncInfo(encoder.handle.as_ptr(), &raw mut info) })?;
        if info.frameLength as usize != FRAME {
            return Err(failed("make packets of 1024 samples", info.frameLength));
        }
        encoder.config = info.confBuf.get(..info.confSize as usize).unwrap_or_default().to_vec();
        encoder.delay = info.nDelay;
        Ok(encoder)
    }

    /// The AudioSpecificConfig.
    pub(super) fn config(&self) -> &[u8] {
        &self.config
    }

    /// How many samples a packet begins before what was put in for it.
    pub(super) fn delay(&self) -> u32 {
        self.delay
    }

    /// The packet of [`FRAME`] samples a channel; empty if it has none yet.
    pub(super) fn encode(&mut self, samples: &[i16]) -> Result<Vec<u8>> {
        if samples.len() != FRAME * usize::from(self.channels) {
            return Err(failed("encode part of a packet", 0));
        }
        let mut packet = vec![0_u8; 2048];
        let mut input = samples.as_ptr().cast_mut().cast::<c_void>();
        let (mut input_is, mut input_len, mut input_each) =
            (fdk::AACENC_BufferIdentifier_IN_AUDIO_DATA as i32, size_of_val(samples) as i32, 2);
        let from = fdk::AACENC_BufDesc {
            numBufs: 1,
            bufs: &raw mut input,
            bufferIdentifiers: &raw mut input_is,
            bufSizes: &raw mut input_len,
            bufElSizes: &raw mut input_each,
        };
        let mut output = packet.as_mut_ptr().cast::<c_void>();
        let (mut output_is, mut output_len, mut output_each) =
            (fdk::AACENC_BufferIdentifier_OUT_BITSTREAM_DATA as i32, packet.len() as i32, 1);
        let to = fdk::AACENC_BufDesc {
            numBufs: 1,
            bufs: &raw mut output,
            bufferIdentifiers: &raw mut output_is,
            bufSizes: &raw mut output_len,
            bufElSizes: &raw mut output_each,
        };
        let args = fdk::AACENC_InArgs { numInSamples: samples.len() as i32, numAncBytes: 0 };
        // SAFETY: numbers, for which zeros are values.
        let mut told: fdk::AACENC_OutArgs = unsafe { std::mem::zeroed() };
        // SAFETY: `handle` is an instance; it only reads `samples`, as many as `args` says, writes to `packet` what
        // `output_len` says there is room for, and all that the descriptions point to lives until it returns.
        let code = unsafe {
            fdk::aacEncEncode(
                self.handle.as_ptr(),
                &raw const from,
                &raw const to,
                &raw const args,
                &raw mut told,
            )
        };
        check("encode", code)?;
        packet.truncate(usize::try_from(told.numOutBytes).unwrap_or(0));
        Ok(packet)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let mut handle = self.handle.as_ptr();
        // SAFETY: `handle` is an instance that nothing uses afterwards. It has nothing to say that would help here.
        let _ = unsafe { fdk::aacEncClose(&raw mut handle) };
    }
}
