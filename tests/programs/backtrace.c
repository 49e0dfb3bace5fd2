/* Prints its own functions in a backtrace: taken in a call, in a call back from the C library, and
 * in a signal handler. Frames that are not this program's own have no name here. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <string.h>
#include "check.h"

KEEP void show(const char *title) {
    void *frames[64];
    Dl_info info, own;
    int count = backtrace(frames, 64);
    CHECK(dladdr((void *)show, &own));
    printf("%s:", title);
    for (int i = 0; i < count; ++i)
        if (dladdr((char *)frames[i] - 1, &info) && info.dli_fbase == own.dli_fbase && info.dli_sname)
            printf(" %s", info.dli_sname);
    puts("");
}
KEEP int deeper(int n) {
    if (n == 0) show("in a call");
    return n ? deeper(n - 1) + 1 : 1;
}
static int shown;
KEEP int compare(const void *a, const void *b) {
    if (!shown++) show("called back");
    return *(const int *)a - *(const int *)b;
}
KEEP int sorts(void) {
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof *numbers, compare);
    return numbers[0];
}
KEEP void handler(int number) { (void)number; show("in a handler"); }
KEEP int raises(int n) {
    if (n == 0) raise(SIGUSR1);
    return n ? raises(n - 1) + 1 : 1;
}
int main(void) {
    signal(SIGUSR1, handler);
    CHECK(deeper(3) == 4);
    CHECK(sorts() == 1);
    CHECK(raises(2) == 3);
    return 0;
}
