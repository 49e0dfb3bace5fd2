/* Four threads, each with 1 middle call per round and 3 leaf calls in it, on small stacks. */
#include <pthread.h>
#include "check.h"

enum { THREADS = 4, ROUNDS = 5000 };
KEEP long leaf(long n) { return n + 1; }
KEEP long middle(long n) { return leaf(n) + leaf(n) + leaf(n); }
KEEP void *worker(void *start) {
    long sum = 0;
    for (long i = 0; i < ROUNDS; ++i) sum += middle((long)start + i);
    return (void *)sum;
}
int main(void) {
    pthread_t threads[THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    CHECK(pthread_attr_setstacksize(&small, 32 * 1024) == 0);
    for (long i = 0; i < THREADS; ++i) CHECK(pthread_create(&threads[i], i % 2 ? &small : NULL, worker, (void *)i) == 0);
    for (int i = 0; i < THREADS; ++i) {
        void *sum;
        CHECK(pthread_join(threads[i], &sum) == 0);
        printf("%ld\n", (long)sum);
    }
    return 0;
}
