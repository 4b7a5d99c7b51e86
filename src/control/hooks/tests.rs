use std::time::SystemTime;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::hub::{HubError, RecordingMade, SegmentMade};
use crate::id::SessionId;

/// What a callback server got: path and body.
type Got = (String, Value);

/// Answers each request with what `answer` says of its path (`None`: never), and passes it on.
async fn server<F>(answer: F) -> (String, mpsc::UnboundedReceiver<Got>)
where
    F: Fn(&str) -> Option<&'static str> + Clone + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, got) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(talk(socket, answer.clone(), sender.clone()));
        }
    });
    (url, got)
}

async fn talk(
    mut socket: TcpStream,
    answer: impl Fn(&str) -> Option<&'static str>,
    got: mpsc::UnboundedSender<Got>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = socket.read_u8().await else { return };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |n| n.parse().unwrap())];
        socket.read_exact(&mut body).await.unwrap();
        let _ = got.send((path.clone(), serde_json::from_slice(&body).unwrap_or(Value::Null)));
        let Some(answer) = answer(&path) else { return std::future::pending().await };
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        if socket.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A hub with callbacks as `set` says.
fn hub(set: impl FnOnce(&mut config::Hooks)) -> (Hub, Arc<Hooks>) {
    let mut config = Config::default();
    config.vhost.set_default(|vhost| {
        vhost.hooks.enabled = true;
        set(&mut vhost.hooks);
    });
    let config = config::Shared::new(config);
    let hub = Hub::new(config.clone());
    let hooks = Hooks::new(hub.clone(), config);
    hub.set_gates(vec![hooks.clone()]);
    tokio::spawn(hooks.clone().run());
    (hub, hooks)
}

fn name(stream: &str) -> StreamName {
    StreamName::new("__defaultVhost__", "live", stream).unwrap()
}

fn player(kind: ClientKind) -> Player {
    Player {
        params: "token=abc&x=1".to_owned(),
        tc_url: "rtmp://127.0.0.1:1935/live".to_owned(),
        page_url: "http://page/".to_owned(),
        ..Player::new(SessionId::next(), kind, "[::ffff:192.0.2.1]:5000".parse().unwrap())
    }
}

/// The names of a callback's fields.
async fn next(got: &mut mpsc::UnboundedReceiver<Got>) -> Got {
    tokio::time::timeout(Duration::from_secs(20), got.recv()).await.expect("a callback").unwrap()
}

