//! RTMP spoken by ourselves, where thousands of clients are needed, or bad ones.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use bytes::BytesMut;
use rillbox::rtmp::client_session::{ClientEvent, ClientSession, Goal, Target};
use rillbox::rtmp::session::Tag;

use super::PATIENCE;

/// A client with a blocking socket.
pub struct Rtmp {
    session: ClientSession,
    pub socket: TcpStream,
    /// All that was sent, for the first MiB.
    pub sent: Vec<u8>,
    input: BytesMut,
}

impl Rtmp {
    /// Connects, and is ready to send.
    #[track_caller]
    pub fn publish(url: &str) -> Self {
        Self::try_start(url, Goal::Publish).unwrap()
    }

    /// Connects, and is ready to receive.
    #[track_caller]
    pub fn play(url: &str) -> Self {
        Self::try_start(url, Goal::Play).unwrap()
    }

    /// Connects; tells why the server refused.
    pub fn try_start(url: &str, goal: Goal) -> Result<Self, String> {
        let target = Target::parse(url).unwrap();
        let socket = TcpStream::connect((&*target.host, target.port)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        let session = ClientSession::new(target, goal, 7, Instant::now());
        let mut rtmp = Self { session, socket, sent: Vec::new(), input: BytesMut::new() };
        match rtmp.event()? {
            Some(ClientEvent::Ready) => Ok(rtmp),
            other => Err(format!("{other:?} instead of Ready")),
        }
    }

    /// The next thing that the server tells; `None` when it closed the connection.
    pub fn event(&mut self) -> Result<Option<ClientEvent>, String> {
        loop {
            let event = self.session.input(&mut self.input).map_err(|error| error.to_string())?;
            self.flush()?;
            if event.is_some() {
                return Ok(event);
            }
            let mut buffer = [0; 64 * 1024];
            match self.socket.read(&mut buffer).map_err(|error| error.to_string())? {
                0 => return Ok(None),
                len => self.input.extend_from_slice(&buffer[..len]),
            }
        }
    }

    /// The next audio, video or data.
    #[track_caller]
    pub fn tag(&mut self) -> Tag {
        loop {
            match self.event() {
                Ok(Some(ClientEvent::Tag(tag))) => return tag,
                Ok(Some(_)) => {}
                other => panic!("{other:?} instead of media"),
            }
        }
    }

    /// Publishes a piece.
    pub fn send(&mut self, tag: &Tag) -> Result<(), String> {
        self.session.send(tag);
        self.flush()
    }

    /// Says goodbye and waits until the server has closed the connection.
    pub fn finish(mut self) {
        self.session.finish();
        let _ = self.flush();
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
        while let Ok(Some(_)) = self.event() {}
    }

    fn flush(&mut self) -> Result<(), String> {
        let out = self.session.take_output();
        if self.sent.len() < 1 << 20 {
            self.sent.extend_from_slice(&out);
        }
        self.socket.write_all(&out).map_err(|error| error.to_string())
    }
}
