//! A worker's loop.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{io, thread};

use mio::{Events, Interest, Poll, Token, Waker};

use super::session::Session;
use super::{Added, Inbox, Message, Outlet};
use crate::config::{self, MergeWindow};
use crate::hub::entry::Entry;
use crate::hub::feed::Feed;
use crate::hub::ring::Ring;
use crate::hub::stats::Counters;
use crate::pulse::Pulse;

const WAKE: Token = Token(usize::MAX);
/// How often time-outs are looked at and the window is set.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// From this many readers on, a batch is gathered into one run of bytes before it is written.
const GATHER_FROM: usize = 3;
/// A batch of more bytes than this is written from where it lies: its payloads are large, so that gathering
/// would save little. Nor is more than this kept as memory.
const GATHER_MOST: usize = 256 * 1024;
/// A worker needs little stack: it holds no buffers there.
const STACK: usize = 128 * 1024;

/// Starts as many workers as the configuration says. None on failure, which is logged.
pub(super) fn start(config: &config::Shared) -> Vec<Arc<Inbox>> {
    let wanted = match config.current().delivery.workers {
        0 => thread::available_parallelism().map_or(1, usize::from),
        n => n as usize,
    };
    let start = |n| -> io::Result<Arc<Inbox>> {
        let poll = Poll::new()?;
        let inbox = Arc::new(Inbox {
            waker: Waker::new(poll.registry(), WAKE)?,
            queue: Mutex::default(),
            stop: AtomicBool::new(false),
            load: AtomicUsize::new(0),
            pulse: Pulse::default(),
            window_ms: AtomicU32::new(0),
        });
        let worker = Worker::new(poll, inbox.clone(), config.clone());
        thread::Builder::new().name(format!("delivery-{n}")).stack_size(STACK).spawn(move || worker.run())?;
        Ok(inbox)
    };
    let mut workers = Vec::new();
    for n in 0..wanted {
        match start(n) {
            Ok(inbox) => workers.push(inbox),
            Err(e) => log::error!("can't start delivery thread {n}: {e}"),
        }
    }
    workers
}

struct Worker {
    poll: Poll,
    inbox: Arc<Inbox>,
    config: config::Shared,
    sessions: Vec<Option<Box<Session>>>,
    free: Vec<usize>,
    outlets: HashMap<usize, Served>,
    /// Outlets that must be flushed, and when.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    numbers: usize,
    window: Window,
    send_timeout: Duration,
    batch: Vec<u8>,
}

/// A feed that this worker serves.
struct Served {
    feed: Arc<Feed>,
    outlet: Outlet,
    ring: Ring<Arc<Entry>>,
    end: Option<Arc<Entry>>,
    sessions: Vec<usize>,
    /// Some sessions look for a place to start.
    waiting: bool,
    flushed: Instant,
    /// Where the ring ended then, and with it all readers that are up to date.
    flushed_to: u64,
    /// A flush is due: one is enough.
    scheduled: bool,
}

/// How long what is new may wait.
struct Window {
    fixed: Option<Duration>,
    now: Duration,
    /// Time spent writing since `since`.
    busy: Duration,
    since: Instant,
}

impl Window {
    const MOST: Duration = Duration::from_millis(350);
    const LEAST: Duration = Duration::from_millis(5);

    /// A feed was written in `took`: at most a fifth of the time shall go into that. Acts at once, so that
    /// a crowd that comes does not wait behind the writing.
    fn wrote(&mut self, took: Duration) {
        self.busy += took;
        if self.fixed.is_none() {
            self.now = self.now.max((took * 5).min(Self::MOST));
        }
    }

    /// Once a second: longer if writing takes more than a fifth of the time, shorter if it takes less than
    /// a twelfth.
    fn adjust(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let busy = std::mem::take(&mut self.busy);
        self.since = now;
        if let Some(fixed) = self.fixed {
            self.now = fixed;
        } else if busy * 5 > passed {
            self.now = (self.now * 3 / 2).clamp(Self::LEAST, Self::MOST);
        } else if busy * 12 < passed {
            self.now = self.now * 2 / 3;
            if self.now < Self::LEAST {
                self.now = Duration::ZERO;
            }
        }
    }
}

