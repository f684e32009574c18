package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// soakRun is how long and how hard.
type soakRun struct {
	duration time.Duration
	pause    time.Duration
	writers  int
	keys     int
	depth    int
	stock    int
	limit    time.Duration
}

func defineSoak(fs *flag.FlagSet) func(context.Context, *env) error {
	c := soakRun{}
	fs.DurationVar(&c.duration, "duration", 10*time.Minute, "`time` of events; the last is finished")
	fs.DurationVar(&c.pause, "pause", time.Second, "longest `time` between two events")
	fs.IntVar(&c.writers, "c", 8, "`connections` of the load")
	fs.IntVar(&c.keys, "keys", 2000, "`keys` of each connection")
	fs.IntVar(&c.depth, "p", 8, "`depth` of its pipeline")
	fs.IntVar(&c.stock, "stock", 0, "`number` of the replicas that are redis-servers in any case")
	fs.DurationVar(&c.limit, "limit", 2*time.Minute, "longest `time` of each step")
	return func(ctx context.Context, e *env) error {
		if c.stock < 0 || c.stock > 2 {
			return fmt.Errorf("-stock: %d, want 0 to 2 of the three replicas", c.stock)
		}
		r := NewReport(e.out, "Soak", e.command)
		r.Printf("Seed %d. A primary and three replicas, appendfsync always, links through proxies. %d connections write with pipelines of %d SETs and WAIT 1. Meanwhile, at random:\n"+
			"kill -9, SIGTERM and SIGSTOP of any, links cut and blocked, replicas put behind other replicas, promotions by FAILOVER and after kill -9 of the\n"+
			"primary. %d of the replicas are redis-servers, which are not promoted. At the end all must have the same data (holdfast verify under load, and DEBUG DIGEST), what WAIT confirmed must be there, and sync_full count the first syncs and those\n"+
			"of killed primaries that had logged more than the promoted replica had got, and of redis-servers that were ended: they forget their place.\n\n",
			e.seed, c.writers, c.depth, c.stock)
		var failed error
		for _, kind := range e.servers {
			s := &soak{run: c, kind: kind, rng: rand.New(rand.NewPCG(e.seed, 1<<33)), events: map[string]int{}}
			var verdict error
			if err := e.withFleet(func(fl *fleet) error {
				if err := s.all(ctx, fl); err != nil {
					return fmt.Errorf("after %d events (%s): %w", len(s.trace), s.lately(), err)
				}
				verdict = s.judge()
				return verdict // so that -keep leaves the data
			}); err != nil && verdict == nil {
				return fmt.Errorf("%s, seed %d, %w", kind, e.seed, err)
			}
			rows := [][]string{{string(kind), "number"}}
			for _, ev := range soakEvents {
				rows = append(rows, []string{ev.name, strconv.Itoa(s.events[ev.name])})
			}
			rows = append(rows, []string{"writes confirmed", thousands(float64(s.acked))}, []string{"of these lost", strconv.Itoa(s.lost)},
				[]string{"sync_full", strconv.FormatInt(s.syncs.full, 10)}, []string{"sync_full that had to be", strconv.FormatInt(s.necessary, 10)},
				[]string{"sync_partial_ok", strconv.FormatInt(s.syncs.partial, 10)})
			r.Table(rows)
			r.Run(fmt.Sprintf("Soak/server=%s/duration=%v", kind, c.duration), int64(len(s.trace)), Metric{float64(s.acked), "confirmed"}, Metric{float64(s.lost), "lost"},
				Metric{float64(s.syncs.full), "sync_full"}, Metric{float64(s.necessary), "sync_full-necessary"}, Metric{float64(s.syncs.partial), "sync_partial_ok"})
			if verdict != nil {
				failed = errors.Join(failed, fmt.Errorf("%s, seed %d: %w", kind, e.seed, verdict))
			}
		}
		return errors.Join(r.Save(e.output), failed)
	}
}

// soak is a run over one kind of server.
type soak struct {
	*group
	run      soakRun
	kind     Kind
	rng      *rand.Rand
	each     bool // each kind of event once, instead of any for a time
	upstream map[*node]*node
	links    map[[2]*node]*Proxy // the network between a replica and whom it follows

	trace     []string // what was done, in order
	events    map[string]int
	full      int64 // full syncs after the last event
	acked     int64
	lost      int
	example   string
	syncs     syncs
	necessary int64 // full syncs that nothing could have avoided
}

// judge says what must not be.
func (s *soak) judge() error {
	if s.kind != Holdfast {
		return nil // Redis forgets its place in the stream when it is killed
	}
	var err error
	if s.lost > 0 {
		err = fmt.Errorf("%d confirmed writes lost: %s", s.lost, s.example)
	}
	if s.syncs.full > s.necessary {
		err = errors.Join(err, fmt.Errorf("sync_full is %d, %d were necessary", s.syncs.full, s.necessary))
	}
	return err
}

// lately are the last events, for a message.
func (s *soak) lately() string {
	const last = 8
	return strings.Join(s.trace[max(0, len(s.trace)-last):], "; ")
}

