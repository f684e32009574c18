package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"time"
)

// failoverRun is how the primary's role is handed over.
type failoverRun struct {
	rounds    int
	writers   int
	keys      int
	depth     int
	run       time.Duration
	downAfter time.Duration
	timeout   time.Duration
	limit     time.Duration
}

func defineFailover(fs *flag.FlagSet) func(context.Context, *env) error {
	c := failoverRun{}
	ways := fs.String("ways", "sentinel,command", "`ways`: sentinel (kill -9, three redis-sentinels), command (FAILOVER)")
	fs.IntVar(&c.rounds, "rounds", 5, "`number` of fail-overs of each way")
	fs.IntVar(&c.writers, "c", 8, "`connections` of the load")
	fs.IntVar(&c.keys, "keys", 500, "`keys` of each connection")
	fs.IntVar(&c.depth, "p", 8, "`depth` of its pipeline")
	fs.DurationVar(&c.run, "t", 3*time.Second, "`time` of load before each")
	fs.DurationVar(&c.downAfter, "down-after", 2*time.Second, "`time` of silence after which a sentinel believes the primary down")
	fs.DurationVar(&c.timeout, "failover-timeout", 10*time.Second, "sentinel failover-`timeout`")
	fs.DurationVar(&c.limit, "limit", 2*time.Minute, "longest `time` of each step")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Fail-over", e.command)
		r.Printf("Three servers, appendfsync always. %d connections write with pipelines of %d SETs and WAIT 1; what WAIT confirmed must be there afterwards. sentinel: the\n"+
			"primary is killed (SIGKILL), three redis-sentinels with down-after %v and quorum 2 choose another, the old one is started again and follows.\n"+
			"command: FAILOVER to the primary. New primary: until another server is named primary (by a sentinel, or by its INFO). Writes confirmed: until the new primary's first.\n"+
			"Pause: the longest time without a confirmed write. All again: until both others have their links. %d rounds each, medians (lowest–highest); sync_full\n"+
			"and partial over all servers and rounds, the first syncs not counted. Seed %d.\n\n", c.writers, c.depth, c.downAfter, c.rounds, e.seed)
		rows := [][]string{{"server", "way", "new primary", "writes confirmed", "pause", "all again", "writes confirmed, in all", "lost", "sync_full", "partial"}}
		var failed error
		for _, kind := range e.servers {
			for _, way := range list(*ways) {
				if way != "sentinel" && way != "command" {
					return fmt.Errorf("-ways: %q is neither sentinel nor command", way)
				}
				f, err := e.failover(ctx, c, kind, way)
				if err != nil {
					return fmt.Errorf("%s, %s, seed %d: %w", kind, way, e.seed, err)
				}
				rows = append(rows, []string{string(kind), way, spread(f.named, seconds), spread(f.confirmed, seconds), spread(f.pause, seconds), spread(f.again, seconds),
					thousands(float64(f.acked)), strconv.Itoa(f.lost), strconv.FormatInt(f.syncs.full, 10), strconv.FormatInt(f.syncs.partial, 10)})
				r.Run(fmt.Sprintf("Failover/server=%s/way=%s", kind, way), int64(c.rounds), Metric{median(f.named), "s-new-primary"},
					Metric{median(f.confirmed), "s-confirmed"}, Metric{median(f.pause), "s-pause"}, Metric{float64(f.lost), "lost"},
					Metric{float64(f.syncs.full), "sync_full"}, Metric{float64(f.syncs.partial), "sync_partial_ok"})
				failed = errors.Join(failed, f.judge(kind, way))
			}
		}
		r.Table(rows)
		return errors.Join(r.Save(e.output), failed)
	}
}

// failoverFigures have a value for each round, in seconds.
type failoverFigures struct {
	named, confirmed, pause, again []float64

	acked   int64
	lost    int
	example string
	syncs   syncs
}

