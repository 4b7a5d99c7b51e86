//! UDP in batches: many datagrams a system call, and several of a kind as one where the kernel can cut them apart
//! (`UDP_SEGMENT`, Linux 4.18).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::Interest;

/// Datagrams received by one call.
pub const BATCH: usize = 32;
/// Longest datagram that is received whole; what is longer is cut, and so is none of ours.
pub const MAX_DATAGRAM: usize = 1536;

/// Messages sent by one call.
const MESSAGES: usize = 64;
/// Pieces that these are made of: two a datagram.
const PIECES: usize = 512;
/// Datagrams that the kernel cuts out of one message at most, and its bytes (64 KiB less headers).
const SEGMENTS: usize = 48;
const SEGMENT_BYTES: usize = 64_000;
/// What we would like the kernel to keep while we are busy; it gives what it allows.
const BUFFER: usize = 4 << 20;

/// A datagram to send.
pub trait Outgoing {
    /// Where to.
    fn to(&self) -> SocketAddr;
    /// Its bytes, in two pieces.
    fn pieces(&self) -> [&[u8]; 2];
}

/// Datagrams to one peer that lie one behind the other in a buffer, of one size but for the last, which may be shorter.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    to: SocketAddr,
    start: usize,
    length: usize,
    /// Bytes of each.
    size: usize,
    count: usize,
}

impl Run {
    /// Of one datagram, which begins at `start` of the buffer.
    #[must_use]
    pub fn new(to: SocketAddr, start: usize, length: usize) -> Self {
        Self { to, start, length, size: length, count: 1 }
    }

    /// Adds a datagram, if it can be part of this run, which has no more than `most`.
    pub fn add(&mut self, to: SocketAddr, start: usize, length: usize, most: usize) -> bool {
        let fits = self.to == to
            && self.start + self.length == start
            && length <= self.size
            && self.length == self.size * self.count
            && self.count < SEGMENTS.min(most)
            && self.length + length <= SEGMENT_BYTES;
        if fits {
            self.length += length;
            self.count += 1;
        }
        fits
    }

    fn bytes<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.start..self.start + self.length).unwrap_or_default()
    }
}

/// A UDP socket.
#[derive(Debug)]
pub struct BatchSocket {
    socket: tokio::net::UdpSocket,
    local_addr: SocketAddr,
    /// The kernel cuts messages into datagrams.
    segments: AtomicBool,
}

