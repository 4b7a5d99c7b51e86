//! On real sockets of the loopback interface, with clients of ours.

use std::collections::VecDeque;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::webrtc::caller::{Caller, Heard};
use crate::webrtc::dtls::{Dtls, DtlsError, Fingerprint, Role};
use crate::webrtc::stun::{AgentRole, Class, Writer};

const LONG: Duration = Duration::from_secs(20);

enum Wire {
    Udp(UdpSocket, SocketAddr),
    /// And what was read of the next datagrams.
    Tcp(TcpStream, Vec<u8>),
}

impl Wire {
    async fn send(&mut self, datagram: &[u8]) {
        match self {
            Self::Udp(socket, to) => drop(socket.send_to(datagram, *to).await.unwrap()),
            Self::Tcp(stream, _) => {
                stream.write_u16(datagram.len() as u16).await.unwrap();
                stream.write_all(datagram).await.unwrap();
            }
        }
    }

    /// `None`: the connection is gone.
    async fn receive(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Udp(socket, _) => {
                let mut bytes = vec![0; 2000];
                let length = socket.recv(&mut bytes).await.unwrap();
                bytes.truncate(length);
                Some(bytes)
            }
            Self::Tcp(stream, read) => loop {
                if let Some((length, rest)) = read.split_first_chunk() {
                    let length = usize::from(u16::from_be_bytes(*length));
                    if rest.len() >= length {
                        let datagram = rest[..length].to_vec();
                        read.drain(..2 + length);
                        return Some(datagram);
                    }
                }
                if stream.read_buf(read).await.ok()? == 0 {
                    return None;
                }
            },
        }
    }
}

struct Client {
    wire: Wire,
    caller: Caller,
    out: Vec<Vec<u8>>,
    got: VecDeque<Vec<u8>>,
    connected: bool,
    end: Option<End>,
}

#[derive(Default)]
struct Collect {
    rtp: Mutex<Vec<Bytes>>,
    rtcp: Mutex<Vec<Vec<u8>>>,
    came: Notify,
}

impl Sink for Collect {
    fn rtp(&self, packet: Bytes, _: Instant) {
        lock(&self.rtp).push(packet);
        self.came.notify_one();
    }

    fn rtcp(&self, compound: &[u8], _: Instant) {
        lock(&self.rtcp).push(compound.to_vec());
        self.came.notify_one();
    }
}

fn endpoint(change: impl FnOnce(&mut EndpointOptions)) -> Endpoint {
    let mut options = EndpointOptions::new(Certificate::generate().unwrap());
    change(&mut options);
    let local = "127.0.0.1:0".parse().unwrap();
    Endpoint::bind(&[local], &[local], options).unwrap()
}

/// A client and our peer for it, which don't know each other yet. `role` is what the endpoint does.
async fn pair(endpoint: &Endpoint, tcp: bool, role: Role) -> (Client, Peer) {
    let addrs = endpoint.local_addrs();
    let wire = if tcp {
        Wire::Tcp(TcpStream::connect(addrs.tcp[0]).await.unwrap(), Vec::new())
    } else {
        Wire::Udp(UdpSocket::bind("127.0.0.1:0").await.unwrap(), addrs.udp[0])
    };
    let config = DtlsConfig::new(Certificate::generate().unwrap()).unwrap();
    let [ours, theirs] = [0; 2].map(|_| Endpoint::credentials().unwrap());
    let remote = |name: &Credentials, fingerprint: &Fingerprint, role| Remote {
        ufrag: name.ufrag.clone(),
        pwd: name.pwd.clone(),
        fingerprint: fingerprint.clone(),
        role,
    };
    let opposite = if role == Role::Server { Role::Client } else { Role::Server };
    let there = remote(&ours, endpoint.certificate().fingerprint(), opposite);
    let peer = endpoint.open(ours, remote(&theirs, config.certificate().fingerprint(), role)).unwrap();
    let caller = Caller::new(&config, theirs, there, Instant::now());
    let client = Client { wire, caller, out: Vec::new(), got: VecDeque::new(), connected: false, end: None };
    (client, peer)
}

impl Client {
    fn take(&mut self, heard: Heard, mut datagram: Vec<u8>) {
        match heard {
            Heard::Connected => self.connected = true,
            Heard::Ended(end) => self.end = Some(end),
            Heard::Nothing => {}
            Heard::Rtcp(length) | Heard::Rtp(length) => {
                datagram.truncate(length);
                self.got.push_back(datagram);
            }
        }
    }

