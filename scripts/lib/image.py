"""Makes the disk images of board/qemu/. See scripts/image for how to call it."""

import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import targets
from targets import ROOT

BOARDS = ROOT / "board" / "qemu"
COMMON = ROOT / "board" / "common"
# The user that the server runs as; the same on every board, since /config and /data outlive the root.
RILLBOX_ID = 900
# What the scripts of board/common and conf/init call. The root has a link for each.
APPLETS = """
    [ ash cat chmod chown cp cut date dd df dmesg echo egrep env expr false free grep halt head hostname id ifconfig
    init insmod ip kill killall ls md5sum mkdir mknod mount mountpoint mv netstat nslookup pidof ping poweroff printf
    ps pwd readlink reboot rm rmdir route sed seq sh sleep sort start-stop-daemon stat stty sync sysctl syslogd
    tail tar tee test top touch tr true udhcpc umount uname uptime vi wc wget xargs
""".split()
INITRAMFS_APPLETS = "[ cat cut dd echo false grep head insmod ls md5sum mkdir mount printf reboot sed sh sleep switch_root sync test tr true umount".split()


def fail(text):
    sys.exit(f"scripts/image: {text}")


def names():
    return sorted(path.stem for path in BOARDS.glob("*.toml"))


def load(name):
    path = BOARDS / f"{name}.toml"
    if not path.is_file():
        fail(f"there is no board {name!r}; there are: {' '.join(names())}")
    return tomllib.loads(path.read_text())


def foreign(suite, arch, *packages):
    """The folder with these Debian packages, unpacked."""
    command = [ROOT / "scripts/lib/foreign-package", suite, arch, *packages]
    return Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def only(paths, what):
    paths = [path for path in paths if path.is_file() and not path.is_symlink()]
    if len(paths) != 1:
        fail(f"expected one {what}, found {paths}")
    return paths[0]


