require rillbox.inc

# A static program: no compiler is needed for it, and nothing is left to strip.
INHIBIT_DEFAULT_DEPS = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_SYSROOT_STRIP = "1"

SRC_URI += "${RILLBOX_PROGRAM}"

# What scripts/build made: RILLBOX_DIST/TARGET/BUNDLE/rillbox.
RILLBOX_DIST ?= "${RILLBOX_TREE}/dist"
RILLBOX_BUNDLE ?= "full"
RILLBOX_FEATURES = "${RILLBOX_BUNDLE}"
# The plainest of an architecture; a machine may name another file of targets/.
RILLBOX_TARGET ?= "${@d.getVarFlag('RILLBOX_TARGETS', d.getVar('TARGET_ARCH')) or ''}"
RILLBOX_TARGETS[aarch64] = "aarch64"
RILLBOX_TARGETS[arm] = "armv7"
RILLBOX_TARGETS[loongarch64] = "loongarch64"
RILLBOX_TARGETS[mips] = "mips"
RILLBOX_TARGETS[mipsel] = "mipsel"
RILLBOX_TARGETS[riscv64] = "riscv64gc"
RILLBOX_TARGETS[x86_64] = "x86_64"
FILESEXTRAPATHS:prepend := "${RILLBOX_DIST}/${RILLBOX_TARGET}/${RILLBOX_BUNDLE}:"

# Or from elsewhere: the URL of an archive with the file rillbox in it, with ";sha256sum=…;subdir=${BP}".
RILLBOX_PROGRAM ?= "file://rillbox;subdir=${BP}"

SKIP_RECIPE[rillbox-bin] = "${@rillbox_not_for(d)}"
def rillbox_not_for(d):
    if not d.getVar('RILLBOX_TARGET'):
        return 'there is no program for ' + d.getVar('TARGET_ARCH')
    # bitbake parses nothing at all while a file of a recipe is missing.
    if d.getVar('RILLBOX_PROGRAM').startswith('file:'):
        program = d.expand('${RILLBOX_DIST}/${RILLBOX_TARGET}/${RILLBOX_BUNDLE}/rillbox')
        bb.parse.mark_dependency(d, program)
        if not os.path.exists(program):
            return d.expand('there is no %s. Run scripts/build ${RILLBOX_TARGET} ${RILLBOX_BUNDLE}' % program)
    # The one for ARM needs what Debian's armhf needs: ARMv7-A with floating point.
    if d.getVar('TARGET_ARCH') == 'arm':
        overrides = d.getVar('MACHINEOVERRIDES').split(':')
        features = d.getVar('TUNE_FEATURES').split()
        if not any(name.startswith(('armv7a', 'armv7ve', 'armv8', 'armv9')) for name in overrides) \
                or not any(name.startswith(('neon', 'vfp')) for name in features):
            return 'it is for ARMv7-A with VFP, which %s is not' % d.getVar('DEFAULTTUNE')
    return ''

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    rillbox_install ${S}/rillbox
}

PACKAGES = "${PN}"
RPROVIDES:${PN} = "rillbox"
RCONFLICTS:${PN} = "rillbox"
