/* Every verb of sledge.h, each with what it must change and what it must leave alone. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sledge.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(what)                                                                  \
    do {                                                                             \
        if (!(what)) {                                                               \
            printf("line %d: %s; last error: %s\n", __LINE__, #what, sledge_error()); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)
#define KNOWN __attribute__((noinline, noclone))

static volatile int black_box;

KNOWN int verb_one(int x) { return black_box = x + 1, x + 1; }
KNOWN int verb_two(int x) { return black_box = x + 2, x + 2; }

static int call_both(void) { return verb_one(10) * 100 + verb_two(20); }

static void count(uint64_t function, uint64_t parent, void *data, sledge_registers *registers) {
    (void)parent;
    int *counts = data;
    counts[function == (uint64_t)verb_two]++;
    counts[2] += registers != NULL;
}

static int counts[3];

static int counted(int one, int two) {
    memset(counts, 0, sizeof counts);
    return call_both() == 1122 && counts[0] == one && counts[1] == two;
}

static void filters(void) {
    sledge_ops *ops = sledge_register(count, counts, SLEDGE_DISABLED, "verb_one");
    CHECK(ops && counted(0, 0));
    CHECK(sledge_wanted(ops) == 0);
    CHECK(!sledge_set_enabled(ops, true) && counted(1, 0) && counts[2] == 0);
    CHECK(!sledge_set_filter(ops, "verb_two", false) && counted(1, 1) && sledge_wanted(ops) == 2);
    CHECK(!sledge_set_notrace(ops, "verb_one\n", false) && counted(0, 1));
    CHECK(!sledge_set_notrace(ops, NULL, true) && counted(1, 1));
    CHECK(!sledge_set_filter(ops, "  verb_two  \n\nverb_none", true) && counted(0, 1));
    CHECK(!sledge_set_enabled(ops, false) && counted(0, 0));
    CHECK(!sledge_unregister(ops) && counted(0, 0));
    ops = sledge_register(count, counts, SLEDGE_SAVE_REGS | SLEDGE_RECURSION, "verb_*");
    CHECK(ops && counted(1, 1) && counts[2] == 2);
    CHECK(!sledge_switch(false) && counted(0, 0) && !sledge_switch(true) && counted(1, 1));
    CHECK(!sledge_unregister(ops));
    ops = sledge_register(count, counts, SLEDGE_PERMANENT, "verb_one");
    CHECK(ops && sledge_switch(false) == -1 && strlen(sledge_error()) && counted(1, 0));
    CHECK(!sledge_unregister(ops));
}

static void *elsewhere(void *calls) {
    for (int call = 0; call < *(int *)calls; call++)
        verb_one(call);
    return NULL;
}

static void threads(void) {
    const int own = gettid();
    int calls = 5;
    pthread_t thread;
    sledge_ops *ops = sledge_register(count, counts, 0, "verb_one");
    CHECK(ops && !sledge_set_threads(ops, &own, 1) && counted(1, 0));
    CHECK(!pthread_create(&thread, NULL, elsewhere, &calls) && !pthread_join(thread, NULL));
    CHECK(counts[0] == 1);
    CHECK(!sledge_set_threads(ops, NULL, 0));
    CHECK(!pthread_create(&thread, NULL, elsewhere, &calls) && !pthread_join(thread, NULL));
    CHECK(counts[0] == 6);
    CHECK(!sledge_unregister(ops));
}

static int (*body)(int);

static int around(int x) { return body(x) + 1000; }

static void replaced(void) {
    CHECK(!sledge_original((void *)call_both) && strstr(sledge_error(), "never traced"));
    body = (int (*)(int))sledge_original((void *)verb_one);
    CHECK(body && body(1) == 2);
    sledge_ops *ops = sledge_replace((void *)around, "verb_one");
    CHECK(ops && verb_one(1) == 1002 && body(1) == 2);
    CHECK(!sledge_replace((void *)around, "verb_one") && strstr(sledge_error(), "verb_one"));
    char *enabled = sledge_enabled_functions();
    CHECK(enabled && strstr(enabled, "verb_one (1) R I"));
    sledge_free(enabled);
    CHECK(!sledge_unregister(ops) && verb_one(1) == 2);
}

static void direct(void) {
    /* lock inc qword [rip + 0xf8]; ret */
    static const unsigned char code[] = {0xf0, 0x48, 0xff, 0x05, 0xf8, 0x0f, 0, 0, 0xc3};
    unsigned char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED);
    memcpy(page, code, sizeof code);
    CHECK(!mprotect(page, 4096, PROT_READ | PROT_EXEC));
    sledge_ops *ops = sledge_direct(page, "verb_two");
    CHECK(ops && verb_two(1) == 3 && *(volatile uint64_t *)(page + 4096) == 1);
    char *enabled = sledge_enabled_functions();
    CHECK(enabled && strstr(enabled, "verb_two (1)     D") && strstr(enabled, "\tdirect-->"));
    sledge_free(enabled);
    CHECK(!sledge_unregister(ops) && verb_two(1) == 3 && *(volatile uint64_t *)(page + 4096) == 1);
    CHECK(!memcmp(page, code, sizeof code));
}

