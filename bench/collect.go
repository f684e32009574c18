package bench

import (
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// collector gathers what the benchmarks of a run find, and tells who watches how far they are.
type collector struct {
	run      result.Run
	progress Progress
	steps    int
}

func newCollector(command []string, progress Progress) *collector {
	return &collector{run: result.Run{Version: result.Version, Command: command, Started: time.Now().UTC(), Machine: machine()}, progress: progress}
}

// point adds a measurement.
func (c *collector) point(p result.Point) { c.run.Points = append(c.run.Points, p) }

// params are the parameters of a point: names and values in turn; numbers are written in full.
func params(list ...any) map[string]string {
	m := make(map[string]string, len(list)/2)
	for i := 0; i < len(list); i += 2 {
		m[list[i].(string)] = fmt.Sprint(list[i+1])
	}
	return m
}

// metrics are the figures of a latency in the units of a point, each name behind a prefix.
func (h *Histogram) metrics(prefix string, to map[string]float64) {
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	to[prefix+"p50-ms"], to[prefix+"p99-ms"] = ms(h.Quantile(0.5)), ms(h.Quantile(0.99))
	to[prefix+"p99.9-ms"], to[prefix+"max-ms"] = ms(h.Quantile(0.999)), ms(h.Max())
}

// series turns the parts of a run into values over time; at is when each part ended, in seconds.
func series(parts []*Result, at []float64) map[string][]result.Sample {
	s := map[string][]result.Sample{}
	for i, p := range parts {
		if p.Elapsed <= 0 {
			continue
		}
		m := map[string]float64{"req/s": p.PerSecond()}
		if p.Latency.Count() > 0 {
			p.Latency.metrics("", m)
		}
		for name, v := range m {
			s[name] = append(s[name], result.Sample{T: at[i], Value: v})
		}
	}
	return s
}

// expect says that so many steps more are to come.
func (c *collector) expect(steps int) {
	c.steps += steps
	c.progress.Begin(c.steps)
}

// note adds what a reader must know, once.
func (c *collector) note(text string) {
	if !slices.Contains(c.run.Notes, text) {
		c.run.Notes = append(c.run.Notes, text)
	}
}

// subject adds a server; the first command line by which it was started stands for it.
func (c *collector) subject(s result.Subject) {
	if !slices.ContainsFunc(c.run.Subjects, func(o result.Subject) bool { return o.Name == s.Name }) {
		c.run.Subjects = append(c.run.Subjects, s)
	}
}

// buckets are the counts of a histogram that are not 0.
func (h *Histogram) buckets() []result.Bucket {
	var b []result.Bucket
	for i, n := range h.counts {
		if n > 0 {
			b = append(b, result.Bucket{Ms: float64(min(bucketTop(i), h.max)) / float64(time.Millisecond), Count: n})
		}
	}
	return b
}
