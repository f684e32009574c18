package report

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-db/holdfast/bench/result"
)

// benchstat has a line for each point in the format of Go's benchmarks, names of key=value parts. Rounds are repetitions of the same
// name, so that benchstat finds their spread; `benchstat -col /server` puts the subjects beside each other.
func benchstat(run *result.Run) []byte {
	var b bytes.Buffer
	config := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", key, strings.Join(strings.Fields(value), " "))
		}
	}
	config("cpu", run.Machine.CPU)
	config("kernel", run.Machine.Kernel)
	config("disk", run.Machine.Disk)
	s := newStudy(run)
	var all []*setting
	for _, bench := range s.benches() {
		all = append(all, s.sets[bench]...)
	}
	for _, m := range metrics(all) {
		switch infoOf(m).better {
		case 1:
			fmt.Fprintf(&b, "Unit %s better=higher\n", m)
		case -1:
			fmt.Fprintf(&b, "Unit %s better=lower\n", m)
		}
	}
	for _, set := range all {
		name := "Benchmark" + sentenceCase(part(set.bench))
		for _, k := range paramNames(set.params) {
			name += "/" + part(k) + "=" + part(set.params[k])
		}
		name += "/server=" + part(set.subject)
		for _, p := range set.points {
			n := int64(0)
			for _, bucket := range p.Latency {
				n += bucket.Count
			}
			fmt.Fprintf(&b, "%s %d", name, max(n, 1))
			for _, m := range metrics([]*setting{{points: []*result.Point{p}}}) {
				fmt.Fprintf(&b, " %s %s", strconv.FormatFloat(p.Metrics[m], 'g', -1, 64), m)
			}
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// part makes text fit between the slashes of a name.
func part(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '=' || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '_'
		}
		return r
	}, text)
}
