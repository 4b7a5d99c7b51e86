//! The task that owns an endpoint's socket.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::{Call, Connection, Handle, Link, Opening, Request, Shared, lock};
use crate::net::udp::Received;
use crate::srt::listener::{Heard, Listener};
use crate::srt::packet::{Control, Packet, destination};
use crate::srt::session::Datagram;
use crate::srt::{Reject, SrtError};

/// Batches that are received before others have their turn.
const BATCHES: usize = 8;
/// A refusal is said again to who repeats its request, for this long; and how many are remembered.
const REFUSED: Duration = Duration::from_secs(5);
const MAX_REFUSED: usize = 256;
/// Without anything to do we look this often.
const IDLE: Duration = Duration::from_secs(60);

type Peer = (SocketAddr, u32);

pub(super) struct Driver {
    shared: Arc<Shared>,
    handle: Weak<Handle>,
    requests: mpsc::Sender<Request>,
    listener: Listener,
    sessions: HashMap<u32, Entry>,
    calls: HashMap<u32, Call>,
    /// Those of them that wait for who is called to call us.
    meetings: HashMap<SocketAddr, u32>,
    /// Sessions by their peers, for requests that are repeated.
    peers: HashMap<Peer, u32>,
    /// Requests that wait for an answer.
    waiting: HashMap<Peer, Instant>,
    refused: HashMap<Peer, (Instant, Datagram)>,
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    /// Not there while it is looked through.
    received: Option<Received>,
    out: Vec<Datagram>,
    /// Sessions that got something in this round.
    heard: Vec<u32>,
}

