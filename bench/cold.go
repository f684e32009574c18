package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/tidwall/redcon"
)

// coldRun is a set of data larger than the budget of memory.
type coldRun struct {
	keys        int64 // strings
	size        int   // bytes of a string
	collections int64 // hashes, lists and sorted sets, in turn
	elements    int64 // of each collection; of valueSize bytes in hashes and lists
	share       float64
	conns       int
	pipeline    int
	budget      string
	policy      string
	each        time.Duration
}

func defineCold(fs *flag.FlagSet) func(context.Context, *env) error {
	c := coldRun{}
	fs.Int64Var(&c.keys, "keys", 1_050_000, "string `keys`")
	fs.IntVar(&c.size, "d", 1000, "`bytes` of a string")
	fs.Int64Var(&c.collections, "collections", 300, "big `collections`: hashes, lists and sorted sets in turn")
	fs.Int64Var(&c.elements, "elements", 10_000, "`elements` of a collection")
	fs.Float64Var(&c.share, "share", 0.01, "`share` of the operations that are on collections")
	fs.IntVar(&c.conns, "c", 50, "`connections`")
	fs.IntVar(&c.pipeline, "p", 1, "`depth` of the pipeline")
	fs.StringVar(&c.budget, "maxmemory", "256mb", "`budget`")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	fs.DurationVar(&c.each, "t", 30*time.Second, "`time` of each mix")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "More data than memory", e.command)
		values := c.keys*int64(c.size) + c.collections*c.elements*valueSize*2/3
		r.Printf("%s strings of %d random bytes and %d collections (hashes, lists, sorted sets) of %s elements: %s of values, with maxmemory\n"+
			"%s and appendfsync %s. %d connections, pipelines of %d, keys and elements chosen uniformly, %g %% of the operations on\n"+
			"collections. Every answer is compared with what the connection last wrote.\n\n", thousands(float64(c.keys)), c.size, c.collections,
			thousands(float64(c.elements)), mebibytes(float64(values)), c.budget, c.policy, c.conns, c.pipeline, c.share*100)
		args := append(policyArgs(Holdfast, c.policy), "--maxmemory", c.budget)
		return e.withServer(ctx, Holdfast, args, func(p *Process) error {
			if err := c.run(ctx, e, r, p); err != nil {
				return err
			}
			return r.Save(e.output)
		})
	}
}

// coldMixes are the operations that are run one after the other.
var coldMixes = []struct {
	name   string
	writes float64
}{{"reads only", 0}, {"half writes", 0.5}, {"writes only", 1}}

func (c coldRun) run(ctx context.Context, e *env, r *Report, p *Process) error {
	peak := p.watchRSS(ctx)
	started := time.Now()
	if _, err := (Load{Addr: p.Addr, Conns: 8, Pipeline: 16, Ops: c.keys,
		Script: func(i int) Script { return filler(int64(i), 8, c.size) }}).Run(ctx); err != nil {
		return err
	}
	const chunk = 100
	if _, err := (Load{Addr: p.Addr, Conns: 1, Pipeline: 8, Ops: c.collections * ((c.elements + chunk - 1) / chunk),
		Script: func(int) Script { return &collectionFiller{run: c, chunk: chunk} }}).Run(ctx); err != nil {
		return err
	}
	filled := time.Since(started)
	most, err := peak()
	if err != nil {
		return err
	}
	r.Printf("Filled in %.1f s, resident set at most %s.\n\n", filled.Seconds(), mebibytes(float64(most)))

	owners := make([]*coldScript, c.conns)
	for i := range owners {
		owners[i] = newColdScript(c, e.seed, i)
	}
	rows := [][]string{{"mix", "ops/s", "p50", "p99", "p99.9", "in memory", "resident set at most", "resident keys", "waits for room", "loads under the lock"}}
	for _, mix := range coldMixes {
		before, err := p.Info()
		if err != nil {
			return err
		}
		peak := p.watchRSS(ctx)
		res, err := Load{Addr: p.Addr, Conns: c.conns, Pipeline: c.pipeline, Duration: c.each, Script: func(i int) Script {
			owners[i].writes = mix.writes
			return owners[i]
		}}.Run(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", mix.name, err)
		}
		most, err := peak()
		if err != nil {
			return err
		}
		after, err := p.Info()
		if err != nil {
			return err
		}
		var ierr error
		delta := func(name string) float64 {
			a, err1 := infoInt(before, name)
			b, err2 := infoInt(after, name)
			ierr = errors.Join(ierr, err1, err2)
			return float64(b - a)
		}
		loads, inLock, waits := delta("cold_loads"), delta("cold_loads_in_lock"), delta("back_pressure_waits")
		if ierr != nil {
			return ierr
		}
		hits := 1 - (loads+inLock)/float64(res.Ops)
		rows = append(rows, []string{mix.name, thousands(res.PerSecond()), millis(res.Latency.Quantile(0.5)), millis(res.Latency.Quantile(0.99)),
			millis(res.Latency.Quantile(0.999)), fmt.Sprintf("%.1f %%", 100*hits), mebibytes(float64(most)), after["resident_keys"], thousands(waits), thousands(inLock)})
		r.Run(fmt.Sprintf("Cold/server=holdfast/maxmemory=%s/writes=%g", c.budget, mix.writes), res.Ops,
			append(latencyMetrics(res), Metric{100 * hits, "%-in-memory"}, Metric{float64(most), "B-rss"})...)
	}
	r.Table(rows)
	return ctx.Err()
}

