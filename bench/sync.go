package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// syncRun is how a full sync is measured.
type syncRun struct {
	keys   int64
	policy string
	conns  int
	depth  int
	probe  float64 // writes per second of the probing client
	before time.Duration
	limit  time.Duration
	loads  []string
	rounds int
}

// steps is how many there are.
func (c syncRun) steps(e *env) int { return len(c.loads) * len(e.pairs) * c.rounds }

// syncCase is a pair, idle or under load.
type syncCase struct {
	pair   pair
	loaded bool
}

func (c syncCase) load() string {
	if c.loaded {
		return "full"
	}
	return "none"
}

// syncFigures has a value for each round.
type syncFigures struct {
	took, link []float64 // seconds to the offset, and to the link
	extra      []float64 // bytes of memory
	quiet      latencies // of the probing client, without a sync
	busy       latencies // and during one
	idleRate   []float64 // writes/s of the load before
	rate       []float64 // and during the sync
	late       int       // rounds in which the sync was not done within the limit
	syncs      syncs
}

func defineSync(fs *flag.FlagSet) func(context.Context, *env) error {
	c := syncRun{}
	loads := fs.String("loads", "none,full", "`loads` of the primary meanwhile: none, full")
	fs.IntVar(&c.rounds, "rounds", 3, "`rounds`; the pairs take turns in each")
	fs.Int64Var(&c.keys, "keys", 3_000_000, "`keys` of 20 bytes with 100 random bytes each")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	fs.IntVar(&c.conns, "c", 50, "`connections` of the full load")
	fs.IntVar(&c.depth, "p", 1, "`depth` of the full load's pipeline")
	fs.Float64Var(&c.probe, "probe", 1000, "`writes` per second of the probing client")
	fs.DurationVar(&c.before, "t", 10*time.Second, "`time` of measuring before the sync")
	fs.DurationVar(&c.limit, "limit", 5*time.Minute, "longest `time` of a sync")
	return func(ctx context.Context, e *env) (err error) {
		if c.loads, err = among("-loads", *loads, "none", "full"); err != nil {
			return err
		}
		r := NewReport(e.out, "A full sync", e.command)
		e.results.expect(c.steps(e))
		if err := e.fullSyncs(ctx, r, c); err != nil {
			return err
		}
		return r.Save(e.output)
	}
}

// fullSyncs measures all pairs and adds their tables to the report.
func (e *env) fullSyncs(ctx context.Context, r *Report, c syncRun) error {
	var cases []syncCase
	for _, load := range c.loads {
		for _, p := range e.pairs {
			cases = append(cases, syncCase{p, load == "full"})
		}
	}
	r.Printf("%s keys of %d bytes with %d random bytes on the primary, nothing on the replica, both appendfsync %s. From REPLICAOF to the link being up, and to the\n"+
		"replica having applied what the primary had logged at that moment. Keys/s and MB/s are of keys and values by the latter. A probing client writes\n"+
		"%s times a second in an open loop, latency counted from when a write was due; the full load is %d connections with pipelines of %d that overwrite as fast as\n"+
		"they are answered. Extra memory: the primary's most during the sync, its forks included, above the most in %v before, each %v.\n"+
		"Redis with repl-diskless-sync-delay 0, all else by default. %d rounds, medians (lowest–highest); ratios are taken within a round.\n\n",
		millions(c.keys), keyLen, valueSize, c.policy, thousands(c.probe), c.conns, c.depth, c.before, watchEvery, c.rounds)
	figures := map[syncCase]*syncFigures{}
	for round := range c.rounds {
		for _, x := range inTurn(cases, round) {
			e.results.progress.Step(fmt.Sprintf("full sync %s of %s keys, load %s", x.pair, millions(c.keys), x.load()), 0)
			if figures[x] == nil {
				figures[x] = &syncFigures{}
			}
			if err := e.fullSync(ctx, r, c, x, round, figures[x]); err != nil {
				return fmt.Errorf("%s, load %s: %w", x.pair, x.load(), err)
			}
		}
	}
	for _, load := range c.loads {
		r.Printf("## Load: %s\n\n", load)
		syncTables(r, c, cases, load, figures)
	}
	return nil
}

