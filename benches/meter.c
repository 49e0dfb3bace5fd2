/*
 * Runs a command and says what it took.
 *
 *   meter RESULT COMMAND [ARGS...]
 *
 * Writes wall, user and system time in nanoseconds and the peak resident size in KiB of the
 * command's largest process to the file RESULT, and exits as the command does.
 */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long nanoseconds(struct timeval time)
{
	return time.tv_sec * 1000000000L + time.tv_usec * 1000L;
}

int main(int argc, char **argv)
{
	struct timespec start, end;
	struct rusage used;
	pid_t pid;
	int status;

	if (argc < 3)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (posix_spawnp(&pid, argv[2], NULL, NULL, argv + 2, environ) != 0)
		return 127;
	if (wait4(pid, &status, 0, &used) != pid)
		return 126;
	clock_gettime(CLOCK_MONOTONIC, &end);

	FILE *result = fopen(argv[1], "w");
	if (!result)
		return 125;
	long wall = (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec;
	fprintf(result, "%ld %ld %ld %ld\n", wall, nanoseconds(used.ru_utime),
		nanoseconds(used.ru_stime), used.ru_maxrss);
	fclose(result);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
