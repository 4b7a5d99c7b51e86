//! Connections to other servers.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// What one address of a server has to take a connection, and how many are tried.
const DIAL: Duration = Duration::from_secs(5);
const MOST_ADDRESSES: usize = 4;

/// Opens a connection to the first address of a server that takes one. None may use up the time of the others: where a
/// family leads nowhere, the kernel alone would try for two minutes.
///
/// # Errors
/// The server's name has no address, or none takes a connection.
pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its name has no address");
    for address in tokio::net::lookup_host((host, port)).await?.take(MOST_ADDRESSES) {
        match tokio::time::timeout(DIAL, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
