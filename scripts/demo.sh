#!/usr/bin/env bash
# Builds sledge and shows what two programs do, call by call: examples/hello.c, and the bash that
# runs this script.
set -euo pipefail
cd "$(dirname "$0")/.."

for tool in cargo cc; do
	command -v "$tool" >/dev/null || { echo "$tool is missing: see README.md" >&2; exit 1; }
done
target=${CARGO_TARGET_DIR:-target}
cargo build --release --package sledge-cli
cc -O0 -fno-builtin -o "$target/hello" examples/hello.c

echo "--- bash, five levels deep, its first fifty lines"
"$target/release/sledge" --no-pager -D 5 "$BASH" -c 'for word in hello again; do echo $word; done' |
	head -n 50
echo "--- examples/hello.c, whole"
"$target/release/sledge" --no-pager "$target/hello"
