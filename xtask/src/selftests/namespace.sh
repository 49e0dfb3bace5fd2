#!/bin/sh
# Runs the kernel's ftrace self-tests, unmodified, against a process that is mounted as tracefs.
# In a mount namespace of its own: nothing of this is seen outside.
#   namespace.sh SLEDGE KERNEL TESTS RESULTS <list of cases
sledge=$1 kernel=$2 tests=$3 results=$4
tracing=/sys/kernel/tracing
set -e
mount --make-rprivate /
mount -t tmpfs none /proc/sys/kernel
echo 950000 >/proc/sys/kernel/sched_rt_runtime_us
echo 32768 >/proc/sys/kernel/pid_max
touch /proc/sys/kernel/stack_tracer_enabled

start() {
	"$sledge" mount "$tracing" -- "$kernel" </dev/null >/dev/null 2>>"$results/sledge.log" &
	server=$!
	tries=100
	while ! grep -q 'fuse.tracefs' /proc/mounts; do
		sleep 0.1
		tries=$((tries - 1))
		[ $tries -gt 0 ] || { echo "cannot mount: $(cat "$results/sledge.log")" >&2; exit 1; }
	done
	traced=$(cat /proc/$server/task/$server/children)
	mount --bind $tracing/stack_tracer_enabled /proc/sys/kernel/stack_tracer_enabled
	[ ! -e $tracing/kallsyms ] || mount --bind $tracing/kallsyms /proc/kallsyms
}

stop() {
	umount /proc/sys/kernel/stack_tracer_enabled 2>/dev/null || :
	umount /proc/kallsyms 2>/dev/null || :
	umount -l $tracing 2>/dev/null || :
	kill $server $traced 2>/dev/null || :
	wait $server 2>/dev/null || :
}

start
set +e
while read -r case; do
	# A case that left something behind must not fail the next ones.
	if ! kill -0 $server 2>/dev/null; then
		echo "restarted before $case" >>"$results/sledge.log"
		stop
		start
	fi
	out=$results/$(echo "$case" | tr / _)
	timeout -k 5 120 sh "$tests/ftracetest" -K -k -l "$results/logs" "$tests/test.d/$case" </dev/null >"$out.out" 2>"$out.err"
	echo "status $?" >>"$out.out"
done
stop
