package supervise

import "C" // patience.c, which runs before Go does
