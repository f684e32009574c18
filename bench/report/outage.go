package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// outageFigures: how long catching up takes by what was missed, what it costs, and what the server expected.
func (s *study) outageFigures() []figure {
	choice := []string{"choice"}
	say := func(metric, text string) func(*group, []string) string {
		return func(g *group, xs []string) string {
			at := g.lastCommon("bytes", xs, metric)
			return fmt.Sprintf("After %s of stream %s.", describe("bytes", at), fmt.Sprintf(text, list(g.valuesAt("bytes", at, metric), metric, "with")))
		}
	}
	figures := []figure{{
		what:  "Seconds from the replica's return until it has applied all, by how much it has missed. Dotted: where replay and snapshot take as long.",
		plots: s.breakEvenPlots(),
	}, {
		what: "Seconds until done, by the share of writes that hit existing keys.",
		plots: s.byParam(curves{bench: result.Outage, x: "overwrite", metric: "took-s", variants: choice, say: func(g *group, xs []string) string {
			at := g.lastCommon("overwrite", xs, "took-s")
			return fmt.Sprintf("With %s catching up takes %s.", describe("overwrite", at), list(g.valuesAt("overwrite", at, "took-s"), "took-s", "with"))
		}}),
	}, {
		what: "The server's own estimates, dashed, beside what it took.", plots: s.estimatePlots(),
	}, {
		what:  "Memory of the primary above that before the outage, by how much the replica has missed.",
		plots: s.byParam(curves{bench: result.Outage, x: "bytes", metric: "extra-B", variants: choice, say: say("extra-B", "the primary has grown by %s")}),
	}, {
		what:  "p99.9 latency of the primary's clients while the replica catches up.",
		plots: s.byParam(curves{bench: result.Outage, x: "bytes", metric: "p99.9-ms", variants: choice, say: say("p99.9-ms", "one request in a thousand waits longer than %s")}),
	}}
	if slices.IndexFunc(figures, func(f figure) bool { return len(f.plots) > 0 }) < 0 {
		figures = append(figures, figure{what: "Seconds until done.", plots: s.byRow(rowsOf{sets: s.sets[result.Outage], row: "bytes", metric: "took-s", variants: choice,
			say: func(g *group, xs []string) string {
				at := g.lastCommon("bytes", xs, "took-s")
				return fmt.Sprintf("After %s of stream catching up takes %s.", describe("bytes", at), list(g.valuesAt("bytes", at, "took-s"), "took-s", "with"))
			}})})
	}
	return figures
}

// breakEvenPlots mark where a snapshot becomes sooner than a replay.
func (s *study) breakEvenPlots() []plot {
	c := curves{bench: result.Outage, x: "bytes", metric: "took-s", variants: []string{"choice"}, say: s.sayBreakEven}
	plots := s.byParam(c)
	for i := range plots {
		for _, g := range s.grid(s.sets[c.bench], c.x, c.variants) {
			if joinParams(g.params) != plots[i].of {
				continue
			}
			for _, sub := range s.subjects(result.Outage) {
				if at, ok := crossing(g, sub); ok {
					plots[i].rules = append(plots[i].rules, rule{at, sentenceCase(subjectName(sub)) + ": " + byteSize(at)})
				}
			}
		}
	}
	return plots
}

// pairedTimes are a subject's seconds by replay and by snapshot at the numbers of bytes at which it was made to do both.
func pairedTimes(g *group, subject string) (bytes, replay, snapshot []float64) {
	lines := map[string]*line{}
	for _, l := range g.lines {
		if l.subject == subject {
			lines[l.variant["choice"]] = l
		}
	}
	r, sn := lines["replay"], lines["snapshot"]
	if r == nil || sn == nil {
		return nil, nil, nil
	}
	for _, set := range r.sets {
		at, ok := numeric("bytes", set.params["bytes"])
		a, okA := set.metric("took-s")
		b, okB := sn.at("bytes", set.params["bytes"]).metric("took-s")
		if ok && okA && okB {
			bytes, replay, snapshot = append(bytes, at), append(replay, a.median), append(snapshot, b.median)
		}
	}
	return bytes, replay, snapshot
}

// crossing finds where the replay begins to take longer than the snapshot, between two sizes that were measured: a straight line is
// drawn from the one difference to the other.
func crossing(g *group, subject string) (float64, bool) {
	bytes, replay, snapshot := pairedTimes(g, subject)
	for i := 1; i < len(bytes); i++ {
		before, after := replay[i-1]-snapshot[i-1], replay[i]-snapshot[i]
		if before <= 0 && after > 0 {
			return bytes[i-1] + (bytes[i]-bytes[i-1])*(-before)/(after-before), true
		}
	}
	return 0, false
}

