################################################################################
#
# rillbox
#
################################################################################

RILLBOX_REPOSITORY = $(BR2_EXTERNAL_RILLBOX_PATH)/..
RILLBOX_LICENSE = MIT$(if $(BR2_PACKAGE_RILLBOX_FULL)$(BR2_PACKAGE_RILLBOX_TRANSCODE_AUDIO),$(comma) FDK-AAC)
RILLBOX_LICENSE_FILES = LICENSE

ifeq ($(BR2_PACKAGE_RILLBOX_RELEASE),y)
RILLBOX_LOCATION = $(call qstrip,$(BR2_PACKAGE_RILLBOX_RELEASE_LOCATION))
RILLBOX_SOURCE = $(notdir $(RILLBOX_LOCATION))
RILLBOX_SITE = $(patsubst %/,%,$(dir $(RILLBOX_LOCATION)))
RILLBOX_VERSION = $(patsubst rillbox-%.tar.gz,%,$(RILLBOX_SOURCE))
ifeq ($(BR_BUILDING)$(RILLBOX_LOCATION),y)
$(error BR2_PACKAGE_RILLBOX_RELEASE_LOCATION is empty: which release?)
endif
else
RILLBOX_SITE = $(RILLBOX_REPOSITORY)
RILLBOX_SITE_METHOD = local
endif

# One word for what is in the program: a bundle's name, or the list of features
# that scripts/build takes.
RILLBOX_FEATURE_LIST = $(subst $(space),$(comma),$(strip \
	$(if $(BR2_PACKAGE_RILLBOX_RTMP),rtmp) \
	$(if $(BR2_PACKAGE_RILLBOX_HTTP_LIVE),http-live) \
	$(if $(BR2_PACKAGE_RILLBOX_HLS),hls) \
	$(if $(BR2_PACKAGE_RILLBOX_DASH),dash) \
	$(if $(BR2_PACKAGE_RILLBOX_RECORD),record) \
	$(if $(BR2_PACKAGE_RILLBOX_RELAY),relay) \
	$(if $(BR2_PACKAGE_RILLBOX_ACCESS),access) \
	$(if $(BR2_PACKAGE_RILLBOX_API),api) \
	$(if $(BR2_PACKAGE_RILLBOX_CONSOLE),console) \
	$(if $(BR2_PACKAGE_RILLBOX_HOOKS),hooks) \
	$(if $(BR2_PACKAGE_RILLBOX_METRICS),metrics) \
	$(if $(BR2_PACKAGE_RILLBOX_SRS_CONF),srs-conf) \
	$(if $(BR2_PACKAGE_RILLBOX_SRT),srt) \
	$(if $(BR2_PACKAGE_RILLBOX_TLS),tls) \
	$(if $(BR2_PACKAGE_RILLBOX_TRANSCODE_AUDIO),transcode-audio) \
	$(if $(BR2_PACKAGE_RILLBOX_WEBRTC),webrtc)))
RILLBOX_FEATURES = \
	$(or $(if $(BR2_PACKAGE_RILLBOX_LITE),lite),$(if $(BR2_PACKAGE_RILLBOX_FULL),full),$(RILLBOX_FEATURE_LIST))

# The same id in every release and image, or files on /data would change hands.
define RILLBOX_USERS
	rillbox 900 rillbox 900 * - - - Rillbox
endef

define RILLBOX_INSTALL_CONFIG
	$(INSTALL) -D -m 0644 $(BR2_PACKAGE_RILLBOX_CONFIG_FILE) \
		$(TARGET_DIR)/etc/rillbox/rillbox.toml
endef
RILLBOX_POST_INSTALL_TARGET_HOOKS += RILLBOX_INSTALL_CONFIG

# It may have keys and passwords in it.
define RILLBOX_PERMISSIONS
	/etc/rillbox d 0750 rillbox rillbox - - - - -
	/etc/rillbox/rillbox.toml f 0640 rillbox rillbox - - - - -
endef

define RILLBOX_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/conf/init/busybox \
		$(TARGET_DIR)/etc/init.d/S80rillbox
endef

