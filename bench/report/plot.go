package report

import (
	"math"
	"slices"
)

// plot is one diagram: curves over an axis, or, with rows, marks along lines that each have a name.
type plot struct {
	label    string // tells it from the other plots of its figure
	of       string // the parameters of its group, joined
	sentence string // what it shows, computed
	x, y     axis
	rows     []string // names of the rows from the top; y is then the row's index
	series   []series
	rules    []rule
	table    table
}

// figure is a place on the page: a plot, or several of which the reader chooses one.
type figure struct {
	what  string // what is plotted, and how to read it
	small bool   // one of many alike
	plots []plot
}

type axis struct {
	label      string
	unit       unit
	log        bool
	zero       bool      // a linear axis that begins at 0
	ticks      []float64 // where given, these and no others
	names      []string  // of the ticks, where they are not numbers
	fromSpread bool      // log if the values are far apart
}

type series struct {
	name   string
	style  style
	points []point
	line   bool
	sparse bool  // many points: a marker on some only
	byRow  []int // colours of the points of each row, where a row is a subject's and the series is not
	bare   bool  // no markers at all, for estimates drawn beside what was measured
}

type point struct {
	x, y      float64
	low, high float64 // equal where there is no range
	tip       string  // what it is, without the series' name
	at        string  // the parameter that x stands for
}

// rule is a line across the plot at a value of x.
type rule struct {
	x     float64
	label string
}

// style tells a series from others by more than its colour.
type style struct {
	colour int // index of the palette, or quiet or ink
	shape  int // of the marker
	dash   int
	hollow bool
}

// Colours of what belongs to no subject.
const (
	quiet = -1
	ink   = -2
)

// style gives a subject the same colour and marker in all plots, and a variant the same dash.
func (s *study) style(subject string, variant int) style {
	st := style{colour: quiet, shape: 5, dash: variant % 4, hollow: variant%2 == 1}
	if subject == "null" {
		st.dash = 2
		return st
	}
	switch subject {
	case "holdfast":
		st.colour, st.shape = 0, 0
		return st
	case s.base:
		st.colour, st.shape = 1, 1
		return st
	}
	n := 2
	for _, sub := range s.run.Subjects {
		if sub.Name == subject {
			break
		}
		if sub.Name != "holdfast" && sub.Name != s.base && sub.Name != "null" {
			n++
		}
	}
	st.colour, st.shape = 2+(n-2)%4, 2+(n-2)%4
	return st
}

// empty says that there is nothing to draw.
func (p plot) empty() bool {
	return !slices.ContainsFunc(p.series, func(s series) bool { return len(s.points) > 0 })
}

// scale maps values to the picture.
type scale struct {
	lo, hi   float64
	from, to float64 // where lo and hi are
	log      bool
	floor    float64 // on a log axis, where all that is not above 0 goes; used if below
	below    bool
	ticks    []tick
}

type tick struct {
	at, value float64
	text      string
}

// farApart is from where on values are put on a logarithmic axis: beyond, the small ones could not be told from 0.
const farApart = 25

