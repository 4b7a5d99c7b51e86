//! `/api/v2` and health.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::json::Json;
use super::{ask, client, play, publish, send};
use crate::support::{Clip, PATIENCE, Program, Server, client::clients, http, wait_for, wait_until};

/// A listener to events.
struct Events(BufReader<TcpStream>);

impl Events {
    fn of(server: &Server, query: &str) -> Self {
        let mut socket = TcpStream::connect(server.address("API")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // HTTP/1.0: no chunks between lines.
        write!(socket, "GET /api/v2/events{query} HTTP/1.0\r\n\r\n").unwrap();
        let mut events = Self(BufReader::new(socket));
        let head = std::iter::from_fn(|| Some(events.line())).take_while(|line| !line.is_empty());
        let head = head.collect::<Vec<_>>().join("\n").to_ascii_lowercase();
        assert!(
            head.starts_with("http/1.") && head.contains(" 200 ok") && head.contains("text/event-stream"),
            "{head}"
        );
        assert!(events.line().starts_with(':'));
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next one: its type and data.
    fn next(&mut self) -> (String, Json) {
        loop {
            if let Some(kind) = self.line().strip_prefix("event: ") {
                let data = self.line();
                return (kind.to_owned(), Json::parse(data.strip_prefix("data: ").unwrap()));
            }
        }
    }
}

#[test]
fn streams_sessions_and_events() {
    let server = Server::with(&[("API_MAX_LISTENERS", "2")]);
    let mut events = Events::of(&server, "?types=published,unpublished,ended");
    let second = Events::of(&server, "");
    let third = http::get(server.address("API"), "/api/v2/events");
    assert_eq!((third.status, third.header("Retry-After")), (503, Some("10")));
    drop(second);
    let publisher = publish(&server, Clip::H264_AAC, "a?token=secret");
    let (kind, published) = events.next();
    assert_eq!((kind.as_str(), published.at("stream").at("name").text()), ("published", "a"));
    let player = play(&server.rtmp("a"));
    client(&server, "rtmp-play");

    // The publisher is told of before its first frame.
    let streams = wait_for("tracks and a reader", || {
        let streams = ask(&server, "/api/v2/streams?live=true");
        let stream = streams.at("items").at("0");
        let known = stream.at("tracks").items().len() == 2 && stream.at("readers").number() == 1.0;
        known.then_some(streams)
    });
    let stream = streams.at("items").at("0");
    let id = stream.at("id").text();
    assert_eq!(published.at("stream").at("id").text(), id);
    assert_eq!(published.at("session").at("id"), stream.at("publisher"));
    assert_eq!(
        (stream.at("app").text(), stream.at("readers").number(), streams.at("next")),
        ("live", 1.0, &Json::Null)
    );
    let track = stream.at("tracks").at("0");
    assert_eq!(
        (track.at("codec").text(), track.at("width").number(), track.at("channels")),
        ("H264", 320.0, &Json::Null)
    );
    assert_eq!(ask(&server, &format!("/api/v2/streams/{id}")).at("id").text(), id);
    assert!(ask(&server, "/api/v2/streams?app=other").at("items").items().is_empty());

    let sessions = ask(&server, &format!("/api/v2/sessions?stream={id}"));
    let roles: BTreeSet<&str> =
        sessions.at("items").items().iter().map(|session| session.at("role").text()).collect();
    assert_eq!(roles, BTreeSet::from(["publisher", "reader"]));
    assert!(!http::get(server.address("API"), "/api/v2/sessions").good().contains("secret"));
    // Page by page.
    let mut after = String::new();
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let page = ask(&server, &format!("/api/v2/sessions?limit=1{after}"));
        assert_eq!(page.at("items").items().len(), 1);
        ids.insert(page.at("items").at("0").at("id").text().to_owned());
        if let Json::Text(next) = page.at("next") {
            after = format!("&after={next}");
        }
    }
    assert_eq!(ids.len(), 2);

    let reader = ask(&server, "/api/v2/readers").at("items").at("0").at("id").text().to_owned();
    assert_eq!(send(&server, "DELETE", &format!("/api/v2/publishers/{reader}")).status, 404, "it is none");
    assert_eq!(send(&server, "DELETE", &format!("/api/v2/readers/{reader}")).status, 204);
    wait_until("the reader to be gone", || {
        http::get(server.address("API"), &format!("/api/v2/sessions/{reader}")).status == 404
    });
    player.limit(Duration::from_secs(10)).end();
    server.line(" ended session ");
    let publisher_id = stream.at("publisher").text();
    assert_eq!(send(&server, "DELETE", &format!("/api/v2/sessions/{publisher_id}")).status, 204);
    assert_eq!(events.next().0, "unpublished");
    assert_eq!(events.next().0, "ended");
    drop(publisher);
}

#[test]
fn what_is_asked_wrongly() {
    let server = Server::start();
    for (method, path, status, said) in [
        ("GET", "/api/v2/nothing", 404, "there is nothing at"),
        ("GET", "/api/v2/streams?limit=0", 400, "limit: expected 1 to 1000"),
        ("GET", "/api/v2/streams?live=yes", 400, "live: expected true or false"),
        ("GET", "/api/v2/streams?vhost=%ff", 400, "vhost: expected a text"),
        ("GET", "/api/v2/events?types=segment,x", 400, "types: expected some of"),
        ("GET", "/api/v2/streams/vid-0000000", 404, "no stream"),
        ("POST", "/api/v2/streams", 405, "here is only GET"),
        ("DELETE", "/api/v2/sessions/x", 404, "no such session"),
    ] {
        let answer = send(&server, method, path);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (status, Some("application/problem+json")),
            "{path}"
        );
        let problem = Json::parse(answer.text());
        assert_eq!(problem.at("status").number(), f64::from(status));
        assert!(problem.at("detail").text().contains(said), "{path}: {problem:?}");
    }
    assert_eq!(send(&server, "POST", "/api/v2/streams").header("Allow"), Some("GET, OPTIONS"));
    // Bodies: what can't be, by the head alone.
    for (lines, status) in [
        ("Content-Type: application/json\r\nContent-Length: 2000000\r\n", 413),
        ("Content-Type: text/plain\r\nContent-Length: 2\r\n", 415),
        ("Content-Type: application/json\r\nContent-Length: 0\r\n", 400),
    ] {
        let address = server.address("API");
        let text =
            format!("PATCH /api/v2/config HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n");
        let answer = http::request(address, &text);
        assert_eq!(
            (answer.status, answer.header("Content-Type")),
            (status, Some("application/problem+json")),
            "{lines}"
        );
    }
    let document = http::get(server.address("API"), "/api/v2/openapi.json");
    let tag = document.header("ETag").unwrap().to_owned();
    let address = server.address("API");
    let again = format!(
        "GET /api/v2/openapi.json HTTP/1.1\r\nHost: {address}\r\nIf-None-Match: \"x\", {tag}\r\nConnection: close\r\n\r\n"
    );
    let again = http::request(address, &again);
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(Json::parse(document.text()).at("openapi").text(), "3.1.0");
}

