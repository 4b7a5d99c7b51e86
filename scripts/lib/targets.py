"""The files of targets/, read. As a program: python3 scripts/lib/targets.py NAME KEY prints one value."""

import dataclasses
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DIR = ROOT / "targets"


@dataclass(frozen=True)
class Target:
    name: str
    doc: str
    triple: str
    rustflags: list
    cc: str
    qemu: dict
    names: dict
    budget: dict
    cflags: list = dataclasses.field(default_factory=list)


def names():
    return sorted(path.stem for path in DIR.glob("*.toml"))


def load(name):
    path = DIR / f"{name}.toml"
    if not path.is_file():
        sys.exit(f"There is no target {name!r}; there are: {' '.join(names())}")
    text = path.read_text()
    doc = re.match(r"# (.*)\n", text)
    try:
        return Target(name=name, doc=doc.group(1) if doc else "", **tomllib.loads(text))
    except (TypeError, tomllib.TOMLDecodeError) as error:
        sys.exit(f"{path.relative_to(ROOT)}: {error}")


def main(name, key):
    value = load(name)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    if value is None:
        sys.exit(f"targets/{name}.toml has no {key}")
    print(" ".join(value) if isinstance(value, list) else value)


if __name__ == "__main__":
    main(*sys.argv[1:])
