//! Streams that go to other servers and come from there.

use std::sync::OnceLock;

use serde_json::Value;

use crate::publish_play::publisher;
use crate::support::callbacks::{Callbacks, Says};
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Frames, Kind, Program, Server, http, wait_for, wait_until};

const URLS: &str = "VHOST__DEFAULT__FORWARD__URLS";
const PULL: &str = "VHOST__DEFAULT__PULL__URLS";
const CLIP: Clip = Clip::H264_AAC;
/// What comes in milliseconds or ticks of 90 kHz is as exact as that.
const TOLERANCE: i64 = 1000;

/// The relays that the API tells of, in the order of their servers.
fn relays(server: &Server) -> Vec<Value> {
    let text = http::get(server.address("API"), "/api/v2/relays").good();
    let mut all = serde_json::from_str::<Value>(&text).unwrap()["items"].as_array().unwrap().clone();
    all.sort_by_key(|relay| relay["server"].as_str().unwrap().to_owned());
    all
}

/// Where RTMP and SRT servers take `[stream]` of `live`.
fn targets(rtmp: &Server, srt: &Server) -> (String, String) {
    (rtmp.rtmp("[stream]"), srt.srt("[stream],m=publish"))
}

#[test]
fn a_stream_goes_to_rtmp_and_srt_servers() {
    let (first, second) = (Server::start(), Server::start());
    let (rtmp, srt) = targets(&first, &second);
    let server = Server::with(&[(URLS, &format!("{rtmp} {srt}"))]);
    let players = [
        (first.http("demo.flv"), Form::Flv, Form::Flv),
        (first.http("demo.ts"), Form::Ts, Form::FlvAsTs),
        (second.http("demo.ts"), Form::Ts, Form::FlvAsTs),
    ]
    .map(|(url, form, of)| (Player::start(Program::ffmpeg, &url, CLIP, form), of));
    first.players(2);
    second.players(1);
    let publisher = publisher(Program::ffmpeg, CLIP, &server.rtmp("demo"));
    players[2].0.wait_for(Kind::Video, 10);
    let all = relays(&server);
    assert_eq!(all.len(), 2, "{all:?}");
    for relay in &all {
        assert_eq!((relay["way"].as_str(), relay["connected"].as_bool()), (Some("forward"), Some(true)));
        assert_eq!((relay["name"].as_str(), relay["error"].as_str()), (Some("demo"), None));
        assert!(relay["bytes"].as_u64().unwrap() > 1000, "{relay:?}");
    }
    assert_eq!(all[1]["server"], format!("srt://{}", second.address("SRT")), "no stream id is told");
    publisher.end().clean();
    for (player, of) in players {
        player.frames().are_the_end_of(&Frames::of_clip(CLIP, of), TOLERANCE);
    }
    first.line("publish of live/demo ended");
    second.line("srt-publish of live/demo ended");
    wait_until("no relays", || relays(&server).is_empty());
}

#[test]
fn a_server_that_refuses_is_called_again() {
    let other = Server::start();
    let server =
        Server::with(&[(URLS, &other.rtmp("[stream]")), ("VHOST__DEFAULT__FORWARD__RETRY", "200ms")]);
    let in_the_way = publisher(Program::ffmpeg, CLIP, &other.rtmp("demo"));
    other.line("publish of live/demo");
    let publisher = publisher(Program::ffmpeg, CLIP, &server.rtmp("demo"));
    server.line("the RTMP server refuses");
    let told = server.count("the RTMP server refuses");
    let attempts = || relays(&server).first().map_or(0, |relay| relay["attempts"].as_u64().unwrap());
    wait_until("three attempts", || attempts() >= 3);
    assert_eq!(server.count(" WARN "), 1, "the same is told once, and at level debug: {told}");
    in_the_way.kill();
    server.line("forward of live/demo");
    wait_until("the server to agree", || relays(&server).iter().any(|relay| relay["connected"] == true));
    publisher.kill();
}

#[test]
fn an_edge_fetches_what_is_played() {
    for srt in [false, true] {
        let origin = Server::start();
        let url = if srt { origin.srt("[stream],m=request") } else { origin.rtmp("[stream]") };
        let edge = Server::with(&[(PULL, &url), ("VHOST__DEFAULT__PULL__LINGER", "500ms")]);
        let publisher = publisher(Program::ffmpeg, CLIP, &origin.rtmp("demo"));
        origin.line("fmle-publish of live/demo");
        assert_eq!(origin.count("-play of live/demo"), 0, "nobody wants it yet");
        let (form, of) = if srt { (Form::Ts, Form::FlvAsTs) } else { (Form::Flv, Form::Flv) };
        let url = edge.http(if srt { "demo.ts" } else { "demo.flv" });
        let player = Player::start(Program::ffmpeg, &url, CLIP, form);
        let late = Player::start(Program::ffmpeg, &url, CLIP, form);
        player.wait_for(Kind::Video, 10);
        let all = relays(&edge);
        assert_eq!((all.len(), all[0]["way"].as_str()), (1, Some("pull")), "{all:?}");
        publisher.end().clean();
        for player in [player, late] {
            player.frames().are_the_end_of(&Frames::of_clip(CLIP, of), TOLERANCE);
        }
        assert_eq!(origin.count("-play of live/demo from"), 1, "one for all players");
        // The edge asks no more once nobody plays.
        edge.line("nobody plays it");
        wait_until("no relays", || relays(&edge).is_empty());
    }
}

