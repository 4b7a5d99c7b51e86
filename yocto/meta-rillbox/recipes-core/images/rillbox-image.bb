SUMMARY = "Disk of a box that serves live media"
DESCRIPTION = "A read-only root file system in two slots, with configuration and recordings in partitions beside them: \
               an update goes to the other slot, and a slot that does not get to serving is left again."
LICENSE = "MIT"

inherit core-image

IMAGE_FEATURES = "read-only-rootfs"
IMAGE_LINGUAS = ""
# "rillbox" builds the server from source, with a Rust that is new enough.
RILLBOX_PACKAGE ?= "rillbox-bin"
IMAGE_INSTALL = "packagegroup-core-boot rillbox-board ${RILLBOX_PACKAGE}"

# BusyBox init instead of systemd: the inittab and /etc/init.d of all other Rillbox boards, and the script from the
# server's package.
ROOTFS_POSTPROCESS_COMMAND += "${@bb.utils.contains('DISTRO_FEATURES', 'systemd', '', 'rillbox_busybox_init', d)}"
rillbox_busybox_init[doc] = "Puts the overlay of all Rillbox boards over what BusyBox brings."
rillbox_busybox_init() {
    rm -rf ${IMAGE_ROOTFS}${sysconfdir}/init.d/rc* ${IMAGE_ROOTFS}${sysconfdir}/rc*.d
    mv ${IMAGE_ROOTFS}${sysconfdir}/init.d/rillbox ${IMAGE_ROOTFS}${sysconfdir}/init.d/S80rillbox
    cp -r --no-preserve=ownership ${IMAGE_ROOTFS}${datadir}/rillbox/overlay/. ${IMAGE_ROOTFS}
}

# An update writes the squashfs to the other slot; the disk is for the first time.
IMAGE_FSTYPES = "squashfs-xz wic.bmap wic.gz"
# nooelint: oelint.vars.mispell,oelint.vars.specific
IMAGE_TYPEDEP:wic = "squashfs-xz"
WKS_FILE = "rillbox-ab.wks.in"

# A slot has to take later releases, too.
RILLBOX_BOOT_SIZE ?= "64M"
RILLBOX_SLOT_SIZE ?= "128M"
RILLBOX_CONFIG_SIZE ?= "8M"
RILLBOX_DATA_SIZE ?= "128M"
RILLBOX_ROOT = "${IMGDEPLOYDIR}/${IMAGE_LINK_NAME}.squashfs-xz"
# Wic's plugins were renamed after scarthgap.
RILLBOX_WIC_BOOT = "${@bb.utils.contains('LAYERSERIES_CORENAMES', 'scarthgap', 'bootimg-partition', 'bootimg_partition', d)}"

# The kernel with its initramfs, where UEFI, U-Boot's too, looks for it by itself. A board whose boot loader wants other
# files names them in its machine's configuration.
RILLBOX_EFI[aarch64] = "EFI/BOOT/bootaa64.efi"
RILLBOX_EFI[arm] = "EFI/BOOT/bootarm.efi"
RILLBOX_EFI[loongarch64] = "EFI/BOOT/bootloongarch64.efi"
RILLBOX_EFI[riscv64] = "EFI/BOOT/bootriscv64.efi"
RILLBOX_EFI[x86_64] = "EFI/BOOT/bootx64.efi"
RILLBOX_KERNEL = "${@d.getVarFlag('RILLBOX_EFI', d.getVar('TARGET_ARCH')) or d.getVar('KERNEL_IMAGETYPE')}"
IMAGE_BOOT_FILES ?= "${KERNEL_IMAGETYPE}-initramfs-${MACHINE}.bin;${RILLBOX_KERNEL}"
