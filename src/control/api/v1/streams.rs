//! Vhosts and streams.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use hyper::Method;

use super::{Answer, Call, Kbps, code};
use crate::control::json::{Cents, Json, Object, Time, object};
use crate::hub::{DEFAULT_VHOST, StreamName, StreamStats};
use crate::media::{Codec, Direction, Kind, Track};
use crate::net::masked;

/// A vhost, with the sums of its streams.
struct Vhost {
    id: String,
    name: String,
    enabled: bool,
    clients: u64,
    streams: u64,
    sent: u64,
    received: u64,
    kbps: Kbps,
    hls: Option<f64>,
}

impl Json for Vhost {
    fn json(&self, out: &mut String) {
        let fragment = self.hls.map(Cents);
        let mut hls: Vec<(&str, &dyn Json)> = vec![("enabled", &true)];
        match &fragment {
            Some(fragment) => hls.push(("fragment", fragment)),
            None => hls = vec![("enabled", &false)],
        }
        object(
            out,
            &[
                ("id", &self.id),
                ("name", &self.name),
                ("enabled", &self.enabled),
                ("clients", &self.clients),
                ("streams", &self.streams),
                ("send_bytes", &self.sent),
                ("recv_bytes", &self.received),
                ("kbps", &self.kbps),
                ("hls", &Object(&hls)),
            ],
        );
    }
}

/// `/api/v1/vhosts/[id]`
pub(super) fn vhosts(call: &Call<'_>, id: &str) -> Answer {
    let all = all_vhosts(call);
    let found = all.iter().find(|vhost| vhost.id == id);
    if !id.is_empty() && found.is_none() {
        return Answer::Code(code::NO_VHOST);
    }
    if call.method != Method::GET {
        return Answer::Method;
    }
    match found {
        Some(vhost) => call.good(&[("vhost", vhost)]),
        None => call.good(&[("vhosts", &all)]),
    }
}

/// The configured ones, and those that have streams.
fn all_vhosts(call: &Call<'_>) -> Vec<Vhost> {
    let config = call.api.config.current();
    let mut all: BTreeMap<String, Vec<StreamStats>> = BTreeMap::new();
    for name in std::iter::once(DEFAULT_VHOST).chain(config.vhost.names()) {
        all.entry(name.to_owned()).or_default();
    }
    for stats in call.api.hub.stats(Instant::now()) {
        all.entry(stats.name.vhost.clone()).or_default().push(stats);
    }
    let sum = |streams: &[StreamStats], of: fn(&StreamStats) -> u64| streams.iter().map(of).sum();
    let one = |(name, streams): (String, Vec<StreamStats>)| {
        let settings = config.vhost(&name, "", "");
        Vhost {
            id: call.api.hub.vhost_id(&name),
            enabled: settings.enabled,
            clients: sum(&streams, clients),
            streams: u64::try_from(streams.len()).unwrap_or(u64::MAX),
            sent: sum(&streams, |stream| stream.bytes_out),
            received: sum(&streams, |stream| stream.bytes_in),
            kbps: Kbps {
                received: sum(&streams, |stream| stream.kbps_in),
                sent: sum(&streams, |stream| stream.kbps_out),
            },
            hls: settings.hls.enabled.then(|| settings.hls.segment.as_secs_f64()),
            name,
        }
    };
    all.into_iter().map(one).collect()
}

/// Publishers and readers.
fn clients(stream: &StreamStats) -> u64 {
    u64::from(stream.reader_count()).saturating_add(u64::from(stream.publisher.is_some()))
}

/// `/api/v1/streams/[id]`
pub(super) fn streams(call: &Call<'_>, id: &str) -> Answer {
    let mut all = call.api.hub.stats(Instant::now());
    let found = all.iter().position(|stream| stream.id == id);
    if !id.is_empty() && found.is_none() {
        return Answer::Code(code::NO_STREAM);
    }
    if call.method != Method::GET {
        return Answer::Method;
    }
    let now_ms = Time(SystemTime::now()).unix_ms();
    let stream = |stats: StreamStats| {
        let vhost = call.api.hub.vhost_id(&stats.name.vhost);
        Stream { stats, vhost, now_ms }
    };
    if let Some(found) = found {
        return call.good(&[("stream", &stream(all.swap_remove(found)))]);
    }
    all.retain(|stats| {
        let name = &stats.name;
        call.wants("vhost", &[&name.vhost, &call.api.hub.vhost_id(&name.vhost)])
            && call.wants("app", &[&name.app])
            && call.wants("name", &[&name.stream])
    });
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let (start, count) = call.page();
    let page: Vec<Stream> = all.into_iter().skip(start).take(count).map(stream).collect();
    call.good(&[("streams", &page)])
}

struct Stream {
    stats: StreamStats,
    vhost: String,
    now_ms: u64,
}

