//! Media types of files.

/// The media type of a file by the end of its name; `application/octet-stream` for ends we don't know.
#[must_use]
pub fn of_name(name: &str) -> &'static str {
    let Some((_, extension)) = name.rsplit_once('.') else { return DEFAULT };
    let found = TABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(extension));
    found.map_or(DEFAULT, |(_, mime)| mime)
}

const DEFAULT: &str = "application/octet-stream";

/// What players and browsers expect; the types of media files are SRS's.
const TABLE: [(&str, &str); 41] = [
    ("3gp", "video/3gpp"),
    ("aac", "audio/x-aac"),
    ("apk", "application/vnd.android.package-archive"),
    ("asf", "video/x-ms-asf"),
    ("avi", "video/x-msvideo"),
    ("css", "text/css; charset=utf-8"),
    ("doc", "application/msword"),
    ("exe", "application/octet-stream"),
    ("flv", "video/x-flv"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4s", "video/iso.segment"),
    ("m4v", "video/x-m4v"),
    ("map", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("swf", "application/x-shockwave-flash"),
    ("ts", "video/MP2T"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webm", "video/webm"),
    ("webp", "image/webp"),
    ("wmv", "video/x-ms-wmv"),
    ("xml", "text/xml; charset=utf-8"),
    ("zip", "application/zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_by_name() {
        assert_eq!(of_name("a.b.TS"), "video/MP2T");
        assert_eq!(of_name("x.flv"), "video/x-flv");
        assert_eq!(of_name("flv"), DEFAULT);
        assert_eq!(of_name("x."), DEFAULT);
        assert!(TABLE.is_sorted_by_key(|(extension, _)| extension), "alphabetic, each once");
    }
}
