//! Files that exist in memory alone: what many clients fetch is given from the kernel's pages to their sockets, without
//! being copied through this process for each of them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use bytes::Bytes;
use tokio::net::TcpStream;

/// The most that one call sends: a fast client must not keep a thread from the others.
const MOST: u64 = 1 << 20;

/// A file in memory (`memfd_create(2)`) that holds `pieces`.
///
/// # Errors
/// The system has none, or no room or descriptor left.
#[cfg(target_os = "linux")]
pub fn in_memory(pieces: &[Bytes]) -> io::Result<File> {
    use std::io::Write;
    use std::os::fd::{FromRawFd, OwnedFd};

    // SAFETY: the name is a C string that lives for the call; nothing else is passed.
    #[allow(unsafe_code, reason = "the library that wraps it crashes in static programs on MIPS")]
    let fd = unsafe { libc::memfd_create(c"rillbox".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call gave a descriptor that is nobody else's.
    #[allow(unsafe_code, reason = "a raw descriptor becomes one with an owner")]
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    for piece in pieces {
        file.write_all(piece)?;
    }
    Ok(file)
}

/// There are none here.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn in_memory(_: &[Bytes]) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Sends some of `file`, from `offset` on, at most `left` bytes, as far as the socket has room. How many bytes that were.
///
/// # Errors
/// The connection broke, or the file is shorter.
#[cfg(target_os = "linux")]
pub(super) async fn send_file(socket: &TcpStream, file: &File, offset: u64, left: u64) -> io::Result<u64> {
    let out_of_range = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let from = libc::off_t::try_from(offset).map_err(out_of_range)?;
    let count = usize::try_from(left.min(MOST)).unwrap_or(usize::MAX);
    let sent = socket
        .async_io(tokio::io::Interest::WRITABLE, || {
            let mut from = from;
            // SAFETY: both descriptors are open for as long as their owners are borrowed here; `from` is ours.
            #[allow(unsafe_code, reason = "the standard library has no such call")]
            let sent = unsafe { libc::sendfile(socket.as_raw_fd(), file.as_raw_fd(), &raw mut from, count) };
            usize::try_from(sent).map_err(|_| io::Error::last_os_error())
        })
        .await?;
    if sent == 0 && left > 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the file became shorter while it was sent",
        ));
    }
    Ok(u64::try_from(sent).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_file_in_memory_goes_to_a_socket() {
        let pieces = [Bytes::from(vec![7; 300_000]), Bytes::from_static(b"end")];
        let file = in_memory(&pieces).unwrap();
        let mut tail = [0; 3];
        file.read_exact_at(&mut tail, 300_000).unwrap();
        assert_eq!(&tail, b"end");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = listener.accept().await.unwrap().0;
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        });
        let (mut offset, mut left) = (299_000, 1003);
        while left > 0 {
            let sent = send_file(&socket, &file, offset, left).await.unwrap();
            (offset, left) = (offset + sent, left - sent);
        }
        assert!(send_file(&socket, &file, 300_003, 1).await.is_err(), "there is no more");
        drop(socket);
        let all = reading.await.unwrap();
        assert_eq!((all.len(), &all[1000..]), (1003, &b"end"[..]));
    }
}
