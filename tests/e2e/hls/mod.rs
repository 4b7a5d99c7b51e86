//! HLS: every variant plays every frame, and playlists keep the rules while the stream goes on.

mod browsers;
mod lists;
mod play;
mod tricks;
mod viewers;

use crate::support::http::{Answer, get};
use crate::support::playlist::{Media, Multivariant};
use crate::support::{Clip, Program, Server};

/// What the keys of `[vhost.default.hls]` are in the environment.
macro_rules! hls {
    ($key:literal) => {
        concat!("VHOST__DEFAULT__HLS__", $key)
    };
}
pub(crate) use hls;

/// Segments of one second, in this variant.
pub fn server(variant: &str) -> Server {
    with(variant, &[])
}

/// The same with more keys.
pub fn with(variant: &str, keys: &[(&str, &str)]) -> Server {
    let no_wait = ("VHOST__DEFAULT__HTTP_LIVE__WAIT", "no");
    let mut all = vec![(hls!("VARIANT"), variant), (hls!("SEGMENT"), "1s"), no_wait];
    all.extend(keys);
    Server::with(&all)
}

/// A publisher that never stops, in real time.
pub fn endless(server: &Server, clip: Clip) -> Program {
    let args =
        format!("-re -stream_loop -1 -i {} -c copy -f flv {}", clip.file().display(), server.rtmp("demo"));
    let program = Program::ffmpeg(&args).limit(std::time::Duration::from_secs(600));
    server.line("publish of live/demo ");
    program
}

/// Asks for a file of `live`.
#[track_caller]
pub fn fetch(server: &Server, file: &str) -> Answer {
    get(server.address("HTTP"), &format!("/live/{file}"))
}

/// The multivariant playlist, with a new session if there are any.
#[track_caller]
pub fn variants(server: &Server) -> Multivariant {
    let text = fetch(server, "demo.m3u8").good();
    Multivariant::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"))
}

/// A media playlist.
#[track_caller]
pub fn media(server: &Server, file: &str) -> Media {
    let text = fetch(server, file).good();
    Media::parse(&text).unwrap_or_else(|wrong| panic!("{wrong}:\n{text}"))
}

/// How a file's links are to be asked for.
pub fn resolve(playlist: &str, link: &str) -> String {
    let (mut folder, mut link) = (playlist.rsplit_once('/').map_or("", |(folder, _)| folder), link);
    while let Some(rest) = link.strip_prefix("../") {
        folder = folder.rsplit_once('/').map_or("", |(folder, _)| folder);
        link = rest;
    }
    if folder.is_empty() { link.to_owned() } else { format!("{folder}/{link}") }
}
