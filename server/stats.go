package server

import (
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/server/command"
)

// This file counts commands: calls, times, failures and how the times are distributed, for INFO and LATENCY HISTOGRAM.
//
// Sessions note each call in a batch of their own, without a lock; a batch enters the counters when it is full or the
// session has executed what had arrived. So a command costs a few stores and one reading of the clock.

// batchCalls is how many calls a batch holds: as many as one slice of a pipeline executes, so that a slice takes the
// lock of the counters once.
const batchCalls = 128

// call is one execution of a command.
type call struct {
	id     int32 // Spec.ID
	failed bool
	took   int64 // ns
}

// batch gathers what a session does between two visits to the shared counters.
type batch struct {
	n     int
	calls [batchCalls]call
	// Scratch of lookAhead.
	keys, elems [][]byte
}

// commandCounters are the figures of one row of the command table.
type commandCounters struct {
	calls    int64
	nanos    int64
	rejected int64 // refused before execution
	failed   int64 // executed, replied with an error
	times    *histogram
}

// commandStats are the counters of all commands.
type commandStats struct {
	tracking atomic.Bool // latency-tracking

	mu struct {
		sync.Mutex
		byID   []commandCounters
		calls  int64 // all commands, ever since the last reset
		errors map[string]int64
		failed int64
	}
}

// maxErrorKinds bounds the kinds of errors that INFO errorstats names: a script or a data type may make codes up.
const maxErrorKinds = 128

func newCommandStats(rows int) *commandStats {
	st := &commandStats{}
	st.tracking.Store(true)
	st.mu.byID = make([]commandCounters, rows)
	st.mu.errors = map[string]int64{}
	return st
}

// merge adds what b has gathered and empties it.
func (st *commandStats) merge(b *batch) {
	if b.n == 0 {
		return
	}
	tracking := st.tracking.Load()
	st.mu.Lock()
	for i := range b.calls[:b.n] {
		k := &b.calls[i]
		c := &st.mu.byID[k.id]
		c.calls++
		c.nanos += k.took
		if k.failed {
			c.failed++
		}
		if tracking {
			if c.times == nil {
				c.times = &histogram{}
			}
			c.times.add(k.took)
		}
	}
	st.mu.calls += int64(b.n)
	st.mu.Unlock()
	b.n = 0
}

// rejected counts a command that was refused before execution; spec is nil if there is no such command.
func (st *commandStats) rejected(spec *command.Spec) {
	st.mu.Lock()
	if spec != nil {
		st.mu.byID[spec.ID].rejected++
	}
	st.mu.Unlock()
}

// failure counts an error reply by its code, the first word of its text.
func (st *commandStats) failure(text string) {
	code, _, _ := strings.Cut(text, " ")
	st.mu.Lock()
	defer st.mu.Unlock()
	st.mu.failed++
	if _, known := st.mu.errors[code]; known || len(st.mu.errors) < maxErrorKinds {
		st.mu.errors[strings.Clone(code)]++
	}
}

// reset is CONFIG RESETSTAT.
func (st *commandStats) reset() {
	st.mu.Lock()
	defer st.mu.Unlock()
	clear(st.mu.byID)
	clear(st.mu.errors)
	st.mu.calls, st.mu.failed = 0, 0
}

// totals returns the number of commands executed and of error replies.
func (st *commandStats) totals() (calls, failed int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.mu.calls, st.mu.failed
}

// snapshot returns copies of the counters, by Spec.ID, and of the errors.
func (st *commandStats) snapshot() ([]commandCounters, map[string]int64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	out := slices.Clone(st.mu.byID)
	for i := range out {
		if out[i].times != nil {
			h := *out[i].times
			out[i].times = &h
		}
	}
	errs := make(map[string]int64, len(st.mu.errors))
	for k, v := range st.mu.errors {
		errs[k] = v
	}
	return out, errs
}

// The buckets of a histogram: each power of two of nanoseconds is cut into 16, so that a bucket is at most 6 % wide.
const (
	histogramSub     = 16
	histogramBuckets = 36 * histogramSub // up to 2^36 ns = 68 s; slower calls count as that
)

// histogram counts durations.
type histogram struct {
	total  int64
	counts [histogramBuckets]uint32
}

func histogramBucket(ns int64) int {
	if ns < histogramSub {
		return int(max(ns, 0))
	}
	exp := bits.Len64(uint64(ns)) - 5 // ns>>exp is in 16 … 31
	return min((exp+1)*histogramSub+int(ns>>exp)-histogramSub, histogramBuckets-1)
}

// histogramTop is the largest duration in ns that falls into bucket i.
func histogramTop(i int) int64 {
	if i < histogramSub {
		return int64(i)
	}
	exp := i/histogramSub - 1
	return int64(histogramSub+i%histogramSub+1)<<exp - 1
}

func (h *histogram) add(ns int64) {
	h.total++
	h.counts[histogramBucket(ns)]++
}

// percentile returns the duration in ns that p percent of the calls did not exceed.
func (h *histogram) percentile(p float64) int64 {
	want := int64(p/100*float64(h.total) + 0.5)
	want = max(want, 1)
	var seen int64
	for i, n := range h.counts {
		if seen += int64(n); seen >= want {
			return histogramTop(i)
		}
	}
	return histogramTop(histogramBuckets - 1)
}

// cumulative returns, for each power of two of microseconds at which the count grows, the bound in µs and how many
// calls took at most so long.
func (h *histogram) cumulative() (bounds, counts []int64) {
	var seen, shown int64
	bound := int64(1024)
	flushTo := func() {
		if seen > shown {
			bounds, counts = append(bounds, bound/1000), append(counts, seen)
			shown = seen
		}
	}
	for i, n := range h.counts {
		for histogramTop(i) >= bound {
			flushTo()
			bound *= 2
		}
		seen += int64(n)
	}
	flushTo()
	return bounds, counts
}

// processBase is what monotonic readings count from: time.Since reads only the monotonic clock, half of time.Now.
var processBase = time.Now()

// monotonic returns nanoseconds of the monotonic clock.
func monotonic() int64 { return int64(time.Since(processBase)) }

// rates samples counters once a second for the instantaneous figures of INFO.
type rates struct {
	mu      sync.Mutex
	samples [rateSamples]rateSample
	next    int
	last    [rateKinds]int64
	lastAt  time.Time
}

const (
	rateSamples = 4 // seconds over which the figures are averaged
	rateKinds   = 5
)

// The counters that are sampled.
const (
	rateCommands = iota
	rateInput
	rateOutput
	rateReplInput
	rateReplOutput
)

type rateSample [rateKinds]float64

// sample notes the counters as they stand at now.
func (r *rates) sample(now time.Time, counters [rateKinds]int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dt := now.Sub(r.lastAt).Seconds(); !r.lastAt.IsZero() && dt > 0 {
		for k := range counters {
			r.samples[r.next][k] = max(0, float64(counters[k]-r.last[k])/dt)
		}
		r.next = (r.next + 1) % rateSamples
	}
	r.last, r.lastAt = counters, now
}

// get returns the average per second of one counter.
func (r *rates) get(kind int) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := 0.0
	for i := range r.samples {
		sum += r.samples[i][kind]
	}
	return sum / rateSamples
}
