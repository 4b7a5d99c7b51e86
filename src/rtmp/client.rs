//! The client's skin: a socket to a [`ClientSession`].

use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::RtmpError;
use super::client_session::{ClientEvent, ClientSession, Goal, Target};
use super::session::Tag;
use crate::format::amf::Value;

/// Read buffer, bytes.
const READ: usize = 32 * 1024;

/// A connection to an RTMP server for one stream.
#[derive(Debug)]
pub struct Client<S> {
    socket: S,
    session: ClientSession,
    input: BytesMut,
    out: BytesMut,
}

impl Client<TcpStream> {
    /// Connects by TCP; returns when the server has accepted publish or play.
    ///
    /// # Errors
    /// When the server can't be reached, refuses, or takes too long; for `rtmps://`, which wants
    /// [`Client::over`] a TLS socket.
    pub async fn connect(target: Target, goal: Goal) -> Result<Self, RtmpError> {
        if target.tls {
            return Err(RtmpError::Url { url: target.tc_url(), why: "needs TLS, which this caller has not" });
        }
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await?;
        socket.set_nodelay(true)?;
        Self::over(socket, target, goal).await
    }

    /// The server.
    ///
    /// # Errors
    /// When the connection broke.
    pub fn peer(&self) -> std::io::Result<std::net::SocketAddr> {
        self.socket.peer_addr()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Speaks RTMP over a connected socket; returns when the server has accepted publish or play.
    ///
    /// # Errors
    /// When the server refuses, breaks the protocol, or takes too long.
    pub async fn over(socket: S, target: Target, goal: Goal) -> Result<Self, RtmpError> {
        let seed = RandomState::new().hash_one(0u8);
        let session = ClientSession::new(target, goal, seed, Instant::now());
        let mut client = Self { socket, session, input: BytesMut::new(), out: BytesMut::new() };
        loop {
            match client.next().await? {
                Some(ClientEvent::Ready) => return Ok(client),
                Some(_) => {}
                None => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            }
        }
    }

    /// The next thing that the server does; `None` when it closed the connection. A publisher has to call it
    /// too, to hear of its end. Safe to cancel.
    ///
    /// # Errors
    /// When the server breaks the protocol or ends the stream with an error.
    pub async fn next(&mut self) -> Result<Option<ClientEvent>, RtmpError> {
        loop {
            let event = self.session.input(&mut self.input)?;
            self.flush().await?;
            if event.is_some() {
                return Ok(event);
            }
            self.input.reserve(READ);
            let read = self.socket.read_buf(&mut self.input);
            let read = match self.session.deadline() {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), read).await,
                None => Ok(read.await),
            };
            match read {
                Ok(Ok(0)) => return Ok(None),
                Ok(read) => {
                    read?;
                }
                Err(_) => self.session.timeout(Instant::now())?,
            }
        }
    }

    /// Sends a piece of the published stream.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send(&mut self, tag: &Tag) -> Result<(), RtmpError> {
        self.session.send(tag);
        self.flush().await
    }

    /// Sends the published stream's metadata.
    ///
    /// # Errors
    /// When the connection broke.
    pub async fn send_meta(&mut self, meta: Value) -> Result<(), RtmpError> {
        self.session.send_meta(meta);
        self.flush().await
    }

    /// Ends the stream and closes the connection.
    ///
    /// # Errors
    /// When the connection broke before.
    pub async fn finish(mut self) -> Result<(), RtmpError> {
        self.session.finish();
        self.flush().await?;
        self.socket.shutdown().await?;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), RtmpError> {
        self.out.extend_from_slice(&self.session.take_output());
        if self.out.is_empty() {
            return Ok(());
        }
        while !self.out.is_empty() {
            self.socket.write_buf(&mut self.out).await?;
        }
        self.socket.flush().await?;
        Ok(())
    }
}
