//! The API behind a real front.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::{Api, Parts};
use crate::config::{Config, Shared};
use crate::control::command::Commands;
use crate::hub::{Event, Hub, StreamName};
use crate::net::http::{Front, Options};
use crate::net::{ConnectionLimit, Listener, TcpOptions};

struct Server {
    addr: std::net::SocketAddr,
    hub: Hub,
    api: Api,
}

impl Server {
    fn new() -> Self {
        let config = Shared::new(Config::default());
        let hub = Hub::new(config.clone());
        let api = Api::new(Parts {
            hub: hub.clone(),
            #[cfg(feature = "access")]
            access: crate::access::Access::new(config.clone()),
            #[cfg(feature = "record")]
            recorder: std::sync::Arc::new(crate::record::Records::new(hub.clone(), config.clone())),
            #[cfg(feature = "relay")]
            relay: crate::relay::Relays::new(hub.clone(), config.clone(), Vec::new(), None),
            config,
            commands: Commands::channel().0,
        });
        let front = Front::new(Options::default(), vec![Box::new(api.clone())]);
        let limit = ConnectionLimit::new(9, 9);
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limit, TcpOptions::default()).unwrap();
        let addr = listener.local_addr();
        tokio::spawn(front.run(listener));
        Self { addr, hub, api }
    }

    /// A listener to events that takes little at a time, after the head of its answer.
    async fn listen(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut socket = socket.connect(self.addr).await.unwrap();
        socket.write_all(b"GET /api/v2/events HTTP/1.0\r\n\r\n").await.unwrap();
        until(&mut socket, "from here on").await;
        socket
    }
}

/// Reads until this came, and gives all that came.
async fn until(socket: &mut TcpStream, text: &str) -> String {
    let mut all = String::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !all.contains(text) {
            let len = socket.read(&mut buffer).await.unwrap();
            assert!(len > 0, "ended before {text:?}");
            all.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reading).await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_learns_what_it_lost_and_costs_nothing() {
    let server = Server::new();
    let mut socket = server.listen().await;
    let ended = |n: u32| Event::Ended { name: StreamName::new("v", "live", &format!("s{n}")).unwrap() };
    // Far more than sockets hold; at times the task gets a turn.
    for n in 0..60_000 {
        server.hub.tell(ended(n));
        if n % 256 == 0 {
            tokio::task::yield_now().await;
        }
    }
    server.hub.tell(ended(99_999));
    let all = until(&mut socket, "s99999").await;
    let lost = all.split("event: lost\ndata: {\"count\":").nth(1).expect("it was told of its loss");
    let lost: u32 = lost.split('}').next().unwrap().parse().unwrap();
    assert!(lost > 0 && lost < 60_000, "{lost}");
    // A clear end for listeners when the server stops.
    server.api.stop();
    let start = Instant::now();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    let deadline = Instant::now() + Duration::from_secs(5);
    while Arc::strong_count(&server.api.inner.listeners) > 1 {
        assert!(Instant::now() < deadline, "the listener's place is not free again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut socket = TcpStream::connect(server.addr).await.unwrap();
    socket.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 503 ") && answer.contains("the server is stopping"), "{answer}");
}
