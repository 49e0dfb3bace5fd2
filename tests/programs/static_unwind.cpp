// All ways of unwinding through traced frames, in one file without a loader: exceptions, also on
// several threads, cancelled and leaving threads with clean-up, backtraces, thread-local storage.
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>
#include <stdexcept>
#include <string>
#include "check.h"

static sem_t ready;
static int alive;
static thread_local int count = 41;
static thread_local std::string text = "initial";
static thread_local char wide[200] __attribute__((aligned(64)));
static thread_local char *itself = wide;

struct Guard {
    Guard() { __atomic_add_fetch(&alive, 1, __ATOMIC_SEQ_CST); }
    ~Guard() { __atomic_sub_fetch(&alive, 1, __ATOMIC_SEQ_CST); }
};

extern "C" KEEP int thrower(int n) {
    Guard guard;
    if (n >= 0) throw std::runtime_error(std::to_string(n));
    return n;
}
extern "C" KEEP int middle(int depth) {
    Guard guard;
    return (depth ? middle(depth - 1) : thrower(7)) + 1;
}
extern "C" KEEP int catcher(int depth) {
    try {
        return middle(depth);
    } catch (const std::exception &error) {
        return std::stoi(error.what());
    }
}
// The return address of the outermost frame, where every backtrace must end.
extern "C" KEEP void *outermost() {
    void *frames[256];
    int count = backtrace(frames, 256);
    CHECK(count >= 4 && count < 256);
    return frames[count - 1];
}
extern "C" KEEP void *descend(int depth) {
    void *last = depth ? descend(depth - 1) : outermost();
    CHECK(alive == 0);
    return last;
}
extern "C" KEEP int blocked() {
    Guard guard;
    sem_post(&ready);
    for (;;) pause();
    return 1;
}
extern "C" KEEP int leaving() {
    Guard guard;
    pthread_exit((void *)5);
    return 1;
}
extern "C" KEEP int levels(int depth, int (*last)()) {
    Guard guard;
    return (depth ? levels(depth - 1, last) : last()) + 1;
}
extern "C" KEEP void storage() {
    CHECK(count == 41 && text == "initial" && (long)wide % 64 == 0 && itself == wide);
    for (char byte : wide) CHECK(byte == 0);
    count = 1;
    text += "!";
    for (char &byte : wide) byte = 1;
}
extern "C" KEEP void *run(void *last) {
    storage();
    for (int depth = 0; depth < 50; ++depth) CHECK(catcher(depth % 9) == 7);
    return (void *)(long)levels(5, (int (*)())last);
}
KEEP void expect(int (*last)(), bool cancel, void *wanted) {
    pthread_t thread;
    void *result;
    CHECK(pthread_create(&thread, nullptr, run, (void *)last) == 0);
    if (cancel) {
        sem_wait(&ready);
        CHECK(pthread_cancel(thread) == 0);
    }
    CHECK(pthread_join(thread, &result) == 0);
    CHECK(result == wanted && alive == 0);
}
int main() {
    storage();
    sem_init(&ready, 0, 0);
    for (int depth = 0; depth < 20; ++depth) CHECK(catcher(depth) == 7 && alive == 0);
    extern char start asm("_start");
    for (int depth = 0; depth < 20; ++depth) {
        char *last = (char *)descend(depth);
        CHECK(last > &start && last < &start + 64);
    }
    for (int i = 0; i < 10; ++i) {
        expect(blocked, true, PTHREAD_CANCELED);
        expect(leaving, false, (void *)5);
    }
    puts(text.c_str());
}
