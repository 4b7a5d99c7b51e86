//! Delivery workers: one thread a core that writes feeds to plain sockets.
//!
//! A worker keeps a copy of the end of each feed that it serves (entries are shared, the copy is of pointers),
//! so no lock is held while it writes. It wakes once per feed and *merge window*, gathers what is new into
//! one run of bytes, and writes that to every reader that is up to date: one system call a reader. Readers
//! that are behind are written to from the copy when their socket has room.
//!
//! Window `auto`: as short as keeps a worker's writing below a fifth of its core, 350 ms at most. Few
//! readers get each frame at once; thousands, or a slow CPU, get a few writes a second.

mod session;
mod worker;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::Subscription;
use crate::config;
use crate::pulse::Pulse;

/// What a delivered reader's peer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To leave, for this reason.
    End(&'static str),
    /// Media, as before.
    Go,
    /// No media until `Resume`.
    Pause,
    /// Media again, from the newest key frame on.
    Resume,
}

/// Understands what the peer of a delivered reader sends (RTMP acknowledgements, WebSocket pings, …).
///
/// It lives as long as the reader, so it is also the place for what must be released then.
pub trait Control: Send {
    /// `bytes` arrived. What is added to `reply` is sent between two entries; a peer that lets replies
    /// pile up is closed.
    fn input(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> Flow;
}

/// Hands readers to workers, which are started with the first reader.
pub(super) struct Delivery {
    config: config::Shared,
    workers: OnceLock<Vec<Arc<Inbox>>>,
}

/// What others tell a worker.
pub(super) struct Inbox {
    waker: mio::Waker,
    queue: Mutex<Vec<Message>>,
    stop: AtomicBool,
    /// Readers there are or will be: the next one goes where there are fewest.
    load: AtomicUsize,
    pulse: Pulse,
    /// How long what is new may wait now, in milliseconds.
    window_ms: AtomicU32,
}

enum Message {
    Add(Box<Added>),
    /// The feed of this outlet has grown.
    Grown(usize),
    /// A reader is to be ended.
    Look,
}

struct Added {
    subscription: Subscription,
    socket: TcpStream,
    first: Bytes,
    control: Box<dyn Control>,
}

/// A worker's end of a feed, as the feed knows it.
#[derive(Clone)]
pub(super) struct Outlet {
    inbox: Arc<Inbox>,
    number: usize,
    /// The worker has been told and has not looked yet.
    armed: Arc<AtomicBool>,
}

impl Delivery {
    pub(super) fn new(config: config::Shared) -> Self {
        Self { config, workers: OnceLock::new() }
    }

    pub(super) fn add(
        &self,
        subscription: Subscription,
        socket: TcpStream,
        first: Bytes,
        control: Box<dyn Control>,
    ) {
        let workers = self.workers.get_or_init(|| worker::start(&self.config));
        let Some(inbox) = workers.iter().min_by_key(|w| w.load.load(Ordering::Relaxed)) else {
            subscription.finish("the server could not start a delivery thread");
            return;
        };
        inbox.load.fetch_add(1, Ordering::Relaxed);
        inbox.send(Message::Add(Box::new(Added { subscription, socket, first, control })));
    }

    /// Has the workers end whom an operator ended.
    pub(super) fn look(&self) {
        for inbox in self.workers.get().into_iter().flatten() {
            inbox.send(Message::Look);
        }
    }

    /// How long what is new may wait now, with the worker where it is longest.
    pub(super) fn window(&self) -> Duration {
        let windows =
            self.workers.get().into_iter().flatten().map(|inbox| inbox.window_ms.load(Ordering::Relaxed));
        Duration::from_millis(windows.max().unwrap_or(0).into())
    }

    /// Asks each worker for a sign of life. How many questions the most silent one has left unanswered.
    pub(super) fn ask(&self) -> u32 {
        let ask = |inbox: &Arc<Inbox>| {
            let silent = inbox.pulse.ask();
            inbox.wake();
            silent
        };
        self.workers.get().into_iter().flatten().map(ask).max().unwrap_or(0)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        for inbox in self.workers.get().into_iter().flatten() {
            inbox.stop.store(true, Ordering::SeqCst);
            let _ = inbox.waker.wake();
        }
    }
}

impl Inbox {
    fn send(&self, message: Message) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push(message);
        let first = queue.len() == 1;
        drop(queue);
        if first {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Err(e) = self.waker.wake() {
            log::error!("can't wake a delivery thread: {e}");
        }
    }

    /// Swaps all messages for the empty `spare`.
    fn take(&self, spare: &mut Vec<Message>) {
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), spare);
    }
}

impl Outlet {
    /// Tells the worker that the feed has grown, unless it knows.
    pub(super) fn arm(&self) {
        if !self.armed.swap(true, Ordering::AcqRel) {
            self.inbox.send(Message::Grown(self.number));
        }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        self.number == other.number && Arc::ptr_eq(&self.inbox, &other.inbox)
    }
}
