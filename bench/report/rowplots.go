package report

import (
	"slices"
)

// rowsOf is a wish for plots that have a row for each value of a parameter.
type rowsOf struct {
	sets     []*setting
	row      string // the parameter of the rows; "" = the subjects are the rows
	metric   string
	variants []string
	say      func(g *group, xs []string) string
}

// byRow makes a plot for each group.
func (s *study) byRow(c rowsOf) []plot {
	var plots []plot
	groups := s.grid(c.sets, c.row, c.variants)
	for _, g := range groups {
		p := plot{label: label(g, groups), x: axis{label: infoOf(c.metric).title, unit: unitOf(c.metric), fromSpread: true}, table: table{labels: 1}}
		xs := s.xs(g, c.row, c.metric)
		variants := g.variantList()
		head := []string{paramTitle(c.row)}
		if c.row == "" {
			head[0] = "server"
		}
		for _, l := range g.lines {
			sr := series{name: g.name(l), style: s.style(l.subject, variantIndex(variants, l.variant))}
			for i, x := range xs {
				v, ok := l.at(c.row, x).metric(c.metric)
				if !ok {
					continue
				}
				tip := v.show(unitOf(c.metric))
				if c.row != "" {
					tip = describe(c.row, x) + ": " + tip
				}
				sr.points = append(sr.points, point{x: v.median, y: float64(i), low: v.low, high: v.high, tip: tip})
			}
			p.add(sr)
		}
		if p.empty() {
			continue
		}
		for _, sr := range p.series {
			head = append(head, sr.name)
		}
		p.table.rows = append(p.table.rows, head)
		for i, x := range xs {
			name := describe(c.row, x)
			if c.row == "" {
				name = infoOf(c.metric).title
			}
			p.rows = append(p.rows, sentenceCase(name))
			line := []string{name}
			for _, sr := range p.series {
				text := ""
				if k := slices.IndexFunc(sr.points, func(pt point) bool { return pt.y == float64(i) }); k >= 0 {
					pt := sr.points[k]
					text = spread{pt.x, pt.low, pt.high, 2}.cell(p.x.unit)
				}
				line = append(line, text)
			}
			p.table.rows = append(p.table.rows, line)
		}
		p.sentence = c.say(g, xs)
		plots = append(plots, p)
	}
	return plots
}
