//! URLs of streams on other servers.

use crate::hub::{DEFAULT_VHOST, StreamName};

/// The URL for a stream: `[vhost] [app] [stream]` are filled in; what is no URL is the address of an RTMP server, as SRS has it.
pub(super) fn expand(url: &str, name: &StreamName) -> String {
    if !url.contains("://") {
        let vhost =
            if name.vhost == DEFAULT_VHOST { String::new() } else { format!("?vhost={}", name.vhost) };
        return format!("rtmp://{url}/{}/{}{vhost}", name.app, name.stream);
    }
    let (mut out, mut rest) = (String::with_capacity(url.len()), url);
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        let known = [("vhost]", &name.vhost), ("app]", &name.app), ("stream]", &name.stream)];
        match known.iter().find_map(|(word, value)| Some((value, after.strip_prefix(word)?))) {
            // Whoever names a stream does not say more than its name: what would part a parameter becomes a dash.
            Some((value, next)) if out.contains('?') => {
                out.extend(
                    value.chars().map(|c| if matches!(c, ',' | '=' | '&' | '%' | '+') { '-' } else { c }),
                );
                rest = next;
            }
            Some((value, next)) => {
                out.push_str(value);
                rest = next;
            }
            // An IPv6 address.
            None => {
                out.push('[');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// What of a URL can be shown: neither names of streams, which are often keys, nor parameters, nor users.
pub(super) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    format!("{scheme}://{server}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        let name = StreamName::new(DEFAULT_VHOST, "live", "cam").unwrap();
        let other = StreamName::new("v.example", "a/b", "c").unwrap();
        for (url, name, expected) in [
            ("127.0.0.1:1936", &name, "rtmp://127.0.0.1:1936/live/cam"),
            ("h", &other, "rtmp://h/a/b/c?vhost=v.example"),
            ("rtmp://[::1]:19/[app]/[stream]-x", &name, "rtmp://[::1]:19/live/cam-x"),
            (
                "srt://h:1?streamid=#!::r=[app]/[stream],m=publish",
                &name,
                "srt://h:1?streamid=#!::r=live/cam,m=publish",
            ),
            ("rtmp://h/[vhost]/[what]", &other, "rtmp://h/v.example/[what]"),
        ] {
            assert_eq!(expand(url, name), expected);
        }
        let sly = StreamName::new(DEFAULT_VHOST, "live", "a,u=b&c").unwrap();
        assert_eq!(expand("srt://h?streamid=#!::r=[stream]", &sly), "srt://h?streamid=#!::r=a-u-b-c");
    }

    #[test]
    fn secrets_are_not_shown() {
        for (url, expected) in [
            ("rtmp://a.example/live2/KEY", "rtmp://a.example"),
            ("srt://h:1?passphrase=x", "srt://h:1"),
            ("rtmp://u:p@[::1]:2/a/b?k", "rtmp://[::1]:2"),
            ("x", "://x"),
        ] {
            assert_eq!(shown(url), expected);
        }
    }
}