#[test]
fn health_is_for_anybody_the_rest_is_not() {
    let server = Server::with(&[
        ("API_AUTH_ENABLED", "true"),
        ("API_AUTH_USERNAME", "ann"),
        ("API_AUTH_PASSWORD", "secret"),
    ]);
    let address = server.address("API");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(http::get(address, path).good(), r#"{"status":"ok"}"#);
    }
    for path in ["/api/v1/versions", "/api/v2/server", "/api/v2/openapi.json", "/api/v2/events"] {
        let answer = http::get(address, path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.header("WWW-Authenticate").unwrap().starts_with("Basic "), "{path}");
    }
    let with = |method: &str, path: &str, line: &str| {
        http::request(
            address,
            &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{line}Connection: close\r\n\r\n"),
        )
    };
    // ann:secret, ann:wrong
    let (right, wrong) =
        ("Authorization: Basic YW5uOnNlY3JldA==\r\n", "Authorization: Basic YW5uOndyb25n\r\n");
    assert_eq!(with("GET", "/api/v2/server", right).status, 200);
    assert_eq!(with("GET", "/api/v1/versions", right).status, 200);
    assert_eq!(with("DELETE", "/api/v2/sessions/x", right).status, 404);
    assert_eq!(with("GET", "/api/v2/server", wrong).status, 401);
    assert_eq!(with("DELETE", "/api/v1/clients/x", wrong).status, 401);
}

