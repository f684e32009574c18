package report

import (
	"fmt"
	"slices"

	"github.com/holdfast-db/holdfast/bench/result"
)

// cowFigures: what a snapshot costs by each parameter that was varied, for each kind of cost.
func (s *study) cowFigures() []figure {
	costs := []struct{ metric, second, what string }{
		{"extra-B", "", "Memory above that before, seen from outside (with children), by %s."},
		{"copied-B", "", "Bytes copied for the snapshot, by the server's own figure, by %s."},
		{"pause-ms", "", "The longest that a probing client waited during the snapshot, by %s."},
		{"p99.9-ms", "quiet-p99.9-ms", "p99.9 latency during a snapshot and, dashed, without one, by %s."},
	}
	var figures []figure
	for _, x := range []string{"rate", "dist", "value", "keys"} {
		for _, c := range costs {
			names := [2]string{}
			if c.second != "" {
				names = [2]string{" during", " without"}
			}
			metric := c.metric
			f := figure{what: fmt.Sprintf(c.what, map[string]string{"rate": "writes per second", "dist": "the distribution of the keys written", "value": "size of a value", "keys": "number of keys"}[x])}
			f.plots = s.byParam(curves{bench: result.Cow, x: x, metric: metric, second: c.second, names: names,
				say: func(g *group, xs []string) string { return sayCow(g, x, xs, metric) }})
			figures = append(figures, f)
		}
	}
	if slices.IndexFunc(figures, func(f figure) bool { return len(f.plots) > 0 }) < 0 {
		for _, c := range costs {
			metric := c.metric
			figures = append(figures, figure{what: sentenceCase(infoOf(metric).title) + ", with one setting of writes and data.",
				plots: s.byRow(rowsOf{sets: s.sets[result.Cow], metric: metric, say: func(g *group, xs []string) string { return sayCow(g, "", xs, metric) }})})
		}
	}
	return figures
}

func sayCow(g *group, x string, xs []string, metric string) string {
	at := g.lastCommon(x, xs, metric)
	where := "Here"
	if x != "" {
		where = "At " + describe(x, at)
		if x == "dist" || x == "value" || x == "keys" {
			where = "With " + describe(x, at)
		}
	}
	values := g.valuesAt(x, at, metric)
	switch metric {
	case "extra-B":
		return fmt.Sprintf("%s a snapshot costs %s of memory.", where, listAfter(values, metric))
	case "copied-B":
		return fmt.Sprintf("%s a snapshot copies %s, as the server itself counts.", where, list(values, metric, "in"))
	case "pause-ms":
		return fmt.Sprintf("%s the longest wait during a snapshot is %s.", where, list(values, metric, "with"))
	}
	return fmt.Sprintf("%s one request in a thousand waits longer than %s during a snapshot.", where, list(values, metric, "with"))
}