impl BatchSocket {
    /// Opens a socket. `[::]` takes IPv4 too, and becomes `0.0.0.0` where the system has no IPv6. `shared`: others of
    /// ours have the same port, and the kernel spreads peers over them. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(addr: SocketAddr, shared: bool) -> io::Result<Self> {
        let socket = match open(addr, shared) {
            Err(e) if addr.is_ipv6() && addr.ip().is_unspecified() && no_ipv6(&e) => {
                open((Ipv4Addr::UNSPECIFIED, addr.port()).into(), shared)
            }
            other => other,
        }?;
        // The kernel takes as much as it allows; less works, too.
        let _ = socket.set_recv_buffer_size(BUFFER);
        let _ = socket.set_send_buffer_size(BUFFER);
        let segments = AtomicBool::new(cuts_segments(socket.as_raw_fd()));
        let socket = tokio::net::UdpSocket::from_std(socket.into())?;
        Ok(Self { local_addr: socket.local_addr()?, socket, segments })
    }

    /// Where it is bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The form that an address has on this socket: IPv4 within IPv6 where it speaks both.
    #[must_use]
    pub fn address(&self, addr: SocketAddr) -> SocketAddr {
        match addr {
            SocketAddr::V4(v4) if self.local_addr.is_ipv6() => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            other => other,
        }
    }

    /// Waits until there is something to receive.
    ///
    /// # Errors
    /// When the runtime goes away.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Waits until there is room to send.
    ///
    /// # Errors
    /// When the runtime goes away.
    pub async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Receives up to [`BATCH`] datagrams; tells how many.
    ///
    /// # Errors
    /// `WouldBlock` when there are none; others are the network's, and pass.
    pub fn receive(&self, into: &mut Received) -> io::Result<usize> {
        into.count = 0;
        let fd = self.socket.as_raw_fd();
        let count = self.socket.try_io(Interest::READABLE, || into.fill(fd))?;
        into.count = count;
        Ok(count)
    }

    /// Sends datagrams in their order; tells how many were taken. What the network refuses counts as taken: datagrams
    /// get lost.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel has no room for the first.
    pub fn send<T: Outgoing>(&self, datagrams: &[T]) -> io::Result<usize> {
        if datagrams.is_empty() {
            return Ok(0);
        }
        let fd = self.socket.as_raw_fd();
        let segments = self.segments.load(Ordering::Relaxed);
        match self.socket.try_io(Interest::WRITABLE, || send_batch(fd, datagrams, segments)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            // The device can't.
            Err(e) if segments && e.raw_os_error() == Some(libc::EIO) => {
                self.segments.store(false, Ordering::Relaxed);
                Ok(0)
            }
            // The way to this peer takes no segments of this size.
            Err(e) if segments && matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => {
                let first = datagrams.get(..run(datagrams, SEGMENTS)).unwrap_or_default();
                match self.socket.try_io(Interest::WRITABLE, || send_batch(fd, first, false)) {
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => Ok(1),
                    result => result,
                }
            }
            Err(_) => Ok(1),
            Ok(count) => Ok(count),
        }
    }

    /// The kernel cuts messages into datagrams; else runs of more than one cost a call each.
    #[must_use]
    pub fn cuts_segments(&self) -> bool {
        self.segments.load(Ordering::Relaxed)
    }

    /// As on a kernel or a device that doesn't.
    #[cfg(test)]
    pub(crate) fn never_cut_segments(&self) {
        self.segments.store(false, Ordering::Relaxed);
    }

    /// Sends runs of `buffer` in their order; tells how many were taken. What the network refuses counts as taken.
    ///
    /// # Errors
    /// `WouldBlock` when the kernel has no room for the first.
    pub fn send_runs(&self, buffer: &[u8], runs: &[Run]) -> io::Result<usize> {
        let Some(first) = runs.first() else { return Ok(0) };
        let fd = self.socket.as_raw_fd();
        // Those that go as they are.
        let whole = if self.cuts_segments() {
            runs
        } else {
            runs.split(|run| run.count > 1).next().unwrap_or_default()
        };
        if whole.is_empty() {
            return self.send_apart(buffer, first);
        }
        match self.socket.try_io(Interest::WRITABLE, || send_runs(fd, buffer, whole)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(e),
            // The device can't.
            Err(e) if first.count > 1 && e.raw_os_error() == Some(libc::EIO) => {
                self.segments.store(false, Ordering::Relaxed);
                Ok(0)
            }
            // The way to this peer takes no segments of this size.
            Err(e) if first.count > 1 && matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => {
                self.send_apart(buffer, first)
            }
            Err(_) => Ok(1),
            Ok(count) => Ok(count),
        }
    }

    /// Sends the datagrams of a run one by one; once the first is out, what has no room is lost.
    fn send_apart(&self, buffer: &[u8], run: &Run) -> io::Result<usize> {
        for (index, datagram) in run.bytes(buffer).chunks(run.size.max(1)).enumerate() {
            match self.socket.try_send_to(datagram, run.to) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && index == 0 => return Err(e),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                _ => {}
            }
        }
        Ok(1)
    }
}

