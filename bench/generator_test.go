package bench

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tidwall/redcon"
)

func ping(dst, want []byte) ([]byte, []byte) { return append(dst, "PING\r\n"...), append(want, '+') }

// A closed loop counts each reply once, in one and in pieces, and tells when measuring begins and ends.
func TestGeneratorClosed(t *testing.T) {
	var answered atomic.Int64
	addr := fakeServer(t, func(redcon.Command) string { answered.Add(1); return "+PONG\r\n" })
	var marks []bool
	g := &Generator{Addr: addr, Conns: 3, Pipeline: 4, Duration: 100 * time.Millisecond, Request: ping,
		Mark: func(end bool) error { marks = append(marks, end); return nil }}
	res, err := g.Run(t.Context())
	require.NoError(t, err)
	require.Equal(t, []bool{false, true}, marks)
	require.Positive(t, res.Ops)
	require.Equal(t, res.Ops, res.Latency.Count())
	// What came after the end is answered and not counted: less than a pipeline for each connection.
	require.LessOrEqual(t, answered.Load()-res.Ops, int64(3*4))
	sum := int64(0)
	for _, p := range res.Parts {
		sum += p.Ops
	}
	require.Equal(t, res.Ops, sum)
	require.NotEmpty(t, res.Series()["p99-ms"])
}

// A pause of the server is seen by every request that was due in it, not by one for each connection.
func TestGeneratorOpenSeesAPauseInEveryRequestDue(t *testing.T) {
	const pause = 200 * time.Millisecond
	var once sync.Once
	addr := fakeServer(t, func(redcon.Command) string {
		once.Do(func() { <-time.After(pause) })
		return "+PONG\r\n"
	})
	res, err := (&Generator{Addr: addr, Conns: 1, Rate: 1000, Duration: 2 * pause, Request: ping}).Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2*pause/time.Millisecond, res.Ops, "all that was due is sent and counted, however late it was answered")
	// Of the 200 due in the pause half waited at least half of it: of 400 in all, a quarter.
	require.GreaterOrEqual(t, res.Latency.Quantile(0.9), pause/2)
	require.GreaterOrEqual(t, res.Latency.Max(), pause-5*time.Millisecond)
}

// A load of so many requests ends with them, in either loop, and its rate is that of the time which they took.
func TestGeneratorMost(t *testing.T) {
	for _, g := range []*Generator{{Conns: 3, Pipeline: 7}, {Conns: 3, Rate: 10_000}} {
		var answered atomic.Int64
		g.Addr = fakeServer(t, func(redcon.Command) string { answered.Add(1); return "+PONG\r\n" })
		ends := 0
		g.Duration, g.Most, g.Request = time.Minute, 100, ping
		g.Mark = func(end bool) error {
			if end {
				ends++
			}
			return nil
		}
		res, err := g.Run(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 100, res.Ops)
		require.EqualValues(t, 100, answered.Load())
		require.Equal(t, 1, ends)
		require.Less(t, res.Elapsed, 30*time.Second)
		require.Positive(t, res.Elapsed)
		require.Len(t, res.Parts, 1, "a second of the minute")
		require.Equal(t, res.Elapsed, res.Parts[0].Elapsed)
	}
}

// Of replies without a value it is known how many there were.
func TestGeneratorCountsNulls(t *testing.T) {
	var n atomic.Int64
	addr := fakeServer(t, func(redcon.Command) string {
		if n.Add(1)%2 == 0 {
			return "$-1\r\n"
		}
		return "$1\r\n-\r\n"
	})
	res, err := (&Generator{Addr: addr, Conns: 1, Pipeline: 10, Duration: 20 * time.Millisecond,
		Request: func(dst, want []byte) ([]byte, []byte) { return append(dst, "GET k\r\n"...), append(want, '$') }}).Run(t.Context())
	require.NoError(t, err)
	require.InDelta(t, res.Ops/2, res.Nulls, 5)
}

// Errors, replies of another kind, garbage and ends of connections end the load and are named.
func TestGeneratorTellsOfWhatIsWrong(t *testing.T) {
	for answer, want := range map[string]string{"-ERR no\r\n": "ERR no", ":1\r\n": `begins with '+'`, "nonsense\r\n": "not the protocol", "+a\r\n+b\r\n": "nothing was asked for"} {
		addr := fakeServer(t, func(redcon.Command) string { return answer })
		_, err := (&Generator{Addr: addr, Conns: 1, Pipeline: 1, Duration: time.Second, Request: ping}).Run(t.Context())
		require.ErrorContains(t, err, want)
	}
	_, err := (&Generator{Addr: "127.0.0.1:1", Conns: 1, Pipeline: 1, Duration: time.Second, Request: ping}).Run(t.Context())
	require.ErrorContains(t, err, "connect")
	_, err = (&Generator{}).Run(t.Context())
	require.Error(t, err)
}

// Every mix is understood by the null server, which answers each command with what the mix wants: against it the whole path of a
// measurement runs without another program.
func TestNullServerAnswersEveryMix(t *testing.T) {
	n, err := NewNullListener("127.0.0.1:0", 10)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- n.Serve() }()
	dist, err := NewDistribution(Zipf, 1000)
	require.NoError(t, err)
	for _, mix := range mixes {
		made := int64(1000)
		m := newMixer(1, dist, 10, &made)
		res, err := (&Generator{Addr: n.Addr(), Conns: 2, Pipeline: 50, Duration: 10 * time.Millisecond,
			Request: func(dst, want []byte) ([]byte, []byte) { return mix.append(m, dst, want) }}).Run(t.Context())
		require.NoError(t, err, mix.name)
		require.Positive(t, res.Ops, mix.name)
	}
	require.NoError(t, n.Stop())
	require.NoError(t, <-done)
}

// A request is what its words say, and of the shares of a mix none is missing.
func TestMixes(t *testing.T) {
	dist, err := NewDistribution(Uniform, 1000)
	require.NoError(t, err)
	for _, mix := range mixes {
		made := int64(1000)
		m := newMixer(1, dist, 10, &made)
		names := map[string]int{}
		for range 1000 {
			b, want := mix.append(m, nil, nil)
			for range want {
				end, err := replyEnd(b)
				require.NoError(t, err)
				require.Positive(t, end, "%s: %q", mix.name, b)
				names[strings.Split(string(b[:end]), "\r\n")[2]]++
				b = b[end:]
			}
			require.Empty(t, b, mix.name)
		}
		switch mix.name {
		case "ycsb-a":
			require.InDelta(t, 500, names["GET"], 80)
			require.Equal(t, 1000, names["GET"]+names["SET"])
		case "ycsb-d":
			require.InDelta(t, 50, names["SET"], 35)
			require.EqualValues(t, 1000+names["SET"], made)
		case "ycsb-e":
			require.Equal(t, names["SET"], names["ZADD"])
			require.InDelta(t, 950, names["ZRANGEBYLEX"], 35)
		case "ycsb-f":
			require.Equal(t, 1000, names["GET"])
			require.InDelta(t, 500, names["SET"], 80)
		case "lrange_100":
			require.Equal(t, map[string]int{"LRANGE": 1000}, names)
		case "ycsb-b", "ycsb-c":
			require.GreaterOrEqual(t, names["GET"], 900)
		default:
			require.Equal(t, map[string]int{strings.ToUpper(mix.name): 1000}, names)
		}
	}
	_, err = mixNamed("nothing")
	require.ErrorContains(t, err, "ycsb-a")
}
