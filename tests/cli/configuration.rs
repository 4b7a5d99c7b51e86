//! Commands about the configuration: check, convert, apply.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{Dir, output, rillbox, said, said_by};

#[test]
fn wrong_keys_are_told_and_nothing_runs() {
    let dir = Dir::with("[rtmp]\nlisen = 1\n[log]\nlevel = \"loud\"\n");
    let file = dir.config().display().to_string();
    let expected = format!(
        "rillbox: {file}:2: rtmp.lisen: unknown key; did you mean \"listen\"?\n\
         rillbox: {file}:4: log.level: expected \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", found \
         \"loud\"\n"
    );
    for command in ["run", "check"] {
        assert_eq!(said(command, &dir.config()), (1, String::new(), expected.clone()));
    }
}

#[test]
fn files_that_cannot_be_read_are_told() {
    let dir = Dir::new();
    let file = dir.config().display().to_string();
    let expected =
        format!("rillbox: cannot read configuration file {file}: No such file or directory (os error 2)\n");
    for command in ["run", "check"] {
        assert_eq!(said(command, &dir.config()), (1, String::new(), expected.clone()));
    }
    let (code, _, text) = said("run", &dir.0);
    assert_eq!((code, text.lines().count()), (1, 1), "{text}");
}

#[test]
fn check_tells_what_differs_from_the_defaults() {
    let dir = Dir::with("[server]\nworkers = 2\n");
    let file = dir.config().display().to_string();
    let expected = format!("{file} is right; what differs from the defaults:\n  server.workers = 2\n");
    assert_eq!(said("check", &dir.config()), (0, expected, String::new()));
    for shipped in ["rillbox.toml", "full.toml"] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(shipped);
        let (code, text, _) = said("check", &file);
        assert_eq!(code, 0);
        assert!(text.ends_with("differs from the defaults:\n  nothing\n"), "{text}");
    }
}

#[test]
fn the_environment_is_heeded() {
    let dir = Dir::with("");
    let mut command = rillbox(&["check"]);
    command.env("RILLBOX_CONFIG", dir.config()).env("RILLBOX_RTMP_CHUNK_SIZE", "4096").env("RILLBOX_X", "1");
    let (code, text, _) = said_by(command);
    assert_eq!(code, 0);
    assert!(text.contains("\n  rtmp.chunk_size = 4096\n"), "{text}");
    assert!(text.contains("\nwarning: RILLBOX_X: no key has this name, ignored\n"), "{text}");
    let mut command = rillbox(&["check"]);
    command.env("RILLBOX_RTMP_CHUNK_SIZE", "1");
    let expected = "rillbox: RILLBOX_RTMP_CHUNK_SIZE: rtmp.chunk_size: expected 128 to 65536, found \"1\"\n";
    assert_eq!(said_by(command), (1, String::new(), expected.into()));
}

#[test]
fn usage() {
    let (code, out, err) = said_by(rillbox(&["fly"]));
    assert_eq!((code, &*out, &*err), (2, "", "rillbox: unknown command \"fly\"; see rillbox --help\n"));
    let (code, out, _) = said_by(rillbox(&["--help"]));
    assert!(code == 0 && out.contains("Usage: rillbox"));
    let (code, out, _) = said_by(rillbox(&["version"]));
    assert!(code == 0 && out.starts_with(concat!("rillbox ", env!("CARGO_PKG_VERSION"), " (")), "{out}");
}

/// As SRS's images are run: `srs -e`, and variables.
#[cfg(feature = "srs-conf")]
#[test]
fn the_environment_of_srs_is_all_there_is_with_its_option() {
    let mut command = rillbox(&["-e", "-t"]);
    command.env("SRS_LISTEN", "19350");
    let (code, out, err) = said_by(command);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("rtmp.listen = ") && out.contains("19350"), "{out}");
}

#[cfg(feature = "srs-conf")]
#[test]
fn a_configuration_of_srs_is_checked_converted_and_run() {
    let dir = Dir::new();
    let (conf, toml) = (dir.path("srs.conf"), dir.path("made.toml"));
    fs::write(
        &conf,
        "listen 127.0.0.1:0;\nmax_connections 10;\ngrace_start_wait 1;\nvhost __defaultVhost__ {\n}\n",
    )
    .unwrap();
    let name = conf.to_str().unwrap();
    let (code, text, _) = said_by(rillbox(&["-t", "-c", name]));
    assert!(code == 0 && text.contains("  server.max_connections = 10\n"), "{text}");
    assert!(text.contains(&format!("\nwarning: {name}:3: grace_start_wait: not done: ")), "{text}");
    let mut command = rillbox(&["check"]);
    command.env("SRS_CONFIG_FILE", name).env("SRS_MAX_CONNECTIONS", "20");
    assert!(said_by(command).1.contains("  server.max_connections = 20\n"));
    let (code, text, _) = said_by(rillbox(&["convert", name]));
    assert_eq!(code, 0);
    fs::write(&toml, &text).unwrap();
    for file in [&conf, &toml] {
        let mut server = crate::support::Server::start(file);
        server.address("RTMP");
        server.signal(rustix::process::Signal::HUP);
        server.wait_for("reload: nothing else to change");
    }
    let (code, _, text) = apply(toml.to_str().unwrap(), &conf, b"");
    assert!(code == 1 && text.contains("rillbox convert "), "{text}");

    fs::write(&conf, "listen 1935;\nvhost __defaultVhost__ {\n  hls { enabled on; hls_fragmen 10; }\n}\n")
        .unwrap();
    let expected =
        format!("rillbox: {name}:3: hls.hls_fragmen: unknown key; did you mean \"hls_fragment\"?\n");
    for command in ["run", "check", "convert"] {
        assert_eq!(said(command, &conf), (1, String::new(), expected.clone()));
    }
}

