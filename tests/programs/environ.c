/* Prints what a program can see of its surroundings: as untraced, all of it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

extern char **environ;
KEEP void show_environment(void) {
    for (char **variable = environ; *variable; ++variable) puts(*variable);
    const char *preload = getenv("LD_PRELOAD");
    printf("LD_PRELOAD is %s\n", preload ? preload : "not set");
}
KEEP void show_arguments(int argc, char **argv) {
    for (int i = 0; i < argc; ++i) printf("argument %d: %s\n", i, argv[i]);
    printf("invoked as %s\n", program_invocation_name);
}
KEEP void show_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;
    CHECK(directory);
    for (struct dirent *entry; (entry = readdir(directory));) count += entry->d_name[0] != '.';
    closedir(directory);
    printf("%d descriptors\n", count);
}
KEEP void show_status(void) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    CHECK(status);
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "Name:", 5) || !strncmp(line, "Umask:", 6) || !strncmp(line, "Threads:", 8)
            || !strncmp(line, "SigBlk:", 7) || !strncmp(line, "SigIgn:", 7) || !strncmp(line, "NoNewPrivs:", 11)
            || !strncmp(line, "Seccomp:", 8) || !strncmp(line, "TracerPid:\t0", 12))
            fputs(line, stdout);
    fclose(status);
}
KEEP void show_limits(void) {
    struct rlimit limit;
    for (int i = 0; i < RLIM_NLIMITS; ++i)
        if (getrlimit(i, &limit) == 0) printf("limit %d: %lu %lu\n", i, limit.rlim_cur, limit.rlim_max);
}
KEEP void show_default_actions(void) {
    for (int number = 1; number < 65; ++number) {
        struct sigaction action;
        if (number == SIGTRAP || number == SIGILL || sigaction(number, NULL, &action)) continue;
        if (action.sa_handler != SIG_DFL) printf("signal %d is not at its default\n", number);
    }
}
int main(int argc, char **argv) {
    char path[4096] = "";
    show_environment();
    show_arguments(argc, argv);
    show_descriptors();
    show_status();
    show_limits();
    show_default_actions();
    CHECK(readlink("/proc/self/exe", path, sizeof path - 1) > 0);
    printf("executable %s\n", path);
    CHECK(getcwd(path, sizeof path));
    printf("in %s, nice %d, session leader %d\n", path, getpriority(PRIO_PROCESS, 0), getsid(0) == getpid());
    int c, bytes = 0;
    while ((c = getchar()) != EOF) ++bytes;
    printf("%d bytes of input\n", bytes);
    fputs("to stderr\n", stderr);
    return 0;
}
