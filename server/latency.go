package server

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// latencyHistory is how many samples LATENCY keeps of an event, as Redis does.
const latencyHistory = 160

// latencySample is an event that took long.
type latencySample struct {
	at int64 // unix seconds
	ms int64
}

// latencySeries are the samples of one event.
type latencySeries struct {
	samples []latencySample // oldest first, at most one a second
	max     int64           // ms, ever since the last reset
}

// latencyMonitor keeps events that took at least a threshold.
type latencyMonitor struct {
	thresholdMs atomic.Int64 // 0 = off

	mu struct {
		sync.Mutex
		events map[string]*latencySeries
	}
}

// observe notes an event if it took long enough. Within one second only the worst sample of an event is kept.
func (m *latencyMonitor) observe(event string, now time.Time, took time.Duration) {
	limit := m.thresholdMs.Load()
	ms := took.Milliseconds()
	if limit == 0 || ms < limit {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.events == nil {
		m.mu.events = map[string]*latencySeries{}
	}
	s := m.mu.events[event]
	if s == nil {
		s = &latencySeries{}
		m.mu.events[event] = s
	}
	s.max = max(s.max, ms)
	at := now.Unix()
	if n := len(s.samples); n > 0 && s.samples[n-1].at == at {
		s.samples[n-1].ms = max(s.samples[n-1].ms, ms)
		return
	}
	if len(s.samples) == latencyHistory {
		s.samples = append(s.samples[:0], s.samples[1:]...)
	}
	s.samples = append(s.samples, latencySample{at, ms})
}

// names returns the events that have samples, sorted.
func (m *latencyMonitor) names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]string, 0, len(m.mu.events))
	for n := range m.mu.events {
		out = append(out, n)
	}
	sort.Strings(out)
	return out
}

// series returns a copy of the samples of an event, and its worst.
func (m *latencyMonitor) series(event string) ([]latencySample, int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.mu.events[event]
	if s == nil {
		return nil, 0
	}
	return append([]latencySample(nil), s.samples...), s.max
}

// reset forgets the named events, or all; it returns how many there were.
func (m *latencyMonitor) reset(names []string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(names) == 0 {
		n := len(m.mu.events)
		m.mu.events = nil
		return n
	}
	n := 0
	for _, name := range names {
		if _, ok := m.mu.events[name]; ok {
			delete(m.mu.events, name)
			n++
		}
	}
	return n
}

// Size of what LATENCY GRAPH draws, in characters.
const (
	graphColumns = 80
	graphRows    = 4
)

// latencyGraph draws the newest samples of an event, oldest on the left: a column for each, as high as it took long between the
// lowest and the highest shown, with its age at the foot.
func latencyGraph(event string, samples []latencySample, worst, now int64) string {
	samples = samples[max(0, len(samples)-graphColumns):]
	low, high := samples[0].ms, samples[0].ms
	for _, s := range samples {
		low, high = min(low, s.ms), max(high, s.ms)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s - high %d ms, low %d ms (all time high %d ms)\n%s\n", event, high, low, worst, strings.Repeat("-", graphColumns))
	tops := []byte("_o#") // the last third, two thirds or all of a row
	height := func(s latencySample) int64 {
		return 1 + (s.ms-low)*(graphRows*int64(len(tops))-1)/max(1, high-low)
	}
	ages := make([]string, len(samples))
	longest := 0
	for i, s := range samples {
		ages[i] = shortAge(now - s.at)
		longest = max(longest, len(ages[i]))
	}
	line := func(at func(i int) byte) {
		text := make([]byte, len(samples))
		for i := range samples {
			text[i] = at(i)
		}
		b.WriteString(strings.TrimRight(string(text), " "))
		b.WriteByte('\n')
	}
	for row := int64(graphRows - 1); row >= 0; row-- {
		line(func(i int) byte {
			switch h := height(samples[i]) - row*int64(len(tops)); {
			case h <= 0:
				return ' '
			case h > int64(len(tops)):
				return '|'
			default:
				return tops[h-1]
			}
		})
	}
	b.WriteByte('\n')
	for k := range longest { // ages are written downwards
		line(func(i int) byte {
			if k < len(ages[i]) {
				return ages[i][k]
			}
			return ' '
		})
	}
	return b.String()
}

// shortAge names a number of seconds in the largest unit that it fills.
func shortAge(sec int64) string {
	switch {
	case sec < 60:
		return fmt.Sprintf("%ds", sec)
	case sec < 3600:
		return fmt.Sprintf("%dm", sec/60)
	case sec < 86400:
		return fmt.Sprintf("%dh", sec/3600)
	default:
		return fmt.Sprintf("%dd", sec/86400)
	}
}
