// Runs until its input ends. For each line: three threads and main do the same fixed work, then it
// answers "done". So what is called between two lines is known exactly.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 3
#define TIMES 200
#define HERE __attribute__((noinline, noclone))

static pthread_barrier_t begin, end;

HERE int leaf(int x) { __asm__ volatile(""); return x * 3 + 1; }
HERE int twice(int x) { return leaf(x) + leaf(x + 1); }
HERE int jumps(int x) { __asm__ volatile(""); return twice(x + 2); }  // a tail call
HERE int recurse(int n) {
    if (n == 0)
        return leaf(1);
    int inner = recurse(n - 1);
    __asm__ volatile("" : "+r"(inner));  // or else it would become a loop
    return inner + 1;
}

HERE int work(int seed) {
    int sum = 0;
    char text[32];
    for (int i = 0; i < TIMES; i++) {
        char *copy = strdup("some text");
        sum += twice(seed) + jumps(i) + recurse(5) + (int)strlen(copy);
        snprintf(text, sizeof text, "%d", sum);
        free(copy);
    }
    return sum;
}

static void *run(void *seed) {
    for (;;) {
        pthread_barrier_wait(&begin);
        work((int)(long)seed);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

int main(void) {
    char line[64];
    pthread_barrier_init(&begin, NULL, THREADS + 1);
    pthread_barrier_init(&end, NULL, THREADS + 1);
    for (long i = 1; i <= THREADS; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, run, (void *)i);
    }
    while (fgets(line, sizeof line, stdin)) {
        pthread_barrier_wait(&begin);
        work(0);
        pthread_barrier_wait(&end);
        puts("done");
        fflush(stdout);
    }
    return 0;
}
