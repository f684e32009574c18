package bench

import (
	"context"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"
)

func defineMemory(fs *flag.FlagSet) func(context.Context, *env) error {
	sizes := fs.String("keys", "1000000,3000000", "numbers of `keys` of 20 bytes with 100 random bytes each")
	rounds := fs.Int("rounds", 5, "`rounds`; the servers take turns in each")
	policy := fs.String("policy", "everysec", "appendfsync `policy`")
	settle := fs.Duration("settle", 10*time.Second, "`time` without work before the second look")
	return func(ctx context.Context, e *env) error {
		r := NewReport(e.out, "Memory of a resident key", e.command)
		r.Printf("Keys of %d bytes with %d random bytes, all resident. (Resident set of the process − that of the empty server) / keys: right after\n"+
			"the load, and after a checkpoint (Redis: nothing to wait for) and %v without work. What the process allocated for is resident:\n"+
			"garbage that the runtime has not returned counts. %d rounds, medians (lowest–highest); ratios are taken within a round.\n\n", keyLen, valueSize, *settle, *rounds)
		rows := [][]string{{"keys", "server", "after the load", "settled", "ratio to redis, settled", "resident set, settled", "empty server"}}
		for _, text := range list(*sizes) {
			keys, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return fmt.Errorf("-keys: %w", err)
			}
			figures := map[Kind]*memorySeries{}
			for _, kind := range e.servers {
				figures[kind] = &memorySeries{}
			}
			for round := range *rounds {
				for _, kind := range inTurn(e.servers, round) {
					err := e.withServer(ctx, kind, policyArgs(kind, *policy), func(p *Process) error {
						m, err := p.memoryOf(ctx, keys, *settle)
						if err != nil {
							return err
						}
						loaded, calm := float64(m.loaded-m.empty)/float64(keys), float64(m.settled-m.empty)/float64(keys)
						figures[kind].add(m, loaded, calm)
						r.Run(fmt.Sprintf("Memory/server=%s/keys=%d", kind, keys), keys, Metric{loaded, "B/key-loaded"}, Metric{calm, "B/key-settled"})
						return nil
					})
					if err != nil {
						return fmt.Errorf("%s, %d keys: %w", kind, keys, err)
					}
				}
			}
			for _, kind := range e.servers {
				f, vs := figures[kind], "–"
				if redis := figures[Redis]; redis != nil {
					vs = spread(quotients(f.calm, redis.calm), ratio)
				}
				rows = append(rows, []string{millions(keys), string(kind), spread(f.loaded, bytesText), spread(f.calm, bytesText), vs,
					spread(f.settled, mebibytes), spread(f.empty, mebibytes)})
			}
		}
		r.Table(rows)
		return r.Save(e.output)
	}
}

// memorySeries are a server's figures, one of each round: bytes for a key after the load and settled, resident sets in bytes.
type memorySeries struct{ loaded, calm, settled, empty []float64 }

func (s *memorySeries) add(m memoryFigures, loaded, calm float64) {
	s.loaded, s.calm = append(s.loaded, loaded), append(s.calm, calm)
	s.settled, s.empty = append(s.settled, float64(m.settled)), append(s.empty, float64(m.empty))
}

func bytesText(n float64) string { return fmt.Sprintf("%.0f B", n) }

// memoryFigures are resident sets in bytes.
type memoryFigures struct{ empty, loaded, settled int64 }

func (p *Process) memoryOf(ctx context.Context, keys int64, settle time.Duration) (m memoryFigures, err error) {
	if m.empty, err = p.RSS(); err != nil {
		return m, err
	}
	if _, err = p.fill(ctx, keys, valueSize); err != nil {
		return m, err
	}
	if m.loaded, err = p.RSS(); err != nil {
		return m, err
	}
	if p.Spec.Kind == Holdfast {
		if _, err = p.checkpoint(ctx); err != nil {
			return m, err
		}
	}
	if err = wait(ctx, settle); err != nil {
		return m, err
	}
	if p.Spec.Kind == Holdfast {
		info, err := p.Info()
		if err != nil {
			return m, err
		}
		if info["resident_keys"] != strconv.FormatInt(keys, 10) {
			return m, fmt.Errorf("%s of %d keys are resident", strings.TrimSpace(info["resident_keys"]), keys)
		}
	}
	m.settled, err = p.RSS()
	return m, err
}

// wait lets time pass.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
