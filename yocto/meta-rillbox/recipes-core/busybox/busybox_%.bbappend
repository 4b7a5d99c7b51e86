FILESEXTRAPATHS:prepend:rillbox-box := "${THISDIR}/files:"
SRC_URI:append:rillbox-box = " file://rillbox-box.cfg"
