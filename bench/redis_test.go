package bench

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseRedisBenchmark(t *testing.T) {
	const head = `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"` + "\n"
	out := []byte("WARNING: something\n" + head +
		`"LPUSH (needed to benchmark LRANGE)","111111.12","0.237","0.048","0.231","0.303","0.335","0.447"` + "\n" +
		`"LRANGE_100 (first 100 elements)","71428.57","0.379","0.160","0.359","0.519","0.887","1.071"` + "\n")
	rps, p50, p99, err := parseRedisBenchmark(out, "lrange_100")
	require.NoError(t, err)
	require.Equal(t, []float64{71428.57, 0.359, 0.887}, []float64{rps, p50, p99})
	_, _, _, err = parseRedisBenchmark(out, "lpush")
	require.ErrorContains(t, err, "no row for lpush", "what fills the list is not the test of LPUSH")
	_, _, _, err = parseRedisBenchmark([]byte("Error: connection refused\n"), "get")
	require.ErrorContains(t, err, "connection refused")
	_, _, _, err = parseRedisBenchmark([]byte(head+`"GET","nan?","0","0","0","0","0","0"`+"\n"), "get")
	require.Error(t, err)
}

func TestMainRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "usage:"},
		{[]string{"nosuch"}, `unknown benchmark "nosuch"`},
		{[]string{"redis", "extra"}, `unexpected argument "extra"`},
		{[]string{"memory", "-servers", "memcached"}, `unknown server "memcached"`},
		{[]string{"cold", "-nosuch"}, "flag provided but not defined"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, Main(c.args, &stdout, &stderr), "%v", c.args)
		require.Contains(t, stderr.String(), c.want)
		require.Empty(t, stdout.String())
	}
}

func TestReportTable(t *testing.T) {
	var out bytes.Buffer
	r := &Report{out: &out}
	r.Table([][]string{{"test", "x"}, {"Größe", "1,000"}})
	require.Equal(t, "| test  |     x |\n|-------|------:|\n| Größe | 1,000 |\n\n", out.String())
	require.Equal(t, "2.50 (1.00–4.00)", spread([]float64{4, 1, 2.5}, ratio))
	require.Equal(t, "-1,234,567", thousands(-1234567))
	require.Equal(t, "3M 1.5M 1,234,567", millions(3e6)+" "+millions(15e5)+" "+millions(1234567))
}
