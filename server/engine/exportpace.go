package engine

import (
	"context"
	"runtime"
	"time"
)

// How an export lets clients go first. Who gets the file loads it on one thread, and that is what a full sync lasts for; an export that
// takes all the processor time that it can get has its part done far sooner than that, and clients pay for it meanwhile. So where
// processors are short, it works for a part of the time and leaves the rest to others; where they are not, it takes what it wants.
//
// Processors are short while other threads of this process have work and wait for one: the kernel counts for how long. Where they have
// little to do, whatever else fills the machine is not this server's clients. What the export itself waits,
// for a processor or for the other end of its connection, has been others' time already, and is not left to them twice. So it
// never stands still, and what it leaves is a multiple of what it takes, never more.
//
// Measured on 2 cores with the clients and a redis-server as replica beside, 2 million keys of 120 bytes, single runs on a machine that others
// used as well, with what else was done for it at the time (the log's syncs, merges): clients' writes/s during the sync 1.27 times those of
// Redis to Redis, the speed of the sync 1.2 times. Without, and with another generator of load, 0.66 and 1.8 times.

const (
	// exportShare is the part of the time for which an export works where processors are short: 1/exportShare. A key of 120 bytes takes
	// half a microsecond, so that this is some 60 MB/s; what the child of a redis-server makes beside such clients is 30. With more, a
	// full sync takes longer than Redis's own in a quiet moment; with less, clients have less than beside Redis's.
	exportShare = 4
	// exportRest is how much time is left to others at once, at least: timers are no finer where much goes on.
	exportRest = 2 * time.Millisecond
	// paceLook is how often is asked whether processors are short: it costs a system call for each thread.
	paceLook = 50 * time.Millisecond
	// paceShort is for how much of the time the other threads of this process, taken together, wait for a processor where it is short, in
	// per cent: 9 to 19 were seen without clients, 35 and more with as many as fill both cores. paceCalm is how many looks in a row must
	// find that they wait for less than half of that before the export goes on as it likes.
	paceShort = 30
	paceCalm  = 4
	// paceBusy is how much they run at least where it matters that they wait, in per cent of one processor: 70 and more were seen under
	// full load. It is halved, too, where it has mattered.
	paceBusy = 40
)

// exportPace paces one export; nil does not.
type exportPace struct {
	now    func() time.Time
	cpu    func() time.Duration                       // that the export's thread has had
	others func() (ran, waited time.Duration)         // for how long the process's other threads have run so far, and waited for a processor
	rest   func(ctx context.Context, d time.Duration) // leaves so much time to others, or less if ctx ends

	last    time.Time // of the last step
	lastCPU time.Duration
	owed    time.Duration // time to be left to others

	looked     time.Time // when was last asked whether processors are short
	lookRan    time.Duration
	lookWaited time.Duration
	short      bool
	calm       int // looks since that found that they are not
}

// pacedThread paces the calling goroutine, and keeps it on its thread until end.
func pacedThread() (p *exportPace, end func()) {
	runtime.LockOSThread()
	p = &exportPace{now: time.Now, cpu: threadCPU, others: otherThreads, rest: restFor}
	p.begin()
	return p, runtime.UnlockOSThread
}

// restFor lets d pass, or ctx end.
func restFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (p *exportPace) begin() {
	p.last, p.lastCPU = p.now(), p.cpu()
	p.looked = p.last
	p.lookRan, p.lookWaited = p.others()
}

// step is called after every piece of work.
func (p *exportPace) step(ctx context.Context) {
	if p == nil {
		return
	}
	now, cpu := p.now(), p.cpu()
	worked, passed := cpu-p.lastCPU, now.Sub(p.last)
	p.last, p.lastCPU = now, cpu
	// Of each time that it works, exportShare-1 more are others'; what has passed without its working was theirs.
	p.owed = max(p.owed+(exportShare-1)*worked-max(passed-worked, 0), 0)
	if d := now.Sub(p.looked); d >= paceLook {
		p.look(now, d)
	}
	if !p.short {
		p.owed = 0
		return
	}
	if p.owed >= exportRest {
		p.rest(ctx, p.owed) // what it has really been shows at the next step
	}
}

// look finds out whether processors have been short in the last d.
func (p *exportPace) look(now time.Time, d time.Duration) {
	ran, waited := p.others()
	run, wait := 100*(ran-p.lookRan)/d, 100*(waited-p.lookWaited)/d
	p.looked, p.lookRan, p.lookWaited = now, ran, waited
	switch {
	case run >= paceBusy && wait >= paceShort:
		p.short, p.calm = true, 0
	case run >= paceBusy/2 && wait >= paceShort/2:
		p.calm = 0
	default:
		if p.calm++; p.calm >= paceCalm {
			p.short = false
		}
	}
}
