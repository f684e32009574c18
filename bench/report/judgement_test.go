package report

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench/result"
)

func TestJudge(t *testing.T) {
	of := func(v ...float64) spread { s, _ := spreadOf(v); return s }
	require.Equal(t, overlap, judge("req/s", of(1, 2, 3), of(3, 4, 5)))
	require.Equal(t, better, judge("req/s", of(1, 2, 3), of(4, 5)))
	require.Equal(t, worse, judge("req/s", of(4, 5), of(1, 2)))
	require.Equal(t, better, judge("p99-ms", of(4, 5), of(1, 2)))
	require.Equal(t, different, judge("rate-got", of(4, 5), of(1, 2)))
	require.Equal(t, oneRound, judge("req/s", of(1), of(100, 101)))
	require.Equal(t, oneRound, judge("req/s", of(1, 2), of(1.5)))
}

// The share of all orders of the rounds in which one side lies below the other, counted.
func TestByChance(t *testing.T) {
	for _, c := range [][2]int{{2, 2}, {3, 3}, {2, 3}, {5, 5}} {
		n, m := c[0], c[1]
		apart, all := 0, 0
		for bits := range 1 << (n + m) {
			text := fmt.Sprintf("%0*b", n+m, bits)
			if strings.Count(text, "1") != m {
				continue
			}
			all++
			if text == strings.Repeat("0", n)+strings.Repeat("1", m) || text == strings.Repeat("1", m)+strings.Repeat("0", n) {
				apart++
			}
		}
		require.InDelta(t, float64(apart)/float64(all), byChance(spread{rounds: n}, spread{rounds: m}), 1e-12, "%d and %d rounds", n, m)
	}
}

func TestCompareTellsWhatDiffers(t *testing.T) {
	params := map[string]string{"mix": "set"}
	old := &result.Run{Started: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), Machine: result.Machine{CPU: "a", Cores: 2},
		Points: slices.Concat(points("b", "redis", params, "req/s", 10, 11, 12), points("b", "gone", params, "req/s", 1))}
	run := &result.Run{Machine: result.Machine{CPU: "b", Cores: 2}, Points: slices.Concat(points("b", "redis", params, "req/s", 20, 22, 24), points("b", "new", params, "req/s", 1))}
	c := compare(old, run)
	require.Len(t, c.changes, 1)
	require.Equal(t, better, c.changes[0].verdict)
	require.Equal(t, 1, c.missing)
	require.Equal(t, []string{"The processor was another: a then, b now."}, c.notes)
	require.Equal(t, []string{"b", "redis", "", "req/s", "+100.0 %", "better", "11 (10–12)", "22 (20–24)"}, c.table(c.changes).rows[1])
	require.Contains(t, c.sentence(), "2026-01-02, 1 are better and 0 worse")
	page, err := renderPage(run, old)
	require.NoError(t, err)
	found := sections(parse(t, page))
	require.Contains(t, found["changes"].text(), "+100.0 %")
}

func face(run *result.Run) string { return strings.Join(Face(run), "\n") }

func TestFace(t *testing.T) {
	run := sampleRun(3, 1)
	run.Points = slices.DeleteFunc(run.Points, func(p result.Point) bool {
		return p.Bench != result.Throughput || p.Params["pipeline"] != "1" || p.Params["mix"] != "set"
	})
	require.Empty(t, Face(run), "a run of which nothing must be said")

	for i := range run.Points {
		if run.Points[i].Subject == result.NullServer {
			run.Points[i].Metrics["req/s"] /= 2
		}
	}
	require.Contains(t, face(run), "In 1 of 1 settings the load generator reaches less than twice the fastest server")
	for i := range run.Points {
		run.Points[i].Params["loop"] = "open"
	}
	require.Empty(t, Face(run), "at a fixed rate all are as fast as they are asked to be")
	for i := range run.Points {
		run.Points[i].Params["loop"] = "closed"
	}
	run.Points = slices.DeleteFunc(run.Points, func(p result.Point) bool { return p.Subject == result.NullServer })
	require.Contains(t, face(run), "In 1 settings of throughput the load generator's own limit was not measured.")

	run = sampleRun(1, 1)
	run.Points = slices.DeleteFunc(run.Points, func(p result.Point) bool { return p.Bench != result.Cow })
	run.Subjects, run.Ended, run.Machine.LoadAverage[0] = nil, time.Time{}, 5
	require.Contains(t, face(run), "measured once")
	require.Contains(t, face(run), "No redis-server")
	require.Contains(t, face(run), "did not come to its end")
	require.Contains(t, face(run), "not idle")
	require.NotContains(t, face(run), "did not take the writes")
	for i := range run.Points {
		if p := run.Points[i]; p.Subject == "redis" && p.Params["rate"] == "50000" {
			p.Metrics["rate-got"] = 40_000
		}
	}
	require.Contains(t, face(run), "Redis did not take the writes that it was sent during a snapshot in 1 settings (least: 80 % of 50,000 writes/s).")
}

