//! The movie box, as far as it is the same for progressive and fragmented files, and init segments.

use bytes::Bytes;

use super::boxes::Out;
use super::entry::{Rate, stsd};
use super::{MAX_TRACKS, Mp4Error, Protection};
use crate::media::{Codec, Kind, Track};

/// Ticks per second of movie times: durations, edit lists.
pub(super) const MOVIE_TIMESCALE: u32 = 90_000;

/// A track as it stands in a file.
#[derive(Debug, Clone)]
pub struct Mp4Track<'a> {
    /// `track_ID`, from 1; unique in the file.
    pub id: u32,
    /// Codec, config, language, size.
    pub track: &'a Track,
    /// Ticks per second of its times in the file; never 0. See [`timescale`](super::timescale).
    pub timescale: u32,
    /// A frame of the track, if there is one at hand: what AC-3 and E-AC-3 say of themselves stands in frames only.
    pub sample: Option<&'a [u8]>,
    /// How its samples are encrypted.
    pub protection: Option<Protection>,
}

impl<'a> Mp4Track<'a> {
    /// A track in the clear, with its [usual timescale](super::timescale).
    #[must_use]
    pub fn new(id: u32, track: &'a Track) -> Self {
        Self { id, track, timescale: super::timescale(track), sample: None, protection: None }
    }
}

