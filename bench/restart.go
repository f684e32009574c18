package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast-db/holdfast/bench/result"
)

// restartRun is how restarts are measured.
type restartRun struct {
	sizes  []int64 // keys, each a data set of its own
	rounds int
	load   time.Duration
	policy string
}

// steps is how many there are.
func (c restartRun) steps(e *env) int { return len(c.sizes) * len(e.servers) * c.rounds }

func defineRestart(fs *flag.FlagSet) func(context.Context, *env) error {
	c := restartRun{}
	sizes := fs.String("keys", "3000000", "numbers of `keys` of 20 bytes with 100 random bytes each")
	fs.IntVar(&c.rounds, "rounds", 3, "`rounds` of a start, a load, a kill, a start and a stop; the servers take turns in each")
	fs.DurationVar(&c.load, "load", 10*time.Second, "`time` of write load before each kill")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	return func(ctx context.Context, e *env) (err error) {
		if c.sizes, err = counts(*sizes); err != nil {
			return fmt.Errorf("-keys: %w", err)
		}
		r := NewReport(e.out, "Restart", e.command)
		e.results.expect(c.steps(e))
		if err := e.restarts(ctx, r, c); err != nil {
			return err
		}
		return r.Save(e.output)
	}
}

// restartTimes are in seconds; rate is overwrites per second.
type restartTimes struct{ clean, killed, stop, rate []float64 }

// restarts measures all sizes and adds a table of each to the report.
func (e *env) restarts(ctx context.Context, r *Report, c restartRun) error {
	r.Printf("Keys of %d bytes with %d random bytes, appendfsync %s. Time from the start of the process to the first right answer\n"+
		"to a GET of a random key, (1) after SIGTERM, (2) after kill -9 amid %v of random overwrites by 50 connections with\n"+
		"pipelines of 16. Medians of %d (lowest–highest). The files are in the system's cache, as they are after a crash of a process.\n\n",
		keyLen, valueSize, c.policy, c.load, c.rounds)
	for _, keys := range c.sizes {
		if err := e.restartsOf(ctx, r, c, keys); err != nil {
			return err
		}
	}
	return nil
}

// restartsOf measures one size: each server has a data set of its own, which lives from round to round.
func (e *env) restartsOf(ctx context.Context, r *Report, c restartRun, keys int64) (err error) {
	sets := map[Kind]*restartSet{}
	defer func() {
		for _, s := range sets {
			err = errors.Join(err, s.close(err))
		}
	}()
	for round := range c.rounds {
		for _, kind := range inTurn(e.servers, round) {
			e.results.progress.Step(fmt.Sprintf("restart of %s with %s keys", kind, millions(keys)), 0)
			s := sets[kind]
			if s == nil {
				s = &restartSet{e: e, keys: keys, c: c, rng: rand.New(rand.NewPCG(e.seed, 1))}
				sets[kind] = s
				if err := s.fill(ctx, kind); err != nil {
					return fmt.Errorf("%s: %w", kind, err)
				}
			}
			if err := s.round(ctx, r, round); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
	}
	r.Printf("## %s keys\n\n", millions(keys))
	rows := [][]string{{"server", "after SIGTERM", "after kill -9", "SIGTERM to exit", "overwrites/s before the kill"}}
	for _, kind := range e.servers {
		m := sets[kind].times
		rows = append(rows, []string{string(kind), spread(m.clean, seconds), spread(m.killed, seconds), spread(m.stop, seconds), spread(m.rate, thousands)})
	}
	r.Table(rows)
	return nil
}

// restartSet is the data of one server, which is down between the rounds so that it disturbs no other.
type restartSet struct {
	e         *env
	keys      int64
	c         restartRun
	rng       *rand.Rand
	spec      Spec
	remove    func() error
	p         *Process // nil before the first start
	versioned bool     // the data was overwritten, so that of a value only the length is known
	times     restartTimes
}

// fill writes the data and stops the server.
func (s *restartSet) fill(ctx context.Context, kind Kind) error {
	dir, remove, err := tempDir()
	if err != nil {
		return err
	}
	s.remove = remove
	s.spec = s.e.spec(kind, dir, policyArgs(kind, s.c.policy)...)
	if s.p, err = Start(ctx, s.spec); err != nil {
		return err
	}
	if err := s.e.known(s.p); err != nil {
		return err
	}
	if _, err := s.p.fill(ctx, s.keys, valueSize); err != nil {
		return err
	}
	return s.p.Stop()
}

// close ends the server and removes the data.
func (s *restartSet) close(failed error) (err error) {
	if s.p != nil {
		err = s.p.Kill()
	}
	if s.remove != nil {
		err = errors.Join(err, s.e.cleanUp(s.spec.Dir, s.remove, failed))
	}
	return err
}

// round is a start after a stop, a load, a kill, a start after that and a stop.
func (s *restartSet) round(ctx context.Context, r *Report, round int) error {
	took, err := s.start(ctx)
	if err != nil {
		return err
	}
	s.times.clean = append(s.times.clean, took.Seconds())

	load := Load{Addr: s.p.Addr, Conns: 50, Pipeline: 16, Script: func(i int) Script {
		return overwriter(s.e.seed+uint64(round), i, s.keys, valueSize)
	}}.start(ctx)
	timer := time.NewTimer(s.c.load)
	defer timer.Stop()
	select {
	case <-timer.C:
	case err := <-load.done:
		load.cancel()
		return fmt.Errorf("load before the kill: %w", err)
	case <-ctx.Done():
	}
	kerr := s.p.Kill()
	res, _ := load.stop() // the connections broke: that is the point
	if err := errors.Join(kerr, ctx.Err()); err != nil {
		return err
	}
	s.versioned = true
	s.times.rate = append(s.times.rate, res.PerSecond())
	if took, err = s.start(ctx); err != nil {
		return err
	}
	s.times.killed = append(s.times.killed, took.Seconds())

	stopping := time.Now()
	if err := s.p.Stop(); err != nil {
		return err
	}
	s.times.stop = append(s.times.stop, time.Since(stopping).Seconds())
	kind, m := s.spec.Kind, s.times
	r.Run(fmt.Sprintf("Restart/server=%s/keys=%d/policy=%s", kind, s.keys, s.c.policy), 1,
		Metric{m.clean[round], "s-after-term"}, Metric{m.killed[round], "s-after-kill"}, Metric{m.stop[round], "s-to-exit"},
		Metric{m.rate[round], "req/s"})
	for how, metrics := range map[string]map[string]float64{
		"sigterm": {"took-s": m.clean[round], "exit-s": m.stop[round]},
		"kill9":   {"took-s": m.killed[round], "before-req/s": m.rate[round]},
	} {
		s.e.results.point(result.Point{Bench: result.Restart, Subject: string(kind), Round: round + 1, Metrics: metrics,
			Params: params("keys", s.keys, "policy", s.c.policy, "how", how)})
	}
	return nil
}

// start starts the server again and measures.
func (s *restartSet) start(ctx context.Context) (time.Duration, error) {
	next, err := Launch(s.spec)
	if err != nil {
		return 0, err
	}
	s.p = next
	return next.firstGet(ctx, s.rng, s.keys, valueSize, s.versioned)
}
