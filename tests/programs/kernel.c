// A process that looks like a kernel to a tracer: its functions bear names that tools for ftrace
// expect, and are called all the time, by several threads.
//   kernel [ROUNDS [THREADS]]      without ROUNDS: until killed, or whoever started it is gone
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FN __attribute__((noipa, noinline))
// What a program declares as its events: probes with names of their own.
#define EVENT(name, text) \
	static const char event_##name[] __attribute__((section(".sledge.events"), used)) = text
EVENT(switch, "p:sched/sched_switch schedule");
EVENT(waking, "p:sched/sched_waking sched_tick");
EVENT(fork, "p:sched/sched_process_fork wake_up_new_task parent_comm=$comm parent_pid=$arg1:s32 child_comm=$comm child_pid=$arg2:s32");
EVENT(exec, "p:sched/sched_process_exec do_execve");
EVENT(exit, "p:sched/sched_process_exit do_exit");
EVENT(kmalloc, "p:kmem/kmalloc kmem_cache_alloc call_site=$stack0:x64 ptr=$arg1:x64 bytes_req=$arg3:u64 bytes_alloc=$arg4:u64 gfp_flags=$arg2:x32");
EVENT(kfree, "p:kmem/kfree kfree call_site=$stack0:x64 ptr=$arg1:x64");
EVENT(signal, "p:signal/signal_generate __send_signal sig=$arg1:s32 errno=$arg2:s32 code=$arg3:s32");

static __thread volatile uint64_t work;
#define WORK work = work * 31 + __COUNTER__

struct file { const char *name; uint64_t position; };
char linux_proc_banner[512] = "no version";

FN void _raw_spin_lock(void *lock) { WORK; }
FN void _raw_spin_unlock(void *lock) { WORK; }
FN int _raw_spin_trylock(void *lock) { WORK; return 1; }
FN void mutex_lock(void *lock) { _raw_spin_lock(lock); WORK; }
FN void mutex_unlock(void *lock) { WORK; _raw_spin_unlock(lock); }
FN int mutex_trylock(void *lock) { WORK; return _raw_spin_trylock(lock); }
FN void mutex_spin_on_owner_unlock(void *lock) { WORK; }
FN void console_unlock(void) { WORK; }
FN void clocksource_unlock_irq(void) { WORK; }
FN void __rcu_read_lock(void) { WORK; }
FN void __rcu_read_unlock(void) { WORK; }
FN void rcu_note_context_switch(int preempt) { WORK; }
FN void call_rcu(void *head, void *function) { WORK; }
FN void sched_tick(void) { WORK; }
FN void __schedule(int mode) { rcu_note_context_switch(mode); WORK; }
FN void schedule(void) { __schedule(0); WORK; }
FN void do_sched_yield(void) { WORK; }
FN void kfree(const void *object) { WORK; }
FN void *kmem_cache_alloc(void *cache, unsigned flags, uint64_t wanted, uint64_t given) { WORK; return cache; }
FN void *getname_flags(const char *name, int flags) { WORK; return (void *)name; }
FN void dput(struct file *entry) { WORK; }
FN long vfs_read(struct file *file, char *buffer, uint64_t count, uint64_t *position) {
	__rcu_read_lock();
	WORK;
	__rcu_read_unlock();
	return (long)count;
}
FN long vfs_write(struct file *file, const char *buffer, uint64_t count) { WORK; return -5; }
FN int vfs_open(const char *path, struct file *file) { mutex_lock(file); mutex_unlock(file); return 0; }
FN long proc_reg_write(struct file *file, const char *buffer, uint64_t count) { WORK; return -5; }
FN void inet_csk_accept(void *socket) { WORK; }
FN int do_execveat_common(int descriptor, const char *name) { WORK; return 0; }
FN int do_execve(const char *name) { return do_execveat_common(-100, name) + (int)(work & 0); }
FN void do_exit(long code) { WORK; }
FN void wake_up_new_task(int parent, int child) { WORK; }
FN void __send_signal(int number, int error, int code) { WORK; }
FN int kernel_clone(uint64_t flags, struct file *arguments) {
	mutex_lock(arguments);
	WORK;
	mutex_unlock(arguments);
	wake_up_new_task(getpid(), 42);
	return 42;
}
FN void tracefs_start_creating(const char *name) { WORK; }
FN void *tracefs_create_dir(const char *name, void *parent) { tracefs_start_creating(name); WORK; return parent; }
FN void tracefs_end_creating(const char *name) { WORK; }
FN void *eventfs_create_dir(const char *name, void *parent) { WORK; return parent; }
FN void do_page_fault_work(int kind) __asm__("do_page_fault.isra.0");
FN void do_page_fault_work(int kind) { WORK; }
FN long sys_read(struct file *file) {
	char buffer[64];
	long read = vfs_read(file, buffer, sizeof buffer, &file->position);
	return read + (long)(work & 0);
}
FN long SyS_open(const char *path, struct file *file) { return vfs_open(getname_flags(path, 0), file); }

FN void do_syscall_64(struct file *file) {
	sys_read(file);
	SyS_open("/etc/passwd", file);
	vfs_write(file, "text", 4);
	proc_reg_write(file, "1", 1);
	kfree(kmem_cache_alloc(file, 0xcc0, file->position % 100, 128));
	dput(file);
	call_rcu(file, 0);
	inet_csk_accept(file);
	eventfs_create_dir("test", file);
	tracefs_create_dir("test", file);
	tracefs_end_creating("test");
	if (mutex_trylock(file)) mutex_unlock(file);
	mutex_spin_on_owner_unlock(file);
	console_unlock();
	clocksource_unlock_irq();
	do_page_fault_work(1);
	do_execve("/bin/true");
	kernel_clone(0x11, file);
	__send_signal(17, 0, 1);
	do_exit(0);
	do_sched_yield();
	sched_tick();
	schedule();
}

static long rounds = -1;
static int parent;

static void *cpu(void *number) {
	char name[16];
	snprintf(name, sizeof name, "kworker/%ld", (long)number);
	if ((long)number > 0) pthread_setname_np(pthread_self(), name);
	struct file file = { "file", 0 };
	for (long round = 0; round != rounds; round++) {
		do_syscall_64(&file);
		if (rounds < 0 && getppid() != parent) exit(0);
		if (rounds < 0) usleep(500);
	}
	return NULL;
}

int main(int count, char **words) {
	long threads = count > 2 ? atol(words[2]) : 2;
	if (count > 1) rounds = atol(words[1]);
	parent = getppid();
	FILE *version = fopen("/proc/version", "r");
	if (version && fgets(linux_proc_banner, sizeof linux_proc_banner, version)) fclose(version);
	pthread_t others[64];
	if (threads > 64) threads = 64;
	for (long i = 1; i < threads; i++) pthread_create(&others[i], NULL, cpu, (void *)i);
	cpu(NULL);
	for (long i = 1; i < threads; i++) pthread_join(others[i], NULL);
	return 0;
}
