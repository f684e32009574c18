package bench

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// Report is a table with the command and the machine that made it. What is printed appears on the terminal at once and is
// written to a file by Save.
type Report struct {
	out  io.Writer
	text bytes.Buffer
	runs bytes.Buffer // lines in benchstat's format
}

// NewReport begins a report; command is how to make it again.
func NewReport(out io.Writer, title string, command []string) *Report {
	r := &Report{out: out}
	r.Printf("# %s\n\n", title)
	r.Printf("    holdfast bench %s\n\n", strings.Join(command, " "))
	for _, line := range Machine() {
		r.Printf("* %s\n", line)
	}
	r.Printf("\n")
	return r
}

// Printf adds text in markdown.
func (r *Report) Printf(format string, args ...any) {
	fmt.Fprintf(&r.text, format, args...)
	fmt.Fprintf(r.out, format, args...)
}

// Table adds a table; the first row is its head.
func (r *Report) Table(rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len([]rune(cell)))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-len([]rune(cell)))
			if i == 0 {
				r.Printf("| %s%s ", cell, pad)
			} else {
				r.Printf("| %s%s ", pad, cell)
			}
		}
		r.Printf("|\n")
		if n == 0 {
			for i, w := range width {
				if i == 0 {
					r.Printf("|%s", strings.Repeat("-", w+2))
				} else {
					r.Printf("|%s:", strings.Repeat("-", w+1))
				}
			}
			r.Printf("|\n")
		}
	}
	r.Printf("\n")
}

// Metric is a value with its unit, as benchstat wants them.
type Metric struct {
	Value float64
	Unit  string
}

// Run notes one run in benchstat's format: name is key=value parts joined by slashes, n the operations of the run.
func (r *Report) Run(name string, n int64, metrics ...Metric) {
	var b strings.Builder
	fmt.Fprintf(&b, "Benchmark%s %d", name, n)
	for _, m := range metrics {
		fmt.Fprintf(&b, " %s %s", number(m.Value), m.Unit)
	}
	fmt.Fprintln(&r.runs, b.String())
	fmt.Fprintln(r.out, b.String())
}

// Save writes the report to path, the runs behind the text; an empty path writes nothing.
func (r *Report) Save(path string) error {
	if path == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	text := slices.Clone(r.text.Bytes())
	if r.runs.Len() > 0 {
		text = fmt.Appendf(text, "## Runs\n\nFor benchstat:\n\n```\n%s```\n", r.runs.String())
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(r.out, "written to %s\n", path)
	return nil
}

// Machine says where and when a measurement was made, a fact a line.
func Machine() []string {
	m := machine()
	return []string{
		time.Now().UTC().Format("2006-01-02 15:04 MST"),
		fmt.Sprintf("%d cores (%s), %.1f GiB memory", m.Cores, m.CPU, float64(m.MemoryBytes)/(1<<30)),
		m.Kernel + ", " + m.Go,
		"redis-server " + redisVersion() + ", holdfast " + revision(),
		fmt.Sprintf("load average before the start %.2f %.2f %.2f (other work on the machine shows here)", m.LoadAverage[0], m.LoadAverage[1], m.LoadAverage[2]),
	}
}

// machine finds what this machine is; what the system does not tell stays empty or 0. The disk is not looked at.
func machine() result.Machine {
	m := result.Machine{CPU: cmp.Or(firstField("/proc/cpuinfo", "model name"), runtime.GOARCH), Cores: runtime.NumCPU(), Go: runtime.Version(),
		Kernel: runtime.GOOS + " of an unknown release"}
	if n, err := strconv.ParseInt(strings.TrimSuffix(firstField("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		m.MemoryBytes = n << 10
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = fmt.Sprintf("%s %s", runtime.GOOS, bytes.TrimSpace(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		if _, err := fmt.Sscan(string(b), &m.LoadAverage[0], &m.LoadAverage[1], &m.LoadAverage[2]); err != nil {
			m.LoadAverage = [3]float64{}
		}
	}
	return m
}

// firstField is the value of the first line "name : value" of a file in /proc; empty if there is none.
func firstField(path, name string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return ""
}

func redisVersion() string {
	out, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return "not installed"
	}
	for f := range strings.FieldsSeq(string(out)) {
		if v, ok := strings.CutPrefix(f, "v="); ok {
			return v
		}
	}
	return strings.TrimSpace(string(out))
}

// revision is the commit that the program was built from.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, changed := "of an unknown commit", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = " with changes"
		}
	}
	return rev + changed
}

// median of a list that is not empty; of an even number, the mean of the two in the middle.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// quotients are those of a round's figures. REQUIRES: as many of one as of the other.
func quotients(a, b []float64) []float64 {
	q := make([]float64, len(a))
	for i := range a {
		q[i] = a[i] / b[i]
	}
	return q
}

// spread renders a median with its range.
func spread(v []float64, render func(float64) string) string {
	if len(v) == 0 {
		return "–"
	}
	if len(v) == 1 {
		return render(v[0])
	}
	return fmt.Sprintf("%s (%s–%s)", render(median(v)), render(slices.Min(v)), render(slices.Max(v)))
}

func ratio(v float64) string { return fmt.Sprintf("%.2f", v) }

// number prints a figure with the digits that mean something.
func number(v float64) string {
	switch {
	case v == float64(int64(v)) && v < 1e15:
		return fmt.Sprintf("%d", int64(v))
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// thousands prints a count with separators.
func thousands(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func mebibytes(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) }

func seconds(v float64) string { return fmt.Sprintf("%.3f s", v) }

func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// latencyMetrics are what benchstat gets of a result.
func latencyMetrics(res *Result) []Metric {
	return []Metric{{res.PerSecond(), "req/s"}, {res.Latency.Quantile(0.5).Seconds() * 1e3, "p50-ms"},
		{res.Latency.Quantile(0.99).Seconds() * 1e3, "p99-ms"}, {res.Latency.Quantile(0.999).Seconds() * 1e3, "p99.9-ms"},
		{res.Latency.Max().Seconds() * 1e3, "max-ms"}}
}

// tempDir makes a directory for a server's data inside one that remove deletes with all that is in it.
func tempDir() (dir string, remove func() error, err error) {
	top, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return "", nil, err
	}
	dir = filepath.Join(top, "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(top))
	}
	return dir, func() error { return os.RemoveAll(top) }, nil
}
