//! Who may: passphrases, stream ids, refusals that say why, kicks.

use super::{are_most_of, publisher};
use crate::support::frames::{Form, Player};
use crate::support::{Clip, Kind, Program, Server, http, wait_until};

const CLIP: Clip = Clip::H264_AAC;
const PASSPHRASE: &str = "correct horse battery";

/// Encrypted publisher and player, with keys of so many bytes.
fn encrypted(length: u32) {
    let server = Server::with(&[("SRT_PASSPHRASE", PASSPHRASE), ("SRT_KEY_LENGTH", &length.to_string())]);
    let secret = format!("&passphrase={}", PASSPHRASE.replace(' ', "%20"));
    let player = Player::start(Program::ffmpeg, &(server.srt("demo") + &secret), CLIP, Form::Ts);
    server.players(1);
    let url = format!("{}{secret}&pbkeylen={length}", server.srt("demo,m=publish"));
    publisher(Program::ffmpeg, CLIP, &url).end().good();
    assert_eq!(server.count(", encrypted"), 2);
    assert_eq!(are_most_of(&player.end().0, CLIP, 137), 0);
}

#[test]
fn aes_128() {
    encrypted(16);
}

#[test]
fn aes_192() {
    encrypted(24);
}

#[test]
fn aes_256() {
    encrypted(32);
}

/// What libsrt says of a caller that is refused, which tries no second time. It does not always end then.
#[track_caller]
fn refusal(url: &str) -> String {
    let caller = Program::start("srt-live-transmit", ["-a", "no", "-loglevel:note", url, "file://con"]);
    wait_until("a refusal", || caller.said().contains("REJECT reported"));
    let said = caller.said();
    caller.kill();
    said
}

#[test]
fn a_wrong_passphrase_is_told_so() {
    let server = Server::with(&[("SRT_PASSPHRASE", PASSPHRASE)]);
    let said = refusal(&format!("{}&passphrase=wrong-horse-battery", server.srt("demo,m=publish")));
    assert!(said.contains("Incorrect passphrase"), "{said}");
    server.line(" refused: SRT connection refused: wrong passphrase (SRT reject reason 10)");
    let said = refusal(&server.srt("demo"));
    assert!(said.contains("Password required or unexpected"), "{said}");
    assert_eq!(server.count(" started"), 0);
}

#[test]
fn each_vhost_and_direction_has_its_own_passphrase() {
    let server = Server::with(&[
        ("VHOST__DEFAULT__ACCESS__SRT_PUBLISH_PASSPHRASE", "publish-me-now"),
        ("VHOST__DEFAULT__ACCESS__SRT_PLAY_PASSPHRASE", "play-me-now"),
    ]);
    let url = server.srt("demo") + "&passphrase=play-me-now";
    let player = Player::start(Program::ffmpeg, &url, CLIP, Form::Ts);
    server.players(1);
    let url = server.srt("demo,m=publish") + "&passphrase=publish-me-now";
    let publisher = publisher(Program::ffmpeg, CLIP, &url);
    player.wait_for(Kind::Video, 25);
    refusal(&(server.srt("demo") + "&passphrase=publish-me-now"));
    server.line("wrong passphrase");
    publisher.end().good();
}

#[test]
fn refusals_say_why() {
    let server = Server::with(&[
        ("VHOST__DEFAULT__SRT__WAIT", "no"),
        ("VHOST__DEFAULT__ACCESS__PUBLISH", "credential"),
    ]);
    let address = server.address("SRT");
    for (id, why) in [
        ("#!::r=live/nobody", "nobody publishes live/nobody"),
        ("#!::r=live/demo,m=publish", "refused by access"),
        ("#!::r=live/demo,m=bidirectional", "use m=publish or m=request"),
        ("#!::m=publish", "names no stream"),
        ("#!:{r=live/demo}", "nested keys"),
    ] {
        // libsrt tells these by number alone, and srt-live-transmit not even that.
        let said = refusal(&format!("srt://{address}?streamid={id}"));
        assert!(said.contains("Application-defined rejection reason"), "{id}: {said}");
        server.line(why);
    }
}

#[test]
fn forms_of_stream_ids_meet() {
    let server = Server::start();
    let address = server.address("SRT");
    let url = format!("srt://{address}?streamid=publish:live/demo");
    let publisher = publisher(Program::ffmpeg, Clip::WATCHED, &url);
    server.line(" srt-publish of live/demo from ");
    for id in [
        "#!::r=live/demo,m=request",
        "#!::h=live/demo",
        "live/demo",
        "demo",
        "read:live/demo",
        "#!::h=127.0.0.1,r=live/demo",
    ] {
        let url = format!("srt://{address}?streamid={id}");
        let player = Player::start(Program::ffmpeg, &url, CLIP, Form::Ts);
        player.wait_for(Kind::Video, 5);
    }
    // Who gives none publishes live/livestream, as with SRS.
    let nameless = super::publisher(Program::ffmpeg, CLIP, &format!("srt://{address}?mode=caller"));
    server.line(" srt-publish of live/livestream from ");
    nameless.kill();
    publisher.kill();
}

#[test]
fn a_second_publisher_is_told_of_the_first_and_kicks_end_sessions() {
    let server = Server::start();
    let publisher = publisher(Program::ffmpeg, Clip::WATCHED, &server.srt("demo,m=publish"));
    let player = Player::start(Program::ffmpeg, &server.srt("demo"), CLIP, Form::Ts);
    player.wait_for(Kind::Video, 10);
    refusal(&server.srt("demo,m=publish"));
    server.line(" refused: live/demo is being published by session ");
    let id = |kind: &str| {
        let line = server.line(&format!(" {kind} of live/demo from "));
        line.split_whitespace().nth(2).unwrap().to_owned()
    };
    let api = server.address("API");
    for kind in ["srt-play", "srt-publish"] {
        let target = format!("/api/v1/clients/{}", id(kind));
        let listed = http::get(api, &target).good();
        assert!(listed.contains(&format!("\"type\":\"{kind}\"")), "{listed}");
        let head = format!("DELETE {target} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
        http::request(api, &head).good();
        server.line(&format!(" {kind} of live/demo ended after "));
    }
    player.end();
    publisher.end();
}
