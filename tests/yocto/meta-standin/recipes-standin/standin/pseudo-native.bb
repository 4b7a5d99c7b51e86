SUMMARY = "Says that the host has all the tools which packaging needs"
LICENSE = "MIT"

PROVIDES = " \
    binutils-cross-aarch64 \
    binutils-cross-arm \
    binutils-cross-loongarch64 \
    binutils-cross-mips \
    binutils-cross-mipsel \
    binutils-cross-riscv64 \
    binutils-cross-x86_64 \
    dpkg-native \
    dwarfsrcfiles-native \
    file-native \
    patch-replacement-native \
    pseudo-native \
    quilt-native \
    rpm-native \
    shadow-native \
    systemd-systemctl-native \
    update-rc.d-native \
    virtual/fakeroot-native \
    xz-native \
"

# It stands for the very tool that would apply patches.
PATCHDEPENDENCY = ""

inherit native nopackages

do_fetch[noexec] = "1"
do_unpack[noexec] = "1"
do_patch[noexec] = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"
do_populate_lic[noexec] = "1"
deltask do_prepare_recipe_sysroot
