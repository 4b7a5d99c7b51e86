#!/bin/sh
# Buildroot calls this with the folder of images, and with what the board wants on its boot partition beside the
# initramfs (BR2_ROOTFS_POST_IMAGE_SCRIPT_ARGS; a folder stands for what is in it). Makes rillbox.img.
set -eu
images=$1
shift
here=$(dirname "$0")

cd "$images"
files='"initramfs.gz"'
for path in "$@"; do
	if [ -d "$path" ]; then
		for file in "$path"/*; do files="$files, \"$file\""; done
	else
		files="$files, \"$path\""
	fi
done
# The name it has in the layout of every board.
ln -sf rootfs.squashfs root.squashfs
# There is room for larger kernels.
sed -e "s|@BOOT_FILES@|$files|" -e 's|@BOOT_SIZE@|64M|' "$here/genimage.cfg" >genimage.cfg
cd "$OLDPWD"
exec support/scripts/genimage.sh -c "$images/genimage.cfg"
