// An exception out of a callback that the C library called.
#include <stdlib.h>
#include "check.h"

static int countdown;
extern "C" KEEP int compare(const void *a, const void *b) {
    if (--countdown == 0) throw 42;
    return *static_cast<const int *>(a) - *static_cast<const int *>(b);
}
extern "C" KEEP int sort(int limit) {
    int numbers[64];
    for (int i = 0; i < 64; ++i) numbers[i] = (i * 37) % 64;
    countdown = limit;
    try { qsort(numbers, 64, sizeof *numbers, compare); } catch (int thrown) { return thrown; }
    for (int i = 0; i < 64; ++i) CHECK(numbers[i] == i);
    return 0;
}
extern "C" KEEP int search(int limit) {
    int numbers[64], wanted = 63;
    for (int i = 0; i < 64; ++i) numbers[i] = i;
    countdown = limit;
    try { return bsearch(&wanted, numbers, 64, sizeof *numbers, compare) ? 1 : 2; } catch (int n) { return n; }
}
int main() {
    for (int limit = 1; limit <= 100; ++limit) CHECK(sort(limit) == 42);
    CHECK(sort(100000) == 0);
    CHECK(search(3) == 42 && search(100000) == 1);
    puts("sorted");
}
