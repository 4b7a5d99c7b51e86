//! Boxes with a wrong clock, and with a right one after 2038.

use crate::support::{Dir, Program, Server};

#[test]
fn a_clock_beyond_32_bits_is_survived() {
    let dir = Dir::new();
    std::fs::create_dir(dir.path("root")).unwrap();
    std::fs::write(dir.path("root").join("file"), "hello").unwrap();
    let library = std::fs::read_dir("/usr/lib").unwrap().flatten();
    let library =
        library.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
    let library = library.expect("libfaketime is missing: run scripts/install-test-clients");
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        ("FAKETIME", "@2040-02-03 04:05:06"),
        // Time-outs are no matter of dates.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("TZ", "UTC"),
    ];
    let root = dir.path("root");
    let server = Server::within(&environment, &[("HTTP_ROOT", root.to_str().unwrap())]);
    let line = server.line(" is ready");
    // Where 32 bits are all there is, time stands still.
    let told = line.starts_with("2040-02-03T04:05:0") || line.starts_with("2038-01-19T03:14:07.999");
    assert!(told, "{line}");
    let url = format!("http://{}/file", server.address("HTTP"));
    assert_eq!(Program::start("curl", ["-sSf", &url]).end().said, "hello");
}
