/* Other programs, started in every usual way. With an argument: be that other program. */
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

extern char **environ;
KEEP int status_of(pid_t child) {
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}
KEEP int by_vfork(char **arguments) {
    pid_t child = vfork();
    if (child == 0) {
        execv(arguments[0], arguments);
        _exit(127);
    }
    return status_of(child);
}
KEEP int by_fork(char **arguments) {
    pid_t child = fork();
    if (child == 0) {
        execve(arguments[0], arguments, environ);
        _exit(127);
    }
    return status_of(child);
}
KEEP int by_spawn(char **arguments) {
    pid_t child;
    CHECK(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
    return status_of(child);
}
KEEP int be_executed(const char *how) {
    printf("executed by %s\n", how);
    return 3;
}
int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1) return be_executed(argv[1]);
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    CHECK(length > 0);
    self[length] = 0;
    CHECK(by_vfork((char *[]){self, "vfork", NULL}) == 3);
    CHECK(by_fork((char *[]){self, "fork", NULL}) == 3);
    CHECK(by_spawn((char *[]){self, "posix_spawn", NULL}) == 3);
    CHECK(by_vfork((char *[]){"/nonexistent", NULL}) == 127);
    CHECK(WEXITSTATUS(system("echo from a shell; exit 6")) == 6);
    FILE *pipe = popen("echo through a pipe", "r");
    char line[64];
    CHECK(pipe && fgets(line, sizeof line, pipe) && pclose(pipe) == 0);
    fputs(line, stdout);
    return 0;
}
