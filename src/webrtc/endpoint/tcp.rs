//! ICE over TCP, as the passive side (RFC 6544): datagrams with their length before them (RFC 4571).
//!
//! A connection that shows no signed check soon is closed; of those only so many are kept. So is one on which nothing moves,
//! and with its session or its path it ends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Shared, driver, lock};
use crate::webrtc::ice::{Path, Via};
use crate::webrtc::stun::unmapped;

/// Longest datagram of a peer's.
const MAX_DATAGRAM: usize = 4096;
/// Datagrams that wait for a connection to take them; more are lost, as they would be by UDP.
const WAITING: usize = 256;
/// Bytes that the kernel keeps of what we send: enough for a key frame, not for seconds.
const SEND_BUFFER: usize = 256 << 10;
/// Until a signed check came.
const PROOF: Duration = Duration::from_secs(10);
/// Connections without one, and those of one address: a stranger doesn't close the door to all.
const MAX_UNPROVED: usize = 256;
const MAX_UNPROVED_EACH: usize = 16;
/// Until a connection on which nothing comes, or nothing goes out though there is something, is closed: checks come every 6 s
/// at least.
const SILENT: Duration = Duration::from_secs(30);
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

/// Connections that have proved nothing, by where they are from.
#[derive(Debug, Default)]
struct Unproved(Mutex<HashMap<IpAddr, usize>>);

impl Unproved {
    /// One comes; tells whether it may.
    fn enter(&self, from: IpAddr) -> bool {
        let mut counts = lock(&self.0);
        let all: usize = counts.values().sum();
        let of_it = counts.get(&network(from)).copied().unwrap_or(0);
        let enters = all < MAX_UNPROVED && of_it < MAX_UNPROVED_EACH;
        if enters {
            counts.insert(network(from), of_it + 1);
        }
        enters
    }

    fn leave(&self, from: IpAddr) {
        let mut counts = lock(&self.0);
        if let Some(count) = counts.get_mut(&network(from)) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&network(from));
            }
        }
    }
}

/// Whom an address belongs to: by IPv6 everybody has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match unmapped(address) {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// Takes connections.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let unproved = Arc::new(Unproved::default());
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
        if unproved.enter(remote.ip()) {
            tokio::spawn(serve(shared.clone(), stream, remote, unproved.clone()));
        }
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, remote: SocketAddr, unproved: Arc<Unproved>) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let (mut reader, writer) = stream.into_split();
    let mut datagram = vec![0; MAX_DATAGRAM];
    let mut answers = Vec::new();
    let mut path = Path { via: Via::Tcp(0), remote };
    let first = timeout(PROOF, read(&mut reader, &mut datagram)).await;
    unproved.leave(remote.ip());
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
            let _ = timeout(PROOF, write).await;
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
            read = timeout(SILENT, read(reader, datagram)) => read,
            () = driver::stopped(shared) => return,
        };
        let Ok(Ok(length)) = read else { return };
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
        let Ok(Ok(())) = timeout(SILENT, writer.write_all(&bytes)).await else { return };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_leaves_room_for_others() {
        let unproved = Unproved::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for host in 0..20 {
            let entered = unproved.enter(ip(&format!("2001:db8::{host}")));
            assert_eq!(entered, host < MAX_UNPROVED_EACH);
        }
        assert!(unproved.enter(ip("192.0.2.1")) && unproved.enter(ip("2001:db8:0:1::")));
        unproved.leave(ip("2001:db8::77"));
        assert!(unproved.enter(ip("2001:db8::99")));
        for other in 0..=255u8 {
            unproved.enter([10, 0, 0, other].into());
        }
        assert_eq!(lock(&unproved.0).values().sum::<usize>(), MAX_UNPROVED);
        assert!(!unproved.enter(ip("198.51.100.1")));
        unproved.leave(ip("::ffff:192.0.2.1"));
        assert!(unproved.enter(ip("198.51.100.1")) && !lock(&unproved.0).contains_key(&ip("192.0.2.1")));
    }
}
