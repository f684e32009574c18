package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// replKillRun is how the servers of a pair are killed.
type replKillRun struct {
	cycles  int
	writers int
	keys    int
	depth   int
	maxRun  time.Duration
	limit   time.Duration
}

func defineReplKill(fs *flag.FlagSet) func(context.Context, *env) error {
	c := replKillRun{}
	fs.IntVar(&c.cycles, "cycles", 50, "`number` of kills of each of the two")
	fs.IntVar(&c.writers, "c", 8, "`connections` of the load")
	fs.IntVar(&c.keys, "keys", 500, "`keys` of each connection")
	fs.IntVar(&c.depth, "p", 8, "`depth` of its pipeline")
	fs.DurationVar(&c.maxRun, "run", time.Second, "longest `time` of load before a kill")
	fs.DurationVar(&c.limit, "limit", 2*time.Minute, "longest `time` until the replica is in sync again")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Kills of primary and replica", e.command)
		r.Printf("Seed %d. %d connections write with pipelines of %d, appendfsync always on both. Primary and replica are killed in turn (SIGKILL), %d times each, after up to %v of\n"+
			"load, and started again on their directories and ports. After each kill of the primary every key must have what was last acknowledged, or what was sent after\n"+
			"that; at the end both must have the same data (between Holdfasts holdfast verify under load; DEBUG DIGEST). A Redis replica is told again whom to follow, a Holdfast knows.\n\n",
			e.seed, c.writers, c.depth, c.cycles, c.maxRun)
		rows := [][]string{{"pair", "kills", "writes acknowledged", "lost", "sync_full", "partial", "in sync again, primary killed", "replica killed"}}
		var failed error
		for _, p := range e.pairs {
			f, err := e.replKill(ctx, c, p)
			if err != nil {
				return fmt.Errorf("%s, seed %d: %w", p, e.seed, err)
			}
			rows = append(rows, []string{p.String(), strconv.Itoa(2 * c.cycles), thousands(float64(f.acked)), strconv.Itoa(f.lost),
				strconv.FormatInt(f.syncs.full, 10), strconv.FormatInt(f.syncs.partial, 10), spread(f.primaryBack, seconds), spread(f.replicaBack, seconds)})
			r.Run(fmt.Sprintf("ReplKill/%s/cycles=%d", p.key(), c.cycles), int64(2*c.cycles), Metric{float64(f.acked), "acked"}, Metric{float64(f.lost), "lost"},
				Metric{float64(f.syncs.full), "sync_full"}, Metric{float64(f.syncs.partial), "sync_partial_ok"},
				Metric{median(f.primaryBack), "s-primary-killed"}, Metric{median(f.replicaBack), "s-replica-killed"})
			failed = errors.Join(failed, f.judge(p, e.seed))
		}
		r.Table(rows)
		return errors.Join(r.Save(e.output), failed)
	}
}

// replKillFigures are of one pair.
type replKillFigures struct {
	acked                    int64
	lost                     int
	example                  string
	syncs                    syncs // of all lives of the primary
	primaryBack, replicaBack []float64
}

// judge says what must not be: lost writes of any server with its log in order, and between Holdfasts a full sync after the first.
func (f replKillFigures) judge(p pair, seed uint64) error {
	var err error
	if f.lost > 0 {
		err = fmt.Errorf("%s, seed %d: %d acknowledged writes lost: %s", p, seed, f.lost, f.example)
	}
	if p == (pair{Holdfast, Holdfast}) && f.syncs.full != 1 {
		err = errors.Join(err, fmt.Errorf("%s, seed %d: sync_full is %d, one was necessary", p, seed, f.syncs.full))
	}
	return err
}

