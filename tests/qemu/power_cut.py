"""Cuts a board's power at random moments while its configuration and boot state are written.

  power_cut.py BOARD [TIMES]     20 times, unless you say; SEED=N repeats a run
  power_cut.py --slots BOARD     a broken slot is left after its tries, an unreadable one at once; the box also gets by
                                 without boot state, without its partition for configurations, and without DHCP
"""

import http.client
import sys
import threading
import time

from machine import Bench, Failed, seeded, wait

# Writes version after version, each of several blocks, and says so when one is safely there; the slots' state as well.
WRITER = """
cd /run
n=%d
while :; do
    n=$((n + 1))
    {
        echo "# version $n"
        sed 's/^/# /' /etc/rillbox/rillbox.toml /etc/init.d/S80rillbox
        echo "# end $n"
    } >new.toml
    rillbox apply new.toml -c /config/rillbox.toml >/dev/null || echo "refused $n"
    echo "confirmed $n"
    slot good
done
"""
READ = """
head -n 1 /config/rillbox.toml
tail -n 1 /config/rillbox.toml
rillbox check -c /config/rillbox.toml >/dev/null && echo right
slot status
"""


def version(machine, least):
    """The version of the configuration on the board, which has to be whole, right, and no older than `least`."""
    said = machine.run(READ).splitlines()
    if len(said) != 4 or said[2] != "right" or "tries left" not in said[3]:
        raise Failed(f"the configuration or the slots' state did not survive: {said}")
    if not said[0].startswith("# version "):
        # What the image came with.
        found = 0
    else:
        found = int(said[0].split()[-1])
        if said[1] != f"# end {found}":
            raise Failed(f"the configuration is not whole: {said}")
    # One more may be there than was heard of: its confirmation was under way.
    if found < least:
        raise Failed(f"version {least} was confirmed, version {found} is there")
    return found


class Writing:
    """The writer in the guest, and the last version that it confirmed."""

    def __init__(self, machine, start):
        self.confirmed = start
        self.refused = None
        self.thread = threading.Thread(target=self._listen, args=(machine, start), daemon=True)
        self.thread.start()

    def _listen(self, machine, start):
        try:
            for line in machine.lines(WRITER % start, timeout=600):
                word, _, number = line.partition(" ")
                if word == "confirmed":
                    self.confirmed = int(number)
                else:
                    self.refused = line
        except (OSError, ValueError, http.client.HTTPException):
            # That was the power.
            pass


def cuts(board, times):
    chance = seeded(None)
    with Bench() as bench:
        machine = bench.machine(board)
        at = written = early = sequence = 0

        def cut():
            """And what the disk has to hold then."""
            nonlocal sequence
            machine.cut()
            now = machine.slots_state()
            if now < sequence:
                raise Failed(f"the slots' state went back from {sequence} to {now}")
            sequence = now

        for number in range(1, times + 1):
            begun = time.monotonic()
            machine.start()
            # Sometimes while it boots, and once more then.
            if chance.random() < 0.25:
                time.sleep(chance.uniform(0.5, 15))
                cut()
                early += 1
                machine.start()
            machine.wait_serving()
            at = version(machine, at)
            writing = Writing(machine, at)
            wait("the first confirmation", 60, lambda: writing.confirmed > at)
            time.sleep(chance.uniform(0, 3))
            cut()
            writing.thread.join()
            if writing.refused:
                raise Failed(f"the guest said: {writing.refused}")
            written += writing.confirmed - at
            at = writing.confirmed
            print(f"{board}: cut {number} of {times} after version {at}, {time.monotonic() - begun:.1f} s", flush=True)
        machine.start()
        machine.wait_serving()
        version(machine, at)
        print(
            f"{board}: {times} cuts while writing and {early} while booting, {written} versions: always booted, always the"
            " last confirmed configuration or the one being written"
        )


def slots(board):
    with Bench() as bench:
        machine = bench.machine(board)
        root = machine.read_partition("rootB")
        machine.start()
        machine.wait_serving()
        if "running A" not in machine.run("slot status"):
            raise Failed("a new board does not run slot A")

        # A slot that mounts and never gets good: killed before it settles, as one that hangs would be.
        machine.run("slot next B")
        machine.cut()
        for left in (2, 1, 0):
            machine.start()
            machine.wait_serving()
            status = machine.run("slot status")
            if "running B" not in status or f"B {left}" not in status:
                raise Failed(f"expected slot B with {left} tries left: {status}")
            machine.cut()
        machine.start()
        machine.wait_serving()
        if "running A" not in (status := machine.run("slot status")):
            raise Failed(f"slot B has used its tries up, and is booted all the same: {status}")
        print(f"{board}: a slot that never gets good is left after three boots", flush=True)

        # One that can't be mounted.
        machine.run("slot next B")
        machine.cut()
        machine.write_partition("rootB", bytes(4096))
        machine.start()
        machine.wait_serving()
        if "running A" not in (status := machine.run("slot status")):
            raise Failed(f"slot B holds nothing, and yet: {status}")
        machine.cut()
        print(f"{board}: a slot without a file system is passed over in the same boot", flush=True)

        # Garbage for a state: begins anew, with A.
        machine.write_partition("rootB", root[:4096])
        machine.write_partition("state", b"rillbox-slots 99 BA 9 9 00000000\n" * 3000)
        machine.start()
        machine.wait_serving()
        if "running A, order AB" not in (status := machine.run("slot status")):
            raise Failed(f"a damaged state was believed: {status}")
        print(f"{board}: a damaged boot state counts as none", flush=True)
        machine.cut()

        # No configuration; and a second port, with nobody at its other end.
        size = len(machine.read_partition("config"))
        machine.write_partition("config", bytes(size))
        machine.start("-device", machine.qemu["network"])
        machine.wait_serving()
        said = machine.run("grep ' /config ' /proc/mounts; rillbox check -c /config/rillbox.toml >/dev/null && echo right")
        if "tmpfs" not in said or "right" not in said or "LOST AT POWER-OFF" not in machine.console.read_text(errors="replace"):
            raise Failed(f"without a partition for it, the configuration should be in memory, and the console say so: {said}")
        print(f"{board}: without its partition for configurations it serves, and says so", flush=True)
        wait("the address of a port without DHCP", 60, lambda: "192.168.1.120/24" in machine.run("ip address"), pause=1)
        print(f"{board}: a port on which nobody answers gets the address to find it at", flush=True)


def main(args):
    try:
        match args:
            case ["--slots", board]:
                slots(board)
            case [board]:
                cuts(board, 20)
            case [board, times]:
                cuts(board, int(times))
            case _:
                sys.exit("takes a board, and perhaps how many times; or --slots and a board")
    except Failed as error:
        print(f"FAILED: {error}")
        print("0 passed, 1 failed")
        return 1
    print("1 passed, 0 failed")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
