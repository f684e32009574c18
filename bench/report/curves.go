package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// curves is a wish for plots of metrics by a parameter.
type curves struct {
	bench    string
	x        string
	metric   string
	variants []string
	second   string // a metric drawn dashed beside the first, "" = none
	names    [2]string
	say      func(g *group, xs []string) string // what a plot shows
}

// byParam makes a figure with a plot for each group that has at least two values of x. It has no plots if there is none.
func (s *study) byParam(c curves) []plot {
	var plots []plot
	groups := s.grid(s.sets[c.bench], c.x, c.variants)
	groups = slices.DeleteFunc(groups, func(g *group) bool { return len(s.xs(g, c.x, c.metric)) < 2 })
	for _, g := range groups {
		xs := s.xs(g, c.x, c.metric)
		p := plot{label: label(g, groups), of: joinParams(g.params), x: s.paramAxis(c.x, xs, g), y: axis{label: infoOf(c.metric).title, unit: unitOf(c.metric), fromSpread: true}}
		variants := g.variantList()
		for _, l := range g.lines {
			st := s.style(l.subject, variantIndex(variants, l.variant))
			name := g.name(l)
			if c.second != "" {
				name += c.names[0]
			}
			p.add(s.curve(c, xs, l, c.metric, name, st))
			if c.second != "" {
				st.dash, st.hollow = 1, true
				p.add(s.curve(c, xs, l, c.second, g.name(l)+c.names[1], st))
			}
		}
		if p.empty() {
			continue
		}
		p.table = p.tableByX(paramTitle(c.x), xs)
		p.sentence = c.say(g, xs)
		plots = append(plots, p)
	}
	return plots
}

func (p *plot) add(sr series) {
	if len(sr.points) > 0 {
		p.series = append(p.series, sr)
	}
}

