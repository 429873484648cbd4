#!/usr/bin/env bash
# Provides the bundled LuaJIT: fetches Debian's source tarball, checks it, builds a static library.
#
#   tools/luajit.sh [TARGET]
#
# The last line of standard output is the folder build/luajit/TARGET ("native" unless given):
#
#   lib/libluajit.a   include/*.h   include/lj/*.h (of its inside, for src/lua/vm/lj.h)   jit/*.lua (jit.v, jit.dump and their kin)
#   version   xcflags
#
# It is built again only if this file or a parameter has changed. For another machine than this one, set in the environment,
# as LuaJIT's own Makefile knows them:
#
#   CROSS=aarch64-linux-gnu-   TARGET_SYS=Linux|Windows|Darwin|FreeBSD   HOST_CC="gcc -m64"   CC=clang   AR=llvm-ar
#
# The tarball is kept in ${XDG_CACHE_HOME:-~/.cache}/nl-jit. Where there is no apt, put it there by hand.
# Whoever the mirror is, and however old its index: what is accepted is decided by the checksums below and by nothing else.
set -euo pipefail

# Debian version, upstream version, SHA-256 of luajit_UPSTREAM.orig.tar.xz. The first that can be had is taken.
sources=(
    "2.1.0+openresty20251030-1~bpo13+1 2.1.0+openresty20251030 04106b57bb3b089ce21ae606163c6fbd260f245580cfeb45484201fd86835190"
    "2.1.0+openresty20250117-2         2.1.0+openresty20250117 99ad5fdfa85e08a291454f797f625fbb53f4d2129cac063922255a1fe34ccf1c"
)
suites="trixie-backports trixie"

# CHECKHOOK: a hook reaches compiled loops too. NO_UNWIND: an error costs the same however many states there are; on Windows
# LuaJIT unwinds by the system's own tables, and has no choice.
xcflags="-DLUAJIT_ENABLE_CHECKHOOK"
[ "${TARGET_SYS:-}" = Windows ] || xcflags+=" -DLUAJIT_NO_UNWIND"

target=${1:-native}
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dest=$top/build/luajit/$target
cache=${XDG_CACHE_HOME:-${HOME:-$top/build}/.cache}/nl-jit

say() { echo "luajit: $*" >&2; }
die() { say "$*"; exit 1; }

# The address of a Debian mirror, from this machine's own list of sources, in either of apt's two formats.
mirror() {
    local parts list
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    { cat "$list" "$parts"/*.list "$parts"/*.sources 2>/dev/null || true; } | awk '
        /^[ \t]*#/                      { next }
        $1 == "deb" || $1 == "deb-src"  { sub(/\[[^]]*\]/, ""); take($2) }
        tolower($1) == "uris:"          { for (i = 2; i <= NF; i++) take($i) }
        function take(uri)              { if (uri ~ /\/debian\/?$/) main = main ? main : uri
                                          else if (uri ~ /debian/ && uri !~ /security/) other = other ? other : uri }
        END                             { print main ? main : other }'
}

# fetch_with_apt DIR: asks apt for the tarballs, in an apt configuration of our own, so that the machine's stays as it is.
fetch_with_apt() {
    local dir=$1 uri suite source
    command -v apt-get >/dev/null || { say "no apt-get on this machine"; return 1; }
    uri=$(mirror) && [ -n "$uri" ] || { say "no Debian mirror in this machine's apt sources"; return 1; }
    mkdir -p "$dir"/state/lists/partial "$dir"/cache/archives/partial
    for suite in $suites; do # trusted, not valid until: see the checksums
        echo "deb-src [trusted=yes check-valid-until=no] $uri $suite main"
    done >"$dir/sources.list"
    cat >"$dir/apt.conf" <<EOF
Dir::State "$dir/state";
Dir::State::status "/dev/null";
Dir::Cache "$dir/cache";
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Acquire::Languages "none";
APT::Sandbox::User "";
EOF
    local -x APT_CONFIG=$dir/apt.conf
    apt-get -qq update >&2 || say "some of apt's index could not be read"
    for source in "${sources[@]}"; do
        set -- $source
        (cd "$dir" && apt-get -qq source --tar-only "luajit=$1") >&2 &&
            good "$dir/luajit_$2.orig.tar.xz" "$3" && return
    done
    return 1
}

good() { [ -f "$1" ] && echo "$2  $1" | sha256sum --check --status; }

# Sets $tarball and $version.
find_tarball() {
    local source
    for source in "${sources[@]}"; do
        set -- $source
        version=$2 tarball=$cache/luajit_$2.orig.tar.xz
        good "$tarball" "$3" && return
    done
    return 1
}

get_tarball() {
    find_tarball && return
    local name
    say "fetching the source from Debian"
    fetch_with_apt "$work/apt" || {
        set -- ${sources[0]}
        die "could not fetch it; put luajit_$2.orig.tar.xz into $cache"
    }
    mkdir -p "$cache"
    for name in "$work"/apt/luajit_*.orig.tar.xz; do
        cp "$name" "$cache/.$$" && mv "$cache/.$$" "$cache/${name##*/}"
    done
    find_tarball || die "the source fetched has not the expected checksum"
}

