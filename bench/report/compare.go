package report

import (
	"cmp"
	"fmt"
	"math"
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
	earlier := map[string]*setting{}
	for _, bench := range before.benches() {
		for _, set := range before.sets[bench] {
			earlier[set.key()] = set
		}
	}
	for _, bench := range now.benches() {
		vary := variedIn(now.sets[bench])
		for _, set := range now.sets[bench] {
			was := earlier[set.key()]
			if was == nil {
				continue
			}
			delete(earlier, set.key())
			what := describeAll(set.params, vary)
			for _, metric := range metrics([]*setting{set}) {
				o, ok := was.metric(metric)
				n, okNow := set.metric(metric)
				if ok && okNow {
					c.changes = append(c.changes, change{bench, set.subject, what, metric, o, n, judge(metric, o, n)})
				}
			}
		}
	}
	c.missing = len(earlier)
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

// marked are the changes that are more than the rounds differ among themselves, the largest first.
func (c comparison) marked() []change {
	var out []change
	for _, x := range c.changes {
		if x.verdict > oneRound {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b change) int { return cmp.Compare(b.size(), a.size()) })
	return out
}

// size of a change, the same for twice as much and half as much; 0 where that cannot be said, as of memory given back.
func (x change) size() float64 {
	if x.old.median <= 0 || x.new.median <= 0 {
		return 0
	}
	return math.Abs(math.Log(x.new.median / x.old.median))
}

// byChance is how probable it is that the ranges of so many rounds do not overlap although nothing has changed: of all orders in which
// the rounds of both sides can come, those in which one side is below the other.
func byChance(old, new spread) float64 {
	p := 2.0
	for i := 1; i <= new.rounds; i++ {
		p *= float64(i) / float64(old.rounds+i)
	}
	return p
}

func (c comparison) sentence() string {
	count := map[verdict]int{}
	chance := 0.0
	for _, x := range c.changes {
		count[x.verdict]++
		if x.verdict != oneRound {
			chance += byChance(x.old, x.new)
		}
	}
	when := c.old.Started.UTC().Format(time.DateOnly)
	text := fmt.Sprintf("Of %d figures that this run shares with that of %s, %d are better and %d worse", len(c.changes), when, count[better], count[worse])
	if n := count[different]; n > 0 {
		text += fmt.Sprintf(", and %d differ that are neither", n)
	}
	text += "; only where the ranges of the rounds do not overlap is a change marked."
	if chance > 0 {
		text += fmt.Sprintf(" By chance alone that would be so for about %.0f.", chance)
	}
	if n := count[oneRound]; n > 0 {
		text += fmt.Sprintf(" Of %d there is only one round on a side, by which nothing can be told from chance.", n)
	}
	if c.missing > 0 {
		text += fmt.Sprintf(" Settings that only the earlier run had: %d.", c.missing)
	}
	return text
}

func (c comparison) table(changes []change) table {
	t := table{labels: 4, rows: [][]string{{"benchmark", "server", "setting", "metric", "change", "", "old", "new"}}}
	for _, x := range changes {
		percent := "–"
		if x.old.median > 0 {
			percent = signed((x.new.median/x.old.median-1)*100) + " %"
		}
		mark := x.verdict.String()
		u := unitOf(x.metric)
		t.rows = append(t.rows, []string{x.bench, x.subject, x.what, x.metric, percent, mark, x.old.cell(u), x.new.cell(u)})
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