func TestBreakEven(t *testing.T) {
	var all []result.Point
	for _, c := range []struct {
		bytes            string
		replay, snapshot float64
		chose            float64
	}{{"100m", 1, 2, 0}, {"200m", 2, 2.5, 0}, {"300m", 4, 3, 0}, {"400m", 6, 3.2, 1}} {
		for choice, took := range map[string]float64{"replay": c.replay, "snapshot": c.snapshot, "auto": min(c.replay, c.snapshot)} {
			p := points(result.Outage, "holdfast", map[string]string{"bytes": c.bytes, "choice": choice}, "took-s", took, took*1.01)
			for i := range p {
				p[i].Metrics["chose-snapshot"] = c.chose
			}
			all = append(all, p...)
		}
	}
	s := newStudy(&result.Run{Points: all})
	g := s.grid(s.sets[result.Outage], "bytes", []string{"choice"})
	require.Len(t, g, 1)
	at, ok := crossing(g[0], "holdfast")
	require.True(t, ok)
	// Half a second sooner at 200 MiB, a second later at 300 MiB.
	require.InDelta(t, (200+100.0/3)*(1<<20), at, 1<<20)
	plots := s.breakEvenPlots()
	require.Len(t, plots, 1)
	require.Len(t, plots[0].rules, 1)
	require.Contains(t, plots[0].sentence, "With Holdfast a snapshot is sooner than a replay from about 233 MiB on. Left to its own estimate, Holdfast chose the snapshot from 400 MiB on, the sooner way in 3 of 4 sizes.")
}

func TestScales(t *testing.T) {
	texts := func(sc scale) (out []string) {
		for _, x := range sc.ticks {
			out = append(out, x.text)
		}
		return out
	}
	require.Equal(t, []string{"0", "20", "40", "60", "80"}, texts(scaled(axis{}, []float64{3, 71}, 0, 100, 5)))
	require.Equal(t, []string{"0 B", "200 MiB", "400 MiB", "600 MiB"}, texts(scaled(axis{unit: bytesUnit}, []float64{560 << 20}, 0, 100, 5)))
	require.Equal(t, []string{"−10", "0", "10", "20", "30", "40"}, texts(scaled(axis{}, []float64{-7, 33}, 0, 100, 4)))
	require.Equal(t, []string{"1", "2", "5", "10", "20", "50"}, texts(scaled(axis{fromSpread: true}, []float64{1.3, 44}, 0, 100, 6)))
	require.Equal(t, []string{"1 KiB", "10 KiB", "100 KiB", "1 MiB", "10 MiB"}, texts(scaled(axis{fromSpread: true, unit: bytesUnit}, []float64{1024, 9 << 20}, 0, 100, 5)))
	sc := scaled(axis{fromSpread: true}, []float64{-5, 0, 1, 1000}, 200, 0, 5)
	require.Equal(t, "≤ 0", texts(sc)[0])
	require.Equal(t, sc.pos(-5), sc.pos(0))
	require.Greater(t, sc.pos(0), sc.pos(1), "below the least that the logarithm has")
	for _, values := range [][]float64{nil, {0}, {7, 7}, {math.MaxFloat64 / 4, 1}, {1e-9}} {
		for _, v := range append(values, 0) {
			for _, a := range []axis{{}, {fromSpread: true}, {log: true}, {ticks: values}} {
				at := scaled(a, values, 0, 100, 5).pos(v)
				require.False(t, math.IsNaN(at), "%v in %v of %+v", v, values, a)
			}
		}
	}
}
