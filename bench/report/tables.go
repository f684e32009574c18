package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// table is rows of cells, the first the head. The first labels columns are text, the others figures.
type table struct {
	title  string
	labels int
	rows   [][]string
}

// metricTables puts the subjects of a bench side by side: a table for each metric, a row for each combination of parameters. The
// sentence says the parameters that are the same in all rows.
func (s *study) metricTables(bench string) (constant string, out []table) {
	sets := s.sets[bench]
	all := rows(sets)
	var params []map[string]string
	for _, r := range all {
		params = append(params, r.params)
	}
	vary, same := varying(params)
	if len(same) > 0 {
		constant = "In all: " + describeAll(params[0], same) + "."
	}
	subjects := s.subjects(bench)
	for _, metric := range metrics(sets) {
		t := table{title: infoOf(metric).title, labels: len(vary)}
		head := []string{}
		for _, k := range vary {
			head = append(head, paramTitle(k))
		}
		for _, sub := range subjects {
			head = append(head, subjectName(sub))
		}
		against := s.compared(bench, metric)
		for _, sub := range against {
			head = append(head, subjectName(sub)+" ÷ "+subjectName(s.base))
		}
		t.rows = append(t.rows, head)
		for _, r := range all {
			line, some := []string{}, false
			for _, k := range vary {
				line = append(line, r.params[k])
			}
			for _, sub := range subjects {
				v, ok := r.cells[sub].metric(metric)
				some = some || ok
				line = append(line, cellOr(ok, v.cell(unitOf(metric))))
			}
			for _, sub := range against {
				v, ok := r.cells[sub].times(r.cells[s.base], metric)
				line = append(line, cellOr(ok, ratioCell(v)))
			}
			if some {
				t.rows = append(t.rows, line)
			}
		}
		out = append(out, t)
	}
	return constant, out
}

// compared are the subjects of which a metric's ratio to the base says something.
func (s *study) compared(bench, metric string) []string {
	subjects := s.subjects(bench)
	if !slices.Contains(subjects, s.base) || infoOf(metric).better == 0 {
		return nil
	}
	return slices.DeleteFunc(subjects, func(sub string) bool { return sub == s.base || sub == result.NullServer })
}

func cellOr(ok bool, text string) string {
	if !ok {
		return ""
	}
	return text
}

func ratioCell(v spread) string {
	if v.rounds == 1 || v.low == v.high {
		return ratio(v.median)
	}
	return fmt.Sprintf("%s (%s–%s)", ratio(v.median), ratio(v.low), ratio(v.high))
}

func ratio(v float64) string {
	if v >= 10 || v <= -10 || v != 0 && v < 0.1 && v > -0.1 {
		return digits(v)
	}
	return minus(fmt.Sprintf("%.2f", v))
}

// facts are the machine and the run, a fact a line: what, and the text.
func facts(run *result.Run) [][2]string {
	m := run.Machine
	var out [][2]string
	add := func(what, text string) {
		if text != "" {
			out = append(out, [2]string{what, text})
		}
	}
	if !run.Started.IsZero() {
		text := run.Started.UTC().Format("2006-01-02 15:04 MST")
		if run.Ended.After(run.Started) {
			text += ", for " + run.Ended.Sub(run.Started).Round(time.Second).String()
		}
		add("When", text)
	}
	var machine []string
	if m.Cores > 0 {
		machine = append(machine, fmt.Sprintf("%d%s", m.Cores, plural(fmt.Sprint(m.Cores), " core")))
	}
	if m.CPU != "" {
		machine = append(machine, m.CPU)
	}
	if m.MemoryBytes > 0 {
		machine = append(machine, byteSize(float64(m.MemoryBytes))+" memory")
	}
	add("Machine", strings.Join(machine, ", "))
	add("Load before", fmt.Sprintf("%.2f, %.2f, %.2f (1, 5, 15 minutes)", m.LoadAverage[0], m.LoadAverage[1], m.LoadAverage[2]))
	add("System", strings.Join(slices.DeleteFunc([]string{m.Kernel, m.Go}, func(s string) bool { return s == "" }), ", "))
	disk := m.Disk
	if m.FsyncP50 > 0 {
		if disk != "" {
			disk += "; "
		}
		disk += fmt.Sprintf("fsync of 4 KiB: p50 %s, p99 %s", millisUnit.show(m.FsyncP50*1e3), millisUnit.show(m.FsyncP99*1e3))
	}
	add("Disk", disk)
	return out
}

// tables are the run in Markdown, a section for each bench.
func tables(run, old *result.Run) []byte {
	s := newStudy(run)
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What was measured\n\n    holdfast bench %s\n\n", strings.Join(run.Command, " "))
	for _, f := range facts(run) {
		fmt.Fprintf(&b, "* %s: %s\n", f[0], f[1])
	}
	for _, sub := range run.Subjects {
		fmt.Fprintf(&b, "* %s: %s %s, `%s`\n", sub.Name, sub.Kind, sub.Version, sub.Command)
	}
	b.WriteByte('\n')
	for _, text := range Face(run) {
		fmt.Fprintf(&b, "**%s**\n\n", text)
	}
	for _, text := range run.Notes {
		fmt.Fprintf(&b, "%s\n\n", text)
	}
	b.WriteString("Medians of the rounds with the lowest and the highest. Ratios are taken within a round.\n\n")
	for _, bench := range s.benches() {
		fmt.Fprintf(&b, "## %s\n\n", benchTitle(bench))
		constant, all := s.metricTables(bench)
		if constant != "" {
			fmt.Fprintf(&b, "%s\n\n", constant)
		}
		for _, t := range all {
			fmt.Fprintf(&b, "### %s\n\n", sentenceCase(t.title))
			t.markdown(&b)
		}
	}
	if old != nil {
		c := compare(old, run)
		fmt.Fprintf(&b, "## What has changed\n\n%s\n\n", c.sentence())
		for _, text := range c.notes {
			fmt.Fprintf(&b, "%s\n\n", text)
		}
		t := c.table(c.changes)
		t.markdown(&b)
	}
	return b.Bytes()
}

func (t table) markdown(b *bytes.Buffer) {
	for n, row := range t.rows {
		for _, cell := range row {
			fmt.Fprintf(b, "| %s ", strings.ReplaceAll(cell, "|", "\\|"))
		}
		b.WriteString("|\n")
		if n == 0 {
			for i := range row {
				if i < t.labels {
					b.WriteString("|---")
				} else {
					b.WriteString("|--:")
				}
			}
			b.WriteString("|\n")
		}
	}
	b.WriteByte('\n')
}
