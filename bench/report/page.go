package report

import (
	"bytes"
	_ "embed"
	"html/template"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

var (
	//go:embed page.html
	pageText string
	//go:embed page.css
	pageStyle string
	//go:embed page.js
	pageScript string
)

// pageTemplate is one file with all that it needs: it is opened from a disk, mailed and archived.
var pageTemplate = template.Must(template.New("page").Parse(pageText))

// section is a bench on the page.
type section struct {
	ID, Title, Lead string
	Constant        string
	Figures         []figureView
	Tables          []tableView
}

type figureView struct {
	What         string
	Small, First bool
	Plots        []plotView
}

type plotView struct {
	Label, Sentence string
	Keys            []keyView
	SVG             template.HTML
	Table           tableView
}

type keyView struct {
	Name   string
	Swatch template.HTML
}

type tableView struct {
	Title  string
	Labels int
	Head   []string
	Rows   [][]string
}

type changesView struct {
	Sentence      string
	Notes         []string
	Marked, Every tableView
	More          int // marked ones that are only among all
}

type pageView struct {
	Style    template.CSS
	Script   template.JS
	Title    string
	Sub      string
	Command  string
	Facts    [][2]string
	Subjects []result.Subject
	Face     []string
	Notes    []string
	Sections []section
	Changes  *changesView
}

// mostMarked is how many changes the page shows at once; all of them are in the table that opens below.
const mostMarked = 30

func renderPage(run, old *result.Run) ([]byte, error) {
	s := newStudy(run)
	v := pageView{Style: template.CSS(pageStyle), Script: template.JS(pageScript), Command: "holdfast bench " + strings.Join(run.Command, " "),
		Facts: facts(run), Subjects: run.Subjects, Face: Face(run), Notes: run.Notes}
	v.Title = "What Holdfast does"
	var others []string
	for _, sub := range run.Subjects {
		if sub.Name != "holdfast" && sub.Name != result.NullServer {
			others = append(others, strings.TrimSpace(subjectName(sub.Name)+" "+sub.Version))
		}
	}
	if len(others) > 0 {
		v.Title = "Holdfast beside " + enumerate(others)
	}
	if !run.Started.IsZero() {
		v.Sub = "Measured on " + run.Started.UTC().Format("2 January 2006")
	}
	for _, bench := range s.benches() {
		sec, err := s.section(bench)
		if err != nil {
			return nil, err
		}
		v.Sections = append(v.Sections, sec)
	}
	if old != nil {
		c := compare(old, run)
		marked := c.marked()
		shown := marked[:min(len(marked), mostMarked)]
		v.Changes = &changesView{Sentence: c.sentence(), Notes: c.notes, Marked: c.table(shown).view(), More: len(marked) - len(shown), Every: c.table(c.changes).view()}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func (s *study) section(bench string) (section, error) {
	sec := section{ID: part(bench), Title: benchTitle(bench)}
	var figures []figure
	switch bench {
	case result.Throughput:
		figures = s.throughputFigures()
	case result.Cow:
		figures = s.cowFigures()
	case result.Outage:
		figures = s.outageFigures()
	case result.Sync:
		figures = s.syncFigures()
	case result.Restart:
		figures = s.restartFigures()
	}
	shape := figure{what: "Latency by percentile, all rounds together. Each step to the right is ten times rarer.", plots: s.distributions(bench)}
	if bench == result.Throughput {
		// Beside the first; the many small ones by mix follow.
		figures = slices.Insert(figures, 1, shape)
		for i := range figures[2:] {
			figures[2+i].small = true
		}
	} else {
		figures = append(figures, shape)
	}
	before := false
	for _, f := range append(figures,
		figure{what: "p99 latency over time, of the round in the middle.", plots: s.overTime(bench, "p99-ms")},
		figure{what: "Longest wait over time, of the round in the middle.", plots: s.overTime(bench, "max-ms")}) {
		if len(f.plots) == 0 {
			continue
		}
		view := figureView{What: f.what, Small: f.small, First: f.small && !before}
		before = f.small
		for _, p := range f.plots {
			pv := plotView{Label: p.label, Sentence: unbroken(p.sentence), Table: p.table.view()}
			svg, err := p.svg()
			if err != nil {
				return sec, err
			}
			pv.SVG = template.HTML(svg)
			for _, sr := range p.series {
				pv.Keys = append(pv.Keys, keyView{sr.name, template.HTML(sr.swatch())})
			}
			view.Plots = append(view.Plots, pv)
		}
		if sec.Lead == "" {
			sec.Lead = unbroken(f.plots[0].sentence)
		}
		sec.Figures = append(sec.Figures, view)
	}
	constant, all := s.metricTables(bench)
	sec.Constant = constant
	for _, t := range all {
		v := t.view()
		v.Title = sentenceCase(v.Title)
		sec.Tables = append(sec.Tables, v)
	}
	return sec, nil
}

// measured is a figure with its unit.
var measured = regexp.MustCompile(`([0-9]) (ms|s|µs|B|[KMGT]iB|%|million|deep|times|req/s|writes/s|keys/s|MB/s)(\W|$)`)

// unbroken keeps figures and their units in one line, and the two of a pair.
func unbroken(text string) string {
	return strings.ReplaceAll(measured.ReplaceAllString(text, "$1\u00a0$2$3"), " → ", "\u00a0→\u00a0")
}

func (t table) view() tableView {
	v := tableView{Title: t.title, Labels: t.labels}
	if len(t.rows) > 0 {
		v.Head, v.Rows = t.rows[0], t.rows[1:]
	}
	return v
}
