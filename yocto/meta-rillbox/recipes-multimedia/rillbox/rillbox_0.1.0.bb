require rillbox.inc
require rillbox-crates.inc

# Cargo wants to see each test that Cargo.toml names.
SRC_URI += "file://Cargo.lock;subdir=${BP} \
            file://Cargo.toml;subdir=${BP} \
            file://README.md;subdir=${BP} \
            file://src;subdir=${BP} \
            file://tests/e2e;subdir=${BP} \
            "

inherit cargo

# Cargo's features by their own names. These are the bundle "full"; "hls http-live rtmp" are "lite".
PACKAGECONFIG ??= "access api console dash hls hooks http-live metrics record relay rtmp srs-conf srt tls transcode-audio webrtc"
PACKAGECONFIG[access] = ""
PACKAGECONFIG[api] = ""
PACKAGECONFIG[console] = ""
PACKAGECONFIG[dash] = ""
PACKAGECONFIG[hls] = ""
PACKAGECONFIG[hooks] = ""
PACKAGECONFIG[http-live] = ""
PACKAGECONFIG[metrics] = ""
PACKAGECONFIG[record] = ""
PACKAGECONFIG[relay] = ""
PACKAGECONFIG[rtmp] = ""
PACKAGECONFIG[srs-conf] = ""
PACKAGECONFIG[srt] = ""
PACKAGECONFIG[tls] = ""
# libopus is built by cmake.
PACKAGECONFIG[transcode-audio] = ",,cmake-native"
PACKAGECONFIG[webrtc] = ""
RILLBOX_FEATURES = "${PACKAGECONFIG}"
CARGO_BUILD_FLAGS:append = " --no-default-features --features=${@','.join(d.getVar('RILLBOX_FEATURES').split())}"

# The profile for boxes: size before speed.
BUILD_MODE = "--profile firmware"
BUILD_DIR = "firmware"

# bitbake strips, and keeps for debuggers what it strips.
export CARGO_PROFILE_FIRMWARE_STRIP = "false"

# Better said at once than by Cargo, after an hour of building compilers.
SKIP_RECIPE[rillbox] = "${@rillbox_rust_too_old(d)}"
def rillbox_rust_too_old(d):
    need = d.getVar('RILLBOX_RUST')
    have = (d.getVar('RUSTVERSION') or need).rstrip('%')
    if bb.utils.vercmp_string_op(have, need, '>='):
        return ''
    return f'it needs Rust {need}, and RUSTVERSION is {have}. Take rillbox-bin, or a layer that brings a newer Rust'

do_install() {
    rillbox_install ${B}/target/${CARGO_TARGET_SUBDIR}/rillbox
}

# There is nothing to develop against; rillbox-dev would only ask for rillbox, which rillbox-bin offers as well.
PACKAGES:remove = "${PN}-dev ${PN}-doc ${PN}-locale ${PN}-staticdev"
RCONFLICTS:${PN} = "rillbox-bin"
