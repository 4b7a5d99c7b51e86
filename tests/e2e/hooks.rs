//! Callbacks: what SRS's servers get, they get from us; and one that does nothing of what it should harms nobody else.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::publish_play::publisher;
use crate::support::callbacks::{Callbacks, Says};
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Program, Server, http, wait_until};

const HOOKS: &str = "VHOST__DEFAULT__HOOKS__";

/// Keys that say where callbacks go: `NAME` to `/name` of the server.
fn keys(callbacks: &Callbacks, names: &[&str]) -> Vec<(String, String)> {
    let url = |name: &&str| (format!("{HOOKS}{}", name.to_uppercase()), callbacks.url(name));
    let mut keys: Vec<_> = names.iter().map(url).collect();
    keys.push((format!("{HOOKS}ENABLED"), "true".to_owned()));
    keys
}

fn server(keys: &[(String, String)], more: &[(&str, &str)]) -> Server {
    let keys: Vec<_> = keys.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Server::with(&[&keys, more].concat())
}

/// Fields of all callbacks, in the order of those that SRS 7.0.18 sends.
const COMMON: &str = "server_id s service_id s action s client_id s ip s vhost s app s";
const PLACE: &str = "stream_url s stream_id s";

#[test]
fn callbacks_are_those_of_srs() {
    let callbacks = Callbacks::start(|_| Says::This(200, "{\"code\": 0, \"data\": null}"));
    let dir = Dir::new();
    let mut keys = keys(
        &callbacks,
        &["on_connect", "on_close", "on_publish", "on_unpublish", "on_play", "on_stop", "on_dvr", "on_hls"],
    );
    let notify = callbacks.url("on_hls_notify/[server_id]/[app]/[stream]/[ts_url][param]");
    keys.push((format!("{HOOKS}ON_HLS_NOTIFY"), notify));
    let record = format!("{}/[app]/", dir.path("rec").display());
    let hls = dir.path("hls");
    let beat = callbacks.url("heartbeat");
    let server = server(
        &keys,
        &[
            ("SERVER_ID", "vid-golden1"),
            ("VHOST__DEFAULT__RECORD__ENABLED", "true"),
            ("VHOST__DEFAULT__RECORD__PATH", &record),
            ("VHOST__DEFAULT__HLS__PATH", hls.to_str().unwrap()),
            ("VHOST__DEFAULT__HLS__SEGMENT", "1s"),
            // Viewers are counted out after two of these.
            ("VHOST__DEFAULT__HLS__WINDOW", "4s"),
            ("HEARTBEAT_ENABLED", "true"),
            ("HEARTBEAT_INTERVAL", "1s"),
            ("HEARTBEAT_URL", &beat),
            ("HEARTBEAT_DEVICE_ID", "box-1"),
            ("HEARTBEAT_SUMMARIES", "true"),
            ("HEARTBEAT_PORTS", "true"),
        ],
    );
    let clip = Clip::H264_AAC;
    let players = [server.rtmp("demo?tok=play"), server.http("demo.flv?tok=play")]
        .map(|url| Player::start(Program::ffmpeg, &format!("-i {url}"), clip, Form::Flv));
    server.players(2);
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo?token=abc&x=1"));
    callbacks.wait("/on_hls", |_| true);
    let list = http::get(server.address("HTTP"), "/live/demo.m3u8").good();
    assert!(list.contains("#EXTM3U"), "{list}");
    // DASH has segments of its own, of which nobody is told.
    http::get(server.address("HTTP"), "/live/demo.mpd");
    publisher.end().clean();
    for player in players {
        player.end().1.good();
    }

    // The publisher, from its first word to its last.
    let publishes = |got: &crate::support::callbacks::Callback| got.field("param") == "?token=abc&x=1";
    let connect = callbacks.wait("/on_connect", publishes);
    assert_eq!(connect.shape(), format!("{{{COMMON} stream s param s tcUrl s pageUrl s}}"));
    assert_eq!((connect.method.as_str(), connect.content_type.as_str()), ("POST", "application/json"));
    let id = connect.field("client_id");
    let publish = callbacks.wait("/on_publish", |_| true);
    assert_eq!(publish.shape(), format!("{{{COMMON} tcUrl s stream s param s {PLACE}}}"));
    for (name, value) in [
        ("server_id", json!("vid-golden1")),
        ("action", json!("on_publish")),
        ("client_id", id.clone()),
        ("ip", json!("127.0.0.1")),
        ("vhost", json!("__defaultVhost__")),
        ("app", json!("live")),
        ("stream", json!("demo")),
        ("param", json!("?token=abc&x=1")),
        ("tcUrl", json!(format!("rtmp://{}/live", server.address("RTMP")))),
        ("stream_url", json!("/live/demo")),
    ] {
        assert_eq!(publish.field(name), value, "{name}");
    }
    let unpublish = callbacks.wait("/on_unpublish", |_| true);
    assert_eq!(unpublish.shape(), publish.shape());
    assert_eq!(unpublish.body, publish.body.replace("\"on_publish\"", "\"on_unpublish\""));
    let close = callbacks.wait("/on_close", |got| got.field("client_id") == id);
    assert_eq!(close.shape(), format!("{{{COMMON} send_bytes i recv_bytes i}}"));
    assert!(close.field("recv_bytes").as_u64().unwrap() > 10_000, "{close:?}");

    // Players by three protocols.
    let plays = |tc_url: &str| {
        let got = callbacks.wait("/on_play", |got| got.field("tcUrl") == tc_url);
        assert_eq!(got.shape(), format!("{{{COMMON} stream s tcUrl s param s pageUrl s {PLACE}}}"));
        let id = got.field("client_id");
        let stop = callbacks.wait("/on_stop", |stop| stop.field("client_id") == id);
        assert_eq!(stop.shape(), publish.shape());
        assert_eq!(callbacks.all("/on_stop").iter().filter(|stop| stop.field("client_id") == id).count(), 1);
        assert_eq!((stop.field("param"), stop.field("stream")), (got.field("param"), got.field("stream")));
        assert_eq!(got.field("stream_id"), publish.field("stream_id"));
        (got, id)
    };
    let (rtmp, player) = plays(&format!("rtmp://{}/live", server.address("RTMP")));
    let close = callbacks.wait("/on_close", |got| got.field("client_id") == player);
    assert!(close.field("send_bytes").as_u64().unwrap() > 10_000, "{close:?}");
    assert_eq!((rtmp.field("param"), rtmp.field("stream")), (json!("?tok=play"), json!("demo")));
    let (flv, _) = plays("rtmp://__defaultVhost__/live");
    assert_eq!((flv.field("param"), flv.field("stream")), (json!("?tok=play"), json!("demo")));
    let (hls_play, _) = plays("http://127.0.0.1/live");
    assert_eq!((hls_play.field("param"), hls_play.field("stream")), (json!(""), json!("demo.m3u8")));
    assert_eq!(hls_play.field("stream_url"), "/live/demo");

    // What is made of the stream.
    let segment = callbacks.wait("/on_hls", |got| got.target == "/on_hls");
    let expected = format!(
        "{{{COMMON} tcUrl s stream s param s duration f cwd s file s url s m3u8 s m3u8_url s seq_no i {PLACE}}}"
    );
    assert_eq!(segment.shape(), expected);
    assert_eq!((segment.field("client_id"), segment.field("seq_no")), (id.clone(), json!(0)));
    assert_eq!(
        (segment.field("url"), segment.field("m3u8_url")),
        (json!("live/demo-0.ts"), json!("live/demo.m3u8"))
    );
    assert_eq!(segment.field("file"), json!(hls.join("live/demo-0.ts").to_str().unwrap()));
    let hls_calls = callbacks.all("/on_hls").into_iter().filter(|got| got.target == "/on_hls");
    let numbers: Vec<_> = hls_calls.map(|got| (got.field("url"), got.field("seq_no"))).collect();
    let in_order = |(n, _)| (json!(format!("live/demo-{n}.ts")), json!(n));
    assert_eq!(numbers, numbers.iter().enumerate().map(in_order).collect::<Vec<_>>());
    let notify = callbacks.wait("/on_hls_notify", |_| true);
    assert_eq!(notify.method, "GET");
    assert_eq!(notify.target, "/on_hls_notify/vid-golden1/live/demo/demo-0.ts?token=abc&x=1");
    let recorded = callbacks.wait("/on_dvr", |_| true);
    assert_eq!(recorded.shape(), format!("{{{COMMON} tcUrl s stream s param s cwd s file s {PLACE}}}"));
    assert_eq!(recorded.field("client_id"), id);
    assert!(std::fs::exists(recorded.field("file").as_str().unwrap()).unwrap(), "{recorded:?}");

    let beat = callbacks.wait("/heartbeat", |_| true);
    let system = "{cpu_percent f disk_read_KBps i disk_write_KBps i disk_busy_percent f mem_ram_kbyte i \
        mem_ram_percent f mem_swap_kbyte i mem_swap_percent f cpus i cpus_online i uptime f ilde_time f load_1m f \
        load_5m f load_15m f net_sample_time i net_recv_bytes i net_send_bytes i net_recvi_bytes i net_sendi_bytes i \
        srs_sample_time i srs_recv_bytes i srs_send_bytes i conn_sys i conn_sys_et i conn_sys_tw i conn_sys_udp i \
        conn_srs i}";
    let own = "{version s pid i ppid i argv s cwd s mem_kbyte i mem_percent f cpu_percent f srs_uptime i}";
    let expected = format!(
        "{{device_id s ip s server s service s pid s summaries {{data {{ok true now_ms i self {own} system {system}}}}} \
         rtmp [s] http [s] api [s] srt [s] rtc [s]}}"
    );
    assert_eq!(beat.shape(), expected);
    assert_eq!(
        (beat.field("device_id"), beat.field("pid")),
        (json!("box-1"), json!(server.pid().to_string()))
    );
}

