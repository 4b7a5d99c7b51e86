//! The HTTP API, asked while real publishers and players are there.

mod json;
mod own;
mod srs;

use self::json::Json;
use crate::support::{Clip, Program, Server, http, wait_for};

#[track_caller]
fn ask(server: &Server, path: &str) -> Json {
    Json::parse(&http::get(server.address("API"), path).good())
}

fn publish(server: &Server, clip: Clip, stream: &str) -> Program {
    let file = clip.file();
    Program::ffmpeg(&format!(
        "-re -stream_loop -1 -i {} -c copy -f flv {}",
        file.display(),
        server.rtmp(stream)
    ))
}

fn play(url: &str) -> Program {
    Program::ffmpeg(&format!("-i {url} -c copy -f null -"))
}

fn send(server: &Server, method: &str, path: &str) -> http::Answer {
    let address = server.address("API");
    http::request(
        address,
        &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    )
}

/// Waits for a client of this type.
fn client(server: &Server, kind: &str) -> Json {
    wait_for(kind, || {
        let all = ask(server, "/api/v1/clients/?count=100");
        all.at("clients").items().iter().find(|client| client.at("type").text() == kind).cloned()
    })
}