#[test]
fn reload_as_srs_has_it() {
    let server = Server::with(&[("API_RAW_API_ENABLED", "true"), ("API_RAW_API_ALLOW_RELOAD", "true")]);
    let fetch = || ask(&server, "/api/v1/raw?rpc=reload-fetch");
    assert_eq!(fetch(), Json::parse(r#"{"code":0,"data":{"err":0,"msg":"","state":0,"rid":""}}"#));
    assert_eq!(ask(&server, "/api/v1/raw?rpc=reload"), Json::parse(r#"{"code":0}"#));
    let done = fetch();
    let data = done.at("data");
    assert_eq!(
        (data.at("err").number(), data.at("msg").text(), data.at("state").number()),
        (0.0, "Success", 90.0)
    );
    assert_eq!(data.at("rid").text().len(), 7);
    server.line("reload: nothing");
    assert_eq!(ask(&server, "/api/v1/raw?rpc=update"), Json::parse(r#"{"code":1060}"#));
}

#[test]
fn a_thousand_streams_are_told_at_once() {
    let server =
        Server::with(&[("SERVER_MAX_CONNECTIONS", "5000"), ("SERVER_MAX_CONNECTIONS_PER_IP", "5000")]);
    let address = server.address("HTTP");
    let readers: Vec<TcpStream> = (0..1000)
        .map(|n| {
            let mut socket = TcpStream::connect(address).unwrap();
            write!(socket, "GET /live/s{n}.flv HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
            socket
        })
        .collect();
    let all = |path: &str, list: &str| ask(&server, path).at(list).items().len();
    wait_until("1000 streams", || all("/api/v1/streams/?count=1000", "streams") == 1000);
    for (path, list) in [
        ("/api/v1/streams/?count=1000", "streams"),
        ("/api/v1/clients/?count=1000", "clients"),
        ("/api/v2/streams?limit=1000", "items"),
        ("/api/v2/sessions?limit=1000", "items"),
    ] {
        let start = Instant::now();
        let answer = http::get(server.address("API"), path);
        let took = start.elapsed();
        println!("{path}: {} bytes in {took:?}", answer.body.len());
        assert!(took < Duration::from_secs(1), "{path}: {took:?}");
        assert_eq!(Json::parse(&answer.good()).at(list).items().len(), 1000);
    }
    drop(readers);
}

#[test]
fn schemathesis_finds_nothing() {
    let server = Server::with(&[
        ("API_AUTH_ENABLED", "true"),
        ("API_AUTH_USERNAME", "ann"),
        ("API_AUTH_PASSWORD", "secret"),
        ("VHOST__DEFAULT__RECORD__ENABLED", "true"),
        ("VHOST__DEFAULT__RECORD__PLAN", "api"),
        ("VHOST__DEFAULT__RECORD__PATH", concat!(env!("CARGO_TARGET_TMPDIR"), "/schemathesis/[app]/")),
    ]);
    // Something to find, and to end.
    let _publisher = publish(&server, Clip::H264_AAC, "a");
    let _players = [play(&server.rtmp("a")), play(&server.http("a.flv"))];
    server.players(2);
    let address = server.address("API");
    let url = format!("http://{address}/api/v2/openapi.json");
    let mut args = vec![
        "run",
        &url,
        "--auth",
        "ann:secret",
        "--no-color",
        "--checks",
        "all",
        "--max-examples",
        "30",
        "--request-timeout",
        "10",
    ];
    // OPTIONS is the front's own and says what it has for any path. A body without end is not for a checker of bodies.
    args.extend(["--exclude-checks", "allow_header_conformance", "--exclude-path", "/api/v2/events"]);
    let program =
        Program::start(clients().join("python/bin/schemathesis"), args).limit(Duration::from_secs(300));
    let ended = program.end();
    assert!(ended.status.success(), "{}", ended.said);
    assert!(ended.said.contains("No issues found") || ended.said.contains("passed"), "{}", ended.said);
}