/// Publishes and is refused.
#[track_caller]
fn is_refused(server: &Server, stream: &str) {
    let ended = publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp(stream)).end();
    assert!(!ended.status.success(), "{stream} was let in");
}

#[test]
fn a_no_is_a_no_by_every_protocol_and_a_yes_by_one_of_two_is_one_too() {
    let callbacks = Callbacks::start(|path| match path {
        "/yes" => Says::This(201, "0"),
        "/on_publish?no" => Says::This(200, "{\"code\":1}"),
        "/garbage" => Says::Garbage,
        "/broken" => Says::This(500, "0"),
        "/empty" => Says::This(200, ""),
        _ => Says::This(403, "0"),
    });
    for no in ["on_publish?no", "garbage", "broken", "empty"] {
        let urls = format!("{} {}", callbacks.url("yes"), callbacks.url(no));
        let keys = vec![
            (format!("{HOOKS}ENABLED"), "true".to_owned()),
            (format!("{HOOKS}ON_PUBLISH"), urls),
            (format!("{HOOKS}ON_PLAY"), callbacks.url("no")),
        ];
        let server = server(&keys, &[]);
        is_refused(&server, "demo");
        server.line("refused by on_publish");
        let answer = http::get(server.address("HTTP"), "/live/demo.flv");
        assert_eq!(answer.status, 403, "{}", answer.head);
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
    let keys = [
        (format!("{HOOKS}ENABLED"), "true".to_owned()),
        (format!("{HOOKS}ON_PUBLISH"), callbacks.url("yes")),
        (format!("{HOOKS}ON_PLAY"), callbacks.url("no")),
    ];
    let server = server(&keys, &[]);
    let publisher = publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp("demo"));
    server.line(" of live/demo from ");
    for form in ["demo.flv", "demo.ts", "demo.aac", "demo.m3u8", "demo.mpd"] {
        let answer = http::get(server.address("HTTP"), &format!("/live/{form}"));
        assert_eq!(answer.status, 403, "{form}: {}", answer.head);
    }
    let player = Program::ffmpeg(&format!("-i {} -f null -", server.rtmp("demo"))).end();
    assert!(!player.status.success());
    publisher.end().clean();
}

