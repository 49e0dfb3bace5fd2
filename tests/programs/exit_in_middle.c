/* Ends in the middle of calls: from main's thread or another one, in the ways there are. */
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "check.h"

KEEP void at_exit(void) { puts("at exit"); fflush(stdout); }
KEEP void leave(const char *how) {
    if (!strcmp(how, "exit")) exit(3);
    if (!strcmp(how, "quick")) quick_exit(3);
    if (!strcmp(how, "_exit")) _exit(3);
    if (!strcmp(how, "syscall")) syscall(SYS_exit_group, 3);
}
KEEP int levels(int depth, const char *how) {
    if (depth == 0) leave(how);
    return depth ? levels(depth - 1, how) + 1 : 1;
}
KEEP void *other(void *how) { levels(3, how); return NULL; }
/* main's thread ends first: the process lives on in the other one. */
KEEP void *survivor(void *main_thread) {
    pthread_join(*(pthread_t *)main_thread, NULL);
    levels(3, "exit");
    return NULL;
}
int main(int argc, char **argv) {
    static pthread_t self;
    pthread_t thread;
    const char *how = argc > 1 ? argv[1] : "exit";
    self = pthread_self();
    setvbuf(stdout, NULL, _IOLBF, 0);
    atexit(at_exit);
    at_quick_exit(at_exit);
    if (!strcmp(how, "thread")) {
        pthread_create(&thread, NULL, other, "exit");
        for (;;) pause();
    }
    if (!strcmp(how, "survivor")) {
        pthread_create(&thread, NULL, survivor, &self);
        pthread_exit(NULL);
    }
    levels(5, how);
    return 1;
}
