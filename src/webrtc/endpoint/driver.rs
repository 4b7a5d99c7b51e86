//! The tasks of an endpoint: what receives, what computes handshakes, what looks at the clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Handshake, Shared, lock};
use crate::net::udp::{Outgoing, Received};
use crate::webrtc::ice::{Path, Via};

/// Batches that are received before others have their turn.
const BATCHES: usize = 8;
/// How often sessions are looked after, while some connect and else.
const SOON: Duration = Duration::from_millis(100);
const CALM: Duration = Duration::from_secs(1);

/// A datagram to send.
pub(super) struct To<'a>(pub(super) SocketAddr, pub(super) &'a [u8]);

impl Outgoing for To<'_> {
    fn to(&self) -> SocketAddr {
        self.0
    }

    fn pieces(&self) -> [&[u8]; 2] {
        [self.1, &[]]
    }
}

/// Receives on one UDP socket.
pub(super) async fn receive(shared: Arc<Shared>, index: usize) {
    let Some((socket, number)) = shared.sockets.get(index).zip(u8::try_from(index).ok()) else { return };
    // Not there before the first peer comes.
    let mut received: Option<Received> = None;
    let mut answers = Vec::new();
    loop {
        tokio::select! {
            ready = socket.readable() => if ready.is_err() { return },
            () = stopped(&shared) => return,
        }
        for _ in 0..BATCHES {
            let room = received.get_or_insert_default();
            let got = socket.receive(room);
            let now = Instant::now();
            for (datagram, remote) in room.datagrams().filter(|(_, from)| from.port() != 0) {
                let path = Path { via: Via::Udp(number), remote };
                shared.input(datagram, path, now, &mut answers);
                if !answers.is_empty() {
                    shared.send(path, &answers);
                    answers.clear();
                }
            }
            match got {
                Ok(0) => break,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => break,
                // Others are the network's, and pass.
                _ => {}
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Computes handshakes, one after the other.
pub(super) async fn compute(shared: Arc<Shared>, mut waiting: mpsc::Receiver<Handshake>) {
    let mut out = Vec::new();
    loop {
        let next = tokio::select! {
            next = waiting.recv() => next,
            () = stopped(&shared) => None,
        };
        let Some(handshake) = next else { return };
        let Handshake(peer, datagram) = &handshake;
        let datagram = Some(&datagram[..]).filter(|datagram| !datagram.is_empty());
        let change = peer.session.dtls(datagram, Instant::now(), &mut out);
        if let Some(path) = peer.session.path() {
            shared.send(path, &out);
        }
        out.clear();
        shared.changed(peer, change);
        tokio::task::yield_now().await;
    }
}

/// Waits for the end.
pub(super) async fn stopped(shared: &Shared) {
    loop {
        let stopping = shared.stopping.notified();
        if shared.is_stopped() {
            return;
        }
        stopping.await;
    }
}

/// Looks after sessions for which time matters.
pub(super) async fn tick(shared: Arc<Shared>) {
    let mut out = Vec::new();
    loop {
        let connecting = shared.connecting.load(Ordering::Acquire) > 0;
        let pause = match (connecting, lock(&shared.tables).peers.is_empty()) {
            (true, _) => SOON,
            (false, false) => CALM,
            (false, true) => Duration::MAX,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.wake.notified(), if !connecting => continue,
            () = stopped(&shared) => return,
        }
        let peers: Vec<_> = lock(&shared.tables).peers.values().cloned().collect();
        let now = Instant::now();
        for peer in peers {
            let change = peer.session.tick(now, &mut out);
            if !out.is_empty() {
                if let Some(path) = peer.session.path() {
                    shared.send(path, &out);
                }
                out.clear();
            }
            shared.changed(&peer, change);
        }
    }
}
