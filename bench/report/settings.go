package report

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// paramOrder is the order in which parameters are named; others follow by the alphabet.
var paramOrder = []string{"mix", "dist", "value", "keys", "conns", "pipeline", "rate", "loop", "policy", "peer", "load", "how", "bytes", "overwrite", "choice"}

// setting is what was measured of a subject with certain parameters, in all rounds.
type setting struct {
	bench, subject string
	params         map[string]string
	points         []*result.Point // by round
}

// key is equal for settings that are the same, of whichever run.
func (set *setting) key() string {
	return set.bench + "\x00" + set.subject + "\x00" + joinParams(set.params)
}

// study is a run with what all ways of showing it need.
type study struct {
	run  *result.Run
	sets map[string][]*setting     // by bench, in the order of the parameters
	rank map[string]map[string]int // of a parameter's values that are no numbers: the order in which the run first had them
	base string                    // the subject that others are compared to; "" = none
}

func newStudy(run *result.Run) *study {
	s := &study{run: run, sets: map[string][]*setting{}, rank: map[string]map[string]int{}}
	for _, sub := range run.Subjects {
		if sub.Kind == "redis" {
			s.base = sub.Name
			break
		}
	}
	byName := map[string]*setting{}
	for i := range run.Points {
		p := &run.Points[i]
		for k, v := range p.Params {
			if s.rank[k] == nil {
				s.rank[k] = map[string]int{}
			}
			if _, ok := s.rank[k][v]; !ok {
				s.rank[k][v] = len(s.rank[k])
			}
		}
		like := &setting{bench: p.Bench, subject: p.Subject, params: p.Params}
		set := byName[like.key()]
		if set == nil {
			set = like
			byName[set.key()] = set
			s.sets[p.Bench] = append(s.sets[p.Bench], set)
		}
		set.points = append(set.points, p)
	}
	for _, sets := range s.sets {
		for _, set := range sets {
			slices.SortStableFunc(set.points, func(a, b *result.Point) int { return cmp.Compare(a.Round, b.Round) })
		}
		slices.SortStableFunc(sets, func(a, b *setting) int {
			return cmp.Or(s.compareParams(a.params, b.params), cmp.Compare(s.subjectRank(a.subject), s.subjectRank(b.subject)))
		})
	}
	return s
}

// benches are those that have points: the known ones in the order of their constants, then others in the order of the run.
func (s *study) benches() []string {
	var names []string
	for _, b := range []string{result.Throughput, result.Cow, result.Outage, result.Sync, result.Restart} {
		if len(s.sets[b]) > 0 {
			names = append(names, b)
		}
	}
	for i := range s.run.Points {
		if b := s.run.Points[i].Bench; !slices.Contains(names, b) {
			names = append(names, b)
		}
	}
	return names
}

// subjectRank orders subjects as the run does, those that it does not list behind, the null server last.
func (s *study) subjectRank(name string) int {
	if name == result.NullServer {
		return len(s.run.Subjects) + 1
	}
	if i := slices.IndexFunc(s.run.Subjects, func(x result.Subject) bool { return x.Name == name }); i >= 0 {
		return i
	}
	return len(s.run.Subjects)
}

// subjects of a bench in the order in which they are shown.
func (s *study) subjects(bench string) []string {
	var names []string
	for _, set := range s.sets[bench] {
		if !slices.Contains(names, set.subject) {
			names = append(names, set.subject)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(s.subjectRank(a), s.subjectRank(b)) })
	return names
}

// compareValues orders two values of a parameter: by size where both are numbers, else as the run first had them.
func (s *study) compareValues(param, a, b string) int {
	x, okA := numeric(param, a)
	y, okB := numeric(param, b)
	if okA && okB {
		return cmp.Compare(x, y)
	}
	return cmp.Or(cmp.Compare(slices.Index(wordOrder, a), slices.Index(wordOrder, b)), cmp.Compare(s.rank[param][a], s.rank[param][b]))
}

// wordOrder has values that are words and have an order of their own: from even to skewed, from idle to busy. Numbers come before them.
var wordOrder = []string{"uniform", "zipf", "hotspot", "none", "full", "always", "everysec", "no", "own", "sigterm", "kill9", "cut", "kill", "replay", "snapshot", "auto", "max"}

func (s *study) compareParams(a, b map[string]string) int {
	for _, k := range paramNames(a, b) {
		va, okA := a[k]
		vb, okB := b[k]
		switch {
		case okA && !okB:
			return 1
		case !okA && okB:
			return -1
		case va != vb:
			if c := s.compareValues(k, va, vb); c != 0 {
				return c
			}
		}
	}
	return 0
}

