# The layer lives in Rillbox's own tree and packages that very tree: sources, configuration, service files and board
# files are named in SRC_URI as they lie there, and nothing of them is kept a second time in the layer.
RILLBOX_TREE ?= "${@os.path.normpath('${THISDIR}/../../../..')}"

FILESEXTRAPATHS:prepend := "${RILLBOX_TREE}:"
