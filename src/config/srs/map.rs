//! From SRS's directives to our keys.

use super::parse::Directive;
use super::rules::{As, MOVED, MOVED_RTC, Rule, TOP, VHOST};
use crate::config::item::{Item, Kind, Place, Problems};

/// SRS's name for the vhost of all streams that name no other.
const DEFAULT_VHOST: &str = "__defaultVhost__";

/// Where SRS puts files, and serves them from, unless it is told.
const HTML: &str = "./objs/nginx/html";

/// Where SRS writes its log unless it is told.
const LOG_FILE: &str = "./objs/srs.log";

/// What a block of a vhost of SRS's is unless it says otherwise, where ours is something else; with the block's name, "" for
/// what always holds.
const DEFAULTS: &[(&str, &str, Default)] = &[
    ("", "enabled", Default::On(true)),
    ("", "dash.enabled", Default::On(false)),
    ("", "hls.enabled", Default::On(false)),
    ("", "http_live.enabled", Default::On(false)),
    #[cfg(feature = "srt")]
    ("", "srt.enabled", Default::On(false)),
    #[cfg(feature = "webrtc")]
    ("", "webrtc.enabled", Default::On(false)),
    ("dash", "dash.on_demand", Default::On(false)),
    ("dash", "dash.segment", Default::Text("10s")),
    ("dash", "dash.timeshift", Default::Text("300s")),
    ("dash", "dash.window_size", Default::Number(5)),
    // SRS deletes no recordings.
    ("dvr", "record.min_free", Default::Text("0%")),
    // SRS never says that a stream has ended.
    ("hls", "hls.endlist", Default::On(false)),
    // SRS keeps segments on its disk: six of ten seconds, of whatever bitrate. server.segment_memory bounds them all.
    ("hls", "hls.memory", Default::Text("256MiB")),
    ("hls", "hls.segment", Default::Text("10s")),
    ("hls", "hls.variant", Default::Text("ts")),
    ("hls", "hls.window", Default::Text("60s")),
    ("http_remux", "http_live.wait", Default::Text("forever")),
    #[cfg(feature = "webrtc")]
    ("rtc", "webrtc.from_others", Default::On(false)),
    #[cfg(feature = "webrtc")]
    ("rtc", "webrtc.to_others", Default::On(false)),
    // SRS lets players in before there is a publisher.
    #[cfg(feature = "webrtc")]
    ("rtc", "webrtc.wait", Default::Text("forever")),
];

/// The same outside of vhosts.
const TOP_DEFAULTS: &[(&str, Default)] = &[
    // SRS serves HTTP only where it is told to.
    ("api.enabled", Default::On(false)),
    ("metrics.enabled", Default::On(false)),
    ("http.enabled", Default::On(false)),
    #[cfg(feature = "srt")]
    ("srt.enabled", Default::On(false)),
    #[cfg(feature = "webrtc")]
    ("webrtc.enabled", Default::On(false)),
    ("server.max_connections", Default::Number(1000)),
];

#[derive(Clone, Copy)]
enum Default {
    Number(i64),
    On(bool),
    Text(&'static str),
}

impl Default {
    fn kind(self) -> Kind {
        match self {
            Self::Number(number) => Kind::Int(number),
            Self::On(on) => Kind::Bool(on),
            Self::Text(text) => Kind::Text(text.to_owned()),
        }
    }
}

/// The configuration that the directives describe; what is wrong, has no place or needs none is noted.
pub(super) fn map(directives: &[Directive], said: Said<'_>) -> Item {
    let root = Item { place: Place::Unknown, kind: Kind::Table(Vec::new()) };
    let mut mapper = Mapper { root, dir: String::new(), serves: false, utc: false, said };
    mapper.top(directives);
    mapper.root
}

/// What there is to say of an import.
pub(in crate::config) struct Said<'a> {
    /// Mistakes.
    pub problems: &'a mut Problems,
    /// What is not done.
    pub warnings: &'a mut Problems,
    /// What needs no key.
    pub notes: &'a mut Problems,
}

struct Mapper<'a> {
    root: Item,
    /// What relative paths start from.
    dir: String,
    /// Whether HTTP is served.
    serves: bool,
    /// Whether names of files are to have times of UTC.
    utc: bool,
    said: Said<'a>,
}

