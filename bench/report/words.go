package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-db/holdfast/bench/result"
)

// metricInfo says what a metric is, for tables and axes.
type metricInfo struct {
	name, title string
	better      int // 1: the more the better, -1: the less, 0: neither
}

// metricTable has the metrics in the order in which they are shown.
var metricTable = []metricInfo{
	{"req/s", "requests per second", 1},
	{"took-s", "seconds until done", -1},
	{"caught-s", "seconds from the link being up until done", -1},
	{"lagless-s", "seconds from the link being up until nothing is missing", -1},
	{"exit-s", "seconds until the process has ended", -1},
	{"link-s", "seconds until the link is up", -1},
	{"MB/s", "megabytes per second", 1},
	{"keys/s", "keys per second", 1},
	{"before-req/s", "writes per second before", 1},
	{"during-req/s", "writes per second meanwhile", 1},
	{"extra-B", "extra memory, from outside", -1},
	{"extra-control-B", "memory above that of the same load without an outage", -1},
	{"extra-idle-B", "memory above that without a load", -1},
	{"memory-B", "most memory, with children", -1},
	{"copied-B", "bytes copied, by the server's own figure", -1},
	{"own-B", "extra memory, by the server's own figure", -1},
	{"pause-ms", "longest pause of a client, ms", -1},
	{"fork-ms", "fork, or longest hold of the executor, ms", -1},
	{"p50-ms", "p50 latency, ms", -1},
	{"p99-ms", "p99 latency, ms", -1},
	{"p99.9-ms", "p99.9 latency, ms", -1},
	{"max-ms", "longest latency, ms", -1},
	{"cpu-us/op", "server's CPU per request, µs", -1},
	{"generator-cpu-us/op", "generator's CPU per request, µs", 0},
	{"null-%", "replies without a value, %", 0},
	{"cpu-s", "primary's CPU, seconds", -1},
	{"wire-B", "bytes on the wire", -1},
	{"disk-B", "bytes written to disk", -1},
	{"rate-got", "writes per second reached", 0},
	{"estimate-replay-s", "server's estimate for a replay, seconds", 0},
	{"estimate-snapshot-s", "server's estimate for a snapshot, seconds", 0},
	{"full", "full syncs", 0},
	{"partial", "partial syncs", 0},
	{"chose-snapshot", "chose the snapshot (1) or the replay (0)", 0},
}

func metricPlace(name string) int {
	if i := slices.IndexFunc(metricTable, func(m metricInfo) bool { return m.name == name }); i >= 0 {
		return i
	}
	return len(metricTable)
}

// infoOf describes a metric; one that is not in the table by its unit.
func infoOf(name string) metricInfo {
	if i := metricPlace(name); i < len(metricTable) {
		return metricTable[i]
	}
	if of, ok := strings.CutPrefix(name, "quiet-"); ok {
		return metricInfo{name, infoOf(of).title + ", without", 0}
	}
	better := -1
	if strings.HasSuffix(name, "/s") {
		better = 1
	}
	return metricInfo{name, name, better}
}

// unit is how values are written.
type unit int

const (
	plain unit = iota
	bytesUnit
	millisUnit
	secondsUnit
	perSecond
	megabytesPerSecond
	keysPerSecond
	micros
	writesPerSecond
	timesUnit
	percentUnit
)

func unitOf(metric string) unit {
	switch {
	case strings.HasSuffix(metric, "-B"):
		return bytesUnit
	case strings.HasSuffix(metric, "-ms"):
		return millisUnit
	case metric == "MB/s":
		return megabytesPerSecond
	case metric == "keys/s":
		return keysPerSecond
	case metric == "rate-got", metric == "before-req/s", metric == "during-req/s":
		return writesPerSecond
	case strings.HasSuffix(metric, "us/op"):
		return micros
	case strings.HasSuffix(metric, "-s"):
		return secondsUnit
	case strings.HasSuffix(metric, "/s"):
		return perSecond
	}
	return plain
}

// suffix stands behind a number that stands alone.
func (u unit) suffix() string {
	return [...]string{"", "", " ms", " s", " req/s", " MB/s", " keys/s", " µs", " writes/s", " times", " %"}[u]
}

// show writes a value with its unit: 31.2 MiB, 612,000 req/s, 1.31 ms.
func (u unit) show(v float64) string {
	switch {
	case u == bytesUnit:
		return byteSize(v)
	case u == millisUnit && math.Abs(v) >= 10_000:
		return digits(v/1000) + " s"
	case u == secondsUnit && v != 0 && math.Abs(v) < 1:
		return digits(v*1000) + " ms"
	}
	return digits(v) + u.suffix()
}

// cell writes a value of a table whose head names the unit.
func (u unit) cell(v float64) string {
	if u == bytesUnit {
		return byteSize(v)
	}
	if math.Abs(v) >= 1000 {
		return separated(math.Round(v))
	}
	return digits(v)
}

// tick writes a value of an axis whose label names the unit: 600 k, 31 MiB.
func (u unit) tick(v float64) string {
	if u == bytesUnit {
		return byteSize(v)
	}
	abs := math.Abs(v)
	switch {
	case abs >= 1e9:
		return digits(v/1e9) + " G"
	case abs >= 1e6:
		return digits(v/1e6) + " M"
	case abs >= 1000:
		return digits(v/1e3) + " k"
	}
	return digits(v)
}

