package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// throughputFigures: ratios to the base at a glance, then requests per second by depth for each mix.
func (s *study) throughputFigures() []figure {
	figures := []figure{{
		what:  "Requests per second as a multiple of " + subjectName(s.base) + "'s, taken within a round: median, lowest and highest. Right of 1 is faster.",
		plots: s.ratioPlots(),
	}}
	say := func(g *group, xs []string) string { return s.sayThroughput(g, "pipeline", xs) }
	byDepth := s.byParam(curves{bench: result.Throughput, x: "pipeline", metric: "req/s", variants: []string{"policy"}, say: say})
	// A figure for each mix; what else varies is for the reader to choose.
	for _, mix := range s.values(result.Throughput, "mix") {
		f := figure{what: mixName(mix) + ": requests per second by the number of requests in a pipeline."}
		groups := s.grid(s.ofMix(mix), "pipeline", []string{"policy"})
		groups = slices.DeleteFunc(groups, func(g *group) bool { return len(s.xs(g, "pipeline", "req/s")) < 2 })
		for _, g := range groups {
			for _, p := range byDepth {
				if p.of == joinParams(g.params) {
					p.label = label(g, groups)
					f.plots = append(f.plots, p)
				}
			}
		}
		figures = append(figures, f)
	}
	figures = append(figures, figure{
		what:  "Requests per second of each mix, where one depth of pipelines was measured.",
		plots: s.mixPlots(),
	})
	return figures
}

func (s *study) ofMix(mix string) []*setting {
	return slices.DeleteFunc(slices.Clone(s.sets[result.Throughput]), func(set *setting) bool { return set.params["mix"] != mix })
}

// values of a parameter in a bench, in their order.
func (s *study) values(bench, param string) []string {
	var out []string
	for _, set := range s.sets[bench] {
		if v, ok := set.params[param]; ok && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return s.compareValues(param, a, b) })
	return out
}

// sayThroughput compares with the base at the deepest pipeline, and names figures where there is nothing to compare with.
func (s *study) sayThroughput(g *group, x string, xs []string) string {
	at := g.lastCommon(x, xs, "req/s")
	where := describe(x, at)
	if mix := g.params["mix"]; mix != "" {
		where = mixName(mix) + ", " + where
	}
	var parts []string
	for _, l := range g.lines {
		if l.subject == s.base || l.subject == result.NullServer {
			continue
		}
		for _, b := range g.lines {
			if b.subject != s.base || joinParams(b.variant) != joinParams(l.variant) {
				continue
			}
			if v, ok := l.at(x, at).times(b.at(x, at), "req/s"); ok {
				text := fmt.Sprintf("%s takes %s times the requests of %s", subjectName(l.subject), ratio(v.median), subjectName(s.base))
				if len(parts) > 0 {
					text = ratio(v.median) + " times"
					if l.subject != g.lines[0].subject && s.comparable(g) > 1 {
						text = subjectName(l.subject) + " " + text
					}
				}
				if g.variants() > 1 {
					text += " with " + g.words(l)
				}
				parts = append(parts, text)
			}
		}
	}
	if len(parts) > 0 {
		return where + ": " + enumerate(parts) + "."
	}
	return where + ": " + list(g.valuesAt(x, at, "req/s"), "req/s", "for") + "."
}

// comparable counts the subjects of a group that are compared to the base.
func (s *study) comparable(g *group) int {
	seen := map[string]bool{}
	for _, l := range g.lines {
		if l.subject != s.base && l.subject != result.NullServer {
			seen[l.subject] = true
		}
	}
	return len(seen)
}

