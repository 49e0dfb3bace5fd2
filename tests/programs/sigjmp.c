/* longjmp over traced frames, and out of signal handlers: raised, faulting, on another stack. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include "check.h"

static sigjmp_buf escape;
static jmp_buf plain;
static char other_stack[64 * 1024];
static volatile int bottom;

KEEP void handler(int number) { siglongjmp(escape, number); }
KEEP int jumper(int depth) {
    if (depth == bottom) longjmp(plain, 5);
    return jumper(depth - 1) + 1;
}
KEEP int raiser(int depth) {
    if (depth == 0) { raise(SIGUSR1); return 0; }
    return raiser(depth - 1) + 1;
}
KEEP int faulter(int depth, volatile int *nowhere) {
    if (depth == 0) return *nowhere;
    return faulter(depth - 1, nowhere) + 1;
}
KEEP int out_of_jump(void) {
    int got = setjmp(plain);
    return got ? got : jumper(10);
}
KEEP int out_of_raise(void) {
    int got = sigsetjmp(escape, 1);
    return got ? got : raiser(10);
}
KEEP int out_of_fault(void) {
    int got = sigsetjmp(escape, 1);
    return got ? got : faulter(10, NULL);
}
KEEP void install(int number, int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    CHECK(sigaction(number, &action, NULL) == 0);
}
int main(void) {
    stack_t alternate = {.ss_sp = other_stack, .ss_size = sizeof other_stack};
    CHECK(sigaltstack(&alternate, NULL) == 0);
    for (int round = 0; round < 400; ++round) {
        int flags = round & 1 ? SA_ONSTACK : 0;
        install(SIGUSR1, flags);
        install(SIGSEGV, flags);
        CHECK(out_of_jump() == 5);
        CHECK(out_of_raise() == SIGUSR1);
        CHECK(out_of_fault() == SIGSEGV);
    }
    puts("escaped");
    return 0;
}
