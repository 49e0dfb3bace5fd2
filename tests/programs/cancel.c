/* pthread_cancel and pthread_exit through traced frames; clean-up handlers run in order. */
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>
#include "check.h"

static sem_t ready;
static char order[64];
static int steps;

KEEP void cleanup(void *mark) { order[steps++] = *(char *)mark; }
KEEP int blocked(void) {
    sem_post(&ready);
    for (;;) pause();
    return 1;
}
KEEP int leaving(void) { pthread_exit((void *)99); return 1; }
KEEP int levels(int depth, int (*last)(void)) {
    static char marks[] = "abcdefgh";
    int result;
    pthread_cleanup_push(cleanup, &marks[depth]);
    result = depth == 0 ? last() : levels(depth - 1, last) + 1;
    pthread_cleanup_pop(0);
    return result;
}
KEEP void *run(void *last) { return (void *)(long)levels(5, (int (*)(void))last); }

KEEP void expect(int (*last)(void), int cancel, void *wanted) {
    pthread_t thread;
    void *result;
    steps = 0;
    CHECK(pthread_create(&thread, NULL, run, (void *)last) == 0);
    if (cancel) {
        sem_wait(&ready);
        CHECK(pthread_cancel(thread) == 0);
    }
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == wanted);
    order[steps] = 0;
    puts(order);
}
int main(void) {
    sem_init(&ready, 0, 0);
    for (int i = 0; i < 20; ++i) {
        expect(blocked, 1, PTHREAD_CANCELED);
        expect(leaving, 0, (void *)99);
    }
    return 0;
}