    async fn flush(&mut self) {
        for datagram in std::mem::take(&mut self.out) {
            self.wire.send(&datagram).await;
        }
    }

    /// Runs until that is so.
    async fn until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let all = async {
            while !done(self) {
                let heard = self.caller.poll(Instant::now(), &mut self.out);
                self.take(heard, Vec::new());
                self.flush().await;
                let deadline = self.caller.deadline();
                tokio::select! {
                    datagram = self.wire.receive() => {
                        let Some(mut datagram) = datagram else {
                            self.end.get_or_insert(End::PeerClosed);
                            continue;
                        };
                        let heard = self.caller.input(&mut datagram, Instant::now(), &mut self.out);
                        self.take(heard, datagram);
                        self.flush().await;
                    }
                    () = tokio::time::sleep_until(deadline.into()) => {}
                }
            }
        };
        timeout(LONG, all).await.unwrap();
    }

    async fn connect(&mut self) {
        self.until(|client| client.connected).await;
    }

    async fn send(&mut self, mut packet: Vec<u8>, control: bool) {
        assert!(self.caller.seal(&mut packet, control));
        self.wire.send(&packet).await;
    }
}

fn packet(seq: u16, length: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(99u32.to_be_bytes());
    packet.resize(length, seq as u8);
    packet
}

fn report() -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(99u32.to_be_bytes());
    packet
}

async fn media_flows(client: &mut Client, peer: &Peer, batch: &mut Batch) {
    let sink = Arc::new(Collect::default());
    peer.set_sink(sink.clone());
    for seq in 0..40 {
        let length = if seq % 10 == 9 { 300 } else { 1200 };
        let packet = packet(seq, length);
        batch.rtp(peer, &packet[..12], &[&packet[12..100], &packet[100..]]);
    }
    batch.rtcp(peer, &report());
    batch.flush().await;
    client.until(|client| client.got.len() == 41).await;
    for seq in 0..40 {
        let length = if seq % 10 == 9 { 300 } else { 1200 };
        assert_eq!(client.got.pop_front().unwrap(), packet(seq, length));
    }
    assert_eq!(client.got.pop_front().unwrap(), report());
    for seq in 0..20 {
        client.send(packet(seq, 500), false).await;
    }
    client.send(report(), true).await;
    let all = async {
        while lock(&sink.rtp).len() < 20 || lock(&sink.rtcp).is_empty() {
            sink.came.notified().await;
        }
    };
    timeout(LONG, all).await.unwrap();
    assert_eq!(lock(&sink.rtp)[3], packet(3, 500));
    assert_eq!(lock(&sink.rtcp)[0], report());
}

#[tokio::test]
async fn clients_connect_and_media_flows() {
    let endpoint = endpoint(|_| {});
    let mut batch = endpoint.batch();
    for (tcp, role) in
        [(false, Role::Server), (false, Role::Client), (true, Role::Server), (true, Role::Client)]
    {
        let (mut client, peer) = pair(&endpoint, tcp, role).await;
        assert_eq!(peer.address(), None);
        client.connect().await;
        timeout(LONG, peer.connected()).await.unwrap().unwrap();
        assert_eq!(peer.is_tcp(), tcp);
        media_flows(&mut client, &peer, &mut batch).await;
        let traffic = peer.traffic();
        assert_eq!((traffic.sent, traffic.received, traffic.refused), (41, 21, 0));
        // The client goes, and says so.
        client.caller.close(&mut client.out);
        client.flush().await;
        assert_eq!(timeout(LONG, peer.ended()).await.unwrap(), End::PeerClosed);
        assert_eq!(endpoint.sessions(), 0);
    }
    assert_eq!(batch.dropped(), 0);
}

#[tokio::test]
async fn kernels_without_segments_get_packets_one_by_one() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    endpoint.0.0.sockets[0].never_cut_segments();
    media_flows(&mut client, &peer, &mut endpoint.batch()).await;
}

