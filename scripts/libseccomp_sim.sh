#!/usr/bin/env bash
# Fetches libseccomp's own filter simulator (tools/scmp_bpf_sim.c), which distributions do not
# package, and builds it twice: as the command it is, and in a loop over many calls. Prints where
# they are. Nothing of this machine's apt is changed; quick when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

version=2.5.4
digest=d82902400405cf0068574ef3dc1fe5f5926207543ba1ae6f8e7a1576351dcbdb
archive=libseccomp-$version.tar.gz
# Debian's file is the one that upstream released.
sources=(
	"http://deb.debian.org/debian/pool/main/libs/libseccomp/libseccomp_$version.orig.tar.gz"
	"https://github.com/seccomp/libseccomp/releases/download/v$version/$archive"
	"http://archive.debian.org/debian/pool/main/libs/libseccomp/libseccomp_$version.orig.tar.gz"
)
driver=$PWD/benchmarks/libseccomp_sim.c
cache=$PWD/build/libseccomp-sim
apt_helper=/usr/lib/apt/apt-helper

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

is_whole() {
	echo "$digest  $1" | sha256sum --check --status
}

# apt's own downloader knows the proxy that a machine without a way out of its own has.
download() {
	[ -x "$apt_helper" ] && "$apt_helper" -o Acquire::Retries=3 download-file "$1" "$2" "SHA256:$digest" >&2 &&
		return
	python3 -c 'import sys, urllib.request as r
open(sys.argv[2], "wb").write(r.urlopen(sys.argv[1], timeout=60).read())' "$1" "$2" >&2
}

fetch() {
	local source
	for source in "${sources[@]}"; do
		echo "+ fetch $source" >&2
		if download "$source" "$1" && is_whole "$1"; then
			return
		fi
	done
	die "no source of libseccomp $version could be fetched"
}

build() {
	local tools=$1/libseccomp-$version/tools cc=${CC:-cc}
	tar -xzf "$1/$archive" -C "$1" --no-same-owner
	"$cc" -O2 -I "$tools" "$tools/scmp_bpf_sim.c" "$tools/util.c" -o "$1/scmp_bpf_sim"
	"$cc" -O2 -Wall -I "$tools" "$driver" "$tools/util.c" -o "$1/many"
}

made_from() {
	sha256sum "$driver" "$0"
}

if [ "$(cat "$cache/made-from" 2>/dev/null)" != "$(made_from)" ]; then
	mkdir -p build
	work=$(mktemp -d build/libseccomp-sim.XXXXXX)
	trap 'rm -rf "$work"' EXIT
	chmod 755 "$work" # apt downloads as a user of its own
	if is_whole "$cache/$archive" 2>/dev/null; then
		cp "$cache/$archive" "$work/"
	else
		fetch "$work/$archive"
	fi
	build "$work"
	made_from >"$work/made-from"
	rm -rf "$cache"
	mv -T "$work" "$cache" || [ -x "$cache/many" ] # somebody else was faster
fi
echo "$cache"
