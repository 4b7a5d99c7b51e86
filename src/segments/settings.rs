//! What holds for the segments of one stream.

use std::path::PathBuf;
use std::time::Duration;

use super::names::Template;
use super::{Form, Want};
use crate::config::{Dash, Encryption, Hls, OnError, PlaylistType, Variant, Vhost};
use crate::format::mpegts;
use crate::media::{Codec, Kind, Track};

/// Ticks of 90 kHz, in which segments are cut.
pub(super) const CLOCK: u32 = mpegts::TIMESCALE;

/// Read from the configuration when a stream begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// `None`: by the stream's codecs.
    pub form: Option<Form>,
    pub part: Option<Duration>,
    pub segment: Duration,
    /// A segment ends at any frame when it is so long.
    pub overflow: Duration,
    /// The least target duration.
    pub target: Duration,
    pub window: Duration,
    pub event: bool,
    pub memory: usize,
    pub audio: bool,
    pub video: bool,
    pub wait_keyframe: bool,
    pub rebuild_audio_times: bool,
    pub ts_floor: bool,
    pub on_demand: bool,
    pub on_error: OnError,
    pub cleanup: bool,
    pub dispose: Duration,
    pub path: Option<PathBuf>,
    pub encryption: Encryption,
    pub segments_per_key: u32,
    pub key_path: Option<PathBuf>,
    pub key_url: String,
    pub ts_file: Template,
    pub fmp4_file: Template,
    pub init_file: Template,
    pub key_file: Template,
    pub playlist_file: Template,
    /// Told apart from the names of another job's.
    pub mark: &'static str,
    /// Whether HLS gives these segments out: of those of DASH alone nobody is told.
    pub of_hls: bool,
}

/// Which of a stream's jobs: one for HLS, and one for DASH unless that can share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    Auto,
    Ts,
    Fmp4,
}

impl Slot {
    pub(super) fn of(want: Want, vhost: &Vhost) -> Self {
        match (want, vhost.hls.variant) {
            (Want::Hls, Variant::Auto) => Self::Auto,
            (Want::Hls, Variant::Ts) => Self::Ts,
            (Want::Hls, Variant::Fmp4 | Variant::LowLatency) | (Want::Dash, _) => Self::Fmp4,
        }
    }
}

impl Slot {
    /// Whether HLS is given out from it.
    pub(super) fn is_of_hls(self, vhost: &Vhost) -> bool {
        vhost.hls.enabled && self == Self::of(Want::Hls, vhost)
    }
}

impl Settings {
    pub(super) fn new(vhost: &Vhost, slot: Slot) -> Self {
        let (hls, dash) = (&vhost.hls, &vhost.dash);
        if cfg!(feature = "dash") && slot == Slot::Fmp4 && !slot.is_of_hls(vhost) {
            return Self::for_dash(hls, dash);
        }
        let form = match slot {
            Slot::Auto => None,
            Slot::Ts => Some(Form::Ts),
            Slot::Fmp4 => Some(Form::Fmp4),
        };
        let low_latency = hls.variant == Variant::LowLatency && slot == Slot::Fmp4;
        Self {
            form,
            // A part of something that is encrypted as a whole can't be decrypted.
            part: (low_latency && hls.encryption != Encryption::Aes128).then_some(hls.part),
            segment: hls.segment,
            overflow: hls.overflow_ratio.of(hls.segment),
            target: hls.target_ratio.of(hls.segment),
            // DASH may be given out from the same.
            window: if cfg!(feature = "dash") && slot == Slot::Fmp4 && dash.enabled {
                hls.window.max(dash.timeshift)
            } else {
                hls.window
            },
            event: hls.playlist_type == PlaylistType::Event,
            memory: hls.memory.bytes(),
            audio: hls.audio,
            video: hls.video,
            wait_keyframe: hls.wait_keyframe,
            rebuild_audio_times: hls.rebuild_audio_times,
            ts_floor: hls.ts_floor,
            on_demand: hls.on_demand,
            on_error: hls.on_error,
            cleanup: hls.cleanup,
            dispose: hls.dispose,
            path: hls.path.clone(),
            encryption: hls.encryption,
            segments_per_key: hls.segments_per_key,
            key_path: hls.key_path.clone(),
            key_url: hls.key_url.clone(),
            ts_file: Template::unique(&hls.ts_file),
            fmp4_file: Template::unique(&hls.fmp4_file),
            init_file: Template::once("[app]/[stream]-[track]-[seq].mp4"),
            key_file: Template::unique(&hls.key_file),
            playlist_file: Template::once(&hls.playlist_file),
            mark: "",
            of_hls: true,
        }
    }

    /// For DASH alone.
    fn for_dash(hls: &Hls, dash: &Dash) -> Self {
        Self {
            form: Some(Form::Fmp4),
            part: dash.low_latency.then_some(dash.part),
            segment: dash.segment,
            overflow: hls.overflow_ratio.of(dash.segment),
            target: hls.target_ratio.of(dash.segment),
            window: dash.timeshift,
            event: false,
            memory: hls.memory.bytes(),
            audio: hls.audio,
            video: hls.video,
            wait_keyframe: hls.wait_keyframe,
            rebuild_audio_times: hls.rebuild_audio_times,
            ts_floor: false,
            on_demand: dash.on_demand,
            on_error: hls.on_error,
            cleanup: dash.cleanup,
            dispose: dash.dispose,
            path: dash.path.clone(),
            encryption: if hls.encryption == Encryption::Cbcs { Encryption::Cbcs } else { Encryption::None },
            segments_per_key: hls.segments_per_key,
            key_path: hls.key_path.clone(),
            key_url: hls.key_url.clone(),
            ts_file: Template::unique(&hls.ts_file),
            fmp4_file: Template::unique(&hls.fmp4_file),
            init_file: Template::once("[app]/[stream]-[track]-[seq].mp4"),
            key_file: Template::unique(&hls.key_file),
            playlist_file: Template::once(&hls.playlist_file),
            mark: "d",
            of_hls: false,
        }
    }

    /// Whether this track is to be in segments at all.
    pub(super) fn wants(&self, track: &Track) -> bool {
        match track.kind() {
            Kind::Audio => self.audio,
            Kind::Video => self.video,
            Kind::Data => true,
        }
    }

    /// What segments of these tracks are.
    pub(super) fn form(&self, tracks: &[Track]) -> Form {
        self.form.unwrap_or_else(|| {
            // Players take these in transport streams; of Opus there they know nothing.
            let plain = |track: &Track| {
                track.kind() == Kind::Data
                    || (mpegts::carries(track.codec) && track.codec != Codec::Opus)
                    || matches!(track.codec, Codec::G711A | Codec::G711U)
            };
            let all = tracks.iter().filter(|track| self.wants(track)).all(plain);
            if all { Form::Ts } else { Form::Fmp4 }
        })
    }
}