#[tokio::test]
async fn what_is_dropped_is_closed_and_forgotten() {
    let endpoint = endpoint(|options| options.max_sessions = 2);
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    let (_, second) = pair(&endpoint, false, Role::Server).await;
    let [local, other] = [0; 2].map(|_| Endpoint::credentials().unwrap());
    let remote = Remote {
        ufrag: other.ufrag,
        pwd: other.pwd,
        fingerprint: endpoint.certificate().fingerprint().clone(),
        role: Role::Server,
    };
    assert_eq!(endpoint.open(local.clone(), remote.clone()).unwrap_err(), WebRtcError::Full(2));
    endpoint.set_limits(1, LONG, LONG);
    drop(second);
    assert_eq!(endpoint.open(local.clone(), remote.clone()).unwrap_err(), WebRtcError::Full(1));
    endpoint.set_limits(2, LONG, LONG);
    let third = endpoint.open(local, remote).unwrap();
    assert_eq!(endpoint.sessions(), 2);
    third.close();
    assert_eq!(third.ended().await, End::Closed);
    assert_eq!(third.connected().await, Err(End::Closed));
    drop((peer, third));
    client.until(|client| client.end.is_some()).await;
    assert_eq!(client.end, Some(End::PeerClosed));
    let tables = lock(&endpoint.0.0.tables);
    assert!(tables.names.is_empty() && tables.paths.is_empty() && tables.peers.is_empty());
    assert_eq!(endpoint.0.0.connecting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_connection_ends_with_its_session() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, true, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    peer.close();
    // The word of DTLS, then the end of the connection, whether the client says anything or not.
    let closed = async { while client.wire.receive().await.is_some() {} };
    timeout(LONG, closed).await.unwrap();
    assert!(lock(&endpoint.0.0.tables).connections.is_empty());
}

// Whoever holds the tables may wait for a session.
#[tokio::test]
async fn sending_by_tcp_waits_for_the_tables_without_its_session() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, true, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    let mut batch = endpoint.batch();
    let (sender, sent) = std::sync::mpsc::channel();
    let tables = lock(&endpoint.0.0.tables);
    let adding = peer.clone();
    std::thread::spawn(move || batch.rtp(&adding, &packet(1, 100), &[]));
    std::thread::spawn(move || {
        while peer.traffic().sent == 0 {
            std::thread::yield_now();
        }
        sender.send(()).unwrap();
    });
    sent.recv_timeout(LONG).unwrap();
    drop(tables);
}

#[tokio::test]
async fn connections_of_paths_that_made_room_are_closed() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    let (theirs, ours) = client.caller.names();
    let mut wires = Vec::new();
    for index in 0..20 {
        let stream = TcpStream::connect(endpoint.local_addrs().tcp[0]).await.unwrap();
        let mut wire = Wire::Tcp(stream, Vec::new());
        wire.send(&check(&ours, &theirs, index)).await;
        assert!(timeout(LONG, wire.receive()).await.unwrap().is_some());
        wires.push(wire);
    }
    assert_eq!(timeout(LONG, wires[0].receive()).await.unwrap(), None);
    let tables = lock(&endpoint.0.0.tables);
    // One is the UDP path.
    assert_eq!((tables.paths.len(), tables.connections.len()), (8, 7));
}

/// A check that doesn't choose its path.
fn check(ours: &Credentials, theirs: &Credentials, index: u8) -> Vec<u8> {
    Writer::new(Class::Request, [index; 12])
        .username(&ours.ufrag, &theirs.ufrag)
        .check(1, AgentRole::Controlling(1), false)
        .finish(&ours.pwd)
}

#[tokio::test]
async fn nobody_takes_the_path_of_one_who_is_there() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    let (other, other_peer) = pair(&endpoint, false, Role::Server).await;
    let (theirs, ours) = other.caller.names();
    let shared = &endpoint.0.0;
    let path = peer.0.inner.session.path().unwrap();
    let check = check(&ours, &theirs, 1);
    let owner = |path| shared.peer(path).map(|peer| peer.id);
    let mut out = Vec::new();
    let now = Instant::now();
    assert_eq!(shared.input(&check, path, now, &mut out), None);
    assert_eq!((owner(path), out.len()), (Some(peer.0.inner.id), 0));
    // The one who was there is gone, without a word.
    assert_eq!(shared.input(&check, path, now + 2 * PRESENT, &mut out), Some(()));
    assert_eq!((owner(path), out.len()), (Some(other_peer.0.inner.id), 1));
    drop(peer);
    assert_eq!(owner(path), Some(other_peer.0.inner.id));
    // What isn't anybody's is mapped by the next check.
    lock(&shared.tables).paths.clear();
    shared.input(&check, path, now, &mut out).unwrap();
    assert_eq!(owner(path), Some(other_peer.0.inner.id));
}

