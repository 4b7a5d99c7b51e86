"""Whose the bytes of a binary are: by feature, by crate, and by folder of our own."""

import re
import subprocess
from collections import Counter

import targets
from targets import ROOT

LLVM_NM = "/usr/lib/llvm-19/bin/llvm-nm"
STANDARD = {"core", "alloc", "std", "compiler_builtins", "panic_abort", "hashbrown", "rustc_demangle"}
NAMELESS = "text, constants and tables without a name"
PATH = re.compile(r"\b([a-z_][a-z0-9_]*)(?:\[[0-9a-f]+\])?::((?:[a-z_][a-z0-9_]*::)*)")


def symbols(program):
    """(demangled name, bytes) of all that has a name."""
    lines = subprocess.run(
        [LLVM_NM, "--defined-only", "--print-size", "--demangle", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    seen = set()
    for line in lines:
        match line.split(maxsplit=3):
            case [address, size, kind, name] if kind.lower() in "trdw" and address not in seen:
                # Merged functions have several names at one place.
                seen.add(address)
                yield name, int(size, 16)


def owner(name, crates):
    """The crate that a symbol is there for, and its folder if it is ours. What is generic and stands in the
    standard library or another crate is made for who uses it: us before others, others before the standard library."""
    found = [(crate, path) for crate, path in PATH.findall(name) if crate in crates or crate in STANDARD]
    for crate, path in found:
        if crate == "rillbox":
            return crate, path.split("::")[0] if path else "main"
    for crate, _ in found:
        if crate not in STANDARD:
            return crate, None
    if found or name.startswith(("__rust", "_rust", "rust_", "<")):
        return "std", None
    if name.startswith(".L"):
        return NAMELESS, None
    if name.startswith(("ring_core", "OPENSSL")):
        return "ring", None
    return "libc and other C", None


def crates_of(target, features, env):
    """Names of the crates that a build with these features holds."""
    lines = subprocess.run(
        ["/usr/bin/cargo", "tree", "--quiet", "--locked", "--prefix=none", "--edges=normal", "--format={p}",
         "--target", target.triple, "--no-default-features", "--features", ",".join(features)],
        cwd=ROOT, env=env, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return {line.split()[0].replace("-", "_") for line in lines if line.strip()}


def folder_of(feature):
    """Where a feature's own code stands, e.g. `net::tls`; None where nothing bears its name."""
    name = feature.replace("-", "_")
    for place in ("", "net/"):
        if (ROOT / "src" / f"{place}{name}").is_dir() or (ROOT / "src" / f"{place}{name}.rs").is_file():
            return f"{place}{name}".replace("/", "::") + "::"
    return None


def report(target, bundle, features, program, total, env):
    crates = crates_of(target, features, env)
    only = {
        feature: crates - crates_of(target, [other for other in features if other != feature], env)
        for feature in features
    }
    homes = {feature: folder_of(feature) for feature in features}
    by_crate, by_folder, by_feature = Counter(), Counter(), Counter()
    for name, size in symbols(program):
        crate, folder = owner(name, crates)
        by_crate[crate] += size
        if folder:
            by_folder[folder] += size
        for feature in features:
            if crate in only[feature] or crate == "rillbox" and homes[feature] and f"rillbox::{homes[feature]}" in name:
                by_feature[feature] += size
    by_crate[NAMELESS] += total - sum(by_crate.values())

    def table(title, counter):
        lines = [f"{size:>10} {100 * size / total:5.1f} %  {name}" for name, size in counter.most_common() if size]
        return "\n".join([title, *lines, ""])

    return "\n".join([
        f"rillbox for {target.triple}, {bundle} ({', '.join(features)}): {total} bytes, stripped\n",
        table("By feature: its folder, and the crates that only it brings; what several use is not counted here", by_feature),
        table("By crate", by_crate),
        table("Our own, by folder of src/", by_folder),
    ])  # fmt: skip


def write_tables(sizes, bundles):
    """targets/SIZES.md and the table of README.md, from {(target, bundle): bytes}."""
    rows = ["| target | " + " | ".join(f"`{bundle}`" for bundle in bundles) + " |", "|---|" + "---:|" * len(bundles)]
    for name in targets.names():
        cells = [f"{sizes[name, bundle]:,}".replace(",", " ") for bundle in bundles]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    table = "\n".join(rows)
    parts = [
        "# Sizes\n\nBytes of the stripped, static binary (profile `firmware`). `scripts/build all` writes this file.\n",
        table,
        "\nWhere they go, for one 32-bit target:\n",
    ]
    for bundle in bundles:
        text = (ROOT / "dist" / "armv7" / bundle / "sizes.txt").read_text()
        parts.append(f"```\n{text.strip()}\n```\n")
    (ROOT / "targets" / "SIZES.md").write_text("\n".join(parts))
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- sizes -->\n).*?(<!-- /sizes -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda found: found[1] + table + "\n" + found[2], readme.read_text()))