func syncTables(r *Report, c syncRun, cases []syncCase, load string, figures map[syncCase]*syncFigures) {
	times := [][]string{{"pair", "to the link", "to the offset", "keys/s", "MB/s", "times redis → redis", "extra memory", "sync_full"}}
	work := [][]string{{"pair", "load before, writes/s", "during", "times redis → redis"}}
	latency := [][]string{{"probing client", "writes/s", "p50", "p99", "p99.9", "longest"}}
	base := figures[syncCase{pair{Redis, Redis}, load == "full"}]
	for _, x := range cases {
		if x.load() != load {
			continue
		}
		f := figures[x]
		var perKey, perByte, speed, writes []float64
		for i, t := range f.took {
			perKey = append(perKey, float64(c.keys)/t)
			perByte = append(perByte, float64(c.keys*(keyLen+valueSize))/t)
			if base != nil && i < len(base.took) {
				speed = append(speed, base.took[i]/t)
			}
			if base != nil && i < len(base.rate) && x.loaded {
				writes = append(writes, f.rate[i]/base.rate[i])
			}
		}
		took := spread(f.took, seconds)
		if f.late > 0 {
			took += fmt.Sprintf("; %d not within %v", f.late, c.limit)
		}
		times = append(times, []string{x.pair.String(), spread(f.link, seconds), took, spread(perKey, thousands), spread(perByte, megabytes), spread(speed, ratio),
			spread(f.extra, mebibytes), thousands(float64(f.syncs.full))})
		work = append(work, []string{x.pair.String(), spread(f.idleRate, thousands), spread(f.rate, thousands), spread(writes, ratio)})
		if len(f.quiet.rate) > 0 {
			latency = append(latency, f.quiet.row(x.pair.String()+", before"), f.busy.row(x.pair.String()+", during"))
		}
	}
	r.Table(times)
	if load == "full" {
		r.Table(work)
	}
	r.Table(latency)
}

// background is a closed load that runs until it is stopped.
type background struct {
	cancel context.CancelFunc
	done   chan error
	res    *Result
}

func (l Load) start(ctx context.Context) *background {
	ctx, cancel := context.WithCancel(ctx)
	b := &background{cancel: cancel, done: make(chan error, 1)}
	go func() {
		res, err := l.Run(ctx)
		b.res = res
		b.done <- err
	}()
	return b
}

// stop ends the load and returns what it measured.
func (b *background) stop() (*Result, error) {
	b.cancel()
	err := <-b.done
	return b.res, err
}

