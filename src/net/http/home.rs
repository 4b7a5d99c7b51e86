use hyper::header::{self, HeaderValue};
use hyper::{Method, Response};

use super::{Body, Boxed, Head, Outcome, Request, Service, not_allowed};

/// The page at `/` of a server that has no page of its own: what it is, and what to do next.
#[derive(Debug)]
pub struct Home {
    rtmp_port: u16,
    srt_port: Option<u16>,
}

impl Home {
    /// A page that shows RTMP URLs with this port, and if SRT is served, those with that port.
    #[must_use]
    pub fn new(rtmp_port: u16, srt_port: Option<u16>) -> Self {
        Self { rtmp_port, srt_port }
    }
}

impl Service for Home {
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            if !matches!(request.head.path.as_str(), "/" | "/index.html") {
                return request.into();
            }
            if !matches!(request.head.method, Method::GET | Method::HEAD) {
                return not_allowed().into();
            }
            let mut reply = Response::new(Body::from(page(&request.head, request.peer.secure, self)));
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            reply.headers_mut().insert(header::CONTENT_TYPE, html);
            reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            reply.into()
        })
    }
}

fn page(head: &Head, secure: bool, ports: &Home) -> String {
    let rtmp_port = ports.rtmp_port;
    // `Head` lets only letters, digits and `-._~:%` into a host: nothing that HTML would mind.
    let host = match head.host.as_str() {
        "" => "localhost".to_owned(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        name => name.to_owned(),
    };
    let port = head.header(header::HOST).and_then(|text| text.rsplit_once(':')).map(|(_, port)| port);
    let port = port.filter(|port| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()));
    let authority = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    const RTMP: u16 = 1935; // what clients take a URL without port to mean
    let s = if secure { "s" } else { "" };
    let srt = |what: &str, before: &str, after: &str| {
        let line = |port| {
            format!(
                "<dt>{what}</dt><dd><code>{before}srt://{host}:{port}?streamid=#!::r=live/demo{after}</code></dd>\n"
            )
        };
        ports.srt_port.map(line).unwrap_or_default()
    };
    let (srt_send, srt_play) =
        (srt("SRT", "ffmpeg -re -i FILE -c copy -f mpegts '", ",m=publish'"), srt("SRT", "", ""));
    let here = |what: &str, path: &str| {
        let line = format!("<dt>{what}</dt><dd><a href=\"{path}/live/demo\">{path}/live/demo</a></dd>\n");
        if cfg!(feature = "console") { line } else { String::new() }
    };
    let publish = if cfg!(feature = "webrtc") { here("This browser", "/publish") } else { String::new() };
    include_str!("home.html")
        .replace("{publish}", &publish)
        .replace("{player}", &here("This browser", "/player"))
        .replace("{srt_send}", &srt_send)
        .replace("{srt_play}", &srt_play)
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{rtmp}", &if rtmp_port == RTMP { host } else { format!("{host}:{rtmp_port}") })
        .replace("{http}", &format!("http{s}://{authority}"))
        .replace("{ws}", &format!("ws{s}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_for(host: &str) -> String {
        let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        page(&Head::parse(text.as_bytes()).unwrap().unwrap().0, false, &Home::new(1935, Some(10_080)))
    }

    #[test]
    fn urls_are_those_of_the_visitor() {
        let page = page_for("box.local:8080");
        assert!(
            page.contains("rtmp://box.local/live/demo")
                && page.contains("http://box.local:8080/live/demo.flv")
        );
        assert!(page.contains("'srt://box.local:10080?streamid=#!::r=live/demo,m=publish'"));
        assert!(page_for("[fd00::2]:80").contains("ws://[fd00::2]:80/live/demo.flv"));
        assert!(page_for("[fd00::2]").contains("http://[fd00::2]/live"), "no port taken from the address");
        assert!(!page.contains('{') || !page.contains("{h"), "nothing left to fill in");
    }
}
