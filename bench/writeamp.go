package bench

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"time"
)

func defineWriteAmp(fs *flag.FlagSet) func(context.Context, *env) error {
	var c writeAmpRun
	fs.Int64Var(&c.keys, "keys", 3_000_000, "`keys` of 20 bytes with 100 random bytes each")
	fs.DurationVar(&c.warm, "warm", time.Minute, "`time` of overwrites before the measurement")
	fs.DurationVar(&c.run, "t", 3*time.Minute, "`time` of the measurement")
	fs.DurationVar(&c.step, "step", 30*time.Second, "`time` of a line of the table")
	fs.StringVar(&c.policy, "policy", "everysec", "appendfsync `policy`")
	rounds := fs.Int("rounds", 1, "`rounds`, each on a new server")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Bytes written to disk for a byte of log", e.command)
		r.Printf("%s keys of %d bytes with %d random bytes, overwritten uniformly by 50 connections with pipelines of 16, appendfsync %s, for %v\n"+
			"before and %v of measuring. write_bytes of /proc/PID/io (log, its own log, snapshot store and its compactions) against\n"+
			"the bytes by which the log's end advanced. %d rounds, each on a new server.\n\n", millions(c.keys), keyLen, valueSize, c.policy, c.warm, c.run, *rounds)
		rows := [][]string{{"round", "after", "overwrites/s", "log", "written", "written / log", "checkpoints"}}
		var all []float64
		for round := range *rounds {
			err := e.withServer(ctx, Holdfast, policyArgs(Holdfast, c.policy), func(p *Process) error {
				lines, amp, err := e.writeAmp(ctx, r, c, p)
				for _, line := range lines {
					rows = append(rows, append([]string{strconv.Itoa(round + 1)}, line...))
				}
				all = append(all, amp)
				return err
			})
			if err != nil {
				return err
			}
		}
		r.Table(rows)
		r.Printf("Written for a byte of log, in all: %s.\n\n", spread(all, ratio))
		return r.Save(e.output)
	}
}

type writeAmpRun struct {
	keys            int64
	warm, run, step time.Duration
	policy          string
}

// writeAmp is one round: its lines of the table, and bytes written for a byte of log in all of it.
func (e *env) writeAmp(ctx context.Context, r *Report, c writeAmpRun, p *Process) (lines [][]string, amp float64, err error) {
	if _, err := p.fill(ctx, c.keys, valueSize); err != nil {
		return nil, 0, err
	}
	load := Load{Addr: p.Addr, Conns: 50, Pipeline: 16,
		Script: func(i int) Script { return overwriter(e.seed, i, c.keys, valueSize) }}
	load.Duration = c.warm
	if _, err := load.Run(ctx); err != nil {
		return nil, 0, err
	}
	first, err := p.writeFigures()
	if err != nil {
		return nil, 0, err
	}
	ops, last := int64(0), first
	started := time.Now()
	for time.Since(started) < c.run && ctx.Err() == nil {
		load.Duration = min(c.step, c.run-time.Since(started))
		res, err := load.Run(ctx)
		if err != nil {
			return nil, 0, err
		}
		ops += res.Ops
		now, err := p.writeFigures()
		if err != nil {
			return nil, 0, err
		}
		lines = append(lines, append([]string{time.Since(started).Round(time.Second).String(), thousands(res.PerSecond())}, now.since(last)...))
		last = now
	}
	elapsed := time.Since(started)
	lines = append(lines, append([]string{"**all**", thousands(float64(ops) / elapsed.Seconds())}, last.since(first)...))
	amp = float64(last.disk-first.disk) / float64(last.log-first.log)
	r.Run(fmt.Sprintf("WriteAmp/server=holdfast/keys=%d/policy=%s", c.keys, c.policy), ops, Metric{amp, "B-written/B-log"},
		Metric{float64(last.disk-first.disk) / float64(ops), "B-written/op"}, Metric{float64(ops) / elapsed.Seconds(), "req/s"})
	return lines, amp, ctx.Err()
}

// writeFigures are totals since the process was started, but for log, which is an offset.
type writeFigures struct{ log, disk, cancelled, checkpoints int64 }

func (p *Process) writeFigures() (w writeFigures, err error) {
	info, err := p.Info()
	if err != nil {
		return w, err
	}
	if w.log, err = infoInt(info, "log_end_offset"); err != nil {
		return w, err
	}
	if w.checkpoints, err = infoInt(info, "rdb_saves"); err != nil {
		return w, err
	}
	d, err := p.DiskWrites()
	w.disk, w.cancelled = d.Bytes, d.Cancelled
	return w, err
}

func (w writeFigures) since(o writeFigures) []string {
	return []string{mebibytes(float64(w.log - o.log)), mebibytes(float64(w.disk - o.disk)),
		ratio(float64(w.disk-o.disk) / float64(max(1, w.log-o.log))), thousands(float64(w.checkpoints - o.checkpoints))}
}
