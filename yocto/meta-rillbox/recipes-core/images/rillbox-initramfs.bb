SUMMARY = "Initramfs that boots one of two root slots"
DESCRIPTION = "BusyBox and the init of all Rillbox boards: reads which slot to boot, counts the try, mounts it, goes there."
LICENSE = "MIT"

inherit image

PACKAGE_INSTALL = "base-passwd rillbox-board-initramfs ${ROOTFS_BOOTSTRAP_INSTALL} ${VIRTUAL-RUNTIME_base-utils}"
# The kernel holds this image, so this image can't hold the kernel.
PACKAGE_EXCLUDE = "kernel-image-*"

IMAGE_FEATURES = ""
IMAGE_FSTYPES = "${INITRAMFS_FSTYPES}"
IMAGE_LINGUAS = ""
IMAGE_NAME_SUFFIX ?= ""
IMAGE_ROOTFS_EXTRA_SPACE = "0"
IMAGE_ROOTFS_SIZE = "8192"
