#!/usr/bin/env bash
# Runs all tests. Installs what they need from Debian or Ubuntu packages where it may; a test whose
# program is not there is skipped, and named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

# What must work, and the packages that bring it.
needs=(
	"gcc --version|gcc libc6-dev"
	"g++ --version|g++"
	"gdb --version|gdb"
	"git --version|git"
	"memcached --version|memcached"
	"musl-gcc --version|musl-tools"
	"nginx -v|nginx-light"
	"node --version|nodejs"
	"openssl version|openssl"
	"perl --version|perl"
	"python3 --version|python3"
	"python3 -m ensurepip --version|python3-venv"
	"redis-server --version|redis-server"
	"sqlite3 --version|sqlite3"
	"strip --version|binutils"
	"xz --version|xz-utils"
	"babeltrace2 --version|babeltrace2"
	"dot -V|graphviz"
	"clang++ -x c++ -stdlib=libc++ -rtlib=compiler-rt -unwindlib=libunwind -lunwind -o /dev/null -|clang libc++-dev libc++abi-dev libclang-rt-dev"
)

missing() {
	local need
	for need in "${needs[@]}"; do
		${need%|*} <<<'int main() {}' >/dev/null 2>&1 || printf '%s\n' ${need#*|}
	done
}

packages=$(missing)
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq || true
	# One by one: a release may lack one of them.
	for package in $packages; do
		apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
			echo "not installed: $package" >&2
	done
	packages=$(missing)
fi
[ -z "$packages" ] || echo "missing, so that some tests are skipped:" $packages >&2

target=$PWD/target
[ -z "${CARGO_TARGET_DIR:-}" ] || target=$(mkdir -p "$CARGO_TARGET_DIR" && cd "$CARGO_TARGET_DIR" && pwd)
cargo build --release --package sledge-cli --package sledge-c
# Readers of what is exported, by people who are not us.
readers=$target/readers
python=$readers/venv/bin/python
if ! "$python" -c "import duckdb, jsonschema, perfetto" 2>/dev/null; then
	{ python3 -m venv "$readers/venv" && timeout 300 "$python" -m pip install --quiet duckdb jsonschema perfetto protobuf pytz; } \
		>/dev/null 2>&1 || echo "not installed, so that some tests are skipped: Python's duckdb, jsonschema, perfetto" >&2
fi
if ! [ -d "$readers/node/node_modules/speedscope" ] || ! [ -d "$readers/node/node_modules/mermaid" ]; then
	mkdir -p "$readers/node"
	timeout 300 npm install --prefix "$readers/node" --ignore-scripts --no-audit --no-fund speedscope pprof-format mermaid jsdom \
		>/dev/null 2>&1 || echo "not installed, so that some tests are skipped: npm's speedscope, pprof-format, mermaid" >&2
fi

export SLEDGE_BIN=${SLEDGE_BIN:-$target/release/sledge}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
if cargo nextest --version >/dev/null 2>&1; then
	{ cargo test --workspace --release --doc && cargo nextest run --workspace --release --no-fail-fast; } \
		2>&1 | tee "$log" || status=$?
else
	cargo test --workspace --release --no-fail-fast 2>&1 | tee "$log" || status=$?
fi
if grep -q 'skipped: ' "$log"; then
	echo "skipped for want of something:"
	grep -o 'skipped: .*' "$log" | sort -u | sed 's/^skipped: /  /'
fi
exit "$status"
