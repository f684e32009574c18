package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/holdfast-db/holdfast/bench/result"
)

// told apart within a plot of latency; all else is for the reader to choose.
var latencyVariants = []string{"policy", "choice", "load", "how"}

// overTime plots a metric by the second, of the round whose worst value is the median of the rounds' worst.
func (s *study) overTime(bench, metric string) []plot {
	var plots []plot
	groups := s.grid(s.sets[bench], "", latencyVariants)
	for _, g := range groups {
		p := plot{label: label(g, groups), x: axis{label: "seconds since " + eventOf(bench), unit: plain}, y: axis{label: infoOf(metric).title, unit: unitOf(metric), fromSpread: true}}
		variants := g.variantList()
		t := table{labels: 1, rows: [][]string{{"server", "lowest", "median", "highest"}}}
		var worst []said
		for _, l := range g.lines {
			samples := typical(l.sets[0], metric)
			sr := series{name: g.name(l), style: s.style(l.subject, variantIndex(variants, l.variant)), line: true, sparse: true}
			var values []float64
			for _, x := range samples {
				values = append(values, x.Value)
				sr.points = append(sr.points, point{x: x.T, y: x.Value, low: x.Value, high: x.Value, tip: fmt.Sprintf("after %s: %s", secondsUnit.show(x.T), unitOf(metric).show(x.Value))})
			}
			v, ok := spreadOf(values)
			if !ok {
				continue
			}
			p.add(sr)
			u := unitOf(metric)
			t.rows = append(t.rows, []string{sr.name, u.cell(v.low), u.cell(v.median), u.cell(v.high)})
			if x, ok := g.saidOf(l, v.high); ok {
				worst = append(worst, x)
			}
		}
		if len(worst) == 0 {
			continue
		}
		if slices.ContainsFunc(p.series, func(sr series) bool { return sr.points[0].x < 0 }) {
			p.rules = []rule{{0, ""}}
		}
		p.table = t
		p.sentence = fmt.Sprintf("%s is at its worst %s.", quantityOf(metric), list(worst, metric, "with"))
		plots = append(plots, p)
	}
	return plots
}

// eventOf says what happens at second 0 of a bench's series; what was before it is at seconds below.
func eventOf(bench string) string {
	switch bench {
	case result.Cow:
		return "the snapshot began"
	case result.Sync:
		return "the replica was told to replicate"
	case result.Outage:
		return "the replica came back"
	}
	return "the measurement began"
}

func quantityOf(metric string) string {
	if metric == "max-ms" {
		return "The longest wait"
	}
	return "The p99 latency"
}

