#!/bin/sh
# Buildroot calls this with the folder of images. Makes gnubee.bin, which the boot loader writes to flash and starts:
# the kernel with the initramfs in it, and behind it the device tree.
set -eu
cd "$1"
load=0x80001000

objcopy=$(find "$HOST_DIR/bin" -name 'mipsel-*-linux-*-objcopy' | head -n 1)
"$objcopy" -O binary vmlinux vmlinux.bin
cat vmlinux.bin mt7621-gnubee-gb-pc1.dtb >kernel-and-tree.bin
entry=$(LC_ALL=C "${objcopy%objcopy}readelf" -h vmlinux | sed -n 's/^ *Entry point address: *//p')
"$HOST_DIR/bin/mkimage" -A mips -O linux -T kernel -C none -a $load -e "$entry" -n rillbox \
	-d kernel-and-tree.bin gnubee.bin
rm vmlinux.bin kernel-and-tree.bin

# The flash has 32 MiB; the first 320 KiB are the loader's.
size=$(wc -c <gnubee.bin)
if [ "$size" -gt $((32 * 1024 * 1024 - 0x50000)) ]; then
	echo "gnubee.bin has $size bytes and does not fit into the flash" >&2
	exit 1
fi
