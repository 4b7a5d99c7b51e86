//! A bad network: passes datagrams between clients and a server, and loses, delays, reorders and doubles them.
//!
//! The kernels that tests run on have no netem. Chance is made of a seed, so that it is the same each time.

use std::collections::{BinaryHeap, HashMap};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What happens to datagrams, each way. Shares are in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    /// How many are lost.
    pub loss: u32,
    /// How many of those lost take the next ones with them, so that losses come in bursts.
    pub burst: u32,
    /// How long each is on its way,
    pub delay: Duration,
    /// give or take this, without overtaking.
    pub jitter: Duration,
    /// How many are overtaken by those after them.
    pub reorder: u32,
    /// How many come twice.
    pub double: u32,
}

/// A relay in front of a server. It ends with the test.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    front: UdpSocket,
    impairment: Impairment,
    cut: AtomicBool,
    calm: AtomicBool,
    stopped: AtomicBool,
    lost: AtomicU32,
    passed: AtomicU32,
    queue: Mutex<BinaryHeap<Waiting>>,
    more: Condvar,
}

/// A datagram on its way. Ordered so that the one that is due first is the greatest.
struct Waiting {
    due: Instant,
    number: u64,
    data: Vec<u8>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}
impl Eq for Waiting {}
impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.due, other.number).cmp(&(self.due, self.number))
    }
}

/// One direction of one client.
struct Lane {
    seed: u64,
    bursting: bool,
    /// When the one before is due: jitter overtakes nothing.
    last: Instant,
    number: u64,
}

impl Lane {
    fn new(seed: u64) -> Self {
        Self { seed: seed * 2 + 1, bursting: false, last: Instant::now(), number: 0 }
    }

    /// A number below `below`.
    fn chance(&mut self, below: u64) -> u64 {
        // xorshift64*
        self.seed ^= self.seed >> 12;
        self.seed ^= self.seed << 25;
        self.seed ^= self.seed >> 27;
        (self.seed.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % below.max(1)
    }

    fn happens(&mut self, thousandths: u32) -> bool {
        self.chance(1000) < thousandths.into()
    }

    fn pass(&mut self, shared: &Shared, data: &[u8], socket: &Arc<UdpSocket>, to: SocketAddr) {
        let mut impairment = shared.impairment;
        if shared.calm.load(Ordering::Relaxed) {
            impairment.loss = 0;
        }
        let lost = if self.bursting { self.happens(impairment.burst) } else { self.happens(impairment.loss) };
        self.bursting = lost && impairment.burst > 0;
        if lost || shared.cut.load(Ordering::Relaxed) {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        shared.passed.fetch_add(1, Ordering::Relaxed);
        let spread = impairment.jitter.as_micros() as u64 * 2;
        let jitter = Duration::from_micros(self.chance(spread + 1));
        let now = Instant::now();
        let mut due = (now + impairment.delay + jitter).checked_sub(impairment.jitter).unwrap_or(now);
        if self.happens(impairment.reorder) {
            due += Duration::from_millis(5 + self.chance(15));
        } else {
            due = due.max(self.last);
            self.last = due;
        }
        let copies = if self.happens(impairment.double) { 2 } else { 1 };
        let mut queue = shared.queue.lock().unwrap();
        for _ in 0..copies {
            self.number += 1;
            queue.push(Waiting {
                due,
                number: self.number,
                data: data.to_vec(),
                socket: Arc::clone(socket),
                to,
            });
        }
        shared.more.notify_one();
    }
}

impl Relay {
    /// Begins to pass datagrams to and from `target`.
    pub fn start(target: SocketAddr, impairment: Impairment) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            front,
            impairment,
            cut: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            lost: AtomicU32::new(0),
            passed: AtomicU32::new(0),
            queue: Mutex::default(),
            more: Condvar::new(),
        });
        let (receiving, sending) = (Arc::clone(&shared), Arc::clone(&shared));
        std::thread::spawn(move || receive(&receiving));
        std::thread::spawn(move || send(&sending));
        Self { address, shared }
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Passes nothing, or again.
    pub fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }

    /// Loses nothing from now on: clients that end do not wait for what was lost last.
    pub fn calm(&self) {
        self.shared.calm.store(true, Ordering::Relaxed);
    }

    /// How many datagrams were lost and passed.
    pub fn counts(&self) -> (u32, u32) {
        (self.shared.lost.load(Ordering::Relaxed), self.shared.passed.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        self.shared.more.notify_all();
    }
}

const TICK: Duration = Duration::from_millis(100);

/// From clients; for each there is a socket towards the server, and a thread that receives from there.
fn receive(shared: &Arc<Shared>) {
    shared.front.set_read_timeout(Some(TICK)).unwrap();
    let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, Lane)> = HashMap::new();
    let mut buffer = [0; 65_536];
    while !shared.stopped.load(Ordering::Relaxed) {
        let Ok((len, from)) = shared.front.recv_from(&mut buffer) else { continue };
        let seed = clients.len() as u64 * 2;
        let (socket, lane) = clients.entry(from).or_insert_with(|| {
            let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
            let (back, shared) = (Arc::clone(&socket), Arc::clone(shared));
            std::thread::spawn(move || receive_back(&shared, &back, from, seed + 1));
            (socket, Lane::new(seed))
        });
        lane.pass(shared, &buffer[..len], socket, shared.target);
    }
}

fn receive_back(shared: &Arc<Shared>, socket: &UdpSocket, client: SocketAddr, seed: u64) {
    socket.set_read_timeout(Some(TICK)).unwrap();
    let front = Arc::new(shared.front.try_clone().unwrap());
    let mut lane = Lane::new(seed);
    let mut buffer = [0; 65_536];
    while !shared.stopped.load(Ordering::Relaxed) {
        if let Ok(len) = socket.recv(&mut buffer) {
            lane.pass(shared, &buffer[..len], &front, client);
        }
    }
}

fn send(shared: &Shared) {
    let mut queue = shared.queue.lock().unwrap();
    while !shared.stopped.load(Ordering::Relaxed) {
        let wait = match queue.peek() {
            Some(first) => first.due.saturating_duration_since(Instant::now()),
            None => TICK,
        };
        if wait.is_zero() {
            if let Some(Waiting { data, socket, to, .. }) = queue.pop() {
                let _ = socket.send_to(&data, to);
            }
        } else {
            queue = shared.more.wait_timeout(queue, wait).unwrap().0;
        }
    }
}