def parts(board):
    """(kernel, folder of its modules or None, busybox) of a board."""
    if board["kernel"] == "source":
        made = subprocess.run([ROOT / "scripts/lib/mips-kernel"], check=True, stdout=subprocess.PIPE, text=True)
        folder = Path(made.stdout.strip())
        return folder / "vmlinux", None, folder / "busybox"
    arch = targets.load(board["target"]).names["debian"]
    root = foreign(board["suite"], arch, board["kernel"] + "!", "busybox-static")
    kernel = only([*root.glob("boot/vmlinu[xz]-*"), *root.glob("usr/lib/modules/*/vmlinuz")], "kernel")
    modules = [path for path in [*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*")] if path.is_dir()]
    return kernel, modules[0], only([*root.glob("bin/busybox"), *root.glob("usr/bin/busybox")], "busybox")


def module_files(folder, wanted):
    """Files of these modules and of those they need, in the order to load them, with parameters."""
    version = folder.name
    subprocess.run(["depmod", "-b", folder.parents[2], version], check=True, stderr=subprocess.DEVNULL)
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    by_name = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needs}
    built_in = folder / "modules.builtin"
    inside = {Path(line).stem.replace("-", "_") for line in built_in.read_text().split()} if built_in.is_file() else None
    order = {}
    # ext4 asks for checksums by name, not by symbol.
    for name, _, parameters in (wish.partition(" ") for wish in [*wanted, "crc32c_generic", "libcrc32c", "crc32c"]):
        path = by_name.get(name)
        if path:
            for file in [*reversed(needs[path]), path]:
                order.setdefault(file, parameters if file == path else "")
        elif inside is not None and name not in inside and name in [wish.split()[0] for wish in wanted]:
            fail(f"the kernel {version} has no module {name}")
    return [(folder / path, parameters) for path, parameters in order.items()]


def plain(path):
    """A module's bytes, which may be compressed."""
    match path.suffix:
        case ".xz":
            return lzma.decompress(path.read_bytes())
        case ".zst":
            return subprocess.run(["zstd", "-dcq", path], check=True, stdout=subprocess.PIPE).stdout
    return path.read_bytes()


def link_applets(folder, applets):
    for applet in applets:
        (folder / applet).symlink_to("busybox")


def initramfs(kernel_modules, wanted, busybox, to):
    """Loads drivers, chooses the slot, mounts it: board/common/initramfs/init."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in ("bin", "dev", "proc", "sys", "run", "root", "modules", "hooks"):
            (tree / name).mkdir()
        shutil.copy(busybox, tree / "bin" / "busybox")
        link_applets(tree / "bin", INITRAMFS_APPLETS)
        shutil.copy(COMMON / "initramfs" / "init", tree / "init")
        shutil.copy(COMMON / "overlay" / "usr" / "sbin" / "slot", tree / "bin" / "slot")
        if kernel_modules:
            lines = []
            for path, parameters in module_files(kernel_modules, wanted):
                name = path.name.split(".ko")[0] + ".ko"
                (tree / "modules" / name).write_bytes(plain(path))
                lines.append(f"{name} {parameters}".strip() + "\n")
            (tree / "modules" / "list").write_text("".join(lines))
        pack(tree, to)


def pack(tree, to):
    """A gzipped cpio archive of a folder; the same folder gives the same bytes."""
    subprocess.run(
        f"find . -print0 | LC_ALL=C sort -z | cpio --null --quiet --create --format=newc --owner=0:0 --reproducible"
        f" | gzip -9n >'{to}'",
        cwd=tree, shell=True, check=True,
    )  # fmt: skip


def root(binary, busybox, to):
    """The read-only root file system: BusyBox, Rillbox, the board's overlay, and users."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in "bin config data dev etc etc/rillbox proc root run sbin sys tmp usr usr/bin usr/sbin var".split():
            (tree / name).mkdir()
        shutil.copy(busybox, tree / "bin" / "busybox")
        link_applets(tree / "bin", APPLETS)
        (tree / "sbin" / "init").symlink_to("../bin/busybox")
        shutil.copytree(COMMON / "overlay", tree, dirs_exist_ok=True)
        shutil.copy(binary, tree / "usr" / "bin" / "rillbox")
        shutil.copy(ROOT / "conf" / "rillbox.toml", tree / "etc" / "rillbox" / "rillbox.toml")
        shutil.copy(ROOT / "conf" / "init" / "busybox", tree / "etc" / "init.d" / "S80rillbox")
        # Nobody can log in: there is no password that fits.
        users = [("root", 0, "/root"), ("rillbox", RILLBOX_ID, "/data")]
        (tree / "etc" / "passwd").write_text("".join(f"{n}:x:{i}:{i}::{h}:/bin/false\n" for n, i, h in users))
        (tree / "etc" / "group").write_text("".join(f"{n}:x:{i}:\n" for n, i, _ in users))
        (tree / "etc" / "shadow").write_text("".join(f"{n}:*:::::::\n" for n, _, _ in users))
        (tree / "etc" / "shadow").chmod(0o600)
        (tree / "etc" / "resolv.conf").symlink_to("/run/resolv.conf")
        to.unlink(missing_ok=True)
        subprocess.run(
            ["mksquashfs", tree, to, "-quiet", "-no-progress", "-noappend", "-all-root", "-comp", "xz", "-b", "128K"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip


def disk(out, kernel):
    """The whole disk, from what is in `out`."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "root").mkdir()
        files = [kernel, "initramfs.gz"]
        # A tenth for the file system itself, and room for a larger kernel.
        size = sum((out / name).stat().st_size for name in files) * 3 // 2 // 2**20 + 4
        text = (COMMON / "genimage.cfg").read_text()
        text = text.replace("@BOOT_FILES@", ", ".join(f'"{name}"' for name in files)).replace("@BOOT_SIZE@", f"{size}M")
        (work / "genimage.cfg").write_text(text)
        command = [
            "genimage", "--config", work / "genimage.cfg", "--inputpath", out, "--outputpath", work / "out",
            "--tmppath", work / "tmp", "--rootpath", work / "root",
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            fail(f"genimage: {made.stdout}{made.stderr}")
        # Most of it is empty; so is the file.
        subprocess.run(["cp", "--sparse=always", work / "out" / "rillbox.img", out / "rillbox.img"], check=True)


def image(name, bundle):
    board = load(name)
    print(f"{name}: kernel and BusyBox", flush=True)
    kernel, modules, busybox = parts(board)
    # For trying out binaries that were made elsewhere.
    dist = os.environ.get("RILLBOX_DIST")
    if not dist:
        subprocess.run([ROOT / "scripts/build", board["target"], bundle], check=True)
    binary = Path(dist or ROOT / "dist") / board["target"] / bundle / "rillbox"
    out = ROOT / "dist" / "image" / name
    out.mkdir(parents=True, exist_ok=True)
    shutil.copy(kernel, out / "kernel")
    print(f"{name}: root and disk", flush=True)
    initramfs(modules, board["modules"], busybox, out / "initramfs.gz")
    root(binary, busybox, out / "root.squashfs")
    disk(out, "kernel")
    lines = [f"{(out / file).stat().st_size:>12}  {file}\n" for file in ("root.squashfs", "initramfs.gz", "kernel", "rillbox.img")]
    (out / "sizes.txt").write_text("".join(lines))
    print("".join(lines), end="")
    print(f"{name}: dist/image/{name}/rillbox.img; boot it with scripts/test --boot {name}", flush=True)


def main(args):
    match args:
        case ["all"] | ["all", _]:
            for name in names():
                image(name, *args[1:] or ["lite"])
        case [name]:
            image(name, "lite")
        case [name, bundle]:
            image(name, bundle)
        case _:
            fail("takes a board and perhaps a bundle; see scripts/image --help")


if __name__ == "__main__":
    main(sys.argv[1:])