static void listings(void) {
    char *all = sledge_available_filter_functions(), *touched = sledge_touched_functions();
    CHECK(all && strstr(all, "verb_one\n") && touched && strstr(touched, "verb_two (0)         M "));
    sledge_free(all);
    sledge_free(touched);
    sledge_free(NULL);
    char *totals = sledge_totals();
    CHECK(totals && strstr(totals, " pages:") && strstr(totals, " groups: "));
    sledge_free(totals);
    sledge_ops *none = sledge_register(count, counts, 0, "verb_none\nverb_one");
    char *pending = sledge_pending(none), *left = sledge_left_out(none);
    CHECK(pending && !strcmp(pending, "verb_none\n") && left && !*left);
    sledge_free(pending);
    sledge_free(left);
    CHECK(!sledge_unregister(none));
    char *map = sledge_write_perf_map(), expected[64];
    snprintf(expected, sizeof expected, "/tmp/perf-%d.map", getpid());
    CHECK(map && !strcmp(map, expected) && !unlink(map));
    sledge_free(map);
}

/* A key's destructor runs when the thread's own variables may be gone already. */
static void at_the_end(void *unused) {
    (void)unused;
    sledge_unregister(NULL);
    sledge_error();
}

static void *ends(void *key) {
    sledge_unregister(NULL);
    pthread_setspecific(*(pthread_key_t *)key, key);
    return NULL;
}

static void mistakes(void) {
    CHECK(!sledge_register(NULL, NULL, 0, "verb_one") && strstr(sledge_error(), "no function"));
    CHECK(!sledge_register(count, counts, 1u << 30, "verb_one") && strstr(sledge_error(), "flags"));
    CHECK(!sledge_register(count, counts, 0, "verb_[") && strlen(sledge_error()));
    CHECK(!sledge_register(count, counts, 0, "\xff") && strstr(sledge_error(), "UTF-8"));
    CHECK(!sledge_replace(NULL, "verb_one") && !sledge_direct(NULL, "verb_one"));
    CHECK(sledge_set_filter(NULL, "verb_one", true) == -1 && strstr(sledge_error(), "no ops"));
    CHECK(sledge_unregister(NULL) == -1 && sledge_wanted(NULL) == 0);
    pthread_key_t key;
    pthread_t thread;
    CHECK(!pthread_key_create(&key, at_the_end) && !pthread_create(&thread, NULL, ends, &key));
    CHECK(!pthread_join(thread, NULL));
    CHECK(counted(0, 0));
}

int main(void) {
    CHECK(!sledge_open());
    filters();
    threads();
    replaced();
    direct();
    listings();
    mistakes();
    CHECK(!sledge_refresh());
    puts("all verbs");
}
