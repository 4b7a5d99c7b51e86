//! MP4 that we write, read by FFmpeg old and new and by mp4box.js: every codec, fragmented, progressive and encrypted.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rillbox::format::flv::{Demuxer, Event, TagReader};
use rillbox::format::mp4::{
    self, Entry, Found, Mp4Track, Protection, Reader, Run, Sample, SampleTable, Subsamples, file_head,
    fragment, init_segment,
};
use rillbox::media::{Frame, Track, rescale};

use crate::support::client::clients;
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Frames, Program};

const CLIPS: [Clip; 12] = [
    Clip::H264_AAC,
    Clip::H264_B_AAC,
    Clip::H264_MP3,
    Clip::H264_FLAC,
    Clip::H264_AC3,
    Clip::H264_EAC3,
    Clip::H264,
    Clip::AAC,
    Clip::MP3,
    Clip::H265_AAC,
    Clip::AV1_OPUS,
    Clip::VP9_OPUS,
];

const PROTECTION: Protection = Protection { key: *b"0123456789abcdef", key_id: [7; 16], iv: [9; 16] };

/// A clip as tracks, each with its samples.
struct Media {
    tracks: Vec<(Track, Vec<Sample>)>,
}

impl Media {
    fn of(clip: Clip) -> Self {
        let file = fs::read(clip.file()).unwrap();
        let (mut demuxer, mut tags) = (Demuxer::new(1 << 24), TagReader::new());
        let (mut tracks, mut frames): (Vec<Track>, Vec<Frame>) = Default::default();
        let mut rest = &file[..];
        while let Some(tag) = demuxer.next_tag(&mut rest).unwrap() {
            tags.push(tag.kind, tag.ts_ms, tag.body).unwrap();
            while let Some(event) = tags.next_event() {
                match event {
                    Event::Track(track) => {
                        tracks.retain(|t| t.id != track.id);
                        tracks.push(track);
                    }
                    Event::Frame(frame) => frames.push(frame),
                    Event::Meta(_) => {}
                }
            }
        }
        let samples = |track: &Track| {
            let to = mp4::timescale(track);
            let of: Vec<&Frame> = frames.iter().filter(|f| f.track == track.id).collect();
            let time = |ticks| rescale(ticks, track.timescale, to);
            let mut samples: Vec<Sample> = of
                .iter()
                .map(|f| Sample {
                    dts: time(f.dts),
                    duration: 0,
                    cts: (time(f.pts()) - time(f.dts)) as i32,
                    key: f.is_key(),
                    data: f.data.clone(),
                })
                .collect();
            for n in 0..samples.len() {
                let next = samples.get(n + 1).map(|s| s.dts);
                samples[n].duration = next.map_or(to / 25, |next| (next - samples[n].dts) as u32);
            }
            samples
        };
        Self { tracks: tracks.iter().map(|track| (track.clone(), samples(track))).collect() }
    }

