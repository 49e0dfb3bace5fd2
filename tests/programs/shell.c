/* Starts another program by way of the shell, and in no other way. */
#include <stdlib.h>
#include "check.h"

int main(void) {
    CHECK(system("true") == 0);
    puts("started");
    return 0;
}
