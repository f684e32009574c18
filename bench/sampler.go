package bench

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// sampleEvery is the step of latency over time: some hundred answers of a probing client, so that its quantiles mean something.
const sampleEvery = 250 * time.Millisecond

// latencyWatch cuts what an open loop measures into pieces, to show it over time.
type latencyWatch struct {
	run  *PacedRun
	stop context.CancelFunc
	done chan struct{}

	mu struct {
		sync.Mutex
		parts   []*Result
		at      []float64 // seconds since began, at the end of each part
		elapsed time.Duration
	}
}

// watchLatency begins to cut; nobody else may call the run's Cut until the watch is stopped.
func watchLatency(run *PacedRun) *latencyWatch {
	ctx, cancel := context.WithCancel(context.Background())
	w := &latencyWatch{run: run, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(sampleEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.cut()
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

func (w *latencyWatch) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	part := w.run.Cut()
	w.mu.elapsed += part.Elapsed
	w.mu.parts, w.mu.at = append(w.mu.parts, part), append(w.mu.at, w.mu.elapsed.Seconds())
}

// Cut returns all that was measured since the last Cut or the start, as one and over time.
func (w *latencyWatch) Cut() (*Result, map[string][]result.Sample) {
	w.cut()
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := &Result{Elapsed: w.mu.elapsed}
	for _, p := range w.mu.parts {
		sum.Ops += p.Ops
		sum.Latency.Merge(&p.Latency)
	}
	over := series(w.mu.parts, w.mu.at)
	w.mu.parts, w.mu.at, w.mu.elapsed = nil, nil, 0
	return sum, over
}

// Stop ends the watch. A second Stop does nothing.
func (w *latencyWatch) Stop() {
	w.stop()
	<-w.done
}
