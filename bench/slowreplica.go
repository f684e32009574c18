package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// slowRun is how a replica falls behind.
type slowRun struct {
	keys   int64
	policy string
	conns  int
	depth  int
	before time.Duration
	lasts  time.Duration
	rate   int64
	limit  time.Duration
	bar    int64
}

func defineSlowReplica(fs *flag.FlagSet) func(context.Context, *env) error {
	c := slowRun{}
	kinds := fs.String("ways", "stopped,throttled", "how it falls behind: its process `stopped` by SIGSTOP, its link throttled")
	rate := fs.String("rate", "2m", "`bytes` per second of the throttled link")
	bar := fs.String("bar", "32m", "`bytes` of memory that a Holdfast primary may take in addition")
	fs.DurationVar(&c.lasts, "for", 120*time.Second, "`time` of it")
	fs.DurationVar(&c.before, "t", 30*time.Second, "`time` of the same load before, with a replica that keeps up")
	fs.Int64Var(&c.keys, "keys", 1_000_000, "`keys` of 20 bytes with 100 random bytes each")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	fs.IntVar(&c.conns, "c", 50, "`connections` of the load")
	fs.IntVar(&c.depth, "p", 1, "`depth` of its pipeline")
	fs.DurationVar(&c.limit, "limit", 10*time.Minute, "longest `time` of catching up afterwards")
	return func(ctx context.Context, e *env) (err error) {
		if c.rate, err = parseBytes(*rate); err != nil {
			return fmt.Errorf("-rate: %w", err)
		}
		if c.bar, err = parseBytes(*bar); err != nil {
			return fmt.Errorf("-bar: %w", err)
		}
		r := NewReport(e.out, "A replica that does not keep up", e.command)
		r.Printf("Primary and replica in sync, %s keys of %d bytes with %d random bytes, overwritten by %d connections with pipelines of %d as fast as they are\n"+
			"answered. For %v of that the replica is stopped (SIGSTOP), or gets %d bytes per second only; then it may go on, the load ends, and it must catch up. Dropped: links that\n"+
			"the primary ended while the replica was slow, seen as syncs begun in that time and until it had caught up. Memory of the primary: its most, its forks included, each %v.\n"+
			"Before is the most in %v of the same load with the replica keeping up as it can. All limits by default, repl-timeout (60 s) and client-output-buffer-limit too.\n\n",
			millions(c.keys), keyLen, valueSize, c.conns, c.depth, c.lasts, c.rate, watchEvery, c.before)
		rows := [][]string{{"pair", "way", "behind, at the end", "writes/s before", "meanwhile", "memory before", "most", "above", "sync_full", "partial", "caught up in"}}
		var failed error
		for _, p := range e.pairs {
			for _, way := range list(*kinds) {
				if way != "stopped" && way != "throttled" {
					return fmt.Errorf("-ways: %q is neither stopped nor throttled", way)
				}
				f, err := e.slowReplica(ctx, c, p, way)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p, way, err)
				}
				rows = append(rows, []string{p.String(), way, mebibytes(float64(f.behind)), thousands(f.before), thousands(f.meanwhile),
					mebibytes(float64(f.memBefore)), mebibytes(float64(f.memMost)), mebibytes(float64(f.memMost - f.memBefore)),
					strconv.FormatInt(f.syncs.full, 10), strconv.FormatInt(f.syncs.partial, 10), seconds(f.caught.Seconds())})
				r.Run(fmt.Sprintf("SlowReplica/%s/way=%s/for=%v", p.key(), way, c.lasts), 1, Metric{float64(f.behind), "B-behind"},
					Metric{f.before, "req/s-before"}, Metric{f.meanwhile, "req/s-meanwhile"}, Metric{float64(f.memMost - f.memBefore), "B-above"},
					Metric{float64(f.syncs.full), "sync_full"}, Metric{float64(f.syncs.partial), "sync_partial_ok"}, Metric{f.caught.Seconds(), "s-caught-up"})
				if p.primary == Holdfast {
					failed = errors.Join(failed, f.judge(p, way, c))
				}
			}
		}
		r.Table(rows)
		return errors.Join(r.Save(e.output), failed)
	}
}

