//! Where a stream is named: `tcUrl` and `app` of connect, the name of publish and play.
//!
//! All of these mean the stream `live/demo` of the vhost `v`:
//!
//! ```text
//! rtmp://host/live/demo?vhost=v          rtmp://host/live?vhost=v/demo
//! rtmp://host/live...vhost...v/demo      rtmp://host/live#vhost=v/demo
//! rtmp://v/live/demo                     rtmp://host/live/_definst_/demo?domain=v
//! ```
//!
//! An app may have several parts (`a/b/demo` is `demo` of `a/b`, however a client cuts it into app and
//! name); a missing app is `__defaultApp__`. Without `vhost` or `domain` the host is the vhost.

/// The app of a URL that names none.
pub const DEFAULT_APP: &str = "__defaultApp__";
/// Longest `tcUrl`, `app` or stream name that is looked at, bytes; browsers stop at 2048 too.
pub const MAX_URL: usize = 2048;

/// What a client asked for, in parts, not yet looked up in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamUrl {
    /// Asked for by `vhost=` or `domain=`, or the host, without port and brackets.
    pub vhost: String,
    /// Application, e.g. `live`; may contain slashes.
    pub app: String,
    /// Stream, without parameters; may be empty when only connect was seen.
    pub stream: String,
    /// Parameters of the stream, then of the app, as `k=v&k=v` without the `?`.
    pub params: String,
}

impl StreamUrl {
    /// Puts together what connect gave as `tcUrl` and `app` and publish or play as `name`. Never fails:
    /// what is missing is empty, whether it is a valid name is for the hub to say.
    #[must_use]
    pub fn parse(tc_url: &str, app: &str, name: &str) -> Self {
        let (tc_url, app, name) = (clip(tc_url), clip(app), clip(name));
        let (host, tc_path) = split_tc_url(tc_url);
        let (mut app, app_params) = split_params(if app.is_empty() { tc_path } else { app });
        if app_params.is_empty() && app == split_params(tc_path).0 {
            // Some clients put the parameters into tcUrl alone.
            app = tc_path;
        }
        let (app, mut app_params) = match split_params(app) {
            (app, "") => (app, dots(app_params)),
            (app, params) => (app, dots(params)),
        };
        // `rtmp://host/live?vhost=v/demo`: what follows the slash is of the path.
        let mut tail = String::new();
        if let Some((params, rest)) = app_params.clone().split_once('/') {
            app_params = params.to_owned();
            tail = rest.to_owned();
        }
        let (name, name_params) = split_params(name);
        let mut path = String::new();
        for part in app.split('/').chain(tail.split('/')).chain(name.split('/')) {
            if !part.is_empty() && part != "_definst_" {
                path.push('/');
                path.push_str(part);
            }
        }
        // With a name, its last part is the stream; without one all of the path is the app.
        let (app, stream) = if name.trim_matches('/').is_empty() {
            (path.as_str(), "")
        } else {
            path.rsplit_once('/').unwrap_or(("", ""))
        };
        let app = app.trim_matches('/');
        let mut params = dots(name_params);
        if !app_params.is_empty() {
            if !params.is_empty() {
                params.push('&');
            }
            params.push_str(&app_params);
        }
        let asked = find_param(&params, "vhost").or_else(|| find_param(&params, "domain"));
        Self {
            vhost: asked.unwrap_or(host).to_owned(),
            app: if app.is_empty() { DEFAULT_APP.to_owned() } else { app.to_owned() },
            stream: stream.to_owned(),
            params,
        }
    }
}

/// The value of `name` in `k=v&k=v`, not empty, not decoded.
#[must_use]
pub fn find_param<'a>(params: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = params.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value)
}