define RILLBOX_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/conf/systemd/rillbox.service \
		$(TARGET_DIR)/usr/lib/systemd/system/rillbox.service
	$(INSTALL) -D -m 0644 $(@D)/conf/systemd/rillbox.tmpfiles \
		$(TARGET_DIR)/usr/lib/tmpfiles.d/rillbox.conf
endef

ifeq ($(BR2_PACKAGE_RILLBOX_PREBUILT),y)

# What is beside the program; the rest of the repository is not needed.
RILLBOX_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --include '/conf/***' --include /LICENSE --exclude '*'
# There is no source to give away: only what scripts/build made of it.
RILLBOX_REDISTRIBUTE = NO

RILLBOX_TARGET = $(call qstrip,$(BR2_PACKAGE_RILLBOX_TARGET))
RILLBOX_PROGRAM = $(or $(call qstrip,$(BR2_PACKAGE_RILLBOX_PREBUILT_FILE)),$(if \
	$(RILLBOX_TARGET),$(RILLBOX_REPOSITORY)/dist/$(RILLBOX_TARGET)/$(subst $(comma),+,$(RILLBOX_FEATURES))/rillbox))

define RILLBOX_CONFIGURE_CMDS
	@if [ -z "$(RILLBOX_PROGRAM)" ]; then \
		echo "targets/ has no CPU like this one: set BR2_PACKAGE_RILLBOX_PREBUILT_FILE" >&2; \
		exit 1; \
	elif [ ! -f "$(RILLBOX_PROGRAM)" ]; then \
		echo "There is no $(RILLBOX_PROGRAM)" >&2; \
		echo "To make it: scripts/build $(RILLBOX_TARGET) $(RILLBOX_FEATURES)" >&2; \
		exit 1; \
	fi
endef

define RILLBOX_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(RILLBOX_PROGRAM) $(TARGET_DIR)/usr/bin/rillbox
endef

$(eval $(generic-package))

else

# Folders that hold what was built, here and by other means.
RILLBOX_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = $(addprefix --exclude /,board dist target yocto)

RILLBOX_MSRV := $(shell sed -n 's/^rust-version = "\(.*\)"/\1/p' $(RILLBOX_REPOSITORY)/Cargo.toml)
RILLBOX_RUSTC_VERSION = $(if $(BR2_PACKAGE_HOST_RUST),$(RUST_VERSION),$(RUST_BIN_VERSION))
ifeq ($(BR2_PACKAGE_RILLBOX)$(BR_BUILDING),yy)
ifneq ($(shell printf '%s\n' $(RILLBOX_MSRV) $(RILLBOX_RUSTC_VERSION) | sort -V | head -n 1),$(RILLBOX_MSRV))
$(error Rillbox needs Rust $(RILLBOX_MSRV), this Buildroot has $(RILLBOX_RUSTC_VERSION): choose BR2_PACKAGE_RILLBOX_PREBUILT)
endif
endif

# As profile.firmware of Cargo.toml has it; Buildroot sets these for servers.
RILLBOX_CARGO_ENV = \
	CARGO_PROFILE_RELEASE_OPT_LEVEL=z \
	CARGO_PROFILE_RELEASE_LTO=fat \
	CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1
# libopus is built by it.
ifeq ($(BR2_PACKAGE_RILLBOX_TRANSCODE_AUDIO),y)
RILLBOX_DEPENDENCIES += host-cmake
endif
RILLBOX_CARGO_BUILD_OPTS = --no-default-features --features $(RILLBOX_FEATURES)
RILLBOX_CARGO_INSTALL_OPTS = $(RILLBOX_CARGO_BUILD_OPTS)

# Buildroot adds the crates to what it downloads; a checkout isn't downloaded.
define RILLBOX_VENDOR_CRATES
	cd $(@D) && \
		mkdir -p .cargo $(BR_CARGO_HOME) && \
		$(TARGET_MAKE_ENV) CARGO_HOME=$(BR_CARGO_HOME) \
		flock $(BR_CARGO_HOME)/.br-lock \
		cargo vendor --locked VENDOR >.cargo/config.toml
endef
ifneq ($(BR2_PACKAGE_RILLBOX_RELEASE),y)
RILLBOX_PRE_CONFIGURE_HOOKS += RILLBOX_VENDOR_CRATES
endif

$(eval $(cargo-package))

endif
