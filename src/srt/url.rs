//! URLs of SRT servers that we call: `srt://host:port?streamid=…&latency=…`, with FFmpeg's names and units.

use std::time::Duration;

use super::crypto::KeyLength;
use super::{Bandwidth, Options};

/// The port of a URL that names none: SRS's.
pub const DEFAULT_PORT: u16 = 10_080;

/// Where to call, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtUrl {
    /// Name or address, without brackets.
    pub host: String,
    /// UDP port.
    pub port: u16,
    /// What the session is to be.
    pub options: Options,
    /// Bytes of a payload at most: `payload_size`, `pkt_size`.
    pub payload_size: u32,
}

/// Why a URL can't be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// No `srt://host:port`.
    #[error("expected srt://HOST:PORT?streamid=…")]
    NoHost,
    /// We are to listen, or to meet.
    #[error("mode={0}: only mode=caller calls a server")]
    Mode(String),
    /// A value that can't be read, or that the parameter can't have.
    #[error("{0}={1} is not understood")]
    Value(&'static str, String),
    /// The options make no sense together.
    #[error("{0}")]
    Options(&'static str),
}

impl SrtUrl {
    /// Reads a URL. Times of latency are microseconds, `connect_timeout` milliseconds, rates bytes a second, as FFmpeg has it.
    /// Parameters that say how FFmpeg itself is to work are passed over.
    ///
    /// # Errors
    ///
    /// [`UrlError`]; it names no passphrase.
    pub fn parse(url: &str) -> Result<Self, UrlError> {
        let rest = url.strip_prefix("srt://").ok_or(UrlError::NoHost)?;
        // Not at `#`: stream ids have it.
        let (authority, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = authority.trim_end_matches('/');
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = port.map_or(Ok(DEFAULT_PORT), str::parse).map_err(|_| UrlError::NoHost)?;
        if host.is_empty() || host.contains(['/', '@']) || port == 0 {
            return Err(UrlError::NoHost);
        }
        let mut this = Self { host: host.to_owned(), port, options: Options::default(), payload_size: 1316 };
        let (mut maxbw, mut inputbw, mut overhead) = (-1_i64, None, 25);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value);
            let options = &mut this.options;
            match key {
                "mode" if value == "caller" => {}
                "mode" => return Err(UrlError::Mode(value)),
                "transtype" if value == "live" => {}
                "transtype" => return Err(UrlError::Value("transtype", value)),
                "streamid" | "srt_streamid" => options.stream_id = value,
                "passphrase" => options.passphrase = (!value.is_empty()).then_some(value),
                "pbkeylen" => options.key_length = key_length(&value)?,
                "latency" => {
                    let latency = micros("latency", &value)?;
                    (options.receive_latency, options.peer_latency) = (latency, latency);
                }
                "rcvlatency" => options.receive_latency = micros("rcvlatency", &value)?,
                "peerlatency" => options.peer_latency = micros("peerlatency", &value)?,
                "connect_timeout" => {
                    options.connect_timeout = Duration::from_millis(number("connect_timeout", &value)?);
                }
                "lossmaxttl" => options.loss_max_ttl = number("lossmaxttl", &value)?,
                "tlpktdrop" => options.drop_late = on("tlpktdrop", &value)?,
                "tsbpd" => options.tsbpd = on("tsbpd", &value)?,
                "nakreport" => options.nak_report = on("nakreport", &value)?,
                "kmrefreshrate" => options.key_refresh = number("kmrefreshrate", &value)?,
                "kmpreannounce" => options.key_announce = number("kmpreannounce", &value)?,
                "maxbw" => maxbw = number("maxbw", &value)?,
                "inputbw" => inputbw = Some(number("inputbw", &value)?).filter(|rate| *rate > 0),
                "oheadbw" => overhead = number("oheadbw", &value)?,
                "payload_size" | "pkt_size" => {
                    let size: u32 = number("payload_size", &value)?;
                    this.payload_size = size.clamp(188, 1456);
                }
                _ => {}
            }
        }
        this.options.bandwidth = match u64::try_from(maxbw) {
            Ok(0) => Bandwidth::Input { rate: inputbw, overhead },
            Ok(rate) => Bandwidth::Fixed(rate),
            Err(_) => Bandwidth::Unlimited,
        };
        match this.options.wrong() {
            Some(wrong) => Err(UrlError::Options(wrong)),
            None => Ok(this),
        }
    }
}

