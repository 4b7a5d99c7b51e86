#!/bin/sh
# Buildroot calls this with the root file system, before it is packed.
set -eu
root=$1

# Where the partitions of the same names are mounted.
mkdir -p "$root/config" "$root/data"
