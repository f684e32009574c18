package bench

import (
	"context"
	"flag"
	"fmt"
	"time"
)

func defineWriteAmp(fs *flag.FlagSet) func(context.Context, *env) error {
	keys := fs.Int64("keys", 3_000_000, "`keys` of 20 bytes with 100 random bytes each")
	warm := fs.Duration("warm", time.Minute, "`time` of overwrites before the measurement")
	run := fs.Duration("t", 3*time.Minute, "`time` of the measurement")
	step := fs.Duration("step", 30*time.Second, "`time` of a line of the table")
	policy := fs.String("policy", "everysec", "appendfsync `policy`")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Bytes written to disk for a byte of log", e.command)
		r.Printf("%s keys of %d bytes with %d random bytes, overwritten uniformly by 50 connections with pipelines of 16, appendfsync %s, for %v\n"+
			"before and %v of measuring. write_bytes of /proc/PID/io (log, its own log, snapshot store and its compactions) against\n"+
			"the bytes by which the log's end advanced.\n\n", millions(*keys), keyLen, valueSize, *policy, *warm, *run)
		return e.withServer(ctx, Holdfast, policyArgs(Holdfast, *policy), func(p *Process) error {
			if _, err := p.fill(ctx, *keys, valueSize); err != nil {
				return err
			}
			load := Load{Addr: p.Addr, Conns: 50, Pipeline: 16,
				Script: func(i int) Script { return overwriter(e.seed, i, *keys, valueSize) }}
			load.Duration = *warm
			if _, err := load.Run(ctx); err != nil {
				return err
			}
			rows := [][]string{{"after", "overwrites/s", "log", "written", "written / log", "checkpoints"}}
			first, err := p.writeFigures()
			if err != nil {
				return err
			}
			ops, last := int64(0), first
			started := time.Now()
			for time.Since(started) < *run && ctx.Err() == nil {
				load.Duration = min(*step, *run-time.Since(started))
				res, err := load.Run(ctx)
				if err != nil {
					return err
				}
				ops += res.Ops
				now, err := p.writeFigures()
				if err != nil {
					return err
				}
				rows = append(rows, append([]string{time.Since(started).Round(time.Second).String(), thousands(res.PerSecond())}, now.since(last)...))
				last = now
			}
			elapsed := time.Since(started)
			rows = append(rows, append([]string{"**all**", thousands(float64(ops) / elapsed.Seconds())}, last.since(first)...))
			r.Run(fmt.Sprintf("WriteAmp/server=holdfast/keys=%d/policy=%s", *keys, *policy), ops,
				Metric{float64(last.disk-first.disk) / float64(last.log-first.log), "B-written/B-log"},
				Metric{float64(last.disk-first.disk) / float64(ops), "B-written/op"}, Metric{float64(ops) / elapsed.Seconds(), "req/s"})
			r.Table(rows)
			if err := ctx.Err(); err != nil {
				return err
			}
			return r.Save(e.output)
		})
	}
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
