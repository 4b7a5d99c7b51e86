//! What a publisher sends: its transport stream as it is for those who take that, its frames for all.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::format::mpegts::{Aligner, Counters, Demuxer, Event};
use crate::hub::{Ended, Publisher};
use crate::id::SessionId;
use crate::media::nal::nals;
use crate::media::{Codec, Frame};

/// Tracks of a publisher that are logged, changes included.
const MAX_TOLD: u32 = 20;

/// Puts a publisher's transport stream into the hub.
pub(super) struct Sink {
    publisher: Publisher,
    aligner: Aligner,
    demuxer: Demuxer,
    id: SessionId,
    pass: bool,
    sei_filter: bool,
    /// Codecs of tracks by their ids, to know whose NAL units are to be left out.
    codecs: heapless::Vec<(u8, Codec), 16>,
    told: u32,
    received: u64,
}

impl Sink {
    /// `pass`: readers of transport streams get what comes; `sei_filter`: frames come without SEI.
    pub(super) fn new(publisher: Publisher, id: SessionId, pass: bool, sei_filter: bool) -> Self {
        let demuxer = Demuxer::new(None);
        let (aligner, codecs) = (Aligner::default(), heapless::Vec::new());
        Self { publisher, aligner, demuxer, id, pass, sei_filter, codecs, told: 0, received: 0 }
    }

    /// Takes payloads in their order.
    pub(super) fn push(&mut self, mut payloads: Vec<Bytes>, now: Instant) -> Result<(), Ended> {
        self.received += payloads.iter().map(|payload| payload.len() as u64).sum::<u64>();
        // Players begin where a packet begins, however the publisher cuts them.
        payloads.iter_mut().for_each(|payload| *payload = self.aligner.push(payload));
        payloads.retain(|payload| !payload.is_empty());
        if payloads.is_empty() {
            return Ok(());
        }
        let mark = if self.pass { Some(self.publisher.pass(payloads.clone(), now)?) } else { None };
        for payload in payloads {
            self.demux(Some(&payload), mark, now)?;
        }
        if let Some(tables) = self.demuxer.take_tables().filter(|_| self.pass) {
            self.publisher.set_tables(tables)?;
        }
        Ok(())
    }

    /// Bytes that came.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// What was found in them.
    pub(super) fn counters(&self) -> Counters {
        self.demuxer.counters()
    }

    /// Completes when the publisher may not go on.
    pub(super) async fn ended(&self) -> Ended {
        self.publisher.ended().await
    }

    /// The end: gives the frames that nothing came after.
    pub(super) fn finish(mut self, now: Instant) {
        let mark = self.pass.then_some(u64::MAX);
        let _ = self.demux(None, mark, now);
    }

    fn demux(&mut self, data: Option<&[u8]>, mark: Option<u64>, now: Instant) -> Result<(), Ended> {
        let Self { publisher, demuxer, codecs, .. } = self;
        let mut result = Ok(());
        let mut begins = mark;
        let mut each = |event| {
            if result.is_err() {
                return;
            }
            result = match event {
                Event::Begins(mark) => {
                    begins = Some(mark);
                    Ok(())
                }
                Event::Frame(frame) => {
                    let frame = if self.sei_filter { without_sei(codecs, frame) } else { frame };
                    match begins {
                        Some(begins) => publisher.passed_frame(frame, begins, now),
                        None => publisher.frame(frame, now),
                    }
                }
                Event::Track(track) => {
                    self.told += 1;
                    if self.told <= MAX_TOLD {
                        log::info!(session:% = self.id; "track {}: {}", track.id.0, track.codec);
                    }
                    codecs.retain(|(id, _)| *id != track.id.0);
                    let _ = codecs.push((track.id.0, track.codec));
                    publisher.set_track(track)
                }
            };
        };
        match (data, mark) {
            (Some(data), Some(mark)) => demuxer.push_marked(data, mark, &mut each),
            (Some(data), None) => demuxer.push(data, &mut each),
            (None, _) => demuxer.finish(&mut each),
        }
        result
    }
}

/// The frame without its supplemental enhancement information.
fn without_sei(codecs: &[(u8, Codec)], frame: Frame) -> Frame {
    let codec = codecs.iter().find(|(id, _)| *id == frame.track.0).map(|(_, codec)| *codec);
    let is_sei = |nal: &[u8]| match (codec, nal.first()) {
        (Some(Codec::H264), Some(head)) => head & 0x1F == 6,
        (Some(Codec::H265), Some(head)) => matches!(head >> 1 & 0x3F, 39 | 40),
        _ => false,
    };
    if !codec.is_some_and(Codec::has_nals) || !nals(&frame.data).any(is_sei) {
        return frame;
    }
    let mut data = BytesMut::with_capacity(frame.data.len());
    for nal in nals(&frame.data).filter(|nal| !is_sei(nal)) {
        let Ok(len) = u32::try_from(nal.len()) else { return frame };
        data.extend_from_slice(&len.to_be_bytes());
        data.extend_from_slice(nal);
    }
    if data.is_empty() { frame } else { Frame { data: data.freeze(), ..frame } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Flags, TrackId};

    #[test]
    fn sei_is_left_out_of_what_has_it() {
        let frame = |data: &'static [u8]| Frame {
            track: TrackId(3),
            flags: Flags::KEY,
            dts: 0,
            cts: 0,
            wall_ms: None,
            data: Bytes::from_static(data),
        };
        let data = b"\0\0\0\x02\x06x\0\0\0\x03\x65yz\0\0\0\x01\x06";
        let filtered = |codec| without_sei(&[(3, codec)], frame(data)).data;
        assert_eq!(filtered(Codec::H264), b"\0\0\0\x03\x65yz"[..]);
        assert_eq!(filtered(Codec::H265), data[..]);
        assert_eq!(filtered(Codec::Klv), data[..]);
        assert_eq!(without_sei(&[], frame(data)).data, data[..]);
        let only = b"\0\0\0\x02\x4Ex";
        assert_eq!(without_sei(&[(3, Codec::H265)], frame(only)).data, only[..], "something has to be left");
    }
}