/// A section of our configuration: the whole, or one vhost.
#[derive(Clone, Copy)]
struct Section<'a>(Option<&'a str>);

impl Mapper<'_> {
    fn top(&mut self, directives: &[Directive]) {
        let find = |name: &str| directives.iter().find(|directive| directive.name == name);
        if let Some(dir) = find("work_dir").filter(|d| !matches!(d.arg(), "" | "." | "./")) {
            self.dir = dir.arg().to_owned();
        }
        self.utc = find("utc_time").is_some_and(|d| d.arg() == "on");
        let here = Section(None);
        for (key, value) in TOP_DEFAULTS {
            self.set(here, key, Place::Unknown, value.kind());
        }
        self.log(directives);
        self.block(here, "", directives, TOP);
        // Behind a balancer all come from one address, and SRS doesn't mind.
        if let Some(most) = self.root.find(&["server", "max_connections"]).cloned() {
            self.set(here, "server.max_connections_per_ip", most.place, most.kind);
        }
        match find("listen").filter(|listen| !listen.arg().is_empty()) {
            Some(listen) => self.addresses("rtmp.listen", listen),
            None => {
                let place = find("listen").map_or(Place::Unknown, |listen| listen.place.clone());
                self.said.problems.add_at(&place, "listen", "expected the RTMP port: listen 1935;".into());
            }
        }
        if let Some(pid) = find("pid") {
            let path = self.path(pid.arg());
            match has_folder(&path) {
                true => self.set(here, "server.pid_file", pid.place.clone(), Kind::Text(path)),
                false => self.lacks(pid, "pid", &format!("{path} has no folder to be in")),
            }
        }
        if let Some(server) = find("http_server").filter(|server| is_on(server)) {
            self.http_server(server);
        }
        // SRS watches the file of a container unless it is told not to.
        let watched = find("auto_reload_for_docker").is_none_or(|d| d.arg() != "off");
        if let Some(docker) = find("in_docker").filter(|d| d.arg() == "on" && watched) {
            self.set(here, "server.watch_config", docker.place.clone(), Kind::Bool(true));
        }
        if let Some(api) = find("http_api").filter(|api| is_on(api)) {
            self.http_api(api, find("http_server").filter(|server| is_on(server)));
        }
        if let Some(exporter) = find("exporter").filter(|exporter| is_on(exporter)) {
            let default = Directive::new("listen", "9972", exporter.place.clone());
            self.addresses("metrics.listen", exporter.find("listen").unwrap_or(&default));
            // As it was for SRS, which asks nobody who they are.
            self.set(here, "metrics.anonymous", exporter.place.clone(), Kind::Bool(true));
        }
        if let Some(srt) = find("srt_server").filter(|srt| is_on(srt)) {
            self.srt(srt);
        }
        if let Some(rtc) = find("rtc_server").filter(|rtc| is_on(rtc)) {
            self.rtc(rtc);
        }
        if let Some(full) = find("is_full").filter(|d| d.arg() == "on") {
            let text = "this is SRS's reference file (is_full on): it can't be run";
            self.said.problems.add_at(&full.place, "is_full", text.to_owned());
        }
        let vhosts: Vec<&Directive> = directives.iter().filter(|d| d.name == "vhost").collect();
        self.vhosts(&vhosts);
        if self.root.find(&["rtmp", "publish_timeout"]).is_none() {
            self.set(here, "rtmp.publish_timeout", Place::Unknown, Kind::Text("5s".to_owned()));
        }
    }

    fn http_server(&mut self, server: &Directive) {
        self.serves = true;
        if let Some(listen) = server.find("listen") {
            self.addresses("http.listen", listen);
        }
        if let Some(https) = server.find("https").filter(|https| is_on(https)) {
            self.https(https, "http.tls_listen", "8088");
        }
        let dir = server.find("dir");
        let path = self.path(dir.map_or(HTML, Directive::arg));
        if std::path::Path::new(&path).is_dir() {
            let place = dir.map_or(Place::Unknown, |dir| dir.place.clone());
            self.set(Section(None), "http.root", place, Kind::Text(path));
        } else if let Some(dir) = dir {
            self.lacks(
                dir,
                "http_server.dir",
                &format!("{path} is no directory, so that no files are served"),
            );
        }
    }

    fn http_api(&mut self, api: &Directive, server: Option<&Directive>) {
        let listen = api
            .find("listen")
            .cloned()
            .unwrap_or_else(|| Directive::new("listen", "1985", api.place.clone()));
        self.addresses("api.listen", &listen);
        let port = server.map(|server| server.find("listen").map_or("8080", Directive::arg));
        let https = |block: &Directive| block.find("https").filter(|https| is_on(https)).cloned();
        if port == Some(listen.arg()) {
            // On the same port it shares the other's certificate, too.
            if server.and_then(https).is_some()
                && let Some(shared) = self.root.find(&["http", "tls_listen"]).cloned()
            {
                self.set(Section(None), "api.tls_listen", shared.place, shared.kind);
            }
        } else if let Some(https) = https(api) {
            self.https(&https, "api.tls_listen", "1990");
        }
        if !api.find("auth").is_some_and(is_on) {
            let text = "not done: without a password (http_api.auth, or [access]) the API answers this machine alone";
            self.said.warnings.add_at(&api.place, "http_api", text.to_owned());
        }
    }

    fn srt(&mut self, srt: &Directive) {
        let here = Section(None);
        if let Some(listen) = srt.find("listen") {
            self.addresses("srt.listen", listen);
        }
        if srt.find("sei_filter").is_none() {
            self.set(here, "srt.sei_filter", srt.place.clone(), Kind::Bool(true));
        }
        // As libsrt's options: one for both directions, and one for each that wins over it.
        for (name, key) in [("recvlatency", "srt.latency"), ("peerlatency", "srt.peer_latency")] {
            if let Some(latency) = srt.find(name).or_else(|| srt.find("latency"))
                && let Some(kind) = self.value(latency, &format!("srt_server.{}", latency.name), As::Millis)
            {
                self.set(here, key, latency.place.clone(), kind);
            }
        }
        if let Some(maxbw) = srt.find("maxbw")
            && let Some(kind) = self.value(maxbw, "srt_server.maxbw", As::Number)
        {
            let kind = match kind {
                Kind::Int(..0) => Kind::Text("unlimited".to_owned()),
                Kind::Int(0) => Kind::Text("input".to_owned()),
                kind => kind,
            };
            self.set(here, "srt.max_bandwidth", maxbw.place.clone(), kind);
        }
    }

    fn rtc(&mut self, rtc: &Directive) {
        let here = Section(None);
        if let Some(listen) = rtc.find("listen") {
            self.addresses("webrtc.listen", listen);
        }
        match rtc.find("tcp").filter(|tcp| is_on(tcp)) {
            Some(tcp) => {
                if let Some(listen) = tcp.find("listen") {
                    self.addresses("webrtc.tcp_listen", listen);
                }
            }
            None => self.set(here, "webrtc.tcp_listen", rtc.place.clone(), Kind::List(Vec::new())),
        }
        for (name, key, value) in
            [("ip_family", "webrtc.ip_family", "ipv4"), ("protocol", "webrtc.transports", "udp")]
        {
            if rtc.find(name).is_none() {
                self.set(here, key, rtc.place.clone(), Kind::Text(value.to_owned()));
            }
        }
    }

    fn vhosts(&mut self, vhosts: &[&Directive]) {
        let is_default = |vhost: &Directive| vhost.arg() == DEFAULT_VHOST;
        if !vhosts.iter().any(|vhost| is_default(vhost)) {
            // SRS refuses streams of a vhost that it doesn't know.
            self.set(Section(Some("default")), "enabled", Place::Unknown, Kind::Bool(false));
        }
        let mut seen: Vec<String> = Vec::new();
        // The default one first: a key of the whole server is taken from the first that sets it.
        let (first, rest): (Vec<_>, Vec<_>) = vhosts.iter().copied().partition(|vhost| is_default(vhost));
        for vhost in first.iter().chain(&rest) {
            let name = vhost.arg().to_ascii_lowercase();
            let wrong = match &*name {
                "" => "expected a name: vhost NAME { … }".to_owned(),
                "default" => "a vhost can't be called \"default\" here".to_owned(),
                name if seen.iter().any(|other| other == name) => format!("there is a vhost {name} already"),
                _ => String::new(),
            };
            if !wrong.is_empty() {
                self.said.problems.add_at(&vhost.place, "vhost", wrong);
                continue;
            }
            let section = Section(Some(if is_default(vhost) { "default" } else { &name }));
            let block = modern_rtc(moved(&vhost.block, MOVED));
            for (of, key, value) in DEFAULTS {
                let there = of.is_empty() || block.iter().any(|d| d.name == *of && is_on(d));
                if there {
                    self.set(section, key, vhost.place.clone(), value.kind());
                }
            }
            self.block(section, "", &block, VHOST);
            self.vhost(section, &block);
            seen.push(name);
        }
        self.no_inheritance();
    }

    /// What more than one key makes of a vhost.
    fn vhost(&mut self, section: Section<'_>, block: &[Directive]) {
        let find = |name: &str| block.iter().find(|directive| directive.name == name);
        let on = |name: &str| find(name).filter(|block| is_on(block));
        if let Some(hls) = on("hls") {
            self.hls(section, hls);
        }
        if let Some(dash) = on("dash").filter(|dash| dash.find("dash_path").is_none() && !self.serves) {
            let path = self.path(HTML);
            self.set(section, "dash.path", dash.place.clone(), Kind::Text(path));
        }
        if let Some(dvr) = on("dvr") {
            self.dvr(section, dvr);
        }
        if let Some(remux) = on("http_remux") {
            self.mount(section, remux);
        }
        if let Some(low) = find("min_latency").filter(|d| d.arg() == "on")
            && find("play").and_then(|play| play.find("mw_latency")).is_none()
        {
            self.whole(low, "delivery.merge_window", Kind::Text("0ms".to_owned()));
        }
        if let Some(files) = on("http_static") {
            let mounted = files.find("mount").map_or("[vhost]/", Directive::arg);
            let dir = files.find("dir").filter(|_| matches!(mounted, "[vhost]/" | "[vhost]" | "/"));
            match dir.map(|dir| (dir, self.path(dir.arg()))) {
                Some((dir, path)) if std::path::Path::new(&path).is_dir() => {
                    self.whole(dir, "http.root", Kind::Text(path));
                }
                Some((dir, path)) => {
                    self.lacks(
                        dir,
                        "http_static.dir",
                        &format!("{path} is no directory, so that no files are served"),
                    );
                }
                None => self.lacks(files, "http_static", "files are served from http_server.dir alone, at /"),
            }
        }
        if let Some(security) = on("security") {
            let rule = |rule: &Directive| format!("{} {}", rule.name, rule.args.join(" "));
            let rules = security.block.iter().filter(|rule| rule.name != "enabled").map(rule);
            self.set(section, "access.ip_rules", security.place.clone(), list(security, rules));
        }
        if let Some(cluster) = find("cluster") {
            if let Some(mode) = cluster.find("mode").filter(|d| d.arg() == "remote") {
                let forward = on("forward").and_then(|forward| forward.find("destination"));
                self.edge(section, cluster, mode, forward);
            }
            if let Some(cluster) = cluster.find("origin_cluster").filter(|d| d.arg() == "on") {
                self.lacks(cluster, "cluster.origin_cluster", "this version is in no cluster");
            }
        }
    }

    /// An edge fetches what is played there, and brings its origin what is published there.
    fn edge(
        &mut self,
        section: Section<'_>,
        cluster: &Directive,
        mode: &Directive,
        forward: Option<&Directive>,
    ) {
        if !cfg!(feature = "relay") {
            return self.lacks(mode, "cluster.mode", "this build is no edge (Cargo feature \"relay\")");
        }
        let Some(origin) = cluster.find("origin") else {
            return self.said.warnings.add_at(&mode.place, "cluster.mode", "there is no origin".to_owned());
        };
        if let Some(other) = cluster.find("protocol").filter(|d| d.arg() != "rtmp") {
            self.lacks(other, "cluster.protocol", "streams are fetched by RTMP");
        }
        if let Some(tokens) = cluster.find("token_traverse").filter(|d| d.arg() == "on") {
            self.lacks(
                tokens,
                "cluster.token_traverse",
                "the origin is not asked about those who come to the edge",
            );
        }
        let url = |server: &String| match cluster.find("vhost").map(Directive::arg) {
            Some(vhost) if vhost != "[vhost]" => format!("rtmp://{server}/[app]/[stream]?vhost={vhost}"),
            _ => server.clone(),
        };
        let place = &origin.place;
        self.set(section, "pull.urls", place.clone(), list(origin, origin.args.iter().map(url)));
        self.set(section, "pull.on_demand", place.clone(), Kind::Bool(true));
        // Beside those that are forwarded to anyway.
        let mut there: Vec<String> = origin.args.iter().take(1).map(url).collect();
        if let Some(forward) = forward {
            there.extend(forward.args.iter().cloned());
        }
        self.set(section, "forward.urls", place.clone(), list(origin, there.into_iter()));
    }

    fn hls(&mut self, section: Section<'_>, hls: &Directive) {
        for (name, none, key) in [("hls_acodec", "an", "hls.audio"), ("hls_vcodec", "vn", "hls.video")] {
            if let Some(codec) = hls.find(name).filter(|d| d.arg() == none) {
                self.set(section, key, codec.place.clone(), Kind::Bool(false));
            }
        }
        if let Some(fmp4) = hls.find("hls_use_fmp4").filter(|d| d.arg() == "on") {
            self.set(section, "hls.variant", fmp4.place.clone(), Kind::Text("fmp4".into()));
        }
        // What viewers get from us can stay in memory; another server needs files.
        let path = match hls.find("hls_path") {
            Some(path) => Some(self.path(path.arg())),
            None => (!self.serves).then(|| self.path(HTML)),
        };
        if let Some(path) = &path {
            self.set(section, "hls.path", hls.place.clone(), Kind::Text(path.clone()));
        }
        // SRS: any word but "off".
        if let Some(keys) = hls.find("hls_keys").filter(|d| d.arg() != "off") {
            self.set(section, "hls.encryption", keys.place.clone(), Kind::Text("aes-128".into()));
            if let Some(path) = path.filter(|_| hls.find("hls_key_file_path").is_none()) {
                self.set(section, "hls.key_path", keys.place.clone(), Kind::Text(path));
            }
        }
        if let Some(name) = hls.find("hls_ts_file") {
            self.local_time(name, "hls.hls_ts_file");
        }
    }

    fn dvr(&mut self, section: Section<'_>, dvr: &Directive) {
        let (path, place) = match dvr.find("dvr_path") {
            Some(path) => (path.arg().to_owned(), &path.place),
            None => (format!("{HTML}/[app]/[stream].[timestamp].flv"), &dvr.place),
        };
        let format = if path.ends_with(".mp4") { "mp4" } else { "flv" };
        // SRS takes what has no file name for a directory.
        let whole = path.ends_with(".mp4") || path.ends_with(".flv");
        let path = self.path(&if whole || path.ends_with('/') { path } else { format!("{path}/") });
        self.set(section, "record.path", place.clone(), Kind::Text(path));
        self.set(section, "record.format", place.clone(), Kind::Text(format.to_owned()));
        if let Some(path) = dvr.find("dvr_path") {
            self.local_time(path, "dvr.dvr_path");
        }
        if let Some(apply) = dvr.find("dvr_apply").filter(|apply| !apply.args.iter().any(|arg| arg == "all"))
        {
            self.set(section, "record.streams", apply.place.clone(), list(apply, apply.args.iter().cloned()));
        }
    }

    /// SRS's names of files have the time of day where it runs, unless it is told otherwise.
    fn local_time(&mut self, name: &Directive, path: &str) {
        let has_time = ["[2006]", "[01]", "[02]", "[15]"].iter().any(|word| name.arg().contains(word));
        if has_time && !self.utc {
            self.lacks(name, path, "times in names of files are UTC, as with utc_time on");
        }
    }

    /// `[vhost]/[app]/[stream].flv`: its ending says which of the live forms there is.
    fn mount(&mut self, section: Section<'_>, remux: &Directive) {
        const FORMS: [&str; 4] = ["flv", "ts", "aac", "mp3"];
        let (mount, place) = match remux.find("mount") {
            Some(mount) => (mount.arg(), &mount.place),
            None => ("[vhost]/[app]/[stream].flv", &remux.place),
        };
        let form = mount.trim_start_matches('/').strip_prefix("[vhost]/[app]/[stream].");
        match form.filter(|form| FORMS.contains(form)) {
            Some(form) => {
                for other in FORMS {
                    self.set(
                        section,
                        &format!("http_live.{other}"),
                        place.clone(),
                        Kind::Bool(other == form),
                    );
                }
            }
            None => {
                let text = format!("streams are at /app/stream.flv (or .ts, .aac, .mp3), not at {mount:?}");
                self.said.warnings.add_at(place, "http_remux.mount", text);
            }
        }
    }

    /// A listener with TLS, and the certificate that there is one of.
    fn https(&mut self, https: &Directive, key: &'static str, port: &str) {
        match https.find("listen") {
            Some(listen) => self.addresses(key, listen),
            None => self.addresses(key, &Directive::new("listen", port, https.place.clone())),
        }
        for (name, default, key) in
            [("key", "./conf/server.key", "tls.key"), ("cert", "./conf/server.crt", "tls.cert")]
        {
            let default = Directive::new(name, default, https.place.clone());
            let said = https.find(name).unwrap_or(&default);
            let path = self.path(said.arg());
            self.whole(said, key, Kind::Text(path));
        }
    }

    fn log(&mut self, directives: &[Directive]) {
        let find = |name: &str| directives.iter().find(|directive| directive.name == name);
        let (tank, file) = (find("srs_log_tank"), find("srs_log_file"));
        if let Some(said) = tank.or(file).filter(|_| tank.is_none_or(|tank| tank.arg() != "console")) {
            let path = self.path(file.map_or(LOG_FILE, Directive::arg));
            match has_folder(&path) {
                true => self.set(Section(None), "log.target", said.place.clone(), Kind::Text(path)),
                false => {
                    let why =
                        format!("{path} has no folder to be in, so that the log goes to standard error");
                    self.lacks(said, "srs_log_file", &why);
                }
            }
        }
        let (newer, older) =
            (find("srs_log_level_v2").filter(|d| !d.arg().is_empty()), find("srs_log_level"));
        if let Some(said) = newer.or(older) {
            let level = match (newer.is_some(), said.arg()) {
                (false, "verbose") => "trace",
                (false, "info") => "debug",
                (false, "trace") => "info",
                (_, level) => level,
            };
            self.set(Section(None), "log.level", said.place.clone(), Kind::Text(level.to_ascii_lowercase()));
        }
    }

    /// Maps the directives of a block by their rules.
    fn block(
        &mut self,
        section: Section<'_>,
        path: &str,
        block: &[Directive],
        rules: &'static [(&'static str, Rule)],
    ) {
        let mut seen: Vec<&'static str> = Vec::new();
        for directive in block {
            let full = crate::config::keys::join(path, &directive.name);
            let Some((known, rule)) = rules.iter().find(|(known, _)| *known == full) else {
                let names: Vec<&str> = rules.iter().filter_map(|(known, _)| within(known, path)).collect();
                let item = Item { place: directive.place.clone(), kind: Kind::Bool(true) };
                self.said.problems.add_unknown(&item, &full, &directive.name, &names);
                continue;
            };
            // Of several, SRS takes the first.
            if seen.contains(known) {
                continue;
            }
            match *rule {
                Rule::Block => {
                    seen.push(known);
                    self.block(section, known, &directive.block, rules);
                }
                Rule::Key(key, form) => {
                    seen.push(known);
                    if let Some(kind) = self.value(directive, known, form) {
                        self.set(section, key, directive.place.clone(), kind);
                    }
                }
                Rule::Whole(key, form) => {
                    seen.push(known);
                    if let Some(kind) = self.value(directive, known, form) {
                        self.whole(directive, key, kind);
                    }
                }
                Rule::Lacks(why) if is_on(directive) => self.lacks(directive, known, why),
                Rule::Unlike(usual, why) if directive.arg() != usual => self.lacks(directive, known, why),
                Rule::Moot(why) => self.said.notes.add_at(&directive.place, known, why.to_owned()),
                Rule::Lacks(_) => {
                    self.said.notes.add_at(&directive.place, known, "it is switched off".to_owned());
                }
                Rule::Unlike(..) => {
                    self.said.notes.add_at(&directive.place, known, "so it is here".to_owned());
                }
                Rule::Own => {}
            }
        }
    }

    /// The value of a directive, in the form of ours.
    fn value(&mut self, directive: &Directive, path: &str, form: As) -> Option<Kind> {
        let arg = directive.arg();
        let wrong = |mapper: &mut Self, expected: &str| {
            let text = format!("expected {expected}, found {:?}", directive.args.join(" "));
            mapper.said.problems.add_at(&directive.place, path, text);
            None
        };
        Some(match form {
            As::On => Kind::Bool(arg == "on"),
            As::NotOff => Kind::Bool(arg != "off"),
            As::Not => Kind::Bool(arg == "off"),
            As::Text => Kind::Text(arg.to_owned()),
            As::List => list(directive, directive.args.iter().cloned()),
            As::Path => Kind::Text(self.path(arg)),
            As::Number => match arg.parse() {
                Ok(number) => Kind::Int(number),
                Err(_) => return wrong(self, "a whole number"),
            },
            As::Millis => match arg.parse::<u32>() {
                Ok(ms) => Kind::Text(format!("{ms}ms")),
                Err(_) => return wrong(self, "milliseconds"),
            },
            As::Seconds => match thousandths(arg) {
                Some(ms) => Kind::Text(format!("{ms}ms")),
                None => return wrong(self, "seconds"),
            },
            As::Ratio => match thousandths(arg) {
                Some(n) => Kind::Other(format!("{}.{:03}", n / 1000, n % 1000)),
                None => return wrong(self, "a factor such as 2.1"),
            },
        })
    }

    /// A key of the whole server: the first vhost's value holds.
    fn whole(&mut self, directive: &Directive, key: &'static str, value: Kind) {
        let path: Vec<&str> = key.split('.').collect();
        match self.root.find(&path) {
            None => self.set(Section(None), key, directive.place.clone(), value),
            Some(set) if set.kind == value => {}
            Some(_) => {
                let text = format!("{key} is one for all vhosts, and was set before: this is ignored");
                self.said.warnings.add_at(&directive.place, &directive.name, text);
            }
        }
    }

    fn addresses(&mut self, key: &str, directive: &Directive) {
        let all = list(directive, listeners(&directive.args).into_iter());
        self.set(Section(None), key, directive.place.clone(), all);
    }

    fn lacks(&mut self, directive: &Directive, path: &str, why: &str) {
        self.said.warnings.add_at(&directive.place, path, format!("not done: {why}"));
    }

    fn set(&mut self, section: Section<'_>, key: &str, place: Place, kind: Kind) {
        let vhost = section.0.map(|name| ["vhost", name]);
        let path: Vec<&str> = vhost.iter().flatten().copied().chain(key.split('.')).collect();
        self.root.set(&path, Item { place, kind });
    }

    /// A path as seen from `work_dir`.
    fn path(&self, path: &str) -> String {
        if self.dir.is_empty() || path.is_empty() || path.starts_with('/') {
            return path.to_owned();
        }
        format!("{}/{path}", self.dir.trim_end_matches('/'))
    }

    /// Sets in each other vhost what the default one sets and SRS would not let them inherit.
    fn no_inheritance(&mut self) {
        let Some(Item { kind: Kind::Table(vhosts), .. }) = self.root.find(&["vhost"]) else { return };
        let Some(default) = vhosts.iter().find(|(name, _)| name == "default").map(|(_, item)| item) else {
            return;
        };
        let ours = crate::config::load::defaults();
        let mut missing = Vec::new();
        for (name, vhost) in vhosts.iter().filter(|(name, _)| name != "default") {
            for path in leaves(default, "") {
                let path: Vec<&str> = path.split('.').collect();
                if vhost.find(&path).is_none() {
                    let of_default: Vec<&str> =
                        ["vhost", "default"].into_iter().chain(path.iter().copied()).collect();
                    if let Some(value) = ours.find(&of_default) {
                        missing.push((name.clone(), path.join("."), vhost.place.clone(), value.kind.clone()));
                    }
                }
            }
        }
        for (name, key, place, kind) in missing {
            self.set(Section(Some(&name)), &key, place, kind);
        }
    }
}

