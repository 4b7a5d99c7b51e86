"""The software bill of materials of a binary: CycloneDX 1.6, JSON."""

import json
import subprocess
import uuid
from datetime import datetime, timezone
from pathlib import Path

import tomllib
from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from targets import ROOT


# What a crate says of itself alone, where it holds the code of others.
TERMS = {"fdk-aac-sys": "MIT AND FDK-AAC"}
# Texts that have to go with binaries, by their places in crates.
NOTICES = {"fdk-aac-sys": "aac/NOTICE"}


def run(*command, env=None):
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def shipped(metadata):
    """Packages that end up in the binary: {id: [ids it uses]}."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    graph, todo = {}, [metadata["resolve"]["root"]]
    while todo:
        at = todo.pop()
        if at in graph:
            continue
        graph[at] = [
            dep["pkg"] for dep in nodes[at]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])
        ]  # fmt: skip
        todo += graph[at]
    return graph


def document(target, features, digest, env):
    """The document, and texts that go with the binary: {file name: text}. `digest` is the SHA-256 of the binary. The same input
    gives the same texts."""
    metadata = json.loads(run(
        "/usr/bin/cargo", "metadata", "--quiet", "--locked", "--format-version=1", "--filter-platform", target.triple,
        "--no-default-features", "--features", features, env=env,
    ))  # fmt: skip
    checksums = {
        (package["name"], package["version"]): package.get("checksum")
        for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    }
    packages = {package["id"]: package for package in metadata["packages"]}
    graph = shipped(metadata)
    licenses = LicenseFactory()

    def component(package):
        name, version = package["name"], package["version"]
        text = TERMS.get(name, package["license"])
        checksum = checksums.get((name, version))
        return Component(
            type=ComponentType.LIBRARY,
            name=name,
            version=version,
            purl=PackageURL("cargo", name=name, version=version),
            bom_ref=f"{name} {version}",
            # Old crates write "MIT/Apache-2.0".
            licenses=[licenses.make_from_string(text.replace("/", " OR "))] if text else [],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=checksum)] if checksum else [],
        )

    components = {ident: component(packages[ident]) for ident in graph}
    root = components.pop(metadata["resolve"]["root"])
    root.type = ComponentType.APPLICATION
    root.hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)]
    rust = run("/usr/bin/rustc", "--version", env=env).split()[1]
    std = Component(
        type=ComponentType.LIBRARY, name="std", version=rust, bom_ref=f"std {rust}",
        licenses=[licenses.make_from_string("MIT OR Apache-2.0")],
    )  # fmt: skip
    # Part of zig's package, which is pinned in scripts/install-toolchain.
    musl = Component(
        type=ComponentType.LIBRARY, name="musl", version="1.2.5", bom_ref="musl 1.2.5",
        licenses=[licenses.make_from_string("MIT")],
    )  # fmt: skip
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest))
    bom.metadata.component = root
    commit_time = int(run("git", "log", "-1", "--format=%ct").strip())
    bom.metadata.timestamp = datetime.fromtimestamp(commit_time, timezone.utc)
    for part in [*components.values(), std, musl]:
        bom.components.add(part)
    for ident, uses in graph.items():
        part = components.get(ident, root)
        bom.register_dependency(part, [components[use] for use in uses] + ([std] if part is root else []))
    bom.register_dependency(std, [musl])
    notices = {
        f"NOTICE.{name}": (Path(packages[ident]["manifest_path"]).parent / NOTICES[name]).read_text()
        for ident in graph
        if (name := packages[ident]["name"]) in NOTICES
    }
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n", notices
