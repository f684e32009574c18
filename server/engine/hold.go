package engine

import (
	"runtime"
	"time"
)

// How a checkpoint holds the executor lock: often, and each time for no longer than others can wait without noticing.
//
// A hold has two lengths. By the clock it is what sessions wait for; it has in it whatever took the processor away meanwhile,
// the kernel for another thread or Go for another goroutine. By the CPU time of its thread it is what the checkpoint did
// (and what the garbage collector made it do). Both are kept: the first is what matters, the second what is done here.
//
// What a hold does takes some 100 µs. What takes the processor away in the middle of one takes milliseconds, and all sessions
// wait for it: one hold in a thousand, where processors are short. So a hold keeps to one thread, and sees to it that
// none of what does so is due while it holds the lock:
//   - The kernel takes a thread off its processor when its slice ends (Linux: 0.7 ms on one processor, 1.4 ms on two) or when
//     another wakes up that has waited for longer. While it holds the lock the thread has a real-time priority, if the process
//     may give it one: no hold is longer than holdBudget by much, so nobody starves. If it may not, it rests before its slice ends,
//     out of any hold: by itself this helps unless other programs want the processor, too.
//   - Go interrupts a goroutine after 10 ms. This one lets others run with each rest.
//   - The garbage collector makes those help who allocate. Holds do not, but for what is rare.

// holdBudget is after how long a pass over many objects lets go of the lock: a tenth of the 2 ms that a checkpoint may hold the
// executor at most, since what it looks at may be slow to come from memory.
const holdBudget = 200 * time.Microsecond

// stepBackMax bounds how often the checkpointer lets sessions go first before it takes its turn all the same. Sessions that always
// have work always want the lock: with 100, most of a checkpoint was waiting.
const stepBackMax = 10

// restAfter is for how much CPU time the checkpoint runs between two rests: with a long hold it is below the shortest slice. A
// rest takes some 50 µs where nobody waits for the processor, so shorter would make checkpoints longer.
const restAfter = 500 * time.Microsecond

// restEvery is the same by the clock, for where CPU time is not measured.
const restEvery = 2 * time.Millisecond

// holds is how one checkpoint holds the executor lock. Its goroutine keeps to one thread: for each hold where the thread may hurry, since
// a goroutine that is bound to a thread costs two switches of threads whenever it waits or lets others run; else from begin to end.
type holds struct {
	e      *Engine
	usual  bool        // whether the thread may hurry
	hurry  bool        // whether it does
	bound  bool        // whether the goroutine keeps to its thread between holds, which it does if no hold may hurry
	start  time.Time   // of the present hold
	enough func() bool // whether that has taken long enough

	max     time.Duration // the longest so far
	maxStep string        // what it was for
	cpuMax  time.Duration // most CPU time in one

	rested    time.Time     // when the goroutine last rested
	restedCPU time.Duration // and, if it is bound, the CPU time that its thread had had by then
}

// begin prepares for holds, until end.
func (h *holds) begin(e *Engine) {
	runtime.LockOSThread()
	h.e, h.usual, h.bound = e, usualThread(), true
	h.enough = func() bool { return e.now().Sub(h.start) >= holdBudget } // made once: a hold does not allocate
	h.rest()
	if h.usual && mayHurry() {
		h.release()
	}
}

func (h *holds) end() {
	if h.bound {
		h.release()
	}
}

// bind keeps the goroutine to its thread until release.
func (h *holds) bind() {
	runtime.LockOSThread()
	h.bound = true
}

func (h *holds) release() {
	h.bound = false
	runtime.UnlockOSThread()
}

// rest lets others run, goroutines and threads, and returns at the beginning of a slice. REQUIRES: bound.
func (h *holds) rest() {
	runtime.Gosched()
	restThread()
	h.rested, h.restedCPU = time.Now(), threadCPU()
}

// pause lets others run where these could take the processor in the middle of a hold. Threads cannot if holds hurry; and under full
// load a thread that sleeps waits for milliseconds until it has a processor again, and checkpoints that take so long make recoveries
// long.
func (h *holds) pause() {
	if h.bound {
		if threadCPU()-h.restedCPU >= restAfter || time.Since(h.rested) >= restEvery {
			h.rest()
		}
		return
	}
	if time.Since(h.rested) >= restEvery {
		runtime.Gosched()
		h.rested = time.Now()
	}
}

// take takes the executor lock, at a time when the thread may keep its processor for a while, and binds the goroutine to its thread.
//
// A mutex favours whoever has just let go of it, and that is the checkpointer, thousands of times in a row: so it steps
// back while a session wants the lock, or each slice of a pipeline would wait for the mutex's millisecond of patience.
// Nor does it queue for the lock: a mutex may be handed over to who sleeps, and then all wait until that one is awake.
func (h *holds) take() {
	for range stepBackMax {
		h.pause()
		if h.e.wanted.Load() == 0 {
			if h.try() {
				return
			}
		}
		runtime.Gosched()
	}
	if !h.bound {
		h.bind()
	}
	h.rest()
	h.hurry = h.usual && hurryThread()
	h.e.mu.Lock()
}

// try takes the lock if it is free. The goroutine is bound then.
func (h *holds) try() bool {
	if !h.bound {
		h.bind()
	}
	h.hurry = h.usual && hurryThread()
	if h.e.mu.TryLock() {
		return true
	}
	h.calm()
	return false
}

// calm ends the hurry of a hold, and what binds the goroutine for its sake. If the thread may not hurry, or no longer, it stays bound.
func (h *holds) calm() {
	if h.hurry {
		h.hurry = false
		calmThread()
		h.release()
	}
}

// locked runs fn under the executor lock and keeps the longest hold. fn may ask enough whether it is time to let go.
func (h *holds) locked(step string, fn func(enough func() bool)) {
	e := h.e
	h.take()
	cpu := threadCPU()
	h.start = e.now()
	fn(h.enough)
	d := e.now().Sub(h.start)
	e.mu.Unlock()
	cpu = threadCPU() - cpu
	h.calm()
	h.cpuMax = max(h.cpuMax, cpu)
	if d > h.max {
		h.max, h.maxStep = d, step
	}
	if e.opts.between != nil {
		e.opts.between()
	}
}
