SUMMARY = "Empty packages by the names that ours depend on"
LICENSE = "MIT"

INHIBIT_DEFAULT_DEPS = "1"
PROVIDES = " \
    base-files \
    base-passwd \
    shadow \
    shadow-sysroot \
    virtual/${TARGET_PREFIX}binutils \
"
PACKAGES = "base-files base-passwd shadow"
ALLOW_EMPTY:base-files = "1"
ALLOW_EMPTY:base-passwd = "1"
ALLOW_EMPTY:shadow = "1"

do_fetch[noexec] = "1"
do_unpack[noexec] = "1"
do_patch[noexec] = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"
do_install[noexec] = "1"
do_populate_lic[noexec] = "1"
