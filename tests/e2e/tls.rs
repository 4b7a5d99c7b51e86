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
    let curl = ["-sS", "--cacert", cert.to_str().unwrap(), "-o", "/dev/null", "-w", "%{http_code}", &https];
    assert_eq!(Program::start("curl", curl).end().said, "404");
}
