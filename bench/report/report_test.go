package report

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench/result"
)

var (
	keepPage = flag.String("page", "", "`directory` in which the page of the sample run is left, to be looked at")
	update   = flag.Bool("update", false, "write the golden files anew")
)

func TestWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "results")
	if *keepPage != "" {
		dir = *keepPage
	}
	run := sampleRun(3, 1.2)
	require.NoError(t, Write(dir, run, sampleRun(2, 1.05)))
	for _, name := range []string{ResultsFile, BenchstatFile, TablesFile, PageFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.NotEmpty(t, b)
		require.NotContains(t, string(b), "NaN", name)
	}
	again, err := result.Read(filepath.Join(dir, ResultsFile))
	require.NoError(t, err)
	require.Equal(t, run, again)
}

func TestWriteSaysWhereItCannot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, Write(filepath.Join(file, "below"), sampleRun(1, 1), nil))
}

// node is an element of a page.
type node struct {
	name  string
	attr  map[string]string
	own   string // of a text
	under []*node
}

func (n *node) text() string {
	var b strings.Builder
	for _, c := range n.find(func(c *node) bool { return c.own != "" }) {
		b.WriteString(c.own)
	}
	return b.String()
}

func (n *node) find(match func(*node) bool) []*node {
	var out []*node
	if match(n) {
		out = append(out, n)
	}
	for _, c := range n.under {
		out = append(out, c.find(match)...)
	}
	return out
}

var rawText = regexp.MustCompile(`(?s)<(style|script)>.*?</(style|script)>`)

// parse reads a page and requires that each element that must be is closed, in order.
func parse(t *testing.T, page []byte) *node {
	d := xml.NewDecoder(strings.NewReader(string(rawText.ReplaceAll(page, nil))))
	d.Strict, d.AutoClose, d.Entity = false, []string{"meta", "br"}, xml.HTMLEntity
	root := &node{}
	open := []*node{root}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		top := open[len(open)-1]
		switch x := token.(type) {
		case xml.StartElement:
			n := &node{name: x.Name.Local, attr: map[string]string{}}
			for _, a := range x.Attr {
				n.attr[a.Name.Local] = a.Value
			}
			top.under = append(top.under, n)
			open = append(open, n)
		case xml.EndElement:
			require.Equal(t, top.name, x.Name.Local)
			open = open[:len(open)-1]
		case xml.CharData:
			top.under = append(top.under, &node{own: string(x)})
		}
	}
	require.Len(t, open, 1, "an element is not closed")
	return root
}

func isPlot(n *node) bool { return n.name == "svg" && n.attr["class"] == "plot" }

func sections(root *node) map[string]*node {
	out := map[string]*node{}
	for _, n := range root.find(func(n *node) bool { return n.name == "section" && n.attr["id"] != "" }) {
		out[n.attr["id"]] = n
	}
	return out
}

func TestPageIsSelfContained(t *testing.T) {
	page, err := renderPage(sampleRun(2, 1.2), sampleRun(2, 1))
	require.NoError(t, err)
	for _, forbidden := range []string{"http:", "https:", "//www", "src=", "<link", "@import", "url(", "fetch(", "XMLHttpRequest", "<iframe"} {
		require.NotContains(t, string(page), forbidden)
	}
	root := parse(t, page)
	for _, a := range root.find(func(n *node) bool { return n.attr["href"] != "" }) {
		require.Regexp(t, `^#`, a.attr["href"])
	}
	require.Contains(t, string(page), "prefers-color-scheme: dark")
	require.Contains(t, string(page), `content="width=device-width, initial-scale=1"`)
}

