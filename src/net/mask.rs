//! URLs as logs and answers may show them: what may be a secret is left out.

/// Parameters whose values anybody may see. All others may be credentials, of ours or of whoever checks them.
const HARMLESS: [&str; 14] = [
    "_HLS_msn",
    "_HLS_part",
    "_HLS_skip",
    "after",
    "count",
    "domain",
    "expires",
    "from",
    "has_audio",
    "has_video",
    "limit",
    "start",
    "to",
    "vhost",
];

/// A URL, or a part of one, with the values of parameters that may be secrets replaced by `***`; and the password before
/// its host.
#[must_use]
pub fn masked(url: &str) -> String {
    let (place, query) = match url.find(['?', '#']) {
        Some(at) => url.split_at_checked(at).unwrap_or((url, "")),
        None => (url, ""),
    };
    // RTMP's other way to write parameters: live...token...x
    let (place, dots) = place.split_once("...").map_or((place, ""), |(place, _)| (place, "...***"));
    let mut out = String::with_capacity(url.len());
    match place
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest, rest.split('/').next().unwrap_or_default()))
    {
        Some((scheme, rest, authority)) if authority.contains('@') => {
            let host = authority.rsplit_once('@').map_or("", |(_, host)| host);
            let path = rest.strip_prefix(authority).unwrap_or_default();
            out.extend([scheme, "://***@", host, path]);
        }
        _ => out.push_str(place),
    }
    out.push_str(dots);
    for (n, part) in query.split_inclusive(['?', '#', '&']).enumerate() {
        // The first is the mark alone.
        if n == 0 {
            out.push_str(part);
            continue;
        }
        let (pair, end) = match part.strip_suffix(['?', '#', '&']) {
            Some(pair) => (pair, part.get(pair.len()..).unwrap_or_default()),
            None => (part, ""),
        };
        out.push_str(&masked_pair(pair));
        out.push_str(end);
    }
    out
}

/// The same of a query without its mark.
#[must_use]
pub fn masked_query(query: &str) -> String {
    let all: Vec<String> = query.split('&').map(masked_pair).collect();
    all.join("&")
}

fn masked_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, value)) if value.is_empty() || HARMLESS.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        // A word alone may be a token.
        None if pair.is_empty() => String::new(),
        None => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, shown) in [
            ("", ""),
            ("live", "live"),
            ("rtmp://host:1935/live", "rtmp://host:1935/live"),
            ("rtmp://ann:secret@host/live?user=a&pass=b", "rtmp://***@host/live?user=***&pass=***"),
            ("rtmp://host/live?vhost=v/demo", "rtmp://host/live?vhost=v/demo"),
            ("live?token=a?b=c#d=e", "live?token=***?b=***#d=***"),
            ("live?secret", "live?***"),
            ("rtmp://host/live...token...x/demo?a=b", "rtmp://host/live...***?a=***"),
            ("live?a=&b", "live?a=&***"),
            ("demo?expires=17&sign=x", "demo?expires=17&sign=***"),
            ("http://a@b@host/?x", "http://***@host/?***"),
        ] {
            assert_eq!(masked(url), shown, "{url}");
        }
        assert_eq!(masked_query("vhost=a&k=b&c&_HLS_msn=7"), "vhost=a&k=***&***&_HLS_msn=7");
        assert_eq!(masked_query(""), "");
    }
}
