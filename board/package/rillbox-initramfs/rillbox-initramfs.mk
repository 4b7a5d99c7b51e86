################################################################################
#
# rillbox-initramfs
#
################################################################################

RILLBOX_INITRAMFS_LICENSE = MIT
RILLBOX_INITRAMFS_DEPENDENCIES = busybox host-fakeroot
RILLBOX_INITRAMFS_INSTALL_TARGET = NO
RILLBOX_INITRAMFS_INSTALL_IMAGES = YES
RILLBOX_INITRAMFS_COMMON = $(BR2_EXTERNAL_RILLBOX_PATH)/common

# BusyBox as it is on the target, where it is one static program, under all the
# names it has there.
define RILLBOX_INITRAMFS_BUILD_CMDS
	rm -rf $(@D)/tree
	cd $(@D) && mkdir -p tree/bin tree/dev tree/proc tree/sys tree/run tree/root tree/hooks
	$(INSTALL) -m 0755 $(TARGET_DIR)/bin/busybox $(@D)/tree/bin/busybox
	$(STRIPCMD) $(@D)/tree/bin/busybox
	find $(TARGET_DIR)/bin $(TARGET_DIR)/sbin $(TARGET_DIR)/usr/bin $(TARGET_DIR)/usr/sbin \
			-lname '*busybox' -printf '%f\n' | \
		while read -r name; do \
			ln -sf busybox $(@D)/tree/bin/$$name || exit 1; \
		done
	$(INSTALL) -m 0755 $(RILLBOX_INITRAMFS_COMMON)/overlay/usr/sbin/slot $(@D)/tree/bin/slot
	$(INSTALL) -m 0755 $(RILLBOX_INITRAMFS_COMMON)/initramfs/init $(@D)/tree/init
	cd $(@D)/tree && $(HOST_DIR)/bin/fakeroot -- sh -c \
		'mknod -m 0600 dev/console c 5 1 && \
		find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 >../initramfs.cpio'
	gzip -9 -n -c $(@D)/initramfs.cpio >$(@D)/initramfs.gz
endef

define RILLBOX_INITRAMFS_INSTALL_IMAGES_CMDS
	$(INSTALL) -D -m 0644 $(@D)/initramfs.cpio $(BINARIES_DIR)/initramfs.cpio
	$(INSTALL) -D -m 0644 $(@D)/initramfs.gz $(BINARIES_DIR)/initramfs.gz
endef

$(eval $(generic-package))

ifeq ($(BR2_PACKAGE_RILLBOX_INITRAMFS_IN_KERNEL),y)
$(LINUX_TARGET_CONFIGURE): | rillbox-initramfs
endif