// judge says what a Holdfast must not do: lose what was confirmed, and copy everything where nothing was lost on the way. After a
// kill the old primary may have logged what nobody else has, and must then be given everything.
func (f failoverFigures) judge(kind Kind, way string) error {
	if kind != Holdfast {
		return nil
	}
	var err error
	if f.lost > 0 {
		err = fmt.Errorf("%s, %s: %d confirmed writes lost: %s", kind, way, f.lost, f.example)
	}
	if way == "command" && f.syncs.full > 0 {
		err = errors.Join(err, fmt.Errorf("%s, %s: %d full syncs, none was necessary", kind, way, f.syncs.full))
	}
	return err
}

// handover is a group that changes its primary.
type handover struct{ *group }

func (e *env) failover(ctx context.Context, c failoverRun, kind Kind, way string) (f failoverFigures, err error) {
	err = e.withFleet(func(fl *fleet) (err error) {
		t := &handover{group: newGroup(fl)}
		for range 3 {
			if _, err := fl.add(ctx, kind, replicationArgs(kind, "always")...); err != nil {
				return err
			}
		}
		t.primary = fl.nodes[0]
		for _, n := range fl.nodes[1:] {
			if err := n.follow(t.primary.Addr); err != nil {
				return err
			}
		}
		if err := awaitEqual(ctx, t.primary, c.limit, fl.nodes[1:]...); err != nil {
			return err
		}
		round := t.byCommand
		if way == "sentinel" {
			watching, err := startSentinels(ctx, fl.top, t.primary.Addr, 3, 2, c.downAfter, c.timeout)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, watching.kill()) }()
			round = func(ctx context.Context, c failoverRun, f *failoverFigures) error {
				return t.bySentinel(ctx, c, f, watching)
			}
		}
		t.ledger = NewLedger(LedgerOptions{Addr: t.primary.Addr, Writers: c.writers, Keys: c.keys, Depth: c.depth, Replicas: 1, Seed: e.seed})
		defer func() { err = errors.Join(err, t.ledger.Stop()) }()
		if _, err := t.takeSyncs(); err != nil {
			return err
		}
		for i := range c.rounds {
			t.ledger.Start(ctx)
			if err := wait(ctx, c.run); err != nil {
				return err
			}
			t.ledger.Cut()
			if err := round(ctx, c, &f); err != nil {
				return fmt.Errorf("round %d: %w", i+1, err)
			}
			if err := t.ledger.Stop(); err != nil {
				return err
			}
			found, err := t.ledger.Check(t.primary.Addr)
			if err != nil {
				return err
			}
			if found.lost > 0 {
				f.lost, f.example = f.lost+found.lost, found.example
			}
			if err := t.awaitSame(ctx, c.limit); err != nil {
				return fmt.Errorf("round %d: %w", i+1, err)
			}
			now, err := t.takeSyncs()
			if err != nil {
				return err
			}
			f.syncs = f.syncs.plus(now)
			f.acked = t.ledger.Cut().acked
			fmt.Fprintf(e.out, "%s, %s: round %d: %s is primary, %d writes confirmed, %d lost, %s\n", kind, way, i+1, t.primary.name, f.acked, f.lost, now)
		}
		return nil
	})
	return f, err
}

