/* Tail calls: mutual, through a pointer, into a library function. A million of them must not
 * use a million frames. */
#include <string.h>
#include "check.h"

KEEP long odd(long n, long steps);
KEEP long even(long n, long steps) { return n == 0 ? steps : odd(n - 1, steps + 1); }
KEEP long odd(long n, long steps) { return n == 0 ? -1 : even(n - 1, steps + 1); }

KEEP int leaf(int n) { return n + 1; }
KEEP int second(int n) { return leaf(n * 2) + 1; }
KEEP int first(int n) { return second(n + 3); }
KEEP int outer(int n) { return first(n) + 10; }
KEEP int after(int n) { return n + 100; }

static int (*volatile pointer)(int) = second;
KEEP int indirect(int n) { return pointer(n); }
KEEP size_t length(const char *text) { return strlen(text + 1); }
KEEP int show(const char *text) { return puts(text); }
KEEP long stacked(long a, long b, long c, long d, long e, long f, long g, long h) { return a + b * c + d * e + f + g * h; }
KEEP long passes_on(long a, long b, long c, long d, long e, long f, long g, long h) { return stacked(h, g, f, e, d, c, b, a); }

int main(int argc, char **argv) {
    long n = argc > 1 ? atol(argv[1]) : 1000000;
    CHECK(outer(1) == 20 && after(1) == 101 && indirect(4) == 10);
    CHECK(length(argc ? "hello" : argv[0]) == 4);
    CHECK(passes_on(1, 2, 3, 4, 5, 6, 7, 8) == 8 + 7 * 6 + 5 * 4 + 3 + 2 * 1);
    CHECK(even(n, 0) == n);
    return show("tailed") < 0;
}