func TestPageHasPlotsForEachBenchWithPoints(t *testing.T) {
	full := sampleRun(2, 1.2)
	all := []string{result.Throughput, result.Cow, result.Outage, result.Sync, result.Restart}
	least := map[string]int{result.Throughput: 10, result.Cow: 16, result.Outage: 4, result.Sync: 6, result.Restart: 1}
	for _, without := range append([]string{""}, all...) {
		run := *full
		run.Points = slices.DeleteFunc(slices.Clone(full.Points), func(p result.Point) bool { return p.Bench == without })
		page, err := renderPage(&run, nil)
		require.NoError(t, err)
		found := sections(parse(t, page))
		for _, bench := range all {
			if bench == without {
				require.NotContains(t, found, bench)
				continue
			}
			plots := found[bench].find(isPlot)
			require.GreaterOrEqual(t, len(plots), least[bench], bench)
		}
		require.NotContains(t, found, "changes")
	}
}

// Each plot has a sentence, labelled axes, a legend that tells its series by more than colour, and its figures in a table.
func TestPlotsAreComplete(t *testing.T) {
	for name, run := range map[string]*result.Run{"two servers": sampleRun(3, 1.2), "three servers": withThird(sampleRun(2, 1.2))} {
		t.Run(name, func(t *testing.T) { requireComplete(t, run) })
	}
}

// withThird adds a server that does as redis does.
func withThird(run *result.Run) *result.Run {
	run.Subjects = append(run.Subjects, result.Subject{Name: "valkey", Kind: "valkey", Version: "8"})
	for _, p := range slices.Clone(run.Points) {
		if p.Subject == "redis" {
			p.Subject = "valkey"
			run.Points = append(run.Points, p)
		}
	}
	return run
}

func requireComplete(t *testing.T, run *result.Run) {
	page, err := renderPage(run, nil)
	require.NoError(t, err)
	class := func(name string) func(*node) bool { return func(n *node) bool { return n.attr["class"] == name } }
	element := func(name string) func(*node) bool { return func(n *node) bool { return n.name == name } }
	for _, f := range parse(t, page).find(element("figure")) {
		sentence := f.find(element("figcaption"))[0].text()
		require.Regexp(t, `[0-9].*\.$`, sentence)
		plots := f.find(isPlot)
		require.Len(t, plots, 1, sentence)
		require.NotEmpty(t, plots[0].attr["aria-label"])
		require.NotEmpty(t, plots[0].find(class("u")), sentence)
		require.GreaterOrEqual(t, len(plots[0].find(class("t"))), 3, sentence)
		require.NotRegexp(t, `Inf|NaN`, sentence)
		keys := map[string]bool{}
		shapes := map[string]bool{}
		for _, li := range f.find(element("li")) {
			require.False(t, keys[li.text()], "two series are named %q: %s", li.text(), sentence)
			keys[li.text()] = true
			shape := ""
			for _, n := range li.find(func(n *node) bool { return n.name == "line" || n.name == "path" || n.name == "circle" }) {
				c := regexp.MustCompile(`\b(c[0-9]|q|k)\b`).ReplaceAllString(n.attr["class"], "")
				shape += fmt.Sprint(n.name, c, n.attr["d"])
			}
			require.False(t, shapes[shape], "%q is told from another by its colour only: %s", li.text(), sentence)
			shapes[shape] = true
		}
		require.NotEmpty(t, keys)
		rows := f.find(element("tr"))
		require.GreaterOrEqual(t, len(rows), 2, sentence)
		for _, svgText := range plots[0].find(element("text")) {
			require.NotRegexp(t, `NaN|Inf|e\+`, svgText.text())
		}
	}
}

func TestPageEscapesWhatOthersNamed(t *testing.T) {
	run := sampleRun(1, 1)
	evil := `<script>alert(1)</script>"'&`
	run.Subjects[0].Version, run.Subjects[1].Name = evil, evil
	for i := range run.Points {
		if run.Points[i].Subject == "holdfast" {
			run.Points[i].Subject = evil
		}
		run.Points[i].Params = maps.Clone(run.Points[i].Params)
		if run.Points[i].Params["mix"] == "get" {
			run.Points[i].Params["mix"] = evil
		}
	}
	run.Notes = append(run.Notes, evil)
	page, err := renderPage(run, run)
	require.NoError(t, err)
	parse(t, page)
	require.NotContains(t, strings.ToLower(string(page)), "<script>alert")
	require.Equal(t, 1, strings.Count(string(page), "<script>"))
}

