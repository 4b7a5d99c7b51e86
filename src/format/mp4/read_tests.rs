use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::test::hex;
use crate::media::{Codec, Track, TrackId};

/// Reads all of a file in memory.
fn read(file: &Bytes) -> Result<(Vec<Found>, End), Mp4Error> {
    let mut reader = Reader::new(file.len() as u64);
    let mut found = Vec::new();
    while let Some((at, len)) = reader.wants() {
        let at = (at as usize).min(file.len());
        let data = file.slice(at..at.saturating_add(len).min(file.len()));
        found.extend(reader.give(&data)?);
    }
    Ok((found, reader.end()?))
}

fn tracks() -> [Track; 2] {
    let avcc =
        "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f1831960010006 68ebe3cb22c0 fdf8f800";
    let mut audio = Track::with_config(TrackId(1), Codec::Aac, Bytes::from_static(&[0x11, 0x90])).unwrap();
    audio.language = *b"fra";
    [Track::with_config(TrackId(0), Codec::H264, hex(avcc).into()).unwrap(), audio]
}

/// A time beyond 33 bits, where 90 kHz clocks wrap.
const FAR: i64 = (1 << 33) + 12_345;

fn pictures(from: i64) -> Vec<Sample> {
    let picture = |n: i64| Sample {
        dts: from + 3600 * n,
        duration: 3600,
        cts: if n % 3 == 0 { 0 } else { 3600 },
        key: n % 4 == 0,
        data: Bytes::from(vec![n as u8; 10 + n as usize]),
    };
    (0..8).map(picture).collect()
}

fn sounds(from: i64) -> Vec<Sample> {
    let sound = |n: i64| Sample {
        dts: from + 1024 * n,
        duration: 1024,
        cts: 0,
        key: true,
        data: Bytes::from(vec![n as u8; 7]),
    };
    (0..5).map(sound).collect()
}

/// Two fragments, and where each ends.
fn fragmented() -> (Bytes, Vec<usize>) {
    let [video, audio] = tracks();
    let mut file = init_segment(&[Mp4Track::new(1, &video), Mp4Track::new(5, &audio)]).unwrap().to_vec();
    let mut ends = vec![file.len()];
    for n in 0..2 {
        file.extend_from_slice(&styp(false));
        let (pictures, sounds) = (pictures(FAR + 28_800 * n), sounds(5120 * n));
        let runs = [Run::new(1, &pictures), Run::new(5, &sounds)];
        fragment(n as u32 + 1, &runs).unwrap().iter().for_each(|part| file.extend_from_slice(part));
        ends.push(file.len());
    }
    (file.into(), ends)
}

fn progressive() -> Bytes {
    let [video, audio] = tracks();
    let (mut pictures_table, mut sounds_table) = (SampleTable::default(), SampleTable::default());
    let mut data = Vec::new();
    for (samples, table, timescale) in
        [(pictures(FAR), &mut pictures_table, 90_000), (sounds(4_581_312_000), &mut sounds_table, 48_000)]
    {
        for s in samples {
            let entry = Entry {
                offset: data.len() as u64,
                size: s.data.len() as u32,
                duration: s.duration,
                dts: s.dts,
                cts: s.cts,
                key: s.key,
            };
            table.push(&entry, timescale).unwrap();
            data.extend_from_slice(&s.data);
        }
    }
    let tracks = [(Mp4Track::new(1, &video), &pictures_table), (Mp4Track::new(2, &audio), &sounds_table)];
    let mut file = file_head(&tracks, data.len() as u64).unwrap().to_vec();
    file.extend(data);
    file.into()
}

fn same(entries: &[Entry], samples: &[Sample], file: &[u8], shift: i64) {
    assert_eq!(entries.len(), samples.len());
    for (entry, sample) in entries.iter().zip(samples) {
        let data = &file[entry.offset as usize..][..entry.size as usize];
        assert_eq!(data, &sample.data[..]);
        assert_eq!(
            (entry.dts, entry.cts, entry.duration, entry.key),
            (sample.dts + shift, sample.cts, sample.duration, sample.key)
        );
    }
}

#[test]
fn what_we_write_in_fragments_we_read() {
    let (file, ends) = fragmented();
    let (found, end) = read(&file).unwrap();
    assert_eq!(end, End { whole: file.len() as u64, truncated: false });
    let [Found::Movie(movie), Found::Fragment(first), Found::Fragment(second)] = &found[..] else { panic!() };
    assert!(movie.fragmented && movie.skipped.is_empty());
    assert_eq!(movie.tracks[0].samples(u64::MAX).count(), 0);
    let [video, audio] = tracks();
    assert_eq!(movie.tracks[0].track, Track { timescale: 90_000, ..video });
    assert_eq!(movie.tracks[1].track, Track { timescale: 48_000, ..audio });
    assert_eq!((movie.tracks[1].id, movie.tracks[0].length_size), (5, 4));
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert_eq!((first.start as usize, first.end as usize), (ends[0] + styp(false).len(), ends[1]));
    for (n, fragment) in [(0, first), (1, second)] {
        same(&fragment.runs[0].1, &pictures(FAR + 28_800 * n), &file, 0);
        same(&fragment.runs[1].1, &sounds(5120 * n), &file, 0);
    }
}

