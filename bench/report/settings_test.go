package report

import (
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/holdfast-db/holdfast/bench/result"
)

// points of one bench: values are by round.
func points(bench, subject string, params map[string]string, metric string, values ...float64) []result.Point {
	var out []result.Point
	for i, v := range values {
		out = append(out, result.Point{Bench: bench, Subject: subject, Params: params, Round: i + 1, Metrics: map[string]float64{metric: v}})
	}
	return out
}

var both = []result.Subject{{Name: "holdfast", Kind: "holdfast"}, {Name: "redis", Kind: "redis"}, {Name: "second", Kind: "redis"}}

func TestRatiosAreTakenWithinARound(t *testing.T) {
	// The machine is twice as fast in the second round, and the third round of redis is missing.
	run := &result.Run{Subjects: both, Points: slices.Concat(
		points("b", "holdfast", nil, "req/s", 150, 300, 999),
		points("b", "redis", nil, "req/s", 100, 200))}
	s := newStudy(run)
	require.Equal(t, "redis", s.base)
	r := rows(s.sets["b"])
	require.Len(t, r, 1)
	v, ok := r[0].cells["holdfast"].times(r[0].cells["redis"], "req/s")
	require.True(t, ok)
	require.Equal(t, spread{1.5, 1.5, 1.5, 2}, v)
	v, ok = r[0].cells["holdfast"].metric("req/s")
	require.True(t, ok)
	require.Equal(t, spread{300, 150, 999, 3}, v)
	_, ok = r[0].cells["holdfast"].times(nil, "req/s")
	require.False(t, ok)
}

func TestRatioToNothingIsNone(t *testing.T) {
	run := &result.Run{Subjects: both, Points: slices.Concat(points("b", "holdfast", nil, "extra-B", 5), points("b", "redis", nil, "extra-B", -3))}
	s := newStudy(run)
	_, ok := rows(s.sets["b"])[0].cells["holdfast"].times(rows(s.sets["b"])[0].cells["redis"], "extra-B")
	require.False(t, ok)
}

func TestNullServerStandsForAllPolicies(t *testing.T) {
	with := func(policy string) map[string]string {
		return map[string]string{"mix": "set", "policy": policy}
	}
	run := &result.Run{Subjects: both, Points: slices.Concat(
		points("b", "null", map[string]string{"mix": "set"}, "req/s", 9),
		points("b", "null", map[string]string{"mix": "get"}, "req/s", 8),
		points("b", "redis", with("always"), "req/s", 1),
		points("b", "redis", with("everysec"), "req/s", 2))}
	s := newStudy(run)
	r := rows(s.sets["b"])
	require.Len(t, r, 3)
	for _, x := range r {
		if x.params["mix"] == "get" {
			require.Equal(t, []string{"null"}, s.subjectsOf(x))
			continue
		}
		require.Equal(t, []string{"redis", "null"}, s.subjectsOf(x))
	}
}

func (s *study) subjectsOf(r *row) []string {
	var out []string
	for _, sub := range s.subjects("b") {
		if r.cells[sub] != nil {
			out = append(out, sub)
		}
	}
	return out
}

func TestNumbersOfParameters(t *testing.T) {
	for _, c := range []struct {
		param, text string
		want        float64
		ok          bool
	}{{"bytes", "64m", 64 << 20, true}, {"bytes", "2gb", 2 << 30, true}, {"keys", "3M", 3e6, true}, {"keys", "100k", 1e5, true}, {"rate", "0", 0, true},
		{"value", "1k", 1024, true}, {"dist", "zipf", 0, false}, {"value", "", 0, false}, {"value", "100-200", 0, false}, {"x", "b", 0, false}} {
		v, ok := numeric(c.param, c.text)
		require.Equal(t, c.ok, ok, c.text)
		if ok {
			require.Equal(t, c.want, v, c.text)
		}
	}
}

