/*
 * Times calls from the inside, in short bursts with pauses between them, so that what a tracer
 * does in the background is over when the next burst begins.
 *
 *   calls CPU BURSTS CALLS PAUSE_US WORKLOAD...
 *
 * Prints a line for each workload: its name, the calls of all bursts, and then the nanoseconds a
 * call of each burst. Warm-up bursts are run and counted, but not printed. CPU -1 means any.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 10
#define NOINLINE __attribute__((noinline, noclone))
/* The compiler knows neither where the value comes from nor whether memory changed. */
#define OPAQUE(x) __asm__ volatile("" : "+r"(x) : : "memory")

#if defined(__x86_64__)
static inline __attribute__((always_inline, no_instrument_function)) long ticks(void)
{
	unsigned low, high;
	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (long)((unsigned long)high << 32 | low);
}
#endif

long sink;

NOINLINE long leaf(long x)
{
	OPAQUE(x);
	return x + 1;
}

/* What one time stamp alone costs in that leaf, and two: the floors of any recorder. */
NOINLINE long leaf_one_time(long x)
{
	sink = ticks();
	OPAQUE(x);
	return x + 1;
}

NOINLINE long leaf_two_times(long x)
{
	sink = ticks();
	OPAQUE(x);
	sink = ticks();
	return x + 1;
}

/* It reads its return address, so its return must not be hooked: only its entry is recorded. */
long leaf_entry_only(long x);
__asm__(".text\n.globl leaf_entry_only\n.type leaf_entry_only, @function\n.p2align 4\n"
	"leaf_entry_only:\n\t.cfi_startproc\n"
	"\tmov (%rsp), %rax\n\tlea 1(%rdi), %rax\n\tret\n"
	"\t.cfi_endproc\n.size leaf_entry_only, . - leaf_entry_only\n");

NOINLINE long fib(long n)
{
	if (n < 2)
		return n;
	long before = fib(n - 1);
	OPAQUE(before);
	long sum = before + fib(n - 2);
	OPAQUE(sum);
	return sum;
}

/* Never called in a burst: for filters that leave out all that is measured. */
NOINLINE long idle(long x)
{
	OPAQUE(x);
	return x - 1;
}

#define TEN(M, n) M(n##0) M(n##1) M(n##2) M(n##3) M(n##4) M(n##5) M(n##6) M(n##7) M(n##8) M(n##9)
#define HUNDRED(M, n) \
	TEN(M, n##0) TEN(M, n##1) TEN(M, n##2) TEN(M, n##3) TEN(M, n##4) \
	TEN(M, n##5) TEN(M, n##6) TEN(M, n##7) TEN(M, n##8) TEN(M, n##9)
#define THOUSAND(M) \
	HUNDRED(M, 0) HUNDRED(M, 1) HUNDRED(M, 2) HUNDRED(M, 3) HUNDRED(M, 4) \
	HUNDRED(M, 5) HUNDRED(M, 6) HUNDRED(M, 7) HUNDRED(M, 8) HUNDRED(M, 9)

#define DEFINE(n) NOINLINE long one_of_many_##n(long x) { OPAQUE(x); return x + 1##n; }
#define CALL(n) x = one_of_many_##n(x);
THOUSAND(DEFINE)

#define LOOP(function)                                    \
	static NOINLINE long burst_##function(long calls) \
	{                                                 \
		long x = 0;                               \
		for (long i = 0; i < calls; i++)          \
			x = function(x);                  \
		sink = x;                                 \
		return calls;                             \
	}
LOOP(leaf)
LOOP(leaf_one_time)
LOOP(leaf_two_times)
LOOP(leaf_entry_only)

static NOINLINE long burst_many(long calls)
{
	long x = 0, made = 0;
	for (; made < calls; made += 1000) {
		THOUSAND(CALL)
	}
	sink = x;
	return made;
}

/* fib(n) makes 2 * fib(n + 1) - 1 calls. */
static NOINLINE long burst_fib(long calls)
{
	long n = 1, here = 1, next = 1;
	while (2 * (here + next) - 1 <= calls) {
		long sum = here + next;
		here = next;
		next = sum;
		n++;
	}
	sink = fib(n);
	return 2 * next - 1;
}

static const struct workload {
	const char *name;
	long (*burst)(long calls);
} workloads[] = {
	{ "leaf", burst_leaf },
	{ "leaf-entry-only", burst_leaf_entry_only },
	{ "leaf-1-rdtsc", burst_leaf_one_time },
	{ "leaf-2-rdtsc", burst_leaf_two_times },
	{ "fib", burst_fib },
	{ "many", burst_many },
};

static double now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void measure(const struct workload *workload, int bursts, long calls, useconds_t pause)
{
	double *took = calloc(bursts, sizeof *took);
	long made = 0;
	for (int i = -WARM_UP; i < bursts; i++) {
		if (pause)
			usleep(pause);
		double start = now(CLOCK_THREAD_CPUTIME_ID);
		long burst = workload->burst(calls);
		double end = now(CLOCK_THREAD_CPUTIME_ID);
		made += burst;
		if (i >= 0)
			took[i] = (end - start) / burst;
	}
	printf("%s %ld", workload->name, made);
	for (int i = 0; i < bursts; i++)
		printf(" %.3f", took[i]);
	printf("\n");
	free(took);
}

static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof set, &set);
}

int main(int argc, char **argv)
{
	if (argc < 6) {
		fprintf(stderr, "usage: %s CPU BURSTS CALLS PAUSE_US WORKLOAD...\n", argv[0]);
		return 2;
	}
	if (atoi(argv[1]) >= 0)
		pin(atoi(argv[1]));
	sink = idle(argc);
	for (int i = 5; i < argc; i++)
		for (size_t j = 0; j < sizeof workloads / sizeof *workloads; j++)
			if (strcmp(argv[i], workloads[j].name) == 0)
				measure(&workloads[j], atoi(argv[2]), atol(argv[3]), atoi(argv[4]));
	return 0;
}
