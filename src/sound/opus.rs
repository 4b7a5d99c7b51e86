//! Opus by libopus, built to compute with integers.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use opusic_sys as lib;

use super::{Pcm, RATE, Result, SoundError};
use crate::media::Codec;
use crate::media::opus::OpusHead;

/// Samples of each channel in what we encode: 20 ms.
pub(super) const FRAME: usize = 960;
/// The most samples of each channel in a packet: 120 ms.
pub(super) const MAX_FRAME: usize = 5760;
/// The shortest that can be made up: 2.5 ms, and whole multiples of it.
pub(super) const STEP: usize = 120;
/// The longest packet that we make: RTP can't cut it, so that it has to fit a datagram.
const MAX_PACKET: usize = 1150;
/// Of what we decode: 48 frames of 1275 bytes, in some streams.
const MAX_INPUT: usize = 1 << 16;
/// How hard the encoder searches, 0 to 10. Small boards have no time for more.
const COMPLEXITY: c_int = if cfg!(target_pointer_width = "64") { 6 } else { 2 };

fn failed(what: &'static str, code: c_int) -> SoundError {
    SoundError::Library { library: "libopus", what, code: code.into() }
}

/// One stream of mono or stereo, or several with more channels.
#[derive(Debug)]
enum Handle {
    Plain(NonNull<lib::OpusDecoder>),
    Many(NonNull<lib::OpusMSDecoder>),
}

/// Decodes at 48 kHz.
#[derive(Debug)]
pub(super) struct Decoder {
    handle: Handle,
    channels: u8,
    buffer: Box<[i16]>,
}

// SAFETY: the library keeps nothing per thread and has no state outside of the instance, which only `self` refers to.
unsafe impl Send for Decoder {}
// SAFETY: by a shared reference only our own numbers are read; whatever calls the library takes an exclusive one.
unsafe impl Sync for Decoder {}

impl Decoder {
    /// Of this header. Of more than eight channels none are known where they stand.
    pub(super) fn new(head: &OpusHead) -> Result<Self> {
        let channels = c_int::from(head.channels);
        let mut code = 0;
        let handle = match &head.mapping {
            None => {
                // SAFETY: `code` is where the reason is put; gives an instance, or null.
                let decoder = unsafe { lib::opus_decoder_create(RATE as i32, channels, &raw mut code) };
                NonNull::new(decoder).map(Handle::Plain)
            }
            Some(map) if head.channels <= 8 && map.channels.len() == usize::from(head.channels) => {
                // SAFETY: it reads as many bytes of the map as there are channels, which was compared; else as above.
                let decoder = unsafe {
                    lib::opus_multistream_decoder_create(
                        RATE as i32,
                        channels,
                        map.streams.into(),
                        map.coupled.into(),
                        map.channels.as_ptr(),
                        &raw mut code,
                    )
                };
                NonNull::new(decoder).map(Handle::Many)
            }
            Some(_) => None,
        };
        let handle = handle.ok_or(failed("open a decoder", code))?;
        // SAFETY: `handle` is an instance; this setting takes one number.
        unsafe {
            let gain = c_int::from(head.gain);
            match handle {
                Handle::Plain(handle) => {
                    lib::opus_decoder_ctl(handle.as_ptr(), lib::OPUS_SET_GAIN_REQUEST, gain)
                }
                Handle::Many(handle) => {
                    lib::opus_multistream_decoder_ctl(handle.as_ptr(), lib::OPUS_SET_GAIN_REQUEST, gain)
                }
            };
        }
        let buffer = vec![0; MAX_FRAME * usize::from(head.channels)].into();
        Ok(Self { handle, channels: head.channels, buffer })
    }

    /// What a packet holds.
    pub(super) fn decode(&mut self, packet: &[u8], pcm: &mut Pcm) -> Result<()> {
        if packet.is_empty() {
            return Err(SoundError::Packet(Codec::Opus));
        }
        self.run(Some(packet), MAX_FRAME, false, pcm)
    }

    /// Makes up what is missing: `len` samples, rounded down to a multiple of [`STEP`], at most [`MAX_FRAME`]. With the packet
    /// that follows: from what that tells of the one before it.
    pub(super) fn conceal(&mut self, len: usize, next: Option<&[u8]>, pcm: &mut Pcm) -> Result<()> {
        let len = (len / STEP * STEP).clamp(STEP, MAX_FRAME);
        self.run(next, len, next.is_some(), pcm)
    }

