//! Files below a directory, as a web server gives them: `Range`, `ETag`, `If-*`, `index.html`.
//!
//! Nothing outside the directory is ever given out: names are checked piece by piece, and where a symbolic link
//! leads is checked too. Names that start with a dot are not served (`.well-known` is).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{self};
use hyper::{Method, Response, StatusCode};

use super::{
    Body, Boxed, Head, Outcome, Reply, Request, Service, mime, not_allowed, put, reply_range, text_reply,
};

/// Serves the files below a directory.
#[derive(Debug)]
pub struct StaticFiles {
    root: PathBuf,
}

impl StaticFiles {
    /// Serves what is below `root`, which may come to be later.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }
}

impl Service for StaticFiles {
    fn has(&self, head: &Head) -> bool {
        find(&self.root, &head.path).is_some()
    }

    fn call<'a>(&'a self, request: Request) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let (root, path) = (self.root.clone(), request.head.path.clone());
            // Disks can be slow; other connections go on meanwhile.
            let found = tokio::task::spawn_blocking(move || find(&root, &path)).await;
            let Ok(Some(found)) = found else { return request.into() };
            match found {
                _ if !matches!(request.head.method, Method::GET | Method::HEAD) => not_allowed().into(),
                Found::Directory => redirect(&request.head).into(),
                Found::File(file) => match file.reply(&request.head).await {
                    Ok(reply) => reply.into(),
                    Err(error) => {
                        log::warn!(session:% = request.peer.id; "{}: {error}", file.path.display());
                        text_reply(StatusCode::NOT_FOUND, "404: the file cannot be read").into()
                    }
                },
            }
        })
    }
}

enum Found {
    /// A directory that was asked for without slash at the end.
    Directory,
    File(Entity),
}

/// A file as it was found.
struct Entity {
    path: PathBuf,
    len: u64,
    modified: SystemTime,
}

fn find(root: &Path, path: &str) -> Option<Found> {
    let root = root.canonicalize().ok()?;
    let mut file = root.clone();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        if (name.starts_with('.') && name != ".well-known") || name.contains('\\') {
            return None;
        }
        file.push(name);
    }
    let mut file = file.canonicalize().ok().filter(|file| file.starts_with(&root))?;
    let mut facts = file.metadata().ok()?;
    if facts.is_dir() {
        if !path.ends_with('/') {
            return Some(Found::Directory);
        }
        file = file.join("index.html").canonicalize().ok().filter(|file| file.starts_with(&root))?;
        facts = file.metadata().ok()?;
    } else if path.ends_with('/') {
        return None;
    }
    // No device, pipe or socket: opening one could block for ever.
    if !facts.is_file() {
        return None;
    }
    let modified = facts.modified().map_or(UNIX_EPOCH, printable);
    Some(Found::File(Entity { path: file, len: facts.len(), modified }))
}

/// The nearest time that an HTTP date can express: years 1970 to 9999.
fn printable(time: SystemTime) -> SystemTime {
    const YEAR_10000: u64 = 253_402_300_800;
    let last = UNIX_EPOCH.checked_add(Duration::from_secs(YEAR_10000 - 1)).unwrap_or(UNIX_EPOCH);
    time.clamp(UNIX_EPOCH, last)
}

impl Entity {
    async fn reply(&self, head: &Head) -> io::Result<Reply> {
        let mut reply = Response::new(Body::default());
        let (etag, date) = (self.etag(), httpdate::fmt_http_date(self.modified));
        put(&mut reply, header::ETAG, &etag);
        put(&mut reply, header::LAST_MODIFIED, &date);
        if self.is_unchanged(head, &etag) {
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(reply);
        }
        let wanted = head.header(header::RANGE).filter(|_| if_range(head, &etag, &date));
        let (first, len) = match reply_range(&mut reply, wanted, self.len) {
            Ok(range) => range,
            Err(refused) => return Ok(*refused),
        };
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        put(&mut reply, header::CONTENT_TYPE, mime::of_name(name));
        *reply.body_mut() = Body::file_at(&self.path, first, len).await?;
        Ok(reply)
    }

    /// Strong: files are replaced or appended to, which changes length or time.
    fn etag(&self) -> String {
        let since = self.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("\"{:x}-{:x}-{:x}\"", since.as_secs(), since.subsec_nanos(), self.len)
    }

    /// RFC 9110 13.2.2: `If-None-Match` decides, `If-Modified-Since` only without it.
    fn is_unchanged(&self, head: &Head, etag: &str) -> bool {
        if let Some(tags) = head.header(header::IF_NONE_MATCH) {
            let same = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
            return tags.split(',').any(|tag| same(tag.trim()));
        }
        let since = head.header(header::IF_MODIFIED_SINCE).and_then(|d| httpdate::parse_http_date(d).ok());
        since.is_some_and(|since| whole_seconds(self.modified) <= whole_seconds(since))
    }
}

/// Whether a `Range` counts: without `If-Range`, or when that names the file as it is now (RFC 9110 13.1.5).
fn if_range(head: &Head, etag: &str, date: &str) -> bool {
    head.header(header::IF_RANGE).is_none_or(|known| known == etag || known == date)
}

fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// To the same path with a slash at the end, so that relative links of `index.html` work.
fn redirect(head: &Head) -> Reply {
    let mut to = String::new();
    for name in head.path.split('/').filter(|name| !name.is_empty()) {
        to.push('/'); // exactly one at the start: `//x` would lead to host `x`
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                to.push(char::from(byte));
            } else {
                to.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    to.push('/');
    if !head.query.is_empty() {
        to.push('?');
        to.push_str(&head.query);
    }
    let mut reply = text_reply(StatusCode::MOVED_PERMANENTLY, &to);
    put(&mut reply, header::LOCATION, &to);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("rillbox-files-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("root/sub dir")).unwrap();
            fs::write(dir.join("secret"), "secret").unwrap();
            fs::write(dir.join("root/a.txt"), "0123456789").unwrap();
            fs::write(dir.join("root/.hidden"), "hidden").unwrap();
            fs::write(dir.join("root/sub dir/index.html"), "<p>").unwrap();
            Self(dir)
        }

        fn root(&self) -> PathBuf {
            self.0.join("root")
        }

        fn find(&self, path: &str) -> Option<Found> {
            find(&self.root(), path)
        }

        async fn reply(&self, headers: &str) -> Reply {
            let Some(Found::File(file)) = self.find("/a.txt") else { panic!("not found") };
            file.reply(&head("/a.txt", headers)).await.unwrap()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn head(path: &str, headers: &str) -> Head {
        let text = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        Head::parse(text.as_bytes()).unwrap().unwrap().0
    }

    #[test]
    fn nothing_outside_the_root_is_found() {
        let dir = Dir::new("escape");
        std::os::unix::fs::symlink(dir.0.join("secret"), dir.root().join("out")).unwrap();
        std::os::unix::fs::symlink("a.txt", dir.root().join("in")).unwrap();
        for path in [
            "/../secret",
            "/sub dir/../../secret",
            "/./a.txt",
            "/..",
            "/out",
            "/.hidden",
            "/..\\secret",
            "/a.txt/",
            "/none",
            "/sub dir/none",
            "/dev/null",
            "//etc/passwd",
        ] {
            assert!(dir.find(path).is_none(), "{path}");
        }
        for path in ["/a.txt", "//a.txt", "/in", "/sub dir/", "/sub dir/index.html"] {
            assert!(matches!(dir.find(path), Some(Found::File(_))), "{path}");
        }
        assert!(dir.find("/").is_none(), "no index.html, no listing");
        assert!(find(Path::new("/none/at/all"), "/a").is_none());
    }

    #[test]
    fn dates_that_http_cannot_say_are_clamped() {
        let dir = Dir::new("dates");
        for time in [UNIX_EPOCH - Duration::from_secs(9), UNIX_EPOCH + Duration::from_secs(1 << 38)] {
            let file = fs::File::options().write(true).open(dir.root().join("a.txt")).unwrap();
            // The file system may refuse such a time; what it takes must not panic.
            if file.set_modified(time).is_ok() {
                let Some(Found::File(file)) = dir.find("/a.txt") else { panic!("not found") };
                let _ = (httpdate::fmt_http_date(file.modified), file.etag());
            }
            let _ = httpdate::fmt_http_date(printable(time));
        }
    }

    #[test]
    fn directories_redirect_within_the_host() {
        let dir = Dir::new("redirect");
        assert!(matches!(dir.find("//sub dir"), Some(Found::Directory)));
        let reply = redirect(&head("//sub%20dir?a=b", ""));
        assert_eq!(reply.headers()[header::LOCATION], "/sub%20dir/?a=b");
    }

    #[tokio::test]
    async fn replies_follow_the_conditions() {
        use hyper::body::Body as _;
        let dir = Dir::new("conditions");
        let whole = dir.reply("").await;
        assert_eq!((whole.status().as_u16(), whole.body().size_hint().exact()), (200, Some(10)));
        let tag = whole.headers()[header::ETAG].to_str().unwrap().to_owned();
        let date = whole.headers()[header::LAST_MODIFIED].to_str().unwrap().to_owned();
        for (headers, status, len) in [
            (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304, 0),
            (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"), 200, 10),
            (format!("If-Modified-Since: {date}\r\n"), 304, 0),
            ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".into(), 200, 10),
            ("If-Modified-Since: garbage\r\nRange:\r\n".into(), 200, 10),
            ("Range: bytes=-4\r\n".into(), 206, 4),
            (format!("Range: bytes=2-3\r\nIf-Range: {tag}\r\n"), 206, 2),
            ("Range: bytes=2-3\r\nIf-Range: \"x\"\r\n".into(), 200, 10),
        ] {
            let reply = dir.reply(&headers).await;
            assert_eq!(
                (reply.status().as_u16(), reply.body().size_hint().exact()),
                (status, Some(len)),
                "{headers}"
            );
        }
        assert_eq!(dir.reply("Range: bytes=10-\r\n").await.headers()[header::CONTENT_RANGE], "bytes */10");
    }
}
