package bench

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// allRun is every benchmark that has points, in one size.
type allRun struct {
	throughput throughputRun
	cow        cowRun
	outage     outageRun
	sync       syncRun
	restart    restartRun
}

// quickRun ends within ten minutes on two cores; fullRun takes hours. Both have enough points on each curve to see its shape.
func quickRun() allRun {
	return allRun{
		throughput: throughputRun{mixes: named("set", "get", "incr", "hset", "lpush", "zadd", "ycsb-a", "ycsb-f"), dist: Uniform, size: valueSize, keys: 100_000, conns: 50, depths: []int{1, 4, 16, 64},
			policies: []string{"always", "everysec"}, warm: 80 * time.Millisecond, each: 400 * time.Millisecond, rounds: 1},
		cow: cowRun{base: cowCase{10_000, Uniform, valueSize, 300_000}, rates: []float64{2000, 10_000, 20_000, 0}, dists: []string{Zipf, Hotspot},
			values: []int64{400, 1600}, keys: []int64{100_000, 600_000}, policy: "everysec", conns: 16, probe: 1000, quiet: 1500 * time.Millisecond, rounds: 1, watch: 10 * time.Millisecond},
		outage: outageRun{keys: 200_000, policy: "everysec", rate: 2000, conns: 16, before: time.Second, warm: 16 << 20, limit: 5 * time.Minute,
			sizes: []int64{150 << 20, 200 << 20, 250 << 20, 300 << 20}, overwrites: []int{100}, outages: []string{"cut"}, choices: []string{"replay", "snapshot"}, rounds: 1},
		sync: syncRun{keys: 500_000, policy: "everysec", conns: 50, depth: 1, probe: 1000, before: 2 * time.Second, limit: 2 * time.Minute,
			loads: []string{"none", "full"}, rounds: 1},
		restart: restartRun{sizes: []int64{100_000, 300_000, 1_000_000}, rounds: 1, load: 2 * time.Second, policy: "everysec"},
	}
}

func fullRun() allRun {
	var all []string
	for _, m := range mixes {
		all = append(all, m.name)
	}
	return allRun{
		throughput: throughputRun{mixes: named(all...), dist: Uniform, size: valueSize, keys: 1_000_000, conns: 50, depths: []int{1, 4, 16, 64},
			policies: []string{"always", "everysec"}, warm: 500 * time.Millisecond, each: 2 * time.Second, rounds: 5},
		cow: cowRun{base: cowCase{10_000, Uniform, valueSize, 1_000_000}, rates: []float64{2000, 10_000, 20_000, 30_000, 0}, dists: []string{Zipf, Hotspot},
			values: []int64{400, 1600, 6400}, keys: []int64{300_000, 3_000_000}, policy: "everysec", conns: 16, probe: 1000, quiet: 5 * time.Second, rounds: 5, watch: 20 * time.Millisecond},
		outage: outageRun{keys: 1_000_000, policy: "everysec", rate: 10_000, conns: 16, before: 5 * time.Second, warm: 512 << 20, limit: 10 * time.Minute,
			sizes: []int64{100 << 20, 300 << 20, 1 << 30, 5 << 30}, overwrites: []int{100, 50}, outages: []string{"cut"}, choices: []string{"replay", "snapshot", "auto"}, rounds: 5},
		sync: syncRun{keys: 3_000_000, policy: "everysec", conns: 50, depth: 1, probe: 1000, before: 10 * time.Second, limit: 5 * time.Minute,
			loads: []string{"none", "full"}, rounds: 5},
		restart: restartRun{sizes: []int64{300_000, 1_000_000, 3_000_000}, rounds: 5, load: 10 * time.Second, policy: "everysec"},
	}
}

// named are the mixes of these names, which must exist.
func named(names ...string) []workload {
	var out []workload
	for _, name := range names {
		m, err := mixNamed(name)
		if err != nil {
			panic(err)
		}
		out = append(out, m)
	}
	return out
}

func defineAll(fs *flag.FlagSet) func(context.Context, *env) error {
	quick := fs.Bool("quick", false, "small sizes and one round: within ten minutes on two cores")
	rounds := fs.Int("rounds", 0, "`rounds`, if not those of the size (1 or 5)")
	only := fs.String("only", "throughput,cow,outage,sync,restart", "which `benchmarks`")
	return func(ctx context.Context, e *env) error {
		a := fullRun()
		if *quick {
			a = quickRun()
		}
		if *rounds > 0 {
			a.throughput.rounds, a.cow.rounds, a.outage.rounds, a.sync.rounds, a.restart.rounds = *rounds, *rounds, *rounds, *rounds, *rounds
		}
		names, err := among("-only", *only, "throughput", "cow", "outage", "sync", "restart")
		if err != nil {
			return err
		}
		parts := map[string]struct {
			steps int
			run   func(*Report) error
		}{
			"throughput": {a.throughput.steps(e), func(r *Report) error { return e.throughput(ctx, r, a.throughput) }},
			"cow":        {a.cow.steps(e), func(r *Report) error { return e.cows(ctx, r, a.cow) }},
			"outage":     {a.outage.steps(e), func(r *Report) error { return e.outages(ctx, r, a.outage) }},
			"sync":       {a.sync.steps(e), func(r *Report) error { return e.fullSyncs(ctx, r, a.sync) }},
			"restart":    {a.restart.steps(e), func(r *Report) error { return e.restarts(ctx, r, a.restart) }},
		}
		steps := 0
		for _, name := range names {
			steps += parts[name].steps
		}
		e.results.expect(steps)
		began := time.Now()
		for _, name := range names {
			// Tables and plots are made of all points at the end; what a benchmark prints is for those who look at it alone.
			if err := parts[name].run(NewReport(io.Discard, name, e.command)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			e.results.progress.Printf("%s done after %v\n", name, time.Since(began).Round(time.Second))
		}
		return nil
	}
}

// lookAtDisk notes where the servers' directories are and what a sync of a file takes there.
func (c *collector) lookAtDisk() error {
	name, p50, p99, err := disk(os.TempDir())
	if err != nil {
		return fmt.Errorf("the disk of %s: %w", os.TempDir(), err)
	}
	c.run.Machine.Disk, c.run.Machine.FsyncP50, c.run.Machine.FsyncP99 = name, p50.Seconds(), p99.Seconds()
	return nil
}