// done notes the times of a round that began at started: when the new primary was named, when it confirmed, when all were there.
// follow is asked at each look, and sees to it that t.primary is who is primary now; nil: that cannot change.
func (t *handover) done(ctx context.Context, c failoverRun, f *failoverFigures, started, named time.Time, follow func() error) error {
	if follow == nil {
		follow = func() error { return nil }
	}
	if err := until(ctx, c.limit, "the new primary to confirm a write", func() (bool, error) {
		err := follow()
		return t.ledger.ackedBy(t.primary.Addr), err
	}); err != nil {
		return err
	}
	part := t.ledger.Cut()
	var down *node
	if err := until(ctx, c.limit, "the links of the others", func() (bool, error) {
		if err := follow(); err != nil {
			return false, err
		}
		for _, n := range t.others(t.primary) {
			down = n
			if s, err := n.standing(); err != nil || !s.replica || !s.linkUp {
				return false, err
			}
		}
		return true, nil
	}); err != nil {
		if down == nil {
			return err
		}
		return fmt.Errorf("%w; %s is primary, the output of %s ends with: %s", err, t.primary.name, down.name, down.logTail())
	}
	first, ok := part.firsts[t.primary.Addr]
	if !ok { // it became primary later, and its first write was counted later, too
		if err := until(ctx, c.limit, "the new primary to confirm a write", func() (bool, error) { return t.ledger.ackedBy(t.primary.Addr), nil }); err != nil {
			return err
		}
		part = t.ledger.Cut()
		first = part.firsts[t.primary.Addr]
	}
	f.named = append(f.named, named.Sub(started).Seconds())
	f.confirmed = append(f.confirmed, first.Sub(started).Seconds())
	f.pause = append(f.pause, part.gap.Seconds())
	f.again = append(f.again, time.Since(started).Seconds())
	return nil
}

// bySentinel kills the primary, lets the sentinels choose, and starts the old one again.
func (t *handover) bySentinel(ctx context.Context, c failoverRun, f *failoverFigures, watching sentinels) error {
	old := t.primary
	if err := t.retire(old); err != nil {
		return err
	}
	started := time.Now()
	if err := old.kill(); err != nil {
		return err
	}
	addr, err := watching.awaitSwitch(ctx, old.Addr, c.limit)
	if err != nil {
		return err
	}
	named := time.Now()
	if err := t.setPrimary(addr); err != nil {
		return err
	}
	if err := old.restart(ctx); err != nil {
		return err
	}
	// On a busy machine they may believe the new primary down as well and choose again, even the old one: who is primary is what
	// they agree on.
	follow := func() error {
		addr, err := watching.agreed()
		if err != nil || addr == "" || addr == t.primary.Addr {
			return err
		}
		return t.setPrimary(addr)
	}
	// The sentinels turn the old primary into a replica once they have seen it sane for some seconds.
	if err := until(ctx, c.limit, "the old primary to become a replica", func() (bool, error) {
		if err := follow(); err != nil {
			return false, err
		}
		s, err := old.standing()
		return s.replica || t.primary == old, err
	}); err != nil {
		return err
	}
	if err := t.done(ctx, c, f, started, named, follow); err != nil {
		return err
	}
	if err := watching.awaitKnown(ctx, 2); err != nil {
		return err
	}
	return follow() // for what is compared now
}

// setPrimary notes that the server at addr is primary, and has the load go there.
func (t *handover) setPrimary(addr string) error {
	for _, n := range t.nodes {
		if n.Addr == addr {
			t.primary = n
			t.ledger.SetAddr(addr)
			return nil
		}
	}
	return fmt.Errorf("the sentinels name %s, which is none of ours", addr)
}

// byCommand asks the primary to hand over to whichever replica is ready.
func (t *handover) byCommand(ctx context.Context, c failoverRun, f *failoverFigures) error {
	old := t.primary
	started := time.Now()
	if _, err := old.do("FAILOVER"); err != nil {
		return err
	}
	if err := until(ctx, c.limit, "a new primary", func() (bool, error) {
		for _, n := range t.others(old) {
			s, err := n.standing()
			if err != nil {
				return false, err
			}
			if !s.replica {
				t.primary = n
				return true, nil
			}
		}
		return false, nil
	}); err != nil {
		return err
	}
	named := time.Now()
	t.ledger.SetAddr(t.primary.Addr)
	if err := old.awaitHandedOver(ctx, c.limit); err != nil {
		return err
	}
	// The third is a replica of the old primary still, and gets the stream through it.
	return t.done(ctx, c, f, started, named, nil)
}