#[tokio::test]
async fn one_peer_does_not_fill_the_queue_of_handshakes() {
    let endpoint = endpoint(|_| {});
    let (_, peer) = pair(&endpoint, false, Role::Server).await;
    let new = || Handshake::new(peer.0.inner.clone(), Bytes::new());
    let mut waiting: Vec<_> = std::iter::from_fn(new).collect();
    assert_eq!(waiting.len(), HANDSHAKES_OF_PEER);
    waiting.pop();
    assert!(new().is_some());
}

#[tokio::test]
async fn a_lost_connection_is_made_again() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, true, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    client.wire = Wire::Tcp(TcpStream::connect(endpoint.local_addrs().tcp[0]).await.unwrap(), Vec::new());
    let (ours, theirs) = client.caller.names();
    client.caller.restart(ours, theirs, Instant::now());
    let mut checked = false;
    client
        .until(|client| {
            std::mem::replace(&mut checked, true) && client.out.is_empty() && peer.address().is_some()
        })
        .await;
    media_flows(&mut client, &peer, &mut endpoint.batch()).await;
}

#[tokio::test]
async fn who_never_comes_is_given_up() {
    let endpoint = endpoint(|options| options.connect_timeout = Duration::from_millis(300));
    let (_, peer) = pair(&endpoint, false, Role::Server).await;
    let end = timeout(LONG, peer.connected()).await.unwrap().unwrap_err();
    assert_eq!(end, End::NotConnected(Duration::from_millis(300)));
    assert_eq!(endpoint.sessions(), 0);
}

#[tokio::test]
async fn another_certificate_ends_it() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    let stranger = DtlsConfig::new(Certificate::generate().unwrap()).unwrap();
    let fingerprint = endpoint.certificate().fingerprint().clone();
    client.caller.impersonate(Dtls::new(&stranger, Role::Client, fingerprint, Instant::now()));
    let ended = async {
        tokio::select! {
            end = peer.ended() => end,
            () = client.until(|client| client.end.is_some()) => peer.ended().await,
        }
    };
    assert_eq!(timeout(LONG, ended).await.unwrap(), End::Failed(DtlsError::Fingerprint));
}

#[tokio::test]
async fn ice_restarts_go_on_with_the_same_keys() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    let theirs = Endpoint::credentials().unwrap();
    let ours = peer.restart(theirs.ufrag.clone(), theirs.pwd.clone()).unwrap();
    assert_eq!(peer.remote(), theirs);
    client.caller.restart(theirs, ours.clone(), Instant::now());
    // From another address.
    client.wire = Wire::Udp(UdpSocket::bind("127.0.0.1:0").await.unwrap(), endpoint.local_addrs().udp[0]);
    let Wire::Udp(socket, _) = &client.wire else { unreachable!() };
    let address = socket.local_addr().unwrap();
    client.until(|_| peer.address() == Some(address)).await;
    media_flows(&mut client, &peer, &mut endpoint.batch()).await;
    let tables = lock(&endpoint.0.0.tables);
    assert_eq!(tables.names.keys().collect::<Vec<_>>(), [&ours.ufrag]);
}

#[tokio::test]
async fn strangers_leave_nothing() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    let name = lock(&endpoint.0.0.tables).names.keys().next().unwrap().clone();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let to = endpoint.local_addrs().udp[0];
    for index in 0..200u8 {
        let unknown = Writer::new(Class::Request, [index; 12]).username("nobody", "x").finish("secret");
        let wrong = Writer::new(Class::Request, [index; 12]).username(&name, "x").finish("secret");
        let hello = [&[22, 254, 253, 0, 0, 0, 0, 0, 0, 0, index, 0, 40][..], &[1; 40]].concat();
        let media = packet(index.into(), 100);
        for datagram in [&unknown[..], &wrong, &hello, &media, &[index; 30], &[]] {
            stranger.send_to(datagram, to).await.unwrap();
        }
    }
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    assert!(stranger.try_recv(&mut [0; 2000]).is_err(), "nobody answers strangers");
    let tables = lock(&endpoint.0.0.tables);
    assert_eq!((tables.names.len(), tables.paths.len(), tables.peers.len()), (1, 1, 1));
    assert_eq!(peer.traffic().refused, 0);
}