/// The host (without port) of a `host:port`, IPv6 in brackets or bare.
#[must_use]
pub fn split_port(authority: &str) -> (&str, Option<&str>) {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (host, rest.strip_prefix(':'));
    }
    match authority.rsplit_once(':') {
        // More than one colon and no brackets: an IPv6 address as such.
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn clip(text: &str) -> &str {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let mut end = text.len().min(MAX_URL);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.split_at_checked(end).map_or("", |(head, _)| head)
}

/// Host, and what follows its slash.
fn split_tc_url(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (split_port(authority).0, path.trim_start_matches('/'))
}

/// At the first `?`, `#` or `...`.
fn split_params(path: &str) -> (&str, &str) {
    let marks = ["?", "#", "..."];
    let at = marks.iter().filter_map(|mark| path.find(mark).map(|at| (at, mark.len()))).min();
    match at.and_then(|(at, len)| Some((path.get(..at)?, path.get(at + len..)?))) {
        Some((head, params)) => (head, params),
        None => (path, ""),
    }
}

/// `vhost...v...k...w` as `vhost=v&k=w`; a further `?` or `#` separates as `&` does.
fn dots(params: &str) -> String {
    let mut out = String::with_capacity(params.len());
    for (n, part) in params.split("...").enumerate() {
        if n > 0 {
            // Key and value take turns; what has its `=` already is whole.
            out.push(if n % 2 == 1 && !out.ends_with('&') { '=' } else { '&' });
        }
        out.push_str(part);
    }
    out.replace(['?', '#'], "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(tc_url: &str, app: &str, name: &str) -> (String, String, String, String) {
        let url = StreamUrl::parse(tc_url, app, name);
        (url.vhost, url.app, url.stream, url.params)
    }

    fn parts(vhost: &str, app: &str, stream: &str, params: &str) -> (String, String, String, String) {
        (vhost.into(), app.into(), stream.into(), params.into())
    }

    #[test]
    fn every_form_of_vhost() {
        let v = parts("v", "live", "demo", "vhost=v");
        assert_eq!(parse("rtmp://h:1935/live", "live", "demo?vhost=v"), v);
        assert_eq!(parse("rtmp://h/live?vhost=v", "live?vhost=v", "demo"), v);
        assert_eq!(parse("rtmp://h/live?vhost=v", "live", "demo"), v);
        assert_eq!(parse("rtmp://h/live...vhost...v", "live...vhost...v", "demo"), v);
        assert_eq!(parse("rtmp://h/live#vhost=v", "live#vhost=v", "demo"), v);
        assert_eq!(parse("rtmp://h/live?vhost=v/demo", "live?vhost=v/demo", "").3, "vhost=v");
        assert_eq!(
            parse("rtmp://h/live?vhost=v/a", "live?vhost=v/a", "demo"),
            parts("v", "live/a", "demo", "vhost=v")
        );
        assert_eq!(parse("rtmp://h/live", "live", "demo?domain=v").0, "v");
        assert_eq!(parse("rtmp://v:1935/live", "live", "demo"), parts("v", "live", "demo", ""));
        assert_eq!(parse("rtmp://h/live...vhost...v...k...w", "", "demo?t=1").3, "t=1&vhost=v&k=w");
    }

    #[test]
    fn app_and_name_however_cut() {
        let whole = parts("h", "a/b", "s", "");
        assert_eq!(parse("rtmp://h/a/b", "a/b", "s"), whole);
        assert_eq!(parse("rtmp://h/a", "a", "b/s"), whole);
        assert_eq!(parse("rtmp://h/a/b/", "a/b/", "/s"), whole);
        assert_eq!(parse("rtmp://h/a", "", "b/s"), whole);
        assert_eq!(parse("rtmp://h/live/_definst_", "live/_definst_", "s").1, "live");
        assert_eq!(parse("rtmp://h", "", "s").1, DEFAULT_APP);
        assert_eq!(parse("rtmp://h/", "/", "s?k=v"), parts("h", DEFAULT_APP, "s", "k=v"));
        assert_eq!(parse("", "", ""), parts("", DEFAULT_APP, "", ""));
        assert_eq!(parse("rtmp://h/live", "live", ""), parts("h", "live", "", ""));
        assert_eq!(parse("rtmp://h/live", "live", "a b").2, "a b");
    }

    #[test]
    fn hosts() {
        assert_eq!(parse("rtmp://[2001:db8::1]:1935/live", "live", "s").0, "2001:db8::1");
        assert_eq!(parse("rtmp://u:p@h:1935/live", "live", "s").0, "h");
        assert_eq!(parse("h/live", "live", "s").0, "h");
        assert_eq!(split_port("::1"), ("::1", None));
        assert_eq!(split_port("[::1]:99"), ("::1", Some("99")));
        assert_eq!(split_port("h:99"), ("h", Some("99")));
    }

    #[test]
    fn odd_input_is_clipped_not_feared() {
        let long = "ä/?&...#[]@:".repeat(1000);
        let url = StreamUrl::parse(&long, &long, &long);
        assert!(url.app.len() + url.stream.len() + url.params.len() < 4 * MAX_URL);
        assert_eq!(parse("rtmp://h/live", "live\0", " demo\r\n").1, "live");
    }
}
