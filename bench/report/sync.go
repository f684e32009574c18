package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// syncFigures: how long a full sync takes between each pair, and what the primary and its clients feel of it.
func (s *study) syncFigures() []figure {
	wish := func(what, metric, second string, names [2]string, say func(pairs []syncPair) string) figure {
		return figure{what: what, plots: s.pairPlots(metric, second, names, say)}
	}
	return []figure{
		wish("Seconds from the order to replicate until all is applied, by primary → replica, in the colour of the primary.", "took-s", "", [2]string{}, s.saySync),
		wish("Writes per second under full load, before the sync and during it.", "during-req/s", "before-req/s", [2]string{"during", "before"}, func(pairs []syncPair) string {
			return "During a sync under full load the primary goes on to take " + listPairs(pairs, func(p syncPair) (string, bool) {
				d, ok := p.set.metric("during-req/s")
				b, okB := p.set.metric("before-req/s")
				return fmt.Sprintf("%.0f %%", 100*d.median/max(b.median, 1)), ok && okB && b.median > 0
			}) + " of the writes that it took before."
		}),
		wish("p99.9 latency of a probing client, without a sync and during it.", "p99.9-ms", "quiet-p99.9-ms", [2]string{"during", "without"}, func(pairs []syncPair) string {
			return "During a sync one request in a thousand waits longer than " + listPairs(pairs, shownMetric("p99.9-ms")) + "."
		}),
		wish("Memory of the primary above that before, with its children.", "extra-B", "", [2]string{}, func(pairs []syncPair) string {
			return "A sync costs the primary " + listPairs(pairs, func(p syncPair) (string, bool) {
				v, ok := p.set.metric("extra-B")
				if v.median <= 0 {
					return "no memory", ok
				}
				return byteSize(v.median), ok
			}) + "."
		}),
		wish("Bytes on the wire from primary to replica.", "wire-B", "", [2]string{}, func(pairs []syncPair) string {
			return "A full copy is " + listPairs(pairs, shownMetric("wire-B")) + " on the wire."
		}),
	}
}

// syncPair is a primary with a replica, under a load.
type syncPair struct {
	name, load string
	set        *setting
}

func shownMetric(metric string) func(syncPair) (string, bool) {
	return func(p syncPair) (string, bool) {
		v, ok := p.set.metric(metric)
		return unitOf(metric).show(v.median), ok
	}
}

// listPairs says a value for each pair under the heavier load: "641 MiB (Redis → Redis) and …".
func listPairs(pairs []syncPair, value func(syncPair) (string, bool)) string {
	load := ""
	for _, p := range pairs {
		if _, ok := value(p); ok && (load == "" || p.load != "none") {
			load = p.load
		}
	}
	var parts []string
	for _, p := range pairs {
		if text, ok := value(p); ok && p.load == load {
			parts = append(parts, text+" ("+p.name+")")
		}
	}
	return enumerate(parts)
}

// saySync goes from pair to pair, since each is read for itself.
func (s *study) saySync(pairs []syncPair) string {
	took := shownMetric("took-s")
	var names, parts []string
	for _, p := range pairs {
		if !slices.Contains(names, p.name) {
			names = append(names, p.name)
		}
	}
	for _, name := range names {
		var of []string
		for _, p := range pairs {
			if text, ok := took(p); ok && p.name == name {
				if words := describe("load", p.load); p.load != "" && len(parts) == 0 {
					text += " " + words
				}
				of = append(of, text)
			}
		}
		parts = append(parts, enumerate(of)+" ("+name+")")
	}
	return "A full sync takes " + strings.Join(parts, ", ") + "."
}

// pairPlots have a row for each pair and a mark for each load, or for two metrics under each load.
func (s *study) pairPlots(metric, second string, names [2]string, say func([]syncPair) string) []plot {
	var plots []plot
	groups := s.grid(s.sets[result.Sync], "", []string{"peer", "load"})
	for _, g := range groups {
		p := plot{label: label(g, groups), x: axis{label: infoOf(metric).title, unit: unitOf(metric), fromSpread: true},
			table: table{labels: 1, rows: [][]string{{"primary → replica"}}}}
		if second == "quiet-p99.9-ms" {
			p.x.label = "p99.9 latency, ms"
		} else if second != "" {
			p.x.label = "writes per second"
		}
		var pairs []syncPair
		var colours []int // of the rows: the primary's
		index := map[string]int{}
		for _, l := range g.lines {
			name := sentenceCase(subjectName(l.subject)) + " → " + sentenceCase(subjectName(l.variant["peer"]))
			for _, set := range l.sets {
				if _, ok := set.metric(metric); !ok {
					continue
				}
				if _, ok := index[name]; !ok {
					index[name] = len(p.rows)
					p.rows = append(p.rows, name)
					colours = append(colours, s.style(l.subject, 0).colour)
				}
				pairs = append(pairs, syncPair{name, l.variant["load"], set})
			}
		}
		var loads []string
		for _, pair := range pairs {
			if !slices.Contains(loads, pair.load) {
				loads = append(loads, pair.load)
			}
		}
		slices.SortFunc(loads, func(a, b string) int { return s.compareValues("load", a, b) })
		for i, load := range loads {
			for k, m := range []string{metric, second} {
				if m == "" {
					continue
				}
				sr := series{name: describe("load", load), style: style{colour: ink, shape: i, hollow: k == 1}, byRow: colours}
				if names[k] != "" {
					sr.name = names[k]
					if len(loads) > 1 {
						sr.name = describe("load", load) + ", " + names[k]
					}
				}
				sr.name = sentenceCase(sr.name)
				for _, pair := range pairs {
					if v, ok := pair.set.metric(m); ok && pair.load == load {
						sr.points = append(sr.points, point{x: v.median, y: float64(index[pair.name]), low: v.low, high: v.high, tip: pair.name + ": " + v.show(unitOf(m))})
					}
				}
				p.add(sr)
			}
		}
		if p.empty() {
			continue
		}
		for _, sr := range p.series {
			p.table.rows[0] = append(p.table.rows[0], sr.name)
		}
		for i, name := range p.rows {
			line := []string{name}
			for _, sr := range p.series {
				text := ""
				for _, pt := range sr.points {
					if pt.y == float64(i) {
						text = spread{pt.x, pt.low, pt.high, 2}.cell(p.x.unit)
					}
				}
				line = append(line, text)
			}
			p.table.rows = append(p.table.rows, line)
		}
		p.sentence = say(pairs)
		plots = append(plots, p)
	}
	return plots
}

// restartFigures: seconds to the first right answer by the number of keys.
func (s *study) restartFigures() []figure {
	say := func(g *group, xs []string) string {
		at := g.lastCommon("keys", xs, "took-s")
		return fmt.Sprintf("With %s the first right answer comes after %s.", describe("keys", at), list(g.valuesAt("keys", at, "took-s"), "took-s", "with"))
	}
	f := figure{what: "From the start of the process to the first right answer to a GET, by number of keys.",
		plots: s.byParam(curves{bench: result.Restart, x: "keys", metric: "took-s", variants: []string{"how"}, say: say})}
	if len(f.plots) == 0 {
		f.plots = s.byRow(rowsOf{sets: s.sets[result.Restart], row: "keys", metric: "took-s", variants: []string{"how"}, say: say})
	}
	return []figure{f}
}
