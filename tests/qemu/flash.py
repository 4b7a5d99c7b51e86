"""scripts/flash on loop devices: what it writes, and all that it must refuse. Needs root, as writing to a disk does."""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

FLASH = Path(__file__).resolve().parents[2] / "scripts" / "flash"
MIB = 2**20


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def flash(*args, answer=None):
    return run(FLASH, *args, input=answer or "")


def refused(done, word):
    assert done.returncode == 1 and word in done.stderr, f"expected a refusal with {word!r}: {done}"


@contextmanager
def loop(folder, size):
    """A device of a file."""
    file = Path(folder, f"device-{size}")
    file.write_bytes(b"\xa5" * size)
    made = run("losetup", "--find", "--show", file)
    if made.returncode:
        sys.exit(f"cannot make a loop device, which needs root: {made.stderr}")
    try:
        yield made.stdout.strip(), file
    finally:
        run("losetup", "--detach", made.stdout.strip())


def main():
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image")
        image.write_bytes(os.urandom(8 * MIB))
        with image.open("r+b") as file:
            file.seek(512)
            file.write(b"EFI PART")
        no_image = Path(folder, "no-image")
        no_image.write_bytes(bytes(2 * MIB))

        with loop(folder, 12 * MIB) as (device, file):
            before = file.read_bytes()
            name = Path(device).name
            refused(flash(image, device, answer="yes\n"), "nothing was written")
            refused(flash(image, device), "nothing was written")
            refused(flash("--yes", no_image, device), "GPT")
            refused(flash("--yes", Path(folder, "absent"), device), "no file")
            refused(flash("--yes", image, file), "no block device")
            run("blockdev", "--setro", device, check=True)
            refused(flash("--yes", image, device), "write-protected")
            run("blockdev", "--setrw", device, check=True)
            assert file.read_bytes() == before, "something was written in spite of a refusal"

            run("mkfs.ext4", "-q", "-F", device, check=True)
            place = Path(folder, "mounted")
            place.mkdir()
            run("mount", device, place, check=True)
            try:
                refused(flash("--yes", image, device), f"in use, at {place}")
            finally:
                run("umount", place, check=True)
            run("mkswap", device, check=True)
            # Not every sandbox may swap.
            if run("swapon", device).returncode == 0:
                try:
                    refused(flash("--yes", image, device), "in use, at [SWAP]")
                finally:
                    run("swapoff", device, check=True)

            done = flash(image, device, answer=f"{name}\n")
            assert done.returncode == 0, done
            assert file.read_bytes()[: 8 * MIB] == image.read_bytes(), "the device does not hold the image"
            assert flash("--yes", image, device).returncode == 0

        with loop(folder, 4 * MIB) as (device, _):
            refused(flash("--yes", image, device), "bytes, the image")
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