func (e *env) replKill(ctx context.Context, c replKillRun, p pair) (f replKillFigures, err error) {
	rng := rand.New(rand.NewPCG(e.seed, 1<<32))
	err = e.withFleet(func(fl *fleet) (err error) {
		primary, err := fl.add(ctx, p.primary, replicationArgs(p.primary, "always")...)
		if err != nil {
			return err
		}
		replica, err := fl.add(ctx, p.replica, replicationArgs(p.replica, "always")...)
		if err != nil {
			return err
		}
		ledger := NewLedger(LedgerOptions{Addr: primary.Addr, Writers: c.writers, Keys: c.keys, Depth: c.depth, Seed: e.seed})
		ledger.Start(ctx)
		defer func() { err = errors.Join(err, ledger.Stop()) }()
		if err := replica.follow(primary.Addr); err != nil {
			return err
		}
		if _, err := replica.awaitLink(ctx, c.limit); err != nil {
			return err
		}
		for cycle := range 2 * c.cycles {
			if err := wait(ctx, 10*time.Millisecond+time.Duration(rng.Int64N(int64(c.maxRun)))); err != nil {
				return err
			}
			kill := c.killReplica
			if cycle%2 == 0 {
				kill = c.killPrimary
			}
			if err := kill(ctx, primary, replica, ledger, &f); err != nil {
				return fmt.Errorf("kill %d: %w", cycle+1, err)
			}
			if n := cycle + 1; n%20 == 0 || n == 2*c.cycles {
				fmt.Fprintf(e.out, "%s: %d kills, %d writes acknowledged, %d lost, %s before this life of the primary\n", p, n, ledger.Cut().acked, f.lost, f.syncs)
			}
		}
		if p == (pair{Holdfast, Holdfast}) {
			if err := verify(ctx, primary, replica); err != nil {
				return fmt.Errorf("under load: %w", err)
			}
		}
		if err := ledger.Stop(); err != nil {
			return err
		}
		if err := awaitEqual(ctx, primary, c.limit, replica); err != nil {
			return err
		}
		now, err := primary.syncs()
		if err != nil {
			return err
		}
		f.syncs = f.syncs.plus(now)
		if err := f.check(ledger, primary); err != nil {
			return err
		}
		f.acked = ledger.Cut().acked
		return sameData(ctx, primary, replica)
	})
	return f, err
}

func (f *replKillFigures) check(l *Ledger, n *node) error {
	found, err := l.Check(n.Addr)
	if found.lost > 0 {
		f.lost, f.example = f.lost+found.lost, found.example
	}
	return err
}

// killPrimary kills the primary under load, looks at what its restart has found, and waits for the replica.
func (c replKillRun) killPrimary(ctx context.Context, primary, replica *node, ledger *Ledger, f *replKillFigures) error {
	now, err := primary.syncs()
	if err != nil {
		return err
	}
	f.syncs = f.syncs.plus(now)
	if err := primary.kill(); err != nil {
		return err
	}
	if err := ledger.Stop(); err != nil {
		return err
	}
	started := time.Now()
	if err := primary.restart(ctx); err != nil {
		return err
	}
	if err := f.check(ledger, primary); err != nil {
		return err
	}
	ledger.Start(ctx)
	// The replica may not have noticed yet that its primary is gone: what counts is that it is served by the new life.
	err = until(ctx, c.limit, "the replica to be served again", func() (bool, error) {
		n, err := primary.syncs()
		return n.full+n.partial > 0, err
	})
	if err != nil {
		return err
	}
	if _, err := replica.awaitLink(ctx, c.limit); err != nil {
		return err
	}
	f.primaryBack = append(f.primaryBack, time.Since(started).Seconds())
	return nil
}

func (c replKillRun) killReplica(ctx context.Context, primary, replica *node, _ *Ledger, f *replKillFigures) error {
	if err := replica.kill(); err != nil {
		return err
	}
	started := time.Now()
	if err := replica.restart(ctx); err != nil {
		return err
	}
	if err := replica.followAgain(ctx, primary.Addr, c.limit); err != nil {
		return err
	}
	if _, err := replica.awaitLink(ctx, c.limit); err != nil {
		return err
	}
	f.replicaBack = append(f.replicaBack, time.Since(started).Seconds())
	return nil
}