    fn run(&mut self, packet: Option<&[u8]>, len: usize, before: bool, pcm: &mut Pcm) -> Result<()> {
        let (data, bytes) = packet.map_or((ptr::null(), 0), |packet| (packet.as_ptr(), packet.len()));
        let damaged = SoundError::Packet(Codec::Opus);
        if bytes > MAX_INPUT {
            return Err(damaged);
        }
        let (bytes, len) = (bytes as i32, len.min(MAX_FRAME) as c_int);
        let out = self.buffer.as_mut_ptr();
        // SAFETY: the handle is an instance; it reads `bytes` bytes of the packet (of null: none) and writes at most `len`
        // samples of each channel, for which there is room: `len` is at most MAX_FRAME.
        let count = unsafe {
            match self.handle {
                Handle::Plain(handle) => {
                    lib::opus_decode(handle.as_ptr(), data, bytes, out, len, before.into())
                }
                Handle::Many(handle) => {
                    lib::opus_multistream_decode(handle.as_ptr(), data, bytes, out, len, before.into())
                }
            }
        };
        let count = usize::try_from(count).map_err(|_| damaged.clone())?;
        let samples = self.buffer.get(..count * usize::from(self.channels)).ok_or(damaged)?;
        pcm.set(RATE, self.channels, samples);
        Ok(())
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the handle is an instance that nothing uses afterwards.
        unsafe {
            match self.handle {
                Handle::Plain(handle) => lib::opus_decoder_destroy(handle.as_ptr()),
                Handle::Many(handle) => lib::opus_multistream_decoder_destroy(handle.as_ptr()),
            }
        }
    }
}

/// Encodes 48 kHz.
#[derive(Debug)]
pub(super) struct Encoder {
    handle: NonNull<lib::OpusEncoder>,
    channels: u8,
    delay: u32,
}

// SAFETY: as for the decoder.
unsafe impl Send for Encoder {}
// SAFETY: by a shared reference only our own numbers are read; whatever calls the library takes an exclusive one.
unsafe impl Sync for Encoder {}

impl Encoder {
    /// Of 1 or 2 channels and about `bitrate` bits per second.
    pub(super) fn new(channels: u8, bitrate: u32) -> Result<Self> {
        let mut code = 0;
        // SAFETY: `code` is where the reason is put; gives an instance, or null.
        let handle = unsafe {
            lib::opus_encoder_create(RATE as i32, channels.into(), lib::OPUS_APPLICATION_AUDIO, &raw mut code)
        };
        let handle = NonNull::new(handle).ok_or(failed("open an encoder", code))?;
        let mut encoder = Self { handle, channels, delay: 0 };
        let settings = [
            (lib::OPUS_SET_BITRATE_REQUEST, bitrate.clamp(6000, 510_000) as c_int),
            (lib::OPUS_SET_COMPLEXITY_REQUEST, COMPLEXITY),
        ];
        for (request, value) in settings {
            // SAFETY: `handle` is an instance; these settings take one number.
            let code = unsafe { lib::opus_encoder_ctl(encoder.handle.as_ptr(), request, value) };
            if code != 0 {
                return Err(failed("take a setting", code));
            }
        }
        let mut delay: c_int = 0;
        // SAFETY: `handle` is an instance; this request writes one number.
        unsafe {
            lib::opus_encoder_ctl(encoder.handle.as_ptr(), lib::OPUS_GET_LOOKAHEAD_REQUEST, &raw mut delay)
        };
        encoder.delay = u32::try_from(delay).unwrap_or(0);
        Ok(encoder)
    }

    /// How many samples a packet begins before what was put in for it.
    pub(super) fn delay(&self) -> u32 {
        self.delay
    }

    /// The packet of [`FRAME`] samples a channel.
    pub(super) fn encode(&mut self, samples: &[i16]) -> Result<Vec<u8>> {
        if samples.len() != FRAME * usize::from(self.channels) {
            return Err(failed("encode part of a packet", 0));
        }
        let mut packet = vec![0_u8; MAX_PACKET];
        // SAFETY: `handle` is an instance; it reads FRAME samples of each channel, which are there, and writes at most as many
        // bytes as there is room for.
        let len = unsafe {
            lib::opus_encode(
                self.handle.as_ptr(),
                samples.as_ptr(),
                FRAME as c_int,
                packet.as_mut_ptr(),
                MAX_PACKET as i32,
            )
        };
        packet.truncate(usize::try_from(len).map_err(|_| failed("encode", len))?);
        packet.shrink_to_fit();
        Ok(packet)
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: `handle` is an instance that nothing uses afterwards.
        unsafe { lib::opus_encoder_destroy(self.handle.as_ptr()) }
    }
}
