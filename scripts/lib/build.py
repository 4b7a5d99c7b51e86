"""Builds the firmware binaries of targets/ and describes them. See scripts/build for how to call it."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import sbom
import sizes
import targets
from targets import ROOT

MANIFEST = tomllib.loads((ROOT / "Cargo.toml").read_text())
FEATURES = MANIFEST["features"]
BUNDLES = ["lite", "full"]
# Debian's: what matches the sources of the standard library.
CARGO = "/usr/bin/cargo"
LLVM = "/usr/lib/llvm-19/bin"
# Backtraces are of no use in a stripped program that aborts, and tables for them are a tenth of it.
# Names of this kind keep their crate, which the size report reads.
RUSTFLAGS = ["-Cforce-unwind-tables=no", "--cfg=no_unwind_tables", "-Csymbol-mangling-version=v0"]


def fail(text):
    sys.exit(f"scripts/build: {text}")


def environment(target, target_dir):
    """For cargo and all that it starts, of this target."""
    env = dict(os.environ)
    for name in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "CARGO_BUILD_TARGET", "RUSTUP_TOOLCHAIN"):
        env.pop(name, None)
    env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    # The standard library is built for size with ours, which a stable compiler must be told to allow.
    env["RUSTC_BOOTSTRAP"] = "1"
    env["CARGO_TARGET_DIR"] = str(target_dir)
    env["CARGO_INCREMENTAL"] = "0"
    env["RUSTFLAGS"] = " ".join(RUSTFLAGS + target.rustflags)
    # The name of the folder must not be in what we ship.
    env["CFLAGS"] = env["CXXFLAGS"] = " ".join([f"-ffile-prefix-map={cargo_home(env)}=/cargo -g0", *target.cflags])
    return env


def cargo_home(env):
    return env.get("CARGO_HOME") or str(Path.home() / ".cargo")


def compile_binary(target, features, source, target_dir):
    """The program with its symbols."""
    command = [
        "cargo-zigbuild", "zigbuild", "--locked", "--bin", "rillbox",
        "--profile", "firmware", "--config", "profile.firmware.strip=false",
        "--config", 'profile.firmware.trim-paths="all"', "-Ztrim-paths",
        "-Zbuild-std=std,panic_abort", "-Zbuild-std-features=optimize_for_size",
        "--target", target.triple, "--no-default-features", "--features", features,
    ]  # fmt: skip
    if not sys.stderr.isatty():
        command.append("--quiet")
    if subprocess.run(command, cwd=source, env=environment(target, target_dir)).returncode:
        fail(f"{target.name} with {features} does not build")
    return target_dir / target.triple / "firmware" / "rillbox"


def strip(program, to):
    subprocess.run([f"{LLVM}/llvm-strip", "--strip-all", "-o", to, program], check=True)


def leaves(features):
    """The features that a bundle or list stands for, without those that are only names for others."""
    found = []
    for feature in features.split(","):
        if feature not in FEATURES:
            fail(f"there is no feature {feature!r}; there are: {' '.join(sorted(FEATURES))}")
        inner = [name for name in FEATURES[feature] if name in FEATURES]
        for leaf in [feature] if feature not in BUNDLES else [leaf for name in inner for leaf in leaves(name)]:
            if leaf not in found:
                found.append(leaf)
    return found


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def build(name, features):
    """Builds, describes, and holds against the budget. Returns the size in bytes."""
    target = targets.load(name)
    parts = leaves(features)
    bundle = features if features in BUNDLES else "+".join(parts)
    out = ROOT / "dist" / name / bundle
    print(f"{name} {bundle} ...", flush=True)
    start = time.monotonic()
    target_dir = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve() / "cross"
    program = compile_binary(target, features, ROOT, target_dir)
    out.mkdir(parents=True, exist_ok=True)
    strip(program, out / "rillbox")
    size = (out / "rillbox").stat().st_size
    digest = sha256(out / "rillbox")
    (out / "rillbox.sha256").write_text(f"{digest}  rillbox\n")
    env = environment(target, target_dir)
    (out / "sizes.txt").write_text(sizes.report(target, bundle, parts, program, size, env))
    document, notices = sbom.document(target, features, digest, env)
    (out / "rillbox.cdx.json").write_text(document)
    for notice, text in notices.items():
        (out / notice).write_text(text)
    print(f"{name} {bundle}: {size} bytes, {time.monotonic() - start:.0f} s, dist/{name}/{bundle}/rillbox", flush=True)
    budget = target.budget.get(bundle)
    if budget and size > budget:
        print((out / "sizes.txt").read_text(), file=sys.stderr)
        fail(f"{name} {bundle} has {size} bytes, {size - budget} over the budget of targets/{name}.toml")
    return size


def build_twice(name, features):
    """Builds here, and the commit in another folder with nothing that was built before; compares the bytes."""
    build(name, features)
    bundle = features if features in BUNDLES else "+".join(leaves(features))
    ours = sha256(ROOT / "dist" / name / bundle / "rillbox")
    if subprocess.run(["git", "status", "--porcelain", "src", "Cargo.lock", "Cargo.toml"], cwd=ROOT, capture_output=True).stdout:
        fail("src, Cargo.toml or Cargo.lock differ from the commit, which is what the second build takes")
    with tempfile.TemporaryDirectory() as folder:
        clone, target_dir = Path(folder, "another-place"), Path(folder, "built")
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
        program = compile_binary(targets.load(name), features, clone, target_dir)
        strip(program, Path(folder, "rillbox"))
        theirs = sha256(Path(folder, "rillbox"))
    if ours != theirs:
        fail(f"{name} {bundle}: two builds of one commit differ: {ours} and {theirs}")
    print(f"{name} {bundle}: built twice, in two places: the same bytes, SHA-256 {ours}")


def build_all():
    table = {}
    for name in targets.names():
        for bundle in BUNDLES:
            table[name, bundle] = build(name, bundle)
    sizes.write_tables(table, BUNDLES)
    print("Written: targets/SIZES.md, and the table in README.md")


def main(args):
    twice = "--twice" in args
    match [arg for arg in args if arg != "--twice"]:
        case ["all"] if not twice:
            build_all()
        case [name]:
            for bundle in BUNDLES:
                (build_twice if twice else build)(name, bundle)
        case [name, features]:
            (build_twice if twice else build)(name, features)
        case _:
            fail("takes a target, and perhaps a bundle or features; see scripts/build --help")
    shutil.copy(ROOT / "LICENSE", ROOT / "dist")


if __name__ == "__main__":
    main(sys.argv[1:])