/// `ftyp` and `moov` of a fragmented file: what stands before the first [`fragment`](super::fragment).
///
/// # Errors
/// A codec that MP4 has no place for, or a track without its config; more than [`MAX_TRACKS`] tracks.
pub fn init_segment(tracks: &[Mp4Track<'_>]) -> Result<Bytes, Mp4Error> {
    let mut w = Out::with_capacity(512 + 512 * tracks.len());
    let av1 = tracks.iter().any(|t| t.track.codec == Codec::Av1);
    let mut brands = vec![b"iso6", b"mp41"];
    // CMAF has one track in a file.
    brands.extend((tracks.len() == 1).then_some(b"cmfc"));
    brands.extend(av1.then_some(b"av01"));
    ftyp(&mut w, b"ftyp", b"iso6", &brands);
    moov(
        &mut w,
        tracks,
        0,
        |w, track| {
            trak(w, track, 0, None, |w| {
                stsd(w, track, Rate::default())?;
                for kind in [b"stts", b"stsc", b"stco"] {
                    w.full(kind, 0, 0, |w| w.u32(0));
                }
                w.full(b"stsz", 0, 0, |w| w.u64(0));
                Ok(())
            })
        },
        |w| {
            w.boxed(b"mvex", |w| {
                for track in tracks {
                    w.full(b"trex", 0, 0, |w| {
                        w.u32(track.id);
                        w.u32(1); // default_sample_description_index
                        w.zeros(12); // duration, size, flags: each fragment says them
                    });
                }
            });
        },
    )?;
    w.finish("an init segment").map(Bytes::from)
}

/// `ftyp` or `styp` (4.3, 8.16.2).
pub(super) fn ftyp(w: &mut Out, kind: &[u8; 4], major: &[u8; 4], compatible: &[&[u8; 4]]) {
    w.boxed(kind, |w| {
        w.put(major);
        w.u32(0);
        compatible.iter().for_each(|brand| w.put(*brand));
    });
}

/// `moov` (8.2.1): its header, each track by `each`, then `rest`. `duration` in movie ticks.
pub(super) fn moov(
    w: &mut Out,
    tracks: &[Mp4Track<'_>],
    duration: u64,
    mut each: impl FnMut(&mut Out, &Mp4Track<'_>) -> Result<(), Mp4Error>,
    rest: impl FnOnce(&mut Out),
) -> Result<(), Mp4Error> {
    super::boxes::fits("the number of tracks", tracks.len() as u64, MAX_TRACKS as u64)?;
    w.try_boxed(b"moov", |w| {
        w.full(b"mvhd", 1, 0, |w| {
            w.zeros(16); // times of creation and change: unknown
            w.u32(MOVIE_TIMESCALE);
            w.u64(duration);
            w.u32(0x0001_0000); // rate
            w.u16(0x0100); // volume
            w.zeros(10);
            matrix(w);
            w.zeros(24);
            w.u32(tracks.iter().map(|t| t.id).max().unwrap_or(0).saturating_add(1)); // next_track_ID
        });
        for track in tracks {
            each(w, track)?;
        }
        rest(w);
        Ok(())
    })
}

/// An edit list (8.6.6): movie ticks before the track starts, and the media time it then starts at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edit {
    pub empty: u64,
    pub duration: u64,
    pub media_time: i64,
}

/// `trak` (8.3.1) with a sample table that `stbl` writes. `duration` in ticks of the track.
pub(super) fn trak(
    w: &mut Out,
    of: &Mp4Track<'_>,
    duration: u64,
    edit: Option<Edit>,
    stbl: impl FnOnce(&mut Out) -> Result<(), Mp4Error>,
) -> Result<(), Mp4Error> {
    let track = of.track;
    let audio = track.kind() == Kind::Audio;
    let movie_duration = edit.map_or_else(
        || u128::from(duration) * u128::from(MOVIE_TIMESCALE) / u128::from(of.timescale.max(1)),
        |e| u128::from(e.empty) + u128::from(e.duration),
    );
    w.try_boxed(b"trak", |w| {
        // Enabled, in the movie.
        w.full(b"tkhd", 1, 3, |w| {
            w.zeros(16);
            w.u32(of.id);
            w.zeros(4);
            w.u64(u64::try_from(movie_duration).unwrap_or(u64::MAX));
            w.zeros(8 + 2);
            w.u16(u16::from(audio)); // tracks of one group are alternates: all sound here
            w.u16(if audio { 0x0100 } else { 0 });
            w.zeros(2);
            matrix(w);
            w.u32(track.facts.width.min(0xFFFF) << 16);
            w.u32(track.facts.height.min(0xFFFF) << 16);
        });
        if let Some(edit) = edit {
            w.boxed(b"edts", |w| elst(w, edit));
        }
        w.try_boxed(b"mdia", |w| {
            w.full(b"mdhd", 1, 0, |w| {
                w.zeros(16);
                w.u32(of.timescale);
                w.u64(duration);
                w.u16(language(track.language));
                w.zeros(2);
            });
            let (handler, name): (_, &[u8]) =
                if audio { (b"soun", b"SoundHandler\0") } else { (b"vide", b"VideoHandler\0") };
            w.full(b"hdlr", 0, 0, |w| {
                w.zeros(4);
                w.put(handler);
                w.zeros(12);
                w.put(name);
            });
            w.try_boxed(b"minf", |w| {
                if audio {
                    w.full(b"smhd", 0, 0, |w| w.zeros(4));
                } else {
                    w.full(b"vmhd", 0, 1, |w| w.zeros(8));
                }
                w.boxed(b"dinf", |w| {
                    w.full(b"dref", 0, 0, |w| {
                        w.u32(1);
                        w.full(b"url ", 0, 1, |_| ()); // in this file
                    });
                });
                w.try_boxed(b"stbl", stbl)
            })
        })
    })
}

fn elst(w: &mut Out, edit: Edit) {
    w.full(b"elst", 1, 0, |w| {
        w.u32(1 + u32::from(edit.empty > 0));
        let mut put = |duration: u64, media_time: i64| {
            w.u64(duration);
            w.u64(media_time as u64);
            w.u32(0x0001_0000); // rate
        };
        if edit.empty > 0 {
            put(edit.empty, -1);
        }
        put(edit.duration, edit.media_time);
    });
}

/// Neither turned nor scaled (6.2.2).
fn matrix(w: &mut Out) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        w.u32(value);
    }
}

/// ISO 639-2 letters in five bits each (8.4.2.3); `und` for what is none.
fn language(letters: [u8; 3]) -> u16 {
    let letters = if letters.iter().all(u8::is_ascii_lowercase) { letters } else { *b"und" };
    letters.iter().fold(0, |sum, letter| sum << 5 | u16::from(letter - 0x60))
}
