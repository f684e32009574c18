package bench

import (
	"slices"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// collector gathers what the benchmarks of a run find, and tells who watches how far they are.
type collector struct {
	run      result.Run
	progress Progress
}

func newCollector(command []string, progress Progress) *collector {
	return &collector{run: result.Run{Version: result.Version, Command: command, Started: time.Now().UTC(), Machine: machine()}, progress: progress}
}

// point adds a measurement.
func (c *collector) point(p result.Point) { c.run.Points = append(c.run.Points, p) }

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
