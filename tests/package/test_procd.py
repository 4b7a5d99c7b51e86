"""conf/init/procd under BusyBox's shell, which is OpenWrt's, with a stand-in of OpenWrt's /etc/rc.common that prints
what procd would be told. OpenWrt itself is not run."""

import shutil
import subprocess
import unittest
from pathlib import Path

from test_busybox import ROOT, busybox

RC_COMMON = """\
#!/bin/sh
for call in open_instance close_instance set_param send_signal kill; do
    eval "procd_$call() { echo $call \\"\\$@\\"; }"
done
script=$1 action=$2
. "$script"
[ "$USE_PROCD" = 1 ] || exit 9
start() {
    echo open_service
    start_service
    echo close_service
}
stop() { procd_kill rillbox; }
reload() { reload_service; }
restart() {
    stop
    start
}
case " start stop reload restart $EXTRA_COMMANDS " in
    *" $action "*) "$action" ;;
    *) exit 8 ;;
esac
"""

STARTED = """\
open_service
open_instance
set_param command /usr/bin/rillbox run -c /etc/rillbox/rillbox.toml
set_param user rillbox
set_param no_new_privs 1
set_param limits nofile=65536 65536
set_param stderr 1
set_param respawn 60 2 0
set_param reload_signal HUP
set_param term_timeout 30
close_instance
close_service
"""


class Procd(unittest.TestCase):
    def setUp(self):
        folder = busybox()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "etc/rc.common").write_text(RC_COMMON)
        (self.root / "etc/rc.common").chmod(0o755)
        shutil.copy(ROOT / "conf/init/procd", self.root / "etc/init.d/rillbox")

    def call(self, action):
        command = ["chroot", self.root, "/etc/init.d/rillbox", action]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return done.returncode, done.stdout

    def test_start(self):
        self.assertEqual(self.call("start"), (0, STARTED))

    def test_reload_drops_nobody(self):
        self.assertEqual(self.call("reload"), (0, "send_signal rillbox * HUP\n"))

    def test_a_wrong_configuration_is_told_and_procd_is_not(self):
        (self.root / "etc/rillbox/rillbox.toml").write_text("[http]\nlisten = 'nowhere'\n")
        for action, before in (("check", ""), ("reload", ""), ("start", "open_service\n")):
            status, said = self.call(action)
            self.assertEqual(status, 1)
            self.assertTrue(said.startswith(f"{before}rillbox: /etc/rillbox/rillbox.toml:2"), said)
            self.assertNotIn("_instance", said)
            self.assertNotIn("close_service", said, "what runs goes on")
            self.assertNotIn("send_signal", said)


if __name__ == "__main__":
    unittest.main()
