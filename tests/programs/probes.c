// Calls a function for each probe to look at, in bursts: one for each line of its input.
//   probes BURST             with memory that is there
//   probes BURST unmapping   with memory that comes and goes, and some that never is
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FN __attribute__((noipa, noinline))

struct box { uint64_t value; const char *name; uint8_t bytes[4]; };

static const char *names[] = { "", "a", "eight by", "a name of some length, more than a word" };
static struct box *page;
static volatile int done;

FN uint64_t take(uint64_t number, struct box *box, int small, const char *text, uint64_t a, uint64_t b, uint64_t on_stack) {
	__asm__ volatile("" ::: "memory");
	return number * 7 + on_stack;
}

static void fill(struct box *box) {
	box->value = 42;
	box->name = names[1];
}

static void *come_and_go(void *unused) {
	while (!done) {
		mmap(page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		fill(page);
		mprotect(page, 4096, PROT_NONE);
		mprotect(page, 4096, PROT_READ | PROT_WRITE);
		munmap(page, 4096);
	}
	return NULL;
}

int main(int count, char **words) {
	long burst = atol(words[1]);
	int unmapping = count > 2;
	char line[16];
	uint64_t number = 0;
	pthread_t other;
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (unmapping) pthread_create(&other, NULL, come_and_go, NULL);
	while (fgets(line, sizeof line, stdin)) {
		for (long call = 0; call < burst; call++, number++) {
			struct box *box = unmapping ? page : malloc(sizeof *box);
			if (!unmapping) {
				*box = (struct box){ number * 3, names[number % 4], { number, number >> 8, 1, 2 } };
			} else if (number % 3 == 0) {
				box = (struct box *)8;
			}
			take(number, box, -(int)(number % 1000), names[number % 4], 5, 6, 7);
			if (!unmapping) free(box);
		}
	}
	done = 1;
	if (unmapping) pthread_join(other, NULL);
	return 0;
}
