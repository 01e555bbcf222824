// libfdt is C: this header gives it to Swift, and its inline accessors with it.
#include <libfdt.h>
