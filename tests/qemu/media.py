"""Streams through a board, from this machine and back."""

import os
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from machine import Failed, wait

FFMPEG = Path(os.environ.get("RILLBOX_TEST_CLIENTS", "/usr/bin")) / "ffmpeg"
SECONDS = 8


def ffmpeg(*args):
    return [FFMPEG, "-nostdin", "-hide_banner", "-loglevel", "error", *args]


@contextmanager
def source():
    """H.264 with B-frames, AAC; a key frame each second."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "source.flv")
        subprocess.run(
            ffmpeg(
                "-f", "lavfi", "-i", f"testsrc2=size=320x180:rate=25:duration={SECONDS}",
                "-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}",
                "-c:v", "libx264", "-preset", "veryfast", "-b:v", "300k", "-g", "25", "-bf", "2",
                "-c:a", "aac", "-b:a", "64k", "-f", "flv", file,
            ),
            check=True,
        )  # fmt: skip
        yield file


def frames(text):
    """{stream number: [hash of each packet]} of a framehash listing."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            fields = [field.strip() for field in line.split(",")]
            found.setdefault(fields[0], []).append(fields[5])
    return found


class Player:
    """FFmpeg that lists what it gets."""

    def __init__(self, url):
        self.first = None
        self.text = ""
        self.process = subprocess.Popen(
            ffmpeg("-i", url, "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "framehash", "-flush_packets", "1", "-"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            if self.first is None and not line.startswith("#"):
                self.first = time.monotonic()
            self.text += line

    def end(self):
        self.process.terminate()
        self.reader.join()
        self.errors = self.process.stderr.read()
        self.process.wait()
        return frames(self.text)


def through(machine, file):
    """Publishes a file into the board and plays it out of it twice. Demands that each packet arrives as it was sent.
    Returns when the first packet came back."""
    want = frames(subprocess.run(ffmpeg("-i", file, "-map", "0:v", "-map", "0:a", "-c", "copy", "-f", "framehash", "-"),
                                 check=True, capture_output=True, text=True).stdout)  # fmt: skip
    url = f"rtmp://127.0.0.1:{machine.rtmp}/live/boot"
    publisher = subprocess.Popen(ffmpeg("-re", "-i", file, "-c", "copy", "-f", "flv", url), stderr=subprocess.PIPE, text=True)
    players = []
    try:
        # Waits for the publisher.
        players.append(Player(url))
        wait("the first frame", 30, lambda: players[0].first, pause=0.01)
        players.append(Player(f"http://127.0.0.1:{machine.http}/live/boot.flv"))
        try:
            _, said = publisher.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            raise Failed("the publisher does not come to an end") from None
        if publisher.returncode:
            raise Failed(f"publishing failed: {said}")
        # What is under way.
        time.sleep(2)
    finally:
        publisher.kill()
        got = [player.end() for player in players]
    for name, player, streams in zip(("RTMP", "HTTP-FLV"), players, got):
        if len(streams) != len(want):
            raise Failed(f"{name}: {len(streams)} tracks of {len(want)}: {player.errors}")
        for hashes in streams.values():
            if not any(hashes == whole[-len(hashes) :] and len(hashes) > len(whole) // 4 for whole in want.values()):
                raise Failed(f"{name}: frames are missing or differ: got {len(hashes)}; {player.errors}")
    return players[0].first
