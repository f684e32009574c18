package engine

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadCPU returns the CPU time that the calling thread has had, 0 if the kernel does not tell.
func threadCPU() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		return 0 // a figure less in INFO
	}
	return time.Duration(ts.Nano())
}

// otherThreads returns for how long the threads of this process, but for the calling one, have run so far, and for how long they were
// ready to run and waited for a processor; 0 if the kernel does not tell. A thread that ends takes its times along, so both may
// become less.
func otherThreads() (ran, waited time.Duration) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return 0, 0 // no /proc: exports are not paced
	}
	var buf [96]byte
	self := strconv.Itoa(unix.Gettid())
	for _, t := range tasks {
		if t.Name() == self {
			continue
		}
		n, err := readProc("/proc/self/task/"+t.Name()+"/schedstat", buf[:])
		if err != nil {
			continue // it has ended
		}
		// Nanoseconds that it ran, that it waited, and how often it ran.
		run, rest, _ := bytes.Cut(buf[:n], []byte(" "))
		wait, _, _ := bytes.Cut(rest, []byte(" "))
		ran += nanoseconds(run)
		waited += nanoseconds(wait)
	}
	return ran, waited
}

// nanoseconds reads a number of them, 0 if it is none.
func nanoseconds(b []byte) time.Duration {
	ns, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(ns)
}

// readProc reads the beginning of a small file.
func readProc(name string, buf []byte) (int, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	n, err := unix.Read(fd, buf)
	return n, errors.Join(err, unix.Close(fd))
}

// restThread takes the calling thread off its processor for as short as the kernel can, some 50 µs, so that a slice of its own
// begins when it runs again. sched_yield would not do: it gives up the thread's claim to the processor for a whole slice, and
// where nobody else is ready it begins none. The time is the kernel's to keep: a sleep that a signal ends early has done its work.
func restThread() {
	ts := unix.NsecToTimespec(1)
	_ = unix.Nanosleep(&ts, nil) // EINTR, which is as good
}

// cannotHurry is set once the kernel has refused hurryThread: it will do so again, and asking costs a system call.
var cannotHurry atomic.Bool

// mayHurry tells whether the kernel has not refused hurryThread so far.
func mayHurry() bool { return !cannotHurry.Load() }

// hurryThread has the calling thread run before all that are not in a hurry, until calmThread, and tells whether it does: the process
// needs CAP_SYS_NICE or a limit RTPRIO for it. The thread must be one of the usual policy, which calmThread gives it again.
func hurryThread() bool {
	if cannotHurry.Load() {
		return false
	}
	if errno := setScheduler(unix.SCHED_FIFO, 1); errno != 0 {
		cannotHurry.Store(true)
		return false
	}
	return true
}

// calmThread ends what hurryThread began. Nobody needs a right for that, so it cannot be refused.
func calmThread() {
	if setScheduler(unix.SCHED_NORMAL, 0) != 0 {
		cannotHurry.Store(true)
	}
}

// usualThread tells whether the calling thread has the policy that threads have if nobody has asked for another.
func usualThread() bool {
	policy, _, errno := unix.RawSyscall(unix.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	return errno == 0 && policy == unix.SCHED_NORMAL
}

// setScheduler sets the calling thread's policy. The kernel is asked without telling Go's scheduler: it answers in a microsecond.
func setScheduler(policy uintptr, priority int32) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, policy, uintptr(unsafe.Pointer(&priority)))
	return errno
}
