package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// valueSize is the length of a value in bytes, where a benchmark does not say otherwise: random bytes, which no table
// compression makes smaller.
const valueSize = 100

// fill writes keys 0 … keys-1, as fast as the server takes them.
func (p *Process) fill(ctx context.Context, keys int64, size int) (*Result, error) {
	const conns = 8
	res, err := Load{Addr: p.Addr, Conns: conns, Pipeline: 64, Ops: keys,
		Script: func(i int) Script { return filler(int64(i), conns, size) }}.Run(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c, err := Dial(p.Addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r, err := c.Do("DBSIZE")
	if err == nil && r.Int != keys {
		err = fmt.Errorf("%s has %d keys after %d were written", p.Spec.Kind, r.Int, keys)
	}
	return res, err
}

// firstGet waits for the first good answer to a GET of a random key, checks the value and returns the time since the process
// was started. A server that is loading answers with errors: they are not yet an answer.
func (p *Process) firstGet(ctx context.Context, rng *rand.Rand, keys int64, size int, versioned bool) (time.Duration, error) {
	n := rng.Int64N(keys)
	want := string(appendValue(nil, n, 0, size))
	var took time.Duration
	wrong := ""
	err := p.WaitFor(ctx, func(c *Client) (bool, error) {
		r, err := c.Do("GET", string(appendKey(nil, n)))
		if err != nil {
			return false, err
		}
		took = time.Since(p.Started)
		if got := string(r.Text); r.Null || len(got) != size || !versioned && got != want {
			wrong = fmt.Sprintf("GET of key %d was answered %s", n, shorten(r.String()))
		}
		return true, nil
	})
	if err == nil && wrong != "" {
		err = fmt.Errorf("%s after a restart: %s", p.Spec.Kind, wrong)
	}
	return took, err
}

// checkpoint runs BGSAVE and waits until it is done. It returns how long that took.
func (p *Process) checkpoint(ctx context.Context) (time.Duration, error) {
	c, err := Dial(p.Addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	before, err := awaitSave(ctx, c, 0)
	if err != nil {
		return 0, err
	}
	started := time.Now()
	if _, err := c.Do("BGSAVE"); err != nil {
		return 0, fmt.Errorf("BGSAVE: %w", err)
	}
	// The answer may come before the checkpoint is seen to run, so what ends the wait is that one more is done.
	if _, err := awaitSave(ctx, c, before+1); err != nil {
		return 0, err
	}
	return time.Since(started), nil
}

// awaitSave waits until no checkpoint (or Redis's background save) runs and at least so many are done; it returns how many. A
// failed one is an error.
func awaitSave(ctx context.Context, c *Client, done int64) (int64, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := c.Info()
		if err != nil {
			return 0, err
		}
		if s := info["rdb_last_bgsave_status"]; s != "ok" {
			return 0, fmt.Errorf("background save: status %q", s)
		}
		n, err := infoInt(info, "rdb_saves")
		if err != nil {
			return 0, err
		}
		if info["rdb_bgsave_in_progress"] == "0" && n >= done {
			return n, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// counts reads a list of numbers above 0: 100000,3m (powers of 1000).
func counts(text string) ([]int64, error) {
	var out []int64
	for _, t := range list(text) {
		digits, unit := strings.ToLower(t), int64(1)
		for suffix, u := range map[string]int64{"k": 1e3, "m": 1e6} {
			if d, ok := strings.CutSuffix(digits, suffix); ok {
				digits, unit = d, u
			}
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n <= 0 || n > math.MaxInt64/unit {
			return nil, fmt.Errorf("%q is not a number above 0", t)
		}
		out = append(out, n*unit)
	}
	if len(out) == 0 {
		return nil, errors.New("no numbers")
	}
	return out, nil
}

// millions renders a number of keys.
func millions(n int64) string {
	if n >= 1e6 && n%1e5 == 0 {
		return strconv.FormatFloat(float64(n)/1e6, 'f', -1, 64) + "M"
	}
	return thousands(float64(n))
}
