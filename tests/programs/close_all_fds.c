/* What a daemon does at its start: forgets every descriptor, forks, begins a session. It goes on
 * working, with new threads and with the descriptors that it would have got untraced. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

KEEP long work(long n) { return n < 2 ? n : work(n - 1) + work(n - 2); }
KEEP void *thread_work(void *n) { return (void *)work((long)n); }
KEEP int new_thread(long n, long wanted) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, NULL, thread_work, (void *)n) == 0);
    CHECK(pthread_join(thread, &result) == 0);
    return (long)result == wanted;
}
KEEP void close_all(void) { for (int fd = 3; fd < 1024; ++fd) close(fd); }
KEEP int daemon_body(void) {
    CHECK(setsid() > 0 && chdir("/") == 0);
    close_all();
    CHECK(new_thread(9, 34));
    return 0;
}
int main(void) {
    int status;
    close_all();
    CHECK(work(10) == 55);
    int first = open("/dev/null", O_RDONLY), second = open("/dev/null", O_RDONLY);
    printf("descriptors %d %d\n", first, second);
    fflush(stdout);
    CHECK(new_thread(8, 21));
    pid_t child = fork();
    if (child == 0) _exit(daemon_body());
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(new_thread(7, 13));
    puts("closed");
    return 0;
}
