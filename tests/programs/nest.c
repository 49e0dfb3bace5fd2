/* main > a > b > c > getpid, and nothing else. */
#include <unistd.h>
#include "check.h"

KEEP int c(void) { return getpid() > 0 ? 1 : 0; }
KEEP int b(void) { return c() + 1; }
KEEP int a(void) { return b() + 1; }
int main(void) { return a() == 3 ? 0 : 1; }