// fullSync is one round.
func (e *env) fullSync(ctx context.Context, r *Report, c syncRun, x syncCase, round int, f *syncFigures) error {
	return e.withFleet(func(fl *fleet) (err error) {
		primary, err := fl.add(ctx, x.pair.primary, replicationArgs(x.pair.primary, c.policy)...)
		if err != nil {
			return err
		}
		if _, err := primary.fill(ctx, c.keys, valueSize); err != nil {
			return err
		}
		replica, err := fl.add(ctx, x.pair.replica, replicationArgs(x.pair.replica, c.policy)...)
		if err != nil {
			return err
		}
		if err := errors.Join(e.known(primary.Process), e.known(replica.Process)); err != nil {
			return err
		}
		counted, err := primary.syncs()
		if err != nil {
			return err
		}

		overwrite := func(conn int) Script { return overwriter(e.seed, conn, c.keys, valueSize) }
		full := Load{Addr: primary.Addr, Conns: c.conns, Pipeline: c.depth, Script: overwrite}
		memory := watchMemory(primary.Process)
		defer memory.Stop()
		probe, err := Paced{Addr: primary.Addr, Conns: 1, Rate: c.probe, Script: func(int) Script { return overwrite(c.conns) }}.Start(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, probe.Stop()) }()
		felt := watchLatency(probe)
		defer felt.Stop()
		rates := struct{ before, during *Result }{}
		if x.loaded {
			full.Duration = c.before
			if rates.before, err = full.Run(ctx); err != nil {
				return err
			}
			full.Duration = 0
		} else if err := wait(ctx, c.before); err != nil {
			return err
		}
		quiet, _ := felt.Cut()
		before, err := memory.Cut(primary.Process)
		if err != nil {
			return err
		}

		var load *background
		if x.loaded {
			load = full.start(ctx)
		}
		spent, err := primary.spent()
		if err != nil {
			return err
		}
		started := time.Now()
		link, took, serr := replica.sync(ctx, primary, c.limit, started)
		busy, overTime := felt.Cut()
		most, err := memory.Cut(primary.Process)
		after, cerr := primary.spent()
		err = errors.Join(err, cerr)
		if load != nil {
			var lerr error
			rates.during, lerr = load.stop()
			err = errors.Join(err, lerr)
		}
		late := errors.Is(serr, errLimit)
		if !late {
			err = errors.Join(err, serr)
		}
		if err = errors.Join(err, probe.Stop()); err != nil {
			return err
		}
		now, err := primary.syncs()
		if err != nil {
			return err
		}
		f.syncs = f.syncs.plus(now.minus(counted))
		if late {
			// That Redis drops a replica which cannot keep up, and begins again, is a result and not a failure of the measurement.
			f.late++
			r.Printf("%s, load %s: not in sync within %v: %v\n\n", x.pair, x.load(), c.limit, serr)
			return nil
		}
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		if err := sameDigest(primary, replica); err != nil {
			return err
		}
		f.link, f.took = append(f.link, link.Seconds()), append(f.took, took.Seconds())
		f.extra = append(f.extra, float64(most-before))
		f.quiet.add(quiet)
		f.busy.add(busy)
		name := fmt.Sprintf("Sync/%s/load=%s/keys=%d", x.pair.key(), x.load(), c.keys)
		metrics := []Metric{{took.Seconds(), "s-to-offset"}, {link.Seconds(), "s-to-link"}, {float64(c.keys) / took.Seconds(), "keys/s"},
			{float64(most - before), "B-extra"}}
		if x.loaded {
			f.idleRate, f.rate = append(f.idleRate, rates.before.PerSecond()), append(f.rate, rates.during.PerSecond())
			metrics = append(metrics, Metric{rates.before.PerSecond(), "req/s-before"}, Metric{rates.during.PerSecond(), "req/s-during"})
		}
		m := map[string]float64{"link-s": link.Seconds(), "took-s": took.Seconds(), "keys/s": float64(c.keys) / took.Seconds(),
			"MB/s": float64(c.keys*(keyLen+valueSize)) / took.Seconds() / 1e6, "cpu-s": (after.cpu - spent.cpu).Seconds(), "extra-B": float64(most - before)}
		if after.wire > 0 {
			m["wire-B"] = float64(after.wire - spent.wire)
		}
		quiet.Latency.metrics("quiet-", m)
		busy.Latency.metrics("", m)
		if x.loaded {
			m["before-req/s"], m["during-req/s"] = rates.before.PerSecond(), rates.during.PerSecond()
		}
		e.results.point(result.Point{Bench: result.Sync, Subject: string(x.pair.primary), Round: round + 1, Metrics: m, Latency: busy.Latency.buckets(), Series: overTime,
			Params: params("peer", x.pair.replica, "load", x.load(), "keys", c.keys, "policy", c.policy)})
		r.Run(name, c.keys, metrics...)
		r.Run(name+"/probe=before", quiet.Ops, latencyMetrics(quiet)...)
		r.Run(name+"/probe=during", busy.Ops, latencyMetrics(busy)...)
		return nil
	})
}

// sync makes n a replica of primary and returns when, after started, the link was up, and when all was applied that the primary had
// logged by then.
func (n *node) sync(ctx context.Context, primary *node, limit time.Duration, started time.Time) (link, took time.Duration, err error) {
	if err := n.follow(primary.Addr); err != nil {
		return 0, 0, err
	}
	if _, err := n.awaitLink(ctx, limit); err != nil {
		return 0, 0, err
	}
	link = time.Since(started)
	if _, err := n.awaitPresent(ctx, primary, limit); err != nil {
		return 0, 0, err
	}
	return link, time.Since(started), nil
}

// spent is what a primary has used since it was started: processor time of itself and of its forks that have ended, and bytes that
// it sent to replicas, where its INFO tells (0 else).
type spent struct {
	cpu  time.Duration
	wire int64
}

func (n *node) spent() (s spent, err error) {
	if s.cpu, err = n.CPU(); err != nil {
		return s, err
	}
	info, err := n.info("stats")
	if err != nil {
		return s, err
	}
	if _, ok := info["total_net_repl_output_bytes"]; ok {
		s.wire, err = infoInt(info, "total_net_repl_output_bytes")
	}
	return s, err
}
