//! What each fuzz target does with its bytes. `tests/corpus.rs` does the same with the corpus, so that a
//! crash once found stays found by `cargo test`.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rillbox::format::flv::{self, Demuxer, TagReader};
use rillbox::format::{amf, mp4, mpegts};
use rillbox::media::{Codec, Frame, Track, TrackId, nal};
use rillbox::net::http::{Head, websocket};
use rillbox::rtmp::client_session::{self, ClientSession, Goal};
use rillbox::rtmp::handshake::{ClientHandshake, ServerHandshake};
use rillbox::rtmp::session::{Event, Reject, Session};
use rillbox::srt::caller::Caller;
use rillbox::srt::crypto::{Crypto, KeyMessage};
use rillbox::srt::handshake::Handshake as SrtHandshake;
use rillbox::srt::listener::{Heard, Listener};
use rillbox::srt::session::Session as SrtSession;

#[path = "rtp.rs"]
mod rtp;
#[path = "webrtc.rs"]
mod webrtc;

pub use rtp::{rtcp, rtp};
pub use webrtc::{dtls, offer, srtp, stun};

/// Takes bytes; must not panic.
pub type Target = fn(&[u8]);

/// The targets, by name.
pub const TARGETS: [(&str, Target); 18] = [
    ("amf", amf),
    ("chunk", chunk),
    ("client", client),
    ("dtls", dtls),
    ("flv", flv),
    ("handshake", handshake),
    ("http_head", http_head),
    ("media", media),
    ("mp4", mp4),
    ("mpegts", mpegts),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("srt_handshake", srt_handshake),
    ("srt_key", srt_key),
    ("srt_packet", srt_packet),
    ("offer", offer),
    ("srtp", srtp),
    ("stun", stun),
];

/// AMF0 and AMF3 values; what was read is written and read again.
pub fn amf(data: &[u8]) {
    if let Ok(values) = amf::decode_all(data) {
        let again = amf::encode_all(&values);
        assert!(amf::decode_all(&again).is_ok(), "what we write, we can read");
        for value in &values {
            let _ = value.to_meta();
        }
    }
}

/// A server session past its handshake: chunk stream, commands, media into FLV.
pub fn chunk(data: &[u8]) {
    let config = rillbox::config::Rtmp::default();
    let now = Instant::now();
    let mut session = Session::new(&config, 1, now);
    let mut input = shaken_hands();
    let _ = session.input(&mut input, now);
    let mut tags = TagReader::new();
    // The first byte says in pieces of what size the rest comes.
    let Some((&step, data)) = data.split_first() else { return };
    for piece in data.chunks(usize::from(step).max(1)) {
        input.extend_from_slice(piece);
        loop {
            match session.input(&mut input, now + Duration::from_secs(1)) {
                Ok(None) => break,
                Ok(Some(Event::Publish { .. })) => session.accept_publish(),
                Ok(Some(Event::Play { .. })) => session.reject(Reject::NotFound, "no"),
                Ok(Some(Event::Tag(tag))) => {
                    if let Some(kind) = flv::TagKind::from_u8(tag.kind) {
                        let _ = tags.push(kind, tag.time, tag.body);
                        while tags.next_event().is_some() {}
                    }
                }
                Ok(Some(_)) => {}
                Err(_) => return,
            }
            let _ = session.take_output();
        }
        assert!(input.len() < 64 * 1024, "what is read is taken");
    }
}

/// What a peer sends in a simple handshake.
fn shaken_hands() -> BytesMut {
    let mut bytes = BytesMut::from(&[3][..]);
    bytes.resize(1 + 1536 * 2, 0);
    bytes
}

/// A client session past its handshake.
pub fn client(data: &[u8]) {
    let Ok(target) = client_session::Target::parse("rtmp://localhost/live/demo") else { return };
    let mut session = ClientSession::new(target, Goal::Play, 1, Instant::now());
    let mut input = shaken_hands();
    input.extend_from_slice(data);
    while let Ok(Some(_)) = session.input(&mut input) {}
}

