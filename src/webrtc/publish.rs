//! Publishers: their packets as they are to viewers, and as frames to all others; and what they are told of it.

mod incoming;
mod receiver;
mod reception;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use self::receiver::Receiver;
use super::endpoint::{Batch, Endpoint, Peer, Sink};
use super::fanout::Passage;
use super::negotiated::Negotiated;
use crate::format::rtp::rtcp::Writer;
use crate::hub::{Ended, HubError, Publisher};
use crate::id::SessionId;

/// Packets that wait for the publisher's task; more are lost.
const MAX_WAITING: usize = 4096;
/// Bytes of them.
const MAX_BYTES: usize = 4 << 20;

/// How a publisher is served.
#[derive(Debug, Clone, Copy)]
pub struct PublishOptions {
    /// Whether others than WebRTC viewers get frames.
    pub to_others: bool,
    /// How often a key frame is asked for, for readers that can't ask.
    pub key_frame_interval: Duration,
    /// Whether packets that are missing are asked for.
    pub nack: bool,
    /// After how much silence it is gone, though it is there.
    pub timeout: Duration,
}

/// What came, for the publisher's task.
#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    grown: Notify,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Came>,
    bytes: usize,
    lost: u64,
}

enum Came {
    Rtp(Bytes, Instant),
    Rtcp(Vec<u8>, Instant),
}

impl Waiting {
    fn push(&self, came: Came, len: usize) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.items.len() >= MAX_WAITING || queue.bytes + len > MAX_BYTES {
            queue.lost += 1;
            return;
        }
        queue.bytes += len;
        queue.items.push_back(came);
        drop(queue);
        self.grown.notify_one();
    }

    fn drain(&self) -> VecDeque<Came> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.bytes = 0;
        std::mem::take(&mut queue.items)
    }
}

impl Sink for Waiting {
    fn rtp(&self, packet: Bytes, now: Instant) {
        let len = packet.len();
        self.push(Came::Rtp(packet, now), len);
    }

    fn rtcp(&self, compound: &[u8], now: Instant) {
        self.push(Came::Rtcp(compound.to_vec(), now), compound.len());
    }
}

/// Serves a publisher until it goes, or may not go on; then the peer is closed. Tells why, for the log. Dropping the future
/// ends it, too: the stream is free then. `begin` takes the stream once the peer is there, whose first packets wait for that.
pub async fn publish(
    endpoint: &Endpoint,
    peer: Peer,
    negotiated: Negotiated,
    begin: impl FnOnce() -> Result<(Publisher, Passage), HubError> + Send,
    session: SessionId,
    options: PublishOptions,
) -> String {
    let waiting = Arc::new(Waiting::default());
    peer.set_sink(waiting.clone());
    if let Err(end) = peer.connected().await {
        return end.to_string();
    }
    let (publisher, passage) = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            peer.close();
            return error.to_string();
        }
    };
    let mut batch = endpoint.batch();
    let mut receiver = Receiver::new(negotiated, publisher, passage, session, options, Instant::now());
    let mut heard = Instant::now();
    let why = loop {
        let now = Instant::now();
        let mut result: Result<(), Ended> = Ok(());
        for came in waiting.drain() {
            result = match came {
                Came::Rtp(packet, at) => {
                    heard = now;
                    receiver.rtp(&packet, at)
                }
                Came::Rtcp(compound, at) => {
                    receiver.rtcp(&compound, at);
                    Ok(())
                }
            };
            if result.is_err() {
                break;
            }
        }
        if let Err(ended) = result.and_then(|()| receiver.poll(now)) {
            break ended.to_string();
        }
        receiver.flush();
        if now.saturating_duration_since(heard) >= options.timeout {
            break format!("it sent nothing for {} s", options.timeout.as_secs());
        }
        tell(&mut batch, &peer, &receiver.take_output()).await;
        tokio::select! {
            biased;
            end = peer.ended() => break end.to_string(),
            ended = receiver.ended() => break ended.to_string(),
            () = receiver.key_wanted() => receiver.want_key(),
            () = waiting.grown.notified() => {}
            () = tokio::time::sleep(receiver.patience()) => {}
        }
    };
    tell(&mut batch, &peer, &receiver.finish()).await;
    peer.close();
    why
}

async fn tell(batch: &mut Batch, peer: &Peer, words: &Writer) {
    words.compounds().for_each(|compound| batch.rtcp(peer, compound));
    batch.flush().await;
}

#[cfg(test)]
mod tests;
