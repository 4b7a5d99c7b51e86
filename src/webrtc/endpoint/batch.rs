//! Packets to many peers, sealed into one buffer and sent by few system calls.

use std::sync::Arc;

use super::{Peer, Shared, lock};
use crate::net::udp::Run;
use crate::webrtc::ice::Via;

/// Bytes of packets that a batch holds before it wants to be flushed: they fit in the processor's cache.
const FULL: usize = 256 << 10;
/// And at most; packets beyond are dropped.
const MAX: usize = 1 << 20;
/// Longest packet, with what protects it: no network of a viewer's takes more.
const MAX_PACKET: usize = 1500;

/// Room for packets to many peers. Fill it, flush it, use it again.
#[derive(Debug)]
pub struct Batch {
    shared: Arc<Shared>,
    sockets: Vec<Lane>,
    dropped: u64,
}

/// What goes out by one socket.
#[derive(Debug, Default)]
struct Lane {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

impl Batch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let sockets = shared.sockets.iter().map(|_| Lane::default()).collect();
        Self { shared, sockets, dropped: 0 }
    }

    /// Adds an RTP packet: `header` with its extensions, and a payload in pieces. What can't be sent yet, as the peer is not
    /// connected, is dropped. Packets of equal size to one peer, one after the other, cost least.
    pub fn rtp(&mut self, peer: &Peer, header: &[u8], payload: &[&[u8]]) {
        self.add(peer, header, payload, false);
    }

    /// Adds a compound RTCP packet.
    pub fn rtcp(&mut self, peer: &Peer, compound: &[u8]) {
        self.add(peer, compound, &[], true);
    }

    fn add(&mut self, peer: &Peer, first: &[u8], rest: &[&[u8]], control: bool) {
        let mut outgoing = peer.0.inner.session.outgoing();
        let Some(path) = outgoing.path() else { return };
        let mut put = |bytes: &mut Vec<u8>| {
            let start = bytes.len();
            bytes.extend_from_slice(first);
            rest.iter().for_each(|piece| bytes.extend_from_slice(piece));
            outgoing.seal(bytes, start, control).then_some(start)
        };
        match path.via {
            Via::Udp(index) => {
                let index = usize::from(index);
                let Some((lane, socket)) = self.sockets.get_mut(index).zip(self.shared.sockets.get(index))
                else {
                    return;
                };
                let length = first.len() + rest.iter().map(|piece| piece.len()).sum::<usize>();
                if length > MAX_PACKET || lane.bytes.len() + MAX_PACKET > MAX {
                    self.dropped += 1;
                    return;
                }
                let Some(start) = put(&mut lane.bytes) else { return };
                let length = lane.bytes.len() - start;
                let most = if socket.cuts_segments() { usize::MAX } else { 1 };
                if !lane.runs.last_mut().is_some_and(|run| run.add(path.remote, start, length, most)) {
                    lane.runs.push(Run::new(path.remote, start, length));
                }
            }
            Via::Tcp(connection) => {
                let mut bytes = Vec::new();
                let sealed = put(&mut bytes).is_some();
                // Who holds the tables may wait for the session.
                drop(outgoing);
                if sealed && let Some(writer) = lock(&self.shared.tables).connections.get(&connection) {
                    writer.send(&bytes);
                }
            }
        }
    }

    /// It holds as much as should be sent together: flush it before more is added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.sockets.iter().any(|lane| lane.bytes.len() >= FULL)
    }

    /// Packets that were dropped since it was made, as it was not flushed, or as they are longer than any network takes.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends what it holds; waits while the system has no room.
    pub async fn flush(&mut self) {
        for (lane, socket) in self.sockets.iter_mut().zip(&self.shared.sockets) {
            let mut sent = 0;
            while let Some(rest) = lane.runs.get(sent..).filter(|rest| !rest.is_empty()) {
                match socket.send_runs(&lane.bytes, rest) {
                    Ok(count) => sent += count,
                    Err(_) => {
                        if socket.writable().await.is_err() {
                            break;
                        }
                    }
                }
            }
            lane.bytes.clear();
            lane.runs.clear();
        }
    }
}
