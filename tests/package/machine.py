"""A machine of its own for a test: a root folder whose init runs in namespaces, by systemd-nspawn. Nothing of it is
seen from outside, and its network is a loopback device."""

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CGROUPS = [Path("/sys/fs/cgroup"), *(Path("/sys/fs/cgroup", part) for part in ("systemd", "unified"))]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Root:
    """An empty folder for a machine, in memory: the disk has nothing of what a package manager would sync to it."""

    def __init__(self):
        self.name = tempfile.mkdtemp()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=1g", "rillbox-test", self.name], check=True)

    def cleanup(self):
        subprocess.run(["umount", self.name], check=True)
        os.rmdir(self.name)


class Machine:
    """Boots the folder `root`; `systemd` says whether its init tells when it is up. To be used in a `with`."""

    def __init__(self, root, systemd=True):
        self.root = Path(root)
        self._systemd = systemd

    def __enter__(self):
        self._name = f"rillbox-test-{os.getpid()}-{time.monotonic_ns()}"
        self._cgroups = [folder / self._name for folder in CGROUPS if (folder / "cgroup.procs").exists()]
        command = [
            "systemd-nspawn", "--quiet", "--register=no", "--private-network", f"--machine={self._name}",
            f"--directory={self.root}", "--console=read-only", "--boot",
            f"--notify-ready={'yes' if self._systemd else 'no'}",
        ]  # fmt: skip
        if not Path("/run/systemd/system").exists():
            # Without a systemd outside, there is nobody to make a cgroup; then the machine gets one of ours.
            command.append("--keep-unit")
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            path = f"{folder}/notify"
            notify.bind(path)
            notify.settimeout(1)
            deadline = time.monotonic() + 60
            self.console = tempfile.TemporaryFile()
            self._nspawn = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self.console, stderr=subprocess.STDOUT,
                env={**os.environ, "NOTIFY_SOCKET": path, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                preexec_fn=self._own_cgroup,
            )  # fmt: skip
            self._leader = None
            ready = False
            while not (ready and self._leader):
                try:
                    said = dict(line.split("=", 1) for line in notify.recv(4096).decode().splitlines())
                except TimeoutError:
                    if self._nspawn.poll() is None and time.monotonic() < deadline:
                        continue
                    text = self.console_text()
                    self.__exit__()
                    raise AssertionError(f"the machine does not come up: {text}") from None
                self._leader = said.get("X_NSPAWN_LEADER_PID", self._leader)
                ready = ready or "READY" in said
        return self

    def _own_cgroup(self):
        if Path("/run/systemd/system").exists():
            return
        for folder in self._cgroups:
            folder.mkdir()
            (folder / "cgroup.procs").write_text(str(os.getpid()))

    def __exit__(self, *_):
        # Its init, and with it all that runs there. Then nspawn tidies up.
        if self._nspawn.poll() is not None:
            pass
        elif self._leader:
            os.kill(int(self._leader), signal.SIGKILL)
        else:
            self._nspawn.terminate()
        self._nspawn.wait(20)
        # Where /run is no tmpfs, it leaves that.
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(f"/run/systemd/nspawn/propagate/{self._name}")
        self.console.close()
        for folder in self._cgroups:
            for inner, _, _ in os.walk(folder, topdown=False):
                self.wait_until(f"{inner} is empty", lambda: self._remove(inner))

    @staticmethod
    def _remove(cgroup):
        try:
            os.rmdir(cgroup)
        except OSError as error:
            # What was killed is still about to end.
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    def console_text(self):
        self.console.seek(0)
        return self.console.read().decode(errors="replace")

    def try_run(self, command):
        """Runs a shell command in the machine; gives its exit status and what it printed."""
        done = subprocess.run(
            ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root",
             "--wd", "/bin/env", "-i", f"PATH={PATH}", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
             "/bin/sh", "-c", command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout.strip()

    def run(self, command):
        """As `try_run`, for what has to succeed; gives what it printed."""
        status, said = self.try_run(command)
        assert status == 0, f"`{command}` failed ({status}): {said}"
        return said

    def with_network(self, *command):
        """Starts a program of the machine outside in the network of this one."""
        return subprocess.Popen(
            ["nsenter", f"--target={self._leader}", "--net", *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def answers(self, port):
        """Whether somebody takes connections to the port."""
        probe = self.with_network("bash", "-c", f": 3<>/dev/tcp/127.0.0.1/{port}")
        probe.communicate()
        return probe.returncode == 0

    def streams(self):
        """Publishes by RTMP and plays by HTTP-FLV, with FFmpeg: whether a second of video came through."""
        publisher = self.with_network(
            "ffmpeg", "-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "testsrc=size=320x180:rate=25",
            "-t", "30", "-c:v", "libx264", "-preset", "ultrafast", "-g", "25",
            "-f", "flv", "rtmp://127.0.0.1/live/test",
        )  # fmt: skip
        url = "http://127.0.0.1:8080/live/test.flv"
        try:
            for _ in range(20):
                player = self.with_network(
                    "ffmpeg", "-nostdin", "-v", "error", "-rw_timeout", "5000000", "-i", url,
                    "-frames:v", "25", "-f", "framemd5", "-",
                )  # fmt: skip
                said, _ = player.communicate(timeout=30)
                frames = {line.split(",")[-1] for line in said.splitlines() if line.startswith("0,")}
                if len(frames) == 25:
                    return True
                # The publisher has not come yet.
                time.sleep(0.3)
            raise AssertionError(f"no stream: {said}")
        finally:
            publisher.kill()
            publisher.communicate()

    def wait_until(self, what, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
            time.sleep(0.1)

    def write(self, path, text):
        """Writes a file of the machine that is seen in both: not below /run or /dev."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def copy(self, source, path):
        shutil.copy(source, self.root / path.lstrip("/"))