impl Json for Stream {
    fn json(&self, out: &mut String) {
        let Self { stats, vhost, now_ms } = self;
        let publisher = stats.publisher.as_ref();
        let track =
            |kind| stats.tracks.iter().find(|t| t.kind() == kind && t.direction == Direction::Forward);
        object(
            out,
            &[
                ("id", &stats.id),
                ("name", &stats.name.stream),
                ("vhost", vhost),
                ("app", &stats.name.app),
                ("tcUrl", &publisher.map_or_else(String::new, |client| masked(&client.tc_url))),
                ("url", &url(&stats.name)),
                ("live_ms", now_ms),
                ("clients", &clients(stats)),
                ("frames", &stats.video_frames),
                ("send_bytes", &stats.bytes_out),
                ("recv_bytes", &stats.bytes_in),
                ("kbps", &Kbps { received: stats.kbps_in, sent: stats.kbps_out }),
                (
                    "publish",
                    &Object(&[
                        ("active", &publisher.is_some()),
                        ("cid", &publisher.map_or("", |client| client.id.as_str())),
                    ]),
                ),
                ("video", &track(Kind::Video).map(Video)),
                ("audio", &track(Kind::Audio).map(Audio)),
            ],
        );
    }
}

/// `/app/stream`, after the vhost's name if that is not the default one.
pub(super) fn url(name: &StreamName) -> String {
    let vhost = if name.vhost == DEFAULT_VHOST { "" } else { name.vhost.as_str() };
    format!("{vhost}/{}/{}", name.app, name.stream)
}

struct Video<'a>(&'a Track);

impl Json for Video<'_> {
    fn json(&self, out: &mut String) {
        let track = self.0;
        object(
            out,
            &[
                ("codec", &track.codec.name()),
                ("profile", &profile(track)),
                ("level", &level(track)),
                ("width", &track.facts.width),
                ("height", &track.facts.height),
            ],
        );
    }
}

struct Audio<'a>(&'a Track);

impl Json for Audio<'_> {
    fn json(&self, out: &mut String) {
        let track = self.0;
        object(
            out,
            &[
                ("codec", &track.codec.name()),
                ("sample_rate", &track.facts.sample_rate),
                ("channel", &track.facts.channels),
                ("profile", &profile(track)),
            ],
        );
    }
}

/// In SRS's words.
fn profile(track: &Track) -> &'static str {
    match (track.codec, track.facts.profile) {
        (Codec::Aac, 1) => "Main",
        (Codec::Aac, 2) => "LC",
        (Codec::Aac, 3) => "SSR",
        (Codec::Aac, 5) => "HE",
        (Codec::Aac, 29) => "HEv2",
        (Codec::H264, 66) => "Baseline",
        (Codec::H264, 77) => "Main",
        (Codec::H264, 88) => "Extended",
        (Codec::H264, 100) => "High",
        (Codec::H264, 110) => "High(10)",
        (Codec::H264, 122) => "High(422)",
        (Codec::H264, 144) => "High(444)",
        (Codec::H264, 244) => "High(444+Predictive)",
        (Codec::H265, 1) => "Main",
        (Codec::H265, 2) => "Main10",
        (Codec::H265, 3) => "Main Still Picture",
        (Codec::H265, 4) => "Rext",
        (Codec::Aac | Codec::H264 | Codec::H265, _) => "Other",
        _ if track.facts.profile_name.is_empty() => "Other",
        _ => track.facts.profile_name,
    }
}

/// `3.1`, as SRS says it.
fn level(track: &Track) -> String {
    let tenths = match track.codec {
        Codec::H264 | Codec::Vp9 => track.facts.level,
        Codec::H265 => track.facts.level / 3,
        // AV1 counts quarters from 2.0 on (section A.3).
        Codec::Av1 => (track.facts.level / 4 + 2) * 10 + track.facts.level % 4,
        _ => 0,
    };
    match (tenths / 10, tenths % 10) {
        (0, _) => "Other".to_owned(),
        (whole, 0) => whole.to_string(),
        (whole, part) => format!("{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::TrackId;

    #[test]
    fn profiles_and_levels_in_srs_words() {
        for (codec, profile_number, level_number, expected) in [
            (Codec::H264, 66, 31, ("Baseline", "3.1")),
            (Codec::H264, 100, 40, ("High", "4")),
            (Codec::H264, 110, 51, ("High(10)", "5.1")),
            (Codec::H264, 1, 0, ("Other", "Other")),
            (Codec::H265, 1, 93, ("Main", "3.1")),
            (Codec::H265, 2, 120, ("Main10", "4")),
            (Codec::Aac, 29, 0, ("HEv2", "Other")),
            (Codec::Av1, 0, 8, ("Other", "4")),
            (Codec::Opus, 0, 0, ("Other", "Other")),
        ] {
            let mut track = Track::new(TrackId(0), codec);
            (track.facts.profile, track.facts.level) = (profile_number, level_number);
            assert_eq!((profile(&track), level(&track).as_str()), expected, "{codec} {profile_number}");
        }
    }
}