// slowFigures are of one run.
type slowFigures struct {
	behind             int64   // bytes, when it may go on
	before, meanwhile  float64 // writes/s
	memBefore, memMost int64
	syncs              syncs
	caught             time.Duration
}

// judge says what a primary of ours must not do. A stopped replica is silent, and may be dropped for that, so resuming is allowed;
// one that only reads slowly is not silent.
func (f slowFigures) judge(p pair, way string, c slowRun) error {
	var err error
	if f.syncs.full > 0 {
		err = errors.Join(err, fmt.Errorf("%s, %s: %d full syncs", p, way, f.syncs.full))
	}
	if way == "throttled" && f.syncs.partial > 0 {
		err = errors.Join(err, fmt.Errorf("%s, %s: the replica was dropped %d times", p, way, f.syncs.partial))
	}
	if above := f.memMost - f.memBefore; above > c.bar {
		err = errors.Join(err, fmt.Errorf("%s, %s: the primary took %s more memory, %s are allowed", p, way, mebibytes(float64(above)), mebibytes(float64(c.bar))))
	}
	return err
}

func (e *env) slowReplica(ctx context.Context, c slowRun, p pair, way string) (f slowFigures, err error) {
	err = e.withFleet(func(fl *fleet) error {
		primary, err := fl.add(ctx, p.primary, replicationArgs(p.primary, c.policy)...)
		if err != nil {
			return err
		}
		if _, err := primary.fill(ctx, c.keys, valueSize); err != nil {
			return err
		}
		net, err := fl.proxy(primary)
		if err != nil {
			return err
		}
		upstream := net.Addr()
		if way == "stopped" {
			upstream = primary.Addr // nothing in between that would read in its place
		}
		replica, err := fl.add(ctx, p.replica, replicationArgs(p.replica, c.policy)...)
		if err != nil {
			return err
		}
		if err := replica.follow(upstream); err != nil {
			return err
		}
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		counted, err := primary.syncs()
		if err != nil {
			return err
		}
		memory := watchMemory(primary.Process)
		defer memory.Stop()
		load := Load{Addr: primary.Addr, Conns: c.conns, Pipeline: c.depth, Duration: c.before,
			Script: func(i int) Script { return overwriter(e.seed, i, c.keys, valueSize) }}
		before, err := load.Run(ctx)
		if err != nil {
			return err
		}
		if f.memBefore, err = memory.Cut(primary.Process); err != nil {
			return err
		}

		if way == "stopped" {
			if err := replica.signal(syscall.SIGSTOP); err != nil {
				return err
			}
		} else {
			net.Throttle(c.rate)
		}
		load.Duration = c.lasts
		meanwhile, err := load.Run(ctx)
		head, herr := primary.standing()
		if way == "stopped" {
			err = errors.Join(err, replica.signal(syscall.SIGCONT))
		}
		if err = errors.Join(err, herr, ctx.Err()); err != nil {
			return err
		}
		// Where it is at this moment it can say only now that it runs; what it reads in between is little.
		var at standing
		if err := until(ctx, c.limit, replica.name+" to answer", func() (ok bool, err error) {
			at, err = replica.standing()
			return err == nil, err
		}); err != nil {
			return err
		}
		f.behind = head.offset - at.offset
		net.Throttle(0)
		freed := time.Now()
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		f.caught = time.Since(freed)
		if f.memMost, err = memory.Cut(primary.Process); err != nil {
			return err
		}
		now, err := primary.syncs()
		if err != nil {
			return err
		}
		f.syncs = now.minus(counted)
		f.before, f.meanwhile = before.PerSecond(), meanwhile.PerSecond()
		return sameData(ctx, primary, replica)
	})
	return f, err
}