// typical is the series of the round that is in the middle by its highest value.
func typical(set *setting, metric string) []result.Sample {
	var all [][]result.Sample
	for _, p := range set.points {
		if len(p.Series[metric]) > 0 {
			all = append(all, p.Series[metric])
		}
	}
	if len(all) == 0 {
		return nil
	}
	highest := func(x []result.Sample) float64 {
		h := math.Inf(-1)
		for _, v := range x {
			h = max(h, v.Value)
		}
		return h
	}
	slices.SortStableFunc(all, func(a, b []result.Sample) int {
		switch x, y := highest(a), highest(b); {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return all[(len(all)-1)/2]
}

// Percentiles of the axis of distributions, as -log10 of the share above: the tail gets as much room as the rest.
var nines = []struct {
	x    float64
	name string
}{{0, "0"}, {1, "90"}, {2, "99"}, {3, "99.9"}, {4, "99.99"}, {5, "99.999"}, {6, "99.9999"}}

// distributions plot latency by percentile, all rounds put together.
func (s *study) distributions(bench string) []plot {
	var plots []plot
	groups := s.grid(s.sets[bench], "", latencyVariants)
	for _, g := range groups {
		p := plot{label: label(g, groups), x: axis{label: "requests that were answered sooner, %"}, y: axis{label: "latency, ms", unit: millisUnit, log: true}}
		variants := g.variantList()
		t := table{labels: 1, rows: [][]string{{"server", "requests", "p50", "p90", "p99", "p99.9", "p99.99", "max"}}}
		deepest := 0.0
		var tail []said
		least := int64(math.MaxInt64)
		for _, l := range g.lines {
			if buckets := merged(l.sets[0]); len(buckets) > 0 {
				least = min(least, countOf(buckets))
			}
		}
		// Of a few hundred requests there is no slowest thousandth.
		rare, words := 0.999, "one request in a thousand"
		if least < 5000 {
			rare, words = 0.99, "one request in a hundred"
		}
		for _, l := range g.lines {
			buckets := merged(l.sets[0])
			if len(buckets) == 0 {
				continue
			}
			total := countOf(buckets)
			sr := series{name: g.name(l), style: s.style(l.subject, variantIndex(variants, l.variant)), line: true, sparse: true}
			sr.points = curveOf(buckets, total)
			deepest = max(deepest, sr.points[len(sr.points)-1].x)
			p.add(sr)
			line := []string{sr.name, separated(float64(total))}
			for _, q := range []float64{0.5, 0.9, 0.99, 0.999, 0.9999, 1} {
				line = append(line, millisUnit.cell(quantile(buckets, total, q)))
			}
			t.rows = append(t.rows, line)
			if x, ok := g.saidOf(l, quantile(buckets, total, rare)); ok {
				tail = append(tail, x)
			}
		}
		if len(tail) == 0 {
			continue
		}
		for _, n := range nines {
			if n.x <= deepest {
				p.x.ticks, p.x.names = append(p.x.ticks, n.x), append(p.x.names, n.name)
			}
		}
		p.table = t
		p.sentence = sentenceCase(fmt.Sprintf("%s%s takes longer than %s.", whileOf(bench), words, list(tail, "p99.9-ms", "with")))
		plots = append(plots, p)
	}
	return plots
}

// whileOf is what goes on while latencies of a bench are taken.
func whileOf(bench string) string {
	switch bench {
	case result.Cow:
		return "during a snapshot "
	case result.Sync:
		return "during a full sync "
	case result.Outage:
		return "while the replica catches up "
	}
	return ""
}

func countOf(buckets []result.Bucket) int64 {
	total := int64(0)
	for _, b := range buckets {
		total += b.Count
	}
	return total
}

// merged adds up the buckets of all rounds.
func merged(set *setting) []result.Bucket {
	byTop := map[float64]int64{}
	for _, p := range set.points {
		for _, b := range p.Latency {
			byTop[b.Ms] += b.Count
		}
	}
	var out []result.Bucket
	for ms, n := range byTop {
		out = append(out, result.Bucket{Ms: ms, Count: n})
	}
	slices.SortFunc(out, func(a, b result.Bucket) int {
		if a.Ms < b.Ms {
			return -1
		}
		return 1
	})
	return out
}

// quantile is the top of the bucket below which a share q of all requests lies.
func quantile(buckets []result.Bucket, total int64, q float64) float64 {
	seen := int64(0)
	for _, b := range buckets {
		seen += b.Count
		if float64(seen) >= q*float64(total) {
			return b.Ms
		}
	}
	return buckets[len(buckets)-1].Ms
}

// curveOf takes some 12 points for each factor of ten towards the tail, up to where one request is left.
func curveOf(buckets []result.Bucket, total int64) []point {
	var out []point
	end := math.Log10(float64(total))
	for x := 0.0; x < end; x += 1.0 / 12 {
		q := 1 - math.Pow(10, -x)
		ms := quantile(buckets, total, q)
		out = append(out, point{x: x, y: ms, low: ms, high: ms, tip: fmt.Sprintf("%s %%: %s", percent(q), millisUnit.show(ms))})
	}
	ms := buckets[len(buckets)-1].Ms
	return append(out, point{x: end, y: ms, low: ms, high: ms, tip: fmt.Sprintf("the slowest of %s: %s", separated(float64(total)), millisUnit.show(ms))})
}

// percent writes a share with as many digits as its distance from 100 needs.
func percent(q float64) string {
	return fmt.Sprintf("%.*f", max(0, int(math.Ceil(-math.Log10(max(1-q, 1e-12))))-2), math.Floor(q*1e9)/1e7)
}
