package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// cowRun is how the cost of a snapshot is measured: around a base, each list is varied while all else stays.
type cowRun struct {
	base   cowCase
	rates  []float64
	dists  []string
	values []int64
	keys   []int64
	policy string
	conns  int
	probe  float64 // writes per second of the probing client
	quiet  time.Duration
	rounds int
	watch  time.Duration // between two looks at memory
}

// cowCase is one load and one data set.
type cowCase struct {
	rate  float64 // writes per second; 0 = as fast as they are answered
	dist  string
	value int64 // bytes
	keys  int64
}

func (x cowCase) String() string {
	return fmt.Sprintf("%s writes/s, %s, values of %d bytes, %s keys", x.rateName(), x.dist, x.value, millions(x.keys))
}

func (x cowCase) rateName() string {
	if x.rate == 0 {
		return "max"
	}
	return strconv.FormatFloat(x.rate, 'f', -1, 64)
}

// cases are the base and what differs from it in one respect, each once; those that share a data set stand together.
func (c cowRun) cases() []cowCase {
	var cases []cowCase
	seen := map[cowCase]bool{}
	add := func(x cowCase) {
		if !seen[x] {
			seen[x] = true
			cases = append(cases, x)
		}
	}
	for _, rate := range c.rates {
		x := c.base
		x.rate = rate
		add(x)
	}
	add(c.base)
	for _, dist := range c.dists {
		x := c.base
		x.dist = dist
		add(x)
	}
	for _, value := range c.values {
		x := c.base
		x.value = value
		add(x)
	}
	for _, keys := range c.keys {
		x := c.base
		x.keys = keys
		add(x)
	}
	return cases
}

// steps is how many there are.
func (c cowRun) steps(e *env) int { return len(c.cases()) * len(e.servers) * c.rounds }

// cowFigures has a value for each round; bytes, seconds.
type cowFigures struct {
	rate, took, extra, copied, hold, pause, disk []float64
	quiet, busy                                  latencies
}

func defineCow(fs *flag.FlagSet) func(context.Context, *env) error {
	c := cowRun{}
	rates := fs.String("rates", "2000,10000,30000,max", "writes per second, an open loop each; `max`: as fast as they are answered")
	dists := fs.String("dists", "uniform,hotspot,zipf", "`distributions` of the keys that are written")
	values := fs.String("values", "100,1000,4000", "`bytes` of a value")
	keys := fs.String("sizes", "300k,1m,3m", "numbers of `keys`")
	fs.Float64Var(&c.base.rate, "rate", 10_000, "`writes` per second while another list is varied")
	fs.StringVar(&c.base.dist, "dist", Uniform, "`distribution` while another list is varied")
	fs.Int64Var(&c.base.value, "d", 100, "`bytes` of a value while another list is varied")
	fs.Int64Var(&c.base.keys, "keys", 1_000_000, "`keys` while another list is varied")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	fs.IntVar(&c.conns, "c", 16, "`connections` of the load")
	fs.Float64Var(&c.probe, "probe", 1000, "`writes` per second of the probing client")
	fs.DurationVar(&c.quiet, "t", 5*time.Second, "`time` of load before each snapshot")
	fs.IntVar(&c.rounds, "rounds", 3, "`rounds`; the servers take turns in each")
	fs.DurationVar(&c.watch, "watch", 20*time.Millisecond, "`time` between two looks at memory")
	return func(ctx context.Context, e *env) (err error) {
		for _, text := range list(*rates) {
			rate := 0.0
			if text != "max" {
				if rate, err = strconv.ParseFloat(text, 64); err != nil || rate <= 0 {
					return fmt.Errorf("-rates: %q is neither a number above 0 nor max", text)
				}
			}
			c.rates = append(c.rates, rate)
		}
		c.dists = list(*dists)
		for _, d := range append([]string{c.base.dist}, c.dists...) {
			if _, err := NewDistribution(d, 1); err != nil {
				return err
			}
		}
		if c.values, err = counts(*values); err != nil {
			return fmt.Errorf("-values: %w", err)
		}
		if c.keys, err = counts(*keys); err != nil {
			return fmt.Errorf("-sizes: %w", err)
		}
		r := NewReport(e.out, "A snapshot while writes go on", e.command)
		e.results.expect(c.steps(e))
		if err := e.cows(ctx, r, c); err != nil {
			return err
		}
		return r.Save(e.output)
	}
}

