#!/usr/bin/env bash
# compare.sh REF PATTERN ROUNDS: go test -bench at a commit and in the working tree, in turn, so that what else the machine does
# falls on both; benchstat tells what differs beyond noise. PKGS are the packages.
set -euo pipefail
ref=${1:?which commit to compare with: make bench-compare REF=main~10}
pattern=$2
rounds=$3
go=${GO:-go}
pkgs=${PKGS:-./wal ./snapshot/... ./server/...}
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

top=$(git rev-parse --show-toplevel)
tmp=$(mktemp -d)
trap 'git -C "$top" worktree remove --force "$tmp/ref" 2>/dev/null; rm -rf "$tmp"' EXIT
git -C "$top" worktree add --quiet --detach "$tmp/ref" "$ref"

for i in $(seq "$rounds"); do
  echo "round $i of $rounds" >&2
  for side in ref here; do
    dir=$top
    [ "$side" = ref ] && dir=$tmp/ref
    # A benchmark that one side does not have is no failure.
    (cd "$dir" && "$go" test -timeout 60m -run '^$' -bench "$pattern" -benchmem -count 1 $pkgs) >>"$tmp/$side.txt" || {
      tail -20 "$tmp/$side.txt" >&2
      exit 1
    }
  done
done
"$go" run "$benchstat" "$ref=$tmp/ref.txt" "here=$tmp/here.txt"
