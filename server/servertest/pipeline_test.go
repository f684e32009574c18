package servertest

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// pipeliner draws pipelines whose replies are the same on every server: what changes how later commands are read (SELECT,
// MULTI, HELLO, RESET, CLIENT REPLY), errors, inline commands, and commands that wait, among commands on data.
type pipeliner struct {
	r     *rand.Rand
	buf   []byte
	lines []string // for the report
	multi bool
	waits int // BLPOP wake 0: each needs one element from outside
}

func (p *pipeliner) add(args ...string) {
	p.lines = append(p.lines, strings.Join(args, " "))
	if p.r.IntN(12) == 0 && !strings.ContainsAny(strings.Join(args, ""), " \"'") {
		p.buf = append(p.buf, strings.Join(args, " ")+"\r\n"...)
		return
	}
	p.buf = AppendCommand(p.buf, args...)
}

func (p *pipeliner) key(kind string) string { return fmt.Sprint(kind, p.r.IntN(5)) }

func (p *pipeliner) value() string {
	return fmt.Sprint("v", p.r.IntN(1000), strings.Repeat("x", 1<<p.r.IntN(11)-1))
}

func (p *pipeliner) step() {
	n := fmt.Sprint(p.r.IntN(20))
	data := [][]string{{"SET", p.key("s"), p.value()}, {"GET", p.key("s")}, {"APPEND", p.key("s"), "+" + n}, {"INCRBY", p.key("n"), n},
		{"MGET", p.key("s"), p.key("n"), p.key("s")}, {"RPUSH", p.key("l"), p.value()}, {"LPOP", p.key("l")}, {"LLEN", p.key("l")},
		{"LRANGE", p.key("l"), "0", "2"}, {"HSET", p.key("h"), "f" + n, p.value()}, {"HGET", p.key("h"), "f" + n}, {"HLEN", p.key("h")},
		{"ZADD", p.key("z"), n, "m" + n}, {"ZSCORE", p.key("z"), "m" + n}, {"ZRANGE", p.key("z"), "0", "-1"}, {"SADD", p.key("t"), n},
		{"SCARD", p.key("t")}, {"DEL", p.key("s"), p.key("l")}, {"EXISTS", p.key("s")}, {"TYPE", p.key("h")}, {"PING"},
		{"ECHO", p.value()}}
	switch k := p.r.IntN(100); {
	case k < 55:
		p.add(data[p.r.IntN(len(data))]...)
	case k < 63:
		p.add("SELECT", []string{"0", "1", "2", "3", "99", "x", "-1"}[p.r.IntN(7)])
	case k < 70:
		p.add("MULTI")
		p.multi = true
	case k < 78:
		p.add("EXEC")
		p.multi = false
	case k < 80:
		p.add("DISCARD")
		p.multi = false
	case k < 82:
		p.add("WATCH", p.key("s"))
	case k < 83:
		p.add("UNWATCH")
	case k < 88: // errors, at queueing and at execution
		p.add([][]string{{"NOSUCH", "a"}, {"GET"}, {"INCR", p.key("l")}, {"LPUSH", p.key("s"), "x"}, {"SET", "a", "b", "c"},
			{"CLIENT", "NOSUCH"}, {"EXPIRE", p.key("s"), "soon"}, {"CONFIG", "SET", "slowlog-max-len", "x"}}[p.r.IntN(8)]...)
	case k < 90:
		p.add("CONFIG", "SET", "slowlog-max-len", n)
	case k < 91:
		p.add("CONFIG", "REWRITE") // there is no file: an error, for which a transaction lets go of the lock
	case k < 92:
		p.add("CONFIG", "GET", "slowlog-max-len")
	case k < 94:
		p.add("HELLO", []string{"2", "3"}[p.r.IntN(2)])
	case k < 95 && !p.multi: // within EXEC a skipped reply makes the array one short, as in Redis: nobody can read on
		p.add("CLIENT", "REPLY", []string{"SKIP", "ON"}[p.r.IntN(2)])
	case k < 96:
		p.add("RESET")
		p.multi = false
	case k < 97: // served at once, or after its timeout
		p.add([][]string{{"BLPOP", p.key("l"), "0.002"}, {"BRPOP", p.key("l"), p.key("l"), "0.002"}, {"BLMOVE", p.key("l"), p.key("l"), "LEFT", "RIGHT", "0.002"},
			{"BZPOPMIN", p.key("z"), "0.002"}}[p.r.IntN(4)]...)
	case k < 98 && !p.multi:
		p.add("SELECT", "0")
		p.add("BLPOP", "wake", "0")
		p.waits++
	case k < 99 && !p.multi:
		p.add("SELECT", "2")
		p.add("FLUSHDB")
	default:
		p.add("SWAPDB", "1", "3")
	}
}

