//! Figures for Prometheus: what its own checker says of them, and whether they are true.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::publish_play::publisher;
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Program, Server, http, wait_until};

/// The value of a sample.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

/// What `promtool check metrics` finds fault with.
fn promtool(page: &str) -> (bool, String) {
    let dir = Dir::new();
    let file = dir.path("page");
    std::fs::write(&file, page).unwrap();
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(File::open(&file).unwrap()).stdout(Stdio::piped());
    let output = command.stderr(Stdio::piped()).output();
    let output = output.unwrap_or_else(|error| panic!("promtool: {error}: run scripts/install-test-clients"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn figures_are_right_and_prometheus_can_read_them() {
    let server = Server::with(&[("METRICS_LISTEN", "127.0.0.1:0"), ("HTTP_LISTEN", "127.0.0.1:0")]);
    let own = server.address("Metrics");
    let clip = Clip::H264_AAC;
    let players = [server.rtmp("demo"), server.http("demo.flv")]
        .map(|url| Player::start(Program::ffmpeg, &format!("-i {url}"), clip, Form::Flv));
    server.players(2);
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    let labels = "vhost=\"__defaultVhost__\",app=\"live\",stream=\"demo\"";
    let page = || http::get(own, "/metrics").good();
    wait_until("a few seconds of the stream", || {
        value(&page(), &format!("rillbox_stream_video_frames_total{{{labels}}}")).is_some_and(|n| n > 60.0)
    });
    let live = page();
    for (sample, expected) in [
        ("srs_streams".to_owned(), 1.0),
        ("srs_clients".to_owned(), 3.0),
        ("srs_clients_total".to_owned(), 3.0),
        (format!("rillbox_stream_published{{{labels}}}"), 1.0),
        (format!("rillbox_stream_readers{{{labels},protocol=\"rtmp-play\"}}"), 1.0),
        (format!("rillbox_stream_readers{{{labels},protocol=\"flv-play\"}}"), 1.0),
        (format!("rillbox_stream_key_frame_interval_seconds{{{labels}}}"), 1.0),
        (format!("rillbox_stream_frames_dropped_total{{{labels}}}"), 0.0),
        ("rillbox_sessions{protocol=\"fmle-publish\"}".to_owned(), 1.0),
        ("rillbox_sessions{protocol=\"hls-play\"}".to_owned(), 0.0),
    ] {
        assert_eq!(value(&live, &sample), Some(expected), "{sample}\n{live}");
    }
    // One stream to two readers: they get about twice what comes.
    let sent = value(&live, "srs_send_bytes_total").unwrap();
    let received = value(&live, "srs_receive_bytes_total").unwrap();
    assert!(received > 50_000.0 && (1.5..2.7).contains(&(sent / received)), "{sent} {received}");
    assert!(value(&live, "rillbox_ring_bytes").unwrap() > 50_000.0);
    publisher.end().clean();
    for player in players {
        player.end().1.good();
    }
    wait_until("all have gone", || value(&page(), "srs_clients") == Some(0.0));
    let after = page();
    for (sample, least, most) in [
        ("rillbox_session_duration_seconds_count{protocol=\"flv-play\"}", 1.0, 1.0),
        ("rillbox_session_duration_seconds_sum{protocol=\"flv-play\"}", 4.0, 60.0),
        ("rillbox_session_duration_seconds_bucket{protocol=\"flv-play\",le=\"1.0\"}", 0.0, 0.0),
        ("rillbox_sessions_sent_bytes_total{protocol=\"rtmp-play\"}", 200_000.0, 400_000.0),
        ("rillbox_sessions_received_bytes_total{protocol=\"fmle-publish\"}", 200_000.0, 400_000.0),
    ] {
        let value = value(&after, sample).unwrap();
        assert!((least..=most).contains(&value), "{sample}: {value}");
    }

    for page in [&live, &after] {
        let (good, said) = promtool(page);
        assert!(good, "{said}");
    }
    assert!(!promtool("a{b=\"c\"").0, "promtool checks nothing");
    // The other form, and where the API is; nobody else may read it there.
    let ask = |accept: &str| {
        let address = server.address("API");
        http::request(
            address,
            &format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n{accept}Connection: close\r\n\r\n"),
        )
    };
    let open = ask("Accept: application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5\r\n");
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.good().ends_with("\n# EOF\n"));
    assert_eq!(ask("").header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(ask("X-Forwarded-For: 192.0.2.1\r\n").status, 403);
    assert_eq!(http::get(server.address("HTTP"), "/metrics").status, 404);
    assert_eq!(http::get(own, "/").status, 404);
}
