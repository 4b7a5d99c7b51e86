"""conf/init/busybox under BusyBox's own init, with nothing but BusyBox and the server on the machine."""

import os
import shutil
import subprocess
import unittest
from pathlib import Path

from machine import Machine, Root

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "/etc/init.d/S80rillbox"
INITTAB = f"""\
::sysinit:/bin/syslogd -O /var/log/messages
::sysinit:{SCRIPT} start
::shutdown:{SCRIPT} stop
"""


def busybox():
    """A folder with BusyBox, the server and its configuration, and what removes it."""
    folder = Root()
    root = Path(folder.name)
    for name in "bin dev etc/default etc/init.d etc/rillbox proc run sys tmp usr/bin var/log".split():
        (root / name).mkdir(parents=True)
    # Debian's is static.
    shutil.copy("/bin/busybox", root / "bin")
    subprocess.run(["chroot", root, "/bin/busybox", "--install", "-s", "/bin"], check=True)
    os.symlink("bin", root / "sbin")
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nrillbox:x:200:200::/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nrillbox:x:200:\n")
    (root / "etc/os-release").write_text("ID=busybox\n")
    shutil.copy(os.environ["RILLBOX_BINARY"], root / "usr/bin/rillbox")
    shutil.copy(ROOT / "conf/rillbox.toml", root / "etc/rillbox")
    return folder


class BusyBox(unittest.TestCase):
    def setUp(self):
        folder = busybox()
        self.addCleanup(folder.cleanup)
        self.machine = Machine(folder.name, systemd=False)
        self.machine.write("/etc/inittab", INITTAB)
        self.machine.copy(ROOT / "conf/init/busybox", SCRIPT)

    def boot(self):
        self.enterContext(self.machine)
        self.machine.wait_until("the server runs", lambda: self.status()[0] == 0)

    def status(self):
        return self.machine.try_run(f"{SCRIPT} status")

    def pid(self):
        return self.machine.run("cat /run/rillbox/rillbox.pid")

    def test_a_boot_starts_the_server_for_its_user(self):
        self.boot()
        m = self.machine
        self.assertTrue(m.streams())
        status = m.run(f"cat /proc/{self.pid()}/status")
        self.assertIn("Uid:\t200\t200\t200\t200", status)
        self.assertIn("rillbox 0", m.run("grep 'is ready' /var/log/messages"), "syslog has the log")
        self.assertEqual(m.run(f"{SCRIPT} start"), "Starting rillbox: runs already")
        self.assertIn("Starting rillbox: OK", self.machine.console_text())

    def test_stop_start_and_restart(self):
        self.boot()
        m = self.machine
        first = self.pid()
        self.assertEqual(m.run(f"{SCRIPT} stop"), "Stopping rillbox: OK")
        self.assertEqual(self.status(), (3, "rillbox does not run"))
        self.assertIn("stopped", m.run("tail -n 1 /var/log/messages"), "it was seen off, not killed")
        self.assertNotIn("keep", m.run("ps"), "nothing is left of it")
        self.assertEqual(m.run("ls /run/rillbox /run | grep rillbox.*pid; true"), "")
        self.assertEqual(m.run(f"{SCRIPT} stop"), "Stopping rillbox: does not run")
        self.assertEqual(m.run(f"{SCRIPT} start"), "Starting rillbox: OK")
        second = self.pid()
        self.assertNotEqual(first, second)
        self.assertEqual(m.run(f"{SCRIPT} restart"), "Stopping rillbox: OK\nStarting rillbox: OK")
        self.assertNotEqual(second, self.pid())
        self.assertTrue(m.answers(1935) and m.answers(8080))

    def test_reload(self):
        self.boot()
        m, pid = self.machine, self.pid()
        m.write("/etc/rillbox/rillbox.toml", "[http]\nlisten = 8090\n")
        self.assertEqual(m.run(f"{SCRIPT} reload"), "Reloading rillbox: OK")
        m.wait_until("the new port", lambda: m.answers(8090))
        m.write("/etc/rillbox/rillbox.toml", "[http]\nlisten = 'nowhere'\n")
        status, said = m.try_run(f"{SCRIPT} reload")
        self.assertEqual(status, 1)
        self.assertIn("http.listen", said)
        self.assertEqual(pid, self.pid(), "nobody was dropped")
        # Nor is it started, then.
        m.run(f"{SCRIPT} stop")
        status, said = m.try_run(f"{SCRIPT} start")
        self.assertEqual(status, 1)
        self.assertIn("http.listen", said)
        self.assertEqual(self.status()[0], 3)

    def test_a_taken_port_is_told_and_waited_for(self):
        self.boot()
        m = self.machine
        m.run(f"{SCRIPT} stop")
        m.run("RILLBOX_HTTP_ENABLED=false rillbox run >/dev/null 2>&1 & echo $! >/tmp/other")
        m.wait_until("the port is taken", lambda: m.answers(1935))
        status, said = m.try_run(f"{SCRIPT} start")
        self.assertEqual(status, 1)
        self.assertIn("tried again each 2 s", said)
        self.assertIn("the port is taken", m.console_text())
        m.run("kill $(cat /tmp/other)")
        m.wait_until("the server runs", lambda: self.status()[0] == 0)
        m.wait_until("its port", lambda: m.answers(1935))

    def test_a_killed_server_comes_back(self):
        self.boot()
        m, pid = self.machine, self.pid()
        m.run(f"kill -9 {pid}")
        m.wait_until("it is back", lambda: self.status()[0] == 0 and self.pid() != pid)
        # What was told to stop stays so.
        m.run(f"kill {self.pid()}")
        m.wait_until("it stays ended", lambda: self.status()[0] == 3)

    def test_killed_where_it_feeds_the_watchdog_it_stays_so(self):
        self.machine.write("/etc/default/rillbox", "RILLBOX_SERVER_WATCHDOG=/dev/watchdog\n")
        # A device that takes everything stands in for the board's; only root may write to it.
        self.machine.write("/etc/inittab", "::sysinit:/bin/mknod -m 600 /dev/watchdog c 1 3\n" + INITTAB)
        self.boot()
        m, pid = self.machine, self.pid()
        m.wait_until("it is fed", lambda: "/dev/watchdog is fed" in m.run("cat /var/log/messages"))
        m.run(f"kill -9 {pid}")
        m.wait_until("it was seen", lambda: "about to reboot" in m.console_text())
        self.assertEqual(self.status()[0], 3)
        self.assertEqual(m.run(f"{SCRIPT} start"), "Starting rillbox: OK")
        self.assertEqual(m.run(f"{SCRIPT} stop"), "Stopping rillbox: OK")
        self.assertIn("/dev/watchdog is given up", m.run("cat /var/log/messages"))

    def test_a_stop_does_not_wait_for_ever(self):
        self.boot()
        m, pid = self.machine, self.pid()
        m.run(f"sed -i s/stop_timeout=30/stop_timeout=2/ {SCRIPT}; kill -STOP {pid}")
        self.assertEqual(m.run(f"{SCRIPT} stop"), "Stopping rillbox: killed, killed, OK")
        self.assertFalse(m.answers(1935))


if __name__ == "__main__":
    unittest.main()