func (s *study) sayBreakEven(g *group, xs []string) string {
	var parts []string
	for _, sub := range s.subjects(result.Outage) {
		name := subjectName(sub)
		bytes, replay, snapshot := pairedTimes(g, sub)
		last := len(bytes) - 1
		at, crosses := crossing(g, sub)
		switch {
		case last < 0:
		case crosses:
			parts = append(parts, fmt.Sprintf("with %s a snapshot is sooner than a replay from about %s on", name, byteSize(at)))
		case replay[last] <= snapshot[last]:
			parts = append(parts, fmt.Sprintf("with %s the replay is sooner at every size up to %s", name, byteSize(bytes[last])))
		case replay[0] > snapshot[0]:
			parts = append(parts, fmt.Sprintf("with %s the snapshot is sooner at every size from %s on", name, byteSize(bytes[0])))
		default:
			parts = append(parts, fmt.Sprintf("with %s neither way is sooner throughout", name))
		}
	}
	text := ""
	if len(parts) > 0 {
		text = sentenceCase(strings.Join(parts, "; ")) + "."
	} else {
		at := g.lastCommon("bytes", xs, "took-s")
		text = fmt.Sprintf("After %s of stream catching up takes %s.", describe("bytes", at), list(g.valuesAt("bytes", at, "took-s"), "took-s", "with"))
	}
	for _, l := range g.lines {
		if l.variant["choice"] == "auto" {
			text += sayChoice(g, l)
		}
	}
	return text
}

// sayChoice says what the server's own estimate chose, and how far that was from the sooner of both.
func sayChoice(g *group, l *line) string {
	sizes, replay, snapshot := pairedTimes(g, l.subject)
	right, judged, chosen, known := 0, 0, 0, 0
	first := math.Inf(1)
	for _, set := range l.sets {
		share, ok := set.mean("chose-snapshot")
		at, isNumber := numeric("bytes", set.params["bytes"])
		if !ok || !isNumber {
			continue
		}
		known++
		if share > 0.5 {
			chosen++
			first = min(first, at)
		}
		if i := slices.Index(sizes, at); i >= 0 {
			judged++
			if (share > 0.5) == (snapshot[i] < replay[i]) {
				right++
			}
		}
	}
	if known == 0 {
		return ""
	}
	text := " Left to its own estimate, " + subjectName(l.subject)
	switch chosen {
	case 0:
		text += " always chose the replay"
	case known:
		text += " always chose the snapshot"
	default:
		text += fmt.Sprintf(" chose the snapshot from %s on", byteSize(first))
	}
	if judged > 0 {
		text += fmt.Sprintf(", the sooner way in %d of %d sizes", right, judged)
	}
	return text + "."
}

// estimatePlots show what a server expected of both ways, by the points at which it reports so, beside what both took.
func (s *study) estimatePlots() []plot {
	var plots []plot
	groups := s.grid(s.sets[result.Outage], "bytes", []string{"choice"})
	for _, g := range groups {
		xs := s.xs(g, "bytes", "took-s")
		if len(xs) < 2 {
			continue
		}
		for _, sub := range s.subjects(result.Outage) {
			p := plot{label: label(g, groups), of: joinParams(g.params), x: s.paramAxis("bytes", xs, g), y: axis{label: "seconds", unit: secondsUnit, fromSpread: true}}
			if len(s.subjects(result.Outage)) > 1 {
				p.label = strings.TrimSuffix(sentenceCase(subjectName(sub))+", "+strings.ToLower(p.label), ", ")
			}
			c := curves{x: "bytes"}
			worst, worstAt := 1.0, ""
			estimates := 0
			for i, way := range []string{"replay", "snapshot"} {
				// The run that was left to choose carries the estimates; where none was, any that has them.
				var from *line
				for _, l := range g.lines {
					if l.subject != sub {
						continue
					}
					if l.variant["choice"] == way {
						st := s.style(sub, 0)
						st.shape, st.hollow = i, i == 1
						p.add(s.curve(c, xs, l, "took-s", sentenceCase(way)+" took", st))
					}
					if len(s.xs(&group{lines: []*line{l}}, "bytes", "estimate-"+way+"-s")) > 0 && (from == nil || l.variant["choice"] == "auto") {
						from = l
					}
				}
				if from == nil {
					continue
				}
				st := s.style(sub, 1+i)
				st.shape, st.hollow = i, i == 1
				sr := s.curve(c, xs, from, "estimate-"+way+"-s", sentenceCase(way)+" expected", st)
				sr.bare = true
				estimates += len(sr.points)
				p.add(sr)
				for _, x := range xs {
					for _, l := range g.lines {
						took, ok := l.at("bytes", x).metric("took-s")
						e, okE := from.at("bytes", x).metric("estimate-" + way + "-s")
						if l.subject != sub || l.variant["choice"] != way || !ok || !okE || took.median <= 0 || e.median <= 0 {
							continue
						}
						if off := math.Max(took.median/e.median, e.median/took.median); off > worst {
							worst, worstAt = off, fmt.Sprintf("%s of %s: expected %s, took %s", way, describe("bytes", x), secondsUnit.show(e.median), secondsUnit.show(took.median))
						}
					}
				}
			}
			if estimates < 2 {
				continue
			}
			p.table = p.tableByX(paramTitle("bytes"), xs)
			p.sentence = fmt.Sprintf("%s's estimates are off by a factor of %s at most", sentenceCase(subjectName(sub)), ratio(worst))
			if worstAt != "" {
				p.sentence += " (" + worstAt + ")"
			}
			p.sentence += "."
			plots = append(plots, p)
		}
	}
	return plots
}
