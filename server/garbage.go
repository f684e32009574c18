package server

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The garbage collector's share of the processor and its share of memory are one trade: the more garbage may lie about, the
// less often the live data, millions of objects, is walked. Which side is short depends on the load, so the collector is told
// which each second: under load processor time, otherwise memory. GOGC, if set, is obeyed instead.
const (
	// recoveryGCPercent applies while the log is replayed: the heap only grows then, and collecting it again and again on the
	// way would find little.
	recoveryGCPercent = 200
	// busyGCPercent and idleGCPercent say how much garbage may lie about, in percent of the live data.
	busyGCPercent = 125
	idleGCPercent = 50
	// busyShare and idleShare are the collector's share of all processor time above which the server counts as busy, and
	// below which, for calmSeconds, as idle.
	busyShare   = 0.02
	idleShare   = 0.005
	calmSeconds = 4
	// restShare is the share of all processor time, the collector's aside, below which the server is at rest. Only then is
	// free memory given back at once: that takes milliseconds in which nobody can allocate.
	restShare = 0.03
)

// memorySlack is what the Go heap may take in bytes beside a memory budget: connections, what is being decoded and written,
// garbage. The caches and memtables of the stores lie outside of the Go heap, some 100 MiB more.
const memorySlack = 96 << 20

// limitMemory tells the garbage collector what the process may take.
func (p *process) limitMemory() {
	setGCPercent(recoveryGCPercent)
	if budget := p.cfg.Int("maxmemory"); budget > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(budget + memorySlack)
	}
}

func setGCPercent(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// paceGarbage changes the collector's target with the load until ctx ends.
func paceGarbage(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	p := newGarbagePacer()
	setGCPercent(p.percent)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/user:cpu-seconds"},
			{Name: "/cpu/classes/total:cpu-seconds"}}
		metrics.Read(s)
		percent, changed, free := p.observe(s[0].Value.Float64(), s[1].Value.Float64(), s[2].Value.Float64())
		if changed {
			setGCPercent(percent)
		}
		if free {
			debug.FreeOSMemory() // what the load has left behind
		}
	}
}

// garbagePacer decides.
type garbagePacer struct {
	percent int
	calm    int // seconds for which the collector had little to do
	rest    int // seconds for which nobody had much to do
	used    bool
	// Processor seconds at the last look.
	gc, user, total float64
}

func newGarbagePacer() *garbagePacer { return &garbagePacer{percent: busyGCPercent} }

// observe takes the processor seconds of the collector, of the program and of all since the start. It returns the target in
// percent, and whether it is time to give free memory back.
func (p *garbagePacer) observe(gc, user, total float64) (percent int, changed, free bool) {
	share, busy := 0.0, 0.0
	if d := total - p.total; d > 0 {
		share, busy = (gc-p.gc)/d, (user-p.user)/d
	}
	p.gc, p.user, p.total = gc, user, total
	if busy > restShare {
		p.rest, p.used = 0, true
	} else if p.rest++; p.rest >= calmSeconds && p.used {
		p.used, free = false, true
	}
	next := p.percent
	switch {
	case share > busyShare:
		p.calm, next = 0, busyGCPercent
	case share > idleShare:
		p.calm = 0
	default:
		if p.calm++; p.calm >= calmSeconds {
			next = idleGCPercent
		}
	}
	changed, p.percent = next != p.percent, next
	return next, changed, free
}

// heapOverrun returns by how many bytes the heap's spans take more than goes with a budget: three quarters of the slack, so that
// less is kept in memory before the collector works against its limit.
func heapOverrun(budget int64) int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64()+s[1].Value.Uint64()) - budget - memorySlack*3/4
}
