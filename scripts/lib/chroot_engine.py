"""A stand-in for a container engine, for `scripts/check-cross`: as much of `docker build` and `docker run` as `cross`
calls, in a chroot. An image is a pile of overlay folders on Debian as debootstrap makes it, one a step, kept in the
folder $CHROOT_ENGINE. It keeps nothing apart but files and processes: it is no engine for anything else. Needs root."""

import argparse
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
from pathlib import Path

STORE = Path(os.environ["CHROOT_ENGINE"])
START_ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
# Mounts end with their namespace, processes with the first of theirs, and that with us.
APART = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]


def fail(text):
    sys.exit(f"chroot_engine: {text}")


def enter(layers, upper, env, command, mounts=(), user="0:0", cwd="/"):
    """Runs the command on top of the layers (the lowest first); what it writes goes to `upper`. Returns its exit code."""
    with tempfile.TemporaryDirectory(dir=STORE) as scratch:
        root, work, empty = (Path(scratch, name) for name in ("root", "work", "empty"))
        for path in (root, work, empty):
            path.mkdir()
        lower = ":".join(str(layer) for layer in reversed(layers))
        script = [
            "set -e",
            f"mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work} {root}",
            f"mkdir -p {root}/proc {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            f"cp -L /etc/resolv.conf {root}/etc/resolv.conf",
        ]
        for mount in mounts:
            source, target, options, *_ = (mount if ":" in mount else f":{mount}").split(":") + [""]
            place = shlex.quote(f"{root}{target}")
            script.append(f"mkdir -p {place}; mount --rbind {shlex.quote(source or str(empty))} {place}")
            if "ro" in options.split(","):
                script.append(f"mount -o remount,bind,ro {place}")
        script.append(f'exec chroot --userspec={user} {root} env -i "$@"')
        inner = ["/bin/sh", "-c", 'cd "$1" && shift && exec "$@"', "-", cwd, *command]
        variables = [f"{name}={value}" for name, value in env.items()]
        return subprocess.run([*APART, "bash", "-c", "\n".join(script), "-", *variables, *inner]).returncode


def mirror():
    """Where this machine has its own Debian from, there it has the others, too."""
    codename = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE).group(1)
    uris = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=True).stdout
    found = re.search(rf"^'(.*)/dists/{codename}/InRelease'", uris, re.MULTILINE)
    return found.group(1) if found else fail("apt's sources name no Debian mirror: add one to /etc/apt/sources.list")


def base(image):
    """Debian's own image, as near as debootstrap comes to it: the same packages, apt's sources in the same file."""
    match = re.fullmatch(r"debian:(\w+?)(-slim)?", image)
    suite = match.group(1) if match else fail(f"FROM {image}: knows debian:SUITE and debian:SUITE-slim only")
    folder = STORE / f"debian-{suite}"
    if not folder.is_dir():
        from_where, new = mirror(), folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run(["debootstrap", "--variant=minbase", suite, new, from_where], check=True, stdout=sys.stderr)
        (new / "etc/apt/sources.list").unlink(missing_ok=True)
        (new / "etc/apt/sources.list.d/debian.sources").write_text(
            f"Types: deb\nURIs: {from_where}\nSuites: {suite} {suite}-updates\nComponents: main\n"
            "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
        )
        new.rename(folder)
    return folder


def instructions(dockerfile):
    """Pairs of instruction and its text, lines joined."""
    lines = [line for line in dockerfile.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        yield word.upper(), rest.strip()


def build(args):
    given = dict(arg.split("=", 1) for arg in args.build_arg)
    layers, env, arguments = [], dict(START_ENV), {}
    for word, text in instructions(Path(args.file)):
        values = arguments | env
        expand = lambda part: string.Template(part).substitute(values)  # noqa: E731
        try:
            match word:
                case "FROM":
                    layers = [base(text)]
                case "ARG":
                    name, _, default = text.partition("=")
                    arguments[name] = given.get(name, expand(default))
                case "ENV":
                    env |= {name: expand(value) for name, _, value in (p.partition("=") for p in shlex.split(text))}
                case "COPY":
                    *sources, to = (expand(part) for part in shlex.split(text))
                    layers.append(copy(layers, [Path(args.context, source) for source in sources], to))
                case "RUN":
                    layers.append(run_step(layers, values, text))
                case _:
                    fail(f"{args.file}: knows no {word}")
        except KeyError as error:
            fail(f"{args.file}: {word} {text}: {error} is not set")
    image = {"layers": [str(layer) for layer in layers], "env": env}
    image_file(args.tag).write_text(json.dumps(image))


def image_file(tag):
    return STORE / f"image-{tag.replace('/', '_')}.json"


def layer(layers, *what):
    """The folder of a step: the same for the same step on top of the same steps."""
    key = hashlib.sha256(json.dumps([str(layers), *map(str, what)]).encode()).hexdigest()[:16]
    new = STORE / f"{key}.new"
    shutil.rmtree(new, ignore_errors=True)
    return STORE / key, new


def copy(layers, sources, to):
    done, new = layer(layers, "COPY", to, *(hashlib.sha256(path.read_bytes()).hexdigest() for path in sources))
    if not done.is_dir():
        place = new / to.lstrip("/")
        place.parent.mkdir(parents=True)
        if to.endswith("/"):
            place.mkdir()
        for source in sources:
            shutil.copy(source, place)
        new.rename(done)
    return done


def run_step(layers, env, text):
    done, new = layer(layers, "RUN", text, sorted(env.items()))
    if not done.is_dir():
        new.mkdir()
        if enter(layers, new, env, ["/bin/sh", "-c", text]):
            fail(f"failed: RUN {text}")
        new.rename(done)
    return done


def run(args):
    if not image_file(args.image).is_file():
        fail(f"there is no image {args.image}")
    image = json.loads(image_file(args.image).read_text())
    env = image["env"]
    for variable in args.env:
        name, given, value = variable.partition("=")
        if given or name in os.environ:
            env[name] = value if given else os.environ[name]
    with tempfile.TemporaryDirectory(dir=STORE) as upper:
        os.chmod(upper, 0o755)
        return enter(image["layers"], upper, env, args.command, args.volume, args.user, args.workdir)


def main():
    parser = argparse.ArgumentParser(prog="docker", description="A stand-in for docker.")
    commands = parser.add_subparsers(required=True)

    command = commands.add_parser("build")
    command.set_defaults(call=build)
    command.add_argument("--label", action="append")
    command.add_argument("--tag", required=True)
    command.add_argument("--build-arg", action="append", default=[])
    command.add_argument("--file", required=True)
    command.add_argument("context")

    command = commands.add_parser("run")
    command.set_defaults(call=run)
    command.add_argument("--rm", action="store_true", required=True)
    command.add_argument("--userns")
    command.add_argument("--user", default="0:0")
    command.add_argument("-e", dest="env", action="append", default=[])
    command.add_argument("-v", dest="volume", action="append", default=[])
    command.add_argument("-w", dest="workdir", default="/")
    command.add_argument("image")
    command.add_argument("command", nargs=argparse.REMAINDER)

    args = parser.parse_args()
    STORE.mkdir(parents=True, exist_ok=True)
    with (STORE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sys.exit(args.call(args))


if __name__ == "__main__":
    main()