impl Worker {
    fn new(poll: Poll, inbox: Arc<Inbox>, config: config::Shared) -> Self {
        let now = Instant::now();
        let mut worker = Self {
            poll,
            inbox,
            config,
            sessions: Vec::new(),
            free: Vec::new(),
            outlets: HashMap::new(),
            due: BinaryHeap::new(),
            numbers: 0,
            window: Window { fixed: None, now: Duration::ZERO, busy: Duration::ZERO, since: now },
            send_timeout: Duration::ZERO,
            batch: Vec::new(),
        };
        worker.read_config();
        worker.window.adjust(now);
        worker
    }

    fn read_config(&mut self) {
        let config = self.config.current();
        self.send_timeout = config.delivery.send_timeout;
        self.window.fixed = match config.delivery.merge_window {
            MergeWindow::Auto => None,
            MergeWindow::Fixed(window) => Some(window),
        };
    }

    fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut messages = Vec::new();
        let mut housekeeping = Instant::now() + HOUSEKEEPING;
        while !self.inbox.stop.load(Ordering::SeqCst) {
            // With no reader there is nothing to look after, and no reason to wake.
            let idle = self.free.len() == self.sessions.len();
            let next = self.due.peek().map(|Reverse((at, _))| *at);
            let next = next.into_iter().chain((!idle).then_some(housekeeping)).min();
            let timeout = next.map(|at| ceil_ms(at.saturating_duration_since(Instant::now())));
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    log::error!("a delivery thread can't wait for its sockets and ends: {e}");
                    return;
                }
            }
            self.inbox.pulse.answer();
            let now = Instant::now();
            self.inbox.take(&mut messages);
            for message in messages.drain(..) {
                match message {
                    Message::Add(added) => self.add(*added, now),
                    Message::Grown(outlet) => self.schedule(outlet, now),
                    Message::Look => self.end_ended(),
                }
            }
            for event in events.iter().filter(|e| e.token() != WAKE) {
                self.event(event, now);
            }
            while let Some(Reverse((at, outlet))) = self.due.peek().copied() {
                if at > now {
                    break;
                }
                self.due.pop();
                self.flush(outlet);
            }
            if now >= housekeeping {
                housekeeping = now + HOUSEKEEPING;
                self.read_config();
                self.window.adjust(now);
                let ms = u32::try_from(self.window.now.as_millis()).unwrap_or(u32::MAX);
                self.inbox.window_ms.store(ms, Ordering::Relaxed);
                self.check_timeouts(now);
            }
        }
    }

    fn add(&mut self, added: Added, now: Instant) {
        let Added { subscription, socket, first, control } = added;
        let wait_until = subscription.wait_until;
        let (feed, reader) = subscription.split();
        let mut socket = mio::net::TcpStream::from_std(socket);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            self.sessions.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(e) = self.poll.registry().register(&mut socket, Token(slot), interest) {
            reader.log_end(&format!("can't watch its socket: {e}"), now);
            self.free.push(slot);
            self.inbox.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let number = self.serve(feed, now);
        // Ended on its way here.
        let ended = reader.admission.ended().is_some();
        let mut session = Box::new(Session::new(socket, reader, number, wait_until, control, now));
        if !first.is_empty() {
            session.push(Arc::new(Entry::of(first)));
        }
        if let Some(served) = self.outlets.get_mut(&number) {
            session.place = served.sessions.len();
            served.sessions.push(slot);
            served.waiting = true;
        }
        if let Some(place) = self.sessions.get_mut(slot) {
            *place = Some(session);
        }
        if ended {
            self.end_ended();
            return;
        }
        self.pump(slot, now);
    }

    /// The outlet of a feed, made for its first reader here.
    fn serve(&mut self, feed: Arc<Feed>, now: Instant) -> usize {
        if let Some((number, _)) = self.outlets.iter().find(|(_, s)| Arc::ptr_eq(&s.feed, &feed)) {
            return *number;
        }
        self.numbers += 1;
        let armed = Arc::new(AtomicBool::new(false));
        let outlet = Outlet { inbox: self.inbox.clone(), number: self.numbers, armed };
        let mut served = Served {
            feed,
            outlet: outlet.clone(),
            ring: Ring::new(),
            end: None,
            sessions: Vec::new(),
            waiting: false,
            flushed: now,
            flushed_to: 0,
            scheduled: false,
        };
        served.feed.lock().add_outlet(outlet);
        served.follow();
        served.flushed_to = served.ring.end();
        self.outlets.insert(self.numbers, served);
        self.numbers
    }

    fn schedule(&mut self, outlet: usize, now: Instant) {
        if let Some(served) = self.outlets.get_mut(&outlet)
            && !std::mem::replace(&mut served.scheduled, true)
        {
            self.due.push(Reverse((now.max(served.flushed + self.window.now), outlet)));
        }
    }

    /// Writes what is new in a feed to all its readers.
    fn flush(&mut self, number: usize) {
        let Some(served) = self.outlets.get_mut(&number) else { return };
        let begun = Instant::now();
        served.flushed = begun;
        served.scheduled = false;
        // A reader that came since has made `follow` look, so that the ring may reach further than the others.
        let from = served.flushed_to;
        served.follow();
        served.flushed_to = served.ring.end();
        self.batch.clear();
        let new: usize = served.ring.since(from).map(|entry| entry.len()).sum();
        if served.sessions.len() >= GATHER_FROM && new <= GATHER_MOST {
            // All of it at once: growing would free what it had, and large pieces of freed memory come back
            // to the system late.
            self.batch.reserve_exact(GATHER_MOST);
            for part in served.ring.since(from).flat_map(|entry| entry.parts()) {
                self.batch.extend_from_slice(part);
            }
        }
        let gathered = !self.batch.is_empty() && served.ring.first() <= from;
        let mut gone = Vec::new();
        let mut written = 0;
        let point = if served.waiting { served.feed.lock().join_point() } else { None };
        // Entries that came after `follow` are not in the copy yet.
        let point = point.filter(|p| p.number < served.ring.end());
        served.waiting &= point.is_none();
        for slot in &served.sessions {
            let Some(session) = self.sessions.get_mut(*slot).and_then(Option::as_mut) else { continue };
            let result = if session.blocked {
                continue;
            } else if gathered && session.is_at(from) {
                session.write_batch(&self.batch, &served.ring, begun)
            } else {
                served.waiting |= serve_one(session, &served.ring, &served.feed, point.as_ref());
                session.pump(&served.ring, begun)
            };
            match result {
                Ok(n) => written += n,
                Err(e) => gone.push((*slot, broken(&e))),
            }
        }
        Counters::add(&served.feed.stream.counters.bytes_out, written);
        if let Some(end) = served.end.clone() {
            for slot in served.sessions.clone() {
                if let Some(session) = self.sessions.get_mut(slot).and_then(Option::as_mut) {
                    session.end_of_stream(&served.ring, &end);
                }
            }
            gone.clear();
            for slot in served.sessions.clone() {
                self.pump(slot, begun);
            }
        }
        for (slot, why) in gone {
            self.close(slot, &why);
        }
        self.window.wrote(begun.elapsed());
    }

    fn event(&mut self, event: &mio::event::Event, now: Instant) {
        let slot = event.token().0;
        let Some(session) = self.sessions.get_mut(slot).and_then(Option::as_mut) else { return };
        if event.is_writable() {
            session.blocked = false;
        }
        if event.is_readable() || event.is_read_closed() {
            let mut buffer = [0; 4096];
            if let Err(why) = session.read(&mut buffer) {
                self.close(slot, why);
                return;
            }
        }
        self.pump(slot, now);
    }

    /// Lets a session catch up as far as its socket takes it.
    fn pump(&mut self, slot: usize, now: Instant) {
        let Some(session) = self.sessions.get_mut(slot).and_then(Option::as_mut) else { return };
        let Some(served) = self.outlets.get_mut(&session.outlet) else { return };
        if session.waits() || session.lags(&served.ring) {
            let point = served.feed.lock().join_point();
            if point.as_ref().is_some_and(|p| p.number >= served.ring.end()) {
                served.follow();
            }
            served.waiting |= serve_one(session, &served.ring, &served.feed, point.as_ref());
        }
        if let Some(end) = &served.end {
            session.end_of_stream(&served.ring, end);
        }
        match session.pump(&served.ring, now) {
            Ok(n) => {
                Counters::add(&served.feed.stream.counters.bytes_out, n);
                if let Some(why) = session.ending.filter(|_| session.is_empty()) {
                    self.close(slot, why);
                }
            }
            Err(e) => self.close(slot, &broken(&e)),
        }
    }

    /// Ends whom an operator ended.
    fn end_ended(&mut self) {
        for slot in 0..self.sessions.len() {
            let session = self.sessions.get(slot).and_then(Option::as_ref);
            if let Some(why) = session.and_then(|session| session.reader.admission.ended()) {
                self.close(slot, &why.to_string());
            }
        }
    }

    fn check_timeouts(&mut self, now: Instant) {
        for slot in 0..self.sessions.len() {
            let Some(session) = self.sessions.get(slot).and_then(Option::as_ref) else { continue };
            if let Some(why) = session.stuck(now, self.send_timeout) {
                self.close(slot, &why);
            } else if !session.has_started() && session.wait_until.is_some_and(|until| now > until) {
                self.close(slot, "nobody published the stream in time");
            }
        }
    }

    fn close(&mut self, slot: usize, why: &str) {
        let Some(mut session) = self.sessions.get_mut(slot).and_then(Option::take) else { return };
        self.free.push(slot);
        self.inbox.load.fetch_sub(1, Ordering::Relaxed);
        let _ = self.poll.registry().deregister(&mut session.socket);
        let _ = session.socket.shutdown(Shutdown::Write);
        session.reader.log_end(why, Instant::now());
        let Some(served) = self.outlets.get_mut(&session.outlet) else { return };
        served.sessions.swap_remove(session.place);
        if let Some(moved) = served.sessions.get(session.place)
            && let Some(moved) = self.sessions.get_mut(*moved).and_then(Option::as_mut)
        {
            moved.place = session.place;
        }
        if served.sessions.is_empty() {
            served.feed.lock().remove_outlet(&served.outlet);
            self.outlets.remove(&session.outlet);
        }
        // Memory of a crowd goes with it.
        if self.free.len() == self.sessions.len() {
            (self.sessions, self.free) = (Vec::new(), Vec::new());
        }
    }
}