/// An FLV file: tags, then tracks and frames; what was read is written again.
pub fn flv(data: &[u8]) {
    let mut demuxer = Demuxer::new(1024 * 1024);
    let mut tags = TagReader::new();
    let mut tracks: Vec<Track> = Vec::new();
    let mut rest = data;
    while let Ok(Some(tag)) = demuxer.next_tag(&mut rest) {
        let _ = tags.push(tag.kind, tag.ts_ms, tag.body);
        while let Some(event) = tags.next_event() {
            match event {
                flv::Event::Track(track) => {
                    let _ = flv::config_body(&track);
                    tracks.retain(|t| t.id != track.id);
                    tracks.push(track);
                }
                flv::Event::Frame(frame) => {
                    if let Some(track) = tracks.iter().find(|t| t.id == frame.track) {
                        let _ = flv::frame_prefix(track, &frame);
                        let _ = track.is_b_frame(&frame.data);
                    }
                }
                flv::Event::Meta(meta) => {
                    let _ = flv::metadata_body(&meta, &tracks, &meta);
                }
            }
        }
    }
}

/// Both sides of the RTMP handshake.
pub fn handshake(data: &[u8]) {
    let mut out = Vec::new();
    let _ = ServerHandshake::new(1).input(&mut BytesMut::from(data), &mut out);
    for digest in [false, true] {
        let mut client = ClientHandshake::new(1, digest, &mut out);
        let _ = client.input(&mut BytesMut::from(data), &mut out);
    }
}

/// An HTTP request head, and what a WebSocket client sends after it.
pub fn http_head(data: &[u8]) {
    let mut rest = data;
    if let Ok(Some((head, len))) = Head::parse(data) {
        let _ = (head.param("vhost"), head.wants_close(), head.has_word("connection", "upgrade"));
        rest = data.get(len..).unwrap_or_default();
    }
    let mut reply = Vec::new();
    let mut input = websocket::Input::default();
    for piece in rest.chunks(3) {
        if input.input(piece, &mut reply).is_err() {
            break;
        }
    }
    assert!(reply.len() <= rest.len() + 128, "an answer is no longer than what it answers");
}

/// Parameter sets, configuration records and frames of each codec.
pub fn media(data: &[u8]) {
    const CODECS: [Codec; 13] = [
        Codec::Aac,
        Codec::Ac3,
        Codec::Av1,
        Codec::Eac3,
        Codec::Flac,
        Codec::G711A,
        Codec::H264,
        Codec::H265,
        Codec::Klv,
        Codec::Mp3,
        Codec::Opus,
        Codec::Vp8,
        Codec::Vp9,
    ];
    let Some((&choice, data)) = data.split_first() else { return };
    let Some(&codec) = CODECS.get(usize::from(choice & 15)) else { return };
    let data = Bytes::copy_from_slice(data);
    let track = Track::with_config(TrackId(0), codec, data.clone());
    let mut track = track.unwrap_or_else(|_| Track::new(TrackId(0), codec));
    let _ = track.learn(&data);
    let _ = (track.is_b_frame(&data), rillbox::media::is_key(codec, &data));
    let _ = rillbox::media::av1::normalise(data.clone());
    if codec.has_nals() {
        for length_size in 0..=4 {
            if let Ok(normal) = nal::normalise(codec, data.clone(), length_size) {
                let _ = track.update_sets(&normal.sets);
            }
        }
    }
}