#[test]
fn a_server_that_hangs_harms_nobody_else() {
    let hanging = Callbacks::start(|_| Says::Nothing);
    let callbacks = Callbacks::start(|_| Says::This(200, "0"));
    let keys = [
        (format!("{HOOKS}ENABLED"), "true".to_owned()),
        (format!("{HOOKS}ON_PLAY"), callbacks.url("on_play")),
        // Nobody answers those, and nobody waits for them.
        (format!("{HOOKS}ON_STOP"), hanging.url("on_stop")),
        (format!("{HOOKS}ON_CLOSE"), hanging.url("on_close")),
        (
            format!("{HOOKS}ON_UNPUBLISH"),
            format!("{} {}", hanging.url("on_unpublish"), callbacks.url("on_unpublish")),
        ),
        (format!("{HOOKS}QUEUE"), "20".to_owned()),
    ];
    let match_hangs = "[[vhost.default.match]]\nstream = \"live/asked*\"\n[vhost.default.match.hooks]\n";
    let dir = Dir::new();
    let file = dir.path("r.toml");
    let text = format!("{match_hangs}on_publish = [{:?}]\ntimeout = \"4s\"\n", hanging.url("on_publish"));
    std::fs::write(&file, text).unwrap();
    let mut server = server(
        &keys,
        &[("CONFIG", file.to_str().unwrap()), ("SERVER_SHUTDOWN_TIMEOUT", "2s"), ("LOG_LEVEL", "info")],
    );
    let address = server.address("HTTP");
    let clip = Clip::H264_AAC.lasting(25);
    let source = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    server.line(" of live/demo from ");
    // A viewer from the beginning on, whom nothing of it disturbs.
    let viewer = Player::start(Program::ffmpeg, &format!("-i {}", server.http("demo.flv")), clip, Form::Flv);
    wait_until("the viewer", || callbacks.all("/on_play").len() == 1);
    let begun = Instant::now();
    let refused: Vec<_> = (0..4)
        .map(|n| publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp(&format!("asked{n}"))))
        .collect();
    let visit = || {
        for _ in 0..100 {
            let text = format!("GET /live/demo.flv HTTP/1.1\r\nHost: {address}\r\n\r\n");
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            std::io::Write::write_all(&mut socket, text.as_bytes()).unwrap();
            let _ = std::io::Read::read(&mut socket, &mut [0; 64]).unwrap();
        }
    };
    // What is allocated once is.
    visit();
    let before = server.memory();
    visit();
    visit();
    for publisher in refused {
        let ended = publisher.end();
        assert!(!ended.status.success(), "{}", ended.said);
    }
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    server.line("on_publish for live/asked0: ");
    server.line("lost: its queue is full");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 6 * 1024, "{grown} KiB more");
    source.end().clean();
    let (frames, ended) = viewer.end();
    ended.good();
    assert!(
        frames.of(crate::support::Kind::Video).len() > 400,
        "{}",
        frames.of(crate::support::Kind::Video).len()
    );
    // Those who answer get theirs.
    callbacks.wait("/on_unpublish", |_| true);
    assert!(server.stop().success());
}

