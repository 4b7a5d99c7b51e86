//! `/api/v1` beside what SRS 7 answered (`golden/`): names, nesting, types, order.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::json::Json;
use super::{ask, client, play, publish, send};
use crate::support::{Clip, Server, http, wait_for, wait_until};

fn golden(name: &str) -> Json {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/api/golden");
    Json::parse(&std::fs::read_to_string(dir.join(name).with_extension("json")).unwrap())
}

#[track_caller]
fn same(server: &Server, path: &str, name: &str) -> Json {
    let ours = ask(server, path);
    if let Err(why) = ours.is_like(&golden(name), path) {
        panic!("{why}");
    }
    ours
}

#[test]
fn answers_are_srs_s() {
    let server = Server::with(&[("API_RAW_API_ENABLED", "true")]);
    let publisher = publish(&server, Clip::H264_AAC, "a?token=abc&x=1");
    let id = client(&server, "fmle-publish");
    let players = [play(&server.rtmp("a")), play(&server.http("a.flv")), play(&server.http("a.m3u8"))];
    for kind in ["rtmp-play", "flv-play", "hls-play"] {
        client(&server, kind);
    }
    for name in [
        "authors",
        "features",
        "meminfos",
        "rusages",
        "self_proc_stats",
        "summaries",
        "system_proc_stats",
        "versions",
    ] {
        let answer = same(&server, &format!("/api/v1/{name}"), name);
        assert!(answer.at("server").text().starts_with("vid-") && answer.at("service").text().len() == 8);
    }
    for (path, name) in [
        ("/api/v1/", "index"),
        ("/api/v1", "index"),
        ("/api/v1/nothing", "index"),
        ("/api/v1/raw?rpc=raw", "raw"),
        ("/api/v1/clusters?vhost=__defaultVhost__&app=live&stream=a", "clusters"),
        ("/api/v1/clients/nope", "clients_nope"),
        ("/api/v1/streams/nope", "streams_nope"),
    ] {
        same(&server, path, name);
    }
    for (path, code) in [
        ("/api/v1/clients/nope", 2049),
        ("/api/v1/streams/nope", 2048),
        ("/api/v1/vhosts/nope", 2014),
        ("/api/v1/raw?rpc=query", 1060),
        ("/api/v1/raw?rpc=reload", 1061),
        ("/api/v1/tests/errors", 100),
    ] {
        assert_eq!(ask(&server, path), Json::parse(&format!("{{\"code\":{code}}}")), "{path}");
    }
    let index = ask(&server, "/api/v1/");
    assert_eq!(
        (index.at("urls"), index.at("tests")),
        (golden("index").at("urls"), golden("index").at("tests"))
    );

    wait_until("30 s rates", || {
        ask(&server, "/api/v1/streams/").at("streams").at("0").at("kbps").at("recv_30s").number() > 100.0
    });
    let streams = same(&server, "/api/v1/streams/", "streams");
    let stream = streams.at("streams").at("0");
    assert_eq!(
        (stream.at("name").text(), stream.at("url").text(), stream.at("clients").number()),
        ("a", "/live/a", 4.0)
    );
    let expected = r#"{"codec":"H264","profile":"High","level":"1.2","width":320,"height":180}"#;
    assert_eq!(*stream.at("video"), Json::parse(expected));
    let expected = r#"{"codec":"AAC","sample_rate":48000,"channel":2,"profile":"LC"}"#;
    assert_eq!(*stream.at("audio"), Json::parse(expected));
    assert_eq!(stream.at("publish").at("cid"), id.at("id"));
    assert_eq!(stream.at("tcUrl").text(), server.rtmp("").trim_end_matches('/'));
    let one = ask(&server, &format!("/api/v1/streams/{}", stream.at("id").text()));
    assert_eq!(one.at("stream").at("id"), stream.at("id"));

    let vhosts = same(&server, "/api/v1/vhosts/", "vhosts");
    let vhost = vhosts.at("vhosts").at("0");
    assert_eq!((vhost.at("clients").number(), vhost.at("streams").number()), (4.0, 1.0));
    assert_eq!(vhost.at("id"), stream.at("vhost"));
    let one = ask(&server, &format!("/api/v1/vhosts/{}", vhost.at("id").text()));
    assert_eq!(one.at("vhost").at("name").text(), "__defaultVhost__");

    let clients = same(&server, "/api/v1/clients/", "clients");
    let all = clients.at("clients").items();
    let kinds: BTreeSet<&str> = all.iter().map(|client| client.at("type").text()).collect();
    assert_eq!(kinds, BTreeSet::from(["flv-play", "fmle-publish", "hls-play", "rtmp-play"]));
    for client in all {
        assert_eq!((client.at("vhost"), client.at("stream")), (vhost.at("id"), stream.at("id")));
        assert_eq!((client.at("ip").text(), client.at("url").text()), ("127.0.0.1", "/live/a"));
        let publishes = client.at("type").text() == "fmle-publish";
        assert_eq!(*client.at("publish"), Json::Bool(publishes));
        assert!(
            client.at(if publishes { "recv_bytes" } else { "send_bytes" }).number() > 1000.0,
            "{client:?}"
        );
        assert!(client.at("alive").number() > 0.0);
    }
    let name = |kind: &str| client(&server, kind).at("name").text().to_owned();
    assert_eq!(
        (name("flv-play"), name("hls-play"), name("rtmp-play")),
        ("a.flv".into(), "a.m3u8".into(), "a".into())
    );
    drop((publisher, players));
}

