//! What there is, what this program is, and what a request was.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Answer, Call};
use crate::control::json::{Json, Object, Time};
use crate::net::masked_query;

/// `/`
pub(super) fn root(call: &Call<'_>) -> Answer {
    call.good(&[("urls", &Object(&[("api", &"the api root")]))])
}

/// `/api/`
pub(super) fn api(call: &Call<'_>) -> Answer {
    call.good(&[(
        "urls",
        &Object(&[("v1", &"the api version 1.0"), ("v2", &"our own: see /api/v2/openapi.json")]),
    )])
}

/// `/api/v1/`
pub(super) fn v1(call: &Call<'_>) -> Answer {
    call.good(&[
        (
            "urls",
            &Object(&[
                ("versions", &"the version of SRS"),
                ("summaries", &"the summary(pid, argv, pwd, cpu, mem) of SRS"),
                ("rusages", &"the rusage of SRS"),
                ("self_proc_stats", &"the self process stats"),
                ("system_proc_stats", &"the system process stats"),
                ("meminfos", &"the meminfo of system"),
                ("authors", &"the license, copyright, authors and contributors"),
                ("features", &"the supported features of SRS"),
                ("requests", &"the request itself, for http debug"),
                ("vhosts", &"manage all vhosts or specified vhost"),
                ("streams", &"manage all streams or specified stream"),
                ("clients", &"manage all clients or specified client, default query top 10 clients"),
                ("raw", &"raw api for srs, support CUID srs for instance the config"),
                ("clusters", &"origin cluster server API"),
                ("perf", &"System performance stat"),
                ("tcmalloc", &"tcmalloc api with params ?page=summary|api"),
            ]),
        ),
        (
            "tests",
            &Object(&[
                ("requests", &"show the request info"),
                ("errors", &"always return an error 100"),
                ("redirects", &"always redirect to /api/v1/test/errors"),
                ("[vhost]", &"http vhost for http://error.srs.com:1985/api/v1/tests/errors"),
            ]),
        ),
    ])
}

pub(super) fn versions(call: &Call<'_>) -> Answer {
    let number = |text: &str| text.parse::<u32>().unwrap_or(0);
    call.good(&[(
        "data",
        &Object(&[
            ("major", &number(env!("CARGO_PKG_VERSION_MAJOR"))),
            ("minor", &number(env!("CARGO_PKG_VERSION_MINOR"))),
            ("revision", &number(env!("CARGO_PKG_VERSION_PATCH"))),
            ("version", &env!("CARGO_PKG_VERSION")),
        ]),
    )])
}

pub(super) fn authors(call: &Call<'_>) -> Answer {
    let contributors = concat!(env!("CARGO_PKG_REPOSITORY"), "/graphs/contributors");
    call.good(&[(
        "data",
        &Object(&[("license", &env!("CARGO_PKG_LICENSE")), ("contributors", &contributors)]),
    )])
}

pub(super) fn features(call: &Call<'_>) -> Answer {
    let on = |is: bool| if is { "on" } else { "off" };
    let (hls, dvr, ssl) = (cfg!(feature = "hls"), cfg!(feature = "record"), cfg!(feature = "tls"));
    let options = format!(
        "--rtmp={} --http-live={} --hls={} --dash={} --dvr={} --https={}",
        on(cfg!(feature = "rtmp")),
        on(cfg!(feature = "http-live")),
        on(hls),
        on(cfg!(feature = "dash")),
        on(dvr),
        on(ssl),
    );
    // When this program was made, as far as its file tells.
    let made = std::fs::metadata("/proc/self/exe").and_then(|facts| facts.modified()).unwrap_or(UNIX_EPOCH);
    let made = Time(made);
    let text = made.to_json();
    let build = text.trim_matches('"').get(..19).unwrap_or_default().replace('T', " ");
    call.good(&[(
        "data",
        &Object(&[
            ("options", &options),
            (
                "options2",
                &format!(
                    "{options} --arch={} --static={}",
                    std::env::consts::ARCH,
                    on(cfg!(target_feature = "crt-static"))
                ),
            ),
            ("build", &build),
            ("build2", &(made.unix_ms() / 1000).to_string()),
            (
                "features",
                &Object(&[
                    ("ssl", &ssl),
                    ("hls", &hls),
                    ("hds", &false),
                    ("callback", &cfg!(feature = "hooks")),
                    ("api", &true),
                    ("httpd", &true),
                    ("dvr", &dvr),
                    ("transcode", &false),
                    ("ingest", &false),
                    ("stat", &true),
                    ("caster", &false),
                    ("complex_send", &true),
                    ("tcp_nodelay", &true),
                    ("so_sendbuf", &false),
                    ("mr", &false),
                ]),
            ),
        ]),
    )])
}

/// Nothing of SRS's cluster is here yet: no origin has any stream.
pub(super) fn clusters(call: &Call<'_>) -> Answer {
    let param = |name: &str| call.param(name);
    let query = Object(&[
        ("ip", &param("ip")),
        ("vhost", &param("vhost")),
        ("app", &param("app")),
        ("stream", &param("stream")),
    ])
    .to_json();
    Answer::Good(format!("{{\"code\":0,\"data\":{{\"query\":{query},\"origin\":null}}}}"))
}

/// The request itself.
pub(super) fn requests(call: &Call<'_>) -> Answer {
    let head = call.head;
    let scheme = if call.peer.secure { "https" } else { "http" };
    let query = if head.query.is_empty() { String::new() } else { format!("?{}", masked_query(&head.query)) };
    let host = head.header(hyper::header::HOST).unwrap_or_default();
    let texts: Vec<(String, String)> = head
        .headers
        .iter()
        .filter(|(name, _)| *name != hyper::header::AUTHORIZATION && *name != hyper::header::COOKIE)
        .map(|(name, value)| (title(name.as_str()), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let headers: Vec<(&str, &dyn Json)> =
        texts.iter().map(|(name, value)| (name.as_str(), value as &dyn Json)).collect();
    call.good(&[(
        "data",
        &Object(&[
            ("uri", &format!("{scheme}://{host}{}{query}", head.path)),
            ("path", &head.path),
            ("METHOD", &call.method.as_str()),
            ("headers", &Object(&headers)),
            (
                "server",
                &Object(&[
                    ("sigature", &"Rillbox"),
                    ("version", &env!("CARGO_PKG_VERSION")),
                    ("link", &env!("CARGO_PKG_REPOSITORY")),
                    ("time", &Time(SystemTime::now()).unix_ms()),
                ]),
            ),
        ]),
    )])
}

/// `content-type` as `Content-Type`.
fn title(name: &str) -> String {
    let mut start = true;
    let one = |c: char| {
        let out = if start { c.to_ascii_uppercase() } else { c };
        start = c == '-';
        out
    };
    name.chars().map(one).collect()
}
