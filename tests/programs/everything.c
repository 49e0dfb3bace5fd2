/* Preloaded: everything in the process is traced by the library, entries and exits, from before main
 * to the end. */
#include <sledge.h>
#include <stdio.h>
#include <stdlib.h>

static bool enter(uint64_t function, uint64_t parent, void *data, sledge_registers *registers, uint64_t *scratch) {
    (void)data, (void)registers;
    scratch[0] = function;
    scratch[1] = parent;
    return true;
}

static void leave(uint64_t function, uint64_t parent, void *data, sledge_results *results, uint64_t *scratch) {
    (void)data, (void)results;
    if (scratch[0] != function || scratch[1] != parent)
        abort();
}

static void entry(uint64_t function, uint64_t parent, void *data, sledge_registers *registers) {
    (void)function, (void)parent, (void)data, (void)registers;
}

__attribute__((constructor)) static void begin(void) {
    sledge_ops *ops = sledge_register_call(enter, leave, NULL, SLEDGE_RECURSION, NULL);
    // With an unwinder of its own, hidden in the program, no return can be hooked.
    if (ops && !sledge_wanted(ops))
        ops = sledge_register(entry, NULL, SLEDGE_RECURSION, NULL);
    if (!ops || sledge_wanted(ops) < 100) {
        fprintf(stderr, "%s\n", sledge_error());
        abort();
    }
}