impl Served {
    /// Brings the copy of the feed's ring up to date.
    fn follow(&mut self) {
        self.outlet.armed.store(false, Ordering::Release);
        let inner = self.feed.lock();
        self.ring.trim_to(inner.ring.first());
        for entry in inner.ring.since(self.ring.end()) {
            self.ring.copy(entry.clone());
        }
        self.end = inner.end.clone();
    }
}

/// Gives a session its place, if it has none. Whether it still waits for one.
fn serve_one(
    session: &mut Session,
    ring: &Ring<Arc<Entry>>,
    feed: &Feed,
    point: Option<&crate::hub::feed::JoinPoint>,
) -> bool {
    session.note_lag(ring);
    if !session.waits() {
        return false;
    }
    match point {
        Some(point) => session.join(point),
        None => match feed.lock().join_point().filter(|p| p.number < ring.end()) {
            Some(point) => session.join(&point),
            None => return true,
        },
    }
    false
}

fn broken(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => "the player left".to_owned(),
        _ => format!("the player's connection broke: {e}"),
    }
}

/// Rounds up: epoll counts in milliseconds, and a wait that ends early would spin.
fn ceil_ms(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from((wait + Duration::from_micros(999)).as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn the_window_follows_the_work() {
        let start = Instant::now();
        let mut window = Window { fixed: None, now: Duration::ZERO, busy: Duration::ZERO, since: start };
        let mut second = 0;
        let mut run = |window: &mut Window, took: Duration, writes: u32| {
            (0..writes).for_each(|_| window.wrote(took));
            second += 1;
            window.adjust(start + ms(1000 * second));
        };
        run(&mut window, Duration::from_micros(50), 60);
        assert_eq!(window.now, Duration::ZERO, "a few readers get each frame at once");
        run(&mut window, ms(20), 5);
        assert_eq!(window.now, ms(100), "a crowd is felt with the first write");
        // Many feeds, each soon written.
        run(&mut window, ms(2), 200);
        assert_eq!(window.now, ms(150));
        run(&mut window, ms(300), 2);
        assert_eq!(window.now, Window::MOST);
        (0..12).for_each(|_| run(&mut window, ms(1), 3));
        assert!(window.now < Window::LEAST, "{:?}", window.now);
        window.fixed = Some(ms(40));
        run(&mut window, ms(300), 3);
        assert_eq!(window.now, ms(40));
    }
}
