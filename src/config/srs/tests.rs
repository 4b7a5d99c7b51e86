use super::super::{Bandwidth, Config, ConfigError, MergeWindow, Problem, convert, parse};
use super::rules::{MOVED, MOVED_TOP, Rule, TOP, VHOST};

fn load(text: &str, env: &[(&str, &str)]) -> (Config, Vec<String>) {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = parse("srs.conf", text, env).unwrap_or_else(|error| panic!("{error}"));
    (loaded.config, loaded.warnings.iter().map(Problem::to_string).collect())
}

fn wrong(text: &str) -> String {
    match parse("srs.conf", text, []) {
        Err(ConfigError::Invalid(problems)) => problems[0].to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn variables_that_are_no_directives_of_the_file() {
    let env = [("SRS_DEVICE_IP", "192.0.2.1"), ("SRS_VHOST", "x"), ("SRS_HTTP_API", "on")];
    let text = "listen 1935; http_api { enabled on; listen 1986; } vhost a.example { hls { enabled on; } }";
    let (config, warnings) = load(text, &env);
    assert_eq!(config.heartbeat.ip, "192.0.2.1");
    assert_eq!(config.api.listen.first().unwrap().port(), 1986);
    assert!(config.vhost("a.example", "live", "x").hls.enabled);
    assert_eq!(
        warnings.iter().filter(|text| text.contains("no directive of SRS's")).count(),
        2,
        "{warnings:?}"
    );
}

#[cfg(feature = "srt")]
#[test]
fn an_old_name_of_srt() {
    let (config, _) = load("listen 1935; srt_server { enabled on; tlpkdrop off; }", &[]);
    assert!(!config.srt.too_late_drop);
}

#[cfg(feature = "webrtc")]
#[test]
fn webrtc() {
    use super::super::{DtlsRole, IpFamily, Transports, Wait};
    let text = "listen 1935; rtc_server { enabled on; listen 8001; candidate 192.0.2.1 $CANDIDATE; tcp { enabled on; listen 8001; }\n\
                protocol all; keep_api_domain on; encrypt off; }\n\
                vhost __defaultVhost__ { rtc { enabled on; rtmp_to_rtc on; dtls_role active; pli_for_rtmp 2.5; stun_timeout 15;\n\
                opus_bitrate 64000; keep_bframe on; } nack { enabled off; } }\n\
                vhost a.example { rtc { enabled on; aac transcode; bframe keep; } }";
    let (config, warnings) = load(text, &[]);
    let webrtc = &config.webrtc;
    assert!(webrtc.enabled && webrtc.keep_host);
    assert_eq!((webrtc.listen[0].port(), webrtc.tcp_listen[0].port()), (8001, 8001));
    assert_eq!(webrtc.candidates, ["192.0.2.1", "$CANDIDATE"]);
    assert_eq!((webrtc.ip_family, webrtc.transports), (IpFamily::V4, Transports::All));
    assert_eq!(webrtc.idle_timeout.as_secs(), 15);
    let vhost = &config.vhost("", "live", "x").webrtc;
    assert!(vhost.enabled && vhost.from_others && !vhost.to_others && !vhost.nack && vhost.transport_cc);
    assert!(vhost.keep_b_frames && vhost.dtls_role == DtlsRole::Active && vhost.wait == Wait::Forever);
    assert_eq!((vhost.key_frame_interval.as_millis(), vhost.opus_bitrate), (2500, 64_000));
    let other = &config.vhost("a.example", "live", "x").webrtc;
    assert!(other.from_others && other.keep_b_frames && other.nack);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let (config, _) = load("listen 1935; rtc_server { enabled on; }", &[]);
    assert!(config.webrtc.tcp_listen.is_empty() && config.webrtc.transports == Transports::Udp);
}

#[test]
fn what_srs_does_without_being_told() {
    let text = "listen 1935; max_connections 500; exporter { enabled on; } http_server { enabled on; }\n\
                vhost __defaultVhost__ { hls { enabled on; } http_hooks { enabled off; on_publish here; } }";
    let (config, _) = load(text, &[]);
    let vhost = config.vhost("", "live", "x");
    assert!(!vhost.hls.endlist && config.metrics.anonymous);
    assert_eq!((vhost.hls.memory.bytes(), config.server.max_connections_per_ip), (256 << 20, 500));
}

#[test]
fn both_families_are_one_listener() {
    for (listen, expected) in [
        ("1935 [::]:1935", "[::]:1935"),
        ("0.0.0.0:1935 [::]:1935", "[::]:1935"),
        ("0.0.0.0:1935", "0.0.0.0:1935"),
        ("1935 1936 [::1]:1935", "[::]:1935 [::]:1936 [::1]:1935"),
    ] {
        let (config, _) = load(&format!("listen {listen};"), &[]);
        let all: Vec<String> = config.rtmp.listen.iter().map(ToString::to_string).collect();
        assert_eq!(all.join(" "), expected, "{listen}");
    }
}

#[test]
fn each_rule_leads_to_a_key() {
    let keys: Vec<String> = Config::default().keys().into_iter().map(|key| key.path).collect();
    let lead = |rules: &[(&str, Rule)], prefix: &str| {
        for (path, rule) in rules {
            let key = match rule {
                Rule::Key(key, _) => format!("{prefix}{key}"),
                Rule::Whole(key, _) => (*key).to_owned(),
                _ => continue,
            };
            assert!(keys.contains(&key), "{path} leads to {key}");
        }
    };
    lead(TOP, "");
    lead(VHOST, "vhost.default.");
    for (path, _) in MOVED_TOP {
        assert!(!TOP.iter().any(|(known, _)| known == path), "{path} is old");
    }
    for (from, to) in MOVED {
        let there = |to: &str| VHOST.iter().any(|(path, _)| *path == to);
        let outer = to.split('.').next().unwrap();
        assert!(there(to) || there(outer), "{from} moved to {to}");
    }
}

#[test]
fn what_stands_in_a_common_file() {
    let dir = std::env::temp_dir().join(format!("rillbox-srs-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("html")).unwrap();
    let dir = dir.to_str().unwrap();
    let text = "listen 1935 [::1]:1936; max_connections 500; chunk_size 4096; daemon off; srs_log_tank console;\n\
                srs_log_level_v2 warn; pid ./srs.pid; work_dir WORK;\n\
                http_server { enabled on; listen 8081; dir ./html; https { enabled on; key k.pem; cert c.pem; } }\n\
                vhost __defaultVhost__ {\n http_remux { enabled on; mount [vhost]/[app]/[stream].flv; }\n\
                 hls { enabled on; hls_fragment 2.5; hls_window 20; hls_aof_ratio 3; hls_cleanup off; hls_keys yes; hls_vcodec vn; }\n\
                 play { mw_latency 100; queue_length 10; } publish { normal_timeout 7000; } min_latency on;\n}\n";
    let (config, warnings) = load(&text.replace("WORK", dir), &[]);
    let listen: Vec<String> = config.rtmp.listen.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["[::]:1935", "[::1]:1936"]);
    assert_eq!((config.server.max_connections, config.rtmp.chunk_size), (500, 4096));
    assert_eq!(config.server.pid_file.as_deref().unwrap().to_str(), Some(&*format!("{dir}/./srs.pid")));
    assert_eq!(config.http.root.as_deref().unwrap().to_str(), Some(&*format!("{dir}/./html")));
    assert_eq!(config.http.tls_listen.first().unwrap().port(), 8088);
    assert_eq!(config.tls.key.as_deref().unwrap().to_str(), Some(&*format!("{dir}/k.pem")));
    assert_eq!(config.log.level, log::LevelFilter::Warn);
    assert_eq!(config.delivery.merge_window, MergeWindow::Fixed(std::time::Duration::from_millis(100)));
    assert_eq!(config.rtmp.publish_timeout.as_secs(), 7);
    let vhost = config.vhost("any", "live", "demo");
    assert!(vhost.enabled && vhost.http_live.enabled && vhost.http_live.flv && !vhost.http_live.ts);
    assert!(vhost.hls.enabled && !vhost.hls.cleanup && !vhost.hls.video && vhost.hls.audio);
    assert_eq!((vhost.hls.segment.as_millis(), vhost.ring_time.as_secs()), (2500, 10));
    assert_eq!(warnings, [] as [&str; 0]);
}

#[test]
fn what_srs_leaves_off_is_off_here() {
    let (config, _) = load("listen 1935; vhost __defaultVhost__ { }", &[]);
    let vhost = config.vhost("any", "live", "demo");
    assert!(vhost.enabled && !vhost.hls.enabled && !vhost.http_live.enabled && !config.http.enabled);
    let (config, _) = load("listen 1935; vhost a.example { hls { enabled on; } }", &[]);
    assert!(!config.vhost("any", "live", "demo").enabled, "SRS refuses what no vhost names");
    let named = config.vhost("a.example", "live", "demo");
    assert!(named.enabled && named.hls.enabled);
}

#[test]
fn srt_is_there_where_srs_has_it() {
    let (config, _) = load("listen 1935; vhost __defaultVhost__ { }", &[]);
    assert!(!config.srt.enabled && !config.vhost("any", "live", "demo").srt.enabled);
    let text = "listen 1935; srt_server { enabled on; listen 10081; maxbw 0; mss 1400; connect_timeout 4000; \
                peer_idle_timeout 8000; default_app app; latency 200; recvlatency 300; tsbpdmode off; tlpktdrop off; \
                sendbuf 2000000; recvbuf 3000000; passphrase secret-secret; pbkeylen 32; payloadsize 1128; }\n\
                vhost __defaultVhost__ { srt { enabled on; srt_to_rtmp on; } }";
    let (config, warnings) = load(text, &[]);
    let srt = &config.srt;
    assert!(srt.enabled && config.vhost("any", "live", "demo").srt.enabled);
    assert_eq!(srt.listen, [([0; 16], 10_081).into()]);
    assert_eq!(
        (srt.max_bandwidth, srt.mss, srt.payload_size, srt.key_length),
        (Bandwidth::Input, 1400, 1128, 32)
    );
    assert_eq!((srt.connect_timeout.as_secs(), srt.peer_idle_timeout.as_secs()), (4, 8));
    assert_eq!((srt.latency.as_millis(), srt.peer_latency.as_millis()), (300, 200));
    assert_eq!((srt.tsbpd, srt.too_late_drop, srt.sei_filter), (false, false, true));
    assert_eq!((srt.send_buffer.bytes(), srt.receive_buffer.bytes()), (2_000_000, 3_000_000));
    assert_eq!((&*srt.default_app, srt.passphrase.expose()), ("app", "secret-secret"));
    assert_eq!(warnings, [] as [&str; 0]);
    let (config, warnings) =
        load(&text.replace("maxbw 0", "maxbw -1").replace("srt_to_rtmp on", "srt_to_rtmp off"), &[]);
    assert_eq!(config.srt.max_bandwidth, Bandwidth::Unlimited);
    assert_eq!(warnings, ["srs.conf:2: srt.srt_to_rtmp: not done: what comes by SRT is there for all"]);
}

#[test]
fn a_vhost_inherits_nothing_of_the_default_one() {
    let text = "listen 1935; vhost __defaultVhost__ { hls { enabled on; hls_dispose 7; hls_ctx off; hls_path /a; } }\n\
                vhost b { hls { enabled on; hls_window 15; } }";
    let (config, _) = load(text, &[]);
    let (default, b) = (config.vhost("x", "a", "s"), config.vhost("b", "a", "s"));
    assert_eq!((default.hls.dispose.as_secs(), default.hls.sessions), (7, false));
    let ours = Config::default();
    let ours = ours.vhost("x", "a", "s");
    assert_eq!((b.hls.dispose, b.hls.sessions), (ours.hls.dispose, true));
    let html = std::path::Path::new("./objs/nginx/html");
    assert_eq!(b.hls.path.as_deref(), Some(html), "nobody but another server can give it out");
    assert_eq!((b.hls.window.as_secs(), default.hls.window.as_secs()), (15, 60));
}

#[cfg(feature = "relay")]
#[test]
fn edges_and_forwards() {
    let text = "listen 1935;\nvhost __defaultVhost__ { mode remote; origin 1.2.3.4:19350 b; }\nvhost v { cluster { mode remote; \
                origin a; vhost w; protocol flv; token_traverse on; } forward { enabled on; destination x:1 y; backend http://b/; } }\n\
                vhost w { forward { enabled off; destination x:1; } } vhost z { forward 127.0.0.1:1936; }";
    let (config, warnings) = load(text, &[]);
    let vhost = |name: &str| config.vhost(name, "a", "s").clone();
    let urls = |urls: &crate::config::Remotes| urls.iter().map(str::to_owned).collect::<Vec<_>>();
    let edge = vhost("any");
    assert_eq!(urls(&edge.pull.urls), ["1.2.3.4:19350", "b"]);
    assert_eq!(urls(&edge.forward.urls), ["1.2.3.4:19350"]);
    assert!(edge.pull.on_demand && edge.forward.enabled);
    let both = vhost("v");
    assert_eq!(urls(&both.pull.urls), ["rtmp://a/[app]/[stream]?vhost=w"]);
    assert_eq!(urls(&both.forward.urls), ["rtmp://a/[app]/[stream]?vhost=w", "x:1", "y"]);
    assert!(!vhost("w").forward.enabled && vhost("z").forward.enabled);
    assert_eq!(urls(&vhost("z").forward.urls), ["127.0.0.1:1936"]);
    assert_eq!(
        warnings,
        [
            "srs.conf:3: cluster.protocol: not done: streams are fetched by RTMP",
            "srs.conf:3: cluster.token_traverse: not done: the origin is not asked about those who come to the edge",
        ]
    );
}

#[test]
fn what_is_not_done_is_said_with_its_place() {
    let text = "listen 1935;\nrtsp_server { enabled on; }\nrtc_server { enabled off; }\nvhost __defaultVhost__ {\n\
                cluster { mode remote; origin 1.2.3.4; }\nsecurity { enabled on; allow play all; }\nmode remote;\n}";
    let (_, warnings) = load(text, &[]);
    assert_eq!(warnings, ["srs.conf:2: rtsp_server: not done: this version has no RTSP",]);
}

#[test]
fn mistakes() {
    for (text, expected) in [
        ("listen 1935; lissten 5;", "srs.conf:1: lissten: unknown key; did you mean \"listen\"?"),
        (
            "listen 1935;\nvhost a { hls { hls_fragmen 5; } }",
            "srs.conf:2: hls.hls_fragmen: unknown key; did you mean \"hls_fragment\"?",
        ),
        (
            "listen 1935; max_connections many;",
            "srs.conf:1: max_connections: expected a whole number, found \"many\"",
        ),
        ("listen here;", "srs.conf:1: rtmp.listen: expected addresses such as"),
        (
            "listen 1935; is_full on;",
            "srs.conf:1: is_full: this is SRS's reference file (is_full on): it can't be run",
        ),
        ("daemon off;", "srs.conf: listen: expected the RTMP port: listen 1935;"),
    ] {
        assert!(wrong(text).starts_with(expected), "{text}: {}", wrong(text));
    }
}

#[test]
fn the_environment_wins_for_all_vhosts() {
    let text = "listen 1935; vhost __defaultVhost__ { hls { enabled off; } } vhost b { }";
    let env = [
        ("SRS_LISTEN", "1936 1937"),
        ("SRS_VHOST_HLS_ENABLED", "on"),
        ("SRS_VHOST_HLS_HLS_FRAGMENT", "3"),
        ("SRS_LOG_LEVEL_V2", "debug"),
        ("SRS_RTC_SERVER_CANDIDATE", "192.0.2.1"),
        ("SRS_RTC_SERVER_ENABLED", "on"),
        ("SRS_RTSP_SERVER_ENABLED", "on"),
        ("SRS_NO_SUCH", "x"),
        ("RILLBOX_LOG_LEVEL", "error"),
    ];
    let (config, warnings) = load(text, &env);
    assert_eq!(config.rtmp.listen.len(), 2);
    for vhost in ["x", "b"] {
        let hls = &config.vhost(vhost, "a", "s").hls;
        assert!(hls.enabled && hls.segment.as_secs() == 3, "{vhost}");
    }
    assert_eq!(config.log.level, log::LevelFilter::Error, "our own variables win over SRS's");
    assert_eq!(
        warnings,
        [
            "SRS_NO_SUCH: no directive of SRS's has this name, ignored",
            "SRS_RTSP_SERVER_ENABLED: rtsp_server: not done: this version has no RTSP",
        ]
    );
}

#[test]
fn what_is_converted_reads_the_same() {
    let text = "listen 1935; http_server { enabled on; } rtsp_server { enabled on; }\n\
                vhost __defaultVhost__ { hls { enabled on; hls_path '/srv/a \"b\"'; hls_td_ratio 1.5; } }\n\
                vhost a.example { enabled off; http_remux { enabled on; mount [vhost]/[app]/[stream].ts; } }";
    let toml = convert("srs.conf", text, []).unwrap();
    assert!(toml.contains("#   srs.conf:1: rtsp_server: not done: this version has no RTSP\n"), "{toml}");
    let converted = parse("made.toml", &toml, []).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    assert_eq!(converted.config, load(text, &[]).0, "{toml}");
    assert!(converted.warnings.is_empty());
}

/// Files in the manner of those that SRS comes with: what they are here stands beside them, to be read.
#[test]
fn files_as_they_are() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/srs");
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "conf") && !path.ends_with("common.conf"));
    assert!(names.len() > 5);
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        // What is included is looked for beside it.
        let full = path.to_str().unwrap();
        let loaded = parse(full, &text, []).unwrap_or_else(|error| panic!("{error}"));
        let converted = convert(full, &text, []).unwrap().replace(full, name).replace(dir, "");
        let again = parse("made.toml", &converted, []).unwrap_or_else(|error| panic!("{error}\n{converted}"));
        assert!(again.config == loaded.config, "{:?}\n{converted}", loaded.config.differences(&again.config));
        let expected = path.with_extension("toml");
        if std::env::var_os("RILLBOX_BLESS").is_some() {
            std::fs::write(&expected, &converted).unwrap();
        }
        let expected = std::fs::read_to_string(expected).unwrap_or_default();
        assert_eq!(converted, expected, "{name}: RILLBOX_BLESS=1 writes it");
    }
}

