//! SRS's configuration as it is: the server starts with it and does what it says.

use std::fs;

use crate::publish_play::publisher;
use crate::support::frames::{Form, Player};
use crate::support::http::get;
use crate::support::{Clip, Dir, Frames, Kind, Program, Server, wait_until};

const CONF: &str = "\
listen 127.0.0.1:0; # an RTMP port that is free
max_connections 1000;
daemon off;
srs_log_tank console;
work_dir WORK;
pid ./srs.pid;
http_api { enabled off; listen 127.0.0.1:0; }
http_server {
    enabled on;
    listen 127.0.0.1:0;
    dir ./html;
}
vhost __defaultVhost__ {
    play { gop_cache_max_frames 2500; mw_latency 100; }
    http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }
    hls { enabled on; hls_fragment 1; hls_window 10; hls_path ./html; hls_ctx off; }
    dvr { enabled on; dvr_plan session; dvr_path ./html/[app]/[stream].rec.flv; dvr_apply live/demo; }
}
vhost closed.example { enabled off; }
";

#[test]
fn a_configuration_of_srs_is_run() {
    let dir = Dir::new();
    let conf = dir.path("srs.conf");
    fs::create_dir_all(dir.path("html")).unwrap();
    fs::write(dir.path("html/page.html"), "SRS's page").unwrap();
    fs::write(&conf, CONF.replace("WORK", dir.path("").to_str().unwrap())).unwrap();
    let mut server = Server::within(&[("RILLBOX_CONFIG", conf.to_str().unwrap())], &[]);
    assert!(dir.path("srs.pid").exists());
    let http = server.address("HTTP");
    assert_eq!(get(http, "/page.html").good(), "SRS's page");

    let clip = Clip::H264_AAC;
    let player = Player::start(Program::ffmpeg, &server.http("demo.flv"), clip, Form::Flv);
    server.players(1);
    let publisher = publisher(Program::ffmpeg, clip, &server.rtmp("demo"));
    player.wait_for(Kind::Video, 1);
    assert_eq!(get(http, "/live/demo.ts").status, 404, "the mount is for FLV alone");
    wait_until("a playlist on the disk", || {
        fs::read_to_string(dir.path("html/live/demo.m3u8"))
            .is_ok_and(|text| text.contains("live/demo-0.ts") || text.contains("demo-0.ts"))
    });
    let playlist = get(http, "/live/demo.m3u8").good();
    assert!(playlist.contains("demo-0.ts") && !playlist.contains("hls_ctx"), "{playlist}");
    publisher.end().clean();
    let (frames, _) = player.end();
    frames.are_the_end_of(&Frames::of_clip(clip, Form::Flv), 0);
    server.line("recorded live/demo: ");
    let recorded = Frames::of_file(&dir.path("html/live/demo.rec.flv"), clip, Form::Flv);
    assert_eq!(recorded.are_the_end_of(&Frames::of_clip(clip, Form::Flv), 0), 0);

    let closed = format!("rtmp://{}/live?vhost=closed.example/demo", server.address("RTMP"));
    assert!(!publisher_of(&closed).end().status.success());
    assert!(server.stop().success());
}

fn publisher_of(url: &str) -> Program {
    publisher(Program::ffmpeg, Clip::H264_AAC, url)
}

#[test]
fn the_environment_of_srs_is_all_there_is() {
    let environment = [
        ("SRS_ENV_ONLY", "on"),
        ("SRS_LISTEN", "127.0.0.1:0"),
        ("SRS_HTTP_SERVER_ENABLED", "on"),
        ("SRS_HTTP_SERVER_LISTEN", "127.0.0.1:0"),
        ("SRS_VHOST_HTTP_REMUX_ENABLED", "on"),
        ("SRS_VHOST_HTTP_REMUX_MOUNT", "[vhost]/[app]/[stream].ts"),
        ("SRS_LOG_LEVEL_V2", "debug"),
        ("SRS_RTSP_SERVER_ENABLED", "on"),
    ];
    let mut server = Server::within(&environment, &[]);
    server.line("SRS_RTSP_SERVER_ENABLED: rtsp_server: not done: ");
    let clip = Clip::H264_AAC;
    let player = Player::start(Program::ffmpeg, &server.http("demo.ts"), clip, Form::Ts);
    server.players(1);
    publisher(Program::ffmpeg, clip, &server.rtmp("demo")).end().clean();
    player.end().0.are_the_end_of(&Frames::of_clip(clip, Form::FlvAsTs), 1000);
    assert!(server.stop().success());
}
