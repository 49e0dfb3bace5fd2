/* Calls at full rate for so many seconds, in an order that can be checked, and then crashes or ends. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static volatile int sink, *volatile nowhere;

#define DIGIT(n) KEEP void low_##n(void) { sink = n; }
#define EACH(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
EACH(DIGIT)
#define NAME(n) low_##n,
static void (*const low[])(void) = { EACH(NAME) };
/* Calls all digits in turn; its own name is the digit above them. */
#define ROUND(n) KEEP void high_##n(void) { for (int i = 0; i < 16; i++) low[i](); }
EACH(ROUND)
#define HIGH(n) high_##n,
static void (*const high[])(void) = { EACH(HIGH) };

KEEP void crash_here(void) { *nowhere = 1; }
KEEP void fall(void) {
    crash_here();
    puts("not reached");
}
KEEP void work(double seconds) {
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        for (int round = 0; round < 16; round++) high[round]();
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begun.tv_sec) + (now.tv_nsec - begun.tv_nsec) / 1e9 < seconds);
}
int main(int argc, char **argv) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    work(argc > 1 ? atof(argv[1]) : 1);
    if (argc > 2 && !strcmp(argv[2], "crash")) fall();
    puts("done");
    return 3;
}