func (s *study) curve(c curves, xs []string, l *line, metric, name string, st style) series {
	sr := series{name: name, style: st, line: true}
	if _, isNumber := numeric(c.x, xs[0]); !isNumber {
		sr.line = false // between words there is nothing
	}
	for i, x := range xs {
		set := l.at(c.x, x)
		v, ok := set.metric(metric)
		if !ok {
			continue
		}
		at := float64(i)
		if n, isNumber := s.place(c.x, set); isNumber {
			at = n
		}
		tip := fmt.Sprintf("%s: %s", describe(c.x, x), v.show(unitOf(metric)))
		if share, ok := set.mean("chose-snapshot"); ok && set.params["choice"] == "auto" {
			tip += fmt.Sprintf(" (chose the snapshot in %.0f %% of the rounds)", 100*share)
		}
		sr.points = append(sr.points, point{at, v.median, v.low, v.high, tip, x})
	}
	slices.SortStableFunc(sr.points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	return sr
}

// mean of a metric over the rounds; false if none has it.
func (set *setting) mean(metric string) (float64, bool) {
	sum, n := 0.0, 0
	for _, p := range set.points {
		if v, ok := p.Metrics[metric]; ok {
			sum += v
			n++
		}
	}
	return sum / float64(max(n, 1)), n > 0
}

// place is where a setting belongs on a numeric axis: at its parameter, or, where that says "as many writes as it takes", at the writes
// that it took.
func (s *study) place(param string, set *setting) (float64, bool) {
	if n, ok := numeric(param, set.params[param]); ok {
		return n, true
	}
	got, ok := set.metric("rate-got")
	return got.median, ok && param == "rate"
}

// paramAxis has a tick for each value of a parameter. Numbers stand where they belong, log if they are far apart; words side by side.
func (s *study) paramAxis(param string, xs []string, g *group) axis {
	a := axis{label: paramTitle(param), unit: plain}
	whole := func(x string) bool { n, ok := numeric(param, x); return ok && math.Mod(n, 1024) == 0 }
	if param == "bytes" || param == "value" && !slices.ContainsFunc(xs, func(x string) bool { return !whole(x) }) {
		a.unit = bytesUnit
	}
	least, most, numbers := 0.0, 0.0, true
	for _, x := range xs {
		n, ok := numeric(param, x)
		if !ok && param == "rate" {
			// It stands where its writes were, without a mark at the axis.
			for _, l := range g.lines {
				if set := l.at(param, x); set != nil {
					got, _ := s.place(param, set)
					most = max(most, got)
				}
			}
			continue
		}
		numbers = numbers && ok
		if n > 0 && (least == 0 || n < least) {
			least = n
		}
		most = max(most, n)
		a.ticks = append(a.ticks, n)
	}
	if !numbers || len(a.ticks) == 0 {
		a.ticks, a.names = nil, nil
		for i, x := range xs {
			a.ticks, a.names = append(a.ticks, float64(i)), append(a.names, x)
		}
		return a
	}
	a.log = least > 0 && most/least >= 8 && param != "overwrite"
	return a
}

// tableByX repeats the plot in figures.
func (p *plot) tableByX(title string, xs []string) table {
	head := []string{title}
	for _, sr := range p.series {
		head = append(head, sr.name)
	}
	t := table{labels: 1, rows: [][]string{head}}
	for _, x := range xs {
		line := []string{x}
		for _, sr := range p.series {
			text := ""
			for _, pt := range sr.points {
				if pt.at == x {
					text = spread{pt.y, pt.low, pt.high, 2}.cell(p.y.unit)
				}
			}
			line = append(line, text)
		}
		t.rows = append(t.rows, line)
	}
	return t
}

func (g *group) variantList() []map[string]string {
	var out []map[string]string
	for _, l := range g.lines {
		if len(l.variant) > 0 && variantIndex(out, l.variant) == len(out) {
			out = append(out, l.variant)
		}
	}
	return out
}

// variantIndex is the place of a variant in the list; its length if it is not there.
func variantIndex(list []map[string]string, v map[string]string) int {
	if len(v) == 0 {
		return 0
	}
	for i, o := range list {
		if maps.Equal(o, v) {
			return i
		}
	}
	return len(list)
}

// said is a value in a sentence, with whose it is.
type said struct {
	name    string
	variant string // in words; "" where there is only one
	value   float64
}

// saidOf is false for the null server: sentences are about servers.
func (g *group) saidOf(l *line, value float64) (said, bool) {
	return said{subjectName(l.subject), g.words(l), value}, l.subject != result.NullServer
}

// valuesAt are the values of all lines but the null server's at x.
func (g *group) valuesAt(x, value, metric string) []said {
	var out []said
	for _, l := range g.lines {
		if v, ok := l.at(x, value).metric(metric); ok {
			if x, ok := g.saidOf(l, v.median); ok {
				out = append(out, x)
			}
		}
	}
	return out
}

// lastCommon is the last of xs that the most lines have a value at: comparisons are said there.
func (g *group) lastCommon(x string, xs []string, metric string) string {
	best, most := "", 0
	for _, v := range xs {
		if n := len(g.valuesAt(x, v, metric)); n >= most {
			best, most = v, n
		}
	}
	return best
}

// list says values with a word between them and whose they are: "31 MiB in Holdfast and 412 MiB in Redis". Variants are said one
// after the other: "1 s with Holdfast and 2 s with Redis (idle), 2 s with … (under load)".
func list(values []said, metric, between string) string {
	u := unitOf(metric)
	return byVariant(values, func(v said) string {
		text := u.show(v.value)
		if v.value <= 0 && strings.HasSuffix(metric, "-B") {
			text = "nothing"
		}
		return text + " " + between + " " + v.name
	})
}

// listAfter says whose values they are first: "Holdfast 31 MiB and Redis 412 MiB".
func listAfter(values []said, metric string) string {
	u := unitOf(metric)
	return byVariant(values, func(v said) string {
		text := u.show(v.value)
		if v.value <= 0 && strings.HasSuffix(metric, "-B") {
			text = "nothing"
		}
		return v.name + " " + text
	})
}

func byVariant(values []said, words func(said) string) string {
	var variants, parts []string
	for _, v := range values {
		if !slices.Contains(variants, v.variant) {
			variants = append(variants, v.variant)
		}
	}
	for _, variant := range variants {
		var of []string
		for _, v := range values {
			if v.variant == variant {
				of = append(of, words(v))
			}
		}
		text := enumerate(of)
		if variant != "" {
			text += " (" + variant + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}
