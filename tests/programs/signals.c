/* A storm of signals whose handlers make calls, while the program computes. */
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include "check.h"

static volatile long handled, handled_alternate;
static volatile unsigned long noise;
static char other_stack[64 * 1024];

KEEP unsigned long mix(unsigned long x) { return (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ul; }
KEEP unsigned long rounds(unsigned long x) { for (int i = 0; i < 8; ++i) x = mix(x) + i; return x; }
KEEP double smooth(double x, double y) { return (x * 3 + y) / 4; }
KEEP void on_alarm(int number) { (void)number; noise = rounds(noise); ++handled; }
KEEP void on_profile(int number) { (void)number; noise = rounds(noise); ++handled_alternate; }

KEEP void compute(void) {
    unsigned long sum = 0;
    double value = 1;
    for (int i = 0; i < 2000; ++i) { sum += rounds(i); value = smooth(value, i); }
    CHECK(sum == 0xc182b4e8f7cad32eul);
    CHECK(value > 1995 && value < 1997);
}
KEEP void install(int number, void (*handler)(int), int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    CHECK(sigaction(number, &action, NULL) == 0);
}
int main(void) {
    stack_t alternate = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    struct itimerval often = {{0, 200}, {0, 200}};
    CHECK(sigaltstack(&alternate, NULL) == 0);
    install(SIGALRM, on_alarm, SA_RESTART);
    install(SIGPROF, on_profile, SA_RESTART | SA_ONSTACK);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0 && setitimer(ITIMER_PROF, &often, NULL) == 0);
    while (handled < 300 || handled_alternate < 30) compute();
    puts("calm");
    return 0;
}
