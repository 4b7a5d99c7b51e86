//! Lines for people: where to publish and play, and how streams are doing.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use crate::hub::StreamStats;
use crate::media::Kind;
use crate::net::own_address;

/// Where to publish and play, of what listens (protocol and address).
pub(super) fn greeting(listening: &[(&str, SocketAddr)]) -> String {
    let find =
        |name: &str| listening.iter().find(|(protocol, _)| *protocol == name).map(|(_, address)| *address);
    let rtmp = match (find("RTMP"), find("RTMPS")) {
        (Some(address), _) => Some(url("rtmp", address, 1935)),
        (None, Some(address)) => Some(url("rtmps", address, 443)),
        (None, None) => None,
    };
    let http = match (find("HTTP"), find("HTTPS")) {
        (Some(address), _) => Some(url("http", address, 80)),
        (None, Some(address)) => Some(url("https", address, 443)),
        (None, None) => None,
    };
    match (rtmp, http) {
        (Some(rtmp), Some(http)) => format!(
            "publish to {rtmp}/live/demo (any name will do), play it at {http}/live/demo.flv (.m3u8, .ts, .aac, .mp3) or at \
             the same RTMP URL"
        ),
        (Some(rtmp), None) => {
            format!("publish to {rtmp}/live/demo (any name will do), play it at the same URL")
        }
        (None, Some(http)) => format!("HTTP at {http}/"),
        (None, None) => "nothing listens".into(),
    }
}

fn url(scheme: &str, address: SocketAddr, usual: u16) -> String {
    let host = if address.ip().is_unspecified() { own_address() } else { address.ip() };
    let host = match host {
        host if host.is_loopback() => "localhost".to_owned(),
        IpAddr::V4(host) => host.to_string(),
        IpAddr::V6(host) => format!("[{host}]"),
    };
    match address.port() {
        port if port == usual => format!("{scheme}://{host}"),
        port => format!("{scheme}://{host}:{port}"),
    }
}

/// One line on a stream; none when nothing happens on it.
pub(super) fn line(stats: &StreamStats) -> Option<String> {
    let readers = stats.reader_count();
    if stats.publisher.is_none() && readers == 0 {
        return None;
    }
    let mut text = format!("{}: ", stats.name);
    // Writing to a String doesn't fail.
    let _ = match &stats.publisher {
        Some(client) => write!(
            text,
            "{} {} from {} at {} kbit/s, {} video and {} audio frames",
            client.kind.as_str(),
            client.id,
            client.peer,
            stats.kbps_in,
            stats.video_frames,
            stats.audio_frames
        ),
        None => write!(text, "no publisher"),
    };
    let video = stats.tracks.iter().any(|track| track.codec.kind() == Kind::Video);
    if video && stats.gop_frames > 0 {
        let _ = write!(text, ", key frame each {:.1} s", f64::from(stats.gop_ms) / 1000.0);
    }
    let _ = match readers {
        0 => write!(text, "; no readers"),
        _ => {
            let kinds: Vec<String> = stats
                .readers
                .iter()
                .filter(|(_, n)| *n > 0)
                .map(|(kind, n)| format!("{n} {}", kind.as_str()))
                .collect();
            write!(text, "; readers: {} at {} kbit/s", kinds.join(", "), stats.kbps_out)
        }
    };
    if stats.lag_events > 0 {
        let _ = write!(text, "; slow readers skipped {} times", stats.lag_events);
    }
    if stats.frames_dropped > 0 {
        let _ = write!(text, "; {} frames dropped", stats.frames_dropped);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings() {
        let (rtmp, http) = ("127.0.0.1:1935".parse().unwrap(), "[2001:db8::1]:8080".parse().unwrap());
        assert_eq!(
            greeting(&[("RTMP", rtmp), ("HTTP", http)]),
            "publish to rtmp://localhost/live/demo (any name will do), play it at \
             http://[2001:db8::1]:8080/live/demo.flv (.m3u8, .ts, .aac, .mp3) or at the same RTMP URL"
        );
        assert_eq!(
            greeting(&[("RTMPS", http)]),
            "publish to rtmps://[2001:db8::1]:8080/live/demo (any name will do), play it at the same URL"
        );
        assert_eq!(greeting(&[]), "nothing listens");
        let own = url("http", "[::]:80".parse().unwrap(), 80);
        assert!(own.starts_with("http://") && !own.contains("[::]"), "{own}");
    }
}
