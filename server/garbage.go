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
// which each second. Memory comes first as long as it costs little: SET with pipelines, which leaves hardly any garbage, takes 3 %
// more processor time with 50 % than with 125 %, but commands that allocate (HSET of new hashes) a quarter more. So under load
// garbage may be baseGarbage, or idleGCPercent of the live data if that is more, and more than that only while the collector takes
// a large share for itself. GOGC, if set, is obeyed instead.
const (
	// recoveryGCPercent applies while the log is replayed: the heap only grows then, and collecting it again and again on the
	// way would find little.
	recoveryGCPercent = 200
	// busyGCPercent and idleGCPercent are the most and the least of garbage that may lie about, in percent of the live data.
	busyGCPercent = 125
	idleGCPercent = 50
	// baseGarbage is what may lie about of it in bytes under load, within these two: what is below it saves no memory worth the
	// name, what is above it is paid by a small data set many times over.
	baseGarbage = 64 << 20
	// hardShare is the collector's share of all processor time, averaged over some 16 s, above which it gets more memory, up to
	// busyGCPercent, until it is below easyShare. With that much more memory it takes two fifths as much: the two must lie further apart.
	hardShare = 0.08
	easyShare = 0.02
	// busyShare and idleShare are the collector's share of all processor time above which the server counts as busy, and
	// below which, for calmSeconds, as idle.
	busyShare   = 0.02
	idleShare   = 0.005
	calmSeconds = 4
	// restShare is the share of all processor time, the collector's aside, below which the server is at rest. Only then is
	// free memory given back at once: that takes milliseconds in which nobody can allocate.
	restShare = 0.03
	// averageSeconds: collections are seconds apart, so the share of one second tells little.
	averageSeconds = 16
)

// memorySlack is what the Go heap may take in bytes beside a memory budget: connections, what is being decoded and written,
// garbage. The caches and memtables of the stores lie outside of the Go heap, some 100 MiB more.
const memorySlack = 96 << 20

// limitMemory tells the garbage collector, and C's allocator, what the process may take.
func (p *process) limitMemory() {
	if !tuneMalloc() {
		p.log.Debug("the C library's allocator cannot be told when to give memory back")
	}
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
		percent, changed, free := p.observe(readGarbageSample())
		if changed {
			setGCPercent(percent)
		}
		if free {
			debug.FreeOSMemory() // what the load has left behind
		}
	}
}

// garbageSample is what the decision rests on.
type garbageSample struct {
	// Processor seconds since the start: of the collector, but for what it does when nobody else wants to run, of the program, and
	// of all there are.
	gc, user, total float64
	live            int64 // bytes of the heap that the last collection has found alive; 0: there was none
}

func readGarbageSample() garbageSample {
	s := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/user:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return garbageSample{gc: s[0].Value.Float64() - s[1].Value.Float64(), user: s[2].Value.Float64(), total: s[3].Value.Float64(),
		live: int64(s[4].Value.Uint64())}
}

// garbagePacer decides.
type garbagePacer struct {
	percent int
	average float64 // moving average of the collector's share
	hard    bool    // it has been above hardShare, and not below easyShare since
	calm    int     // seconds for which the collector had little to do
	rest    int     // seconds for which nobody had much to do
	used    bool
	last    garbageSample
}

func newGarbagePacer() *garbagePacer { return &garbagePacer{percent: busyGCPercent} }

// observe takes a second's sample. It returns the target in percent, and whether it is time to give free memory back.
func (p *garbagePacer) observe(s garbageSample) (percent int, changed, free bool) {
	share, busy := 0.0, 0.0
	if d := s.total - p.last.total; d > 0 {
		share, busy = (s.gc-p.last.gc)/d, (s.user-p.last.user)/d
	}
	p.last = s
	if busy > restShare {
		p.rest, p.used = 0, true
	} else if p.rest++; p.rest >= calmSeconds && p.used {
		p.used, free = false, true
	}
	if p.average += (share - p.average) / averageSeconds; p.average > hardShare {
		p.hard = true
	} else if p.average < easyShare || p.rest >= calmSeconds {
		p.hard = false
	}
	next := p.percent
	if share > idleShare {
		p.calm = 0
	} else {
		p.calm++
	}
	switch {
	case p.calm >= calmSeconds && !p.hard:
		next = idleGCPercent
	case p.hard:
		next = busyGCPercent
	case share > busyShare, p.percent > idleGCPercent:
		next = basePercent(s.live)
	}
	changed, p.percent = next != p.percent, next
	return next, changed, free
}

// basePercent is how much garbage may lie about under load beside so many live bytes.
func basePercent(live int64) int {
	if live <= 0 {
		return busyGCPercent
	}
	return int(min(max(baseGarbage*100/live, idleGCPercent), busyGCPercent))
}

// heapOverrun returns by how many bytes the heap's spans take more than goes with a budget: five eighths of the slack, so that
// less is kept in memory before the collector works against its limit. With three quarters it did so for seconds when collections
// took the place of strings, and the spans grew beyond the limit all the same.
func heapOverrun(budget int64) int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64()+s[1].Value.Uint64()) - budget - memorySlack*5/8
}