// watchRSS looks at the resident set ten times a second until the returned function is called, which returns the largest.
func (p *Process) watchRSS(ctx context.Context) func() (int64, error) {
	ctx, cancel := context.WithCancel(ctx)
	type result struct {
		most int64
		err  error
	}
	done := make(chan result, 1)
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var res result
		for res.err == nil {
			n, err := p.RSS()
			res.most, res.err = max(res.most, n), err
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- res
				return
			}
		}
		done <- res
	}()
	return func() (int64, error) {
		cancel()
		res := <-done
		return res.most, res.err
	}
}

// A collection's element number g counts over all collections. In a list, elements stand in their order.

// collectionKey is the key of a collection and the letter of its type.
func collectionKey(dst []byte, n int64) ([]byte, byte) {
	kind := "hlz"[n%3]
	return appendDigits(append(dst, kind, ':'), n, keyLen-2), kind
}

func appendField(dst []byte, i int64) []byte { return strconv.AppendInt(append(dst, 'f'), i, 10) }

// elementKey is the number of an element for appendValue, apart from those of strings.
func elementKey(g int64) int64 { return 1<<40 + g }

// collectionFiller writes collections, a chunk of elements with each command.
type collectionFiller struct {
	run   coldRun
	chunk int64
	n, at int64 // collection, its next element
	buf   []byte
}

func (f *collectionFiller) Append(dst []byte) []byte {
	count := min(f.chunk, f.run.elements-f.at)
	key, kind := collectionKey(nil, f.n)
	name, per := "RPUSH", int64(1)
	switch kind {
	case 'h':
		name, per = "HSET", 2
	case 'z':
		name, per = "ZADD", 2
	}
	dst = redcon.AppendArray(dst, int(2+per*count))
	dst = redcon.AppendBulkString(dst, name)
	dst = redcon.AppendBulk(dst, key)
	for i := f.at; i < f.at+count; i++ {
		f.buf = appendValue(f.buf[:0], elementKey(f.n*f.run.elements+i), 0, valueSize)
		switch kind {
		case 'h':
			dst = redcon.AppendBulk(dst, appendField(nil, i))
			dst = redcon.AppendBulk(dst, f.buf)
		case 'l':
			dst = redcon.AppendBulk(dst, f.buf)
		case 'z':
			dst = redcon.AppendBulkString(dst, "0")
			dst = redcon.AppendBulk(dst, appendField(nil, i))
		}
	}
	if f.at += count; f.at == f.run.elements {
		f.n, f.at = f.n+1, 0
	}
	return dst
}

func (f *collectionFiller) Check(r Reply) error {
	if r.Kind != ':' {
		return fmt.Errorf("filling collections: %s", r)
	}
	return nil
}

// coldScript reads and writes the strings and elements whose number, divided by the number of connections, leaves its own: so
// it knows what every answer must be.
type coldScript struct {
	run    coldRun
	conn   int64
	rng    *rand.Rand
	writes float64
	// versions of what the connection owns, by number / connections
	strings, elements []uint32
	expected          []coldExpectation
}

// coldExpectation is an answer that has to come.
type coldExpectation struct {
	text string
	kind byte
}

func newColdScript(c coldRun, seed uint64, conn int) *coldScript {
	return &coldScript{run: c, conn: int64(conn), rng: rand.New(rand.NewPCG(seed, uint64(conn))),
		strings:  make([]uint32, share(c.keys, c.conns, conn)),
		elements: make([]uint32, share(c.collections*c.elements, c.conns, conn))}
}

func (s *coldScript) expect(kind byte, text string) {
	s.expected = append(s.expected, coldExpectation{text, kind})
}

func (s *coldScript) Append(dst []byte) []byte {
	write := s.rng.Float64() < s.writes
	if len(s.elements) > 0 && s.rng.Float64() < s.run.share {
		return s.appendElement(dst, write)
	}
	i := s.rng.IntN(len(s.strings))
	n := int64(i)*int64(s.run.conns) + s.conn
	if !write {
		s.expect('$', string(appendValue(nil, n, int64(s.strings[i]), s.run.size)))
		return AppendCommand(dst, "GET", string(appendKey(nil, n)))
	}
	s.strings[i]++
	s.expect('+', "OK")
	return AppendCommand(dst, "SET", string(appendKey(nil, n)), string(appendValue(nil, n, int64(s.strings[i]), s.run.size)))
}

func (s *coldScript) appendElement(dst []byte, write bool) []byte {
	i := s.rng.IntN(len(s.elements))
	g := int64(i)*int64(s.run.conns) + s.conn
	name, kind := collectionKey(nil, g/s.run.elements)
	key, index := string(name), g%s.run.elements
	field := string(appendField(nil, index))
	if write {
		s.elements[i]++
	}
	value := string(appendValue(nil, elementKey(g), int64(s.elements[i]), valueSize))
	version := strconv.FormatInt(int64(s.elements[i]), 10)
	at := strconv.FormatInt(index, 10)
	switch {
	case kind == 'h' && write:
		s.expect(':', "0")
		return AppendCommand(dst, "HSET", key, field, value)
	case kind == 'h':
		s.expect('$', value)
		return AppendCommand(dst, "HGET", key, field)
	case kind == 'l' && write:
		s.expect('+', "OK")
		return AppendCommand(dst, "LSET", key, at, value)
	case kind == 'l':
		s.expect('$', value)
		return AppendCommand(dst, "LINDEX", key, at)
	case write:
		s.expect(':', "0")
		return AppendCommand(dst, "ZADD", key, version, field)
	}
	s.expect('$', version)
	return AppendCommand(dst, "ZSCORE", key, field)
}

func (s *coldScript) Check(r Reply) error {
	want := s.expected[0]
	s.expected = s.expected[1:]
	if len(s.expected) == 0 {
		s.expected = nil
	}
	if r.Kind != want.kind || r.String() != want.text {
		return fmt.Errorf("wrong answer: %s, expected %s", shorten(r.String()), shorten(want.text))
	}
	return nil
}