    fn heads(&self, protection: Option<&Protection>) -> Vec<Mp4Track<'_>> {
        let mut heads = Vec::new();
        for (id, (track, samples)) in (1..).zip(&self.tracks) {
            let sample = samples.first().map(|s| &s.data[..]);
            heads.push(Mp4Track { sample, protection: protection.cloned(), ..Mp4Track::new(id, track) });
        }
        heads
    }

    /// A fragment for each half of a second, all tracks in one file.
    fn fragmented(&self, protection: Option<&Protection>) -> Vec<u8> {
        let mut file = init_segment(&self.heads(protection)).unwrap().to_vec();
        for half in 0.. {
            let mut told = Vec::new();
            for (track, samples) in &self.tracks {
                let second = i64::from(mp4::timescale(track));
                let due = |s: &&Sample| s.dts * 2 / second == half;
                let mut samples: Vec<Sample> = samples.iter().filter(due).cloned().collect();
                let mut subsamples: Vec<Subsamples> = Vec::new();
                if let Some(protection) = protection {
                    for sample in &mut samples {
                        let (data, told) = protection.encrypt(track.codec, &sample.data);
                        sample.data = data;
                        subsamples.extend((!told.is_empty()).then_some(told));
                    }
                }
                told.push((samples, subsamples));
            }
            if told.iter().all(|(samples, _)| samples.is_empty()) {
                return file;
            }
            let runs: Vec<Run<'_>> = (1..)
                .zip(&told)
                .map(|(id, (samples, subsamples))| Run { track_id: id, samples, subsamples })
                .collect();
            fragment(half as u32 + 1, &runs).unwrap().iter().for_each(|part| file.extend_from_slice(part));
        }
        unreachable!()
    }

    /// The table first, then the tracks' samples in turns of ten.
    fn progressive(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut tables: Vec<SampleTable> = vec![SampleTable::default(); self.tracks.len()];
        let rounds = self.tracks.iter().map(|(_, samples)| samples.len().div_ceil(10)).max().unwrap();
        for round in 0..rounds {
            for ((track, samples), table) in self.tracks.iter().zip(&mut tables) {
                for s in samples.iter().skip(10 * round).take(10) {
                    let entry = Entry {
                        offset: data.len() as u64,
                        size: s.data.len() as u32,
                        duration: s.duration,
                        dts: s.dts,
                        cts: s.cts,
                        key: s.key,
                    };
                    table.push(&entry, mp4::timescale(track)).unwrap();
                    data.extend_from_slice(&s.data);
                }
            }
        }
        let tracks: Vec<_> = self.heads(None).into_iter().zip(&tables).collect();
        let mut file = file_head(&tracks, data.len() as u64).unwrap().to_vec();
        file.extend(data);
        file
    }
}

#[track_caller]
fn same_frames(clip: Clip, file: &Path, ffmpeg: fn(&str) -> Program, options: &str) {
    let source = Frames::of_clip(clip, Form::Flv);
    let input = format!("{options} -i {}", file.display());
    let got = Player::start(ffmpeg, &input, clip, Form::Flv).frames();
    // FLV has milliseconds, rounded down to other ticks.
    assert_eq!(got.are_the_end_of(&source, 1100), 0);
    assert_eq!((got.video.len(), got.audio.len()), (source.video.len(), source.audio.len()));
}

/// Demands that all of a file is decoded without a word of warning.
#[track_caller]
fn decodes(file: &Path) {
    for ffmpeg in [clients().join("ffmpeg"), PathBuf::from("/usr/bin/ffmpeg")] {
        let args = ["-nostdin", "-hide_banner", "-v", "warning", "-xerror", "-i"];
        let null = ["-map", "0", "-f", "null", "-"];
        let args = args.into_iter().chain([file.to_str().unwrap()]).chain(null);
        Program::start(ffmpeg, args).end().clean();
    }
    let args = ["-v", "warning", "-show_streams", "-show_packets", "-of", "csv=p=0", "-o"];
    let out = file.with_extension("probe");
    let args = args.into_iter().chain([out.to_str().unwrap(), file.to_str().unwrap()]);
    Program::start("ffprobe", args).end().clean();
}

/// Demands that mp4box.js finds all samples.
#[track_caller]
fn is_understood(file: &Path, media: &Media) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/mp4box.mjs");
    let ended = Program::start("node", [&script, &clients(), &file.to_path_buf()]).end();
    ended.good();
    for (track, samples) in &media.tracks {
        let keys = samples.iter().filter(|s| s.key).count();
        let bytes: usize = samples.iter().map(|s| s.data.len()).sum();
        let told = format!("\"samples\":{},\"keys\":{keys},\"bytes\":{bytes}}}", samples.len());
        assert!(ended.said.contains(&told), "{}: {told} is not in {}", track.codec, ended.said);
    }
}

fn written(dir: &Dir, name: &str, data: &[u8]) -> PathBuf {
    let file = dir.path(name);
    fs::write(&file, data).unwrap();
    file
}

#[test]
fn fragmented_files_of_every_codec() {
    let dir = Dir::new();
    for clip in CLIPS {
        println!("{}", clip.name);
        let media = Media::of(clip);
        let file = written(&dir, &format!("{}-f.mp4", clip.name), &media.fragmented(None));
        decodes(&file);
        is_understood(&file, &media);
        same_frames(clip, &file, Program::ffmpeg, "");
    }
}

