/* What a program under callgrind says to it: a request is a few instructions that do nothing outside of it. */
#include <valgrind/callgrind.h>

int emulated(void) { return RUNNING_ON_VALGRIND != 0; }
void start(void) { CALLGRIND_START_INSTRUMENTATION; }
void stop(void) { CALLGRIND_STOP_INSTRUMENTATION; }
void zero(void) { CALLGRIND_ZERO_STATS; }
void dump(void) { CALLGRIND_DUMP_STATS; }
