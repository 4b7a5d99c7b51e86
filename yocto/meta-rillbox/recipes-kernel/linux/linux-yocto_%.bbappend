FILESEXTRAPATHS:prepend:rillbox-box := "${THISDIR}/files:"
SRC_URI:append:rillbox-box = " file://rillbox-box.cfg"

FILESEXTRAPATHS:prepend:qemumipsel := "${THISDIR}/files:"
SRC_URI:append:qemumipsel = " file://little-endian.cfg"