#[test]
fn progressive_files_of_every_codec() {
    let dir = Dir::new();
    for clip in CLIPS {
        println!("{}", clip.name);
        let media = Media::of(clip);
        let file = written(&dir, &format!("{}-p.mp4", clip.name), &media.progressive());
        decodes(&file);
        is_understood(&file, &media);
        same_frames(clip, &file, Program::ffmpeg, "");
    }
}

#[test]
fn encrypted_files() {
    let dir = Dir::new();
    let key: String = PROTECTION.key.iter().map(|byte| format!("{byte:02x}")).collect();
    for clip in [Clip::H264_B_AAC, Clip::H265_AAC, Clip::H264_AC3] {
        println!("{}", clip.name);
        let media = Media::of(clip);
        let file = written(&dir, &format!("{}-e.mp4", clip.name), &media.fragmented(Some(&PROTECTION)));
        is_understood(&file, &media);
        same_frames(clip, &file, Program::ffmpeg, &format!("-decryption_key {key}"));
    }
}

#[test]
fn files_that_others_write_are_read() {
    let dir = Dir::new();
    for clip in CLIPS {
        let media = Media::of(clip);
        for (name, flags) in
            [("p", "faststart"), ("f", "frag_keyframe+empty_moov+delay_moov"), ("o", "frag_keyframe")]
        {
            println!("{} {flags}", clip.name);
            let file = dir.path(&format!("{}-{name}.mp4", clip.name));
            let args = format!("-i {} -c copy -movflags {flags} {}", clip.file().display(), file.display());
            Program::ffmpeg(&args).end().clean();
            // Without an edit list FFmpeg lets both tracks begin at once, B-frames or not.
            reads(&media, &fs::read(&file).unwrap().into(), if name == "p" { 2000 } else { 150_000 });
        }
    }
}

/// Demands that a file has all samples, with the distances of their times up to `tolerance` microseconds.
#[track_caller]
fn reads(media: &Media, file: &Bytes, tolerance: i64) {
    let mut reader = Reader::new(file.len() as u64);
    let mut tracks: Vec<(Track, Vec<Entry>)> = Vec::new();
    while let Some((at, len)) = reader.wants() {
        match reader.give(&file.slice(at as usize..at as usize + len)).unwrap() {
            Some(Found::Movie(movie)) => {
                assert!(movie.skipped.is_empty(), "{:?}", movie.skipped);
                for track in &movie.tracks {
                    tracks.push((track.track.clone(), track.samples(file.len() as u64).collect()));
                }
            }
            Some(Found::Fragment(fragment)) => {
                for (track, run) in fragment.runs {
                    tracks[track].1.extend(run);
                }
            }
            None => {}
        }
    }
    assert!(!reader.end().unwrap().truncated);
    assert_eq!(tracks.len(), media.tracks.len());
    let mut starts = Vec::new();
    for (track, samples) in &media.tracks {
        let (got, entries) = tracks.iter().find(|(t, _)| t.codec == track.codec).unwrap();
        let (facts, expected) = (&got.facts, &track.facts);
        assert_eq!(
            (facts.width, facts.height, facts.channels, facts.sample_rate),
            (expected.width, expected.height, expected.channels, expected.sample_rate)
        );
        let data: Vec<&[u8]> =
            entries.iter().map(|e| &file[e.offset as usize..][..e.size as usize]).collect();
        let differs = samples.iter().zip(&data).position(|(sample, data)| sample.data != data);
        assert_eq!((differs, data.len()), (None, samples.len()), "{}", track.codec);
        let keys = |keys: Vec<bool>| keys.iter().filter(|key| **key).count();
        assert_eq!(
            keys(entries.iter().map(|e| e.key).collect()),
            keys(samples.iter().map(|s| s.key).collect())
        );
        let us = |ticks: i64, timescale: u32| rescale(ticks, timescale, 1_000_000);
        let shift = |e: &Entry, s: &Sample| {
            us(e.dts + i64::from(e.cts), got.timescale) - us(s.dts + i64::from(s.cts), mp4::timescale(track))
        };
        starts.extend(entries.iter().zip(samples).map(|(e, s)| shift(e, s)));
    }
    let (low, high) = (starts.iter().min().unwrap(), starts.iter().max().unwrap());
    assert!(high - low <= tolerance, "times are shifted by {low} to {high} \u{b5}s");
}
