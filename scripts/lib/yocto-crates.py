#!/usr/bin/env python3
"""What the Yocto recipes repeat of the Cargo files: writes it, or checks that it is still true.

    scripts/lib/yocto-crates.py           writes rillbox-crates.inc: every crate of Cargo.lock, for bitbake's fetcher
    scripts/lib/yocto-crates.py --check   fails when that file, or anything else a recipe repeats, is out of date
"""

import hashlib
import re
import sys
import tomllib
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
RECIPES = TREE / "yocto/meta-rillbox/recipes-multimedia/rillbox"
CRATES = RECIPES / "rillbox-crates.inc"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"


def load(name):
    with open(TREE / name, "rb") as file:
        return tomllib.load(file)


def crates_inc(cargo, lock):
    """The text of rillbox-crates.inc. Cargo wants all crates of the lock file there, those for other systems too."""
    crates = []
    for package in lock["package"]:
        if "source" not in package:  # ourselves
            continue
        if package["source"] != REGISTRY:
            sys.exit(f"{package['name']} comes from {package['source']}: teach yocto-crates.py to write that")
        crates.append((f"{package['name']}/{package['version']}", package["checksum"]))
    lines = [
        "# Written by scripts/lib/yocto-crates.py from Cargo.lock and Cargo.toml: run it again when they change.",
        f'RILLBOX_RUST = "{cargo["package"]["rust-version"]}"',
        "",
        'SRC_URI += "\\',
        *(f"    crate://crates.io/{crate} \\" for crate, _ in crates),
        '"',
        "",
        *(f'SRC_URI[{crate.replace("/", "-")}.sha256sum] = "{checksum}"' for crate, checksum in crates),
    ]
    return "\n".join(lines) + "\n"


def faults(cargo, lock):
    """What a recipe says that is not so."""
    version = cargo["package"]["version"]
    for recipe in sorted((TREE / "yocto/meta-rillbox").glob("recipes-*/*/*_*.bb")):
        if not recipe.stem.endswith(f"_{version}"):
            yield f"{recipe.name}: Cargo.toml is at {version}; git mv the recipe"
    if not CRATES.exists() or CRATES.read_text() != crates_inc(cargo, lock):
        yield f"{CRATES.name} is not what Cargo.lock says: run scripts/lib/yocto-crates.py"

    common = (RECIPES / "rillbox.inc").read_text()
    md5 = hashlib.md5((TREE / "LICENSE").read_bytes()).hexdigest()
    if f"file://LICENSE;md5={md5}" not in common:
        yield f"rillbox.inc: the md5 of LICENSE is {md5}"

    # Packages carry each feature that a user may want, by its own name.
    source = next(RECIPES.glob("rillbox_*.bb")).read_text()
    offered = set(re.findall(r"^PACKAGECONFIG\[([\w-]+)\]", source, re.MULTILINE))
    bundles = {"default", "full", "lite", "bench"}
    inner = {"http", "mp4", "segments", "http-client"}  # turned on by what needs them
    features = set(cargo["features"]) - bundles - inner
    if offered != features:
        yield f"the recipe's PACKAGECONFIG offers {sorted(offered)}, Cargo.toml has {sorted(features)}"
    default = re.search(r'^PACKAGECONFIG \?\?= "(.*)"', source, re.MULTILINE)
    if not default or set(default[1].split()) != features:
        yield f"the default PACKAGECONFIG is not the bundle `full`: {sorted(features)}"

    prebuilt = next(RECIPES.glob("rillbox-bin_*.bb")).read_text()
    mapped = set(re.findall(r'^RILLBOX_TARGETS\[\w+\] = "(\w+)"', prebuilt, re.MULTILINE))
    targets = {path.stem for path in (TREE / "targets").glob("*.toml")}
    if not mapped or mapped - targets:
        yield f"rillbox-bin maps to the targets {sorted(mapped)}, targets/ has {sorted(targets)}"


def main():
    cargo, lock = load("Cargo.toml"), load("Cargo.lock")
    if sys.argv[1:] == ["--check"]:
        found = list(faults(cargo, lock))
        for fault in found:
            print(fault, file=sys.stderr)
        sys.exit(1 if found else 0)
    if sys.argv[1:]:
        sys.exit(__doc__)
    CRATES.write_text(crates_inc(cargo, lock))


main()
