#!/usr/bin/env bash
# Makes the environment that the Makefile's targets run in; quick when there is nothing to do.
#   scripts/setup.sh run    the tool itself
#   scripts/setup.sh dev    the tool and everything its tests and checks need
#   scripts/setup.sh pods   a container runtime, and the little that kubernetes-demo takes of the tool
set -euo pipefail
cd "$(dirname "$0")/.."

want=${1:?usage: scripts/setup.sh run|dev|pods}
venv=.venv
debian='gcc libc6-dev libseccomp2 make python3 python3-venv'
fedora='gcc glibc-devel libseccomp make python3'

die() {
	printf 'error: %s\n' "$@" >&2
	exit 1
}

# The first Python that is new enough; python3 of the caller's PATH is preferred.
find_python() {
	local candidate
	for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
		if command -v "$candidate" >/dev/null &&
			"$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
			command -v "$candidate"
			return
		fi
	done
	return 1
}

die_of_old_python() {
	die "Python 3.11 or newer is needed; python3 here is $(python3 --version 2>&1 || true)" \
		"  with a newer one elsewhere: make PYTHON=/path/to/python3 ..."
}

has_libseccomp() {
	"$1" -c 'import ctypes; ctypes.CDLL("libseccomp.so.2")' 2>/dev/null
}

# Debian names of what is missing. A Python without ensurepip cannot make an environment.
missing_packages() {
	local python
	if python=$(find_python); then
		"$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
		has_libseccomp "$python" || echo libseccomp2
	else
		printf '%s\n' python3 python3-venv libseccomp2
	fi
	if [ "$want" = pods ]; then
		missing_runtime
	else
		command -v "${CC:-cc}" >/dev/null || echo gcc
		[ -e /usr/include/stdio.h ] || echo libc6-dev
	fi
}

missing_runtime() {
	command -v containerd >/dev/null || echo containerd
	command -v runc >/dev/null || echo runc
	command -v busybox >/dev/null || echo busybox-static
}

install_system_packages() {
	local missing
	find_python >/dev/null || ! command -v python3 >/dev/null || die_of_old_python
	mapfile -t missing < <(missing_packages)
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "+ apt-get install -y --no-install-recommends ${missing[*]}"
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq || true # an unreachable extra source need not stop what the others have
		apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
			die "apt-get could not install: ${missing[*]}"
	else
		die "missing on this system (Debian's names): ${missing[*]}; install them and run this again" \
			"  Debian or Ubuntu:  sudo apt-get install $debian" \
			"  Fedora:            sudo dnf install $fedora"
	fi
}

make_venv() {
	local python
	python=$(find_python) || die_of_old_python
	# An environment whose Python went away, or that was moved, cannot be mended.
	if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
		echo "+ $python -m venv $venv"
		rm -rf "$venv"
		"$python" -m venv "$venv"
	fi
}

# What the environment was made from; a moved tree needs a new one.
inputs() {
	cat pyproject.toml evaluator/native/hatch_hook.py | sha256sum
	pwd
}

is_installed() {
	local extras
	for extras in "$@"; do
		[ "$(cat "$venv/.installed-$extras" 2>/dev/null)" != "$(inputs)" ] || return 0
	done
	return 1
}

install_packages() {
	echo "+ pip install -e .[$1]"
	"$venv/bin/python" -m pip install -qq --disable-pip-version-check -e ".[$1]" ||
		die "pip could not install the packages; its message is above"
	inputs >"$venv/.installed-$1"
}

# The ranges of pyproject.toml of the packages that the demo imports.
demo_requirements() {
	"$venv/bin/python" - <<-'PYTHON'
		import re, tomllib
		project = tomllib.load(open("pyproject.toml", "rb"))["project"]
		wanted = re.compile(r"(grpcio|msgspec|pyseccomp|pyyaml)\b")
		every = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
		print(*(one for one in every if wanted.match(one)), sep="\n")
	PYTHON
}

# Not the whole tool: that takes a minute.
set_up_pods() {
	local requirements
	if [ -z "$(missing_runtime)" ] && "$venv/bin/python" -c 'import grpc, msgspec, pyseccomp, yaml' 2>/dev/null
	then
		return 0
	fi
	install_system_packages
	make_venv
	mapfile -t requirements < <(demo_requirements)
	echo "+ pip install ${requirements[*]}"
	"$venv/bin/python" -m pip install -qq --disable-pip-version-check "${requirements[@]}" ||
		die "pip could not install the packages; its message is above"
}

case $want in
pods) set_up_pods && exit ;;
run) extras=(llm 'dev,docs,inspect,llm') ;;
dev) extras=('dev,docs,inspect,llm') ;;
*) die "unknown environment: $want (run, dev or pods)" ;;
esac
if ! is_installed "${extras[@]}" || ! "$venv/bin/python" -c ''; then
	install_system_packages
	make_venv
	install_packages "${extras[0]}"
fi
"$venv/bin/python" evaluator/native/build.py