// paramNames are the names in any of the sets, in the order in which they are shown.
func paramNames(sets ...map[string]string) []string {
	var names []string
	for _, set := range sets {
		for k := range set {
			if !slices.Contains(names, k) {
				names = append(names, k)
			}
		}
	}
	place := func(k string) int {
		if i := slices.Index(paramOrder, k); i >= 0 {
			return i
		}
		return len(paramOrder)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b)) })
	return names
}

// joinParams is a name that equal sets of parameters share.
func joinParams(params map[string]string) string {
	var parts []string
	for _, k := range paramNames(params) {
		parts = append(parts, k+"="+params[k])
	}
	return strings.Join(parts, "\x00")
}

// numeric reads a parameter's value as a number. 1k is 1024 of bytes and 1000 of everything else.
func numeric(param, value string) (float64, bool) {
	if v, err := strconv.ParseFloat(value, 64); err == nil {
		return v, true
	}
	text := strings.TrimSuffix(strings.ToLower(value), "b")
	if text == "" {
		return 0, false
	}
	power := strings.IndexByte("kmg", text[len(text)-1]) + 1
	v, err := strconv.ParseFloat(text[:len(text)-1], 64)
	if power == 0 || err != nil {
		return 0, false
	}
	base := 1000.0
	if param == "bytes" || param == "value" {
		base = 1024
	}
	for range power {
		v *= base
	}
	return v, true
}

// spread is a metric over the rounds.
type spread struct {
	median, low, high float64
	rounds            int
}

// spreadOf is false for an empty list.
func spreadOf(v []float64) (spread, bool) {
	if len(v) == 0 {
		return spread{}, false
	}
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return spread{median: (s[(n-1)/2] + s[n/2]) / 2, low: s[0], high: s[n-1], rounds: n}, true
}

func (set *setting) metric(name string) (spread, bool) {
	if set == nil {
		return spread{}, false
	}
	var v []float64
	for _, p := range set.points {
		if x, ok := p.Metrics[name]; ok {
			v = append(v, x)
		}
	}
	return spreadOf(v)
}

// times is a metric as a multiple of the base's, taken within each round that both have. Where the base's is not above 0 there is none.
func (set *setting) times(base *setting, name string) (spread, bool) {
	if set == nil || base == nil {
		return spread{}, false
	}
	var v []float64
	for _, p := range set.points {
		x, ok := p.Metrics[name]
		i := slices.IndexFunc(base.points, func(o *result.Point) bool { return o.Round == p.Round })
		if !ok || i < 0 {
			continue
		}
		if y, ok := base.points[i].Metrics[name]; ok && y > 0 {
			v = append(v, x/y)
		}
	}
	return spreadOf(v)
}

// metrics are the names that any of the settings has, in the order in which they are shown.
func metrics(sets []*setting) []string {
	names := map[string]bool{}
	for _, set := range sets {
		for _, p := range set.points {
			for m := range p.Metrics {
				names[m] = true
			}
		}
	}
	return slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(metricPlace(a), metricPlace(b)), cmp.Compare(a, b))
	})
}

// row is what the subjects did with the same parameters.
type row struct {
	params map[string]string
	cells  map[string]*setting // by subject
}

// rows puts the subjects beside each other. A setting that lacks parameters which others have stands for all their values: the null
// server has no fsync policy and belongs to each.
func rows(sets []*setting) []*row {
	var out []*row
	byName := map[string]*row{}
	var partial []*setting
	for _, set := range sets {
		name := joinParams(set.params)
		if byName[name] == nil && slices.ContainsFunc(sets, func(o *setting) bool { return o.subject != set.subject && within(set.params, o.params) }) {
			partial = append(partial, set)
			continue
		}
		r := byName[name]
		if r == nil {
			r = &row{params: set.params, cells: map[string]*setting{}}
			byName[name] = r
			out = append(out, r)
		}
		r.cells[set.subject] = set
	}
	for _, set := range partial {
		for _, r := range out {
			if r.cells[set.subject] == nil && (within(set.params, r.params) || joinParams(set.params) == joinParams(r.params)) {
				r.cells[set.subject] = set
			}
		}
	}
	return out
}

// within says that all of a is in b, and b has more.
func within(a, b map[string]string) bool {
	if len(a) >= len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// varying are the parameters that are not the same, or not there, in all sets; constant are the others.
func varying(sets []map[string]string) (vary, constant []string) {
	for _, k := range paramNames(sets...) {
		first, same := sets[0][k], true
		for _, p := range sets {
			v, ok := p[k]
			same = same && ok && v == first
		}
		if same {
			constant = append(constant, k)
		} else {
			vary = append(vary, k)
		}
	}
	return vary, constant
}
