"""Runs the programs of a target on this machine.

emulate.py TARGET              installs what runs them, and prints the command to put before a program; nothing where
                               this machine is of the target's kind
emulate.py TARGET test ARGS    cargo test ARGS, built for the target and run by that command
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

import targets
from build import environment
from targets import ROOT

SCRIPTS = ROOT / "scripts"


def emulator(target):
    """The command that runs a program of the target, as a list."""
    if target.triple.split("-")[0] == platform.machine():
        return []
    suite = target.qemu.get("suite")
    if suite:
        arch = subprocess.check_output(["dpkg", "--print-architecture"], text=True).strip()
        package = [SCRIPTS / "lib" / "foreign-package", suite, arch, "qemu-user"]
        program = f"{subprocess.check_output(package, text=True).strip()}/usr/bin/{target.qemu['user']}"
    else:
        subprocess.run([SCRIPTS / "install-packages", "qemu-user"], check=True)
        program = f"/usr/bin/{target.qemu['user']}"
    return [program, *target.qemu["user_args"]]


def test(target, args):
    """Runs cargo test; gives its exit code."""
    target_dir = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "cross"
    env = environment(target, target_dir)
    # Tests catch panics, so unlike what is shipped they need tables to unwind by.
    env["RUSTFLAGS"] = " ".join(target.rustflags)
    command = [
        "cargo-zigbuild", "test", "--locked", "--config", "profile.dev.debug=false",
        "-Zbuild-std=std,panic_unwind,test", "--target", target.triple,
    ]  # fmt: skip
    runner = emulator(target)
    if runner:
        env[f"CARGO_TARGET_{target.triple.upper().replace('-', '_')}_RUNNER"] = " ".join(runner)
        env["RILLBOX_TEST_EMULATED"] = "1"  # tests that take long are shorter then
        # All tests share the 2 GiB that a program has on 32-bit MIPS; more threads would not be faster.
        env["RUST_TEST_THREADS"] = "2"
    return subprocess.run(command + args, cwd=ROOT, env=env).returncode


def main(name, *args):
    target = targets.load(name)
    match args:
        case []:
            print(" ".join(emulator(target)))
        case ["test", *rest]:
            sys.exit(test(target, rest))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(*sys.argv[1:])
