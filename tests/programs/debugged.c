/* Traces itself, and tells debuggers. */
#include <sledge.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline)) int innermost(int x) {
    __asm__ volatile("" ::: "memory");
    return x + 1;
}
__attribute__((noinline)) int middle(int x) { return innermost(x + 1) + 1; }
__attribute__((noinline)) int outermost(int x) { return middle(x + 1) + 1; }

__attribute__((noinline)) void in_callback(void) { __asm__ volatile("" ::: "memory"); }

static bool enter(uint64_t function, uint64_t parent, void *data, sledge_registers *registers, uint64_t *scratch) {
    (void)function, (void)parent, (void)data, (void)registers, (void)scratch;
    in_callback();
    return true;
}
static void leave(uint64_t function, uint64_t parent, void *data, sledge_results *results, uint64_t *scratch) {
    (void)function, (void)parent, (void)data, (void)results, (void)scratch;
    in_callback();
}

int main(void) {
    if (!sledge_register_call(enter, leave, NULL, SLEDGE_RECURSION, "innermost\nmiddle\noutermost"))
        return 1;
    outermost(0);
    if (sledge_tell_debuggers())
        return 1;
    printf("%d\n", outermost(1));
    return 0;
}
