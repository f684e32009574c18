package report

import (
	"fmt"
	"slices"

	"github.com/holdfast-db/holdfast/bench/result"
)

// headroom is how many times the fastest server the generator must manage against one that does nothing, before a figure can be said
// to be the server's: as both share the cores, at twice the generator takes half of the time at most.
const headroom = 2

// Face returns the sentences without which the run would be misread, and which therefore stand at the top of every way of showing it.
func Face(run *result.Run) []string {
	s := newStudy(run)
	var out []string
	out = append(out, s.generatorLimit()...)
	if c := run.Machine.Cores; c > 0 && run.Machine.LoadAverage[0] > 0.25*float64(c) {
		out = append(out, fmt.Sprintf("The machine was not idle: its load average before the run was %.2f on %d %s. Figures of time may be too high, those of throughput too low.",
			run.Machine.LoadAverage[0], c, plural(fmt.Sprint(c), "core")))
	}
	if len(run.Points) > 0 && !slices.ContainsFunc(run.Points, func(p result.Point) bool { return p.Round > 1 }) {
		out = append(out, "Everything was measured once: nothing here says how much another run would differ.")
	}
	if len(run.Points) > 0 && s.base == "" {
		out = append(out, "No redis-server took part: there is nothing to compare with.")
	}
	out = append(out, s.rateMissed()...)
	if run.Ended.IsZero() {
		out = append(out, "The run did not come to its end; what it had measured by then is here.")
	}
	return out
}

// generatorLimit compares the null server with the fastest other subject of each mix, depth and number of connections in a closed loop.
func (s *study) generatorLimit() []string {
	sets := s.sets[result.Throughput]
	closed := slices.DeleteFunc(slices.Clone(sets), func(set *setting) bool { return set.params["loop"] == "open" })
	if len(closed) == 0 {
		return nil
	}
	type short struct {
		what  string
		times float64
	}
	var found []short
	measured, without := 0, 0
	for _, g := range s.grid(closed, "", []string{"policy"}) {
		limit, fastest := 0.0, 0.0
		for _, line := range g.lines {
			for _, set := range line.sets {
				v, ok := set.metric("req/s")
				if ok && set.subject == result.NullServer {
					limit = max(limit, v.median)
				} else if ok {
					fastest = max(fastest, v.median)
				}
			}
		}
		switch {
		case fastest > 0 && limit > 0:
			measured++
			if limit < headroom*fastest {
				found = append(found, short{describeAll(g.params, []string{"mix", "pipeline", "conns"}), limit / fastest})
			}
		case fastest > 0:
			without++
		}
	}
	var out []string
	if len(found) > 0 {
		worst := slices.MinFunc(found, func(a, b short) int {
			if a.times < b.times {
				return -1
			}
			return 1
		})
		out = append(out, fmt.Sprintf("In %d of %d settings the load generator reaches less than twice the fastest server when nothing answers it but a server that does nothing "+
			"(least: %s times, with %s). There the figures of throughput show generator and server sharing the cores, and the servers differ by more than it seems.",
			len(found), measured, ratio(worst.times), worst.what))
	}
	if without > 0 {
		out = append(out, fmt.Sprintf("In %d settings of throughput the load generator's own limit was not measured.", without))
	}
	return out
}

// rateMissed finds subjects that were asked for a rate of writes and did not take it: what a snapshot costs them is of fewer writes.
func (s *study) rateMissed() []string {
	var out []string
	for _, sub := range s.subjects(result.Cow) {
		missed, lowest, what := 0, 1.0, ""
		for _, set := range s.sets[result.Cow] {
			want, isNumber := numeric("rate", set.params["rate"])
			got, ok := set.metric("rate-got")
			if set.subject != sub || !isNumber || !ok || want <= 0 || got.median >= 0.95*want {
				continue
			}
			missed++
			if share := got.median / want; share < lowest {
				lowest, what = share, describe("rate", set.params["rate"])
			}
		}
		if missed > 0 {
			out = append(out, fmt.Sprintf("%s did not take the writes that it was sent during a snapshot in %d settings (least: %.0f %% of %s).", sentenceCase(subjectName(sub)), missed, lowest*100, what))
		}
	}
	return out
}
