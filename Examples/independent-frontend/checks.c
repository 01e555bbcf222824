#include "checks.h"
int checks_run(struct block *b, uint64_t p){(void)b;(void)p;return 0;}