// ratioPlots show all mixes at all depths: a plot for each subject, fsync policy and whatever else varies.
func (s *study) ratioPlots() []plot {
	if s.base == "" {
		return nil
	}
	var sets []*setting
	for _, set := range s.sets[result.Throughput] {
		if set.params["loop"] != "open" {
			sets = append(sets, set)
		}
	}
	groups := s.grid(sets, "mix", []string{"pipeline"})
	compared := s.compared(result.Throughput, "req/s")
	var plots []plot
	for _, sub := range compared {
		for _, g := range groups {
			p := s.ratioPlot(g, sub)
			if p.empty() {
				continue
			}
			p.label = label(g, groups)
			if len(compared) > 1 {
				p.label = strings.TrimSuffix(sentenceCase(subjectName(sub))+", "+strings.ToLower(p.label), ", ")
			}
			plots = append(plots, p)
		}
	}
	return plots
}

// ratioPlot has a row for each mix and a series for each depth, of one subject. It is empty if the base has none of them.
func (s *study) ratioPlot(g *group, sub string) plot {
	name := subjectName(sub)
	p := plot{x: axis{label: "times " + subjectName(s.base), unit: timesUnit, fromSpread: true}, rules: []rule{{1, ""}}}
	mixes := s.xs(g, "mix", "req/s")
	cells := make([][]string, len(mixes))
	head := []string{"commands"}
	ahead, count := 0, 0
	least, most := math.Inf(1), math.Inf(-1)
	var leastAt, mostAt string
	for _, l := range g.lines {
		b := slices.IndexFunc(g.lines, func(o *line) bool { return o.subject == s.base && joinParams(o.variant) == joinParams(l.variant) })
		if l.subject != sub || b < 0 {
			continue
		}
		depth := describeAll(l.variant, []string{"pipeline"})
		sr := series{name: strings.TrimSuffix(sentenceCase(name)+", "+depth, ", "), style: s.depthStyle(sub, variantIndex(g.variantList(), l.variant))}
		for i, mix := range mixes {
			v, ok := l.at("mix", mix).times(g.lines[b].at("mix", mix), "req/s")
			cells[i] = append(cells[i], cellOr(ok, ratioCell(v)))
			if !ok {
				continue
			}
			count++
			if v.low > 1 {
				ahead++
			}
			at := strings.TrimSuffix(mixName(mix)+", "+depth, ", ")
			if v.median < least {
				least, leastAt = v.median, at
			}
			if v.median > most {
				most, mostAt = v.median, at
			}
			sr.points = append(sr.points, point{x: v.median, y: float64(i), low: v.low, high: v.high, tip: mixName(mix) + ": " + ratioCell(v) + " times"})
		}
		head = append(head, sr.name)
		p.add(sr)
	}
	p.table = table{labels: 1, rows: [][]string{head}}
	for i, mix := range mixes {
		p.rows = append(p.rows, mixName(mix))
		p.table.rows = append(p.table.rows, append([]string{mix}, cells[i]...))
	}
	p.sentence = sentenceCase(fmt.Sprintf("%s is ahead of %s in every round in %d of %d settings: from %s times (%s) to %s times (%s).", name, subjectName(s.base),
		ahead, count, ratio(least), leastAt, ratio(most), mostAt))
	if policy := g.params["policy"]; policy != "" {
		p.sentence = "With " + describe("policy", policy) + " " + name + strings.TrimPrefix(p.sentence, sentenceCase(name))
	}
	return p
}

// depthStyle tells depths of pipelines apart by shape, as the rows of one subject have one colour.
func (s *study) depthStyle(subject string, depth int) style {
	st := s.style(subject, 0)
	st.shape, st.hollow = depth%5, depth >= 5
	return st
}

// mixPlots have a row for each mix where there are no curves by depth.
func (s *study) mixPlots() []plot {
	var sets []*setting
	for _, g := range s.grid(s.sets[result.Throughput], "pipeline", []string{"policy"}) {
		if len(s.xs(g, "pipeline", "req/s")) < 2 {
			for _, l := range g.lines {
				sets = append(sets, l.sets...)
			}
		}
	}
	return s.byRow(rowsOf{sets: sets, row: "mix", metric: "req/s", variants: []string{"policy"}, say: func(g *group, xs []string) string {
		return s.sayThroughput(g, "mix", xs)
	}})
}
