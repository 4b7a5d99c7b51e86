"""Runs `cross` with a stand-in for docker. See scripts/check-cross for how to call it."""

import os
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import targets
from targets import ROOT

CACHE, QEMU = Path(sys.argv[1]), Path(sys.argv[2])
# For zig alone, which has crt1.o in a place of its own.
OF_ZIG = "-Clink-self-contained=no"
# The image has these already, as new or newer; its own programs need its own.
OF_EVERY_DEBIAN = ("libc.so.6", "libgcc_s.so.1", "libm.so.6", "libstdc++.so.6")


def fail(text):
    sys.exit(f"scripts/check-cross: {text}")


def check_files():
    """Cross.toml has the targets of targets/, and the image what their files ask of the compiler."""
    there = tomllib.loads((ROOT / "Cross.toml").read_text())["target"]
    ours = {targets.load(name).triple: name for name in targets.names()}
    if set(there) != set(ours):
        fail(f"Cross.toml and targets/ differ in {' '.join(sorted(set(there) ^ set(ours)))}")
    config = tomllib.loads((ROOT / "targets/cross/config.toml").read_text())["target"]
    for triple, name in ours.items():
        arch = re.sub(r"el$", "", triple.split("-")[0])
        flags = config.get(f"cfg(target_arch = \"{arch}\")", {}).get("rustflags", [])
        for flag in targets.load(name).rustflags:
            if flag not in [*flags, OF_ZIG]:
                fail(f"targets/{name}.toml has the flag {flag}, targets/cross/config.toml has not")
    return there


def builds_std(target):
    """Whether Rust has no std for it."""
    return any("BUILD_STD" in variable for variable in target.get("env", {}).get("passthrough", []))


