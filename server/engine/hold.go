package engine

import (
	"runtime"
	"time"
)

// How a checkpoint holds the executor lock: often, and each time for no longer than others can wait without noticing.
//
// A hold has two lengths. By the clock it is what sessions wait for; it has in it whatever took the processor away meanwhile,
// the kernel for another process or Go for another goroutine. By the CPU time of its thread it is what the checkpoint did
// (and what the garbage collector made it do). Both are kept: the first is what matters, the second what can be mended here.

// holdBudget is after how long a pass over many objects lets go of the lock: a tenth of the 2 ms that a checkpoint may hold the
// executor at most, since what it looks at may be slow to come from memory.
const holdBudget = 200 * time.Microsecond

// stepBackMax bounds how often the checkpointer lets sessions go first before it takes its turn all the same.
const stepBackMax = 100

// yieldEvery is how long a checkpoint runs before it lets others run by itself: the scheduler would interrupt it after 10 ms,
// maybe with the executor lock in its hands, for which all others then wait.
const yieldEvery = time.Millisecond

// holds are the longest holds of the executor lock by one checkpoint.
type holds struct {
	max     time.Duration
	maxStep string // what the longest was for
	cpuMax  time.Duration
	yielded time.Time // when the goroutine last let others run
}

// locked runs fn under the executor lock and keeps the longest hold. fn may ask enough whether it is time to let go.
//
// A mutex favours whoever has just let go of it, and that is the checkpointer, thousands of times in a row: so it steps
// back while a session wants the lock, or each slice of a pipeline would wait for the mutex's millisecond of patience.
func (p *checkpointPass) locked(step string, fn func(enough func() bool)) {
	h := &p.holds
	for range stepBackMax {
		if p.e.wanted.Load() == 0 {
			break
		}
		runtime.Gosched()
		h.yielded = time.Now()
	}
	if time.Since(h.yielded) >= yieldEvery {
		runtime.Gosched()
		h.yielded = time.Now()
	}
	// The thread's clock is read outside the hold, if the lock is free: it takes a system call.
	runtime.LockOSThread()
	cpu := threadCPU()
	if !p.e.mu.TryLock() {
		runtime.UnlockOSThread()
		p.e.mu.Lock()
		runtime.LockOSThread()
		cpu = threadCPU()
	}
	start := p.e.now()
	fn(func() bool { return p.e.now().Sub(start) >= holdBudget })
	d := p.e.now().Sub(start)
	p.e.mu.Unlock()
	h.cpuMax = max(h.cpuMax, threadCPU()-cpu)
	runtime.UnlockOSThread()
	if d > h.max {
		h.max, h.maxStep = d, step
	}
	if p.e.opts.between != nil {
		p.e.opts.between()
	}
}
