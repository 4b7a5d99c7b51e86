//! What is said over HTTP.

use serde_json::{Value, json};

use super::{PLAY, PUBLISH, place, publisher, send};
use crate::support::callbacks::{Callbacks, Says};
use crate::support::{Server, http, wait_until};

const SDP: &str = "Content-Type: application/sdp\r\nOrigin: http://page.example\r\n";

#[test]
fn sessions_come_and_go() {
    let server = Server::start();
    for (door, target) in [
        ("HTTP", "/live/demo/whip"),
        ("API", "/live/demo/whip"),
        ("HTTP", "/rtc/v1/whip/?app=live&stream=demo"),
        ("API", "/rtc/v1/whip?app=live&stream=demo"),
    ] {
        let at = server.address(door);
        let opened = send(at, "POST", target, SDP, PUBLISH);
        let place = place(&opened);
        assert_eq!(opened.header("content-type"), Some("application/sdp"));
        assert_eq!(opened.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
        let exposed = opened.header("access-control-expose-headers").unwrap();
        assert!(["Location", "ETag", "Link"].iter().all(|name| exposed.contains(name)), "{exposed}");
        assert!(opened.text().contains("a=ice-lite\r\n") && opened.text().contains("m=video 9 "));
        assert!(opened.text().contains(" 127.0.0.1 "), "{}", opened.text());
        // Candidates of the peer are nothing to us; another tag is another session.
        let etag = opened.header("etag").unwrap().to_owned();
        let fragment = "a=mid:0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n";
        let patch = |headers: &str, body: &str| send(at, "PATCH", &place, headers, body);
        assert_eq!(patch(&format!("If-Match: {etag}\r\n"), fragment).status, 204);
        assert_eq!(patch("If-Match: \"other\"\r\n", fragment).status, 412);
        assert_eq!(patch("", "hello").status, 400);
        let restarted =
            patch("If-Match: *\r\n", "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n");
        assert_eq!(restarted.status, 200);
        assert!(restarted.text().contains("a=ice-pwd:") && restarted.header("etag") != Some(&*etag));
        assert_eq!(send(at, "GET", "/rtc/v1/whip/", "", "").status, 405);
        assert_eq!(send(at, "DELETE", &place, "", "").status, 200);
        assert_eq!(send(at, "DELETE", &place, "", "").status, 404);
    }
    // As OBS and pages ask before they begin.
    let options = send(server.address("HTTP"), "OPTIONS", "/live/demo/whip", SDP, "");
    assert_eq!((options.status, options.header("accept-post")), (204, Some("application/sdp")));
    assert!(options.header("access-control-allow-methods").unwrap().contains("PATCH"));
    assert!(options.header("access-control-allow-headers").unwrap().contains("Authorization"));
    wait_until("no sessions", || {
        !http::get(server.address("API"), "/api/v1/clients/").good().contains("rtc-publish")
    });
}

#[test]
fn refusals_say_why() {
    let server = Server::with(&[
        ("ACCESS_TOKEN_SECRETS", "not-a-secret-at-all"),
        ("VHOST__DEFAULT__ACCESS__PUBLISH", "credential"),
    ]);
    let at = server.address("HTTP");
    for (method, target, body, status, why) in [
        ("POST", "/live/demo/whip", PUBLISH, 401, "refused by access"),
        ("POST", "/live/demo/whep", PLAY, 404, "nobody publishes live/demo"),
        ("POST", "/live/demo/whep", "{}", 400, "this is no session description"),
        ("POST", "/live/demo/whep", "v=0\r\n", 400, "has no audio or video"),
        ("POST", "/rtc/v1/whep/?app=live", PLAY, 400, "the stream name is empty"),
        ("POST", "/rtc/v1/whep/?app=live&stream=a&encrypt=false", PLAY, 400, "always encrypted"),
        ("DELETE", "/rtc/v1/whip/?token=x", "", 404, "no such session"),
    ] {
        let answer = send(at, method, target, SDP, body);
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        assert!(answer.text().contains(why), "{target}: {}", answer.text());
    }
    let large = send(at, "POST", "/live/demo/whep", SDP, &format!("v=0\r\n{}", "s=x\r\n".repeat(30_000)));
    assert!(large.status == 400 && large.text().contains("larger than"), "{}", large.text());
    let answer = send(at, "POST", "/live/demo/whip", "Authorization: Bearer x.y.z\r\n", PUBLISH);
    assert_eq!(answer.status, 401);
    // SRS's JSON has a code alone.
    let answer =
        send(at, "POST", "/rtc/v1/play/", "", "{\"streamurl\":\"webrtc://x/live/demo\",\"sdp\":\"bad\"}");
    assert_eq!((answer.status, answer.text()), (200, "{\"code\":400}"));
    let server = Server::with(&[("VHOST__DEFAULT__WEBRTC__ENABLED", "false")]);
    let answer = send(server.address("HTTP"), "POST", "/live/demo/whep", SDP, PLAY);
    assert_eq!(answer.status, 403);
}

#[test]
fn a_codec_that_the_player_lacks() {
    let server = Server::start();
    let _publisher = crate::publish_play::publisher(
        crate::support::Program::ffmpeg,
        crate::support::Clip::H265_AAC,
        &server.rtmp("demo"),
    );
    server.line("track 0: HEVC");
    let answer = send(server.address("HTTP"), "POST", "/live/demo/whep", SDP, PLAY);
    assert_eq!(answer.status, 406);
    assert!(answer.text().contains("the stream's pictures are HEVC"), "{}", answer.text());
}

#[test]
fn srs_json() {
    let server = Server::start();
    let _publisher = publisher("flv", &server.rtmp("demo"), 30);
    server.line("publish of live/demo ");
    for (path, offer) in [("/rtc/v1/play/", PLAY), ("/rtc/v1/publish/", PUBLISH)] {
        let stream = if offer == PLAY { "demo" } else { "other" };
        let body = json!({
            "api": "http://x/rtc/v1/play/", "tid": "abc", "clientip": null, "sdp": offer,
            "streamurl": format!("webrtc://localhost:1985/live/{stream}?eip=192.0.2.9:18000"),
        });
        let answer =
            send(server.address("API"), "POST", path, "Content-Type: text/plain\r\n", &body.to_string());
        let told: Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(told["code"], 0, "{told}");
        let sdp = told["sdp"].as_str().unwrap();
        assert!(sdp.contains(" 192.0.2.9 18000 typ host"), "{sdp}");
        assert!(
            ["server", "service", "pid", "sessionid"].iter().all(|name| told[*name].is_string()),
            "{told}"
        );
    }
}

#[test]
fn callbacks_know_who_comes() {
    let callbacks = Callbacks::start(|target| {
        Says::This(200, if target.contains("on_publish") { "{\"code\":0}" } else { "{\"code\":1}" })
    });
    let url = |name: &str| callbacks.url(name);
    let (publish, play, unpublish) = (url("on_publish"), url("on_play"), url("on_unpublish"));
    let server = Server::with(&[
        ("VHOST__DEFAULT__HOOKS__ENABLED", "true"),
        ("VHOST__DEFAULT__HOOKS__ON_PUBLISH", &publish),
        ("VHOST__DEFAULT__HOOKS__ON_UNPUBLISH", &unpublish),
        ("VHOST__DEFAULT__HOOKS__ON_PLAY", &play),
    ]);
    let at = server.address("HTTP");
    let opened = send(at, "POST", "/live/demo/whip?token=abc", SDP, PUBLISH);
    let place = place(&opened);
    let call = callbacks.wait("/on_publish", |_| true);
    assert_eq!(
        (call.field("app"), call.field("stream"), call.field("param")),
        (json!("live"), json!("demo"), json!("?token=abc"))
    );
    assert!(call.field("tcUrl").as_str().unwrap().starts_with("webrtc://"), "{call:?}");
    assert_eq!(send(at, "POST", "/live/demo/whep", SDP, PLAY).status, 403);
    assert_eq!(send(at, "DELETE", &place, "", "").status, 200);
    callbacks.wait("/on_unpublish", |_| true);
}

/// Sessions whose peers never come, and that are ended: nothing of them stays.
#[test]
fn two_thousand_sessions_leave_nothing() {
    let server = Server::start();
    let at = server.address("HTTP");
    let round = |count: usize| {
        for n in 0..count {
            let opened = send(at, "POST", &format!("/live/s{}/whip", n % 7), SDP, PUBLISH);
            assert_eq!(send(at, "DELETE", &place(&opened), "", "").status, 200);
        }
        wait_until("no sessions", || {
            !http::get(server.address("API"), "/api/v1/clients/").good().contains("rtc-publish")
        });
    };
    round(500);
    let (memory, descriptors) = (server.memory(), server.descriptors());
    round(2000);
    let grown = server.memory().saturating_sub(memory);
    assert!(grown < 4 << 10, "{grown} KiB more");
    assert!(
        server.descriptors() <= descriptors + 4,
        "{descriptors} descriptors, then {}",
        server.descriptors()
    );
}
