package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Measures of a picture in its own units. The page shows it between 0.75 and 1.4 times that size, and sets the size of letters so
// that they can be read at either end; letterWidth is that of the largest.
const (
	width       = 420.0
	height      = 270.0
	left        = 66.0
	right       = 16.0
	top         = 26.0
	bottom      = 46.0
	rowHeight   = 44.0
	rowTrack    = 24.0 // of a row, from its top to where its marks are
	letterWidth = 7.4
)

// hits are the places that tell their value when pointed at: the names of the series, and for each place x, y, the series' index and
// the text. They are the larger part of a page, therefore without names of fields.
type hits struct {
	Series []string `json:"s"`
	Points [][4]any `json:"p"`
}

// picture collects the parts of an SVG.
type picture struct {
	b    strings.Builder
	hits hits
}

// hit adds a place of the series that was named last.
func (pic *picture) hit(x, y float64, tip string) {
	pic.hits.Points = append(pic.hits.Points, [4]any{int(math.Round(x)), int(math.Round(y)), len(pic.hits.Series) - 1, tip})
}

// singleQuoted escapes text for an attribute between single quotes, in which JSON keeps its own.
var singleQuoted = strings.NewReplacer("&", "&amp;", "'", "&#39;", "<", "&lt;", ">", "&gt;")

func (pic *picture) add(format string, args ...any) { fmt.Fprintf(&pic.b, format, args...) }

// coord writes a coordinate: tenths are enough.
func coord(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

func (pic *picture) text(x, y float64, anchor, class, text string) {
	pic.add(`<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`, coord(x), coord(y), anchor, class, html.EscapeString(text))
}

func (pic *picture) segment(class string, x1, y1, x2, y2 float64) {
	pic.add(`<line class="%s" x1="%s" y1="%s" x2="%s" y2="%s"/>`, class, coord(x1), coord(y1), coord(x2), coord(y2))
}

func (st style) class() string {
	name := "q"
	if st.colour == ink {
		name = "k"
	}
	if st.colour >= 0 {
		name = "c" + strconv.Itoa(st.colour)
	}
	if st.hollow {
		name += " h"
	}
	return name
}

// marker draws a style's shape around a place: circle, square, triangle, diamond, triangle upside down, cross.
func (st style) marker(x, y float64) string {
	d := ""
	at := func(dx, dy float64) string { return coord(x+dx) + " " + coord(y+dy) }
	switch st.shape {
	case 0:
		return fmt.Sprintf(`<circle class="m %s" cx="%s" cy="%s" r="3.9"/>`, st.class(), coord(x), coord(y))
	case 1:
		d = "M" + at(-3.5, -3.5) + "L" + at(3.5, -3.5) + "L" + at(3.5, 3.5) + "L" + at(-3.5, 3.5) + "Z"
	case 2:
		d = "M" + at(0, -4.6) + "L" + at(4.3, 3.4) + "L" + at(-4.3, 3.4) + "Z"
	case 3:
		d = "M" + at(0, -5) + "L" + at(5, 0) + "L" + at(0, 5) + "L" + at(-5, 0) + "Z"
	case 4:
		d = "M" + at(0, 4.6) + "L" + at(4.3, -3.4) + "L" + at(-4.3, -3.4) + "Z"
	default:
		return fmt.Sprintf(`<path class="x %s" d="M%sL%sM%sL%s"/>`, strings.TrimSuffix(st.class(), " h"), at(-3.4, -3.4), at(3.4, 3.4), at(-3.4, 3.4), at(3.4, -3.4))
	}
	return fmt.Sprintf(`<path class="m %s" d="%s"/>`, st.class(), d)
}

func (st style) lineClass() string {
	name, _, _ := strings.Cut(st.class(), " ")
	return fmt.Sprintf("l %s d%d", name, st.dash)
}

// swatch is the sample of a series in the legend.
func (s series) swatch() string {
	if !s.line {
		return `<svg class="key dot" viewBox="0 0 12 12" aria-hidden="true">` + s.style.marker(6, 6) + "</svg>"
	}
	out := fmt.Sprintf(`<svg class="key" viewBox="0 0 30 12" aria-hidden="true"><line class="%s" x1="0" y1="6" x2="30" y2="6"/>`, s.style.lineClass())
	if !s.bare {
		out += s.style.marker(15, 6)
	}
	return out + "</svg>"
}

// svg draws the plot.
func (p plot) svg() (string, error) {
	pic := &picture{}
	h := height
	if p.rows != nil {
		h = top + rowHeight*float64(len(p.rows)) + bottom
		pic.drawRows(p, h)
	} else {
		pic.drawCurves(p)
	}
	hits, err := json.Marshal(pic.hits)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`<svg class="plot" viewBox="0 0 %s %s" role="img" aria-label="%s" data-hits='%s'>%s</svg>`,
		coord(width), coord(h), html.EscapeString(p.sentence), singleQuoted.Replace(string(hits)), pic.b.String()), nil
}

func (p plot) extents() (xs, ys []float64) {
	for _, s := range p.series {
		for _, pt := range s.points {
			xs, ys = append(xs, pt.x), append(ys, pt.y, pt.low, pt.high)
		}
	}
	for _, r := range p.rules {
		xs = append(xs, r.x)
	}
	return xs, ys
}

