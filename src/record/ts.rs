//! MPEG-TS: written in place, plays at any time.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::time::Duration;

use bytes::BytesMut;

use super::ident::Ident;
use super::output::Output;
use super::writer::{Beat, Contents, Writer};
use crate::format::mpegts::{MuxOptions, Muxer, PACKET};
use crate::media::{Frame, Track};

/// Where the line of [`Ident`] begins.
const LINE_AT: u64 = 4;

/// A transport stream file.
#[derive(Debug)]
pub(super) struct TsFile {
    muxer: Muxer,
    tracks: Vec<Track>,
    buffer: BytesMut,
    beat: Beat,
    told: bool,
}

impl TsFile {
    pub(super) fn begin(contents: &Contents<'_>, out: &mut Output) -> io::Result<Self> {
        out.put(&contents.ident.packets())?;
        let gather = Duration::from_millis(100);
        let mut muxer = Muxer::new(&MuxOptions { gather, ..MuxOptions::default() });
        muxer.set_tracks(contents.tracks);
        let (tracks, beat) = (contents.tracks.to_vec(), Beat::new(contents.fragment_ms));
        Ok(Self { muxer, tracks, buffer: BytesMut::new(), beat, told: false })
    }

    fn write(&mut self, out: &mut Output) -> io::Result<()> {
        let written = out.put(&self.buffer);
        self.buffer.clear();
        written
    }
}

impl Writer for TsFile {
    fn frame(&mut self, frame: &Frame, out: &mut Output) -> io::Result<bool> {
        let Some(track) = self.tracks.iter().find(|track| track.id == frame.track) else { return Ok(false) };
        let due = self.beat.due(track.ticks_to_ms(frame.dts));
        if let Err(error) = self.muxer.frame(frame, &mut self.buffer)
            && !std::mem::replace(&mut self.told, true)
        {
            log::warn!("{}: a frame is left out: {error}", out.path().display());
        }
        self.write(out)?;
        Ok(due)
    }

    fn retrack(&mut self, tracks: &[Track], _: &mut Output) -> io::Result<bool> {
        self.muxer.set_tracks(tracks);
        self.tracks = tracks.to_vec();
        Ok(true)
    }

    fn finish(&mut self, duration_ms: i64, limit: Option<u64>, out: &mut Output) -> io::Result<()> {
        if limit.is_none() {
            self.muxer.flush(&mut self.buffer);
            self.write(out)?;
        }
        let (at, digits) = Ident::duration_patch(duration_ms);
        out.patch(LINE_AT + at, &digits)
    }
}

/// Where a frame begins in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first byte of its packets, or of the tables right before them.
    pub(super) at: u64,
    /// Its decoding time, in ticks of 90 kHz of the file's times. Does not wrap.
    pub(super) ticks: i64,
    pub(super) video: bool,
    /// Whether tables stand before it and a decoder can start there.
    pub(super) join: bool,
}

/// What the muxer adds to times.
pub(super) const DELAY: i64 = 45_000;

/// Finds the frames in the first `limit` bytes of one of our files. Where its last whole packet ends.
pub(super) fn scan(file: &File, limit: u64, each: &mut dyn FnMut(Mark)) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    reader.seek(io::SeekFrom::Start(0))?;
    let (mut at, mut tables, mut last) = (0, None, None);
    let mut packet = [0; PACKET];
    while limit.saturating_sub(at) >= PACKET as u64 {
        reader.read_exact(&mut packet)?;
        let [0x47, b1, b2, b3, rest @ ..] = &packet else { break };
        let (pid, starts) = (u16::from_be_bytes([b1 & 0x1F, *b2]), b1 & 0x40 != 0);
        let adaptation = b3 & 0x20 != 0;
        let [len, flags, ..] = rest;
        let random = adaptation && *len > 0 && flags & 0x40 != 0;
        let payload = rest.get(if adaptation { usize::from(*len) + 1 } else { 0 }..).unwrap_or_default();
        if pid == 0 && starts {
            tables.get_or_insert(at);
        } else if starts
            && b3 & 0x10 != 0
            && let [0, 0, 1, id, _, _, _, times, _, pts @ ..] = payload
            && times & 0x80 != 0
        {
            let dts = if times & 0x40 != 0 { pts.get(5..).unwrap_or_default() } else { pts };
            if let [a, b, c, d, e, ..] = dts {
                let bits = |byte: &u8, mask: u8, shift: u32| i64::from(byte & mask) << shift;
                let wire = bits(a, 0x0E, 29)
                    | bits(b, 0xFF, 22)
                    | bits(c, 0xFE, 14)
                    | bits(d, 0xFF, 7)
                    | bits(e, 0xFE, 0) >> 1;
                let ticks = match last {
                    // The nearest time with these 33 bits.
                    Some(last) => {
                        let step = (wire - last) & 0x1_FFFF_FFFF;
                        last + if step > 0xFFFF_FFFF { step - 0x2_0000_0000 } else { step }
                    }
                    None => wire,
                };
                last = Some(ticks);
                let video = *id == 0xE0;
                // Sound that was held back stands between the tables and a key frame.
                let first = if video || random { tables.take() } else { None };
                each(Mark {
                    at: first.unwrap_or(at),
                    ticks: ticks - DELAY,
                    video,
                    join: first.is_some() && random,
                });
            }
        }
        at += PACKET as u64;
    }
    Ok(at)
}

/// Mends a file that was not closed: cuts off the frame at its end, which may not be whole. Its duration, or `None` if there
/// is nothing in it.
pub(super) fn recover(file: &File, len: u64) -> io::Result<Option<i64>> {
    let (mut cut, mut first, mut last, mut has_video) = (None, None, 0, false);
    scan(file, len, &mut |mark| {
        has_video |= mark.video;
        if mark.video || !has_video {
            cut = first.map(|_| mark.at);
            last = mark.ticks;
        }
        first.get_or_insert(mark.ticks);
    })?;
    let (Some(cut), Some(first)) = (cut, first) else { return Ok(None) };
    file.set_len(cut)?;
    Ok(Some((last - first).max(0) / 90))
}
