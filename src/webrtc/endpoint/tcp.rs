//! ICE over TCP, as the passive side (RFC 6544): datagrams with their length before them (RFC 4571).
//!
//! A connection that shows no signed check soon is closed; of those only so many are kept.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::{Shared, driver, lock};
use crate::webrtc::ice::{Path, Via};

/// Longest datagram of a peer's.
const MAX_DATAGRAM: usize = 4096;
/// Datagrams that wait for a connection to take them; more are lost, as they would be by UDP.
const WAITING: usize = 256;
/// Bytes that the kernel keeps of what we send: enough for a key frame, not for seconds.
const SEND_BUFFER: usize = 256 << 10;
/// Until a signed check came.
const PROOF: Duration = Duration::from_secs(10);
/// Connections without one.
const MAX_UNPROVED: usize = 128;
const BACKLOG: i32 = 256;

/// Takes datagrams for a connection.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Vec<u8>>);

impl Writer {
    /// Sends one, or loses it.
    pub(super) fn send(&self, datagram: &[u8]) {
        let Ok(length) = u16::try_from(datagram.len()) else { return };
        if let Ok(place) = self.0.try_reserve() {
            let mut bytes = Vec::with_capacity(2 + datagram.len());
            bytes.extend(length.to_be_bytes());
            bytes.extend(datagram);
            place.send(bytes);
        }
    }
}

pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let open = |addr: SocketAddr| {
        let socket = Socket::new(
            Domain::for_address(addr),
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        io::Result::Ok(socket)
    };
    let socket = match open(addr) {
        // The system has no IPv6.
        Err(e)
            if addr.is_ipv6()
                && addr.ip().is_unspecified()
                && matches!(e.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) =>
        {
            open((std::net::Ipv4Addr::UNSPECIFIED, addr.port()).into())
        }
        other => other,
    }?;
    TcpListener::from_std(socket.into())
}

/// Takes connections.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let unproved = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = driver::stopped(&shared) => return,
        };
        let Ok((stream, remote)) = accepted else {
            // Out of descriptors, most likely: others need a moment to give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if unproved.fetch_add(1, Ordering::AcqRel) >= MAX_UNPROVED {
            unproved.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        tokio::spawn(serve(shared.clone(), stream, remote, unproved.clone()));
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, remote: SocketAddr, unproved: Arc<AtomicUsize>) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let (mut reader, writer) = stream.into_split();
    let mut datagram = vec![0; MAX_DATAGRAM];
    let mut answers = Vec::new();
    let mut path = Path { via: Via::Tcp(0), remote };
    let first = tokio::time::timeout(PROOF, read(&mut reader, &mut datagram)).await;
    unproved.fetch_sub(1, Ordering::AcqRel);
    let Ok(Ok(length)) = first else { return };
    // It has a place among connections before its first datagram proves it, and none if that doesn't.
    let (sender, waiting) = mpsc::channel(WAITING);
    let number = {
        let mut tables = lock(&shared.tables);
        let number = tables.next_connection;
        tables.next_connection = number.wrapping_add(1);
        if tables.connections.contains_key(&number) {
            return;
        }
        tables.connections.insert(number, Writer(sender));
        number
    };
    path.via = Via::Tcp(number);
    let is_check = datagram.first().is_some_and(|first| *first < 4);
    if is_check {
        shared.input(datagram.get(..length).unwrap_or_default(), path, Instant::now(), &mut answers);
        shared.send(path, &answers);
    }
    if shared.peer(path).is_some() {
        let mut write = std::pin::pin!(write(writer, waiting));
        // Nobody writes to it any more when its session has ended.
        let ended = tokio::select! {
            () = read_all(&shared, &mut reader, &mut datagram, path) => false,
            () = &mut write => true,
        };
        let peer = shared.peer(path);
        {
            let mut tables = lock(&shared.tables);
            tables.connections.remove(&number);
            tables.paths.remove(&path);
        }
        if let Some(peer) = peer {
            peer.session.lost(path.via);
        }
        if !ended {
            // What it has taken still goes out, if the peer takes it.
            let _ = tokio::time::timeout(PROOF, write).await;
        }
    } else {
        lock(&shared.tables).connections.remove(&number);
    }
}

async fn read(reader: &mut OwnedReadHalf, into: &mut [u8]) -> io::Result<usize> {
    let length = usize::from(reader.read_u16().await?);
    let place = into.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
    reader.read_exact(place).await?;
    Ok(length)
}

async fn read_all(shared: &Arc<Shared>, reader: &mut OwnedReadHalf, datagram: &mut [u8], path: Path) {
    let mut answers = Vec::new();
    loop {
        let read = tokio::select! {
            read = read(reader, datagram) => read,
            () = driver::stopped(shared) => return,
        };
        let Ok(length) = read else { return };
        shared.input(datagram.get(..length).unwrap_or_default(), path, Instant::now(), &mut answers);
        if !answers.is_empty() {
            shared.send(path, &answers);
            answers.clear();
        }
        // The session has ended.
        if shared.peer(path).is_none() {
            return;
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut waiting: mpsc::Receiver<Vec<u8>>) {
    let mut many = Vec::new();
    let mut bytes = Vec::new();
    while waiting.recv_many(&mut many, 64).await > 0 {
        bytes.clear();
        many.drain(..).for_each(|datagram| bytes.extend(datagram));
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
