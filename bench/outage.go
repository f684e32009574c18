package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// outageRun is how a replica is away and comes back.
type outageRun struct {
	keys   int64
	policy string
	rate   float64
	conns  int
	before time.Duration
	warm   int64
	limit  time.Duration

	sizes      []int64
	overwrites []int // percent
	outages    []string
	choices    []string
	rounds     int
}

// steps is how many there are.
func (c outageRun) steps(e *env) int {
	return len(c.sizes) * len(c.overwrites) * len(c.outages) * len(outageSubjects(e.servers, c.choices)) * c.rounds
}

// outageSubject is a server with a configuration.
type outageSubject struct {
	name   string
	kind   Kind
	choice string // replay or snapshot: what the configuration makes of an outage; auto; own = the server's own affair
	args   []string
}

// outageSubjects are what is compared. Holdfast by default sends a snapshot where that is sooner than the log since the replica's
// leave; told to replay or to send one, it shows how fast it does that. Redis keeps the stream for absent replicas in memory: once with room for 2 GB, once
// with what its configuration says by default (1 MB), which comes to a snapshot.
func outageSubjects(servers []Kind, choices []string) []outageSubject {
	var subjects []outageSubject
	for _, kind := range servers {
		switch kind {
		case Holdfast:
			for _, c := range choices {
				subjects = append(subjects, outageSubject{"holdfast, " + c, kind, c, []string{"--repl-sync-choice", c}})
			}
		case Redis:
			subjects = append(subjects, outageSubject{"redis, backlog 2gb", kind, "replay", []string{"--repl-backlog-size", "2gb"}},
				outageSubject{"redis, backlog 1mb", kind, "snapshot", []string{"--repl-backlog-size", "1mb"}})
		default:
			subjects = append(subjects, outageSubject{string(kind), kind, "own", nil})
		}
	}
	return subjects
}

// outageMemory is the most memory of the primary in one round, in bytes.
type outageMemory struct {
	idle, loaded int64 // before the outage: without writes; with the same load, and the replica there
	away, back   int64 // while the replica is away, and from its return until it lacks nothing
	control      int64 // of another server without a replica, with the same load
}

func (m outageMemory) most() int64 { return max(m.away, m.back) }

// outageFigures has a value for each round.
type outageFigures struct {
	caught, lagless, rate, fromReturn []float64 // seconds, and bytes per second
	memory                            []outageMemory
	quiet, busy                       latencies
	syncs                             syncs // of all rounds
}

func defineOutage(fs *flag.FlagSet) func(context.Context, *env) error {
	c := outageRun{}
	sizes := fs.String("bytes", "1g", "`bytes` of stream written while the replica is away, one measurement each: 100m,1g,5g")
	kinds := fs.String("outages", "cut,kill", "how the replica goes away: `cut` of its link, kill -9 of its process")
	choices := fs.String("choices", "replay,auto", "what Holdfast is told to `send`: replay, snapshot, auto (what it estimates to be sooner)")
	overwrites := fs.String("overwrite", "100", "`percentages` of the writes meanwhile that hit keys which are there already; the others make new ones")
	warm := fs.String("warm", "512m", "`bytes` of stream written as fast as the server takes them before the replica joins")
	fs.IntVar(&c.rounds, "rounds", 3, "`rounds`; the subjects take turns in each")
	fs.Int64Var(&c.keys, "keys", 1_000_000, "`keys` of 20 bytes with 100 random bytes each, overwritten all the time")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	fs.Float64Var(&c.rate, "rate", 10_000, "`writes` per second of the clients that are measured, before and after")
	fs.IntVar(&c.conns, "c", 16, "their `connections`")
	fs.DurationVar(&c.before, "t", 10*time.Second, "`time` of measuring before the outage")
	fs.DurationVar(&c.limit, "limit", 10*time.Minute, "longest `time` of catching up")
	return func(ctx context.Context, e *env) error {
		var err error
		if c.warm, err = parseBytes(*warm); err != nil {
			return fmt.Errorf("-warm: %w", err)
		}
		for _, text := range list(*sizes) {
			n, err := parseBytes(text)
			if err != nil {
				return fmt.Errorf("-bytes: %w", err)
			}
			c.sizes = append(c.sizes, n)
		}
		for _, text := range list(*overwrites) {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 || n > 100 {
				return fmt.Errorf("-overwrite: %q is not a percentage", text)
			}
			c.overwrites = append(c.overwrites, n)
		}
		if c.outages, err = among("-outages", *kinds, "cut", "kill"); err != nil {
			return err
		}
		if c.choices, err = among("-choices", *choices, "replay", "snapshot", "auto"); err != nil {
			return err
		}
		r := NewReport(e.out, "A replica that was away", e.command)
		e.results.expect(c.steps(e))
		if err := e.outages(ctx, r, c); err != nil {
			return err
		}
		return r.Save(e.output)
	}
}