def run(command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def install_rust(there):
    """In place of the user's Rust: this machine's cargo, and Debian's compiler with its std to build. Where Rust's own
    std would bring musl, which Debian's has not, it is the image's."""
    home = CACHE / "rustup/toolchains/stand-in"
    version = run(["/usr/bin/rustc", "--version"])
    if (home / "is").is_file() and (home / "is").read_text() == version:
        return home
    print(f"Making a folder of {version.strip()} to mount", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    (home / "bin").mkdir(parents=True)
    rustlib = home / "lib/rustlib"
    (rustlib / "src/rust").mkdir(parents=True)
    shutil.copy(run(["rustup", "which", "cargo"], cwd=ROOT).strip(), home / "bin/cargo")
    shutil.copy("/usr/bin/rustc", home / "bin/rustc")
    for library in re.findall(r"=> (/\S+)", run(["ldd", "/usr/bin/rustc"])):
        if Path(library).name not in OF_EVERY_DEBIAN:
            shutil.copy(library, home / "lib")
    run(["patchelf", "--force-rpath", "--set-rpath", "$ORIGIN/../lib", home / "bin/rustc"])
    shutil.copytree("/usr/lib/rustlib/x86_64-unknown-linux-gnu", rustlib / "x86_64-unknown-linux-gnu")
    shutil.copytree("/usr/lib/rustlib/src/rust/library", rustlib / "src/rust/library")
    for triple, target in there.items():
        if not builds_std(target):
            (rustlib / triple / "lib").mkdir(parents=True)
            (rustlib / triple / "lib/self-contained").symlink_to("/musl/lib")
    (home / "is").write_text(version)
    return home


def environment(rust):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO", "CROSS", "RUST"))}
    engine = CACHE / "docker"
    engine.write_text(f'#!/bin/sh\nexec {sys.executable} -B {ROOT}/scripts/lib/chroot_engine.py "$@"\n')
    engine.chmod(0o755)
    return env | {
        "PATH": f"{rust}/bin:{CACHE}/tool/bin:{env['PATH']}",
        "CHROOT_ENGINE": str(CACHE / "images"),
        "CROSS_CONTAINER_ENGINE": str(engine),
        # `cross` asks rustup whether the toolchain is one, and must not have it installed.
        "RUSTUP_HOME": str(CACHE / "rustup"),
        "CROSS_CUSTOM_TOOLCHAIN": "1",
        # It is no nightly; crates were fetched outside, where the machine's certificates are.
        "CROSS_CONTAINER_OPTS": "-e RUSTC_BOOTSTRAP=1",
        "CARGO_NET_OFFLINE": "true",
        "CARGO_TARGET_DIR": str(CACHE / "target"),
    }


def cross(name, target, env):
    """Has `cross` build `lite` as Cross.toml says. Returns the program."""
    triple = targets.load(name).triple
    command = [
        "cross", "build", "--locked", "--profile", "firmware", "--target", triple,
        "--no-default-features", "--features", "lite",
    ]  # fmt: skip
    if not builds_std(target):
        # Where the user's Rust has std, this one has not.
        command.append("-Zbuild-std=std,panic_abort")
    log = CACHE / f"{name}.log"
    with log.open("w") as file:
        code = subprocess.run(command, cwd=ROOT, env=env, stdout=file, stderr=subprocess.STDOUT).returncode
    warned = "[cross] warning" in log.read_text()
    if code or warned:
        print("".join(log.read_text().splitlines(keepends=True)[-30:]), file=sys.stderr)
        fail(f"{' '.join(command)}: {'a warning of cross' if warned else 'failed'}; all of it is in {log}")
    return CACHE / "target" / triple / "firmware/rillbox"


def check_stream(name, program):
    """Starts it under QEMU, publishes into it and plays out of it."""
    target = targets.load(name)
    command = [QEMU / target.qemu["user"], *target.qemu["user_args"], program]
    said = run([*command, "version"]).strip()
    env = os.environ | {
        "RILLBOX_RTMP_LISTEN": "127.0.0.1:0",
        "RILLBOX_HTTP_LISTEN": "127.0.0.1:0",
        "RILLBOX_API_LISTEN": "127.0.0.1:0",
        # The player may come before the publisher.
        "RILLBOX_VHOST__DEFAULT__HTTP_LIVE__WAIT": "forever",
    }
    server = subprocess.Popen([*command, "run"], env=env, stderr=subprocess.PIPE, text=True)
    publisher = None
    # A server that hangs is a failure, no wait without end.
    timer = threading.Timer(120, server.kill)
    timer.start()
    try:
        listens = {}
        for line in server.stderr:
            if found := re.search(r"(\w+) listens on (\S+)", line):
                listens[found[1]] = found[2]
            if " is ready" in line:
                break
        else:
            fail(f"{name}: the server does not get ready")
        threading.Thread(target=server.stderr.read, daemon=True).start()
        quiet = ["ffmpeg", "-nostdin", "-loglevel", "error"]
        clip = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=25", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]
        publisher = subprocess.Popen([*quiet, "-re", *clip, "-t", "60", "-f", "flv", f"rtmp://{listens['RTMP']}/live/a"])
        play = ["-i", f"http://{listens['HTTP']}/live/a.flv", "-frames:v", "50"]
        frames = run([*quiet, *play, "-f", "framemd5", "-"], timeout=90)
        count = sum(not line.startswith("#") for line in frames.splitlines())
        if count != 50:
            fail(f"{name}: played {count} frames of 50")
        publisher.kill()
        server.terminate()
        if server.wait(20):
            fail(f"{name}: the server ended with {server.returncode}")
    finally:
        timer.cancel()
        for process in (server, publisher):
            if process and process.poll() is None:
                process.kill()
    return said


def main(args):
    there = check_files()
    triples = {name: targets.load(name).triple for name in args or targets.names()}
    subprocess.run(["cargo", "fetch", "--quiet", "--locked"], cwd=ROOT, check=True)
    env = environment(install_rust(there))
    for name, triple in triples.items():
        print(f"{name} ...", flush=True)
        start = time.monotonic()
        program = cross(name, there[triple], env)
        said = check_stream(name, program)
        print(f"{name}: {program.stat().st_size} bytes, {said}, plays, {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[3:])
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        fail(error)