#[test]
fn a_kicked_client_is_gone_at_once() {
    let server = Server::start();
    let mut publisher = publish(&server, Clip::H264_AAC, "a");
    client(&server, "fmle-publish");
    for (kind, url) in
        [("rtmp-play", server.rtmp("a")), ("flv-play", server.http("a.flv")), ("fmle-publish", String::new())]
    {
        let player = (!url.is_empty()).then(|| play(&url));
        let id = client(&server, kind).at("id").text().to_owned();
        let start = Instant::now();
        let answer = Json::parse(&send(&server, "DELETE", &format!("/api/v1/clients/{id}")).good());
        answer.is_like(&golden("kick"), "kick").unwrap();
        wait_until("the client to be gone", || {
            ask(&server, &format!("/api/v1/clients/{id}")) == golden("clients_nope")
        });
        // A tenth of it where the machine isn't busy with other tests.
        assert!(start.elapsed() < Duration::from_secs(5), "{kind}: {:?}", start.elapsed());
        if let Some(player) = player {
            player.limit(Duration::from_secs(10)).end();
        }
    }
    wait_until("the publisher's end", || !publisher.runs());
    assert_eq!(Json::parse(&send(&server, "DELETE", "/api/v1/clients/nope").good()), golden("clients_nope"));
    assert_eq!(Json::parse(&send(&server, "DELETE", "/api/v1/clients/").good()), golden("clients_nope"));
    assert_eq!(send(&server, "DELETE", "/api/v1/streams/").status, 405);
}

