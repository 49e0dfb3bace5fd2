#!/usr/bin/env bash
# Builds sledge and shows what examples/hello.c does, call by call.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in cargo cc; do
	command -v "$tool" >/dev/null || { echo "$tool is missing: see README.md" >&2; exit 1; }
done
target=${CARGO_TARGET_DIR:-target}
cargo build --release --package sledge-cli
cc -O0 -fno-builtin -o "$target/hello" examples/hello.c
exec "$target/release/sledge" "$@" "$target/hello"