// scaled makes the scale of an axis for values; room is how many ticks fit.
func scaled(a axis, values []float64, from, to float64, room int) scale {
	sc := scale{from: from, to: to, log: a.log}
	lo, hi, least := math.Inf(1), math.Inf(-1), math.Inf(1)
	for _, v := range values {
		lo, hi = min(lo, v), max(hi, v)
		if v > 0 {
			least = min(least, v)
		}
	}
	if len(values) == 0 {
		lo, hi = 0, 1
	}
	if a.fromSpread {
		sc.log = hi > 0 && !math.IsInf(least, 1) && hi/least >= farApart
	}
	if sc.log && (hi <= 0 || math.IsInf(least, 1)) {
		sc.log = false
	}
	if a.ticks != nil {
		pad := 0.0
		if !sc.log {
			pad = (hi - lo) * 0.04
			if hi == lo {
				pad = 1
			}
			sc.lo, sc.hi = lo-pad, hi+pad
		} else {
			sc.lo, sc.hi, sc.below = least/math.Pow(hi/least, 0.04), hi*math.Pow(hi/least, 0.04), lo <= 0
			if hi == least {
				sc.lo, sc.hi = least/2, hi*2
			}
		}
		sc.settle()
		for i, v := range a.ticks {
			text := a.unit.tick(v)
			if i < len(a.names) {
				text = a.names[i]
			}
			sc.ticks = append(sc.ticks, tick{sc.pos(v), v, text})
		}
		return sc
	}
	if sc.log {
		sc.below = lo <= 0
		sc.lo, sc.hi = niceBelow(least, a.unit), niceAbove(hi, a.unit)
		if sc.lo == sc.hi {
			sc.hi = niceAbove(hi*1.01, a.unit)
		}
		sc.settle()
		for _, v := range logTicks(sc.lo, sc.hi, a.unit, room+1) {
			sc.ticks = append(sc.ticks, tick{sc.pos(v), v, a.unit.tick(v)})
		}
		if sc.below {
			sc.ticks = append([]tick{{sc.floor, 0, "≤ 0"}}, sc.ticks...)
		}
		return sc
	}
	lo = min(lo, 0)
	if hi <= lo {
		hi = lo + 1
	}
	step := niceStep((hi-lo)/float64(room), a.unit, hi)
	sc.lo, sc.hi = math.Floor(lo/step+1e-9)*step, math.Ceil(hi/step-1e-9)*step
	sc.settle()
	for i := math.Round(sc.lo / step); i <= math.Round(sc.hi/step); i++ {
		sc.ticks = append(sc.ticks, tick{sc.pos(i * step), i * step, a.unit.tick(i * step)})
	}
	return sc
}

// settle makes room at the low end for what a log axis cannot have.
func (sc *scale) settle() {
	if sc.below {
		sc.floor = sc.from
		sc.from += math.Copysign(20, sc.to-sc.from)
	}
}

func (sc scale) pos(v float64) float64 {
	if sc.log {
		if v <= 0 {
			return sc.floor
		}
		return sc.from + (math.Log(v)-math.Log(sc.lo))/(math.Log(sc.hi)-math.Log(sc.lo))*(sc.to-sc.from)
	}
	return sc.from + (v-sc.lo)/(sc.hi-sc.lo)*(sc.to-sc.from)
}

// unitBase is the power of 1024 that bytes of this size are written in, so that ticks are whole in that unit.
func unitBase(v float64, u unit) float64 {
	base := 1.0
	if u == bytesUnit {
		for base*1024 <= math.Abs(v) && base < 1<<40 {
			base *= 1024
		}
	}
	return base
}

// niceStep is the least of 1, 2, 5 times a power of ten that is not below v.
func niceStep(v float64, u unit, largest float64) float64 {
	base := unitBase(largest, u)
	v /= base
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*power >= v*(1-1e-9) {
			return carried(m*power*base, u)
		}
	}
	return v * base
}

// niceAbove and niceBelow are the next values that a log axis may begin or end with.
func niceAbove(v float64, u unit) float64 {
	base := unitBase(v, u)
	power := math.Pow(10, math.Floor(math.Log10(v/base)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*power*base >= v*(1-1e-9) {
			return carried(m*power*base, u)
		}
	}
	return v
}

// carried turns 1000 KiB into 1 MiB.
func carried(v float64, u unit) float64 {
	if base := unitBase(v, u); u == bytesUnit && v/base > 999 {
		return base * 1024
	}
	return v
}

func niceBelow(v float64, u unit) float64 {
	base := unitBase(v, u)
	power := math.Pow(10, math.Floor(math.Log10(v/base)))
	for _, m := range []float64{5, 2, 1} {
		if m*power*base <= v*(1+1e-9) {
			return m * power * base
		}
	}
	return v
}

// logTicks are at most room values between lo and hi that are easily read.
func logTicks(lo, hi float64, u unit, room int) []float64 {
	var all []float64
	for v := lo; v <= hi*(1+1e-9); v = niceAbove(v*1.01, u) {
		all = append(all, v)
	}
	if len(all) <= room {
		return all
	}
	// Decades only; bytes have them within each of their units.
	var decades []float64
	for _, v := range all {
		m := v / unitBase(v, u)
		if l := math.Log10(m); math.Abs(l-math.Round(l)) < 1e-9 {
			decades = append(decades, v)
		}
	}
	for len(decades) > room {
		var half []float64
		for i := 0; i < len(decades); i += 2 {
			half = append(half, decades[i])
		}
		decades = half
	}
	if len(decades) < 2 {
		return []float64{all[0], all[len(all)-1]}
	}
	return decades
}
