//! Listening sockets that the service manager has opened for us: sd_listen_fds(3), without its library.
//!
//! They outlive a restart, and ports below 1024 need no privilege. `LISTEN_PID` names us, and the sockets are closed when
//! a program is executed: our children neither get them nor take the variables for theirs.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Socket, Type};

/// The first of them: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// More than anyone passes.
const MOST: RawFd = 256;

/// A listening TCP socket that was opened before we started.
#[derive(Debug)]
pub struct PassedSocket {
    /// What the service manager calls it (`FileDescriptorName=`).
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The socket, not blocking.
    pub socket: TcpListener,
}

/// Takes the sockets that `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES` (as `var` gives them) tell of, or what is wrong
/// with each. To be called before the program opens anything of its own; there is nothing to take a second time.
pub fn passed_sockets(var: impl Fn(&str) -> Option<String>) -> Vec<Result<PassedSocket, String>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let ours = var("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
    let Some(count) = var("LISTEN_FDS").filter(|_| ours) else { return Vec::new() };
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let Some(count) = count.parse().ok().filter(|count| (0..=MOST).contains(count)) else {
        return vec![Err(format!("LISTEN_FDS: expected 0 to {MOST}, found {count:?}"))];
    };
    let names = var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    (FIRST..FIRST + count)
        .map(|fd| {
            let name = names.next().unwrap_or("unknown");
            let fail = |error| format!("descriptor {fd} ({name}) of the service manager is ignored: {error}");
            let (socket, address) = take(fd).map_err(fail)?;
            Ok(PassedSocket { name: name.to_owned(), address, socket })
        })
        .collect()
}

/// The descriptor `fd` as a listening socket. One that is something else stays open: it may be somebody's.
#[allow(unsafe_code, reason = "a number is all that the service manager passes")]
fn take(fd: RawFd) -> io::Result<(TcpListener, SocketAddr)> {
    // SAFETY: it was opened for this process before the program began, and is taken once; what is none is let go of.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    match listening(&socket) {
        Ok(address) => Ok((socket.into(), address)),
        Err(error) => {
            let _ = socket.into_raw_fd();
            Err(error)
        }
    }
}

fn listening(socket: &Socket) -> io::Result<SocketAddr> {
    if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
        return Err(io::Error::other("it is no listening TCP socket"));
    }
    let address = socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("it is no TCP socket"))?;
    socket.set_cloexec(true)?;
    socket.set_nonblocking(true)?;
    Ok(address)
}
