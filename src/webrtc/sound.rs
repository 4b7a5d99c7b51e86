//! Sound across the border: Opus for players of what came by other protocols, AAC for players by other protocols of what came
//! by WebRTC. One transcoder for all who need it; a build without them (feature `transcode-audio`) gives sound as it came.

#[cfg(feature = "transcode-audio")]
mod made {
    use crate::media::{Codec, Frame, Track, TrackId};
    use crate::sound::{self, Target, Transcoder};

    /// What is made of one track.
    #[derive(Default)]
    pub(in crate::webrtc) struct Sound {
        source: Option<Source>,
        out: Vec<Frame>,
        /// That it can't be done was said.
        told: bool,
    }

    struct Source {
        track: Track,
        target: Target,
        /// What comes out.
        made: Track,
        /// `None` while nobody needs it.
        transcoder: Option<Transcoder>,
    }

    impl Sound {
        /// Makes `to` (AAC or Opus) of `track` from now on: the track that comes out, in place of it. `None`: that can't be done.
        pub(in crate::webrtc) fn make(&mut self, track: &Track, to: Codec, bitrate: u32) -> Option<Track> {
            if let Some(source) = self.source.as_mut().filter(|source| {
                source.track.id == track.id && source.made.codec == to && source.track.codec == track.codec
            }) {
                let changed =
                    source.track.config != track.config || source.track.timescale != track.timescale;
                let kept = match &mut source.transcoder {
                    Some(transcoder) if changed => transcoder.change(track).is_ok(),
                    _ => true,
                };
                if kept {
                    source.track = track.clone();
                    return Some(source.made.clone());
                }
            }
            self.source = None;
            if !sound::can(track.codec, to) {
                return None;
            }
            let target = if to == Codec::Aac { Target::Aac { bitrate } } else { Target::Opus { bitrate } };
            match Transcoder::new(track, track.id, target) {
                Ok(transcoder) => {
                    let made = transcoder.track().clone();
                    let (track, transcoder) = (track.clone(), Some(transcoder));
                    self.source = Some(Source { track, target, made: made.clone(), transcoder });
                    Some(made)
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.told, true) {
                        log::warn!("sound stays {}: {error}", track.codec);
                    }
                    None
                }
            }
        }

        /// Nothing is made any more.
        pub(in crate::webrtc) fn end(&mut self) {
            self.source = None;
        }

        /// Whether frames of this track are to be [given](Self::push) here.
        pub(in crate::webrtc) fn takes(&self, track: TrackId) -> bool {
            self.source.as_ref().is_some_and(|source| source.track.id == track)
        }

        /// What a frame makes.
        pub(in crate::webrtc) fn push(&mut self, frame: &Frame) -> std::vec::Drain<'_, Frame> {
            self.out.clear();
            if let Some(source) = &mut self.source {
                if source.transcoder.is_none() {
                    source.transcoder = Transcoder::new(&source.track, source.track.id, source.target).ok();
                }
                if let Some(transcoder) = &mut source.transcoder {
                    transcoder.push(frame, &mut self.out);
                }
            }
            self.out.drain(..)
        }

        /// Nobody needs it now.
        pub(in crate::webrtc) fn rest(&mut self) {
            if let Some(source) = &mut self.source {
                source.transcoder = None;
            }
        }
    }
}

#[cfg(not(feature = "transcode-audio"))]
mod made {
    use crate::media::{Codec, Frame, Track, TrackId};

    /// Makes nothing.
    #[derive(Default)]
    pub(in crate::webrtc) struct Sound(Vec<Frame>);

    #[allow(clippy::unused_self, reason = "the other one has something in it")]
    impl Sound {
        pub(in crate::webrtc) fn make(&mut self, _: &Track, _: Codec, _: u32) -> Option<Track> {
            None
        }

        pub(in crate::webrtc) fn end(&mut self) {}

        pub(in crate::webrtc) fn takes(&self, _: TrackId) -> bool {
            false
        }

        pub(in crate::webrtc) fn push(&mut self, _: &Frame) -> std::vec::Drain<'_, Frame> {
            self.0.drain(..)
        }

        pub(in crate::webrtc) fn rest(&mut self) {}
    }
}

pub(super) use made::Sound;
