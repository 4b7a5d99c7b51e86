//! Who may publish, play and administer: real clients that show the right thing, the wrong thing, and nothing.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::http::{Answer, request};
use crate::support::{Clip, Dir, Program, Server, wait_until};

const PASSWORD: &str = "s3cret-of-Ann";
const SECRET: &str = "a-secret-that-signs-urls";

/// What a command says whose standard input is `input`.
fn rillbox(args: &[&str], input: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rillbox"));
    command.args(args).env_remove("RILLBOX_CONFIG");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// `NAME:ROLE:HASH`, as the environment takes it.
fn user(name: &str, role: &str) -> String {
    let toml = rillbox(&["passwd", "--user", name, "--role", role], &format!("{PASSWORD}\n"));
    let hash = toml.lines().find_map(|line| line.strip_prefix("hash = ")).unwrap();
    format!("{name}:{role}:{}", hash.trim_matches('"'))
}

fn token(action: &str, stream: &str) -> String {
    let dir = Dir::new();
    let file = dir.path("r.toml");
    std::fs::write(&file, format!("[access]\ntoken_secrets = [\"{SECRET}\"]\n")).unwrap();
    rillbox(&["token", action, stream, "-c", file.to_str().unwrap()], "").trim().to_owned()
}

/// A JWT of a key that is made for it, and the set with that key.
fn jwt(claims: &str) -> (String, String) {
    use ring::signature::{Ed25519KeyPair, KeyPair};
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let text = format!("{}.{}", base64url(br#"{"alg":"EdDSA","kid":"k"}"#), base64url(claims.as_bytes()));
    let sign = base64url(pair.sign(text.as_bytes()).as_ref());
    let x = base64url(pair.public_key().as_ref());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
    (format!("{text}.{sign}"), set)
}

fn base64url(bytes: &[u8]) -> String {
    base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |n: u32| char::from(DIGITS[(n & 63) as usize]);
    let group = |group: &[u8]| {
        let n = group.iter().fold(0, |n, byte| n << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        let digits: String =
            [18, 12, 6, 0].iter().take(group.len() + 1).map(|shift| digit(n >> shift)).collect();
        format!("{digits:=<4}")
    };
    bytes.chunks(3).map(group).collect()
}

/// Publishes a clip again and again.
fn publish(url: &str) -> Program {
    let clip = Clip::H264_AAC.file();
    Program::ffmpeg(&format!("-re -stream_loop -1 -i {} -c copy -f flv {url}", clip.display()))
}

/// Whether FFmpeg gets a second of it.
fn plays(url: &str) -> bool {
    let ended = Program::ffmpeg(&format!("-i {url} -t 1 -c copy -f null -")).end();
    ended.status.success() && ended.said.is_empty()
}

fn ask(server: &Server, door: &str, method: &str, target: &str, headers: &str) -> Answer {
    let address = server.address(door);
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    request(address, &head)
}

#[test]
fn only_who_shows_the_right_thing_publishes_and_plays() {
    let dir = Dir::new();
    let claims = r#"{"sub":"jo","exp":4000000000,"rillbox":{"play":["*/live/cam"]}}"#;
    let (jwt, keys) = jwt(claims);
    std::fs::write(dir.path("keys.json"), keys).unwrap();
    let users = [user("ann", "publisher"), user("vic", "viewer"), user("root", "admin")].join(" ");
    let server = Server::with(&[
        ("ACCESS_USERS", users.as_str()),
        ("ACCESS_TOKEN_SECRETS", SECRET),
        ("ACCESS_JWT_KEYS", dir.path("keys.json").to_str().unwrap()),
        ("ACCESS_LOGIN_FAILURES", "100"),
        ("VHOST__DEFAULT__ACCESS__PUBLISH", "credential"),
        ("VHOST__DEFAULT__ACCESS__PLAY", "credential"),
        ("VHOST__DEFAULT__DASH__ON_DEMAND", "false"),
    ]);
    let wrong = "Wr0ng-of-Eve";
    for params in
        ["", &format!("?user=ann&pass={wrong}"), &format!("?user=vic&pass={PASSWORD}"), "?token=a.b.c"]
    {
        let ended = publish(&server.rtmp(&format!("cam{params}"))).end();
        assert!(!ended.status.success(), "published with {params:?}");
    }
    let publisher = publish(&server.rtmp(&format!("cam?user=ann&pass={PASSWORD}")));
    server.line("publish of live/cam from ");
    let rtmp = |params: &str| server.rtmp(&format!("cam{params}"));
    let http = |file: &str, params: &str| server.http(&format!("{file}{params}"));
    wait_until("a playlist", || {
        let target = format!("/live/cam.m3u8?user=vic&pass={PASSWORD}");
        ask(&server, "HTTP", "GET", &target, "").status == 200
    });
    let signed = format!("?{}", token("play", "live/cam"));
    let (password, jwt) = (format!("?user=vic&pass={PASSWORD}"), format!("?jwt={jwt}"));
    let files = ["cam.flv", "cam.ts", "cam.m3u8", "cam.mpd"];
    for params in [&signed, &password, &jwt] {
        assert!(plays(&rtmp(params)), "RTMP");
        for file in files {
            assert!(plays(&http(file, params)), "{file}{params}");
        }
    }
    // As browsers and players do it: asked, then with the header.
    let address = server.address("HTTP");
    for file in files {
        assert!(plays(&format!("http://vic:{PASSWORD}@{address}/live/{file}")), "{file}");
    }
    let for_publishing = format!("?{}", token("publish", "live/cam"));
    let of_another = format!("?{}", token("play", "live/other"));
    for params in
        ["", &format!("?user=vic&pass={wrong}"), &for_publishing, &of_another, "?hls_ctx=0123456789abcdef"]
    {
        assert!(!plays(&rtmp(params)), "RTMP {params}");
        for file in files {
            let answer = ask(&server, "HTTP", "GET", &format!("/live/{file}{params}"), "");
            assert_eq!(answer.status, 401, "{file}{params}");
            assert!(answer.header("www-authenticate").is_some(), "{file}{params}");
        }
    }
    // Segments and other spellings of the same name are behind the same door.
    let playlist = ask(&server, "HTTP", "GET", &format!("/live/cam.m3u8{password}"), "").good();
    let variant = playlist.lines().find(|line| line.contains(".m3u8")).map(str::to_owned);
    let playlist = match variant {
        Some(variant) => {
            let target = if variant.starts_with('/') { variant } else { format!("/live/{variant}") };
            ask(&server, "HTTP", "GET", &target, "").good()
        }
        None => playlist,
    };
    let segment = playlist.lines().rfind(|line| line.contains(".ts")).unwrap();
    let bare = segment.split('?').next().unwrap().rsplit('/').next().unwrap();
    for path in [
        format!("/live/{bare}"),
        "/live/%63am.flv".to_owned(),
        "//live//cam.flv".to_owned(),
        "/live/_definst_/cam.flv".to_owned(),
    ] {
        let status = ask(&server, "HTTP", "GET", &path, "").status;
        assert!(matches!(status, 401 | 404), "{path}: {status}");
    }
    // Nobody learns the secrets from us.
    let basic = format!("Authorization: Basic {}\r\n", base64(format!("root:{PASSWORD}").as_bytes()));
    for path in
        ["/api/v1/clients", "/api/v1/streams", "/api/v1/vhosts", "/api/v2/sessions", "/api/v2/streams"]
    {
        let answer = ask(&server, "API", "GET", path, &basic);
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        for secret in [PASSWORD, wrong, SECRET, "sign=", &jwt[5..]] {
            let shown = text.replace("sign=***", "");
            assert!(!shown.contains(secret), "{path} tells {secret:?}: {text}");
        }
    }
    publisher.kill();
    for secret in [PASSWORD, wrong, SECRET, &jwt[5..], signed.rsplit('=').next().unwrap(), "$argon2id$"] {
        assert_eq!(server.count(secret), 0, "{secret:?} is in the log");
    }
    assert!(server.count("audit: wrong password of ann from 127.0.0.1") > 0);
}

#[test]
fn addresses_and_pages() {
    let server = Server::with(&[
        ("VHOST__DEFAULT__ACCESS__CHECK_IP", "true"),
        ("VHOST__DEFAULT__ACCESS__IP_RULES", "allow publish 127.0.0.1,deny play 10.9.8.7,allow play all"),
        ("VHOST__DEFAULT__ACCESS__CHECK_REFER", "true"),
        ("VHOST__DEFAULT__ACCESS__REFER_PLAY", "example.com"),
    ]);
    let _publisher = publish(&server.rtmp("cam"));
    server.line("publish of live/cam from ");
    for (headers, status) in [
        ("", 403),
        ("Referer: http://example.com.evil.net/\r\n", 403),
        ("Referer: http://www.example.com/page\r\n", 200),
        ("Referer: http://www.example.com/page\r\nX-Forwarded-For: 10.9.8.7\r\n", 403),
        ("Referer: http://www.example.com/page\r\nX-Forwarded-For: 10.9.8.7, 10.9.8.6\r\n", 200),
    ] {
        wait_until("a playlist", || ask(&server, "HTTP", "GET", "/live/cam.m3u8", headers).status != 404);
        let answer = ask(&server, "HTTP", "GET", "/live/cam.m3u8", headers);
        assert_eq!(answer.status, status, "{headers:?}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert!(!plays(&server.rtmp("cam")), "no page is named");
}

#[test]
fn recordings_are_played_and_deleted_by_those_who_may() {
    let dir = Dir::new();
    let path = format!("{}/[app]/", dir.path("rec").display());
    let users = [user("vic", "viewer"), user("otto", "operator")].join(" ");
    let server = Server::with(&[
        ("ACCESS_USERS", users.as_str()),
        ("ACCESS_TOKEN_SECRETS", SECRET),
        ("VHOST__DEFAULT__ACCESS__PLAY", "credential"),
        ("VHOST__DEFAULT__RECORD__ENABLED", "true"),
        ("VHOST__DEFAULT__RECORD__PATH", path.as_str()),
    ]);
    let clip = Clip::H264_AAC.file();
    Program::ffmpeg(&format!("-re -i {} -c copy -f flv {}", clip.display(), server.rtmp("cam")))
        .end()
        .clean();
    let basic =
        |name: &str| format!("Authorization: Basic {}\r\n", base64(format!("{name}:{PASSWORD}").as_bytes()));
    let get = |target: &str, headers: &str| ask(&server, "HTTP", "GET", target, headers);
    wait_until("a closed recording", || {
        let list = get("/recordings/live/cam", &basic("vic"));
        list.status == 200 && list.text().contains("\"recording\":false")
    });
    let list = get("/recordings/live/cam", &basic("vic")).good();
    let file = list.split("\"url\":\"").nth(1).unwrap().split('"').next().unwrap();
    let signed = token("play", "live/cam");
    for target in [
        "/recordings/live/cam",
        "/recordings/live/cam.m3u8",
        "/recordings/live/cam.mp4",
        file,
        "/recordings//live/cam.mp4",
    ] {
        let status = get(target, "").status;
        assert!(matches!(status, 401 | 404), "{target}: {status}");
        if !target.contains("//") {
            assert_eq!(status, 401, "{target}");
            assert_eq!(get(&format!("{target}?{signed}"), "").status, 200, "{target}");
        }
    }
    assert!(!get("/recordings", "").good().contains("cam"), "names are for those who may play them");
    // What a playlist links to is let in by what let the playlist in.
    assert!(plays(&format!("http://{}/recordings/live/cam.m3u8?{signed}", server.address("HTTP"))));
    let delete = |headers: &str| ask(&server, "HTTP", "DELETE", file, headers).status;
    assert_eq!(delete(""), 401, "not even from this machine");
    assert_eq!(delete(&basic("vic")), 403);
    assert_eq!(delete(&format!("{}Origin: http://evil.example\r\n", basic("otto"))), 403);
    assert_eq!(get(file, &basic("vic")).status, 200);
    assert_eq!(delete(&basic("otto")), 204);
    assert_eq!(get(file, &basic("vic")).status, 404);
    server.line("audit: otto (operator, from 127.0.0.1) deleted \"/recordings/live/cam/");
}
