"""Boots a board in QEMU and uses it as its owner would.

  boot.py BOARD...        boots, streams through it, kills the server, sees the watchdog reboot, powers off
  boot.py --report ...    and writes what was measured to board/BOOT.md
"""

import re
import subprocess
import sys
import time
from pathlib import Path

from machine import ROOT, Bench, Failed, wait
import media

REPORT = ROOT / "board" / "BOOT.md"


def watchdog_reboots(machine):
    """The server is killed hard; nobody feeds the watchdog any more, and the board starts anew."""
    before = machine.run("cat /proc/sys/kernel/random/boot_id")
    if "running" not in machine.run("slot status"):
        raise Failed("the board does not know which slot runs")
    if not machine.run("kill -9 $(pidof rillbox) && echo killed").endswith("killed"):
        raise Failed("the server could not be killed")
    killed = time.monotonic()

    def rebooted():
        if not machine.serves():
            return False
        return machine.run("cat /proc/sys/kernel/random/boot_id") != before

    wait("a reboot by the watchdog", 180, rebooted, pause=1)
    return time.monotonic() - killed


def power_off(machine):
    machine.run("poweroff")
    try:
        machine.process.wait(60)
    except subprocess.TimeoutExpired:
        raise Failed("the board was told to power off, and did not within 60 s") from None
    if machine.process.returncode:
        raise Failed(f"QEMU ended with {machine.process.returncode}")
    machine.check_file_system("config")
    machine.check_file_system("data")


def kilobytes(text):
    """The numbers in a file of /proc."""
    return {name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def boot(board, source):
    """Everything, once. Returns the row of the report."""
    with Bench() as bench:
        machine = bench.machine(board)
        machine.start()
        port = machine.wait_serving()
        print(f"{board}: serves after {port:.1f} s", flush=True)
        shown = media.through(machine, source)
        first = shown - machine.started
        print(f"{board}: first frame after {first:.1f} s; all frames by RTMP and HTTP-FLV are the source's", flush=True)
        memory = kilobytes(machine.run("cat /proc/meminfo"))
        taken = memory["MemTotal"] - memory["MemAvailable"]
        resident = kilobytes(machine.run("cat /proc/$(pidof rillbox)/status"))["VmRSS"]
        if machine.qemu.get("resets", True):
            again = f"{watchdog_reboots(machine):.1f} s"
            print(f"{board}: killed hard, reboots by its watchdog and serves again after {again}", flush=True)
        else:
            again = "not possible in QEMU"
            print(f"{board}: its watchdog is not proven: QEMU's machine does not start anew", flush=True)
        power_off(machine)
        print(f"{board}: powers off, file systems clean", flush=True)
        root = (machine.image / "root.squashfs").stat().st_size
        disk = (machine.image / "rillbox.img").stat().st_size
        return (
            f"| {board} | {port:.1f} s | {first:.1f} s | {again} | {taken / 1024:.0f} MiB | {resident / 1024:.1f} MiB "
            f"| {root / 1e6:.1f} MB | {disk / 1e6:.0f} MB |"
        )


def main(args):
    report = "--report" in args
    boards = [arg for arg in args if arg != "--report"]
    if boards == ["all"]:
        boards = sorted(path.stem for path in (ROOT / "board" / "qemu").glob("*.toml"))
    rows, failed = [], 0
    with media.source() as source:
        for board in boards:
            try:
                rows.append(boot(board, source))
            except Failed as error:
                failed += 1
                print(f"{board}: FAILED: {error}", flush=True)
    if report and rows:
        REPORT.write_text(
            "# Boards in QEMU\n\nMeasured by `scripts/test --boot all --report`: seconds from power-on, under emulation without"
            " hardware help, with the host's FFmpeg as publisher and player.\n\n"
            "| board | serves | first frame at a player | killed hard → watchdog → serves | memory used | server | root | disk |\n"
            "|---|---|---|---|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )  # fmt: skip
    print(f"{len(rows)} passed, {failed} failed")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