/// An MP4 file, progressive or in fragments: all samples lie inside of it, and its tracks can be written again.
pub fn mp4(data: &[u8]) {
    let file = Bytes::copy_from_slice(data);
    let len = file.len() as u64;
    let inside = |entry: &mp4::Entry| assert!(entry.offset + u64::from(entry.size) <= len);
    let mut reader = mp4::Reader::new(len);
    while let Some((at, wanted)) = reader.wants() {
        let at = usize::try_from(at).map_or(file.len(), |at| at.min(file.len()));
        let bytes = file.slice(at..at.saturating_add(wanted).min(file.len()));
        match reader.give(&bytes) {
            Ok(Some(mp4::Found::Movie(movie))) => {
                for (id, track) in (1..).zip(&movie.tracks) {
                    let mut table = mp4::SampleTable::default();
                    for entry in track.samples(len).take(10_000) {
                        inside(&entry);
                        let _ = table.push(&entry, track.track.timescale);
                    }
                    let head = mp4::Mp4Track::new(id, &track.track);
                    let _ = mp4::init_segment(std::slice::from_ref(&head));
                    let _ = mp4::file_head(&[(head, &table)], len);
                }
            }
            Ok(Some(mp4::Found::Fragment(fragment))) => {
                fragment.runs.iter().flat_map(|(_, run)| run).for_each(inside);
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
    let _ = reader.end();
}

/// A transport stream; what was read is written again.
pub fn mpegts(data: &[u8]) {
    let mut demuxer = mpegts::Demuxer::new(None);
    let mut muxer = mpegts::Muxer::new(&mpegts::MuxOptions::default());
    let mut tracks: Vec<Track> = Vec::new();
    let mut out = BytesMut::new();
    let mut write = |event: mpegts::Event| match event {
        mpegts::Event::Track(track) => {
            tracks.retain(|t| t.id != track.id);
            tracks.push(track);
            muxer.set_tracks(&tracks);
        }
        mpegts::Event::Frame(frame) => {
            let _: &Frame = &frame;
            let _ = muxer.frame(&frame, &mut out);
            assert!(out.len().is_multiple_of(188));
            out.clear();
        }
        _ => {}
    };
    for piece in data.chunks(1000) {
        demuxer.push(piece, &mut write);
    }
    demuxer.finish(&mut write);
}

/// Bodies of SRT handshakes, read and written again, and heard by both sides.
pub fn srt_handshake(data: &[u8]) {
    if let Ok((handshake, extensions)) = SrtHandshake::parse(data) {
        let again = handshake.body(Some(&extensions), true);
        assert!(SrtHandshake::parse(&again).is_ok(), "what we write, we can read");
    }
    let now = Instant::now();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let options = rillbox::srt::Options::default();
    let _ = Listener::new(now).handshake(data, 0, address, now);
    let Ok(mut caller) = Caller::new(address, &options, 1, 2, now) else { return };
    // A header of zeros but for its first byte: a handshake.
    let mut datagram = vec![0x80];
    datagram.resize(16, 0);
    datagram.extend_from_slice(data);
    let _ = caller.input(&datagram, now);
    let _ = caller.poll(now, &mut Vec::new());
    let _ = caller.input(&datagram, now);
}

/// Keys of SRT, wrapped with a passphrase; those that open are used.
pub fn srt_key(data: &[u8]) {
    let Ok(message) = KeyMessage::parse(data) else { return };
    assert_eq!(KeyMessage::parse(&message.bytes()).as_ref(), Ok(&message), "what we write, we can read");
    if let Ok(mut crypto) = Crypto::respond("correct horse", &message) {
        let _ = crypto.take(&message);
        assert!(!crypto.message().is_empty());
    }
}

/// Two SRT sessions that have shaken hands, and get packets that nobody sent.
pub fn srt_packet(data: &[u8]) {
    let begin = Instant::now();
    let Some([mut caller, mut listener]) = srt_sessions(begin) else { return };
    let mut out = Vec::new();
    let mut rest = data;
    let mut now = begin;
    // A byte for the length of each, a byte for the milliseconds until it comes.
    while let Some((&[len, wait], more)) = rest.split_first_chunk() {
        let (packet, more) = more.split_at(more.len().min(len.into()));
        rest = more;
        now += Duration::from_millis(wait.into());
        let _ = caller.send(Bytes::from_static(b"payload"), now);
        for session in [&mut caller, &mut listener] {
            session.input(packet, now, &mut out);
            session.poll(now, &mut out);
            while session.receive(now).is_some() {}
            let _ = (session.deadline(), session.readable_at(), session.statistics(now));
        }
        assert!(out.len() < 10_000, "a packet makes few others");
        out.clear();
    }
}

fn srt_sessions(now: Instant) -> Option<[SrtSession; 2]> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let options = rillbox::srt::Options::default();
    let mut caller = Caller::new(address, &options, 1, 0x7fff_fff0, now).ok()?;
    let desk = Listener::new(now);
    let mut out = Vec::new();
    loop {
        caller.poll(now, &mut out).ok()?;
        let asked = out.pop()?;
        match desk.handshake(&asked.body, 0, address, now) {
            Heard::Reply(reply) => {
                caller.input(&[&reply.head[..], &reply.body].concat(), now).ok()?;
            }
            Heard::Caller(conclusion) => {
                let mut listener = conclusion.accept(2, &options, now).ok()?;
                listener.poll(now, &mut out);
                let answer = out.pop()?;
                let caller = caller.input(&[&answer.head[..], &answer.body].concat(), now).ok()??;
                return Some([caller, listener]);
            }
            Heard::Silence => return None,
        }
    }
}
