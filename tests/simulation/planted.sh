#!/usr/bin/env bash
# Plants bugs on purpose, each by itself in a clone that is thrown away, and says what finds it
# first: the simulation, the laws of crdt, the tests of geo, or the conformance cases. Where the
# simulation is not what guards against a bug, a line of its patch says what is, and nothing else
# counts: `guard: ARGUMENTS`, for cargo test. Fails if a bug is not found.
#
#   tests/simulation/planted.sh [NAME…]     NAME: the beginning of a patch's name in planted/
#
# PLANTED_TARGET is where to build (a new folder), PLANTED_SEEDS how many fresh seeds the simulation tries
# besides the fixed ones (300).
set -euo pipefail
cd "$(dirname "$0")/../.."
patches="$PWD/tests/simulation/planted"
clone=$(mktemp -d)
trap 'rm -rf "$clone"' EXIT
git clone --quiet --shared . "$clone/meridian"
cd "$clone/meridian"
# What does not change is built once.
export CARGO_TARGET_DIR="${PLANTED_TARGET:-$clone/target}"
export MERIDIAN_SIM_SEEDS="${PLANTED_SEEDS:-300}"

# Prints how a test failed, or nothing if it did not.
found_by() {
  local name=$1
  shift
  if ! timeout 900 cargo test --locked --quiet "$@" >"$clone/log" 2>&1; then
    if grep -q '^error\(\[\|:\) ' "$clone/log" && ! grep -q 'panicked at' "$clone/log"; then
      tail -20 "$clone/log" >&2
      echo "does not build"
      return
    fi
    local how
    how=$(grep -A1 -m1 "^thread '.*' .*panicked at" "$clone/log" | tail -1 | cut -c1-90)
    local after
    after=$(grep -o '^after [0-9]* seeds' "$clone/log" | head -1 || true)
    echo "$name${after:+ $after}: $how"
  fi
}

missed=0
for patch in "$patches"/*.patch; do
  name=$(basename "$patch" .patch)
  if [ $# -gt 0 ]; then
    wanted=0
    for start in "$@"; do [[ $name == "$start"* ]] && wanted=1; done
    [ "$wanted" = 1 ] || continue
  fi
  git apply "$patch"
  guard=$(sed -n 's/^guard: //p' "$patch")
  if [ -n "$guard" ]; then
    # shellcheck disable=SC2086 # these are words
    how=$(found_by "${guard##* }" $guard)
  else
    how=$(found_by simulation --test simulation regions_converge -- --nocapture)
    [ -n "$how" ] || how=$(found_by laws -p meridian-crdt --test replicas)
    [ -n "$how" ] || how=$(found_by links -p meridian-geo --lib --test link --test faults)
    [ -n "$how" ] || how=$(found_by conformance --test conformance)
  fi
  if [ -z "$how" ]; then
    how="NOT FOUND"
  fi
  case "$how" in "NOT FOUND" | "does not build") missed=$((missed + 1)) ;; esac
  printf '%-34s %s\n' "$name" "$how"
  git checkout --quiet .
done
[ "$missed" = 0 ] || { echo "$missed not found" >&2; exit 1; }
