/* main > serve > wait_here, where it dies as its argument says. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "check.h"

static volatile int *volatile nowhere;
KEEP int prepare(int n) { return n + 1; }
KEEP void wait_here(const char *how) {
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(how, "segv")) *nowhere = 1;
    if (!strcmp(how, "abort")) abort();
    if (!strcmp(how, "exit")) _exit(7);
    if (!strcmp(how, "term")) kill(getpid(), SIGTERM);
    puts("still here");
}
KEEP int serve(const char *how) {
    int n = prepare(1);
    wait_here(how);
    return n;
}
int main(int argc, char **argv) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("serving");
    serve(argc > 1 ? argv[1] : "kill");
    return 1;
}