fn action((path, body): &Got) -> String {
    assert_eq!(path.trim_start_matches('/').split('/').next(), body["action"].as_str());
    body["action"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_rtmp_publisher_is_asked_about_and_seen_off() {
    let (url, mut got) = server(|_| Some("{\"code\":0}")).await;
    let (hub, _hooks) = hub(|hooks| {
        hooks.on_connect = vec![format!("{url}/on_connect")];
        hooks.on_publish = vec![format!("{url}/on_publish/1"), format!("{url}/on_publish/2")];
        hooks.on_unpublish = vec![format!("{url}/on_unpublish")];
        hooks.on_close = vec![format!("{url}/on_close")];
    });
    let admission = hub.admit(Action::Publish, &name("a"), player(ClientKind::FmlePublish)).await.unwrap();
    let publisher = hub.publish(admission, Instant::now()).unwrap();
    let busy = hub.admit(Action::Publish, &name("a"), player(ClientKind::FmlePublish)).await.unwrap();
    assert!(matches!(hub.publish(busy, Instant::now()), Err(HubError::Busy { .. })));
    drop(publisher);
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(next(&mut got).await);
    }
    let count = |wanted: &str| all.iter().filter(|got| action(got) == wanted).count();
    assert_eq!(["on_connect", "on_publish", "on_unpublish", "on_close"].map(count), [2, 4, 2, 2]);
    let (_, body) = &all[1];
    assert_eq!(
        (body["ip"].as_str(), body["param"].as_str(), body["stream_url"].as_str(), body["vhost"].as_str()),
        (Some("192.0.2.1"), Some("?token=abc&x=1"), Some("/live/a"), Some("__defaultVhost__"))
    );
    assert_eq!(body["stream_id"], hub.stream_id(&name("a")));
    assert_eq!(all[0].1["client_id"], body["client_id"]);
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_for_every_protocol() {
    let (url, mut got) = server(|path| Some(if path == "/on_play" { "{\"code\":1}" } else { "0" })).await;
    let (hub, hooks) = hub(|hooks| {
        hooks.on_connect = vec![format!("{url}/on_connect")];
        hooks.on_play = vec![format!("{url}/on_play")];
        hooks.on_stop = vec![format!("{url}/on_stop")];
        hooks.on_close = vec![format!("{url}/on_close")];
    });
    assert!(hub.guards(Action::Play, &name("a")) && !hub.guards(Action::Publish, &name("a")));
    for kind in ClientKind::ALL.into_iter().filter(|kind| kind.reads()) {
        let Err(error) = hub.admit(Action::Play, &name("a"), player(kind)).await else { panic!("{kind:?}") };
        assert_eq!(error.to_string(), "refused by on_play: not let in");
        if connects(kind) {
            assert_eq!(action(&next(&mut got).await), "on_connect");
        }
        let asked = next(&mut got).await;
        assert_eq!(action(&asked), "on_play");
        let stream = match kind {
            ClientKind::HlsPlay => "a.m3u8",
            ClientKind::DashPlay => "a.mpd",
            _ => "a",
        };
        assert_eq!(asked.1["stream"], stream);
        let http = matches!(
            kind,
            ClientKind::AacPlay | ClientKind::FlvPlay | ClientKind::Mp3Play | ClientKind::TsPlay
        );
        let tc_url = if http { "rtmp://__defaultVhost__/live" } else { "rtmp://127.0.0.1:1935/live" };
        assert_eq!(asked.1["tcUrl"], tc_url);
        if connects(kind) {
            let closed = next(&mut got).await;
            assert_eq!((action(&closed).as_str(), &closed.1["send_bytes"]), ("on_close", &Value::from(0)));
        }
    }
    // Who may publish nobody asked for.
    hub.admit(Action::Publish, &name("a"), player(ClientKind::FmlePublish)).await.unwrap();
    let refused = hooks.stats().of(Hook::OnPlay).refused.load(Ordering::Relaxed);
    assert_eq!(refused as usize, ClientKind::ALL.iter().filter(|kind| kind.reads()).count());
}

#[tokio::test]
async fn who_goes_away_while_asked_about_is_seen_off() {
    let (url, mut got) = server(|path| (path != "/on_publish").then_some("0")).await;
    let (hub, _hooks) = hub(|hooks| {
        hooks.on_connect = vec![format!("{url}/on_connect")];
        hooks.on_publish = vec![format!("{url}/on_publish")];
        hooks.on_unpublish = vec![format!("{url}/on_unpublish")];
        hooks.on_close = vec![format!("{url}/on_close")];
    });
    let name = name("a");
    let mut asking = Box::pin(hub.admit(Action::Publish, &name, player(ClientKind::FmlePublish)));
    for expected in ["on_connect", "on_publish"] {
        tokio::select! {
            _ = &mut asking => panic!("nobody answered"),
            got = next(&mut got) => assert_eq!(action(&got), expected),
        }
    }
    drop(asking);
    let mut rest = [action(&next(&mut got).await), action(&next(&mut got).await)];
    rest.sort();
    assert_eq!(rest, ["on_close", "on_unpublish"]);
}

#[tokio::test]
async fn a_server_that_hangs_is_a_no_and_stops_nobody_else() {
    let (hanging, mut hung) = server(|_| None).await;
    let (url, _got) = server(|_| Some("0")).await;
    let (hub, hooks) = hub(|hooks| {
        hooks.timeout = Duration::from_millis(1500);
        hooks.on_publish = vec![format!("{hanging}/on_publish")];
        hooks.on_play = vec![format!("{url}/on_play")];
        hooks.on_stop = vec![format!("{hanging}/on_stop")];
        hooks.retries = 0;
        hooks.queue = 10;
    });
    let begun = Instant::now();
    let publishers: Vec<_> = (0..500)
        .map(|n| {
            let hub = hub.clone();
            tokio::spawn(async move {
                hub.admit(Action::Publish, &name(&n.to_string()), player(ClientKind::FmlePublish)).await.err()
            })
        })
        .collect();
    // Meanwhile viewers come and go, whose `on_stop` nobody takes.
    for _ in 0..100 {
        hub.admit(Action::Play, &name("a"), player(ClientKind::FlvPlay)).await.unwrap();
        assert!(hooks.stats().waiting() <= 11);
    }
    for publisher in publishers {
        let error = publisher.await.unwrap().expect("refused");
        assert_eq!(error.to_string(), "refused by on_publish: nobody could say whether it may");
    }
    // A question or two take this long; on a loaded machine a little more.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let mut asked = 0;
    while let Ok((path, _)) = hung.try_recv() {
        asked += usize::from(path == "/on_publish");
    }
    assert!((AT_ONCE..=3 * AT_ONCE).contains(&asked), "{asked}");
    assert!(hooks.stats().of(Hook::OnStop).lost.load(Ordering::Relaxed) >= 85);
    hooks.stop();
}

#[tokio::test]
async fn what_nobody_waits_for_comes_in_order_also_to_a_server_that_was_away() {
    let place = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (hub, hooks) = hub(|hooks| hooks.on_dvr = vec![format!("http://{place}/on_dvr")]);
    tokio::task::yield_now().await;
    for n in 0..20 {
        let file = format!("/rec/{n}.mp4").into();
        let made = RecordingMade::new(name("a"), file, Duration::from_secs(1), 1000);
        hub.tell(Event::Recorded(Box::new(made)));
    }
    while hooks.stats().of(Hook::OnDvr).failed.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let listener = TcpListener::bind(place).await.unwrap();
    let (sender, mut got) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(talk(socket, |_| Some("0"), sender.clone()));
        }
    });
    for n in 0..20 {
        let (_, body) = next(&mut got).await;
        assert_eq!((&body["file"], &body["client_id"]), (&format!("/rec/{n}.mp4").into(), &"".into()));
    }
}