/// `rillbox apply NEW -c CONFIG`, with this on standard input.
fn apply(new: &str, config: &Path, input: &[u8]) -> (i32, String, String) {
    let mut command = rillbox(&["apply", new, "-c", config.to_str().unwrap()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses need not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    output(child.wait_with_output().unwrap())
}

#[test]
fn a_right_configuration_is_applied_and_told() {
    let dir = Dir::with("[server]\nworkers = 2\n[log]\nlevel = \"warn\"\n");
    let (config, new) = (dir.config(), dir.path("new.toml"));
    let text = "# mine\n[log]\nlevel = \"debug\"\n[vhost.cam]\ngrace = \"1s\"\n";
    fs::write(&new, text).unwrap();
    let file = config.display();
    let expected = format!(
        "{file}: 3 keys change:\n  server.workers: 2 -> 0 (needs a restart)\n  log.level: \"warn\" -> \"debug\"\n  \
         vhost.cam.grace: not set -> \"1s\"\n{file} is written; SIGHUP puts it in force\n"
    );
    assert_eq!(apply(new.to_str().unwrap(), &config, b""), (0, expected, String::new()));
    assert_eq!(fs::read_to_string(&config).unwrap(), text);
    let nothing = format!("{file}: nothing changes\n{file} is written; SIGHUP puts it in force\n");
    assert_eq!(apply("-", &config, text.as_bytes()), (0, nothing, String::new()));
    // What was wrong, or not there, can be replaced, too.
    dir.write("[rtmp]\nlisen = 1\n");
    let (code, out, _) = apply("-", &config, text.as_bytes());
    assert!(
        code == 0 && out.contains(": 2 keys change (compared with the defaults: it was wrong: "),
        "{out}"
    );
    fs::remove_file(&config).unwrap();
    let (code, out, _) = apply("-", &config, b"");
    assert!(
        code == 0 && out.contains(": nothing changes (compared with the defaults: there was none: "),
        "{out}"
    );
    assert_eq!(fs::read_to_string(&config).unwrap(), "");
}

#[test]
fn a_wrong_configuration_is_not_applied() {
    let old = "[log]\nlevel = \"warn\"\n";
    let dir = Dir::with(old);
    let wrong = "rillbox: standard input:2: rtmp.lisen: unknown key; did you mean \"listen\"?\n".to_owned();
    assert_eq!(apply("-", &dir.config(), b"[rtmp]\nlisen = 1\n"), (1, String::new(), wrong));
    let missing = "rillbox: http.root: /nowhere is no directory\n".to_owned();
    assert_eq!(apply("-", &dir.config(), b"[http]\nroot = \"/nowhere\"\n"), (1, String::new(), missing));
    let endless = "rillbox: cannot read configuration file /dev/zero: it is longer than 1 MiB, so it can't be a \
                   configuration\n";
    assert_eq!(apply("/dev/zero", &dir.config(), b""), (1, String::new(), endless.into()));
    let (code, _, text) = apply("-", &dir.config(), &b"#".repeat(2 << 20));
    assert!(code == 1 && text.contains("from standard input: it is longer than 1 MiB"), "{text}");
    let (code, _, text) = apply("-", &dir.config(), b"\xFF");
    assert!(code == 1 && text.contains("from standard input: stream did not contain valid UTF-8"), "{text}");
    let mut command = rillbox(&["apply", "-", "-c", dir.config().to_str().unwrap()]);
    command.env("RILLBOX_RTMP_CHUNK_SIZE", "1");
    let (code, _, text) = said_by(command);
    assert!(code == 1 && text.starts_with("rillbox: RILLBOX_RTMP_CHUNK_SIZE: "), "{text}");
    assert_eq!(said_by(rillbox(&["apply", "-"])).0, 2, "nobody says which configuration");
    assert_eq!(fs::read_to_string(dir.config()).unwrap(), old);
    assert_eq!(dir.names(), ["r.toml"]);
}

#[test]
fn a_full_disk_leaves_the_configuration_as_it_was() {
    let old = "[log]\nlevel = \"warn\"\n";
    let dir = Dir::with(old);
    fs::write(dir.path("new.toml"), "# as long as two blocks\n".repeat(50)).unwrap();
    // As a full disk does, the limit lets a part be written.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_rillbox"),
        "apply",
    ]);
    command.arg(dir.path("new.toml")).arg("-c").arg(dir.config());
    let (code, out, text) = said_by(command);
    let expected = format!(
        "rillbox: cannot write configuration file {}: cannot fill a file beside it: ",
        dir.config().display()
    );
    assert!((code, &*out) == (1, "") && text.starts_with(&expected), "{code} {out} {text}");
    assert_eq!(fs::read_to_string(dir.config()).unwrap(), old);
    assert_eq!(dir.names(), ["new.toml", "r.toml"]);
}

#[test]
fn who_is_killed_while_applying_leaves_the_old_or_the_new_one() {
    let dir = Dir::new();
    let texts = ["# a\n", "# b\n"].map(|line| line.repeat(200_000));
    dir.write(&texts[0]);
    for (n, text) in texts.iter().cycle().enumerate().take(40) {
        let new = dir.path("new.toml");
        fs::write(&new, text).unwrap();
        let mut command = rillbox(&["apply", new.to_str().unwrap(), "-c", dir.config().to_str().unwrap()]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(400 * n as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(texts.contains(&fs::read_to_string(dir.config()).unwrap()), "neither old nor new");
    }
    assert_eq!(apply("-", &dir.config(), b"").0, 0);
    assert_eq!(dir.names(), ["new.toml", "r.toml"], "nothing is left over");
}
