package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"
)

// checkpointRun is how a write load runs beside checkpoints.
type checkpointRun struct {
	keys     int64
	conns    int
	pipeline int
	policy   string
	each     time.Duration // load between two checkpoints
	rounds   int
}

func defineCheckpoint(fs *flag.FlagSet) func(context.Context, *env) error {
	c := checkpointRun{}
	fs.Int64Var(&c.keys, "keys", 3_000_000, "`keys` of 20 bytes with 100 random bytes each")
	fs.IntVar(&c.conns, "c", 50, "`connections` of the load")
	fs.IntVar(&c.pipeline, "p", 1, "`depth` of the load's pipeline")
	fs.StringVar(&c.policy, "policy", "always", "appendfsync `policy`")
	fs.DurationVar(&c.each, "t", 20*time.Second, "`time` of load before each checkpoint")
	fs.IntVar(&c.rounds, "rounds", 5, "`rounds` of load without and with a checkpoint")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Writes during a checkpoint", e.command)
		r.Printf("%s keys of %d bytes with %d random bytes, overwritten uniformly by %d connections with pipelines of %d as fast as they are\n"+
			"answered, appendfsync %s. %v without a checkpoint, then BGSAVE, and the same load while that runs; %d rounds, medians\n"+
			"(lowest–highest). Redis forks and writes everything, Holdfast writes what was changed since the last time.\n\n",
			millions(c.keys), keyLen, valueSize, c.conns, c.pipeline, c.policy, c.each, c.rounds)
		head := []string{"", "req/s", "p50", "p99", "p99.9", "longest"}
		latency := [][]string{head}
		figures := [][]string{{"server", "checkpoints", "time of one", "longest hold of the lock", "most CPU time of a hold", "objects frozen, at most", "bytes frozen, at most", "waits for room"}}
		var ratios [][]string
		for _, kind := range e.servers {
			args := policyArgs(kind, c.policy)
			if kind == Holdfast {
				// Checkpoints when asked only, and no writer waits for one: what is measured is the checkpoint.
				args = append(args, "--checkpoint-log-bytes", "1000gb", "--checkpoint-interval", "1000000", "--dirty-bytes-limit", "1000gb")
			}
			err := e.withServer(ctx, kind, args, func(p *Process) error {
				m, err := p.measureCheckpoints(ctx, e, r, c)
				if err != nil {
					return err
				}
				latency = append(latency, m.quiet.row(fmt.Sprintf("%s, none", kind)), m.busy.row(fmt.Sprintf("%s, during one", kind)))
				figures = append(figures, m.figures(kind))
				var tail []float64
				for i := range m.busy.p999 {
					tail = append(tail, m.busy.p999[i]/m.quiet.p999[i])
				}
				ratios = append(ratios, []string{string(kind), spread(tail, ratio)})
				return nil
			})
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
		}
		r.Table(latency)
		r.Table(append([][]string{{"server", "p99.9 with / without"}}, ratios...))
		r.Table(figures)
		return r.Save(e.output)
	}
}

// latencies are in seconds, a value for each round.
type latencies struct{ rate, p50, p99, p999, longest []float64 }

func (l *latencies) add(res *Result) {
	l.rate = append(l.rate, res.PerSecond())
	l.p50 = append(l.p50, res.Latency.Quantile(0.5).Seconds())
	l.p99 = append(l.p99, res.Latency.Quantile(0.99).Seconds())
	l.p999 = append(l.p999, res.Latency.Quantile(0.999).Seconds())
	l.longest = append(l.longest, res.Latency.Max().Seconds())
}

func (l *latencies) row(name string) []string {
	ms := func(s float64) string { return fmt.Sprintf("%.2f ms", s*1e3) }
	return []string{name, spread(l.rate, thousands), spread(l.p50, ms), spread(l.p99, ms), spread(l.p999, ms), spread(l.longest, ms)}
}

// checkpointFigures are what the server says of its checkpoints, at most; a name that its INFO does not have is absent.
type checkpointFigures struct {
	quiet, busy latencies
	took        []float64 // seconds
	holds       []float64 // seconds that the executor lock was held for at most, of each
	most        map[string]int64
}