var helloID = regexp.MustCompile(`\$2\r\nid\r\n:\d+\r\n`)

// run sends a pipeline in pieces, wakes what waits, and returns all replies, up to the last one or to the end of the connection.
func (p *pipeliner) run(t *testing.T, addr string, cuts *rand.Rand, beside func()) []string {
	c, err := Dial(addr)
	require.NoError(t, err)
	defer c.Close()
	other, err := Dial(addr)
	require.NoError(t, err)
	defer other.Close()
	sent := make(chan error, 1)
	go func() {
		for b := p.buf; len(b) > 0; {
			n := 1 + cuts.IntN(min(len(b), []int{1, 7, 100, 3000, len(b)}[cuts.IntN(5)]))
			if _, err := c.conn.Write(b[:n]); err != nil {
				sent <- err
				return
			}
			b = b[n:]
		}
		sent <- nil
	}()
	for range p.waits {
		_, err := other.Do("RPUSH", "wake", "up")
		require.NoError(t, err)
		beside()
	}
	var replies []string
	for {
		r, err := c.Receive()
		if err == io.EOF {
			break
		}
		require.NoError(t, err, "after %d replies", len(replies))
		replies = append(replies, helloID.ReplaceAllString(string(r), "id"))
		if bytes.Contains(r, []byte("\r\nthe end\r\n")) {
			break
		}
	}
	require.NoError(t, <-sent)
	return replies
}

// TestRandomPipelines sends the same pipelines, cut at random places, to redis-server and to this server, where keys are read
// from disk in between, and compares all replies in their order.
func TestRandomPipelines(t *testing.T) {
	s := seed(t)
	rounds := 120
	if testing.Short() {
		rounds = 20
	}
	redis, node := Redis(t, "--hz", "500"), Holdfast(t)
	for round := range rounds {
		p := &pipeliner{r: rand.New(rand.NewPCG(s, uint64(round)))}
		for range 1 + p.r.IntN(250) {
			p.step()
		}
		broken := p.r.IntN(8) == 0
		if broken {
			p.lines = append(p.lines, "(malformed)")
			p.buf = append(p.buf, "*2\r\n$3\r\nGET\r\nfoo\r\n"...)
		} else {
			p.add("RESET")
			p.add("CLIENT", "REPLY", "ON")
			p.add("ECHO", "the end")
		}
		cuts := rand.New(rand.NewPCG(s, 1<<32+uint64(round)))
		theirs := p.run(t, redis.Addr, rand.New(rand.NewPCG(cuts.Uint64(), 0)), func() {})
		node.Checkpoint()
		node.Unload()
		ours := p.run(t, node.Addr, rand.New(rand.NewPCG(cuts.Uint64(), 1)), func() { node.Unload() })
		for i := range min(len(theirs), len(ours)) {
			if theirs[i] != ours[i] {
				require.Failf(t, "replies differ", "seed %d, round %d, reply %d:\n  redis:    %s\n  holdfast: %s\nlast equal: %s\npipeline:\n%s", s, round, i,
					brief([]byte(theirs[i])), brief([]byte(ours[i])), strings.Join(theirs[max(0, i-4):i], ""), strings.Join(p.lines, "\n"))
			}
		}
		require.Equal(t, len(theirs), len(ours), "seed %d, round %d", s, round)
	}
}
