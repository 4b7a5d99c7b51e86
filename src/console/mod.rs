//! Pages for people: `/player` plays a stream in the browser, `/publish` sends one from camera, screen and microphone.
//!
//! | path | is |
//! |---|---|
//! | `/player`, `/player/APP/STREAM` | WebRTC (WHEP), HTTP-FLV by Media Source Extensions, HLS; the first of them that works, or `?via=webrtc`, `flv`, `hls` |
//! | `/publish`, `/publish/APP/STREAM` | WHIP |
//!
//! `?stream=APP/STREAM` and SRS's `?app=APP&stream=STREAM` name the stream, too; whatever else is in the query (`vhost`,
//! signatures, `token`) goes along with what the page asks for. A page is one file without anything from elsewhere. They are
//! made of `web/`; who wants others puts files of these names under `http.root`.
//!
//! Not there: HLS where the browser has none of its own, MP3 by HTTP-FLV.

use std::sync::OnceLock;

use bytes::Bytes;
use hyper::header::{self, HeaderName};
use hyper::{Method, Response};

use crate::net::http::{Body, Boxed, Outcome, Request, Service, not_allowed, put};

/// Nothing of other sites runs here, nor does this page run in theirs; streams may be theirs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src *; \
    media-src * blob:; img-src data:; base-uri 'none'; form-action 'self'";

const STYLE: &str = include_str!("web/style.css");
const SHARED: &str = include_str!("web/shared.js");
/// The three waves.
const MARK: &str = r#"<svg viewBox="0 0 32 24" fill="none" stroke="currentColor" stroke-width="4" stroke-linecap="round"><path d="M2 5c5-5 9 5 14 0s9 5 14 0M2 13c5-5 9 5 14 0s9 5 14 0M2 21c5-5 9 5 14 0s9 5 14 0"/></svg>"#;

/// Answers with the pages.
#[derive(Debug, Default)]
pub struct Pages {
    player: OnceLock<Bytes>,
    publish: OnceLock<Bytes>,
}

impl Pages {
    /// The page at a path.
    fn page(&self, path: &str) -> Option<Bytes> {
        let name = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        let (made, page, scripts): (_, _, &[&str]) = match name {
            "player" | "player.html" => (
                &self.player,
                include_str!("web/player.html"),
                &[SHARED, include_str!("web/flv.js"), include_str!("web/player.js")],
            ),
            "publish" | "publish.html" => {
                (&self.publish, include_str!("web/publish.html"), &[SHARED, include_str!("web/publish.js")])
            }
            _ => return None,
        };
        // Kept from the first time somebody asks.
        let make =
            || page.replace("{style}", STYLE).replace("{mark}", MARK).replace("{script}", &scripts.concat());
        Some(made.get_or_init(|| make().into()).clone())
    }
}

impl Service for Pages {
    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let Some(page) = self.page(&request.head.path) else { return request.into() };
            if !matches!(request.head.method, Method::GET | Method::HEAD) {
                return not_allowed().into();
            }
            let mut reply = Response::new(Body::from(page));
            put(&mut reply, header::CONTENT_TYPE, "text/html; charset=utf-8");
            put(&mut reply, header::CACHE_CONTROL, "no-cache");
            put(&mut reply, header::CONTENT_SECURITY_POLICY, POLICY);
            // A link's signature is nobody else's business.
            put(&mut reply, header::REFERRER_POLICY, "same-origin");
            put(
                &mut reply,
                HeaderName::from_static("permissions-policy"),
                "camera=(self), microphone=(self), display-capture=(self)",
            );
            reply.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole() {
        let pages = Pages::default();
        for path in
            ["/player", "/player/", "/player/live/demo", "/player.html", "/publish", "/publish/live/demo"]
        {
            let page = String::from_utf8(pages.page(path).unwrap().to_vec()).unwrap();
            assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{path}");
            for left in ["{style}", "{mark}", "{script}"] {
                assert!(!page.contains(left), "{path}: {left}");
            }
            assert_eq!(page.matches("</script>").count(), 1, "no script ends another");
        }
        for path in ["/", "/players", "/live/player", "/player2/live"] {
            assert!(pages.page(path).is_none(), "{path}");
        }
    }
}
