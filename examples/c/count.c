/* Counts calls of this program's own functions, and times them, while it runs.
 *
 *   cargo build --release -p sledge-c
 *   gcc -O2 -I crates/c/include examples/c/count.c -L target/release -lsledge \
 *       -Wl,-rpath,$PWD/target/release -o count && ./count */
#include <inttypes.h>
#include <sledge.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

__attribute__((noinline)) int btree_insert(int key) {
    __asm__ volatile("");
    return key * 2 + 1;
}

static void count(uint64_t function, uint64_t parent, void *data, sledge_registers *registers) {
    (void)function, (void)parent, (void)registers;
    ++*(uint64_t *)data;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static bool enter(uint64_t function, uint64_t parent, void *data, sledge_registers *registers, uint64_t *scratch) {
    (void)function, (void)parent, (void)data;
    scratch[0] = now();
    scratch[1] = registers->rdi;
    return true;
}

static void leave(uint64_t function, uint64_t parent, void *data, sledge_results *results, uint64_t *scratch) {
    (void)function, (void)parent;
    if (now() < scratch[0] || (int)results->rax != (int)scratch[1] * 2 + 1)
        abort();
    ++*(uint64_t *)data;
}

static int replacement(int key) { return -key; }

static void *check(void *ops) {
    if (!ops) {
        fprintf(stderr, "%s\n", sledge_error());
        exit(1);
    }
    return ops;
}

int main(void) {
    uint64_t calls = 0, timed = 0;
    sledge_ops *counter = check(sledge_register(count, &calls, 0, "btree_*"));
    sledge_ops *timer = check(sledge_register_call(enter, leave, &timed, SLEDGE_SAVE_REGS | SLEDGE_RECURSION, "btree_*"));
    for (int key = 0; key < 10; key++)
        btree_insert(key);
    printf("%" PRIu64 " calls counted, %" PRIu64 " timed\n", calls, timed);
    char *enabled = check(sledge_enabled_functions());
    printf("%.16s\n", enabled);
    sledge_free(enabled);
    sledge_unregister(timer);
    sledge_unregister(counter);

    sledge_ops *other = check(sledge_replace((void *)replacement, "btree_insert"));
    if (sledge_replace((void *)replacement, "btree_insert"))
        return 2;
    printf("%d, and: %s\n", btree_insert(4), sledge_error());
    sledge_unregister(other);
    printf("%d again, after %" PRIu64 " calls\n", btree_insert(4), calls);
    return 0;
}