func (s *soak) all(ctx context.Context, fl *fleet) (err error) {
	s.group = newGroup(fl)
	s.upstream, s.links = map[*node]*node{}, map[[2]*node]*Proxy{}
	for i := range 4 {
		kind := s.kind
		if i >= 4-s.run.stock {
			kind = Redis
		}
		if _, err := fl.add(ctx, kind, replicationArgs(kind, "always")...); err != nil {
			return err
		}
	}
	s.primary = fl.nodes[0]
	s.ledger = NewLedger(LedgerOptions{Addr: s.primary.Addr, Writers: s.run.writers, Keys: s.run.keys, Depth: s.run.depth, Replicas: 1, Seed: s.rng.Uint64()})
	s.ledger.Start(ctx)
	defer func() { err = errors.Join(err, s.ledger.Stop()) }()
	for _, n := range s.others(s.primary) {
		if err := s.follow(n, s.primary); err != nil {
			return err
		}
		if _, err := n.awaitLink(ctx, s.run.limit); err != nil {
			return err
		}
	}
	s.necessary = int64(len(s.nodes) - 1)
	if err := s.noteFull(); err != nil {
		return err
	}

	if s.each {
		for _, i := range s.rng.Perm(len(soakEvents)) {
			if err := s.event(ctx, i); err != nil {
				return err
			}
		}
	}
	told := time.Now()
	for ends := time.Now().Add(s.run.duration); time.Now().Before(ends); {
		if err := wait(ctx, s.upTo(s.run.pause)); err != nil {
			return err
		}
		if err := s.event(ctx, s.anyEvent()); err != nil {
			return err
		}
		if time.Since(told) > 30*time.Second {
			told = time.Now()
			fmt.Fprintf(s.e.out, "%s: %d events, %d writes confirmed, %d lost\n", s.kind, len(s.trace), s.ledger.Cut().acked, s.lost)
		}
	}
	if err := s.checkLedger(ctx, nil); err != nil {
		return err
	}
	if s.kind == Holdfast && s.run.stock == 0 {
		if err := verify(ctx, s.nodes...); err != nil {
			return fmt.Errorf("under load: %w", err)
		}
	}
	if err := s.ledger.Stop(); err != nil {
		return err
	}
	if err := s.awaitSame(ctx, s.run.limit); err != nil {
		return err
	}
	s.acked = s.ledger.Cut().acked
	s.syncs, err = s.takeSyncs()
	return err
}

// anyEvent picks one by weight.
func (s *soak) anyEvent() int {
	total := 0
	for _, ev := range soakEvents {
		total += ev.weight
	}
	at, i := s.rng.IntN(total), 0
	for at >= soakEvents[i].weight {
		at -= soakEvents[i].weight
		i++
	}
	return i
}

func (s *soak) event(ctx context.Context, i int) error {
	ev := soakEvents[i]
	s.trace = append(s.trace, ev.name)
	whom, err := ev.do(s, ctx)
	s.trace[len(s.trace)-1] += " " + whom
	if err != nil {
		return fmt.Errorf("%s %s: %w", ev.name, whom, err)
	}
	s.events[ev.name]++
	return s.noteFull()
}

// noteFull tells of full syncs at once, with what came before them.
func (s *soak) noteFull() error {
	now, err := s.served()
	if err != nil {
		return err
	}
	if now.full > s.full {
		s.full = now.full
		if len(s.trace) > 0 {
			fmt.Fprintf(s.e.out, "%s: sync_full is %d, %d were necessary, after %d events: %s\n", s.kind, s.full, s.necessary, len(s.trace), s.lately())
		}
	}
	return nil
}

// follow makes n a replica of up, over the proxy between them.
func (s *soak) follow(n, up *node) error {
	p := s.links[[2]*node{n, up}]
	if p == nil {
		var err error
		if p, err = s.proxy(up); err != nil {
			return err
		}
		s.links[[2]*node{n, up}] = p
	}
	s.upstream[n] = up
	return n.follow(p.Addr())
}

// link is the proxy that n's link goes through.
func (s *soak) link(n *node) *Proxy { return s.links[[2]*node{n, s.upstream[n]}] }

// anyReplica picks one.
func (s *soak) anyReplica() *node {
	o := s.others(s.primary)
	return o[s.rng.IntN(len(o))]
}

// anyHeir picks a replica that may be promoted.
func (s *soak) anyHeir() *node {
	for {
		if n := s.anyReplica(); s.mayLead(n) {
			return n
		}
	}
}

// mayLead: a server that forgets its place in the stream would have all that follow it copy everything.
func (s *soak) mayLead(n *node) bool { return n.spec.Kind == s.kind }

// upTo is a random time below a limit.
func (s *soak) upTo(limit time.Duration) time.Duration {
	return time.Duration(s.rng.Int64N(int64(limit)))
}

// checkLedger stops the load, lets change do what it does, compares the primary with the ledger, and goes on.
func (s *soak) checkLedger(ctx context.Context, change func() error) error {
	if err := s.ledger.Stop(); err != nil {
		return err
	}
	if change != nil {
		if err := change(); err != nil {
			return err
		}
	}
	found, err := s.ledger.Check(s.primary.Addr)
	if err != nil {
		return err
	}
	if found.lost > 0 {
		s.lost, s.example = s.lost+found.lost, found.example
	}
	s.ledger.SetAddr(s.primary.Addr)
	s.ledger.Start(ctx)
	return nil
}

// again starts a replica that was ended, after a while.
func (s *soak) again(ctx context.Context, n *node) error {
	if err := wait(ctx, s.upTo(time.Second)); err != nil {
		return err
	}
	if err := n.restart(ctx); err != nil {
		return err
	}
	if err := n.followAgain(ctx, s.link(n).Addr(), s.run.limit); err != nil {
		return err
	}
	_, err := n.awaitLink(ctx, s.run.limit)
	return err
}