func (pic *picture) drawCurves(p plot) {
	xs, ys := p.extents()
	sx := scaled(p.x, xs, left, width-right, 6)
	sy := scaled(p.y, ys, height-bottom, top, 6)
	for _, t := range sy.ticks {
		pic.segment("g", left, t.at, width-right, t.at)
		pic.text(left-7, t.at+3.6, "end", "t", t.text)
	}
	pic.segment("a", left, height-bottom, width-right, height-bottom)
	pic.text(0, 11, "start", "u", axisLabel(p.y.label, sy.log))
	pic.xTicks(sx, height-bottom)
	pic.text((left+width-right)/2, height-5, "middle", "u", axisLabel(p.x.label, sx.log))
	for _, s := range p.series {
		pic.series(s, sx, sy)
	}
	pic.rules(p.rules, sx)
}

// rules draws lines across the plot. Their labels stand at the top, the leftmost to the left of its line if there is room, the others
// below each other to the right of theirs, or to the left where the plot ends.
func (pic *picture) rules(rules []rule, sx scale) {
	sorted := slices.SortedFunc(slices.Values(rules), func(a, b rule) int { return cmp.Compare(a.x, b.x) })
	below := 0
	for i, r := range sorted {
		x, room := sx.pos(r.x), float64(utf8.RuneCountInString(r.label))*letterWidth+6
		pic.segment("r", x, top, x, height-bottom)
		anchor, dx, y := "start", 5.0, top+9+14*float64(below)
		if i == 0 && len(sorted) > 1 && x-room > left || x+room > width {
			anchor, dx = "end", -5
		} else {
			below++
		}
		pic.text(x+dx, y, anchor, "b", r.label)
	}
}

// axisLabel says that an axis is logarithmic.
func axisLabel(label string, log bool) string {
	if log {
		return label + " (log)"
	}
	return label
}

// xTicks draws ticks that do not touch each other; the last is kept rather than the one before.
func (pic *picture) xTicks(sx scale, y float64) {
	half := func(t tick) float64 { return float64(utf8.RuneCountInString(t.text))*letterWidth/2 + 4 }
	// Near the edges the text moves inwards rather than out of the picture.
	place := func(t tick) float64 { return min(max(t.at, half(t)-4), width-half(t)+4) }
	free := math.Inf(-1)
	for i, t := range sx.ticks {
		last := sx.ticks[len(sx.ticks)-1]
		from, to := place(t)-half(t), place(t)+half(t)
		if from < free || i < len(sx.ticks)-1 && to > place(last)-half(last) {
			pic.segment("a", t.at, y, t.at, y+3)
			continue
		}
		free = to
		pic.segment("a", t.at, y, t.at, y+5)
		pic.text(place(t), y+19, "middle", "t", t.text)
	}
}

func (pic *picture) series(s series, sx, sy scale) {
	pic.hits.Series = append(pic.hits.Series, s.name)
	if s.line && len(s.points) > 1 {
		var path []string
		for _, pt := range s.points {
			path = append(path, coord(sx.pos(pt.x))+","+coord(sy.pos(pt.y)))
		}
		pic.add(`<polyline class="%s" points="%s"/>`, s.style.lineClass(), strings.Join(path, " "))
	}
	for i, pt := range s.points {
		x, y := sx.pos(pt.x), sy.pos(pt.y)
		pic.hit(x, y, pt.tip)
		if s.bare || s.sparse && i%max(len(s.points)/6, 1) != 0 {
			continue
		}
		if pt.low != pt.high {
			pic.segment("w "+strings.TrimSuffix(s.style.class(), " h"), x, sy.pos(pt.low), x, sy.pos(pt.high))
		}
		pic.add("%s", s.style.marker(x, y))
	}
}

func (pic *picture) drawRows(p plot, h float64) {
	const inset = 8.0
	xs := []float64{}
	for _, s := range p.series {
		for _, pt := range s.points {
			xs = append(xs, pt.x, pt.low, pt.high)
		}
	}
	for _, r := range p.rules {
		xs = append(xs, r.x)
	}
	sx := scaled(p.x, xs, inset, width-right, 6)
	foot := top + rowHeight*float64(len(p.rows))
	for _, t := range sx.ticks {
		pic.segment("g", t.at, top-8, t.at, foot)
	}
	pic.segment("a", inset, foot, width-right, foot)
	pic.xTicks(sx, foot)
	pic.text(width/2, h-5, "middle", "u", axisLabel(p.x.label, sx.log))
	for _, r := range p.rules {
		pic.segment("r", sx.pos(r.x), top-8, sx.pos(r.x), foot)
		if r.label != "" {
			pic.text(min(max(sx.pos(r.x), 30), width-40), top-13, "middle", "b", r.label)
		}
	}
	for i, name := range p.rows {
		y := top + rowHeight*float64(i)
		pic.segment("g", inset, y+rowTrack, width-right, y+rowTrack)
		pic.text(inset, y+rowTrack-11, "start", "t n", name)
	}
	for _, s := range p.series {
		pic.hits.Series = append(pic.hits.Series, s.name)
		for _, pt := range s.points {
			x, y := sx.pos(pt.x), top+rowHeight*pt.y+rowTrack
			st := s.style
			if s.byRow != nil {
				st.colour = s.byRow[int(pt.y)]
			}
			if pt.low != pt.high {
				pic.segment("w "+strings.TrimSuffix(st.class(), " h"), sx.pos(pt.low), y, sx.pos(pt.high), y)
			}
			pic.add("%s", st.marker(x, y))
			pic.hit(x, y, pt.tip)
		}
	}
}