fn open(addr: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket =
        Socket::new(Domain::for_address(addr), Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// The kernel knows how to cut messages into datagrams. One that doesn't would send them whole.
#[allow(unsafe_code, reason = "the standard library has no such option")]
fn cuts_segments(fd: RawFd) -> bool {
    // QEMU hands the size on as it stands, in the byte order of the emulated machine.
    #[cfg(test)]
    if cfg!(target_endian = "big") && std::env::var_os("RILLBOX_TEST_EMULATED").is_some() {
        return false;
    }
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and len are ours, and of the sizes that are told.
    let code = unsafe {
        libc::getsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, (&raw mut value).cast(), &raw mut len)
    };
    code == 0
}

/// Room for [`BATCH`] datagrams.
pub struct Received {
    bytes: Box<[[u8; MAX_DATAGRAM]; BATCH]>,
    from: [Option<SocketAddr>; BATCH],
    len: [usize; BATCH],
    count: usize,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Received").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Default for Received {
    fn default() -> Self {
        Self { bytes: Box::new([[0; MAX_DATAGRAM]; BATCH]), from: [None; BATCH], len: [0; BATCH], count: 0 }
    }
}

impl Received {
    /// The datagrams, and where they are from.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let all = self.bytes.iter().zip(&self.from).zip(&self.len).take(self.count);
        all.filter_map(|((bytes, from), &len)| Some((bytes.get(..len)?, (*from)?)))
    }

    #[allow(unsafe_code, reason = "the standard library receives one datagram a call")]
    fn fill(&mut self, fd: RawFd) -> io::Result<usize> {
        let mut addresses: [SockAddrStorage; BATCH] = std::array::from_fn(|_| SockAddrStorage::zeroed());
        // SAFETY: these are plain structs of C, for which zero is a value.
        let mut pieces: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: the same.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let room = self.bytes.iter_mut().zip(&mut addresses).zip(&mut pieces);
        for (message, ((bytes, address), piece)) in messages.iter_mut().zip(room) {
            *piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: MAX_DATAGRAM };
            let header = &mut message.msg_hdr;
            header.msg_name = std::ptr::from_mut(address).cast();
            header.msg_namelen = address.size_of();
            header.msg_iov = piece;
            header.msg_iovlen = 1;
        }
        // The function of musl is a loop over single datagrams; the call of the kernel is the same everywhere.
        // SAFETY: messages point to arrays of ours that live until the call is over; no time limit is given.
        let count = unsafe {
            libc::syscall(
                libc::SYS_recvmmsg,
                fd as libc::c_long,
                messages.as_mut_ptr(),
                BATCH as libc::c_long,
                libc::MSG_DONTWAIT as libc::c_long,
                std::ptr::null_mut::<libc::c_void>(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(BATCH);
        let places = self.from.iter_mut().zip(&mut self.len);
        for ((message, address), (from, len)) in messages.iter().zip(addresses).zip(places).take(count) {
            // SAFETY: the kernel has written an address of this length.
            let address = unsafe { SockAddr::new(address, message.msg_hdr.msg_namelen) };
            *from = address.as_socket();
            *len = (message.msg_len as usize).min(MAX_DATAGRAM);
        }
        Ok(count)
    }
}

/// What the kernel is told of a message's segments.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct SegmentSize([u8; 32]);

#[allow(unsafe_code, reason = "the standard library sends one datagram a call")]
fn send_batch<T: Outgoing>(fd: RawFd, datagrams: &[T], segments: bool) -> io::Result<usize> {
    // SAFETY: these are plain structs of C, for which zero is a value.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
    // SAFETY: the same.
    let mut pieces: [libc::iovec; PIECES] = unsafe { std::mem::zeroed() };
    let mut controls = [SegmentSize([0; 32]); MESSAGES];
    let mut addresses: [Option<SockAddr>; MESSAGES] = [const { None }; MESSAGES];
    // How many datagrams each message has.
    let mut counts = [0; MESSAGES];
    let mut used = 0;
    let mut rest = datagrams;
    let mut free = &mut pieces[..];
    let places = messages.iter_mut().zip(&mut controls).zip(&mut addresses).zip(&mut counts);
    for (((message, control), address), count) in places {
        let most = if segments { SEGMENTS.min(free.len() / 2) } else { 1.min(free.len() / 2) };
        let Some(group) = rest.get(..run(rest, most)).filter(|group| !group.is_empty()) else { break };
        rest = rest.get(group.len()..).unwrap_or_default();
        let (own, left) = std::mem::take(&mut free).split_at_mut(group.len() * 2);
        free = left;
        for (piece, bytes) in own.iter_mut().zip(group.iter().flat_map(Outgoing::pieces)) {
            *piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        }
        *count = group.len();
        let header = &mut message.msg_hdr;
        header.msg_iov = own.as_mut_ptr();
        header.msg_iovlen = own.len() as _;
        if let Some(first) = group.first() {
            let address = address.insert(first.to().into());
            header.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_namelen = address.len();
            if group.len() > 1 {
                put_segment_size(header, control, length(first) as u16);
            }
        }
        used += 1;
    }
    // SAFETY: messages point to arrays of ours and to the datagrams, which live until the call is over; the kernel
    // only reads through them.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendmmsg,
            fd as libc::c_long,
            messages.as_mut_ptr(),
            used as libc::c_long,
            libc::MSG_DONTWAIT as libc::c_long,
        )
    };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(counts.iter().take(sent).sum())
}

