package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// change is a metric of a setting in two runs.
type change struct {
	bench, subject, what, metric string
	old, new                     spread
	verdict                      verdict
}

// verdict says whether a change is more than the rounds differ among themselves.
type verdict int

const (
	overlap   verdict = iota // the ranges of the rounds overlap
	oneRound                 // one side has one round: nothing can be said
	better                   // apart, for the better
	worse                    // apart, for the worse
	different                // apart, of a metric that is neither good nor bad
)

func (v verdict) String() string {
	return [...]string{"", "one round", "better", "worse", "different"}[v]
}

// comparison is two runs beside each other.
type comparison struct {
	old     *result.Run
	changes []change
	missing int      // settings of the old run that the new one has not measured
	notes   []string // differences of the machine, of which the changes may come
}

func compare(old, run *result.Run) comparison {
	c := comparison{old: old}
	before, now := newStudy(old), newStudy(run)
	for what, pair := range map[string][2]string{"processor": {old.Machine.CPU, run.Machine.CPU}, "kernel": {old.Machine.Kernel, run.Machine.Kernel},
		"number of cores": {fmt.Sprint(old.Machine.Cores), fmt.Sprint(run.Machine.Cores)}, "disk": {old.Machine.Disk, run.Machine.Disk}} {
		if pair[0] != pair[1] {
			c.notes = append(c.notes, fmt.Sprintf("The %s was another: %s then, %s now.", what, pair[0], pair[1]))
		}
	}
	slices.Sort(c.notes)
	var params []map[string]string
	for _, bench := range now.benches() {
		for _, set := range now.sets[bench] {
			params = append(params, set.params)
		}
	}
	for _, bench := range now.benches() {
		for _, set := range now.sets[bench] {
			i := slices.IndexFunc(before.sets[bench], func(o *setting) bool {
				return o.subject == set.subject && joinParams(o.params) == joinParams(set.params)
			})
			if i < 0 {
				continue
			}
			var of []*setting
			for _, x := range now.sets[bench] {
				of = append(of, x)
			}
			what := describeAll(set.params, variedIn(of))
			for _, metric := range metrics([]*setting{set}) {
				o, ok := before.sets[bench][i].metric(metric)
				n, okNow := set.metric(metric)
				if ok && okNow {
					c.changes = append(c.changes, change{bench, set.subject, what, metric, o, n, judge(metric, o, n)})
				}
			}
		}
	}
	for _, bench := range before.benches() {
		for _, o := range before.sets[bench] {
			if !slices.ContainsFunc(now.sets[bench], func(set *setting) bool {
				return o.subject == set.subject && joinParams(o.params) == joinParams(set.params)
			}) {
				c.missing++
			}
		}
	}
	return c
}

// variedIn are the parameters by which settings differ.
func variedIn(sets []*setting) []string {
	var params []map[string]string
	for _, set := range sets {
		params = append(params, set.params)
	}
	vary, _ := varying(params)
	return vary
}

// judge marks a change only where no round of one side lies among those of the other.
func judge(metric string, old, new spread) verdict {
	if new.low <= old.high && old.low <= new.high && min(old.rounds, new.rounds) > 1 {
		return overlap
	}
	if min(old.rounds, new.rounds) == 1 {
		return oneRound
	}
	switch sign := infoOf(metric).better; {
	case sign == 0:
		return different
	case (new.median > old.median) == (sign > 0):
		return better
	}
	return worse
}

// marked are the changes that are more than the rounds differ among themselves.
func (c comparison) marked() []change {
	var out []change
	for _, x := range c.changes {
		if x.verdict > oneRound {
			out = append(out, x)
		}
	}
	return out
}

func (c comparison) sentence() string {
	count := map[verdict]int{}
	for _, x := range c.changes {
		count[x.verdict]++
	}
	when := c.old.Started.UTC().Format(time.DateOnly)
	text := fmt.Sprintf("Of %d figures that this run shares with that of %s, %d are better and %d worse", len(c.changes), when, count[better], count[worse])
	if n := count[different]; n > 0 {
		text += fmt.Sprintf(", and %d differ that are neither", n)
	}
	text += "; only where the ranges of the rounds do not overlap is a change marked."
	if n := count[oneRound]; n > 0 {
		text += fmt.Sprintf(" Of %d there is only one round on a side, by which nothing can be told from chance.", n)
	}
	if c.missing > 0 {
		text += fmt.Sprintf(" Settings that only the earlier run had: %d.", c.missing)
	}
	return text
}

func (c comparison) table(changes []change) table {
	t := table{labels: 4, rows: [][]string{{"benchmark", "server", "setting", "metric", "old", "new", "change", ""}}}
	for _, x := range changes {
		percent := "–"
		if x.old.median > 0 {
			percent = signed((x.new.median/x.old.median-1)*100) + " %"
		}
		mark := x.verdict.String()
		u := unitOf(x.metric)
		t.rows = append(t.rows, []string{x.bench, x.subject, x.what, x.metric, x.old.cell(u), x.new.cell(u), percent, mark})
	}
	return t
}

func signed(v float64) string {
	text := fmt.Sprintf("%+.1f", v)
	if v >= 1000 {
		text = "+" + digits(v)
	}
	return strings.Replace(text, "-", "−", 1)
}
