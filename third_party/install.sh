#!/bin/sh
# Gets the Debian packages that Parabola is built with; README.md beside this file says why each is there.
#   install.sh               installs what this machine lacks (apt-get, through sudo when not root)
#   install.sh --tests       the same for what unpacks the development data (python3-pil)
#   install.sh --prefix DIR  unpacks headers and data into DIR instead, without root; then `make DEPS=DIR`,
#                            there or on a machine without network that DIR was copied to
#   install.sh --check DIR   says what neither DIR nor this machine has
set -eu

# Each package with a file or a command that it brings: looking for that is quicker than asking dpkg.
build_packages='
g++                   g++
make                  make
libeigen3-dev         /usr/include/eigen3/Eigen/Core
libstb-dev            /usr/include/stb/stb_image.h
doctest-dev           /usr/include/doctest/doctest.h
nlohmann-json3-dev    /usr/include/nlohmann/json.hpp
libcli11-dev          /usr/include/CLI/CLI.hpp
zlib1g-dev            /usr/include/zlib.h
dataset-fashion-mnist /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz
'
test_packages='
python3               /usr/bin/python3
python3-pil           /usr/lib/python3/dist-packages/PIL
'

# missing PACKAGES [DIR]: names those of which neither DIR nor this machine has the proof.
missing() {
    echo "$1" | while read -r package proof; do
        case $proof in
            '') ;;
            /*) [ -e "$proof" ] || [ -e "${2:-}$proof" ] || printf '%s ' "$package" ;;
            *) command -v "$proof" >/dev/null || printf '%s ' "$package" ;;
        esac
    done
}

stop() {
    echo "install.sh: $*" >&2
    exit 1
}

install() {
    names=$(missing "$1")
    [ -n "$names" ] || exit 0
    command -v apt-get >/dev/null || stop "no apt-get here; please install (names of Debian 12): $names"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        as_root=sudo
        command -v sudo >/dev/null || stop "neither root nor sudo; please install: $names"
    fi
    echo "installing: $names"
    # A fresh machine has no package lists yet, an old one may have stale ones: fetch them when the first try fails.
    get="$as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y"
    $get install --no-install-recommends $names >/dev/null 2>&1 || {
        $get update && $get install --no-install-recommends $names >/dev/null
    } || stop "apt-get could not install: $names"
}

unpack_into() {
    command -v apt-get >/dev/null || stop "no apt-get here: run this on a Debian machine and copy the folder"
    # Only what has files to unpack: a compiler does not run from a folder.
    names=$(echo "$build_packages" | awk '$2 ~ /^\// { print $1 }')
    mkdir -p "$1"
    target=$(cd "$1" && pwd)
    debs=$(mktemp -d)
    trap 'rm -rf "$debs"' EXIT
    echo "unpacking into $1:" $names
    (cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download $names) ||
        stop "apt-get could not download; are the package lists there (apt-get update)?"
    for deb in "$debs"/*.deb; do dpkg -x "$deb" "$target"; done
}

case "${1:-}" in
    '') install "$build_packages" ;;
    --tests) install "$test_packages" ;;
    --prefix) [ $# -eq 2 ] || stop "--prefix needs a folder"; unpack_into "$2" ;;
    --check)
        [ $# -eq 2 ] || stop "--check needs a folder"
        [ -d "$2" ] || stop "no folder $2; third_party/install.sh --prefix $2 makes and fills it"
        names=$(missing "$build_packages" "$2")
        [ -z "$names" ] || stop "$2 lacks $names: fill it with third_party/install.sh --prefix $2"
        ;;
    *) stop "unknown option $1; known: --tests, --prefix DIR, --check DIR" ;;
esac