#[test]
fn who_may_do_what() {
    let text = "listen 1935; http_server { enabled on; listen 8081; https { enabled on; key k; cert c; } }\n\
                http_api { enabled on; listen 8081; auth { enabled on; username admin; password 'a \"b'; } raw_api { enabled on; } }\n\
                vhost __defaultVhost__ { security { enabled on; deny publish 10.0.0.0/8; allow play all; }\n\
                refer a.example b.example; refer_play c.example; }\n\
                vhost b { refer { enabled off; publish d.example; } }";
    let (config, warnings) = load(text, &[]);
    assert_eq!(warnings, [] as [&str; 0]);
    assert!(config.api.enabled && config.api.auth.enabled && config.api.raw_api.enabled);
    assert_eq!(config.api.auth.password.expose(), "a \"b");
    assert_eq!((&config.api.listen, &config.api.tls_listen), (&config.http.listen, &config.http.tls_listen));
    let access = &config.vhost("x", "a", "s").access;
    let rules: Vec<String> = access.ip_rules.iter().map(ToString::to_string).collect();
    assert_eq!(rules, ["deny publish 10.0.0.0/8", "allow play all"]);
    assert!(access.check_ip && access.check_refer);
    assert_eq!((access.refer_all.len(), &*access.refer_play[0]), (2, "c.example"));
    let b = &config.vhost("b", "a", "s").access;
    assert!(!b.check_ip && !b.check_refer && b.ip_rules.is_empty());
    assert_eq!(b.refer_publish, ["d.example"]);
    let toml = convert("srs.conf", text, []).unwrap();
    assert!(toml.contains("password = \"a \\\"b\"\n"), "{toml}");
    assert_eq!(parse("made.toml", &toml, []).unwrap().config, config);
    assert!(!load("listen 1935; vhost __defaultVhost__ { }", &[]).0.api.enabled);
    let (config, warnings) =
        load("listen 1935; http_api { enabled on; }", &[("SRS_HTTP_API_AUTH_USERNAME", "u")]);
    assert_eq!(config.api.listen.first().unwrap().to_string(), "[::]:1985");
    assert_eq!(config.api.auth.username, "u");
    assert!(warnings[0].contains("answers this machine alone"), "{warnings:?}");
    let wrong =
        wrong("listen 1935;\nvhost __defaultVhost__ { security { enabled on; allow play everyone; } }");
    assert!(
        wrong.starts_with("srs.conf:2: vhost.default.access.ip_rules: expected rules such as"),
        "{wrong}"
    );
}
