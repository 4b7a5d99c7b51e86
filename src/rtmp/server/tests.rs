use bytes::Bytes;
use tokio::net::TcpListener;

use super::*;
use crate::format::amf::{self, Value};
use crate::rtmp::client::Client as Peer;
use crate::rtmp::client_session::{ClientEvent, Goal, Target};

/// A server on a free port.
async fn start(config: config::Config) -> (Context, SocketAddr) {
    let config = config::Shared::new(config);
    let context = Context { hub: Hub::new(config.clone()), config };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shared = context.clone();
    tokio::spawn(async move {
        while let Ok((socket, peer)) = listener.accept().await {
            tokio::spawn(serve_tcp(socket, peer, (), shared.clone()));
        }
    });
    (context, address)
}

fn target(address: SocketAddr, name: &str) -> Target {
    Target::parse(&format!("rtmp://{address}/live/{name}")).unwrap()
}

fn tag(kind: u8, time: i64, body: &[u8]) -> Tag {
    Tag { kind, time, body: Bytes::copy_from_slice(body) }
}

/// A 16x16 H.264 stream's sequence header.
fn video_config() -> Tag {
    let sps = [
        0x67, 0x42, 0xC0, 0x0A, 0xDD, 0xEC, 0x04, 0x40, 0, 0, 3, 0, 0x40, 0, 0, 3, 0, 0xA3, 0xC4, 0x89, 0xE0,
    ];
    let pps = [0x68, 0xCE, 0x0F, 0xC8];
    let mut body = vec![0x17, 0, 0, 0, 0, 1, 0x42, 0xC0, 0x0A, 0xFF, 0xE1, 0, sps.len() as u8];
    body.extend(sps);
    body.extend([1, 0, pps.len() as u8]);
    body.extend(pps);
    tag(9, 0, &body)
}

fn video(time: i64, key: bool) -> Tag {
    let (frame, nal) = if key { (0x17, 0x65) } else { (0x27, 0x41) };
    let mut body = vec![frame, 1, 0, 0, 0, 0, 0, 3, 0xE8, nal, 0x88];
    body.resize(9 + 1000, 0x55);
    tag(9, time, &body)
}

/// Publishes two seconds. `player` is given the first picture before the second is sent: else it might
/// start at a later key frame. Returns the tags that it got.
async fn publish<S>(publisher: &mut Peer<TcpStream>, player: &mut Peer<S>) -> Vec<Tag>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    publisher.send_meta(Value::object([("encoder", "test".into())])).await.unwrap();
    publisher.send(&video_config()).await.unwrap();
    publisher.send(&tag(8, 0, &[0xAF, 0, 0x12, 0x10])).await.unwrap();
    let mut tags = Vec::new();
    for n in 0..50 {
        publisher.send(&video(n * 40, n % 10 == 0)).await.unwrap();
        publisher.send(&tag(8, n * 40, &[0xAF, 1, 0x21, 0x10, 4])).await.unwrap();
        let want = if n == 0 { 2 } else { 0 };
        pictures(player, &mut tags, want).await;
    }
    pictures(player, &mut tags, 51).await;
    tags
}

