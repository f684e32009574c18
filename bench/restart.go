package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"time"
)

func defineRestart(fs *flag.FlagSet) func(context.Context, *env) error {
	keys := fs.Int64("keys", 3_000_000, "`keys` of 20 bytes with 100 random bytes each")
	rounds := fs.Int("rounds", 3, "`rounds` of a stop, a restart, a load, a kill and a restart")
	load := fs.Duration("load", 10*time.Second, "`time` of write load before each kill")
	policy := fs.String("policy", "everysec", "appendfsync `policy`")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Restart", e.command)
		r.Printf("%s keys of %d bytes with %d random bytes, appendfsync %s. Time from the start of the process to the first right answer\n"+
			"to a GET of a random key, (1) after SIGTERM, (2) after kill -9 amid %v of random overwrites by 50 connections with\n"+
			"pipelines of 16. Medians of %d (lowest–highest). The files are in the system's cache, as they are after a crash of a process.\n\n",
			millions(*keys), keyLen, valueSize, *policy, *load, *rounds)
		rows := [][]string{{"server", "after SIGTERM", "after kill -9", "SIGTERM to exit", "overwrites/s before the kill"}}
		for _, kind := range e.servers {
			m := restartTimes{}
			if err := e.restarts(ctx, r, kind, *policy, *keys, *rounds, *load, &m); err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			rows = append(rows, []string{string(kind), spread(m.clean, seconds), spread(m.killed, seconds), spread(m.stop, seconds), spread(m.rate, thousands)})
		}
		r.Table(rows)
		return r.Save(e.output)
	}
}

// restartTimes are in seconds; rate is overwrites per second.
type restartTimes struct{ clean, killed, stop, rate []float64 }

func (e *env) restarts(ctx context.Context, r *Report, kind Kind, policy string, keys int64, rounds int, load time.Duration, m *restartTimes) (err error) {
	dir, remove, err := tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.cleanUp(dir, remove, err)) }()
	spec := e.spec(kind, dir, policyArgs(kind, policy)...)
	rng := rand.New(rand.NewPCG(e.seed, 1))
	p, err := Start(ctx, spec)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Kill()) }()
	if _, err := p.fill(ctx, keys, valueSize); err != nil {
		return err
	}
	for round := range rounds {
		stopping := time.Now()
		if err := p.Stop(); err != nil {
			return err
		}
		m.stop = append(m.stop, time.Since(stopping).Seconds())
		took, err := e.restart(ctx, spec, &p, rng, keys, round > 0)
		if err != nil {
			return err
		}
		m.clean = append(m.clean, took.Seconds())

		loadCtx, cancel := context.WithCancel(ctx)
		killed := make(chan error, 1)
		var res *Result
		go func() {
			var err error
			res, err = Load{Addr: p.Addr, Conns: 50, Pipeline: 16, Script: func(i int) Script {
				return overwriter(e.seed+uint64(round), i, keys, valueSize)
			}}.Run(loadCtx)
			killed <- err
		}()
		timer := time.NewTimer(load)
		select {
		case <-timer.C:
		case err := <-killed:
			cancel()
			return fmt.Errorf("load before the kill: %w", err)
		case <-ctx.Done():
		}
		timer.Stop()
		kerr := p.Kill()
		<-killed // the connections broke: that is the point
		cancel()
		if err := errors.Join(kerr, ctx.Err()); err != nil {
			return err
		}
		m.rate = append(m.rate, res.PerSecond())
		if took, err = e.restart(ctx, spec, &p, rng, keys, true); err != nil {
			return err
		}
		m.killed = append(m.killed, took.Seconds())
		r.Run(fmt.Sprintf("Restart/server=%s/keys=%d/policy=%s", kind, keys, policy), 1,
			Metric{m.clean[round], "s-after-term"}, Metric{m.killed[round], "s-after-kill"}, Metric{m.stop[round], "s-to-exit"},
			Metric{m.rate[round], "req/s"})
	}
	return nil
}

// restart starts the server again and measures. versioned = the data was overwritten, so that of a value only the length is
// known.
func (e *env) restart(ctx context.Context, spec Spec, p **Process, rng *rand.Rand, keys int64, versioned bool) (time.Duration, error) {
	next, err := Launch(spec)
	if err != nil {
		return 0, err
	}
	*p = next
	return next.firstGet(ctx, rng, keys, valueSize, versioned)
}