// checkpointFields are fields of INFO whose maximum over all checkpoints is shown.
var checkpointFields = []string{"checkpoint_max_hold_usec", "checkpoint_max_hold_cpu_usec", "checkpoint_last_frozen_objects", "checkpoint_last_frozen_bytes", "back_pressure_waits"}

func (m *checkpointFigures) figures(kind Kind) []string {
	show := func(name string, render func(float64) string) string {
		if v, ok := m.most[name]; ok {
			return render(float64(v))
		}
		return "–"
	}
	return []string{string(kind), thousands(float64(len(m.took))), spread(m.took, seconds),
		spread(m.holds, func(s float64) string { return fmt.Sprintf("%.2f ms", s*1e3) }),
		show("checkpoint_max_hold_cpu_usec", func(us float64) string { return fmt.Sprintf("%.2f ms", us/1e3) }),
		show("checkpoint_last_frozen_objects", thousands), show("checkpoint_last_frozen_bytes", mebibytes), show("back_pressure_waits", thousands)}
}

func (p *Process) measureCheckpoints(ctx context.Context, e *env, r *Report, c checkpointRun) (*checkpointFigures, error) {
	m := &checkpointFigures{most: map[string]int64{}}
	if _, err := p.fill(ctx, c.keys, valueSize); err != nil {
		return nil, err
	}
	if _, err := p.checkpoint(ctx); err != nil {
		return nil, err
	}
	for round := range c.rounds {
		load := Load{Addr: p.Addr, Conns: c.conns, Pipeline: c.pipeline, Duration: c.each,
			Script: func(i int) Script { return overwriter(e.seed+uint64(round), i, c.keys, valueSize) }}
		before, err := p.saves()
		if err != nil {
			return nil, err
		}
		res, err := load.Run(ctx)
		if err != nil {
			return nil, err
		}
		after, err := p.saves()
		if err != nil {
			return nil, err
		}
		if before != after {
			return nil, fmt.Errorf("%d checkpoints ran by themselves while none should", after-before)
		}
		m.quiet.add(res)
		name := fmt.Sprintf("Checkpoint/server=%s/keys=%d/policy=%s/pipeline=%d", p.Spec.Kind, c.keys, c.policy, c.pipeline)
		r.Run(name+"/checkpoint=none", res.Ops, latencyMetrics(res)...)

		if res, err = p.loadDuringCheckpoint(ctx, load, m); err != nil {
			return nil, err
		}
		m.busy.add(res)
		metrics := latencyMetrics(res)
		if n := len(m.holds); n > 0 {
			metrics = append(metrics, Metric{m.holds[n-1] * 1e3, "max-hold-ms"})
		}
		r.Run(name+"/checkpoint=running", res.Ops, metrics...)
	}
	return m, ctx.Err()
}

// loadDuringCheckpoint runs a checkpoint, and the load as long as that takes.
func (p *Process) loadDuringCheckpoint(ctx context.Context, load Load, m *checkpointFigures) (*Result, error) {
	loadCtx, stop := context.WithCancel(ctx)
	defer stop()
	load.Duration = 0
	var res *Result
	loaded := make(chan error, 1)
	go func() {
		var err error
		res, err = load.Run(loadCtx)
		loaded <- err
	}()
	took, err := p.checkpoint(ctx)
	stop()
	if err = errors.Join(err, <-loaded, ctx.Err()); err != nil {
		return nil, err
	}
	m.took = append(m.took, took.Seconds())
	return res, p.noteCheckpoint(m)
}

func (p *Process) noteCheckpoint(m *checkpointFigures) error {
	info, err := p.Info()
	if err != nil {
		return err
	}
	for _, name := range checkpointFields {
		if _, ok := info[name]; !ok {
			continue
		}
		n, err := infoInt(info, name)
		if err != nil {
			return err
		}
		m.most[name] = max(m.most[name], n)
		if name == "checkpoint_max_hold_usec" {
			m.holds = append(m.holds, float64(n)/1e6)
		}
	}
	return nil
}

// saves is how many checkpoints were finished.
func (p *Process) saves() (int64, error) {
	info, err := p.Info()
	if err != nil {
		return 0, err
	}
	return infoInt(info, "rdb_saves")
}
