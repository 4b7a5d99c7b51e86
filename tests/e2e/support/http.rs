//! HTTP spoken by ourselves: requests as they are, also bad ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Header lines.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header line.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The body, which has to be text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body of a good answer, which has to be text.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!(self.status, 200, "{}\n{}", self.head, String::from_utf8_lossy(&self.body));
        String::from_utf8(self.body).unwrap()
    }
}

/// Asks for `target`, as it stands, on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, target: &str) -> Answer {
    request(address, &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// Sends this, and reads until the server closes.
#[track_caller]
pub fn request(address: SocketAddr, text: &str) -> Answer {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(text.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let end = bytes
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no answer to {text:?}: {}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: bytes[end + 4..].to_vec() }
}