// cows measures all cases and adds their tables to the report.
func (e *env) cows(ctx context.Context, r *Report, c cowRun) error {
	r.Printf("Overwrites by %d connections in an open loop, appendfsync %s, for %v; then BGSAVE, and the same load while that runs. Redis forks and writes\n"+
		"everything; Holdfast's checkpoint writes what was changed since the last one, which was right after the data was loaded. (A snapshot that is sent to a replica is one of the store, and\n"+
		"costs the keyspace nothing beyond this checkpoint.) Extra memory: the most of the process and its forks, shared pages counted once, each %v, above the most\n"+
		"before the snapshot. Copied: what the server says (rdb_last_cow_size; checkpoint_last_frozen_bytes). Hold: latest_fork_usec; checkpoint_max_hold_usec.\n"+
		"Pause: the longest answer to a client that writes %s times a second in an open loop, during the snapshot. Disk: written meanwhile, log included.\n"+
		"Where the load goes as fast as it is answered (max), latencies are that client's, too. %d rounds, medians (lowest–highest).\n\n",
		c.conns, c.policy, c.quiet, c.watch, thousands(c.probe), c.rounds)
	figures := map[cowCase]map[Kind]*cowFigures{}
	cases := c.cases()
	for round := range c.rounds {
		for at := 0; at < len(cases); {
			// What shares a data set shares a server.
			end := at + 1
			for end < len(cases) && cases[end].keys == cases[at].keys && cases[end].value == cases[at].value {
				end++
			}
			for _, kind := range inTurn(e.servers, round) {
				if err := e.cowsOf(ctx, r, c, kind, cases[at:end], round, figures); err != nil {
					return fmt.Errorf("%s: %w", kind, err)
				}
			}
			at = end
		}
	}
	cost := [][]string{{"load", "server", "time", "extra memory", "copied", "hold", "pause", "disk"}}
	latency := [][]string{{"", "writes/s", "p50", "p99", "p99.9", "longest"}}
	for _, x := range cases {
		for _, kind := range e.servers {
			f := figures[x][kind]
			name := fmt.Sprintf("%s, %s", kind, x)
			ms := func(s float64) string { return fmt.Sprintf("%.2f ms", s*1e3) }
			cost = append(cost, []string{x.String(), string(kind), spread(f.took, seconds), spread(f.extra, mebibytes), spread(f.copied, mebibytes),
				spread(f.hold, ms), spread(f.pause, ms), spread(f.disk, mebibytes)})
			latency = append(latency, f.quiet.row(name+", none"), f.busy.row(name+", during one"))
		}
	}
	r.Table(cost)
	r.Table(latency)
	return nil
}

// cowsOf measures cases of one data set on a new server.
func (e *env) cowsOf(ctx context.Context, r *Report, c cowRun, kind Kind, cases []cowCase, round int, figures map[cowCase]map[Kind]*cowFigures) error {
	args := policyArgs(kind, c.policy)
	if kind == Holdfast {
		// Checkpoints when asked only: what is measured is one of known size.
		args = append(args, "--checkpoint-log-bytes", "1000gb", "--checkpoint-interval", "1000000")
	}
	return e.withServer(ctx, kind, args, func(p *Process) error {
		if err := e.known(p); err != nil {
			return err
		}
		if _, err := p.fill(ctx, cases[0].keys, int(cases[0].value)); err != nil {
			return err
		}
		if _, err := p.checkpoint(ctx); err != nil {
			return err
		}
		for _, x := range cases {
			e.results.progress.Step(fmt.Sprintf("snapshot of %s, %s", kind, x), 0)
			if figures[x] == nil {
				figures[x] = map[Kind]*cowFigures{}
			}
			if figures[x][kind] == nil {
				figures[x][kind] = &cowFigures{}
			}
			if err := e.cow(ctx, r, c, p, x, round, figures[x][kind]); err != nil {
				return fmt.Errorf("%s: %w", x, err)
			}
		}
		return nil
	})
}

// cowLoad is the load of a case, open or closed.
type cowLoad struct {
	open   *PacedRun
	closed *background
	felt   *latencyWatch
}

func (e *env) startCowLoad(ctx context.Context, c cowRun, p *Process, x cowCase) (*cowLoad, error) {
	dist, err := NewDistribution(x.dist, x.keys)
	if err != nil {
		return nil, err
	}
	script := func(conn int) Script {
		rng := rand.New(rand.NewPCG(e.seed, uint64(conn)))
		s := &setter{size: int(x.value)}
		s.next = func() int64 { s.version = rng.Int64N(1 << 20); return dist.Draw(rng) }
		return s
	}
	l := &cowLoad{}
	rate := x.rate
	if rate == 0 {
		l.closed = Load{Addr: p.Addr, Conns: c.conns, Pipeline: 16, Script: script}.start(ctx)
		return l, nil
	}
	l.open, err = Paced{Addr: p.Addr, Conns: c.conns, Rate: rate, Script: script}.Start(ctx)
	if err != nil {
		return nil, err
	}
	l.felt = watchLatency(l.open)
	return l, nil
}

// stop ends the load; a second stop does nothing.
func (l *cowLoad) stop() (closed *Result, err error) {
	if l.closed != nil {
		closed, err = l.closed.stop()
		l.closed = nil
	}
	if l.open != nil {
		err = errors.Join(err, l.open.Stop())
		l.felt.Stop()
		l.open = nil
	}
	return closed, err
}

