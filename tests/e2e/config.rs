//! The configuration while the server runs: changed by the API and kept, read anew by signal, by the API and when the file
//! changes; nobody is dropped, nothing is lost.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use rillbox::config::{Document, parse};
use serde_json::{Value, json};

use crate::support::frames::{Form, Player};
use crate::support::http::{Answer, get, request};
use crate::support::{Clip, Dir, Kind, PATIENCE, Program, Server, wait_until};

const FILE: &str = "\
# A box at the gate. Ask Kim before you change it.
[api] # for the dashboard
listen = \"127.0.0.1:0\"

[http]
listen = \"127.0.0.1:0\"

[log]
level = \"debug\" # until it runs well

[rtmp]
listen = [\"127.0.0.1:0\"] # the cameras

# What holds for all.
[vhost.default]
grace = \"5s\"

[vhost.default.hls]
# Short: people stand at the gate.
window = \"20s\" # ten segments
# The end.
";

fn patch(server: &Server, query: &str, patch: &Value) -> Answer {
    let (address, body) = (server.address("API"), patch.to_string());
    request(
        address,
        &format!(
            "PATCH /api/v2/config{query} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn config(server: &Server, pointer: &str) -> Value {
    serde_json::from_str(&get(server.address("API"), &format!("/api/v2/config?pointer={pointer}")).good())
        .unwrap()
}

#[test]
fn what_the_api_changes_is_in_force_and_kept() {
    let dir = Dir::new();
    let file = dir.path("r.toml");
    fs::write(&file, FILE).unwrap();
    let mut server = Server::with_file(&file);
    assert_eq!(config(&server, "/vhost/default/hls/window"), "20s");
    let change = json!({ "vhost": { "default": { "hls": { "window": "9s" } } }, "server": { "workers": 3 } });

    let would = json_of(&patch(&server, "?validate=true", &change));
    assert_eq!((&would["written"], &would["needs_restart"]), (&json!(false), &json!(["server.workers = 3"])));
    assert_eq!(fs::read_to_string(&file).unwrap(), FILE);
    assert_eq!(config(&server, "/vhost/default/hls/window"), "20s");

    let done = json_of(&patch(&server, "", &change));
    let difference = |key: &str, old: &str, new: &str, restart: bool| json!({ "key": key, "old": old, "new": new, "restart": restart });
    assert_eq!(
        done,
        json!({
            "differences": [
                difference("server.workers", "0", "3", true),
                difference("vhost.default.hls.window", "\"20s\"", "\"9s\"", false),
            ],
            "needs_restart": ["server.workers = 3"],
            "warnings": [],
            "written": true,
        })
    );
    let expected =
        FILE.replace("\"20s\" #", "\"9s\" #").replace("# The end.", "\n[server]\nworkers = 3\n# The end.");
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    assert_eq!(config(&server, "/vhost/default/hls/window"), "9s");

    for (change, status, text) in [
        (json!({ "log": { "levle": "info" } }), 422, "log.levle: unknown key; did you mean \\\"level\\\"?"),
        (
            json!({ "rtmp": { "chunk_size": 1 } }),
            422,
            "r.toml:13: rtmp.chunk_size: expected 128 to 65536, found 1",
        ),
        (
            json!({ "tls": { "cert": "/etc/shadow", "key": "/etc/shadow" } }),
            403,
            "tls.cert, tls.key: keys that name a place",
        ),
        (json!({ "log": { "target": "/etc/cron.d/x" } }), 403, "log.target: "),
        (json!({ "vhost": { "default": { "record": { "path": "/etc/" } } } }), 403, "record.path: "),
        (json!({ "vhost": { "new.example": { "hls": { "ts_file": "../../x" } } } }), 403, "ts_file: "),
        (json!([1]), 422, "expected an object"),
    ] {
        let answer = patch(&server, "", &change);
        assert!(
            answer.status == status && answer.text().contains(text),
            "{change}: {answer:?} {}",
            answer.text()
        );
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = json!({ "rtmp": { "listen": [taken.local_addr().unwrap().to_string()] } });
    let answer = patch(&server, "", &listen);
    assert!(
        answer.status == 422 && answer.text().contains("rtmp.listen: cannot listen on "),
        "{}",
        answer.text()
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), expected, "nothing of that was done");

    // By hand, and wrong: it isn't made worse.
    fs::write(&file, "[log\n").unwrap();
    let answer = patch(&server, "", &change);
    assert!(answer.status == 409 && answer.text().contains("by hand first"), "{}", answer.text());
    fs::write(&file, &expected).unwrap();
    assert_eq!(json_of(&patch(&server, "", &json!({ "server": { "workers": null } })))["written"], true);
    assert_eq!(fs::read_to_string(&file).unwrap(), expected.replace("workers = 3\n", ""));
    assert!(server.stop().success());
    let server = Server::with_file(&file);
    assert_eq!(config(&server, "/vhost/default/hls/window"), "9s");
    let schema: Value =
        serde_json::from_str(&get(server.address("API"), "/api/v2/config/schema").good()).unwrap();
    assert_eq!(schema["$defs"]["vhost"]["properties"]["hls"]["properties"]["window"]["default"], "30s");
}

#[test]
fn a_configuration_of_srs_is_not_written() {
    let dir = Dir::new();
    let file = dir.path("srs.conf");
    fs::write(
        &file,
        "listen 127.0.0.1:0;\nhttp_api { enabled on; listen 127.0.0.1:0; }\nvhost __defaultVhost__ { }\n",
    )
    .unwrap();
    let keys = [("RILLBOX_CONFIG", file.to_str().unwrap()), ("RILLBOX_API_ENABLED", "true")];
    let server = Server::within(&keys, &[]);
    let answer = patch(&server, "", &json!({ "log": { "level": "info" } }));
    assert!(answer.status == 409 && answer.text().contains("rillbox convert"), "{}", answer.text());
}

/// FFmpeg that publishes for longer than a test takes.
fn publisher(address: SocketAddr, stream: &str) -> Program {
    let file = Clip::H264_AAC.file();
    Program::ffmpeg(&format!(
        "-re -stream_loop 30 -i {} -c copy -f flv rtmp://{address}/live/{stream}",
        file.display()
    ))
}

#[test]
fn nobody_is_dropped_by_changes() {
    let dir = Dir::new();
    let file = dir.path("r.toml");
    let text = format!("{FILE}[server]\nwatch_config = true\n");
    fs::write(&file, &text).unwrap();
    let mut server = Server::with_file(&file);
    let rtmp = server.address("RTMP");
    let mut first = publisher(rtmp, "demo");
    server.line("live/demo track 1: ");
    let player = Player::start(Program::ffmpeg, &server.rtmp("demo"), Clip::H264_AAC, Form::Flv);
    let flv = Player::start(Program::ffmpeg, &server.http("demo.flv"), Clip::H264_AAC, Form::Flv);
    let goes_on = |what: &str| {
        for player in [&player, &flv] {
            let before = player.so_far().of(Kind::Video).len();
            player.wait_for(Kind::Video, before + 10);
        }
        assert_eq!(server.count("fmle-publish of live/demo from"), 1, "{what}");
        assert_eq!(server.count("fmle-publish of live/demo ended"), 0, "{what}");
    };
    goes_on("at first");

    // By signal: one more door.
    let two = text.replace("[\"127.0.0.1:0\"] #", "[\"127.0.0.1:0\", \"127.0.0.2:0\"] #");
    fs::write(dir.path("new"), &two).unwrap();
    fs::rename(dir.path("new"), &file).unwrap();
    server.signal("HUP");
    let second = " RTMP listens on 127.0.0.2:";
    server.line(second);
    let door: SocketAddr = server.line(second).split(" listens on ").nth(1).unwrap().parse().unwrap();
    let mut other = publisher(door, "other");
    server.line("fmle-publish of live/other from");
    goes_on("one more door");

    // By the file alone, as an editor has it, and wrong.
    for (text, said) in [
        (two.replace("\"5s\"", "\"6s\""), "reload: now vhost.default.grace = \"6s\""),
        (two.replace("\"5s\"", "5"), "vhost.default.grace: expected a duration"),
    ] {
        fs::write(dir.path("new"), text).unwrap();
        fs::rename(dir.path("new"), &file).unwrap();
        server.line(said);
        goes_on(said);
    }
    server.line("reload: the configuration is wrong, so that nothing was changed");
    fs::write(&file, two.replace("\"20s\"", "\"21s\"")).unwrap();
    server.line("vhost.default.hls.window = \"21s\"");

    // As Kubernetes has it.
    for (n, window) in ["22s", "23s"].iter().enumerate() {
        let data = format!("..{n}");
        fs::create_dir(dir.path(&data)).unwrap();
        fs::write(dir.path(&data).join("r.toml"), two.replace("20s", window)).unwrap();
        symlink(&data, dir.path("..data_tmp")).unwrap();
        fs::rename(dir.path("..data_tmp"), dir.path("..data")).unwrap();
        if n == 0 {
            fs::remove_file(&file).unwrap();
            symlink("..data/r.toml", &file).unwrap();
        }
        server.line(&format!("vhost.default.hls.window = \"{window}\""));
    }
    goes_on("ConfigMap");

    // By the API: the door is closed, who came by it stays.
    assert_eq!(
        json_of(&patch(&server, "", &json!({ "rtmp": { "listen": ["127.0.0.1:0"], "chunk_size": 4096 } })))["written"],
        true
    );
    server.line("RTMP no longer listens on 127.0.0.2:");
    wait_until("a closed door", || TcpStream::connect(door).is_err());
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink(), "what the link leads to was written");
    goes_on("one door less");
    let address = server.address("API");
    let again = request(
        address,
        &format!(
            "POST /api/v2/config/reload HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ),
    );
    assert_eq!(json_of(&again)["differences"], json!([]));
    goes_on("the end");
    assert!(first.runs() && other.runs());
    assert_eq!(server.count("fmle-publish of live/other ended"), 0);
    drop((first, other));
    assert!(server.stop().success());
}

/// Numbers that nobody foresees (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        let at = self.below(of.len() as u64);
        of[usize::try_from(at).unwrap()]
    }

    /// A valid change of one to three keys.
    fn change(&mut self) -> Value {
        let mut patch = json!({});
        for _ in 0..=self.below(3) {
            let vhost = self.one(&["default", "cam.example", "door.example"]);
            let secs = format!("{}s", 5 + self.below(50));
            match self.below(9) {
                0 => patch["log"]["level"] = self.one(&["info", "debug"]).into(),
                1 => patch["rtmp"]["chunk_size"] = (128 + self.below(60_000)).into(),
                2 => patch["vhost"][vhost]["grace"] = secs.into(),
                3 => patch["vhost"][vhost]["hls"]["window"] = secs.into(),
                4 => patch["vhost"][vhost]["hls"]["overflow_ratio"] = (1.5 + self.below(10) as f64).into(),
                5 => patch["vhost"][vhost]["record"]["streams"] = json!([secs, "live/*"]),
                6 => patch["vhost"][vhost]["grace"] = Value::Null,
                7 => patch["vhost"][vhost]["match"] = json!([{ "stream": "live/cam*", "grace": secs }]),
                _ => patch["server"]["max_connections"] = (100 + self.below(900)).into(),
            }
        }
        patch
    }
}

/// Sends a request, and whether it was answered with 200 before the server went away.
fn confirmed(address: SocketAddr, body: &str) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let sent = write!(
        socket,
        "PATCH /api/v2/config HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/merge-patch+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let _ = sent.and_then(|()| socket.read_to_end(&mut answer));
    let text = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || text.starts_with("HTTP/1.1 200 "), "{body}: {text}");
    // An answer that was cut off confirms nothing.
    text.ends_with('}')
}