// digits writes three digits that mean something, with separators: 0.0123, 12.3, 612,000.
func digits(v float64) string {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	exp := math.Floor(math.Log10(math.Abs(v)))
	if exp >= 2 {
		unit := math.Pow(10, exp-2)
		return separated(math.Round(v/unit) * unit)
	}
	text := strconv.FormatFloat(v, 'f', int(2-exp), 64)
	return minus(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
}

// separated writes a whole number with separators.
func separated(v float64) string {
	s := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v < 0 {
		s = "-" + s
	}
	return minus(s)
}

func minus(s string) string { return strings.Replace(s, "-", "−", 1) }

// byteSize writes bytes in the unit that fits: 512 B, 31.2 MiB.
func byteSize(v float64) string {
	unit, i := []string{"B", "KiB", "MiB", "GiB", "TiB"}, 0
	for math.Abs(v) >= 1024 && i < len(unit)-1 {
		v /= 1024
		i++
	}
	return digits(v) + " " + unit[i]
}

func (s spread) show(u unit) string {
	if s.rounds == 1 || s.low == s.high {
		return u.show(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", u.show(s.median), u.cell(s.low), u.cell(s.high))
}

func (s spread) cell(u unit) string {
	if s.rounds == 1 || s.low == s.high {
		return u.cell(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", u.cell(s.median), u.cell(s.low), u.cell(s.high))
}

// subjectName is how a subject is called in text.
func subjectName(name string) string {
	switch name {
	case "redis", "holdfast", "valkey", "kvrocks", "dragonfly", "garnet":
		return strings.ToUpper(name[:1]) + name[1:]
	case result.NullServer:
		return "the null server"
	}
	return name
}

// paramTitle names a parameter at an axis or over a column.
func paramTitle(param string) string {
	switch param {
	case "mix":
		return "commands"
	case "dist":
		return "distribution of keys"
	case "value":
		return "bytes of a value"
	case "keys":
		return "number of keys"
	case "conns":
		return "connections"
	case "pipeline":
		return "requests in a pipeline"
	case "rate":
		return "writes per second"
	case "policy":
		return "fsync"
	case "peer":
		return "replica"
	case "bytes":
		return "stream written while away"
	case "overwrite":
		return "writes that hit existing keys, %"
	case "how":
		return "how"
	}
	return param
}

// describe says a parameter and its value in words.
func describe(param, value string) string {
	n, isNumber := numeric(param, value)
	count := value
	if isNumber {
		count = digits(n)
		if n >= 1e6 && math.Mod(n, 1e5) == 0 {
			count = digits(n/1e6) + " million"
		}
	}
	switch param {
	case "mix":
		return mixName(value)
	case "dist":
		return value + " keys"
	case "value":
		if isNumber && n >= 1024 && math.Mod(n, 1024) == 0 {
			return byteSize(n) + " values"
		}
		return count + " B values"
	case "keys":
		return count + " keys"
	case "conns":
		return count + plural(value, " connection")
	case "pipeline":
		if value == "1" {
			return "no pipeline"
		}
		return count + " deep"
	case "rate":
		if !isNumber {
			return "full speed"
		}
		return count + " writes/s"
	case "policy":
		if value == "own" {
			return "its own fsync"
		}
		return "fsync " + value
	case "loop":
		return value + " loop"
	case "peer":
		return "to " + subjectName(value)
	case "load":
		switch value {
		case "none":
			return "idle"
		case "full":
			return "under load"
		}
	case "how":
		switch value {
		case "cut":
			return "link cut"
		case "kill":
			return "replica killed"
		case "sigterm":
			return "after SIGTERM"
		case "kill9":
			return "after kill -9"
		}
	case "bytes":
		if isNumber {
			return byteSize(n)
		}
	case "overwrite":
		return count + " % overwritten"
	case "choice":
		switch value {
		case "replay", "snapshot":
			return "by " + value
		case "auto":
			return "its own choice"
		}
	}
	return value
}

func plural(count, noun string) string {
	if count == "1" {
		return noun
	}
	return noun + "s"
}

// mixName writes a command as Redis's documentation does.
func mixName(mix string) string {
	if strings.HasPrefix(mix, "ycsb") {
		return strings.ReplaceAll(strings.ToUpper(mix), "-", " ")
	}
	return strings.ToUpper(mix)
}

// describeAll says the parameters named, those that are there.
func describeAll(params map[string]string, names []string) string {
	var parts []string
	for _, k := range names {
		if v, ok := params[k]; ok {
			parts = append(parts, describe(k, v))
		}
	}
	return strings.Join(parts, ", ")
}

// enumerate joins parts as a sentence does.
func enumerate(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

// sentenceCase makes the first letter a capital, but not that of p99.
func sentenceCase(s string) string {
	if s == "" || len(s) > 1 && s[1] >= '0' && s[1] <= '9' {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// benchTitle is the heading of a benchmark.
func benchTitle(bench string) string {
	switch bench {
	case result.Throughput:
		return "Throughput and latency"
	case result.Sync:
		return "Full sync"
	case result.Outage:
		return "A replica that was away"
	case result.Cow:
		return "What a snapshot costs"
	case result.Restart:
		return "Restart"
	}
	return sentenceCase(bench)
}