struct Entry {
    link: Arc<Link>,
    /// The timer that counts; others of this session are old.
    armed: Option<Instant>,
    heard: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, requests: mpsc::Sender<Request>, handle: Weak<Handle>) -> Self {
        Self {
            shared,
            handle,
            requests,
            listener: Listener::new(Instant::now()),
            sessions: HashMap::new(),
            calls: HashMap::new(),
            meetings: HashMap::new(),
            peers: HashMap::new(),
            waiting: HashMap::new(),
            refused: HashMap::new(),
            timers: BinaryHeap::new(),
            received: None,
            out: Vec::new(),
            heard: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let mut busy = false;
            for _ in 0..BATCHES {
                // Those let in before a packet of theirs could come are known before it is looked at.
                self.take_posted();
                if !self.receive() {
                    break;
                }
                busy = true;
            }
            let now = Instant::now();
            for id in std::mem::take(&mut self.heard) {
                self.serve(id, now);
            }
            self.run_timers(now);
            self.flush().await;
            if self.shared.stopped.load(Ordering::Acquire) {
                return self.stop().await;
            }
            if self.shared.unused.load(Ordering::Acquire) && self.sessions.is_empty() {
                return;
            }
            if busy {
                tokio::task::yield_now().await;
                continue;
            }
            let next = self.timers.peek().map_or(now + IDLE, |Reverse((at, _))| *at);
            let shared = self.shared.clone();
            tokio::select! {
                _ = shared.socket.readable() => {}
                () = shared.wake.notified() => {}
                () = tokio::time::sleep_until(next.into()) => {}
            }
        }
    }

    /// Takes what others have asked for.
    fn take_posted(&mut self) {
        let mut posted = lock(&self.shared.posted);
        let new = std::mem::take(&mut posted.new);
        let touched = std::mem::take(&mut posted.touched);
        let calls = std::mem::take(&mut posted.calls);
        let answered = std::mem::take(&mut posted.answered);
        drop(posted);
        for (peer, refusal) in answered {
            self.waiting.remove(&peer);
            if let Some(refusal) = refusal {
                self.refuse(peer, refusal);
            }
        }
        for link in new {
            self.add(link);
        }
        for call in calls {
            let id = call.opening.local_id();
            self.timers.push(Reverse((call.opening.deadline(), id)));
            if matches!(call.opening, Opening::Meeting(_)) {
                self.meetings.insert(call.opening.peer(), id);
            }
            self.calls.insert(id, call);
        }
        for link in touched {
            link.touched.store(false, Ordering::Release);
            self.note(link.id);
        }
    }

    fn add(&mut self, link: Arc<Link>) {
        let id = link.id;
        self.peers.insert((link.peer, link.peer_id), id);
        self.sessions.insert(id, Entry { link, armed: None, heard: false });
        self.note(id);
    }

    /// It has its turn in this round.
    fn note(&mut self, id: u32) {
        if let Some(entry) = self.sessions.get_mut(&id)
            && !std::mem::replace(&mut entry.heard, true)
        {
            self.heard.push(id);
        }
    }

    fn refuse(&mut self, peer: Peer, refusal: Datagram) {
        let now = Instant::now();
        if self.refused.len() >= MAX_REFUSED {
            self.refused.retain(|_, (at, _)| *at + REFUSED > now);
        }
        if self.refused.len() < MAX_REFUSED {
            self.refused.insert(peer, (now, refusal.clone()));
        }
        self.out.push(refusal);
    }

    /// Receives a batch; `false`: there was nothing.
    fn receive(&mut self) -> bool {
        let mut received = self.received.take().unwrap_or_default();
        let got = self.shared.socket.receive(&mut received);
        let now = Instant::now();
        for (datagram, from) in received.datagrams() {
            self.datagram(datagram, from, now);
        }
        self.received = Some(received);
        // Other errors than WouldBlock are of the network, and of one datagram.
        got.map_or_else(|e| e.kind() != std::io::ErrorKind::WouldBlock, |count| count > 0)
    }

    fn datagram(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        // Nobody can be there.
        let Some(id) = destination(datagram).filter(|_| from.port() != 0) else { return };
        if id == 0
            && let Some(&id) = self.meetings.get(&from)
        {
            self.called(id, datagram, now);
        } else if id == 0 {
            self.handshake(datagram, from, now);
        } else if let Some(entry) = self.sessions.get(&id) {
            if entry.link.peer == from {
                lock(&entry.link.locked).session.input(datagram, now, &mut self.out);
                self.note(id);
            }
        } else if self.calls.get(&id).is_some_and(|call| call.opening.peer() == from) {
            self.called(id, datagram, now);
        }
    }

    /// A handshake for no session.
    fn handshake(&mut self, datagram: &[u8], from: SocketAddr, now: Instant) {
        let Ok(Packet::Control(Control::Handshake(body), timestamp, _)) = Packet::parse(datagram) else {
            return;
        };
        let conclusion = match self.listener.handshake(body, timestamp, from, now) {
            Heard::Caller(conclusion) => conclusion,
            Heard::Reply(reply) => return self.out.push(reply),
            Heard::Silence => return,
        };
        let peer = (from, conclusion.peer_id());
        if let Some(&id) = self.peers.get(&peer) {
            if let Some(entry) = self.sessions.get(&id) {
                lock(&entry.link.locked).session.handshake_again();
            }
            return self.note(id);
        }
        if self.waiting.contains_key(&peer) || self.waiting.len() >= self.shared.options.max_sessions {
            return;
        }
        if let Some((at, refusal)) = self.refused.get(&peer) {
            if *at + REFUSED > now {
                return self.out.push(refusal.clone());
            }
            self.refused.remove(&peer);
        }
        let refusal = |reason| conclusion.reject(reason);
        let (Some(handle), false) = (self.handle.upgrade(), self.requests.is_closed()) else {
            return self.out.push(refusal(Reject::CLOSE));
        };
        match self.requests.try_reserve() {
            Ok(place) => {
                self.waiting.insert(peer, now);
                place.send(Request { conclusion, handle, answered: false });
            }
            Err(_) => self.out.push(refusal(Reject::BACKLOG)),
        }
    }

    /// Who was called says something.
    fn called(&mut self, id: u32, datagram: &[u8], now: Instant) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        match call.opening.input(datagram, now, &mut self.out) {
            Ok(None) => self.poll_call(id, now),
            Ok(Some(session)) => {
                let Some(call) = self.remove_call(id) else { return };
                let link = Link::new(session);
                self.add(link.clone());
                // When nobody waits for it any more, this closes it.
                let _ = call.answer.send(Ok(Connection { link, handle: call.handle }));
            }
            Err(e) => self.end_call(id, e),
        }
    }

    fn poll_call(&mut self, id: u32, now: Instant) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let result = if call.answer.is_closed() {
            Err(SrtError::Stopped)
        } else {
            call.opening.poll(now, &mut self.out)
        };
        match result {
            Ok(()) => self.timers.push(Reverse((call.opening.deadline(), id))),
            Err(e) => self.end_call(id, e),
        }
    }

    fn end_call(&mut self, id: u32, error: SrtError) {
        lock(&self.shared.posted).ids.remove(&id);
        if let Some(call) = self.remove_call(id) {
            let _ = call.answer.send(Err(error));
        }
    }

    fn remove_call(&mut self, id: u32) -> Option<Call> {
        let call = self.calls.remove(&id)?;
        if self.meetings.get(&call.opening.peer()) == Some(&id) {
            self.meetings.remove(&call.opening.peer());
        }
        Some(call)
    }

    /// Lets a session send what is due, wakes its reader, and sets its timer.
    fn serve(&mut self, id: u32, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&id) else { return };
        entry.heard = false;
        let mut locked = lock(&entry.link.locked);
        locked.session.poll(now, &mut self.out);
        let ended = locked.session.ended();
        let readable = locked.session.readable_at();
        if let Some(until) = locked.waits {
            let sooner = readable.is_some_and(|at| until.is_none_or(|until| at < until));
            if sooner || ended.is_some() {
                locked.waits = None;
                entry.link.readable.notify_one();
            }
        }
        // What it could not do in this turn it does in the next, when others had theirs.
        let deadline = locked.session.deadline().max(now + Duration::from_micros(1));
        drop(locked);
        if ended.is_some() {
            return self.remove(id);
        }
        if entry.armed.is_none_or(|armed| deadline < armed || armed <= now) {
            entry.armed = Some(deadline);
            self.timers.push(Reverse((deadline, id)));
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(Entry { link, .. }) = self.sessions.remove(&id) {
            self.peers.remove(&(link.peer, link.peer_id));
            lock(&self.shared.posted).ids.remove(&id);
        }
    }

    fn run_timers(&mut self, now: Instant) {
        while let Some(&Reverse((at, id))) = self.timers.peek() {
            if at > now {
                return;
            }
            self.timers.pop();
            if self.calls.contains_key(&id) {
                self.poll_call(id, now);
            } else if self.sessions.get(&id).is_some_and(|entry| entry.armed == Some(at)) {
                self.serve(id, now);
            }
        }
    }

    async fn flush(&mut self) {
        let mut sent = 0;
        while let Some(rest) = self.out.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.shared.socket.send(rest) {
                Ok(count) => sent += count,
                Err(_) => {
                    if self.shared.socket.writable().await.is_err() {
                        break;
                    }
                }
            }
        }
        self.out.clear();
    }

    async fn stop(mut self) {
        lock(&self.shared.posted).closed = true;
        self.take_posted();
        let now = Instant::now();
        for entry in std::mem::take(&mut self.sessions).into_values() {
            let mut locked = lock(&entry.link.locked);
            locked.session.abort(now, &mut self.out);
            locked.waits = None;
            entry.link.readable.notify_one();
        }
        for (_, call) in self.calls.drain() {
            let _ = call.answer.send(Err(SrtError::Stopped));
        }
        self.flush().await;
    }
}
