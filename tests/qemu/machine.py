"""A board in QEMU: the shipped image, unchanged, and an agent beside it that does in the guest what a test says.

The agent comes in a second archive behind the initramfs, through its /hooks; the image holds nothing of it.
"""

import hashlib
import http.client
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Waits in the new root until it is in place, then answers on port 9000: a POST's body is run by a shell.
HOOK = """\
mkdir -p /run/agent/cgi-bin
cp /agent/run /run/agent/cgi-bin/run
cp /bin/busybox /run/agent/busybox
# /dev/null is opened before /dev moves.
(busybox chroot /root /bin/sh -c '
    until [ -x /run/agent/busybox ]; do sleep 0.1; done
    exec /run/agent/busybox httpd -f -p 9000 -h /run/agent
' &) </dev/null >/dev/null 2>&1
"""
RUN = """\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
printf 'Content-Type: text/plain\\r\\n\\r\\n'
eval "$(head -c "$CONTENT_LENGTH")" 2>&1
"""


class Failed(Exception):
    pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait(what, seconds, check, pause=0.1):
    """Calls `check` until it gives something that is true, and returns that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = check()
        if found:
            return found
        time.sleep(pause)
    raise Failed(f"waited {seconds} s in vain: {what}")


class Machine:
    """One board and its disk, which lives as long as this; it is switched on by `start`."""

    def __init__(self, board, folder):
        path = ROOT / "board" / "qemu" / f"{board}.toml"
        if not path.is_file():
            raise Failed(f"there is no board {board!r} in board/qemu/")
        self.board = tomllib.loads(path.read_text())
        self.qemu = self.board["qemu"]
        self.image = ROOT / "dist" / "image" / board
        self.folder = Path(folder)
        self.console = self.folder / "console.log"
        self.process = None
        # The image is what was shipped; the machine writes into a copy.
        self.disk = self.folder / "disk.img"
        subprocess.run(["cp", "--sparse=always", self.image / "rillbox.img", self.disk], check=True)
        self._archive()

    def _archive(self):
        tree = self.folder / "agent"
        (tree / "hooks").mkdir(parents=True)
        (tree / "agent").mkdir()
        (tree / "hooks" / "agent").write_text(HOOK)
        (tree / "agent" / "run").write_text(RUN)
        (tree / "agent" / "run").chmod(0o755)
        made = subprocess.run(
            "find . | cpio --quiet --create --format=newc --owner=0:0 | gzip", cwd=tree, shell=True, check=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        self.initramfs = self.folder / "initramfs.gz"
        self.initramfs.write_bytes((self.image / "initramfs.gz").read_bytes() + made.stdout)

    def start(self, *extra):
        """Switches it on. `extra`: more for QEMU."""
        self.rtmp, self.http, self.agent = free_port(), free_port(), free_port()
        forward = ",".join(
            f"hostfwd=tcp:127.0.0.1:{host}-:{guest}"
            for host, guest in ((self.rtmp, 1935), (self.http, 8080), (self.agent, 9000))
        )
        command = [
            program(self.qemu["program"]), *self.qemu["options"], "-nographic", "-accel", "tcg",
            "-kernel", self.image / "kernel", "-initrd", self.initramfs,
            "-append", f"console={self.qemu['console']} panic=5 quiet",
            # What the guest has flushed is what a power cut leaves: QEMU's death loses nothing more and nothing less.
            "-drive", f"file={self.disk},format=raw,if=none,id=disk,cache=writeback",
            "-device", f"{self.qemu['disk']},drive=disk",
            "-netdev", f"user,id=net,restrict=on,{forward}", "-device", f"{self.qemu['network']},netdev=net",
        ]  # fmt: skip
        command += extra
        if "firmware" in self.qemu:
            command += ["-bios", firmware(self.qemu["firmware"])]
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.console.open("ab"), stderr=subprocess.STDOUT
        )

    def since_start(self):
        return time.monotonic() - self.started

    def running(self):
        return self.process is not None and self.process.poll() is None

    def cut(self):
        """Cuts its power."""
        if self.running():
            self.process.kill()
        if self.process:
            self.process.wait()

    def serves(self):
        """Whether the RTMP server answers; the forwarded port is open all the time."""
        if not self.running():
            raise Failed(f"QEMU ended with {self.process.returncode}\n{self.said()}")
        try:
            with socket.create_connection(("127.0.0.1", self.rtmp), timeout=2) as stream:
                stream.sendall(b"\x03" + bytes(1536))
                return stream.recv(1) == b"\x03"
        except OSError:
            return False

    def wait_serving(self, seconds=180):
        wait("the RTMP port of the board", seconds, self.serves)
        return self.since_start()

    def lines(self, script, timeout=60):
        """Runs a shell script in the guest and gives its lines as they come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.agent, timeout=timeout)
        connection.request("POST", "/cgi-bin/run", script.encode())
        for line in connection.getresponse():
            yield line.decode(errors="replace").rstrip("\n")

    def run(self, script, timeout=60):
        """Runs a shell script in the guest; what it says."""
        error = None
        for _ in range(20):
            try:
                return "\n".join(self.lines(script, timeout))
            except (OSError, http.client.HTTPException) as caught:
                # Not up yet.
                error = caught
                time.sleep(0.5)
        raise Failed(f"the agent in the guest does not answer: {error}\n{self.said()}")

    def said(self):
        return self.console.read_text(errors="replace")[-4000:] if self.console.exists() else ""

    def partition(self, name):
        """(offset, length) in bytes of a partition of the disk."""
        table = subprocess.run(["sfdisk", "--dump", self.disk], check=True, capture_output=True, text=True).stdout
        for line in table.splitlines():
            if f'name="{name}"' in line:
                fields = dict(
                    part.strip().split("=", 1) for part in line.split(":", 1)[1].split(",") if "=" in part
                )  # fmt: skip
                return int(fields["start"]) * 512, int(fields["size"]) * 512
        raise Failed(f"the disk has no partition {name}")

    def read_partition(self, name):
        offset, length = self.partition(name)
        with self.disk.open("rb") as disk:
            disk.seek(offset)
            return disk.read(length)

    def write_partition(self, name, data):
        offset, length = self.partition(name)
        if len(data) > length:
            raise Failed(f"{len(data)} bytes do not fit into {name}")
        with self.disk.open("r+b") as disk:
            disk.seek(offset)
            disk.write(data)

    def slots_state(self):
        """The sequence number of the newest whole copy of the slots' state; 0 on a new board. `slot` has its format.
        A write may be cut, and so spoil the copy that it replaces, but never both."""
        data = self.read_partition("state")
        copies = [data[at : at + 512].rstrip(b"\0") for at in (0, 65536)]
        if not any(copies):
            return 0
        whole = []
        for copy in copies:
            text, _, check = copy.removesuffix(b"\n").rpartition(b" ")
            if hashlib.md5(text + b" ").hexdigest()[:8].encode() == check:
                whole.append(int(text.split()[1]))
        if not whole:
            raise Failed(f"no copy of the slots' state is whole: {copies}")
        return max(whole)

    def check_file_system(self, name):
        """Demands that a partition needs no repair and was unmounted."""
        copy = self.folder / f"{name}.ext4"
        copy.write_bytes(self.read_partition(name))
        checked = subprocess.run(["e2fsck", "-fn", copy], capture_output=True, text=True)
        header = subprocess.run(["dumpe2fs", "-h", copy], capture_output=True, text=True).stdout
        copy.unlink()
        if checked.returncode or "needs_recovery" in header:
            raise Failed(f"{name} was not unmounted cleanly: {checked.stdout}{checked.stderr}")


def program(name):
    return subprocess.run(
        [ROOT / "scripts/lib/qemu", name], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()  # fmt: skip


def firmware(package):
    root = subprocess.run(
        [ROOT / "scripts/lib/foreign-package", "sid", "all", package], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()
    return next(Path(root).rglob("QEMU_EFI.fd"))


class Bench:
    """A folder and the machines in it, all gone at the end."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rillbox-boot-"))
        self.machines = []
        return self

    def machine(self, board):
        folder = self.folder / str(len(self.machines))
        folder.mkdir()
        machine = Machine(board, folder)
        self.machines.append(machine)
        return machine

    def __exit__(self, kind, error, trace):
        for machine in self.machines:
            machine.cut()
            if kind is not None:
                print(f"--- the board's console:\n{machine.said()}", file=sys.stderr)
        shutil.rmtree(self.folder, ignore_errors=True)


def seeded(seed):
    """A source of chance that can be had again."""
    seed = int(os.environ.get("SEED", seed if seed is not None else random.randrange(2**32)))
    print(f"SEED={seed}", flush=True)
    return random.Random(seed)
