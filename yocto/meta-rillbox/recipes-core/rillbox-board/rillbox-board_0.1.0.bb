SUMMARY = "What makes a Rillbox box of a machine: two slots, storage, network, no login"
DESCRIPTION = "The tool that tells which of two root slots is booted, the initramfs that boots it, and what mounts the \
               partitions for configuration and recordings beside the read-only root."
HOMEPAGE = "https://github.com/rillbox/rillbox"
BUGTRACKER = "https://github.com/rillbox/rillbox/issues"
SECTION = "base"
LICENSE = "MIT"
LIC_FILES_CHKSUM = "file://LICENSE;md5=9cd5c2647b131300b93efafc48ef186a"

# board/common is the same on all boards, with and without Yocto. The others put it under systemd.
SRC_URI = "file://LICENSE;subdir=${BP} \
           file://board/common;subdir=${BP} \
           file://box.conf;subdir=${BP} \
           file://network;subdir=${BP} \
           file://rillbox-network.service;subdir=${BP} \
           file://rillbox-storage.service;subdir=${BP} \
           file://slot-good.service;subdir=${BP} \
           file://watchdog.conf;subdir=${BP} \
           "

inherit allarch rillbox_tree systemd

SYSTEMD_SERVICE:${PN} = "rillbox-network.service rillbox-storage.service slot-good.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/board/common/initramfs/init ${D}/init
    install -d ${D}/root

    overlay=${S}/board/common/overlay
    install -d ${D}/config ${D}/data
    install -D -m 0755 $overlay/usr/sbin/slot ${D}${sbindir}/slot
    if [ ${sbindir} != ${base_sbindir} ]; then
        install -d ${D}${base_sbindir}
        ln -s -r ${D}${sbindir}/slot ${D}${base_sbindir}/slot
    fi

    if ${@bb.utils.contains('DISTRO_FEATURES', 'systemd', 'true', 'false', d)}; then
        install -D -m 0755 $overlay/etc/init.d/S10storage ${D}${libexecdir}/rillbox/storage
        install -D -m 0755 ${S}/network ${D}${libexecdir}/rillbox/network
        install -D -m 0644 -t ${D}${systemd_system_unitdir} ${S}/*.service
        install -D -m 0644 ${S}/box.conf ${D}${systemd_system_unitdir}/rillbox.service.d/box.conf
        install -D -m 0644 ${S}/watchdog.conf ${D}${systemd_unitdir}/system.conf.d/rillbox-board.conf
        # Nobody logs in on a screen or a serial line.
        install -d ${D}${sysconfdir}/systemd/system
        ln -s /dev/null ${D}${sysconfdir}/systemd/system/getty@.service
        ln -s /dev/null ${D}${sysconfdir}/systemd/system/serial-getty@.service
    else
        # BusyBox init takes the overlay as it is: rillbox-image puts it over what busybox itself brings.
        install -d ${D}${datadir}/rillbox
        cp -r --no-preserve=ownership $overlay ${D}${datadir}/rillbox/overlay
        rm -r ${D}${datadir}/rillbox/overlay/usr/sbin
    fi
}

PACKAGES = "${PN}-initramfs ${PN}-slot ${PN}"
FILES:${PN}-initramfs += "/init /root"
FILES:${PN}-slot += "${base_sbindir}/slot ${sbindir}/slot"
FILES:${PN} += "/config /data ${datadir} ${systemd_unitdir}"
RDEPENDS:${PN}-initramfs = "${PN}-slot"
RDEPENDS:${PN} = "${PN}-slot"