#[test]
fn who_is_asked_by_https_has_to_prove_who_it_is() {
    let dir = Dir::new();
    let made = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let (cert, key) = (dir.path(&format!("{name}.crt")), dir.path(&format!("{name}.key")));
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (cert, key)
    };
    let serve = |(cert, key): &(std::path::PathBuf, std::path::PathBuf)| {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = "import http.server, ssl, sys\n\
            class Handler(http.server.BaseHTTPRequestHandler):\n\
            \x20 def do_POST(self):\n\
            \x20   self.rfile.read(int(self.headers['Content-Length']))\n\
            \x20   self.send_response(200)\n\
            \x20   self.send_header('Content-Length', '1')\n\
            \x20   self.end_headers()\n\
            \x20   self.wfile.write(b'0')\n\
            server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)\n\
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
            context.load_cert_chain(sys.argv[2], sys.argv[3])\n\
            server.socket = context.wrap_socket(server.socket, server_side=True)\n\
            print('ready', flush=True)\n\
            server.serve_forever()\n";
        let port_text = port.to_string();
        let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
        let program = Program::start("python3", ["-c", script, &port_text, cert, key]);
        wait_until("the https server", || program.said().contains("ready"));
        (program, port)
    };
    let (right, wrong) = (made("localhost"), made("elsewhere.example"));
    let (_first, good) = serve(&right);
    let (_second, bad) = serve(&wrong);
    let both = dir.path("ca.pem");
    let bundle: String = [&right, &wrong].map(|(cert, _)| std::fs::read_to_string(cert).unwrap()).concat();
    std::fs::write(&both, bundle).unwrap();
    let ask = |port: u16, ca: &std::path::Path| {
        let keys = [
            (format!("{HOOKS}ENABLED"), "true".to_owned()),
            (format!("{HOOKS}ON_PUBLISH"), format!("https://localhost:{port}/on_publish")),
        ];
        server(&keys, &[("TLS_CA", ca.to_str().unwrap())])
    };
    let server = ask(good, &both);
    publisher(Program::ffmpeg, Clip::H264_AAC, &server.rtmp("demo")).end().clean();
    let server = ask(bad, &both);
    is_refused(&server, "demo");
    server.line("its certificate is for another name than the URL has");
    let server = ask(good, &wrong.0);
    is_refused(&server, "demo");
    server.line("tls.ca");
}

#[test]
fn urls_that_are_none_are_told_at_the_start() {
    let ended = Program::start(
        "env",
        [
            &format!("RILLBOX_{HOOKS}ENABLED=true"),
            &format!("RILLBOX_{HOOKS}ON_PLAY=localhost:80"),
            env!("CARGO_BIN_EXE_rillbox"),
            "check",
        ],
    )
    .end();
    assert!(!ended.status.success());
    assert!(ended.said.contains("vhost.*.hooks.on_play: expected a URL"), "{}", ended.said);
}