#[test]
fn a_stream_is_fetched_all_the_time_and_from_the_next_server() {
    let origin = Server::start();
    let dir = Dir::new();
    let file = dir.path("pull.toml");
    // Nobody listens at port 1.
    let text = format!(
        "rtmp.listen = \"127.0.0.1:0\"\nhttp.listen = \"127.0.0.1:0\"\napi.listen = \"127.0.0.1:0\"\nsrt.listen = \"127.0.0.1:0\"\n\
         webrtc.enabled = false\nlog.level = \"debug\"\n[vhost.default]\ngrace = \"500ms\"\n[[vhost.default.match]]\nstream = \"live/cam\"\n\
         pull = {{ on_demand = false, retry = \"200ms\", urls = [\"rtmp://127.0.0.1:1/live/demo\", \"{}\"] }}\n",
        origin.rtmp("demo")
    );
    std::fs::write(&file, text).unwrap();
    let server = Server::with_file(&file);
    server.line("Connection refused");
    let publisher = publisher(Program::ffmpeg, CLIP, &origin.rtmp("demo"));
    let live = || http::get(server.address("API"), "/api/v2/streams?live=true").good();
    let streams = wait_for("the stream", || Some(live()).filter(|text| text.contains("\"cam\"")));
    assert!(!streams.contains("\"demo\""), "{streams}");
    let player = Player::start(Program::ffmpeg, &server.http("cam.flv"), CLIP, Form::Flv);
    player.wait_for(Kind::Video, 5);
    publisher.end().clean();
    player.frames().are_the_end_of(&Frames::of_clip(CLIP, Form::Flv), TOLERANCE);
}

#[test]
fn a_server_says_where_streams_go() {
    static ANSWER: OnceLock<&'static str> = OnceLock::new();
    let other = Server::start();
    let answer = format!("{{\"code\":0,\"data\":{{\"urls\":[\"{}\"]}}}}", other.rtmp("told"));
    ANSWER.set(answer.leak()).unwrap();
    let callbacks = Callbacks::start(|_| Says::This(200, ANSWER.get().unwrap()));
    let server = Server::with(&[
        ("VHOST__DEFAULT__FORWARD__BACKEND", &callbacks.url("on_forward")),
        (URLS, &other.rtmp("not-this-one")),
    ]);
    let publisher = publisher(Program::ffmpeg, CLIP, &server.rtmp("demo?a=b"));
    let asked = callbacks.wait("/on_forward", |_| true);
    let common = "server_id s service_id s action s client_id s ip s vhost s app s";
    assert_eq!(asked.shape(), format!("{{{common} tcUrl s stream s param s}}"));
    assert_eq!((asked.field("action"), asked.field("param")), ("on_forward".into(), "?a=b".into()));
    other.line("fmle-publish of live/told");
    publisher.end().clean();
    assert_eq!(other.count("not-this-one"), 0);
    assert_eq!(callbacks.all("/on_forward").len(), 1, "asked once for each publisher");
}

#[test]
fn streams_at_an_edge_of_srs_go_to_its_origin_and_come_from_there() {
    let origin = Server::start();
    let dir = Dir::new();
    let file = dir.path("edge.conf");
    let text = format!(
        "listen 127.0.0.1:0;\nsrs_log_tank console;\nhttp_api {{ enabled on; listen 127.0.0.1:0; }}\nhttp_server {{ enabled on; listen \
         127.0.0.1:0; }}\nvhost __defaultVhost__ {{ cluster {{ mode remote; origin {}; }} http_remux {{ enabled on; mount \
         [vhost]/[app]/[stream].flv; }} }}\n",
        origin.address("RTMP")
    );
    std::fs::write(&file, text).unwrap();
    let edge = Server::with_file(&file);
    // There.
    let publisher_there = publisher(Program::ffmpeg, CLIP, &edge.rtmp("up"));
    let player = Player::start(Program::ffmpeg, &origin.http("up.flv"), CLIP, Form::Flv);
    player.wait_for(Kind::Video, 5);
    publisher_there.kill();
    drop(player);
    // Here, and not back.
    let publisher_here = publisher(Program::ffmpeg, CLIP, &origin.rtmp("down"));
    origin.line("fmle-publish of live/down");
    let player = Player::start(Program::ffmpeg, &edge.http("down.flv"), CLIP, Form::Flv);
    player.wait_for(Kind::Video, 30);
    assert!(relays(&edge).iter().all(|relay| relay["name"] != "down" || relay["way"] == "pull"));
    publisher_here.kill();
}