#[tokio::test]
async fn tcp_connections_of_strangers_are_closed() {
    let endpoint = endpoint(|_| {});
    let (_client, _peer) = pair(&endpoint, false, Role::Server).await;
    let to = endpoint.local_addrs().tcp[0];
    let name = lock(&endpoint.0.0.tables).names.keys().next().unwrap().clone();
    let wrong = Writer::new(Class::Request, [1; 12]).username(&name, "x").finish("secret");
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 4, 1, 2, 3, 4], &[0, 0], &wrong] {
        let mut wire = Wire::Tcp(TcpStream::connect(to).await.unwrap(), Vec::new());
        if bytes == wrong {
            wire.send(bytes).await;
        } else if let Wire::Tcp(stream, _) = &mut wire {
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        assert_eq!(timeout(LONG, wire.receive()).await.unwrap(), None);
    }
    let tables = lock(&endpoint.0.0.tables);
    assert!(tables.connections.is_empty() && tables.paths.is_empty());
}

#[tokio::test]
async fn many_handshakes_at_once_and_one_batch_for_all() {
    let endpoint = endpoint(|_| {});
    let mut clients = tokio::task::JoinSet::new();
    let mut peers = Vec::new();
    let count = 40;
    for _ in 0..count {
        let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
        peers.push(peer);
        clients.spawn(async move {
            client.connect().await;
            client.until(|client| client.got.len() == 30).await;
            for (seq, got) in client.got.iter().enumerate() {
                assert_eq!(*got, packet(seq as u16, 1100));
            }
        });
    }
    for peer in &peers {
        timeout(LONG, peer.connected()).await.unwrap().unwrap();
    }
    let mut batch = endpoint.batch();
    for three in 0..10 {
        for peer in &peers {
            for seq in three * 3..three * 3 + 3 {
                let packet = packet(seq, 1100);
                batch.rtp(peer, &packet[..12], &[&packet[12..]]);
            }
            if batch.is_full() {
                batch.flush().await;
            }
        }
        batch.flush().await;
        tokio::task::yield_now().await;
    }
    while let Some(result) = timeout(LONG, clients.join_next()).await.unwrap() {
        result.unwrap();
    }
    drop(peers);
    assert_eq!(endpoint.sessions(), 0);
}

#[tokio::test]
async fn a_batch_that_nobody_flushes_is_bounded() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    let mut batch = endpoint.batch();
    for seq in 0..10_000 {
        let packet = packet(seq, 1200);
        batch.rtp(&peer, &packet[..12], &[&packet[12..]]);
    }
    assert!(batch.is_full() && batch.dropped() > 9000);
    let huge = packet(1, 9000);
    let dropped = batch.dropped();
    batch.flush().await;
    batch.rtp(&peer, &huge[..12], &[&huge[12..]]);
    assert_eq!(batch.dropped(), dropped + 1);
}

#[tokio::test]
async fn stopping_ends_all_and_takes_no_more() {
    let endpoint = endpoint(|_| {});
    let (mut client, peer) = pair(&endpoint, false, Role::Server).await;
    client.connect().await;
    timeout(LONG, peer.connected()).await.unwrap().unwrap();
    endpoint.stop();
    assert_eq!(timeout(LONG, peer.ended()).await.unwrap(), End::Stopped);
    client.until(|client| client.end.is_some()).await;
    assert_eq!(client.end, Some(End::PeerClosed));
    let [local, other] = [0; 2].map(|_| Endpoint::credentials().unwrap());
    let fingerprint = endpoint.certificate().fingerprint().clone();
    let remote = Remote { ufrag: other.ufrag, pwd: other.pwd, fingerprint, role: Role::Server };
    assert_eq!(endpoint.open(local, remote).unwrap_err(), WebRtcError::Stopping);
    // Its tasks let go of the sockets.
    let addrs = endpoint.local_addrs();
    drop((peer, endpoint));
    let free = async {
        while std::net::UdpSocket::bind(addrs.udp[0]).is_err()
            || std::net::TcpListener::bind(addrs.tcp[0]).is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, free).await.unwrap();
}
