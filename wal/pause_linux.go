package wal

import (
	"syscall"
	"time"
)

// pause sleeps for d, which is far below a millisecond. Timers of the runtime are too coarse for that: an idle process
// rounds them up to one. A pause that a signal cuts short is short; its user does not depend on its length.
func pause(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // EINTR only
}