#[test]
fn what_is_not_there_is_null_and_lists_come_in_pages() {
    let server = Server::with(&[("VHOST__DEFAULT__IDLE_TIMEOUT", "2s")]);
    let sound = publish(&server, Clip::AAC, "s");
    let all = wait_for("sound", || {
        let all = ask(&server, "/api/v1/streams/");
        all.at("streams").items().first().is_some_and(|s| *s.at("audio") != Json::Null).then_some(all)
    });
    assert_eq!(*all.at("streams").at("0").at("video"), Json::Null);
    drop(sound);
    wait_until("no publisher", || {
        let stream = ask(&server, "/api/v1/streams/").at("streams").at("0").clone();
        *stream.at("publish") == Json::parse(r#"{"active":false,"cid":""}"#)
    });
    wait_until("the stream to be forgotten", || {
        ask(&server, "/api/v1/streams/").at("streams").items().is_empty()
    });
    // Waiting players, by a proxy on this machine.
    let address = server.address("HTTP");
    let players: Vec<TcpStream> = (0..13)
        .map(|n| {
            let mut socket = TcpStream::connect(address).unwrap();
            write!(
                socket,
                "GET /live/p{n}.flv HTTP/1.1\r\nHost: {address}\r\nX-Forwarded-For: 192.0.2.{n}\r\n\r\n"
            )
            .unwrap();
            socket
        })
        .collect();
    wait_until("players", || ask(&server, "/api/v1/clients/?count=99").at("clients").items().len() == 13);
    for (query, expected) in [
        ("", 10),
        ("?count=1", 10),
        ("?count=12", 12),
        ("?start=5", 8),
        ("?start=13", 0),
        ("?start=-4x&count=x", 10),
    ] {
        assert_eq!(
            ask(&server, &format!("/api/v1/clients/{query}")).at("clients").items().len(),
            expected,
            "{query}"
        );
    }
    let all = ask(&server, "/api/v1/clients/?count=99");
    let ips: BTreeSet<&str> = all.at("clients").items().iter().map(|client| client.at("ip").text()).collect();
    assert!(ips.len() == 13 && ips.contains("192.0.2.7"), "{ips:?}");
    let pages = ["?start=0", "?start=10"].map(|query| ask(&server, &format!("/api/v1/clients/{query}")));
    let id = |client: &Json| client.at("id").text().to_owned();
    let both: BTreeSet<String> =
        pages.iter().flat_map(|page| page.at("clients").items().iter().map(id)).collect();
    assert_eq!(both.len(), 13, "no client is in two pages");
    assert_eq!(ask(&server, "/api/v1/streams/?start=12").at("streams").items().len(), 1);
    for (path, list, expected) in [
        ("streams/?name=p7", "streams", 1),
        ("streams/?app=live&vhost=__defaultVhost__&count=99", "streams", 13),
        ("streams/?vhost=other", "streams", 0),
        ("clients/?ip=192.0.2.7", "clients", 1),
        ("clients/?type=flv-play&count=99", "clients", 13),
        ("clients/?stream=p8&type=rtmp-play", "clients", 0),
    ] {
        assert_eq!(ask(&server, &format!("/api/v1/{path}")).at(list).items().len(), expected, "{path}");
    }
    drop(players);
}

#[test]
fn pages_of_other_sites_jsonp_and_one_port() {
    let server = Server::start();
    let address = server.address("API");
    let get = |lines: &str, target: &str| {
        http::request(
            address,
            &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{lines}Connection: close\r\n\r\n"),
        )
    };
    let plain = get("", "/api/v1/versions");
    assert_eq!(
        (plain.header("Access-Control-Allow-Origin"), plain.header("Content-Type")),
        (None, Some("application/json"))
    );
    let cross = get("Origin: http://a.example\r\n", "/api/v1/versions");
    assert_eq!(cross.header("Access-Control-Allow-Origin"), Some("*"));
    let jsonp = get("", "/api/v1/versions?callback=a.b_1");
    assert_eq!(jsonp.header("Content-Type"), Some("text/javascript"));
    assert!(
        jsonp.text().starts_with("a.b_1({\"code\":0,") && jsonp.text().ends_with("}})"),
        "{}",
        jsonp.text()
    );
    assert_eq!(get("", "/api/v1/versions?callback=a(b)").text(), r#"{"code":400}"#);
    assert_eq!(get("", "/api/v1/clients/x?callback=f&method=DELETE").text(), r#"f({"code":2049})"#);
    // Nothing that a page of another site makes a browser send may change anything.
    let forged = get("Sec-Fetch-Site: cross-site\r\n", "/api/v1/clients/x?callback=f&method=DELETE");
    assert_eq!(forged.status, 403);
    assert_eq!(get("X-Forwarded-For: 192.0.2.1\r\n", "/api/v1/versions").status, 403);
    assert_eq!(
        http::request(
            address,
            "GET /api/v1/versions HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
        )
        .status,
        403
    );
    let moved = get("", "/api/v1/tests/redirects");
    assert_eq!((moved.status, moved.header("Location")), (301, Some("/api/v1/tests/errors")));
    assert_eq!(get("", "/other").status, 404);
    assert_eq!(
        http::get(server.address("HTTP"), "/api/v1/versions").status,
        404,
        "not where it doesn't listen"
    );
    drop(server);

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::with(&[("API_LISTEN", &port.to_string()), ("HTTP_LISTEN", &port.to_string())]);
    assert_eq!((server.count(" listens on "), server.address("HTTP")), (5, port));
    assert_eq!(Json::parse(&http::get(port, "/api/v1/versions").good()).at("code"), &Json::Integer(0));
    assert!(http::get(port, "/").good().contains("<html"), "the page of the HTTP server");
}