build() {
    local src=$work/src new=$work/new make=gmake vars=()
    mkdir -p "$src" "$new"/{lib,include/lj,jit}
    tar -xf "$tarball" -C "$src" --strip-components=1
    [ -z "${CROSS:-}" ] || vars+=("CROSS=$CROSS")
    [ -z "${TARGET_SYS:-}" ] || vars+=("TARGET_SYS=$TARGET_SYS")
    [ -z "${HOST_CC:-}" ] || vars+=("HOST_CC=$HOST_CC")
    [ -z "${CC:-}" ] || vars+=("CC=$CC")
    [ -z "${AR:-}" ] || vars+=("TARGET_AR=$AR rcs")
    [ "${TARGET_SYS:-}" = Windows ] || vars+=(TARGET_CFLAGS=-fPIE) # nl-jit is loaded anywhere; not each compiler assumes that
    [ "${TARGET_SYS:-$(uname)}" != Darwin ] || vars+=(MACOSX_DEPLOYMENT_TARGET=11.0)
    say "building $version for $target"
    command -v gmake >/dev/null || make=make # the BSDs' own make is another one
    # LuaJIT's own Makefile reads CFLAGS and LDFLAGS; those of a sanitizer build are not for it.
    env -u CFLAGS -u LDFLAGS -u CPPFLAGS -u MAKEFLAGS "$make" -s -C "$src/src" -j"$(nproc)" libluajit.a jit/vmdef.lua \
        BUILDMODE=static LJCORE_O=ljamalg.o XCFLAGS="$xcflags" "${vars[@]}" >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; die "the build failed"; }
    cp "$src"/src/libluajit.a "$new/lib/"
    cp "$src"/src/{lua.h,lualib.h,lauxlib.h,luaconf.h,luajit.h} "$new/include/"
    cp "$src"/src/lj_{arch,bc,def,frame,gc,obj,state,str,tab}.h "$new/include/lj/"
    cp "$src"/src/jit/*.lua "$new/jit/"
    echo "$version" >"$new/version"
    echo "$xcflags" >"$new/xcflags"
    echo "$stamp" >"$new/stamp"
    rm -rf "$dest" && mv "$new" "$dest"
}

mkdir -p "${dest%/*}"
exec 9>"${dest%/*}/.lock"
flock 9 # two builds may start at once

stamp=$({ cat "${BASH_SOURCE[0]}"; echo "${CROSS:-} ${TARGET_SYS:-} ${HOST_CC:-} ${CC:-} ${AR:-}"; } | sha256sum)
if [ "$(cat "$dest/stamp" 2>/dev/null)" != "$stamp" ]; then
    work=$(mktemp -d "${dest%/*}/.work.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    get_tarball
    build
fi
echo "$dest"
