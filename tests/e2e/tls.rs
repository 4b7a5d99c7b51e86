//! RTMPS and HTTPS, with a certificate that nobody signed.

use crate::support::frames::{Form, Player};
use crate::support::{Clip, Dir, Frames, Program, Server};

#[test]
fn rtmps_and_https() {
    let dir = Dir::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (dir.path("cert.pem"), dir.path("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let server = Server::with(&[
        ("TLS_CERT", cert.to_str().unwrap()),
        ("TLS_KEY", key.to_str().unwrap()),
        ("RTMP_TLS_LISTEN", "127.0.0.1:0"),
        ("HTTP_TLS_LISTEN", "127.0.0.1:0"),
        ("API_TLS_LISTEN", "127.0.0.1:0"),
    ]);
    let clip = Clip::H264_AAC;
    let rtmps = format!("rtmps://{}/live/demo", server.address("RTMPS"));
    let https = format!("https://{}/live/demo", server.address("HTTPS"));
    let flv = [format!("-tls_verify 0 -i {rtmps}"), format!("-tls_verify 0 -i {https}.flv")]
        .map(|url| Player::start(Program::ffmpeg, &url, clip, Form::Flv));
    let ts = Player::start(Program::ffmpeg, &format!("-tls_verify 0 -i {https}.ts"), clip, Form::Ts);
    server.players(3);
    let url = format!("-re -i {} -c copy -f flv -tls_verify 0 {rtmps}", clip.file().display());
    Program::ffmpeg(&url).end().clean();
    let source = Frames::of_clip(clip, Form::Flv);
    for player in flv {
        // FFmpeg says goodbye to a server that has closed, and says so, with TLS.
        let (frames, ended) = player.end();
        ended.good();
        assert_eq!(frames.are_the_end_of(&source, 0), 0);
    }
    assert_eq!(ts.frames().are_the_end_of(&Frames::of_clip(clip, Form::FlvAsTs), 1000), 0);
    let api = format!("https://{}/healthz", server.address("API over TLS"));
    assert_eq!(
        Program::start("curl", ["-sS", "--cacert", cert.to_str().unwrap(), &api]).end().said,
        "{\"status\":\"ok\"}"
    );
    let curl = ["-sS", "--cacert", cert.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code}", &https];
    assert_eq!(Program::start("curl", curl).end().said, "404");
    let protocol =
        ["-sS", "--cacert", cert.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code} %{http_version}"];
    for (option, said) in [("--http2", "404 2"), ("--http1.1", "404 1.1")] {
        let curl = protocol.iter().copied().chain([option, &https]);
        assert_eq!(Program::start("curl", curl).end().said, said);
    }
}

/// Kinds of keys that a certificate may have, and what curl is told to demand: each suite and group that we offer.
const HANDSHAKES: &[(&str, &[&str])] = &[
    (
        "ec -pkeyopt ec_paramgen_curve:P-256",
        &[
            "--tlsv1.3 --tls13-ciphers TLS_AES_128_GCM_SHA256",
            "--tlsv1.3 --tls13-ciphers TLS_AES_256_GCM_SHA384",
            "--tlsv1.3 --tls13-ciphers TLS_CHACHA20_POLY1305_SHA256",
            "--tlsv1.3 --curves X25519",
            "--tlsv1.3 --curves P-256",
            "--tlsv1.3 --curves P-384",
            "--tls-max 1.2 --ciphers ECDHE-ECDSA-AES128-GCM-SHA256",
            "--tls-max 1.2 --ciphers ECDHE-ECDSA-AES256-GCM-SHA384",
            "--tls-max 1.2 --ciphers ECDHE-ECDSA-CHACHA20-POLY1305",
        ],
    ),
    ("ec -pkeyopt ec_paramgen_curve:P-384", &["--tlsv1.3", "--tls-max 1.2"]),
    ("ed25519", &["--tlsv1.3"]),
    (
        "rsa:2048",
        &[
            "--tlsv1.3",
            "--tls-max 1.2 --ciphers ECDHE-RSA-AES128-GCM-SHA256",
            "--tls-max 1.2 --ciphers ECDHE-RSA-AES256-GCM-SHA384",
            "--tls-max 1.2 --ciphers ECDHE-RSA-CHACHA20-POLY1305",
        ],
    ),
];

/// What one end computes wrongly the other refuses, unless both are of one library: this is how each cipher is tested
/// on CPUs of which we have only an emulator.
#[test]
fn openssl_takes_a_file_by_every_cipher() {
    let dir = Dir::new();
    let root = dir.path("root");
    std::fs::create_dir(&root).unwrap();
    let file: Vec<u8> = (0..50_000_u32).flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes()).collect();
    std::fs::write(root.join("file"), &file).unwrap();
    let (cert, key, got) = (dir.path("cert.pem"), dir.path("key.pem"), dir.path("got"));
    for (kind, demands) in HANDSHAKES {
        let names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1";
        let request = format!(
            "req -x509 -nodes -newkey {kind} {names} -keyout {} -out {}",
            key.display(),
            cert.display()
        );
        Program::start("openssl", request.split(' ')).end().good();
        let server = Server::with(&[
            ("TLS_CERT", cert.to_str().unwrap()),
            ("TLS_KEY", key.to_str().unwrap()),
            ("HTTP_TLS_LISTEN", "127.0.0.1:0"),
            ("HTTP_ROOT", root.to_str().unwrap()),
        ]);
        let url = format!("https://{}/file", server.address("HTTPS"));
        for demand in *demands {
            println!("{kind}: {demand}");
            let curl = format!("-sSf --cacert {} {demand} -o {} {url}", cert.display(), got.display());
            Program::start("curl", curl.split(' ')).end().clean();
            assert!(std::fs::read(&got).unwrap() == file, "the file is another one");
            std::fs::remove_file(&got).unwrap();
        }
    }
}

/// SRS comes with such a certificate.
#[test]
fn a_certificate_of_version_1_serves_whoever_does_not_verify_it() {
    let dir = Dir::new();
    let [cert, key, request] = ["cert.pem", "key.pem", "request.pem"].map(|name| dir.path(name));
    let (cert, key, request) = (cert.display(), key.display(), request.display());
    for command in [
        format!("req -new -nodes -newkey rsa:2048 -subj /CN=box -keyout {key} -out {request}"),
        format!("x509 -req -in {request} -signkey {key} -out {cert}"),
    ] {
        Program::start("openssl", command.split(' ')).end().good();
    }
    let (cert, key) = (cert.to_string(), key.to_string());
    let server = Server::with(&[("TLS_CERT", &cert), ("TLS_KEY", &key), ("HTTP_TLS_LISTEN", "127.0.0.1:0")]);
    server.line("is of X.509 version 1");
    let url = format!("https://{}/none", server.address("HTTPS"));
    let curl = ["-sSk", "-o", "/dev/null", "-w", "%{http_code}", &url];
    assert_eq!(Program::start("curl", curl).end().said, "404");
}