#[test]
fn what_we_write_with_a_table_we_read() {
    let file = progressive();
    let (found, end) = read(&file).unwrap();
    assert!(!end.truncated);
    let [Found::Movie(movie)] = &found[..] else { panic!() };
    let entries = |n: usize| movie.tracks[n].samples(file.len() as u64).collect::<Vec<_>>();
    // The picture is first: its line begins at 0.
    same(&entries(0), &pictures(FAR), &file, -FAR);
    let sounds = sounds(4_581_312_000);
    let begins = crate::media::rescale(4_581_312_000, 48_000, 90_000) - FAR;
    same(&entries(1), &sounds, &file, crate::media::rescale(begins, 90_000, 48_000) - 4_581_312_000);
    // The file's end is respected.
    assert_eq!(movie.tracks[1].samples(file.len() as u64 - 1).count(), 4);
}

#[test]
fn a_file_that_was_cut_gives_all_whole_fragments() {
    let (file, ends) = fragmented();
    for len in 0..file.len() {
        let cut = file.slice(..len);
        let result = read(&cut);
        if len < ends[0] {
            assert!(matches!(result, Err(Mp4Error::NoMovie)), "{len}");
            continue;
        }
        let (found, end) = result.unwrap();
        let fragments = found.len() - 1;
        assert_eq!(fragments, usize::from(len >= ends[1]), "{len}");
        let gap = end.whole as usize - ends[fragments];
        assert!(gap == 0 || gap == styp(false).len(), "{len}");
        assert_eq!(end.truncated, len as u64 > end.whole);
    }
    // What a power cut leaves of a block that was not written.
    let zeros = [&file[..], &[0; 4096]].concat();
    let (found, end) = read(&zeros.into()).unwrap();
    assert_eq!((found.len(), end), (3, End { whole: file.len() as u64, truncated: true }));
}

#[test]
fn sizes_of_64_bits_and_to_the_end_of_the_file() {
    let (file, ends) = fragmented();
    let mut wide = file[..ends[0]].to_vec();
    wide.extend(hex("00000001 66726565 0000000000000014 01020304"));
    wide.extend(hex("00000000 6d646174 01020304"));
    let len = wide.len() as u64;
    assert_eq!(read(&wide.into()).unwrap().1, End { whole: len, truncated: false });
    for bad in
        ["00000001 66726565 0000000000000004", "00000004 66726565", "00000001 66726565 ffffffffffffffff"]
    {
        let file: Bytes = [&file[..ends[0]], &hex(bad)[..]].concat().into();
        assert_eq!(read(&file).unwrap().1, End { whole: ends[0] as u64, truncated: true });
    }
}

#[test]
fn tables_that_promise_too_much() {
    // One sample size for 4 billion samples, all in one chunk: the file's end is theirs.
    let file = progressive();
    let replaced = |kind: &[u8], content: &str| {
        let at = file.windows(4).position(|w| w == kind).unwrap() + 4;
        let mut file = file.to_vec();
        let content = hex(content);
        file[at..at + content.len()].copy_from_slice(&content);
        let file = Bytes::from(file);
        read(&file).map(|(found, _)| match &found[0] {
            Found::Movie(movie) => movie.tracks[0].samples(file.len() as u64).count(),
            Found::Fragment(_) => panic!(),
        })
    };
    assert!(replaced(b"stsz", "00000000 00000001 ffffffff").unwrap() <= 8);
    assert!(replaced(b"stsz", "00000000 00000000 ffffffff").is_err());
    assert!(replaced(b"stts", "00000000 ffffffff").is_err());
    assert_eq!(replaced(b"stsc", "00000000 00000001 00000001 00000000"), Ok(0));
    assert_eq!(replaced(b"stsc", "00000000 00000001 00000007 00000001"), Ok(0));
    assert_eq!(replaced(b"stts", "00000000 00000001 00000002"), Ok(2));
}

proptest! {
    #[test]
    fn changed_bytes_do_not_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20), which: bool) {
        let file = if which { progressive() } else { fragmented().0 };
        let mut file = file.to_vec();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        let file = Bytes::from(file);
        for found in read(&file).map(|(found, _)| found).unwrap_or_default() {
            match found {
                Found::Movie(movie) => {
                    for track in &movie.tracks {
                        for entry in track.samples(file.len() as u64) {
                            prop_assert!(entry.offset + u64::from(entry.size) <= file.len() as u64);
                        }
                    }
                }
                Found::Fragment(fragment) => {
                    for entry in fragment.runs.iter().flat_map(|(_, run)| run) {
                        prop_assert!(entry.offset + u64::from(entry.size) <= file.len() as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn any_bytes(data: Vec<u8>, kind in prop::sample::select(vec![*b"moov", *b"moof", *b"mdat"])) {
        let mut file = (data.len() as u32 + 8).to_be_bytes().to_vec();
        file.extend(kind);
        file.extend(data);
        let _ = read(&file.into());
    }
}