#[allow(unsafe_code, reason = "the standard library sends one datagram a call")]
fn send_runs(fd: RawFd, buffer: &[u8], runs: &[Run]) -> io::Result<usize> {
    // SAFETY: these are plain structs of C, for which zero is a value.
    let mut messages: [libc::mmsghdr; MESSAGES] = unsafe { std::mem::zeroed() };
    // SAFETY: the same.
    let mut pieces: [libc::iovec; MESSAGES] = unsafe { std::mem::zeroed() };
    let mut controls = [SegmentSize([0; 32]); MESSAGES];
    let mut addresses: [Option<SockAddr>; MESSAGES] = [const { None }; MESSAGES];
    let places = messages.iter_mut().zip(&mut pieces).zip(&mut controls).zip(&mut addresses);
    for ((((message, piece), control), address), run) in places.zip(runs) {
        let bytes = run.bytes(buffer);
        *piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut message.msg_hdr;
        header.msg_iov = piece;
        header.msg_iovlen = 1;
        let address = address.insert(run.to.into());
        header.msg_name = address.as_ptr().cast_mut().cast();
        header.msg_namelen = address.len();
        if run.count > 1 {
            put_segment_size(header, control, run.size as u16);
        }
    }
    // SAFETY: messages point to arrays of ours and to the buffer, which live until the call is over; the kernel only
    // reads through them.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_sendmmsg,
            fd as libc::c_long,
            messages.as_mut_ptr(),
            runs.len().min(MESSAGES) as libc::c_long,
            libc::MSG_DONTWAIT as libc::c_long,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn length<T: Outgoing>(datagram: &T) -> usize {
    datagram.pieces().iter().map(|piece| piece.len()).sum()
}

/// How many of the first datagrams can be one message: to one peer, of one length but for the last, which may be
/// shorter.
fn run<T: Outgoing>(datagrams: &[T], most: usize) -> usize {
    let Some(first) = datagrams.first() else { return 0 };
    let (to, size) = (first.to(), length(first));
    let most = most.min(SEGMENT_BYTES / size.max(1)).min(datagrams.len());
    let mut count = most.min(1);
    while count < most {
        let Some(next) = datagrams.get(count).filter(|next| next.to() == to && length(*next) <= size) else {
            break;
        };
        count += 1;
        if length(next) < size {
            break;
        }
    }
    count
}

/// Tells the kernel to cut a message into datagrams of `size` bytes.
#[allow(unsafe_code, reason = "control messages are laid out by macros of C")]
fn put_segment_size(header: &mut libc::msghdr, control: &mut SegmentSize, size: u16) {
    header.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: a calculation.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as _;
    // SAFETY: the control buffer is aligned as its header wants, and longer than header and value together.
    unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        if let Some(message) = message.as_mut() {
            message.cmsg_level = libc::SOL_UDP;
            message.cmsg_type = libc::UDP_SEGMENT;
            message.cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
            libc::CMSG_DATA(message).cast::<u16>().write_unaligned(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct To(SocketAddr, Vec<u8>);

    impl Outgoing for To {
        fn to(&self) -> SocketAddr {
            self.0
        }

        fn pieces(&self) -> [&[u8]; 2] {
            let (head, rest) = self.1.split_at(self.1.len().min(2));
            [head, rest]
        }
    }

    async fn exchange(segments: bool, bind: &str) {
        let [from, to, other] = [0; 3].map(|_| BatchSocket::bind(bind.parse().unwrap(), false).unwrap());
        from.segments.fetch_and(segments, Ordering::Relaxed);
        let there = |socket: &BatchSocket| -> SocketAddr {
            from.address(([127, 0, 0, 1], socket.local_addr().port()).into())
        };
        let mut datagrams = Vec::new();
        for index in 0..200u32 {
            let socket = if index % 50 < 40 { &to } else { &other };
            let len = if index % 7 == 6 { 10 } else { 1332 };
            let mut bytes = index.to_be_bytes().to_vec();
            bytes.resize(len, index as u8);
            datagrams.push(To(there(socket), bytes));
        }
        let mut rest = &datagrams[..];
        while !rest.is_empty() {
            from.writable().await.unwrap();
            match from.send(rest) {
                Ok(count) => rest = &rest[count..],
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
        let mut received = Received::default();
        for (socket, wanted) in [(&to, 160), (&other, 40)] {
            let mut seen = Vec::new();
            while seen.len() < wanted {
                socket.readable().await.unwrap();
                if socket.receive(&mut received).is_ok() {
                    for (bytes, address) in received.datagrams() {
                        assert_eq!(address, there(&from));
                        seen.push(bytes.to_vec());
                    }
                }
            }
            let expected: Vec<_> =
                datagrams.iter().filter(|to| to.0 == there(socket)).map(|to| to.1.clone()).collect();
            assert_eq!(seen, expected);
        }
    }

    #[tokio::test]
    async fn datagrams_arrive_in_order_cut_by_the_kernel() {
        exchange(true, "127.0.0.1:0").await;
    }

    #[tokio::test]
    async fn datagrams_arrive_in_order_one_by_one() {
        exchange(false, "[::]:0").await;
    }
}
