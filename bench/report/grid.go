package report

import (
	"cmp"
	"maps"
	"slices"
)

// line is what one subject did in one variant, by the parameter on the x axis.
type line struct {
	subject string
	variant map[string]string
	sets    []*setting // by x
}

// group is what belongs into one plot: settings that differ in subject, variant and x only.
type group struct {
	params map[string]string // the same in all
	lines  []*line
}

// grid sorts settings into plots: x is the parameter along the axis ("" = none), variants are those told apart within a plot.
func (s *study) grid(sets []*setting, x string, variants []string) []*group {
	var groups []*group
	byName := map[string]*group{}
	for _, set := range sets {
		if _, ok := set.params[x]; x != "" && !ok {
			continue
		}
		fixed, variant := maps.Clone(set.params), map[string]string{}
		delete(fixed, x)
		for _, k := range variants {
			if v, ok := fixed[k]; ok {
				variant[k] = v
				delete(fixed, k)
			}
		}
		name := joinParams(fixed)
		g := byName[name]
		if g == nil {
			g = &group{params: fixed}
			byName[name] = g
			groups = append(groups, g)
		}
		i := slices.IndexFunc(g.lines, func(l *line) bool { return l.subject == set.subject && maps.Equal(l.variant, variant) })
		if i < 0 {
			i = len(g.lines)
			g.lines = append(g.lines, &line{subject: set.subject, variant: variant})
		}
		g.lines[i].sets = append(g.lines[i].sets, set)
	}
	for _, g := range groups {
		slices.SortStableFunc(g.lines, func(a, b *line) int {
			return cmp.Or(cmp.Compare(s.subjectRank(a.subject), s.subjectRank(b.subject)), s.compareParams(a.variant, b.variant))
		})
		for _, l := range g.lines {
			slices.SortStableFunc(l.sets, func(a, b *setting) int { return s.compareValues(x, a.params[x], b.params[x]) })
		}
	}
	return groups
}

// xs are the values of x that any line of the group has a metric for, in their order.
func (s *study) xs(g *group, x, metric string) []string {
	var out []string
	for _, l := range g.lines {
		for _, set := range l.sets {
			if _, ok := set.metric(metric); ok && !slices.Contains(out, set.params[x]) {
				out = append(out, set.params[x])
			}
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return s.compareValues(x, a, b) })
	return out
}

// at is the line's setting at a value of x; nil if it has none.
func (l *line) at(x, value string) *setting {
	if i := slices.IndexFunc(l.sets, func(set *setting) bool { return set.params[x] == value }); i >= 0 {
		return l.sets[i]
	}
	return nil
}

// name of a line in a legend: the subject, and the variant where the group has several.
func (g *group) name(l *line) string {
	name := sentenceCase(subjectName(l.subject))
	if v := g.words(l); v != "" {
		name += ", " + v
	}
	return name
}

// words say what tells a line's variant from the others of the group; "" if there is only one.
func (g *group) words(l *line) string {
	list := g.variantList()
	if len(list) < 2 {
		return ""
	}
	vary, _ := varying(list)
	return describeAll(l.variant, vary)
}

// variants counts the variants in the group.
func (g *group) variants() int { return len(g.variantList()) }

// label tells a group from the others.
func label(g *group, all []*group) string {
	var params []map[string]string
	for _, o := range all {
		params = append(params, o.params)
	}
	vary, _ := varying(params)
	return sentenceCase(describeAll(g.params, vary))
}
