/* Two coroutines on stacks of their own, interleaved, each several calls deep when it yields;
 * one is dropped half-way and its stack used again. */
#include <ucontext.h>
#include "check.h"

static ucontext_t main_context, contexts[2];
static char stacks[2][128 * 1024];
static int yielded, current;

KEEP void yield(int value) {
    yielded = value;
    swapcontext(&contexts[current], &main_context);
}
KEEP int walk(int depth, int base) {
    if (depth == 0) { yield(base); return 1; }
    int left = walk(depth - 1, base * 2);
    yield(base);
    return left + walk(depth - 1, base * 2 + 1);
}
KEEP void body(int which) {
    int leaves = walk(4, which + 1);
    CHECK(leaves == 16);
    yielded = -1;
}
KEEP void start(int which) {
    getcontext(&contexts[which]);
    contexts[which].uc_stack.ss_sp = stacks[which];
    contexts[which].uc_stack.ss_size = sizeof stacks[which];
    contexts[which].uc_link = &main_context;
    makecontext(&contexts[which], (void (*)(void))body, 1, which);
}
KEEP int next(int which) {
    current = which;
    swapcontext(&main_context, &contexts[which]);
    return yielded;
}
int main(void) {
    start(0);
    start(1);
    for (int i = 0; i < 7; ++i) next(1);
    start(1); /* forget where it was */
    int values[2] = {0, 0}, sums[2] = {0, 0};
    while (values[0] != -1 || values[1] != -1)
        for (int which = 0; which < 2; ++which)
            if (values[which] != -1 && (values[which] = next(which)) != -1) {
                sums[which] += values[which];
                printf("%d:%d ", which, values[which]);
            }
    printf("\n%d %d\n", sums[0], sums[1]);
    return 0;
}
