use bytes::Bytes;

use crate::hub::{Join, Package, Parts, StreamInfo};
use crate::media::{Frame, Track};
use crate::net::http::Framing;
use crate::net::http::websocket::{binary_head, close, close_frame};

/// A package whose entries are chunks or WebSocket messages.
pub(super) struct Framed<P> {
    inner: P,
    framing: Framing,
}

impl<P> Framed<P> {
    pub(super) fn new(inner: P, framing: Framing) -> Self {
        Self { inner, framing }
    }

    fn put(&self, entry: Parts, out: &mut Parts) {
        // A chunk of no bytes would be the last.
        if entry.is_empty() {
            return;
        }
        match self.framing {
            Framing::Chunked => {
                out.put(format!("{:x}\r\n", entry.len()).as_bytes());
                out.append(entry);
                out.put(b"\r\n");
            }
            Framing::Raw => out.append(entry),
            Framing::WebSocket => {
                out.put(binary_head(entry.len()).as_slice());
                out.append(entry);
            }
        }
    }
}

impl<P: Package> Package for Framed<P> {
    fn start(&mut self, info: &StreamInfo<'_>, out: &mut Parts) {
        let mut entry = Parts::default();
        self.inner.start(info, &mut entry);
        self.put(entry, out);
    }

    fn config(&mut self, info: &StreamInfo<'_>, at_ms: i64, out: &mut Parts) {
        let mut entry = Parts::default();
        self.inner.config(info, at_ms, &mut entry);
        self.put(entry, out);
    }

    fn frame(&mut self, info: &StreamInfo<'_>, track: &Track, frame: &Frame, out: &mut Parts) -> Join {
        let mut entry = Parts::default();
        let join = self.inner.frame(info, track, frame, &mut entry);
        self.put(entry, out);
        join
    }

    fn passes(&self) -> bool {
        self.inner.passes()
    }

    fn pass(&mut self, pieces: &[Bytes], out: &mut Parts) {
        let mut entry = Parts::default();
        self.inner.pass(pieces, &mut entry);
        self.put(entry, out);
    }

    fn end(&mut self, info: &StreamInfo<'_>, out: &mut Parts) {
        let mut entry = Parts::default();
        self.inner.end(info, &mut entry);
        self.put(entry, out);
        match self.framing {
            Framing::Chunked => out.put(b"0\r\n\r\n"),
            Framing::Raw => {}
            Framing::WebSocket => out.put(&close_frame(close::NORMAL)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Codec, Flags, Meta, TrackId};

    /// Payloads as they are, no head.
    struct Plain;

    impl Package for Plain {
        fn start(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}
        fn config(&mut self, _: &StreamInfo<'_>, _: i64, out: &mut Parts) {
            out.put(b"config");
        }
        fn frame(&mut self, _: &StreamInfo<'_>, _: &Track, frame: &Frame, out: &mut Parts) -> Join {
            out.share(frame.data.clone());
            Join::Here
        }
        fn end(&mut self, _: &StreamInfo<'_>, _: &mut Parts) {}
    }

    fn framed(framing: Framing, len: usize) -> Vec<u8> {
        let (tracks, meta) = ([Track::new(TrackId(0), Codec::Data)], Meta::default());
        let info = StreamInfo { tracks: &tracks, meta: &meta };
        let data = Bytes::from(vec![b'x'; len]);
        let frame = Frame { track: TrackId(0), flags: Flags::KEY, dts: 0, cts: 0, wall_ms: None, data };
        let (mut package, mut out) = (Framed::new(Plain, framing), Parts::default());
        package.start(&info, &mut out);
        assert!(out.is_empty(), "nothing stays nothing");
        package.config(&info, 0, &mut out);
        assert_eq!(package.frame(&info, &tracks[0], &frame, &mut out), Join::Here);
        package.end(&info, &mut out);
        out.to_vec()
    }

    #[test]
    fn three_framings() {
        let x = |len| vec![b'x'; len];
        assert_eq!(framed(Framing::Raw, 1000), [&b"config"[..], &x(1000)].concat());
        let chunked = [&b"6\r\nconfig\r\n3e8\r\n"[..], &x(1000), b"\r\n0\r\n\r\n"].concat();
        assert_eq!(framed(Framing::Chunked, 1000), chunked);
        let socket = [&b"\x82\x06config\x82\x7e\x03\xe8"[..], &x(1000), b"\x88\x02\x03\xe8"].concat();
        assert_eq!(framed(Framing::WebSocket, 1000), socket);
        assert_eq!(framed(Framing::Chunked, 0), b"6\r\nconfig\r\n0\r\n\r\n");
    }
}