fn number<T: std::str::FromStr>(name: &'static str, value: &str) -> Result<T, UrlError> {
    value.parse().map_err(|_| UrlError::Value(name, value.to_owned()))
}

fn micros(name: &'static str, value: &str) -> Result<Duration, UrlError> {
    number(name, value).map(Duration::from_micros)
}

fn on(name: &'static str, value: &str) -> Result<bool, UrlError> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(UrlError::Value(name, value.to_owned())),
    }
}

fn key_length(value: &str) -> Result<Option<KeyLength>, UrlError> {
    let bytes: usize = number("pbkeylen", value)?;
    match KeyLength::of(bytes) {
        None if bytes > 0 => Err(UrlError::Value("pbkeylen", value.to_owned())),
        length => Ok(length),
    }
}

/// Percent-decoded where it is percent-encoded text; else as it is.
fn decoded(value: &str) -> String {
    let hex =
        |byte: Option<u8>| byte.and_then(|c| char::from(c).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (hex(rest.next()), hex(rest.next())) else { return value.to_owned() };
        bytes.push(high << 4 | low);
    }
    String::from_utf8(bytes).unwrap_or_else(|_| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_ffmpeg_writes_is_read() {
        let url = SrtUrl::parse(
            "srt://box.local:9000?mode=caller&streamid=#!::r=live/demo,m=publish&latency=200000&passphrase=a%20long%20secret&\
             pbkeylen=32&pkt_size=1128&maxbw=0&inputbw=250000&oheadbw=50&lossmaxttl=8&tlpktdrop=0&connect_timeout=1500&linger=1",
        )
        .unwrap();
        assert_eq!((&*url.host, url.port, url.payload_size), ("box.local", 9000, 1128));
        let options = url.options;
        assert_eq!(options.stream_id, "#!::r=live/demo,m=publish");
        assert_eq!(options.passphrase.as_deref(), Some("a long secret"));
        assert_eq!(options.key_length, Some(KeyLength::Aes256));
        assert_eq!((options.receive_latency.as_millis(), options.peer_latency.as_millis()), (200, 200));
        assert_eq!(options.bandwidth, Bandwidth::Input { rate: Some(250_000), overhead: 50 });
        assert_eq!(
            (options.loss_max_ttl, options.drop_late, options.connect_timeout.as_millis()),
            (8, false, 1500)
        );
        let url = SrtUrl::parse("srt://[2001:db8::1]").unwrap();
        assert_eq!((&*url.host, url.port, url.options), ("2001:db8::1", 10_080, Options::default()));
    }

    #[test]
    fn what_can_not_be_called_is_told() {
        for (url, error) in [
            ("rtmp://a/b", UrlError::NoHost),
            ("srt://", UrlError::NoHost),
            ("srt://:9000", UrlError::NoHost),
            ("srt://a:x", UrlError::NoHost),
            ("srt://a:0", UrlError::NoHost),
            ("srt://a?mode=listener", UrlError::Mode("listener".to_owned())),
            ("srt://a?pbkeylen=17", UrlError::Value("pbkeylen", "17".to_owned())),
            ("srt://a?latency=soon", UrlError::Value("latency", "soon".to_owned())),
            ("srt://a?transtype=file", UrlError::Value("transtype", "file".to_owned())),
        ] {
            assert_eq!(SrtUrl::parse(url), Err(error), "{url}");
        }
        let error = SrtUrl::parse("srt://a?passphrase=short").unwrap_err().to_string();
        assert!(!error.contains("short ") && error.contains("10 to 79"), "{error}");
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "srt://[a-z\\[\\]:0-9]{0,12}\\?(\\PC{0,60}|(latency|maxbw|pbkeylen|streamid)=[-0-9%a-f]{0,12})") {
            let _ = SrtUrl::parse(&text);
        }
    }
}