/// Texts that stand in a directive.
fn list(directive: &Directive, texts: impl Iterator<Item = String>) -> Kind {
    Kind::List(texts.map(|text| Item { place: directive.place.clone(), kind: Kind::Text(text) }).collect())
}

/// The name of the directive at `full` if it stands in the block at `path`.
fn within<'a>(full: &'a str, path: &str) -> Option<&'a str> {
    let name = if path.is_empty() { full } else { full.strip_prefix(path)?.strip_prefix('.')? };
    (!name.contains('.')).then_some(name)
}

/// Whether the folder of a file is there.
fn has_folder(path: &str) -> bool {
    let folder = std::path::Path::new(path).parent();
    folder.is_some_and(|folder| folder.as_os_str().is_empty() || folder.is_dir())
}

/// Paths of all values in a table.
fn leaves(item: &Item, path: &str) -> Vec<String> {
    match &item.kind {
        Kind::Table(entries) => entries
            .iter()
            .flat_map(|(name, item)| {
                leaves(item, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") })
            })
            .collect(),
        _ => vec![path.to_owned()],
    }
}

/// The directives of a block with those of older releases where they belong now.
pub(super) fn moved(block: &[Directive], moves: &[(&str, &str)]) -> Vec<Directive> {
    let mut now: Vec<Directive> = Vec::new();
    let mut late = Vec::new();
    for directive in block {
        // `refer a.example;` is old, `refer { … }` is new.
        let old = directive.block.is_empty()
            || !(directive.name.starts_with("refer") || directive.name == "forward");
        match moves.iter().find(|(from, _)| old && *from == directive.name) {
            Some((_, to)) => late.push((directive.clone(), *to)),
            None => now.push(directive.clone()),
        }
    }
    for (mut directive, to) in late {
        let Some((outer, name)) = to.split_once('.') else {
            directive.name = to.to_owned();
            now.push(directive);
            continue;
        };
        let place = directive.place.clone();
        directive.name = name.to_owned();
        // What stands in its new place wins.
        match now.iter_mut().find(|block| block.name == outer) {
            Some(block) => block.block.push(directive),
            None => {
                let mut block = vec![directive];
                if matches!(outer, "forward" | "refer") {
                    block.push(Directive::new("enabled", "on", place.clone()));
                }
                now.push(Directive { name: outer.to_owned(), args: Vec::new(), block, place });
            }
        }
    }
    now
}

/// The `rtc` of a vhost with the words of today for `nack { enabled off; }`, `aac transcode;` and `bframe keep;`.
fn modern_rtc(mut block: Vec<Directive>) -> Vec<Directive> {
    for rtc in block.iter_mut().filter(|directive| directive.name == "rtc") {
        let mut copies = Vec::new();
        for old in &mut rtc.block {
            if let Some(enabled) = old.find("enabled").cloned() {
                copies.extend(
                    old.find("no_copy").map(|no_copy| Directive {
                        name: format!("{}_no_copy", old.name),
                        ..no_copy.clone()
                    }),
                );
                (old.args, old.block) = (enabled.args, Vec::new());
            }
            if matches!(old.name.as_str(), "aac" | "bframe") {
                let on = if matches!(old.arg(), "transcode" | "keep") { "on" } else { "off" };
                old.args = vec![on.to_owned()];
            }
        }
        rtc.block.append(&mut copies);
        rtc.block = moved(&rtc.block, MOVED_RTC);
    }
    block
}

/// Whether a directive or block is switched on.
fn is_on(directive: &Directive) -> bool {
    match directive.find("enabled") {
        Some(enabled) => enabled.arg() == "on",
        None => directive.block.is_empty() && !matches!(directive.arg(), "" | "off" | "0"),
    }
}

/// `10`, `0.5`: in thousandths.
fn thousandths(text: &str) -> Option<u32> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && rest.is_empty()) || !digits(whole) || !digits(rest) {
        return None;
    }
    let rest: String = rest.chars().chain("000".chars()).take(3).collect();
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u32>().ok()? };
    whole.checked_mul(1000)?.checked_add(rest.parse().ok()?)
}

/// SRS listens with one socket a family, and its files may name both. Here one socket has all addresses of both.
fn listeners(args: &[String]) -> Vec<String> {
    let port = |arg: &str| {
        let any = arg.strip_prefix("[::]:").or_else(|| arg.strip_prefix("0.0.0.0:"));
        any.unwrap_or(arg).parse::<u16>().ok()
    };
    let mut all: Vec<String> = Vec::new();
    for arg in args {
        let known = all.iter_mut().find(|known| port(known).is_some() && port(known) == port(arg));
        match (known, port(arg)) {
            (Some(known), Some(port)) => *known = port.to_string(),
            _ => all.push(arg.clone()),
        }
    }
    all
}
