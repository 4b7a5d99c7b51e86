//! Users and signed URLs.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::support::{Dir, output, rillbox, said, said_by};

fn with_input(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = rillbox(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses need not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    output(child.wait_with_output().unwrap())
}

#[test]
fn users_are_stored_and_the_rest_stays() {
    let before = "# mine\n[log] # here\nlevel = \"warn\" # quiet\n";
    let dir = Dir::with(before);
    let file = dir.config();
    let file = file.to_str().unwrap();
    let args = ["passwd", "--user", "ann", "--role", "admin", "-c", file];
    let (code, out, err) = with_input(&args, "correct horse\n");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(out, format!("ann (admin) is a user now in {file}; SIGHUP puts it in force\n"));
    let text = fs::read_to_string(file).unwrap();
    assert!(text.starts_with(before) && text.contains("hash = \"$argon2id$v=19$m="), "{text}");
    assert!(!text.contains("correct horse"));
    // Another password for the same user; the role stays.
    let (code, out, _) = with_input(&["passwd", "--user=ann", &format!("--config={file}")], "battery staple");
    assert!(code == 0 && out.starts_with("ann (admin) has a new password"), "{out}");
    let newer = fs::read_to_string(file).unwrap();
    assert!(newer != text && newer.matches("[[access.users]]").count() == 1, "{newer}");
    // Neither check nor reload tells the hash.
    let (code, out, _) = said("check", &dir.config());
    assert!(
        code == 0 && out.contains("role = \"admin\", hash = \"***\"") && !out.contains("argon2id"),
        "{out}"
    );
    // Without a file it is printed.
    let (code, out, _) = with_input(&["passwd", "--user", "vic", "--role", "viewer"], "correct horse\n");
    assert!(
        code == 0
            && out.starts_with("[[access.users]]\nname = \"vic\"\nrole = \"viewer\"\nhash = \"$argon2id$"),
        "{out}"
    );
}

#[test]
fn passwords_that_are_none_change_nothing() {
    let dir = Dir::with("[log]\n");
    let file = dir.config();
    let file = file.to_str().unwrap();
    for (args, input, expected) in [
        (
            &["--user", "a", "--role", "admin"][..],
            "short\n",
            "rillbox: a password needs 8 characters or more\n",
        ),
        (&["--user", "a", "--role", "admin"], "", "rillbox: a password needs 8 characters or more\n"),
        (
            &["--user", "a", "--role", "king"],
            "",
            "rillbox: role \"king\": expected viewer, publisher, operator or admin; see rillbox --help\n",
        ),
        (&["--user", "a"], "correct horse", "rillbox: a new user needs --role ROLE; see rillbox --help\n"),
        (&["--role", "admin"], "", "rillbox: passwd needs --user NAME; see rillbox --help\n"),
        (
            &["--user", "a:b", "--role", "admin"],
            "correct horse",
            "rillbox: user \"a:b\": expected up to 64 letters, digits and . _ - @ +; see rillbox --help\n",
        ),
        (&["--password", "x"], "", "rillbox: unknown option \"--password\"; see rillbox --help\n"),
    ] {
        let args: Vec<&str> = ["passwd", "-c", file].into_iter().chain(args.iter().copied()).collect();
        assert_eq!(with_input(&args, input), (1, String::new(), expected.to_owned()), "{args:?}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "[log]\n");
    assert_eq!(dir.names(), ["r.toml"]);
    // A section on one line.
    dir.write("access = { login_failures = 3 }\n");
    let args = ["passwd", "-c", file, "--user", "a", "--role", "admin"];
    assert_eq!(with_input(&args, "correct horse").0, 0);
    let (_, out, _) = said("check", &dir.config());
    assert!(out.contains("access.users") && out.contains("login_failures = 3"), "{out}");
    // A file that is wrong is not made worse.
    dir.write("[rtmp]\nlisen = 1\n");
    let (code, _, err) =
        with_input(&["passwd", "-c", file, "--user", "a", "--role", "admin"], "correct horse");
    assert!(code == 1 && err.contains("lisen: unknown key"), "{err}");
    assert_eq!(fs::read_to_string(file).unwrap(), "[rtmp]\nlisen = 1\n");
}

#[test]
fn urls_are_signed() {
    let dir = Dir::with("[access]\ntoken_secrets = [\"a-secret-that-signs\"]\n[vhost.cam]\n");
    let file = dir.config();
    let file = file.to_str().unwrap();
    let token = |args: &[&str]| {
        let all: Vec<&str> = ["token"].into_iter().chain(args.iter().copied()).chain(["-c", file]).collect();
        said_by(rillbox(&all))
    };
    let (code, out, _) = token(&["play", "live/demo", "--time", "30m", "--ip", "192.0.2.7"]);
    assert!(code == 0 && out.starts_with("expires=") && out.contains("&ip=192.0.2.7&sign="), "{out}");
    assert_ne!(token(&["play", "live/demo", "--vhost", "cam"]).1, token(&["play", "live/demo"]).1);
    for wrong in [
        &["view", "live/demo"][..],
        &["play"],
        &["play", "demo"],
        &["play", "a/b", "c"],
        &["play", "a/b", "--time", "soon"],
        &["play", "a/b", "--ip", "x"],
        &["play", "a/../b"],
    ] {
        assert_eq!(token(wrong).0, 1, "{wrong:?}");
    }
    dir.write("");
    assert!(token(&["play", "live/demo"]).2.contains("no access.token_secrets"));
}
