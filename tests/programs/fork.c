/* A child, and a child of the child, that work and exit with statuses of their own. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

KEEP int work(int n) { return n < 2 ? n : work(n - 1) + work(n - 2); }
KEEP void *thread_work(void *n) { return (void *)(long)work((int)(long)n); }
KEEP int in_grandchild(void) { return work(9) == 34 ? 5 : 1; }
KEEP int wait_for(pid_t child) {
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}
KEEP int in_child(void) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, thread_work, (void *)8l) == 0);
    CHECK(pthread_join(thread, &result) == 0 && (long)result == 21);
    pid_t child = fork();
    if (child == 0) _exit(in_grandchild());
    return wait_for(child) == 5 ? 4 : 1;
}
KEEP int in_parent(pid_t child) {
    CHECK(work(10) == 55);
    return wait_for(child);
}
int main(void) {
    for (int i = 0; i < 3; ++i) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) exit(in_child());
        CHECK(in_parent(child) == 4);
    }
    puts("forked");
    return 0;
}