#[tokio::test]
async fn a_stop_tries_once_what_is_queued() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (hub, hooks) = hub(|hooks| {
        hooks.on_stop = vec![format!("http://{gone}/on_stop")];
        hooks.retries = 100;
    });
    for _ in 0..50 {
        hub.admit(Action::Play, &name("a"), player(ClientKind::FlvPlay)).await.unwrap();
    }
    assert!(hooks.busy());
    let begun = SystemTime::now();
    tokio::time::sleep(Duration::from_millis(100)).await;
    hooks.stop();
    while hooks.busy() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(begun.elapsed().unwrap() < Duration::from_secs(20));
    assert_eq!(hooks.stats().of(Hook::OnStop).lost.load(Ordering::Relaxed), 50);
    assert_eq!(hooks.stats().waiting(), 0);
}

#[test]
fn notifications_of_segments() {
    let made = |url: &str, playlist: &str| {
        SegmentMade::new(name("b"), 7, Duration::from_millis(2016), url.to_owned(), playlist.to_owned())
    };
    let client = player(ClientKind::FmlePublish);
    let name = name("b");
    let who = Who { name: &name, stream_id: "vid-1", client: Some(&client) };
    let notify = |template: &str, url: &str| who.on_hls_notify(template, &made(url, "live/b.m3u8"));
    let template = "http://cdn/[app]/[stream]/[ts_url][param]&[unknown]&[";
    assert_eq!(notify(template, "live/b-7.ts"), "http://cdn/live/b/b-7.ts?token=abc&x=1&[unknown]&[");
    assert_eq!(notify("[ts_url]", "live2/b-7.ts"), "live2/b-7.ts");
    let on_hls: Value = serde_json::from_str(&who.on_hls(&made("live/b-7.ts", "live/b.m3u8"))).unwrap();
    assert_eq!(on_hls["duration"], 2.02);
    assert_eq!((&on_hls["file"], &on_hls["seq_no"]), (&"".into(), &7.into()));
}

#[test]
fn wrong_urls_are_told() {
    let mut config = Config::default();
    assert_eq!(check(&config), Ok(()));
    config.vhost.set_default(|vhost| vhost.hooks.on_hls_notify = vec!["http://a/[ts_url]".to_owned()]);
    assert_eq!(check(&config), Ok(()));
    config.vhost.set_default(|vhost| vhost.hooks.on_play = vec!["127.0.0.1:8085/x".to_owned()]);
    assert_eq!(check(&config), Ok(()), "none is called");
    config.vhost.set_default(|vhost| vhost.hooks.enabled = true);
    assert!(check(&config).unwrap_err().starts_with("vhost.*.hooks.on_play: expected a URL such as "));
}
