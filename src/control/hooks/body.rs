//! What callbacks say: names, order and types of SRS's.

use std::net::IpAddr;

use crate::control::json::{Cents, Json, Object};
use crate::hub::{Client, ClientKind, RecordingMade, SegmentMade, StreamName, Traffic};
use crate::id::Instance;

/// Whose callback it is, in SRS's words.
pub(super) struct Who<'a> {
    pub name: &'a StreamName,
    pub stream_id: &'a str,
    /// `None`: nobody knows any more, as for a recording that a power cut left.
    pub client: Option<&'a Client>,
}

impl Who<'_> {
    fn client_id(&self) -> String {
        self.client.map_or(String::new(), |client| client.id.to_string())
    }

    fn ip(&self) -> String {
        self.client.map(Client::ip).as_ref().map_or(String::new(), IpAddr::to_string)
    }

    /// SRS has a `?` before the query of RTMP and HTTP.
    pub(super) fn param(&self) -> String {
        match self.client {
            Some(client) if !client.params.is_empty() => format!("?{}", client.params),
            _ => String::new(),
        }
    }

    /// SRS takes what is played by HTTP for RTMP without a host of its own, but not HLS.
    fn tc_url(&self) -> String {
        use ClientKind::{AacPlay, FlvPlay, Mp3Play, TsPlay};
        match self.client {
            Some(client) if matches!(client.kind, AacPlay | FlvPlay | Mp3Play | TsPlay) => {
                format!("rtmp://{}/{}", self.name.vhost, self.name.app)
            }
            Some(client) => client.tc_url.clone(),
            None => String::new(),
        }
    }

    /// SRS names the playlist to `on_play`, and to its `on_stop`.
    fn stream(&self) -> String {
        let stream = &self.name.stream;
        match self.client.map(|client| client.kind) {
            Some(ClientKind::HlsPlay) => format!("{stream}.m3u8"),
            Some(ClientKind::DashPlay) => format!("{stream}.mpd"),
            _ => stream.clone(),
        }
    }

    fn page_url(&self) -> &str {
        self.client.map_or("", |client| &client.page_url)
    }

    fn stream_url(&self) -> String {
        format!("/{}/{}", self.name.app, self.name.stream)
    }

    /// An object of what all callbacks say, and these.
    fn object(&self, action: &str, more: &[(&str, &dyn Json)]) -> String {
        let instance = Instance::get();
        let (client_id, ip) = (self.client_id(), self.ip());
        let common: [(&str, &dyn Json); 7] = [
            ("server_id", &instance.server),
            ("service_id", &instance.service),
            ("action", &action),
            ("client_id", &client_id),
            ("ip", &ip),
            ("vhost", &self.name.vhost),
            ("app", &self.name.app),
        ];
        Object(&[&common[..], more].concat()).to_json()
    }

    pub(super) fn on_connect(&self) -> String {
        self.object(
            "on_connect",
            &[
                ("stream", &self.stream()),
                ("param", &self.param()),
                ("tcUrl", &self.tc_url()),
                ("pageUrl", &self.page_url()),
            ],
        )
    }

    pub(super) fn on_close(&self, traffic: Traffic) -> String {
        self.object("on_close", &[("send_bytes", &traffic.sent), ("recv_bytes", &traffic.received)])
    }

    pub(super) fn on_play(&self) -> String {
        self.object(
            "on_play",
            &[
                ("stream", &self.stream()),
                ("tcUrl", &self.tc_url()),
                ("param", &self.param()),
                ("pageUrl", &self.page_url()),
                ("stream_url", &self.stream_url()),
                ("stream_id", &self.stream_id),
            ],
        )
    }

    #[cfg(feature = "relay")]
    pub(super) fn on_forward(&self) -> String {
        self.object(
            "on_forward",
            &[("tcUrl", &self.tc_url()), ("stream", &self.stream()), ("param", &self.param())],
        )
    }

    /// `on_publish`, `on_unpublish`, `on_stop`.
    pub(super) fn on_stream(&self, action: &str) -> String {
        self.object(
            action,
            &[
                ("tcUrl", &self.tc_url()),
                ("stream", &self.stream()),
                ("param", &self.param()),
                ("stream_url", &self.stream_url()),
                ("stream_id", &self.stream_id),
            ],
        )
    }

    pub(super) fn on_dvr(&self, made: &RecordingMade) -> String {
        self.object(
            "on_dvr",
            &[
                ("tcUrl", &self.tc_url()),
                ("stream", &self.stream()),
                ("param", &self.param()),
                ("cwd", &cwd()),
                ("file", &made.file.display().to_string()),
                ("stream_url", &self.stream_url()),
                ("stream_id", &self.stream_id),
            ],
        )
    }

    pub(super) fn on_hls(&self, made: &SegmentMade) -> String {
        // What is in memory has no file.
        let path = |path: &Option<std::path::PathBuf>| {
            path.as_ref().map_or(String::new(), |path| path.display().to_string())
        };
        self.object(
            "on_hls",
            &[
                ("tcUrl", &self.tc_url()),
                ("stream", &self.stream()),
                ("param", &self.param()),
                ("duration", &Cents(made.duration.as_secs_f64())),
                ("cwd", &cwd()),
                ("file", &path(&made.file)),
                ("url", &made.url),
                ("m3u8", &path(&made.playlist)),
                ("m3u8_url", &made.playlist_url),
                ("seq_no", &made.number),
                ("stream_url", &self.stream_url()),
                ("stream_id", &self.stream_id),
            ],
        )
    }

    /// The URL of `on_hls_notify`.
    pub(super) fn on_hls_notify(&self, template: &str, made: &SegmentMade) -> String {
        let instance = Instance::get();
        // As the playlist names it, which is beside it.
        let folder = made.playlist_url.rsplit_once('/').map_or("", |(folder, _)| folder);
        let beside = made.url.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
        let ts_url = if folder.is_empty() { &made.url } else { beside.unwrap_or(&made.url) };
        let param = self.param();
        fill(
            template,
            &[
                ("server_id", &instance.server),
                ("service_id", &instance.service),
                ("app", &self.name.app),
                ("stream", &self.name.stream),
                ("ts_url", ts_url),
                ("param", &param),
            ],
        )
    }
}

/// Puts values in the place of `[name]`. What they hold is not looked at again.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        let found = after.split_once(']').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((*value, after))
        });
        match found {
            Some((value, after)) => {
                out.push_str(value);
                rest = after;
            }
            None => {
                out.push('[');
                rest = after;
            }
        }
    }
    out + rest
}

fn cwd() -> String {
    std::env::current_dir().map_or(String::new(), |dir| dir.display().to_string())
}