// cow is one round of one case.
func (e *env) cow(ctx context.Context, r *Report, c cowRun, p *Process, x cowCase, round int, f *cowFigures) (err error) {
	memory := watchMemoryEvery(p, c.watch)
	defer memory.Stop()
	load, err := e.startCowLoad(ctx, c, p, x)
	if err != nil {
		return err
	}
	defer func() {
		_, serr := load.stop()
		err = errors.Join(err, serr)
	}()
	probe, err := Paced{Addr: p.Addr, Conns: 1, Rate: c.probe,
		Script: func(int) Script { return overwriter(e.seed, c.conns, x.keys, int(x.value)) }}.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, probe.Stop()) }()
	felt := watchLatency(probe)
	defer felt.Stop()

	// Without a snapshot.
	if err := wait(ctx, c.quiet); err != nil {
		return err
	}
	// The probe's latencies stand for those of a closed load, whose own say how deep its pipelines are.
	watch := felt
	if load.felt != nil {
		watch = load.felt
	}
	quiet, before := watch.Cut()
	if watch != felt {
		felt.Cut()
	}
	memBefore, err := memory.Cut(p)
	if err != nil {
		return err
	}
	diskBefore, err := p.DiskWrites()
	if err != nil {
		return err
	}
	dump := filepath.Join(p.Spec.Dir, "dump.rdb")
	old, err := statOf(dump)
	if err != nil {
		return err
	}
	took, err := p.checkpoint(ctx)
	if err != nil {
		return err
	}
	busy, during := watch.Cut()
	probed := busy
	if watch != felt {
		probed, _ = felt.Cut()
	}
	most, err := memory.Cut(p)
	if err != nil {
		return err
	}
	disk, err := p.DiskWrites()
	if err != nil {
		return err
	}
	res, err := load.stop()
	if err != nil {
		return err
	}
	rate := busy.PerSecond()
	if res != nil {
		rate = res.PerSecond()
	}
	own, hold, err := p.snapshotFigures()
	if err != nil {
		return err
	}
	// What a fork has written is not in the process's account.
	file, err := statOf(dump)
	if err != nil {
		return err
	}
	written := float64(disk.Bytes - diskBefore.Bytes)
	if file != nil && (old == nil || !os.SameFile(old, file)) {
		written += float64(file.Size())
	}

	f.rate, f.took = append(f.rate, rate), append(f.took, took.Seconds())
	f.extra, f.copied = append(f.extra, float64(most-memBefore)), append(f.copied, float64(own))
	f.hold, f.pause = append(f.hold, hold.Seconds()), append(f.pause, probed.Latency.Max().Seconds())
	f.disk = append(f.disk, written)
	f.quiet.add(quiet)
	f.busy.add(busy)
	m := map[string]float64{"extra-B": float64(most - memBefore), "copied-B": float64(own), "pause-ms": probed.Latency.Max().Seconds() * 1e3,
		"fork-ms": hold.Seconds() * 1e3, "took-s": took.Seconds(), "disk-B": written, "rate-got": rate}
	quiet.Latency.metrics("quiet-", m)
	busy.Latency.metrics("", m)
	e.results.point(result.Point{Bench: result.Cow, Subject: string(p.Spec.Kind), Round: round + 1, Metrics: m, Latency: busy.Latency.buckets(),
		Series: joinSeries(before, during), Params: params("rate", x.rateName(), "dist", x.dist, "value", x.value, "keys", x.keys, "policy", c.policy)})
	r.Run(fmt.Sprintf("Cow/server=%s/rate=%s/dist=%s/value=%d/keys=%d", p.Spec.Kind, x.rateName(), x.dist, x.value, x.keys), busy.Ops,
		append(latencyMetrics(busy), Metric{m["extra-B"], "extra-B"}, Metric{m["copied-B"], "copied-B"}, Metric{m["pause-ms"], "pause-ms"},
			Metric{m["fork-ms"], "fork-ms"}, Metric{m["took-s"], "took-s"}, Metric{m["disk-B"], "disk-B"})...)
	return nil
}

// joinSeries puts what was before an event in front of what was after it, at times below 0.
func joinSeries(before, after map[string][]result.Sample) map[string][]result.Sample {
	all := map[string][]result.Sample{}
	for name, s := range before {
		for _, x := range s {
			all[name] = append(all[name], result.Sample{T: x.T - s[len(s)-1].T, Value: x.Value})
		}
	}
	for name, s := range after {
		all[name] = append(all[name], s...)
	}
	return all
}

// snapshotFigures are what the server says of its last snapshot: bytes copied for it, and how long it stood still. A server that says
// neither has zeros.
func (p *Process) snapshotFigures() (copied int64, hold time.Duration, err error) {
	info, err := p.Info()
	if err != nil {
		return 0, 0, err
	}
	read := func(names ...string) int64 {
		for _, name := range names {
			if _, ok := info[name]; ok {
				n, nerr := infoInt(info, name)
				err = errors.Join(err, nerr)
				return n
			}
		}
		return 0
	}
	copied = read("checkpoint_last_frozen_bytes", "rdb_last_cow_size")
	hold = time.Duration(read("checkpoint_max_hold_usec", "latest_fork_usec")) * time.Microsecond
	return copied, hold, err
}

// statOf describes a file; nil if there is none.
func statOf(name string) (fs.FileInfo, error) {
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return st, err
}