func TestOrder(t *testing.T) {
	var all []result.Point
	for _, depth := range []string{"16", "1", "128"} {
		for _, dist := range []string{"hotspot", "uniform"} {
			all = append(all, points("b", "redis", map[string]string{"mix": "set", "dist": dist, "pipeline": depth}, "req/s", 1)...)
		}
	}
	s := newStudy(&result.Run{Points: all})
	var got []string
	for _, set := range s.sets["b"] {
		got = append(got, set.params["dist"]+" "+set.params["pipeline"])
	}
	require.Equal(t, []string{"uniform 1", "uniform 16", "uniform 128", "hotspot 1", "hotspot 16", "hotspot 128"}, got)
	require.Equal(t, []string{"mix", "dist", "pipeline", "abc"}, paramNames(map[string]string{"abc": "", "pipeline": "", "dist": "", "mix": ""}))
}

func TestSpread(t *testing.T) {
	_, ok := spreadOf(nil)
	require.False(t, ok)
	v, _ := spreadOf([]float64{3, 1})
	require.Equal(t, spread{2, 1, 3, 2}, v)
	v, _ = spreadOf([]float64{5, 1, 2})
	require.Equal(t, spread{2, 1, 5, 3}, v)
}

func TestFigures(t *testing.T) {
	for want, got := range map[string]string{
		"612,000": digits(612345), "12.3": digits(12.34), "0.0123": digits(0.01234), "1": digits(1), "0": digits(0), "−1,230": digits(-1234), "100": digits(99.96),
		"31.2 MiB": byteSize(31.2 * (1 << 20)), "1 GiB": byteSize(1 << 30), "0 B": byteSize(0), "−2 KiB": byteSize(-2048),
		"60.6 ms": secondsUnit.show(0.0606), "2.57 s": secondsUnit.show(2.574), "612,345": perSecond.cell(612345), "20 k": plain.tick(20000), "2 M": plain.tick(2e6),
		"30.5 s": millisUnit.show(30_500), "a, b and c": enumerate([]string{"a", "b", "c"}), "YCSB A": mixName("ycsb-a"), "SET": mixName("set"),
		"99.95": percent(0.9995), "90": percent(0.9), "0.0": percent(0) + ".0", "10,000 B values": describe("value", "10000"), "4 KiB values": describe("value", "4096"),
		"3 million keys": describe("keys", "3000000"), "no pipeline": describe("pipeline", "1"), "1 connection": describe("conns", "1"),
	} {
		require.Equal(t, want, got)
	}
}

func TestBuckets(t *testing.T) {
	set := &setting{points: []*result.Point{
		{Latency: []result.Bucket{{Ms: 1, Count: 90}, {Ms: 5, Count: 8}}},
		{Latency: []result.Bucket{{Ms: 1, Count: 90}, {Ms: 9, Count: 12}}},
	}}
	b := merged(set)
	require.Equal(t, []result.Bucket{{Ms: 1, Count: 180}, {Ms: 5, Count: 8}, {Ms: 9, Count: 12}}, b)
	for q, want := range map[float64]float64{0: 1, 0.5: 1, 0.9: 1, 0.91: 5, 0.94: 5, 0.95: 9, 1: 9} {
		require.Equal(t, want, quantile(b, 200, q), strconv.FormatFloat(q, 'f', -1, 64))
	}
	curve := curveOf(b, 200)
	require.InDelta(t, 2.301, curve[len(curve)-1].x, 0.001)
	require.Equal(t, 9.0, curve[len(curve)-1].y)
	require.True(t, slices.IsSortedFunc(curve, func(a, b point) int { return int(a.y - b.y) }))
}

func TestSeriesOfTheMiddleRound(t *testing.T) {
	of := func(v float64) *result.Point {
		return &result.Point{Series: map[string][]result.Sample{"max-ms": {{T: 1, Value: 1}, {T: 2, Value: v}}}}
	}
	require.Equal(t, 5.0, typical(&setting{points: []*result.Point{of(9), of(5), {}, of(2)}}, "max-ms")[1].Value)
	require.Nil(t, typical(&setting{points: []*result.Point{{}}}, "max-ms"))
}