// Whatever is missing, the page is made: points, metrics, parameters, subjects and rounds are taken away at random.
func TestPageOfWhateverIsThere(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			run := sampleRun(1+rng.IntN(2), 1)
			keep := []float64{0.02, 0.3, 0.9}[rng.IntN(3)]
			run.Points = slices.DeleteFunc(run.Points, func(result.Point) bool { return rng.Float64() > keep })
			for i := range run.Points {
				p := &run.Points[i]
				p.Params = maps.Clone(p.Params)
				maps.DeleteFunc(p.Params, func(string, string) bool { return rng.IntN(20) == 0 })
				for _, m := range slices.Sorted(maps.Keys(p.Metrics)) {
					switch rng.IntN(8) {
					case 0:
						delete(p.Metrics, m)
					case 1:
						p.Metrics[m] = 0
					case 2:
						p.Metrics[m] = -p.Metrics[m]
					}
				}
			}
			if rng.IntN(4) == 0 {
				run.Subjects = nil
			}
			if rng.IntN(4) == 0 {
				run.Machine, run.Started, run.Ended = result.Machine{}, time.Time{}, time.Time{}
			}
			page, err := renderPage(run, sampleRun(1, 2))
			require.NoError(t, err)
			parse(t, page)
			text := rawText.ReplaceAllString(string(page), "")
			require.NotRegexp(t, `NaN|[-+]Inf\b|%!`, text)
			require.NotContains(t, string(tables(run, nil)), "%!")
			require.NotContains(t, string(benchstat(run)), "NaN")
		})
	}
}

func TestEmptyRun(t *testing.T) {
	require.NoError(t, Write(t.TempDir(), &result.Run{Version: result.Version}, nil))
}

// small is a part of the sample that a person can check by hand.
func small(rounds int, faster float64) *result.Run {
	run := sampleRun(rounds, faster)
	run.Points = slices.DeleteFunc(run.Points, func(p result.Point) bool {
		switch p.Bench {
		case result.Throughput:
			return p.Params["mix"] != "get" || p.Params["pipeline"] != "1" && p.Params["pipeline"] != "16"
		case result.Cow:
			return p.Params["value"] != "100" || p.Params["keys"] != "1000000" || p.Params["dist"] != "uniform" || p.Params["rate"] == "5000"
		case result.Restart:
			return p.Params["keys"] == "1000000"
		}
		return true
	})
	return run
}

func TestGolden(t *testing.T) {
	run := small(3, 1.2)
	for name, got := range map[string][]byte{"benchstat.txt": benchstat(run), "tables.md": tables(run, nil), "compare.md": tables(run, small(2, 1))} {
		path := filepath.Join("testdata", name)
		if *update {
			require.NoError(t, os.WriteFile(path, got, 0o644))
		}
		want, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got), "%s; go test ./bench/report -update writes it anew", path)
	}
}

// Each line of benchstat's file is what its parser takes: a name without spaces that begins with Benchmark and a capital, a count,
// and pairs of value and unit.
func TestBenchstatFormat(t *testing.T) {
	line := regexp.MustCompile(`^Benchmark[A-Z][^ ]* [1-9][0-9]*( -?[0-9.e+-]+ [^ ]+)+$`)
	config := regexp.MustCompile(`^[a-z][^ A-Z]*: .+$|^Unit [^ ]+ better=(higher|lower)$`)
	seen := 0
	run := sampleRun(1, 1)
	run.Points[0].Params = map[string]string{"mix": "a/b c=d\ne", "x": ""}
	for text := range strings.Lines(string(benchstat(run))) {
		text = strings.TrimSuffix(text, "\n")
		if strings.HasPrefix(text, "Benchmark") {
			require.Regexp(t, line, text)
			seen++
			continue
		}
		require.Regexp(t, config, text)
	}
	require.Equal(t, len(run.Points), seen)
}