/// 200 changes, and a server that is killed whenever it likes.
#[test]
fn changes_outlive_whatever_kills_the_server() {
    const CHANGES: usize = 200;
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let dir = Dir::new();
    let file = dir.path("r.toml");
    fs::write(&file, FILE).unwrap();
    let comments: Vec<&str> =
        FILE.lines().filter_map(|line| Some(line.get(line.find('#')?..)?.trim())).collect();
    let mut expected = FILE.to_owned();
    let (mut done, mut kills, mut unconfirmed) = (0, 0, 0);
    let start = Instant::now();
    while done < CHANGES {
        let mut server = Server::with_file(&file);
        let address = server.address("API");
        let lives = Duration::from_micros(dice.below(150_000));
        let pid = server.pid();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(lives);
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        });
        let possible = loop {
            let change = dice.change();
            let after = Document::parse("r.toml", &expected).unwrap().patch(&change).unwrap().text();
            if !confirmed(address, &change.to_string()) {
                break after;
            }
            done += 1;
            expected = after;
            assert_eq!(read(&file), expected, "what was confirmed is in the file: {change}");
        };
        killer.join().unwrap();
        server.kill();
        kills += 1;
        let text = read(&file);
        assert!(
            text == expected || text == possible,
            "neither the last change that was confirmed nor the one on its way:\n{text}"
        );
        unconfirmed += usize::from(text == possible && text != expected);
        let config = parse("r.toml", &text, []).unwrap_or_else(|error| panic!("{error}\n{text}")).config;
        assert_eq!(config.rtmp.listen.len(), 1);
        for comment in &comments {
            assert!(text.contains(comment), "{comment} is gone:\n{text}");
        }
        expected = text;
        assert!(start.elapsed() < PATIENCE * 20, "{done} changes only");
    }
    println!(
        "{done} changes confirmed, {kills} kills, {unconfirmed} changes on the disk that were not confirmed"
    );
    let left: Vec<_> = fs::read_dir(dir.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 2, "{left:?}");
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}
