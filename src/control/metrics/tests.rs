use super::*;
use crate::hub::Client;
use crate::id::SessionId;

fn metrics(set: impl FnOnce(&mut Config)) -> (Hub, Metrics) {
    let mut config = Config::default();
    set(&mut config);
    let config = config::Shared::new(config);
    let hub = Hub::new(config.clone());
    let metrics = Metrics::new(
        hub.clone(),
        config.clone(),
        #[cfg(feature = "access")]
        crate::access::Access::new(config),
        #[cfg(feature = "hooks")]
        Arc::default(),
    );
    hub.set_gates(vec![metrics.gate()]);
    (hub, metrics)
}

fn publisher(hub: &Hub, stream: &str) -> crate::hub::Publisher {
    let name = StreamName::new("__defaultVhost__", "live", stream).unwrap();
    let client = Client::new(SessionId::next(), ClientKind::FmlePublish, "192.0.2.1:5000".parse().unwrap());
    hub.publish_now(&name, client, Instant::now()).unwrap()
}

/// The value of a sample.
fn value(page: &str, sample: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn srs_ten_come_first_in_its_order() {
    let (hub, metrics) = metrics(|config| {
        config.metrics.label = "cn\"1".to_owned();
        config.metrics.tag = "a".to_owned();
    });
    let _publisher = publisher(&hub, "a");
    let page = metrics.page(false, Instant::now());
    let families: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let expected = [
        "srs_node_uname_info gauge",
        "srs_build_info gauge",
        "srs_cpu_percent gauge",
        "srs_memory gauge",
        "srs_send_bytes_total counter",
        "srs_receive_bytes_total counter",
        "srs_streams gauge",
        "srs_clients gauge",
        "srs_clients_total counter",
        "srs_clients_errs_total counter",
    ];
    assert_eq!(families.get(..10).unwrap(), expected);
    for (sample, expected) in [
        ("srs_streams", 1.0),
        ("srs_clients", 1.0),
        ("srs_clients_total", 1.0),
        ("srs_clients_errs_total", 0.0),
    ] {
        assert_eq!(value(&page, sample), Some(expected), "{sample}");
    }
    assert!(value(&page, "srs_memory").unwrap() > 1000.0);
    let line = |name: &str| page.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let names = |line: &str| -> Vec<String> {
        let inside = line.split_once('{').unwrap().1;
        inside.split("\",").map(|pair| pair.split('=').next().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names(&line("srs_node_uname_info{")),
        ["sysname", "nodename", "release", "version", "machine"]
    );
    assert_eq!(
        names(&line("srs_build_info{")),
        ["server", "service", "pid", "build_date", "major", "version", "code", "label", "tag"]
    );
    assert!(line("srs_build_info{").ends_with("label=\"cn\\\"1\",tag=\"a\"} 1"));
}

#[test]
fn streams_beyond_the_limit_are_one_and_their_counters_never_fall() {
    let (hub, metrics) = metrics(|config| {
        config.metrics.max_streams = 2;
        config.vhost.set_default(|vhost| {
            vhost.grace = Duration::ZERO;
            vhost.idle_timeout = Duration::ZERO;
        });
    });
    let published = "rillbox_stream_published{vhost=\"__defaultVhost__\",app=\"live\",stream=\"";
    let others = "{vhost=\"other\",app=\"other\",stream=\"other\"}";
    let _kept = [publisher(&hub, "a"), publisher(&hub, "b")];
    let page = metrics.page(false, Instant::now());
    assert_eq!(value(&page, &format!("{published}b\"}}")), Some(1.0));
    assert!(!page.contains(others), "there are no others yet");
    let mut later = vec![publisher(&hub, "c"), publisher(&hub, "d")];
    let dropped = || {
        value(&metrics.page(false, Instant::now()), &format!("rillbox_stream_frames_dropped_total{others}"))
    };
    for publisher in &mut later {
        // Of a track that nobody has announced.
        publisher.frame(frame(), Instant::now()).unwrap();
    }
    let page = metrics.page(false, Instant::now());
    assert_eq!(value(&page, &format!("rillbox_stream_published{others}")), Some(2.0));
    assert!(!page.contains(&format!("{published}c\"}}")));
    assert_eq!(dropped(), Some(2.0));
    drop(later);
    for seconds in 1..100 {
        hub.tick(Instant::now() + Duration::from_secs(seconds));
    }
    let page = metrics.page(false, Instant::now());
    assert_eq!(value(&page, &format!("rillbox_stream_published{others}")), Some(0.0));
    assert_eq!(dropped(), Some(2.0), "what has gone was there");
}

fn frame() -> crate::media::Frame {
    crate::media::Frame {
        track: crate::media::TrackId(7),
        flags: crate::media::Flags::KEY,
        dts: 0,
        cts: 0,
        wall_ms: None,
        data: bytes::Bytes::from_static(&[0; 10]),
    }
}

#[test]
fn sessions_that_end_are_counted_by_how_long_they_were() {
    let (hub, metrics) = metrics(|_| {});
    drop(publisher(&hub, "a"));
    let _there = publisher(&hub, "b");
    let page = metrics.page(false, Instant::now());
    let labels = "{protocol=\"fmle-publish\"}";
    assert_eq!(value(&page, &format!("rillbox_sessions{labels}")), Some(1.0));
    assert_eq!(value(&page, &format!("rillbox_session_duration_seconds_count{labels}")), Some(1.0));
    let bucket = "rillbox_session_duration_seconds_bucket{protocol=\"fmle-publish\",le=\"1.0\"}";
    assert_eq!(value(&page, bucket), Some(1.0));
}

#[test]
fn a_page_is_bounded_whatever_streams_are_called() {
    let (hub, metrics) = metrics(|config| {
        config.metrics.max_streams = 100_000;
        config.server.max_streams = 100_000;
    });
    let _short: Vec<_> = (0..1000).map(|n| publisher(&hub, &format!("camera-{n}"))).collect();
    let begun = Instant::now();
    let page = metrics.page(false, begun);
    eprintln!("1000 streams: {} bytes in {:?}", page.len(), begun.elapsed());
    let long = "\u{7fff}".repeat(60);
    let publishers: Vec<_> = (0..3000).map(|n| publisher(&hub, &format!("{long}{n}"))).collect();
    let begun = Instant::now();
    let page = metrics.page(false, begun);
    eprintln!("{} streams: {} bytes in {:?}", publishers.len(), page.len(), begun.elapsed());
    assert!((4 << 20..=9 << 20).contains(&page.len()), "{}", page.len());
    assert!(page.contains("stream=\"other\""));
}

/// Each family stands in one piece, is announced once, and what the dashboard shows is there.
#[test]
fn the_page_is_what_its_readers_want() {
    let (hub, metrics) = metrics(|_| {});
    let _publisher = publisher(&hub, "a");
    for open_metrics in [false, true] {
        let page = metrics.page(open_metrics, Instant::now());
        let mut seen = std::collections::HashSet::new();
        let mut family = String::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap().to_owned();
                assert!(seen.insert(family.clone()), "{family} stands there twice");
                assert!(rest.ends_with('.'), "{rest}");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&family), "{line} is not of {family}");
                assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert_eq!(page.ends_with("\n# EOF\n"), open_metrics);
        assert_eq!(page.contains("# TYPE srs_send_bytes counter"), open_metrics);
    }
    let page = metrics.page(false, Instant::now());
    let dashboard = include_str!("../../../conf/grafana.json");
    let mut names: Vec<&str> = dashboard
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| ["rillbox_", "srs_", "process_"].iter().any(|start| word.starts_with(start)))
        .collect();
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 20, "{names:?}");
    for name in names.into_iter().filter(|name| cfg!(feature = "hooks") || !name.contains("callback")) {
        let stem = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
        assert!(page.contains(&format!("# TYPE {stem} ")), "the dashboard shows {name}, which is not there");
    }
}
