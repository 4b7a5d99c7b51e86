"""The Debian package on a small Debian whose systemd really runs: its life from installation to purge, its units."""

import gzip
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from machine import Machine, Root

DEB = os.environ["RILLBOX_DEB"]
# What `systemd-analyze security` may say at most, from 0 (safe) to 10.
EXPOSURE = 2.0
# Where a system keeps its own notes about what was done.
NOTES = re.compile(
    r"/etc/(passwd|group|shadow|gshadow)-|/etc/\.pwd\.lock|/etc/systemd/system/multi-user\.target\.wants|(/var)?/tmp/.*"
    r"|/var/lib/dpkg/.*|/var/lib/systemd(/.*)?|/var/log/dpkg\.log|/var/log/journal(/.*)?"
)


def debian():
    """The folder of a fresh Debian, which has the package in /root, and what removes it."""
    folder = Root()
    subprocess.run(["tar", "-C", folder.name, "-xf", os.environ["RILLBOX_DEBIAN"]], check=True)
    shutil.copy(DEB, f"{folder.name}/root/rillbox.deb")
    return folder


def next_version(root):
    """Puts a package into /root that is newer and ships another configuration."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["dpkg-deb", "-R", DEB, folder], check=True)
        control = Path(folder, "DEBIAN/control")
        control.write_text(re.sub(r"(?m)^Version: .*", "Version: 99", control.read_text()))
        with open(f"{folder}/etc/rillbox/rillbox.toml", "a") as shipped:
            shipped.write("# Of version 99.\n")
        build = ["dpkg-deb", "--root-owner-group", "-b", folder, f"{root}/root/next.deb"]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)


def main_pid(machine):
    return machine.run("systemctl show -P MainPID rillbox")


def files(machine):
    """All files and folders of the disk."""
    return set(machine.run("find / -xdev -path /proc -prune -o -print").splitlines())


class Life(unittest.TestCase):
    def setUp(self):
        folder = debian()
        self.addCleanup(folder.cleanup)
        self.machine = self.enterContext(Machine(folder.name))

    def test_installs_serves_and_leaves_nothing(self):
        m = self.machine
        before = files(m)
        m.run("dpkg -i /root/rillbox.deb")
        self.assertEqual(m.run("systemctl is-enabled rillbox; systemctl is-active rillbox"), "enabled\nactive")
        sockets = m.try_run("systemctl is-enabled rillbox-rtmp.socket rillbox-http.socket")[1]
        self.assertEqual(sockets, "disabled\ndisabled")
        self.assertTrue(m.streams())
        m.run("touch /var/lib/rillbox/recording.mp4")

        m.run("dpkg -r rillbox")
        self.assertFalse(m.answers(1935))
        m.run("test -f /etc/rillbox/rillbox.toml && test -f /var/lib/rillbox/recording.mp4")
        m.run("dpkg -i /root/rillbox.deb")
        self.assertEqual(m.run("systemctl is-active rillbox"), "active")

        m.run("dpkg -P rillbox")
        self.assertFalse(m.answers(1935))
        left = files(m) - before
        self.assertEqual([path for path in left if not NOTES.fullmatch(path)], [])
        self.assertEqual([path for path in left if "rillbox" in path], [])
        # The user: files elsewhere may be its, so its number must not be given to another.
        self.assertIn("/usr/sbin/nologin", m.run("grep ^rillbox: /etc/passwd"))
        self.assertEqual(m.run("systemctl list-units --all --no-legend 'rillbox*'"), "")

    def test_upgrade_keeps_what_was_edited_and_restarts(self):
        m = self.machine
        next_version(m.root)
        m.run("dpkg -i /root/rillbox.deb")
        m.write("/etc/rillbox/rillbox.toml", "[http]\nlisten = 8090\n")
        m.run("touch /var/lib/rillbox/recording.mp4; systemctl restart rillbox")
        pid = main_pid(m)
        m.run("dpkg --force-confdef --force-confold -i /root/next.deb")
        self.assertEqual(m.run("dpkg-query -W -f '${Version} ${db:Status-Status}' rillbox"), "99 installed")
        self.assertEqual(m.run("cat /etc/rillbox/rillbox.toml"), "[http]\nlisten = 8090")
        self.assertIn("Of version 99", m.run("cat /etc/rillbox/rillbox.toml.dpkg-dist"))
        modes = m.run("stat -c '%U:%G %a' /etc/rillbox /etc/rillbox/rillbox.toml")
        self.assertEqual(modes, "root:rillbox 750\nroot:rillbox 640")
        m.run("test -f /var/lib/rillbox/recording.mp4")
        self.assertNotEqual(main_pid(m), pid)
        self.assertTrue(m.answers(8090))

    def test_upgrade_leaves_a_disabled_service_so(self):
        m = self.machine
        next_version(m.root)
        m.run("dpkg -i /root/rillbox.deb; systemctl disable --now rillbox")
        m.run("dpkg -i /root/next.deb")
        self.assertEqual(m.try_run("systemctl is-enabled rillbox")[1], "disabled")


class Units(unittest.TestCase):
    """One machine for all; each test leaves the service as it was installed."""

    @classmethod
    def setUpClass(cls):
        folder = debian()
        cls.addClassCleanup(folder.cleanup)
        cls.machine = cls.enterClassContext(Machine(folder.name))
        cls.machine.run("dpkg -i /root/rillbox.deb; cp -p /etc/rillbox/rillbox.toml /root")

    def setUp(self):
        m = self.machine
        m.run("rm -rf /etc/systemd/system/rillbox.service.d /etc/default/rillbox")
        m.run("systemctl disable --quiet --now rillbox-rtmp.socket rillbox-http.socket rillbox.service")
        m.run("cp -p /root/rillbox.toml /etc/rillbox; systemctl daemon-reload; systemctl reset-failed")
        m.run("systemctl start rillbox")
        self.since = m.run("date +%s.%N")

    def override(self, text):
        """Options as `systemctl edit` would write them."""
        self.machine.write("/etc/systemd/system/rillbox.service.d/override.conf", f"[Service]\n{text}\n")
        self.machine.run("systemctl daemon-reload; systemctl restart rillbox")

    def configure(self, text):
        # In place: mode and owner stay.
        self.machine.write("/etc/rillbox/rillbox.toml", text)

    def log(self):
        return self.machine.run(f"journalctl --quiet --no-pager --since=@{self.since} --unit=rillbox")

    def show(self, name):
        return self.machine.run(f"systemctl show -P {name} rillbox")

    def wait_for_another_than(self, pid):
        there = lambda: main_pid(self.machine) not in ("0", pid) and self.show("ActiveState") == "active"
        self.machine.wait_until("it is back", there)

    def test_systemd_has_nothing_to_say(self):
        folder = "/usr/lib/systemd/system"
        units = f"{folder}/rillbox.service {folder}/rillbox-rtmp.socket {folder}/rillbox-http.socket"
        self.assertEqual(self.machine.run(f"systemd-analyze verify --man=no {units} 2>&1"), "")

    def test_the_manual_names_every_command(self):
        commands = re.findall(r"(?m)^  ([a-z]+) ", self.machine.run("rillbox help"))
        self.assertIn("apply", commands)
        manual = (self.machine.root / "usr/share/man/man1/rillbox.1.gz").read_bytes()
        manual = gzip.decompress(manual).decode().partition(".SH COMMANDS")[2].partition(".SH OPTIONS")[0]
        self.assertEqual([command for command in commands if not re.search(rf"\b{command}\b", manual)], [])

    def test_exposure(self):
        for how in ("rillbox.service", "--offline=true /usr/lib/systemd/system/rillbox.service"):
            said = self.machine.run(f"systemd-analyze security --no-pager {how}")
            level = float(re.search(r"exposure level for \S+: ([0-9.]+)", said)[1])
            print(f"exposure {level} ({how.split()[0]}) ", end="", flush=True)
            self.assertLessEqual(level, EXPOSURE)

    def test_runs_without_privileges(self):
        status = self.machine.run(f"cat /proc/{main_pid(self.machine)}/status")
        uid = self.machine.run("id -u rillbox")
        self.assertIn(f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}", status)
        # CAP_NET_BIND_SERVICE alone.
        for name in ("Prm", "Eff", "Bnd", "Amb"):
            self.assertIn(f"Cap{name}:\t0000000000000400", status)
        self.assertIn("NoNewPrivs:\t1", status)
        self.assertIn("Seccomp:\t2", status)

    def test_ready_is_told_when_it_serves(self):
        for _ in range(5):
            self.machine.run("systemctl restart rillbox")
            self.assertTrue(self.machine.answers(1935) and self.machine.answers(8080))
        self.assertIn("rtmp://", self.show("StatusText"))

    def test_reload(self):
        pid = main_pid(self.machine)
        self.configure("[http]\nlisten = 8090\n")
        self.machine.run("systemctl reload rillbox")
        self.machine.wait_until("the new port", lambda: self.machine.answers(8090))
        self.assertFalse(self.machine.answers(8080))
        # What is wrong is said, and changes nothing.
        self.configure("[http]\nlisten = 'nowhere'\n")
        self.assertEqual(self.machine.try_run("systemctl reload rillbox")[0], 1)
        self.assertIn("http.listen", self.log())
        self.assertEqual(self.show("ActiveState"), "active")
        self.assertTrue(self.machine.answers(8090))
        self.assertEqual(pid, main_pid(self.machine))

    def test_apply_keeps_the_file_readable(self):
        self.machine.write("/root/new.toml", "[http]\nlisten = 8090\n")
        self.machine.run("rillbox apply /root/new.toml -c /etc/rillbox/rillbox.toml && systemctl reload rillbox")
        self.machine.wait_until("the new port", lambda: self.machine.answers(8090))

    def test_stop_sees_everybody_off(self):
        self.machine.run("systemctl stop rillbox")
        self.assertEqual(self.show("Result"), "success")
        self.assertIn("INFO  -------- stopped", self.log())

    def test_who_crashes_comes_back(self):
        pid = main_pid(self.machine)
        # As a panic does. (What Rust's run-time does with a SIGSEGV from outside is nothing, the first time.)
        self.machine.run(f"kill -ABRT {pid}")
        self.wait_for_another_than(pid)
        self.assertTrue(self.machine.answers(1935))
        self.assertEqual(self.show("NRestarts"), "1")

    def test_who_cannot_start_gives_up(self):
        self.override("RestartSec=10ms")
        self.configure("[http]\nlisten = 'nowhere'\n")
        self.machine.run("systemctl reset-failed rillbox")
        self.assertEqual(self.machine.try_run("systemctl restart rillbox")[0], 1)
        self.machine.wait_until("it gave up", lambda: self.show("SubState") == "failed")
        self.assertEqual(self.log().count("rillbox.toml:2"), 20, "once for each try")

    def test_watchdog(self):
        # Twice the unit's time would be a minute.
        self.override("WatchdogSec=2s\nTimeoutAbortSec=2s")
        pid = main_pid(self.machine)
        time.sleep(5)
        self.assertEqual(pid, main_pid(self.machine), "it is fed")
        self.machine.run(f"kill -STOP {pid}")
        self.wait_for_another_than(pid)
        self.assertIn("Watchdog timeout (limit 2s)", self.log())
        self.assertTrue(self.machine.answers(1935))

    def test_the_unit_asks_for_a_watchdog(self):
        self.assertEqual(self.show("WatchdogUSec"), "30s")
        self.assertNotEqual(self.show("WatchdogTimestampMonotonic"), "0")

    def test_ports_below_1024(self):
        self.configure("[http]\nlisten = 80\n[rtmp]\nlisten = [1935, 443]\n")
        self.machine.run("systemctl restart rillbox")
        self.assertTrue(self.machine.answers(80) and self.machine.answers(443))

    def test_environment(self):
        self.machine.write("/etc/default/rillbox", "RILLBOX_HTTP_LISTEN=8090\n")
        self.machine.run("systemctl restart rillbox")
        self.assertTrue(self.machine.answers(8090))

    def test_writes_where_it_may_and_nowhere_else(self):
        self.configure("[log]\ntarget = '/var/log/rillbox/rillbox.log'\n")
        self.machine.run("systemctl restart rillbox")
        self.assertIn("is ready", self.machine.run("cat /var/log/rillbox/rillbox.log"))
        # A program that the server would start lives in its sandbox, too.
        folders = "/var/lib/rillbox /etc/rillbox /usr /home /srv"
        self.machine.write("/usr/local/bin/probe", f"for folder in {folders}; do touch $folder/probe; done; true\n")
        self.override("ExecStartPost=/bin/sh /usr/local/bin/probe")
        found = self.machine.run("find / -xdev -name probe")
        self.assertEqual(set(found.split()), {"/usr/local/bin/probe", "/var/lib/rillbox/probe"})

    def test_a_key_that_only_root_reads(self):
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -days 2"
        key, cert = self.machine.root / "root/key.pem", self.machine.root / "etc/rillbox/cert.pem"
        subprocess.run([*make.split(), "-keyout", key, "-out", cert], check=True, capture_output=True)
        key.chmod(0o600)
        cert.chmod(0o644)
        self.configure(
            "[tls]\ncert = '/etc/rillbox/cert.pem'\nkey = '/run/credentials/rillbox.service/key.pem'\n"
            "[http]\ntls_listen = 8443\n"
        )
        self.override("LoadCredential=key.pem:/root/key.pem")
        self.assertTrue(self.machine.answers(8443), self.log())

    def test_systemd_holds_the_ports(self):
        m = self.machine
        m.run("systemctl stop rillbox; systemctl enable --quiet --now rillbox-rtmp.socket rillbox-http.socket")
        self.assertEqual(self.show("ActiveState"), "inactive")
        self.assertTrue(m.answers(1935), "systemd takes the connection")
        m.wait_until("it is started", lambda: self.show("ActiveState") == "active")
        self.assertTrue(m.streams())
        # Nobody is refused while it restarts.
        knock = "for i in {1..400}; do : 3<>/dev/tcp/127.0.0.1/8080 || echo refused; done"
        knocks = m.with_network("bash", "-c", knock)
        for _ in range(3):
            m.run("systemctl restart rillbox")
        self.assertEqual(knocks.communicate()[0], "")
        # And an upgrade leaves them alone.
        next_version(m.root)
        m.run("dpkg -i /root/next.deb")
        states = m.run("systemctl is-active rillbox rillbox-rtmp.socket rillbox-http.socket")
        self.assertEqual(states, "active\nactive\nactive")
        self.assertTrue(m.answers(8080))
        m.run("dpkg -i --force-downgrade /root/rillbox.deb")


if __name__ == "__main__":
    unittest.main()