// among reads a list of which each element must be one of those allowed.
func among(flag, text string, allowed ...string) ([]string, error) {
	out := list(text)
	for _, t := range out {
		if !slices.Contains(allowed, t) {
			return nil, fmt.Errorf("%s: %q is not one of %s", flag, t, strings.Join(allowed, ", "))
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: nothing to measure", flag)
	}
	return out, nil
}

// outages measures all sizes and ways, and adds their tables to the report.
func (e *env) outages(ctx context.Context, r *Report, c outageRun) error {
	r.Printf("Primary and replica, both appendfsync %s, in sync with %s keys of %d bytes with %d random bytes. The replica goes away, the stream\n"+
		"grows by the bytes named (SET of keys chosen uniformly), the replica comes back. Clients write %s times a second all the\n"+
		"while, but for the outage itself, over %d connections in an open loop: a latency counts from when the write was due. \"caught up\" is from the link\n"+
		"being up (a full sync: from the return, as the link is up when the data are loaded) to the replica having applied what the\n"+
		"primary had logged at the link's return; \"lag 0\" from the same moment to the first time that it has applied all that there is. %d\n"+
		"rounds, medians (lowest–highest).\n\n"+
		"Memory: the primary's most, its forks included, each %v. idle: the keys are there, nobody writes, no replica has come yet; under load:\n"+
		"while %s of stream are written as fast as it goes, before the replica joins, and for %v as measured, with it. no outage: the most of\n"+
		"another server, which has no replica, while the same is written as fast as it goes: the load, then as much as in the outage.\n\n",
		c.policy, millions(c.keys), keyLen, valueSize, thousands(c.rate), c.conns, c.rounds, watchEvery, mebibytes(float64(c.warm)), c.before)
	subjects := outageSubjects(e.servers, c.choices)
	for _, bytes := range c.sizes {
		for _, overwrite := range c.overwrites {
			for _, how := range c.outages {
				x := outageCase{bytes, overwrite, how}
				figures := map[string]*outageFigures{}
				for round := range c.rounds {
					quiet := map[Kind]int64{}
					for _, s := range inTurn(subjects, round) {
						e.results.progress.Step(fmt.Sprintf("outage of %s, %s", s.name, x), 0)
						if figures[s.name] == nil {
							figures[s.name] = &outageFigures{}
						}
						if quiet[s.kind] == 0 { // what it does with replicas makes no difference without one
							n, err := e.noOutage(ctx, c, s, x)
							if err != nil {
								return fmt.Errorf("%s, no outage: %w", s.name, err)
							}
							quiet[s.kind] = n
						}
						if err := e.outage(ctx, r, c, s, x, round, quiet[s.kind], figures[s.name]); err != nil {
							return fmt.Errorf("%s, %s: %w", s.name, x, err)
						}
					}
				}
				r.Printf("## %s\n\n", x)
				outageTables(r, subjects, figures)
			}
		}
	}
	return nil
}

// outageCase is what happens while the replica is away.
type outageCase struct {
	bytes     int64  // that the stream grows by
	overwrite int    // percent of the writes
	how       string // cut or kill
}

func (x outageCase) String() string {
	s := fmt.Sprintf("%s written, outage by %s", mebibytes(float64(x.bytes)), x.how)
	if x.overwrite != 100 {
		s += fmt.Sprintf(", %d %% of the writes to keys that were there", x.overwrite)
	}
	return s
}

func outageTables(r *Report, subjects []outageSubject, figures map[string]*outageFigures) {
	rows := [][]string{{"subject", "caught up", "MB/s", "lag 0", "from return", "sync_full", "partial", "MB/s to redis 2gb"}}
	memory := [][]string{{"subject", "idle", "under load", "while away", "while catching up", "no outage", "most above load", "above no outage", "above idle"}}
	latency := [][]string{{"", "writes/s", "p50", "p99", "p99.9", "longest"}}
	baseline := figures["redis, backlog 2gb"]
	for _, s := range subjects {
		f := figures[s.name]
		var ratios []float64
		for i := range f.rate {
			if baseline != nil {
				ratios = append(ratios, f.rate[i]/baseline.rate[i])
			}
		}
		rows = append(rows, []string{s.name, spread(f.caught, seconds), spread(f.rate, megabytes), spread(f.lagless, seconds), spread(f.fromReturn, seconds),
			thousands(float64(f.syncs.full)), thousands(float64(f.syncs.partial)), spread(ratios, ratio)})
		row := []string{s.name}
		for _, of := range []func(outageMemory) int64{
			func(m outageMemory) int64 { return m.idle }, func(m outageMemory) int64 { return m.loaded },
			func(m outageMemory) int64 { return m.away }, func(m outageMemory) int64 { return m.back }, func(m outageMemory) int64 { return m.control },
			func(m outageMemory) int64 { return m.most() - m.loaded }, func(m outageMemory) int64 { return m.most() - m.control },
			func(m outageMemory) int64 { return m.most() - m.idle },
		} {
			var values []float64
			for _, m := range f.memory {
				values = append(values, float64(of(m)))
			}
			row = append(row, spread(values, mebibytes))
		}
		memory = append(memory, row)
		latency = append(latency, f.quiet.row(s.name+", before"), f.busy.row(s.name+", catching up"))
	}
	r.Table(rows)
	r.Table(memory)
	r.Table(latency)
}

// megabytes renders bytes per second, in powers of ten as disks and networks do.
func megabytes(v float64) string { return fmt.Sprintf("%.1f", v/1e6) }

// idleTime is for how long memory is looked at before there is any load.
const idleTime = time.Second

// loaded watches the memory of a server with its keys, first idle, then while as much is written as before the replica joins. The watch
// goes on.
func (c outageRun) loaded(ctx context.Context, n *node, seed uint64) (w *memWatch, m outageMemory, err error) {
	w = watchMemory(n.Process)
	defer func() {
		if err != nil {
			w.Stop()
		}
	}()
	if err = wait(ctx, idleTime); err != nil {
		return w, m, err
	}
	if m.idle, err = w.Cut(n.Process); err != nil {
		return w, m, err
	}
	// What a server under full load takes of memory anyway must not be taken for the outage's.
	if err = n.grow(ctx, seed, c.keys, c.warm, 100); err != nil {
		return w, m, err
	}
	m.loaded, err = w.Cut(n.Process)
	return w, m, err
}

// noOutage returns the most memory in bytes that a server without replicas takes while it is written what one is in an outage.
func (e *env) noOutage(ctx context.Context, c outageRun, s outageSubject, x outageCase) (most int64, err error) {
	err = e.withFleet(func(fl *fleet) error {
		n, err := fl.add(ctx, s.kind, append(replicationArgs(s.kind, c.policy), s.args...)...)
		if err != nil {
			return err
		}
		if _, err := n.fill(ctx, c.keys, valueSize); err != nil {
			return err
		}
		w, m, err := c.loaded(ctx, n, e.seed)
		if err != nil {
			return err
		}
		defer w.Stop()
		if err := n.grow(ctx, e.seed, c.keys, x.bytes, x.overwrite); err != nil {
			return err
		}
		away, err := w.Cut(n.Process)
		most = max(m.loaded, away)
		return err
	})
	return most, err
}

// outage is one round; control is what noOutage has returned.
func (e *env) outage(ctx context.Context, r *Report, c outageRun, s outageSubject, x outageCase, round int, control int64, f *outageFigures) error {
	return e.withFleet(func(fl *fleet) (err error) {
		args := append(replicationArgs(s.kind, c.policy), s.args...)
		primary, err := fl.add(ctx, s.kind, args...)
		if err != nil {
			return err
		}
		if err := e.known(primary.Process); err != nil {
			return err
		}
		if _, err := primary.fill(ctx, c.keys, valueSize); err != nil {
			return err
		}
		memory, used, err := c.loaded(ctx, primary, e.seed)
		if err != nil {
			return err
		}
		defer memory.Stop()
		used.control = control
		net, err := fl.proxy(primary)
		if err != nil {
			return err
		}
		replica, err := fl.add(ctx, s.kind, args...)
		if err != nil {
			return err
		}
		if err := replica.follow(net.Addr()); err != nil {
			return err
		}
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		if _, err := memory.Cut(primary.Process); err != nil { // the full sync's
			return err
		}
		open := Paced{Addr: primary.Addr, Conns: c.conns, Rate: c.rate,
			Script: func(i int) Script { return overwriter(e.seed, i, c.keys, valueSize) }}
		load, err := open.Start(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(wait(ctx, c.before), load.Stop()); err != nil {
			return err
		}
		quiet := load.Cut()
		paced, err := memory.Cut(primary.Process)
		if err != nil {
			return err
		}
		used.loaded = max(used.loaded, paced)
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		left, err := replica.standing()
		if err != nil {
			return err
		}
		counted, err := primary.syncs()
		if err != nil {
			return err
		}

		net.Block()
		if x.how == "kill" {
			if err := replica.kill(); err != nil {
				return err
			}
		}
		if err := primary.grow(ctx, e.seed, c.keys, x.bytes, x.overwrite); err != nil {
			return err
		}
		if used.away, err = memory.Cut(primary.Process); err != nil {
			return err
		}

		m := map[string]float64{}
		if s.kind == Holdfast {
			if err := primary.explain(left.offset+1, s.choice, m); err != nil {
				return err
			}
		}

		if load, err = open.Start(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, load.Stop()) }() // a second Stop does nothing
		felt := watchLatency(load)
		defer felt.Stop()
		returned := time.Now()
		net.Open()
		if x.how == "kill" {
			if err := replica.launch(); err != nil {
				return err
			}
			if err := replica.followAgain(ctx, net.Addr(), c.limit); err != nil {
				return err
			}
		}
		if _, err := replica.awaitLink(ctx, c.limit); err != nil {
			return err
		}
		linked := time.Now()
		target, err := replica.awaitPresent(ctx, primary, c.limit)
		if err != nil {
			return err
		}
		caught := time.Now()
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		lagless := time.Now()
		if err := load.Stop(); err != nil {
			return err
		}
		busy, overTime := felt.Cut()
		if used.back, err = memory.Cut(primary.Process); err != nil {
			return err
		}
		now, err := primary.syncs()
		if err != nil {
			return err
		}
		now = now.minus(counted)
		from := linked
		if now.full > 0 {
			from = returned
		}
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		if err := sameDigest(primary, replica); err != nil {
			return err
		}
		took := caught.Sub(from).Seconds()
		f.caught = append(f.caught, took)
		f.rate = append(f.rate, float64(target.offset-left.offset)/took)
		f.lagless = append(f.lagless, lagless.Sub(from).Seconds())
		f.fromReturn = append(f.fromReturn, caught.Sub(returned).Seconds())
		f.memory = append(f.memory, used)
		f.quiet.add(quiet)
		f.busy.add(busy)
		f.syncs = f.syncs.plus(now)
		m["took-s"], m["caught-s"], m["lagless-s"] = caught.Sub(returned).Seconds(), took, lagless.Sub(from).Seconds()
		m["MB/s"] = float64(target.offset-left.offset) / took / 1e6
		m["extra-B"], m["memory-B"] = float64(used.most()-used.loaded), float64(used.most())
		m["extra-idle-B"], m["extra-control-B"] = float64(used.most()-used.idle), float64(used.most()-used.control)
		m["full"], m["partial"] = float64(now.full), float64(now.partial)
		quiet.Latency.metrics("quiet-", m)
		busy.Latency.metrics("", m)
		e.results.point(result.Point{Bench: result.Outage, Subject: string(s.kind), Round: round + 1, Metrics: m, Latency: busy.Latency.buckets(), Series: overTime,
			Params: params("bytes", x.bytes, "overwrite", x.overwrite, "keys", c.keys, "choice", s.choice, "how", x.how, "rate", c.rate, "policy", c.policy)})
		name := fmt.Sprintf("Outage/subject=%s/bytes=%d/outage=%s", s.runName(), x.bytes, x.how)
		if x.overwrite != 100 {
			name += fmt.Sprintf("/overwrite=%d", x.overwrite)
		}
		r.Run(name, 1, Metric{took, "s-caught-up"}, Metric{m["MB/s"], "MB/s"},
			Metric{lagless.Sub(from).Seconds(), "s-lag-0"}, Metric{m["extra-B"], "B-above"}, Metric{m["extra-control-B"], "B-above-no-outage"}, Metric{m["extra-idle-B"], "B-above-idle"},
			Metric{float64(now.full), "sync_full"}, Metric{float64(now.partial), "sync_partial_ok"})
		r.Run(name+"/load=before", quiet.Ops, latencyMetrics(quiet)...)
		r.Run(name+"/load=catching-up", busy.Ops, latencyMetrics(busy)...)
		return nil
	})
}

func (s outageSubject) runName() string {
	if len(s.args) == 0 {
		return string(s.kind)
	}
	return string(s.kind) + "-" + s.args[len(s.args)-1]
}

// explain asks a Holdfast what it would choose for a replica that lacks the stream from offset on, and how long it takes either way
// to be: metrics estimate-replay-s, estimate-snapshot-s and chose-snapshot (0 or 1). configured is what its repl-sync-choice is set to.
func (n *node) explain(offset int64, configured string, m map[string]float64) error {
	if _, err := n.do("CONFIG", "SET", "repl-sync-choice", "auto"); err != nil {
		return err
	}
	r, err := n.do("HOLDFAST", "PSYNC-EXPLAIN", strconv.FormatInt(offset, 10))
	if err != nil {
		return err
	}
	if _, err := n.do("CONFIG", "SET", "repl-sync-choice", configured); err != nil {
		return err
	}
	for i := 0; i+1 < len(r.Elems); i += 2 {
		name, value := r.Elems[i].String(), r.Elems[i+1]
		switch name {
		case "decision":
			m["chose-snapshot"] = 0
			if value.String() == "full" {
				m["chose-snapshot"] = 1
			}
		case "replay", "snapshot-tables":
			for k := 0; k+1 < len(value.Elems); k += 2 {
				if value.Elems[k].String() == "estimated-ms" {
					m[map[string]string{"replay": "estimate-replay-s", "snapshot-tables": "estimate-snapshot-s"}[name]] = float64(value.Elems[k+1].Int) / 1e3
				}
			}
		}
	}
	if _, ok := m["chose-snapshot"]; !ok {
		return fmt.Errorf("%s: HOLDFAST PSYNC-EXPLAIN answered %s", n.name, r)
	}
	return nil
}

// grow writes until the stream has so many bytes more, as fast as the server takes them; overwrite is the percentage of writes to the
// first keys, the others make new ones behind these.
func (n *node) grow(ctx context.Context, seed uint64, keys, bytes int64, overwrite int) error {
	var made atomic.Int64
	made.Store(keys)
	start, err := n.standing()
	if err != nil {
		return err
	}
	const conns = 8
	record := int64(len((&setter{size: valueSize, next: func() int64 { return 0 }}).Append(nil)))
	for at := start.offset; at < start.offset+bytes; {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := Load{Addr: n.Addr, Conns: conns, Pipeline: 64, Ops: (start.offset+bytes-at)/record + 1,
			Script: func(i int) Script { return mixedWriter(seed+uint64(at), i, keys, valueSize, overwrite, &made) }}.Run(ctx)
		if err != nil {
			return err
		}
		s, err := n.standing()
		if err != nil {
			return err
		}
		if s.offset == 0 { // a Redis that has not had a replica does not count, but has been written as much
			return nil
		}
		if s.offset <= at {
			return fmt.Errorf("%s: the stream did not grow beyond %d", n.name, at)
		}
		at = s.offset
	}
	return nil
}

// followAgain waits until a server that was started again answers, and has it follow addr if it does not by itself: Redis keeps
// whom it follows in its configuration file only, and has none here.
func (n *node) followAgain(ctx context.Context, addr string, limit time.Duration) error {
	return until(ctx, limit, n.name+" to be back", func() (bool, error) {
		s, err := n.standing()
		if err != nil {
			return false, err
		}
		if s.replica {
			return true, nil
		}
		info, err := n.info("persistence")
		if err != nil || info["loading"] != "0" {
			return false, err
		}
		return true, n.follow(addr)
	})
}