/// Reads tags until there are so many of video, sequence header included.
async fn pictures<S: AsyncRead + AsyncWrite + Unpin>(
    player: &mut Peer<S>,
    tags: &mut Vec<Tag>,
    count: usize,
) {
    while tags.iter().filter(|t| t.kind == 9).count() < count {
        match next(player).await {
            Some(ClientEvent::Tag(tag)) => tags.push(tag),
            Some(_) => {}
            None => panic!("closed"),
        }
    }
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(player: &mut Peer<S>) -> Option<ClientEvent> {
    tokio::time::timeout(Duration::from_secs(10), player.next()).await.expect("in time").unwrap()
}

#[tokio::test]
async fn a_stream_goes_through() {
    let (context, address) = start(config::Config::default()).await;
    // The player is there first and waits.
    let mut player = Peer::connect(target(address, "demo"), Goal::Play).await.unwrap();
    let mut publisher = Peer::connect(target(address, "demo?token=1"), Goal::Publish).await.unwrap();
    let tags = publish(&mut publisher, &mut player).await;
    let meta = tags.iter().find(|t| {
        t.kind == 18 && t.body.ends_with(&[0, 0, 9]) && t.body.starts_with(b"\x02\0\x0aonMetaData")
    });
    let values = amf::decode_all(&meta.expect("metadata").body).unwrap();
    assert_eq!(values[1].find("encoder").and_then(Value::as_str), Some("test"));
    let pictures: Vec<_> = tags.iter().filter(|t| t.kind == 9).collect();
    assert_eq!(pictures[0].body, video_config().body);
    for (n, picture) in pictures[1..].iter().enumerate() {
        assert_eq!(picture.body, video(0, n % 10 == 0).body);
    }
    let times: Vec<_> = pictures[1..].windows(2).map(|w| w[1].time - w[0].time).collect();
    assert!(times.iter().all(|t| *t == 40), "{times:?}");

    // A second publisher of that name hears why not.
    let busy = Peer::connect(target(address, "demo"), Goal::Publish).await.unwrap_err().to_string();
    assert!(busy.contains("NetStream.Publish.BadName") && busy.contains("is being published"), "{busy}");
    // An operator's stop reaches both ends.
    context.hub.stop();
    while let Some(event) = next(&mut player).await {
        if event == ClientEvent::Ended {
            break;
        }
    }
    let error = loop {
        match publisher.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("closed without a word"),
            Err(e) => break e.to_string(),
        }
    };
    assert!(error.contains("stopping"), "{error}");
}

#[tokio::test]
async fn a_player_of_nothing_is_refused_where_that_is_configured() {
    let text = "[vhost.default.play]\nwait = \"no\"";
    let config = config::parse("test.toml", text, []).unwrap().config;
    let (_, address) = start(config).await;
    let error = Peer::connect(target(address, "demo"), Goal::Play).await.unwrap_err().to_string();
    assert!(error.contains("NetStream.Play.StreamNotFound"), "{error}");
    let error = Peer::connect(target(address, ".."), Goal::Publish).await.unwrap_err().to_string();
    assert!(error.contains("NetStream.Publish.BadName"), "{error}");
}

#[tokio::test]
async fn a_player_on_another_kind_of_socket_is_served_from_here() {
    let (context, address) = start(config::Config::default()).await;
    let (ours, theirs) = tokio::io::duplex(4096);
    let served = tokio::spawn(serve(theirs, address, (), context.clone()));
    let mut player = Peer::over(ours, target(address, "demo"), Goal::Play).await.unwrap();
    let mut publisher = Peer::connect(target(address, "demo"), Goal::Publish).await.unwrap();
    publish(&mut publisher, &mut player).await;
    player.finish().await.unwrap();
    tokio::time::timeout(Duration::from_secs(10), served).await.unwrap().unwrap();
    assert_eq!(context.hub.sessions(), 1);
}

#[tokio::test]
async fn garbage_ends_its_own_session_only() {
    let (context, address) = start(config::Config::default()).await;
    let mut publisher = Peer::connect(target(address, "demo"), Goal::Publish).await.unwrap();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[6; 2000], &[3; 8000], &[0xFF; 10]] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let _ = socket.write_all(garbage).await;
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut rest))
            .await
            .expect("closed");
    }
    let mut player = Peer::connect(target(address, "demo"), Goal::Play).await.unwrap();
    publish(&mut publisher, &mut player).await;
    assert_eq!(context.hub.sessions(), 2);
}

#[tokio::test]
async fn a_player_holds_its_permit_until_its_socket_is_closed() {
    struct Permit(std::sync::mpsc::Sender<()>);
    impl Drop for Permit {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let config = config::Shared::default();
    let context = Context { hub: Hub::new(config.clone()), config };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (given_back, permits) = std::sync::mpsc::channel();
    let shared = context.clone();
    let served = tokio::spawn(async move {
        let (socket, peer) = listener.accept().await.unwrap();
        serve_tcp(socket, peer, Permit(given_back), shared).await;
    });
    let player = Peer::connect(target(address, "demo"), Goal::Play).await.unwrap();
    served.await.unwrap();
    assert!(permits.recv_timeout(Duration::from_millis(100)).is_err(), "a delivery worker has it");
    drop(player);
    permits.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(context.hub.sessions(), 0);
}
