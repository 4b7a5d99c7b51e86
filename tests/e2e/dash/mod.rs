//! DASH: manifests are well-formed, players play every frame, viewers are counted.

mod browsers;
mod play;
mod tricks;

use crate::support::http::{Answer, get};
use crate::support::{Clip, Program, Server, wait_for};

/// What the keys of `[vhost.default.dash]` are in the environment.
macro_rules! dash {
    ($key:literal) => {
        concat!("VHOST__DEFAULT__DASH__", $key)
    };
}
pub(crate) use dash;

/// A server that waits for no stream, with more keys.
pub fn with(keys: &[(&str, &str)]) -> Server {
    let mut all = vec![("VHOST__DEFAULT__HTTP_LIVE__WAIT", "no")];
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

/// The manifest, once there is one.
#[track_caller]
pub fn manifest(server: &Server) -> String {
    let text = wait_for("a manifest", || {
        let answer = fetch(server, "demo.mpd");
        (answer.status == 200).then(|| answer.good())
    });
    well_formed(&text);
    text
}

/// Has another reader of XML read it: Python's (expat).
#[track_caller]
pub fn well_formed(text: &str) {
    let script = "import sys, xml.dom.minidom as x; d = x.parseString(sys.argv[1]).documentElement; \
                  assert d.tagName == 'MPD' and d.namespaceURI == 'urn:mpeg:dash:schema:mpd:2011'";
    Program::start("python3", ["-c", script, text]).end().clean();
}

/// The first value of an attribute.
pub fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(&format!(" {name}=\""))?.1.split('"').next()
}

/// A link of the manifest's first Representation: `what` is `initialization` or `media`.
pub fn link(manifest: &str, what: &str, number: u64) -> String {
    let template = attribute(manifest, what).unwrap().replace("&amp;", "&");
    let id = attribute(manifest.split_once("<Representation").unwrap().1, "id").unwrap();
    format!("demo/{}", template.replace("$RepresentationID$", id).replace("$Number$", &number.to_string()))
}

/// How many segments the first Representation of a manifest has.
pub fn link_count(manifest: &str) -> u64 {
    let told = manifest.split("</SegmentTimeline>").next().unwrap();
    let repeats = |s: &str| attribute(&format!(" {s}"), "r").map_or(0, |r| r.parse().unwrap());
    told.split("<S ").skip(1).map(|s| 1 + repeats(s.split("/>").next().unwrap())).sum()
}
